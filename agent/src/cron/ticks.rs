//! What to do about a schedule now, decided from values alone.
//!
//! A schedule's document has one number, the first tick that nobody has claimed; every earlier one is claimed. A step
//! that takes ticks names the number it found and the number to put there: who replaces the one by the other, in one
//! operation of the database, has claimed what is between them, and nobody else can.
//!
//! ```text
//!                     not due            ▶ Wait until it is
//!   first unclaimed ─ due, on time       ▶ Start, or (a run in flight) Busy | Replace
//!                     late: catch-up     ▶ none: Skip │ last: Start the newest │ all: Start each, Skip above the cap
//! ```
//!
//! It ensures: the number only grows, so a tick is started at most once whatever the clock does; an outage of any length
//! costs a bounded number of steps, and each tick of it is either started or named as skipped.

use jiff::{SignedDuration, Timestamp};

use super::Schedule;

/// What an operator or a bot's author asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// When a run is still in flight.
    pub concurrency: Concurrency,
    /// Until how long after its tick a start is on time.
    pub deadline: SignedDuration,
    /// What is done about ticks that are late.
    pub catch_up: CatchUp,
    /// How often a failed run is tried again.
    pub retries: u32,
    /// The pause before the first of these; each later one is twice as long, up to an hour.
    pub pause: SignedDuration,
}

/// When a run is still in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// The tick waits for its end.
    Forbid,
    /// It is stopped.
    Replace,
}

/// What is done about ticks that are late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    None,
    /// The newest is run.
    Last,
    /// Each is run, oldest first: so many of the newest.
    All(u32),
}

/// What [`decide`] looks at.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// When it is due.
    pub schedule: &'a Schedule,
    /// What is asked for.
    pub policy: Policy,
    /// The first tick that is not claimed.
    pub due: Timestamp,
    /// The tick of the run in flight.
    pub running: Option<Timestamp>,
    /// How the last run failed, if it did.
    pub failed: Option<Failed>,
    /// Now.
    pub now: Timestamp,
}

/// A run that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// Its tick.
    pub tick: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// When it ended.
    pub at: Timestamp,
}

/// The ticks from `first` to `last`, taken by putting `next` where `first` or an earlier one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The number that must be in the document.
    pub first: Timestamp,
    /// The last tick it takes.
    pub last: Timestamp,
    /// The number to put there.
    pub next: Timestamp,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing before then.
    Wait(Timestamp),
    /// Nothing before the run in flight has ended.
    Busy,
    /// Claim, and start the last tick of it; earlier ones of it are skipped, for a later one came.
    Start(Claim),
    /// Claim, stop the run in flight, and start the last tick.
    Replace(Claim),
    /// Claim, and write down that these were missed.
    Skip(Claim),
    /// Start the failed run's tick again, as this attempt; it is claimed already.
    Retry(Timestamp, u32),
    /// There is no later tick.
    Over,
}

const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// The next step.
pub fn decide(situation: &Situation) -> Step {
    let Situation {
        schedule,
        policy,
        due,
        now,
        ..
    } = *situation;
    if now < due {
        return retry(situation).unwrap_or(Step::Wait(due));
    }
    let newest = latest(schedule, due, now);
    let late = now.duration_since(newest) > policy.deadline;
    match policy.catch_up {
        CatchUp::None if late => claim(situation, newest).map_or(Step::Over, Step::Skip),
        CatchUp::None | CatchUp::Last => begin(situation, newest),
        CatchUp::All(cap) => match before_the_last(situation, newest, cap) {
            Some(tick) => claim(situation, tick).map_or(Step::Over, Step::Skip),
            None => begin(situation, due),
        },
    }
}

fn begin(situation: &Situation, tick: Timestamp) -> Step {
    let Some(claim) = claim(situation, tick) else {
        return Step::Over;
    };
    match (situation.running, situation.policy.concurrency) {
        (None, _) => Step::Start(claim),
        (Some(_), Concurrency::Forbid) => Step::Busy,
        (Some(_), Concurrency::Replace) => Step::Replace(claim),
    }
}

fn claim(situation: &Situation, last: Timestamp) -> Option<Claim> {
    Some(Claim {
        first: situation.due,
        last,
        next: situation.schedule.next(last)?,
    })
}

/// The newest tick that is too many when only `cap` up to `newest` are run.
fn before_the_last(situation: &Situation, newest: Timestamp, cap: u32) -> Option<Timestamp> {
    let mut tick = newest;
    for _ in 0..cap {
        if tick <= situation.due {
            return None;
        }
        let second = SignedDuration::from_secs(1);
        tick = latest(situation.schedule, situation.due, tick - second);
    }
    Some(tick)
}

fn retry(situation: &Situation) -> Option<Step> {
    let failed = situation.failed.filter(|_| situation.running.is_none())?;
    if failed.attempts > situation.policy.retries {
        return None;
    }
    let doubled = 1_i32.checked_shl(failed.attempts.saturating_sub(1).min(30))?;
    let pause = situation.policy.pause.saturating_mul(doubled);
    let at = failed.at.checked_add(pause.min(LONGEST_PAUSE)).ok()?;
    Some(if at <= situation.now {
        Step::Retry(failed.tick, failed.attempts + 1)
    } else {
        Step::Wait(at.min(situation.due))
    })
}

/// The newest tick up to `now`, of those that begin with `due`: by halving, for there may be millions.
fn latest(schedule: &Schedule, due: Timestamp, now: Timestamp) -> Timestamp {
    if let Some(every) = schedule.interval() {
        let past = now.as_second() - due.as_second();
        return due + SignedDuration::from_secs((past / every).max(0) * every);
    }
    let (mut low, mut high) = (due.as_second() - 1, now.as_second());
    let mut newest = due;
    while low < high {
        let middle = low + (high - low) / 2;
        let found = Timestamp::from_second(middle)
            .ok()
            .and_then(|at| schedule.next(at));
        match found.filter(|tick| *tick <= now) {
            Some(tick) => {
                newest = newest.max(tick);
                low = tick.as_second().max(middle + 1);
            }
            None => high = middle,
        }
    }
    newest
}

#[cfg(test)]
mod tests;
