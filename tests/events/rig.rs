//! A NATS, a MongoDB and an agent between them. Docker is not asked for anything: its socket is one that nobody listens
//! on.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tests::servers::mongo::Mongo;
use tests::servers::nats::Nats;
use tests::{Process, bin, run, text, wait_for};

/// Longer than anything takes here on a loaded machine.
pub const LONG: Duration = Duration::from_secs(60);
/// The consumer of a stack with the default name.
pub const CONSUMER: &str = "the0-events-bots";

/// The servers.
pub struct Rig {
    pub nats: Nats,
    pub mongo: Mongo,
    data: TempDir,
}

/// An agent, and what it has said.
pub struct Agent {
    pub process: Process,
    dir: TempDir,
    data: std::path::PathBuf,
}

impl Rig {
    /// Both servers; `None` when one is not installed, which has been said.
    pub fn start() -> Option<Self> {
        Self::with(Nats::start()?)
    }

    /// The same where NATS asks for a user.
    pub fn start_with_password() -> Option<Self> {
        Self::with(Nats::start_with_password()?)
    }

    fn with(nats: Nats) -> Option<Self> {
        let (mongo, data) = (Mongo::start()?, tempfile::tempdir().unwrap());
        Some(Self { nats, mongo, data })
    }

    /// An agent of theirs.
    pub fn agent(&self) -> Agent {
        self.agent_at(&self.nats.uri())
    }

    /// One that is given another address of NATS.
    pub fn agent_at(&self, nats: &str) -> Agent {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        drop(UnixListener::bind(&socket).unwrap());
        let screen = File::create(dir.path().join("screen")).unwrap();
        let mut command = Command::new(bin("agent"));
        command.args(["run", "--reconcile-interval", "60s", "--data"]);
        command.arg(self.data.path()).env_clear();
        command.envs([("MONGO_URI", self.mongo.uri().as_str()), ("NATS_URL", nats)]);
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        command.envs([
            ("THE0_STACK", "events"),
            ("MINIO_ENDPOINT", "127.0.0.1:1"),
            ("MINIO_CONTAINER_ENDPOINT", "192.0.2.1:1"),
            ("MINIO_ACCESS_KEY", "hunter1"),
            ("MINIO_SECRET_KEY", "hunter3"),
        ]);
        command.stdin(Stdio::null());
        command.stdout(screen.try_clone().unwrap()).stderr(screen);
        Agent {
            process: Process::start(&mut command),
            dir,
            data: self.data.path().to_owned(),
        }
    }

    /// The document with this id.
    ///
    /// # Panics
    /// When there are several.
    pub fn one(&self, id: &str) -> Option<Value> {
        let mut all = self.mongo.all(super::BOTS);
        all.retain(|document| document.get_str("id").is_ok_and(|is| is == id));
        assert!(all.len() <= 1, "{all:?}");
        serde_json::to_value(all.pop()?).ok()
    }

    /// Waits until the document is so.
    pub fn becomes(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        let what = format!("the change of the document of {id}");
        wait_for(&what, LONG, || self.one(id).filter(&is))
    }

    /// Waits until the consumer has nothing left to do.
    pub fn is_drained(&self) {
        wait_for("the last event", LONG, || {
            let info = self.nats.consumer(CONSUMER);
            (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
        });
    }
}

impl Agent {
    pub fn screen(&self) -> String {
        fs::read_to_string(self.dir.path().join("screen")).unwrap()
    }

    pub fn says(&self, what: &str) {
        let found = || self.screen().contains(what).then_some(());
        wait_for(&format!("{what:?} in {}", self.screen()), LONG, found);
    }

    /// A bot as `agent ps` tells it.
    pub fn row(&self, id: &str) -> Option<Value> {
        let mut command = Command::new(bin("agent"));
        command.args(["ps", "-o", "json", "--data"]).arg(&self.data);
        let output = run(&mut command);
        let rows: Value = serde_json::from_str(&text(&output.stdout)).ok()?;
        rows.as_array()?.iter().find(|row| row["id"] == id).cloned()
    }

    /// Waits until the bot is listed with this version; the interval is far longer than the wait.
    pub fn shows(&self, id: &str, version: &str) {
        let what = format!("{id} {version} in ps");
        wait_for(&what, LONG / 2, || {
            self.row(id).filter(|row| row["version"] == version)
        });
    }

    /// Kills it where it stands.
    pub fn kill(mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }
}
