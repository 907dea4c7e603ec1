//! The soak of a cluster: bots as Pods, and what is done to them and to all that they need.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::cluster::{HOST, Pod};
use tests::door::{Door, Way};
use tests::servers::Client;
use tests::servers::nats::{Nats, event};
use tests::stack::BOTS;
use tests::{repository, run};

use crate::dice::Dice;
use crate::end::RECOVERY;
use crate::journal::Journal;
use crate::questions::{ANSWERS, Questions};
use crate::rig::{Agent, Rig};
use crate::ticks;
use crate::watch::Watch;
use crate::world::{Bot, PROGRAM};

/// How many bots there are.
pub const COUNT: usize = 3;
/// The agents' consumer of events.
const CONSUMER: &str = "the0-default-bots";

#[derive(Debug, Clone, Copy)]
enum Act {
    Say(&'static str),
    Repeat,
    Edit,
    Redeliver,
    Ask,
    KillSync,
    KillSupervisor,
    KillBot,
    DeletePod,
    KillAgent,
    Break(Broken),
}

const ACTS: [(u64, Act); 17] = [
    (5, Act::Say("updated")),
    (4, Act::Say("created")),
    (2, Act::Say("deleted")),
    (3, Act::Repeat),
    (2, Act::Edit),
    (1, Act::Redeliver),
    (6, Act::Ask),
    (4, Act::KillSync),
    (2, Act::KillSupervisor),
    (3, Act::KillBot),
    (3, Act::DeletePod),
    (3, Act::KillAgent),
    (4, Act::Break(Broken::Api)),
    (3, Act::Break(Broken::Store)),
    (2, Act::Break(Broken::Mongo)),
    (2, Act::Break(Broken::Nats)),
    (2, Act::Break(Broken::Kubelet)),
];

/// What is broken for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Api,
    Store,
    Mongo,
    Nats,
    Kubelet,
    Agent(usize),
}

/// All of it; what is dropped first stands first.
pub struct Pods {
    pub agents: Vec<Agent>,
    pub watch: Watch,
    pub bots: Vec<Bot>,
    pub questions: Questions,
    broken: Vec<(Instant, Broken)>,
    /// The way to the store, of agents and of Pods.
    store: Door,
    /// The agents' ways.
    mongo: Door,
    to_nats: Door,
    pub nats: Nats,
    pub rig: Rig,
    length: Duration,
    round: u64,
    pub journal: Arc<Journal>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.heal(|_| true);
    }
}

impl Pods {
    /// With all bots running; `None` when a part is missing, which has been said.
    pub fn start(rig: Rig, journal: Journal, length: Duration) -> Option<Self> {
        let journal = Arc::new(journal);
        let nats = Nats::start_with_password()?;
        nats.make_stream();
        let bots = (0..COUNT).map(|place| Bot::new(place, format!("soak{place}")));
        let bots: Vec<Bot> = bots.collect();
        let client = Client::new(rig.store.address(), None);
        let ids = bots.iter().map(|bot| bot.id.clone()).collect();
        let watch = Watch::start(client, ids, Arc::clone(&journal));
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut pods = Self {
            agents: Vec::new(),
            watch,
            bots,
            questions: Questions::default(),
            broken: Vec::new(),
            store: Door::before(HOST, rig.store.address()),
            mongo: Door::before(here, rig.mongo.address()),
            to_nats: Door::before(here, nats.address()),
            nats,
            rig,
            length,
            round: 0,
            journal,
        };
        pods.open();
        Some(pods)
    }

    fn open(&mut self) {
        let mongo = self.rig.mongo.uri_at(self.mongo.address());
        let (own, door) = (self.nats.address(), self.to_nats.address());
        let nats = self.nats.uri().replace(own, door);
        let through = [
            ("MINIO_ENDPOINT", self.store.address()),
            ("MONGO_URI", &mongo),
            ("NATS_URL", &nats),
        ];
        self.agents = vec![self.rig.agent(&through), self.rig.agent(&through)];
        let code = zipped(&[("main.py", PROGRAM), ("answers.py", ANSWERS)]);
        for bot in 0..COUNT {
            let key = key(&self.bots[bot].id);
            self.rig.store.client().put("custom-bots", &key, &code);
            self.say(bot, "created");
        }
        ticks::begin(&self.rig);
        for bot in &self.bots {
            self.journal.wait(&bot.id, RECOVERY, || {
                let highest = self.watch.highest(&bot.id);
                let none = || "it has no number in the store".to_owned();
                (highest > 0).then_some(()).ok_or_else(none)
            });
        }
    }

    /// Does one thing.
    pub fn act(&mut self, dice: &mut Dice) {
        let (act, bot) = (dice.choose(&ACTS), dice.index(COUNT));
        match act {
            Act::Say(what) => self.say(bot, what),
            Act::Repeat => {
                let said = &self.bots[bot].said;
                let (what, parameters) = said[dice.index(said.len())].clone();
                self.tell(bot, what, parameters);
            }
            Act::Edit => self.edit(bot),
            Act::Redeliver => self.redeliver(),
            Act::Ask => self.ask(bot, dice),
            Act::KillSync => self.kill(bot, "sync", "sync"),
            Act::KillSupervisor => self.kill(bot, "bot", "supervisor"),
            Act::KillBot => self.kill(bot, "bot", "python3"),
            Act::DeletePod => self.delete(bot),
            Act::KillAgent => {
                let agent = dice.index(self.agents.len());
                self.hurt(Broken::Agent(agent), dice);
            }
            Act::Break(what) => self.hurt(what, dice),
        }
    }

    /// An event of the bot, with parameters that none had before.
    pub fn say(&mut self, bot: usize, what: &'static str) {
        self.round += 1;
        let parameters = match what {
            "deleted" => json!({}),
            _ => self.bots[bot].parameters(self.round),
        };
        self.tell(bot, what, parameters);
    }

    fn tell(&mut self, bot: usize, what: &'static str, parameters: Value) {
        let bot = &mut self.bots[bot];
        let mut event = event(&bot.id, &key(&bot.id), &parameters);
        event["custom"]["config"]["entrypoints"]["query"] = "answers.py".into();
        self.nats.say(&format!("the0.bot.{what}"), &event);
        bot.hears(what, parameters, &self.journal);
    }

    /// A person changes a document in the database.
    fn edit(&mut self, bot: usize) {
        self.round += 1;
        let id = &self.bots[bot].id;
        let change = doc! {"$set": {"config.edited": i64::try_from(self.round).expect("a round")}};
        let found = self.rig.mongo.update(BOTS, doc! {"id": id}, change);
        let note = format!("edited {found} document of {id}");
        self.journal.note(&note);
    }

    /// The consumer is lost, and everything that was ever said comes again.
    fn redeliver(&self) {
        let there = self.nats.try_consumer(CONSUMER).is_some();
        if there {
            self.nats.remove_consumer(CONSUMER);
        }
        self.journal.note(&format!("removed the consumer: {there}"));
    }

    /// Asks a bot, through an agent that runs.
    fn ask(&mut self, bot: usize, dice: &mut Dice) {
        let agent = dice.index(self.agents.len());
        if self.is_broken(Broken::Agent(agent)) {
            return;
        }
        let id = &self.bots[bot].id;
        let saved = self.watch.highest(id);
        self.journal.note(&format!("asks {id} through {agent}"));
        let gateway = &self.agents[agent].gateway;
        self.questions.ask(gateway, id, saved, &self.journal);
    }

    /// The bot's Pod.
    pub fn pod(&self, bot: usize) -> Pod<'_> {
        let id = &self.bots[bot].id;
        self.rig.cluster.pod(format!("default-{id}"))
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

    fn is_broken(&self, what: Broken) -> bool {
        self.broken.iter().any(|(_, broken)| *broken == what)
    }

    /// Breaks something, unless it is broken.
    fn hurt(&mut self, what: Broken, dice: &mut Dice) {
        let most = (self.length.as_millis() / 8).clamp(3_000, 15_000);
        let most = u64::try_from(most).expect("milliseconds");
        let long = Duration::from_millis(dice.between(500, most));
        // The last one speaks HTTP.
        let ways = [
            (2, Way::Refused),
            (2, Way::Hangs),
            (1, Way::Slow(Duration::from_millis(700))),
            (1, Way::Answers(503)),
        ];
        let speaks_http = matches!(what, Broken::Api | Broken::Store);
        let way = dice.choose(&ways[..ways.len() - usize::from(!speaks_http)]);
        if self.is_broken(what) {
            return;
        }
        self.journal
            .note(&format!("{what:?} for {long:?}, {way:?}"));
        match what {
            Broken::Kubelet => part("halt", "kubelet"),
            Broken::Agent(agent) => self.agents[agent].kill(),
            Broken::Api | Broken::Store | Broken::Mongo | Broken::Nats => self.door(what).is(way),
        }
        self.broken.push((Instant::now() + long, what));
    }

    fn door(&self, before: Broken) -> &Door {
        match before {
            Broken::Store => &self.store,
            Broken::Mongo => &self.mongo,
            Broken::Nats => &self.to_nats,
            Broken::Api | Broken::Kubelet | Broken::Agent(_) => &self.rig.api,
        }
    }

    /// Heals what `is` due.
    pub fn heal(&mut self, is: impl Fn(Instant) -> bool) {
        let (due, rest) = self.broken.drain(..).partition(|(until, _)| is(*until));
        self.broken = rest;
        let due: Vec<(Instant, Broken)> = due;
        for (_, broken) in due {
            self.journal.note(&format!("healed {broken:?}"));
            match broken {
                Broken::Kubelet => part("resume", "kubelet"),
                Broken::Agent(agent) => self.agents[agent].start(&self.rig),
                Broken::Api | Broken::Store | Broken::Mongo | Broken::Nats => {
                    self.door(broken).is(Way::Open);
                }
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

/// Where a bot's code is.
fn key(id: &str) -> String {
    format!("tests/{id}/1.0.0")
}

fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file of it");
    }
    tests::stack::zipped(folder.path())
}
