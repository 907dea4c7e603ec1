//! What people have said that counts wherever the agent is: which bots are stopped, and whether any may run.
//!
//! ```text
//!   agent stop ─▶ the loop ─▶ [`desk`]: orders.json in the data folder ─▶ [`exchange`] ─▶ {_id: "orders"} in bot_runner.the0
//!                    ▲                                                       │
//!                    └──────── what was said to other agents ◀───────────────┘
//! ```
//!
//! It ensures: a word counts at once where it is said, whatever is away; it is in the database as soon as that answers,
//! and an agent that takes over acts only when it has read it; of two words on one thing the later one wins, on every
//! agent the same one. Every agent of a database keeps all words, so which of them ends does not matter.
//!
//! A word has the time of the host where it was said, but is always later than every word known there: who takes back
//! what he has seen is right whatever the clocks say.

pub mod desk;
pub mod exchange;

use std::collections::{BTreeMap, BTreeSet};

use contract::BotId;
use serde::{Deserialize, Serialize};

use crate::plan::Switch;

/// How long it is remembered that a bot may run again, for agents that only know that it was stopped.
const REMEMBERED: u64 = 90 * 24 * 3600 * 1000;

/// One word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// When it was said, in milliseconds since the epoch.
    pub at: u64,
    /// Whether it is to be off.
    pub off: bool,
}

/// The last word on everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// On all bots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<Word>,
    /// On each that something was said of.
    #[serde(default)]
    pub bots: BTreeMap<BotId, Word>,
}

impl Word {
    /// Of two at one time the one that stops.
    fn later(self, other: Self) -> Self {
        if (other.at, other.off) > (self.at, self.off) {
            other
        } else {
            self
        }
    }
}

impl Orders {
    /// The later word of both on everything.
    #[must_use]
    pub fn merged(mut self, other: &Self) -> Self {
        for (bot, word) in &other.bots {
            self.set(bot, *word);
        }
        if let Some(word) = other.switch {
            self.turn(word);
        }
        self
    }

    /// The bots that are stopped.
    pub fn stopped(&self) -> BTreeSet<BotId> {
        let off = self.bots.iter().filter(|(_, word)| word.off);
        off.map(|(bot, _)| bot.clone()).collect()
    }

    /// Whether any bot may run.
    pub fn switch(&self) -> Switch {
        match self.switch {
            Some(Word { off: true, .. }) => Switch::Off,
            _ => Switch::On,
        }
    }

    /// A person has said at `now` that these are stopped and no others, and whether any may run.
    pub fn say(&mut self, stopped: &BTreeSet<BotId>, switch: Switch, now: u64) {
        let last = self.last();
        let at = now.max(last.map_or(0, |last| last + 1));
        self.differ(stopped, switch, (at, at));
        self.bots
            .retain(|_, word| word.off || word.at + REMEMBERED > at);
    }

    /// The same was found written down at those times; a later word stands.
    pub fn adopt(&mut self, stopped: &BTreeSet<BotId>, switch: Switch, at: (u64, u64)) {
        self.differ(stopped, switch, at);
    }

    fn differ(&mut self, stopped: &BTreeSet<BotId>, switch: Switch, (bots, all): (u64, u64)) {
        let known = self.stopped();
        for bot in known.symmetric_difference(stopped) {
            let off = stopped.contains(bot);
            self.set(bot, Word { at: bots, off });
        }
        if self.switch() != switch {
            let off = switch == Switch::Off;
            self.turn(Word { at: all, off });
        }
    }

    fn set(&mut self, bot: &BotId, word: Word) {
        let known = self.bots.entry(bot.clone()).or_insert(word);
        *known = known.later(word);
    }

    fn turn(&mut self, word: Word) {
        self.switch = Some(self.switch.map_or(word, |known| known.later(word)));
    }

    fn last(&self) -> Option<u64> {
        let words = self.bots.values().chain(&self.switch);
        words.map(|word| word.at).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bots(names: &[&str]) -> BTreeSet<BotId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn word() -> impl Strategy<Value = Word> {
        (0..4u64, any::<bool>()).prop_map(|(at, off)| Word { at, off })
    }

    fn orders() -> impl Strategy<Value = Orders> {
        let bots = proptest::collection::btree_map("[ab]", word(), 0..3);
        (proptest::option::of(word()), bots).prop_map(|(switch, bots)| Orders {
            switch,
            bots: bots
                .into_iter()
                .map(|(id, w)| (id.parse().unwrap(), w))
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn all_agents_come_to_the_same_whoever_hears_of_whom_first(a in orders(), b in orders(), c in orders()) {
            let (ab, ba) = (a.clone().merged(&b), b.clone().merged(&a));
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(ab.clone().merged(&c), a.clone().merged(&b.clone().merged(&c)));
            prop_assert_eq!(ab.clone().merged(&b), ab);
        }

        #[test]
        fn what_is_said_counts_whatever_the_clock_shows_and_whatever_was_known(
            known in orders(), now in 0..5u64, off in any::<bool>(), names in proptest::collection::btree_set("[abc]", 0..4)
        ) {
            let stopped: BTreeSet<BotId> = names.iter().map(|name| name.parse().unwrap()).collect();
            let switch = if off { Switch::Off } else { Switch::On };
            let mut said = known.clone();
            said.say(&stopped, switch, now);
            for all in [said.clone(), said.clone().merged(&known), known.merged(&said)] {
                prop_assert_eq!((all.stopped(), all.switch()), (stopped.clone(), switch));
            }
        }
    }

    #[test]
    fn what_was_said_here_without_the_database_does_not_undo_what_was_said_later_elsewhere() {
        let mut here = Orders::default();
        here.say(&bots(&["a", "b"]), Switch::Off, 10);
        let mut there = here.clone();
        here.say(&bots(&["a", "b", "c"]), Switch::Off, 20);
        there.say(&bots(&["b"]), Switch::On, 30);
        let both = here.merged(&there);
        assert_eq!(
            (both.stopped(), both.switch()),
            (bots(&["b", "c"]), Switch::On)
        );
    }

    #[test]
    fn a_file_of_a_folder_counts_from_when_it_was_written() {
        let mut known = Orders::default();
        known.say(&bots(&["a"]), Switch::On, 10);
        let before = known.clone();
        known.adopt(&bots(&["b"]), Switch::Off, (5, 5));
        assert_eq!(known.stopped(), bots(&["a", "b"]), "the word on a is later");
        let mut known = before;
        known.adopt(&bots(&["b"]), Switch::Off, (20, 20));
        assert_eq!(
            (known.stopped(), known.switch()),
            (bots(&["b"]), Switch::Off)
        );
    }

    #[test]
    fn that_a_bot_may_run_again_is_not_remembered_for_ever() {
        let mut orders = Orders::default();
        orders.say(&bots(&["a"]), Switch::On, 1);
        orders.say(&bots(&[]), Switch::On, 2);
        assert_eq!(orders.bots.len(), 1);
        orders.say(&bots(&["b"]), Switch::On, 3 + REMEMBERED);
        assert_eq!(
            orders.bots.keys().cloned().collect::<BTreeSet<_>>(),
            bots(&["b"])
        );
    }
}
