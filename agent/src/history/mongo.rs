//! History in MongoDB: the collection `runs` beside the bots, one document a run.
//!
//! `_id` is the record's key, so writing one twice changes nothing. The server itself drops what ended 90 days ago; of
//! each bot the latest [`KEPT`] stay. Nothing of the database's address is in an error.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use contract::record::Time;
use contract::{BotId, Secret};
use futures_util::TryStreamExt;
use mongodb::bson::{self, Bson, DateTime, Document, doc};
use mongodb::options::{ClientOptions, IndexOptions};
use mongodb::{Client, Collection, IndexModel};
use tokio::time::timeout;

use super::entry::{Entry, millis};
use super::{AGE, KEPT};
use crate::bots::mongo::error::{Failed, hidden};

/// The database of realtime bots, and the collection in it.
const PLACE: (&str, &str) = ("bot_runner", "runs");
/// How long is waited for a server that may answer.
const SERVER: Duration = Duration::from_secs(5);
/// How long is waited for an answer.
const ANSWER: Duration = Duration::from_secs(8);
/// Runs of one bot that are written between two looks at how many there are.
const TRIM_EACH: usize = 50;

/// The collection.
pub struct Mongo {
    uri: Secret,
    hidden: Vec<String>,
    runs: Option<Collection<Document>>,
    /// Runs written of each bot since its were counted.
    written: HashMap<BotId, usize>,
}

impl fmt::Debug for Mongo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mongo")
    }
}

impl Mongo {
    /// The one at `uri`. Nothing is connected yet.
    pub fn new(uri: Secret) -> Self {
        Self {
            hidden: hidden(&uri),
            uri,
            runs: None,
            written: HashMap::new(),
        }
    }

    /// The last `count` records of a bot, oldest first.
    ///
    /// # Errors
    /// The database does not answer in time.
    pub async fn list(&mut self, bot: &BotId, count: usize) -> Result<Vec<Entry>> {
        let latest = doc! {"started_at": -1, "run": -1};
        let mut entries = self.find(doc! {"bot": bot.as_str()}, latest, count).await?;
        entries.reverse();
        Ok(entries)
    }

    /// Records, at most `count`, of which something is still to be told over NATS, oldest first.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn untold(&mut self, count: usize) -> Result<Vec<Entry>> {
        let some = doc! {"untold": {"$exists": true}};
        self.find(some, doc! {"started_at": 1, "run": 1}, count)
            .await
    }

    async fn find(&mut self, which: Document, order: Document, count: usize) -> Result<Vec<Entry>> {
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let runs = self.runs().await?;
        let find = async {
            let find = runs.find(which).sort(order).limit(limit);
            find.await?.try_collect().await
        };
        let found: Vec<Document> = self.told(timeout(ANSWER, find).await)?;
        Ok(found.into_iter().filter_map(entry).collect())
    }

    /// Writes a record down.
    ///
    /// # Errors
    /// The database does not answer in time, or does not take it.
    pub async fn put(&mut self, entry: &Entry) -> Result<()> {
        let document = document(entry).context("a run as a document")?;
        let runs = self.runs().await?;
        let replace = runs
            .replace_one(doc! {"_id": entry.key()}, document)
            .upsert(true);
        self.told(timeout(ANSWER, replace.into_future()).await)?;
        let written = self.written.entry(entry.bot.clone()).or_insert(TRIM_EACH);
        *written += 1;
        if *written > TRIM_EACH {
            *written = 0;
            self.trim(&entry.bot).await?;
        }
        Ok(())
    }

    /// Removes what of a bot is more than is kept.
    async fn trim(&mut self, bot: &BotId) -> Result<()> {
        let runs = self.runs().await?;
        let trim = async {
            let first = runs
                .find_one(doc! {"bot": bot.as_str()})
                .sort(doc! {"started_at": -1, "run": -1})
                .skip(KEPT as u64)
                .projection(doc! {"started_at": 1});
            let Some(first) = first.await? else {
                return Ok(());
            };
            let Ok(at) = first.get_datetime("started_at") else {
                return Ok(());
            };
            let old = doc! {"bot": bot.as_str(), "started_at": {"$lte": at}};
            runs.delete_many(old).await.map(drop)
        };
        self.told(timeout(ANSWER, trim).await)
    }

    /// The collection, with its indexes.
    async fn runs(&mut self) -> Result<Collection<Document>> {
        if let Some(runs) = &self.runs {
            return Ok(runs.clone());
        }
        let open = async {
            let mut options = ClientOptions::parse(self.uri.reveal()).await?;
            let shorter = |asked: Option<Duration>| Some(asked.map_or(SERVER, |a| a.min(SERVER)));
            options
                .app_name
                .get_or_insert_with(|| "the0-agent".to_owned());
            options.server_selection_timeout = shorter(options.server_selection_timeout);
            options.connect_timeout = shorter(options.connect_timeout);
            options.max_pool_size = Some(1);
            let database = Client::with_options(options)?.database(PLACE.0);
            let runs: Collection<Document> = database.collection(PLACE.1);
            runs.create_indexes(indexes()).await?;
            Ok(runs)
        };
        let runs = self.told(timeout(ANSWER, open).await)?;
        Ok(self.runs.insert(runs).clone())
    }

    fn told<T>(
        &self,
        done: Result<mongodb::error::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T> {
        let done = done
            .map_err(Failed::from)
            .and_then(|done| done.map_err(Failed::from));
        done.map_err(|failed| {
            let why = failed.why(&self.hidden);
            anyhow!("history in mongodb, {}.{}: {why}", PLACE.0, PLACE.1)
        })
    }
}

fn indexes() -> [IndexModel; 3] {
    let unique = IndexOptions::builder().unique(true).build();
    let sparse = IndexOptions::builder().sparse(true).build();
    let ageing = IndexOptions::builder().expire_after(AGE).build();
    [
        IndexModel::builder()
            .keys(doc! {"bot": 1, "started_at": -1, "run": -1})
            .options(unique)
            .build(),
        IndexModel::builder()
            .keys(doc! {"ended_at": 1})
            .options(ageing)
            .build(),
        IndexModel::builder()
            .keys(doc! {"untold": 1})
            .options(sparse)
            .build(),
    ]
}

/// Times as dates; data of a bot, whose names may be any, as text.
fn document(entry: &Entry) -> Result<Document, bson::error::Error> {
    let mut light = entry.clone();
    let data = light.result.as_mut().and_then(|result| result.data.take());
    let mut document = bson::serialize_to_document(&light)?;
    document.insert("_id", entry.key());
    document.insert("started_at", date(entry.started_at));
    if let Some(at) = entry.ended_at {
        document.insert("ended_at", date(at));
    }
    if let (Some(data), Ok(result)) = (data, document.get_document_mut("result")) {
        result.insert("data", data.to_string());
    }
    Ok(document)
}

/// `None` for one of a later version that is not understood.
fn entry(mut document: Document) -> Option<Entry> {
    for field in ["started_at", "ended_at"] {
        if let Ok(at) = document.get_datetime(field) {
            let text = String::from(Time::from(at.to_system_time()));
            document.insert(field, text);
        }
    }
    let data = document
        .get_document_mut("result")
        .ok()
        .and_then(|r| r.remove("data"));
    let mut entry: Entry = bson::deserialize_from_document(document).ok()?;
    if let (Some(Bson::String(text)), Some(result)) = (data, &mut entry.result) {
        result.data = serde_json::from_str(&text).ok();
    }
    Some(entry)
}

fn date(time: Time) -> DateTime {
    DateTime::from_millis(i64::try_from(millis(time)).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[path = "mongo/tests.rs"]
mod tests;
