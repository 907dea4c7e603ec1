//! The launch of a bot: what to run, parsed once at the edge, and what each program of it may know.
//!
//! It comes as environment variables, or, when `THE0_LAUNCH=stdin`, as JSON lines on standard input
//! ([`Line`]), whose first carries the same variables. Either way [`Launch::parse`] reads them, so there is one
//! set of rules. Keys leave through [`Launch::keys`] only; the three `*_environment` functions are the only
//! places where the environment of another program is made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{BotId, NameError, ObjectKey};
use crate::params::Params;
use crate::paths::Paths;
use crate::runtime::{Program, Runtime, UnknownRuntime};
use crate::secret::Secret;
use crate::stage::Cage;
use crate::{exit, vars};

/// The longest `NAME=value` the kernel passes to a program, with its final NUL: 32 pages (`MAX_ARG_STRLEN`,
/// execve(2)).
pub const LONGEST_VARIABLE: usize = 32 * 4096;

mod renamed;
mod values;

pub use renamed::renamed;
use values::Values;
pub use values::duration;

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

/// A question for which a container of its own is started (contract, section 5).
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Its path, with its slash.
    pub path: String,
    /// Its parameters.
    pub params: Params,
    /// Where its result goes in the store.
    pub result_key: Option<ObjectKey>,
    /// The file in which its result is left instead; with neither, it goes to standard output.
    pub result_file: Option<PathBuf>,
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
    /// What is asked instead of running it.
    pub question: Option<Question>,
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
    /// What whoever asks `query` over the network brings.
    pub query_token: Option<Secret>,
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
        use LaunchError::Missing;
        let variables = renamed(variables);
        let read = Values(&variables);
        let launch = Self {
            bot: read.name(vars::BOT_ID)?.ok_or(Missing(vars::BOT_ID))?,
            runtime: read.required(vars::RUNTIME)?.parse()?,
            entrypoint: read
                .entry(vars::ENTRYPOINT)?
                .ok_or(Missing(vars::ENTRYPOINT))?,
            query_entrypoint: read.entry(vars::QUERY_ENTRYPOINT)?,
            code_file: read.name(vars::CODE_FILE)?,
            config: read.config()?,
            bot_type: read.bot_type()?,
            question: read.question()?,
            paths: read.paths(),
            wrappers: read.path(vars::THE0_WRAPPERS, "/opt/the0/wrappers"),
            confine: read.confine()?,
            query_listen: read.address(vars::THE0_QUERY_LISTEN, "0.0.0.0:9476")?,
            query_timeout: read.seconds(vars::THE0_QUERY_TIMEOUT, 30)?,
            query_token: read.get(vars::THE0_QUERY_TOKEN).map(Secret::new),
            grace: read.seconds(vars::THE0_GRACE, 30)?,
            // With the grace and the end of the side processes, within the 60 s a container is given to stop.
            drain: read.seconds(vars::THE0_DRAIN, 20)?,
            variables,
        };
        launch.check_sizes()?;
        Ok(launch)
    }

    fn check_sizes(&self) -> Result<(), LaunchError> {
        let program = match self.question {
            Some(_) => Program::Query,
            None => Program::Bot,
        };
        for (name, value) in self.program_environment(program) {
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

    /// What `LOG_LEVEL` says, if it is set.
    pub fn log_level(&self) -> Option<&str> {
        Values(&self.variables).get(vars::LOG_LEVEL)
    }

    /// What `LOG_FORMAT` says, if it is set.
    pub fn log_format(&self) -> Option<&str> {
        Values(&self.variables).get(vars::LOG_FORMAT)
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

    /// What one of the bot's two programs may do.
    pub fn cage(&self, program: Program) -> Cage {
        match self.confine {
            Confine::Full => Cage::Writes(self.writable(program)),
            Confine::Signals => Cage::Signals,
            Confine::Off => Cage::Open,
        }
    }

    fn writable(&self, program: Program) -> Vec<PathBuf> {
        let mut folders = vec![PathBuf::from("/tmp"), PathBuf::from("/query")];
        if program == Program::Bot {
            folders.extend([self.paths.code.clone(), self.paths.state.clone()]);
        }
        folders
    }

    /// The whole environment of the bot or its query program: what the contract lists and what is harmless.
    ///
    /// For [`Program::Query`] with a question, `QUERY_PATH` and its parameters are there. Without one Python gets an empty
    /// `QUERY_PATH`, by whose presence its SDKs refuse writes to the state and which they take for none; SDKs of compiled
    /// languages take an empty one for a question (`std::env::var("QUERY_PATH").is_ok()`, crates.io 0.3.1 and 0.4.0) and
    /// would not listen, so that others get none. The caller adds [`vars::THE0_QUERY_PORT`].
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
        match (program, &self.question) {
            (Program::Bot, _) => {}
            (Program::Query, None) => {
                if self.runtime == Runtime::Python {
                    set(vars::QUERY_PATH, "");
                }
                set(vars::BOT_TYPE, BotType::Realtime.name());
            }
            (Program::Query, Some(question)) => {
                set(vars::QUERY_PATH, &question.path);
                set(vars::QUERY_PARAMS, &question.params.to_body());
                let fits = |(name, value): &(&str, String)| {
                    !name.contains(['=', '\0']) && !value.contains('\0')
                };
                for (name, value) in question.params.texts().filter(fits) {
                    set(&format!("QUERY_PARAM_{name}"), &value);
                }
            }
        }
        env
    }

    /// The environment of `sync`: everything but keys and configuration.
    pub fn sync_environment(&self) -> Variables {
        let mut env = self.variables.clone();
        env.retain(|name, _| !vars::KEYS.contains(&name.as_str()) && name != vars::BOT_CONFIG);
        env.remove(vars::THE0_LAUNCH);
        env.remove(vars::THE0_QUERY_TOKEN);
        env
    }

    /// The environment of `query`: the launch without keys and without where anything is stored.
    pub fn query_environment(&self) -> Variables {
        const NEEDED: [&str; 21] = [
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
            vars::LOG_FORMAT,
            vars::THE0_VAR_PATH,
            vars::THE0_WRAPPERS,
            vars::THE0_QUERY_LISTEN,
            vars::THE0_QUERY_TIMEOUT,
            vars::THE0_QUERY_TOKEN,
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

#[cfg(test)]
mod tests;
