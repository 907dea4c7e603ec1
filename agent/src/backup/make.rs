//! Collects everything of a stack.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::record::Time;
use contract::{BotId, ObjectKey, Secret};
use hyper::Method;
use nix::fcntl::OFlag;

use super::documents::{COLLECTIONS, Database, JOBS};
use super::format::{FORMAT, Header, Manifest, What};
use super::pack::Writer;
use crate::bots::mongo::open;
use crate::bots::registered;
use crate::document::Bot;
use crate::orders::{Orders, desk};
use crate::report::Row;
use crate::store::Store;
use crate::store::objects::Bucket;
use crate::{client, place};

/// How often an object is fetched before it is given up.
const TRIES: u32 = 4;
/// The pause before it is fetched again, times how often it was.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a running agent may take to tell its bots.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is wanted.
pub struct Order {
    /// The stack's name.
    pub stack: String,
    /// The database, where there is one.
    pub uri: Option<Secret>,
    /// Older states too.
    pub history: bool,
    /// Logs too.
    pub logs: bool,
}

/// Makes a backup as a file, whole or not at all.
pub fn into_file(order: &Order, data: &Path, path: &Path) -> Result<Manifest> {
    let name = path.file_name().context("name a file")?;
    let partial = path.with_file_name(format!("{}.partial", name.display()));
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let shown = || partial.display().to_string();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&partial)
        .with_context(shown)?;
    if file.try_lock().is_err() {
        bail!("{}: another backup is being written there", shown());
    }
    file.set_len(0).with_context(shown)?;
    // One that was there may be open to others.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    file.set_permissions(mode).with_context(shown)?;
    let made = make(order, data, BufWriter::new(&file), folder);
    let finished = made.and_then(|(mut out, manifest)| {
        out.flush()?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(folder)?.sync_all()?;
        Ok(manifest)
    });
    if finished.is_err() {
        let _ = fs::remove_file(&partial);
    }
    finished.with_context(|| path.display().to_string())
}

/// Makes a backup; what does not go out at once lies in `folder` meanwhile, under no name.
pub fn make<W: Write>(order: &Order, data: &Path, out: W, folder: &Path) -> Result<(W, Manifest)> {
    let data = std::path::absolute(data)?;
    let host = place::host_beside_agent(&data)?;
    let store = place::open_store(&host)?;
    let header = Header {
        format: FORMAT,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        made: Time::now(),
        stack: order.stack.clone(),
    };
    let mut found = Found::default();
    let mut orders = desk::kept(&data)?;
    let tables = match &order.uri {
        Some(uri) => {
            let database = Database::open(uri)?;
            orders = orders.merged(&database.orders()?);
            found.read_database(&database, folder)?
        }
        None => Vec::new(),
    };
    if order.uri.is_none() {
        found.read_folder(&data)?;
    }
    let mut making = Making {
        writer: Writer::begin(out, header)?,
        store,
        folder: folder.to_owned(),
    };
    for key in &found.code {
        if !making.object(Bucket::Code, key)? {
            let missing = format!("bundle {key}: the store has none");
            making.writer.is_missing(missing);
        }
    }
    for bot in &found.bots {
        making.bot(bot, order)?;
    }
    for job in found.jobs.iter().filter(|_| order.logs) {
        making.logs(job)?;
    }
    making.settings(&orders)?;
    for (bot, path) in &found.registered {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let what = What::Registered { bot: bot.clone() };
        let name = format!("registered/{bot}.json");
        making.writer.add(&name, what, &mut file)?;
    }
    for (collection, count, mut file) in tables {
        let name = format!("documents/{collection}.bson");
        let what = What::Documents { collection, count };
        making.writer.add(&name, what, &mut file)?;
    }
    making.writer.finish()
}

/// Whose things these are.
#[derive(Default)]
struct Found {
    bots: BTreeSet<BotId>,
    /// They have code and logs, and no state.
    jobs: BTreeSet<BotId>,
    code: BTreeSet<ObjectKey>,
    registered: Vec<(BotId, PathBuf)>,
}

impl Found {
    /// Collections, each with its number of documents and a file of them.
    fn read_database(
        &mut self,
        database: &Database,
        folder: &Path,
    ) -> Result<Vec<(String, u64, File)>> {
        let mut tables = Vec::new();
        for collection in COLLECTIONS {
            let mut file = spool(folder)?;
            let count = database.copy(collection, &mut file, |document| {
                let (owner, code) = open::owner(document);
                match collection {
                    JOBS => self.jobs.extend(owner),
                    _ => self.bots.extend(owner),
                }
                self.code.extend(code);
            })?;
            tables.push((collection.to_owned(), count, file));
        }
        Ok(tables)
    }

    /// Bots that were deployed, and those whose states and logs are here.
    fn read_folder(&mut self, data: &Path) -> Result<()> {
        for document in registered::documents(data) {
            let Ok(bot) = Bot::from_document(&document) else {
                continue;
            };
            let path = registered::document_path(data, &bot.id);
            self.registered.push((bot.id.clone(), path));
            self.code.insert(bot.code);
        }
        let known = place::known(data)?;
        self.bots.extend(known.into_iter().map(|bot| bot.id));
        match client::call(data, &Method::GET, "/v1/bots", "", PATIENCE) {
            Ok((_, answer)) => {
                let rows: Vec<Row> = serde_json::from_value(answer["bots"].clone())?;
                self.bots.extend(rows.into_iter().map(|row| row.id));
            }
            // An empty file must not pass for a backup of them.
            Err(_) if place::containers(data)?.is_some() => bail!(
                "MONGO_URI is not set, and the agent of {} ran bots as containers: set it, or start that agent, which \
                 knows the bots of its folder",
                data.display()
            ),
            Err(_) => {}
        }
        if self.bots.is_empty() {
            bail!(
                "no bots are known in {}: set MONGO_URI, or name the agent's folder with --data",
                data.display()
            );
        }
        Ok(())
    }
}

struct Making<W: Write> {
    writer: Writer<W>,
    store: Store,
    folder: PathBuf,
}

impl<W: Write> Making<W> {
    /// Everything that the store has of a bot.
    fn bot(&mut self, bot: &BotId, order: &Order) -> Result<()> {
        let key = ObjectKey::state(bot);
        let mut file = spool(&self.folder)?;
        if let Some(about) = self.fetch(Bucket::State, &key, &mut file)? {
            let what = What::State {
                bot: bot.clone(),
                etag: about.etag,
                metadata: about.metadata,
            };
            self.writer.add(&format!("states/{key}"), what, &mut file)?;
        }
        if order.history {
            let folder = format!("{bot}/.the0/history");
            for key in self.store.keys(Bucket::State, &folder)? {
                // One that was pruned meanwhile had its time.
                self.object(Bucket::State, &key)?;
            }
        }
        if order.logs {
            self.logs(bot)?;
        }
        Ok(())
    }

    fn logs(&mut self, of: &BotId) -> Result<()> {
        for key in self.store.keys(Bucket::Logs, &format!("logs/{of}"))? {
            self.object(Bucket::Logs, &key)?;
        }
        Ok(())
    }

    /// An object, if it is there.
    fn object(&mut self, bucket: Bucket, key: &ObjectKey) -> Result<bool> {
        let mut file = spool(&self.folder)?;
        let Some(about) = self.fetch(bucket, key, &mut file)? else {
            return Ok(false);
        };
        let name = match bucket {
            Bucket::Code => format!("code/{key}"),
            Bucket::State => format!("states/{key}"),
            Bucket::Logs => key.to_string(),
        };
        let what = What::Object {
            bucket,
            key: key.clone(),
            metadata: about.metadata,
        };
        self.writer.add(&name, what, &mut file)?;
        Ok(true)
    }

    /// One version of it, whole; what came cut off is fetched anew.
    fn fetch(
        &self,
        bucket: Bucket,
        key: &ObjectKey,
        to: &mut File,
    ) -> Result<Option<crate::store::objects::About>> {
        for attempt in 1.. {
            to.set_len(0)?;
            to.rewind()?;
            match self.store.fetch(bucket, key, to) {
                Ok(about) => return Ok(about),
                Err(error) if attempt == TRIES => return Err(error.into()),
                Err(_) => std::thread::sleep(PAUSE * attempt),
            }
        }
        Ok(None)
    }

    fn settings(&mut self, orders: &Orders) -> Result<()> {
        let stopped = serde_json::to_vec(&orders.stopped())?;
        let switch = serde_json::to_vec(&orders.switch())?;
        let settings = [
            ("settings/stopped.json", What::Stopped, stopped),
            ("settings/switch.json", What::Switch, switch),
        ];
        for (name, what, bytes) in settings {
            let mut file = spool(&self.folder)?;
            file.write_all(&bytes)?;
            self.writer.add(name, what, &mut file)?;
        }
        Ok(())
    }
}

/// A file without a name, gone with whoever has it open.
pub fn spool(folder: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let nameless = options
        .clone()
        .custom_flags(OFlag::O_TMPFILE.bits())
        .open(folder);
    if let Ok(file) = nameless {
        return Ok(file);
    }
    // Not every file system has such: here it has a name for a moment.
    let path = folder.join(format!(".the0-{}-{}", std::process::id(), unique()));
    let file = options.create_new(true).open(&path);
    let file = file.with_context(|| format!("a file in {}", folder.display()))?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// A number that no other call of this process gives.
pub fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}
