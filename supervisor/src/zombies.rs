//! Naming the parents that do not reap: their zombies are not ours to reap, and they fill the process table.
//!
//! Looked for when we are awake anyway, never by a timer of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::processes::{self, UNREAPED};

/// Named in one look at most; the rest is counted.
const NAMED: usize = 10;

/// What has been seen and said.
#[derive(Debug, Default)]
pub struct Zombies {
    looked: Duration,
    seen: BTreeSet<i32>,
    told: BTreeSet<i32>,
}

impl Zombies {
    /// Looks, unless it did a short while ago, and names those who were there the last time too.
    pub fn look(&mut self, now: Duration) {
        if now.saturating_sub(self.looked) < UNREAPED {
            return;
        }
        self.looked = now;
        let before = std::mem::take(&mut self.seen);
        self.tell(|pid| before.contains(&pid));
    }

    /// Looks and names all there are: it is the last chance.
    pub fn tell_all(&mut self) {
        self.tell(|_| true);
    }

    fn tell(&mut self, is_old: impl Fn(i32) -> bool) {
        let found = processes::unreaped();
        self.seen = found.iter().map(|(zombie, _)| zombie.pid).collect();
        self.told.retain(|pid| self.seen.contains(pid));
        let (mut named, mut more) = (0, 0);
        for (zombie, parent) in found {
            if !is_old(zombie.pid) || !self.told.insert(zombie.pid) {
                continue;
            }
            if named == NAMED {
                more += 1;
            } else {
                named += 1;
                contract::warn!(
                    "process {} ({}) does not wait for its child {} ({}), which stays a zombie until it does or ends",
                    parent.pid,
                    parent.name,
                    zombie.pid,
                    zombie.name
                );
            }
        }
        if more > 0 {
            contract::warn!("and {more} more zombies that nobody waits for");
        }
    }
}
