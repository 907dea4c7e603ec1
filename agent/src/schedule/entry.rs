//! What is known of one schedule.

use std::sync::Arc;
use std::time::Instant;

use super::LONGEST_PAUSE;
use super::decide::{Exit, Live, See, Step, Unstarted, decide};
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
}

impl Entry {
    /// Whether it is for the same times.
    pub fn is_at(&self, timetable: &Timetable) -> bool {
        self.timetable.schedule == timetable.schedule
            && self.timetable.timezone == timetable.timezone
    }

    /// What is to be done about it.
    pub fn decide(&self, live: Live, now: Seconds, me: &str) -> Step {
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
        })
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
