//! What may be asked of a running agent, answered by the loop that owns the world.

use std::net::SocketAddr;

use contract::{BotId, file, record::Listening};
use tokio::sync::oneshot::Sender;

use crate::ask::Refusal;
use crate::bots::Offer;
use crate::id::{self, Known, Unclear};
use crate::reconcile::World;
use crate::report::{self, Row, Sources};

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

/// A bot something was done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its id.
    pub id: BotId,
    /// Its name.
    pub name: String,
    /// Why it does not run all the same.
    pub but: Option<String>,
}

/// A request and where its answer goes. An asker that is gone is no error.
#[derive(Debug)]
pub enum Request {
    /// How all bots are.
    Rows(Sender<Vec<Row>>),
    /// Do something with the bot that is called so.
    Do(String, Verb, Sender<Result<Done, Unclear>>),
    /// Where the bot that is called so answers questions.
    Where(String, Sender<Result<SocketAddr, Refusal>>),
    /// The bots that are missing were removed on purpose.
    Confirm(Sender<Vec<BotId>>),
}

impl Request {
    /// Does it and answers.
    pub fn answer(self, world: &mut World) {
        match self {
            Request::Rows(to) => drop(to.send(rows(world))),
            Request::Do(word, verb, to) => drop(to.send(order(world, &word, verb))),
            Request::Where(word, to) => drop(to.send(address(world, &word))),
            Request::Confirm(to) => drop(to.send(world.confirm().into_iter().collect())),
        }
    }
}

fn rows(world: &World) -> Vec<Row> {
    let instances = world.instances();
    let listed = world
        .listing
        .bots
        .iter()
        .filter(|(id, l)| l.offer != Offer::Gone || instances.contains_key(id));
    let mut ids: Vec<&BotId> = listed.map(|(id, _)| id).chain(instances.keys()).collect();
    ids.sort_unstable();
    ids.dedup();
    let row = |id: &BotId| {
        let sources = Sources {
            listed: world.listing.get(id),
            instance: instances.get(id),
            stopped: world.stopped.contains(id),
            held: world.held.contains(id),
        };
        let mut row = report::row(id, &sources, &world.host.paths(id));
        if sources.listed.is_none()
            && let Some(name) = world.name_of(id)
        {
            row.name = name;
        }
        row
    };
    let mut rows: Vec<Row> = ids.into_iter().map(row).collect();
    rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    rows
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
    let changed = match verb {
        Verb::Stop => world.stopped.insert(id.clone()),
        Verb::Start | Verb::Restart => world.stopped.remove(&id),
    };
    if changed {
        world.save_stopped();
    }
    match verb {
        Verb::Restart => world.restart(&id),
        // One that has ended for good starts again because a person says so.
        Verb::Start => world.engine.forget(&id),
        Verb::Stop => {}
    }
    let but = match verb {
        Verb::Stop => None,
        Verb::Start | Verb::Restart => obstacle(world, &id),
    };
    Ok(Done { id, name, but })
}

/// Why a bot that a person wants to run does not.
fn obstacle(world: &World, id: &BotId) -> Option<String> {
    match &world.listing.bots.get(id)?.offer {
        Offer::Bot(bot) if bot.enabled => None,
        Offer::Bot(_) => Some("it is disabled (enabled: false)".to_owned()),
        Offer::Unusable(why) => Some(why.clone()),
        Offer::Gone => Some("it was taken away".to_owned()),
    }
}

fn address(world: &World, word: &str) -> Result<SocketAddr, Refusal> {
    let refused = |unclear| match unclear {
        Unclear::Nobody { .. } => Refusal::Unknown(word.to_owned()),
        several @ Unclear::Several { .. } => Refusal::Unclear(format!("bot not found: {several}")),
    };
    let Known { id, name, .. } = find(world, word).map_err(refused)?;
    if world
        .listing
        .bot(&id)
        .is_some_and(|bot| bot.definition.query.is_none())
    {
        return Err(Refusal::Mute(name));
    }
    let live = world
        .instances()
        .get(&id)
        .is_some_and(|instance| instance.pid.is_some());
    let path = world.host.paths(&id).listening();
    let listening: Option<Listening> = file::read_json(&path).ok().flatten();
    match listening {
        Some(listening) if live => Ok(listening.address),
        _ => Err(Refusal::Down(name)),
    }
}
