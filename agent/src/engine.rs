//! Where bots run.

pub mod orphans;
mod prepare;
pub mod process;

use std::collections::BTreeMap;
use std::time::Duration;

use contract::BotId;

use crate::document::Bot;
use crate::plan::{Actual, Why};

/// Something that runs bots.
#[derive(Debug)]
pub enum Engine {
    /// As processes of this machine, children of the agent.
    Process(process::Process),
}

/// What a person may know about an instance beyond the plan's view of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The plan's view.
    pub actual: Actual,
    /// How it came to its end, or why it could not be started.
    pub reason: Option<String>,
    /// Its supervisor.
    pub pid: Option<i32>,
    /// How often its supervisor failed in a row.
    pub failures: u32,
}

/// An instance has ended, as the operating system tells it.
pub type Ending = (BotId, std::io::Result<std::process::ExitStatus>);

impl Engine {
    /// Starts the bot; that it cannot be started becomes its ending.
    pub fn start(&mut self, bot: &Bot, now: Duration) {
        match self {
            Engine::Process(process) => process.start(bot, now),
        }
    }

    /// Tells the bot to stop.
    pub fn stop(&mut self, bot: &BotId, why: Why, now: Duration) {
        match self {
            Engine::Process(process) => process.stop(bot, why, now),
        }
    }

    /// Drops what is known about a bot that has ended.
    pub fn forget(&mut self, bot: &BotId) {
        match self {
            Engine::Process(process) => process.forget(bot),
        }
    }

    /// Notes an ending.
    pub fn ended(&mut self, ending: Ending, now: Duration) {
        match self {
            Engine::Process(process) => process.ended(ending, now),
        }
    }

    /// Does what time has made due: stops that are overdue, leftovers.
    pub fn tick(&mut self, now: Duration) {
        match self {
            Engine::Process(process) => process.tick(now),
        }
    }

    /// Ends everything at once; what is unsaved is lost.
    pub fn abort(&mut self) {
        match self {
            Engine::Process(process) => process.abort(),
        }
    }

    /// All instances.
    pub fn instances(&self) -> BTreeMap<BotId, Instance> {
        match self {
            Engine::Process(process) => process.instances(),
        }
    }

    /// The code bundles of instances that are not over.
    pub fn code_in_use(&self) -> Vec<contract::ObjectKey> {
        match self {
            Engine::Process(process) => process.code_in_use(),
        }
    }

    /// Whether nothing runs and nothing is left over.
    pub fn is_idle(&self) -> bool {
        match self {
            Engine::Process(process) => process.is_idle(),
        }
    }
}
