//! What the supervisor does next, decided without doing anything.
//!
//! [`Machine::on`] takes an event and the time it came at (since some start, monotonic) and gives the effects for
//! the driver to carry out. It reads no clock, no file and no environment.
//!
//! ```text
//!   Idle ── Begin ──▶ Fetching ──▶ Running ──▶ Clearing ──▶ Draining ──▶ Leaving ──▶ Over
//!                        ▲            ▲           │  │
//!                        │            └─ Waiting ◀┘  │  (a crash: at once, then after 1, 2, 4 .. 60 s)
//!                        └─────────── Swapping ◀─────┘  (the state was edited outside)
//! ```
//!
//! Words: a *run* is one life of the bot's process; *leftovers* are what descends from a run beside its main
//! process; the *sides* are `sync` and `query`. Invariants, each with a property test below: never two runs at
//! once; every run started gets exactly one record; nothing is started after a stop; time alone ends a stop.

mod after;
mod steps;
mod terms;

use std::time::Duration;

use contract::exit;
use contract::record::{Outcome, Reason, State};

use crate::signals::{KILL, TERM};
use steps::{Step, Steps};
pub use terms::{Effect, Ended, Ending, Event, Exit, Plan, Restart, Sides};

/// A run that lasted this long was stable: the next crash is restarted at once again.
const STABLE: Duration = Duration::from_secs(60);
/// The longest pause between two runs.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Leftovers of a run that is restarted get at most this long between TERM and KILL.
const LEFTOVERS_BEFORE_RESTART: Duration = Duration::from_secs(5);
/// Time the sides have to end once all is saved.
const SIDES_END: Duration = Duration::from_secs(5);

/// Why the bot is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Asked(i32),
    Fenced,
    Disk,
    Edited,
}

impl Cause {
    fn reason(self) -> Reason {
        match self {
            Cause::Asked(_) => Reason::Stopped,
            Cause::Fenced => Reason::Fenced,
            Cause::Disk => Reason::Disk,
            Cause::Edited => Reason::Edited,
        }
    }
}

#[derive(Debug, Clone)]
enum Phase {
    Idle,
    Fetching(Steps),
    Running {
        since: Duration,
        steps: Steps,
    },
    Clearing {
        ending: Ending,
        /// Why it was being ended when it ended.
        cause: Option<Cause>,
        lasted: Duration,
        at: Duration,
        steps: Steps,
    },
    Waiting {
        until: Duration,
    },
    Swapping(Steps),
    Draining {
        until: Duration,
    },
    Leaving(Steps),
    Over,
}

/// The decisions of one supervisor.
#[derive(Debug, Clone)]
pub struct Machine {
    plan: Plan,
    phase: Phase,
    cause: Option<Cause>,
    run: u64,
    restarts: u32,
    pauses: u32,
    code: u8,
    saved: u64,
    /// Whether `sync` has said anything.
    is_heard: bool,
}

impl Machine {
    /// A machine that has not begun.
    pub fn new(plan: Plan) -> Self {
        Self {
            run: plan.last_run,
            plan,
            phase: Phase::Idle,
            cause: None,
            restarts: 0,
            pauses: 0,
            code: 0,
            saved: 0,
            is_heard: false,
        }
    }

    /// The run under way or the last one.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Who fetches and saves.
    pub fn sides(&self) -> Sides {
        self.plan.sides
    }

    /// Runs in a row that ended by themselves without a stable minute.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// When [`Event::Tick`] is due; `None`: not before something else happens.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Idle | Phase::Over => None,
            Phase::Fetching(steps)
            | Phase::Swapping(steps)
            | Phase::Leaving(steps)
            | Phase::Running { steps, .. }
            | Phase::Clearing { steps, .. } => steps.next(),
            Phase::Waiting { until } | Phase::Draining { until } => Some(*until),
        }
    }

    /// Whether what descends from the last run is being ended, so that [`Event::Cleared`] is waited for.
    pub fn is_clearing(&self) -> bool {
        matches!(self.phase, Phase::Clearing { .. })
    }

    /// Whether KILL has begun for them, so that those who surface later get it too.
    pub fn is_killing(&self) -> bool {
        matches!(&self.phase, Phase::Clearing { steps, .. } if steps.kill.is_none())
    }

    /// Whether the last push is waited for.
    pub fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// Takes what happened at `now` and gives what is to be done.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Begin => self.begin(now),
            Event::Fetched(exit) => self.fetched(exit, now),
            Event::Ended(ending) => self.ended(ending, now),
            Event::Cleared => self.cleared(now),
            Event::Stop(signal) => self.stop(signal, now),
            Event::Synced { outcome, run } => self.synced(outcome, run, now),
            Event::SidesGone => self.sides_gone(),
            Event::Tick => self.tick(now),
        }
    }

    fn begin(&mut self, now: Duration) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Idle) {
            return Vec::new();
        }
        match self.cause {
            Some(Cause::Asked(signal)) => {
                return self.refuse(Reason::Stopped, exit::of_signal(signal));
            }
            Some(Cause::Fenced) => return self.refuse(Reason::Fenced, exit::FENCED),
            Some(Cause::Edited) => return self.refuse(Reason::Edited, exit::EDITED),
            Some(Cause::Disk) => return self.refuse(Reason::Disk, exit::DISK),
            None => {}
        }
        match self.plan.sides {
            Sides::Ours => self.fetch(),
            Sides::Elsewhere => self.start(now),
        }
    }

    fn fetch(&mut self) -> Vec<Effect> {
        self.phase = Phase::Fetching(Steps::default());
        vec![Effect::Status(State::Starting, None), Effect::Fetch]
    }

    fn fetched(&mut self, ended: Exit, now: Duration) -> Vec<Effect> {
        if !matches!(self.phase, Phase::Fetching(_)) {
            return Vec::new();
        }
        match (self.cause, ended) {
            (Some(Cause::Asked(signal)), _) => {
                self.refuse(Reason::Stopped, exit::of_signal(signal))
            }
            (_, Exit::Code(0)) => {
                self.cause = None;
                let mut effects = vec![Effect::StartSides];
                effects.extend(self.start(now));
                effects
            }
            (_, failed) => self.refuse(Reason::StartFailed, failed.code()),
        }
    }

    fn refuse(&mut self, reason: Reason, code: u8) -> Vec<Effect> {
        self.code = code;
        let run = self.run;
        let mut effects = vec![Effect::Refuse { code, reason, run }];
        effects.extend(self.over());
        effects
    }

    fn start(&mut self, now: Duration) -> Vec<Effect> {
        self.run = self.run.saturating_add(1);
        self.phase = Phase::Running {
            since: now,
            steps: Steps::default(),
        };
        vec![
            Effect::Start { run: self.run },
            Effect::Status(State::Running, None),
        ]
    }

    fn stop(&mut self, signal: i32, now: Duration) -> Vec<Effect> {
        if matches!(self.cause, None | Some(Cause::Edited)) {
            self.cause = Some(Cause::Asked(signal));
        }
        match &mut self.phase {
            Phase::Fetching(steps) => {
                steps.begin(now, self.plan.grace);
                steps.end = None;
                vec![Effect::SignalFetch(signal)]
            }
            Phase::Running { .. } => self.end_run(signal, now),
            Phase::Waiting { .. } => self.settle(now),
            _ => Vec::new(),
        }
    }

    /// Signals the bot; the first time also starts the clock of the stop.
    fn end_run(&mut self, signal: i32, now: Duration) -> Vec<Effect> {
        let Phase::Running { steps, .. } = &mut self.phase else {
            return Vec::new();
        };
        let first = steps.begin(now, self.plan.grace);
        let mut effects = vec![Effect::Signal(signal)];
        if first {
            effects.push(Effect::Status(State::Stopping, None));
        }
        effects
    }

    fn synced(&mut self, outcome: Outcome, run: u64, now: Duration) -> Vec<Effect> {
        self.is_heard = true;
        self.saved = match outcome {
            Outcome::Ok => run,
            _ => 0,
        };
        if let Phase::Draining { .. } = self.phase {
            return match outcome {
                Outcome::Ok if run >= self.run => self.leave(SIDES_END, now),
                Outcome::Edited | Outcome::TooLarge if run >= self.run => self.give_up_saving(now),
                Outcome::Fenced => self.give_up_saving(now),
                _ => Vec::new(),
            };
        }
        let cause = match outcome {
            Outcome::Ok | Outcome::Failed => return Vec::new(),
            Outcome::Fenced => Cause::Fenced,
            Outcome::Edited => Cause::Edited,
            Outcome::TooLarge => Cause::Disk,
        };
        let heavier = self.cause == Some(Cause::Edited) && cause != Cause::Edited;
        if self.cause.is_some() && !heavier {
            return Vec::new();
        }
        match self.phase {
            // Known before anything is started, where `sync` is not ours: nothing is.
            Phase::Idle if self.plan.sides == Sides::Elsewhere => {
                self.cause = Some(cause);
                Vec::new()
            }
            Phase::Running { .. } => {
                self.cause = Some(cause);
                if heavier {
                    return Vec::new();
                }
                self.end_run(TERM, now)
            }
            Phase::Clearing { .. } => {
                self.cause = Some(cause);
                Vec::new()
            }
            Phase::Waiting { .. } => {
                self.cause = Some(cause);
                self.settle(now)
            }
            _ => Vec::new(),
        }
    }

    fn ended(&mut self, ending: Ending, now: Duration) -> Vec<Effect> {
        let Phase::Running { since, steps } = self.phase else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        let mut left = steps;
        if steps.is_begun() {
            if steps.end.is_some() {
                effects.push(Effect::EndLeftovers);
            }
            if steps.kill.is_none() {
                effects.push(Effect::KillLeftovers);
            }
            left.end = None;
        } else {
            left.begin(now, self.time_for_leftovers());
            left.end = None;
            effects.push(Effect::EndLeftovers);
        }
        self.phase = Phase::Clearing {
            ending,
            cause: self.cause,
            lasted: now.saturating_sub(since),
            at: now,
            steps: left,
        };
        effects
    }

    fn tick(&mut self, now: Duration) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now => self.start(now),
            Phase::Draining { until } if *until <= now => self.give_up_saving(now),
            Phase::Idle | Phase::Over | Phase::Waiting { .. } | Phase::Draining { .. } => {
                Vec::new()
            }
            Phase::Fetching(steps)
            | Phase::Running { steps, .. }
            | Phase::Clearing { steps, .. }
            | Phase::Swapping(steps)
            | Phase::Leaving(steps) => match steps.due(now) {
                Some(step) => self.step(step, now),
                None => Vec::new(),
            },
        }
    }

    fn step(&mut self, step: Step, now: Duration) -> Vec<Effect> {
        match (&self.phase, step) {
            (Phase::Fetching(_), Step::Kill) => vec![Effect::SignalFetch(KILL)],
            (Phase::Fetching(_), Step::GiveUp) => self.fetched(Exit::Signal(KILL), now),
            (Phase::Running { .. }, Step::End) => vec![Effect::EndLeftovers],
            (Phase::Running { .. } | Phase::Clearing { .. }, Step::Kill) => {
                vec![Effect::KillLeftovers]
            }
            (Phase::Running { .. }, Step::GiveUp) => {
                let mut effects = self.ended(Ending::Exit(Exit::Signal(KILL)), now);
                effects.extend(self.cleared(now));
                effects
            }
            (Phase::Clearing { .. }, Step::GiveUp) => self.cleared(now),
            (Phase::Swapping(_) | Phase::Leaving(_), Step::Kill) => vec![Effect::KillSides],
            (Phase::Swapping(_) | Phase::Leaving(_), Step::GiveUp) => self.sides_gone(),
            _ => Vec::new(),
        }
    }
}

/// The pause before a restart: none, then 1, 2, 4 .. 60 s.
pub fn pause(before: u32) -> Duration {
    match before {
        0 => Duration::ZERO,
        n => Duration::from_secs(1 << (n - 1).min(6)).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests;
