//! Bots as containers of a Docker daemon, one each, that outlive the agent.
//!
//! It ensures that there are never two instances of a bot: a container's name is made of stack and bot, so the daemon
//! refuses a second one; of one bot only one thing is under way at a time ([`slot::Work`]); and what a listing tells
//! is passed over where something has changed since it was begun.
//!
//! ```text
//! listing, event ──▶ look ──▶ running: adopted     ended: judged, kept until its state is in the store
//! start ──▶ image, keys, create, hand over ([`start`])     stop ──▶ TERM, at the deadline KILL
//! ```
//!
//! Nothing here waits: operations are tasks of their own whose ends come back as [`News`]. An agent that goes away in
//! the middle of one leaves a container that the next agent finds by its name and labels.

mod access;
pub mod container;
mod files;
mod image;
mod keys;
pub mod left;
mod link;
pub mod logs;
mod metadata;
pub mod names;
mod news;
mod slot;
mod socket;
mod start;
pub mod template;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::KillContainerOptionsBuilder;
use contract::{BotId, ObjectKey};
use futures_util::StreamExt;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use self::left::Husk;
use self::link::{Clock, Snapshot};
use self::slot::{Slot, Stop, Told, Work};
use super::Instance;
use crate::document::Bot;
use crate::launch;
use crate::plan::{Outcome, Phase, Why};
use crate::report::Records;
use crate::show::Console;

pub use access::Access;
pub use keys::KeyMaker;
pub use start::{Examined, NotStarted, Origin, Running};

/// Seconds that the daemon may take for an answer.
const ANSWER: u64 = 60;
/// Time a container has between TERM and KILL: what it is given to stop, and a little more.
const PATIENCE: Duration = Duration::from_secs(75);
/// How soon keys that could not be renewed are asked for again.
const RENEW_AGAIN: Duration = Duration::from_mins(5);
/// Within this time an agent hands new keys to the containers it finds.
const RENEW_FOUND: Duration = Duration::from_mins(1);
/// Time between two looks at the rules around the bots' network.
const GUARD: Duration = Duration::from_mins(10);
/// Starts under way at once: more of them take no less time, and the daemon answers others meanwhile.
const STARTS: usize = 8;
/// Containers whose files are read at once.
const READS: usize = 8;

/// The engine.
#[derive(Debug)]
pub struct Engine {
    access: Access,
    news: UnboundedSender<News>,
    clock: Clock,
    slots: BTreeMap<BotId, Slot>,
    husks: BTreeMap<BotId, Husk>,
    foreign: HashMap<BotId, String>,
    /// Bots that have volumes and no container, and an image to look into these with.
    loose: HashMap<BotId, Option<String>>,
    link: Link,
    /// Makes the next listing come at once.
    again: std::sync::Arc<tokio::sync::Notify>,
    /// How old the last listing is, and the oldest that one may decide by, by the clock.
    listed: u64,
    needed: u64,
    /// When the rules around the bots' network are looked at again.
    guard_at: Duration,
    starts: std::sync::Arc<tokio::sync::Semaphore>,
    console: Console,
}

/// Whether the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It has not been listed yet.
    Unknown,
    /// It does.
    Up,
    /// It does not, and why.
    Down(String),
}

/// What has happened, told to the loop that owns the engine.
#[derive(Debug)]
pub enum News {
    /// The daemon does not answer.
    Down(String),
    /// What it has.
    Listed(Box<Snapshot>),
    /// Something has happened to a bot's container.
    Happened(BotId),
    /// A start has come to its end.
    Started(BotId, Result<Running, NotStarted>),
    /// A container was looked at.
    Looked(BotId, Result<Examined, String>),
    /// A signal was taken by the daemon, or was not.
    Signalled(BotId, Result<(), String>),
    /// New keys were handed over, and when the next are due; or they were not.
    Renewed(BotId, Result<Option<Duration>, String>),
    /// What was left over of a bot is gone, or is not.
    Removed(BotId, Result<(), String>),
    /// Volumes without a container were made to be looked into.
    Opened(BotId, Box<Result<(String, Records), String>>),
}

impl Engine {
    /// On the daemon of `access`, told of changes on `news`; `interval` is the time between listings.
    pub fn new(access: Access, interval: Duration, news: UnboundedSender<News>) -> Self {
        let clock = Clock::default();
        let again = std::sync::Arc::default();
        tokio::spawn(link::watch(
            link::Source {
                docker: access.docker.clone(),
                stack: access.template.stack.clone(),
                clock: clock.clone(),
                again: std::sync::Arc::clone(&again),
            },
            interval,
            news.clone(),
        ));
        Self {
            console: access.console.clone(),
            access,
            news,
            clock,
            slots: BTreeMap::new(),
            husks: BTreeMap::new(),
            foreign: HashMap::new(),
            loose: HashMap::new(),
            link: Link::Unknown,
            again,
            listed: 0,
            needed: 0,
            guard_at: GUARD,
            starts: std::sync::Arc::new(tokio::sync::Semaphore::new(STARTS)),
        }
    }

    /// The daemon at `host` (`unix:///path` or `tcp://host:port`), whether it is there already or not.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn connect(host: Option<&str>) -> anyhow::Result<Docker> {
        let host = host.unwrap_or("unix:///var/run/docker.sock");
        let docker = match host.split_once("://") {
            Some(("unix", path)) => socket::connect(path.as_ref(), ANSWER),
            Some(("tcp" | "http", _)) => {
                Docker::connect_with_http(host, ANSWER, bollard::API_DEFAULT_VERSION)
            }
            _ => anyhow::bail!("DOCKER_HOST is {host:?}: give unix:///path or tcp://host:port"),
        };
        docker.map_err(|err| anyhow::anyhow!("DOCKER_HOST is {host:?}: {err}"))
    }

    /// Starts the bot, unless something of it is there or under way.
    pub fn start(&mut self, bot: &Bot, now: Duration) {
        if self.slots.get(&bot.id).is_some_and(Slot::is_live) {
            return;
        }
        let digest = launch::digest(bot);
        let touched = self.clock.tick();
        let mut slot = Slot::new(
            &bot.id,
            &bot.definition.name,
            bot.definition.kind,
            digest.clone(),
            now,
            touched,
        );
        slot.code = Some(bot.code.clone());
        if let Some(before) = self.slots.remove(&bot.id)
            && before.instance.actual.digest == digest
        {
            slot.failures = before.failures;
            slot.instance.reason = before.instance.reason;
        }
        match self.obstacle(&bot.id) {
            Some(why) => self.not_started(
                &mut slot,
                NotStarted {
                    outcome: Outcome::Busy,
                    why,
                },
                now,
            ),
            None => slot.work = Work::Starting(Some(self.begin(bot))),
        }
        self.slots.insert(bot.id.clone(), slot);
    }

    /// What of others keeps the bot from being started.
    fn obstacle(&self, bot: &BotId) -> Option<String> {
        if self.husks.get(bot).is_some_and(Husk::is_going) {
            return Some("what was left of it is being removed".to_owned());
        }
        let name = self.foreign.get(bot)?;
        Some(format!(
            "container {name} of another agent runs it: stop that one (docker stop {name}), so that there are not two"
        ))
    }

    fn begin(&mut self, bot: &Bot) -> oneshot::Sender<()> {
        let (cancel, cancelled) = oneshot::channel();
        let (access, news, starts) = (self.access.clone(), self.news.clone(), self.starts.clone());
        let bot = bot.clone();
        tokio::spawn(async move {
            let _turn = starts.acquire_owned().await;
            let started = start::start(&access, &bot, cancelled).await;
            let _ = news.send(News::Started(bot.id, started));
        });
        cancel
    }

    /// Tells the bot to stop.
    pub fn stop(&mut self, bot: &BotId, why: Why, now: Duration) {
        let Some(slot) = self
            .slots
            .get_mut(bot)
            .filter(|slot| slot.is_live() && slot.stop.is_none())
        else {
            return;
        };
        self.console
            .say(&format!("{}: stopping, {}", slot.name, why.text()));
        slot.touched = self.clock.tick();
        slot.instance.actual.phase = Phase::Stopping;
        slot.stop = Some(Stop {
            deadline: now + PATIENCE,
            told: Told::No,
        });
        if let Work::Starting(cancel) = &mut slot.work {
            cancel.take().map(|cancel| cancel.send(()));
        }
        self.signal(bot, "SIGTERM");
    }

    /// Sends the bot's container a signal, if it runs.
    fn signal(&mut self, bot: &BotId, signal: &'static str) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let (Some(running), Some(stop)) = (&slot.running, &mut slot.stop) else {
            return;
        };
        stop.told = Told::Telling;
        let (docker, news) = (self.access.docker.clone(), self.news.clone());
        let (id, bot) = (running.id.clone(), bot.clone());
        tokio::spawn(async move {
            let options = KillContainerOptionsBuilder::default()
                .signal(signal)
                .build();
            let sent = docker.kill_container(&id, Some(options)).await;
            let _ = news.send(News::Signalled(bot, sent.map_err(|err| start::said(&err))));
        });
    }

    /// Looks at the bot's container, or does so when what is under way is done.
    fn look(&mut self, bot: &BotId) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        if !matches!(slot.work, Work::None) {
            slot.look_again = true;
            return;
        }
        slot.work = Work::Looking;
        let (docker, news) = (self.access.docker.clone(), self.news.clone());
        let (name, bot) = (self.access.template.stack.container(bot), bot.clone());
        tokio::spawn(async move {
            let looked = start::examine(&docker, &name).await;
            let _ = news.send(News::Looked(bot, looked.map_err(|err| start::said(&err))));
        });
    }

    /// Drops what is known about a bot that has ended.
    pub fn forget(&mut self, bot: &BotId) {
        if self.slots.get(bot).is_some_and(|slot| !slot.is_live()) {
            self.slots.remove(bot);
            self.access.images.hope();
        }
    }

    /// Does what time has made due: signals that were not taken, stops that are overdue, keys.
    pub fn tick(&mut self, now: Duration) {
        if self.link != Link::Up {
            return;
        }
        if now >= self.guard_at {
            self.guard_at = now + GUARD;
            let access = self.access.clone();
            tokio::spawn(async move { access.guard().await });
        }
        let mut signals = Vec::new();
        let mut renewals = Vec::new();
        for (bot, slot) in &mut self.slots {
            match slot.stop {
                Some(stop) if now >= stop.deadline => {
                    let text =
                        "did not end in its time and is killed; what was unsaved is on its volumes";
                    self.console.warn(&format!("{}: {text}", slot.name));
                    slot.stop = Some(Stop {
                        deadline: now + PATIENCE,
                        ..stop
                    });
                    signals.push((bot.clone(), "SIGKILL"));
                }
                Some(Stop { told: Told::No, .. }) => signals.push((bot.clone(), "SIGTERM")),
                _ => {}
            }
            if slot.renew_at.is_some_and(|due| now >= due) {
                slot.renew_at = Some(now + RENEW_AGAIN);
                renewals.push(bot.clone());
            }
        }
        for (bot, signal) in signals {
            self.signal(&bot, signal);
        }
        for bot in renewals {
            self.renew(&bot);
        }
    }

    fn renew(&self, bot: &BotId) {
        let Some(slot) = self.slots.get(bot) else {
            return;
        };
        let (Some(running), Some(code)) = (&slot.running, &slot.code) else {
            return;
        };
        let (access, news) = (self.access.clone(), self.news.clone());
        let (id, code, bot) = (running.id.clone(), code.clone(), bot.clone());
        tokio::spawn(async move {
            let renewed = async {
                let granted = access
                    .keys
                    .grant_for(&bot, &code)
                    .await
                    .map_err(|not| not.why)?;
                start::tell(&access.docker, &id, &container::renewal(&granted.keys)).await?;
                Ok(granted.renew_in)
            };
            let renewed = renewed.await;
            let _ = news.send(News::Renewed(bot, renewed));
        });
    }

    /// All instances.
    pub fn instances(&self) -> BTreeMap<BotId, Instance> {
        self.slots
            .iter()
            .map(|(id, slot)| (id.clone(), slot.instance.clone()))
            .collect()
    }

    /// The plan's view of all instances.
    pub fn actual(&self) -> BTreeMap<BotId, crate::plan::Actual> {
        self.slots
            .iter()
            .map(|(id, slot)| (id.clone(), slot.instance.actual.clone()))
            .collect()
    }

    /// The bot's instance.
    pub fn instance(&self, bot: &BotId) -> Option<&Instance> {
        self.slots.get(bot).map(|slot| &slot.instance)
    }

    /// Where a running bot answers questions.
    pub fn address(&self, bot: &BotId) -> Option<std::net::SocketAddr> {
        let address = self.slots.get(bot)?.running.as_ref()?.address?;
        Some((address, QUERY_PORT).into())
    }

    /// Whether the daemon has been listed and answers, so that one can decide.
    pub fn is_ready(&self) -> bool {
        self.link == Link::Up && self.listed >= self.needed
    }

    /// Whether the daemon answers, or why not.
    pub fn link(&self) -> Result<(), String> {
        match &self.link {
            Link::Up => Ok(()),
            Link::Unknown => Err("it has not answered yet".to_owned()),
            Link::Down(why) => Err(why.clone()),
        }
    }

    /// What is known may be old: it is not ready before it has looked anew.
    pub fn look_anew(&mut self) {
        self.needed = self.clock.tick();
        self.again.notify_one();
    }

    /// Whether nothing runs and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.slots.values().all(|slot| !slot.is_live())
    }

    /// Whether a start is under way.
    pub fn is_starting(&self) -> bool {
        self.slots
            .values()
            .any(|slot| matches!(slot.work, Work::Starting(_)))
    }

    /// The code bundles of instances that are not over.
    pub fn code_in_use(&self) -> Vec<ObjectKey> {
        let live = self.slots.values().filter(|slot| slot.is_live());
        live.filter_map(|slot| slot.code.clone()).collect()
    }

    /// Reads what the programs in the containers of `bots` have written.
    pub fn records(&self, bots: &[BotId]) -> impl Future<Output = HashMap<BotId, Records>> + use<> {
        let of = |bot: &BotId| {
            let running = self
                .slots
                .get(bot)
                .and_then(|slot| Some(slot.running.as_ref()?.id.clone()));
            let id = running.or_else(|| self.husks.get(bot).map(|husk| husk.id.clone()))?;
            Some((bot.clone(), id))
        };
        let (docker, link) = (self.access.docker.clone(), self.link.clone());
        let containers: Vec<(BotId, String)> = bots.iter().filter_map(of).collect();
        async move {
            if link != Link::Up {
                return HashMap::new();
            }
            let read = |(bot, id): (BotId, String)| {
                let docker = docker.clone();
                async move { Some((bot, files::records(&docker, &id).await.ok()?)) }
            };
            let reads = futures_util::stream::iter(containers)
                .map(read)
                .buffer_unordered(READS);
            reads.filter_map(std::future::ready).collect().await
        }
    }

    /// The ids that images have now, by bot that runs: one whose template digest differs is behind.
    pub fn behind(&self, images: &HashMap<BotId, String>) -> Vec<BotId> {
        let is_behind = |(bot, slot): &(&BotId, &Slot)| {
            let (Some(running), Some(image)) = (&slot.running, images.get(*bot)) else {
                return false;
            };
            running.template != self.access.template.digest(image).as_str()
        };
        self.slots
            .iter()
            .filter(is_behind)
            .map(|(bot, _)| bot.clone())
            .collect()
    }

    /// Finds the images that the bots would be started with now.
    pub fn images(
        &self,
        bots: Vec<(BotId, contract::Runtime)>,
    ) -> impl Future<Output = Result<HashMap<BotId, String>, String>> + use<> {
        let access = self.access.clone();
        async move {
            access.images.hope();
            let mut found = HashMap::new();
            for (bot, runtime) in bots {
                let name = access.template.image_for(runtime);
                let id = access
                    .images
                    .ensure(&access.docker, &name, access.template.pull)
                    .await;
                found.insert(bot, id.map_err(|err| err.to_string())?);
            }
            Ok(found)
        }
    }
}

/// The port of the contract.
const QUERY_PORT: u16 = 9476;
