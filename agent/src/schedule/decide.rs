//! What is to be done about a schedule next, decided from values alone.
//!
//! [`decide`] looks at what is written down ([`Ledger`]), at what the engine has of it ([`Live`]) and at the time, and
//! gives one step. Whoever takes it looks again after. It ensures, whatever was cut off between any two steps:
//!
//! * A tick is started only after a word that says so was written on condition that nothing else was: two agents never
//!   both go on from one word.
//! * Of a tick whose word says *started* and of which nothing is there, nobody knows: it is lost, and not run again.
//!   One that is known never to have run is claimed anew first.
//! * No tick is claimed that is not later than the last one, whatever the clock or an edit says.
//! * What is passed over is counted in the word that passes it over.
//! * What the cluster's own clock starts ([`Whose::Clusters`]) is never claimed, and written down as it is seen; nor is
//!   anything else claimed while that clock has the schedule.

use std::collections::VecDeque;

use contract::exit;
use contract::record::Reason;

use super::ledger::{Key, Ledger, Outcome, State, Tick};
use super::timetable::{CatchUp, Concurrency, Policy, Seconds};
use crate::plan::{self, Why};

/// More ticks than these are not looked at one by one.
const LOOK: u32 = 2_000;
/// A tick that the cluster's clock has not started so long after its time is not waited for.
pub const GIVEN_UP: Seconds = 120;
/// The time to the next look at what cannot be done yet.
pub const SOON: Seconds = 5;

/// What is looked at.
pub struct See<'a> {
    /// Now.
    pub now: Seconds,
    /// Who we are.
    pub me: &'a str,
    /// The first time after another.
    pub next: &'a dyn Fn(Seconds) -> Option<Seconds>,
    /// What the bot's parameters say.
    pub policy: &'a Policy,
    /// What is written down.
    pub ledger: &'a Ledger,
    /// What the engine has.
    pub live: Live,
    /// Whether this process has made the claim, and not begun the start.
    pub is_mine: bool,
    /// A start that came to nothing for certain.
    pub unstarted: Option<&'a Unstarted>,
    /// Whether the engine was asked anew since nothing was found of it.
    pub is_sure: bool,
    /// Who starts ticks.
    pub whose: Whose,
}

/// Who starts the ticks of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// We do.
    Ours,
    /// Nobody, for the moment: it is being handed over, one way or the other.
    Nobodys,
    /// A clock of the engine's, those after this time.
    Clusters(Seconds),
}

/// What the engine has of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// Nothing that counts.
    None,
    /// A container that was made and not started.
    Made(Key),
    /// Something runs, or is under way; of which tick, where that is known.
    Runs(Option<Key>),
    /// The last run has ended.
    Ended(Key, Exit),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// What it means for the plan.
    pub outcome: plan::Outcome,
    /// Its exit code.
    pub code: Option<i32>,
    /// What the record says.
    pub reason: Option<Reason>,
    /// Why it was stopped, if it was by us.
    pub stopped: Option<Why>,
    /// For a person.
    pub why: String,
}

/// A start that came to nothing: nothing of it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unstarted {
    /// Which.
    pub key: Key,
    /// The number of our claim.
    pub rev: i64,
    /// Why.
    pub why: String,
    /// Whether only a change mends that.
    pub is_final: bool,
    /// When it is tried again.
    pub not_before: Seconds,
}

/// When the tick `next` is not waited for any more that the cluster's clock should start: while another runs it starts none.
pub fn given_up(ledger: &Ledger, next: Seconds) -> Seconds {
    let since = ledger.tick.as_ref().map_or(next, |tick| tick.since);
    next.max(since) + GIVEN_UP
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something happens or that time comes.
    Wait(Option<Seconds>),
    /// Write this.
    Write(Ledger),
    /// Write this as soon as one more may be started, and then start it.
    Claim(Ledger),
    /// Start the claimed tick.
    Start,
    /// Stop what runs.
    Stop(Why),
    /// Remove the container that was made and not started, and look again: it may run after all.
    Unmake,
    /// Ask the engine anew before it is taken for lost.
    Doubt,
}

/// Decides.
pub fn decide(see: &See<'_>) -> Step {
    match &see.ledger.tick {
        Some(tick) if tick.state == State::Claimed => claimed(see, tick),
        Some(tick) if tick.state == State::Started => started(see, tick),
        last => resting(see, last.as_ref()),
    }
}

/// Nothing is under way.
fn resting(see: &See<'_>, last: Option<&Tick>) -> Step {
    let last = last.map_or(Seconds::MIN, |tick| tick.at);
    let Some(next) = see.ledger.next.filter(|next| *next > last) else {
        let next = (see.next)(see.now.max(last));
        if next.is_none() {
            return Step::Wait(None);
        }
        return Step::Write(Ledger {
            next,
            ..see.ledger.clone()
        });
    };
    if let Live::Runs(Some(key)) | Live::Ended(key, _) = &see.live
        && key.attempt == Key::CLUSTERS
        && key.at > last
    {
        return adopt(see, *key, next);
    }
    if next > see.now {
        return Step::Wait(Some(next));
    }
    match see.whose {
        Whose::Ours => {}
        Whose::Nobodys => return Step::Wait(None),
        // What it does not start is taken back first.
        Whose::Clusters(since) => {
            let until = given_up(see.ledger, next);
            let is_waited = next > since && until > see.now;
            return Step::Wait(Some(if is_waited { until } else { see.now + SOON }));
        }
    }
    if let Live::Runs(_) = see.live {
        return match see.policy.concurrency {
            Concurrency::Forbid => Step::Wait(None),
            Concurrency::Replace => Step::Stop(Why::Replaced),
        };
    }
    claim(see, next)
}

/// The cluster's clock has started a tick: that is written down as if it were a claim of ours, with those it passed over.
fn adopt(see: &See<'_>, key: Key, first: Seconds) -> Step {
    // What a person wants now is no time of the schedule's own: it is still wanted.
    let is_own = (see.next)(first - 1) == Some(first);
    let missed = if is_own {
        Some(first)
    } else {
        (see.next)(first)
    };
    let missed = missed.map_or(0, |first| Due::of(see.next, first, key.at - 1, 0).passed);
    let tick = Tick {
        at: key.at,
        attempt: key.attempt,
        state: State::Started,
        outcome: None,
        why: None,
        by: "the cluster's clock".to_owned(),
        since: see.now,
        missed,
        not_before: None,
        rev: see.ledger.rev() + 1,
    };
    Step::Write(Ledger {
        next: if is_own {
            (see.next)(key.at)
        } else {
            Some(key.at + 1)
        },
        seq: see.ledger.seq,
        tick: Some(tick),
    })
}

/// Claims the first of the ticks that are due which may run, and passes over those before it.
fn claim(see: &See<'_>, first: Seconds) -> Step {
    let mut due = Due::of(see.next, first, see.now, see.policy.most());
    let deadline = see.policy.deadline();
    let is_late = |at: Seconds| deadline.is_some_and(|deadline| see.now - at > deadline);
    let mut late = None;
    while due.latest.front().is_some_and(|at| is_late(*at)) {
        late = due.latest.pop_front();
        due.passed = due.passed.saturating_add(1);
    }
    let word = |at, state, outcome| Tick {
        at,
        attempt: 1,
        state,
        outcome,
        why: None,
        by: see.me.to_owned(),
        since: see.now,
        missed: due.passed,
        not_before: None,
        rev: see.ledger.rev() + 1,
    };
    let ledger = |tick, next| Ledger {
        next,
        seq: see.ledger.seq,
        tick: Some(tick),
    };
    if let Some(at) = due.latest.front() {
        let next = due.latest.get(1).copied().or(due.after);
        return Step::Claim(ledger(word(*at, State::Claimed, None), next));
    }
    let at = late.unwrap_or(first);
    let mut tick = word(at, State::Over, Some(Outcome::Missed));
    tick.missed -= 1;
    tick.why = Some("it could not be started in time".to_owned());
    Step::Write(ledger(tick, due.after))
}

/// The ticks that are due.
#[derive(Debug, Default)]
struct Due {
    /// How many more there are, before those.
    passed: u32,
    /// The latest.
    latest: VecDeque<Seconds>,
    /// The first that is not due.
    after: Option<Seconds>,
}

impl Due {
    /// From `first` to `now`, the latest `most` of them one by one.
    fn of(
        next: &dyn Fn(Seconds) -> Option<Seconds>,
        first: Seconds,
        now: Seconds,
        most: usize,
    ) -> Self {
        let mut due = Due::default();
        let (mut at, mut seen) = (Some(first), 0);
        while let Some(this) = at.filter(|at| *at <= now) {
            due.latest.push_back(this);
            if due.latest.len() > most {
                due.latest.pop_front();
                due.passed = due.passed.saturating_add(1);
            }
            seen += 1;
            at = if seen == LOOK {
                leap(next, this, now)
            } else {
                next(this)
            };
        }
        due.after = at;
        due
    }
}

/// A tick near the end of a long time: not so far from `now` that it takes long to come there from it.
fn leap(next: &dyn Fn(Seconds) -> Option<Seconds>, from: Seconds, now: Seconds) -> Option<Seconds> {
    let mut back = 1;
    while now - back > from {
        if let Some(at) = next(now - back).filter(|at| *at <= now) {
            // As far again, so that there are some to choose from.
            let earlier = (now - back.saturating_mul(16)).max(from);
            return next(earlier).filter(|early| *early <= at).or(Some(at));
        }
        back = back.saturating_mul(2);
    }
    next(from)
}

/// A tick is claimed: nothing of it runs, unless somebody has gone on from another word.
fn claimed(see: &See<'_>, tick: &Tick) -> Step {
    match &see.live {
        Live::Runs(Some(key)) if key.at == tick.at => begun(see, tick, key.attempt),
        Live::Runs(_) => Step::Wait(None),
        Live::Ended(key, exit) if *key == tick.key() => ended(see, tick, exit),
        _ if see.is_mine => Step::Start,
        _ => again(see, tick),
    }
}

/// A tick was started.
fn started(see: &See<'_>, tick: &Tick) -> Step {
    match &see.live {
        Live::Runs(Some(key)) if *key == tick.key() => running(see, tick),
        Live::Runs(Some(key)) if key.at == tick.at => begun(see, tick, key.attempt),
        Live::Runs(_) => Step::Wait(None),
        Live::Ended(key, exit) if *key == tick.key() => ended(see, tick, exit),
        Live::Made(key) if *key == tick.key() => again(see, tick),
        _ if unstarted(see, tick).is_some() => again(see, tick),
        _ if see.is_sure => {
            let why = "what became of it is not known: it may have run, and is not run again";
            Step::Write(over(see, tick, Outcome::Lost, Some(why.to_owned())))
        }
        _ => Step::Doubt,
    }
}

/// It runs: the word says so from now on.
fn begun(see: &See<'_>, tick: &Tick, attempt: u32) -> Step {
    let mut tick = next_word(see, tick, State::Started);
    tick.attempt = attempt;
    Step::Write(with(see, tick))
}

/// It runs, as it should, until it has run too long or the next one takes its place.
fn running(see: &See<'_>, tick: &Tick) -> Step {
    let limit = tick.since.saturating_add(see.policy.time_limit);
    if see.now >= limit {
        return Step::Stop(Why::Limit);
    }
    let next = see.ledger.next.filter(|next| *next > tick.at);
    match (see.policy.concurrency, next) {
        (Concurrency::Replace, Some(next)) if next <= see.now => Step::Stop(Why::Replaced),
        (Concurrency::Replace, Some(next)) => Step::Wait(Some(limit.min(next))),
        _ => Step::Wait(Some(limit)),
    }
}

/// It does not run, for certain: it is claimed anew, unless it is too late or can never be started.
fn again(see: &See<'_>, tick: &Tick) -> Step {
    let unstarted = unstarted(see, tick);
    let is_final = unstarted.is_some_and(|unstarted| unstarted.is_final);
    if (is_final || is_too_late(see, tick)) && matches!(see.live, Live::Made(_)) {
        // Whoever has said that it is started may be about to start it: first nobody can any more.
        return match tick.state {
            State::Started => Step::Write(with(see, next_word(see, tick, State::Claimed))),
            _ => Step::Unmake,
        };
    }
    if let Some(unstarted) = unstarted.filter(|unstarted| unstarted.is_final) {
        let why = Some(unstarted.why.clone());
        return Step::Write(over(see, tick, Outcome::Failed, why));
    }
    if is_too_late(see, tick) && unstarted.is_none() && !see.is_sure {
        return Step::Doubt;
    }
    if is_too_late(see, tick) {
        let why = unstarted.map(|unstarted| unstarted.why.clone());
        let why = why.or_else(|| tick.why.clone());
        let outcome = if tick.attempt == 1 {
            Outcome::Missed
        } else {
            Outcome::Failed
        };
        let why = why.or_else(|| Some("it could not be started in time".to_owned()));
        return Step::Write(over(see, tick, outcome, why));
    }
    let waits = tick.not_before.max(unstarted.map(|it| it.not_before));
    if let Some(until) = waits.filter(|until| *until > see.now) {
        return Step::Wait(Some(wake(see, tick, until)));
    }
    // The cluster's clock may start the next one beside it.
    if see.whose != Whose::Ours {
        return Step::Wait(None);
    }
    let mut tick = next_word(see, tick, State::Claimed);
    tick.not_before = None;
    Step::Claim(with(see, tick))
}

/// When there is something to do about a tick that waits: it may be too late before.
fn wake(see: &See<'_>, tick: &Tick, until: Seconds) -> Seconds {
    let late = see.policy.deadline();
    let late = late.map_or(until, |deadline| tick.at + deadline + 1);
    until.min(late)
}

fn unstarted<'a>(see: &See<'a>, tick: &Tick) -> Option<&'a Unstarted> {
    // Whoever has gone on from our claim may have started it.
    let is_ours = |rev: i64| tick.by == see.me && [rev, rev + 1].contains(&tick.rev);
    let is_it = |it: &&Unstarted| it.key == tick.key() && is_ours(it.rev);
    see.unstarted.filter(is_it)
}

/// Whether the tick has had its time: its own, or that of the next one.
fn is_too_late(see: &See<'_>, tick: &Tick) -> bool {
    let deadline = see.policy.deadline();
    let is_late = deadline.is_some_and(|deadline| see.now - tick.at > deadline);
    let is_next = see.ledger.next.is_some_and(|next| next <= see.now);
    is_late || (is_next && see.policy.catch_up != CatchUp::All)
}

/// It ran, and has ended.
fn ended(see: &See<'_>, tick: &Tick, exit: &Exit) -> Step {
    let why = Some(exit.why.clone());
    let outcome = match of(exit) {
        Came::To(outcome) => outcome,
        Came::Short if !is_too_late(see, tick) => {
            let pause = plan::pause(tick.attempt).as_secs();
            return retry(see, tick, i64::try_from(pause).unwrap_or(60), exit);
        }
        Came::Short => Outcome::Failed,
    };
    let may = outcome == Outcome::Failed && exit.outcome != plan::Outcome::Refused;
    if may && tick.attempt <= see.policy.retries && !is_too_late(see, tick) {
        return retry(see, tick, see.policy.pause(tick.attempt), exit);
    }
    let why = why.filter(|_| outcome != Outcome::Completed);
    Step::Write(over(see, tick, outcome, why))
}

/// How a run came out.
enum Came {
    /// So.
    To(Outcome),
    /// The bot itself was never begun.
    Short,
}

fn of(exit: &Exit) -> Came {
    let own = exit.code.and_then(|code| u8::try_from(code).ok());
    Came::To(match (exit.outcome, exit.stopped, exit.reason) {
        (plan::Outcome::Completed, ..) if exit.code == Some(0) => Outcome::Completed,
        (plan::Outcome::Completed | plan::Outcome::Refused, ..) => Outcome::Failed,
        (plan::Outcome::Stopped, Some(Why::Limit), _) => Outcome::Limit,
        (plan::Outcome::Stopped, Some(Why::Replaced), _) => Outcome::Replaced,
        (plan::Outcome::Stopped, ..) | (_, _, Some(Reason::Stopped)) => Outcome::Stopped,
        _ if matches!(own, Some(exit::CODE | exit::STATE | exit::NO_LAUNCH)) => return Came::Short,
        _ => Outcome::Failed,
    })
}

fn retry(see: &See<'_>, tick: &Tick, pause: Seconds, exit: &Exit) -> Step {
    let mut tick = next_word(see, tick, State::Claimed);
    tick.attempt += 1;
    tick.not_before = Some(see.now.saturating_add(pause));
    tick.why = Some(exit.why.clone());
    Step::Write(with(see, tick))
}

fn over(see: &See<'_>, tick: &Tick, outcome: Outcome, why: Option<String>) -> Ledger {
    let mut tick = next_word(see, tick, State::Over);
    tick.outcome = Some(outcome);
    tick.not_before = None;
    tick.why = why;
    with(see, tick)
}

fn next_word(see: &See<'_>, tick: &Tick, state: State) -> Tick {
    Tick {
        state,
        by: see.me.to_owned(),
        since: see.now,
        rev: tick.rev + 1,
        ..tick.clone()
    }
}

fn with(see: &See<'_>, tick: Tick) -> Ledger {
    Ledger {
        tick: Some(tick),
        ..see.ledger.clone()
    }
}

#[cfg(test)]
#[path = "decide/tests.rs"]
mod tests;
