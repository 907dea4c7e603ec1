//! What prints a bot's lines: a container, or the Pod of one. Pure.

use std::collections::BTreeMap;

use contract::BotId;

use crate::engine::Engine;
use crate::history::Birth;

/// Something that prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printer {
    /// What tells it from every other; its lines are marked with it.
    pub id: String,
    /// What it is asked for by.
    pub name: String,
    /// How far it is.
    pub life: Life,
}

/// How far it is, as far as the agent knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It has printed nothing yet.
    Coming,
    /// It prints, after so many restarts.
    Runs(u32),
    /// It has ended after so many restarts, and prints nothing before the next.
    Rests(u32),
    /// It has ended.
    Over,
}

impl Life {
    /// How often it was started again.
    pub fn restarts(self) -> u32 {
        match self {
            Self::Runs(restarts) | Self::Rests(restarts) => restarts,
            Self::Coming | Self::Over => 0,
        }
    }
}

/// What prints the lines of each bot of the engine.
pub fn printers(engine: &Engine) -> BTreeMap<BotId, Printer> {
    match engine {
        Engine::Kubernetes(cluster) => cluster.printers(),
        Engine::Docker(_) | Engine::Process(_) => {
            let births = engine.births().into_iter();
            births.filter_map(container).collect()
        }
    }
}

/// A container is one for all its life, and is not told of any more when it has ended.
fn container((bot, birth): (&BotId, &Birth)) -> Option<(BotId, Printer)> {
    let id = birth.container.clone()?;
    let printer = Printer {
        name: id.clone(),
        id,
        life: Life::Runs(0),
    };
    Some((bot.clone(), printer))
}
