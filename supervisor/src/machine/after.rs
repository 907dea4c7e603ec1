//! What follows a run: its record, and then another one, a fetch, or the last push and the end.

use std::time::Duration;

use contract::exit;
use contract::record::{Reason, State};

use super::steps::Steps;
use super::terms::{Effect, Ended, Ending, Exit, Restart, Sides};
use super::{Cause, LEFTOVERS_BEFORE_RESTART, Machine, Phase, SIDES_END, STABLE, pause};

impl Machine {
    pub(super) fn time_for_leftovers(&self) -> Duration {
        let half = self.plan.grace / 2;
        match self.plan.restart {
            Restart::Always => half.min(LEFTOVERS_BEFORE_RESTART),
            Restart::Never => half,
        }
    }

    pub(super) fn cleared(&mut self, now: Duration) -> Vec<Effect> {
        let Phase::Clearing {
            ending,
            cause,
            lasted,
            at,
            ..
        } = &self.phase
        else {
            return Vec::new();
        };
        let record = self.record(ending, *cause, now.saturating_sub(*at));
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

    pub(super) fn record(&self, ending: &Ending, cause: Option<Cause>, ago: Duration) -> Ended {
        let own = match ending {
            Ending::Exit(Exit::Code(_)) => Reason::Exited,
            Ending::Exit(Exit::Signal(_)) => Reason::Killed,
            Ending::OutOfMemory => Reason::Oom,
            Ending::NotStarted { .. } => Reason::StartFailed,
        };
        let reason = match (own, cause) {
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

    pub(super) fn restart(&mut self, stable: bool, now: Duration) -> Vec<Effect> {
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
    pub(super) fn settle(&mut self, now: Duration) -> Vec<Effect> {
        match (self.cause, self.plan.sides) {
            (Some(Cause::Edited), Sides::Ours) => {
                let mut steps = Steps::default();
                steps.begin(now, self.plan.drain);
                steps.end = None;
                self.phase = Phase::Swapping(steps);
                vec![Effect::Status(State::Starting, None), Effect::StopSides]
            }
            // The last push of one who must not write is `sync`'s own business; it is given time for that.
            (Some(Cause::Fenced | Cause::Disk), _) => self.leave(self.plan.drain, now),
            // A `sync` beside us that is killed now is started again only while we are there.
            (cause, Sides::Elsewhere)
                if cause.is_some() || !self.is_heard || self.plan.drain.is_zero() =>
            {
                self.leave(SIDES_END, now)
            }
            _ if self.run > 0 && self.saved >= self.run => self.leave(SIDES_END, now),
            _ => {
                let until = now.saturating_add(self.plan.drain);
                self.phase = Phase::Draining { until };
                vec![Effect::Status(State::Stopping, None), Effect::AwaitPush]
            }
        }
    }

    pub(super) fn give_up_saving(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = vec![Effect::Unsaved];
        effects.extend(self.leave(SIDES_END, now));
        effects
    }

    pub(super) fn leave(&mut self, time: Duration, now: Duration) -> Vec<Effect> {
        match self.cause {
            Some(Cause::Fenced) => self.code = exit::FENCED,
            Some(Cause::Disk) => self.code = exit::DISK,
            // Whoever fetches has to do that before another run: the code says that this one was cut short.
            Some(Cause::Edited) => self.code = exit::EDITED,
            _ => {}
        }
        if self.plan.sides == Sides::Elsewhere {
            return self.over();
        }
        let mut steps = Steps::default();
        steps.begin(now, time);
        steps.end = None;
        self.phase = Phase::Leaving(steps);
        vec![Effect::Status(State::Stopping, None), Effect::StopSides]
    }

    pub(super) fn sides_gone(&mut self) -> Vec<Effect> {
        match (&self.phase, self.cause) {
            (Phase::Swapping(_), Some(Cause::Edited)) => self.fetch(),
            (Phase::Swapping(_) | Phase::Leaving(_), _) => self.over(),
            _ => Vec::new(),
        }
    }

    pub(super) fn over(&mut self) -> Vec<Effect> {
        self.phase = Phase::Over;
        vec![
            Effect::Status(State::Stopped, None),
            Effect::Exit(self.code),
        ]
    }
}
