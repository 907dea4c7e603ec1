//! Where ledgers are written: in the documents themselves, or in a file beside each bot of a folder.
//!
//! A write is on condition that the last word is still the one we know; it is taken, or somebody else's was. When
//! nobody knows, it is looked at before the next one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::{BotId, file};
use mongodb::Collection;
use mongodb::bson::{self, Bson, Document, doc};
use mongodb::options::{Acknowledgment, CollectionOptions, WriteConcern};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::ledger::Ledger;
use super::timetable::Timetable;
use crate::bots::mongo::{Failed, Mongo};

/// The server's own time to make a write safe.
const SAFE_WITHIN: Duration = Duration::from_secs(5);
/// The file in a bot's folder.
const FILE: &str = "schedule.json";

/// Where ledgers are.
#[derive(Debug, Clone)]
pub enum Book {
    /// In the documents.
    Mongo(Arc<Mutex<Mongo>>),
    /// Beside the bots of this data folder.
    Folder(PathBuf),
}

/// What has become of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Taken,
    /// Somebody else has written since: it is not there.
    Refused,
    /// Nobody knows, and why.
    Unknown(String),
}

/// What is in a file.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    schedule: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(flatten)]
    ledger: Ledger,
}

impl Book {
    /// In the documents that `mongo` reads, over a connection of its own.
    pub fn mongo(mongo: &Mongo) -> Self {
        Self::Mongo(Arc::new(Mutex::new(mongo.apart())))
    }

    /// What is written beside a bot: nothing in it is kept of a schedule that was another one, but what it has run.
    pub fn open(&self, bot: &BotId, timetable: &Timetable) -> Ledger {
        let Book::Folder(data) = self else {
            return Ledger::default();
        };
        let page: Option<Page> = file::read_json(&path(data, bot)).ok().flatten();
        let Some(page) = page else {
            return Ledger::default();
        };
        let is_same = page.schedule == timetable.schedule && page.timezone == timetable.timezone;
        Ledger {
            next: page.ledger.next.filter(|_| is_same),
            ..page.ledger
        }
    }

    /// Writes `to` where `from` is the last word.
    pub async fn write(
        &self,
        bot: &BotId,
        timetable: &Timetable,
        from: &Ledger,
        to: &Ledger,
    ) -> Written {
        match self {
            Book::Folder(_) => self.put(bot, timetable, from, to),
            Book::Mongo(mongo) => {
                let mut mongo = mongo.lock().await;
                let patience = mongo.deadlines().answer;
                let done = timeout(patience, update(&mut mongo, bot, from, to)).await;
                let done = done.map_err(Failed::from);
                match done.and_then(|done| done.map_err(Failed::from)) {
                    Ok(true) => Written::Taken,
                    Ok(false) => Written::Refused,
                    Err(failed) => Written::Unknown(mongo.why(&failed)),
                }
            }
        }
    }

    /// The same of a file, at once.
    pub fn put(&self, bot: &BotId, timetable: &Timetable, from: &Ledger, to: &Ledger) -> Written {
        let Book::Folder(data) = self else {
            return Written::Unknown("it is not kept in a folder".to_owned());
        };
        if self.open(bot, timetable).rev() != from.rev() {
            return Written::Refused;
        }
        let path = path(data, bot);
        let page = Page {
            schedule: timetable.schedule.clone(),
            timezone: timetable.timezone.clone(),
            ledger: to.clone(),
        };
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        match folder.and_then(|()| file::replace_json(&path, &page)) {
            Ok(()) => Written::Taken,
            Err(err) => Written::Unknown(format!("{}: {err}", path.display())),
        }
    }
}

fn path(data: &Path, bot: &BotId) -> PathBuf {
    data.join("bots").join(bot.as_str()).join(FILE)
}

async fn update(
    mongo: &mut Mongo,
    bot: &BotId,
    from: &Ledger,
    to: &Ledger,
) -> Result<bool, mongodb::error::Error> {
    let (is, becomes) = statements(bot, from, to)?;
    let done = schedules(mongo).await?.update_one(is, becomes).await?;
    Ok(done.matched_count == 1)
}

/// What must be, and what becomes of it. A claim, which moves the time of the next tick, is made on condition that no
/// event has changed the document; the other words are about a tick that has been claimed, and leave edits alone.
fn statements(
    bot: &BotId,
    from: &Ledger,
    to: &Ledger,
) -> Result<(Document, Document), bson::error::Error> {
    let some = |n: Option<i64>| n.map_or(Bson::Null, Bson::Int64);
    let rev = from.tick.as_ref().map(|tick| tick.rev);
    let mut is = doc! { "id": bot.as_str(), "tick.rev": some(rev) };
    let mut becomes = Document::new();
    if let Some(tick) = &to.tick {
        becomes.insert("tick", bson::serialize_to_bson(tick)?);
    }
    if to.claims(from) {
        is.insert("the0.seq", some(from.seq));
        is.insert("the0.deleted", doc! { "$exists": false });
        if let Some(next) = from.next {
            is.insert("next_execution_time", next);
        }
        becomes.insert("next_execution_time", some(to.next));
    }
    Ok((is, doc! { "$set": becomes }))
}

async fn schedules(mongo: &mut Mongo) -> Result<Collection<Document>, mongodb::error::Error> {
    let client = mongo.connect().await?;
    let place = mongo.place();
    let safe = WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .w_timeout(SAFE_WITHIN)
        .build();
    let options = CollectionOptions::builder().write_concern(safe).build();
    let database = client.database(&place.database);
    Ok(database.collection_with_options(&place.collection, options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ledger::{State, Tick};
    use crate::schedule::timetable::Policy;

    fn timetable(schedule: &str) -> Timetable {
        Timetable {
            schedule: schedule.into(),
            timezone: None,
            policy: Policy::default(),
        }
    }

    fn ledger(next: i64, rev: i64) -> Ledger {
        let tick = Tick {
            at: next - 60,
            attempt: 1,
            state: State::Claimed,
            outcome: None,
            why: None,
            by: "me".into(),
            since: 0,
            missed: 0,
            not_before: None,
            rev,
        };
        Ledger {
            next: Some(next),
            seq: Some(7),
            tick: Some(tick),
        }
    }

    #[test]
    fn of_two_words_on_one_the_second_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::Folder(dir.path().to_owned());
        let (bot, times) = ("b".parse().unwrap(), timetable("* * * * *"));
        let none = Ledger::default();
        assert_eq!(book.open(&bot, &times), none);
        assert_eq!(
            book.put(&bot, &times, &none, &ledger(120, 1)),
            Written::Taken
        );
        assert_eq!(
            book.put(&bot, &times, &none, &ledger(120, 1)),
            Written::Refused
        );
        let first = book.open(&bot, &times);
        assert_eq!((first.next, first.rev()), (Some(120), 1));
        assert_eq!(
            book.put(&bot, &times, &first, &ledger(180, 2)),
            Written::Taken
        );
    }

    #[test]
    fn of_a_schedule_that_was_another_what_has_run_is_known_and_the_next_time_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::Folder(dir.path().to_owned());
        let bot = "b".parse().unwrap();
        let before = ledger(120, 1);
        book.put(&bot, &timetable("* * * * *"), &Ledger::default(), &before);
        let after = book.open(&bot, &timetable("0 * * * *"));
        assert_eq!((after.next, after.tick), (None, before.tick));
    }

    #[test]
    fn a_claim_counts_on_a_document_that_no_event_has_changed_and_other_words_leave_it_alone() {
        let bot = "b".parse().unwrap();
        let (is, becomes) = statements(&bot, &ledger(120, 1), &ledger(180, 2)).unwrap();
        assert_eq!(is.get_i64("next_execution_time").unwrap(), 120);
        assert_eq!(is.get_i64("the0.seq").unwrap(), 7);
        assert_eq!(is.get_i64("tick.rev").unwrap(), 1);
        let set = becomes.get_document("$set").unwrap();
        assert_eq!(set.get_i64("next_execution_time").unwrap(), 180);
        let (is, becomes) = statements(&bot, &ledger(120, 1), &ledger(120, 2)).unwrap();
        assert!(!is.contains_key("next_execution_time") && !is.contains_key("the0.seq"));
        let set = becomes.get_document("$set").unwrap();
        assert!(set.contains_key("tick") && !set.contains_key("next_execution_time"));
    }
}
