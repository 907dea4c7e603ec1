//! What history is told of containers.

use contract::BotId;
use contract::record::Time;

use super::Engine;
use super::examine::Over;
use super::slot::Slot;
use crate::engine::Told;
use crate::history::{Birth, End};

impl Engine {
    /// What has happened since it was last asked, for history.
    pub fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// What each container that runs was made of.
    pub fn births(&self) -> Vec<(&BotId, &Birth)> {
        let live = self.slots.iter();
        live.filter_map(|(bot, slot)| Some((bot, &*slot.running.as_ref()?.birth)))
            .collect()
    }

    /// What the bot's last container was made of, and whether anything of it was here already.
    pub fn before(&self, bot: &BotId) -> (Option<Birth>, bool) {
        let birth = self.instance(bot).and_then(|i| i.birth.clone());
        let is_known = birth.is_some() || self.husks.contains_key(bot);
        (birth, is_known || self.loose.contains_key(bot))
    }
}

/// A container has ended.
pub(super) fn over(bot: &BotId, over: &Over, failures: u32) -> Told {
    Told::Over {
        bot: bot.clone(),
        birth: over.birth.clone(),
        end: End {
            code: over.code,
            signal: None,
            is_oom: over.is_oom,
            at: over.finished.unwrap_or_else(Time::now),
            why: None,
            taken: None,
        },
        records: Box::new(over.records.clone()),
        failures,
        noted: None,
    }
}

/// A start that came to nothing.
pub(super) fn not_started(bot: &BotId, slot: &mut Slot, why: String) -> Option<Told> {
    Some(Told::NotStarted {
        bot: bot.clone(),
        name: slot.instance.name.clone().unwrap_or_default(),
        start: slot.start.take()?,
        why,
        failures: slot.failures.max(1),
    })
}
