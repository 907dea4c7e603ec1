//! What the engine has of a schedule.

use contract::BotId;

use super::decide::{Exit, Live};
use super::ledger::Key;
use crate::engine::{Engine, Instance};
use crate::plan::{Outcome, Phase, Why};

/// What has become of a start that the engine was told to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launched {
    /// It runs, or has run.
    Runs,
    /// It came to nothing.
    Not {
        /// Of which tick.
        key: Key,
        /// Why.
        why: String,
        /// Whether only a change mends that.
        is_final: bool,
        /// Whether nothing of it can run.
        is_certain: bool,
    },
}

/// What there is of the bot; an end that was seen once stays seen in `end`.
pub fn live(
    engine: &Engine,
    bot: &BotId,
    end: &mut Option<(Key, Exit)>,
    stopping: Option<Why>,
) -> Live {
    let instance = engine.instance(bot);
    if let Some(instance) = instance {
        if let Some(ended) = ended(instance, stopping)
            && end.as_ref().is_none_or(|(key, _)| *key != ended.0)
        {
            *end = Some(ended);
        }
        if !matches!(instance.actual.phase, Phase::Ended(_)) {
            return Live::Runs(key(instance).filter(|_| instance.pid.is_some()));
        }
    }
    match (engine.made(bot), end) {
        // What has ended has run, whatever was made for it before.
        (Some(key), Some((ended, exit))) if key == *ended => Live::Ended(key, exit.clone()),
        (Some(key), _) => Live::Made(key),
        (None, Some((key, exit))) => Live::Ended(*key, exit.clone()),
        (None, None) => Live::None,
    }
}

/// The end of a run of a tick.
fn ended(instance: &Instance, stopping: Option<Why>) -> Option<(Key, Exit)> {
    let Phase::Ended(ended) = &instance.actual.phase else {
        return None;
    };
    let exit = instance.exit.clone()?;
    let exit = Exit {
        outcome: ended.outcome,
        code: exit.code,
        reason: exit.reason,
        stopped: stopping,
        why: instance.reason.clone().unwrap_or_default(),
    };
    Some((key(instance)?, exit))
}

fn key(instance: &Instance) -> Option<Key> {
    instance.birth.as_ref()?.start.tick
}

/// What has become of the start of `key`; `None`: it is under way.
pub fn launched(engine: &Engine, bot: &BotId, key: Key) -> Option<Launched> {
    let not = |why: &str, outcome, is_certain| {
        Some(Launched::Not {
            key,
            why: why.to_owned(),
            is_final: outcome == Outcome::Refused,
            is_certain,
        })
    };
    let Some(instance) = engine.instance(bot) else {
        return not("it was not started", Outcome::Stopped, false);
    };
    let of = self::key(instance);
    let is_it = of.is_some_and(|of| of.at == key.at);
    match &instance.actual.phase {
        Phase::Ended(_) if is_it && instance.exit.is_some() => Some(Launched::Runs),
        Phase::Ended(ended) => {
            // A container that came as far as that may have run; a process tells at once.
            let is_certain = match engine {
                Engine::Process(_) => true,
                Engine::Docker(_) | Engine::Kubernetes(_) => {
                    of != Some(key) && ended.outcome != Outcome::Busy
                }
            };
            let why = instance.reason.as_deref();
            not(
                why.unwrap_or("it was not started"),
                ended.outcome,
                is_certain,
            )
        }
        _ if is_it && instance.pid.is_some() => Some(Launched::Runs),
        _ => None,
    }
}
