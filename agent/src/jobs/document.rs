//! Jobs as events and documents tell them.
//!
//! An event is `{"id" or "backtest_id", "config", "custom"}`, or that wrapped as bots' events are. Bad is only what
//! cannot be kept under an id: one that cannot run is kept as failed, so that whoever waits for it is told why.

use contract::BotId;
use mongodb::bson::{Bson, DateTime, Document, doc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::time::Duration;

use super::decide::{Facts, Halt, Status};
use crate::document::Bot;
use crate::events::change::{BadEvent, stored};

/// What an event asks for.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// A job.
    Created(BotId, Box<Document>),
    /// That a job ends.
    Cancelled(BotId),
}

impl Asked {
    /// Reads an event.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn read(subject: &str, payload: &[u8]) -> Result<Self, BadEvent> {
        let value: Value = serde_json::from_slice(payload).map_err(|err| BadEvent::NotJson {
            line: err.line(),
            column: err.column(),
        })?;
        let Value::Object(mut outer) = value else {
            return Err(BadEvent::NotObject);
        };
        let entity = outer.remove("entity_id");
        let mut inner = match outer.remove("data") {
            Some(Value::Object(data)) => data,
            _ => outer,
        };
        let id = id_of(&mut inner, entity)?;
        match subject {
            super::CREATED => Ok(Self::Created(id.clone(), Box::new(new(&id, inner)?))),
            super::CANCELLED => Ok(Self::Cancelled(id)),
            _ => Err(BadEvent::Subject),
        }
    }
}

fn id_of(inner: &mut Map<String, Value>, entity: Option<Value>) -> Result<BotId, BadEvent> {
    let names = [inner.remove("id"), inner.remove("backtest_id"), entity];
    let mut names = names.into_iter().flatten();
    let Some(Value::String(id)) = names.next() else {
        return Err(BadEvent::NoId);
    };
    if names.any(|other| other != id.as_str()) {
        return Err(BadEvent::TwoIds);
    }
    id.parse().map_err(|_| BadEvent::BadId)
}

/// The document of a job that was asked for just now.
fn new(id: &BotId, mut parts: Map<String, Value>) -> Result<Document, BadEvent> {
    let mut part = |name: &str| parts.remove(name).unwrap_or(json!({}));
    let (config, custom) = (part("config"), part("custom"));
    let read = bot(&json!({"id": id.as_str(), "config": config, "custom": custom}));
    let mut document = doc! {
        "id": id.as_str(), "status": Status::Queued.name(), "queued_at": DateTime::now(),
        "config": stored(config)?, "custom": stored(custom)?,
    };
    if let Err(why) = read {
        document.extend(closing(Status::Failed, Some(&why), None));
    }
    Ok(document)
}

/// What a job's document gets at its end.
pub fn closing(status: Status, error: Option<&str>, key: Option<&str>) -> Document {
    let text = |text: Option<&str>| text.map_or(Bson::Null, Bson::from);
    doc! {
        "status": status.name(), "success": status == Status::Completed, "error": text(error),
        "result": text(key), "ended_at": DateTime::now(), "told": false,
    }
}

/// What is run for a job: its bot with the backtest's program, once.
///
/// # Errors
/// The first field that cannot be used.
pub fn bot(document: &Value) -> Result<Bot, String> {
    let mut document = document.clone();
    let program = document.pointer("/custom/config/entrypoints/backtest");
    let Some(program) = program.filter(|program| !program.is_null()).cloned() else {
        let why = "custom.config.entrypoints.backtest: is missing: name the program to run, as in backtest.py";
        return Err(why.to_owned());
    };
    let inner = &mut document["custom"]["config"];
    inner["entrypoints"] = json!({"bot": program});
    inner["type"] = "scheduled".into();
    let read = Bot::from_document(&document);
    read.map_err(|bad| {
        bad.to_string()
            .replace("entrypoints.bot", "entrypoints.backtest")
    })
}

/// A job as its document tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: BotId,
    /// How far it is.
    pub status: Status,
    /// Whether somebody wants it to end.
    #[serde(default)]
    pub cancel: bool,
    /// When it was asked for.
    #[serde(default)]
    pub queued_at: Option<DateTime>,
    /// When it had its turn.
    #[serde(default)]
    pub claimed_at: Option<DateTime>,
    /// When its container was started.
    #[serde(default)]
    pub begun_at: Option<DateTime>,
    /// How often its container was about to be started.
    #[serde(default)]
    pub starts: i32,
    /// The container that was about to be started last.
    #[serde(default)]
    pub container: Option<String>,
    /// Why it is made to end.
    #[serde(default)]
    pub halt: Option<Halt>,
    /// Since when.
    #[serde(default)]
    pub halt_at: Option<DateTime>,
    /// When it had ended.
    #[serde(default)]
    pub ended_at: Option<DateTime>,
    /// Whether it was told that it has.
    #[serde(default)]
    pub told: bool,
    /// Whether it went well.
    #[serde(default)]
    pub success: Option<bool>,
    /// Why it did not.
    #[serde(default)]
    pub error: Option<String>,
    /// The key of its result.
    #[serde(default)]
    pub result: Option<String>,
    /// The host that gave it its turn.
    #[serde(default)]
    pub host: Option<String>,
}

impl Job {
    /// What is decided by, at `now`.
    pub fn facts(&self, now: DateTime) -> Facts {
        let ago = |at: DateTime| {
            let millis = now.timestamp_millis() - at.timestamp_millis();
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        };
        let since = self.halt_at.map_or(Duration::ZERO, ago);
        Facts {
            status: self.status,
            is_unwanted: self.cancel,
            begun: self.begun_at.map(ago),
            starts: self.starts,
            halt: self.halt.map(|halt| (halt, since)),
            is_told: self.told,
        }
    }

    /// For programs: times as text, nothing of its parameters.
    pub fn shown(&self) -> Value {
        let time = |at: Option<DateTime>| at.and_then(|at| at.try_to_rfc3339_string().ok());
        json!({
            "id": self.id, "status": self.status, "cancel": self.cancel, "success": self.success,
            "error": self.error, "result": self.result, "host": self.host, "told": self.told,
            "queued_at": time(self.queued_at), "claimed_at": time(self.claimed_at),
            "begun_at": time(self.begun_at), "ended_at": time(self.ended_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(id: &str) -> Value {
        json!({id: "j1", "config": {"n": 1, "key": "hunter2"}, "custom": {
            "version": "1.0.0", "filePath": "u/b/1.0.0", "config": {"name": "b", "type": "realtime",
                "runtime": "python3.11", "entrypoints": {"bot": "main.py", "query": "q.py", "backtest": "bt.py"}}}})
    }

    fn read(payload: &Value) -> Result<Asked, BadEvent> {
        Asked::read(super::super::CREATED, payload.to_string().as_bytes())
    }

    fn document(payload: &Value) -> Document {
        match read(payload).unwrap() {
            Asked::Created(_, document) => *document,
            Asked::Cancelled(_) => panic!("it was created"),
        }
    }

    #[test]
    fn all_forms_ask_for_the_same() {
        let wrapped = json!({"type": "backtest.created", "entity_id": "j1", "data": payload("id")});
        for payload in [payload("id"), payload("backtest_id"), wrapped] {
            let mut document = document(&payload);
            assert!(document.remove("queued_at").is_some());
            assert_eq!(document.get_str("id").unwrap(), "j1");
            assert_eq!(document.get_str("status").unwrap(), "queued");
            assert_eq!(
                document
                    .get_document("config")
                    .unwrap()
                    .get_i64("n")
                    .unwrap(),
                1
            );
        }
        let cancelled = Asked::read(super::super::CANCELLED, br#"{"backtest_id": "j1"}"#);
        assert_eq!(cancelled, Ok(Asked::Cancelled("j1".parse().unwrap())));
    }

    #[test]
    fn what_has_no_id_cannot_be_kept_and_what_cannot_run_is_kept_as_failed() {
        assert_eq!(read(&json!({"config": {}})), Err(BadEvent::NoId));
        assert_eq!(read(&json!({"id": "a/b"})), Err(BadEvent::BadId));
        assert_eq!(
            read(&json!({"id": "a", "backtest_id": "b"})),
            Err(BadEvent::TwoIds)
        );
        let mut none = payload("id");
        none["custom"]["config"]["entrypoints"] = json!({"bot": "main.py"});
        let kept = document(&none);
        assert_eq!(kept.get_str("status").unwrap(), "failed");
        assert!(
            kept.get_str("error")
                .unwrap()
                .contains("entrypoints.backtest: is missing")
        );
        none["custom"]["config"]["entrypoints"] = json!({"backtest": "../x"});
        let kept = document(&none);
        assert!(
            kept.get_str("error")
                .unwrap()
                .starts_with("custom.config.entrypoints.backtest: leaves")
        );
    }

    #[test]
    fn what_is_run_is_the_backtests_program_once_without_a_query() {
        let mut document = payload("id");
        document["id"] = "j1".into();
        let bot = bot(&document).unwrap();
        assert_eq!(bot.definition.entrypoint, "bt.py");
        assert_eq!(bot.definition.query, None);
        assert_eq!(bot.definition.kind, contract::BotType::Scheduled);
    }
}
