//! What bots' own files say of their saving: for how long the one that waits longest has not been saved, and what went to
//! the store. Files are read now and then, so this is as old as the last look. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use contract::BotId;
use contract::record::{Outcome, Synced, Time, Traffic};

use crate::report::{Records, Saving};

/// What is known.
#[derive(Debug)]
pub struct Saves {
    began: Time,
    bots: BTreeMap<BotId, Save>,
    sent: u64,
    errors: u64,
}

#[derive(Debug, Default)]
struct Save {
    /// Since when not all of it is in the store.
    since: Option<Time>,
    traffic: Option<Traffic>,
    /// When the life began that has ended: what is read of it later says nothing.
    over: Option<Time>,
}

impl Default for Saves {
    fn default() -> Self {
        Self {
            began: Time::now(),
            bots: BTreeMap::new(),
            sent: 0,
            errors: 0,
        }
    }
}

impl Saves {
    /// The files of a bot that runs since `started` were read.
    pub fn note(&mut self, bot: &BotId, records: &Records, started: Time) {
        let synced = records.synced.as_ref();
        let traffic = synced.and_then(|synced| synced.traffic);
        self.add(bot, traffic);
        let save = self.bots.entry(bot.clone()).or_default();
        if save.over == Some(started) {
            return;
        }
        save.since = match (synced, records.saving) {
            (None, Some(Saving::Works)) => None,
            (None, Some(Saving::Fails(since))) => Some(since),
            (None, Some(Saving::Untold)) => save.since,
            _ => unsaved(synced, started),
        };
    }

    /// The same of one that has ended: what of it is unsaved is told elsewhere.
    pub fn end(&mut self, bot: &BotId, records: &Records, started: Time) {
        let traffic = records.synced.as_ref().and_then(|synced| synced.traffic);
        self.add(bot, traffic);
        let save = self.bots.entry(bot.clone()).or_default();
        (save.since, save.over) = (None, Some(started));
    }

    /// Only these bots are there.
    pub fn retain(&mut self, there: &BTreeSet<BotId>) {
        self.bots.retain(|bot, _| there.contains(bot));
    }

    /// Another agent acts, and knows better.
    pub fn forget(&mut self) {
        for save in self.bots.values_mut() {
            save.since = None;
        }
    }

    /// For how long the one that waits longest has waited; nought when none does.
    pub fn age(&self, now: SystemTime) -> Duration {
        let since = self.bots.values().filter_map(|save| save.since).min();
        since.map_or(Duration::ZERO, |since| {
            now.duration_since(since.system()).unwrap_or_default()
        })
    }

    /// Bytes that the store has taken from bots, as far as this agent has seen.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Requests of bots that the store has not answered, or refused.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// What was counted before this agent began is not its own.
    fn add(&mut self, bot: &BotId, now: Option<Traffic>) {
        let Some(now) = now else { return };
        let save = self.bots.entry(bot.clone()).or_default();
        let before = save.traffic.replace(now);
        let base = match before {
            Some(before) if before.since == now.since => before,
            Some(_) => nothing(now),
            None if now.since >= self.began => nothing(now),
            None => now,
        };
        self.sent += now.sent.saturating_sub(base.sent);
        self.errors += now.errors.saturating_sub(base.errors);
    }
}

fn nothing(of: Traffic) -> Traffic {
    Traffic {
        sent: 0,
        errors: 0,
        ..of
    }
}

/// Since when not all is in the store; `None`: all is, or somebody else's word counts.
fn unsaved(synced: Option<&Synced>, started: Time) -> Option<Time> {
    let Some(synced) = synced else {
        return Some(started);
    };
    match synced.outcome {
        Outcome::Ok | Outcome::Edited => None,
        Outcome::Failed | Outcome::Fenced | Outcome::TooLarge => {
            Some(synced.ok_at.unwrap_or(started))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::logs::Position;

    fn time(seconds: u64) -> Time {
        Time::from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn records(outcome: Outcome, traffic: Option<(u64, u64)>) -> Records {
        let traffic = traffic.map(|(since, sent)| Traffic {
            since: time(since),
            sent,
            errors: sent / 10,
        });
        let synced = Synced {
            outcome,
            run: 1,
            generation: 1,
            digest: None,
            log: Position::default(),
            ok_at: Some(time(50)),
            at: time(60),
            error: None,
            left_out: vec![],
            traffic,
            result: None,
        };
        Records {
            synced: Some(synced),
            ..Records::default()
        }
    }

    fn saves() -> (Saves, BotId, BotId) {
        let saves = Saves {
            began: time(10),
            ..Saves::default()
        };
        (saves, "a".parse().unwrap(), "b".parse().unwrap())
    }

    #[test]
    fn a_pod_that_does_not_tell_of_its_saving_is_not_one_that_waits() {
        let bot: BotId = "b1".parse().unwrap();
        let mut saves = Saves::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let mut age = |saving| {
            let records = Records {
                saving: Some(saving),
                ..Records::default()
            };
            saves.note(&bot, &records, time(10));
            saves.age(now).as_secs()
        };
        assert_eq!(age(Saving::Untold), 0);
        assert_eq!(age(Saving::Fails(time(900))), 100);
        assert_eq!(age(Saving::Untold), 100, "it may fail still");
        assert_eq!(age(Saving::Works), 0);
    }

    #[test]
    fn the_age_is_that_of_the_bot_that_waits_longest() {
        let (mut saves, a, b) = saves();
        let age = |saves: &Saves| saves.age(time(100).system()).as_secs();
        saves.note(&a, &records(Outcome::Ok, None), time(20));
        assert_eq!(age(&saves), 0);
        saves.note(&a, &records(Outcome::Failed, None), time(20));
        assert_eq!(age(&saves), 50);
        saves.note(&b, &Records::default(), time(30));
        assert_eq!(
            age(&saves),
            70,
            "one that was never saved waits since its start"
        );
        saves.end(&b, &Records::default(), time(30));
        saves.note(&b, &Records::default(), time(30));
        assert_eq!(age(&saves), 50);
        saves.retain(&BTreeSet::from([b]));
        assert_eq!(age(&saves), 0);
    }

    #[test]
    fn traffic_is_added_up_over_restarts_and_what_was_before_is_left_out() {
        let (mut saves, a, b) = saves();
        let ok = |traffic| records(Outcome::Ok, Some(traffic));
        saves.note(&a, &ok((5, 1000)), time(5));
        assert_eq!(saves.sent(), 0, "an earlier agent has seen it");
        saves.note(&a, &ok((5, 1300)), time(5));
        assert_eq!((saves.sent(), saves.errors()), (300, 30));
        saves.note(&a, &ok((20, 50)), time(5));
        saves.note(&b, &ok((30, 7)), time(30));
        saves.end(&b, &ok((30, 10)), time(30));
        assert_eq!(saves.sent(), 360);
    }
}
