//! Puts a backup back.
//!
//! ```text
//! read all of it ─▶ nobody runs ─▶ nothing else is there ─▶ code, states, logs ─▶ settings ─▶ documents
//!   (nothing is changed until here)                  (begun again, it passes over what is there)
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use contract::launch::Variables;
use contract::{BotId, Digest, ObjectKey, Secret, file};
use serde_json::Value;

use super::documents::{self, Database, Fate, Known};
use super::format::{Entry, Manifest, What};
use super::pack::{self, Hashed};
use super::running::{self, Site};
use super::states::{States, There};
use crate::bots::mongo::open;
use crate::bots::registered;
use crate::launch::Host;
use crate::orders::{Orders, desk};
use crate::place;
use crate::plan::Switch;
use crate::store::Store;
use crate::store::objects::Bucket;

/// Differences that are told one by one.
const TOLD: usize = 20;

/// How it is to be done.
pub struct Order {
    /// The database, where there is one.
    pub uri: Option<Secret>,
    /// Whether what differs is replaced.
    pub force: bool,
    /// Whether it is looked for bots that run.
    pub looks: bool,
    /// The namespace whose Pods they would be.
    pub namespace: Option<String>,
    /// The agent's environment.
    pub environment: Variables,
}

/// Puts it back, and says what was done.
pub fn restore(order: &Order, data: &Path, path: &Path) -> Result<String> {
    let read = Contents::read(path).with_context(unchanged)?;
    if order.uri.is_none() && !read.tables.is_empty() {
        bail!(
            "MONGO_URI is not set, and documents of MongoDB are in the backup: {}",
            unchanged()
        );
    }
    let data = place::make(data)?;
    let _owned = place::own(&data).context("nothing may run while it is put back")?;
    if let Some(site) = order.site(&data, !read.tables.is_empty())? {
        running::none(&site, &read.bots).with_context(unchanged)?;
    }
    let host = place::host_beside_agent(&data)?;
    let store = place::open_store(&host)?;
    let database = order.uri.as_ref().filter(|_| !read.tables.is_empty());
    let database = database
        .map(Database::open)
        .transpose()
        .with_context(unchanged)?;
    if let Some(database) = database.as_ref().filter(|_| !order.force) {
        nobody_acts(database).with_context(unchanged)?;
    }
    let room = Room::make(&data)?;
    let work = Work {
        path,
        read: &read,
        data: &data,
        store: &store,
        states: States::open(&host, &store, room.0.clone())?,
        database,
        room: &room,
    };
    let plan = work.plan().with_context(unchanged)?;
    if !order.force && !plan.differs.is_empty() {
        bail!(
            "{}\n{}; --force replaces it",
            listed(&plan.differs),
            unchanged()
        );
    }
    prepare(&store, &host)?;
    let put = work
        .put(&plan)
        .context("it is not whole yet: do it again, it goes on from there")?;
    let held = match work.words()?.switch() {
        Switch::Off => "; all bots are stopped until `agent start --all`",
        Switch::On => "",
    };
    let (told, file) = (read.manifest.told(), path.display());
    Ok(format!(
        "{file} is put back: {told}; {put} of it were not there already{held}"
    ))
}

impl Order {
    /// Where bots of it may run that do not end with their agent; `are_shared` is whether they are a database's.
    fn site(&self, data: &Path, are_shared: bool) -> Result<Option<Site>> {
        if !self.looks {
            return Ok(None);
        }
        let pods = place::pods(data)?.map(|pods| pods.namespace);
        if let Some(namespace) = self.namespace.clone().or(pods) {
            return Ok(Some(Site::Kubernetes(namespace)));
        }
        let remembered = place::containers(data)?;
        let host = self.environment.get("DOCKER_HOST");
        let host = host.filter(|host| !host.is_empty()).cloned();
        let may_run = remembered.is_some() || are_shared;
        Ok(may_run.then(|| Site::Docker(host.or(remembered.and_then(|c| c.docker_host)))))
    }
}

/// An agent elsewhere would start bots of which not all is there yet.
fn nobody_acts(database: &Database) -> Result<()> {
    if let Some(active) = database.active()? {
        bail!(
            "{active}: end it first (a killed one counts for 15 s more), or give --force, and its bots are changed under it"
        );
    }
    Ok(())
}

fn unchanged() -> &'static str {
    "nothing was changed"
}

fn listed(differs: &[String]) -> String {
    let mut text = format!("{} things are there already and differ:", differs.len());
    for what in differs.iter().take(TOLD) {
        text += "\n  ";
        text += what;
    }
    if differs.len() > TOLD {
        text += "\n  ..";
    }
    text
}

fn prepare(store: &Store, host: &Host) -> Result<()> {
    store.prepare()?;
    place::remember_store(host).map(drop)
}

/// What is in a backup, besides the objects.
struct Contents {
    manifest: Manifest,
    /// Documents by collection.
    tables: BTreeMap<String, Known>,
    /// Entries that are small and JSON.
    small: BTreeMap<String, Value>,
    bots: BTreeSet<BotId>,
}

impl Contents {
    fn read(path: &Path) -> Result<Self> {
        let (mut tables, mut small) = (BTreeMap::new(), BTreeMap::new());
        let mut bots = BTreeSet::new();
        let manifest = pack::read(path, |name, entry| {
            let table = name.strip_prefix("documents/");
            if let Some(collection) = table.and_then(|name| name.strip_suffix(".bson")) {
                let known =
                    documents::known(entry, |document| bots.extend(open::owner(document).0));
                tables.insert(collection.to_owned(), known?);
            } else if name.starts_with("settings/") || name.starts_with("registered/") {
                let value = serde_json::from_reader(entry).with_context(|| name.to_owned())?;
                small.insert(name.to_owned(), value);
            }
            Ok(())
        })?;
        bots.extend(manifest.bots().cloned());
        for entry in &manifest.entries {
            if let What::Documents { collection, .. } = &entry.what {
                let is_known = documents::COLLECTIONS.contains(&collection.as_str());
                ensure!(
                    is_known && tables.contains_key(collection),
                    "{}: {collection} is no collection of bots or jobs",
                    entry.name
                );
            }
        }
        Ok(Self {
            manifest,
            tables,
            small,
            bots,
        })
    }

    fn json(&self, entry: &Entry) -> Value {
        self.small.get(&entry.name).cloned().unwrap_or_default()
    }
}

/// A folder of its own, gone with it.
struct Room(PathBuf);

impl Room {
    fn make(data: &Path) -> Result<Self> {
        let path = data.join("restore.tmp");
        // One that was killed has left its own.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What there is to do.
#[derive(Default)]
struct Plan {
    /// Entries that are there already, by name.
    same: BTreeSet<String>,
    /// What is there and differs, for a person.
    differs: Vec<String>,
    /// Documents that are there, by collection.
    present: BTreeMap<String, Known>,
}

struct Work<'a> {
    path: &'a Path,
    read: &'a Contents,
    data: &'a Path,
    store: &'a Store,
    states: States<'a>,
    database: Option<Database>,
    room: &'a Room,
}

impl Work<'_> {
    fn plan(&self) -> Result<Plan> {
        let mut plan = Plan::default();
        for entry in &self.read.manifest.entries {
            let (there, what) = match &entry.what {
                What::Documents { collection, .. } => {
                    self.plan_documents(collection, &mut plan)?;
                    continue;
                }
                What::State { bot, metadata, .. } => {
                    let archive = || self.extract(&entry.name);
                    let there = self.states.compare(bot, metadata, archive)?;
                    (there, format!("the state of bot {bot}"))
                }
                What::Object { bucket, key, .. } => {
                    let there = self.compare_object(*bucket, key, entry)?;
                    (there, format!("object {key} ({bucket:?})").to_lowercase())
                }
                What::Registered { bot } => {
                    let path = registered::document_path(self.data, bot);
                    (
                        self.compare_file(&path, entry)?,
                        format!("the document of bot {bot}"),
                    )
                }
                What::Stopped => self.compare_stopped(entry)?,
                What::Switch => {
                    // Nobody's bots run again because of a backup.
                    let ours: Switch = serde_json::from_value(self.read.json(entry))?;
                    let is_new = ours == Switch::Off && self.words()?.switch() == Switch::On;
                    let there = if is_new { There::Nothing } else { There::Same };
                    (there, "the switch of all bots".into())
                }
            };
            match there {
                There::Nothing => {}
                There::Same => drop(plan.same.insert(entry.name.clone())),
                There::Other => plan.differs.push(what),
            }
        }
        Ok(plan)
    }

    fn plan_documents(&self, collection: &str, plan: &mut Plan) -> Result<()> {
        let (Some(database), Some(ours)) = (&self.database, self.read.tables.get(collection))
        else {
            return Ok(());
        };
        let present = database.present(collection, ours)?;
        for (key, digests) in ours {
            let differs = |digest| documents::fate(key, digest, ours, &present) == Fate::Differs;
            if collection != documents::JOBS && digests.iter().any(differs) {
                plan.differs
                    .push(format!("the document with {key} in {collection}"));
            }
        }
        plan.present.insert(collection.to_owned(), present);
        Ok(())
    }

    fn compare_object(&self, bucket: Bucket, key: &ObjectKey, entry: &Entry) -> Result<There> {
        let Some(about) = self.store.about(bucket, key)? else {
            return Ok(There::Nothing);
        };
        if about.size != entry.size {
            return Ok(There::Other);
        }
        let mut file = super::make::spool(&self.room.0)?;
        Ok(match self.store.fetch(bucket, key, &mut file)? {
            None => There::Nothing,
            Some(_) => same_or_other(sum(file)? == entry.sha256),
        })
    }

    fn compare_file(&self, path: &Path, entry: &Entry) -> Result<There> {
        let there = file::read_json::<Value>(path).with_context(|| path.display().to_string())?;
        let ours = self.read.json(entry);
        Ok(there.map_or(There::Nothing, |there| same_or_other(there == ours)))
    }

    /// One entry as a file.
    fn extract(&self, wanted: &str) -> Result<PathBuf> {
        let path = self.room.0.join(format!("one-{}", super::make::unique()));
        pack::read(self.path, |name, entry| {
            if name == wanted {
                io::copy(entry, &mut File::create_new(&path)?)?;
            }
            Ok(())
        })?;
        Ok(path)
    }

    /// Puts back what is not there; gives how many things that were.
    fn put(&self, plan: &Plan) -> Result<u64> {
        // What was said here may not have come to the database, or not to this one.
        if let Some(database) = &self.database {
            database.say(&desk::kept(self.data)?)?;
        }
        let entries = self.read.manifest.entries.iter();
        let entries: HashMap<&str, &Entry> = entries.map(|e| (e.name.as_str(), e)).collect();
        let mut count = 0;
        pack::read(self.path, |name, from| {
            let Some(entry) = entries.get(name).filter(|_| !plan.same.contains(name)) else {
                return Ok(());
            };
            let copy = self.room.0.join("entry");
            let mut hashed = Hashed::new(from);
            io::copy(&mut hashed, &mut File::create(&copy)?)?;
            ensure!(
                hashed.digest() == entry.sha256,
                "{name} has changed since it was looked at"
            );
            count += self.put_entry(entry, &copy, plan)?;
            Ok(())
        })?;
        Ok(count)
    }

    fn put_entry(&self, entry: &Entry, copy: &Path, plan: &Plan) -> Result<u64> {
        match &entry.what {
            What::Documents { collection, .. } => {
                return self.put_documents(collection, copy, plan);
            }
            What::State { bot, .. } => self.states.put(bot, copy)?,
            What::Object {
                bucket,
                key,
                metadata,
            } => self.store.place(*bucket, key, copy, metadata)?,
            What::Registered { bot } => {
                let document: Value = serde_json::from_slice(&fs::read(copy)?)?;
                registered::put(self.data, bot, &document)?;
            }
            What::Stopped => {
                let stopped: BTreeSet<BotId> = serde_json::from_slice(&fs::read(copy)?)?;
                let words = self.words()?;
                let others = words.stopped().into_iter();
                let others = others.filter(|bot| !self.read.bots.contains(bot));
                let all = others.chain(stopped).collect();
                let switch = words.switch();
                self.say(words, &all, switch)?;
            }
            What::Switch => {
                let words = self.words()?;
                let stopped = words.stopped();
                self.say(words, &stopped, Switch::Off)?;
            }
        }
        Ok(1)
    }

    /// What people have said, here and to the agents of the database.
    fn words(&self) -> Result<Orders> {
        let kept = desk::kept(self.data)?;
        match &self.database {
            Some(database) => Ok(kept.merged(&database.orders()?)),
            None => Ok(kept),
        }
    }

    /// Says that these are stopped and no others, and whether any may run, here and to all those.
    fn say(&self, mut words: Orders, stopped: &BTreeSet<BotId>, switch: Switch) -> Result<()> {
        words.say(stopped, switch, desk::millis(SystemTime::now()));
        desk::keep(self.data, &words)?;
        let database = self.database.as_ref();
        database.map_or(Ok(()), |database| database.say(&words))
    }

    /// Of the bots of the backup, which are stopped in it and there. That one is stopped replaces nothing; that one would run
    /// again does.
    fn compare_stopped(&self, entry: &Entry) -> Result<(There, String)> {
        let ours: BTreeSet<BotId> = serde_json::from_value(self.read.json(entry))?;
        let there = self.words()?.stopped();
        let again = there.difference(&ours);
        let again = again.filter(|bot| self.read.bots.contains(*bot));
        let again: Vec<&str> = again.map(BotId::as_str).collect();
        let what = format!("the stop of {}, which would run again", again.join(", "));
        Ok(match (again.is_empty(), ours.is_subset(&there)) {
            (false, _) => (There::Other, what),
            (true, true) => (There::Same, what),
            (true, false) => (There::Nothing, what),
        })
    }

    fn put_documents(&self, collection: &str, copy: &Path, plan: &Plan) -> Result<u64> {
        let none = Known::new();
        let ours = self.read.tables.get(collection).unwrap_or(&none);
        let theirs = plan.present.get(collection).unwrap_or(&none);
        let database = self.database.as_ref().context("MONGO_URI is not set")?;
        let mut count = 0;
        documents::read(&mut File::open(copy)?, |document| {
            let digest = documents::digest_of(document)?;
            let key = documents::key_of(document);
            match documents::fate(&key, &digest, ours, theirs) {
                Fate::Same => return Ok(()),
                Fate::Differs if collection == documents::JOBS => return Ok(()),
                Fate::Absent => database.insert(collection, document)?,
                Fate::Differs => database.replace(collection, document)?,
            }
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }
}

fn same_or_other(same: bool) -> There {
    if same { There::Same } else { There::Other }
}

/// The digest of a file that was written.
fn sum(mut file: File) -> Result<Digest> {
    use std::io::Seek;
    file.rewind()?;
    let mut hashed = Hashed::new(&mut file as &mut dyn Read);
    io::copy(&mut hashed, &mut io::sink())?;
    Ok(hashed.digest())
}
