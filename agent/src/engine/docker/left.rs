//! What is left over: containers that have ended, and volumes without a container.
//!
//! A container that has ended is a *husk*: it holds the records by which one knows whether all that its volumes have is
//! in the store. A husk goes, with its volumes, when that is so and the bot is not listed any more, or has not been
//! started again for a while. One that is not saved stays until the bot's next start saves it, or a person discards it.
//! Volumes without a container get a container that is never started, to be read through it.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveVolumeOptions};
use contract::BotId;

use super::slot::is_saved;
use super::start::{remove, said};
use super::{Access, Engine, Link, News, files};
use crate::report::Records;

/// A container that has ended.
#[derive(Debug, Clone)]
pub struct Husk {
    /// The container's id.
    pub id: String,
    name: String,
    keeping: Keeping,
    since: Duration,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    /// All that it had is in the store.
    Saved,
    /// It is not.
    Unsaved,
    /// The same, and it was told what to do about it.
    Told,
    /// A person wants it gone, saved or not.
    Discarded,
    /// It is being removed.
    Going,
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

impl Husk {
    /// A container that has ended at `since`.
    pub fn new(id: String, name: String, saved: bool, since: Duration) -> Self {
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
        }
    }

    /// Whether it is being removed.
    pub fn is_going(&self) -> bool {
        self.keeping == Keeping::Going
    }

    /// Whether all that it had is in the store.
    pub fn is_saved(&self) -> bool {
        self.keeping == Keeping::Saved
    }
}

impl Engine {
    /// Removes what nobody needs; `is_listed` tells the bots that there are.
    pub fn collect(&mut self, is_listed: impl Fn(&BotId) -> bool, now: Duration) {
        if self.link != Link::Up {
            return;
        }
        self.open_volumes(&is_listed);
        let keep = self.access.template.keep;
        let mut going = Vec::new();
        for (bot, husk) in &mut self.husks {
            let due = match husk.keeping {
                Keeping::Saved => !is_listed(bot) || now.saturating_sub(husk.since) >= keep,
                Keeping::Discarded => true,
                Keeping::Unsaved if !is_listed(bot) => {
                    husk.keeping = Keeping::Told;
                    self.console.warn(&format!(
                        "{}: the bot is gone, and not all that it had is in the store: container and volumes {} are kept; `agent gc --discard-state {bot}` removes them",
                        husk.name,
                        self.access.template.stack.container(bot)
                    ));
                    false
                }
                Keeping::Unsaved | Keeping::Told | Keeping::Going => false,
            };
            if due && self.slots.get(bot).is_none_or(|slot| !slot.is_live()) {
                husk.keeping = Keeping::Going;
                going.push((bot.clone(), husk.id.clone()));
            }
        }
        for (bot, id) in going {
            let (access, news) = (self.access.clone(), self.news.clone());
            tokio::spawn(async move {
                let removed = discard(&access, &bot, &id).await.map_err(|err| said(&err));
                let _ = news.send(News::Removed(bot, removed));
            });
        }
    }

    /// What a person asked to be collected now: all that is saved of bots that do not run, and of `bots` what is not,
    /// too, if told so. Gives what becomes of each.
    pub fn collect_now(&mut self, bots: &[BotId], unsaved: Unsaved) -> Vec<Left> {
        let chosen = |bot: &BotId| bots.is_empty() || bots.contains(bot);
        let mut rows = Vec::new();
        for (bot, husk) in self.husks.iter_mut().filter(|(bot, _)| chosen(bot)) {
            if self.slots.get(bot).is_some_and(super::Slot::is_live) {
                continue;
            }
            let what = match (husk.keeping, unsaved) {
                (Keeping::Going | Keeping::Discarded, _) => "is being removed",
                (Keeping::Saved, _) => {
                    husk.keeping = Keeping::Discarded;
                    "container and volumes are removed: all of it is in the store"
                }
                (Keeping::Unsaved | Keeping::Told, Unsaved::Discard) => {
                    husk.keeping = Keeping::Discarded;
                    "container and volumes are removed, with state that is NOT in the store"
                }
                (Keeping::Unsaved | Keeping::Told, Unsaved::Keep) => {
                    "kept: not all that it had is in the store; start it to save it, or --discard-state"
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
        let unsaved = |husk: &Husk| matches!(husk.keeping, Keeping::Unsaved | Keeping::Told);
        self.husks
            .iter()
            .filter(|(_, husk)| unsaved(husk))
            .map(|(bot, _)| bot.clone())
            .collect()
    }

    pub(super) fn removed(&mut self, bot: &BotId, result: Result<(), String>) {
        let Some(husk) = self.husks.get_mut(bot) else {
            return;
        };
        match result {
            Ok(()) => {
                self.console.say(&format!(
                    "{}: its container and volumes are removed",
                    husk.name
                ));
                self.husks.remove(bot);
            }
            Err(why) => {
                self.console
                    .warn(&format!("{}: what is left of it stays: {why}", husk.name));
                self.husks.remove(bot);
            }
        }
    }

    /// Looks into volumes that have no container, of bots that are not about to get one.
    fn open_volumes(&mut self, is_listed: impl Fn(&BotId) -> bool) {
        let known = |bot: &BotId| self.slots.contains_key(bot) || self.husks.contains_key(bot);
        self.loose.retain(|bot, _| !known(bot));
        let due: Vec<BotId> = self
            .loose
            .keys()
            .filter(|bot| !is_listed(bot))
            .cloned()
            .collect();
        for bot in due {
            let Some(Some(image)) = self.loose.remove(&bot) else {
                continue;
            };
            let (access, news) = (self.access.clone(), self.news.clone());
            tokio::spawn(async move {
                let opened = open(&access, &bot, image).await.map_err(|err| said(&err));
                let _ = news.send(News::Opened(bot, Box::new(opened)));
            });
        }
    }

    pub(super) fn opened(
        &mut self,
        bot: &BotId,
        result: Result<(String, Records), String>,
        now: Duration,
    ) {
        if self.slots.get(bot).is_some_and(super::Slot::is_live) {
            return;
        }
        match result {
            Ok((id, records)) => {
                let husk = Husk::new(id, bot.to_string(), is_saved(&records), now);
                self.husks.insert(bot.clone(), husk);
            }
            Err(why) => self.console.warn(&format!(
                "{bot}: its volumes have no container and cannot be looked into: {why}; they stay"
            )),
        }
    }
}

/// Removes a container that has ended, and the volumes of its bot. A volume that is in use again stays.
async fn discard(access: &Access, bot: &BotId, id: &str) -> Result<(), Error> {
    remove(&access.docker, id).await?;
    for (volume, _) in access.template.stack.volumes(bot) {
        match access
            .docker
            .remove_volume(&volume, None::<RemoveVolumeOptions>)
            .await
        {
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            })
            | Ok(()) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// A container over the bot's volumes that is never started. It has the bot's name, so that it is the only one.
async fn open(access: &Access, bot: &BotId, image: String) -> Result<(String, Records), Error> {
    let stack = &access.template.stack;
    let options = CreateContainerOptionsBuilder::default()
        .name(&stack.container(bot))
        .build();
    let body = ContainerCreateBody {
        image: Some(image),
        labels: Some(stack.labels(bot)),
        host_config: Some(super::container::over_volumes(bot, stack)),
        ..ContainerCreateBody::default()
    };
    let id = access
        .docker
        .create_container(Some(options), body)
        .await?
        .id;
    let records = files::records(&access.docker, &id).await?;
    Ok((id, records))
}
