//! What should run: bots in folders and documents registered by `agent deploy`, or the platform's documents in MongoDB.
//!
//! A [`Listing`] is always a full one: when it cannot be made whole, it is an error and not a shorter list, because
//! what is missing from a listing is in time taken for removed. Rows are shared: what has not changed is the same row
//! as in the listing before, and a listing in which nothing has changed is the same listing.

pub mod both;
pub mod directory;
pub mod mongo;
pub mod registered;
pub mod settle;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::BotId;
use thiserror::Error;
use tokio::runtime::Runtime;

use crate::document::Bot;
use crate::launch;
use crate::plan::Wanted;
use crate::schedule::ledger::Ledger;
use crate::store::Store;

/// What is offered under one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// A bot.
    Bot(Box<Bot>),
    /// Something that cannot be used, and why.
    Unusable(String),
    /// A bot that was deleted for certain.
    Gone,
}

/// One row of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The bot's name.
    pub name: String,
    /// Another word for it: its folder's name.
    pub alias: Option<String>,
    /// Where it was found, for a person.
    pub source: String,
    /// What is there.
    pub offer: Offer,
    /// What is written in it about when it runs, where that is kept there.
    pub ledger: Option<Ledger>,
    wanted: Wanted,
}

impl Listed {
    /// A row; what the plan wants to know of it is worked out here, once.
    pub fn new(name: String, alias: Option<String>, source: String, offer: Offer) -> Self {
        let wanted = match &offer {
            Offer::Bot(bot) if bot.enabled && bot.timetable.is_some() => Wanted::Idle,
            Offer::Bot(bot) if bot.enabled => Wanted::Run(launch::digest(bot)),
            Offer::Bot(_) => Wanted::Off,
            Offer::Unusable(_) => Wanted::Unusable,
            Offer::Gone => Wanted::Gone,
        };
        Self {
            name,
            alias,
            source,
            offer,
            ledger: None,
            wanted,
        }
    }

    /// The same with what is written in it about when it runs.
    #[must_use]
    pub fn with_ledger(self, ledger: Option<Ledger>) -> Self {
        Self { ledger, ..self }
    }
}

/// Everything that is offered, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The rows.
    pub bots: BTreeMap<BotId, Arc<Listed>>,
    /// What a person should know about it.
    pub remarks: Vec<String>,
    /// Something was seen that counts once it has lasted this long.
    pub again: Option<Duration>,
}

/// A listing could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} cannot be listed: {why}")]
pub struct ListError {
    /// The folder, or the server and the collection.
    pub what: String,
    /// Why, and what to do; without a credential.
    pub why: String,
}

impl ListError {
    fn reading(path: &Path, cause: &io::Error) -> Self {
        Self {
            what: path.display().to_string(),
            why: cause.to_string(),
        }
    }
}

/// Where bots come from.
#[derive(Debug)]
pub enum Bots {
    /// Folders of this machine.
    Directory(directory::Directory),
    /// The platform's documents.
    Mongo(Box<both::Both>),
}

impl Bots {
    /// Lists all of them; bundles of folders are put into `store`. Folders are read in place, which blocks: it wants
    /// a thread that has nothing else to do.
    ///
    /// # Errors
    /// The listing would not be whole.
    pub fn list(
        &mut self,
        store: &Store,
        now: Instant,
        runtime: &Runtime,
    ) -> Result<Arc<Listing>, ListError> {
        match self {
            Bots::Directory(directory) => directory.list(store, now).map(Arc::new),
            Bots::Mongo(mongo) => runtime.block_on(mongo.list()),
        }
    }

    /// Folders in which changes may be seen early.
    pub fn places(&self) -> Vec<PathBuf> {
        match self {
            Bots::Directory(directory) => directory.places(),
            Bots::Mongo(_) => Vec::new(),
        }
    }
}

impl Listing {
    /// What the plan wants to know of it.
    pub fn wanted(&self) -> BTreeMap<BotId, Wanted> {
        let rows = self.bots.iter();
        rows.map(|(id, listed)| (id.clone(), listed.wanted.clone()))
            .collect()
    }

    /// What is offered under this id.
    pub fn get(&self, id: &BotId) -> Option<&Listed> {
        self.bots.get(id).map(AsRef::as_ref)
    }

    /// The bot with this id, if there is a usable one.
    pub fn bot(&self, id: &BotId) -> Option<&Bot> {
        match &self.get(id)?.offer {
            Offer::Bot(bot) => Some(bot),
            _ => None,
        }
    }
}
