//! The launch of a bot: what to run, parsed once at the edge, and what each program of it may know.
//!
//! It comes as environment variables, or, when `THE0_LAUNCH=stdin`, as JSON lines on standard input
//! ([`Line`]), whose first carries the same variables. Either way [`Launch::parse`] reads them, so there is one
//! set of rules. Keys leave through [`Launch::keys`] only; the three `*_environment` functions are the only
//! places where the environment of another program is made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{BotId, NameError, ObjectKey};
use crate::paths::Paths;
use crate::runtime::{Program, Runtime, UnknownRuntime};
use crate::secret::Secret;
use crate::{exit, vars};

/// The longest `NAME=value` the kernel passes to a program, with its final NUL: 32 pages (`MAX_ARG_STRLEN`,
/// execve(2)).
pub const LONGEST_VARIABLE: usize = 32 * 4096;

/// A set of variables, as the environment or a launch document gives them.
pub type Variables = BTreeMap<String, String>;

/// A line of the launch document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The first line: the variables of the launch.
    Launch {
        /// Version of the document, [`Line::VERSION`].
        v: u32,
        /// The contract's variables, keys included.
        env: BTreeMap<String, Secret>,
    },
    /// A later line: renewed keys, by the names in [`vars::KEYS`].
    Keys {
        /// Version of the document.
        v: u32,
        /// The keys, all of them.
        keys: Keys,
    },
}

impl Line {
    /// The version these programs write and read.
    pub const VERSION: u32 = 1;
}

/// Credentials of the object store, by the names in [`vars::KEYS`].
pub type Keys = BTreeMap<String, Secret>;

/// How a bot's life goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BotType {
    /// Runs for ever; started again when it ends.
    Realtime,
    /// Runs to its end.
    Scheduled,
}

impl BotType {
    /// The name in documents and variables.
    pub fn name(self) -> &'static str {
        match self {
            BotType::Realtime => "realtime",
            BotType::Scheduled => "scheduled",
        }
    }
}

/// What a bot and its query program cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confine {
    /// No new privileges, no signals outside its own tree, writes only to its own folders.
    Full,
    /// No new privileges, no signals outside its own tree.
    Signals,
    /// Nothing is taken from it.
    Off,
}

impl Confine {
    /// The name in [`vars::THE0_CONFINE`].
    pub fn name(self) -> &'static str {
        match self {
            Confine::Full => "full",
            Confine::Signals => "signals",
            Confine::Off => "off",
        }
    }
}

/// Why a launch was refused. The text names the variable and the remedy, never the value of a configuration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LaunchError {
    /// A required variable is missing or empty.
    #[error(
        "{0} is required and is not set: set it in the environment or the launch document of this container"
    )]
    Missing(&'static str),
    /// The runtime is not one of ours.
    #[error("RUNTIME: {0}")]
    Runtime(#[from] UnknownRuntime),
    /// A name breaks its rule.
    #[error("{variable}: {cause}")]
    Name {
        /// The variable.
        variable: &'static str,
        /// The rule.
        cause: NameError,
    },
    /// A value is not what the variable takes.
    #[error("{variable} {why}")]
    Value {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// The kernel would refuse to start a program with it.
    #[error(
        "{variable} is {size} bytes long with its name; the kernel passes at most {} to a program: \
         move large data into the bot's code or state",
        LONGEST_VARIABLE
    )]
    TooLarge {
        /// The variable.
        variable: String,
        /// Its size with name, `=` and final NUL.
        size: usize,
    },
}

impl LaunchError {
    /// The exit code that tells it.
    pub fn exit_code(&self) -> u8 {
        match self {
            LaunchError::Missing(_) => exit::MISSING_VARIABLE,
            _ => exit::BAD_LAUNCH,
        }
    }
}

/// A bot to run, every part checked.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Whose launch it is.
    pub bot: BotId,
    /// What it is written for.
    pub runtime: Runtime,
    /// Its program, relative to the code.
    pub entrypoint: String,
    /// Its query program, relative to the code.
    pub query_entrypoint: Option<String>,
    /// Where its code is; `None`: in its folder already.
    pub code_file: Option<ObjectKey>,
    /// Its parameters: the JSON text of an object, as given.
    pub config: Secret,
    /// How its life goes.
    pub bot_type: BotType,
    /// Its folders.
    pub paths: Paths,
    /// Folder of the language wrappers.
    pub wrappers: PathBuf,
    /// How it is confined.
    pub confine: Confine,
    /// Where `query` listens; port 0 takes a free one.
    pub query_listen: SocketAddr,
    /// How long an answer to a question may take.
    pub query_timeout: Duration,
    /// How long it may take to end after TERM.
    pub grace: Duration,
    /// How long the last push may take after it has ended.
    pub drain: Duration,
    variables: Variables,
}

impl Launch {
    /// Checks `variables` and takes from them what a launch needs.
    ///
    /// # Errors
    /// The first thing wrong, with the variable's name and the remedy.
    pub fn parse(variables: Variables) -> Result<Self, LaunchError> {
        let get = |name: &str| {
            variables
                .get(name)
                .map(String::as_str)
                .filter(|v| !v.is_empty())
        };
        let required = |name: &'static str| get(name).ok_or(LaunchError::Missing(name));
        let path = |name: &str, default: &Path| get(name).map_or(default.to_owned(), PathBuf::from);

        let bot = required(vars::BOT_ID)?
            .parse()
            .map_err(|cause| LaunchError::Name {
                variable: vars::BOT_ID,
                cause,
            })?;
        let runtime: Runtime = required(vars::RUNTIME)?.parse()?;
        let entrypoint = entry(vars::ENTRYPOINT, required(vars::ENTRYPOINT)?)?;
        let query_entrypoint = get(vars::QUERY_ENTRYPOINT)
            .map(|text| entry(vars::QUERY_ENTRYPOINT, text))
            .transpose()?;
        let code_file = get(vars::CODE_FILE)
            .map(|key| {
                key.parse().map_err(|cause| LaunchError::Name {
                    variable: vars::CODE_FILE,
                    cause,
                })
            })
            .transpose()?;
        let state = path(vars::STATE_PATH, Path::new("/state"));
        let var = path(vars::THE0_VAR_PATH, Path::new("/var/the0"));
        let paths = Paths {
            code: path(vars::CODE_PATH, Path::new("/bot")),
            sdk_state: path(vars::STATE_DIR, &state.join(".the0-state")),
            logs: path(vars::LOGS_PATH, &var.join("logs")),
            state,
            var,
        };
        let launch = Self {
            config: config(get(vars::BOT_CONFIG))?,
            bot_type: bot_type(get(vars::BOT_TYPE), get(vars::IS_SCHEDULED))?,
            wrappers: path(vars::THE0_WRAPPERS, Path::new("/opt/the0/wrappers")),
            confine: confine(get(vars::THE0_CONFINE))?,
            query_listen: address(vars::THE0_QUERY_LISTEN, get(vars::THE0_QUERY_LISTEN))?,
            query_timeout: duration(
                vars::THE0_QUERY_TIMEOUT,
                get(vars::THE0_QUERY_TIMEOUT),
                Duration::from_secs(30),
            )?,
            grace: duration(
                vars::THE0_GRACE,
                get(vars::THE0_GRACE),
                Duration::from_secs(30),
            )?,
            drain: duration(
                vars::THE0_DRAIN,
                get(vars::THE0_DRAIN),
                Duration::from_secs(25),
            )?,
            bot,
            runtime,
            entrypoint,
            query_entrypoint,
            code_file,
            paths,
            variables,
        };
        launch.check_sizes()?;
        Ok(launch)
    }

    fn check_sizes(&self) -> Result<(), LaunchError> {
        for (name, value) in self.program_environment(Program::Bot) {
            let size = name.len() + 1 + value.len() + 1;
            if size > LONGEST_VARIABLE {
                return Err(LaunchError::TooLarge {
                    variable: name,
                    size,
                });
            }
        }
        Ok(())
    }

    /// The credentials in the launch.
    pub fn keys(&self) -> Keys {
        let keys = vars::KEYS
            .iter()
            .filter_map(|name| self.variables.get_key_value(*name));
        keys.map(|(name, value)| (name.clone(), Secret::new(value)))
            .collect()
    }

    /// The command line of one of the bot's two programs; `None` for a query program it does not have.
    pub fn command(&self, program: Program) -> Option<Vec<String>> {
        let entry = match program {
            Program::Bot => &self.entrypoint,
            Program::Query => self.query_entrypoint.as_ref()?,
        };
        Some(
            self.runtime
                .command(program, entry, &self.paths.code, &self.wrappers),
        )
    }

    /// The folders one of the bot's two programs may write to under [`Confine::Full`].
    pub fn writable(&self, program: Program) -> Vec<PathBuf> {
        let mut folders = vec![PathBuf::from("/tmp"), PathBuf::from("/query")];
        if program == Program::Bot {
            folders.extend([self.paths.code.clone(), self.paths.state.clone()]);
        }
        folders
    }

    /// The whole environment of the bot or its query program: what the contract lists and what is harmless.
    ///
    /// For [`Program::Query`], `QUERY_PATH` is set and empty, by which the SDKs refuse writes to the state;
    /// the caller adds [`vars::THE0_QUERY_PORT`].
    pub fn program_environment(&self, program: Program) -> Variables {
        let mut env = self.harmless();
        let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
        let code = self.paths.code.to_string_lossy();
        set(vars::BOT_ID, self.bot.as_str());
        set(vars::BOT_CONFIG, self.config.reveal());
        set(vars::STATE_DIR, &self.paths.sdk_state.to_string_lossy());
        set("CODE_MOUNT_DIR", code.trim_start_matches('/'));
        set("SCRIPT_PATH", &self.entrypoint);
        set(
            vars::ENTRYPOINT_TYPE,
            self.variables
                .get(vars::ENTRYPOINT_TYPE)
                .map_or("bot", String::as_str),
        );
        if let Some(given) = self.variables.get(vars::BOT_TYPE) {
            set(vars::BOT_TYPE, given);
        }
        if self.runtime == Runtime::Python {
            let existing = self
                .variables
                .get(vars::PYTHONPATH)
                .filter(|v| !v.is_empty());
            let tail = existing.map_or(String::new(), |v| format!(":{v}"));
            set(vars::PYTHONPATH, &format!("{code}/vendor:{code}{tail}"));
        }
        if program == Program::Query {
            set(vars::QUERY_PATH, "");
            set(vars::BOT_TYPE, BotType::Realtime.name());
        }
        env
    }

    /// The environment of `sync`: everything but keys and configuration.
    pub fn sync_environment(&self) -> Variables {
        let mut env = self.variables.clone();
        env.retain(|name, _| !vars::KEYS.contains(&name.as_str()) && name != vars::BOT_CONFIG);
        env.remove(vars::THE0_LAUNCH);
        env
    }

    /// The environment of `query`: the launch without keys and without where anything is stored.
    pub fn query_environment(&self) -> Variables {
        const NEEDED: [&str; 19] = [
            vars::BOT_ID,
            vars::RUNTIME,
            vars::ENTRYPOINT,
            vars::BOT_CONFIG,
            vars::BOT_TYPE,
            vars::IS_SCHEDULED,
            vars::ENTRYPOINT_TYPE,
            vars::QUERY_ENTRYPOINT,
            vars::CODE_PATH,
            vars::STATE_PATH,
            vars::STATE_DIR,
            vars::LOGS_PATH,
            vars::PYTHONPATH,
            vars::LOG_LEVEL,
            vars::THE0_VAR_PATH,
            vars::THE0_WRAPPERS,
            vars::THE0_QUERY_LISTEN,
            vars::THE0_QUERY_TIMEOUT,
            vars::THE0_CONFINE,
        ];
        let mut env = self.harmless();
        let needed = NEEDED
            .iter()
            .filter_map(|name| self.variables.get_key_value(*name));
        env.extend(needed.map(|(name, value)| (name.clone(), value.clone())));
        if let Some(names) = self.variables.get(vars::THE0_PASS_ENV) {
            env.insert(vars::THE0_PASS_ENV.to_owned(), names.clone());
        }
        env
    }

    fn harmless(&self) -> Variables {
        let passed = self
            .variables
            .get(vars::THE0_PASS_ENV)
            .map_or("", String::as_str);
        let mut env = self.variables.clone();
        env.retain(|name, _| {
            let asked_for =
                passed.split(',').any(|p| p.trim() == name) && !vars::KEYS.contains(&name.as_str());
            vars::is_harmless(name) || asked_for
        });
        env
    }
}

fn entry(variable: &'static str, text: &str) -> Result<String, LaunchError> {
    let leaves =
        text.starts_with('/') || text.split('/').any(|part| part == "..") || text.contains('\0');
    if leaves {
        let why = format!(
            "is {text:?}: give the program's path inside the code, relative and without .."
        );
        return Err(LaunchError::Value { variable, why });
    }
    Ok(text.strip_prefix("./").unwrap_or(text).to_owned())
}

fn config(text: Option<&str>) -> Result<Secret, LaunchError> {
    let text = text.unwrap_or("{}");
    let refuse = |why: String| LaunchError::Value {
        variable: vars::BOT_CONFIG,
        why,
    };
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(_)) => Ok(Secret::new(text)),
        Ok(_) => Err(refuse(
            "is JSON but not an object: give an object, as in {\"symbol\":\"BTC/USD\"}".into(),
        )),
        // serde_json's message can quote the text, so only the position is told.
        Err(err) => Err(refuse(format!(
            "is not JSON (line {}, column {}): give a JSON object, as in {{\"symbol\":\"BTC/USD\"}}",
            err.line(),
            err.column()
        ))),
    }
}

fn bot_type(given: Option<&str>, is_scheduled: Option<&str>) -> Result<BotType, LaunchError> {
    match (given, is_scheduled) {
        (Some("scheduled"), _) | (None, Some("true")) => Ok(BotType::Scheduled),
        (Some("realtime") | None, _) => Ok(BotType::Realtime),
        (Some(other), _) => Err(LaunchError::Value {
            variable: vars::BOT_TYPE,
            why: format!("is {other:?}: use realtime or scheduled"),
        }),
    }
}

fn confine(given: Option<&str>) -> Result<Confine, LaunchError> {
    let all = [Confine::Full, Confine::Signals, Confine::Off];
    let name = given.unwrap_or("full");
    all.into_iter()
        .find(|c| c.name() == name)
        .ok_or_else(|| LaunchError::Value {
            variable: vars::THE0_CONFINE,
            why: format!("is {name:?}: use full, signals or off"),
        })
}

fn address(variable: &'static str, given: Option<&str>) -> Result<SocketAddr, LaunchError> {
    given
        .unwrap_or("0.0.0.0:9476")
        .parse()
        .map_err(|_| LaunchError::Value {
            variable,
            why: "is not an address: give host and port as in 0.0.0.0:9476, the host as a number"
                .into(),
        })
}

/// A duration as `30s`, `1m30s` or `500ms`.
///
/// # Errors
/// The variable's name and the form that is understood.
pub fn duration(
    variable: &'static str,
    given: Option<&str>,
    default: Duration,
) -> Result<Duration, LaunchError> {
    given.map_or(Ok(default), |text| {
        humantime::parse_duration(text).map_err(|_| LaunchError::Value {
            variable,
            why: format!("is {text:?}: give a duration as in 30s or 1m30s"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(extra: &[(&str, &str)]) -> Variables {
        let base = [
            ("BOT_ID", "b1"),
            ("RUNTIME", "python3.11"),
            ("ENTRYPOINT", "main.py"),
        ];
        base.iter()
            .chain(extra)
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn parse(extra: &[(&str, &str)]) -> Result<Launch, LaunchError> {
        Launch::parse(variables(extra))
    }

    #[test]
    fn a_missing_variable_is_named_and_exits_1() {
        for name in ["BOT_ID", "RUNTIME", "ENTRYPOINT"] {
            let error = parse(&[(name, "")]).unwrap_err();
            assert!(error.to_string().starts_with(name));
            assert_eq!(error.exit_code(), 1);
        }
    }

    #[test]
    fn a_bad_value_names_its_variable_and_the_remedy_but_never_a_configuration() {
        let rows = [
            ("RUNTIME", "python2", "use one of"),
            ("BOT_CONFIG", "{hunter2", "give a JSON object"),
            ("BOT_CONFIG", "[\"hunter2\"]", "not an object"),
            ("BOT_TYPE", "event", "use realtime or scheduled"),
            ("ENTRYPOINT", "../x", "relative"),
            ("CODE_FILE", "../x", ".."),
            ("THE0_GRACE", "soon", "30s"),
            ("THE0_CONFINE", "maybe", "full, signals or off"),
        ];
        for (name, value, remedy) in rows {
            let error = parse(&[(name, value)]).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(name) && text.contains(remedy) && !text.contains("hunter2"),
                "{text}"
            );
            assert_eq!(error.exit_code(), exit::BAD_LAUNCH);
        }
    }

    #[test]
    fn a_configuration_over_the_kernels_limit_is_refused_with_its_size() {
        let fits = |padding: usize| {
            parse(&[(
                "BOT_CONFIG",
                &format!("{{\"a\":\"{}\"}}", "x".repeat(padding)),
            )])
        };
        let most = LONGEST_VARIABLE - "BOT_CONFIG=".len() - 1 - "{\"a\":\"\"}".len();
        assert!(fits(most).is_ok());
        let text = fits(most + 1).unwrap_err().to_string();
        assert!(text.contains("131073") && text.contains("131072"), "{text}");
    }

    #[test]
    fn the_bot_sees_the_contract_and_what_is_harmless() {
        let launch = parse(&[
            ("PATH", "/usr/bin"),
            ("MINIO_SECRET_KEY", "k"),
            ("NATS_URL", "n"),
            ("THE0_STORE", "/s"),
            ("SOMETHING", "x"),
            ("PYTHONPATH", "/opt/lib"),
            ("BOT_TYPE", "realtime"),
        ])
        .unwrap();
        let env = launch.program_environment(Program::Bot);
        let names: Vec<_> = env.keys().map(String::as_str).collect();
        let expected = [
            "BOT_CONFIG",
            "BOT_ID",
            "BOT_TYPE",
            "CODE_MOUNT_DIR",
            "ENTRYPOINT_TYPE",
            "PATH",
            "PYTHONPATH",
            "SCRIPT_PATH",
            "STATE_DIR",
        ];
        assert_eq!(names, expected);
        assert_eq!(env["PYTHONPATH"], "/bot/vendor:/bot:/opt/lib");
        assert_eq!(env["CODE_MOUNT_DIR"], "bot");
        assert_eq!(env["STATE_DIR"], "/state/.the0-state");
        assert_eq!(launch.program_environment(Program::Query)["QUERY_PATH"], "");
    }

    #[test]
    fn keys_leave_by_their_own_way_only() {
        let launch = parse(&[
            ("MINIO_ACCESS_KEY", "a"),
            ("MINIO_SECRET_KEY", "s"),
            ("MINIO_ENDPOINT", "h:1"),
        ])
        .unwrap();
        assert_eq!(launch.keys().len(), 2);
        let passed = parse(&[
            ("MINIO_SECRET_KEY", "s"),
            ("THE0_PASS_ENV", "MINIO_SECRET_KEY"),
        ])
        .unwrap();
        for env in [
            launch.sync_environment(),
            launch.query_environment(),
            passed.program_environment(Program::Bot),
        ] {
            assert!(vars::KEYS.iter().all(|key| !env.contains_key(*key)));
        }
        assert!(launch.sync_environment().contains_key("MINIO_ENDPOINT"));
        assert!(!launch.query_environment().contains_key("MINIO_ENDPOINT"));
    }

    #[test]
    fn what_query_is_given_is_a_launch_again() {
        let launch = parse(&[
            ("QUERY_ENTRYPOINT", "./q.py"),
            ("THE0_QUERY_LISTEN", "127.0.0.1:0"),
            ("THE0_QUERY_TIMEOUT", "5s"),
        ])
        .unwrap();
        let again = Launch::parse(launch.query_environment()).unwrap();
        assert_eq!(again.query_timeout, Duration::from_secs(5));
        assert_eq!(
            again.command(Program::Query),
            Some(vec!["python3".into(), "/bot/q.py".into()])
        );
        assert_eq!(again.query_listen.port(), 0);
    }

    #[test]
    fn a_launch_document_does_not_print_its_values() {
        let line: Line =
            serde_json::from_str(r#"{"type":"launch","v":1,"env":{"BOT_CONFIG":"hunter2"}}"#)
                .unwrap();
        assert!(!format!("{line:?}").contains("hunter2"));
    }
}
