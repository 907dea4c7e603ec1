//! Changes into the database, each in one place at once and never backwards.
//!
//! A document keeps, under [`OURS`], the sequence of the last event applied and the creation time of the stream that
//! numbered it. An event with a sequence as old, of the same stream, changes nothing: events may come again and in any
//! order. What was deleted leaves a document without parts, a *tombstone*, which the server removes after
//! [`TOMBSTONE_LIFE`]; until then what was said before the deletion brings nothing back.
//!
//! ```text
//!            nothing ── created, updated ──▶ document ── updated ──▶ document
//!               │                             │    ▲
//!               └─── deleted ──▶ tombstone ◀──┘    └── created, updated (later ones) ── tombstone
//! ```

use std::time::Duration;

use mongodb::bson::{self, Bson, DateTime, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{CollectionOptions, IndexOptions, WriteConcern};
use mongodb::{Collection, IndexModel};
use serde_json::Value;
use thiserror::Error as ThisError;
use tokio::time::timeout;

use super::change::{Change, Half, Kind};
use crate::bots::mongo::{Failed, Mongo};
use crate::schedule::timetable::{Refusal, Timetable};
use crate::schedule::wall;

/// The name in a document under which we keep what we know.
pub const OURS: &str = "the0";
/// How long a tombstone stays: longer than the stream keeps an event.
const TOMBSTONE_LIFE: Duration = Duration::from_secs(8 * 24 * 60 * 60);
/// The server's own time to make a write safe.
const SAFE_WITHIN: Duration = Duration::from_secs(5);

/// The server's number for what a user may not do.
const FORBIDDEN: i32 = 13;

/// When an event was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the stream was made, in nanoseconds since 1970. One made anew numbers its events from the start.
    pub stream: i64,
    /// The number of the event in it.
    pub seq: i64,
}

/// Why a change is not in the database.
#[derive(Debug, ThisError)]
pub enum Unwritten {
    /// It never will be: the database does not take it.
    #[error("the database does not take it ({0})")]
    Refused(String),
    /// It never will be: a bot that runs at times does not say when.
    #[error("{0}")]
    Untimed(String),
    /// Not now.
    #[error(transparent)]
    Later(#[from] Failed),
}

/// Writes changes.
#[derive(Debug)]
pub struct Writer {
    mongo: Mongo,
}

impl Writer {
    /// Writes where `mongo` reads, over a connection of its own.
    pub fn new(mongo: Mongo) -> Self {
        Self { mongo }
    }

    /// Applies the change unless the document has been told something as late; returns once a majority has it.
    ///
    /// # Errors
    /// It is not there, or nobody knows: applying it again is harmless.
    pub async fn apply(&mut self, change: Change, stamp: Stamp) -> Result<(), Unwritten> {
        let next = match change.half {
            Half::Bots => None,
            Half::Schedules => due(&change).map_err(Unwritten::Untimed)?,
        };
        let statements = Statements::of(change, next, stamp, DateTime::now());
        let patience = self.mongo.deadlines().answer;
        let done = timeout(patience, self.run(statements)).await;
        match done.map_err(Failed::from)? {
            Ok(()) => Ok(()),
            Err(err) => Err(refusal(&err)
                .map_or_else(|| Unwritten::Later(Failed::Driver(err)), Unwritten::Refused)),
        }
    }

    async fn run(&mut self, statements: Statements) -> Result<(), Error> {
        let Statements {
            filter,
            update,
            insert,
        } = statements;
        let id = doc! { "id": filter.get("id").cloned().unwrap_or(Bson::Null) };
        let bots = self.bots().await?;
        let changed = match update {
            Update::Set(update) => bots.update_many(filter, update).await?,
            Update::Worked(stages) => bots.update_many(filter, stages).await?,
        };
        if changed.matched_count == 0 {
            bots.update_one(id, insert).upsert(true).await?;
        }
        Ok(())
    }

    async fn bots(&mut self) -> Result<Collection<Document>, Error> {
        let client = self.mongo.connect().await?;
        let place = self.mongo.place();
        let safe = WriteConcern::builder()
            .w(mongodb::options::Acknowledgment::Majority)
            .w_timeout(SAFE_WITHIN)
            .build();
        let options = CollectionOptions::builder().write_concern(safe).build();
        let database = client.database(&place.database);
        Ok(database.collection_with_options(&place.collection, options))
    }

    /// Sees to the indexes of the collection: one document an id, and an end for tombstones.
    ///
    /// # Errors
    /// Not all of them could be made: which, and why.
    pub async fn index(&mut self) -> Result<(), (&'static str, Failed)> {
        for (what, index) in indexes() {
            let patience = self.mongo.deadlines().answer;
            let made = timeout(patience, async {
                self.bots().await?.create_index(index).await.map(drop)
            });
            let made = made.await.map_err(Failed::from);
            made.and_then(|made| made.map_err(Failed::from))
                .map_err(|err| (what, err))?;
        }
        Ok(())
    }

    /// `failed` for a person.
    pub fn why(&self, failed: &Failed) -> String {
        if let Failed::Driver(err) = failed
            && code(err) == Some(FORBIDDEN)
        {
            return "its user may not write there: grant it the role `readWrite` on the database"
                .into();
        }
        self.mongo.why(failed)
    }
}

fn indexes() -> [(&'static str, IndexModel); 2] {
    let unique = IndexOptions::builder().unique(true).build();
    let ends = IndexOptions::builder().expire_after(TOMBSTONE_LIFE).build();
    let index = |keys, options| IndexModel::builder().keys(keys).options(options).build();
    [
        (
            "the index that ends tombstones",
            index(doc! { format!("{OURS}.deleted"): 1 }, ends),
        ),
        (
            "the index that keeps ids unique",
            index(doc! { "id": 1 }, unique),
        ),
    ]
}

/// One change as the server is told it: documents that match `filter` get `update`; when none does, one with the id is
/// made by `insert`, unless there is one, which then is not to be changed.
#[derive(Debug, PartialEq)]
struct Statements {
    filter: Document,
    update: Update,
    insert: Document,
}

/// How a document is changed.
#[derive(Debug, PartialEq)]
enum Update {
    /// To this.
    Set(Document),
    /// To what the server works out from what it was.
    Worked(Vec<Document>),
}

/// When a schedule is due next.
#[derive(Debug, Clone, PartialEq)]
struct Next {
    at: i64,
    schedule: Bson,
    timezone: Bson,
}

/// When the schedule of the change is due next; `None`: it brings no parameters.
///
/// # Errors
/// Never, or it does not say.
fn due(change: &Change) -> Result<Option<Next>, String> {
    let (Kind::Created(content) | Kind::Updated(content)) = &change.kind else {
        return Ok(None);
    };
    let config = match (&content.config, &change.kind) {
        (Some(Bson::Document(config)), _) => config.clone(),
        (None, Kind::Updated(_)) => return Ok(None),
        _ => Document::new(),
    };
    let said = ["schedule", "timezone", "schedule_policy"];
    let said = said
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), json(config.get(*name)?)?)));
    let told = |(field, why): Refusal| format!("{field}: {why}");
    let timetable = Timetable::read(&said.collect()).map_err(told)?;
    let next = timetable.cron().map_err(told)?.next(wall());
    let at = next.ok_or("config.schedule: never comes")?;
    let part = |name| config.get(name).cloned().unwrap_or(Bson::Null);
    Ok(Some(Next {
        at,
        schedule: part("schedule"),
        timezone: part("timezone"),
    }))
}

/// The JSON that it was.
fn json(value: &Bson) -> Option<Value> {
    bson::deserialize_from_bson(value.clone()).ok()
}

impl Statements {
    fn of(change: Change, next: Option<Next>, stamp: Stamp, now: DateTime) -> Self {
        let Stamp { stream, seq } = stamp;
        let [last, of, deleted] = ["seq", "stream", "deleted"].map(|name| format!("{OURS}.{name}"));
        let other = doc! { of: { "$ne": stream } };
        let older = doc! { last: { "$lt": seq } };
        let mut filter = doc! { "id": change.id.as_str(), "$or": [other, older] };
        let mut ours = doc! { "seq": seq, "stream": stream };
        let content = match change.kind {
            Kind::Deleted => {
                ours.insert("deleted", now);
                let mut parts = doc! { "config": "", "custom": "", "enabled": "" };
                if change.half == Half::Schedules {
                    parts.extend(doc! { "next_execution_time": "", "tick": "" });
                }
                let set = doc! { OURS: ours };
                return Self {
                    filter,
                    update: Update::Set(doc! { "$set": set.clone(), "$unset": parts }),
                    insert: doc! { "$setOnInsert": set },
                };
            }
            Kind::Created(content) => {
                filter.insert(deleted, doc! { "$exists": true });
                content
            }
            Kind::Updated(content) => content,
        };
        let says_no_word = content.config.is_some() && content.enabled.is_none();
        let mut set = Document::from(content);
        set.insert(OURS, ours);
        let update = if let Some(next) = &next {
            Update::Worked(worked(&set, next, says_no_word))
        } else {
            let mut update = doc! { "$set": set.clone() };
            if says_no_word {
                update.insert("$unset", doc! { "enabled": "" });
            }
            Update::Set(update)
        };
        if let Some(next) = next {
            set.insert("next_execution_time", next.at);
        }
        set.insert("segment_id", 0);
        let insert = doc! { "$setOnInsert": set };
        Self {
            filter,
            update,
            insert,
        }
    }
}

/// The change of a schedule: when it is due next stays as it is unless the times are others.
fn worked(set: &Document, next: &Next, says_no_word: bool) -> Vec<Document> {
    let literal = |value: &Bson| doc! { "$literal": value.clone() };
    let mut parts: Document = set
        .iter()
        .map(|(name, value)| (name.clone(), Bson::Document(literal(value))))
        .collect();
    let was = |field: &str| doc! { "$ifNull": [format!("$config.{field}"), Bson::Null] };
    let same = |field, value: &Bson| doc! { "$eq": [was(field), literal(value)] };
    let is_same = doc! { "$and": [
        same("schedule", &next.schedule),
        same("timezone", &next.timezone),
        doc! { "$isNumber": "$next_execution_time" },
    ] };
    let time = doc! { "$cond": [is_same, "$next_execution_time", next.at] };
    parts.insert("next_execution_time", time);
    let mut stages = vec![doc! { "$set": parts }];
    if says_no_word {
        stages.push(doc! { "$unset": "enabled" });
    }
    stages
}

/// Why what has failed so will fail again, however often it is tried.
pub fn never(failed: &Failed) -> Option<String> {
    match failed {
        Failed::Driver(err) => refusal(err),
        _ => None,
    }
}

/// Why the server will not take this, however often it is asked.
fn refusal(error: &Error) -> Option<String> {
    /// Values, names and sizes that a document may not have, and documents that the collection's own rule refuses.
    const CODES: [i32; 14] = [2, 9, 14, 15, 16, 22, 40, 52, 55, 56, 57, 121, 10334, 17_419];
    if let ErrorKind::Bson(_) | ErrorKind::BsonSerialization(_) = error.kind.as_ref() {
        return Some("it is no document there can be".to_owned());
    }
    // The server's own words may quote what it was given.
    let code = code(error).filter(|code| CODES.contains(code))?;
    Some(format!("error {code}"))
}

/// The server's number for what is wrong.
fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Command(error) => Some(error.code),
        _ => None,
    }
}

#[cfg(test)]
#[path = "write/tests.rs"]
mod tests;
