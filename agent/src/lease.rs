//! The lease: of all agents of a database one acts, the others stand by.
//!
//! ```text
//! {_id: "lease", holder, host, beat, since, until}     bot_runner.the0, one document
//!
//! holder ── every 3 s: holder is still me? beat + 1 ──▶ may act for 10 s from when it asked
//! others ── every 2 s: given back, or the same beat for 15 s? ──▶ holder = me, if the beat is still that one
//! ```
//!
//! It ensures that two never act: whoever holds the lease stops acting ([`ACTS`] after its last renewal was *asked* for)
//! before anybody else may take it ([`LASTS`] after a renewal was *seen*), both by clocks that only run on. So no host's
//! clock matters, nor a step of the server's; its own time (`$$NOW`) only lets an agent that has just come take over at
//! once what has long run out. What is asked for late, or twice, does no harm: every write is on condition.
//!
//! An agent that is killed and comes again on its data folder is the same holder: it need not wait for itself.
//!
//! [`claim`] decides, from values alone; [`keeper`] asks the database, in a thread of its own.

pub mod active;
pub mod claim;
pub mod keeper;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

/// How long whoever holds it may act after it has asked for its last renewal.
pub const ACTS: Duration = Duration::from_secs(10);
/// How long others leave it alone. The difference is for what is at the daemon already.
pub const LASTS: Duration = Duration::from_secs(15);

/// The collection beside the platform's own, and the one document.
const PLACE: (&str, &str) = ("the0", "lease");

/// Who an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// No two agents that run at one time have the same.
    pub holder: String,
    /// Where it is, for a person.
    pub host: String,
}

/// How it stands, for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has said yet.
    #[default]
    Unknown,
    /// This agent has it.
    Active,
    /// The agent on this host has it.
    Standby(String),
    /// It could not be had or renewed, and why.
    Lapsed(String),
}

/// The right to act; clones are the same one.
#[derive(Debug, Clone)]
pub struct Lease(Option<Arc<Mutex<Right>>>);

#[derive(Debug, Default)]
struct Right {
    until: Duration,
    turn: u64,
    standing: Standing,
}

impl Lease {
    /// For an agent that is alone, as nobody else has its bots.
    pub fn alone() -> Self {
        Self(None)
    }

    /// One that has to be taken first.
    pub fn shared() -> Self {
        Self(Some(Arc::default()))
    }

    /// For an agent that only looks: it never may.
    pub fn never() -> Self {
        let lease = Self::shared();
        if let Some(mut right) = lease.right() {
            right.standing = Standing::Lapsed("this one only answers questions".to_owned());
        }
        lease
    }

    /// One that is held for so long and not renewed.
    #[cfg(test)]
    pub fn held_for(time: Duration) -> Self {
        let lease = Self::shared();
        lease.hold(now() + time);
        lease
    }

    /// Whether this agent may act at this moment.
    pub fn may_act(&self) -> bool {
        self.turn().is_some()
    }

    /// The number of the time that this agent may act without a break; `None` while it may not.
    pub fn turn(&self) -> Option<u64> {
        let Some(right) = self.right() else {
            return Some(0);
        };
        (now() < right.until).then_some(right.turn)
    }

    /// How it stands; `None` for an agent that is alone.
    pub fn standing(&self) -> Option<Standing> {
        let right = self.right()?;
        let lapsed = right.standing == Standing::Active && now() >= right.until;
        Some(if lapsed {
            Standing::Lapsed("it was not renewed in time".to_owned())
        } else {
            right.standing.clone()
        })
    }

    /// Whether another agent is known to act.
    pub fn stands_by(&self) -> bool {
        matches!(self.standing(), Some(Standing::Standby(_)))
    }

    /// It is held until then.
    fn hold(&self, until: Duration) {
        let Some(mut right) = self.right() else {
            return;
        };
        if now() >= right.until {
            right.turn += 1;
        }
        right.until = right.until.max(until);
        right.standing = Standing::Active;
    }

    /// It is not held any more.
    fn drop_it(&self, standing: Standing) {
        if let Some(mut right) = self.right() {
            right.until = Duration::ZERO;
            right.standing = standing;
        }
    }

    /// It is not known whether it is held; what is left of its time counts.
    fn doubt(&self, why: &str) {
        if let Some(mut right) = self.right()
            && now() >= right.until
        {
            right.standing = Standing::Lapsed(why.to_owned());
        }
    }

    fn right(&self) -> Option<MutexGuard<'_, Right>> {
        let right = self.0.as_ref()?;
        Some(right.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Identity {
    /// Of the agent that owns the folder `data`: by the running kernel and the folder itself, so that a copy of the
    /// folder is another one.
    ///
    /// # Errors
    /// What the system answers.
    pub fn of(data: &Path) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| path.to_owned());
        let boot = read("/proc/sys/kernel/random/boot_id")?;
        let folder = data.metadata();
        let folder = folder.with_context(|| data.display().to_string())?;
        let text = format!("{}:{}:{}", boot.trim(), folder.dev(), folder.ino());
        let holder = contract::Digest::from_bytes(Sha256::digest(text).into());
        Ok(Self {
            holder: holder.as_str().to_owned(),
            host: read("/proc/sys/kernel/hostname")?.trim().to_owned(),
        })
    }
}

/// Time since the machine was started, that in which it slept included. Without it nobody may act.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_alone_may_always_act() {
        assert!(Lease::alone().may_act());
        assert_eq!(Lease::alone().standing(), None);
    }

    #[test]
    fn the_right_to_act_ends_by_itself_and_a_new_one_is_another_turn() {
        let lease = Lease::shared();
        assert!(!lease.may_act());
        lease.hold(now() + Duration::from_secs(60));
        assert_eq!(lease.turn(), Some(1));
        lease.hold(now() + Duration::from_secs(60));
        assert_eq!(lease.turn(), Some(1), "no break, the same turn");
        lease.doubt("away");
        assert_eq!(lease.standing(), Some(Standing::Active), "it still counts");
        lease.drop_it(Standing::Standby("other".into()));
        assert!(!lease.may_act());
        lease.hold(now());
        assert!(!lease.may_act(), "what has run out is no right");
        assert!(matches!(lease.standing(), Some(Standing::Lapsed(_))));
        lease.hold(now() + Duration::from_secs(60));
        assert!(lease.turn() > Some(1));
    }

    #[test]
    fn the_same_folder_is_the_same_holder_and_a_copy_another() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |dir: &tempfile::TempDir| Identity::of(dir.path()).unwrap().holder;
        assert_eq!(of(&one), of(&one));
        assert_ne!(of(&one), of(&two));
    }
}
