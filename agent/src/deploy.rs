//! `agent deploy` and `agent undeploy`: a folder becomes a bundle and a registered document.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use contract::record::Time;
use contract::{BotId, Digest, ObjectKey, file};
use serde_json::{Value, json};

use crate::bots::{directory, registered};
use crate::document::{Bot, Definition};
use crate::failure::Failure;
use crate::launch::{self, Host};
use crate::pack::Tree;
use crate::{id, place};

/// What is deployed.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The bot's folder, with its bot-config.yaml
    dir: PathBuf,
    /// The instance's id, for more than one instance of a bot [default: made of user and name]
    #[arg(long)]
    id: Option<BotId>,
    /// The instance's parameters, YAML or JSON, in place of `config` in the bot-config.yaml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bundle {
    New,
    Same,
    Replaced,
}

/// Packs and registers a bot; gives what to tell the person.
///
/// # Errors
/// What cannot be used, with the remedy.
pub fn deploy(options: &Options, data: &Path) -> Result<String> {
    let shown = options.dir.display();
    let dir = options
        .dir
        .canonicalize()
        .with_context(|| format!("the bot's folder {shown}"))?;
    let data = place::make(data)?;
    let (value, path) = directory::read_definition(&dir).map_err(|err| anyhow!(err))?;
    let shown = path.display();
    let definition = Definition::read(&value, "").with_context(|| shown.to_string())?;
    let config = parameters(options.config.as_deref(), &value)?;
    let user = user();
    let key: ObjectKey = format!("{user}/{}/{}", definition.name, definition.version).parse()?;
    let id = options.id.clone();
    let id =
        id.unwrap_or_else(|| id::from_text(&format!("deployed bot\n{user}/{}", definition.name)));
    let before: Option<Value> =
        file::read_json(&registered::document_path(&data, &id)).unwrap_or(None);
    let mut document = document(&id, &definition, &value, &config, &key, before.as_ref());
    // Everything that can be refused is refused before anything is put.
    let bot = Bot::from_document(&document).with_context(|| shown.to_string())?;
    let host = place::host_beside_agent(&data)?;
    launch::check(&bot, &host)?;

    let tree = directory::scan(&dir, &data, &definition)?;
    directory::check_programs(&tree, &dir, &definition).map_err(|err| anyhow!(err))?;
    refuse_others_version(&data, &id, &key, &tree.digest()?)?;
    let (digest, bundle) = put(&tree, &host, &key)?;
    document["custom"]["codeDigest"] = digest.as_str().into();
    registered::put(&data, &id, &document).context("the document cannot be registered")?;
    let did = if before.is_some() {
        "updated"
    } else {
        "deployed"
    };
    let said = match bundle {
        Bundle::New => "",
        Bundle::Same => " (the code is the same as before)",
        Bundle::Replaced => {
            " (this version had other code before, which is replaced: raise the version to keep both)"
        }
    };
    let next = if is_live(&data) {
        "the agent takes it up"
    } else {
        "no agent runs: `agent dev` runs it"
    };
    Ok(format!(
        "{did} {} {} as {id}{said}; {next}",
        definition.name, definition.version
    ))
}

fn is_live(data: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(place::socket(data)).is_ok()
}

/// Takes a registered bot away; its state and log stay.
///
/// # Errors
/// It is not registered.
pub fn undeploy(word: &str, data: &Path) -> Result<String> {
    let documents = registered::documents(data);
    let known: Vec<id::Known> = documents
        .iter()
        .filter_map(|document| {
            let id = document.get("id")?.as_str()?.parse().ok()?;
            let name = registered::name_of(document).unwrap_or_default();
            Some(id::Known {
                id,
                name,
                alias: None,
            })
        })
        .collect();
    let ever = place::known(data)?;
    let bot = id::find(word, &known).map_err(|unclear| match unclear {
        id::Unclear::Nobody { .. } if ever.iter().any(|bot| bot.name == word) => {
            let why = format!("{word} was not deployed, it is a folder: remove the folder, or set `enabled: false`");
            Failure::NoBot(why)
        }
        other => other.into(),
    })?;
    registered::remove(data, &bot.id).context("the document cannot be removed")?;
    let folder = data.join("bots").join(bot.id.as_str());
    Ok(format!(
        "undeployed {} ({}); its state and log stay in {} and the store",
        bot.name,
        bot.id,
        folder.display()
    ))
}

fn parameters(given: Option<&Path>, definition: &Value) -> Result<Value> {
    let config = match given {
        Some(path) => directory::read_value(path).map_err(|err| anyhow!(err))?,
        None => definition.get("config").cloned().unwrap_or(Value::Null),
    };
    match (config, given) {
        (Value::Null, _) => Ok(json!({})),
        (config @ Value::Object(_), _) => Ok(config),
        (_, Some(path)) => bail!(
            "{} is not a mapping: give parameters by name",
            path.display()
        ),
        (_, None) => bail!("config: is not a mapping: give parameters by name"),
    }
}

/// The document, in the platform's shape.
fn document(
    id: &BotId,
    definition: &Definition,
    value: &Value,
    config: &Value,
    key: &ObjectKey,
    before: Option<&Value>,
) -> Value {
    let mut inner = value.clone();
    let mut enabled = None;
    if let Value::Object(fields) = &mut inner {
        fields.remove("config");
        enabled = fields.remove("enabled");
    }
    let now = String::from(Time::now());
    let created = before.and_then(|b| b.pointer("/custom/createdAt")?.as_str());
    let mut document = json!({
        "id": id,
        "config": config,
        "custom": {
            "version": definition.version,
            "config": inner,
            "filePath": key,
            "createdAt": created.unwrap_or(&now),
            "updatedAt": now,
        },
    });
    if let Some(enabled) = enabled {
        document["enabled"] = enabled;
    }
    document
}

/// Instances share the bundle of a version: its code must not change under another one.
fn refuse_others_version(data: &Path, id: &BotId, key: &ObjectKey, digest: &Digest) -> Result<()> {
    let shares = |document: &&Value| {
        document["id"] != json!(id)
            && document.pointer("/custom/filePath") == Some(&json!(key))
            && document.pointer("/custom/codeDigest") != Some(&json!(digest))
    };
    match registered::documents(data).iter().find(shares) {
        None => Ok(()),
        Some(other) => bail!(
            "{key} is also the code of {}, and this is other code: raise the version in the bot-config.yaml",
            other["id"].as_str().unwrap_or("another bot")
        ),
    }
}

fn put(tree: &Tree, host: &Host, key: &ObjectKey) -> Result<(Digest, Bundle)> {
    let store = place::open_store(host)?;
    let before = store.digest(key)?;
    let digest = store.put(key, |file| tree.write(file).map_err(anyhow::Error::from))?;
    let bundle = match before {
        None => Bundle::New,
        before if before == store.digest(key)? => Bundle::Same,
        Some(_) => Bundle::Replaced,
    };
    Ok((digest, bundle))
}

/// The user's name as a part of object keys.
fn user() -> String {
    let user = std::env::var("USER").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if user.is_empty() || user.starts_with('.') || user == "dev" || !user.chars().all(plain) {
        "local".to_owned()
    } else {
        user
    }
}
