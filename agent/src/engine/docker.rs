//! Bots as containers of a Docker daemon, one each, that outlive the agent.
//!
//! It ensures that there are never two instances of a bot: a container's name is made of stack and bot, so the daemon
//! refuses a second one; of one bot only one thing is under way at a time ([`slot::Work`]); and what a listing tells
//! is passed over where something has changed since it was begun. A container is the bot's by its labels, whatever
//! somebody has named it.
//!
//! ```text
//! listing, event ──▶ look ──▶ running: adopted     ended: judged, kept until its state is in the store
//! start ──▶ image, keys, create, hand over ([`start`])     stop ──▶ TERM, at the deadline KILL
//! ```
//!
//! Nothing here waits: operations are tasks of their own whose ends come back as [`News`]. An agent that goes away in
//! the middle of one leaves a container that the next agent finds by its labels.

mod access;
pub mod container;
mod examine;
mod files;
mod image;
pub mod job;
pub mod left;
mod link;
pub mod logs;
pub mod metadata;
pub mod names;
mod news;
pub mod question;
pub mod refusal;
mod slot;
mod socket;
mod start;
mod tales;
pub mod template;
#[cfg(test)]
pub mod tests;
mod usage;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::KillContainerOptionsBuilder;
use contract::BotId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot};

use self::left::{Husk, Loose};
use self::link::Snapshot;
use self::slot::{Slot, Stop, Work};
use crate::document::Bot;
use crate::engine::Told;
use crate::engine::remote::{Clock, Link, Word};
use crate::history::Start;
use crate::launch;
use crate::plan::{Outcome, Phase, Why};
use crate::report::Records;
use crate::schedule::ledger::Key;
use crate::show::Console;

pub use access::Access;
pub use examine::{Examined, Origin, Running};
pub use refusal::NotStarted;

/// Seconds that the daemon may take for an answer.
const ANSWER: u64 = 60;
/// What a container has between TERM and KILL beyond what its supervisor may take.
const SLACK: Duration = Duration::from_secs(15);
/// How soon keys that could not be renewed are asked for again, at most; a quarter of their life, if that is less. While
/// the store does not answer nobody asks, and all whose time has come do when it does.
const RENEW_AGAIN: Duration = Duration::from_mins(1);
/// Within this time an agent hands new keys to the containers it finds.
const RENEW_FOUND: Duration = Duration::from_mins(1);
/// Time between two tries to send a signal that the daemon did not take.
const SIGNAL_AGAIN: Duration = Duration::from_secs(5);
/// Time between two looks at the rules around the bots' network.
const GUARD: Duration = Duration::from_mins(10);

/// The engine.
#[derive(Debug)]
pub struct Engine {
    access: Access,
    news: UnboundedSender<News>,
    clock: Clock,
    slots: BTreeMap<BotId, Slot>,
    husks: BTreeMap<BotId, Husk>,
    /// Bots that containers of an agent without stacks run, and the names of these.
    foreign: HashMap<BotId, String>,
    /// Bots that have volumes and no container.
    loose: HashMap<BotId, Loose>,
    /// Containers of ticks that were made and not started: who made one may be about to.
    made: HashMap<BotId, (String, Key)>,
    link: Link,
    told: Vec<Told>,
    /// The daemon's folder of volumes, which may be on another machine or closed to us.
    volumes: Option<PathBuf>,
    /// Makes the next listing come at once.
    again: Arc<Notify>,
    /// How old the last listing is, and the oldest that one may decide by, by the clock.
    listed: u64,
    needed: u64,
    /// When the rules around the bots' network are looked at again.
    guard_at: Duration,
    /// When it is looked for what others have started.
    again_at: Option<Duration>,
    console: Console,
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
    /// A container of a bot was started, by us or another.
    Began,
    /// A start has come to its end.
    Started(BotId, Result<Running, NotStarted>),
    /// A container was looked at.
    Looked(BotId, Result<Examined, String>),
    /// A signal was taken by the daemon, or was not.
    Signalled(BotId, Result<(), String>),
    /// A container's keys were renewed, and when the next are due; or they were not.
    Renewed(BotId, String, Result<Option<Duration>, String>),
    /// What was left over of a bot is gone, or is not.
    Removed(BotId, Result<(), String>),
    /// Volumes were looked into.
    Opened(BotId, Box<Result<(String, Records), String>>),
}

impl Engine {
    /// On the daemon of `access`, told of changes on `news`; `interval` is the time between listings.
    pub fn new(access: Access, interval: Duration, news: UnboundedSender<News>) -> Self {
        let clock = Clock::default();
        let again = Arc::default();
        tokio::spawn(link::watch(
            link::Source {
                docker: access.docker.clone(),
                stack: access.template.stack.clone(),
                clock: clock.clone(),
                again: Arc::clone(&again),
                gate: access.gate.clone(),
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
            made: HashMap::new(),
            link: Link::Unknown,
            told: Vec::new(),
            volumes: None,
            again,
            listed: 0,
            needed: 0,
            guard_at: GUARD,
            again_at: None,
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
    pub fn start(&mut self, bot: &Bot, start: Start, now: Duration) {
        if self.slots.get(&bot.id).is_some_and(Slot::is_live) {
            return;
        }
        let digest = launch::digest(bot);
        let (definition, touched) = (&bot.definition, self.clock.tick());
        let (name, kind) = (&definition.name, definition.kind);
        let mut slot = Slot::new(&bot.id, name, kind, digest.clone(), now, touched);
        slot.code = Some(bot.code.clone());
        slot.start = Some(start.clone());
        if let Some(before) = self.slots.remove(&bot.id)
            && before.instance.actual.digest == digest
        {
            slot.failures = before.failures;
            slot.instance.reason = before.instance.reason;
        }
        if let Some(why) = self.obstacle(&bot.id) {
            let not = NotStarted::new(Outcome::Busy, why);
            self.not_started(&bot.id, &mut slot, not, now);
        } else {
            // What was made before makes way, or is started.
            self.made.remove(&bot.id);
            slot.work = Work::Starting(Some(self.begin(bot, start)));
        }
        self.slots.insert(bot.id.clone(), slot);
    }

    /// What keeps the bot from being started.
    fn obstacle(&self, bot: &BotId) -> Option<String> {
        if let Some(why) = self.husks.get(bot).and_then(Husk::obstacle) {
            return Some(why.to_owned());
        }
        let name = self.foreign.get(bot)?;
        Some(format!(
            "container {name} of another agent runs it: stop that one (docker stop {name}), so that there are not two"
        ))
    }

    fn begin(&mut self, bot: &Bot, why: Start) -> oneshot::Sender<()> {
        let (cancel, cancelled) = oneshot::channel();
        let (access, news) = (self.access.clone(), self.news.clone());
        let last = self.husks.get(&bot.id).map(|husk| husk.id.clone());
        let bot = bot.clone();
        tokio::spawn(async move {
            let started = Box::pin(start::start(&access, &bot, &why, last, cancelled)).await;
            let _ = news.send(News::Started(bot.id, started));
        });
        cancel
    }

    /// Tells the bot to stop.
    pub fn stop(&mut self, bot: &BotId, why: Why, now: Duration) {
        let slot = self.slots.get_mut(bot);
        let Some(slot) = slot.filter(|slot| slot.is_live() && slot.stop.is_none()) else {
            return;
        };
        let text = format!("stopping, {}", why.text());
        self.console.about(bot, &slot.name).say(&text);
        slot.touched = self.clock.tick();
        slot.instance.actual.phase = Phase::Stopping;
        slot.stop = Some(Stop {
            deadline: now + slot.patience() + SLACK,
            told: Word::Unsaid,
            again_at: now + SIGNAL_AGAIN,
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
        stop.told = Word::Telling;
        let (docker, news) = (self.access.docker.clone(), self.news.clone());
        let (id, bot) = (running.id.clone(), bot.clone());
        tokio::spawn(async move {
            let options = KillContainerOptionsBuilder::default()
                .signal(signal)
                .build();
            let sent = docker.kill_container(&id, Some(options)).await;
            let sent = sent.map_err(|err| refusal::said(&err));
            let _ = news.send(News::Signalled(bot, sent));
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
        let is_near = self.access.is_near;
        let stack = self.access.template.stack.clone();
        let known = slot.running.as_ref().map(|running| running.id.clone());
        let which = known.or_else(|| slot.seen.clone());
        let tick = slot.start.as_ref().and_then(|start| start.tick);
        let which = which.unwrap_or_else(|| stack.container_for(bot, tick));
        let bot = bot.clone();
        tokio::spawn(async move {
            let looked = examine::examine(&docker, is_near, &stack, &bot, &which).await;
            let looked = looked.map_err(|err| refusal::said(&err));
            let _ = news.send(News::Looked(bot, looked));
        });
    }

    /// Drops what is known about a bot that has ended.
    pub fn forget(&mut self, bot: &BotId) {
        if self.slots.get(bot).is_some_and(|slot| !slot.is_live()) {
            self.slots.remove(bot);
        }
    }

    /// A person acts: what could not be had is asked for again at once.
    pub fn hope(&self) {
        self.access.images.hope();
    }

    /// Does what time has made due: signals that were not taken, stops that are overdue, keys, rules; of these, what is
    /// begun is brought to its end whoever has the lease, and the rest is done unless another agent is known to do it.
    pub fn tick(&mut self, now: Duration) {
        if self.link != Link::Up {
            return;
        }
        if self.again_at.is_some_and(|at| now >= at) {
            self.again_at = None;
            self.again.notify_one();
        }
        let is_ours = !self.access.lease.stands_by();
        if is_ours && now >= self.guard_at {
            self.guard_at = now + GUARD;
            let access = self.access.clone();
            tokio::spawn(async move { access.guard().await });
        }
        let renews = is_ours && self.access.keys.ready().is_ok();
        let mut signals = Vec::new();
        let mut renewals = Vec::new();
        for (bot, slot) in &mut self.slots {
            if let Some(signal) = slot.due_signal(now) {
                if signal == "SIGKILL" {
                    let text =
                        "did not end in its time and is killed; what was unsaved is on its volumes";
                    self.console.about(bot, &slot.name).warn(text);
                }
                signals.push((bot.clone(), signal));
            }
            if renews && slot.renew_at.is_some_and(|due| now >= due) {
                let again = RENEW_AGAIN.min(self.access.template.keys / 4);
                slot.renew_at = Some(now + again);
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
                let granted = access.keys.grant_for(&bot, &code).await;
                let granted = granted.map_err(|not| not.why)?;
                let line = container::renewal(&granted.keys);
                start::tell(&access.docker, &id, &line).await?;
                Ok(granted.renew_in)
            };
            let renewed = renewed.await;
            let _ = news.send(News::Renewed(bot, id, renewed));
        });
    }

    /// What is known may be old: it is not ready before it has looked anew.
    pub fn look_anew(&mut self) {
        self.needed = self.clock.tick();
        self.again.notify_one();
    }
}
