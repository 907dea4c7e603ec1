//! What comes over NATS about jobs, and what goes.
//!
//! An event is acknowledged when a majority of the database has what it says, one at a time. The end of a job is told
//! under a name of its own ([`MESSAGE`]), by which the server knows it again for a while; later than that the stream is
//! looked through before it is told once more.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{self, StorageType};
use async_nats::jetstream::{self, AckKind, Context, Message};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use mongodb::bson::DateTime;
use serde_json::json;
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::{sleep, timeout};

use super::decide::Status;
use super::document::{Asked, Job};
use super::site::Site;
use super::table::Table;
use super::{CANCELLED, COMPLETED, CREATED};
use crate::events::Address;
use crate::events::letter;
use crate::events::link::pause;
use crate::events::write::Stamp;
use crate::lease::Lease;
use crate::show::Console;

/// The stream of jobs.
const STREAM: &str = "THE0_JOBS";
/// What it has, where we have to make it.
const SUBJECTS: [&str; 2] = ["the0.backtest.>", "the0.bot.execution.>"];
/// How long it keeps an event.
const LIFE: Duration = Duration::from_hours(7 * 24);
/// An event that nobody has said a word about for so long is given out again.
const ACK_WAIT: Duration = Duration::from_secs(20);
/// How often the server is told that an event is worked on.
const WORD: Duration = Duration::from_secs(3);
/// How long one request for an event waits there.
const REQUEST: Duration = Duration::from_secs(20);
/// How often a second agent looks whether it is its turn.
const TURN: Duration = Duration::from_millis(500);
/// How long one telling may take.
const TELLING: Duration = Duration::from_secs(20);
/// How much sooner than the server forgets a message's name it is not relied upon.
const MARGIN: Duration = Duration::from_secs(30);
/// What the clocks of the server and of this host may differ by.
const CLOCKS: Duration = Duration::from_hours(1);
/// Before a job's id, in the name of the message that tells its end.
const MESSAGE: &str = "the0-completed-";

type Failed = async_nats::Error;

/// Takes what comes.
pub struct Post {
    address: Address,
    name: String,
    table: Table,
    lease: Lease,
    console: Console,
    wake: Arc<Notify>,
    client: Arc<OnceCell<Client>>,
    is_told: bool,
}

/// Sends what goes.
#[derive(Debug, Clone)]
pub struct Office {
    address: Address,
    client: Arc<OnceCell<Client>>,
    lease: Lease,
}

impl Post {
    /// Will write into `table` what the server at `address` has for the stack.
    pub fn new(address: Address, site: &Site, table: Table, wake: Arc<Notify>) -> Self {
        Self {
            address,
            name: format!("the0-{}-jobs", site.stack()),
            table,
            lease: site.lease().clone(),
            console: site.console().clone(),
            wake,
            client: Arc::default(),
            is_told: false,
        }
    }

    /// For what goes.
    pub fn office(&self) -> Office {
        Office {
            address: self.address.clone(),
            client: Arc::clone(&self.client),
            lease: self.lease.clone(),
        }
    }

    /// Takes events for ever.
    pub async fn run(mut self) {
        let (up_to, _up) = watch::channel(false);
        for tries in 0.. {
            match self.address.connect(up_to.clone()).await {
                Ok(client) => {
                    let _ = self.client.set(client);
                    break;
                }
                Err(why) => self.wait(&why, tries).await,
            }
        }
        let Some(client) = self.client.get().cloned() else {
            return;
        };
        for tries in 0.. {
            let Err(failed) = self.session(&client).await;
            self.wait(&failed.to_string(), tries).await;
        }
    }

    async fn wait(&mut self, why: &str, tries: u32) {
        let why = self.address.hide(why);
        let text = format!(
            "jobs are not received from nats {} ({why}): it is tried again",
            self.address
        );
        self.tell(&text);
        sleep(pause(tries)).await;
    }

    fn tell(&mut self, text: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.console.warn(text);
        }
    }

    async fn session(&mut self, client: &Client) -> Result<std::convert::Infallible, Failed> {
        let context = jetstream::new(client.clone());
        let stream = context.get_or_create_stream(jobs()).await?;
        let created = stream.cached_info().created.unix_timestamp_nanos();
        let created = i64::try_from(created)?;
        let consumer = stream.create_consumer(self.config()).await?;
        if std::mem::take(&mut self.is_told) {
            self.console.say("jobs are received");
        }
        loop {
            while !self.lease.may_act() {
                sleep(TURN).await;
            }
            let request = consumer.batch().max_messages(1).expires(REQUEST);
            let mut events = request.messages().await?;
            let Some(event) = events.next().await.transpose()? else {
                continue;
            };
            let seq = i64::try_from(event.info()?.stream_sequence)?;
            let stamp = Stamp {
                stream: created,
                seq,
            };
            self.take(&context, &event, stamp).await?;
        }
    }

    fn config(&self) -> pull::Config {
        pull::Config {
            durable_name: Some(self.name.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: 1,
            filter_subjects: vec![CREATED.to_owned(), CANCELLED.to_owned()],
            ..pull::Config::default()
        }
    }

    async fn take(
        &mut self,
        context: &Context,
        event: &Message,
        stamp: Stamp,
    ) -> Result<(), Failed> {
        let asked = match Asked::read(&event.subject, &event.payload) {
            Ok(asked) => asked,
            Err(bad) => {
                return self
                    .put_aside(context, event, stamp, &bad.to_string())
                    .await;
            }
        };
        let mut tries = 0;
        while let Err(why) = self.write(&asked, event).await {
            if !self.lease.may_act() {
                return event.ack_with(AckKind::Nak(None)).await;
            }
            match why {
                Unwritten::Never(why) => {
                    return self.put_aside(context, event, stamp, &why).await;
                }
                Unwritten::Later(why) => {
                    self.tell(&format!(
                        "a job waits for MongoDB ({why}): it is tried again"
                    ));
                }
            }
            keep(event, sleep(pause(tries))).await;
            tries += 1;
        }
        event.double_ack().await?;
        self.wake.notify_one();
        Ok(())
    }

    async fn write(&mut self, asked: &Asked, event: &Message) -> Result<(), Unwritten> {
        let table = &mut self.table;
        let written = match asked {
            Asked::Created(id, document) => keep(event, table.add(id, *document.clone())).await,
            Asked::Cancelled(id) => keep(event, table.cancel(id)).await.map(drop),
        };
        written.map_err(|failed| match crate::events::write::never(&failed) {
            Some(why) => Unwritten::Never(why),
            None => Unwritten::Later(self.table.why(&failed)),
        })
    }

    async fn put_aside(
        &mut self,
        context: &Context,
        event: &Message,
        stamp: Stamp,
        why: &str,
    ) -> Result<(), Failed> {
        let what = format!(
            "event {} on {} cannot be kept: {why}",
            stamp.seq, event.subject
        );
        match letter::send(context, event, stamp, why).await {
            Ok(()) => self.console.warn(&format!("{what}; it is in THE0_DLQ")),
            Err(err) => self.console.warn(&format!(
                "{what}; nor could it be put into THE0_DLQ ({}): it stays in {STREAM}",
                self.address.hide(&err.to_string())
            )),
        }
        event.double_ack_with(AckKind::Term).await?;
        Ok(())
    }
}

/// Why an event is not in the database.
enum Unwritten {
    /// It never will be.
    Never(String),
    /// Not now.
    Later(String),
}

/// Does `work` and meanwhile tells the server that the event is worked on.
async fn keep<T>(event: &Message, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(WORD) => {
                // When it does not come there, the event comes again, and changes nothing.
                let _ = event.ack_with(AckKind::Progress).await;
            }
        }
    }
}

impl Office {
    /// Tells the end of a job, once however often it is asked.
    ///
    /// # Errors
    /// It is not told, or nobody knows.
    pub async fn tell(&self, job: &Job) -> Result<(), String> {
        let client = self.client.get();
        let client = client.ok_or("nats was not reached yet")?;
        let told = timeout(TELLING, tell(client, job, &self.lease)).await;
        let told = told.map_err(|_| "no answer in time".to_owned())?;
        told.map_err(|err| self.address.hide(&err.to_string()))
    }
}

async fn tell(client: &Client, job: &Job, lease: &Lease) -> Result<(), Failed> {
    let context = jetstream::new(client.clone());
    let stream = context.get_or_create_stream(jobs()).await?;
    let ended = job.ended_at.unwrap_or_else(DateTime::now);
    let name = format!("{MESSAGE}{}", job.id);
    let window = stream.cached_info().config.duplicate_window;
    if age(ended) + MARGIN > window && was_told(&stream, &name, ended).await? {
        return Ok(());
    }
    let mut said = json!({
        "backtest_id": job.id, "success": job.status == Status::Completed,
    });
    if let Some(error) = &job.error {
        said["error"] = error.as_str().into();
    }
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", name.as_str());
    // Whoever stood still since may be so late that the server has forgotten the name.
    if !lease.may_act() {
        return Err("this agent has lost the lease: who has it tells".into());
    }
    let sent = context.publish_with_headers(COMPLETED, headers, said.to_string().into());
    sent.await?.await?;
    Ok(())
}

fn age(at: DateTime) -> Duration {
    let millis = DateTime::now().timestamp_millis() - at.timestamp_millis();
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Whether the stream has a message of this name, from `since` on.
async fn was_told(stream: &stream::Stream, name: &str, since: DateTime) -> Result<bool, Failed> {
    let begin = since.to_system_time() - CLOCKS;
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartTime {
            start_time: begin.into(),
        },
        filter_subject: COMPLETED.to_owned(),
        ack_policy: AckPolicy::None,
        headers_only: true,
        inactive_threshold: Duration::from_secs(30),
        ..pull::Config::default()
    };
    let mut consumer = stream.create_consumer(config).await?;
    while consumer.info().await?.num_pending > 0 {
        let mut found = consumer.fetch().max_messages(256).messages().await?;
        while let Some(message) = found.next().await.transpose()? {
            let header = message
                .headers
                .as_ref()
                .and_then(|all| all.get("Nats-Msg-Id"));
            if header.is_some_and(|is| is.as_str() == name) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn jobs() -> stream::Config {
    stream::Config {
        name: STREAM.to_owned(),
        subjects: SUBJECTS.iter().map(ToString::to_string).collect(),
        storage: StorageType::File,
        max_age: LIFE,
        ..stream::Config::default()
    }
}
