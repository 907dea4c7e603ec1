//! What happens becomes what is known.

use std::time::Duration;

use contract::{BotId, BotType};

use super::examine::{Examined, Origin, Over, Running};
use super::left::{Husk, Loose};
use super::link::{Seen, Snapshot, Stage};
use super::names::{self, label};
use super::refusal::NotStarted;
use super::slot::{Slot, Work, is_saved};
use super::{Engine, News, RENEW_FOUND, SLACK, start, tales};
use crate::engine::Exit;
use crate::engine::remote::{Link, Word};
use crate::plan::{Outcome, Phase};

/// What begins in this time is found by one listing.
const TOGETHER: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes in what has happened.
    pub fn take(&mut self, news: News, now: Duration) {
        match news {
            News::Down(why) => self.down(why),
            News::Listed(snapshot) => self.listed(*snapshot, now),
            News::Happened(bot) => self.happened(&bot),
            // Where another agent starts them it is known at once what runs, and who is asked.
            News::Began if !self.access.lease.may_act() => {
                self.again_at.get_or_insert(now + TOGETHER);
            }
            News::Began => {}
            News::Started(bot, result) => self.started(&bot, result, now),
            News::Looked(bot, result) => self.looked(&bot, result, now),
            News::Signalled(bot, result) => self.signalled(&bot, result.is_ok()),
            News::Renewed(bot, id, result) => self.renewed(&bot, &id, result, now),
            News::Removed(bot, result) => self.removed(&bot, result),
            News::Opened(bot, result) => self.opened(&bot, *result, now),
        }
    }

    /// Of a bot that is over an event brings no news: it may be of the very end that is known.
    fn happened(&mut self, bot: &BotId) {
        let slot = self.slots.get(bot);
        let over = |slot: &Slot| matches!(slot.instance.actual.phase, Phase::Ended(_));
        if slot.is_some_and(|slot| slot.is_live() || !over(slot)) {
            self.look(bot);
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
        self.made.clear();
        for (bot, seen) in &snapshot.ours {
            self.seen(bot, seen, snapshot.begun, now);
        }
        for (bot, name) in &snapshot.doubles {
            self.console.about(bot, bot.as_str()).warn(&format!(
                "TWO containers of it run, the other one is {name}: end one of them (docker stop {name}); who made it?"
            ));
        }
        let is_gone = |(bot, slot): &(&BotId, &Slot)| {
            let sure = slot.touched <= snapshot.begun && matches!(slot.work, Work::None);
            let over = matches!(slot.instance.actual.phase, Phase::Ended(_));
            sure && !over && !snapshot.ours.contains_key(*bot)
        };
        let gone = self.slots.iter().filter(is_gone);
        let gone: Vec<BotId> = gone.map(|(bot, _)| bot.clone()).collect();
        for bot in gone {
            self.look(&bot);
        }
        // Of a husk whose container somebody has removed the volumes are left, and are looked into anew.
        self.husks.retain(|bot, husk| {
            snapshot.ours.contains_key(bot) || !husk.is_settled(snapshot.begun)
        });
        self.note_loose(&snapshot);
        self.volumes = snapshot.root.clone().or(self.volumes.take());
        self.foreign = snapshot.foreign;
    }

    /// Volumes without a container, and an image to look into them with.
    fn note_loose(&mut self, snapshot: &Snapshot) {
        let fallback = snapshot.ours.values().map(|seen| seen.image.clone()).next();
        self.loose
            .retain(|bot, _| snapshot.volumes.contains_key(bot));
        for (bot, image) in &snapshot.volumes {
            let image = image.clone().or_else(|| fallback.clone());
            if snapshot.ours.contains_key(bot) {
                self.loose.remove(bot);
            } else {
                let new = || Loose::new(image.clone());
                self.loose.entry(bot.clone()).or_insert_with(new);
            }
        }
    }

    fn seen(&mut self, bot: &BotId, seen: &Seen, begun: u64, now: Duration) {
        let slot = self.slots.get(bot);
        if slot.is_some_and(|slot| slot.touched > begun || !matches!(slot.work, Work::None)) {
            return;
        }
        let running = slot.and_then(|slot| slot.running.as_ref());
        let is_known = running.is_some_and(|running| running.id == seen.id);
        let is_husk = self.husks.get(bot).is_some_and(|husk| husk.is(&seen.id));
        match seen.stage {
            Stage::Running if !is_known => self.adopt(bot, seen, now),
            Stage::Running | Stage::Removing => {}
            Stage::Created | Stage::Over if is_husk => {}
            Stage::Created => self.clear(bot, seen),
            Stage::Over => {
                let slot = self
                    .slots
                    .entry(bot.clone())
                    .or_insert_with(|| found(bot, seen, now, begun));
                slot.seen = Some(seen.id.clone());
                self.look(bot);
            }
        }
    }

    /// A container that was made and not started: of a start that was cut off, or one to look into volumes with.
    fn clear(&mut self, bot: &BotId, seen: &Seen) {
        // Who has made it may be about to start it.
        if !self.access.lease.may_act() {
            return;
        }
        if seen.labels.contains_key(names::PURPOSE) {
            return self.look_into(bot, seen.id.clone());
        }
        if let Some(tick) = names::tick(&seen.labels) {
            self.made.insert(bot.clone(), (seen.id.clone(), tick));
            return;
        }
        let (docker, id) = (self.access.docker.clone(), seen.id.clone());
        tokio::spawn(async move { start::remove(&docker, &id).await });
    }

    fn adopt(&mut self, bot: &BotId, seen: &Seen, now: Duration) {
        let touched = self.clock.tick();
        let slot = self
            .slots
            .entry(bot.clone())
            .or_insert_with(|| found(bot, seen, now, touched));
        slot.touched = touched;
        if slot.stop.is_none() {
            slot.instance.actual.phase = Phase::Running;
        }
        let (id, image) = (seen.id.clone(), seen.image.clone());
        let (stack, tick) = (&self.access.template.stack, names::tick(&seen.labels));
        let own = stack.container_for(bot, tick);
        if seen.name != own {
            self.console.about(bot, &slot.name).warn(&format!(
                "its container was renamed from {own} to {}: it is its container all the same",
                seen.name
            ));
        }
        let running = Running::found(id, image, seen.address, &seen.labels, seen.made);
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
        let id = running.id.get(..12).unwrap_or_default();
        let text = format!("{what}, container {id}");
        self.console.about(bot, &slot.name).say(&text);
        slot.renew_at = match running.origin {
            Origin::Started => running.renew_in.map(|left| now + left),
            Origin::Adopted => Some(now + spread(bot)),
        };
        slot.runs(running, now);
        // Told to stop before it was there: its time begins now.
        let patience = slot.patience();
        if let Some(stop) = &mut slot.stop {
            stop.deadline = now + patience + SLACK;
            self.signal(bot, "SIGTERM");
        }
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
                self.runs(bot, running, now);
                self.after_work(bot);
            }
            Err(not) => {
                if let Some(mut slot) = self.slots.remove(bot) {
                    self.not_started(bot, &mut slot, not, now);
                    self.slots.insert(bot.clone(), slot);
                }
            }
        }
    }

    /// Notes why a bot was not started, and tells it once.
    pub(super) fn not_started(
        &mut self,
        bot: &BotId,
        slot: &mut Slot,
        not: NotStarted,
        now: Duration,
    ) {
        let outcome = if slot.stop.is_some() {
            Outcome::Stopped
        } else {
            not.outcome
        };
        if slot.instance.reason.as_ref() != Some(&not.why) {
            self.console.about(bot, &slot.name).warn(&not.why);
        }
        let why = not.why.clone();
        slot.ended(outcome, not.why, now);
        if matches!(outcome, Outcome::Failed | Outcome::Refused) {
            self.told.extend(tales::not_started(bot, slot, why));
        }
    }

    fn after_work(&mut self, bot: &BotId) {
        let slot = self.slots.get_mut(bot);
        if slot.is_some_and(|slot| std::mem::take(&mut slot.look_again)) {
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
                let known = slot.running.as_ref();
                if known.is_none_or(|known| known.id != running.id) {
                    self.runs(bot, *running, now);
                }
            }
            // Who has made it may be about to start it.
            Ok(Examined::NotStarted) if !self.access.lease.may_act() => {
                self.slots.remove(bot);
                return;
            }
            Ok(Examined::Gone | Examined::NotStarted) => self.gone(bot, now),
            // The next listing looks again.
            Err(why) => {
                let text = format!("look at its container: {why}");
                self.console.about(bot, &slot.name).warn(&text);
            }
        }
        self.after_work(bot);
    }

    fn gone(&mut self, bot: &BotId, now: Duration) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        // What is known of an end is more than that there is nothing any more.
        if matches!(slot.instance.actual.phase, Phase::Ended(_)) {
            return;
        }
        let (outcome, why) = match (&slot.running, slot.stop) {
            (None, _) => (Outcome::Stopped, "its container is gone"),
            (_, Some(_)) => (
                Outcome::Stopped,
                "stopped; its container was removed by somebody",
            ),
            _ => (
                Outcome::Failed,
                "failed: its container was removed by somebody",
            ),
        };
        if slot.running.is_some() {
            self.console.about(bot, &slot.name).warn(why);
        }
        slot.ended(outcome, why.to_owned(), now);
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
        slot.instance.birth = Some(over.birth.clone());
        slot.instance.exit = Some(Exit {
            code: over.code,
            reason: over.records.done.as_ref().map(|done| done.reason),
        });
        let is_tick = over.birth.start.tick.is_some();
        self.told.push(tales::over(bot, over, slot.failures));
        let saved = is_saved(&over.records);
        let touched = self.clock.tick();
        let husk = Husk::new(over.id.clone(), slot.name.clone(), saved, now, touched);
        if was_ours && self.access.lease.may_act() {
            let (outcome, failures) = (verdict.outcome, slot.failures);
            let voice = self.console.about(bot, &slot.name);
            if is_tick {
                crate::engine::tell_tick(&voice, &verdict.reason, outcome);
            } else {
                crate::engine::tell(&voice, &verdict.reason, outcome, failures);
            }
        }
        if !saved {
            self.console.about(bot, &slot.name).warn(&format!(
                "it is not proven that all it had is in the store; it is on its volumes ({}.*), which are kept, and its next start saves it",
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
            stop.told = if taken { Word::Taken } else { Word::Unsaid };
        }
        if !taken {
            // It may have ended before the signal came; the daemon knows.
            self.look(bot);
        }
    }

    fn renewed(
        &mut self,
        bot: &BotId,
        id: &str,
        result: Result<Option<Duration>, String>,
        now: Duration,
    ) {
        let slot = self.slots.get_mut(bot);
        let is_it = |slot: &&mut Slot| slot.running.as_ref().is_some_and(|r| r.id == id);
        let Some(slot) = slot.filter(is_it) else {
            return;
        };
        match result {
            Ok(next) => slot.renew_at = next.map(|left| now + left),
            Err(why) => self.console.about(bot, &slot.name).warn(&format!(
                "its keys are not renewed yet: {why}; it is tried again"
            )),
        }
    }
}

/// A container that was found and not started by us: until it was looked at, it counts neither as running nor as ended.
fn found(bot: &BotId, seen: &Seen, now: Duration, touched: u64) -> Slot {
    let kind = match label(&seen.labels, names::TYPE).as_str() {
        "scheduled" => BotType::Scheduled,
        _ => BotType::Realtime,
    };
    // A label that is no digest is no bot's: it is started anew.
    let launch = label(&seen.labels, names::LAUNCH).parse();
    let launch = launch.unwrap_or_else(|_| contract::Digest::from_bytes([0; 32]));
    let name = label(&seen.labels, names::NAME);
    let mut slot = Slot::new(bot, &name, kind, launch, now, touched);
    slot.instance.actual.phase = Phase::Stopping;
    slot.code = label(&seen.labels, names::CODE).parse().ok();
    slot
}

/// When a container that was found gets new keys: not all in one moment.
fn spread(bot: &BotId) -> Duration {
    let sum = bot.as_str().bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    RENEW_FOUND * (sum % 1000) / 1000
}
