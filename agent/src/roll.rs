//! A roll: bots are started again, a few at a time, because what the operator wants of their containers has changed.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::BotId;

use crate::engine::Instance;
use crate::plan::Phase;

/// An instance that has run as long counts as there again.
const SETTLED: Duration = Duration::from_secs(5);

/// One under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roll {
    /// Bots whose turn is still to come.
    left: BTreeSet<BotId>,
    /// Those that are away, and the container each had.
    away: BTreeMap<BotId, Option<String>>,
    /// How many may be away at once.
    most: usize,
}

impl Roll {
    /// Rolls `bots`, at most `most` away at once.
    pub fn new(bots: impl IntoIterator<Item = BotId>, most: usize) -> Self {
        Self {
            left: bots.into_iter().collect(),
            away: BTreeMap::new(),
            most: most.max(1),
        }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.left.is_empty() && self.away.is_empty()
    }

    /// The bots whose turn it is now. One that is not wanted any more, or does not run, is passed over; one that does
    /// not come back holds the others up, which is what the bound is for.
    pub fn next(
        &mut self,
        wanted: impl Fn(&BotId) -> bool,
        instances: &BTreeMap<BotId, Instance>,
        now: Duration,
    ) -> Vec<BotId> {
        let is_back = |bot: &BotId, had: &Option<String>| {
            instances.get(bot).is_some_and(|instance| {
                let settled = instance.since.is_some_and(|since| now >= since + SETTLED);
                instance.actual.phase == Phase::Running && instance.container != *had && settled
            })
        };
        self.away
            .retain(|bot, had| wanted(bot) && !is_back(bot, had));
        let mut turn = Vec::new();
        while self.away.len() < self.most {
            let Some(bot) = self.left.pop_first() else {
                break;
            };
            let running = instances.get(&bot).filter(|instance| {
                instance.actual.phase == Phase::Running && instance.container.is_some()
            });
            if let (Some(instance), true) = (running, wanted(&bot)) {
                self.away.insert(bot.clone(), instance.container.clone());
                turn.push(bot);
            }
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Actual;
    use contract::Digest;

    fn bot(n: usize) -> BotId {
        format!("b{n}").parse().unwrap()
    }

    fn instance(container: &str, since: u64) -> Instance {
        Instance {
            container: Some(container.into()),
            since: Some(Duration::from_secs(since)),
            ..Instance::new(Actual {
                digest: Digest::from_bytes([0; 32]),
                phase: Phase::Running,
            })
        }
    }

    #[test]
    fn no_more_than_so_many_are_away_and_one_that_does_not_come_back_holds_the_others_up() {
        let mut instances: BTreeMap<BotId, Instance> =
            (0..4).map(|n| (bot(n), instance("old", 0))).collect();
        let mut roll = Roll::new((0..4).map(bot), 2);
        let at = Duration::from_secs;
        let all = |_: &BotId| true;
        assert_eq!(roll.next(all, &instances, at(100)), [bot(0), bot(1)]);
        assert!(
            roll.next(all, &instances, at(200)).is_empty(),
            "neither has gone yet"
        );
        instances.insert(bot(0), instance("new", 200));
        assert!(
            roll.next(all, &instances, at(203)).is_empty(),
            "too soon to tell"
        );
        assert_eq!(roll.next(all, &instances, at(205)), [bot(2)]);
        assert!(roll.next(|b| *b != bot(3), &instances, at(300)).is_empty());
        instances.insert(bot(1), instance("new", 300));
        instances.insert(bot(2), instance("new", 300));
        assert!(roll.next(|b| *b != bot(3), &instances, at(310)).is_empty());
        assert!(roll.is_over(), "one that is not wanted is passed over");
    }
}
