//! A tick that a person wants now.

use contract::BotId;

use super::book::{Book, Written};
use super::ledger::Ledger;
use super::timetable::Seconds;
use super::{Schedules, Work, wall};

impl Schedules {
    /// Makes the bot's next tick due now. It is written down before `tell` is called, so whoever acts then runs it, by the
    /// policy of the schedule, as any tick that is due. `tell` gets why it is not, if it is not.
    pub fn run_now(&mut self, bot: &BotId, tell: impl FnOnce(Option<String>) + Send + 'static) {
        let Some(entry) = self.known.get_mut(bot) else {
            return tell(Some("no times are known for it".to_owned()));
        };
        if entry.is_stale || entry.work != Work::Rest {
            let why = "something of it is just being written: try again in a moment";
            return tell(Some(why.to_owned()));
        }
        let (from, timetable) = (entry.ledger.clone(), entry.timetable.clone());
        let Some(to) = due(&from, wall()) else {
            return tell(None);
        };
        entry.work = Work::Writing;
        self.active.insert(bot.clone());
        let (book, news, bot) = (self.book.clone(), self.news.clone(), bot.clone());
        let end = move |bot, to, done: Written| {
            tell(done.obstacle());
            let _ = news.send(super::told(bot, to, done));
        };
        if let Book::Folder(_) = book {
            let done = book.put(&bot, &timetable, &from, &to);
            return end(bot, to, done);
        }
        tokio::spawn(async move {
            let done = book.write(&bot, &timetable, &from, &to).await;
            end(bot, to, done);
        });
    }
}

/// The same with its next tick due now; `None`: one is due already.
fn due(from: &Ledger, now: Seconds) -> Option<Ledger> {
    let last = from.tick.as_ref().map_or(Seconds::MIN, |tick| tick.at);
    if from.next.is_some_and(|next| next > last && next <= now) {
        return None;
    }
    Some(Ledger {
        next: Some(now.max(last.saturating_add(1))),
        ..from.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{State, Tick};
    use super::*;

    fn ledger(next: Option<Seconds>, last: Option<Seconds>) -> Ledger {
        let tick = |at| Tick {
            at,
            attempt: 1,
            state: State::Over,
            outcome: None,
            why: None,
            by: String::new(),
            since: at,
            missed: 0,
            not_before: None,
            rev: 3,
        };
        Ledger {
            next,
            seq: Some(1),
            tick: last.map(tick),
        }
    }

    #[test]
    fn a_tick_that_is_wanted_now_is_later_than_the_last_one_and_one_that_is_due_stays() {
        for (next, last, expected) in [
            (None, None, Some(100)),
            (Some(160), Some(40), Some(100)),
            (Some(160), Some(100), Some(101)),
            (Some(90), Some(95), Some(100)),
            (Some(90), Some(40), None),
            (Some(100), None, None),
        ] {
            let from = ledger(next, last);
            let to = due(&from, 100);
            let found = to.as_ref().and_then(|to| to.next);
            assert_eq!(found, expected, "{next:?} after {last:?}");
            assert!(to.is_none_or(|to| to.tick == from.tick && to.claims(&from)));
        }
    }
}
