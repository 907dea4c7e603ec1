//! The connection to the daemon: whether it answers, what it has, what happens there.
//!
//! Events make the next look come sooner; what is so is told by the listings, one after each new connection and one
//! each interval.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptionsBuilder,
};
use contract::BotId;
use contract::record::Time;
use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::News;
use super::names::{self, Stack};
use super::refusal::said;
use crate::breaker::{Gate, Pace};
use crate::engine::remote::Clock;

/// How a daemon that does not answer is asked again.
pub const PACE: Pace = Pace {
    first: Duration::from_millis(250),
    longest: Duration::from_secs(8),
    patience: LOOK,
};
/// How long the daemon may take to tell that it is there or what it has. It may take longer for what it does.
const LOOK: Duration = Duration::from_secs(15);

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Made, not started.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Over,
    /// It is going.
    Removing,
}

/// A container of a bot, as a listing tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How far it is.
    pub stage: Stage,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its image's id.
    pub image: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// When it was made, to the second.
    pub made: Option<Time>,
}

/// What the daemon has.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The clock when it was asked for.
    pub begun: u64,
    /// The stack's containers by bot.
    pub ours: HashMap<BotId, Seen>,
    /// Containers that run a bot beside the one in `ours`: their names.
    pub doubles: HashMap<BotId, String>,
    /// Bots that containers of an agent without stacks run, and the names of these.
    pub foreign: HashMap<BotId, String>,
    /// The daemon's folder of volumes.
    pub root: Option<PathBuf>,
    /// Bots that have volumes in the stack, and the image these were first made with.
    pub volumes: HashMap<BotId, Option<String>>,
}

/// What is looked at.
#[derive(Debug)]
pub struct Source {
    /// The daemon.
    pub docker: Docker,
    /// Whose containers.
    pub stack: Stack,
    /// Numbers listings.
    pub clock: Clock,
    /// Makes the next listing come at once.
    pub again: Arc<Notify>,
    /// Whether the daemon answers: nobody but this watch asks while it does not.
    pub gate: Gate,
}

/// Keeps looking until nobody hears it any more.
pub async fn watch(source: Source, interval: Duration, news: UnboundedSender<News>) {
    while !news.is_closed() {
        // One try at a time: nobody else is there to be kept out.
        let _ = source.gate.enter();
        let docker = source.docker.clone().with_timeout(LOOK);
        let why = match docker.negotiate_version().await {
            Ok(_) => follow(&source, interval, &news).await,
            Err(err) => said(&err),
        };
        let pause = source.gate.failed(&why);
        let _ = news.send(News::Down(why));
        tokio::time::sleep(pause).await;
    }
}

/// The event of a container that begins to run.
const START: &str = "start";

/// Follows the events of a daemon that answers; gives why it does not any more.
async fn follow(source: &Source, interval: Duration, news: &UnboundedSender<News>) -> String {
    let Source {
        docker,
        stack,
        clock,
        again,
        gate,
    } = source;
    let quick = docker.clone().with_timeout(LOOK);
    let filters = HashMap::from([
        ("type", vec!["container".to_owned()]),
        (
            "event",
            vec![START.to_owned(), "die".to_owned(), "destroy".to_owned()],
        ),
        ("label", vec![format!("{}={stack}", names::STACK)]),
    ]);
    let options = EventsOptionsBuilder::default().filters(&filters).build();
    let mut events = std::pin::pin!(docker.events(Some(options)));
    loop {
        // The first listing comes while the events are being asked for, so that nothing falls between the two.
        let listing = list(&quick, stack, clock);
        tokio::pin!(listing);
        let mut due = None;
        loop {
            tokio::select! {
                listed = &mut listing, if due.is_none() => match listed {
                    Ok(snapshot) => {
                        gate.succeeded();
                        let _ = news.send(News::Listed(Box::new(snapshot)));
                        due = Some(tokio::time::Instant::now() + interval);
                    }
                    Err(err) => return said(&err),
                },
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if let Some(bot) = subject(stack, &event) {
                            let is_start = event.action.as_deref() == Some(START);
                            let word = if is_start { News::Began } else { News::Happened(bot) };
                            let _ = news.send(word);
                        }
                    }
                    Some(Err(err)) => return said(&err),
                    None => return "the Docker daemon ended the connection".to_owned(),
                },
                () = wait_until(due) => break,
                () = again.notified(), if due.is_some() => break,
            }
            if news.is_closed() {
                return String::new();
            }
        }
    }
}

async fn wait_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn subject(stack: &Stack, event: &EventMessage) -> Option<BotId> {
    let attributes = event.actor.as_ref()?.attributes.as_ref()?;
    stack.bot_of(attributes)
}

async fn list(docker: &Docker, stack: &Stack, clock: &Clock) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot {
        begun: clock.now(),
        ..Snapshot::default()
    };
    let filters = HashMap::from([("label", vec![format!("{}=true", names::MANAGED)])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    for container in docker.list_containers(Some(options)).await? {
        snapshot.take(stack, container);
    }
    let filters = HashMap::from([("label", vec![format!("{}={stack}", names::STACK)])]);
    let options = ListVolumesOptionsBuilder::default()
        .filters(&filters)
        .build();
    let volumes = docker.list_volumes(Some(options)).await?.volumes;
    for volume in volumes.unwrap_or_default() {
        if snapshot.root.is_none() {
            let root = Path::new(&volume.mountpoint).ancestors().nth(2);
            snapshot.root = root.map(Path::to_owned);
        }
        let bot = volume
            .labels
            .get(names::ID)
            .and_then(|id| id.parse::<BotId>().ok());
        if let Some(bot) = bot {
            snapshot
                .volumes
                .insert(bot, volume.labels.get(names::IMAGE).cloned());
        }
    }
    Ok(snapshot)
}

impl Snapshot {
    fn take(&mut self, stack: &Stack, container: ContainerSummary) {
        let labels = container.labels.unwrap_or_default();
        let name = container
            .names
            .and_then(|names| names.into_iter().next())
            .unwrap_or_default();
        let stage = stage(container.state);
        if let Some(bot) = stack.bot_of(&labels) {
            let networks = container
                .network_settings
                .and_then(|settings| settings.networks);
            let mut addresses = networks.into_iter().flat_map(HashMap::into_values);
            let seen = Seen {
                id: container.id.unwrap_or_default(),
                name: name.trim_start_matches('/').to_owned(),
                stage,
                address: addresses.find_map(|n| n.ip_address?.parse().ok()),
                image: container.image_id.unwrap_or_default(),
                labels,
                made: container.created.and_then(seconds),
            };
            self.keep(bot, seen);
        } else if !labels.contains_key(names::STACK) && stage == Stage::Running {
            let is_query = labels.get(names::TYPE).is_some_and(|kind| kind == "query");
            let bot = labels.get(names::ID).and_then(|id| id.parse().ok());
            if let (Some(bot), false) = (bot, is_query) {
                self.foreign
                    .insert(bot, name.trim_start_matches('/').to_owned());
            }
        }
    }

    /// Of several containers of one bot, one that runs counts before one that does not, and a newer one before an older:
    /// the daemon lists the newest first.
    fn keep(&mut self, bot: BotId, seen: Seen) {
        match self.ours.entry(bot.clone()) {
            Entry::Vacant(place) => drop(place.insert(seen)),
            Entry::Occupied(mut first) => match (first.get().stage, seen.stage) {
                (Stage::Running, Stage::Running) => drop(self.doubles.insert(bot, seen.name)),
                (_, Stage::Running) => drop(first.insert(seen)),
                _ => {}
            },
        }
    }
}

fn seconds(since: i64) -> Option<Time> {
    let since = Duration::from_secs(u64::try_from(since).ok()?);
    Some(Time::from(std::time::UNIX_EPOCH + since))
}

fn stage(state: Option<ContainerSummaryStateEnum>) -> Stage {
    use ContainerSummaryStateEnum as State;
    match state {
        Some(State::CREATED) => Stage::Created,
        Some(State::EXITED | State::DEAD) => Stage::Over,
        Some(State::REMOVING) => Stage::Removing,
        _ => Stage::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_foreign_or_nobodys_is_told_apart() {
        let stack: Stack = "s".parse().unwrap();
        let bot: BotId = "b1".parse().unwrap();
        let container = |name: &str, labels: HashMap<String, String>| ContainerSummary {
            names: Some(vec![format!("/{name}")]),
            labels: Some(labels),
            state: Some(ContainerSummaryStateEnum::RUNNING),
            ..ContainerSummary::default()
        };
        let mut snapshot = Snapshot::default();
        snapshot.take(&stack, container("the0-s.b1", stack.labels(&bot)));
        let mut original = stack.labels(&bot);
        original.remove(names::STACK);
        snapshot.take(&stack, container("bot-b1", original.clone()));
        original.insert(names::TYPE.into(), "query".into());
        original.insert(names::ID.into(), "b2".into());
        snapshot.take(&stack, container("query-b2", original));
        snapshot.take(&stack, container("the0-s.b1", HashMap::new()));
        snapshot.take(&stack, container("renamed", stack.labels(&bot)));
        assert_eq!(snapshot.doubles[&bot], "renamed");
        let other: Stack = "t".parse().unwrap();
        snapshot.take(
            &stack,
            container("the0-t.b3", other.labels(&"b3".parse().unwrap())),
        );
        assert_eq!(snapshot.ours.keys().collect::<Vec<_>>(), [&bot]);
        assert_eq!(
            snapshot.foreign,
            HashMap::from([(bot, "bot-b1".to_owned())])
        );
    }
}
