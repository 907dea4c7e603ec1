//! What becomes of a bot whose Pod is over.

use std::time::Duration;

use contract::BotId;
use contract::record::{Reason, Time};
use tokio::sync::oneshot;

use super::seen::Seen;
use super::slot::Work;
use super::{AGAIN, Engine, Husk, News};
use crate::ending::Verdict;
use crate::engine::saved::is_saved;
use crate::engine::{Exit, Told};
use crate::history::End;
use crate::plan::Outcome;
use crate::report::Records;

/// How long a Pod that is over waits, at most, until its end is written down.
const NOTED: Duration = Duration::from_secs(10);

impl Engine {
    /// Its own programs have ended the bot, and starting it again in its Pod would be in vain.
    pub(super) fn end_for(&mut self, bot: &BotId, reason: Reason, now: Duration) {
        let Some(slot) = self.slots.get(bot) else {
            return;
        };
        if slot.stop.is_some() || !self.access.lease.may_act() {
            return;
        }
        let voice = self.console.about(bot, &slot.name);
        let outcome = if reason == Reason::Edited {
            voice.say("its state was edited outside: it gets a new Pod that begins with that");
            Outcome::Stopped
        } else {
            voice.warn(&format!("ended ({}): its Pod goes, too", reason.name()));
            Outcome::Refused
        };
        self.halt(bot, outcome, now);
    }

    /// Nothing of the bot's Pod runs any more.
    pub(super) fn over(&mut self, seen: &Seen, now: Duration) {
        let bot = &seen.bot;
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let records = slot.records();
        let verdict = slot.judge(seen, &records);
        slot.instance.exit = Some(Exit {
            code: seen.end.and_then(|end| end.code),
            reason: records.done.as_ref().map(|done| done.reason),
        });
        let failures = match verdict.outcome {
            Outcome::Failed => slot.failures + 1,
            _ => 0,
        };
        let (noted, written) = oneshot::channel();
        let is_ours = slot.stop.is_some();
        let taken = seen.taken.clone().filter(|_| !is_ours);
        self.told.push(over(seen, taken, &records, failures, noted));
        let is_lost = !is_saved(&records) && has_begun(&records);
        if is_lost {
            self.unsaved.insert(bot.clone(), now);
        }
        if self.access.lease.may_act() && is_lost {
            self.console.about(bot, &slot.name).warn(
                "it is not proven that all it had is in the store, and what was not is gone with its Pod",
            );
        }
        if seen.tick().is_some() {
            self.husks.insert(seen.uid.clone(), Husk::Kept);
            self.end(bot, verdict, now);
        } else {
            slot.verdict = Some(verdict);
            slot.work = Work::Releasing;
            slot.release_at = Some(now + NOTED);
            self.wait_for(seen, written);
        }
    }

    /// Tells when the end of the Pod is written down, or is not going to be.
    fn wait_for(&self, pod: &Seen, written: oneshot::Receiver<()>) {
        let (news, bot, uid) = (self.news.clone(), pod.bot.clone(), pod.uid.clone());
        tokio::spawn(async move {
            let _ = written.await;
            let _ = news.send(News::Noted(bot, uid));
        });
    }

    /// The end of the Pod is written down: nobody needs it any more.
    pub(super) fn noted(&mut self, bot: &BotId, uid: &str, now: Duration) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let is_it = slot.pod.as_ref().is_some_and(|pod| pod.uid == uid);
        if is_it && slot.verdict.is_some() && slot.release_at.take().is_some() {
            self.let_go(bot, now);
        }
    }

    /// Lets go of the bot's Pod, if this agent may; else who acts does.
    pub(super) fn let_go(&mut self, bot: &BotId, now: Duration) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        if self.access.lease.may_act() {
            if let Some(pod) = slot.pod.clone() {
                self.release(&pod);
            }
        } else {
            slot.release_at = Some(now + AGAIN);
        }
    }

    /// The bot has ended, and its Pod is in nobody's way.
    pub(super) fn end(&mut self, bot: &BotId, verdict: Verdict, now: Duration) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        let is_tick = slot.pod.as_ref().is_some_and(|pod| pod.tick().is_some());
        let Verdict { outcome, reason } = verdict;
        slot.ended(outcome, reason.clone(), now);
        slot.touched = self.clock.tick();
        if self.access.lease.may_act() {
            let voice = self.console.about(bot, &slot.name);
            if is_tick {
                crate::engine::tell_tick(&voice, &reason, outcome);
            } else {
                crate::engine::tell(&voice, &reason, outcome, slot.failures);
            }
        }
    }

    /// The bot's Pod is not there any more.
    pub(super) fn lost(&mut self, bot: &BotId, now: Duration) {
        let Some(slot) = self.slots.get_mut(bot) else {
            return;
        };
        if let Some(verdict) = slot.verdict.take() {
            return self.end(bot, verdict, now);
        }
        if has_begun(&slot.records()) {
            self.unsaved.insert(bot.clone(), now);
        }
        let (outcome, reason) = match slot.stop {
            Some(stop) => (stop.outcome, "stopped; its Pod was removed by somebody"),
            None => (Outcome::Failed, "failed: its Pod was removed by somebody"),
        };
        self.console.about(bot, &slot.name).warn(reason);
        slot.ended(outcome, reason.to_owned(), now);
        slot.touched = self.clock.tick();
    }
}

/// Whether something ran that could have written; a run that was refused has no number.
fn has_begun(records: &Records) -> bool {
    let begun = records.status.as_ref().is_some_and(|status| status.run > 0);
    let saved = records.synced.as_ref().is_some_and(|it| it.run > 0);
    begun || saved || records.runs.iter().any(|run| run.run > 0)
}

/// A Pod has ended, which the cluster has `taken` for that reason.
fn over(
    seen: &Seen,
    taken: Option<String>,
    records: &Records,
    failures: u32,
    noted: oneshot::Sender<()>,
) -> Told {
    Told::Over {
        bot: seen.bot.clone(),
        birth: seen.birth.clone(),
        end: End {
            code: seen.end.and_then(|end| end.code),
            signal: None,
            is_oom: seen.end.is_some_and(|end| end.is_oom),
            at: seen.end.and_then(|end| end.at).unwrap_or_else(Time::now),
            why: None,
            taken,
        },
        records: Box::new(records.clone()),
        failures,
        noted: Some(noted),
    }
}
