//! What `agent ps` shows of a bot: gathered from the listing, the engine and the files of its supervisor.

use std::sync::Arc;
use std::time::Duration;

use contract::record::{Listening, Outcome as Saved, RunRecord, State, Status, Synced, Time};
use contract::{BotId, Paths, file};
use serde::{Deserialize, Serialize};

use crate::bots::{Listed, Offer};
use crate::engine::Instance;
use crate::engine::usage::Usage;
use crate::plan::{Outcome, Phase};
use crate::schedule::ledger::{self, Ledger};
use crate::schedule::timetable::shown;

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The bot's id.
    pub id: BotId,
    /// Its name.
    pub name: String,
    /// Another word for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Where it comes from.
    pub source: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// How it is: unknown (where bots run does not answer yet), starting, running, waiting (to be started again), stopping, stopped, disabled, failed, completed,
    /// invalid (its document cannot be used), removed, held (missing, and a person must confirm).
    pub state: String,
    /// Why it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The run under way, or the last one.
    pub run: u64,
    /// Runs in a row that ended by themselves without a stable minute.
    pub restarts: u32,
    /// The bot's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its supervisor's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<i32>,
    /// The last run that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<RunRecord>,
    /// What has been saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<Synced>,
    /// Whether something of it is on this host's volumes only, after its container has ended.
    #[serde(default)]
    pub unsaved: bool,
    /// Whether something of it may be gone with its Pod, which has ended: it is not known to be saved.
    #[serde(default)]
    pub lost: bool,
    /// Where it answers questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Its container's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The id of its container's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When it runs next, if it runs at times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_tick: Option<Time>,
    /// What has become of its last tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_tick: Option<Tick>,
    /// What it uses of the host now, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What has become of a tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// When it was due.
    pub at: Time,
    /// claimed, started, completed, failed, limit, stopped, replaced, lost or missed.
    pub state: String,
    /// Which try it is.
    pub attempt: u32,
    /// Ticks before it that were passed over.
    pub missed: u32,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<&ledger::Tick> for Tick {
    fn from(tick: &ledger::Tick) -> Self {
        Self {
            at: ledger::time(tick.at),
            state: tick.word().to_owned(),
            attempt: tick.attempt,
            missed: tick.missed,
            why: tick.why.clone(),
        }
    }
}

/// What a row is made of, but for what the bot's programs have written.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The bot's id.
    pub id: BotId,
    /// The name it had when it was last started.
    pub name: Option<String>,
    /// The listing's row, unless the bot is missing from it.
    pub listed: Option<Arc<Listed>>,
    /// The engine's instance.
    pub instance: Option<Instance>,
    /// Whether a person has stopped it.
    pub stopped: bool,
    /// Whether it runs only until a person confirms its removal.
    pub held: bool,
    /// What has become of what it had, where not all of that is known to be in the store.
    pub unsaved: Option<Rest>,
    /// Whether it is known what runs.
    pub sight: Sight,
    /// What is written down of its schedule, if it has one.
    pub timing: Option<Ledger>,
}

/// Where something is that an ended bot had, and that is not known to be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// On this host's volumes.
    Kept,
    /// Nowhere: gone with its Pod.
    Lost,
}

/// Whether it is known what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It is.
    Clear,
    /// The engine has not been seen yet.
    Unseen,
}

/// What the programs around a bot have written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// What its supervisor is doing.
    pub status: Option<Status>,
    /// The end of the last run, while no run is under way.
    pub done: Option<RunRecord>,
    /// Runs that have ended, oldest first.
    pub runs: Vec<RunRecord>,
    /// What has been saved.
    pub synced: Option<Synced>,
    /// Whether saving works, of one that writes nothing down here.
    pub saving: Option<Saving>,
    /// Where questions are answered.
    pub listening: Option<Listening>,
    /// Whether all that is there was understood.
    pub integrity: Integrity,
}

/// Whether saving works, as a probe of the bot's `sync` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// It does.
    Works,
    /// It has failed since.
    Fails(Time),
    /// It does not tell.
    Untold,
}

/// Whether what is not among records was not written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Integrity {
    /// It was not.
    #[default]
    Whole,
    /// It may have been: something is there that could not be read or understood.
    Doubtful,
}

impl Records {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let some = self.status.is_some() || self.done.is_some() || self.synced.is_some();
        !some && self.runs.is_empty()
    }

    /// Reads those of a bot on this machine. One that is not there, or not understood, is none.
    pub fn read(paths: &Paths) -> Self {
        Self {
            status: file::read_json(&paths.status()).ok().flatten(),
            done: file::read_json(&paths.done_record()).ok().flatten(),
            runs: file::read_json_lines(&paths.runs()).unwrap_or_default(),
            synced: file::read_json(&paths.synced()).ok().flatten(),
            saving: None,
            listening: file::read_json(&paths.listening()).ok().flatten(),
            integrity: Integrity::Whole,
        }
    }
}

/// Makes the row of a bot.
pub fn row(from: &Sources, records: Records) -> Row {
    let instance = from.instance.as_ref();
    let listed = from.listed.as_deref();
    let live = instance.and_then(|instance| instance.pid);
    let status = records.status;
    let status = status.filter(|s| live.is_some_and(|pid| i32::try_from(s.supervisor) == Ok(pid)));
    let mut last_exit = records.runs.last().cloned();
    if let Some(result) = last_exit.as_mut().and_then(|run| run.result.as_mut()) {
        // `agent history` has them.
        result.data = None;
    }
    let failures = instance.map_or(0, |instance| instance.failures);
    let (state, reason) = state(from, status.as_ref());
    let bot = listed.and_then(|listed| match &listed.offer {
        Offer::Bot(bot) => Some(bot),
        _ => None,
    });
    let name = listed.map(|listed| listed.name.clone());
    Row {
        id: from.id.clone(),
        name: name
            .or(from.name.clone())
            .unwrap_or_else(|| from.id.to_string()),
        alias: listed.and_then(|listed| listed.alias.clone()),
        source: listed.map_or("missing".into(), |listed| listed.source.clone()),
        version: bot.map(|bot| bot.definition.version.clone()),
        runtime: bot.map(|bot| bot.definition.runtime.name().to_owned()),
        state: state.to_owned(),
        reason,
        since: since(status.as_ref(), last_exit.as_ref()),
        run: status
            .as_ref()
            .map_or(last_exit.as_ref().map_or(0, |r| r.run), |s| s.run),
        restarts: status.as_ref().map_or(failures, |s| s.restarts),
        pid: status.as_ref().and_then(|s| s.pid),
        supervisor: live,
        last_exit,
        synced: records.synced,
        unsaved: from.unsaved == Some(Rest::Kept),
        lost: from.unsaved == Some(Rest::Lost),
        query: records
            .listening
            .filter(|_| live.is_some())
            .map(|l| l.address.to_string()),
        container: instance.and_then(|instance| instance.container.clone()),
        image: instance.and_then(|instance| instance.image.clone()),
        next_tick: from
            .timing
            .as_ref()
            .and_then(|ledger| ledger.next)
            .map(ledger::time),
        last_tick: from
            .timing
            .as_ref()
            .and_then(|ledger| Some(ledger.tick.as_ref()?.into())),
        usage: None,
    }
}

fn since(status: Option<&Status>, last: Option<&RunRecord>) -> Option<Time> {
    status.map(|s| s.since).or(last.map(|r| r.ended_at))
}

/// How the bot is, in one word, without a look at what its own programs have written.
pub fn word(from: &Sources) -> &'static str {
    let lives = from.instance.as_ref().and_then(|instance| instance.pid);
    match state(from, None).0 {
        "starting" if lives.is_some() => "running",
        word => word,
    }
}

/// How the bot is, in one word, and why.
fn state(from: &Sources, status: Option<&Status>) -> (&'static str, Option<String>) {
    let listed = from.listed.as_deref();
    let unusable = match listed.map(|listed| &listed.offer) {
        Some(Offer::Unusable(why)) => Some(why.clone()),
        _ => None,
    };
    let instance = from.instance.as_ref();
    let why = instance.and_then(|instance| instance.reason.clone());
    match instance.map(|instance| &instance.actual.phase) {
        Some(Phase::Running) => {
            let state = status.map_or(State::Starting, |s| s.state).name();
            let unusable = unusable.map(|why| format!("runs as it was before: {why}"));
            let held = "missing: `agent confirm` stops it".to_owned();
            if from.held {
                ("held", Some(held))
            } else {
                (
                    state,
                    unusable.or(instance.and_then(|it| it.trouble.clone())),
                )
            }
        }
        Some(Phase::Stopping) => ("stopping", instance.and_then(|it| it.trouble.clone())),
        _ if unusable.is_some() => ("invalid", unusable),
        None | Some(Phase::Ended(_)) if is_waiting(from) => {
            ("waiting", from.timing.as_ref().map(times))
        }
        Some(Phase::Ended(ended)) => match ended.outcome {
            Outcome::Completed => ("completed", why),
            Outcome::Stopped => ("starting", None),
            Outcome::Busy => ("waiting", why),
            Outcome::Failed | Outcome::Refused => ("failed", why),
        },
        None if from.sight == Sight::Unseen => ("unknown", None),
        None => match listed.map(|listed| &listed.offer) {
            Some(Offer::Bot(bot)) if !bot.enabled => ("disabled", None),
            Some(Offer::Bot(_)) if from.stopped => ("stopped", None),
            Some(Offer::Bot(_)) => ("starting", None),
            _ => ("removed", None),
        },
    }
}

/// Whether it runs at times and nothing of it does now.
fn is_waiting(from: &Sources) -> bool {
    let listed = from.listed.as_deref();
    let is_on = listed.is_some_and(|l| matches!(&l.offer, Offer::Bot(bot) if bot.enabled));
    is_on && !from.stopped && from.timing.is_some() && from.sight == Sight::Clear
}

/// When it runs next, and what has become of the last time.
fn times(ledger: &Ledger) -> String {
    let next = ledger.next.map_or("never again".to_owned(), shown);
    let Some(tick) = &ledger.tick else {
        return format!("next {next}");
    };
    let why = tick
        .why
        .as_ref()
        .map_or(String::new(), |why| format!(": {why}"));
    let (at, word) = (shown(tick.at), tick.word());
    format!("next {next}; last {at}, {word}{why}")
}

/// A duration as a person reads it at a glance: `4s`, `12m`, `3h`, `9d`.
pub fn brief(age: Duration) -> String {
    match age.as_secs() {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7200 => format!("{}m", s / 60),
        s @ 7200..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// What is saved, in a few words.
pub fn saved(synced: &Synced) -> String {
    let age = |time: Time| brief(time.age());
    match (synced.outcome, synced.ok_at) {
        (Saved::Ok, Some(at)) => format!("ok {} ago", age(at)),
        (Saved::Ok, None) => format!("ok {} ago", age(synced.at)),
        (Saved::Fenced, _) => "fenced".into(),
        (Saved::Edited, _) => "edited outside".into(),
        (Saved::TooLarge, _) => "too large".into(),
        (Saved::Failed, Some(at)) => format!("failed, ok {} ago", age(at)),
        (Saved::Failed, None) => "failed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Actual, Ended};
    use contract::Digest;

    fn instance(phase: Phase) -> Instance {
        let actual = Actual {
            digest: Digest::from_bytes([0; 32]),
            phase,
        };
        Instance {
            reason: Some("why".into()),
            pid: Some(1),
            ..Instance::new(actual)
        }
    }

    fn listed(offer: Offer) -> Listed {
        Listed::new("b".into(), None, "s".into(), offer)
    }

    #[test]
    fn a_bots_state_is_one_word() {
        let bad = listed(Offer::Unusable("bad".into()));
        let ended = |outcome| {
            let ended = Ended {
                at: Duration::ZERO,
                failures: 1,
                outcome,
            };
            instance(Phase::Ended(ended))
        };
        let of = |listed: Option<&Listed>, instance: Option<&Instance>, held| {
            state(
                &Sources {
                    id: "b".parse().unwrap(),
                    name: None,
                    listed: listed.cloned().map(Arc::new),
                    instance: instance.cloned(),
                    stopped: false,
                    unsaved: None,
                    sight: Sight::Clear,
                    timing: None,
                    held,
                },
                None,
            )
        };
        let running = instance(Phase::Running);
        assert_eq!(of(Some(&bad), None, false), ("invalid", Some("bad".into())));
        assert_eq!(of(Some(&bad), Some(&running), false).0, "starting");
        assert_eq!(of(None, Some(&running), true).0, "held");
        assert_eq!(
            of(None, Some(&ended(Outcome::Failed)), false),
            ("failed", Some("why".into()))
        );
        assert_eq!(
            of(None, Some(&ended(Outcome::Completed)), false).0,
            "completed"
        );
        assert_eq!(of(None, None, false).0, "removed");
    }

    #[test]
    fn ages_are_read_at_a_glance() {
        let brief = |s| brief(Duration::from_secs(s));
        assert_eq!(
            [
                brief(4),
                brief(119),
                brief(120),
                brief(7200),
                brief(200_000)
            ],
            ["4s", "119s", "2m", "2h", "2d"]
        );
    }
}
