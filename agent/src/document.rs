//! Documents from outside become a [`Bot`] here, or are refused with the field, the reason and the remedy.
//!
//! A *definition* is the platform's `custom.config`, which is also what a `bot-config.yaml` holds: what the bot is.
//! A *document* is `{id, config, custom: {version, config: <definition>, filePath, ..}, enabled}`: one instance of it.
//! Unknown keys are never an error. No refusal quotes a value of `config`.

use contract::{BotId, BotType, Digest, ObjectKey, Runtime, Secret};
use serde_json::{Map, Number, Value};
use thiserror::Error;

use crate::quantity::{self, BadQuantity};
use crate::schedule::timetable::Timetable;

/// A bot to run, every part checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bot {
    /// Its id.
    pub id: BotId,
    /// What it is.
    pub definition: Definition,
    /// Its parameters, the JSON text of an object.
    pub config: Secret,
    /// Where its code is.
    pub code: ObjectKey,
    /// Digest of the code, where the key alone does not tell one content from another.
    pub code_digest: Option<Digest>,
    /// Whether it should run.
    pub enabled: bool,
    /// Whether its parameters name times at which it should run.
    pub has_schedule: bool,
    /// When it runs, if it runs at times; else all the time, or once.
    pub timetable: Option<Timetable>,
    /// The document's limits, as given: they count for the launch digest.
    pub limits: Map<String, Value>,
    /// The same, understood.
    pub bounds: Limits,
}

/// What a bot may use at most, where its document says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Billionths of a CPU.
    pub cpu: Option<u64>,
}

/// What a bot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is written for.
    pub runtime: Runtime,
    /// How its life goes.
    pub kind: BotType,
    /// Its program, relative to the code.
    pub entrypoint: String,
    /// Its query program, relative to the code.
    pub query: Option<String>,
}

/// Why a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {why}")]
pub struct BadDocument {
    /// The field, as a path of names with dots.
    pub field: String,
    /// What is wrong with it and what to do.
    pub why: String,
}

fn refuse<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, BadDocument> {
    let (field, why) = (field.into(), why.into());
    Err(BadDocument { field, why })
}

const LIMITS: [&str; 4] = ["memory_limit", "cpu_limit", "memory_request", "cpu_request"];
/// No container gets less: Docker's own bound.
const LEAST_MEMORY: u64 = 6 << 20;

impl Bot {
    /// Reads a document.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn from_document(document: &Value) -> Result<Self, BadDocument> {
        let id = text(document, "", "id")?.unwrap_or_default();
        let id = named("id", id.parse::<BotId>())?;
        let custom = document.get("custom").unwrap_or(&Value::Null);
        let inner = custom.get("config").unwrap_or(&Value::Null);
        let mut definition = Definition::read(inner, "custom.config.")?;
        if let Some(version) = text(custom, "custom.", "version")? {
            definition.version = version;
        }
        if let Some(Value::String(own)) = document.pointer("/config/name")
            && !own.is_empty()
        {
            definition.name.clone_from(own);
        }
        let code_digest = text(custom, "custom.", "codeDigest")?
            .map(|digest| named("custom.codeDigest", digest.parse()))
            .transpose()?;
        let code = code_key(custom)?;
        Self::assemble(id, definition, document, code, code_digest)
    }

    /// Makes a bot of its parts; `holder` has `config` and `enabled` at its root.
    ///
    /// # Errors
    /// `config` is not an object, or a limit in it is not an amount.
    pub fn assemble(
        id: BotId,
        definition: Definition,
        holder: &Value,
        code: ObjectKey,
        code_digest: Option<Digest>,
    ) -> Result<Self, BadDocument> {
        let config = match holder.get("config") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(config)) => config.clone(),
            Some(_) => return refuse("config", "is not a mapping: give parameters by name"),
        };
        let bounds = Limits::read(&config)?;
        let limits = LIMITS
            .iter()
            .filter_map(|name| config.get_key_value(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Ok(Self {
            id,
            definition,
            enabled: is_enabled(holder),
            has_schedule: config.get("schedule").is_some_and(|s| !s.is_null()),
            timetable: None,
            config: Secret::new(whole_numbers(Value::Object(config)).to_string()),
            code,
            code_digest,
            limits,
            bounds,
        })
    }
}

impl Bot {
    /// The same as a bot that runs at the times its parameters tell; `holder` has these.
    ///
    /// # Errors
    /// They tell none, or what cannot be understood.
    pub fn at_times(mut self, holder: &Value) -> Result<Self, BadDocument> {
        let none = Map::new();
        let config = holder.get("config").and_then(Value::as_object);
        let timetable = Timetable::read(config.unwrap_or(&none));
        self.timetable = Some(timetable.or_else(|(field, why)| refuse(field, why))?);
        self.definition.kind = BotType::Scheduled;
        Ok(self)
    }

    /// The id of the definition that it is an instance of, where its parameters tell.
    pub fn custom_id(&self) -> Option<String> {
        let config: Map<String, Value> = serde_json::from_str(self.config.reveal()).ok()?;
        let id = config.get("customBotId")?.as_str()?;
        (!id.is_empty()).then(|| id.to_owned())
    }

    /// What is to be kept for it, where its document says so.
    pub fn requests(&self) -> Limits {
        // They were read once, or the document was refused.
        let of = |name, read| amount(&self.limits, name, read).ok().flatten();
        Limits {
            memory: of("memory_request", quantity::memory),
            cpu: of("cpu_request", quantity::cpu),
        }
    }
}

impl Limits {
    /// Requests count in Kubernetes only, but an unreadable one is refused everywhere.
    fn read(config: &Map<String, Value>) -> Result<Self, BadDocument> {
        let memory = amount(config, "memory_limit", quantity::memory)?;
        let cpu = amount(config, "cpu_limit", quantity::cpu)?;
        amount(config, "memory_request", quantity::memory)?;
        amount(config, "cpu_request", quantity::cpu)?;
        if memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            let why = "is less than the 6Mi any container needs: Mi are megabytes, m is a thousandth of a byte";
            return refuse("config.memory_limit", why);
        }
        Ok(Self { memory, cpu })
    }
}

/// The amount in a field; an empty one is none.
fn amount(
    config: &Map<String, Value>,
    field: &str,
    read: fn(&Value) -> Result<u64, BadQuantity>,
) -> Result<Option<u64>, BadDocument> {
    match config.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(given) => read(given)
            .map(Some)
            .or_else(|err| refuse(format!("config.{field}"), err.to_string())),
    }
}

impl Definition {
    /// Reads a definition; `prefix` is put before the names of fields in refusals.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn read(value: &Value, prefix: &str) -> Result<Self, BadDocument> {
        if !value.is_object() {
            let field = prefix.trim_end_matches('.');
            let field = if field.is_empty() { "(root)" } else { field };
            return refuse(field, "is not a mapping: give name, version, type, ..");
        }
        let entrypoints = value.get("entrypoints").unwrap_or(&Value::Null);
        let inside = format!("{prefix}entrypoints.");
        let entrypoint = entry(entrypoints, &inside, "bot")?;
        let Some(entrypoint) = entrypoint else {
            let why = "is missing: name the program to run, as in main.py";
            return refuse(inside + "bot", why);
        };
        Ok(Self {
            name: name(value, prefix)?,
            version: version(value, prefix)?,
            runtime: runtime(value, prefix, &entrypoint)?,
            kind: kind(value, prefix)?,
            query: entry(entrypoints, &inside, "query")?,
            entrypoint,
        })
    }
}

fn text(holder: &Value, prefix: &str, field: &str) -> Result<Option<String>, BadDocument> {
    match holder.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => {
            let why = "is not a text: put it in quotes";
            refuse(format!("{prefix}{field}"), why)
        }
    }
}

fn named<T>(field: &str, parsed: Result<T, contract::id::NameError>) -> Result<T, BadDocument> {
    parsed.or_else(|err| refuse(field, err.to_string()))
}

/// A name is shown in terminals and is part of object keys.
fn name(value: &Value, prefix: &str) -> Result<String, BadDocument> {
    let field = || format!("{prefix}name");
    let Some(name) = text(value, prefix, "name")? else {
        return refuse(field(), "is missing: give the bot a name");
    };
    let bad = name.len() > 100 || name.contains(['/', '\\']) || name.chars().any(char::is_control);
    if bad || name.starts_with('.') || name.trim() != name {
        let why = "cannot be used: at most 100 characters, no slash, no dot or space at its begin";
        return refuse(field(), why);
    }
    Ok(name)
}

fn version(value: &Value, prefix: &str) -> Result<String, BadDocument> {
    let version = text(value, prefix, "version")?.unwrap_or_else(|| "0.0.0".into());
    let plain = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
    if version.chars().all(plain) && !version.starts_with('.') && version.len() <= 64 {
        Ok(version)
    } else {
        let why = "cannot be used: letters, digits and . + - _ as in \"1.0.0\"";
        refuse(format!("{prefix}version"), why)
    }
}

/// The runtime given, or else the one that the program's file name tells.
fn runtime(value: &Value, prefix: &str, entrypoint: &str) -> Result<Runtime, BadDocument> {
    let field = || format!("{prefix}runtime");
    if let Some(name) = text(value, prefix, "runtime")? {
        return name
            .parse()
            .or_else(|err: contract::runtime::UnknownRuntime| refuse(field(), err.to_string()));
    }
    match entrypoint.rsplit('.').next() {
        Some("py") => Ok(Runtime::Python),
        Some("js" | "mjs" | "cjs") => Ok(Runtime::Node),
        Some("dll") => Ok(Runtime::Dotnet),
        Some("jar") => Ok(Runtime::Scala),
        _ => refuse(
            field(),
            format!("is missing: use one of {}", Runtime::names()),
        ),
    }
}

fn kind(value: &Value, prefix: &str) -> Result<BotType, BadDocument> {
    let field = || format!("{prefix}type");
    match text(value, prefix, "type")?.as_deref() {
        None | Some("realtime") => Ok(BotType::Realtime),
        Some("scheduled") => Ok(BotType::Scheduled),
        Some("event") => refuse(
            field(),
            "event bots are not run by this version: use realtime or scheduled",
        ),
        Some(other) => refuse(
            field(),
            format!("is {other:?}: use realtime (runs for ever) or scheduled (runs to its end)"),
        ),
    }
}

fn entry(value: &Value, prefix: &str, field: &str) -> Result<Option<String>, BadDocument> {
    let Some(given) = text(value, prefix, field)? else {
        return Ok(None);
    };
    if given.starts_with('/') || given.split('/').any(|part| part == "..") {
        let why = "leaves the bot's folder: give a path inside it, relative and without ..";
        return refuse(format!("{prefix}{field}"), why);
    }
    Ok(Some(given.strip_prefix("./").unwrap_or(&given).to_owned()))
}

/// `filePath`, or of older documents `gcsPath`, which may be an address whose key follows the bucket.
fn code_key(custom: &Value) -> Result<ObjectKey, BadDocument> {
    let field = "custom.filePath";
    let given = text(custom, "custom.", "filePath")?;
    let given = given.map_or_else(|| text(custom, "custom.", "gcsPath"), |g| Ok(Some(g)))?;
    let Some(given) = given else {
        return refuse(field, "is missing: it says where the code is");
    };
    let key = given
        .strip_prefix("gs://")
        .map_or(given.as_str(), |address| {
            address.split_once('/').map_or("", |(_, key)| key)
        });
    named(field, key.parse())
}

/// The one rule about `enabled`: the root's value if it has one, else that in `config`; a null is none.
pub fn is_enabled(holder: &Value) -> bool {
    let of = |value: &Value| value.get("enabled").filter(|v| !v.is_null()).cloned();
    match of(holder).or_else(|| holder.get("config").and_then(of)) {
        Some(Value::Bool(on)) => on,
        Some(Value::String(text)) => !matches!(text.as_str(), "false" | "0"),
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        _ => true,
    }
}

/// Whole numbers that arrived as doubles become integers again: 5.0 is 5.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(number)),
        Value::Array(list) => list.into_iter().map(whole_numbers).collect(),
        Value::Object(map) => {
            let map = map.into_iter().map(|(name, v)| (name, whole_numbers(v)));
            Value::Object(map.collect())
        }
        other => other,
    }
}

fn whole(number: Number) -> Number {
    /// Beyond it a double does not tell neighbouring integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() < EXACT => {
            format!("{value:.0}").parse().unwrap_or(number)
        }
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "_id": 1, "id": "abc", "segment_id": 3.0,
            "config": {"symbol": "BTC", "limit": 5.0, "customBotId": "c"},
            "custom": {
                "version": "1.2.0", "filePath": "u/b/1.2.0", "createdAt": "x",
                "config": {
                    "name": "b", "type": "realtime", "runtime": "nodejs20", "version": "1.0.0",
                    "entrypoints": {"bot": "./main.js", "query": "q.js"}, "schema": {}, "unknown": [1]
                }
            }
        })
    }

    fn with(path: &str, value: Value) -> Value {
        let mut document = document();
        *document
            .pointer_mut(path)
            .unwrap_or_else(|| panic!("{path}")) = value;
        document
    }

    #[test]
    fn a_document_of_the_platform_becomes_a_bot() {
        let bot = Bot::from_document(&document()).unwrap();
        assert_eq!(bot.id.as_str(), "abc");
        assert_eq!(bot.definition.entrypoint, "main.js");
        assert_eq!(
            (
                bot.definition.version.as_str(),
                bot.definition.name.as_str()
            ),
            ("1.2.0", "b")
        );
        let own = Bot::from_document(&with("/config/symbol", json!(1))).unwrap();
        assert_eq!(own.definition.name, "b");
        assert_eq!(bot.code.as_str(), "u/b/1.2.0");
        let config: Value = serde_json::from_str(bot.config.reveal()).unwrap();
        assert_eq!(
            config,
            json!({"symbol": "BTC", "limit": 5, "customBotId": "c"})
        );
        assert!(bot.enabled);
    }

    #[test]
    fn a_refusal_names_the_field_and_the_remedy() {
        let rows = [
            ("/custom/config/runtime", json!("python2"), "use one of"),
            ("/custom/config/type", json!("event"), "use realtime"),
            ("/custom/config/type", json!("daily"), "use realtime"),
            ("/custom/config/name", json!("a/b"), "no slash"),
            ("/custom/config/name", json!(null), "give the bot a name"),
            ("/custom/version", json!(1.0), "quotes"),
            ("/custom/filePath", json!("../x"), ".."),
            ("/custom/config/entrypoints/bot", json!("/x"), "relative"),
            (
                "/custom/config/entrypoints/bot",
                json!(null),
                "name the program",
            ),
            ("/config", json!([1]), "by name"),
            ("/id", json!("a/b"), "usable"),
            ("/custom/config", json!("x"), "mapping"),
        ];
        for (path, value, remedy) in rows {
            let text = Bot::from_document(&with(path, value))
                .unwrap_err()
                .to_string();
            let field = path[1..].replace('/', ".");
            assert!(text.starts_with(&field) && text.contains(remedy), "{text}");
        }
    }

    #[test]
    fn limits_are_understood_and_kept_as_given() {
        let given = json!({"memory_limit": "64Mi", "cpu_limit": 0.5, "memory_request": "", "cpu_request": null});
        let bot = Bot::from_document(&with("/config", given.clone())).unwrap();
        let (memory, cpu) = (Some(64 << 20), Some(500_000_000));
        assert_eq!(bot.bounds, Limits { memory, cpu });
        assert_eq!(Value::Object(bot.limits), given);
        let none = Bot::from_document(&document()).unwrap().bounds;
        assert_eq!(none, Limits::default());
    }

    #[test]
    fn a_limit_that_is_no_amount_is_refused_with_its_field() {
        let rows = [
            ("memory_limit", json!("lots"), "64Mi"),
            ("memory_limit", json!("64m"), "thousandth"),
            ("memory_limit", json!(0.0), "more than zero"),
            ("cpu_limit", json!(-1), "more than zero"),
            ("cpu_limit", json!("1e40"), "give less"),
            ("memory_request", json!(true), "64Mi"),
            ("cpu_request", json!("1 m"), "500m"),
        ];
        for (field, value, remedy) in rows {
            let refused = Bot::from_document(&with("/config", json!({ field: value })));
            let text = refused.unwrap_err().to_string();
            let field = format!("config.{field}: ");
            assert!(text.starts_with(&field) && text.contains(remedy), "{text}");
        }
    }

    #[test]
    fn enabled_is_read_by_one_rule() {
        let rows = [
            (json!({}), true),
            (json!({"enabled": false}), false),
            (json!({"enabled": true, "config": {"enabled": false}}), true),
            (json!({"config": {"enabled": false}}), false),
            (json!({"config": {"enabled": "false"}}), false),
            (json!({"config": {"enabled": "0"}}), false),
            (json!({"config": {"enabled": "no"}}), true),
            (json!({"enabled": 0}), false),
            (json!({"enabled": 0.0}), false),
            (json!({"enabled": 2}), true),
            (json!({"enabled": [false]}), true),
            (
                json!({"enabled": null, "config": {"enabled": false}}),
                false,
            ),
        ];
        for (holder, expected) in rows {
            assert_eq!(is_enabled(&holder), expected, "{holder}");
        }
    }

    #[test]
    fn an_older_documents_address_gives_the_key_after_the_bucket() {
        let mut old = document();
        let custom = old["custom"].as_object_mut().unwrap();
        custom.remove("filePath");
        custom.insert("gcsPath".into(), json!("gs://bucket/u/b/1.0.0.zip"));
        let bot = Bot::from_document(&old).unwrap();
        assert_eq!(bot.code.as_str(), "u/b/1.0.0.zip");
    }

    #[test]
    fn a_runtime_left_out_is_told_by_the_file() {
        let bot = Bot::from_document(&with("/custom/config/runtime", json!(null))).unwrap();
        assert_eq!(bot.definition.runtime, Runtime::Node);
    }

    #[test]
    fn a_bot_does_not_print_its_parameters() {
        let bot = Bot::from_document(&with("/config", json!({"key": "hunter2"}))).unwrap();
        assert!(!format!("{bot:?}").contains("hunter2"));
    }
}
