//! What may be asked of a running agent, answered by the loop that owns the world.

mod jobs;
mod questions;
mod times;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use contract::{BotId, Runtime, record::Listening};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot::{self, Sender};

use crate::ask::Refusal;
use crate::bots::Offer;
use crate::engine::docker::left::{Left, Unsaved};
use crate::engine::usage::{self, Used};
use crate::engine::{Engine, Instance, kubernetes};
use crate::history::Answer;
use crate::id::{self, Known, Unclear};
use crate::jobs::document::Job;
use crate::plan::{Phase, Switch};
use crate::reconcile::World;
use crate::report::{self, Records, Row, Sight, Sources};
use crate::roll::Roll;
use crate::schedule::timetable::shown;
pub use jobs::NoJob;
pub use questions::{Target, Whom};
pub use times::{Planned, TRIES};

/// What to do with a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Let it run.
    Start,
    /// Let it not run, until [`Verb::Start`].
    Stop,
    /// Run it anew.
    Restart,
}

/// How far it is after all were told to run, or not to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    /// Whether it is known what runs.
    pub known: bool,
    /// Bots of which something runs, is under way, or may be started by a cluster's clock, by name.
    pub live: Vec<String>,
    /// Bots of which something is on this host's volumes only, by name.
    pub unsaved: Vec<String>,
    /// Bots of which something may be gone with their Pod, by name: it is not known to be saved.
    #[serde(default)]
    pub lost: Vec<String>,
    /// Run-to-end jobs that run; they are not stopped.
    #[serde(default)]
    pub jobs: Vec<BotId>,
    /// Why the next agent will not know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unkept: Option<String>,
}

/// A bot something was done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its id.
    pub id: BotId,
    /// Its name.
    pub name: String,
    /// Why it does not run all the same, or why that it was stopped is not remembered.
    pub but: Option<String>,
}

/// A request and where its answer goes. An asker that is gone is no error.
#[derive(Debug)]
pub enum Request {
    /// How all bots are.
    Rows(Sender<Vec<Row>>),
    /// What bots use of the host now.
    Usage(Sender<Used>),
    /// The latest records of the bot that is called so, so many.
    History(String, usize, Sender<Result<(BotId, Answer), Unclear>>),
    /// Do something with the bot that is called so.
    Do(String, Verb, Sender<Result<Done, Unclear>>),
    /// Bots that run at times.
    Schedules(Sender<Vec<Planned>>),
    /// Run the next tick of the bot that is called so now; tried so often again while something of it is being written.
    RunNow(String, u32, Sender<Result<Done, Unclear>>),
    /// The latest jobs, so many.
    Jobs(usize, Sender<Result<Vec<Job>, NoJob>>),
    /// The job of this id.
    Job(String, Sender<Result<Job, NoJob>>),
    /// Cancel it; gives how far it was.
    CancelJob(String, Sender<Result<Job, NoJob>>),
    /// Who answers for the bot that is called so.
    Target(Whom, Sender<Result<Target, Refusal>>),
    /// The bots that are missing were removed on purpose.
    Confirm(Sender<Vec<BotId>>),
    /// Let all bots run as they are wanted, or none; tells how far that is.
    Switch(Switch, Sender<Turned>),
    /// Start bots anew whose containers are not as the operator wants them now, so many at a time at most.
    Roll(usize, Sender<Result<Vec<BotId>, String>>),
    /// The same, once it is known which images there are.
    RollTo(
        HashMap<BotId, String>,
        usize,
        Sender<Result<Vec<BotId>, String>>,
    ),
    /// Remove what is left over, of all bots or of those that are called so.
    Collect(Vec<String>, Unsaved, Sender<Result<Vec<Left>, String>>),
}

impl Request {
    /// Does it and answers.
    pub fn answer(self, world: &mut World) {
        match self {
            Request::Rows(to) => rows(world, to),
            Request::Usage(to) => usage(world, to),
            Request::History(word, count, to) => recall(world, &word, count, to),
            Request::Do(word, verb, to) => drop(to.send(order(world, &word, verb))),
            Request::Schedules(to) => drop(to.send(times::planned(world))),
            Request::RunNow(word, tries, to) => times::run_now(world, word, tries, to),
            Request::Jobs(count, to) => jobs::list(world, count, to),
            Request::Job(id, to) => jobs::show(world, id, to),
            Request::CancelJob(id, to) => jobs::cancel(world, id, to),
            Request::Target(whom, to) => drop(to.send(questions::target(world, &whom))),
            Request::Confirm(to) => drop(to.send(world.confirm().into_iter().collect())),
            Request::Switch(switch, to) => drop(to.send(turn(world, switch))),
            Request::Roll(most, to) => roll(world, most, to),
            Request::RollTo(images, most, to) => drop(to.send(Ok(roll_to(world, &images, most)))),
            Request::Collect(words, unsaved, to) => drop(to.send(collect(world, &words, unsaved))),
        }
    }
}

fn rows(world: &World, to: Sender<Vec<Row>>) {
    let sources = sources(world);
    match &world.engine {
        Engine::Process(_) => {
            let paths = |id: &BotId| Records::read(&world.host.paths(id));
            let _ = to.send(table(&sources, paths));
        }
        Engine::Docker(docker) => {
            let ids: Vec<BotId> = sources.iter().map(|from| from.id.clone()).collect();
            let records = docker.records(&ids);
            let addresses: HashMap<BotId, SocketAddr> = ids
                .iter()
                .filter_map(|id| Some((id.clone(), docker.address(id)?)))
                .collect();
            tokio::spawn(async move {
                let mut records = records.await;
                let of = |id: &BotId| {
                    let mut records = records.remove(id).unwrap_or_default();
                    let listening = |address| Listening { address, pid: 0 };
                    records.listening = addresses.get(id).copied().map(listening);
                    records
                };
                let _ = to.send(table(&sources, of));
            });
        }
        Engine::Kubernetes(cluster) => rows_of_pods(cluster, sources, to),
    }
}

/// What a Pod's own status tells is known already; what is saved of one that runs is asked for.
fn rows_of_pods(cluster: &kubernetes::Engine, sources: Vec<Sources>, to: Sender<Vec<Row>>) {
    let ids: Vec<BotId> = sources.iter().map(|from| from.id.clone()).collect();
    let records = cluster.records_asked(&ids);
    tokio::spawn(async move {
        let mut records = records.await;
        let of = |id: &BotId| records.remove(id).unwrap_or_default();
        let _ = to.send(table(&sources, of));
    });
}

fn usage(world: &World, to: Sender<Used>) {
    match &world.engine {
        Engine::Process(_) => {
            let instances = world.instances().into_iter();
            let roots = instances.filter_map(|(bot, instance)| Some((bot, instance.pid?)));
            let usage = usage::of_processes(roots.collect());
            tokio::spawn(async move { drop(to.send(usage.await.into())) });
        }
        Engine::Docker(docker) => {
            let usage = docker.usage();
            tokio::spawn(async move { drop(to.send(usage.await.into())) });
        }
        Engine::Kubernetes(cluster) => {
            let usage = cluster.usage();
            tokio::spawn(async move { drop(to.send(usage.await)) });
        }
    }
}

fn recall(world: &World, word: &str, count: usize, to: Sender<Result<(BotId, Answer), Unclear>>) {
    // One that is gone has a history, too.
    let found = find(world, word).map(|known| known.id);
    let id = match found.or_else(|unclear| word.parse().map_err(|_| unclear)) {
        Ok(id) => id,
        Err(unclear) => return drop(to.send(Err(unclear))),
    };
    let (answer_to, answer) = oneshot::channel();
    world.recall(&id, count, answer_to);
    tokio::spawn(async move {
        if let Ok(answer) = answer.await {
            let _ = to.send(Ok((id, answer)));
        }
    });
}

fn table(sources: &[Sources], mut records: impl FnMut(&BotId) -> Records) -> Vec<Row> {
    let rows = sources
        .iter()
        .map(|from| report::row(from, records(&from.id)));
    let mut rows: Vec<Row> = rows.collect();
    rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    rows
}

/// What is known of all bots without their own records.
pub fn sources(world: &World) -> Vec<Sources> {
    let mut instances = world.instances();
    let bots = &world.listing.bots;
    let listed = bots
        .iter()
        .filter(|(id, l)| l.offer != Offer::Gone || instances.contains_key(*id));
    let mut ids: Vec<BotId> = listed
        .map(|(id, _)| id)
        .chain(instances.keys())
        .cloned()
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let (unsaved, how, sight) = match &world.engine {
        Engine::Process(_) => (Vec::new(), report::Rest::Kept, Sight::Clear),
        Engine::Docker(docker) if docker.is_seen() => {
            (docker.unsaved(), report::Rest::Kept, Sight::Clear)
        }
        Engine::Kubernetes(cluster) if cluster.is_seen() => {
            (cluster.went_unsaved(), report::Rest::Lost, Sight::Clear)
        }
        Engine::Docker(_) | Engine::Kubernetes(_) => {
            (Vec::new(), report::Rest::Kept, Sight::Unseen)
        }
    };
    let of = |id: BotId| Sources {
        name: (!bots.contains_key(&id))
            .then(|| world.name_of(&id))
            .flatten(),
        listed: bots.get(&id).map(Arc::clone),
        instance: instances.remove(&id),
        stopped: world.stopped.contains(&id) || world.switch == Switch::Off,
        held: world.held.contains(&id),
        unsaved: unsaved.contains(&id).then_some(how),
        sight,
        timing: world.timing(&id).cloned(),
        id,
    };
    ids.into_iter().map(of).collect()
}

fn turn(world: &mut World, switch: Switch) -> Turned {
    let is_new = std::mem::replace(&mut world.switch, switch) != switch;
    let unkept = world.save_switch();
    if is_new
        && switch == Switch::On
        && let Some(history) = &mut world.history
    {
        history.track.let_go();
    }
    if is_new {
        world.console.say(match switch {
            Switch::On => "bots run again as they are wanted",
            Switch::Off => "all bots are stopped, and none is started until `agent start --all`",
        });
    }
    if switch == Switch::Off {
        world.said.extend(world.engine.instances().into_keys());
    }
    let is_over = |instance: &Instance| matches!(instance.actual.phase, Phase::Ended(_));
    let (mut unsaved, mut lost) = (Vec::new(), Vec::new());
    let (known, live) = match &world.engine {
        Engine::Process(_) => {
            let live = world.instances().into_iter().filter(|(_, i)| !is_over(i));
            (true, live.map(|(id, _)| id).collect())
        }
        Engine::Docker(docker) => {
            unsaved = docker.unsaved();
            (docker.is_ready(), docker.live())
        }
        Engine::Kubernetes(cluster) => {
            lost = cluster.went_unsaved();
            let live = cluster.live().into_iter().collect();
            (cluster.is_live_known(), live)
        }
    };
    let names = |ids: Vec<BotId>| {
        let name = |id: &BotId| match world.listing.get(id) {
            Some(listed) => listed.name.clone(),
            None => world.name_of(id).unwrap_or_else(|| id.to_string()),
        };
        let mut names: Vec<String> = ids.iter().map(name).collect();
        names.sort();
        names
    };
    world.turn_jobs();
    let jobs = world.jobs.as_ref().map(|queue| queue.turns.running());
    Turned {
        known,
        live: names(live),
        unsaved: names(unsaved),
        lost: names(lost),
        jobs: jobs.unwrap_or_default(),
        unkept,
    }
}

fn roll(world: &mut World, most: usize, to: Sender<Result<Vec<BotId>, String>>) {
    if world.roll.is_some() {
        let why = "a roll is under way: the agent's log tells how it goes";
        return drop(to.send(Err(why.to_owned())));
    }
    let runtime = |id: &BotId| Some((id.clone(), world.listing.bot(id)?.definition.runtime));
    let bots: HashMap<BotId, Runtime> = world.instances().keys().filter_map(runtime).collect();
    match &world.engine {
        Engine::Process(_) => {
            let why = "bots are processes here: there is no container to roll; `agent restart` starts one anew";
            drop(to.send(Err(why.to_owned())));
        }
        Engine::Docker(docker) => {
            let images = docker.images(bots.into_iter().collect());
            let requests = world.requests.clone();
            tokio::spawn(async move {
                match images.await {
                    Ok(images) => drop(requests.send(Request::RollTo(images, most, to))),
                    Err(why) => drop(to.send(Err(why))),
                }
            });
        }
        Engine::Kubernetes(cluster) => {
            let behind = cluster.behind(&bots);
            drop(to.send(Ok(roll_behind(world, behind, most))));
        }
    }
}

fn roll_to(world: &mut World, images: &HashMap<BotId, String>, most: usize) -> Vec<BotId> {
    let Engine::Docker(docker) = &world.engine else {
        return Vec::new();
    };
    let behind = docker.behind(images);
    roll_behind(world, behind, most)
}

fn roll_behind(world: &mut World, behind: Vec<BotId>, most: usize) -> Vec<BotId> {
    let count = behind.len();
    if count > 0 && world.roll.is_none() {
        world
            .console
            .say(&format!("rolling {count} bots, {most} at a time at most"));
        world.roll = Some(Roll::new(behind.iter().cloned(), most));
    }
    behind
}

fn collect(world: &mut World, words: &[String], unsaved: Unsaved) -> Result<Vec<Left>, String> {
    let known = |word: &String| {
        let found = find(world, word).map(|known| known.id);
        // One that is gone from the listing has no name any more.
        found.or_else(|unclear| word.parse().map_err(|_| unclear.to_string()))
    };
    let bots = words
        .iter()
        .map(known)
        .collect::<Result<Vec<BotId>, String>>()?;
    match &mut world.engine {
        // What is left of a Pod goes by itself.
        Engine::Process(_) | Engine::Kubernetes(_) => Ok(Vec::new()),
        Engine::Docker(docker) => Ok(docker.collect_now(&bots, unsaved)),
    }
}

fn find(world: &World, word: &str) -> Result<Known, Unclear> {
    let listed = world.listing.bots.iter();
    let mut known: Vec<Known> = listed
        .map(|(id, l)| Known {
            id: id.clone(),
            name: l.name.clone(),
            alias: l.alias.clone(),
        })
        .collect();
    for id in world.instances().into_keys() {
        if !world.listing.bots.contains_key(&id) {
            let name = world.name_of(&id).unwrap_or_else(|| id.to_string());
            known.push(Known {
                id,
                name,
                alias: None,
            });
        }
    }
    id::find(word, &known).cloned()
}

fn order(world: &mut World, word: &str, verb: Verb) -> Result<Done, Unclear> {
    let Known { id, name, .. } = find(world, word)?;
    match verb {
        Verb::Stop => world.stopped.insert(id.clone()),
        Verb::Start | Verb::Restart => world.stopped.remove(&id),
    };
    let unkept = world.save_stopped();
    match verb {
        Verb::Restart => world.restart(&id),
        // One that has ended for good starts again because a person says so.
        Verb::Start => {
            world.asked(&id);
            world.engine.hope();
            world.engine.forget(&id);
            world.look_again();
        }
        Verb::Stop => drop(world.said.insert(id.clone())),
    }
    let but = match verb {
        Verb::Stop => unkept,
        Verb::Start | Verb::Restart => obstacle(world, &id).or(unkept),
    };
    Ok(Done { id, name, but })
}

/// Why a bot that a person wants to run does not.
fn obstacle(world: &World, id: &BotId) -> Option<String> {
    if world.switch == Switch::Off {
        return Some("all bots are stopped: `agent start --all` lets them run again".to_owned());
    }
    match &world.listing.get(id)?.offer {
        Offer::Bot(bot) if bot.enabled && bot.timetable.is_none() => None,
        Offer::Bot(bot) if bot.enabled => {
            let next = world.timing(id)?.next.map(shown)?;
            Some(format!("it runs at times, the next is {next}"))
        }
        Offer::Bot(_) => Some("it is disabled (enabled: false)".to_owned()),
        Offer::Unusable(why) => Some(why.clone()),
        Offer::Gone => Some("it was taken away".to_owned()),
    }
}
