//! What a supervisor is told: a [`Bot`] and a [`Host`] become the contract's variables. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::launch::{Keys, Line, Variables, renamed};
use contract::{BotId, Digest, Launch, LaunchError, Paths, Secret, vars};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::document::Bot;
use crate::store::Address;
use crate::store::address::BadAddress;

/// The variables that tune supervisors, which an agent hands on.
pub const TUNING: [&str; 13] = [
    vars::LOG_LEVEL,
    vars::LOG_FORMAT,
    "THE0_FETCH_DEADLINE",
    "THE0_MAX_UNPACKED_MB",
    "THE0_MAX_UNPACKED_ENTRIES",
    "THE0_MAX_UNPACKED_RATIO",
    "THE0_MAX_DAY_LOG_MB",
    "THE0_MAX_CODE_MB",
    vars::MAX_STATE_SIZE_MB,
    vars::MAX_STATE_FILE_SIZE_MB,
    vars::THE0_GRACE,
    vars::THE0_DRAIN,
    vars::THE0_QUERY_TIMEOUT,
];

/// What is the same for every bot of this host.
#[derive(Debug, Clone)]
pub struct Host {
    /// The agent's data folder, absolute.
    pub data: PathBuf,
    /// The variables of the agent's own environment that go on to bots and their supervisors.
    pub environment: Variables,
    /// Where code, states and logs are.
    pub store: Address,
}

impl Host {
    /// Takes from `environment` what is harmless, what tunes a supervisor, what it asks to pass on, and the store.
    ///
    /// # Errors
    /// It names a store that cannot be used.
    pub fn new(data: PathBuf, environment: Variables) -> Result<Self, BadAddress> {
        let mut environment = renamed(environment);
        let store = Address::parse(&environment, &data)?;
        let passed = environment.get(vars::THE0_PASS_ENV).cloned();
        let passed = passed.unwrap_or_default();
        environment.retain(|name, _| {
            let asked_for = passed.split(',').any(|p| p.trim() == name);
            let ours = TUNING.contains(&name.as_str()) || name == vars::THE0_PASS_ENV;
            (asked_for && !vars::KEYS.contains(&name.as_str())) || ours || vars::is_harmless(name)
        });
        Ok(Self {
            data,
            environment,
            store,
        })
    }

    /// The folder of everything of one bot.
    pub fn folder(&self, bot: &BotId) -> PathBuf {
        self.data.join("bots").join(bot.as_str())
    }

    /// The layout of that folder.
    pub fn paths(&self, bot: &BotId) -> Paths {
        Paths::under(&self.folder(bot))
    }

    /// The language wrappers.
    pub fn wrappers(&self) -> PathBuf {
        self.data.join("wrappers")
    }
}

/// The variables of a launch that the bot's document alone tells.
pub fn of_document(bot: &Bot) -> Variables {
    let definition = &bot.definition;
    let told = [
        (vars::BOT_ID, bot.id.to_string()),
        (vars::RUNTIME, definition.runtime.name().to_owned()),
        (vars::ENTRYPOINT, definition.entrypoint.clone()),
        (vars::CODE_FILE, bot.code.to_string()),
        (vars::BOT_CONFIG, bot.config.reveal().to_owned()),
        (vars::BOT_TYPE, definition.kind.name().to_owned()),
        (vars::ENTRYPOINT_TYPE, "bot".to_owned()),
    ];
    let query = definition.query.clone();
    let query = query.map(|query| (vars::QUERY_ENTRYPOINT, query));
    let told = told.into_iter().chain(query);
    told.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The variables of the launch of `bot` under `agent dev`, without keys.
pub fn variables(bot: &Bot, host: &Host) -> Variables {
    let paths = host.paths(&bot.id);
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mut set = host.environment.clone();
    set.extend(of_document(bot));
    let ours = [
        (vars::CODE_PATH, path(&paths.code)),
        (vars::STATE_PATH, path(&paths.state)),
        (vars::STATE_DIR, path(&paths.sdk_state)),
        (vars::LOGS_PATH, path(&paths.logs)),
        (vars::THE0_VAR_PATH, path(&paths.var)),
        (vars::THE0_WRAPPERS, path(&host.wrappers())),
        (vars::THE0_QUERY_LISTEN, "127.0.0.1:0".to_owned()),
        (vars::THE0_CONFINE, "signals".to_owned()),
    ];
    set.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    set.extend(host.store.variables());
    set
}

/// The launch as the supervisor will read it.
///
/// # Errors
/// What the supervisor would refuse, known before it is started.
pub fn check(bot: &Bot, host: &Host) -> Result<Launch, LaunchError> {
    Launch::parse(variables(bot, host))
}

/// The launch document: one line.
pub fn document(bot: &Bot, host: &Host) -> Line {
    let mut env: Keys = variables(bot, host)
        .into_iter()
        .map(|(name, value)| (name, Secret::new(value)))
        .collect::<BTreeMap<_, _>>();
    env.extend(host.store.keys());
    Line::Launch {
        v: Line::VERSION,
        env,
    }
}

/// The digest of a bot's parameters alone.
pub fn config_digest(bot: &Bot) -> Digest {
    Digest::from_bytes(Sha256::digest(bot.config.reveal()).into())
}

/// The launch digest: equal for two documents that ask for the same process. It covers parameters, code,
/// version, runtime, entrypoints, type and limits; not the host, so another agent version restarts nothing.
pub fn digest(bot: &Bot) -> Digest {
    let definition = &bot.definition;
    let covered = json!([
        bot.config.reveal(),
        bot.code.as_str(),
        bot.code_digest.as_ref().map(Digest::as_str),
        definition.version,
        definition.runtime.name(),
        definition.entrypoint,
        definition.query,
        definition.kind.name(),
        bot.limits,
    ]);
    Digest::from_bytes(Sha256::digest(covered.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bot() -> Bot {
        let document = json!({
            "id": "abc", "config": {"symbol": "BTC/USD", "memory_limit": "64Mi"},
            "custom": {"version": "1.0.0", "filePath": "u/b/1.0.0", "config": {
                "name": "b", "type": "realtime", "runtime": "python3.11", "version": "1.0.0",
                "entrypoints": {"bot": "main.py", "query": "query.py"}}}
        });
        Bot::from_document(&document).unwrap()
    }

    fn host() -> Host {
        host_with(&[])
    }

    fn host_with(store: &[(&str, &str)]) -> Host {
        let given = [
            ("PATH", "/usr/bin"),
            ("THE0_GRACE", "5s"),
            ("MINIO_SECRET_KEY", "hunter2"),
            ("X_API", "passed"),
            ("OTHER", "stays"),
            ("THE0_PASS_ENV", "X_API, MINIO_SECRET_KEY"),
        ];
        let given = given.iter().chain(store);
        let given = given.map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Host::new("/d".into(), given.collect()).unwrap()
    }

    #[test]
    fn the_launch_variables_are_those_promised() {
        let text: String = variables(&bot(), &host())
            .iter()
            .flat_map(|(name, value)| [name, "=", value, "\n"])
            .collect();
        assert_eq!(text, include_str!("../golden/launch.txt"));
    }

    #[test]
    fn with_an_object_store_its_keys_are_in_the_document_only() {
        let host = host_with(&[
            ("MINIO_ENDPOINT", "h:1"),
            ("MINIO_ACCESS_KEY_ID", "hunter1"),
            ("MINIO_BOTS_BUCKET", "bots"),
        ]);
        let told = variables(&bot(), &host);
        assert!(!told.contains_key(vars::THE0_STORE));
        assert_eq!(told["MINIO_ENDPOINT"], "h:1");
        assert_eq!(told["MINIO_CODE_BUCKET"], "bots");
        assert!(vars::KEYS.iter().all(|key| !told.contains_key(*key)));
        assert!(host.environment.keys().all(|name| !name.contains("MINIO")));
        let Line::Launch { env, .. } = document(&bot(), &host) else {
            panic!("not a launch");
        };
        assert_eq!(env["MINIO_ACCESS_KEY"].reveal(), "hunter1");
        assert_eq!(env["MINIO_SECRET_KEY"].reveal(), "hunter2");
        assert!(!format!("{env:?} {host:?}").contains("hunter"));
    }

    #[test]
    fn the_supervisor_accepts_what_it_is_told() {
        let launch = check(&bot(), &host()).unwrap();
        assert_eq!(launch.paths, host().paths(&bot().id));
        assert!(launch.keys().is_empty());
    }

    #[test]
    fn whatever_changes_the_process_changes_the_digest_and_nothing_else_does() {
        let base = digest(&bot());
        let changes: [fn(&mut Bot); 9] = [
            |b| b.config = Secret::new("{}"),
            |b| b.code = "u/b/2".parse().unwrap(),
            |b| b.code_digest = Some(Digest::from_bytes([1; 32])),
            |b| b.definition.version = "2".into(),
            |b| b.definition.runtime = contract::Runtime::Node,
            |b| b.definition.entrypoint = "other.py".into(),
            |b| b.definition.query = None,
            |b| b.definition.kind = contract::BotType::Scheduled,
            |b| b.limits.clear(),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut changed = bot();
            change(&mut changed);
            assert_ne!(digest(&changed), base, "change {n}");
        }
        let mut same = bot();
        same.enabled = false;
        same.definition.name = "renamed".into();
        assert_eq!(digest(&same), base);
    }
}
