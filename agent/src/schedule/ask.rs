//! A tick that a person wants now.

use contract::BotId;

use super::book::{Book, Written};
use super::ledger::Ledger;
use super::timetable::Seconds;
use super::{Schedules, Work, wall};

/// What has become of a wish for a tick now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// One is due, and that is written down.
    Due,
    /// Something else of it is just being written: it may be asked again in a moment.
    Busy(String),
    /// None is due, or nobody knows, and why.
    Not(String),
}

impl Schedules {
    /// Makes the bot's next tick due now. It is written down before `tell` is called, so whoever acts then runs it, by the
    /// policy of the schedule, as any tick that is due.
    pub fn run_now(&mut self, bot: &BotId, tell: impl FnOnce(Asked) + Send + 'static) {
        let Some(entry) = self.known.get_mut(bot) else {
            return tell(Asked::Not("no times are known for it".to_owned()));
        };
        if entry.is_stale || entry.work != Work::Rest {
            let why = "its last tick is just being started or written down: try again";
            return tell(Asked::Busy(why.to_owned()));
        }
        let (from, timetable) = (entry.ledger.clone(), entry.timetable.clone());
        let Some(to) = due(&from, wall()) else {
            return tell(Asked::Due);
        };
        entry.work = Work::Writing;
        self.active.insert(bot.clone());
        let (book, news, bot) = (self.book.clone(), self.news.clone(), bot.clone());
        let end = move |bot, to, done: Written| {
            tell(match &done {
                Written::Taken => Asked::Due,
                Written::Refused => Asked::Busy(
                    "another agent, or an event, was faster: look at it and try again".to_owned(),
                ),
                Written::Unknown(why) => {
                    Asked::Not(format!("whether it is written down is not known: {why}"))
                }
            });
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
