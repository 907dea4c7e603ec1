//! What `sync` is told by its environment, read once.

use std::path::PathBuf;
use std::time::Duration;

use contract::launch::{self, Launch, Variables};
use contract::{BotId, LaunchError, ObjectKey, Runtime, vars};

use crate::extract::Budget;
use crate::store::{Address, Place};

const MIB: u64 = 1 << 20;
/// The variable of how much room the folder of the code may take.
pub const LARGEST_CODE: &str = "THE0_MAX_CODE_MB";

/// Where a bot's objects are, and what bounds their reading: all that a command about a stored state needs.
#[derive(Debug, Clone)]
pub struct Places {
    /// Whose they are.
    pub bot: BotId,
    /// The store.
    pub store: Address,
    /// Bucket of code.
    pub code_bucket: String,
    /// Bucket of states.
    pub state_bucket: String,
    /// Bucket of logs.
    pub logs_bucket: String,
    /// Bucket of results of one-shot questions.
    pub results_bucket: String,
    /// Largest state, bytes.
    pub largest_state: u64,
    /// Bounds on code bundles.
    pub budget: Budget,
    /// How long a store that does not answer is tried.
    pub deadline: Duration,
}

/// Whether the bot's program must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// By `RUNTIME` and `ENTRYPOINT`.
    Told,
    /// It need not be.
    Any,
}

/// Whether what the bot leaves in its state's folder outlives the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// It does: it is claimed, brought and pushed.
    Kept,
    /// It does not: nothing is claimed, brought or pushed.
    Off,
    /// It is brought to be read: nothing is claimed or pushed.
    Read,
}

/// The settings of one bot's `sync`.
#[derive(Debug)]
pub struct Settings {
    /// Whether `launch` has the bot's program; otherwise its runtime and entrypoint mean nothing.
    pub entry: Entry,
    /// The launch: bot, runtime, entrypoint, folders, drain.
    pub launch: Launch,
    /// The bot's objects.
    pub places: Places,
    /// Whether there is a state to keep.
    pub state: Keeping,
    /// Bytes that the result of what runs once may have, if it is sent.
    pub result: Option<u64>,
    /// Largest file of a state, bytes.
    pub largest_file: Option<u64>,
    /// Largest log of one day, bytes.
    pub largest_log: u64,
    /// Most that the folder of the code may take, bytes.
    pub largest_code: u64,
}

impl Places {
    /// Reads `variables`; of the launch's own only `BOT_ID` is needed.
    pub fn parse(variables: &Variables) -> Result<Self, LaunchError> {
        let given = Given(variables);
        let budget = Budget {
            bytes: given.mebibytes("THE0_MAX_UNPACKED_MB", 1024)?,
            entries: given.whole("THE0_MAX_UNPACKED_ENTRIES", 100_000)?,
            ratio: given.whole("THE0_MAX_UNPACKED_RATIO", 1000)?.max(1),
        };
        let deadline = given.get("THE0_FETCH_DEADLINE");
        Ok(Self {
            bot: given.bot()?,
            store: Address::parse(variables)?,
            code_bucket: given.or("MINIO_CODE_BUCKET", "custom-bots"),
            state_bucket: given.or("MINIO_STATE_BUCKET", "bot-state"),
            logs_bucket: given.or("MINIO_LOGS_BUCKET", "bot-logs"),
            results_bucket: given.or("MINIO_QUERY_RESULTS_BUCKET", "query-results"),
            largest_state: given.mebibytes(vars::MAX_STATE_SIZE_MB, 8192)?,
            budget,
            deadline: launch::duration("THE0_FETCH_DEADLINE", deadline, Duration::from_secs(60))?,
        })
    }

    /// The state's object.
    pub fn state(&self) -> Place {
        Place::new(&self.state_bucket, ObjectKey::state(&self.bot))
    }

    /// Where the result of a one-shot question goes.
    pub fn result(&self, key: &str) -> anyhow::Result<Place> {
        Ok(Place::new(&self.results_bucket, key.parse()?))
    }

    /// Where the result of what runs once waits for the agent.
    pub fn left(&self) -> anyhow::Result<Place> {
        self.ours(contract::result::LEFT)
    }

    /// An object of ours beside the state.
    pub fn ours(&self, name: &str) -> anyhow::Result<Place> {
        let key = ObjectKey::ours(&self.bot, name)?;
        Ok(Place::new(&self.state_bucket, key))
    }
}

impl Settings {
    /// Reads `variables`, in which the bot's program is [`Entry::Told`] unless it need not be.
    pub fn parse(variables: &Variables, entry: Entry) -> Result<Self, LaunchError> {
        let given = Given(variables);
        let told = [vars::RUNTIME, vars::ENTRYPOINT].map(|name| given.get(name).is_some());
        let entry = if told == [true; 2] {
            Entry::Told
        } else {
            entry
        };
        let mut launch = variables.clone();
        if entry == Entry::Any {
            launch.insert(vars::RUNTIME.into(), Runtime::Gcc.name().into());
            launch.insert(vars::ENTRYPOINT.into(), "any".into());
        }
        let largest_file = match given.get(vars::MAX_STATE_FILE_SIZE_MB) {
            Some(_) => Some(given.mebibytes(vars::MAX_STATE_FILE_SIZE_MB, 0)?),
            None => None,
        };
        Ok(Self {
            entry,
            places: Places::parse(variables)?,
            state: given.keeping()?,
            result: given.maybe(vars::THE0_RESULT)?,
            largest_file,
            largest_log: given.mebibytes("THE0_MAX_DAY_LOG_MB", 256)?,
            largest_code: given.mebibytes(LARGEST_CODE, 2048)?,
            launch: Launch::parse(launch)?,
        })
    }

    /// The folder of what `sync` remembers.
    pub fn private(&self, name: &str) -> PathBuf {
        self.launch.paths.sync_private().join(name)
    }
}

/// Variables, of which an empty one counts as not set.
struct Given<'a>(&'a Variables);

impl Given<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    fn or(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or(default).to_owned()
    }

    fn bot(&self) -> Result<BotId, LaunchError> {
        let variable = vars::BOT_ID;
        let name = self.get(variable).ok_or(LaunchError::Missing(variable))?;
        name.parse()
            .map_err(|cause| LaunchError::Name { variable, cause })
    }

    fn keeping(&self) -> Result<Keeping, LaunchError> {
        let variable = vars::THE0_STATE;
        match self.get(variable) {
            None => Ok(Keeping::Kept),
            Some("off") => Ok(Keeping::Off),
            Some("read") => Ok(Keeping::Read),
            Some(other) => Err(LaunchError::Value {
                variable,
                why: format!("is {other:?}: set it to off or read, or not at all"),
            }),
        }
    }

    fn mebibytes(&self, variable: &'static str, default: u64) -> Result<u64, LaunchError> {
        Ok(self.whole(variable, default)?.saturating_mul(MIB))
    }

    fn maybe(&self, variable: &'static str) -> Result<Option<u64>, LaunchError> {
        let found = self.get(variable);
        found.map(|_| self.whole(variable, 0)).transpose()
    }

    fn whole(&self, variable: &'static str, default: u64) -> Result<u64, LaunchError> {
        self.get(variable).map_or(Ok(default), |text| {
            let why = format!("is {text:?}: give a whole number");
            text.trim()
                .parse()
                .map_err(|_| LaunchError::Value { variable, why })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &[(&str, &str)]) -> Result<Settings, LaunchError> {
        let base = [
            ("BOT_ID", "b1"),
            ("RUNTIME", "python3.11"),
            ("ENTRYPOINT", "main.py"),
        ];
        let all = base.iter().chain(extra);
        Settings::parse(&variables(all), Entry::Told)
    }

    fn variables<'a>(pairs: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Variables {
        pairs
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn the_program_need_not_be_told_where_others_start_us() {
        let least = variables([("BOT_ID", "b1"), ("THE0_STORE", "/s")].iter());
        let refused = Settings::parse(&least, Entry::Told).unwrap_err();
        assert_eq!(refused, LaunchError::Missing(vars::RUNTIME));
        assert_eq!(
            Settings::parse(&least, Entry::Any).unwrap().entry,
            Entry::Any
        );
        let told = parse(&[("THE0_STORE", "/s")]).unwrap();
        assert_eq!(told.entry, Entry::Told);
    }

    #[test]
    fn the_places_of_a_bot_need_no_launch() {
        let only = |name: &str, value: &str| {
            let variables = [(name.to_owned(), value.to_owned())];
            let store = ("THE0_STORE".to_owned(), "/s".to_owned());
            Places::parse(&variables.into_iter().chain([store]).collect())
        };
        assert_eq!(
            only("BOT_ID", "b1").unwrap().state().key.as_str(),
            "b1/state.tar.gz"
        );
        for (name, value) in [("BOT_ID", "../b"), ("BOT_ID", ""), ("RUNTIME", "nodejs20")] {
            let text = only(name, value).unwrap_err().to_string();
            assert!(text.contains("BOT_ID"), "{text}");
        }
    }

    #[test]
    fn a_state_is_kept_unless_it_is_off() {
        let read = |word| parse(&[("THE0_STORE", "/s"), ("THE0_STATE", word)]);
        assert_eq!(read("").unwrap().state, Keeping::Kept);
        assert_eq!(read("off").unwrap().state, Keeping::Off);
        assert_eq!(read("read").unwrap().state, Keeping::Read);
        assert!(read("maybe").is_err());
    }

    #[test]
    fn a_result_is_sent_where_its_size_is_told() {
        let read = |bytes| parse(&[("THE0_STORE", "/s"), ("THE0_RESULT", bytes)]);
        assert_eq!(read("").unwrap().result, None);
        assert_eq!(read("1024").unwrap().result, Some(1024));
        assert!(read("much").is_err());
    }

    #[test]
    fn limits_are_in_mebibytes_and_a_files_only_when_set() {
        let settings = parse(&[("THE0_STORE", "/s"), ("MAX_STATE_SIZE_MB", "2")]).unwrap();
        assert_eq!(
            (settings.places.largest_state, settings.largest_file),
            (2 << 20, None)
        );
        assert!(parse(&[("THE0_STORE", "/s"), ("MAX_STATE_SIZE_MB", "x")]).is_err());
    }
}
