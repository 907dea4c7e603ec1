//! Who answers a question: the bot that runs, or an instance of its own.

use std::net::SocketAddr;

use contract::record::Listening;
use contract::{BotId, BotType, Secret, file};

use super::{Known, find};
use crate::ask::Refusal;
use crate::bots::Offer;
use crate::document::Bot;
use crate::engine::Engine;
use crate::id::Unclear;
use crate::reconcile::World;

/// The bot that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// The one of this id, whatever others are called.
    Id(String),
    /// The one that a person calls so.
    Word(String),
}

/// Who answers.
#[derive(Debug)]
pub enum Target {
    /// The bot's own `query`, at this address, with what it wants of whoever asks.
    Live(BotId, SocketAddr, Option<Secret>),
    /// Nobody who runs: its code, on a copy of its last state.
    Apart(Box<Bot>),
    /// It is not known yet what there is.
    Later,
}

/// Who answers for a bot.
///
/// # Errors
/// Nobody does.
pub fn target(world: &World, whom: &Whom) -> Result<Target, Refusal> {
    let (Whom::Id(word) | Whom::Word(word)) = whom;
    let known = match whom {
        Whom::Id(id) => exact(world, id),
        Whom::Word(word) => find(world, word).map_err(|unclear| match unclear {
            Unclear::Nobody { .. } => Refusal::Unknown(word.clone()),
            several @ Unclear::Several { .. } => {
                Refusal::Unclear(format!("bot not found: {several}"))
            }
        }),
    };
    let Known { id, name, .. } = match known {
        Err(Refusal::Unknown(_)) if !world.is_listed() => return Ok(Target::Later),
        known => known?,
    };
    let listed = world.listing.get(&id);
    let bot = match listed.map(|listed| &listed.offer) {
        Some(Offer::Gone) => return Err(Refusal::Unknown(word.clone())),
        Some(Offer::Unusable(why)) => return Err(Refusal::Failed(why.clone())),
        Some(Offer::Bot(bot)) => Some(bot),
        None => None,
    };
    if bot.is_some_and(|bot| bot.definition.query.is_none()) {
        return Err(Refusal::Mute(name));
    }
    // Who runs at times has no `query` beside it.
    let is_realtime = bot.is_none_or(|bot| bot.definition.kind == BotType::Realtime);
    let (address, token, is_seen) = match &world.engine {
        Engine::Docker(docker) => (
            docker.address(&id),
            docker.query_token(&id),
            docker.is_seen(),
        ),
        Engine::Kubernetes(cluster) => (
            cluster.address(&id),
            cluster.query_token(&id),
            cluster.is_seen(),
        ),
        Engine::Process(_) => {
            let live = world.instances();
            let live = live.get(&id).is_some_and(|instance| instance.pid.is_some());
            let path = world.host.paths(&id).listening();
            let listening: Option<Listening> = file::read_json(&path).ok().flatten();
            return match listening {
                Some(listening) if live => Ok(Target::Live(id, listening.address, None)),
                _ => Err(Refusal::Down(name)),
            };
        }
    };
    match (address.filter(|_| is_realtime), bot) {
        (Some(address), _) => Ok(Target::Live(id, address, token)),
        _ if !is_seen => Ok(Target::Later),
        (None, Some(bot)) => Ok(Target::Apart(Box::new((**bot).clone()))),
        (None, None) => Err(Refusal::Down(name)),
    }
}

fn exact(world: &World, word: &str) -> Result<Known, Refusal> {
    let unknown = || Refusal::Unknown(word.to_owned());
    let id: BotId = word.parse().map_err(|_| unknown())?;
    let name = match world.listing.get(&id) {
        Some(listed) => Some(listed.name.clone()),
        None => world.name_of(&id),
    };
    let name = name.ok_or_else(unknown)?;
    Ok(Known {
        id,
        name,
        alias: None,
    })
}
