//! Which schedules the cluster's own clock has: what is handed over to it and taken back, one thing of a bot at a time.
//!
//! ```text
//! ours ─▶ Secrets ─▶ a CronJob, suspended ─▶ still the lease? ─▶ switched on: the cluster's
//!  ▲                                                                 │
//!  └── SETTLE ◀── it is gone ◀── removed ◀───────────────────────────┘  each on condition that it is as it was seen
//! ```
//!
//! Who starts ticks changes only in a quiet moment ([`crate::schedule`] knows when), and for [`SETTLE`] after a CronJob is
//! gone nobody starts any: what it had started last is seen by then. A CronJob that has started a tick since it was seen
//! stays, and that tick is looked at first.
//!
//! An agent that stands still between any two of these, and goes on when another acts, changes nothing: what it makes is
//! suspended and goes, what it switches on or removes is not any more as it saw it. One that begins to act looks anew at
//! what there is, before it starts any tick.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use contract::BotId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use super::access::Access;
use super::cronjob::{self, There};
use super::cronjob_watch::Again;
use super::keys::Term;
use super::refusals::{AGAIN, Refusals};
use super::seen::Seen;
use super::{Engine, News, RENEW_AGAIN, cronjob_work, names, secret, work};
use crate::bots::{Listed, Offer};
use crate::document::Bot;
use crate::engine::not_started::NotStarted;
use crate::engine::stack::Stack;
use crate::schedule::decide::Whose;

/// How long nobody starts ticks after a CronJob is gone.
const SETTLE: Duration = Duration::from_secs(10);
/// What is said of a CronJob that others have changed.
const MEDDLED: &str = "somebody has suspended its CronJob or changed its times";

/// What is known of the cluster's clock.
#[derive(Debug, Default)]
pub struct Times {
    /// The CronJobs of the stack, once they were listed.
    there: Option<BTreeMap<BotId, There>>,
    /// Why they cannot be listed.
    hidden: Option<String>,
    /// Bots whose CronJob is being made, changed, removed, or has just gone.
    busy: BTreeSet<BotId>,
    /// What was refused of changes.
    refused: Refusals,
    /// Bots whose place with the cluster's clock has changed since that was asked last.
    moved: BTreeSet<BotId>,
    /// When the keys of a CronJob are made anew.
    renew_at: BTreeMap<BotId, Duration>,
    /// The engine's time.
    now: Duration,
    /// How a listing is made to come at once, and numbered.
    pub(super) again: Again,
    /// How old the last listing is, and the oldest that one may decide by, by that clock.
    listed: u64,
    needed: u64,
}

/// What has happened to CronJobs.
#[derive(Debug)]
pub enum Word {
    /// What there is, and the clock when it was asked for.
    Listed(u64, Vec<(BotId, There)>),
    /// They cannot be listed.
    Hidden(String),
    /// One is new or has changed.
    Seen(BotId, Box<There>),
    /// One with this unique id is gone.
    Gone(BotId, String),
    /// One was made or changed, and the life of its keys; or it was not.
    Handed(BotId, Result<(Box<There>, Term), NotStarted>),
    /// One was removed, or was not.
    Removed(BotId, Result<(), String>),
    /// Jobs of one that is gone could not be removed.
    JobsStay(BotId, String),
    /// Nobody has started ticks for long enough since the CronJob with these Secrets is gone.
    Settled(BotId, Option<secret::Names>),
    /// Its keys were made anew, or not.
    Renewed(BotId, Result<Term, String>),
}

impl Times {
    /// Whether it is known what the cluster's clock has; `is_wanted`: it is to have anything.
    pub fn is_known(&self, is_wanted: bool) -> bool {
        match self.there {
            // What is not seen any more may have changed.
            Some(_) => self.hidden.is_none() && self.listed >= self.needed,
            None => !is_wanted && self.hidden.is_some(),
        }
    }

    /// Bots of which the cluster's clock may start something, or has started what is not seen yet: their CronJob is there, is
    /// being changed, or has just gone.
    pub fn ticking(&self) -> impl Iterator<Item = &BotId> {
        let there = self.there.iter().flat_map(BTreeMap::keys);
        there.chain(&self.busy)
    }

    /// Names of CronJobs, those that are being made too, and without those that start nothing any more.
    pub fn names(&self, stack: &Stack) -> BTreeSet<String> {
        let is_over = |bot: &BotId| self.cron(bot).is_some_and(|there| there.is_ending);
        let bots = self.ticking();
        let bots = bots.filter(|bot| self.busy.contains(*bot) || !is_over(bot));
        bots.map(|bot| names::schedule(stack, bot)).collect()
    }

    /// Bots whose CronJob is being made or changed, with Secrets that are not known here yet, or removed, or has just gone.
    pub fn busy(&self) -> BTreeSet<BotId> {
        self.busy.clone()
    }

    /// Names of Secrets that CronJobs use.
    pub fn secrets(&self) -> impl Iterator<Item = String> {
        let there = self.there.iter().flat_map(BTreeMap::values);
        let names = there.filter_map(|there| there.secrets.clone());
        names.flat_map(|secret::Names { config, keys }| [config, keys])
    }

    /// What is known may be old: it is not known before it was looked anew.
    pub(super) fn look_anew(&mut self) {
        self.needed = self.again.clock.tick();
        self.again.now.notify_one();
    }

    /// For these it has changed who starts their ticks, or may.
    pub(super) fn moves(&mut self, bots: Vec<BotId>) {
        self.moved.extend(bots);
    }

    fn cron(&self, bot: &BotId) -> Option<&There> {
        self.there.as_ref()?.get(bot)
    }

    fn refused(&mut self, bot: &BotId, why: &str, pause: Duration, passes: bool) -> bool {
        self.refused.take(bot, why, self.now, pause, passes)
    }
}

impl Engine {
    /// Who starts the bot's ticks.
    pub fn whose(&self, bot: &BotId) -> Whose {
        if self.times.busy.contains(bot) || !self.times.is_known(self.access.clock) {
            return Whose::Nobodys;
        }
        match self.times.cron(bot) {
            // It starts nothing any more, however long the cluster takes to remove it.
            Some(there) if there.is_ending => Whose::Ours,
            Some(there) if !there.is_on => Whose::Nobodys,
            Some(there) => Whose::Clusters(there.since),
            None => Whose::Ours,
        }
    }

    /// Whether schedules are given to the cluster's clock.
    pub fn gives_to_a_clock(&self) -> bool {
        self.access.clock
    }

    /// Whether another runner has the bot.
    pub fn is_anothers(&self, bot: &BotId) -> bool {
        self.others.contains_key(bot)
    }

    /// Whether who starts the bot's ticks may be changed now.
    pub fn can_hand(&self, bot: &BotId) -> bool {
        let cron = self.times.cron(bot);
        self.is_ready()
            && self.access.lease.may_act()
            && !self.times.busy.contains(bot)
            && (cron.is_some() || !self.others.contains_key(bot))
            && self.times.refused.lets(bot, self.times.now, cron.is_some())
            && cron.map_or(self.access.clock, |there| !there.is_ending)
    }

    /// Bots whose CronJob is there.
    pub fn clocked_all(&self) -> impl Iterator<Item = &BotId> {
        self.times.there.iter().flat_map(BTreeMap::keys)
    }

    /// Bots whose CronJob was made and not switched on, by an agent that has gone or stood still.
    pub fn clocked_off(&self) -> impl Iterator<Item = &BotId> {
        let all = self.times.there.iter().flatten();
        all.filter(|(_, there)| !there.is_on).map(|(bot, _)| bot)
    }

    /// Bots of which something is there that the cluster's clock has started.
    pub fn clocked(&self) -> impl Iterator<Item = &BotId> {
        let all = self.pods.iter();
        let some = all.filter(|(_, pods)| pods.iter().any(Seen::is_clocked));
        some.map(|(bot, _)| bot)
    }

    /// Bots whose place with the cluster's clock has changed since this was asked last: their CronJob starts other ticks or
    /// none, or is gone for long enough.
    pub fn moved(&mut self) -> BTreeSet<BotId> {
        mem::take(&mut self.times.moved)
    }

    /// Whether the bot's CronJob is as it would be made of this row.
    pub fn is_clocked_as(&self, row: &Listed) -> bool {
        let made = self.clocked_bot(row);
        made.is_none_or(|(bot, schedule)| {
            let digest = cronjob::digest(bot, &self.access.template, &schedule);
            let there = self.times.cron(&bot.id);
            there.is_none_or(|there| {
                let is_same = digest.is_ok_and(|digest| digest == there.digest);
                // Somebody may have edited the times, and left the digest.
                is_same && there.schedule == schedule
            })
        })
    }

    fn clocked_bot<'a>(&self, row: &'a Listed) -> Option<(&'a Bot, String)> {
        let Offer::Bot(bot) = &row.offer else {
            return None;
        };
        let timetable = bot.timetable.as_ref().filter(|_| self.access.clock)?;
        let cron = timetable.cron().ok()?;
        let schedule = timetable.plain(&cron)?.to_owned();
        Some((bot, schedule))
    }

    /// The cluster's clock gets the schedule of this row, as it is now. Other times are another CronJob, after the old one.
    pub fn hand_over(&mut self, row: &Listed) {
        let Some((bot, schedule)) = self.clocked_bot(row) else {
            return;
        };
        if self.times.busy.contains(&bot.id) {
            return;
        }
        let before = self.times.cron(&bot.id);
        if before.is_some_and(|before| before.schedule != schedule) {
            return self.take_back(&bot.id);
        }
        let before = before.cloned();
        self.times.busy.insert(bot.id.clone());
        let (access, news, bot) = (self.access.clone(), self.news.clone(), bot.clone());
        let name = format!("{} ({})", bot.definition.name, bot.id);
        if before.is_none() && !self.times.refused.has(&bot.id) {
            let text = "its times are kept by a CronJob from now on";
            self.console.about(&bot.id, &name).say(text);
        }
        tokio::spawn(async move {
            let handed = Box::pin(cronjob_work::apply(
                &access,
                &bot,
                &schedule,
                before.as_ref(),
            ))
            .await;
            let _ = news.send(News::Times(Word::Handed(bot.id, handed)));
        });
    }

    /// The cluster's clock has the bot's schedule no longer, unless it has just started something.
    pub fn take_back(&mut self, bot: &BotId) {
        let there = self.times.cron(bot);
        let Some(there) = there.filter(|_| !self.times.busy.contains(bot)).cloned() else {
            return;
        };
        self.times.busy.insert(bot.clone());
        let (access, news, bot) = (self.access.clone(), self.news.clone(), bot.clone());
        tokio::spawn(async move {
            let removed = cronjob_work::remove(&access, &there).await;
            let is_gone = removed.is_ok();
            let _ = news.send(News::Times(Word::Removed(bot.clone(), removed)));
            if is_gone {
                settle(access, news, bot, there.secrets).await;
            }
        });
    }

    /// Takes in what has happened.
    pub(super) fn take_times(&mut self, word: Word, now: Duration) {
        self.times.now = now;
        match word {
            Word::Listed(begun, all) => {
                self.times.listed = begun;
                self.times_listed(all.into_iter().collect(), now);
            }
            Word::Hidden(why) => self.times_hidden(why),
            Word::Seen(bot, there) => self.keep_time(bot, *there, now),
            Word::Gone(bot, uid) => self.time_gone(&bot, &uid),
            Word::Handed(bot, result) => self.handed(&bot, result, now),
            Word::Removed(bot, result) => self.removed(&bot, result),
            Word::JobsStay(bot, why) => {
                let text =
                    format!("Jobs of its CronJob, which is gone, are not removed yet: {why}");
                self.console.about(&bot, bot.as_str()).warn(&text);
            }
            Word::Settled(bot, secrets) => self.settled(&bot, secrets),
            Word::Renewed(bot, result) => self.times_renewed(&bot, result, now),
        }
    }

    fn times_listed(&mut self, all: BTreeMap<BotId, There>, now: Duration) {
        self.times.hidden = None;
        let before = self.times.there.take().unwrap_or_default();
        let is_there = |bot: &BotId, there: &There| {
            let listed = all.get(bot);
            listed.is_some_and(|listed| listed.uid == there.uid)
        };
        let (same, gone) = before.into_iter().partition(|(bot, it)| is_there(bot, it));
        self.times.there = Some(same);
        for (bot, there) in all {
            self.keep_time(bot, there, now);
        }
        let gone: BTreeMap<BotId, There> = gone;
        for (bot, there) in gone {
            if self.times.cron(&bot).is_none() {
                self.settles(bot, there.secrets);
            }
        }
    }

    fn times_hidden(&mut self, why: String) {
        if self.times.hidden.is_none() && self.access.clock {
            self.console.warn(&format!(
                "CronJobs cannot be looked at: {why}; no schedule is started until they can, or THE0_CRONJOBS is false"
            ));
        }
        self.times.hidden = Some(why);
    }

    fn keep_time(&mut self, bot: BotId, there: There, now: Duration) {
        let Some(all) = &mut self.times.there else {
            return;
        };
        if all.get(&bot).is_some_and(|known| there.is_older(known)) {
            return;
        }
        let (is_ending, secrets) = (there.is_ending, there.secrets.clone());
        let is_moved = all.get(&bot).is_some_and(|before| {
            let starts = |it: &There| (it.is_on, it.schedule.clone(), it.digest.clone());
            starts(before) != starts(&there)
        });
        // None that was switched on is switched off, or gets other times, by an agent.
        let is_meddled = all.get(&bot).is_some_and(|before| {
            let is_it = before.uid == there.uid && before.is_on && !there.is_ending;
            is_it && (!there.is_on || before.schedule != there.schedule)
        });
        let before = all.insert(bot.clone(), there);
        if is_moved {
            self.times.moved.insert(bot.clone());
        }
        let is_news = is_meddled && self.times.refused(&bot, MEDDLED, AGAIN, true);
        if is_news && self.access.lease.may_act() {
            let text = format!("{MEDDLED}: it gets another one (`agent stop` holds it)");
            self.console.about(&bot, bot.as_str()).warn(&text);
        }
        if is_ending {
            // Its Secrets stay until it is gone.
            if before.is_none_or(|before| !before.is_ending) {
                self.settles(bot, secrets);
            }
        } else if before.is_none() && !self.times.renew_at.contains_key(&bot) {
            // Another agent has made its keys: nobody here knows how long they are good.
            self.times.renew_at.insert(bot, now);
        }
    }

    fn time_gone(&mut self, bot: &BotId, uid: &str) {
        let Some(all) = &mut self.times.there else {
            return;
        };
        if all.get(bot).is_some_and(|there| there.uid == uid) {
            let secrets = all.remove(bot).and_then(|there| there.secrets);
            self.settles(bot.clone(), secrets);
        }
    }

    /// Somebody has removed the bot's CronJob, we or another.
    fn settles(&mut self, bot: BotId, secrets: Option<secret::Names>) {
        self.times.renew_at.remove(&bot);
        if self.times.busy.insert(bot.clone()) {
            let (access, news) = (self.access.clone(), self.news.clone());
            tokio::spawn(settle(access, news, bot, secrets));
        }
    }

    /// What a CronJob had started last is seen by now. Its Secrets go, unless that still needs them: then they are swept.
    /// Nothing else is done about the bot meanwhile: the Secrets of a CronJob that is made anew may have the same names, and
    /// so only who acts removes them.
    fn settled(&mut self, bot: &BotId, secrets: Option<secret::Names>) {
        let is_used = self.pods.contains_key(bot)
            || self.times.cron(bot).is_some()
            || !self.access.lease.may_act();
        let Some(secret::Names { config, keys }) = secrets.filter(|_| !is_used) else {
            self.times.busy.remove(bot);
            self.times.moved.insert(bot.clone());
            return;
        };
        let (access, news, bot) = (self.access.clone(), self.news.clone(), bot.clone());
        tokio::spawn(async move {
            work::remove_secrets(access, [config, keys]).await;
            let _ = news.send(News::Times(Word::Settled(bot, None)));
        });
    }

    fn handed(
        &mut self,
        bot: &BotId,
        result: Result<(Box<There>, Term), NotStarted>,
        now: Duration,
    ) {
        self.times.busy.remove(bot);
        match result {
            Ok((there, keys)) => {
                self.keep_time(bot.clone(), *there, now);
                self.times_renewed(bot, Ok(keys), now);
            }
            Err(not) => {
                // Nobody starts ticks while one is there that is off.
                let is_off = self.times.cron(bot).is_some_and(|there| !there.is_on);
                let text = format!("its CronJob is not as it should be yet: {}", not.why);
                if self.times.refused(bot, &text, AGAIN, is_off) {
                    self.console.about(bot, bot.as_str()).warn(&text);
                }
            }
        }
    }

    fn removed(&mut self, bot: &BotId, result: Result<(), String>) {
        match result {
            Ok(()) => {
                if let Some(all) = &mut self.times.there {
                    all.remove(bot);
                }
                self.times.renew_at.remove(bot);
            }
            Err(why) => {
                self.times.busy.remove(bot);
                let text = format!("its CronJob is not removed yet: {why}");
                if self.times.refused(bot, &text, super::AGAIN, false) {
                    self.console.about(bot, bot.as_str()).warn(&text);
                }
            }
        }
    }

    fn times_renewed(&mut self, bot: &BotId, result: Result<Term, String>, now: Duration) {
        let grace = self.access.template.grace();
        match result {
            Ok(keys) => match keys.due(grace) {
                Some(left) => drop(self.times.renew_at.insert(bot.clone(), now + left)),
                None => drop(self.times.renew_at.insert(bot.clone(), Duration::MAX)),
            },
            Err(why) => {
                let text = format!(
                    "the keys of its CronJob are not renewed yet: {why}; it is tried again"
                );
                self.console.about(bot, bot.as_str()).warn(&text);
            }
        }
    }

    /// Makes keys anew of CronJobs that need it.
    pub(super) fn renew_times(&mut self, now: Duration) {
        self.times.now = now;
        let again = now + RENEW_AGAIN.min(self.access.template.keys / 4);
        let due = self.times.renew_at.iter_mut();
        let due = due.filter(|(_, at)| **at <= now);
        let due: Vec<BotId> = due
            .map(|(bot, at)| {
                *at = again;
                bot.clone()
            })
            .collect();
        for bot in due {
            let Some(there) = self.times.cron(&bot).cloned() else {
                continue;
            };
            let (access, news) = (self.access.clone(), self.news.clone());
            tokio::spawn(async move {
                let renewed = cronjob_work::renew(&access, &bot, &there).await;
                let _ = news.send(News::Times(Word::Renewed(bot, renewed)));
            });
        }
    }
}

/// Nobody starts ticks of the bot for [`SETTLE`] after its CronJob is gone, nor before what that has begun and no Pod came of
/// is gone, too. Who does not act any more leaves that to who does.
async fn settle(
    access: Access,
    news: UnboundedSender<News>,
    bot: BotId,
    secrets: Option<secret::Names>,
) {
    sleep(SETTLE).await;
    let mut pause = super::AGAIN;
    while access.lease.may_act()
        && let Err(why) = cronjob_work::remove_jobs(&access, &bot).await
    {
        if news
            .send(News::Times(Word::JobsStay(bot.clone(), why)))
            .is_err()
        {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(AGAIN);
    }
    let _ = news.send(News::Times(Word::Settled(bot, secrets)));
}

#[cfg(test)]
#[path = "times/tests.rs"]
mod tests;
