//! Where history is kept.

use std::path::Path;

use anyhow::{Context, Result};
use contract::{BotId, Secret};

use super::entry::Entry;
use super::folder::Folder;
use super::mongo::Mongo;

/// Where it is kept.
#[derive(Debug)]
pub enum History {
    /// In files beside the bots.
    Folder(Folder),
    /// In the database of the bots.
    Mongo(Box<Mongo>),
}

impl History {
    /// Beside the bots of the data folder `data`.
    pub fn in_folder(data: &Path) -> Self {
        Self::Folder(Folder::new(data))
    }

    /// In the database at `uri`, which is not asked anything yet.
    pub fn in_mongo(uri: Secret) -> Self {
        Self::Mongo(Box::new(Mongo::new(uri)))
    }

    /// The last `count` records of a bot, oldest first.
    ///
    /// # Errors
    /// They cannot be read now.
    pub async fn list(&mut self, bot: &BotId, count: usize) -> Result<Vec<Entry>> {
        match self {
            Self::Folder(folder) => folder
                .list(bot, count)
                .with_context(|| format!("the history of {bot}")),
            Self::Mongo(mongo) => mongo.list(bot, count).await,
        }
    }

    /// Records, at most `count`, of which something is still to be told over NATS, oldest first.
    ///
    /// # Errors
    /// They cannot be read now.
    pub async fn untold(&mut self, count: usize) -> Result<Vec<Entry>> {
        match self {
            Self::Folder(_) => Ok(Vec::new()),
            Self::Mongo(mongo) => mongo.untold(count).await,
        }
    }

    /// Writes a record down; the same one again changes nothing.
    ///
    /// # Errors
    /// It cannot be written now.
    pub async fn put(&mut self, entry: &Entry) -> Result<()> {
        match self {
            Self::Folder(folder) => folder
                .put(entry)
                .with_context(|| format!("the history of {}", entry.bot)),
            Self::Mongo(mongo) => mongo.put(entry).await,
        }
    }
}
