//! One bot's `sync` as a test drives it: the instance's folders, the programs over them, and what the store holds
//! by the word of somebody else, the same on a folder and on an object store.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use contract::record::{Outcome, Reason, RunRecord, Synced, Time};
use nix::sys::signal::Signal;

use crate::servers::{Client, Store};
use crate::{Process, bin, run, text, wait_for};

/// Longer than anything `sync` should take with two cores shared by everything.
pub const LONG: Duration = Duration::from_secs(30);

/// Names of the entries of an archive, a folder's with a slash at the end, and what the files hold.
pub type Content = BTreeMap<String, Vec<u8>>;

/// Where the objects of a bot are, to look at.
#[derive(Debug, Clone)]
pub enum Shelf {
    /// A directory store.
    Folder(PathBuf),
    /// An object store.
    Buckets(Arc<Client>),
}

/// A store, and the volumes of one bot's instances on it.
#[derive(Debug)]
pub struct World {
    /// Everything of this test, gone with it and its volumes.
    pub dir: Arc<tempfile::TempDir>,
    bot: String,
    shelf: Shelf,
    env: Vec<(String, String)>,
}

/// One instance's folders.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The folder of `code`, `state` and `var`.
    pub root: PathBuf,
    _dir: Arc<tempfile::TempDir>,
    bot: String,
    shelf: Shelf,
    env: Vec<(String, String)>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Of the bot `b1`, on a directory store of its own.
    ///
    /// # Panics
    /// When there is no room for it.
    pub fn new() -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a folder"));
        let store = dir.path().join("store");
        fs::create_dir(&store).expect("a folder");
        let env = vec![("THE0_STORE".into(), store.to_string_lossy().into_owned())];
        Self {
            dir,
            bot: "b1".into(),
            shelf: Shelf::Folder(store),
            env,
        }
    }

    /// Of `bot`, which belongs to one test, on an object store.
    pub fn on(store: &Store, bot: &str) -> Self {
        Self::through(store, store.address(), bot)
    }

    /// The same, where `sync` reaches the store at another address: a proxy in between.
    ///
    /// # Panics
    /// When there is no room for it.
    pub fn through(store: &Store, address: &str, bot: &str) -> Self {
        Self {
            dir: Arc::new(tempfile::tempdir().expect("a folder")),
            bot: bot.into(),
            shelf: Shelf::Buckets(Arc::clone(store.client())),
            env: store.environment_at(address),
        }
    }

    /// The volume of an instance.
    ///
    /// # Panics
    /// When there is no room for it.
    pub fn volume(&self, name: &str) -> Volume {
        let root = self.dir.path().join(name);
        fs::create_dir_all(root.join("code")).expect("a folder");
        fs::write(root.join("code/main.py"), "print()").expect("a file");
        Volume {
            root,
            _dir: Arc::clone(&self.dir),
            bot: self.bot.clone(),
            shelf: self.shelf.clone(),
            env: self.env.clone(),
        }
    }
}

impl Volume {
    /// With a variable more, or another value.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The same instance where the store cannot be used: it is not there, or refuses the keys.
    #[must_use]
    pub fn without_store(self) -> Self {
        match &self.shelf {
            Shelf::Folder(_) => self.with("THE0_STORE", "/nowhere/at/all"),
            Shelf::Buckets(_) => self.with("MINIO_SECRET_KEY", "another"),
        }
    }

    /// `sync VERB` for this instance, with nothing on its standard input.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(bin("sync"));
        command.arg(verb).env_clear().stdin(Stdio::null());
        command.envs(self.variables());
        command
    }

    /// Its whole environment.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let path = |name: &str| self.root.join(name).to_string_lossy().into_owned();
        let own = [
            ("BOT_ID", self.bot.clone()),
            ("RUNTIME", "python3.11".into()),
            ("ENTRYPOINT", "main.py".into()),
            ("CODE_PATH", path("code")),
            ("STATE_PATH", path("state")),
            ("THE0_VAR_PATH", path("var")),
            ("THE0_DRAIN", "10s".into()),
            ("THE0_FETCH_DEADLINE", "5s".into()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.into(), value));
        own.chain(self.env.iter().cloned()).collect()
    }

    /// The folder of its state.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// A file of `/var/the0`.
    pub fn var(&self, name: &str) -> PathBuf {
        self.root.join("var").join(name)
    }

    /// Runs `sync fetch`.
    pub fn fetch(&self) -> Output {
        run(&mut self.command("fetch"))
    }

    /// Runs `sync fetch`, which must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn fetched(&self) -> &Self {
        let output = self.fetch();
        assert!(output.status.success(), "{}", text(&output.stderr));
        self
    }

    /// Starts `sync watch`.
    pub fn watch(&self) -> Process {
        let _ = fs::remove_file(self.var("synced.json"));
        Process::start(self.command("watch").stderr(Stdio::null()))
    }

    /// Writes a file of the state in one switch.
    ///
    /// # Panics
    /// When that fails.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let temporary = self.root.join("new-file");
        fs::write(&temporary, content).expect("a file");
        let path = self.state().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::rename(temporary, path).expect("the state's folder");
    }

    /// An object of the bot's store.
    ///
    /// # Panics
    /// When the store does not say whether it is there.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        match &self.shelf {
            Shelf::Folder(store) => {
                let mut bytes = Vec::new();
                let mut file = fs::File::open(store.join(bucket).join(key)).ok()?;
                file.read_to_end(&mut bytes).expect("a file");
                Some(bytes)
            }
            Shelf::Buckets(client) => client.get(bucket, key).map(|object| object.bytes),
        }
    }

    /// Key of the state's object.
    pub fn key(&self) -> String {
        format!("{}/state.tar.gz", self.bot)
    }

    /// The state in the store.
    ///
    /// # Panics
    /// When it is not whole.
    pub fn archive(&self) -> Option<Content> {
        self.get("bot-state", &self.key()).as_deref().map(unpack)
    }

    /// The directory store's folder.
    ///
    /// # Panics
    /// On another store.
    pub fn folder(&self) -> &Path {
        match &self.shelf {
            Shelf::Folder(store) => store,
            Shelf::Buckets(_) => panic!("this store is no folder"),
        }
    }

    /// The file of the state's object in a directory store.
    pub fn object(&self) -> PathBuf {
        self.folder().join("bot-state").join(self.key())
    }

    /// Keys of the older states kept for `reason`, oldest first.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub fn history(&self, reason: &str) -> Vec<String> {
        let prefix = format!("{}/.the0/history/", self.bot);
        let mut keys: Vec<String> = match &self.shelf {
            Shelf::Folder(store) => {
                let entries = fs::read_dir(store.join("bot-state").join(&prefix));
                let names = entries.into_iter().flatten().flatten();
                let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
                names
                    .map(name)
                    .map(|name| format!("{prefix}{name}"))
                    .collect()
            }
            Shelf::Buckets(client) => client.list("bot-state", &prefix),
        };
        keys.retain(|key| key.ends_with(&format!("-{reason}.tar.gz")));
        keys.sort();
        keys
    }

    /// The older states kept for `reason`, oldest first.
    ///
    /// # Panics
    /// When one is not whole.
    pub fn kept(&self, reason: &str) -> Vec<Content> {
        let keys = self.history(reason).into_iter();
        keys.filter_map(|key| self.get("bot-state", &key))
            .map(|bytes| unpack(&bytes))
            .collect()
    }

    /// The log of a day, `20261120`, as the store has it.
    pub fn day(&self, day: &str) -> String {
        let key = format!("logs/{}/{day}.log", self.bot);
        text(&self.get("bot-logs", &key).unwrap_or_default())
    }

    /// What `sync` says of itself.
    ///
    /// # Panics
    /// When it is no JSON.
    pub fn synced(&self) -> Option<Synced> {
        contract::file::read_json(&self.var("synced.json")).expect("synced.json")
    }

    /// Waits until `sync` says this of itself.
    pub fn wait_outcome(&self, outcome: Outcome) -> Synced {
        wait_for(&format!("outcome {outcome:?}"), LONG, || {
            self.synced().filter(|synced| synced.outcome == outcome)
        })
    }

    /// Waits until the store's state is `content`.
    pub fn wait_pushed(&self, content: &Content) {
        wait_for("the push", LONG, || {
            (self.archive().as_ref() == Some(content)).then_some(())
        });
    }

    /// Writes what a supervisor writes at the end of a run.
    ///
    /// # Panics
    /// When that fails.
    pub fn end_run(&self, number: u64) {
        let now = Time::now();
        let record = RunRecord {
            run: number,
            code: 0,
            signal: None,
            reason: Reason::Exited,
            started_at: now,
            ended_at: now,
            restarts: 0,
            message: None,
            result: None,
        };
        let done = contract::file::replace_json(&self.var("done.json"), &record);
        done.and_then(|()| contract::file::replace(&self.var("done"), b"0"))
            .expect("the end of a run");
    }

    /// Ends a run, and waits until `sync` says that all of it is in the store.
    ///
    /// # Panics
    /// When it does not say so in time.
    pub fn acknowledged(&self, run: u64) -> Synced {
        self.end_run(run);
        wait_for("the run's last push", LONG, || {
            let said = self.synced();
            said.filter(|synced| synced.run == run && synced.outcome == Outcome::Ok)
        })
    }

    /// Fetches, lets `act` change the state, pushes, ends.
    ///
    /// # Panics
    /// When any of it fails.
    pub fn session(&self, act: impl FnOnce(&Self)) {
        self.fetched();
        act(self);
        self.end_run(1);
        let mut watch = self.watch();
        wait_for("the first pass", LONG, || self.synced());
        watch.signal(Signal::SIGTERM);
        assert_eq!(watch.code(LONG), 0);
        let synced = self.synced().expect("a word about it");
        assert_eq!(synced.outcome, Outcome::Ok, "{synced:?}");
    }

    /// The files of the state on the disk, and its folders but those of `sync`.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn on_disk(&self) -> Content {
        let mut all = Content::new();
        collect(&self.state(), "", &mut all);
        all
    }
}

fn collect(folder: &Path, prefix: &str, into: &mut Content) {
    for entry in fs::read_dir(folder).expect("a folder").map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if name.starts_with(".the0-new") {
            continue;
        }
        if entry.path().is_dir() {
            into.insert(format!("{name}/"), Vec::new());
            collect(&entry.path(), &format!("{name}/"), into);
        } else {
            into.insert(name, fs::read(entry.path()).expect("a file"));
        }
    }
}

/// What an archive holds.
///
/// # Panics
/// When it is not whole.
pub fn unpack(bytes: &[u8]) -> Content {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .read_to_end(&mut plain)
        .expect("a whole gzip");
    let mut tar = tar::Archive::new(&plain[..]);
    let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.expect("a whole tar");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a whole entry");
        let path = entry.path().expect("a path");
        (path.to_string_lossy().into_owned(), content)
    };
    tar.entries().expect("a tar").map(entry).collect()
}

/// Files by name.
pub fn content(files: &[(&str, &str)]) -> Content {
    let file = |(name, text): &(&str, &str)| ((*name).to_owned(), text.as_bytes().to_vec());
    files.iter().map(file).collect()
}

/// A number that differs from round to round.
pub fn chance(below: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % below
}

/// How long a proof by many rounds goes on: `seconds`, or what `THE0_TEST_SECONDS` says.
pub fn rounds_for(seconds: u64) -> Duration {
    let given = std::env::var("THE0_TEST_SECONDS").ok();
    let given = given.and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(seconds))
}
