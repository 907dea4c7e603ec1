//! What a listing brings: what is new in it is told, what nobody needs any more is removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::{BotId, ObjectKey};

use super::World;
use crate::bots::{Listing, Offer, registered};
use crate::document::Bot;
use crate::health::Dependency;
use crate::lister::Listed;
use crate::plan::Wanted;
use crate::store;

/// Bundles kept of each folder bot besides those in use.
const KEPT_BUNDLES: usize = 3;

/// Whether it names times at which it is not run.
fn is_vain(bot: &Bot) -> bool {
    bot.has_schedule && bot.timetable.is_none() && bot.enabled
}

impl World {
    /// Takes in a listing and says what is new in it.
    pub(super) fn note(&mut self, (begun, listing): Listed) {
        let listing = match listing {
            Ok(listing) => listing,
            Err(err) => {
                self.board.set(Dependency::Listing, Err(err.to_string()));
                let text = format!("{err}; what runs goes on");
                if self.problem.as_ref() != Some(&text) {
                    self.console.warn(&text);
                }
                self.problem = Some(text);
                return;
            }
        };
        self.board.set(Dependency::Listing, Ok(()));
        if self.problem.take().is_some() {
            self.console.say("bots can be listed again");
        }
        self.listed = Some(begun.saturating_duration_since(self.began));
        self.wake = None;
        if Arc::ptr_eq(&self.listing, &listing) {
            return self.list_schedules(begun);
        }
        self.tell_news(&listing);
        self.wanted = listing.wanted();
        self.listing = listing;
        self.list_schedules(begun);
        self.tell_there();
    }

    fn tell_news(&self, new: &Listing) {
        for remark in new
            .remarks
            .iter()
            .filter(|r| !self.listing.remarks.contains(r))
        {
            self.console.warn(remark);
        }
        for (id, listed) in &new.bots {
            let before = self.listing.bots.get(id);
            if before
                .is_some_and(|before| Arc::ptr_eq(before, listed) || before.offer == listed.offer)
            {
                continue;
            }
            match &listed.offer {
                Offer::Unusable(why) => self.console.about(id, &listed.name).warn(why),
                Offer::Bot(bot) if is_vain(bot) => self.console.about(id, &listed.name).warn(
                    "it has a config.schedule that is not acted on: only bots of type scheduled in folders, and those of bot_schedules, run at times",
                ),
                Offer::Bot(_) | Offer::Gone => {}
            }
        }
    }

    pub(super) fn tell_held(&mut self, held: BTreeSet<BotId>) {
        if !held.is_empty() && held != self.held {
            let count = held.len();
            self.console.warn(&format!(
                "{count} bots are missing at once: they go on running; `agent confirm` if they were removed on purpose"
            ));
        }
        self.held = held;
    }

    /// Removes bundles of folder bots that nobody needs.
    pub(super) fn collect_bundles(&self) {
        let mut in_use: BTreeSet<_> = self.engine.code_in_use().into_iter().collect();
        let offered = self
            .listing
            .bots
            .keys()
            .filter_map(|id| self.listing.bot(id));
        in_use.extend(offered.map(|bot| bot.code.clone()));
        let folders: BTreeSet<&str> = in_use
            .iter()
            .map(store::folder_of)
            .filter(|f| f.starts_with("dev/"))
            .collect();
        let folders: Vec<String> = folders.into_iter().map(str::to_owned).collect();
        let (store, console) = (self.store.clone(), self.console.clone());
        let collect = move || {
            for folder in folders {
                let in_use = |key: &ObjectKey| in_use.contains(key);
                if let Err(err) = store::collect(&store, &folder, KEPT_BUNDLES, in_use) {
                    return console.warn(&format!("old bundles stay: {err}"));
                }
            }
        };
        // The store may take its time, and this loop has none to give. What is not removed now is the next time.
        let _ = std::thread::Builder::new()
            .name("collector".into())
            .spawn(collect);
    }

    /// Drops the word that a bot is gone once nothing of it runs.
    pub(super) fn bury(&mut self, there: &BTreeSet<BotId>) {
        let gone = self
            .wanted
            .iter()
            .filter(|(_, wanted)| **wanted == Wanted::Gone);
        let gone: Vec<BotId> = gone
            .map(|(bot, _)| bot.clone())
            .filter(|bot| !there.contains(bot))
            .collect();
        for bot in gone {
            if let Err(err) = registered::forget(&self.host.data, &bot) {
                let voice = self.console.about(&bot, bot.as_str());
                voice.warn(&err.to_string());
            }
            self.wanted.remove(&bot);
            if self.stopped.remove(&bot) {
                let _ = self.save_stopped();
            }
        }
    }
}
