//! Where bots run.

mod blank;
pub mod bounds;
mod chance;
pub mod docker;
pub mod keys;
pub mod kubernetes;
pub mod not_started;
pub mod orphans;
mod prepare;
pub mod process;
mod remote;
pub mod saved;
pub mod settings;
pub mod stack;
pub mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::BotId;
use contract::record::Reason;
use tokio::sync::oneshot;

use crate::bots::Listed;
use crate::document::Bot;
use crate::history::{Birth, End, Start};
use crate::plan::{self, Actual, Outcome, Why};
use crate::report::Records;
use crate::schedule::{self, decide::Whose, ledger::Key};
use crate::show::Voice;

/// Something that runs bots.
#[derive(Debug)]
pub enum Engine {
    /// As processes of this machine, children of the agent.
    Process(Box<process::Process>),
    /// As containers of a Docker daemon, which outlive the agent.
    Docker(Box<docker::Engine>),
    /// As Pods of a Kubernetes namespace, which outlive the agent.
    Kubernetes(Box<kubernetes::Engine>),
}

/// What a person may know about an instance beyond the plan's view of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The plan's view.
    pub actual: Actual,
    /// How it came to its end, or why it could not be started.
    pub reason: Option<String>,
    /// What keeps it from its work though it is there, where the engine tells.
    pub trouble: Option<String>,
    /// Its supervisor, while it lives; in a container 1.
    pub pid: Option<i32>,
    /// How often its supervisor failed in a row.
    pub failures: u32,
    /// When it was started or found, by the loop's clock, where the engine tells.
    pub since: Option<Duration>,
    /// The name it was started under, where the engine tells.
    pub name: Option<String>,
    /// Its container's id.
    pub container: Option<String>,
    /// The id of its container's image.
    pub image: Option<String>,
    /// What it was made of, and why, where it came as far as that.
    pub birth: Option<Birth>,
    /// How its supervisor ended, once it has.
    pub exit: Option<Exit>,
}

/// How a supervisor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote down about the last run.
    pub reason: Option<Reason>,
}

impl Instance {
    /// One of which no more is known than the plan's view.
    pub fn new(actual: Actual) -> Self {
        Self {
            actual,
            reason: None,
            trouble: None,
            pid: None,
            failures: 0,
            since: None,
            name: None,
            container: None,
            image: None,
            birth: None,
            exit: None,
        }
    }
}

/// What history wants to know.
#[derive(Debug)]
pub enum Told {
    /// A supervisor has ended, and what its bot's files say then. Why it was stopped is not the engine's to know.
    Over {
        /// Whose.
        bot: BotId,
        /// What it was made of.
        birth: Birth,
        /// How it ended.
        end: End,
        /// What was written.
        records: Box<Records>,
        /// Failures in a row, this one included.
        failures: u32,
        /// Dropped when it is written down, or never will be; `None` where nobody waits for that.
        noted: Option<oneshot::Sender<()>>,
    },
    /// Runs have ended of a bot that goes on, and what is known of them.
    Ran {
        /// Whose.
        bot: BotId,
        /// What it was made of.
        birth: Birth,
        /// What was written.
        records: Box<Records>,
    },
    /// A start came to nothing.
    NotStarted {
        /// Whose.
        bot: BotId,
        /// Its name.
        name: String,
        /// Which.
        start: Start,
        /// Why not.
        why: String,
        /// Failures in a row, this one included.
        failures: u32,
    },
}

/// An instance has ended, as the operating system tells it.
pub type Ending = (BotId, std::io::Result<std::process::ExitStatus>);

/// What an engine tells the loop that owns it.
#[derive(Debug)]
pub enum News {
    /// A process has ended.
    Process(Ending),
    /// Something has happened at the daemon.
    Docker(docker::News),
    /// Something has happened in the cluster.
    Kubernetes(Box<kubernetes::News>),
    /// A word about a schedule was written, or was not.
    Schedule(Box<schedule::News>),
}

/// What becomes of bots when the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bond {
    /// They end with it.
    Together,
    /// They run on.
    Apart,
}

impl Engine {
    /// Starts the bot; that it cannot be started becomes its ending.
    pub fn start(&mut self, bot: &Bot, start: Start, now: Duration) {
        match self {
            Engine::Process(process) => process.start(bot, start, now),
            Engine::Docker(docker) => docker.start(bot, start, now),
            Engine::Kubernetes(cluster) => cluster.start(bot, start, now),
        }
    }

    /// What has happened since it was last asked, for history.
    pub fn told(&mut self) -> Vec<Told> {
        match self {
            Engine::Process(process) => process.told(),
            Engine::Docker(docker) => docker.told(),
            Engine::Kubernetes(cluster) => cluster.told(),
        }
    }

    /// What each instance that runs was made of.
    pub fn births(&self) -> Vec<(&BotId, &Birth)> {
        match self {
            Engine::Process(process) => process.births(),
            Engine::Docker(docker) => docker.births(),
            Engine::Kubernetes(cluster) => cluster.births(),
        }
    }

    /// What the bot's last instance was made of, if that is known, and whether anything of it was here already.
    pub fn before(&self, bot: &BotId) -> (Option<Birth>, bool) {
        match self {
            Engine::Process(process) => process.before(bot),
            Engine::Docker(docker) => docker.before(bot),
            Engine::Kubernetes(cluster) => cluster.before(bot),
        }
    }

    /// The tick for which a container of the bot was made and not started.
    pub fn made(&self, bot: &BotId) -> Option<Key> {
        match self {
            Engine::Process(_) => None,
            Engine::Docker(docker) => docker.made(bot),
            Engine::Kubernetes(cluster) => cluster.made(bot),
        }
    }

    /// Removes the container that was made for a tick of the bot and not started; it is looked anew then.
    pub fn unmake(&mut self, bot: &BotId) {
        match self {
            Engine::Process(_) => {}
            Engine::Docker(docker) => docker.unmake(bot),
            Engine::Kubernetes(cluster) => cluster.unmake(bot),
        }
    }

    /// The bot's instance.
    pub fn instance(&self, bot: &BotId) -> Option<&Instance> {
        match self {
            Engine::Process(process) => process.instance(bot),
            Engine::Docker(docker) => docker.instance(bot),
            Engine::Kubernetes(cluster) => cluster.instance(bot),
        }
    }

    /// Tells the bot to stop.
    pub fn stop(&mut self, bot: &BotId, why: Why, now: Duration) {
        match self {
            Engine::Process(process) => process.stop(bot, why, now),
            Engine::Docker(docker) => docker.stop(bot, why, now),
            Engine::Kubernetes(cluster) => cluster.stop(bot, why, now),
        }
    }

    /// Drops what is known about a bot that has ended.
    pub fn forget(&mut self, bot: &BotId) {
        match self {
            Engine::Process(process) => process.forget(bot),
            Engine::Docker(docker) => docker.forget(bot),
            Engine::Kubernetes(cluster) => cluster.forget(bot),
        }
    }

    /// Takes in what has happened.
    pub fn take(&mut self, news: News, now: Duration) {
        match (self, news) {
            (Engine::Process(process), News::Process(ending)) => process.ended(ending, now),
            (Engine::Docker(docker), News::Docker(news)) => docker.take(news, now),
            (Engine::Kubernetes(cluster), News::Kubernetes(news)) => cluster.take(*news, now),
            (_, News::Process(_) | News::Docker(_) | News::Kubernetes(_) | News::Schedule(_)) => {}
        }
    }

    /// Does what time has made due: stops that are overdue, leftovers.
    pub fn tick(&mut self, now: Duration) {
        match self {
            Engine::Process(process) => process.tick(now),
            Engine::Docker(docker) => docker.tick(now),
            Engine::Kubernetes(cluster) => cluster.tick(now),
        }
    }

    /// Removes what is left over of bots; `is_listed` tells those that there are, `is_held` those of which it is needed.
    pub fn collect(
        &mut self,
        is_listed: impl Fn(&BotId) -> bool,
        is_held: impl Fn(&BotId, Option<Key>) -> bool,
        now: Duration,
    ) {
        match self {
            Engine::Process(_) => {}
            Engine::Docker(docker) => docker.collect(is_listed, |bot| is_held(bot, None), now),
            Engine::Kubernetes(cluster) => cluster.collect(is_listed, is_held, now),
        }
    }

    /// Ends everything at once that ends with the agent; what is unsaved is lost.
    pub fn abort(&mut self) {
        match self {
            Engine::Process(process) => process.abort(),
            Engine::Docker(_) | Engine::Kubernetes(_) => {}
        }
    }

    /// All instances.
    pub fn instances(&self) -> BTreeMap<BotId, Instance> {
        match self {
            Engine::Process(process) => process.instances(),
            Engine::Docker(docker) => docker.instances(),
            Engine::Kubernetes(cluster) => cluster.instances(),
        }
    }

    /// The plan's view of all instances.
    pub fn actual(&self) -> BTreeMap<BotId, Actual> {
        match self {
            Engine::Process(process) => process.actual(),
            Engine::Docker(docker) => docker.actual(),
            Engine::Kubernetes(cluster) => cluster.actual(),
        }
    }

    /// The code bundles of instances that are not over.
    pub fn code_in_use(&self) -> Vec<contract::ObjectKey> {
        match self {
            Engine::Process(process) => process.code_in_use(),
            Engine::Docker(docker) => docker.code_in_use(),
            Engine::Kubernetes(cluster) => cluster.code_in_use(),
        }
    }

    /// Whether nothing runs and nothing is left over.
    pub fn is_idle(&self) -> bool {
        match self {
            Engine::Process(process) => process.is_idle(),
            Engine::Docker(docker) => docker.is_idle(),
            Engine::Kubernetes(cluster) => cluster.is_idle(),
        }
    }

    /// Whether it knows what runs, so that one can decide.
    pub fn is_ready(&self) -> bool {
        match self {
            Engine::Process(_) => true,
            Engine::Docker(docker) => docker.is_ready(),
            Engine::Kubernetes(cluster) => cluster.is_ready(),
        }
    }

    /// A person acts: what could not be had is asked for again at once.
    pub fn hope(&self) {
        match self {
            Engine::Process(_) | Engine::Kubernetes(_) => {}
            Engine::Docker(docker) => docker.hope(),
        }
    }

    /// What is known may be old: it is not ready before it has looked anew.
    pub fn look_anew(&mut self) {
        match self {
            Engine::Process(_) => {}
            Engine::Docker(docker) => docker.look_anew(),
            Engine::Kubernetes(cluster) => cluster.look_anew(),
        }
    }

    /// Whether there is a clock of the engine's own that can have schedules.
    pub fn keeps_a_clock(&self) -> bool {
        matches!(self, Engine::Kubernetes(_))
    }

    /// Whether schedules are given to that clock.
    pub fn gives_to_a_clock(&self) -> bool {
        match self {
            Engine::Process(_) | Engine::Docker(_) => false,
            Engine::Kubernetes(cluster) => cluster.gives_to_a_clock(),
        }
    }

    /// Whether another runner has the bot, beside which nothing of it is started.
    pub fn is_anothers(&self, bot: &BotId) -> bool {
        match self {
            // Docker's tells it of each start.
            Engine::Process(_) | Engine::Docker(_) => false,
            Engine::Kubernetes(cluster) => cluster.is_anothers(bot),
        }
    }

    /// Who starts the bot's ticks.
    pub fn whose(&self, bot: &BotId) -> Whose {
        match self {
            Engine::Process(_) | Engine::Docker(_) => Whose::Ours,
            Engine::Kubernetes(cluster) => cluster.whose(bot),
        }
    }

    /// Whether who starts the bot's ticks can be changed now.
    pub fn can_hand(&self, bot: &BotId) -> bool {
        match self {
            Engine::Process(_) | Engine::Docker(_) => false,
            Engine::Kubernetes(cluster) => cluster.can_hand(bot),
        }
    }

    /// Bots whose ticks the engine's own clock starts.
    pub fn clocked_all(&self) -> impl Iterator<Item = &BotId> {
        let cluster = match self {
            Engine::Process(_) | Engine::Docker(_) => None,
            Engine::Kubernetes(cluster) => Some(cluster),
        };
        cluster
            .into_iter()
            .flat_map(|cluster| cluster.clocked_all())
    }

    /// Bots whose ticks the engine's own clock was about to get, when an agent went or stood still.
    pub fn clocked_off(&self) -> impl Iterator<Item = &BotId> {
        let cluster = match self {
            Engine::Process(_) | Engine::Docker(_) => None,
            Engine::Kubernetes(cluster) => Some(cluster),
        };
        cluster
            .into_iter()
            .flat_map(|cluster| cluster.clocked_off())
    }

    /// Bots of which something is there that the engine's own clock has started.
    pub fn clocked(&self) -> impl Iterator<Item = &BotId> {
        let cluster = match self {
            Engine::Process(_) | Engine::Docker(_) => None,
            Engine::Kubernetes(cluster) => Some(cluster),
        };
        cluster.into_iter().flat_map(|cluster| cluster.clocked())
    }

    /// Bots whose place with the engine's own clock has changed since this was asked last.
    pub fn moved(&mut self) -> BTreeSet<BotId> {
        match self {
            Engine::Process(_) | Engine::Docker(_) => BTreeSet::new(),
            Engine::Kubernetes(cluster) => cluster.moved(),
        }
    }

    /// Whether the engine's own clock has the bot of this row as the row is now.
    pub fn is_clocked_as(&self, row: &Listed) -> bool {
        match self {
            Engine::Process(_) | Engine::Docker(_) => true,
            Engine::Kubernetes(cluster) => cluster.is_clocked_as(row),
        }
    }

    /// Its own clock gets the schedule of this row.
    pub fn hand_over(&mut self, row: &Listed) {
        if let Engine::Kubernetes(cluster) = self {
            cluster.hand_over(row);
        }
    }

    /// Its own clock has the bot's schedule no longer.
    pub fn take_back(&mut self, bot: &BotId) {
        if let Engine::Kubernetes(cluster) = self {
            cluster.take_back(bot);
        }
    }

    /// Whether a start is under way.
    pub fn is_starting(&self) -> bool {
        match self {
            Engine::Process(_) => false,
            Engine::Docker(docker) => docker.is_starting(),
            Engine::Kubernetes(cluster) => cluster.is_starting(),
        }
    }

    /// What becomes of bots when the agent ends.
    pub fn bond(&self) -> Bond {
        match self {
            Engine::Process(_) => Bond::Together,
            Engine::Docker(_) | Engine::Kubernetes(_) => Bond::Apart,
        }
    }
}

/// Tells how the run of a tick ended: what comes next is the schedule's to say.
fn tell_tick(voice: &Voice<'_>, reason: &str, outcome: Outcome) {
    match outcome {
        Outcome::Stopped | Outcome::Completed => voice.say(reason),
        Outcome::Failed | Outcome::Refused | Outcome::Busy => voice.warn(reason),
    }
}

/// Tells how an instance ended and what comes next.
fn tell(voice: &Voice<'_>, reason: &str, outcome: Outcome, failures: u32) {
    match outcome {
        Outcome::Stopped => voice.say(reason),
        Outcome::Completed => {
            voice.say(&format!("{reason}; `agent restart` runs it again"));
        }
        Outcome::Failed => {
            let pause = humantime::format_duration(plan::pause(failures));
            voice.warn(&format!("{reason}; starting it again in {pause}"));
        }
        Outcome::Refused | Outcome::Busy => {
            let remedy = "it waits for a change or `agent restart`";
            voice.warn(&format!("{reason}; {remedy}"));
        }
    }
}
