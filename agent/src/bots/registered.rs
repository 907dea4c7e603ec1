//! Documents registered by `agent deploy`: `<data>/registered/<id>.json`, in the shape of the platform's own.
//!
//! A bot that was undeployed leaves `<id>.gone` until the agent has seen it, so that it is stopped at once and is
//! not taken for one whose document cannot be found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{BotId, BotType};
use serde_json::Value;

use super::{ListError, Listed, Listing, Offer};
use crate::document::Bot;

/// The folder of documents.
pub fn folder(data: &Path) -> PathBuf {
    data.join("registered")
}

/// The file of a bot's document.
pub fn document_path(data: &Path, id: &BotId) -> PathBuf {
    folder(data).join(format!("{id}.json"))
}

fn tombstone_path(data: &Path, id: &BotId) -> PathBuf {
    folder(data).join(format!("{id}.gone"))
}

/// Adds the registered bots to `listing`.
///
/// # Errors
/// The folder cannot be read.
pub fn list(data: &Path, listing: &mut Listing) -> Result<(), ListError> {
    let path = folder(data);
    let failed = |cause| ListError::reading(&path, &cause);
    let entries = match fs::read_dir(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let id = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|s| s.parse().ok());
        let extension = path.extension().and_then(|ext| ext.to_str());
        let (Some(id), Some(extension)) = (id, extension) else {
            continue;
        };
        let listed = match extension {
            "json" => read(&id, &path),
            "gone" if !document_path(data, &id).exists() => gone(&id, &path),
            _ => continue,
        };
        listing.bots.insert(id, Arc::new(listed));
    }
    Ok(())
}

fn read(id: &BotId, path: &Path) -> Listed {
    let source = format!("registered ({})", path.display());
    let document = super::directory::read_value(path);
    let name = document
        .as_ref()
        .ok()
        .and_then(name_of)
        .unwrap_or_else(|| id.to_string());
    let read = document.and_then(|document| {
        let shown = path.display();
        let bot = Bot::from_document(&document).map_err(|err| format!("{shown}: {err}"))?;
        if bot.id == *id && bot.has_schedule && bot.definition.kind == BotType::Scheduled {
            let bot = bot.at_times(&document);
            bot.map_err(|err| format!("{shown}: {err}"))
        } else if bot.id == *id {
            Ok(bot)
        } else {
            Err(format!(
                "{shown}: id: is not the file's name: make them the same"
            ))
        }
    });
    let offer = read.map_or_else(Offer::Unusable, |bot| Offer::Bot(Box::new(bot)));
    Listed::new(name, None, source, offer)
}

fn gone(id: &BotId, path: &Path) -> Listed {
    let source = format!("undeployed ({})", path.display());
    Listed::new(id.to_string(), None, source, Offer::Gone)
}

/// The name a document gives its bot: the instance's if it has one, else the definition's.
pub fn name_of(document: &Value) -> Option<String> {
    let names = ["/config/name", "/custom/config/name"];
    let mut texts = names
        .iter()
        .filter_map(|path| document.pointer(path)?.as_str());
    texts.next().map(str::to_owned)
}

/// All registered documents that can be read.
pub fn documents(data: &Path) -> Vec<Value> {
    let entries = fs::read_dir(folder(data)).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let json = paths.filter(|path| path.extension().is_some_and(|ext| ext == "json"));
    json.filter_map(|path| super::directory::read_value(&path).ok())
        .collect()
}

/// Registers a document, in place of an older one.
///
/// # Errors
/// What the file system answers.
pub fn put(data: &Path, id: &BotId, document: &Value) -> io::Result<()> {
    fs::create_dir_all(folder(data))?;
    contract::file::replace_json(&document_path(data, id), document)?;
    contract::file::remove(&tombstone_path(data, id))
}

/// Takes a document away and leaves word that it was on purpose.
///
/// # Errors
/// What the file system answers.
pub fn remove(data: &Path, id: &BotId) -> io::Result<()> {
    contract::file::replace(&tombstone_path(data, id), b"")?;
    contract::file::remove(&document_path(data, id))
}

/// The agent has seen that the bot is gone.
///
/// # Errors
/// What the file system answers.
pub fn forget(data: &Path, id: &BotId) -> io::Result<()> {
    contract::file::remove(&tombstone_path(data, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(id: &str) -> Value {
        json!({"id": id, "config": {}, "custom": {"version": "1", "filePath": "u/b/1",
            "config": {"name": "b", "type": "realtime", "entrypoints": {"bot": "main.py"}}}})
    }

    fn listed(data: &Path) -> Listing {
        let mut listing = Listing::default();
        list(data, &mut listing).unwrap();
        listing
    }

    #[test]
    fn a_document_is_listed_until_it_is_taken_away_and_then_as_gone() {
        let data = tempfile::tempdir().unwrap();
        let id: BotId = "abc".parse().unwrap();
        assert!(listed(data.path()).bots.is_empty());
        put(data.path(), &id, &document("abc")).unwrap();
        assert!(listed(data.path()).bot(&id).is_some());
        remove(data.path(), &id).unwrap();
        assert_eq!(listed(data.path()).bots[&id].offer, Offer::Gone);
        put(data.path(), &id, &document("abc")).unwrap();
        assert!(listed(data.path()).bot(&id).is_some());
        remove(data.path(), &id).unwrap();
        forget(data.path(), &id).unwrap();
        assert!(listed(data.path()).bots.is_empty());
    }

    #[test]
    fn one_bad_document_spoils_only_itself() {
        let data = tempfile::tempdir().unwrap();
        for id in ["abc", "abd", "abe"] {
            put(data.path(), &id.parse().unwrap(), &document("abc")).unwrap();
        }
        fs::write(folder(data.path()).join("abe.json"), "{\"secret\": hunter2").unwrap();
        let listing = listed(data.path());
        let why = |id: &str| match &listing.bots[&id.parse().unwrap()].offer {
            Offer::Unusable(why) => why.clone(),
            _ => String::new(),
        };
        assert_eq!(why("abc"), "");
        assert!(why("abd").contains("id:"), "{}", why("abd"));
        assert!(why("abe").contains("not JSON") && !why("abe").contains("hunter2"));
    }
}
