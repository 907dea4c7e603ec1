//! What was refused of the CronJobs' changes, when each is tried again, and when a person is told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::BotId;

/// Time between two tries of what was refused once more.
pub const AGAIN: Duration = Duration::from_mins(1);
/// A refusal so long ago is none any more.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// Bots whose CronJob was refused last.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<BotId, Refusal>);

/// A change that was refused.
#[derive(Debug)]
struct Refusal {
    /// When it is tried again.
    again_at: Duration,
    /// Why.
    why: String,
    /// When a person was told of it.
    told_at: Duration,
    /// Whether what is there goes at once, and the next one waits.
    passes: bool,
}

impl Refusals {
    /// Takes in one, at the engine's time `now`: the change is tried again soon, and after `pause` where one was refused
    /// before, too. Whether a person is to be told: the same only once in a while. One that `passes` is removed at once
    /// where it is there, and only the next one waits.
    pub fn take(
        &mut self,
        bot: &BotId,
        why: &str,
        now: Duration,
        pause: Duration,
        passes: bool,
    ) -> bool {
        self.0.retain(|_, last| now < last.again_at + FORGOTTEN);
        let before = self.0.get(bot);
        let same = before.filter(|before| before.why == why && now < before.told_at + FORGOTTEN);
        let told_at = same.map_or(now, |same| same.told_at);
        let (is_news, is_first) = (same.is_none(), before.is_none());
        let refusal = Refusal {
            again_at: now + if is_first { super::AGAIN } else { pause },
            why: why.to_owned(),
            told_at,
            passes,
        };
        self.0.insert(bot.clone(), refusal);
        is_news
    }

    /// Whether the bot's last change was refused.
    pub fn has(&self, bot: &BotId) -> bool {
        self.0.contains_key(bot)
    }

    /// Whether its CronJob may be changed now, which `is_there` or is made.
    pub fn lets(&self, bot: &BotId, now: Duration, is_there: bool) -> bool {
        let refused = self.0.get(bot);
        refused.is_none_or(|refused| now >= refused.again_at || (is_there && refused.passes))
    }
}
