//! What should run: bots in folders, and documents registered by `agent deploy`.
//!
//! A [`Listing`] is always a full one: when it cannot be made whole, it is an error and not a shorter list, because
//! what is missing from a listing is in time taken for removed.

pub mod directory;
pub mod registered;
pub mod settle;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use contract::BotId;
use thiserror::Error;

use crate::document::Bot;
use crate::launch;
use crate::plan::Wanted;
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
}

/// Everything that is offered, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The rows.
    pub bots: BTreeMap<BotId, Listed>,
    /// What a person should know about it.
    pub remarks: Vec<String>,
    /// Something was seen that counts once it has lasted this long.
    pub again: Option<Duration>,
}

/// A listing could not be made.
#[derive(Debug, Error)]
#[error("{path} cannot be listed: {cause}")]
pub struct ListError {
    /// The folder.
    pub path: PathBuf,
    /// Why.
    pub cause: std::io::Error,
}

/// Where bots come from.
#[derive(Debug)]
pub enum Bots {
    /// Folders of this machine.
    Directory(directory::Directory),
}

impl Bots {
    /// Lists all of them; bundles of folders are put into `store`.
    ///
    /// # Errors
    /// The listing would not be whole.
    pub fn list(&mut self, store: &Store, now: Instant) -> Result<Listing, ListError> {
        match self {
            Bots::Directory(directory) => directory.list(store, now),
        }
    }

    /// Folders in which changes may be seen early.
    pub fn places(&self) -> Vec<PathBuf> {
        match self {
            Bots::Directory(directory) => directory.places(),
        }
    }
}

impl Listing {
    /// What the plan wants to know of it.
    pub fn wanted(&self) -> BTreeMap<BotId, Wanted> {
        let wanted = |listed: &Listed| match &listed.offer {
            Offer::Bot(bot) if bot.enabled => Wanted::Run(launch::digest(bot)),
            Offer::Bot(_) => Wanted::Off,
            Offer::Unusable(_) => Wanted::Unusable,
            Offer::Gone => Wanted::Gone,
        };
        let rows = self.bots.iter();
        rows.map(|(id, listed)| (id.clone(), wanted(listed)))
            .collect()
    }

    /// The bot with this id, if there is a usable one.
    pub fn bot(&self, id: &BotId) -> Option<&Bot> {
        match &self.bots.get(id)?.offer {
            Offer::Bot(bot) => Some(bot),
            _ => None,
        }
    }
}
