//! Jobs in the database: `backtest_runner.backtests`. Every change is on condition of what it is based on, and is there
//! when a majority has it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use contract::BotId;
use futures_util::TryStreamExt;
use mongodb::bson::{self, DateTime, Document, doc};
use mongodb::error::Error;
use mongodb::options::{Acknowledgment, CollectionOptions, IndexOptions, WriteConcern};
use mongodb::{Collection, IndexModel};
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::decide::{Halt, Status};
use super::document::{Job, closing};
use crate::bots::mongo::{Failed, Mongo, json};

/// Where jobs are.
const PLACE: (&str, &str) = ("backtest_runner", "backtests");
/// The server's own time to make a write safe.
const SAFE_WITHIN: Duration = Duration::from_secs(5);
/// Jobs that wait to be told of, at most, in one look.
const UNTOLD: i64 = 100;

/// The collection.
#[derive(Debug)]
pub struct Table {
    mongo: Mongo,
    /// Where it is, once its indexes are there; all that share it have one connection.
    jobs: Arc<OnceCell<Collection<Document>>>,
}

impl Table {
    /// In the database that `mongo` is in.
    pub fn new(mongo: Mongo) -> Self {
        let jobs = Arc::default();
        Self { mongo, jobs }
    }

    /// The same, over the same connection, for somebody else in this runtime.
    pub fn share(&self) -> Self {
        Self {
            mongo: self.mongo.apart(),
            jobs: Arc::clone(&self.jobs),
        }
    }

    /// Keeps a job that was asked for; a known one stays as it is.
    ///
    /// # Errors
    /// It is not there, or nobody knows.
    pub async fn add(&mut self, id: &BotId, document: Document) -> Result<(), Failed> {
        let jobs = self.jobs().await?;
        let add = jobs
            .update_one(doc! {"id": id.as_str()}, doc! {"$setOnInsert": document})
            .upsert(true);
        self.within(add.into_future()).await.map(drop)
    }

    /// What there is to do: the first `room` jobs that wait, those that run, and those that were not told of; each once
    /// and each kind in the order they came.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn open(&mut self, room: usize) -> Result<Vec<Job>, Failed> {
        let room = i64::try_from(room.max(1)).unwrap_or(i64::MAX);
        // In the course that a job takes: one that goes on between two of these is seen twice, and never missed.
        let queued = self.find(doc! {"status": "queued"}, room).await?;
        let running = self.find(doc! {"status": "running"}, 0).await?;
        let over = doc! {"status": {"$in": ["completed", "failed", "cancelled"]}, "told": false};
        let over = self.find(over, UNTOLD).await?;
        let mut seen = HashSet::new();
        let latest_first = over.into_iter().rev().chain(running.into_iter().rev());
        let latest_first = latest_first.chain(queued.into_iter().rev());
        let mut open: Vec<Job> = latest_first
            .filter(|job| seen.insert(job.id.clone()))
            .collect();
        open.reverse();
        Ok(open)
    }

    /// The latest jobs, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn latest(&mut self, count: i64) -> Result<Vec<Job>, Failed> {
        let jobs = self.jobs().await?;
        let find = jobs
            .find(doc! {})
            .sort(doc! {"queued_at": -1, "_id": -1})
            .projection(projection())
            .limit(count);
        let found = async { find.await?.try_collect().await };
        Ok(read(self.within(found).await?))
    }

    async fn find(&mut self, filter: Document, most: i64) -> Result<Vec<Job>, Failed> {
        let jobs = self.jobs().await?;
        let find = jobs
            .find(filter)
            .sort(doc! {"queued_at": 1, "_id": 1})
            .projection(projection())
            .limit(most);
        let found = async { find.await?.try_collect().await };
        Ok(read(self.within(found).await?))
    }

    /// One job.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn job(&mut self, id: &BotId) -> Result<Option<Job>, Failed> {
        let found = self.find(doc! {"id": id.as_str()}, 1).await?;
        Ok(found.into_iter().next())
    }

    /// What a job is to run, as it was asked for.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn whole(&mut self, id: &BotId) -> Result<Option<Value>, Failed> {
        let jobs = self.jobs().await?;
        let find = jobs.find_one(doc! {"id": id.as_str()});
        let Some(found) = self.within(find.into_future()).await? else {
            return Ok(None);
        };
        let raw = bson::RawDocumentBuf::try_from(&found)?;
        Ok(Some(json::object(&raw)?))
    }

    /// Gives it its turn; whether it had not and is wanted.
    ///
    /// # Errors
    /// As [`Table::add`].
    pub async fn claim(&mut self, id: &BotId, host: &str) -> Result<bool, Failed> {
        let filter = doc! {"id": id.as_str(), "status": "queued", "cancel": {"$ne": true}};
        let set = doc! {"status": "running", "claimed_at": DateTime::now(), "host": host};
        self.set(filter, doc! {"$set": set}).await
    }

    /// Notes that `container` is started now; whether nobody has noted one since it was `starts` times.
    ///
    /// # Errors
    /// As [`Table::add`].
    pub async fn begin(
        &mut self,
        id: &BotId,
        starts: i32,
        container: &str,
    ) -> Result<bool, Failed> {
        let mut filter = doc! {"id": id.as_str(), "status": "running"};
        if starts == 0 {
            filter.insert("starts", doc! {"$in": [0, bson::Bson::Null]});
        } else {
            filter.insert("starts", starts);
        }
        let set = doc! {"begun_at": DateTime::now(), "starts": starts + 1, "container": container};
        self.set(filter, doc! {"$set": set}).await
    }

    /// Notes why it must end.
    ///
    /// # Errors
    /// As [`Table::add`].
    pub async fn halt(&mut self, id: &BotId, why: Halt) -> Result<bool, Failed> {
        let why = match why {
            Halt::Cancelled => "cancelled",
            Halt::Limit => "limit",
        };
        let filter = doc! {"id": id.as_str(), "status": "running", "halt": null};
        let set = doc! {"halt": why, "halt_at": DateTime::now()};
        self.set(filter, doc! {"$set": set}).await
    }

    /// Notes how it has ended, unless it had.
    ///
    /// # Errors
    /// As [`Table::add`].
    pub async fn close(
        &mut self,
        id: &BotId,
        status: Status,
        error: Option<&str>,
        key: Option<&str>,
    ) -> Result<bool, Failed> {
        let filter = doc! {"id": id.as_str(), "status": {"$in": ["queued", "running"]}};
        self.set(filter, doc! {"$set": closing(status, error, key)})
            .await
    }

    /// Notes that its end was told.
    ///
    /// # Errors
    /// As [`Table::add`].
    pub async fn told(&mut self, id: &BotId) -> Result<bool, Failed> {
        let set = doc! {"$set": {"told": true}};
        self.set(doc! {"id": id.as_str()}, set).await
    }

    /// Notes that nobody wants it: one that waits ends at once, one that runs is ended by the agent that runs it. How far
    /// it was; `None`: there is none.
    ///
    /// # Errors
    /// As [`Table::add`].
    pub async fn cancel(&mut self, id: &BotId) -> Result<Option<Status>, Failed> {
        let mut queued = closing(Status::Cancelled, Some("cancelled"), None);
        queued.insert("cancel", true);
        let filter = doc! {"id": id.as_str(), "status": "queued"};
        if self.set(filter, doc! {"$set": queued}).await? {
            return Ok(Some(Status::Queued));
        }
        let filter = doc! {"id": id.as_str(), "status": "running"};
        if self.set(filter, doc! {"$set": {"cancel": true}}).await? {
            return Ok(Some(Status::Running));
        }
        Ok(self.job(id).await?.map(|job| job.status))
    }

    /// `failed` for a person.
    pub fn why(&self, failed: &Failed) -> String {
        self.mongo.why(failed)
    }

    async fn set(&mut self, filter: Document, update: Document) -> Result<bool, Failed> {
        let jobs = self.jobs().await?;
        let done = jobs.update_one(filter, update);
        let done = self.within(done.into_future()).await?;
        Ok(done.matched_count > 0)
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Failed> {
        Ok(timeout(self.mongo.deadlines().answer, work).await??)
    }

    /// The collection; its indexes are made at the first call.
    async fn jobs(&mut self) -> Result<Collection<Document>, Failed> {
        let Self { mongo, jobs } = self;
        let found = jobs.get_or_try_init(move || open(mongo));
        found.await.cloned()
    }
}

async fn open(mongo: &mut Mongo) -> Result<Collection<Document>, Failed> {
    let patience = mongo.deadlines().answer;
    let client = timeout(patience, mongo.connect()).await??;
    let safe = WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .w_timeout(SAFE_WITHIN)
        .build();
    let options = CollectionOptions::builder().write_concern(safe).build();
    let database = client.database(PLACE.0);
    let jobs: Collection<Document> = database.collection_with_options(PLACE.1, options);
    let made = jobs.create_indexes(indexes()).into_future();
    timeout(patience, made).await??;
    Ok(jobs)
}

fn indexes() -> [IndexModel; 2] {
    let unique = IndexOptions::builder().unique(true).build();
    let id = IndexModel::builder().keys(doc! {"id": 1}).options(unique);
    let order = IndexModel::builder().keys(doc! {"status": 1, "told": 1, "queued_at": 1, "_id": 1});
    [id.build(), order.build()]
}

/// All but what it is to run.
fn projection() -> Document {
    doc! {"config": 0, "custom": 0, "_id": 0}
}

/// One that is not understood is nobody's business but a person's.
fn read(found: Vec<Document>) -> Vec<Job> {
    let read = |document| bson::deserialize_from_document(document).ok();
    found.into_iter().filter_map(read).collect()
}
