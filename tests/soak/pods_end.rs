//! The end of the soak of a cluster: everything is healed, and what is promised is looked at.

use std::collections::BTreeSet;

use tests::servers::{ACCESS_KEY, SECRET_KEY, nats};

use crate::end::RECOVERY;
use crate::lines::{hold, instances, written};
use crate::pods::{COUNT, Pods};
use crate::questions::ask;
use crate::ticks;
use crate::world::{Bot, CANARY};

impl Pods {
    /// Heals everything, wants all bots with parameters of their own, and waits until it is so.
    pub fn settle(&mut self) {
        self.journal.note("-- the end begins");
        self.heal(|_| true);
        let answers = self.questions.end(&self.journal);
        println!("soak: {answers} questions were answered while all was cut and killed");
        self.documents_are_as_said();
        for bot in 0..COUNT {
            self.say(bot, "updated");
        }
        for bot in 0..COUNT {
            self.runs_as_said(bot);
        }
        self.documents_are_as_said();
        let is_bots = |name: &String| name.starts_with("pod/default-soak");
        let mut there = self.rig.names("pods");
        there.retain(is_bots);
        let wanted: Vec<String> = (0..COUNT)
            .map(|bot| format!("pod/{}", self.pod(bot).name))
            .collect();
        self.journal.check("all", there == wanted, || {
            format!("there are {there:?}, not {wanted:?}")
        });
        for agent in &self.agents {
            for bot in &self.bots {
                agent.wait_row(&self.rig, &bot.id, |row| {
                    (row["state"] == "running").then_some(())
                });
            }
        }
    }

    fn documents_are_as_said(&self) {
        for bot in &self.bots {
            bot.is_documented(&self.rig.mongo, &self.journal);
        }
    }

    /// It runs on its last document, what it had written by then comes into the store, and it answers.
    fn runs_as_said(&self, bot: usize) {
        let Bot { id, wanted, .. } = &self.bots[bot];
        let wanted = wanted.as_ref().expect("a wanted bot");
        let said = format!("round={}", wanted["round"]);
        let mut by_then = None;
        self.journal.wait(id, RECOVERY, || {
            let logs = self.pod(bot).logs("bot");
            let begun = |line: &str| line.contains("BEGAN") && line.ends_with(&said);
            if !logs.lines().any(begun) {
                let state = self.pod(bot).container("bot");
                return Err(format!("it has not begun with {said}: {state}\n{logs}"));
            }
            let last = logs.lines().filter_map(number).max();
            let by_then = *by_then.get_or_insert(last.ok_or("it has no number")?);
            let saved = self.watch.highest(id);
            let late = || format!("it wrote {by_then}, and {saved} is in the store");
            (saved >= by_then).then_some(()).ok_or_else(late)
        });
        self.watch.holds();
        let saved = self.watch.highest(id);
        for agent in &self.agents {
            self.journal.wait(id, RECOVERY, || {
                let (status, body) = ask(&agent.gateway, id);
                let holds = status == 200 && body["data"].as_u64() >= Some(saved);
                let wrong = || format!("{saved} was saved, and it answers {status} {body}");
                holds.then_some(()).ok_or_else(wrong)
            });
        }
    }

    /// Removes all bots: nothing of them stays but what is in the store and in history, and that is whole.
    pub fn finish(&mut self) {
        for bot in 0..COUNT {
            self.say(bot, "deleted");
        }
        ticks::remove(&self.rig);
        self.journal.wait("all", RECOVERY, || {
            let kinds = ["pods", "cronjobs", "jobs"];
            let left = kinds.iter().flat_map(|kind| self.rig.names(kind));
            let left: Vec<String> = left.chain(ticks::secrets(&self.rig)).collect();
            left.is_empty()
                .then_some(())
                .ok_or_else(|| format!("{left:?} stay"))
        });
        let letters = self.nats.letters();
        self.journal
            .check("all", letters.is_empty(), || format!("{letters:?}"));
        let (mut lives, mut numbers) = (0, 0);
        for bot in &self.bots {
            let (own, last) = self.numbers_hold(bot);
            self.is_told(bot, own);
            (lives, numbers) = (lives + own, numbers + last);
        }
        let ran = ticks::hold(&self.rig, &self.agents[0], &self.journal);
        println!(
            "soak: {numbers} numbers by {lives} instances of {COUNT} bots in Pods, {ran} ticks"
        );
        self.nothing_secret_was_said();
    }

    /// Each number once, by one instance at a time, and none lost; gives how many instances there were, and the last.
    fn numbers_hold(&self, bot: &Bot) -> (usize, u64) {
        let id = &bot.id;
        let all = instances(self.rig.store.client(), id);
        if let Err(why) = hold(&all, &self.watch.seen(id)) {
            self.journal.broken(id, &why);
        }
        let written = written(&all);
        self.journal.wait(id, RECOVERY, || {
            let saved = self.watch.highest(id);
            let lost = || format!("{written} was written, and {saved} is in the store");
            let holds = written > 0 && saved >= written;
            holds.then_some(()).ok_or_else(lost)
        });
        (all.len(), written)
    }

    /// History has each of its runs once, with its end.
    fn is_told(&self, bot: &Bot, lives: usize) {
        self.journal.wait(&bot.id, RECOVERY, || {
            let words = ["history", "-n", "10000", &bot.id];
            let runs = self.agents[0].ask(&self.rig, &words);
            let mut runs = runs.as_array().expect("runs").clone();
            runs.retain(|run| run["run"] != 0);
            // Each Pod counts its own.
            let names = runs
                .iter()
                .map(|run| format!("{} {}", run["container"], run["run"]));
            let names: BTreeSet<String> = names.collect();
            let ended = runs.iter().all(|run| run["ended_at"].is_string());
            let holds = ended && names.len() == runs.len() && runs.len() >= lives;
            let wrong = || format!("there were {lives} instances, and history has {runs:#?}");
            holds.then_some(()).ok_or_else(wrong)
        });
    }

    fn nothing_secret_was_said(&self) {
        for agent in &self.agents {
            let said = agent.said();
            for word in [CANARY, ACCESS_KEY, SECRET_KEY, nats::PASSWORD] {
                let holds = !said.is_empty() && !said.contains(word);
                self.journal
                    .check("agents", holds, || format!("one said {word}"));
            }
        }
    }
}

/// The number that a line says was written.
fn number(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("WROTE n=")?;
    rest.split(' ').next()?.parse().ok()
}
