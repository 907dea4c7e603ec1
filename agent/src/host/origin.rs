//! Where bots come from: a database, or a folder.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use contract::Secret;

use super::Options;
use crate::bots::Bots;
use crate::bots::both::Both;
use crate::bots::directory::{self, Directory};
use crate::bots::mongo::{Deadlines, Mongo, Place};
use crate::events;
use crate::health::Dependency;
use crate::orders::desk::Desk;
use crate::schedule::book::Book;

/// Bots, and what comes with them.
pub struct Origin {
    /// The bots.
    pub bots: Bots,
    /// Where it is written down what becomes of ticks.
    pub book: Book,
    /// Time between two looks at them.
    pub rhythm: Duration,
    /// Where what happens to them is told.
    pub source: Option<events::Source>,
    /// People's words, where they count for every agent of a database.
    pub desk: Option<Desk>,
    /// The database.
    pub database: Option<Secret>,
    /// What the agent depends on there.
    pub depends: Vec<Dependency>,
}

impl Origin {
    /// Bots of a folder.
    ///
    /// # Errors
    /// It is not there.
    pub fn folder(folder: &Path, data: &Path) -> Result<Self> {
        let root = folder.canonicalize();
        let root = root.with_context(|| format!("the folder of bots {}", folder.display()))?;
        Ok(Self {
            bots: Bots::Directory(Directory::new(root, data.to_owned())),
            book: Book::Folder(data.to_owned()),
            rhythm: directory::RHYTHM,
            source: None,
            desk: None,
            database: None,
            depends: Vec::new(),
        })
    }

    /// Bots of a database, whose events `nats` tells.
    ///
    /// # Errors
    /// Its address cannot be used, or the data folder.
    pub fn database(
        uri: Secret,
        nats: Option<events::Address>,
        stack: String,
        options: &Options,
        data: &Path,
    ) -> Result<Self> {
        let mongo = Mongo::new(&uri, Place::default(), Deadlines::default())?;
        let heard = nats.is_some().then_some(Dependency::Nats);
        let (desk, orders) = Desk::open(data)?;
        let source = events::Source {
            nats,
            orders,
            mongo: mongo.apart(),
            stack,
        };
        let bots = Both::new(mongo);
        let interval = options.check_interval.unwrap_or(options.reconcile_interval);
        Ok(Self {
            book: Book::mongo(bots.schedules()),
            bots: Bots::Mongo(Box::new(bots)),
            rhythm: interval.min(options.reconcile_interval),
            source: Some(source),
            desk: Some(desk),
            database: Some(uri),
            depends: [Dependency::Mongodb].into_iter().chain(heard).collect(),
        })
    }
}
