//! The soak of a cluster: bots as Pods, what is done to them, and what is looked at when all is healed.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::cluster::{HOST, Pod};
use tests::door::{Door, Way};
use tests::servers::{ACCESS_KEY, Client, SECRET_KEY};
use tests::stack::BOTS;
use tests::{repository, run};

use crate::dice::Dice;
use crate::end::RECOVERY;
use crate::journal::Journal;
use crate::lines::{hold, instances, written};
use crate::rig::{Agent, Rig};
use crate::watch::Watch;
use crate::world::{CANARY, PROGRAM};

/// How many bots there are.
const COUNT: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Act {
    Update,
    Remove,
    KillSync,
    KillSupervisor,
    KillBot,
    DeletePod,
    KillAgent,
    Api,
    Store,
    Kubelet,
}

const ACTS: [(u64, Act); 10] = [
    (6, Act::Update),
    (2, Act::Remove),
    (4, Act::KillSync),
    (2, Act::KillSupervisor),
    (3, Act::KillBot),
    (3, Act::DeletePod),
    (3, Act::KillAgent),
    (4, Act::Api),
    (3, Act::Store),
    (2, Act::Kubelet),
];

/// What is broken for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Api,
    Store,
    Kubelet,
    Agent(usize),
}

/// All of it; what is dropped first stands first.
pub struct Pods {
    agents: Vec<Agent>,
    pub watch: Watch,
    /// The bots, and the round of the document of each that is wanted.
    bots: Vec<(String, Option<i64>)>,
    broken: Vec<(Instant, Broken)>,
    /// The way to the store, of agents and of Pods.
    door: Door,
    rig: Rig,
    length: Duration,
    round: i64,
    journal: Arc<Journal>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.heal(|_| true);
    }
}

impl Pods {
    /// With all bots running.
    pub fn start(rig: Rig, journal: Journal, length: Duration) -> Self {
        let journal = Arc::new(journal);
        let ids: Vec<String> = (0..COUNT).map(|n| format!("soak{n}")).collect();
        let client = Client::new(rig.store.address(), None);
        let watch = Watch::start(client, ids.clone(), Arc::clone(&journal));
        let door = Door::before(HOST, rig.store.address());
        let through = [("MINIO_ENDPOINT", door.address())];
        let agents = vec![rig.agent(&through), rig.agent(&through)];
        let mut pods = Self {
            agents,
            watch,
            bots: ids.into_iter().map(|id| (id, None)).collect(),
            broken: Vec::new(),
            door,
            rig,
            length,
            round: 0,
            journal,
        };
        for bot in 0..COUNT {
            pods.update(bot);
        }
        for (id, _) in &pods.bots {
            pods.journal.wait(id, RECOVERY, || {
                let highest = pods.watch.highest(id);
                let none = || "it has no number in the store".to_owned();
                (highest > 0).then_some(()).ok_or_else(none)
            });
        }
        pods
    }

    /// Does one thing.
    pub fn act(&mut self, dice: &mut Dice) {
        let (act, bot) = (dice.choose(&ACTS), dice.index(COUNT));
        match act {
            Act::Update => self.update(bot),
            Act::Remove => self.remove(bot),
            Act::KillSync => self.kill(bot, "sync", "sync"),
            Act::KillSupervisor => self.kill(bot, "bot", "supervisor"),
            Act::KillBot => self.kill(bot, "bot", "python3"),
            Act::DeletePod => self.delete(bot),
            Act::KillAgent => {
                let agent = dice.index(self.agents.len());
                self.hurt(Broken::Agent(agent), dice);
            }
            Act::Api => self.hurt(Broken::Api, dice),
            Act::Store => self.hurt(Broken::Store, dice),
            Act::Kubelet => self.hurt(Broken::Kubelet, dice),
        }
    }

    /// The bot's document says something new.
    fn update(&mut self, bot: usize) {
        self.round += 1;
        let config = doc! {"round": self.round, "ballast": 0, "key": CANARY};
        let (id, wanted) = &mut self.bots[bot];
        self.rig.running(id, PROGRAM, config);
        *wanted = Some(self.round);
        self.journal.note(&format!("{id} round {}", self.round));
    }

    fn remove(&mut self, bot: usize) {
        let (id, wanted) = &mut self.bots[bot];
        self.rig.mongo.delete(BOTS, doc! {"id": &*id});
        *wanted = None;
        self.journal.note(&format!("{id} removed"));
    }

    fn pod(&self, bot: usize) -> Pod<'_> {
        self.rig
            .cluster
            .pod(format!("default-{}", self.bots[bot].0))
    }

    fn kill(&self, bot: usize, container: &str, program: &str) {
        let pod = self.pod(bot);
        let found = pod.find_process(container, program);
        let killed = found.map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        let name = &pod.name;
        self.journal
            .note(&format!("killed {program} of {name}: {found:?} {killed:?}"));
    }

    fn delete(&self, bot: usize) {
        let pod = self.pod(bot);
        let words = ["delete", "pod", &pod.name, "--wait=false"];
        let done = self.rig.cluster.output(words).status.success();
        self.journal.note(&format!("deleted {}: {done}", pod.name));
    }

    /// Breaks something, unless it is broken.
    fn hurt(&mut self, what: Broken, dice: &mut Dice) {
        let most = (self.length.as_millis() / 8).clamp(3_000, 15_000);
        let most = u64::try_from(most).expect("milliseconds");
        let long = Duration::from_millis(dice.between(500, most));
        let way = dice.choose(&[
            (2, Way::Refused),
            (2, Way::Hangs),
            (1, Way::Slow(Duration::from_millis(700))),
            (1, Way::Answers(503)),
        ]);
        if self.broken.iter().any(|(_, broken)| *broken == what) {
            return;
        }
        self.journal
            .note(&format!("{what:?} for {long:?}, {way:?}"));
        match what {
            Broken::Api => self.rig.api.is(way),
            Broken::Store => self.door.is(way),
            Broken::Kubelet => part("halt", "kubelet"),
            Broken::Agent(agent) => self.agents[agent].kill(),
        }
        self.broken.push((Instant::now() + long, what));
    }

    /// Heals what `is` due.
    pub fn heal(&mut self, is: impl Fn(Instant) -> bool) {
        let (due, rest) = self.broken.drain(..).partition(|(until, _)| is(*until));
        self.broken = rest;
        let due: Vec<(Instant, Broken)> = due;
        for (_, broken) in due {
            self.journal.note(&format!("healed {broken:?}"));
            match broken {
                Broken::Api => self.rig.api.is(Way::Open),
                Broken::Store => self.door.is(Way::Open),
                Broken::Kubelet => part("resume", "kubelet"),
                Broken::Agent(agent) => self.agents[agent].start(&self.rig),
            }
        }
    }

    /// Heals everything, wants all bots with parameters of their own, and waits until it is so.
    pub fn settle(&mut self) {
        self.journal.note("-- the end begins");
        self.heal(|_| true);
        for bot in 0..COUNT {
            self.update(bot);
        }
        for bot in 0..COUNT {
            self.runs_as_said(bot);
        }
        let mut names: Vec<String> = (0..COUNT).map(|bot| self.pod(bot).name).collect();
        names = names.iter().map(|name| format!("pod/{name}")).collect();
        let there = self.rig.names("pods");
        self.journal.check("all", there == names, || {
            format!("there are {there:?}, not {names:?}")
        });
        for agent in &self.agents {
            for (id, _) in &self.bots {
                agent.wait_row(&self.rig, id, |row| {
                    (row["state"] == "running").then_some(())
                });
            }
        }
    }

    /// It runs on its last document, and what it had written by then comes into the store.
    fn runs_as_said(&self, bot: usize) {
        let (id, wanted) = &self.bots[bot];
        let said = format!("round={}", wanted.expect("a wanted bot"));
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
    }

    /// Removes all bots: nothing of them stays but what is in the store, and that is whole.
    pub fn finish(&mut self) {
        for bot in 0..COUNT {
            self.remove(bot);
        }
        self.journal.wait("all", RECOVERY, || {
            let left = self.rig.names("pods");
            left.is_empty()
                .then_some(())
                .ok_or_else(|| format!("{left:?} stay"))
        });
        let (mut lives, mut numbers) = (0, 0);
        for (id, _) in &self.bots {
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
            (lives, numbers) = (lives + all.len(), numbers + written);
        }
        println!("soak: {numbers} numbers by {lives} instances of {COUNT} bots in Pods");
        for agent in &self.agents {
            let said = agent.said();
            for word in [CANARY, ACCESS_KEY, SECRET_KEY] {
                let holds = !said.is_empty() && !said.contains(word);
                self.journal
                    .check("agents", holds, || format!("one said {word}"));
            }
        }
    }
}

/// A part of the cluster's.
fn part(act: &str, part: &str) {
    let script = repository().join("tests/setup/kubernetes.sh");
    let done = run(Command::new(script).args([act, part]));
    assert!(done.status.success(), "{act} {part}");
}

/// The number that a line says was written.
fn number(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("WROTE n=")?;
    rest.split(' ').next()?.parse().ok()
}
