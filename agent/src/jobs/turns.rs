//! Which jobs have their turn on this host, and whether one more may: what the runner and the agent's loop share.
//!
//! It ensures: once the kill switch was turned no job gets its turn, and each that has one is told by [`Turns::running`]
//! until its end is written down. Both look under one lock, so none slips between.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::BotId;

/// Turns; clones are the same ones. At first none is given.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    are_given: bool,
    running: BTreeSet<BotId>,
}

impl Turns {
    /// Whether jobs get their turn from now on.
    pub fn give(&self, are_given: bool) {
        self.known().are_given = are_given;
    }

    /// Those that have theirs.
    pub fn running(&self) -> Vec<BotId> {
        self.known().running.iter().cloned().collect()
    }

    /// Takes a turn for a job; whether there is one.
    pub fn take(&self, job: &BotId) -> bool {
        let mut known = self.known();
        if known.are_given {
            known.running.insert(job.clone());
        }
        known.are_given
    }

    /// These have theirs, as was just seen.
    pub fn saw(&self, running: BTreeSet<BotId>) {
        self.known().running = running;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_turn_is_given_before_it_may_be_nor_after() {
        let (turns, job) = (Turns::default(), "j1".parse::<BotId>().unwrap());
        assert!(!turns.take(&job) && turns.running().is_empty());
        turns.give(true);
        assert!(turns.take(&job));
        turns.clone().give(false);
        assert!(!turns.take(&"j2".parse().unwrap()));
        assert_eq!(turns.running(), [job]);
        turns.saw(BTreeSet::new());
        assert!(turns.running().is_empty());
    }
}
