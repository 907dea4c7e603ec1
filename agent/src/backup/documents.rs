//! Documents of MongoDB, each as the bytes that it is.
//!
//! A document is told by its `id`, or by its `_id` where it has none; two are the same if they are, but for `_id`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};

use anyhow::{Context, Result, anyhow, ensure};
use contract::{Digest, Secret};
use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};
use mongodb::options::WriteConcern;
use mongodb::{Client, Collection};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use crate::bots::mongo::{Deadlines, Mongo, Place};
use crate::lease::{self, active::Active};
use crate::orders::{Orders, exchange};

/// What is in a backup, as `database.collection`.
pub const COLLECTIONS: [&str; 3] = ["bot_runner.bots", "bot_scheduler.bot_schedules", JOBS];
/// Where run-to-end jobs are. One that is there is never replaced: how far it is now is so, and an older word on it would
/// run it again.
pub const JOBS: &str = "backtest_runner.backtests";
/// What people have said, as it is called where it cannot be read or written.
const ORDERS: &str = "the words of people";
/// The longest document that MongoDB has, and some.
const LONGEST: usize = 17 << 20;

/// The database.
pub struct Database {
    mongo: Mongo,
    client: Client,
    runtime: Runtime,
}

/// What tells a document from others.
pub type Key = String;

/// Documents by key: the digests of those that have it.
pub type Known = BTreeMap<Key, BTreeSet<Digest>>;

impl Database {
    /// The one at this address.
    pub fn open(uri: &Secret) -> Result<Self> {
        let mut mongo = Mongo::new(uri, Place::default(), Deadlines::default())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = runtime.block_on(mongo.client());
        let client = client.map_err(|why| anyhow!("{}: {why}", mongo.name()))?;
        Ok(Self {
            mongo,
            client,
            runtime,
        })
    }

    /// The agent that acts on its documents now, on whichever machine.
    pub fn active(&self) -> Result<Option<Active>> {
        let database = &self.mongo.place().database;
        self.wait("the lease", lease::active::active(&self.client, database))
    }

    /// What people have said to its agents.
    pub fn orders(&self) -> Result<Orders> {
        let database = &self.mongo.place().database;
        self.wait(ORDERS, exchange::known(&self.client, database))
    }

    /// Says these to all its agents; a later word stands.
    pub fn say(&self, orders: &Orders) -> Result<()> {
        let database = &self.mongo.place().database;
        let added = exchange::add(&self.client, database, orders);
        self.wait(ORDERS, added).map(drop)
    }

    /// Shows each document of a collection to `visit`, in the order of `_id`, which no document changes.
    pub fn each(
        &self,
        collection: &str,
        mut visit: impl FnMut(&RawDocument) -> Result<()>,
    ) -> Result<()> {
        let table = self.table(collection)?;
        let find = table.find(doc! {}).sort(doc! {"_id": 1});
        let mut cursor = self.wait(collection, async { find.await })?;
        while self.wait(collection, async { cursor.advance().await })? {
            visit(cursor.current())?;
        }
        Ok(())
    }

    /// Writes all documents of a collection to `to`, and gives how many these are.
    pub fn copy(
        &self,
        collection: &str,
        to: &mut File,
        mut seen: impl FnMut(&RawDocument),
    ) -> Result<u64> {
        let mut out = BufWriter::new(to);
        let mut count = 0;
        self.each(collection, |document| {
            seen(document);
            count += 1;
            Ok(out.write_all(document.as_bytes())?)
        })?;
        out.flush()?;
        Ok(count)
    }

    /// Of the documents with these keys, which there are.
    pub fn present(&self, collection: &str, keys: &Known) -> Result<Known> {
        let mut present = Known::new();
        self.each(collection, |document| {
            let key = key_of(document);
            if keys.contains_key(&key) {
                present.entry(key).or_default().insert(digest_of(document)?);
            }
            Ok(())
        })?;
        Ok(present)
    }

    /// Puts a document beside the others, so that most members have it.
    pub fn insert(&self, collection: &str, document: &RawDocument) -> Result<()> {
        let table = self.table(collection)?;
        let insert = table.insert_one(document.to_owned());
        let insert = insert.write_concern(WriteConcern::majority());
        self.wait(collection, async { insert.await }).map(drop)
    }

    /// Puts a document in the place of the one with its key, whose `_id` stays.
    pub fn replace(&self, collection: &str, document: &RawDocument) -> Result<()> {
        let mut content = Document::try_from(document.to_owned())?;
        let own = content.remove("_id");
        let id = content.get("id").filter(|id| id.as_str().is_some());
        let filter = id.map_or_else(|| doc! {"_id": own}, |id| doc! {"id": id.clone()});
        let content = RawDocumentBuf::try_from(&content)?;
        let table = self.table(collection)?;
        let replace = table.replace_one(filter, content);
        let replace = replace.write_concern(WriteConcern::majority());
        self.wait(collection, async { replace.await }).map(drop)
    }

    fn table(&self, collection: &str) -> Result<Collection<RawDocumentBuf>> {
        let (database, table) = collection.split_once('.').context("database.collection")?;
        Ok(self.client.database(database).collection(table))
    }

    fn wait<T>(
        &self,
        collection: &str,
        work: impl Future<Output = Result<T, mongodb::error::Error>>,
    ) -> Result<T> {
        let limit = Deadlines::default().answer;
        let limited = async { tokio::time::timeout(limit, work).await };
        let why = match self.runtime.block_on(limited) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => self.mongo.explain(error),
            Err(late) => self.mongo.explain(late),
        };
        Err(anyhow!("{} ({collection}): {why}", self.mongo.name()))
    }
}

/// What tells it from others.
pub fn key_of(document: &RawDocument) -> Key {
    match document.get_str("id") {
        Ok(id) => format!("id {id}"),
        Err(_) => match document.get("_id") {
            Ok(Some(own)) => format!("_id {own:?}"),
            _ => "no id".to_owned(),
        },
    }
}

/// What is in it but for `_id`, which another database gives anew.
pub fn digest_of(document: &RawDocument) -> Result<Digest> {
    let mut content = Document::try_from(document.to_owned())?;
    content.remove("_id");
    let bytes = RawDocumentBuf::try_from(&content)?;
    Ok(Digest::from_bytes(Sha256::digest(bytes.as_bytes()).into()))
}

/// Shows each document of what [`Database::copy`] wrote to `visit`.
pub fn read(from: &mut dyn Read, mut visit: impl FnMut(&RawDocument) -> Result<()>) -> Result<()> {
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    loop {
        let mut length = [0; 4];
        match from.read(&mut length[..1])? {
            0 => return Ok(()),
            _ => from.read_exact(&mut length[1..])?,
        }
        let size = usize::try_from(i32::from_le_bytes(length)).unwrap_or(0);
        ensure!((5..=LONGEST).contains(&size), "it is not BSON");
        bytes.clear();
        bytes.extend_from_slice(&length);
        bytes.resize(size, 0);
        from.read_exact(&mut bytes[4..])?;
        visit(RawDocument::from_bytes(&bytes).context("it is not BSON")?)?;
    }
}

/// The keys and digests of what [`Database::copy`] wrote; each document is shown to `seen` too.
pub fn known(from: &mut dyn Read, mut seen: impl FnMut(&RawDocument)) -> Result<Known> {
    let mut known = Known::new();
    read(from, |document| {
        seen(document);
        let digest = digest_of(document)?;
        known.entry(key_of(document)).or_default().insert(digest);
        Ok(())
    })?;
    Ok(known)
}

/// What is done about a document of a backup, of which `ours` are those with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Same,
    /// Nothing with its key is.
    Absent,
    /// Another one is.
    Differs,
}

/// Decides it. Pure.
pub fn fate(key: &str, digest: &Digest, ours: &Known, theirs: &Known) -> Fate {
    let none = BTreeSet::new();
    let (ours, theirs) = (
        ours.get(key).unwrap_or(&none),
        theirs.get(key).unwrap_or(&none),
    );
    if theirs.contains(digest) {
        Fate::Same
    } else if theirs.is_subset(ours) {
        // Several have one key, and others of them are there already.
        Fate::Absent
    } else {
        Fate::Differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(document: &Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(document).unwrap()
    }

    #[test]
    fn documents_are_read_as_they_were_written_whatever_is_in_them() {
        let all = [
            doc! {"_id": 1, "id": "a", "config": {"n": 1.0, "m": 1i64}},
            doc! {"_id": 2, "id": "b"},
            doc! {"_id": "x", "id": 7},
        ];
        let bytes: Vec<u8> = all.iter().flat_map(|d| raw(d).into_bytes()).collect();
        let mut back = Vec::new();
        read(&mut bytes.as_slice(), |document| {
            back.push(Document::try_from(document.to_owned())?);
            Ok(())
        })
        .unwrap();
        assert_eq!(back, all);
        let keys: Vec<_> = known(&mut bytes.as_slice(), |_| {})
            .unwrap()
            .into_keys()
            .collect();
        assert_eq!(keys[1..], ["id a", "id b"]);
        assert!(keys[0].starts_with("_id "), "{keys:?}");
        assert!(known(&mut &bytes[..bytes.len() - 1], |_| {}).is_err());
        assert!(known(&mut &b"\xff\xff\xff\xffgarbage"[..], |_| {}).is_err());
    }

    #[test]
    fn a_document_is_the_same_whatever_its_database_calls_it() {
        let digest = |document: Document| digest_of(&raw(&document)).unwrap();
        assert_eq!(
            digest(doc! {"_id": 1, "id": "a"}),
            digest(doc! {"_id": 2, "id": "a"})
        );
        // A double is not an integer.
        assert_ne!(digest(doc! {"n": 1.0}), digest(doc! {"n": 1}));
    }

    #[test]
    fn twins_are_put_back_as_twins_and_others_are_not_overwritten() {
        let digest = |n: u8| Digest::from_bytes([n; 32]);
        let of = |digests: &[u8]| -> Known {
            let digests = digests.iter().map(|n| digest(*n)).collect();
            Known::from([("id a".to_owned(), digests)])
        };
        let fate = |n, ours: &[u8], theirs: &[u8]| fate("id a", &digest(n), &of(ours), &of(theirs));
        assert_eq!(fate(1, &[1, 2], &[]), Fate::Absent);
        assert_eq!(fate(2, &[1, 2], &[1]), Fate::Absent);
        assert_eq!(fate(1, &[1, 2], &[1]), Fate::Same);
        assert_eq!(fate(1, &[1], &[3]), Fate::Differs);
    }
}
