//! What may be known of the engine: for the plan, for requests, for the agent's end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use contract::record::Listening;
use contract::{BotId, ObjectKey, Runtime, Secret};

use super::containers::QUERY_PORT;
use super::seen::Seen;
use super::slot::{Slot, Work};
use super::{Engine, Link, Stage, TOLD};
use crate::engine::{Instance, Told};
use crate::history::Birth;
use crate::live::printer::Printer;
use crate::plan::Actual;
use crate::report::Records;

impl Engine {
    /// All instances.
    pub fn instances(&self) -> BTreeMap<BotId, Instance> {
        let slots = self.slots.iter();
        slots
            .map(|(id, slot)| (id.clone(), slot.instance.clone()))
            .collect()
    }

    /// The plan's view of all instances.
    pub fn actual(&self) -> BTreeMap<BotId, Actual> {
        let slots = self.slots.iter();
        slots
            .map(|(id, slot)| (id.clone(), slot.instance.actual.clone()))
            .collect()
    }

    /// The bot's instance.
    pub fn instance(&self, bot: &BotId) -> Option<&Instance> {
        self.slots.get(bot).map(|slot| &slot.instance)
    }

    /// What has happened since it was last asked, for history.
    pub fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// What each Pod that runs was made of.
    pub fn births(&self) -> Vec<(&BotId, &Birth)> {
        let live = self.slots.iter();
        live.filter_map(|(bot, slot)| Some((bot, &slot.pod.as_ref()?.birth)))
            .collect()
    }

    /// What prints the lines of each bot.
    pub fn printers(&self) -> BTreeMap<BotId, Printer> {
        let of = |(bot, slot): (&BotId, &Slot)| {
            let pod = slot.pod.as_ref()?;
            let printer = Printer {
                id: pod.birth.container.clone()?,
                name: pod.name.clone(),
                life: pod.life(),
            };
            Some((bot.clone(), printer))
        };
        self.slots.iter().filter_map(of).collect()
    }

    /// What the bot's last Pod was made of, and whether anything of it was here already.
    pub fn before(&self, bot: &BotId) -> (Option<Birth>, bool) {
        let birth = self.instance(bot).and_then(|i| i.birth.clone());
        let is_known = birth.is_some() || self.pods.contains_key(bot);
        (birth, is_known)
    }

    /// Bots of which something runs or is under way, or may still be started by the cluster's clock.
    pub fn live(&self) -> BTreeSet<BotId> {
        let live = self.slots.iter().filter(|(_, slot)| slot.is_live());
        let live = live.map(|(bot, _)| bot);
        live.chain(self.times.ticking()).cloned().collect()
    }

    /// Whether it is known what [`Engine::live`] tells.
    pub fn is_live_known(&self) -> bool {
        self.is_ready() && self.times.is_known(self.access.clock)
    }

    /// Where a running bot answers questions.
    pub fn address(&self, bot: &BotId) -> Option<SocketAddr> {
        let pod = self.slots.get(bot)?.pod.as_ref()?;
        let runs = matches!(pod.stage, Stage::Running | Stage::Waiting);
        let address = pod.address.filter(|_| runs)?;
        Some((address, QUERY_PORT).into())
    }

    /// What its `query` wants of whoever asks.
    pub fn query_token(&self, bot: &BotId) -> Option<Secret> {
        let pod = self.slots.get(bot)?.pod.as_ref()?;
        let stack = self.access.template.stack.as_str();
        self.access.keys.query_token(stack, bot, &pod.began)
    }

    /// Whether the namespace has been listed and the API server answers, so that one can decide.
    pub fn is_ready(&self) -> bool {
        self.link == Link::Up && self.listed >= self.needed
    }

    /// Whether the API server answers, or why not.
    pub fn link(&self) -> Result<(), String> {
        self.link.answers()
    }

    /// Whether it was ever seen what runs.
    pub fn is_seen(&self) -> bool {
        self.link == Link::Up || !self.slots.is_empty()
    }

    /// Whether nothing runs and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.slots.values().all(|slot| !slot.is_live())
    }

    /// Whether a start is under way.
    pub fn is_starting(&self) -> bool {
        let starting = |slot: &Slot| matches!(slot.work, Work::Starting(_));
        self.slots.values().any(starting)
    }

    /// The code bundles of instances that are not over.
    pub fn code_in_use(&self) -> Vec<ObjectKey> {
        let live = self.slots.values().filter(|slot| slot.is_live());
        live.filter_map(|slot| slot.code.clone()).collect()
    }

    /// What the programs of the bot's Pod have told of themselves: all that is known without asking it.
    pub fn records(&self, bot: &BotId) -> Option<Records> {
        let slot = self.slots.get(bot)?;
        let mut records = slot.records();
        let listening = |address| Listening { address, pid: 0 };
        records.listening = self.address(bot).map(listening);
        Some(records)
    }

    /// Bots of which something may be gone with their last Pod: it is not known to be saved.
    pub fn went_unsaved(&self) -> Vec<BotId> {
        self.unsaved.keys().cloned().collect()
    }

    /// How many of these went so lately that an alert is due: none where another agent acts, which tells of its own.
    pub fn lately_unsaved(&self, now: Duration) -> usize {
        if !self.access.lease.may_act() {
            return 0;
        }
        let lately = self.unsaved.values().filter(|at| now < **at + TOLD);
        lately.count()
    }

    /// The same as [`Self::records`] of these, with what is saved of those that run and answer questions.
    pub fn records_asked(
        &self,
        bots: &[BotId],
    ) -> impl Future<Output = HashMap<BotId, Records>> + use<> {
        let known = bots
            .iter()
            .filter_map(|bot| Some((bot.clone(), self.records(bot)?)));
        let mut known: HashMap<BotId, Records> = known.collect();
        let synced = self.synced(bots);
        async move {
            for (bot, synced) in synced.await {
                if let Some(records) = known.get_mut(&bot) {
                    records.synced.get_or_insert(synced);
                }
            }
            known
        }
    }

    /// The bots that run in a Pod which is not as it would be made now.
    pub fn behind(&self, runtimes: &HashMap<BotId, Runtime>) -> Vec<BotId> {
        let is_behind = |pod: &Seen, runtime: Runtime| {
            // One that is over its limit of disk has what nobody else has.
            pod.template != self.access.template.digest(runtime).as_str() && !pod.is_outgrown()
        };
        let behind = runtimes.iter().filter(|(bot, runtime)| {
            let pod = self.slots.get(bot).and_then(|slot| slot.pod.as_ref());
            pod.is_some_and(|pod| is_behind(pod, **runtime))
        });
        behind.map(|(bot, _)| bot.clone()).collect()
    }
}
