//! What a listing tells of schedules.

use std::sync::Arc;
use std::time::Instant;

use contract::BotId;

use super::timetable::Timetable;
use super::{Entry, Schedules, Sight, Work};
use crate::bots::{Listed, Listing, Offer};

impl Schedules {
    /// Takes in a listing that was begun at `begun`.
    pub fn listed(&mut self, listing: &Listing, begun: Instant) {
        let gone = |bot: &BotId| {
            let listed = listing.get(bot);
            listed.is_none_or(|listed| listed.offer == Offer::Gone)
        };
        let left: Vec<BotId> = self.known.keys().filter(|bot| gone(bot)).cloned().collect();
        for bot in left {
            self.drop_it(&bot);
        }
        if self.sight == Sight::Blind {
            self.sight = Sight::Listed;
        }
        for (bot, row) in &listing.bots {
            match &row.offer {
                Offer::Bot(found) => match &found.timetable {
                    Some(timetable) => self.see(bot, row, timetable, found.enabled, begun),
                    None => self.drop_it(bot),
                },
                // What runs goes on, and its end is written down.
                Offer::Unusable(_) => self.close(bot),
                Offer::Gone => {}
            }
        }
    }

    fn drop_it(&mut self, bot: &BotId) {
        if self.known.contains_key(bot) {
            self.arm(bot, None);
            self.known.remove(bot);
            self.active.remove(bot);
            self.starting.remove(bot);
        }
    }

    fn close(&mut self, bot: &BotId) {
        if let Some(entry) = self.known.get_mut(bot) {
            entry.is_on = false;
            self.active.insert(bot.clone());
        }
    }

    fn see(
        &mut self,
        bot: &BotId,
        row: &Arc<Listed>,
        timetable: &Timetable,
        is_on: bool,
        begun: Instant,
    ) {
        let Some(entry) = self.known.get_mut(bot) else {
            return self.meet(bot, row, timetable, is_on, begun);
        };
        if Arc::ptr_eq(&entry.row, row) && !entry.is_stale && entry.is_on == is_on {
            return;
        }
        entry.row = Arc::clone(row);
        entry.is_on = is_on;
        let is_other = !entry.is_at(timetable);
        if is_other && let Ok(cron) = timetable.cron() {
            (entry.timetable, entry.cron) = (timetable.clone(), cron);
        }
        entry.timetable.policy = timetable.policy;
        let is_busy = matches!(entry.work, Work::Writing | Work::Claiming);
        if begun > entry.touched && !is_busy {
            let before = entry.ledger.clone();
            let written = row.ledger.clone();
            entry.ledger = written.unwrap_or_else(|| self.book.open(bot, timetable));
            entry.is_stale = false;
            // Somebody has edited the times by hand: nobody has worked out the next one.
            let is_same = entry.ledger.next == before.next && entry.ledger.seq == before.seq;
            if is_other && is_same {
                entry.ledger.next = None;
            }
            if entry.ledger.rev() != before.rev() {
                entry.is_doubted = false;
            }
            let is_ours = entry.ledger.rev() == before.rev();
            if entry.work == Work::Mine && !is_ours {
                entry.work = Work::Rest;
                self.starting.remove(bot);
            }
        }
        self.active.insert(bot.clone());
    }

    fn meet(
        &mut self,
        bot: &BotId,
        row: &Arc<Listed>,
        timetable: &Timetable,
        is_on: bool,
        begun: Instant,
    ) {
        let Ok(cron) = timetable.cron() else { return };
        let ledger = row.ledger.clone();
        let ledger = ledger.unwrap_or_else(|| self.book.open(bot, timetable));
        let mut entry = Entry::new(Arc::clone(row), timetable.clone(), cron, ledger);
        entry.is_on = is_on;
        entry.touched = begun;
        let next = entry.ledger.next.filter(|_| !entry.ledger.is_open());
        self.known.insert(bot.clone(), entry);
        match next {
            Some(next) if is_on => self.arm(bot, Some(next)),
            _ => drop(self.active.insert(bot.clone())),
        }
    }
}
