//! Bots that run at times: what is known of them, and the next tick now.

use std::time::Duration;

use contract::BotId;
use contract::record::Time;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot::Sender;

use super::{Done, Request, find};
use crate::bots::Offer;
use crate::id::{Known, Unclear};
use crate::plan::Switch;
use crate::reconcile::World;
use crate::report::Tick;
use crate::schedule::ask::Asked;
use crate::schedule::ledger;

/// How often it is tried while something of the schedule is being written, and the pause between two tries.
pub const TRIES: u32 = 100;
const AGAIN: Duration = Duration::from_millis(100);

/// A bot that runs at times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its id.
    pub id: BotId,
    /// Its name.
    pub name: String,
    /// When, as its document says it.
    pub schedule: String,
    /// In which zone, as its document says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Whether new ticks are wanted.
    pub enabled: bool,
    /// When it runs next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_tick: Option<Time>,
    /// What has become of its last tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_tick: Option<Tick>,
}

/// All of them, by name.
pub fn planned(world: &World) -> Vec<Planned> {
    let row = |(id, listed): (&BotId, &std::sync::Arc<crate::bots::Listed>)| {
        let Offer::Bot(bot) = &listed.offer else {
            return None;
        };
        let timetable = bot.timetable.as_ref()?;
        let timing = world.timing(id);
        Some(Planned {
            id: id.clone(),
            name: listed.name.clone(),
            schedule: timetable.schedule.clone(),
            timezone: timetable.timezone.clone(),
            enabled: bot.enabled,
            next_tick: timing.and_then(|ledger| ledger.next).map(ledger::time),
            last_tick: timing.and_then(|ledger| Some(ledger.tick.as_ref()?.into())),
        })
    };
    let mut rows: Vec<Planned> = world.listing.bots.iter().filter_map(row).collect();
    rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    rows
}

/// Makes the next tick of the bot that is called so due now.
pub fn run_now(world: &mut World, word: String, tries: u32, to: Sender<Result<Done, Unclear>>) {
    let Known { id, name, .. } = match find(world, &word) {
        Ok(known) => known,
        Err(unclear) => return drop(to.send(Err(unclear))),
    };
    let done = Done {
        id: id.clone(),
        name,
        but: obstacle(world, &id),
    };
    if done.but.is_some() {
        return drop(to.send(Ok(done)));
    }
    let requests = world.requests.clone();
    world.run_now(&id, move |asked| {
        let but = match asked {
            Asked::Due => None,
            Asked::Busy(_) if tries > 0 => {
                tokio::spawn(async move {
                    tokio::time::sleep(AGAIN).await;
                    drop(requests.send(Request::RunNow(word, tries - 1, to)));
                });
                return;
            }
            Asked::Busy(why) | Asked::Not(why) => Some(why),
        };
        let _ = to.send(Ok(Done { but, ..done }));
    });
}

/// Why no tick of the bot is run.
fn obstacle(world: &World, id: &BotId) -> Option<String> {
    if world.switch == Switch::Off {
        return Some("all bots are stopped: `agent start --all` lets them run again".to_owned());
    }
    if world.stopped.contains(id) {
        return Some("it is stopped: `agent start` lets it run again".to_owned());
    }
    match &world.listing.get(id)?.offer {
        Offer::Bot(bot) if bot.timetable.is_none() => Some(
            "it runs all the time, not at times: see `agent start`, `agent restart`".to_owned(),
        ),
        Offer::Bot(bot) if bot.enabled => None,
        Offer::Bot(_) => Some("it is disabled (enabled: false)".to_owned()),
        Offer::Unusable(why) => Some(why.clone()),
        Offer::Gone => Some("it was taken away".to_owned()),
    }
}
