//! When which bot's files are read: a little after its start, then at intervals, spread; sooner where there is trouble.
//! Ends are told by the engine and wait for no round. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::BotId;
use contract::record::Time;

/// Looks after a start: a run should have begun at the first or second.
const FIRST: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(20),
];
/// The interval where there is trouble.
const TROUBLED: Duration = Duration::from_secs(15);
/// Bots that are read at once.
const AT_ONCE: usize = 16;

/// What is due when.
#[derive(Debug)]
pub struct Rounds {
    interval: Duration,
    bots: BTreeMap<BotId, Due>,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    began: Time,
    looks: usize,
    at: Duration,
}

impl Rounds {
    /// Each bot once an `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            bots: BTreeMap::new(),
        }
    }

    /// The bots of `live`, each with when it was started, whose files are to be read now.
    pub fn due<'a>(
        &mut self,
        live: impl Iterator<Item = (&'a BotId, Time)>,
        is_troubled: impl Fn(&BotId) -> bool,
        now: Duration,
    ) -> Vec<BotId> {
        let mut due = Vec::new();
        let mut there = BTreeMap::new();
        for (bot, began) in live {
            let known = self.bots.get(bot).filter(|known| known.began == began);
            let mut next = known.copied().unwrap_or_else(|| Due {
                began,
                looks: 0,
                at: now + FIRST[0].min(self.interval),
            });
            if now >= next.at && due.len() < AT_ONCE {
                due.push(bot.clone());
                next.looks += 1;
                next.at = now + self.pause(bot, next.looks, is_troubled(bot));
            }
            there.insert(bot.clone(), next);
        }
        self.bots = there;
        due
    }

    fn pause(&self, bot: &BotId, looks: usize, is_troubled: bool) -> Duration {
        let usual = match FIRST.get(looks) {
            Some(first) => *first,
            // The first of the regular ones are spread, and so all after them are.
            None if looks == FIRST.len() => self.interval * (1 + part(bot)) / 1000,
            None => self.interval,
        };
        let most = if is_troubled { TROUBLED } else { self.interval };
        usual.min(most).min(self.interval)
    }
}

/// A number below 1000 that a bot always has.
fn part(bot: &BotId) -> u32 {
    let bytes = bot.as_str().bytes();
    bytes.fold(7u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    }) % 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::time;

    fn bots(count: u32) -> Vec<BotId> {
        let ids = (0..count).map(|n| format!("bot{n}").parse().unwrap());
        ids.collect()
    }

    #[test]
    fn a_bot_is_read_soon_after_its_start_and_then_once_an_interval() {
        let mut rounds = Rounds::new(Duration::from_secs(300));
        let bots = bots(1);
        let mut read = Vec::new();
        for second in 0..2000 {
            let now = Duration::from_secs(second);
            let live = bots.iter().map(|bot| (bot, time(1)));
            read.extend(rounds.due(live, |_| false, now).into_iter().map(|_| second));
        }
        assert_eq!(read[..3], [1, 5, 25]);
        assert!((9..12).contains(&read.len()), "{read:?}");
    }

    #[test]
    fn many_are_spread_and_one_in_trouble_is_read_more_often() {
        let mut rounds = Rounds::new(Duration::from_secs(300));
        let bots = bots(1000);
        let mut most = 0;
        let mut troubled = 0;
        for second in 400..1000 {
            let live = bots.iter().map(|bot| (bot, time(1)));
            let now = Duration::from_secs(second);
            let due = rounds.due(live, |bot| *bot == bots[3], now);
            most = most.max(due.len());
            troubled += due.iter().filter(|bot| **bot == bots[3]).count();
        }
        assert!(most <= AT_ONCE);
        assert!(troubled > 10, "{troubled}");
    }
}
