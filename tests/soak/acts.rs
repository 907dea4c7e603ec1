//! What is done to the world, one at a time, by the dice.

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::servers::faults::error_body;
use tests::servers::{Fault, Toxic};
use tests::stack::BOTS;
use tests::text;

use crate::dice::Dice;
use crate::world::{Broken, World};

#[derive(Debug, Clone, Copy)]
enum Act {
    Update,
    Say,
    Repeat,
    Edit,
    Delete,
    Cut,
    Slow,
    Hang,
    Flap,
    Refuse,
    KillAgent,
    EndAgent,
    KillSync,
    KillSupervisor,
    KillBot,
    KillContainer,
    Redeliver,
    KillDaemon,
}

const ACTS: [(u64, Act); 18] = [
    (6, Act::Update),
    (5, Act::Say),
    (4, Act::Repeat),
    (3, Act::Edit),
    (3, Act::Delete),
    (3, Act::Cut),
    (3, Act::Slow),
    (2, Act::Hang),
    (2, Act::Flap),
    (4, Act::Refuse),
    (3, Act::KillAgent),
    (1, Act::EndAgent),
    (5, Act::KillSync),
    (2, Act::KillSupervisor),
    (2, Act::KillBot),
    (2, Act::KillContainer),
    (1, Act::Redeliver),
    (2, Act::KillDaemon),
];

const ERRORS: [(u64, (u16, &str)); 3] = [
    (1, (500, "InternalError")),
    (1, (503, "SlowDown")),
    (1, (403, "AccessDenied")),
];

impl World {
    /// Does one thing.
    pub fn act(&mut self, dice: &mut Dice) {
        let (act, bot) = (dice.choose(&ACTS), dice.index(self.bots.len()));
        match act {
            Act::Update => {
                let parameters = self.parameters(bot);
                self.say(bot, "updated", parameters);
            }
            Act::Say => self.create(bot),
            Act::Repeat => self.repeat(bot, dice),
            Act::Edit => self.edit(bot),
            Act::Delete => self.say(bot, "deleted", serde_json::json!({})),
            Act::Cut | Act::Slow | Act::Hang | Act::Flap => self.break_a_link(act, dice),
            Act::Refuse => self.refuse(dice),
            Act::KillAgent | Act::EndAgent => self.break_an_agent(act, dice),
            Act::KillSync => self.kill_in_container(bot, "/opt/the0/bin/sync"),
            Act::KillSupervisor => self.kill_in_container(bot, "/opt/the0/bin/supervisor"),
            Act::KillBot => self.kill_in_container(bot, "python3"),
            Act::KillContainer => self.kill_container(bot),
            Act::Redeliver => self.redeliver(),
            Act::KillDaemon => self.kill_daemon(dice),
        }
    }

    /// An event comes again, late: what is said last counts, whatever it is.
    fn repeat(&mut self, bot: usize, dice: &mut Dice) {
        let said = &self.bots[bot].said;
        let (what, parameters) = said[dice.index(said.len())].clone();
        self.say(bot, what, parameters);
    }

    /// A person changes a document in the database.
    fn edit(&mut self, bot: usize) {
        self.round += 1;
        let id = &self.bots[bot].id;
        let change = doc! {"$set": {"config.edited": i64::try_from(self.round).expect("a round")}};
        let found = self.stack.mongo.update(BOTS, doc! {"id": id}, change);
        self.journal
            .note(&format!("edited {found} document of {id}"));
    }

    fn while_long(&self, dice: &mut Dice) -> Instant {
        let most = (self.length.as_millis() / 8).clamp(3_000, 25_000);
        let most = u64::try_from(most).expect("milliseconds");
        Instant::now() + Duration::from_millis(dice.between(500, most))
    }

    fn break_a_link(&mut self, act: Act, dice: &mut Dice) {
        let (place, until) = (dice.index(self.links.len()), self.while_long(dice));
        // Both ways: an answer takes up to 10 s.
        let latency = dice.between(100, 5_000);
        let life = dice.between(0, 2_000);
        let (name, link) = &self.links[place];
        if self.is_broken(Broken::Link(place)) {
            return;
        }
        match act {
            Act::Cut => link.cut(),
            Act::Slow => link.add(Toxic::Latency(latency)),
            Act::Flap => link.add(Toxic::ResetPeer(life)),
            _ => link.add(Toxic::Timeout(0)),
        }
        self.journal.note(&format!("{act:?} {name}"));
        self.broken.push((until, Broken::Link(place)));
    }

    /// The store answers all requests, or one in some, with an error.
    fn refuse(&mut self, dice: &mut Dice) {
        let (place, until) = (dice.index(self.proxies.len()), self.while_long(dice));
        let (status, code) = dice.choose(&ERRORS);
        let one_in = dice.between(1, 5);
        if self.is_broken(Broken::Store(place)) {
            return;
        }
        let mut asked = 0;
        self.proxies[place].script(move |_| {
            asked += 1;
            (asked % one_in == 0).then(|| Fault::Answer(status, error_body(code)))
        });
        self.journal
            .note(&format!("{status} from store {place}, one in {one_in}"));
        self.broken.push((until, Broken::Store(place)));
    }

    fn is_broken(&self, what: Broken) -> bool {
        self.broken.iter().any(|(_, broken)| *broken == what)
    }

    fn break_an_agent(&mut self, act: Act, dice: &mut Dice) {
        let (place, until) = (dice.index(self.agents.len()), self.while_long(dice));
        let agent = &mut self.agents[place];
        if !agent.runs() {
            return;
        }
        self.journal.note(&format!("{act:?} {place}"));
        if let Act::KillAgent = act {
            agent.kill();
        } else {
            let code = agent.end();
            let told = || format!("it ended with {code} when it was asked to");
            self.journal
                .check(&format!("agent {place}"), code == 0, told);
        }
        self.broken.push((until, Broken::Agent(place)));
    }

    /// Kills a process of a bot's container from the host.
    fn kill_in_container(&mut self, bot: usize, program: &str) {
        let name = self.stack.container(&self.bots[bot].id).name;
        let top = self
            .stack
            .docker
            .output(["top", &name, "-eo", "pid,args"])
            .stdout;
        let found = text(&top).lines().find_map(|line| {
            let (pid, args) = line.trim().split_once(' ')?;
            let is = args.split_whitespace().next()?.ends_with(program);
            is.then(|| pid.parse::<i32>().ok())?
        });
        let killed = found.map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        self.journal
            .note(&format!("killed {program} of {name}: {found:?} {killed:?}"));
    }

    fn kill_container(&mut self, bot: usize) {
        let name = self.stack.container(&self.bots[bot].id).name;
        let done = self.stack.docker.output(["kill", &name]).status.success();
        self.journal
            .note(&format!("killed container {name}: {done}"));
    }

    /// The consumer is lost, and everything that was ever said comes again.
    fn redeliver(&mut self) {
        let consumer = format!("the0-{}-bots", self.stack.name());
        let nats = self.stack.nats.as_ref().expect("a NATS");
        let there = nats.try_consumer(&consumer).is_some();
        if there {
            nats.remove_consumer(&consumer);
        }
        self.journal.note(&format!("removed the consumer: {there}"));
    }

    fn kill_daemon(&mut self, dice: &mut Dice) {
        let signal = dice.choose(&[(3, Signal::SIGKILL), (1, Signal::SIGTERM)]);
        let away = Duration::from_millis(dice.between(0, 5_000));
        let Some(daemon) = self
            .daemon
            .as_mut()
            .filter(|_| self.spared < Instant::now())
        else {
            return;
        };
        self.journal
            .note(&format!("{signal} to the Docker daemon, away {away:?}"));
        daemon.stop(signal);
        std::thread::sleep(away);
        daemon.start_again();
        self.journal.note("the Docker daemon is back");
        self.spared = Instant::now() + Duration::from_secs(30);
    }
}
