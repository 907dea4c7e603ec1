//! What is left over: containers that have ended, and volumes without a container.
//!
//! A container that has ended is a *husk*: it holds the records by which one knows whether all that its volumes have is
//! in the store. A husk goes, with its volumes, when that is proven and the bot is not listed any more, or has not been
//! started again for a while. One that is not saved stays until the bot's next start saves it, or a person discards it.
//! Volumes without a container get a container that is never started, to be read through it.
//!
//! ```text
//! volumes alone ─▶ opening ─▶ saved ─────────────────▶ going ─▶ gone
//! container ended ──────┴───▶ unsaved ─▶ discarded ───────┘
//! ```
//!
//! Volumes are removed only together with the container that the verdict is about: if that is gone, somebody has been
//! here since, and they are looked into again.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveVolumeOptions};
use contract::BotId;

use super::refusal::{has_status, said};
use super::slot::{Slot, is_saved};
use super::start::{Removal, remove};
use super::{Access, Engine, Link, News, files, names};
use crate::report::Records;

/// Volumes that are looked into at once.
const OPENINGS: usize = 4;
/// How soon volumes that could not be looked into are tried again.
const OPEN_AGAIN: Duration = Duration::from_mins(10);

/// A container that has ended.
#[derive(Debug, Clone)]
pub struct Husk {
    /// The container's id; empty while it is being made.
    pub id: String,
    name: String,
    keeping: Keeping,
    since: Duration,
    /// The clock when it was noted: an older listing says nothing about it.
    touched: u64,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    /// It is being looked into.
    Opening,
    /// All that it had is in the store.
    Saved,
    /// That is not proven.
    Unsaved,
    /// The same, and it was told what to do about it.
    Told,
    /// A person wants it gone, saved or not.
    Discarded,
    /// It is being removed.
    Going,
}

/// Volumes without a container.
#[derive(Debug, Clone, Default)]
pub struct Loose {
    image: Option<String>,
    /// When they are tried again.
    not_before: Duration,
}

/// What a person may do about unsaved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaved {
    /// It stays.
    Keep,
    /// It goes.
    Discard,
}

/// One row of what was collected by hand.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Left {
    /// Whose it was.
    pub bot: BotId,
    /// Its name.
    pub name: String,
    /// What becomes of it, and why.
    pub what: String,
}

impl Loose {
    /// Some, and an image to look into them with.
    pub fn new(image: Option<String>) -> Self {
        Self {
            image,
            not_before: Duration::ZERO,
        }
    }
}

impl Husk {
    /// A container that has ended at `since`.
    pub fn new(id: String, name: String, saved: bool, since: Duration, touched: u64) -> Self {
        let keeping = if saved {
            Keeping::Saved
        } else {
            Keeping::Unsaved
        };
        Self {
            id,
            name,
            keeping,
            since,
            touched,
        }
    }

    /// Whether it is settled, so that a listing begun at `begun` without its container means that this is gone.
    pub fn is_settled(&self, begun: u64) -> bool {
        let busy = matches!(self.keeping, Keeping::Opening | Keeping::Going);
        !busy && self.touched <= begun
    }

    fn opening(id: String, name: String, since: Duration) -> Self {
        Self {
            id,
            name,
            keeping: Keeping::Opening,
            since,
            touched: 0,
        }
    }

    /// Whether it is the container with this id, or is being made.
    pub fn is(&self, id: &str) -> bool {
        self.keeping == Keeping::Opening || self.id == id
    }

    /// Why its bot cannot be started now.
    pub fn obstacle(&self) -> Option<&'static str> {
        match self.keeping {
            Keeping::Opening => Some("its volumes are being looked into"),
            Keeping::Going => Some("what was left of it is being removed"),
            _ => None,
        }
    }

    fn is_unsaved(&self) -> bool {
        matches!(self.keeping, Keeping::Unsaved | Keeping::Told)
    }
}

impl Engine {
    /// Removes what nobody needs; `is_listed` tells the bots that there are, `is_held` those the end of whose last run is
    /// not written down.
    pub fn collect(
        &mut self,
        is_listed: impl Fn(&BotId) -> bool,
        is_held: impl Fn(&BotId) -> bool,
        now: Duration,
    ) {
        if self.link != Link::Up {
            return;
        }
        self.remove_made(&is_held);
        self.open_volumes(&is_listed, now);
        let keep = self.access.template.keep;
        let mut going = Vec::new();
        for (bot, husk) in &mut self.husks {
            let due = match husk.keeping {
                Keeping::Saved => !is_listed(bot) || now.saturating_sub(husk.since) >= keep,
                Keeping::Discarded => true,
                Keeping::Unsaved if !is_listed(bot) => {
                    husk.keeping = Keeping::Told;
                    self.console.about(bot, &husk.name).warn(&format!(
                        "the bot is gone, and it is not proven that all it had is in the store: container and volumes {} are kept; `agent gc --discard-state {bot}` removes them",
                        self.access.template.stack.container(bot)
                    ));
                    false
                }
                _ => false,
            };
            if due && !is_held(bot) && self.slots.get(bot).is_none_or(|slot| !slot.is_live()) {
                husk.keeping = Keeping::Going;
                going.push((bot.clone(), husk.id.clone()));
            }
        }
        for (bot, id) in going {
            let (access, news) = (self.access.clone(), self.news.clone());
            tokio::spawn(async move {
                let removed = discard(&access, &bot, &id).await;
                let _ = news.send(News::Removed(bot, removed));
            });
        }
    }

    /// Removes the container that was made for a tick of the bot and not started. One that runs after all stays.
    pub fn unmake(&mut self, bot: &BotId) {
        let Some((id, _)) = self.made.remove(bot) else {
            return;
        };
        let (docker, again) = (self.access.docker.clone(), self.again.clone());
        tokio::spawn(async move {
            let _ = remove(&docker, &id).await;
            again.notify_one();
        });
        self.look_anew();
    }

    /// Removes containers of ticks that were made, not started, and are not going to be.
    fn remove_made(&mut self, is_held: impl Fn(&BotId) -> bool) {
        let idle = |bot: &BotId| self.slots.get(bot).is_none_or(|slot| !slot.is_live());
        let left = |(bot, _): &(&BotId, &(String, _))| !is_held(bot) && idle(bot);
        let left = self.made.iter().filter(left);
        let left: Vec<_> = left
            .map(|(bot, made)| (bot.clone(), made.0.clone()))
            .collect();
        for (bot, id) in left {
            self.made.remove(&bot);
            let docker = self.access.docker.clone();
            tokio::spawn(async move { remove(&docker, &id).await });
        }
    }

    /// What a person asked to be collected now: all that is saved of bots that do not run, and of `bots` what is not,
    /// too, if told so. Gives what becomes of each.
    pub fn collect_now(&mut self, bots: &[BotId], unsaved: Unsaved) -> Vec<Left> {
        let chosen = |bot: &BotId| bots.is_empty() || bots.contains(bot);
        let mut rows = Vec::new();
        for (bot, husk) in self.husks.iter_mut().filter(|(bot, _)| chosen(bot)) {
            if self.slots.get(bot).is_some_and(Slot::is_live) {
                continue;
            }
            let what = match husk.keeping {
                Keeping::Opening => "is being looked into",
                Keeping::Going | Keeping::Discarded => "is being removed",
                Keeping::Saved => {
                    husk.keeping = Keeping::Discarded;
                    "container and volumes are removed: all of it is in the store"
                }
                // Never of all at once: each is named.
                _ if unsaved == Unsaved::Discard && !bots.is_empty() => {
                    husk.keeping = Keeping::Discarded;
                    "container and volumes are removed, with state that may not be in the store"
                }
                _ => {
                    "kept: not all that it had is proven to be in the store; start it to save it, or --discard-state"
                }
            };
            rows.push(Left {
                bot: bot.clone(),
                name: husk.name.clone(),
                what: what.to_owned(),
            });
        }
        rows
    }

    /// Bots of which something is on this host's volumes only.
    pub fn unsaved(&self) -> Vec<BotId> {
        let unsaved = self.husks.iter().filter(|(_, husk)| husk.is_unsaved());
        unsaved.map(|(bot, _)| bot.clone()).collect()
    }

    pub(super) fn removed(&mut self, bot: &BotId, result: Result<(), String>) {
        let Some(husk) = self.husks.remove(bot) else {
            return;
        };
        let voice = self.console.about(bot, &husk.name);
        match result {
            Ok(()) => voice.say("its container and volumes are removed"),
            Err(why) => voice.warn(&format!("what is left of it stays: {why}")),
        }
    }

    /// Looks into volumes that have no container, of bots that are not about to get one.
    fn open_volumes(&mut self, is_listed: impl Fn(&BotId) -> bool, now: Duration) {
        let opening = |husk: &&Husk| husk.keeping == Keeping::Opening;
        let room = OPENINGS.saturating_sub(self.husks.values().filter(opening).count());
        let known = |bot: &BotId| self.slots.contains_key(bot) || self.husks.contains_key(bot);
        let due = self
            .loose
            .iter()
            .filter(|(bot, loose)| now >= loose.not_before && !known(bot) && !is_listed(bot));
        let due = due.filter_map(|(bot, loose)| Some((bot.clone(), loose.image.clone()?)));
        let due: Vec<(BotId, String)> = due.take(room).collect();
        for (bot, image) in due {
            let husk = Husk::opening(String::new(), bot.to_string(), now);
            self.husks.insert(bot.clone(), husk);
            let (access, news) = (self.access.clone(), self.news.clone());
            tokio::spawn(async move {
                let opened = open(&access, &bot, image).await;
                let _ = news.send(News::Opened(bot, Box::new(opened)));
            });
        }
    }

    /// Reads what is in a container that an agent before us made to look into volumes.
    pub(super) fn look_into(&mut self, bot: &BotId, id: String) {
        let husk = Husk::opening(id.clone(), bot.to_string(), Duration::ZERO);
        self.husks.insert(bot.clone(), husk);
        let (access, news, bot) = (self.access.clone(), self.news.clone(), bot.clone());
        tokio::spawn(async move {
            let read = read(&access, id).await;
            let _ = news.send(News::Opened(bot, Box::new(read)));
        });
    }

    pub(super) fn opened(
        &mut self,
        bot: &BotId,
        result: Result<(String, Records), String>,
        now: Duration,
    ) {
        self.husks.remove(bot);
        if self.slots.get(bot).is_some_and(Slot::is_live) {
            return;
        }
        match result {
            Ok((id, records)) => {
                let (saved, touched) = (is_saved(&records), self.clock.tick());
                let husk = Husk::new(id, bot.to_string(), saved, now, touched);
                self.husks.insert(bot.clone(), husk);
                self.loose.remove(bot);
            }
            Err(why) => {
                let loose = self.loose.entry(bot.clone()).or_default();
                if loose.not_before.is_zero() {
                    self.console.about(bot, bot.as_str()).warn(&format!(
                        "its volumes have no container and cannot be looked into: {why}; they stay"
                    ));
                }
                loose.not_before = now + OPEN_AGAIN;
            }
        }
    }
}

/// Removes a container that has ended, and then the volumes of its bot. A volume that is in use again stays.
async fn discard(access: &Access, bot: &BotId, id: &str) -> Result<(), String> {
    let removal = remove(&access.docker, id).await.map_err(|err| said(&err))?;
    if removal == Removal::Gone {
        return Err(
            "its container was removed by somebody; its volumes are looked into".to_owned(),
        );
    }
    for (volume, _) in access.template.stack.volumes(bot) {
        let removed = access
            .docker
            .remove_volume(&volume, None::<RemoveVolumeOptions>);
        match removed.await {
            Err(err) if !has_status(&err, 404) => return Err(said(&err)),
            _ => {}
        }
    }
    Ok(())
}

/// A container over the bot's volumes that is never started. It has the bot's name, so that it is the only one.
async fn open(access: &Access, bot: &BotId, image: String) -> Result<(String, Records), String> {
    let stack = &access.template.stack;
    let options = CreateContainerOptionsBuilder::default()
        .name(&stack.container(bot))
        .build();
    let mut labels = stack.labels(bot);
    labels.insert(names::PURPOSE.to_owned(), "records".to_owned());
    let body = ContainerCreateBody {
        image: Some(image),
        labels: Some(labels),
        host_config: Some(super::container::over_volumes(bot, stack)),
        ..ContainerCreateBody::default()
    };
    let made = access.docker.create_container(Some(options), body).await;
    let id = made.map_err(|err: Error| said(&err))?.id;
    read(access, id).await
}

async fn read(access: &Access, id: String) -> Result<(String, Records), String> {
    let records = files::records_of_ended(&access.docker, access.is_near, &id).await;
    match records.map_err(|err| said(&err))? {
        Some(records) => Ok((id, records)),
        None => Err("the container made for it is gone".to_owned()),
    }
}

#[cfg(test)]
mod tests;
