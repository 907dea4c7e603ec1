//! Where events come from: whether it is reached, keeps streams, lets the agent make and read them, and what waits there.
//!
//! Whoever may not ask something gets no answer, but a word of the server beside it: these are listened to. The right to
//! make a stream and a consumer is tried on a stream of its own in the server's memory, which is taken away again.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{AccountErrorKind, GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, ConsumerErrorKind, Info, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, Event};
use contract::Secret;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::sheet::{Part, Sheet};
use crate::events::{Address, LETTERS, STREAM, SUBJECTS, consumer};

const NATS: Part = Part::Nats;
/// How long one answer may take; several may be refused by silence, one after another.
const ANSWER: Duration = Duration::from_secs(3);
const RIGHTS: &str = "allow its user to publish to `$JS.API.>`, `$JS.ACK.>` and `the0.>`, and to subscribe to `_INBOX.>`";

/// There is no address.
pub fn unset(sheet: &RefCell<Sheet>) {
    sheet.borrow_mut().ok(
        NATS,
        "address",
        "NATS_URL is not set: changes are seen in the database only",
    );
}

/// Looks at the server at `address`, for the agent of `stack`.
pub async fn look(address: &Secret, stack: &str, sheet: &RefCell<Sheet>) {
    let address = match Address::parse(address) {
        Ok(address) => address,
        Err(err) => {
            let remedy = "correct NATS_URL";
            return sheet
                .borrow_mut()
                .failed(NATS, "address", err.to_string(), remedy);
        }
    };
    let refused = Refused::default();
    let Some(client) = server(&address, &refused, sheet).await else {
        return;
    };
    let mut context = jetstream::new(client);
    context.set_timeout(ANSWER);
    let asked = Asked {
        address: &address,
        context,
        refused,
        sheet,
    };
    if !asked.keeps_streams().await {
        return;
    }
    let found = asked.stream().await;
    asked.rights(found.is_some()).await;
    if found.is_some() {
        asked.lag(&consumer(stack)).await;
    }
}

/// What the server has said that it does not let its user do.
#[derive(Debug, Clone, Default)]
struct Refused(Arc<Mutex<Vec<String>>>);

impl Refused {
    fn note(&self, event: &Event) {
        if let Event::ServerError(error) = event {
            let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            said.push(error.to_string());
        }
    }

    /// The last word since it was asked before, or else `why`.
    fn or(&self, why: &str) -> String {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = said.pop();
        said.clear();
        last.unwrap_or_else(|| why.to_owned())
    }
}

async fn server(address: &Address, refused: &Refused, sheet: &RefCell<Sheet>) -> Option<Client> {
    let note = refused.clone();
    let connected = timeout(ANSWER, address.visit(move |event| note.note(&event))).await;
    let connected = connected.unwrap_or_else(|_| Err("no answer within 3 s".to_owned()));
    let mut sheet = sheet.borrow_mut();
    match connected {
        Ok(client) => {
            let version = client.server_info().version;
            sheet.ok(NATS, "server", format!("{address}, version {version}"));
            Some(client)
        }
        Err(why) => {
            sheet.failed(
                NATS,
                "server",
                format!("{address}: {}", address.hide(&why)),
                "start it, or correct NATS_URL, its user and password; until then bots run on, and no event becomes a bot",
            );
            None
        }
    }
}

struct Asked<'a> {
    address: &'a Address,
    context: Context,
    refused: Refused,
    sheet: &'a RefCell<Sheet>,
}

impl Asked<'_> {
    fn why(&self, error: &impl ToString) -> String {
        self.address.hide(&self.refused.or(&error.to_string()))
    }

    async fn keeps_streams(&self) -> bool {
        let account = self.context.query_account().await;
        let mut sheet = self.sheet.borrow_mut();
        match account {
            Ok(account) => {
                let (streams, most) = (account.streams, account.limits.max_streams);
                let of = most.map_or(String::new(), |most| format!(" of {most}"));
                let found = format!("on, {streams}{of} streams");
                sheet.ok(NATS, "jetstream", found);
                true
            }
            Err(err) if err.kind() == AccountErrorKind::TimedOut => {
                // The account may be closed to it and the streams not.
                let why = self.why(&err);
                sheet.warning(NATS, "jetstream", format!("it is not told: {why}"), RIGHTS);
                true
            }
            Err(err) => {
                sheet.failed(
                    NATS,
                    "jetstream",
                    format!("no streams are kept: {}", self.why(&err)),
                    "start nats-server with -js (or `jetstream {}` in its file), and enable it for the account of NATS_URL",
                );
                false
            }
        }
    }

    /// The stream of events, if it is there.
    async fn stream(&self) -> Option<Info> {
        let found = self.context.get_stream(STREAM).await;
        let there = match found {
            Ok(found) => found.cached_info().clone(),
            Err(err) => {
                self.absent(&err).await;
                return None;
            }
        };
        let (missing, count) = (missing(&there.config.subjects), there.state.messages);
        let mut sheet = self.sheet.borrow_mut();
        if missing.is_empty() {
            let found = format!("{STREAM}, {count} events, with all subjects");
            sheet.ok(NATS, "stream", found);
        } else {
            let subjects = missing.join(", ");
            let found = format!("{STREAM} does not have {subjects}");
            let remedy = format!(
                "nats stream edit {STREAM} --subjects={}",
                SUBJECTS.join(",")
            );
            if missing.iter().any(|subject| SUBJECTS.contains(subject)) {
                sheet.failed(NATS, "stream", found, remedy);
            } else {
                sheet.warning(NATS, "stream", found, remedy);
            }
        }
        Some(there)
    }

    async fn absent(&self, error: &GetStreamError) {
        let is_absent = matches!(error.kind(), GetStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NOT_FOUND);
        if !is_absent {
            let found = format!("{STREAM} cannot be looked at: {}", self.why(error));
            return self
                .sheet
                .borrow_mut()
                .failed(NATS, "stream", found, RIGHTS);
        }
        // A stream of another name may have its subjects.
        let other = self.context.stream_by_subject(SUBJECTS[0]).await.ok();
        let mut sheet = self.sheet.borrow_mut();
        match other {
            Some(other) => sheet.failed(
                NATS,
                "stream",
                format!("{STREAM} is not there, and cannot be made: {other} has its subjects"),
                format!("remove {other}, or take the subjects the0.bot.* and the0.bot-schedule.* out of it"),
            ),
            None => sheet.ok(
                NATS,
                "stream",
                format!("{STREAM} is not there yet: the agent makes it at its start"),
            ),
        }
    }

    /// Whether streams and consumers can be made and read.
    async fn rights(&self, is_there: bool) {
        let name = format!(
            "THE0_DOCTOR_{}_{}",
            std::process::id(),
            super::signed::random()
        );
        let subject = format!("the0.doctor.{name}");
        let made = self.context.create_stream(Config {
            name: name.clone(),
            subjects: vec![subject.clone()],
            storage: StorageType::Memory,
            max_bytes: 64 << 10,
            max_age: Duration::from_secs(60),
            ..Config::default()
        });
        if let Err(err) = made.await {
            let found = format!("it may not make a stream: {}", self.why(&err));
            let mut sheet = self.sheet.borrow_mut();
            return if is_there {
                let remedy = format!(
                    "{RIGHTS}; or make {LETTERS} over the0.dlq.> for it, where events go that cannot be kept"
                );
                sheet.warning(NATS, "rights", found, remedy);
            } else {
                sheet.failed(NATS, "rights", found, RIGHTS);
            };
        }
        let tried = timeout(ANSWER * 2, self.turn(&name, subject)).await;
        let gone = self.context.delete_stream(&name).await;
        let tried = tried.unwrap_or_else(|_| Err("no answer in time".into()));
        let mut sheet = self.sheet.borrow_mut();
        match tried {
            Ok(()) => sheet.ok(
                NATS,
                "rights",
                "makes streams and consumers, reads and acknowledges",
            ),
            Err(err) => {
                let found = format!(
                    "an event cannot be put, read and acknowledged: {}",
                    self.why(&err)
                );
                sheet.failed(NATS, "rights", found, RIGHTS);
            }
        }
        if let Err(err) = gone {
            let found = format!(
                "what was tried is left, the stream {name}: {}",
                self.why(&err)
            );
            sheet.warning(NATS, "rights", found, format!("nats stream rm {name}"));
        }
    }

    /// One event through a stream.
    async fn turn(&self, stream: &str, subject: String) -> Result<(), async_nats::Error> {
        let config = pull::Config {
            durable_name: Some("doctor".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ..pull::Config::default()
        };
        let consumer: PullConsumer = self
            .context
            .create_consumer_on_stream(config, stream)
            .await?;
        self.context.publish(subject, "".into()).await?.await?;
        let batch = consumer.batch().max_messages(1).expires(ANSWER);
        let event = batch.messages().await?.next().await;
        event.ok_or("it does not come back")??.double_ack().await
    }

    /// What waits for the agent.
    async fn lag(&self, name: &str) {
        let found = self.context.get_consumer_from_stream(name, STREAM).await;
        let found: Result<PullConsumer, _> = found;
        let mut sheet = self.sheet.borrow_mut();
        match found {
            Ok(consumer) => {
                let info = consumer.cached_info();
                waits(name, info.num_pending, info.num_ack_pending, &mut sheet);
            }
            Err(err) if is_absent(&err.kind()) => {
                let found = format!("{name} is not there yet: the agent makes it at its start");
                sheet.ok(NATS, "consumer", found);
            }
            Err(err) => {
                let found = format!("{name} cannot be looked at: {}", self.why(&err));
                sheet.warning(NATS, "consumer", found, RIGHTS);
            }
        }
    }
}

fn is_absent(kind: &ConsumerErrorKind) -> bool {
    matches!(kind, ConsumerErrorKind::JetStream(said) if said.error_code() == ErrorCode::CONSUMER_NOT_FOUND)
}

/// Pure.
fn waits(name: &str, pending: u64, given: usize, sheet: &mut Sheet) {
    if pending == 0 && given == 0 {
        return sheet.ok(NATS, "consumer", format!("{name}, nothing waits"));
    }
    sheet.warning(
        NATS,
        "consumer",
        format!("{name}: {} events wait, {given} of them given out before", pending + given as u64),
        "the agent with the lease takes them in: if that does not get less, see that one runs and reaches MongoDB",
    );
}

/// The subjects of the platform's events that are in none of these of a stream. Pure.
fn missing(have: &[String]) -> Vec<&'static str> {
    let is_in = |subject: &&str| have.iter().any(|pattern| matches(pattern, subject));
    SUBJECTS
        .into_iter()
        .filter(|subject| !is_in(subject))
        .collect()
}

/// Whether `pattern` stands for `subject`, by the server's rules. Pure.
fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Colours;

    #[test]
    fn subjects_are_compared_as_the_server_does() {
        for (pattern, subject, expected) in [
            ("the0.bot.created", "the0.bot.created", true),
            ("the0.bot.*", "the0.bot.created", true),
            ("the0.>", "the0.bot.created", true),
            ("*.*.*", "the0.bot.created", true),
            ("the0.bot", "the0.bot.created", false),
            ("the0.bot.created.>", "the0.bot.created", false),
            ("the0.bot.*", "the0.bot-schedule.created", false),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
        assert!(missing(&["the0.>".to_owned()]).is_empty());
        let some = ["the0.bot.created", "the0.bot-schedule.*"].map(str::to_owned);
        assert_eq!(missing(&some), ["the0.bot.updated", "the0.bot.deleted"]);
    }

    #[test]
    fn what_waits_is_told() {
        let said = |pending, given| {
            let mut sheet = Sheet::default();
            waits("c", pending, given, &mut sheet);
            sheet.table(Colours::Off)
        };
        assert!(said(0, 0).starts_with("ok"));
        assert!(said(3, 1).contains("4 events wait, 1 of them given out before"));
    }
}
