//! The end of the soak: everything is healed, and what is promised is looked at.

use std::time::Duration;

use serde_json::{Value, json};
use tests::servers::{ACCESS_KEY, SECRET_KEY, mongo, nats};

use crate::lines::{hold, instances, written};
use crate::world::{Bot, CANARY, World};

/// Longer than anything here takes to recover by itself.
pub const RECOVERY: Duration = Duration::from_secs(180);

impl World {
    /// Heals everything, wants all bots with parameters of their own, and waits until it is so.
    pub fn settle(&mut self) {
        self.journal.note("-- the end begins");
        self.heal_all();
        self.documents_are_as_said();
        for bot in 0..self.bots.len() {
            let parameters = self.parameters(bot);
            self.say(bot, "updated", parameters);
        }
        for bot in &self.bots {
            self.runs_as_said(bot);
            self.is_in_sync(bot);
        }
        self.documents_are_as_said();
        self.nothing_is_double();
        for (place, agent) in self.agents.iter().enumerate() {
            self.journal.wait(&format!("agent {place}"), RECOVERY, || {
                match agent.ready() {
                    Some(reply) if reply.status == 200 => Ok(()),
                    reply => Err(format!("it is not ready: {reply:?}")),
                }
            });
        }
    }

    /// The database has what the last event said, and nothing else.
    fn documents_are_as_said(&self) {
        for bot in &self.bots {
            bot.is_documented(&self.stack.mongo, &self.journal);
        }
    }

    fn runs_as_said(&self, bot: &Bot) {
        let container = self.stack.container(&bot.id);
        let said = format!(
            "round={}",
            bot.wanted.as_ref().expect("a wanted bot")["round"]
        );
        self.journal.wait(&bot.id, RECOVERY, || {
            if !container.is_running() {
                return Err(format!("it does not run: {}", container.inspect()["State"]));
            }
            let logs = container.logs();
            let begun = |line: &str| line.contains("BEGAN") && line.contains(&said);
            let has = logs.lines().any(begun);
            has.then_some(())
                .ok_or_else(|| format!("it has not begun with {said}:\n{logs}"))
        });
    }

    /// What it has written by now comes into the store.
    fn is_in_sync(&self, bot: &Bot) {
        let container = self.stack.container(&bot.id);
        let mut written = None;
        self.journal.wait(&bot.id, RECOVERY, || {
            let state = || container.file("/state/.the0-state/count.json");
            if written.is_none() {
                let state: Value =
                    serde_json::from_str(&state().unwrap_or_default()).unwrap_or_default();
                written = state["n"].as_u64();
            }
            let (written, saved) = (
                written.ok_or("it has no number")?,
                self.watch.highest(&bot.id),
            );
            (saved >= written)
                .then_some(())
                .ok_or(format!("it wrote {written}, and {saved} is in the store"))
        });
        self.watch.holds();
    }

    /// One container a bot, which all agents' words agree with.
    fn nothing_is_double(&self) {
        let mut names = self.stack.containers();
        let mut wanted: Vec<String> = self
            .bots
            .iter()
            .map(|bot| self.stack.container(&bot.id).name)
            .collect();
        names.sort();
        wanted.sort();
        self.journal.check("all", names == wanted, || {
            format!("there are {names:?}, not {wanted:?}")
        });
        for agent in &self.agents {
            self.journal.wait("all", RECOVERY, || {
                let rows = agent.ask(&self.stack, &["ps", "-o", "json"]).stdout;
                let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap_or_default();
                let run = rows.iter().filter(|row| row["state"] == "running").count();
                (run == self.bots.len())
                    .then_some(())
                    .ok_or(format!("{run} run in ps: {rows:?}"))
            });
        }
    }

    /// Deletes all bots: nothing of them stays but what is in the store, and that is whole.
    pub fn finish(&mut self) {
        for bot in 0..self.bots.len() {
            self.say(bot, "deleted", json!({}));
        }
        for bot in &self.bots {
            self.is_gone(bot);
        }
        self.journal
            .check("all", self.stack.containers().is_empty(), || {
                "a container stays".into()
            });
        let letters = self.stack.nats.as_ref().expect("a NATS").letters();
        self.journal
            .check("all", letters.is_empty(), || format!("{letters:?}"));
        let mut lives = 0;
        for bot in &self.bots {
            lives += self.numbers_hold(bot);
        }
        let written: u64 = self
            .bots
            .iter()
            .map(|bot| self.watch.highest(&bot.id))
            .sum();
        println!(
            "soak: {written} numbers by {lives} instances of {} bots",
            self.bots.len()
        );
        self.nothing_secret_was_said();
        self.uploads_are_finished();
        self.nothing_of_passing_stays();
        for (place, agent) in self.agents.iter_mut().enumerate() {
            let code = agent.end();
            self.journal
                .check(&format!("agent {place}"), code == 0, || {
                    format!("it ended with {code}")
                });
        }
    }

    fn is_gone(&self, bot: &Bot) {
        self.journal.wait(&bot.id, RECOVERY, || {
            let container = self.stack.container(&bot.id).inspect();
            let volumes = self.stack.volumes(&bot.id);
            let gone = volumes.is_empty() && container.is_null();
            gone.then_some(())
                .ok_or(format!("{volumes:?} and {} stay", container["State"]))
        });
    }

    /// Each number once, by one instance at a time, and none lost; gives how many instances there were.
    fn numbers_hold(&self, bot: &Bot) -> usize {
        let all = instances(self.stack.objects(), &bot.id);
        if let Err(why) = hold(&all, &self.watch.seen(&bot.id)) {
            self.journal.broken(&bot.id, &why);
        }
        let (written, saved) = (written(&all), self.stack_number(bot));
        let holds = written > 0 && saved >= written;
        self.journal.check(&bot.id, holds, || {
            format!("{written} was written, and {saved} is in the store")
        });
        all.len()
    }

    fn stack_number(&self, bot: &Bot) -> u64 {
        self.journal.wait(&bot.id, RECOVERY, || {
            // The watch has looked once more when what it knows is what is there.
            let seen = self.watch.highest(&bot.id);
            std::thread::sleep(Duration::from_secs(1));
            (seen == self.watch.highest(&bot.id))
                .then_some(())
                .ok_or("its state still changes".into())
        });
        self.watch.holds();
        self.watch.highest(&bot.id)
    }

    /// What an upload that was cut off has left is ended by the bot's next start.
    fn uploads_are_finished(&self) {
        let folder = self.stack.store.root().join("data/.minio.sys/multipart");
        self.journal.wait("all", Duration::from_secs(20), || {
            let count = self.stack.store.unfinished_uploads();
            let listed = || {
                let mut list = std::process::Command::new("ls");
                let listed = tests::run(list.args(["-lR", "--full-time"]).arg(&folder));
                tests::text(&listed.stdout)
            };
            let none = count == 0;
            none.then_some(())
                .ok_or_else(|| format!("there are {count} unfinished uploads:\n{}", listed()))
        });
    }

    /// Of the objects that are made for a moment there is none.
    fn nothing_of_passing_stays(&self) {
        let mut keys = self.stack.objects().list("bot-state", "");
        keys.retain(|key| key.ends_with(".sending") || key.ends_with("/probe"));
        self.journal
            .check("all", keys.is_empty(), || format!("{keys:?} stay"));
    }

    fn nothing_secret_was_said(&self) {
        let encoded = |password: &str| password.replace('@', "%40").replace('/', "%2F");
        let words = [
            CANARY,
            SECRET_KEY,
            ACCESS_KEY,
            mongo::PASSWORD,
            nats::PASSWORD,
        ];
        let words = words
            .iter()
            .flat_map(|word| [(*word).to_owned(), encoded(word)]);
        for word in words.collect::<Vec<_>>() {
            for (place, agent) in self.agents.iter().enumerate() {
                let said = agent.said();
                let who = format!("agent {place}");
                self.journal
                    .check(&who, !said.is_empty(), || "it has said nothing".into());
                self.journal
                    .check(&who, !said.contains(&word), || format!("it said {word}"));
            }
        }
    }
}
