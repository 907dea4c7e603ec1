//! Tells over NATS that runs begin and end: `the0.bot.execution.started` and `.completed`, once each, whoever dies.
//!
//! ```text
//!   news of a run ─▶ NATS has it? ─ yes ─▶ the record is written
//!                        └ no: the record is written with what is still to be told ─▶ told when NATS is there
//! ```
//!
//! An event is told before its record is written, so an agent that ends between the two tells it again, under the same
//! id, which the stream takes once. What could not be told is in the record itself and outlives the agent. Only the agent
//! that acts tells. History waits for NATS only while it answers.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use async_nats::HeaderMap;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};
use contract::record::{Reason, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::entry::Entry;
use crate::events::{Address, pause};
use crate::lease::Lease;
use crate::show::Console;

/// The stream of runs and of the platform's jobs.
pub const STREAM: &str = "THE0_JOBS";
const SUBJECTS: [&str; 2] = ["the0.backtest.>", "the0.bot.execution.>"];
/// How long it keeps an event.
const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long an event that comes again is known by its id.
const DUPLICATES: Duration = Duration::from_secs(60 * 60);
/// How long is waited for an answer of NATS.
const ANSWER: Duration = Duration::from_secs(5);

/// What there is to tell of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It has begun.
    Started,
    /// It has ended.
    Completed,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Started => "started",
            Kind::Completed => "completed",
        }
    }
}

/// What is new of a run, if `before` is what was known of it. A start that came to no run is none.
pub fn news(before: Option<&Entry>, now: &Entry) -> Vec<Kind> {
    if now.run == 0 {
        return Vec::new();
    }
    let has_ended = !now.is_open() && before.is_none_or(Entry::is_open);
    let kinds = [
        before.is_none().then_some(Kind::Started),
        has_ended.then_some(Kind::Completed),
    ];
    kinds.into_iter().flatten().collect()
}

/// How a run came out, in one word of a bounded set; `None` while it runs.
pub fn outcome(entry: &Entry) -> Option<&'static str> {
    let said_error = || {
        entry
            .result
            .as_ref()
            .is_some_and(|result| result.status == "error")
    };
    Some(match entry.reason? {
        Reason::Exited if entry.exit == Some(0) && !said_error() => "success",
        Reason::Exited => "error",
        reason => reason.name(),
    })
}

/// Where runs are told of.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// NATS.
    pub address: Address,
    /// Whether it is this agent that acts.
    pub lease: Lease,
}

/// The teller.
#[derive(Debug)]
pub struct Herald {
    outlet: Outlet,
    console: Console,
    link: Option<(Context, watch::Receiver<bool>)>,
    is_made: bool,
    failed: Option<(Instant, u32)>,
    is_told: bool,
}

impl Herald {
    /// One that has told nothing yet.
    pub fn new(outlet: Outlet, console: Console) -> Self {
        Self {
            outlet,
            console,
            link: None,
            is_made: false,
            failed: None,
            is_told: false,
        }
    }

    /// Whether it is worth trying to tell.
    pub async fn is_open(&mut self) -> bool {
        if self.link.is_none() {
            let (up_to, up) = watch::channel(false);
            match self.outlet.address.attach(up_to).await {
                Ok(client) => self.link = Some((jetstream::new(client), up)),
                Err(why) => self.fail(&why),
            }
        }
        let is_up = self.link.as_ref().is_some_and(|(_, up)| *up.borrow());
        let is_due = |(at, tries): (Instant, u32)| at.elapsed() >= pause(tries);
        is_up && self.outlet.lease.may_act() && self.failed.is_none_or(is_due)
    }

    /// Tells it; whether the stream has it.
    pub async fn tell(&mut self, kind: Kind, entry: &Entry) -> bool {
        if !self.is_open().await {
            return false;
        }
        match self.publish(kind, entry).await {
            Ok(()) => {
                self.failed = None;
                if std::mem::take(&mut self.is_told) {
                    self.console.say("runs are told of over nats again");
                }
                true
            }
            Err(err) => {
                self.is_made = false;
                self.fail(&err.to_string());
                false
            }
        }
    }

    fn fail(&mut self, why: &str) {
        let tries = self.failed.map_or(0, |(_, tries)| tries.saturating_add(1));
        self.failed = Some((Instant::now(), tries));
        if !self.is_told {
            let why = self.outlet.address.hide(why);
            self.console.warn(&format!(
                "runs are not told of on the0.bot.execution.* ({why}): they stay in history and are told later"
            ));
        }
        self.is_told = true;
    }

    async fn publish(&mut self, kind: Kind, entry: &Entry) -> Result<()> {
        let Some((context, _)) = &self.link else {
            return Err(anyhow!("it is not reached"));
        };
        if !self.is_made {
            let stream = timeout(ANSWER, context.get_or_create_stream(stream())).await?;
            stream.map_err(|err| anyhow!("the stream {STREAM}: {err}"))?;
            self.is_made = true;
        }
        let mut headers = HeaderMap::new();
        let id = format!("the0-run-{}-{}", entry.key(), kind.name());
        headers.insert("Nats-Msg-Id", id);
        let subject = format!("the0.bot.execution.{}", kind.name());
        let payload = message(kind, entry).to_string();
        let send = async {
            let sent = context.publish_with_headers(subject, headers, payload.into());
            sent.await?.await
        };
        timeout(ANSWER, send).await??;
        Ok(())
    }
}

/// What is told of a run.
fn message(kind: Kind, entry: &Entry) -> Value {
    let mut message = json!({
        "bot_id": entry.bot,
        "run": entry.run,
        "name": entry.name,
        "version": entry.version,
        "container": entry.container,
        "cause": entry.cause,
        "because": entry.because,
        "started_at": entry.started_at,
        "timestamp": Time::now(),
    });
    if kind == Kind::Completed {
        let end = json!({
            "ended_at": entry.ended_at,
            "duration_ms": entry.duration_ms,
            "outcome": outcome(entry),
            "reason": entry.reason,
            "stopped": entry.stopped,
            "exit": entry.exit,
            "signal": entry.signal,
            "message": entry.message,
            "result": entry.result,
        });
        if let (Value::Object(message), Value::Object(end)) = (&mut message, end) {
            message.extend(end);
        }
    }
    if let Value::Object(message) = &mut message {
        message.retain(|_, value| !value.is_null());
    }
    message
}

fn stream() -> Config {
    Config {
        name: STREAM.to_owned(),
        subjects: SUBJECTS.map(str::to_owned).to_vec(),
        storage: StorageType::File,
        max_age: LIFE,
        duplicate_window: DUPLICATES,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{birth, bot, time};
    use contract::record::RunResult;

    fn entry(run: u64) -> Entry {
        Entry::open(&bot(), &birth(time(0)), run, time(5))
    }

    fn ended(reason: Reason, exit: i32) -> Entry {
        let mut entry = entry(1);
        entry.end(time(9));
        (entry.reason, entry.exit) = (Some(reason), Some(exit));
        entry
    }

    #[test]
    fn a_run_is_told_of_when_it_begins_and_when_it_ends() {
        let (open, done) = (entry(1), ended(Reason::Exited, 0));
        assert_eq!(news(None, &open), [Kind::Started]);
        assert_eq!(news(Some(&open), &open), []);
        assert_eq!(news(Some(&open), &done), [Kind::Completed]);
        assert_eq!(news(None, &done), [Kind::Started, Kind::Completed]);
        assert_eq!(news(Some(&done), &done), [], "more is known of it");
        assert_eq!(news(None, &entry(0)), [], "nothing ran");
    }

    #[test]
    fn a_run_comes_out_in_one_word() {
        assert_eq!(outcome(&entry(1)), None);
        let rows = [
            (Reason::Exited, 0, "success"),
            (Reason::Exited, 3, "error"),
            (Reason::Oom, 137, "oom"),
            (Reason::Stopped, 0, "stopped"),
            (Reason::StartFailed, 112, "start_failed"),
        ];
        for (reason, exit, expected) in rows {
            assert_eq!(outcome(&ended(reason, exit)), Some(expected));
        }
        let mut said = ended(Reason::Exited, 0);
        said.result = RunResult::parse(br#"{"status":"error","message":"no funds"}"#);
        assert_eq!(outcome(&said), Some("error"));
    }

    #[test]
    fn what_is_told_has_no_empty_fields_and_an_end_only_when_it_has_ended() {
        let told = message(Kind::Started, &entry(3));
        assert_eq!((&told["bot_id"], &told["run"]), (&json!("b1"), &json!(3)));
        assert_eq!(told["cause"], "created");
        let names: Vec<&String> = told.as_object().unwrap().keys().collect();
        assert!(
            !names
                .iter()
                .any(|name| ["ended_at", "because", "exit"].contains(&name.as_str()))
        );
        let told = message(Kind::Completed, &ended(Reason::Exited, 7));
        assert_eq!(told["duration_ms"], 4000);
        assert_eq!(
            (&told["outcome"], &told["exit"]),
            (&json!("error"), &json!(7))
        );
    }
}
