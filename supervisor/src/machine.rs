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

use std::time::Duration;

use contract::exit;
use contract::record::{Outcome, Reason, State};

/// SIGKILL and SIGTERM by number.
const KILL: i32 = 9;
const TERM: i32 = 15;

/// A run that lasted this long was stable: the next crash is restarted at once again.
const STABLE: Duration = Duration::from_secs(60);
/// The longest pause between two runs.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Leftovers of a run that is restarted get at most this long between TERM and KILL.
const LEFTOVERS_BEFORE_RESTART: Duration = Duration::from_secs(5);
/// After a KILL, what cannot be killed (a process stuck in the kernel) is waited for this long.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// Time the sides have to end once all is saved.
const SIDES_END: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The code a shell would give.
    pub fn code(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => exit::of_signal(signal),
        }
    }

    /// The signal, if one ended it.
    pub fn signal(self) -> Option<i32> {
        match self {
            Exit::Code(_) => None,
            Exit::Signal(signal) => Some(signal),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "code {code}"),
            Exit::Signal(signal) => write!(f, "signal {}", crate::signals::name(*signal)),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Its main process ended.
    Exit(Exit),
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// It never became the bot's program.
    NotStarted {
        /// The code that tells it.
        code: u8,
        /// What failed and what to do.
        message: String,
    },
}

impl Ending {
    fn exit(&self) -> Exit {
        match self {
            Ending::Exit(exit) => *exit,
            Ending::OutOfMemory => Exit::Signal(KILL),
            Ending::NotStarted { code, .. } => Exit::Code(*code),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The launch is known; go.
    Begin,
    /// `sync fetch` has ended.
    Fetched(Exit),
    /// The run is over: its main process has ended or never was.
    Ended(Ending),
    /// Nothing that descends from the run is left.
    Cleared,
    /// Somebody asks for a stop with this signal.
    Stop(i32),
    /// `sync` has written how saving went.
    Synced {
        /// How.
        outcome: Outcome,
        /// The last run whose end it had seen.
        run: u64,
    },
    /// The sides have ended after [`Effect::StopSides`].
    SidesGone,
    /// Time has passed.
    Tick,
}

/// What the driver has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start `sync fetch`.
    Fetch,
    /// Send it a signal.
    SignalFetch(i32),
    /// Start the sides and keep them up.
    StartSides,
    /// Send the sides TERM and start them no more.
    StopSides,
    /// KILL the sides.
    KillSides,
    /// Start the bot.
    Start {
        /// The run's number.
        run: u64,
    },
    /// Send the bot a signal.
    Signal(i32),
    /// Send TERM to the bot's group and to what else descends from it.
    EndLeftovers,
    /// KILL everything that descends from the bot, the bot included.
    KillLeftovers,
    /// Write down a run that has ended.
    Record(Ended),
    /// Write down that the bot will not be started.
    Refuse {
        /// The exit code.
        code: u8,
        /// Why.
        reason: Reason,
        /// The last run there was.
        run: u64,
    },
    /// Write down where we are; in [`State::Waiting`], how long the pause is.
    Status(State, Option<Duration>),
    /// The bot's last state or log is not in the store.
    Unsaved,
    /// Exit.
    Exit(u8),
}

/// A run that has ended, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub run: u64,
    /// How.
    pub exit: Exit,
    /// Why.
    pub reason: Reason,
    /// Runs in a row before it that ended by themselves without a stable minute.
    pub restarts: u32,
    /// How long ago it ended.
    pub ago: Duration,
    /// What a person should know besides.
    pub message: Option<String>,
}

/// When a run that ended by itself is followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Always,
    /// Never: one run.
    Never,
}

/// Who fetches, saves and answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Children of ours.
    Ours,
    /// Others, or nobody.
    Elsewhere,
}

/// What a machine is made for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When the bot is started again.
    pub restart: Restart,
    /// Who does the rest.
    pub sides: Sides,
    /// From TERM to KILL.
    pub grace: Duration,
    /// For the last push.
    pub drain: Duration,
    /// The number of the last run there was.
    pub last_run: u64,
}

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

/// The steps of a stop that are still to come.
#[derive(Debug, Clone, Copy, Default)]
struct Steps {
    end: Option<Duration>,
    kill: Option<Duration>,
    give_up: Option<Duration>,
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
        }
    }

    /// The run under way or the last one.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Runs in a row that ended by themselves without a stable minute.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// When [`Event::Tick`] is due; `None`: not before something else happens.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Idle | Phase::Over => None,
            Phase::Fetching(steps) | Phase::Swapping(steps) | Phase::Leaving(steps) => steps.next(),
            Phase::Running { steps, .. } | Phase::Clearing { steps, .. } => steps.next(),
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
        if let Some(Cause::Asked(signal)) = self.cause {
            return self.refuse(Reason::Stopped, exit::of_signal(signal));
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
        self.run += 1;
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
            lasted: now.saturating_sub(since),
            at: now,
            steps: left,
        };
        effects
    }

    fn time_for_leftovers(&self) -> Duration {
        let half = self.plan.grace / 2;
        match self.plan.restart {
            Restart::Always => half.min(LEFTOVERS_BEFORE_RESTART),
            Restart::Never => half,
        }
    }

    fn cleared(&mut self, now: Duration) -> Vec<Effect> {
        let Phase::Clearing {
            ending, lasted, at, ..
        } = &self.phase
        else {
            return Vec::new();
        };
        let record = self.record(ending, now.saturating_sub(*at));
        let stable = *lasted >= STABLE;
        self.code = record.exit.code();
        let mut effects = vec![Effect::Record(record)];
        if self.cause.is_none() && self.plan.restart == Restart::Always {
            effects.extend(self.restart(stable, now));
        } else {
            effects.extend(self.settle(now));
        }
        effects
    }

    fn record(&self, ending: &Ending, ago: Duration) -> Ended {
        let own = match ending {
            Ending::Exit(Exit::Code(_)) => Reason::Exited,
            Ending::Exit(Exit::Signal(_)) => Reason::Killed,
            Ending::OutOfMemory => Reason::Oom,
            Ending::NotStarted { .. } => Reason::StartFailed,
        };
        let reason = match (own, self.cause) {
            (Reason::Exited | Reason::Killed, Some(cause)) => cause.reason(),
            (own, _) => own,
        };
        let message = match ending {
            Ending::NotStarted { message, .. } => Some(message.clone()),
            _ => None,
        };
        Ended {
            run: self.run,
            exit: ending.exit(),
            reason,
            restarts: self.restarts,
            ago,
            message,
        }
    }

    fn restart(&mut self, stable: bool, now: Duration) -> Vec<Effect> {
        if stable {
            (self.restarts, self.pauses) = (0, 0);
        } else {
            self.restarts = self.restarts.saturating_add(1);
        }
        let pause = pause(self.pauses);
        self.pauses = self.pauses.saturating_add(1);
        if pause.is_zero() {
            return self.start(now);
        }
        self.phase = Phase::Waiting { until: now + pause };
        vec![Effect::Status(State::Waiting, Some(pause))]
    }

    /// No run is under way and none follows by itself: what comes then depends on why.
    fn settle(&mut self, now: Duration) -> Vec<Effect> {
        match (self.cause, self.plan.sides) {
            (Some(Cause::Edited), Sides::Ours) => {
                let mut steps = Steps::default();
                steps.begin(now, self.plan.drain);
                steps.end = None;
                self.phase = Phase::Swapping(steps);
                vec![
                    Effect::Status(State::Starting, None),
                    Effect::StopSides,
                ]
            }
            // The last push of one who must not write is `sync`'s own business; it is given time for that.
            (Some(Cause::Fenced | Cause::Disk), _) => self.leave(self.plan.drain, now),
            (_, Sides::Elsewhere) => self.leave(SIDES_END, now),
            (_, Sides::Ours) => {
                let until = now + self.plan.drain;
                self.phase = Phase::Draining { until };
                vec![Effect::Status(State::Stopping, None)]
            }
        }
    }

    fn give_up_saving(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = vec![Effect::Unsaved];
        effects.extend(self.leave(SIDES_END, now));
        effects
    }

    fn leave(&mut self, time: Duration, now: Duration) -> Vec<Effect> {
        match self.cause {
            Some(Cause::Fenced) => self.code = exit::FENCED,
            Some(Cause::Disk) => self.code = exit::DISK,
            _ => {}
        }
        if self.plan.sides == Sides::Elsewhere {
            return self.over();
        }
        let mut steps = Steps::default();
        steps.begin(now, time);
        steps.end = None;
        self.phase = Phase::Leaving(steps);
        vec![
            Effect::Status(State::Stopping, None),
            Effect::StopSides,
        ]
    }

    fn sides_gone(&mut self) -> Vec<Effect> {
        match (&self.phase, self.cause) {
            (Phase::Leaving(_), _) => self.over(),
            (Phase::Swapping(_), Some(Cause::Edited)) => self.fetch(),
            (Phase::Swapping(_), _) => self.over(),
            _ => Vec::new(),
        }
    }

    fn over(&mut self) -> Vec<Effect> {
        self.phase = Phase::Over;
        vec![
            Effect::Status(State::Stopped, None),
            Effect::Exit(self.code),
        ]
    }

    fn tick(&mut self, now: Duration) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Idle | Phase::Over => Vec::new(),
            Phase::Waiting { until } if *until <= now => self.start(now),
            Phase::Draining { until } if *until <= now => self.give_up_saving(now),
            Phase::Waiting { .. } | Phase::Draining { .. } => Vec::new(),
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

#[derive(Debug, Clone, Copy)]
enum Step {
    End,
    Kill,
    GiveUp,
}

impl Steps {
    /// Plans the steps of a stop that begins at `now`, unless one is under way; says whether it was the first.
    fn begin(&mut self, now: Duration, grace: Duration) -> bool {
        if self.is_begun() {
            return false;
        }
        self.end = Some(now + grace / 2);
        self.kill = Some(now + grace);
        self.give_up = Some(now + grace + AFTER_KILL);
        true
    }

    fn is_begun(&self) -> bool {
        self.give_up.is_some()
    }

    fn next(&self) -> Option<Duration> {
        self.end.or(self.kill).or(self.give_up)
    }

    /// Takes the first step that is due.
    fn due(&mut self, now: Duration) -> Option<Step> {
        if self.next()? > now {
            return None;
        }
        if self.end.take().is_some() {
            return Some(Step::End);
        }
        if self.kill.take().is_some() {
            return Some(Step::Kill);
        }
        Some(Step::GiveUp)
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
