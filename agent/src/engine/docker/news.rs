//! What happens becomes what is known.

use std::time::Duration;

use contract::{BotId, BotType};

use super::link::{Seen, Snapshot, Stage};
use super::names;
use super::slot::{Slot, Told, Work, is_saved};
use super::start::{Examined, NotStarted, Origin, Over, Running};
use super::{Engine, Husk, Link, News, RENEW_FOUND, start};
use crate::plan::Outcome;

impl Engine {
    /// Takes in what has happened.
    pub fn take(&mut self, news: News, now: Duration) {
        match news {
            News::Down(why) => self.down(why),
            News::Listed(snapshot) => self.listed(*snapshot, now),
            News::Happened(bot) => self.look(&bot),
            News::Started(bot, result) => self.started(&bot, result, now),
            News::Looked(bot, result) => self.looked(&bot, result, now),
            News::Signalled(bot, result) => self.signalled(&bot, result.is_ok()),
            News::Renewed(bot, result) => self.renewed(&bot, result, now),
            News::Removed(bot, result) => self.removed(&bot, result),
            News::Opened(bot, result) => self.opened(&bot, *result, now),
        }
    }

    fn down(&mut self, why: String) {
        if self.link != Link::Down(why.clone()) && !why.is_empty() {
            self.console.warn(&format!(
                "{why}; bots run on, changes wait until it answers"
            ));
        }
        self.link = Link::Down(why);
    }

    fn up(&mut self) {
        if let Link::Down(_) = self.link {
            self.console.say("the Docker daemon answers");
            // It may have been started anew: with other rules, without our network.
            let access = self.access.clone();
            tokio::spawn(async move { access.forget_network().await });
        }
        self.link = Link::Up;
    }

    fn listed(&mut self, snapshot: Snapshot, now: Duration) {
        self.up();
        self.listed = snapshot.begun;
        for (bot, seen) in &snapshot.ours {
            self.seen(bot, seen, snapshot.begun, now);
        }
        let is_gone = |(bot, slot): &(&BotId, &Slot)| {
            let sure = slot.touched <= snapshot.begun && matches!(slot.work, Work::None);
            sure && slot.running.is_some() && !snapshot.ours.contains_key(*bot)
        };
        let gone: Vec<BotId> = self
            .slots
            .iter()
            .filter(is_gone)
            .map(|(bot, _)| bot.clone())
            .collect();
        for bot in gone {
            self.look(&bot);
        }
        let fallback = snapshot.ours.values().map(|seen| seen.image.clone()).next();
        let loose = snapshot
            .volumes
            .into_iter()
            .filter(|(bot, _)| !snapshot.ours.contains_key(bot));
        self.loose = loose
            .map(|(bot, image)| (bot, image.or_else(|| fallback.clone())))
            .collect();
        self.foreign = snapshot.foreign;
    }

    fn seen(&mut self, bot: &BotId, seen: &Seen, begun: u64, now: Duration) {
        let slot = self.slots.get(bot);
        if slot.is_some_and(|slot| slot.touched > begun || !matches!(slot.work, Work::None)) {
            return;
        }
        let is_known = slot
            .and_then(|slot| slot.running.as_ref())
            .is_some_and(|running| running.id == seen.id);
        let is_husk = self.husks.get(bot).is_some_and(|husk| husk.id == seen.id);
        match seen.stage {
            Stage::Running if !is_known => self.adopt(bot, seen, now),
            Stage::Running | Stage::Removing => {}
            Stage::Created | Stage::Over if is_husk => {}
            Stage::Created | Stage::Over => {
                self.slots
                    .entry(bot.clone())
                    .or_insert_with(|| found(bot, seen, now, begun));
                self.look(bot);
            }
        }
    }

    fn adopt(&mut self, bot: &BotId, seen: &Seen, now: Duration) {
        let touched = self.clock.tick();
        let slot = self
            .slots
            .entry(bot.clone())
            .or_insert_with(|| found(bot, seen, now, touched));
        slot.touched = touched;
        let label = |name: &str| seen.labels.get(name).cloned().unwrap_or_default();
        let running = Running {
            id: seen.id.clone(),
            address: seen.address,
            launch: label(names::LAUNCH),
            template: label(names::TEMPLATE),
            image: seen.image.clone(),
            renew_in: None,
            origin: Origin::Adopted,
        };
        self.runs(bot, running, now);
    }

    /// It runs: started by us, or found.
    fn runs(&mut self, bot: &BotId, running: Running, now: Duration) {
        self.husks.remove(bot);
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let what = match running.origin {
            Origin::Started => "started",
            Origin::Adopted => "found running",
        };
        self.console.say(&format!(
            "{}: {what}, container {}",
            slot.name,
            short(&running.id)
        ));
        slot.renew_at = match running.origin {
            Origin::Started => running.renew_in.map(|left| now + left),
            Origin::Adopted => Some(now + spread(bot)),
        };
        slot.runs(running, now);
    }

    fn started(&mut self, bot: &BotId, result: Result<Running, NotStarted>, now: Duration) {
        let touched = self.clock.tick();
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        slot.work = Work::None;
        slot.touched = touched;
        match result {
            Ok(running) => {
                let code = slot.code.clone();
                self.runs(bot, running, now);
                self.after_work(bot);
                if let Some(slot) = self.slots.get_mut(bot) {
                    slot.code = code;
                    if slot.stop.is_some() {
                        self.signal(bot, "SIGTERM");
                    }
                }
            }
            Err(not) => {
                if let Some(mut slot) = self.slots.remove(bot) {
                    self.not_started(&mut slot, not, now);
                    self.slots.insert(bot.clone(), slot);
                }
            }
        }
    }

    /// Notes why a bot was not started, and tells it once.
    pub(super) fn not_started(&self, slot: &mut Slot, not: NotStarted, now: Duration) {
        let outcome = if slot.stop.is_some() {
            Outcome::Stopped
        } else {
            not.outcome
        };
        if slot.instance.reason.as_ref() != Some(&not.why) {
            self.console.warn(&format!("{}: {}", slot.name, not.why));
        }
        slot.ended(outcome, not.why, now);
    }

    fn after_work(&mut self, bot: &BotId) {
        let again = self
            .slots
            .get_mut(bot)
            .is_some_and(|slot| std::mem::take(&mut slot.look_again));
        if again {
            self.look(bot);
        }
    }

    fn looked(&mut self, bot: &BotId, result: Result<Examined, String>, now: Duration) {
        let touched = self.clock.tick();
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        slot.work = Work::None;
        slot.touched = touched;
        match result {
            Ok(Examined::Over(over)) => self.over(bot, &over, now),
            Ok(Examined::Runs(running)) => {
                if slot
                    .running
                    .as_ref()
                    .is_none_or(|known| known.id != running.id)
                {
                    self.runs(bot, *running, now);
                }
            }
            // Who has made it may be about to start it.
            Ok(Examined::NeverStarted(_)) if !self.access.lease.may_act() => {
                self.slots.remove(bot);
                return;
            }
            Ok(Examined::NeverStarted(id)) => {
                let why = "its container was made and not started: it is removed";
                slot.ended(Outcome::Stopped, why.to_owned(), now);
                let docker = self.access.docker.clone();
                tokio::spawn(async move { start::remove(&docker, &id).await });
            }
            Ok(Examined::Gone) if slot.running.is_some() => {
                let (outcome, why) = match slot.stop {
                    Some(_) => (
                        Outcome::Stopped,
                        "stopped; its container was removed by somebody",
                    ),
                    None => (
                        Outcome::Failed,
                        "failed: its container was removed by somebody",
                    ),
                };
                self.console.warn(&format!("{}: {why}", slot.name));
                slot.ended(outcome, why.to_owned(), now);
            }
            Ok(Examined::Gone) => {
                slot.ended(Outcome::Stopped, "its container is gone".to_owned(), now);
            }
            // The next listing looks again.
            Err(why) => self
                .console
                .warn(&format!("{}: look at its container: {why}", slot.name)),
        }
        self.after_work(bot);
    }

    fn over(&mut self, bot: &BotId, over: &Over, now: Duration) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let was_ours = slot.running.is_some();
        let verdict = slot.judge(over);
        if let Ok(launch) = over.launch.parse() {
            slot.instance.actual.digest = launch;
        }
        if slot.code.is_none() {
            slot.code = over.code_key.parse().ok();
        }
        slot.ended(verdict.outcome, verdict.reason.clone(), now);
        let husk = Husk::new(
            over.id.clone(),
            slot.name.clone(),
            is_saved(&over.records),
            now,
        );
        if was_ours && self.access.lease.may_act() {
            crate::engine::tell(
                &self.console,
                &slot.name,
                &verdict.reason,
                verdict.outcome,
                slot.failures,
            );
        }
        if !husk.is_saved() {
            self.console.warn(&format!(
                "{}: not all that it had is in the store; it is on its volumes ({}.*), which are kept, and its next start saves it",
                slot.name,
                self.access.template.stack.container(bot)
            ));
        }
        self.husks.insert(bot.clone(), husk);
    }

    fn signalled(&mut self, bot: &BotId, taken: bool) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        if let Some(stop) = &mut slot.stop {
            stop.told = if taken { Told::Yes } else { Told::No };
        }
        if !taken {
            // It may have ended before the signal came; the daemon knows.
            self.look(bot);
        }
    }

    fn renewed(&mut self, bot: &BotId, result: Result<Option<Duration>, String>, now: Duration) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        match result {
            Ok(next) => slot.renew_at = next.map(|left| now + left),
            Err(why) => self.console.warn(&format!(
                "{}: its keys are not renewed yet: {why}; it is tried again",
                slot.name
            )),
        }
    }
}

/// A container that was found and not started by us.
fn found(bot: &BotId, seen: &Seen, now: Duration, touched: u64) -> Slot {
    let label = |name: &str| seen.labels.get(name).cloned().unwrap_or_default();
    let kind = match label(names::TYPE).as_str() {
        "scheduled" => BotType::Scheduled,
        _ => BotType::Realtime,
    };
    // A label that is no digest is no bot's: it is started anew.
    let launch = label(names::LAUNCH).parse();
    let launch = launch.unwrap_or_else(|_| contract::Digest::from_bytes([0; 32]));
    let mut slot = Slot::new(bot, &label(names::NAME), kind, launch, now, touched);
    slot.code = label(names::CODE).parse().ok();
    slot
}

/// When a container that was found gets new keys: not all in one moment.
fn spread(bot: &BotId) -> Duration {
    let sum = bot.as_str().bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    RENEW_FOUND * (sum % 1000) / 1000
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
