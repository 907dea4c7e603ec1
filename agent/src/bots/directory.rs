//! Bots as folders: each folder with a `bot-config.yaml` (`.yml`, `.json`) in the folder given, and that one itself.
//!
//! The file holds the fields of the platform's `custom.config`, and beside them `config` (the instance's parameters)
//! and `enabled`. A bot's id is made of its folder's name, so that it stays the same while the file is edited or
//! cannot be read, and moving the folder to another place or machine changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use contract::{BotId, BotType, Digest};
use serde_json::Value;

use super::settle::{QUIET, Settled};
use super::{ListError, Listed, Listing, Offer, registered};
use crate::document::{Bot, Definition};
use crate::pack::{PackError, Scope, Tree};
use crate::store::{Store, StoreError};

/// Time between listings of folders when nothing is seen to change.
pub const RHYTHM: Duration = Duration::from_secs(2);

/// The names a definition may have.
pub const FILES: [&str; 3] = ["bot-config.yaml", "bot-config.yml", "bot-config.json"];

/// A folder of bots, and the agent's registered documents.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    data: PathBuf,
    seen: BTreeMap<PathBuf, Seen>,
}

/// What is known of one folder from earlier looks.
#[derive(Debug)]
struct Seen {
    /// Fingerprint and content digest of the same moment.
    content: Option<(Digest, Digest)>,
    draft: Settled<Draft>,
    /// What was offered last.
    offer: Offer,
}

/// A folder as it was found in one look.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Draft {
    /// It can be packed and run.
    Bot(Box<Bot>),
    /// It cannot, and why.
    Unusable(String),
}

impl Directory {
    /// Looks into `root`; `data` is the agent's own folder.
    pub fn new(root: PathBuf, data: PathBuf) -> Self {
        let seen = BTreeMap::new();
        Self { root, data, seen }
    }

    /// Folders in which changes may be seen early.
    pub fn places(&self) -> Vec<PathBuf> {
        let registered = registered::folder(&self.data);
        let mut places = vec![self.root.clone(), registered];
        places.extend(self.seen.keys().cloned());
        places
    }

    /// Lists all bots.
    ///
    /// # Errors
    /// The folder or the registered documents cannot be read.
    pub fn list(&mut self, store: &Store, now: Instant) -> Result<Listing, ListError> {
        let folders = self.folders()?;
        self.seen.retain(|folder, _| folders.contains(folder));
        let mut listing = Listing::default();
        for folder in folders {
            let offer = self.look(&folder, store, now);
            let moving = self
                .seen
                .get(&folder)
                .is_some_and(|seen| seen.draft.is_moving());
            if moving {
                listing.again = Some(QUIET);
            }
            add(&mut listing, &folder, offer);
        }
        registered::list(&self.data, &mut listing)?;
        Ok(listing)
    }

    /// The folders with a definition, those of an earlier look that lost it for a moment excepted.
    fn folders(&self) -> Result<Vec<PathBuf>, ListError> {
        let failed = |cause| ListError::reading(&self.root, &cause);
        let mut folders = Vec::new();
        if definition_file(&self.root).map_err(failed)?.is_some() {
            folders.push(self.root.clone());
        }
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let hidden = path
                .file_name()
                .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
            if hidden || path == self.data || !path.is_dir() {
                continue;
            }
            match definition_file(&path) {
                Ok(None) => {}
                // A folder that cannot be read is told as such, by the look into it.
                Ok(Some(_)) | Err(_) => folders.push(path),
            }
        }
        folders.sort();
        Ok(folders)
    }

    /// One folder's offer, by what has stood still for a moment.
    fn look(&mut self, folder: &Path, store: &Store, now: Instant) -> Offer {
        let before = self.seen.get(folder).and_then(|seen| seen.content.clone());
        let (draft, content) = match draft(folder, &self.data, before) {
            Ok((bot, content)) => (Draft::Bot(Box::new(bot)), Some(content)),
            Err(why) => (Draft::Unusable(why), None),
        };
        let seen = self.seen.entry(folder.to_owned()).or_insert_with(|| Seen {
            content: None,
            draft: Settled::new(draft.clone()),
            offer: Offer::Gone,
        });
        seen.content = content
            .filter(|(_, _, trusted)| *trusted)
            .map(|(f, d, _)| (f, d));
        let offer = match seen.draft.see(draft, now) {
            Draft::Unusable(why) => Some(Offer::Unusable(why.clone())),
            Draft::Bot(bot) => match ensure(bot, folder, &self.data, store) {
                Ok(()) => Some(Offer::Bot(bot.clone())),
                // It is being written to: what was offered goes on, and the next look sees more.
                Err(PackError::Changed { .. }) if seen.offer != Offer::Gone => None,
                Err(err) => Some(Offer::Unusable(err.to_string())),
            },
        };
        if let Some(offer) = offer {
            seen.offer = offer;
        }
        seen.offer.clone()
    }
}

fn add(listing: &mut Listing, folder: &Path, offer: Offer) {
    let alias = folder_name(folder);
    let id = id_of(&alias);
    let name = match &offer {
        Offer::Bot(bot) => bot.definition.name.clone(),
        _ => alias.clone(),
    };
    let source = folder.display().to_string();
    if let Some(first) = listing.bots.get(&id) {
        listing.remarks.push(format!(
            "{source} and {} have the same name: the first is left out, rename one of the folders",
            first.source
        ));
        return;
    }
    let listed = Listed::new(name, Some(alias), source, offer);
    listing.bots.insert(id, Arc::new(listed));
}

/// The bot of a folder, with the fingerprint and digest of its content and whether the first tells the second.
fn draft(
    folder: &Path,
    data: &Path,
    before: Option<(Digest, Digest)>,
) -> Result<(Bot, (Digest, Digest, bool)), String> {
    let (value, path) = read_definition(folder)?;
    let refused = |err: crate::document::BadDocument| format!("{}: {err}", path.display());
    let definition = Definition::read(&value, "").map_err(refused)?;
    let started = SystemTime::now();
    let tree = scan(folder, data, &definition).map_err(|err| err.to_string())?;
    check_programs(&tree, folder, &definition)?;
    let fingerprint = tree.fingerprint();
    let digest = match before {
        Some((same, digest)) if same == fingerprint => digest,
        _ => tree.digest().map_err(|err| err.to_string())?,
    };
    let key = format!(
        "dev/{}/{}-{}",
        definition.name,
        definition.version,
        digest.short()
    );
    let key = key
        .parse()
        .map_err(|err: contract::id::NameError| err.to_string())?;
    let id = id_of(&folder_name(folder));
    let bot = Bot::assemble(id, definition, &value, key, Some(digest.clone())).map_err(refused)?;
    let bot = if bot.has_schedule && bot.definition.kind == BotType::Scheduled {
        bot.at_times(&value).map_err(refused)?
    } else {
        bot
    };
    let trusted = !tree.is_racy(started);
    Ok((bot, (fingerprint, digest, trusted)))
}

/// What of `folder` goes into the bundle of a bot so defined.
///
/// # Errors
/// As [`Tree::scan`].
pub fn scan(folder: &Path, data: &Path, definition: &Definition) -> Result<Tree, PackError> {
    let mut always = vec![definition.runtime.entry_file(&definition.entrypoint)];
    if let Some(query) = &definition.query {
        always.push(definition.runtime.entry_file(query));
    }
    let always: Vec<&str> = always.iter().map(String::as_str).collect();
    Tree::scan(Scope {
        root: folder,
        always: &always,
        except: data,
    })
}

/// Whether the programs of the definition are in the bundle.
///
/// # Errors
/// The field, the file and the remedy.
pub fn check_programs(tree: &Tree, folder: &Path, definition: &Definition) -> Result<(), String> {
    let programs = [
        ("bot", Some(&definition.entrypoint)),
        ("query", definition.query.as_ref()),
    ];
    for (field, entry) in programs {
        let Some(entry) = entry else { continue };
        let file = definition.runtime.entry_file(entry);
        if !tree.has_file(&file) {
            let remedy = if definition.runtime.is_native() {
                "build it, or correct the name"
            } else {
                "correct the name"
            };
            let path = folder.join(file);
            let path = path.display();
            return Err(format!(
                "entrypoints.{field}: there is no file {path}: {remedy}"
            ));
        }
    }
    Ok(())
}

/// Puts the bot's bundle into the store unless it is there.
fn ensure(bot: &Bot, folder: &Path, data: &Path, store: &Store) -> Result<(), PackError> {
    if store.has(&bot.code)? {
        return Ok(());
    }
    let tree = scan(folder, data, &bot.definition)?;
    store.put(&bot.code, |file| {
        let digest = tree.write(file)?;
        if Some(&digest) == bot.code_digest.as_ref() {
            Ok(())
        } else {
            let path = folder.to_owned();
            Err(PackError::Changed { path })
        }
    })
}

impl From<StoreError> for PackError {
    fn from(err: StoreError) -> Self {
        PackError::Write(err.to_string())
    }
}

/// The definition's file in `folder`; of several, the first of [`FILES`].
///
/// # Errors
/// The folder cannot be read.
pub fn definition_file(folder: &Path) -> io::Result<Option<PathBuf>> {
    for name in FILES {
        let path = folder.join(name);
        match path.metadata() {
            Ok(found) if found.is_file() => return Ok(Some(path)),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    Ok(None)
}

/// Reads the definition in `folder`.
///
/// # Errors
/// The file, the place in it and what is wrong, without its values.
pub fn read_definition(folder: &Path) -> Result<(Value, PathBuf), String> {
    let found = definition_file(folder).map_err(|err| format!("{}: {err}", folder.display()))?;
    let path = found.ok_or_else(|| {
        let folder = folder.display();
        format!("{folder} has no bot-config.yaml: it says what the bot is, see examples/README.md")
    })?;
    let value = read_value(&path)?;
    Ok((value, path))
}

/// Reads a YAML or JSON file.
///
/// # Errors
/// The file and the place in it, without its values.
pub fn read_value(path: &Path) -> Result<Value, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|err| format!("{shown}: {err}"))?;
    if path.extension().is_some_and(|ext| ext == "json") {
        return serde_json::from_str(&text).map_err(|err| {
            let (line, column) = (err.line(), err.column());
            format!("{shown}: is not JSON at line {line}, column {column}: correct it there")
        });
    }
    serde_norway::from_str(&text).map_err(|err| {
        let place = err.location().map_or(String::new(), |at| {
            format!(" at line {}, column {}", at.line(), at.column())
        });
        format!("{shown}: is not usable YAML{place}: correct it there")
    })
}

/// The id of the bot in a folder of this name: 24 characters of a-z0-9, the same everywhere.
pub fn id_of(name: &str) -> BotId {
    crate::id::from_text(&format!("directory bot\n{name}"))
}

fn folder_name(folder: &Path) -> String {
    folder
        .file_name()
        .map_or("bot".into(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
#[path = "directory/tests.rs"]
mod tests;
