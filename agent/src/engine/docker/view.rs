//! What may be known of the engine: for the plan, for requests, for the agent's end.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use contract::{BotId, ObjectKey, Runtime, Secret};
use futures_util::StreamExt;

use super::slot::{Slot, Work};
use super::{Engine, Link, files};
use crate::engine::Instance;
use crate::plan::Actual;
use crate::report::Records;
use crate::schedule::ledger::Key;

/// The port of the contract.
const QUERY_PORT: u16 = 9476;
/// Containers whose files are read at once.
const READS: usize = 8;
/// Time for reading the files of all: what has not come by then is left out.
const READING: Duration = Duration::from_secs(5);

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

    /// The tick for which a container of the bot was made and not started.
    pub fn made(&self, bot: &BotId) -> Option<Key> {
        self.made.get(bot).map(|(_, tick)| *tick)
    }

    /// The bot's instance.
    pub fn instance(&self, bot: &BotId) -> Option<&Instance> {
        self.slots.get(bot).map(|slot| &slot.instance)
    }

    /// Bots of which something runs or is under way.
    pub fn live(&self) -> Vec<BotId> {
        let live = self.slots.iter().filter(|(_, slot)| slot.is_live());
        live.map(|(bot, _)| bot.clone()).collect()
    }

    /// Where a running bot answers questions.
    pub fn address(&self, bot: &BotId) -> Option<SocketAddr> {
        let address = self.slots.get(bot)?.running.as_ref()?.address?;
        Some((address, QUERY_PORT).into())
    }

    /// What its `query` wants of whoever asks.
    pub fn query_token(&self, bot: &BotId) -> Option<Secret> {
        let running = self.slots.get(bot)?.running.as_ref()?;
        let stack = self.access.template.stack.as_str();
        self.access.keys.query_token(stack, bot, &running.began)
    }

    /// Whether the daemon has been listed and answers, so that one can decide.
    pub fn is_ready(&self) -> bool {
        self.link == Link::Up && self.listed >= self.needed
    }

    /// Whether the daemon answers, or why not.
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

    /// Reads what the programs in the containers of `bots` have written, as much as comes in a few seconds: from the
    /// daemon's folder of volumes where we may look into it, else through the daemon, which is dear.
    pub fn records(&self, bots: &[BotId]) -> impl Future<Output = HashMap<BotId, Records>> + use<> {
        let of = |bot: &BotId| {
            let slot = self.slots.get(bot);
            let running = slot.and_then(|slot| Some(slot.running.as_ref()?.id.clone()));
            let id = running.or_else(|| Some(self.husks.get(bot)?.id.clone()))?;
            let volume = format!("{}.var", self.access.template.stack.container(bot));
            let root = self.volumes.as_ref();
            let folder = root.map(|root| root.join(volume).join("_data"));
            Some((bot.clone(), id, folder))
        };
        let docker = self.access.docker.clone();
        let containers: Vec<(BotId, String, Option<PathBuf>)> = if self.link == Link::Up {
            bots.iter().filter_map(of).collect()
        } else {
            Vec::new()
        };
        async move {
            let read = |(bot, id, folder): (BotId, String, Option<PathBuf>)| {
                let docker = docker.clone();
                async move {
                    let here = folder.and_then(|folder| files::records_here(&folder));
                    let records = match here {
                        Some(records) => records,
                        None => files::records(&docker, &id).await.ok()?,
                    };
                    Some((bot, records))
                }
            };
            let reads = futures_util::stream::iter(containers)
                .map(read)
                .buffer_unordered(READS);
            let enough = Box::pin(tokio::time::sleep(READING));
            reads
                .take_until(enough)
                .filter_map(std::future::ready)
                .collect()
                .await
        }
    }

    /// The bots that run in a container which is not as it would be made now, when `images` are the ids of their images.
    pub fn behind(&self, images: &HashMap<BotId, String>) -> Vec<BotId> {
        let is_behind = |(bot, slot): &(&BotId, &Slot)| {
            let (Some(running), Some(image)) = (&slot.running, images.get(*bot)) else {
                return false;
            };
            running.template != self.access.template.digest(image).as_str()
        };
        let slots = self.slots.iter().filter(is_behind);
        slots.map(|(bot, _)| bot.clone()).collect()
    }

    /// Finds the images that the bots would be started with now.
    pub fn images(
        &self,
        bots: Vec<(BotId, Runtime)>,
    ) -> impl Future<Output = Result<HashMap<BotId, String>, String>> + use<> {
        let access = self.access.clone();
        async move {
            access.images.hope();
            let mut found = HashMap::new();
            for (bot, runtime) in bots {
                let name = access.template.image_for(runtime);
                let pull = access.template.pull;
                let id = access.images.ensure(&access.docker, &name, pull).await;
                found.insert(bot, id.map_err(|err| err.to_string())?);
            }
            Ok(found)
        }
    }
}
