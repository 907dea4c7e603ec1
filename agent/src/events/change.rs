//! What an event says, worked out from its bytes alone.
//!
//! Two forms are understood: plain, `{"id", "config", "custom"}` with `enabled` where the sender has it, and wrapped,
//! `{"type", "entity_id", "data": {..the plain one..}, "timestamp"}`. The subject tells what has happened. Bad is only
//! what cannot be kept under an id: a document that cannot run is a document, and the listing tells what is wrong with
//! it. No value of an event is in an error.

use std::fmt;

use contract::BotId;
use mongodb::bson::{Bson, Document};
use serde_json::{Map, Value};
use thiserror::Error;

/// Before the last word of a subject.
const SUBJECTS: [(&str, Half); 2] = [
    ("the0.bot.", Half::Bots),
    ("the0.bot-schedule.", Half::Schedules),
];

/// Of which kind of bot an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Bots that run all the time.
    Bots,
    /// Bots that run at times.
    Schedules,
}

/// What has happened to a bot.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Whose it is.
    pub id: BotId,
    /// Of which kind of bot it is.
    pub half: Half,
    /// What it is.
    pub kind: Kind,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// There is a new bot; known ones stay as they are.
    Created(Content),
    /// A bot is another from now on, or is there from now on.
    Updated(Content),
    /// It is not there any more.
    Deleted,
}

/// The parts of a bot's document that an event brings; what it does not bring stays as it is.
#[derive(Clone, Default, PartialEq)]
pub struct Content {
    /// The instance's parameters.
    pub config: Option<Bson>,
    /// What the bot is.
    pub custom: Option<Bson>,
    /// The word beside the parameters; with parameters and without this word there is none from then on.
    pub enabled: Option<Bson>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("config", &self.config),
            ("custom", &self.custom),
            ("enabled", &self.enabled),
        ];
        let there = parts.iter().filter(|(_, part)| part.is_some());
        f.debug_set().entries(there.map(|(name, _)| name)).finish()
    }
}

/// Why an event cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadEvent {
    /// Its bytes are no JSON.
    #[error("it is not JSON (line {line}, column {column})")]
    NotJson {
        /// Where that shows.
        line: usize,
        /// See `line`.
        column: usize,
    },
    /// It has no parts.
    #[error("it is not an object: send id, config and custom")]
    NotObject,
    /// It is about nobody.
    #[error("id: is missing or not a text: say which bot it is about")]
    NoId,
    /// It is about something that cannot be named.
    #[error("id: is not usable: 1 to 64 characters of A-Z a-z 0-9 _ - that do not begin with -")]
    BadId,
    /// It says two names.
    #[error("entity_id: is another than data.id: send one of them, or the same")]
    TwoIds,
    /// A name in it cannot be kept.
    #[error("a name in it has a NUL character, which the database does not take")]
    BadName,
    /// It is none of the events about bots.
    #[error(
        "its subject is none of the0.bot.created, .updated and .deleted, and the0.bot-schedule. with the same"
    )]
    Subject,
}

impl Change {
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
        let id = id_of(inner.remove("id"), entity)?;
        let word = SUBJECTS
            .iter()
            .find_map(|(front, half)| Some((subject.strip_prefix(front)?, *half)));
        let (word, half) = word.ok_or(BadEvent::Subject)?;
        let kind = match word {
            "created" => Kind::Created(Content::take(inner)?),
            "updated" => Kind::Updated(Content::take(inner)?),
            "deleted" => Kind::Deleted,
            _ => return Err(BadEvent::Subject),
        };
        Ok(Self { id, half, kind })
    }
}

fn id_of(inner: Option<Value>, entity: Option<Value>) -> Result<BotId, BadEvent> {
    let id = match (inner, entity) {
        (Some(Value::String(id)), Some(Value::String(entity))) if id != entity => {
            return Err(BadEvent::TwoIds);
        }
        (Some(Value::String(id)), _) | (None, Some(Value::String(id))) => id,
        _ => return Err(BadEvent::NoId),
    };
    id.parse().map_err(|_| BadEvent::BadId)
}

impl Content {
    fn take(mut parts: Map<String, Value>) -> Result<Self, BadEvent> {
        let mut part = |name| parts.remove(name).map(stored).transpose();
        Ok(Self {
            config: part("config")?,
            custom: part("custom")?,
            enabled: part("enabled")?,
        })
    }
}

/// JSON as it is kept. An object such as `{"$date": ..}` stays the object that it is.
///
/// # Errors
/// A name in it cannot be kept.
pub fn stored(value: Value) -> Result<Bson, BadEvent> {
    Ok(match value {
        Value::Null => Bson::Null,
        Value::Bool(on) => Bson::Boolean(on),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Bson::Int64(whole),
            None => Bson::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Bson::String(text),
        Value::Array(list) => Bson::Array(list.into_iter().map(stored).collect::<Result<_, _>>()?),
        Value::Object(map) => Bson::Document(map.into_iter().map(named).collect::<Result<_, _>>()?),
    })
}

fn named((name, value): (String, Value)) -> Result<(String, Bson), BadEvent> {
    if name.contains('\0') {
        return Err(BadEvent::BadName);
    }
    Ok((name, stored(value)?))
}

/// The parts by the names they have in a document.
impl From<Content> for Document {
    fn from(content: Content) -> Self {
        let parts = [
            ("config", content.config),
            ("custom", content.custom),
            ("enabled", content.enabled),
        ];
        let there = parts.into_iter();
        there
            .filter_map(|(name, part)| Some((name.to_owned(), part?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;
    use serde_json::json;

    use super::*;

    fn read(word: &str, payload: &Value) -> Result<Change, BadEvent> {
        Change::read(&format!("the0.bot.{word}"), payload.to_string().as_bytes())
    }

    fn content(change: Change) -> Document {
        match change.kind {
            Kind::Created(content) | Kind::Updated(content) => content.into(),
            Kind::Deleted => panic!("it was deleted"),
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        let plain = json!({"id": "b1", "config": {"n": 1}, "custom": {"version": "1"}, "other": 3});
        let entity = json!({"type": "bot.updated", "entity_id": "b1", "timestamp": "now",
            "data": {"config": {"n": 1}, "custom": {"version": "1"}}});
        let both = json!({"type": "x", "entity_id": "b1", "data": plain});
        let expected = read("updated", &plain).unwrap();
        assert_eq!(expected.id.as_str(), "b1");
        for wrapped in [entity, both] {
            assert_eq!(read("updated", &wrapped), Ok(expected.clone()));
        }
        let kept = doc! {"config": {"n": 1_i64}, "custom": {"version": "1"}};
        assert_eq!(content(expected), kept);
    }

    #[test]
    fn the_subject_says_what_has_happened() {
        let payload = json!({"id": "b1", "config": {}});
        let kind = |word| read(word, &payload).map(|change| change.kind);
        assert!(matches!(kind("created"), Ok(Kind::Created(_))));
        assert!(matches!(kind("updated"), Ok(Kind::Updated(_))));
        assert_eq!(kind("deleted"), Ok(Kind::Deleted));
        assert_eq!(kind("moved"), Err(BadEvent::Subject));
        let bare = json!({"type": "bot.deleted", "entity_id": "b1", "data": null});
        assert_eq!(read("deleted", &bare).unwrap().kind, Kind::Deleted);
    }

    #[test]
    fn values_stay_what_they_are() {
        let config = json!({"$date": "x", "a.b": {"$numberLong": "5"}, "": [1, 2.5, -0.0, u64::MAX, null, true, "t"]});
        let payload = json!({"id": "b", "config": config, "enabled": 0});
        let kept = content(read("created", &payload).unwrap());
        let list: Vec<Bson> = vec![
            1_i64.into(),
            2.5.into(),
            (-0.0).into(),
            18_446_744_073_709_551_615.0_f64.into(),
            Bson::Null,
            true.into(),
            "t".into(),
        ];
        let expected = doc! {"$date": "x", "a.b": {"$numberLong": "5"}, "": list};
        assert_eq!(
            kept.get_document("config").unwrap().len(),
            expected.len(),
            "{kept}"
        );
        for (name, value) in expected {
            assert_eq!(kept.get_document("config").unwrap()[&name], value);
        }
        assert_eq!(kept["enabled"], Bson::Int64(0));
    }

    #[test]
    fn what_cannot_be_kept_is_refused_without_its_values() {
        let rows: [(&[u8], BadEvent); 9] = [
            (b"hunter2", BadEvent::NotJson { line: 1, column: 1 }),
            (b"", BadEvent::NotJson { line: 1, column: 0 }),
            (b"[]", BadEvent::NotObject),
            (br#"{"config": {"key": "hunter2"}}"#, BadEvent::NoId),
            (br#"{"id": 7, "entity_id": "b"}"#, BadEvent::NoId),
            (br#"{"id": "../hunter2"}"#, BadEvent::BadId),
            (br#"{"id": ""}"#, BadEvent::BadId),
            (
                br#"{"entity_id": "a", "data": {"id": "b"}}"#,
                BadEvent::TwoIds,
            ),
            (
                br#"{"id": "b", "config": {"a": [{"hunter2\u0000": 1}]}}"#,
                BadEvent::BadName,
            ),
        ];
        for (payload, expected) in rows {
            let refused = Change::read("the0.bot.updated", payload).unwrap_err();
            assert_eq!(refused, expected);
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
        let deep = format!("{{\"id\":\"b\",\"config\":{}", "[".repeat(100_000));
        let refused = Change::read("the0.bot.updated", deep.as_bytes());
        assert!(matches!(refused, Err(BadEvent::NotJson { .. })));
    }

    #[test]
    fn a_change_does_not_print_what_it_brings() {
        let change = read("created", &json!({"id": "b", "config": {"key": "hunter2"}}));
        let text = format!("{change:?}");
        assert!(
            text.contains("config") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
