//! The platform's documents in MongoDB: `bot_runner.bots`, read in full each time.
//!
//! ```text
//!   find, projected, by _id ──▶ raw batches ──▶ each document: seen before, byte for byte? ──▶ its row again
//!                                                                  └─▶ JSON ▶ Bot ▶ row
//! ```
//!
//! It ensures: a listing is whole or an error, and an error comes in bounded time, whatever the server does. A document
//! that cannot be used is told by its id (by its `_id` where it has none) and spoils only itself. An empty collection,
//! or none, is an empty listing. The connection is made at the first listing and the address kept to itself: no error
//! and no log has its password.
//!
//! Listings are cheap: a document costs a hash of its bytes unless it has changed, and when none has, the listing is
//! the one of the last time.

pub mod changes;
pub mod error;
pub mod json;
pub mod open;
mod rows;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use contract::Secret;
use futures_util::StreamExt;
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ClientOptions, ConnectionString, HostInfo};
use mongodb::raw_batch_cursor::RawBatchCursor;
use tokio::time::timeout;

use super::{ListError, Listing};
pub use error::{BadUri, Failed};
use rows::{Found, Kind, Rows};

/// Documents asked for at once.
const BATCH: u32 = 1000;
/// The server's own time for all of a listing.
const LONGEST_QUERY: Duration = Duration::from_secs(30);

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For a server that may answer.
    pub server: Duration,
    /// For each answer, the first with all it takes to get there.
    pub answer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            server: Duration::from_secs(5),
            answer: Duration::from_secs(8),
        }
    }
}

/// Where the documents are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
}

impl Place {
    /// Where bots are that run at times.
    pub fn schedules() -> Self {
        Self {
            database: "bot_scheduler".into(),
            collection: "bot_schedules".into(),
        }
    }

    fn kind(&self) -> Kind {
        if *self == Self::schedules() {
            Kind::Schedules
        } else {
            Kind::Bots
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self {
            database: "bot_runner".into(),
            collection: "bots".into(),
        }
    }
}

/// Bots as documents of a collection.
pub struct Mongo {
    address: Box<ConnectionString>,
    hidden: Vec<String>,
    what: String,
    place: Place,
    deadlines: Deadlines,
    client: Option<Client>,
    rows: Rows,
}

impl fmt::Debug for Mongo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mongo").field(&self.what).finish()
    }
}

impl Mongo {
    /// Will read `place` at the address `uri`. Nothing is connected yet.
    ///
    /// # Errors
    /// The address is not one.
    pub fn new(uri: &Secret, place: Place, deadlines: Deadlines) -> Result<Self, BadUri> {
        let address = ConnectionString::parse(uri.reveal()).map_err(|err| BadUri::of(uri, &err))?;
        let (hidden, address) = (error::hidden(uri), Box::new(address));
        Ok(Self::of(address, hidden, place, deadlines))
    }

    fn of(
        address: Box<ConnectionString>,
        hidden: Vec<String>,
        place: Place,
        deadlines: Deadlines,
    ) -> Self {
        let Place {
            database,
            collection,
        } = &place;
        let (hosts, table) = (hosts(&address), format!("{database}.{collection}"));
        Self {
            hidden,
            what: format!("mongodb {hosts}, {table}"),
            rows: Rows::new(table, place.kind()),
            client: None,
            address,
            place,
            deadlines,
        }
    }

    /// Another collection, over a connection of its own.
    pub fn beside(&self, place: Place) -> Self {
        let (address, hidden) = (self.address.clone(), self.hidden.clone());
        Self::of(address, hidden, place, self.deadlines)
    }

    /// Uses the connection of another one.
    pub async fn share(&mut self, other: &mut Mongo) -> Result<(), mongodb::error::Error> {
        self.client = Some(other.connect().await?);
        Ok(())
    }

    /// Lists all bots. What is the same as in the last listing is shared with it.
    ///
    /// # Errors
    /// The collection cannot be read to its end.
    pub async fn list(&mut self) -> Result<Arc<Listing>, ListError> {
        self.try_list().await.map_err(|failed| self.error(&failed))
    }

    /// The same, with what is wrong as it was told.
    ///
    /// # Errors
    /// See [`Self::list`].
    pub async fn try_list(&mut self) -> Result<Arc<Listing>, Failed> {
        let found = self.read().await?;
        Ok(self.rows.turn(found))
    }

    /// That it cannot be listed, for a person.
    pub fn error(&self, failed: &Failed) -> ListError {
        ListError {
            what: self.what.clone(),
            why: failed.why(&self.hidden),
        }
    }

    async fn read(&mut self) -> Result<Vec<Found>, Failed> {
        let patience = self.deadlines.answer;
        let mut batches = timeout(patience, self.find()).await??;
        let mut found = Vec::new();
        while let Some(batch) = timeout(patience, batches.next()).await? {
            for document in batch?.doc_slices()? {
                let document = document?.as_document().ok_or(Failed::Garbled)?;
                found.push(self.rows.look_up(document));
            }
        }
        Ok(found)
    }

    /// One cursor in the order of `_id`, which no document changes: each is met once, whatever is written meanwhile.
    async fn find(&mut self) -> Result<RawBatchCursor, mongodb::error::Error> {
        let client = self.connect().await?;
        let database = client.database(&self.place.database);
        let collection = database.collection::<Document>(&self.place.collection);
        let find = collection.find(doc! {}).sort(doc! { "_id": 1 });
        let find = find.projection(projection()).batch_size(BATCH);
        find.max_time(LONGEST_QUERY).batch().await
    }

    /// The same place, over a connection of its own.
    pub fn apart(&self) -> Self {
        self.beside(self.place.clone())
    }

    /// Where the documents are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How long is waited for what.
    pub fn deadlines(&self) -> Deadlines {
        self.deadlines
    }

    /// `failed` for a person, without the password.
    pub fn why(&self, failed: &Failed) -> String {
        failed.why(&self.hidden)
    }

    /// The client, made at the first call; it lives in the runtime of that call.
    ///
    /// # Errors
    /// The address names hosts that cannot be looked up.
    pub async fn connect(&mut self) -> Result<Client, mongodb::error::Error> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = connect(&self.address, self.deadlines.server).await?;
        Ok(self.client.insert(client).clone())
    }
}

/// A client that waits so long for a server and no longer. It lives in the runtime in which it is made.
///
/// # Errors
/// The address cannot be used, or its name is not known.
pub async fn connect(
    address: &ConnectionString,
    patience: Duration,
) -> Result<Client, mongodb::error::Error> {
    let mut options = ClientOptions::parse(address.clone()).await?;
    options
        .app_name
        .get_or_insert_with(|| "the0-agent".to_owned());
    // The address may ask for less, but not for more.
    let shorter = |asked: Option<Duration>| Some(asked.map_or(patience, |a| a.min(patience)));
    options.server_selection_timeout = shorter(options.server_selection_timeout);
    options.connect_timeout = shorter(options.connect_timeout);
    options.max_pool_size = Some(2);
    Client::with_options(options)
}

/// What of a document is asked for: a schema or a readme can be a hundred times as much.
fn projection() -> Document {
    let custom = ["version", "filePath", "gcsPath", "codeDigest"];
    let definition = ["name", "version", "runtime", "type", "entrypoints"];
    let custom = custom.map(|field| format!("custom.{field}"));
    let definition = definition.map(|field| format!("custom.config.{field}"));
    let root = ["id", "enabled", "config", "the0.deleted"];
    let times = ["next_execution_time", "tick", "the0.seq"];
    let root = root.into_iter().chain(times).map(str::to_owned);
    let fields = root.chain(custom).chain(definition);
    fields.map(|field| (field, Bson::Int32(1))).collect()
}

fn hosts(address: &ConnectionString) -> String {
    match &address.host_info {
        HostInfo::HostIdentifiers(hosts) => {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            hosts.join(",")
        }
        HostInfo::DnsRecord(name) => name.clone(),
        _ => "(no host)".to_owned(),
    }
}

#[cfg(test)]
#[path = "mongo/tests.rs"]
mod tests;
