//! What `sync` is told by its environment, read once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::launch::{self, Launch, Variables};
use contract::{LaunchError, ObjectKey, vars};

use crate::extract::Budget;
use crate::store::Place;

const MIB: u64 = 1 << 20;

/// The settings of one bot's `sync`.
#[derive(Debug)]
pub struct Settings {
    /// The launch: bot, runtime, entrypoint, folders, drain.
    pub launch: Launch,
    /// The folder of the directory store.
    pub store: PathBuf,
    /// Bucket of code.
    pub code_bucket: String,
    /// Bucket of states.
    pub state_bucket: String,
    /// Bucket of logs.
    pub logs_bucket: String,
    /// Largest state, bytes.
    pub largest_state: u64,
    /// Largest file of a state, bytes.
    pub largest_file: Option<u64>,
    /// Bounds on code bundles.
    pub budget: Budget,
    /// How long `fetch` goes on trying.
    pub deadline: Duration,
    /// Largest log of one day, bytes.
    pub largest_log: u64,
}

impl Settings {
    /// Reads `variables`.
    pub fn parse(variables: &Variables) -> Result<Self, LaunchError> {
        let get = |name: &str| {
            variables
                .get(name)
                .map(String::as_str)
                .filter(|v| !v.is_empty())
        };
        let bucket = |name: &str, default: &str| get(name).unwrap_or(default).to_owned();
        let number = |name: &'static str, default: u64| whole(name, get(name), default);
        let store = store(get(vars::THE0_STORE))?;
        let budget = Budget {
            bytes: number("THE0_MAX_UNPACKED_MB", 1024)?.saturating_mul(MIB),
            entries: number("THE0_MAX_UNPACKED_ENTRIES", 100_000)?,
            ratio: number("THE0_MAX_UNPACKED_RATIO", 1000)?.max(1),
        };
        let largest_file = match get(vars::MAX_STATE_FILE_SIZE_MB) {
            Some(_) => Some(number(vars::MAX_STATE_FILE_SIZE_MB, 0)?.saturating_mul(MIB)),
            None => None,
        };
        let deadline = get("THE0_FETCH_DEADLINE");
        Ok(Self {
            store,
            code_bucket: bucket("MINIO_CODE_BUCKET", "custom-bots"),
            state_bucket: bucket("MINIO_STATE_BUCKET", "bot-state"),
            logs_bucket: bucket("MINIO_LOGS_BUCKET", "bot-logs"),
            largest_state: number(vars::MAX_STATE_SIZE_MB, 8192)?.saturating_mul(MIB),
            largest_file,
            budget,
            deadline: launch::duration("THE0_FETCH_DEADLINE", deadline, Duration::from_secs(60))?,
            largest_log: number("THE0_MAX_DAY_LOG_MB", 256)?.saturating_mul(MIB),
            launch: Launch::parse(variables.clone())?,
        })
    }

    /// The state's object.
    pub fn state(&self) -> Place {
        Place::new(&self.state_bucket, ObjectKey::state(&self.launch.bot))
    }

    /// An object of ours beside the state.
    pub fn ours(&self, name: &str) -> anyhow::Result<Place> {
        Ok(Place::new(
            &self.state_bucket,
            ObjectKey::ours(&self.launch.bot, name)?,
        ))
    }

    /// The folder of what `sync` remembers.
    pub fn private(&self, name: &str) -> PathBuf {
        self.launch.paths.sync_private().join(name)
    }
}

fn store(given: Option<&str>) -> Result<PathBuf, LaunchError> {
    let refuse = |why: &str| LaunchError::Value {
        variable: vars::THE0_STORE,
        why: why.to_owned(),
    };
    match given {
        None => Err(refuse(
            "is not set: this version has the directory store; set it to the absolute path of a folder",
        )),
        Some(path) if Path::new(path).is_absolute() => Ok(PathBuf::from(path)),
        Some(_) => Err(refuse("is not an absolute path: give one")),
    }
}

fn whole(variable: &'static str, given: Option<&str>, default: u64) -> Result<u64, LaunchError> {
    given.map_or(Ok(default), |text| {
        let why = format!("is {text:?}: give a whole number");
        text.trim()
            .parse()
            .map_err(|_| LaunchError::Value { variable, why })
    })
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
        Settings::parse(
            &all.map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn without_a_store_the_refusal_says_what_to_set() {
        let text = parse(&[]).unwrap_err().to_string();
        assert!(
            text.contains("THE0_STORE") && text.contains("directory store"),
            "{text}"
        );
        assert!(parse(&[("THE0_STORE", "data")]).is_err());
    }

    #[test]
    fn limits_are_in_mebibytes_and_a_files_only_when_set() {
        let settings = parse(&[("THE0_STORE", "/s"), ("MAX_STATE_SIZE_MB", "2")]).unwrap();
        assert_eq!(
            (settings.largest_state, settings.largest_file),
            (2 << 20, None)
        );
        assert!(parse(&[("THE0_STORE", "/s"), ("MAX_STATE_SIZE_MB", "x")]).is_err());
    }
}
