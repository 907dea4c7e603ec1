//! What has become of words that were to be written.

use std::time::Instant;

use contract::BotId;

use super::book::Written;
use super::ledger::{self, Ledger, Outcome};
use super::permit::Claim;
use super::{LONGEST_PAUSE, News, Schedules, Work, timetable, wall};
use crate::history::{Failed, Start, cause::Cause};

impl Schedules {
    /// Takes in what has become of a word.
    pub fn take(&mut self, news: News) {
        let News {
            bot,
            to,
            done,
            is_permit,
        } = news;
        let Some(entry) = self.known.get_mut(&bot) else {
            return;
        };
        entry.touched = Instant::now();
        let was = entry.work;
        if !is_permit {
            entry.work = Work::Rest;
        }
        if done == Written::Taken {
            entry.pause = (0, 0);
            entry.is_doubted = false;
            self.is_told = false;
            return self.taken(&bot, to, was, is_permit);
        }
        // What is written is read again before anything else is tried.
        entry.is_stale = true;
        let pauses = entry.pause.1.saturating_add(1);
        let pause = (1 << pauses.min(6)) / 2;
        entry.pause = (wall() + LONGEST_PAUSE.min(pause) - 1, pauses);
        self.is_curious = true;
        if !is_permit {
            self.starting.remove(&bot);
        }
        if let Written::Unknown(why) = done
            && !std::mem::replace(&mut self.is_told, true)
        {
            self.console.warn(&format!(
                "schedules: {why}; what was to be written is looked up first, and ticks wait"
            ));
        }
    }

    fn taken(&mut self, bot: &BotId, to: Ledger, was: Work, is_permit: bool) {
        let Some(entry) = self.known.get_mut(bot) else {
            return;
        };
        if !is_permit {
            entry.ledger.next = to.next;
        }
        let before = entry.ledger.tick.take();
        entry.ledger.tick = to.tick;
        let Some(tick) = entry.ledger.tick.clone() else {
            return;
        };
        let is_word = before.as_ref().is_none_or(|before| before.rev != tick.rev);
        let is_new = before.is_none_or(|before| before.at != tick.at);
        if is_new {
            (entry.unstarted, entry.stopping, entry.tries) = (None, None, 0);
        }
        if was == Work::Claiming {
            entry.work = Work::Mine;
            let claim = Claim {
                ledger: entry.ledger.clone(),
                timetable: entry.timetable.clone(),
            };
            self.permits.note(bot, claim);
        }
        let is_missed = is_word && tick.outcome == Some(Outcome::Missed);
        if is_missed || (is_new && tick.missed > 0) {
            let passed = tick.missed + u32::from(is_missed);
            let (name, why) = (entry.row.name.clone(), tick.why.clone());
            self.tell_missed(bot, name, &tick, passed, why);
        }
    }

    fn tell_missed(
        &mut self,
        bot: &BotId,
        name: String,
        tick: &ledger::Tick,
        passed: u32,
        why: Option<String>,
    ) {
        let until = timetable::shown(tick.at);
        let text = match (passed, why) {
            (1, Some(why)) => format!("missed: {why}"),
            (n, _) => format!("missed: {n} ticks up to {until} were not run"),
        };
        self.console.about(bot, &name).warn(&text);
        let start = Start::now(Cause::Tick, Some(until));
        self.missed.push(Failed {
            bot: bot.clone(),
            name,
            at: start.at,
            start,
            why: text,
            failures: 0,
        });
    }

    /// Ticks that were passed over since it was last asked, for history.
    pub fn missed(&mut self) -> Vec<Failed> {
        std::mem::take(&mut self.missed)
    }

    /// Whether what is written has to be read again, since it was last asked.
    pub fn is_curious(&mut self) -> bool {
        std::mem::take(&mut self.is_curious)
    }
}
