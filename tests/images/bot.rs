//! The test bots and their containers.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tests::containers::{Container, Docker};
use tests::servers::{Minio, Store};
use tests::stack::zipped;
use tests::volume::unpack;
use tests::{repository, skip};

/// A JVM on a busy machine of two cores.
pub const LATE: Duration = Duration::from_secs(40);
/// What the test bots exit with when they are told to end.
pub const ENDED: i64 = 7;

/// A runtime and the two programs of its test bot.
pub struct Language {
    pub runtime: &'static str,
    pub bot: &'static str,
    pub query: &'static str,
}

pub const PYTHON: Language = Language {
    runtime: "python3.11",
    bot: "main.py",
    query: "query.py",
};
pub const NODE: Language = Language {
    runtime: "nodejs20",
    bot: "main.js",
    query: "query.js",
};
pub const RUST: Language = Language {
    runtime: "rust-stable",
    bot: "bot",
    query: "query",
};
pub const CPP: Language = Language {
    runtime: "gcc13",
    bot: "bot",
    query: "query",
};
pub const DOTNET: Language = Language {
    runtime: "dotnet8",
    bot: "Bot.dll",
    query: "Query.dll",
};
pub const SCALA: Language = Language {
    runtime: "scala3",
    bot: "bot.jar",
    query: "query.jar:query.Main",
};
pub const HASKELL: Language = Language {
    runtime: "ghc96",
    bot: "bot",
    query: "query",
};
pub const ALL: [&Language; 7] = [&PYTHON, &NODE, &RUST, &CPP, &DOTNET, &SCALA, &HASKELL];

/// The object store of all tests here, where containers reach it.
fn store(docker: &Docker) -> Option<&'static Store> {
    static STORE: OnceLock<Option<Store>> = OnceLock::new();
    let gateway = docker.gateway();
    STORE.get_or_init(|| Minio::start_at(gateway)).as_ref()
}

/// A bot of one test: its code is in the store, its state will be.
pub struct Bot<'a> {
    docker: &'a Docker,
    pub store: &'static Store,
    language: &'a Language,
    pub image: String,
    pub id: String,
}

impl<'a> Bot<'a> {
    /// `None` when something it needs is not there, which has been said.
    pub fn new(test: &str, docker: &'a Docker, language: &'a Language) -> Option<Self> {
        let image = docker.image(test, language.runtime)?;
        let code = repository().join(".cache/bots").join(language.runtime);
        if !code.is_dir() {
            skip(
                test,
                &format!(
                    "the {} bot is not built: run tests/setup/bots.sh",
                    language.runtime
                ),
            );
            return None;
        }
        let bot = Self {
            docker,
            store: store(docker)?,
            language,
            image,
            id: docker.name("bot"),
        };
        bot.store
            .client()
            .put("custom-bots", &bot.key(), &zipped(&code));
        Some(bot)
    }

    pub fn key(&self) -> String {
        format!("u1/{}/1.0.0", self.id)
    }

    /// The variables of the contract, as a compose file or a chart sets them.
    pub fn variables(&self) -> Vec<(String, String)> {
        let own = [
            ("BOT_ID", self.id.clone()),
            ("RUNTIME", self.language.runtime.into()),
            ("ENTRYPOINT", self.language.bot.into()),
            ("QUERY_ENTRYPOINT", self.language.query.into()),
            ("CODE_FILE", self.key()),
            ("BOT_CONFIG", json!({"symbol": "BTC/USD"}).to_string()),
            ("BOT_TYPE", "realtime".into()),
        ];
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        own.chain(self.store.environment()).collect()
    }

    /// Options of a container of it as the agent starts them, on the volumes called `volumes`.
    pub fn hardened(&self, volumes: &str) -> Vec<String> {
        let mut options: Vec<String> = [
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--pids-limit=256",
            "--memory=512m",
            "--memory-swap=512m",
            "--tmpfs=/tmp:rw,nosuid,nodev,size=64m,mode=1777",
            "--tmpfs=/query:rw,nosuid,nodev,size=64m,uid=1000,gid=1000",
        ]
        .map(String::from)
        .into();
        for (name, path) in [("code", "/bot"), ("state", "/state"), ("var", "/var/the0")] {
            let volume = self.docker.volume(&format!("{volumes}-{name}"));
            options.push(format!("--volume={volume}:{path}"));
        }
        for (name, value) in self.variables() {
            options.push(format!("--env={name}={value}"));
        }
        options
    }

    pub fn start(&self, life: &str) -> Container<'_> {
        self.docker
            .run(life, &self.hardened(life), &self.image, &[])
    }

    /// What the store has of its state: the count, and the names in the archive.
    pub fn stored(&self) -> (Value, Vec<String>) {
        let object = self
            .store
            .client()
            .get("bot-state", &format!("{}/state.tar.gz", self.id));
        let content = unpack(&object.expect("a state in the store").bytes);
        let count = &content[".the0-state/count.json"];
        (
            serde_json::from_slice(count).expect("a count"),
            content.into_keys().collect(),
        )
    }
}

pub fn ask(container: &Container, words: &[&str]) -> Value {
    let output = container.exec(&[&["/opt/the0/bin/query", "ask"], words].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The number in the line that begins with `before`.
pub fn number(logs: &str, before: &str) -> u64 {
    let found = logs
        .lines()
        .find_map(|line| line.split_once(before)?.1.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no line has {before:?} and a number:\n{logs}"))
}
