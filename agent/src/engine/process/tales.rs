//! What history is told of processes.

use contract::record::Time;
use contract::{BotId, Paths, file};

use super::Process;
use crate::document::Bot;
use crate::ending::Facts;
use crate::engine::{Instance, Told};
use crate::history::{self, Birth, End, Start};
use crate::launch;
use crate::report::Records;

impl Process {
    /// What has happened since it was last asked, for history.
    pub fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// What each instance that runs was made of.
    pub fn births(&self) -> Vec<(&BotId, &Birth)> {
        let live = self.slots.iter().filter(|(_, slot)| slot.live.is_some());
        live.filter_map(|(bot, slot)| Some((bot, slot.instance.birth.as_ref()?)))
            .collect()
    }

    /// What the bot's last instance was made of, and whether anything of it was here already.
    pub fn before(&self, bot: &BotId) -> (Option<Birth>, bool) {
        let known = self.instance(bot).and_then(|i| i.birth.clone());
        let written = || {
            let path = self.host.folder(bot).join(history::START);
            file::read_json(&path).ok().flatten()
        };
        let birth = known.or_else(written);
        let is_known = birth.is_some();
        (birth, is_known)
    }

    /// The bot's instance.
    pub fn instance(&self, bot: &BotId) -> Option<&Instance> {
        self.slots.get(bot).map(|slot| &slot.instance)
    }
}

/// What a bot's process is made of, started so.
pub(super) fn birth(bot: &Bot, start: Start) -> Birth {
    Birth {
        start,
        name: bot.definition.name.clone(),
        version: Some(bot.definition.version.clone()),
        code: Some(bot.code.to_string()),
        // A folder's definition is part of its bundle.
        config: Some(launch::config_digest(bot).as_str().to_owned()),
        launch: Some(launch::digest(bot).as_str().to_owned()),
        image: None,
        container: None,
    }
}

/// A supervisor has ended.
pub(super) fn over(bot: BotId, birth: Birth, facts: &Facts, paths: &Paths, failures: u32) -> Told {
    Told::Over {
        bot,
        birth,
        end: End {
            code: facts.code,
            signal: facts.signal,
            is_oom: false,
            at: Time::now(),
            why: None,
            taken: None,
        },
        records: Box::new(Records::read(paths)),
        failures,
        noted: None,
    }
}

/// A start came to nothing.
pub(super) fn not_started(bot: &Bot, birth: &Birth, why: &str, failures: u32) -> Told {
    Told::NotStarted {
        bot: bot.id.clone(),
        name: bot.definition.name.clone(),
        start: birth.start.clone(),
        why: why.to_owned(),
        failures: failures.max(1),
    }
}
