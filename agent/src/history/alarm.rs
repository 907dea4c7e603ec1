//! Watches bots for trouble and tells it, once an episode, also over the agent's own end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::record::Time;
use contract::{BotId, file};

use super::episodes::{self, Episodes, Lives, Look, Saving, Thresholds};
use super::make::Life;
use super::notices::Post;
use crate::plan::Why;
use crate::report::Records;
use crate::show::Console;

/// Between two writings of what is remembered.
const SAVE: Duration = Duration::from_secs(1);
/// Between two looks at what time alone makes worth telling.
const AGAIN: Duration = Duration::from_secs(1);

/// The bots whose files should be read more often.
pub type Troubled = Arc<Mutex<BTreeSet<BotId>>>;

/// The watch.
#[derive(Debug)]
pub struct Alarm {
    post: Post,
    thresholds: Thresholds,
    memory: PathBuf,
    troubled: Troubled,
    console: Console,
    episodes: Episodes,
    /// Bots whose saving fails, that may not be looked at any more: name, since when, and what is said of it.
    failing: BTreeMap<BotId, (String, Time, String)>,
    is_dirty: bool,
    saved_at: Instant,
    looked_at: Instant,
}

impl Alarm {
    /// One that remembers in the file `memory`.
    pub fn new(
        post: Post,
        thresholds: Thresholds,
        memory: PathBuf,
        troubled: Troubled,
        console: Console,
    ) -> Self {
        let now = Instant::now();
        Self {
            episodes: file::read_json(&memory).ok().flatten().unwrap_or_default(),
            post,
            thresholds,
            memory,
            troubled,
            console,
            failing: BTreeMap::new(),
            is_dirty: false,
            saved_at: now,
            looked_at: now,
        }
    }

    /// Takes in what a bot's files say; `failures` are ends of its supervisor in a row.
    pub fn see(&mut self, life: &Life, records: &Records, failures: u32) {
        let ended = life.end.as_ref().map(|end| match end.why {
            Some(Why::Asked | Why::Disabled | Why::Deleted | Why::Absent) => Lives::Stopped,
            // It is started again, or would be: that is no end of its troubles.
            _ => Lives::Between,
        });
        let mut look = episodes::look(records, failures, ended, Time::now());
        let status = records.status.as_ref();
        if status.is_none_or(|status| status.since < life.birth.start.at) {
            // What an earlier supervisor wrote is not about this life.
            look.restarts = failures;
            look.life = ended.unwrap_or(Lives::Between);
        }
        self.take(&life.bot, &life.birth.name, &look);
    }

    /// A bot could not be started, so often in a row.
    pub fn not_started(&mut self, bot: &BotId, name: &str, why: &str, failures: u32) {
        let look = Look {
            restarts: failures,
            life: Lives::Between,
            saving: Saving::Unknown,
            at: Time::now(),
            message: format!("it cannot be started: {why}"),
        };
        self.take(bot, name, &look);
    }

    /// Drops bots that are not there any more.
    pub fn retain(&mut self, bots: &BTreeSet<BotId>) {
        self.failing.retain(|bot, _| bots.contains(bot));
        self.episodes.retain(|bot| bots.contains(bot));
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        troubled.retain(|bot| bots.contains(bot));
        self.is_dirty = true;
    }

    /// Does what time has made due.
    pub fn tick(&mut self) {
        if self.looked_at.elapsed() >= AGAIN {
            self.looked_at = Instant::now();
            self.look_again();
        }
        if self.saved_at.elapsed() >= SAVE {
            self.save();
        }
    }

    /// Whether [`Self::tick`] is due within the second.
    pub fn is_restless(&self) -> bool {
        self.is_dirty || !self.failing.is_empty()
    }

    /// Remembers what was told.
    pub fn save(&mut self) {
        if !std::mem::take(&mut self.is_dirty) {
            return;
        }
        self.saved_at = Instant::now();
        if let Err(err) = file::replace_json(&self.memory, &self.episodes) {
            let path = self.memory.display();
            self.console.warn(&format!(
                "which notices were sent is not remembered: {path}: {err}"
            ));
        }
    }

    /// Nothing of a bot's files may change, and time alone makes it worth telling that they are unsaved.
    fn look_again(&mut self) {
        for (bot, (name, since, message)) in self.failing.clone() {
            let look = Look {
                restarts: 0,
                life: Lives::Between,
                saving: Saving::Fails(since),
                at: Time::now(),
                message,
            };
            self.take(&bot, &name, &look);
        }
    }

    fn take(&mut self, bot: &BotId, name: &str, look: &Look) {
        let before = self.episodes.of(bot).cloned();
        for notice in self.episodes.see(bot, look, self.thresholds) {
            self.post.send(bot, name, notice);
        }
        let case = self.episodes.of(bot);
        match look.saving {
            // Once it is told, time changes nothing about it.
            Saving::Fails(since) if case.is_some_and(|case| !case.is_unsaved()) => {
                let failing = (name.to_owned(), since, look.message.clone());
                self.failing.insert(bot.clone(), failing);
            }
            Saving::Fails(_) | Saving::Works => drop(self.failing.remove(bot)),
            Saving::Unknown => {}
        }
        self.is_dirty |= case != before.as_ref();
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        if self.episodes.is_open(bot) {
            troubled.insert(bot.clone());
        } else {
            troubled.remove(bot);
        }
    }
}
