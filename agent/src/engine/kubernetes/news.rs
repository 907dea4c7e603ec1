//! What happens becomes what is known.

use std::time::Duration;

use contract::BotId;

use super::keys::{Good, Term};
use super::link::Snapshot;
use super::seen::{Seen, Stage};
use super::slot::{Slot, Work};
use super::work::Running;
use super::{AGAIN, Engine, Husk, News, RENEW_FOUND};
use crate::engine::Told;
use crate::engine::not_started::NotStarted;
use crate::engine::remote::{Link, Word};
use crate::plan::Outcome;

impl Engine {
    /// Takes in what has happened.
    pub fn take(&mut self, news: News, now: Duration) {
        match news {
            News::Down(why) => self.down(why),
            News::Listed(snapshot) => self.listed(*snapshot, now),
            News::Others(others) => self.beside_others(others),
            News::Seen(seen) => self.changed(*seen, now),
            News::Gone(bot, uid) => self.gone(&bot, &uid, now),
            News::Started(bot, result) => self.started(&bot, *result, now),
            News::Deleted(bot, result) => self.deleted(&bot, &result, now),
            News::Renewed(bot, uid, result) => self.renewed(&bot, &uid, result, now),
            News::Noted(bot, uid) => self.noted(&bot, &uid, now),
            News::Times(word) => self.take_times(word, now),
            News::Released(bot, uid, result) => self.released(&bot, &uid, result, now),
        }
    }

    fn down(&mut self, why: String) {
        if !matches!(self.link, Link::Down(_)) {
            self.console.warn(&format!(
                "{why}; bots run on, changes wait until it answers"
            ));
        }
        self.link = Link::Down(why);
    }

    fn listed(&mut self, snapshot: Snapshot, now: Duration) {
        if let Link::Down(_) = self.link {
            self.console.say("the API server answers");
        }
        self.link = Link::Up;
        self.listed = snapshot.begun;
        let is_old = |bot: &BotId| {
            let slot = self.slots.get(bot);
            slot.is_some_and(|slot| slot.touched > snapshot.begun)
        };
        let mut before = std::mem::take(&mut self.pods);
        // What is older than the list and not among it has gone while nobody watched.
        before.retain(|bot, pods| {
            pods.retain(|pod| pod.version == 0 || pod.version > snapshot.version);
            is_old(bot) && !pods.is_empty()
        });
        self.pods = before;
        for seen in snapshot.pods {
            self.keep(seen);
        }
        let there = self.pods.values().flatten();
        let there: std::collections::HashSet<&String> = there.map(|pod| &pod.uid).collect();
        self.husks.retain(|uid, _| there.contains(uid));
        self.doubles.retain(|uid| there.contains(uid));
        let known = self.slots.keys().chain(self.pods.keys());
        let known: std::collections::BTreeSet<BotId> = known.cloned().collect();
        for bot in known {
            self.settle(&bot, now);
        }
        self.beside_others(snapshot.others);
    }

    fn changed(&mut self, seen: Seen, now: Duration) {
        let bot = seen.bot.clone();
        self.keep(seen);
        self.settle(&bot, now);
    }

    /// Remembers what was told of a Pod, unless later things were told of it already.
    fn keep(&mut self, seen: Seen) {
        let pods = self.pods.entry(seen.bot.clone()).or_default();
        match pods.iter_mut().find(|pod| pod.uid == seen.uid) {
            Some(pod) if seen.version < pod.version => {}
            Some(pod) => *pod = seen,
            None => pods.push(seen),
        }
    }

    fn gone(&mut self, bot: &BotId, uid: &str, now: Duration) {
        self.husks.remove(uid);
        self.doubles.remove(uid);
        if let Some(pods) = self.pods.get_mut(bot) {
            pods.retain(|pod| pod.uid != uid);
            if pods.is_empty() {
                self.pods.remove(bot);
            }
        }
        self.settle(bot, now);
    }

    /// Makes what is known of a bot fit what there is of it.
    fn settle(&mut self, bot: &BotId, now: Duration) {
        let slot = self.slots.get(bot);
        if slot.is_some_and(|slot| matches!(slot.work, Work::Starting(_))) {
            return;
        }
        let known = slot
            .and_then(|slot| slot.pod.as_ref())
            .map(|pod| pod.uid.clone());
        let pods = self.pods.get(bot).map_or(&[][..], Vec::as_slice);
        let counts = |pod: &&Seen| pod.stage != Stage::Gated && !self.husks.contains_key(&pod.uid);
        let is_known = |pod: &&Seen| known.as_ref() == Some(&pod.uid);
        let best = match pods.iter().filter(counts).find(is_known) {
            Some(known) => Some(known),
            // Of the ends that the cluster's clock has left one is being written down.
            None if pods.iter().any(|pod| pod.is_clocked() && !counts(&pod)) => return,
            None => next(pods.iter().filter(counts)),
        };
        let others: Vec<Seen> = pods
            .iter()
            .filter(counts)
            .filter(|pod| best.is_none_or(|best| best.uid != pod.uid) && !is_behind(pod))
            .cloned()
            .collect();
        let best = best.cloned();
        match (known, best) {
            (Some(known), best) if best.as_ref().is_none_or(|best| best.uid != known) => {
                self.lost(bot, now);
                if let Some(best) = best {
                    self.sees(best, now);
                }
            }
            (_, Some(best)) => self.sees(best, now),
            (_, None) => {}
        }
        for other in others {
            self.beside(&other);
        }
    }

    /// A Pod of a bot that has another one.
    fn beside(&mut self, other: &Seen) {
        if other.is_live() {
            if !self.access.lease.may_act() || !self.doubles.insert(other.uid.clone()) {
                return;
            }
            let name = &other.name;
            let text = if other.is_clocked() {
                format!(
                    "another tick of it is there, Pod {name}: its CronJob has forgotten one. What comes later claims the state, and the other one is fenced"
                )
            } else {
                format!(
                    "TWO Pods of it are there, the other one is {name}: delete one of them; who made it?"
                )
            };
            let called = format!("{} ({})", other.called, other.bot);
            self.console.about(&other.bot, &called).warn(&text);
        } else if self.access.lease.may_act() {
            self.husks.insert(other.uid.clone(), Husk::Going);
            self.release(other);
        }
    }

    /// Takes in what the bot's Pod tells.
    fn sees(&mut self, seen: Seen, now: Duration) {
        let bot = seen.bot.clone();
        let touched = self.clock.tick();
        let slot = self.slots.entry(bot.clone());
        let slot = slot.or_insert_with(|| Slot::found(&seen, now, touched));
        if slot.pod.as_ref() == Some(&seen) || slot.verdict.is_some() {
            // Who acts now may only have watched when it was first told.
            let reason = match slot.verdict {
                None if seen.stage != Stage::Over => seen.verdict(),
                _ => None,
            };
            slot.pod = Some(seen);
            if let Some(reason) = reason {
                self.end_for(&bot, reason, now);
            }
            return;
        }
        slot.touched = touched;
        let is_new = slot.pod.as_ref().is_none_or(|pod| pod.uid != seen.uid);
        let before = slot.pod.as_ref().and_then(|pod| pod.trouble.clone());
        let trouble = seen
            .trouble
            .clone()
            .filter(|trouble| before.as_ref() != Some(trouble));
        if is_new {
            self.console
                .about(&bot, &slot.name)
                .say(&format!("found, Pod {}", seen.name));
            slot.renew_at = Some(now + spread(&bot));
        }
        self.note(&seen, trouble, now);
    }

    /// The bot's Pod, started by us or found, tells this.
    fn note(&mut self, seen: &Seen, trouble: Option<String>, now: Duration) {
        let bot = seen.bot.clone();
        let Some(slot) = self.slots.get_mut(&bot) else {
            return;
        };
        let is_over = seen.stage == Stage::Over;
        let known = slot.pod.as_ref().is_some_and(|pod| pod.uid == seen.uid);
        if !known {
            self.unsaved.remove(&bot);
        }
        let before = slot.saving;
        let new = slot.sees(seen.clone(), now);
        let may_act = self.access.lease.may_act();
        if let Some(trouble) = trouble.filter(|_| !is_over && may_act) {
            self.console.about(&bot, &slot.name).warn(&trouble);
        }
        let is_news = !new.is_empty() || (known && before != slot.saving);
        if is_news && !is_over {
            let records = slot.records();
            self.told.push(Told::Ran {
                bot: bot.clone(),
                birth: seen.birth.clone(),
                records: Box::new(records),
            });
        }
        if is_over {
            self.over(seen, now);
        } else if let Some(reason) = seen.verdict() {
            self.end_for(&bot, reason, now);
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
            Ok(running) => self.runs(bot, running, now),
            Err(not) => {
                if let Some(mut slot) = self.slots.remove(bot) {
                    self.not_started(bot, &mut slot, not, now);
                    self.slots.insert(bot.clone(), slot);
                }
            }
        }
        self.settle(bot, now);
    }

    /// Its Pod is there: made by us, or found.
    fn runs(&mut self, bot: &BotId, running: Running, now: Duration) {
        // The watch may have told more of it already.
        let later = self.pods.get(bot).and_then(|pods| {
            let is_it = |pod: &&Seen| pod.uid == running.seen.uid;
            pods.iter()
                .find(is_it)
                .filter(|pod| pod.stage != Stage::Gated)
        });
        let seen = later.cloned().unwrap_or(running.seen);
        self.keep(seen.clone());
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let what = if running.is_found { "found" } else { "started" };
        let text = format!("{what}, Pod {}", seen.name);
        self.console.about(bot, &slot.name).say(&text);
        if running.is_found {
            slot.renew_at = Some(now + spread(bot));
        } else {
            let due = running.keys.due(self.access.template.grace());
            slot.renew_at = due.map(|left| now + left);
            slot.keys = Good::of(running.keys, now);
        }
        let trouble = seen.trouble.clone();
        self.note(&seen, trouble, now);
        // Told to stop before it was there.
        self.delete(bot, now);
    }

    /// Notes why a bot was not started, and tells it once.
    pub(super) fn not_started(
        &mut self,
        bot: &BotId,
        slot: &mut Slot,
        not: NotStarted,
        now: Duration,
    ) {
        let outcome = match slot.stop {
            Some(stop) => stop.outcome,
            None => not.outcome,
        };
        if slot.instance.reason.as_ref() != Some(&not.why) {
            self.console.about(bot, &slot.name).warn(&not.why);
        }
        let why = not.why.clone();
        slot.ended(outcome, not.why, now);
        if let (Outcome::Failed | Outcome::Refused, Some(start)) = (outcome, slot.start.take()) {
            self.told.push(Told::NotStarted {
                bot: bot.clone(),
                name: slot.instance.name.clone().unwrap_or_default(),
                start,
                why,
                failures: slot.failures.max(1),
            });
        }
    }

    fn deleted(&mut self, bot: &BotId, result: &Result<(), String>, now: Duration) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let Some(stop) = &mut slot.stop else { return };
        stop.told = if result.is_ok() {
            Word::Taken
        } else {
            Word::Unsaid
        };
        stop.again_at = now + AGAIN;
        if let Err(why) = result {
            let text = format!("it is not told to end yet: {why}; it is tried again");
            self.console.about(bot, &slot.name).warn(&text);
        }
    }

    fn released(&mut self, bot: &BotId, uid: &str, result: Result<(), String>, now: Duration) {
        match result {
            Ok(()) => {
                // The watch may still tell of it.
                let mut pods = self.pods.get(bot).into_iter().flatten();
                if pods.any(|pod| pod.uid == uid) {
                    self.husks.insert(uid.to_owned(), Husk::Going);
                }
                self.settle(bot, now);
            }
            // It was let go after all, or may be.
            Err(_) if self.is_there(bot, uid) => {
                self.husks.remove(uid);
                self.settle(bot, now);
            }
            Err(why) => {
                let text = format!("its Pod is not removed yet: {why}; it is tried again");
                if let Some(husk) = self.husks.get_mut(uid) {
                    *husk = Husk::Refused(now + AGAIN);
                    self.console.about(bot, bot.as_str()).warn(&text);
                }
                let Some(slot) = self.slots.get_mut(bot) else {
                    return;
                };
                let is_it = slot.pod.as_ref().is_some_and(|pod| pod.uid == uid);
                if is_it && slot.verdict.is_some() {
                    slot.release_at = Some(now + AGAIN);
                    self.console.about(bot, &slot.name).warn(&text);
                }
            }
        }
    }

    /// Whether a Pod is there that neither has ended nor is to end.
    fn is_there(&self, bot: &BotId, uid: &str) -> bool {
        let mut pods = self.pods.get(bot).into_iter().flatten();
        pods.any(|pod| pod.uid == uid && pod.is_live() && !pod.is_ending)
    }

    fn renewed(&mut self, bot: &BotId, uid: &str, result: Result<Term, String>, now: Duration) {
        let slot = self.slots.get_mut(bot);
        let is_it = |slot: &&mut Slot| slot.pod.as_ref().is_some_and(|pod| pod.uid == uid);
        let Some(slot) = slot.filter(is_it) else {
            return;
        };
        match result {
            Ok(keys) => {
                let due = keys.due(self.access.template.grace());
                slot.renew_at = due.map(|left| now + left);
                slot.keys = Good::of(keys, now);
            }
            Err(why) => {
                let then = match slot.stop {
                    Some(_) => "it ends with those it has",
                    None => "it is tried again",
                };
                let text = format!("its keys are not renewed yet: {why}; {then}");
                self.console.about(bot, &slot.name).warn(&text);
            }
        }
    }
}

/// The cluster's clock goes on while nobody looks: it has started this and it has ended.
fn is_behind(pod: &Seen) -> bool {
    pod.is_clocked() && !pod.is_live()
}

/// The Pod that is a bot's: first what is to be told of the past, in its order, and then what lives.
fn next<'a>(pods: impl Iterator<Item = &'a Seen> + Clone) -> Option<&'a Seen> {
    let behind = pods.clone().filter(|pod| is_behind(pod));
    let oldest = behind.min_by_key(|pod| pod.birth.start.at);
    oldest.or_else(|| pods.max_by_key(|pod| (pod.is_live(), pod.birth.start.at)))
}

/// When a Pod that was found gets new keys: not all in one moment.
fn spread(bot: &BotId) -> Duration {
    let sum = bot.as_str().bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    RENEW_FOUND * (sum % 1000) / 1000
}
