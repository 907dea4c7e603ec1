//! Documents as rows of a listing, each worked out once for as long as it stays the same, byte for byte.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use contract::BotId;
use mongodb::bson::{RawBsonRef, RawDocument};
use serde_json::Value;

use super::json;
use crate::bots::{Listed, Listing, Offer, registered};
use crate::document::Bot;
use crate::schedule::ledger::Ledger;

/// More documents without an id than these are counted only.
const TOLD: usize = 20;

/// The last listing, and which bytes made it.
///
/// The hash is keyed with a secret of this process, so that nobody can write two documents that are taken for one.
pub struct Rows {
    table: String,
    kind: Kind,
    key: RandomState,
    known: HashMap<u64, Row>,
    listing: Arc<Listing>,
}

/// What the documents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bots that run all the time, or once.
    Bots,
    /// Bots that run at times.
    Schedules,
}

/// What a document gives.
#[derive(Clone)]
enum Row {
    Bot(BotId, Arc<Listed>),
    /// It has no usable id.
    Nameless(String),
}

/// A document that was met: the hash of its bytes, and its row unless that is known.
pub struct Found(u64, Option<Row>);

impl Rows {
    /// Nothing is known; `table` is where the documents are, for a person.
    pub fn new(table: String, kind: Kind) -> Self {
        Self {
            table,
            kind,
            key: RandomState::new(),
            known: HashMap::new(),
            listing: Arc::default(),
        }
    }

    /// Takes a look at a document.
    pub fn look_up(&self, document: &RawDocument) -> Found {
        let hash = self.key.hash_one(document.as_bytes());
        let is_new = !self.known.contains_key(&hash);
        Found(hash, is_new.then(|| self.read(document)))
    }

    /// Makes these documents, all there are, the listing; the same as before if they are the same.
    pub fn turn(&mut self, found: Vec<Found>) -> Arc<Listing> {
        let is_same = found.len() == self.known.len() && found.iter().all(|f| f.1.is_none());
        if !is_same {
            let rows: Vec<(u64, Row)> = found
                .into_iter()
                .filter_map(|Found(hash, row)| {
                    Some((hash, row.or_else(|| self.known.get(&hash).cloned())?))
                })
                .collect();
            self.listing = Arc::new(self.listing_of(rows.iter().map(|(_, row)| row)));
            self.known = rows.into_iter().collect();
        }
        self.listing.clone()
    }

    fn listing_of<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> Listing {
        let mut bots = BTreeMap::new();
        let mut remarks = Vec::new();
        for row in rows {
            match row {
                Row::Nameless(remark) => remarks.push(remark.clone()),
                Row::Bot(id, listed) => match bots.entry(id.clone()) {
                    Entry::Vacant(free) => drop(free.insert(listed.clone())),
                    Entry::Occupied(mut first) => {
                        let both = Arc::new(both(first.get(), listed));
                        first.insert(both);
                    }
                },
            }
        }
        if remarks.len() > TOLD {
            let more = remarks.len() - TOLD;
            remarks.truncate(TOLD);
            remarks.push(format!("{}: {more} more without a usable id", self.table));
        }
        Listing {
            bots,
            remarks,
            again: None,
        }
    }

    fn read(&self, document: &RawDocument) -> Row {
        let source = format!("{}, _id {}", self.table, key_of(document));
        let id = match document.get("id") {
            Ok(Some(RawBsonRef::String(id))) => id.parse::<BotId>().map_err(|err| err.to_string()),
            Ok(Some(_)) => Err("id: is not a text".to_owned()),
            Ok(None) => Err("id: is missing".to_owned()),
            Err(_) => Err("it is not BSON".to_owned()),
        };
        let id = match id {
            Ok(id) => id,
            Err(why) => return Row::Nameless(format!("{source}: {why}: it is left out")),
        };
        if is_tombstone(document) {
            let listed = Listed::new(id.to_string(), None, source, Offer::Gone);
            return Row::Bot(id, Arc::new(listed));
        }
        let value = json::object(document).map_err(|err| err.to_string());
        let name = value.as_ref().ok().and_then(registered::name_of);
        let found = value.and_then(|value| self.found(&value));
        let (name, offer, ledger) = match found {
            Ok((bot, ledger)) => {
                let name = bot.definition.name.clone();
                (name, Offer::Bot(Box::new(bot)), ledger)
            }
            Err(why) => {
                let name = name.unwrap_or_else(|| id.to_string());
                let why = format!("{source}, id {id}: {why}");
                (name, Offer::Unusable(why), None)
            }
        };
        let listed = Listed::new(name, None, source, offer).with_ledger(ledger);
        Row::Bot(id, Arc::new(listed))
    }
}

impl Rows {
    fn found(&self, value: &Value) -> Result<(Bot, Option<Ledger>), String> {
        let told = |err: crate::document::BadDocument| err.to_string();
        let bot = Bot::from_document(value).map_err(told)?;
        match self.kind {
            Kind::Bots => Ok((bot, None)),
            Kind::Schedules => {
                let bot = bot.at_times(value).map_err(told)?;
                Ok((bot, Some(ledger(value)?)))
            }
        }
    }
}

/// What is written in the document of a schedule. Whole numbers may have become doubles.
fn ledger(value: &Value) -> Result<Ledger, String> {
    let tick = match value.get("tick") {
        None | Some(Value::Null) => None,
        Some(tick) => Some(serde_json::from_value(tick.clone()).map_err(
            |_| "tick: is not what an agent writes there: remove it while nothing of the bot runs",
        )?),
    };
    let whole = |value: Option<&Value>| {
        let value = value?;
        value
            .as_i64()
            .or_else(|| format!("{:.0}", value.as_f64()?).parse().ok())
    };
    Ok(Ledger {
        next: whole(value.get("next_execution_time")),
        seq: whole(value.pointer("/the0/seq")),
        tick,
    })
}

/// Whether an event has said that the bot is deleted.
fn is_tombstone(document: &RawDocument) -> bool {
    let ours = document.get_document("the0");
    ours.is_ok_and(|ours| matches!(ours.get("deleted"), Ok(Some(RawBsonRef::DateTime(_)))))
}

/// Nobody can say which of several documents with one id is meant, unless the bot is gone by each of them.
fn both(first: &Listed, second: &Listed) -> Listed {
    let source = format!("{}; {}", first.source, second.source);
    if first.offer == Offer::Gone && second.offer == Offer::Gone {
        return Listed::new(first.name.clone(), None, source, Offer::Gone);
    }
    let why = format!("several documents have its id ({source}): remove all but one");
    Listed::new(first.name.clone(), None, source, Offer::Unusable(why))
}

/// A document's `_id`, for a person.
fn key_of(document: &RawDocument) -> String {
    match document.get("_id") {
        Ok(Some(RawBsonRef::ObjectId(id))) => id.to_hex(),
        Ok(Some(RawBsonRef::String(text))) => format!("{text:?}"),
        Ok(Some(RawBsonRef::Int32(number))) => number.to_string(),
        Ok(Some(RawBsonRef::Int64(number))) => number.to_string(),
        Ok(Some(other)) => format!("{other:?}"),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
#[path = "rows/tests.rs"]
mod tests;
