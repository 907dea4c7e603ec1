//! The durable consumer: one event at a time, in order, acknowledged when it is in the database.
//!
//! The server gives the next event only when the last one is acknowledged, so the order holds over everybody's end.
//! While an event waits for the database the server is told that it is worked on; should that not reach it, the event
//! comes again, which changes nothing.

use std::time::{Duration, Instant, SystemTime};

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{self, StorageType, Stream};
use async_nats::jetstream::{self, AckKind, Context, Message};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Outside;
use super::change::{Change, Half};
use super::gate::{Link, Progress};
use super::letter;
use super::link::{Address, PACE, pause};
use super::write::{Stamp, Unwritten, Writer};
use crate::breaker::Gate;
use crate::health::Dependency;

/// The platform's stream of events.
pub const STREAM: &str = "THE0_EVENTS";
/// What it has, where we have to make it.
pub const SUBJECTS: [&str; 6] = [
    "the0.bot.created",
    "the0.bot.updated",
    "the0.bot.deleted",
    "the0.bot-schedule.created",
    "the0.bot-schedule.updated",
    "the0.bot-schedule.deleted",
];
/// How long it keeps an event.
const STREAM_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// An event that nobody has said a word about for so long is given out again.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// How often the server is told that an event is worked on.
const WORD: Duration = Duration::from_secs(3);
/// How long one request for an event waits there.
const REQUEST: Duration = Duration::from_secs(20);

/// How often a second agent looks whether it is its turn.
const TURN: Duration = Duration::from_millis(500);

/// Applies the events of a stream.
pub struct Consumer {
    address: Address,
    name: String,
    writers: Writers,
    outside: Outside,
    progress: watch::Sender<Progress>,
    is_told: bool,
    gate: Gate,
}

/// Who writes the changes of which kind of bot.
pub struct Writers {
    /// Of those that run all the time.
    pub bots: Writer,
    /// Of those that run at times.
    pub schedules: Writer,
}

impl Writers {
    fn of(&mut self, half: Half) -> &mut Writer {
        match half {
            Half::Bots => &mut self.bots,
            Half::Schedules => &mut self.schedules,
        }
    }
}

/// Whether an event was taken care of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// It was: it is in the database, or aside.
    Care,
    /// It was not: it is for another agent, or for later.
    Not,
}

/// An error that is told with its own words only.
type Failed = async_nats::Error;

impl Consumer {
    /// Will apply the events that the server at `address` has for `stack`.
    pub fn new(
        address: Address,
        stack: &str,
        writers: Writers,
        outside: Outside,
        progress: watch::Sender<Progress>,
    ) -> Self {
        let gate = Gate::new(PACE);
        outside.board.attach(Dependency::Nats, gate.clone());
        Self {
            gate,
            address,
            name: durable(stack),
            writers,
            outside,
            progress,
            is_told: false,
        }
    }

    /// Applies events until nobody asks how far they are.
    pub async fn run(&mut self) {
        let progress = self.progress.clone();
        tokio::select! {
            () = self.live() => {}
            () = progress.closed() => {}
        }
    }

    async fn live(&mut self) {
        let (up_to, mut up) = watch::channel(false);
        let client = loop {
            match self.address.connect(up_to.clone()).await {
                Ok(client) => break client,
                Err(why) => self.wait(&why).await,
            }
        };
        loop {
            let Err(failed) = self.session(&client, &mut up).await;
            self.wait(&failed.to_string()).await;
        }
    }

    /// Tells what is wrong, unless something was already, and waits before the next try.
    async fn wait(&mut self, why: &str) {
        self.note(Link::Down);
        let why = self.address.hide(why);
        self.outside.board.set(Dependency::Nats, Err(why.clone()));
        self.tell(&format!(
            "nats {}: events are not received ({why}): it is tried again; the database is read all the same",
            self.address
        ));
        sleep(self.gate.failed(&why)).await;
        // One try at a time: nobody else is there to be kept out.
        let _ = self.gate.enter();
    }

    fn tell(&mut self, text: &str) {
        if !self.is_told {
            self.outside.console.warn(text);
        }
        self.is_told = true;
    }

    fn settle(&mut self, text: &str) {
        if self.is_told {
            self.outside.console.say(text);
        }
        self.is_told = false;
    }

    /// Applies events for as long as the stream and the consumer are there. It ends with what is wrong only.
    async fn session(
        &mut self,
        client: &Client,
        up: &mut watch::Receiver<bool>,
    ) -> Result<std::convert::Infallible, Failed> {
        let context = jetstream::new(client.clone());
        let stream = context.get_or_create_stream(events()).await?;
        let created = stream.cached_info().created.unix_timestamp_nanos();
        let created = i64::try_from(created)?;
        let last = stream.cached_info().state.last_sequence;
        self.renew(&stream).await;
        let mut consumer = stream.create_consumer(self.config()).await?;
        self.gate.succeeded();
        self.settle("events are received");
        self.note(Link::Up);
        let waiting = consumer.cached_info().num_pending;
        self.progress
            .send_modify(|progress| progress.waiting = waiting);
        loop {
            self.turn().await;
            let waited = tokio::select! {
                event = next(&consumer, up) => event?,
                () = self.lapse() => continue,
            };
            let Some(event) = waited else {
                self.note(if *up.borrow() { Link::Up } else { Link::Down });
                let info = consumer.info().await?;
                self.note(Link::Up);
                if info.num_pending == 0 && info.num_ack_pending == 0 {
                    self.step(0);
                    self.drain();
                }
                continue;
            };
            let info = event.info()?;
            let (seq, waiting) = (info.stream_sequence, info.pending);
            self.begin(info.published.into(), waiting);
            let stamp = Stamp {
                stream: created,
                seq: i64::try_from(seq)?,
            };
            if !self.outside.lease.may_act()
                || self.take(&context, &event, stamp).await? == Taken::Not
            {
                // Who has the lease gets it at once, and nobody has it twice.
                event.ack_with(AckKind::Nak(None)).await?;
                continue;
            }
            self.step(waiting);
            if seq >= last || waiting == 0 {
                self.drain();
            }
        }
    }

    /// Waits until it is this agent that acts: the one that lists is woken then.
    async fn turn(&self) {
        while !self.outside.lease.may_act() {
            self.progress.send_modify(|progress| {
                progress.moved = Instant::now();
                // Events are somebody else's now.
                progress.oldest = None;
            });
            sleep(TURN).await;
        }
    }

    /// Waits until this agent may not act any more.
    async fn lapse(&self) {
        while self.outside.lease.may_act() {
            sleep(TURN).await;
        }
    }

    /// A consumer of an agent that heard of fewer kinds of bots has passed over the events of the others: all are given
    /// out again, and those that were applied change nothing.
    async fn renew(&self, stream: &Stream) {
        let Ok(known) = stream.consumer_info(&self.name).await else {
            return;
        };
        let wanted = self.config().filter_subjects;
        let is_same = known.config.filter_subjects.len() == wanted.len();
        if !is_same && self.outside.lease.may_act() {
            let _ = stream.delete_consumer(&self.name).await;
        }
    }

    fn config(&self) -> pull::Config {
        pull::Config {
            durable_name: Some(self.name.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: 1,
            filter_subjects: SUBJECTS.iter().map(ToString::to_string).collect(),
            ..pull::Config::default()
        }
    }

    /// Applies one event, or keeps it aside, and acknowledges it.
    async fn take(
        &mut self,
        context: &Context,
        event: &Message,
        stamp: Stamp,
    ) -> Result<Taken, Failed> {
        let applied = match Change::read(&event.subject, &event.payload) {
            Ok(change) => self.apply(change, stamp, event).await,
            Err(bad) => Err(bad.to_string()),
        };
        let why = match applied {
            Ok(Taken::Not) => return Ok(Taken::Not),
            Ok(Taken::Care) => {
                self.outside.waker.wake();
                event.double_ack().await?;
                self.progress.send_modify(|progress| progress.applied += 1);
                return Ok(Taken::Care);
            }
            Err(why) => why,
        };
        let what = format!(
            "event {} on {} cannot be kept: {why}",
            stamp.seq, event.subject
        );
        match letter::send(context, event, stamp, &why).await {
            Ok(()) => self
                .outside
                .console
                .warn(&format!("{what}; it is in THE0_DLQ")),
            Err(err) => self.outside.console.warn(&format!(
                "{what}; nor could it be put into THE0_DLQ ({}): it stays in {STREAM} for 7 days",
                self.address.hide(&err.to_string())
            )),
        }
        event.double_ack_with(AckKind::Term).await?;
        self.progress.send_modify(|progress| progress.refused += 1);
        Ok(Taken::Care)
    }

    /// Applies the change, however long the database is away; without the lease it is left to whoever has it.
    ///
    /// # Errors
    /// It does not take this one; why.
    async fn apply(
        &mut self,
        change: Change,
        stamp: Stamp,
        event: &Message,
    ) -> Result<Taken, String> {
        let half = change.half;
        for tries in 0.. {
            let failed = match self.attempt(change.clone(), stamp, event).await {
                Ok(()) => break,
                Err(refused @ (Unwritten::Refused(_) | Unwritten::Untimed(_))) => {
                    return Err(refused.to_string());
                }
                Err(Unwritten::Later(failed)) => failed,
            };
            let why = self.writers.of(half).why(&failed);
            self.tell(&format!(
                "an event waits for MongoDB ({why}): it is tried again, and later ones wait behind it"
            ));
            keep(event, sleep(pause(tries))).await;
            if !self.outside.lease.may_act() {
                return Ok(Taken::Not);
            }
        }
        self.settle("events are written");
        Ok(Taken::Care)
    }

    async fn attempt(
        &mut self,
        change: Change,
        stamp: Stamp,
        event: &Message,
    ) -> Result<(), Unwritten> {
        keep(event, self.writers.of(change.half).apply(change, stamp)).await
    }

    fn note(&self, link: Link) {
        if link == Link::Up {
            self.outside.board.set(Dependency::Nats, Ok(()));
        }
        self.progress.send_if_modified(|progress| {
            let is_new = progress.link.0 != link;
            if is_new {
                progress.link = (link, Instant::now());
                progress.moved = progress.link.1;
            }
            is_new
        });
    }

    /// An event that was said then is in hand, and so many wait behind it.
    fn begin(&self, said: SystemTime, waiting: u64) {
        self.progress.send_modify(|progress| {
            progress.waiting = waiting + 1;
            progress.oldest = Some(said);
        });
    }

    fn step(&self, waiting: u64) {
        self.progress.send_modify(|progress| {
            progress.waiting = waiting;
            progress.moved = Instant::now();
            // The next one was said later: until it comes, the last one's time is as good.
            progress.oldest = progress.oldest.filter(|_| waiting > 0);
        });
    }

    /// All that was said before is in the database: what is listed from now on has it.
    fn drain(&self) {
        let is_first = self.progress.send_if_modified(|progress| {
            let is_first = progress.drained.is_none();
            progress.drained = progress.drained.or_else(|| Some(Instant::now()));
            is_first
        });
        if is_first {
            self.outside.waker.wake();
        }
    }
}

/// The next event; `None` when there is none for a while, or the connection was lost or made anew.
async fn next(
    consumer: &PullConsumer,
    up: &mut watch::Receiver<bool>,
) -> Result<Option<Message>, Failed> {
    let request = consumer.batch().max_messages(1).expires(REQUEST);
    let mut events = request.messages().await?;
    tokio::select! {
        event = events.next() => event.transpose(),
        _ = up.changed() => Ok(None),
    }
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

/// The consumer of a stack.
pub fn durable(stack: &str) -> String {
    format!("the0-{stack}-bots")
}

fn events() -> stream::Config {
    stream::Config {
        name: STREAM.to_owned(),
        subjects: SUBJECTS.iter().map(ToString::to_string).collect(),
        storage: StorageType::File,
        max_age: STREAM_LIFE,
        ..stream::Config::default()
    }
}
