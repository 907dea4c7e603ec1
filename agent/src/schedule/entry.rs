//! What is known of one schedule.

use std::sync::Arc;
use std::time::Instant;

use super::LONGEST_PAUSE;
use super::decide::{Exit, GIVEN_UP, Live, See, Step, Unstarted, Whose, decide, given_up};
use super::ledger::{Key, Ledger};
use super::live::Launched;
use super::timetable::{Cron, Seconds, Timetable};
use crate::bots::Listed;
use crate::plan::{self, Why};

/// How far this process is with a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing is under way.
    Rest,
    /// A word is being written.
    Writing,
    /// The same; it is a claim.
    Claiming,
    /// The claim is ours: it is to be started.
    Mine,
    /// The engine was told to start it.
    Launched(Key, i64),
}

/// Whether a tick that we have started runs, or is about to.
fn is_own(live: &Live) -> bool {
    match live {
        Live::Made(_) => true,
        Live::Runs(Some(key)) => key.attempt != Key::CLUSTERS,
        Live::Runs(None) | Live::Ended(..) | Live::None => false,
    }
}

/// What is to be done about who starts the ticks of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// Nothing, now.
    Leave,
    /// The cluster's clock has it and keeps it: as it is written down there, or as it is now.
    Keep,
    /// The cluster's clock gets it.
    Over,
    /// We take it back.
    Back,
}

/// Between a change of who starts ticks and a tick, either way.
const MARGIN: Seconds = 5;

/// What is known of a schedule.
#[derive(Debug)]
pub struct Entry {
    /// Its row of the last listing.
    pub row: Arc<Listed>,
    /// When it runs.
    pub timetable: Timetable,
    /// The same, understood.
    pub cron: Cron,
    /// Whether new ticks are wanted.
    pub is_on: bool,
    /// What is written down.
    pub ledger: Ledger,
    /// When what is written was last known for certain.
    pub touched: Instant,
    /// Whether it has to be read again first.
    pub is_stale: bool,
    /// How far this process is with it.
    pub work: Work,
    /// When it is looked at again.
    pub armed: Option<Seconds>,
    /// Nothing is tried before, and how often that was said in a row.
    pub pause: (Seconds, u32),
    /// The start that came to nothing.
    pub unstarted: Option<Unstarted>,
    /// Starts of the tick that came to nothing.
    pub tries: u32,
    /// How its last run ended.
    pub end: Option<(Key, Exit)>,
    /// Why what runs was stopped.
    pub stopping: Option<Why>,
    /// Whether the engine was asked anew since nothing was found.
    pub is_doubted: bool,
    /// The tick of which it was told that the cluster's clock has not started it.
    pub overdue: Option<Seconds>,
}

impl Entry {
    /// Of this row, with what is written down: it is on, and nothing is under way.
    pub fn new(row: Arc<Listed>, timetable: Timetable, cron: Cron, ledger: Ledger) -> Self {
        Self {
            row,
            timetable,
            cron,
            is_on: true,
            ledger,
            touched: Instant::now(),
            is_stale: false,
            work: Work::Rest,
            armed: None,
            pause: (0, 0),
            unstarted: None,
            tries: 0,
            end: None,
            stopping: None,
            is_doubted: false,
            overdue: None,
        }
    }

    /// Whether it is for the same times.
    pub fn is_at(&self, timetable: &Timetable) -> bool {
        self.timetable.schedule == timetable.schedule
            && self.timetable.timezone == timetable.timezone
    }

    /// What is to be done about it.
    pub fn decide(&self, live: Live, now: Seconds, me: &str, whose: Whose) -> Step {
        let next = |after| self.cron.next(after);
        decide(&See {
            now,
            me,
            next: &next,
            policy: &self.timetable.policy,
            ledger: &self.ledger,
            live,
            is_mine: self.work == Work::Mine,
            unstarted: self.unstarted.as_ref(),
            is_sure: self.is_doubted,
            whose,
        })
    }

    /// Whether the cluster's clock should start its ticks: it is on, its times are such that that one keeps them, and no person
    /// wants one now.
    fn is_clusters(&self, may: bool) -> bool {
        let is_plain = self.timetable.plain(&self.cron).is_some();
        let own = |next: Seconds| self.cron.next(next - 1) == Some(next);
        may && is_plain && self.ledger.next.is_none_or(own)
    }

    /// Whether nothing is due, and nothing was in the last moments or is in the next: whoever starts ticks may change.
    fn is_quiet(&self, live: &Live, since: Seconds, now: Seconds) -> bool {
        let last = self.ledger.tick.as_ref().map_or(since, |tick| tick.at);
        let next = self.cron.next(last.max(since));
        let is_far = next.is_none_or(|next| next > now + MARGIN || next < now - GIVEN_UP);
        is_far && !self.ledger.is_open() && !matches!(live, Live::Runs(_) | Live::Made(_))
    }

    /// Whether a tick was so lately that a clock which is behind would start it once more.
    fn is_fresh(&self, now: Seconds) -> bool {
        let last = self.ledger.tick.as_ref();
        last.is_some_and(|tick| tick.at + MARGIN >= now)
    }

    /// When its last tick will be long enough ago to change who starts them.
    pub fn quiet_at(&self, now: Seconds) -> Option<Seconds> {
        let last = self.ledger.tick.as_ref().filter(|_| self.is_fresh(now));
        last.map(|tick| tick.at + MARGIN + 1)
    }

    /// What is to be done about who starts its ticks; `may`: any are to be started.
    pub fn hand(&self, whose: Whose, live: &Live, now: Seconds, may: bool) -> Hand {
        let is_free = self.work == Work::Rest;
        match whose {
            Whose::Ours => {
                let is_due = self.ledger.next.is_none_or(|next| next <= now);
                let wants = is_free && self.is_clusters(may) && !is_due && !self.is_fresh(now);
                if wants && self.is_quiet(live, now - MARGIN, now) {
                    Hand::Over
                } else {
                    Hand::Leave
                }
            }
            Whose::Clusters(_) if !may => Hand::Back,
            // The cluster's clock does not know of that, and may start another beside it.
            Whose::Clusters(since) if is_own(live) || self.has_own(since, now) => Hand::Back,
            // Nor will it start that one: it may be away, or not find it (a gap of more than its times' first distance).
            Whose::Clusters(since) if is_free && self.late(since, live, now).is_some() => {
                Hand::Back
            }
            Whose::Clusters(_) if self.is_clusters(may) => Hand::Keep,
            Whose::Clusters(since) if is_free && self.is_quiet(live, since, now) => Hand::Back,
            Whose::Clusters(_) | Whose::Nobodys => Hand::Leave,
        }
    }

    /// Whether a tick is to be started that the cluster's clock, which has the schedule `since` then, does not: one that it
    /// started and that is tried again, or one from before.
    fn has_own(&self, since: Seconds, now: Seconds) -> bool {
        let tick = self.ledger.tick.as_ref();
        if self.ledger.is_open() {
            return tick.is_some_and(|tick| tick.attempt != Key::CLUSTERS);
        }
        let last = tick.map_or(Seconds::MIN, |tick| tick.at);
        let next = self.ledger.next.filter(|next| *next > last);
        next.is_some_and(|next| next <= since.min(now))
    }

    /// A tick that the cluster's clock should have started by now and has not.
    fn late(&self, since: Seconds, live: &Live, now: Seconds) -> Option<Seconds> {
        let next = self.ledger.next.filter(|next| *next > since)?;
        let is_late = now >= given_up(&self.ledger, next) && !self.ledger.is_open() && self.is_on;
        (is_late && !matches!(live, Live::Runs(_) | Live::Made(_))).then_some(next)
    }

    /// The same, once.
    pub fn overdue(&mut self, whose: Whose, live: &Live, now: Seconds) -> Option<Seconds> {
        let Whose::Clusters(since) = whose else {
            return None;
        };
        let late = self.late(since, live, now)?;
        (self.overdue != Some(late)).then(|| *self.overdue.insert(late))
    }

    /// Takes in what has become of a start.
    pub fn take_launched(&mut self, launched: Launched, rev: i64, now: Seconds) {
        let Launched::Not {
            key,
            why,
            is_final,
            is_certain,
        } = launched
        else {
            self.tries = 0;
            return;
        };
        self.stopping = None;
        self.tries = self.tries.saturating_add(1);
        let pause = i64::try_from(plan::pause(self.tries).as_secs()).unwrap_or(LONGEST_PAUSE);
        if is_certain {
            self.unstarted = Some(Unstarted {
                key,
                rev,
                why,
                is_final,
                not_before: now + pause,
            });
        } else {
            self.pause.0 = now + pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ledger::{State, Tick};
    use super::*;
    use crate::bots::Offer;

    /// A minute's beginning.
    const MINUTE: Seconds = 1_767_225_600;

    /// What is known of a schedule whose last tick was that of [`MINUTE`].
    fn entry(config: &serde_json::Value, state: State) -> Entry {
        let timetable = Timetable::read(config.as_object().unwrap()).unwrap();
        let row = Listed::new("b".into(), None, "s".into(), Offer::Gone);
        let tick = Tick {
            at: MINUTE,
            attempt: 1,
            state,
            outcome: None,
            why: None,
            by: String::new(),
            since: MINUTE,
            missed: 0,
            not_before: None,
            rev: 1,
        };
        let ledger = Ledger {
            next: Some(MINUTE + 60),
            seq: None,
            tick: Some(tick),
        };
        let cron = timetable.cron().unwrap();
        Entry::new(Arc::new(row), timetable, cron, ledger)
    }

    fn plain() -> Entry {
        entry(&json!({"schedule": "* * * * *"}), State::Over)
    }

    const CLUSTERS: Whose = Whose::Clusters(MINUTE - 1000);

    #[test]
    fn a_schedule_changes_hands_only_where_nothing_is_due_or_runs() {
        let hand = |entry: &Entry, live: &Live, at: Seconds| {
            entry.hand(Whose::Ours, live, MINUTE + at, true)
        };
        assert_eq!(hand(&plain(), &Live::None, 30), Hand::Over);
        assert_eq!(
            plain().hand(Whose::Ours, &Live::None, MINUTE + 30, false),
            Hand::Leave
        );
        for at in [2, MARGIN, 56, 60, 63] {
            assert_eq!(hand(&plain(), &Live::None, at), Hand::Leave, "{at}");
        }
        assert_eq!(plain().quiet_at(MINUTE + 2), Some(MINUTE + MARGIN + 1));
        assert_eq!(hand(&plain(), &Live::None, MARGIN + 1), Hand::Over);
        assert_eq!(hand(&plain(), &Live::Runs(None), 30), Hand::Leave);
        let open = entry(&json!({"schedule": "* * * * *"}), State::Started);
        assert_eq!(hand(&open, &Live::None, 30), Hand::Leave);
        for other in [
            json!({"schedule": "30 * * * * *"}),
            json!({"schedule": "* * * * *", "timezone": "Europe/Berlin"}),
            json!({"schedule": "* * * * *", "schedule_policy": {"retries": 2}}),
            json!({"schedule": "* * * * *", "schedule_policy": {"concurrency": "replace"}}),
            json!({"schedule": "* * * * *", "schedule_policy": {"catch_up": "all"}}),
            json!({"schedule": "* * * * *", "schedule_policy": {"starting_deadline": "5s"}}),
        ] {
            let entry = entry(&other, State::Over);
            assert_eq!(hand(&entry, &Live::None, 30), Hand::Leave, "{other}");
        }
    }

    #[test]
    fn a_tick_that_its_cronjob_does_not_start_is_told_once() {
        let mut entry = plain();
        let mut told = |live: &Live, at: Seconds| entry.overdue(CLUSTERS, live, MINUTE + at);
        assert_eq!(told(&Live::None, 60 + GIVEN_UP - 1), None);
        assert_eq!(told(&Live::Runs(None), 60 + GIVEN_UP), None, "it does");
        assert_eq!(told(&Live::None, 60 + GIVEN_UP), Some(MINUTE + 60));
        assert_eq!(told(&Live::None, 60 + GIVEN_UP + 1), None);
        let mut since = plain();
        let late = MINUTE + 60 + GIVEN_UP;
        for whose in [Whose::Ours, Whose::Nobodys, Whose::Clusters(MINUTE + 60)] {
            assert_eq!(since.overdue(whose, &Live::None, late), None, "{whose:?}");
        }
    }

    #[test]
    fn the_cluster_keeps_it_until_it_is_off_or_wanted_otherwise() {
        let hand =
            |entry: &Entry, at: Seconds| entry.hand(CLUSTERS, &Live::None, MINUTE + at, true);
        assert_eq!(hand(&plain(), 30), Hand::Keep);
        assert_eq!(
            plain().hand(CLUSTERS, &Live::Runs(None), MINUTE, false),
            Hand::Back
        );
        let mut asked = plain();
        asked.ledger.next = Some(MINUTE + 20);
        assert_eq!(hand(&asked, 30), Hand::Back, "a person wants one");
        assert_eq!(hand(&asked, 57), Hand::Leave, "it may be starting one");
        assert_eq!(
            hand(&asked, 70),
            Hand::Leave,
            "it has, and that is not seen yet"
        );
        assert_eq!(hand(&asked, 300), Hand::Back, "it does not");
        assert_eq!(hand(&plain(), 60 + GIVEN_UP - 1), Hand::Keep);
        assert_eq!(hand(&plain(), 60 + GIVEN_UP), Hand::Back, "it does not");
        let mut long = plain();
        long.ledger.tick.as_mut().unwrap().since = MINUTE + 500;
        assert_eq!(
            hand(&long, 500 + GIVEN_UP - 1),
            Hand::Keep,
            "it had no time"
        );
        assert_eq!(hand(&long, 500 + GIVEN_UP), Hand::Back);
        for (attempt, expected) in [(Key::CLUSTERS, Hand::Keep), (1, Hand::Back)] {
            let mut open = entry(&json!({"schedule": "* * * * *"}), State::Claimed);
            open.ledger.tick.as_mut().unwrap().attempt = attempt;
            assert_eq!(hand(&open, 30), expected, "what is tried again is ours");
            let live = Live::Runs(Some(Key {
                at: MINUTE,
                attempt,
            }));
            let hand = plain().hand(CLUSTERS, &live, MINUTE + 30, true);
            assert_eq!(hand, expected, "of ours it knows nothing");
        }
        let edited = entry(&json!({"schedule": "@every 90s"}), State::Over);
        assert_eq!(hand(&edited, 30), Hand::Back);
        let since = Whose::Clusters(MINUTE + 61);
        let hand = plain().hand(since, &Live::None, MINUTE + 62, true);
        assert_eq!(hand, Hand::Back, "it got it too late for that tick");
    }
}
