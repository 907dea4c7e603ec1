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
    round: u64,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    began: Time,
    looks: usize,
    at: Duration,
    /// When it was last seen to be there.
    round: u64,
}

impl Rounds {
    /// Each bot once an `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            bots: BTreeMap::new(),
            round: 0,
        }
    }

    /// The bots of `live`, each with when it was started, whose files are to be read now.
    pub fn due<'a>(
        &mut self,
        live: impl Iterator<Item = (&'a BotId, Time)>,
        is_troubled: impl Fn(&BotId) -> bool,
        now: Duration,
    ) -> Vec<BotId> {
        self.round += 1;
        let mut due = Vec::new();
        let mut count = 0;
        for (bot, began) in live {
            count += 1;
            if self.is_due(bot, began, now) && due.len() < AT_ONCE {
                due.push(bot.clone());
            }
        }
        for bot in &due {
            let looks = self.bots.get(bot).map_or(0, |next| next.looks) + 1;
            let pause = self.pause(bot, looks, is_troubled(bot));
            if let Some(next) = self.bots.get_mut(bot) {
                (next.looks, next.at) = (looks, now + pause);
            }
        }
        if self.bots.len() > count {
            self.bots.retain(|_, next| next.round == self.round);
        }
        due
    }

    fn is_due(&mut self, bot: &BotId, began: Time, now: Duration) -> bool {
        let round = self.round;
        if let Some(next) = self.bots.get_mut(bot).filter(|next| next.began == began) {
            next.round = round;
            return now >= next.at;
        }
        let next = Due {
            began,
            looks: 0,
            at: now + FIRST[0].min(self.interval),
            round,
        };
        self.bots.insert(bot.clone(), next);
        false
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

    #[test]
    fn one_that_is_gone_is_forgotten_and_one_that_is_started_anew_is_read_soon() {
        let mut rounds = Rounds::new(Duration::from_secs(300));
        let bots = bots(2);
        let due = |rounds: &mut Rounds, live: &[(usize, u64)], second| {
            let live = live.iter().map(|(n, began)| (&bots[*n], time(*began)));
            rounds.due(live, |_| false, Duration::from_secs(second))
        };
        assert!(due(&mut rounds, &[(0, 1), (1, 1)], 0).is_empty());
        assert_eq!(due(&mut rounds, &[(0, 1), (1, 1)], 50).len(), 2);
        assert!(due(&mut rounds, &[(0, 1)], 51).is_empty());
        assert_eq!(rounds.bots.len(), 1);
        assert!(due(&mut rounds, &[(0, 52)], 52).is_empty());
        assert_eq!(due(&mut rounds, &[(0, 52)], 53), [bots[0].clone()]);
    }
}
