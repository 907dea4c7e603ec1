//! What a backup is: a plain tar.gz of ordinary files, which people and other programs can read.
//!
//! ```text
//! the0-backup.json                        the format's number, first, so that a reader knows at once
//! code/<key>                              bundles, as the store has them
//! states/<bot>/state.tar.gz               current states, as the store has them
//! states/<bot>/.the0/history/..           older ones, if they were asked for
//! logs/<key>                              days' logs, if they were asked for
//! settings/stopped.json, switch.json      what a person has stopped
//! registered/<bot>.json                   documents of `agent deploy`
//! documents/<database>.<collection>.bson  documents of MongoDB, as `mongodump` writes them (`bsondump` reads them)
//! manifest.json                           last: every entry with its size and SHA-256; without it nothing counts
//! ```

use std::collections::BTreeMap;

use contract::record::Time;
use contract::{BotId, Digest, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::store::objects::Bucket;

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// The first entry.
pub const HEADER: &str = "the0-backup.json";
/// The last entry.
pub const MANIFEST: &str = "manifest.json";

/// The first entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Header {
    /// The format's number.
    pub format: u32,
    /// The version of the agent that wrote it.
    pub agent: String,
    /// When.
    pub made: Time,
    /// Of which stack.
    pub stack: String,
}

/// The last entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The same as in the first entry.
    #[serde(flatten)]
    pub header: Header,
    /// How many there are of what.
    pub counts: BTreeMap<String, u64>,
    /// What was to be in it and is nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// All entries but the first and this one, in their order.
    pub entries: Vec<Entry>,
}

/// One file of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// All documents of a collection.
    Documents {
        /// As `database.collection`.
        collection: String,
        /// How many.
        count: u64,
    },
    /// The document of a bot that was deployed.
    Registered {
        /// Whose.
        bot: BotId,
    },
    /// Bots that a person has stopped.
    Stopped,
    /// Whether any bot may run.
    Switch,
    /// The current state of a bot.
    State {
        /// Whose.
        bot: BotId,
        /// The version that it was in its store.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        etag: Option<String>,
        /// What was noted about it.
        metadata: BTreeMap<String, String>,
    },
    /// Any other object.
    Object {
        /// Where it was.
        bucket: Bucket,
        /// Its key.
        key: ObjectKey,
        /// What was noted about it.
        metadata: BTreeMap<String, String>,
    },
}

impl What {
    /// What it is counted as.
    pub fn counted(&self) -> Option<(&'static str, u64)> {
        Some(match self {
            Self::Documents { count, .. } => ("documents", *count),
            Self::Registered { .. } => ("documents", 1),
            Self::State { .. } => ("states", 1),
            Self::Object { bucket, .. } => match bucket {
                Bucket::Code => ("bundles", 1),
                Bucket::State => ("older states", 1),
                Bucket::Logs => ("days of logs", 1),
            },
            Self::Stopped | Self::Switch => return None,
        })
    }
}

impl Manifest {
    /// Bots, documents, states and so on, in words.
    pub fn told(&self) -> String {
        let counts = self.counts.iter();
        let told: Vec<String> = counts.map(|(what, n)| format!("{n} {what}")).collect();
        if told.is_empty() {
            "nothing".to_owned()
        } else {
            told.join(", ")
        }
    }

    /// Bots that have a state in it.
    pub fn bots(&self) -> impl Iterator<Item = &BotId> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            What::State { bot, .. } | What::Registered { bot } => Some(bot),
            _ => None,
        })
    }
}
