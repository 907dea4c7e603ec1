//! A roll: bots are started again, a few at a time, because what the operator wants of their containers has changed.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::BotId;

use crate::engine::Instance;
use crate::plan::Phase;

/// An instance that has run as long counts as there again.
const SETTLED: Duration = Duration::from_secs(5);

/// What tells an instance from the one before: its container, and its own id, for a Pod has the name of the one before.
type Identity = [Option<String>; 2];

fn identity(instance: &Instance) -> Identity {
    let birth = instance.birth.as_ref();
    let id = birth.and_then(|birth| birth.container.clone());
    [instance.container.clone(), id]
}

/// One under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roll {
    /// Bots whose turn is still to come.
    left: BTreeSet<BotId>,
    /// Those that are away, and what each was.
    away: BTreeMap<BotId, Identity>,
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
    /// not come back holds the others up, which is what the bound is for. Bots of `all` that are wanted and do not run for
    /// another reason count as away, too.
    pub fn next<'a>(
        &mut self,
        wanted: impl Fn(&BotId) -> bool,
        all: impl Iterator<Item = &'a BotId>,
        instances: &BTreeMap<BotId, Instance>,
        now: Duration,
    ) -> Vec<BotId> {
        let runs = |bot: &BotId| {
            let instance = instances.get(bot);
            instance.filter(|i| i.actual.phase == Phase::Running && i.container.is_some())
        };
        let is_back = |bot: &BotId, had: &Identity| {
            runs(bot).is_some_and(|instance| {
                let settled = instance.since.is_some_and(|since| now >= since + SETTLED);
                identity(instance) != *had && settled
            })
        };
        self.away
            .retain(|bot, had| wanted(bot) && !is_back(bot, had));
        let begun = |bot: &BotId| runs(bot).is_some_and(|instance| instance.since.is_some());
        // Those that have not begun to run cost nobody anything, and a roll may be what mends them.
        let stuck = |bot: &BotId| wanted(bot) && runs(bot).is_some() && !begun(bot);
        let mut turn: Vec<BotId> = self.left.extract_if(.., stuck).collect();
        for bot in &turn {
            self.away
                .extend(runs(bot).map(|instance| (bot.clone(), identity(instance))));
        }
        let down = |bot: &&BotId| wanted(bot) && !begun(bot) && !self.away.contains_key(*bot);
        let down = all.filter(down).count();
        while self.away.len() + down < self.most {
            let Some(bot) = self.left.pop_first() else {
                break;
            };
            if let (Some(instance), true) = (runs(&bot), wanted(&bot)) {
                self.away.insert(bot.clone(), identity(instance));
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
        let all: Vec<BotId> = (0..4).map(bot).collect();
        let mut instances: BTreeMap<BotId, Instance> = all
            .iter()
            .map(|b| (b.clone(), instance("old", 0)))
            .collect();
        let mut roll = Roll::new(all.clone(), 2);
        let mut next = |instances: &BTreeMap<BotId, Instance>, gone: Option<usize>, at: u64| {
            let wanted = |b: &BotId| gone.is_none_or(|gone| *b != bot(gone));
            let turn = roll.next(wanted, all.iter(), instances, Duration::from_secs(at));
            (turn, roll.is_over())
        };
        assert_eq!(next(&instances, None, 100).0, [bot(0), bot(1)]);
        assert!(
            next(&instances, None, 200).0.is_empty(),
            "neither has gone yet"
        );
        instances.insert(bot(0), instance("new", 200));
        assert!(next(&instances, None, 203).0.is_empty(), "too soon to tell");
        assert_eq!(next(&instances, None, 205).0, [bot(2)]);
        assert!(next(&instances, Some(3), 300).0.is_empty());
        instances.insert(bot(1), instance("new", 300));
        instances.insert(bot(2), instance("new", 300));
        let (turn, is_over) = next(&instances, Some(3), 310);
        assert!(
            turn.is_empty() && is_over,
            "one that is not wanted is passed over"
        );
    }

    #[test]
    fn who_is_down_already_counts_as_away() {
        let all: Vec<BotId> = (0..3).map(bot).collect();
        let mut instances: BTreeMap<BotId, Instance> = all
            .iter()
            .map(|b| (b.clone(), instance("old", 0)))
            .collect();
        instances.remove(&bot(2));
        let mut roll = Roll::new([bot(0), bot(1)], 1);
        let now = Duration::from_secs(100);
        assert!(roll.next(|_| true, all.iter(), &instances, now).is_empty());
        let mut made = instance("new", 0);
        made.since = None;
        instances.insert(bot(2), made);
        let none = roll.next(|_| true, all.iter(), &instances, now);
        assert!(none.is_empty(), "it is made, and does not run");
        let mut mends = Roll::new([bot(1), bot(2)], 1);
        let first = mends.next(|_| true, all.iter(), &instances, now);
        assert_eq!(first, [bot(2)], "the one that does not run");
        instances.insert(bot(2), instance("new", 90));
        assert_eq!(roll.next(|_| true, all.iter(), &instances, now), [bot(0)]);
    }
}
