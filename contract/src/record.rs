//! What is written down about runs: one type a file, see [`Paths`](crate::paths::Paths).

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::id::{BotId, Digest};
pub use crate::result::RunResult;

/// How what is said of a code folder begins that is over its limit: the state is saved then, other than with a state that is
/// over its own.
pub const CODE_OVER: &str = "the bot has filled the folder of its code";

/// A point in time, RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(SystemTime);

impl Time {
    /// Now, cut to milliseconds.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Time passed since; zero if the clock went back.
    pub fn age(self) -> Duration {
        self.0.elapsed().unwrap_or_default()
    }

    /// The same as the standard library's type.
    pub fn system(self) -> SystemTime {
        self.0
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }
}

impl From<Time> for String {
    fn from(time: Time) -> String {
        humantime::format_rfc3339_millis(time.0).to_string()
    }
}

impl TryFrom<String> for Time {
    type Error = humantime::TimestampError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        humantime::parse_rfc3339(&text).map(Self)
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self))
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// By itself, with an exit code.
    Exited,
    /// By a signal that nobody here sent.
    Killed,
    /// By the kernel, for want of memory.
    Oom,
    /// Because a stop was asked for.
    Stopped,
    /// It could not be started; the message says why.
    StartFailed,
    /// Another instance has claimed the bot.
    Fenced,
    /// Its state was edited outside; it is started again on the edited one.
    Edited,
    /// Its state has outgrown the limit.
    Disk,
    /// The supervisor went away with it (power, a kill of the whole container) and the next one wrote this.
    Lost,
}

impl Reason {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Exited => "exited",
            Reason::Killed => "killed",
            Reason::Oom => "oom",
            Reason::Stopped => "stopped",
            Reason::StartFailed => "start_failed",
            Reason::Fenced => "fenced",
            Reason::Edited => "edited",
            Reason::Disk => "disk",
            Reason::Lost => "lost",
        }
    }
}

/// The record of a run that has ended. Runs of a bot on one volume are numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run's number.
    pub run: u64,
    /// The code the supervisor exits with after it: the bot's own, or 128 + signal.
    pub code: u8,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it ended.
    pub reason: Reason,
    /// When it was started.
    pub started_at: Time,
    /// When it had ended.
    pub ended_at: Time,
    /// How many runs in a row before it ended by themselves without a stable minute.
    pub restarts: u32,
    /// What a person should know besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the bot itself said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
}

/// The number alone of a run's record, for those who need no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Numbered {
    /// The run's number.
    pub run: u64,
}

/// Where the supervisor is in its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Code and state are being fetched, side processes started.
    Starting,
    /// The bot runs.
    Running,
    /// The bot has ended and is started again after a pause.
    Waiting,
    /// The bot was told to end, or has ended and its last push is under way.
    Stopping,
    /// All is done; the supervisor exits or has exited.
    Stopped,
}

impl State {
    /// The name in status files.
    pub fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Waiting => "waiting",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        }
    }
}

/// What the supervisor is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where it is.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// The run under way, or the last one; 0 before the first.
    pub run: u64,
    /// The bot's process id while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Runs in a row that ended by themselves without a stable minute.
    pub restarts: u32,
    /// When it is started again, in [`State::Waiting`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start: Option<Time>,
    /// The supervisor's own process id.
    pub supervisor: u32,
    /// Lines of the log that were dropped unshipped so far.
    #[serde(default)]
    pub log_lines_dropped: u64,
}

/// How saving went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// State and log are in the store.
    Ok,
    /// The store did not take it; tried again.
    Failed,
    /// Another instance has claimed the bot: this one must stop. Its state is kept in the history.
    Fenced,
    /// The state in the store was edited outside: the bot must stop, fetch and start again.
    Edited,
    /// The state is over its limit: nothing is pushed, the bot must stop.
    TooLarge,
}

/// What has been saved, by `sync watch`, replaced after each pass that changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// How it went.
    pub outcome: Outcome,
    /// The last run whose end was seen (its `done.json`) before this pass began; 0: none.
    pub run: u64,
    /// The claim's generation.
    pub generation: u64,
    /// Digest of the state in the store; `None` before the first push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Where in the log shipping has got to.
    pub log: crate::logs::Position,
    /// When the store last held all there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok_at: Option<Time>,
    /// When this was written.
    pub at: Time,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Files of the state that could not be saved, with the reason; at most 100 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What went to the store; `None`: an older `sync` does not count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// What became of the result of what runs once; `None`: nothing yet, or none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Sent>,
}

/// What became of a result that `sync` was to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// It is in the store, byte for byte.
    Whole,
    /// There is no such file.
    Nothing,
    /// It is a link, a folder or the like, or may not be read.
    NoFile,
    /// It has more bytes than it may have.
    TooLarge,
}

/// What a `sync watch` has sent to the store since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// When it began to count.
    pub since: Time,
    /// Bytes of objects that the store took.
    pub sent: u64,
    /// Requests that the store did not answer, or refused.
    pub errors: u64,
}

/// Where `query` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The address it took.
    pub address: SocketAddr,
    /// Its process id.
    pub pid: u32,
}

/// The body of `:9476/_status`. Nothing of the configuration is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The bot.
    pub bot: BotId,
    /// What the supervisor is doing; `None` where there is none.
    pub status: Option<Status>,
    /// What has been saved; `None` before the first pass.
    pub synced: Option<Synced>,
    /// The latest runs that ended, oldest first, at most 20.
    pub runs: Vec<RunRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_documented() {
        let time = Time::from(SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_999));
        let record = RunRecord {
            run: 3,
            code: 137,
            signal: Some(9),
            reason: Reason::Oom,
            started_at: time,
            ended_at: time,
            restarts: 2,
            message: None,
            result: None,
        };
        let text = serde_json::to_string(&record).unwrap();
        let expected = concat!(
            r#"{"run":3,"code":137,"signal":9,"reason":"oom","started_at":"1970-01-01T00:00:01.500Z","#,
            r#""ended_at":"1970-01-01T00:00:01.500Z","restarts":2}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<RunRecord>(&text).unwrap(), record);
    }
}
