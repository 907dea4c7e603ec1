//! When a person is to be told that a bot is in trouble: once an episode, and once more when it is over. Pure.
//!
//! ```text
//!   well ── ends N times in a row ──▶ crashing ── has run a stable minute ──▶ well
//!   well ── not saved for a while ──▶ unsaved ─── saved again ─────────────▶ well
//! ```
//!
//! A bot that is stopped ends its episode of crashing without a word.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use contract::BotId;
use contract::record::{Outcome, State, Time};
use serde::{Deserialize, Serialize};

use crate::report::{self, Records};

/// How long a run must last to be a stable one.
const STABLE: Duration = Duration::from_secs(60);

/// When trouble counts as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Ends in a row without a stable minute.
    pub crashes: u32,
    /// How long nothing could be saved.
    pub unsaved: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            crashes: 5,
            unsaved: Duration::from_secs(300),
        }
    }
}

/// What the trouble is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// It keeps ending.
    Crashing,
    /// Its state cannot be saved.
    Unsaved,
}

/// How a bot is, as far as episodes are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Ends in a row.
    pub restarts: u32,
    /// How it lives.
    pub life: Lives,
    /// What is known about saving.
    pub saving: Saving,
    /// When.
    pub at: Time,
    /// What a person should read first.
    pub message: String,
}

/// How a bot lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lives {
    /// It runs since then.
    Since(Time),
    /// It is between two runs, or nothing is known.
    Between,
    /// It was stopped.
    Stopped,
}

/// What is known about saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// Nothing.
    Unknown,
    /// All is saved.
    Works,
    /// It was not, the last time.
    Fails(Time),
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// About what.
    pub trouble: Trouble,
    /// Whether that is over.
    pub is_over: bool,
    /// Since when.
    pub since: Time,
    /// Ends in a row.
    pub restarts: u32,
    /// What a person should read first.
    pub message: String,
}

/// What is known of one bot's troubles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crashing: Option<Time>,
    /// The first end of those in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ending: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unsaved: Option<Time>,
    /// Since when saving fails, also while it is too early to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failing: Option<Time>,
}

/// The troubles of all bots. They are kept over the agent's own end, so that none is told twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Episodes(BTreeMap<BotId, Case>);

impl Episodes {
    /// Takes a look at a bot and gives what is to be told.
    pub fn see(&mut self, bot: &BotId, look: &Look, thresholds: Thresholds) -> Vec<Notice> {
        let case = self.0.entry(bot.clone()).or_default();
        let told = [
            case.see_ends(look, thresholds),
            case.see_saving(look, thresholds),
        ];
        if *case == Case::default() {
            self.0.remove(bot);
        }
        told.into_iter().flatten().collect()
    }

    /// Whether something is, or may become, worth telling of a bot.
    pub fn is_open(&self, bot: &BotId) -> bool {
        self.0.contains_key(bot)
    }

    /// What is known of a bot's troubles.
    pub fn of(&self, bot: &BotId) -> Option<&Case> {
        self.0.get(bot)
    }

    /// Drops bots that are not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&BotId) -> bool) {
        self.0.retain(|bot, _| is_there(bot));
    }
}

impl Case {
    /// Whether it was told that its state is not saved.
    pub fn is_unsaved(&self) -> bool {
        self.unsaved.is_some()
    }

    fn see_ends(&mut self, look: &Look, thresholds: Thresholds) -> Option<Notice> {
        let since = match look.life {
            Lives::Since(since) => Some(since),
            _ => None,
        };
        let is_stable = since.is_some_and(|since| age(look.at, since) >= STABLE);
        if is_stable || look.life == Lives::Stopped {
            self.ending = None;
            let since = self.crashing.take()?;
            return is_stable.then(|| notice(Trouble::Crashing, true, since, look));
        }
        if look.restarts == 0 {
            return None;
        }
        let since = *self.ending.get_or_insert(look.at);
        if self.crashing.is_some() || look.restarts < thresholds.crashes {
            return None;
        }
        self.crashing = Some(since);
        Some(notice(Trouble::Crashing, false, since, look))
    }

    fn see_saving(&mut self, look: &Look, thresholds: Thresholds) -> Option<Notice> {
        match look.saving {
            Saving::Unknown => None,
            Saving::Works => {
                self.failing = None;
                let since = self.unsaved.take()?;
                Some(notice(Trouble::Unsaved, true, since, look))
            }
            Saving::Fails(at) => {
                let since = *self.failing.get_or_insert(at);
                if self.unsaved.is_some() || age(look.at, since) < thresholds.unsaved {
                    return None;
                }
                self.unsaved = Some(since);
                Some(notice(Trouble::Unsaved, false, since, look))
            }
        }
    }
}

fn age(now: Time, since: Time) -> Duration {
    let since: SystemTime = since.system();
    now.system().duration_since(since).unwrap_or_default()
}

fn notice(trouble: Trouble, is_over: bool, since: Time, look: &Look) -> Notice {
    let message = match (is_over, trouble) {
        (false, _) => look.message.clone(),
        (true, Trouble::Crashing) => "it has run a minute without an end".to_owned(),
        (true, Trouble::Unsaved) => "all of it is in the store again".to_owned(),
    };
    Notice {
        trouble,
        is_over,
        since,
        restarts: look.restarts,
        message,
    }
}

/// How a bot is by what its programs have written; `failures` are ends of its supervisor in a row.
pub fn look(records: &Records, failures: u32, ended: Option<Lives>, at: Time) -> Look {
    let status = records.status.as_ref();
    let life = ended.unwrap_or(match status {
        Some(status) if status.state == State::Running => Lives::Since(status.since),
        _ => Lives::Between,
    });
    let saving = match &records.synced {
        None => match records.saving {
            None | Some(report::Saving::Untold) => Saving::Unknown,
            Some(report::Saving::Works) => Saving::Works,
            Some(report::Saving::Fails(since)) => Saving::Fails(since),
        },
        Some(synced) => match synced.outcome {
            Outcome::Ok => Saving::Works,
            // What is edited is a success of somebody else's.
            Outcome::Edited => Saving::Unknown,
            Outcome::Failed | Outcome::Fenced | Outcome::TooLarge => Saving::Fails(synced.at),
        },
    };
    Look {
        restarts: status.map_or(0, |status| status.restarts).max(failures),
        life,
        saving,
        at,
        message: message(records),
    }
}

fn message(records: &Records) -> String {
    let run = records.runs.last();
    let ended = run.map(|run| {
        let said = run
            .message
            .clone()
            .or_else(|| run.result.as_ref()?.message.clone());
        let how = super::cause::crash(run);
        said.map_or(how.clone(), |said| format!("{how}: {said}"))
    });
    let unsaved = records
        .synced
        .as_ref()
        .and_then(|synced| synced.error.clone());
    let parts = [
        ended.map(|text| format!("the last run ended with {text}")),
        unsaved.map(|text| format!("saving failed: {text}")),
    ];
    parts
        .into_iter()
        .flatten()
        .collect::<Vec<String>>()
        .join("; ")
}

#[cfg(test)]
#[path = "episodes/tests.rs"]
mod tests;
