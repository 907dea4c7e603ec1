//! Where the loop finds people's words, and leaves them: kept in the data folder, handed on, and learnt from elsewhere.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use contract::{BotId, file};
use tokio::sync::{Notify, watch};

use super::Orders;
use super::exchange::{Link, Seen};
use crate::place;
use crate::plan::Switch;

/// The loop's side.
#[derive(Debug)]
pub struct Desk {
    path: PathBuf,
    orders: Orders,
    /// As they are in the file.
    kept: Option<Orders>,
    ours: watch::Sender<Orders>,
    theirs: watch::Receiver<Option<Seen>>,
    look: Arc<Notify>,
}

impl Desk {
    /// With what is known in the data folder `data`, and the end at which the database is asked.
    ///
    /// # Errors
    /// A file is there and cannot be read: that is not taken for "nothing was said".
    pub fn open(data: &Path) -> Result<(Self, Link)> {
        let orders = kept(data)?;
        let (ours, our_words) = watch::channel(orders.clone());
        let (their_words, theirs) = watch::channel(None);
        let look = Arc::new(Notify::new());
        let link = Link {
            ours: our_words,
            theirs: their_words,
            look: Arc::clone(&look),
        };
        let desk = Self {
            path: path(data),
            orders,
            kept: None,
            ours,
            theirs,
            look,
        };
        Ok((desk, link))
    }

    /// The bots that are stopped.
    pub fn stopped(&self) -> BTreeSet<BotId> {
        self.orders.stopped()
    }

    /// Whether any bot may run.
    pub fn switch(&self) -> Switch {
        self.orders.switch()
    }

    /// A person has said that these bots are stopped, and whether any may run.
    ///
    /// # Errors
    /// It counts, but is not remembered here.
    pub fn say(&mut self, stopped: &BTreeSet<BotId>, switch: Switch) -> io::Result<()> {
        self.orders.say(stopped, switch, millis(SystemTime::now()));
        self.keep()
    }

    /// Takes in what was said elsewhere; whether that was something new.
    ///
    /// # Errors
    /// It counts, but is not remembered here.
    pub fn take(&mut self) -> io::Result<bool> {
        if !self.theirs.has_changed().unwrap_or(false) {
            return Ok(false);
        }
        let seen = self.theirs.borrow_and_update().clone();
        let Some(seen) = seen else { return Ok(false) };
        let both = self.orders.clone().merged(&seen.orders);
        if both == self.orders {
            return Ok(false);
        }
        self.orders = both;
        self.keep().map(|()| true)
    }

    /// What could not be kept the last time is tried again, and nothing is done where nothing is new.
    fn keep(&mut self) -> io::Result<()> {
        if self.kept.as_ref() == Some(&self.orders) {
            return Ok(());
        }
        self.ours.send_replace(self.orders.clone());
        self.kept = None;
        file::replace_json(&self.path, &self.orders)?;
        self.kept = Some(self.orders.clone());
        Ok(())
    }

    /// The database should be asked now.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Whether what it says was asked after `since`, and is taken in.
    pub fn is_known_since(&self, since: Instant) -> bool {
        let seen = self.theirs.borrow();
        let is_new = self.theirs.has_changed().unwrap_or(false);
        !is_new && seen.as_ref().is_some_and(|seen| seen.asked >= since)
    }
}

/// What is known in the data folder `data`.
///
/// # Errors
/// A file is there and cannot be read: that is not taken for "nothing was said".
pub fn kept(data: &Path) -> Result<Orders> {
    let path = path(data);
    let found = file::read_json(&path).with_context(|| path.display().to_string())?;
    let mut orders: Orders = found.unwrap_or_default();
    // An agent before this one, or a backup, may have left files only.
    let times = (written(data, "stopped.json"), written(data, "switch.json"));
    orders.adopt(&place::stopped(data)?, place::switch(data)?, times);
    Ok(orders)
}

/// Keeps these words there, for the agent that begins on it.
///
/// # Errors
/// What the file system answers.
pub fn keep(data: &Path, orders: &Orders) -> io::Result<()> {
    place::remember_stopped(data, &orders.stopped())?;
    place::remember_switch(data, orders.switch())?;
    file::replace_json(&path(data), orders)
}

fn path(data: &Path) -> PathBuf {
    data.join("orders.json")
}

/// When a file of the folder was written.
fn written(data: &Path, name: &str) -> u64 {
    let about = data.join(name).metadata();
    about.and_then(|about| about.modified()).map_or(0, millis)
}

/// Milliseconds since the epoch.
pub fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bots(names: &[&str]) -> BTreeSet<BotId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn what_was_said_is_known_after_a_restart_and_handed_on() {
        let data = tempfile::tempdir().unwrap();
        let (mut desk, _link) = Desk::open(data.path()).unwrap();
        desk.say(&bots(&["a"]), Switch::Off).unwrap();
        let (desk, link) = Desk::open(data.path()).unwrap();
        assert_eq!((desk.stopped(), desk.switch()), (bots(&["a"]), Switch::Off));
        assert_eq!(link.ours.borrow().stopped(), bots(&["a"]));
    }

    #[test]
    fn what_an_older_agent_has_left_counts_and_a_spoilt_memory_is_not_nothing() {
        let data = tempfile::tempdir().unwrap();
        place::remember_stopped(data.path(), &bots(&["a"])).unwrap();
        place::remember_switch(data.path(), Switch::Off).unwrap();
        let (desk, _) = Desk::open(data.path()).unwrap();
        assert_eq!((desk.stopped(), desk.switch()), (bots(&["a"]), Switch::Off));
        std::fs::write(data.path().join("orders.json"), "{\"swi").unwrap();
        assert!(Desk::open(data.path()).is_err());
    }

    #[test]
    fn what_was_said_elsewhere_is_taken_in_once_and_known_since_it_was_asked() {
        let data = tempfile::tempdir().unwrap();
        let (mut desk, link) = Desk::open(data.path()).unwrap();
        let before = Instant::now();
        assert!(!desk.take().unwrap() && !desk.is_known_since(before));
        let mut orders = Orders::default();
        orders.say(&bots(&["b"]), Switch::Off, 7);
        let asked = Instant::now();
        link.theirs.send_replace(Some(Seen { orders, asked }));
        assert!(!desk.is_known_since(before), "it is not taken in yet");
        assert!(desk.take().unwrap() && !desk.take().unwrap());
        assert!(desk.is_known_since(before));
        assert!(!desk.is_known_since(asked + std::time::Duration::from_secs(1)));
        assert_eq!((desk.stopped(), desk.switch()), (bots(&["b"]), Switch::Off));
        desk.say(&bots(&[]), Switch::On).unwrap();
        assert_eq!(Desk::open(data.path()).unwrap().0.switch(), Switch::On);
    }
}
