//! A whole host for the tests: Docker, MinIO where containers reach it, a MongoDB with documents, and the agent.
//!
//! Its stack has the name of its [`Docker`]'s token, so everything the agent makes goes when the test has ended.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use serde_json::Value;
use tempfile::TempDir;

use crate::containers::{Container, Daemon, Docker, image};
use crate::servers::mongo::{Mongo, document};
use crate::servers::nats::{Nats, event};
use crate::servers::{Client, Minio, Store};
use crate::{Process, bin, read, run, text, wait_for};

/// Longer than anything takes here on a loaded machine.
pub const LONG: Duration = Duration::from_secs(90);
/// Where realtime bots are.
pub const BOTS: &str = "bot_runner.bots";

/// Counts in its state; says with which parameters it began.
pub const COUNTER: &str = r#"
import json, os, pathlib, time
def main(id, config):
    path = pathlib.Path(os.environ["STATE_DIR"]) / "count.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = json.loads(path.read_text()) if path.exists() else 0
    print("BEGAN", id, "at", count, "step", config.get("step", 1), flush=True)
    while True:
        count += config.get("step", 1)
        path.with_suffix(".tmp").write_text(json.dumps(count))
        path.with_suffix(".tmp").rename(path)
        time.sleep(0.05)
"#;

/// Crashes at its first run with this state, and then idles.
pub const CRASHES_ONCE: &str = r#"
import os, pathlib, sys, time
def main(id, config):
    mark = pathlib.Path(os.environ["STATE_DIR"]) / "mark.json"
    mark.parent.mkdir(parents=True, exist_ok=True)
    if not mark.exists():
        mark.write_text("1")
        sys.exit(7)
    print("IDLE", flush=True)
    time.sleep(100000)
"#;

/// Does nothing, for ever.
pub const IDLE: &str =
    "import time\ndef main(id, config):\n    print('IDLE', flush=True)\n    time.sleep(100000)\n";

/// The files of a folder as a bundle.
///
/// # Panics
/// When they cannot be read.
pub fn zipped(folder: &Path) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let name = path
                .strip_prefix(folder)
                .expect("a path below")
                .to_string_lossy();
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(name, options).expect("an entry");
            std::io::Write::write_all(&mut zip, &fs::read(&path).expect("a file"))
                .expect("its content");
        }
    }
    zip.finish().expect("a bundle").into_inner()
}

/// The host.
#[derive(Debug)]
pub struct Stack {
    agent: Option<Process>,
    /// Time between two looks at the database.
    pub interval: &'static str,
    /// How long a bot must be missing there.
    pub settle: &'static str,
    /// More of the agent's environment.
    pub settings: Vec<(String, String)>,
    dir: TempDir,
    /// The events, where the test wants them: see [`Stack::listen`].
    pub nats: Option<Nats>,
    /// The documents.
    pub mongo: Mongo,
    /// The objects.
    pub store: Store,
    /// The daemon; last, so that what the agent made goes after the agent.
    pub docker: Docker,
}

impl Stack {
    /// A host on the machine's own Docker with the images of `runtimes`; `None` when a part is missing, which has been
    /// said.
    ///
    /// # Panics
    /// When a server does not come up.
    pub fn start(test: &str, runtimes: &[&str]) -> Option<Self> {
        let docker = Docker::here(test)?;
        for runtime in runtimes {
            docker.image(test, runtime)?;
        }
        let gateway = docker.gateway();
        Self::with(docker, gateway)
    }

    /// The same on a daemon of the test's own.
    ///
    /// # Panics
    /// When a server does not come up.
    pub fn on(daemon: &Daemon) -> Option<Self> {
        Self::with(daemon.client(), daemon.gateway())
    }

    fn with(docker: Docker, gateway: std::net::IpAddr) -> Option<Self> {
        let (store, mongo) = (Minio::start_at(gateway)?, Mongo::start()?);
        Some(Self {
            agent: None,
            interval: "1s",
            settle: "2s",
            settings: Vec::new(),
            nats: None,
            dir: tempfile::tempdir().expect("a folder"),
            mongo,
            store,
            docker,
        })
    }

    /// Gives the host a NATS that the agent hears, from its next start on; `None` when it is not installed, which has
    /// been said.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn listen(&mut self) -> Option<()> {
        let nats = Nats::start()?;
        nats.make_stream();
        self.set("NATS_URL", &nats.uri());
        self.nats = Some(nats);
        Some(())
    }

    /// Says what has happened to a Python bot with the program that [`Stack::code`] put under its id.
    ///
    /// # Panics
    /// When there is no NATS, or it does not take it.
    pub fn say(&self, what: &str, id: &str, config: &Value) {
        let event = event(id, &format!("tests/{id}/1.0.0"), config);
        let nats = self.nats.as_ref().expect("a NATS");
        nats.say(&format!("the0.bot.{what}"), &event);
    }

    /// Sets a variable of the agent's, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// The stack's name.
    pub fn name(&self) -> &str {
        self.docker.token()
    }

    /// A bot's id from a short word: it carries the token.
    pub fn id(&self, short: &str) -> String {
        self.docker.name(short)
    }

    /// The independent client of the store.
    pub fn objects(&self) -> &Client {
        self.store.client()
    }

    /// Puts code into the store: files of one bundle, as a zip.
    ///
    /// # Panics
    /// When it cannot be put.
    pub fn code(&self, key: &str, files: &[(&str, &str)]) {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in files {
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(*name, options).expect("a file of a zip");
            zip.write_all(content.as_bytes()).expect("a file of a zip");
        }
        let bytes = zip.finish().expect("a zip").into_inner();
        self.objects().put("custom-bots", key, &bytes);
    }

    /// Registers a Python bot with the program `main`.
    pub fn bot(&self, short: &str, main: &str, config: Document) -> String {
        let id = self.id(short);
        let key = format!("tests/{id}/1.0.0");
        self.code(&key, &[("main.py", main)]);
        let mut parameters = doc! {"name": short};
        parameters.extend(config);
        self.mongo.put(BOTS, &document(&id, &key, parameters));
        id
    }

    /// Registers `count` Python bots that count, `b0` and so on.
    pub fn counters(&self, count: usize) -> Vec<String> {
        let bot = |n| self.bot(&format!("b{n}"), COUNTER, doc! {});
        (0..count).map(bot).collect()
    }

    /// Changes the document of a bot.
    ///
    /// # Panics
    /// When there is none.
    pub fn change(&self, id: &str, change: Document) {
        let changed = self
            .mongo
            .update(BOTS, doc! {"id": id}, doc! {"$set": change});
        assert_eq!(changed, 1, "{id} is not there or was so already");
    }

    /// Where the API of the agent that was started last is, with `THE0_API_ADDRESS`.
    ///
    /// # Panics
    /// When it is not told.
    pub fn api(&self) -> String {
        wait_for("the API", LONG, || {
            let said = self.said();
            let (_, rest) = said.rsplit_once("the API is on http://")?;
            Some(rest.split_once("/v1")?.0.to_owned())
        })
    }

    /// The bot's container, by the name that the agent gives it.
    pub fn container(&self, id: &str) -> Container<'_> {
        self.docker.container(format!("the0-{}.{id}", self.name()))
    }

    /// Containers of the stack, also those that do not run: their names.
    pub fn containers(&self) -> Vec<String> {
        let filter = format!("label=the0.stack={}", self.name());
        let said = self
            .docker
            .ask(["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]);
        said.lines().map(str::to_owned).collect()
    }

    /// Volumes of a bot.
    pub fn volumes(&self, id: &str) -> Vec<String> {
        let filter = format!("label=runtime.id={id}");
        let said = self
            .docker
            .ask(["volume", "ls", "--filter", &filter, "--format", "{{.Name}}"]);
        said.lines().map(str::to_owned).collect()
    }

    /// The agent's data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A command of the agent's, with the environment of this host.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin("agent"));
        command.args(args).env_clear();
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env("PATH", path).env("HOME", self.dir.path());
        command
            .env("THE0_DATA", self.data())
            .env("MONGO_URI", self.mongo.uri());
        command
            .env("THE0_STACK", self.name())
            .env("THE0_PULL", "never")
            .env("RUNTIME_IMAGE", image("{runtime}"));
        command.env("THE0_GRACE", "3s").env("THE0_DRAIN", "15s");
        // Many run at one time, and the usual ports are one each.
        command.env("THE0_HEALTH_LISTEN", "");
        command.env("THE0_API_ADDRESS", "");
        command.env("THE0_GATEWAY_ADDRESS", "");
        command.envs(self.store.environment());
        // Whoever runs the tests may run the bots in another runtime.
        command.envs(std::env::var_os("THE0_OCI_RUNTIME").map(|name| ("THE0_OCI_RUNTIME", name)));
        if let Some(host) = self.docker.host() {
            command.env("DOCKER_HOST", host);
        }
        command.envs(self.settings.iter().cloned());
        command
    }

    /// Starts the agent and does not wait.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log());
        let log = log.expect("the agent's log");
        let (interval, settle) = (self.interval, self.settle);
        let args = [
            "bot-runner",
            "--reconcile-interval",
            interval,
            "--settle",
            settle,
        ];
        let mut command = self.command(&args);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log);
        self.agent = Some(Process::start(&mut command));
    }

    /// Starts the agent and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn begin(&mut self) {
        self.launch();
        wait_for("an agent that answers", LONG, || self.rows());
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// What the agents of this host have said.
    pub fn said(&self) -> String {
        read(&self.log())
    }

    /// Waits until an agent has said `what`.
    ///
    /// # Panics
    /// When none has.
    pub fn says(&self, what: &str) {
        let end = std::time::Instant::now() + LONG;
        while !self.said().contains(what) {
            assert!(
                std::time::Instant::now() < end,
                "nobody said {what:?}:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The agent's process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn agent(&mut self) -> &mut Process {
        self.agent.as_mut().expect("an agent that runs")
    }

    /// Kills the agent where it stands.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().expect("an agent that runs");
        agent.0.kill().expect("kill the agent");
        agent.0.wait().expect("the end of the agent");
    }

    /// Ends the agent as a person would; bots run on.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn end(&mut self) {
        let mut agent = self.agent.take().expect("an agent that runs");
        agent.signal(nix::sys::signal::Signal::SIGTERM);
        let code = agent.code(LONG);
        assert_eq!(code, 0, "{}", self.said());
    }

    /// Waits for the end of an agent that was told to end.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn ended(&mut self) {
        let mut agent = self.agent.take().expect("an agent that runs");
        assert_eq!(agent.code(LONG), 0, "{}", self.said());
    }

    /// Runs a command of the agent's to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    /// The same where it must succeed; what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// What `agent ps` tells, if an agent answers.
    pub fn rows(&self) -> Option<Vec<Value>> {
        let output = self.run(&["ps", "-o", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// A bot's row.
    pub fn row(&self, id: &str) -> Option<Value> {
        self.rows()?.into_iter().find(|row| row["id"] == id)
    }

    /// Waits until the bot is in `state` and gives its row.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn state(&self, id: &str, state: &str) -> Value {
        let end = std::time::Instant::now() + LONG;
        loop {
            let row = self.row(id).unwrap_or_default();
            if row["state"] == state {
                return row;
            }
            assert!(
                std::time::Instant::now() < end,
                "{id} is not {state}: {row:#}\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The same for several.
    pub fn states(&self, ids: &[String], state: &str) {
        for id in ids {
            self.state(id, state);
        }
    }

    /// Waits until no container and no volume of the bot is left.
    ///
    /// # Panics
    /// When something stays.
    pub fn is_collected(&self, id: &str) {
        let gone = || {
            (self.volumes(id).is_empty() && self.container(id).inspect().is_null()).then_some(())
        };
        wait_for(&format!("the end of all of {id}"), LONG, gone);
    }

    /// The number in the counter's state as its container has it now.
    pub fn count(&self, id: &str) -> u64 {
        let file = self.container(id).file("/state/.the0-state/count.json");
        file.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The number in the counter's state as the store has it.
    ///
    /// # Panics
    /// When what is there is no state of a counter.
    pub fn saved(&self, id: &str) -> u64 {
        let object = self
            .objects()
            .get("bot-state", &format!("{id}/state.tar.gz"));
        let Some(object) = object else { return 0 };
        let mut archive =
            tar::Archive::new(flate2::read::MultiGzDecoder::new(object.bytes.as_slice()));
        let entries = archive.entries().expect("an archive");
        let mut found = 0;
        for entry in entries {
            let mut entry = entry.expect("an entry");
            if entry.path().expect("a path").ends_with("count.json") {
                let mut content = String::new();
                std::io::Read::read_to_string(&mut entry, &mut content).expect("a file");
                found = content.parse().expect("a number");
            }
        }
        found
    }
}
