//! Works out why a bot is started from what is seen before: what keeps it from running, why its last instance was
//! stopped or how it ended, what it was made of.

use std::collections::{BTreeMap, BTreeSet};

use contract::BotId;
use contract::record::{Reason, Time};

use super::cause::{Birth, Cause, Start, Told};
use crate::document::Bot;
use crate::launch;
use crate::plan::{Switch, Wanted, Why};

/// What keeps a bot from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Disabled,
    Stopped,
    Switch,
}

/// How the last instance of a bot came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Last {
    /// It was not started, and why.
    NotStarted(String),
    /// It ended so; the words say with what.
    Ended(Reason, String),
}

/// What was seen of the bots since the agent began.
#[derive(Debug, Default)]
pub struct Track {
    kept: BTreeMap<BotId, Kept>,
    asked: BTreeSet<BotId>,
    stopped: BTreeMap<BotId, Why>,
    last: BTreeMap<BotId, Last>,
    /// Bots that should run, or not, when it was last looked; `None` before.
    present: Option<BTreeSet<BotId>>,
    /// Bots that were not there at first.
    arrived: BTreeSet<BotId>,
    /// Whether all were stopped until now, and it has not been looked since.
    is_let_go: bool,
}

/// What there is of a bot at the moment of its start.
#[derive(Debug, Clone)]
pub struct Before<'a> {
    /// What its last instance was made of, if one is known.
    pub birth: Option<&'a Birth>,
    /// Whether anything of it was on this host already.
    pub is_known: bool,
    /// When the host was started.
    pub boot: Option<Time>,
}

impl Track {
    /// Takes in what should run, for as long as it does not.
    pub fn keep(
        &mut self,
        wanted: &BTreeMap<BotId, Wanted>,
        stopped: &BTreeSet<BotId>,
        switch: Switch,
    ) {
        self.note_arrivals(wanted);
        self.kept.retain(|bot, _| wanted.contains_key(bot));
        for (bot, wanted) in wanted {
            let kept = match (wanted, switch) {
                (Wanted::Off, _) => Kept::Disabled,
                (_, _) if stopped.contains(bot) => Kept::Stopped,
                (_, Switch::Off) => Kept::Switch,
                _ if self.is_let_go => Kept::Switch,
                _ => continue,
            };
            self.kept.insert(bot.clone(), kept);
        }
        self.is_let_go &= wanted.is_empty();
    }

    /// All bots may run that might not. An agent may be told before it has looked at any.
    pub fn let_go(&mut self) {
        self.is_let_go = true;
    }

    fn note_arrivals(&mut self, wanted: &BTreeMap<BotId, Wanted>) {
        if let Some(present) = &self.present {
            let new = wanted.keys().filter(|bot| !present.contains(*bot));
            self.arrived.extend(new.cloned());
        }
        let is_same = |present: &BTreeSet<BotId>| present.iter().eq(wanted.keys());
        if !self.present.as_ref().is_some_and(is_same) {
            self.present = Some(wanted.keys().cloned().collect());
        }
    }

    /// Drops what is known of bots that are not there any more.
    pub fn retain(&mut self, there: &BTreeSet<BotId>) {
        self.asked.retain(|bot| there.contains(bot));
        self.arrived.retain(|bot| there.contains(bot));
        self.stopped.retain(|bot, _| there.contains(bot));
        self.last.retain(|bot, _| there.contains(bot));
    }

    /// A person wants it started.
    pub fn ask(&mut self, bot: &BotId) {
        self.asked.insert(bot.clone());
    }

    /// It is stopped. The first word counts.
    pub fn stop(&mut self, bot: &BotId, why: Why) {
        self.stopped.entry(bot.clone()).or_insert(why);
    }

    /// Why it was stopped.
    pub fn why(&self, bot: &BotId) -> Option<Why> {
        self.stopped.get(bot).copied()
    }

    /// Its instance has ended, or was not started.
    pub fn end(&mut self, bot: &BotId, last: Last) {
        self.last.insert(bot.clone(), last);
    }

    /// It is started now: why?
    pub fn start(&mut self, bot: &Bot, before: &Before<'_>) -> Start {
        let Told(cause, because) = self.cause(bot, before);
        let id = &bot.id;
        self.kept.remove(id);
        self.asked.remove(id);
        self.arrived.remove(id);
        self.stopped.remove(id);
        self.last.remove(id);
        Start::now(cause, because)
    }

    fn cause(&self, bot: &Bot, before: &Before<'_>) -> Told {
        let told = |cause| Told(cause, None);
        let with = |cause, because: &str| Told(cause, Some(because.to_owned()));
        if self.asked.contains(&bot.id) {
            return told(Cause::Asked);
        }
        match (self.kept.get(&bot.id), self.stopped.get(&bot.id)) {
            (Some(Kept::Disabled), _) | (None, Some(Why::Disabled)) => told(Cause::Enabled),
            (Some(Kept::Stopped), _) | (None, Some(Why::Restarted)) => told(Cause::Asked),
            (Some(Kept::Switch), _) | (None, Some(Why::Asked)) => {
                with(Cause::Host, "all bots were stopped")
            }
            (None, Some(Why::Rolled)) => told(Cause::Rolled),
            (None, Some(Why::Deleted | Why::Absent)) => with(Cause::Created, "it is there again"),
            (None, Some(Why::Changed | Why::Ending | Why::Limit | Why::Replaced) | None) => {
                self.by_itself(bot, before)
            }
        }
    }

    fn by_itself(&self, bot: &Bot, before: &Before<'_>) -> Told {
        let changed = before.birth.and_then(|birth| changed(birth, bot));
        if let Some(cause) = changed {
            return Told(cause, None);
        }
        match self.last.get(&bot.id) {
            Some(last) => after(last, before),
            None if self.stopped.contains_key(&bot.id) => Told(Cause::Config, None),
            None if self.arrived.contains(&bot.id) && before.is_known => {
                Told(Cause::Created, Some("it is there again".to_owned()))
            }
            None if before.is_known => Told(Cause::Host, Some("the agent was away".to_owned())),
            None => Told(Cause::Created, None),
        }
    }
}

fn after(last: &Last, before: &Before<'_>) -> Told {
    let began = before.birth.map(|birth| birth.start.at);
    let is_of_before_boot = matches!((began, before.boot), (Some(at), Some(boot)) if at < boot);
    match last {
        Last::NotStarted(why) if before.birth.is_none() && !before.is_known => {
            Told(Cause::Created, Some(format!("tried again: {why}")))
        }
        Last::NotStarted(why) => Told(Cause::Retried, Some(why.clone())),
        Last::Ended(Reason::Lost | Reason::Killed, _) if is_of_before_boot => {
            Told(Cause::Host, Some("the host was started anew".to_owned()))
        }
        Last::Ended(Reason::Stopped, _) => {
            Told(Cause::Host, Some("it was stopped from outside".to_owned()))
        }
        Last::Ended(Reason::StartFailed, how) => Told(Cause::Retried, Some(how.clone())),
        Last::Ended(Reason::Edited, _) => Told(Cause::Edited, None),
        Last::Ended(Reason::Fenced, _) => Told(Cause::Fenced, None),
        Last::Ended(_, how) => Told(Cause::Crashed, Some(how.clone())),
    }
}

/// What has changed of a bot since its last instance.
fn changed(birth: &Birth, bot: &Bot) -> Option<Cause> {
    let is_same = birth.launch.as_deref() == Some(launch::digest(bot).as_str());
    if birth.launch.is_none() || is_same {
        return None;
    }
    let is_other_code = birth.code.as_deref() != Some(bot.code.as_str());
    let is_other_version = Some(&bot.definition.version) != birth.version.as_ref();
    let digest = launch::config_digest(bot);
    let is_other_config = birth
        .config
        .as_deref()
        .map(|config| config != digest.as_str());
    Some(match is_other_config {
        _ if is_other_version => Cause::Code,
        Some(true) => Cause::Config,
        _ if is_other_code => Cause::Code,
        _ => Cause::Config,
    })
}

/// When this host was started.
pub fn boot() -> Option<Time> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    let since = std::time::Duration::from_secs(line.trim().parse().ok()?);
    Some(Time::from(std::time::UNIX_EPOCH + since))
}

#[cfg(test)]
#[path = "track/tests.rs"]
mod tests;
