//! Everything of the soak: servers with links before them, a Docker daemon, two agents, bots and what is known of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::Document;
use serde_json::{Value, json};
use tests::containers::{Daemon, Docker};
use tests::servers::mongo::Mongo;
use tests::servers::nats::Nats;
use tests::servers::{Client, Link, Proxy};
use tests::stack::{self, Stack};

use crate::agents::Agent;
use crate::journal::Journal;
use crate::watch::Watch;

const TEST: &str = "soak";
/// What must be nowhere; the parameters of each bot have it.
pub const CANARY: &str = "soak-parameter-nobody-prints";
/// How many bots there are. The first one has a state that travels in parts.
const BOTS: usize = 5;

/// Writes each number once, into its state and then on its output.
pub const PROGRAM: &str = r#"
import json, os, pathlib, socket, time

def now():
    return time.time_ns() // 1000

def main(id, config):
    state = pathlib.Path(os.environ["STATE_DIR"])
    state.mkdir(parents=True, exist_ok=True)
    path, new = state / "count.json", state / "count.new"
    boot = f"{socket.gethostname()}-{time.time_ns()}"
    n = json.loads(path.read_text())["n"] if path.exists() else 0
    print(f"BEGAN from={n} boot={boot} at={now()} round={config['round']}", flush=True)
    ballast = state / "ballast"
    if config["ballast"] and not ballast.exists():
        ballast.write_bytes(os.urandom(config["ballast"]))
    while True:
        n, at = n + 1, now()
        new.write_text(json.dumps({"n": n, "boot": boot}))
        new.rename(path)
        print(f"WROTE n={n} boot={boot} at={at}", flush=True)
        time.sleep(0.2)
"#;

/// A bot, and what was said of it last.
#[derive(Debug)]
pub struct Bot {
    /// Its id.
    pub id: String,
    /// The parameters it is to have; none when it is deleted.
    pub wanted: Option<Value>,
    /// Every event there was.
    pub said: Vec<(&'static str, Value)>,
    ballast: u64,
}

/// Something that was broken for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A link, by its place.
    Link(usize),
    /// What passes to the store, by the proxy's place.
    Store(usize),
    /// An agent, by its place.
    Agent(usize),
}

/// All of it; what is dropped first stands first.
pub struct World {
    pub agents: Vec<Agent>,
    pub watch: Watch,
    pub bots: Vec<Bot>,
    /// What is broken, until when.
    pub broken: Vec<(Instant, Broken)>,
    /// To MongoDB, NATS, the store for agents, and the store for containers.
    pub links: Vec<(&'static str, Link)>,
    /// Behind the two links to the store: they answer in its place.
    pub proxies: Vec<Proxy>,
    pub stack: Stack,
    pub daemon: Option<Daemon>,
    /// When the daemon may be killed again.
    pub spared: Instant,
    pub length: Duration,
    pub round: u64,
    pub journal: Arc<Journal>,
}

impl World {
    /// All of it, with the bots said to be there; `None` when a part is missing, which has been said.
    pub fn start(journal: Journal, length: Duration) -> Option<Self> {
        let journal = Arc::new(journal);
        let (mut stack, daemon) = host()?;
        let (links, proxies) = links(&mut stack)?;
        let ids: Vec<String> = (0..BOTS).map(|n| stack.id(&format!("bot{n}"))).collect();
        for id in &ids {
            stack.code(&format!("tests/{id}/1.0.0"), &[("main.py", PROGRAM)]);
        }
        let client = Client::new(stack.store.address(), None);
        let watch = Watch::start(client, ids.clone(), Arc::clone(&journal));
        let agents = ["first", "second"].map(|name| Agent::new(&journal.folder().join(name)));
        let bots = ids.into_iter().enumerate().map(|(n, id)| Bot::new(n, id));
        let mut world = Self {
            agents: agents.into(),
            watch,
            bots: bots.collect(),
            broken: Vec::new(),
            links,
            proxies,
            stack,
            daemon,
            spared: Instant::now() + length / 4,
            length,
            round: 0,
            journal,
        };
        world.open();
        Some(world)
    }

    fn open(&mut self) {
        for agent in &mut self.agents {
            agent.start(&self.stack);
        }
        for bot in 0..self.bots.len() {
            self.create(bot);
        }
        for bot in &self.bots {
            self.journal.wait(&bot.id, crate::end::RECOVERY, || {
                match self.watch.highest(&bot.id) {
                    0 => Err("it has no number in the store".into()),
                    _ => Ok(()),
                }
            });
        }
    }

    /// Parameters that no document had before.
    pub fn parameters(&mut self, bot: usize) -> Value {
        self.round += 1;
        self.bots[bot].parameters(self.round)
    }

    /// Says that there is a bot.
    pub fn create(&mut self, bot: usize) {
        let parameters = self.parameters(bot);
        self.say(bot, "created", parameters);
    }

    /// Says an event, and what it makes of the bot's document.
    pub fn say(&mut self, bot: usize, what: &'static str, parameters: Value) {
        let bot = &mut self.bots[bot];
        self.stack.say(what, &bot.id, &parameters);
        bot.hears(what, parameters, &self.journal);
    }

    /// Heals what has been broken for as long as it should be.
    pub fn heal_what_is_due(&mut self) {
        let now = Instant::now();
        let (due, rest) = self.broken.drain(..).partition(|(until, _)| *until <= now);
        self.broken = rest;
        self.heal(due);
    }

    /// Heals everything.
    pub fn heal_all(&mut self) {
        let all = self.broken.drain(..).collect();
        self.heal(all);
    }

    fn heal(&mut self, what: Vec<(Instant, Broken)>) {
        for (_, broken) in what {
            self.journal.note(&format!("healed {broken:?}"));
            match broken {
                Broken::Link(link) => self.links[link].1.heal(),
                Broken::Store(proxy) => self.proxies[proxy].heal(),
                Broken::Agent(agent) => self.agents[agent].start(&self.stack),
            }
        }
    }
}

impl Bot {
    /// One of which nothing was said yet.
    pub fn new(place: usize, id: String) -> Self {
        Self {
            id,
            wanted: None,
            said: Vec::new(),
            ballast: if place == 0 { 11 << 20 } else { 0 },
        }
    }

    /// Its parameters of that round.
    pub fn parameters(&self, round: u64) -> Value {
        json!({"round": round, "ballast": self.ballast, "key": CANARY})
    }

    /// Such an event was said of it: what its document is to be by that.
    pub fn hears(&mut self, what: &'static str, parameters: Value, journal: &Journal) {
        journal.note(&format!("{what} {} round {}", self.id, parameters["round"]));
        match what {
            "deleted" => self.wanted = None,
            "created" if self.wanted.is_some() => {}
            _ => self.wanted = Some(parameters.clone()),
        }
        self.said.push((what, parameters));
    }

    /// Waits until the database has of it what the last event said, and nothing else.
    pub fn is_documented(&self, mongo: &Mongo, journal: &Journal) {
        let wanted = self.wanted.as_ref().map(|wanted| wanted["round"].clone());
        journal.wait(&self.id, crate::end::RECOVERY, || {
            match self.round_of(mongo, journal) {
                found if found == wanted => Ok(()),
                found => Err(format!("its document has round {found:?}, not {wanted:?}")),
            }
        });
    }

    /// The round of its document, if there is one that is not the mark of a deletion.
    fn round_of(&self, mongo: &Mongo, journal: &Journal) -> Option<Value> {
        let mut all = mongo.all(stack::BOTS);
        all.retain(|document: &Document| document.get_str("id").is_ok_and(|id| id == self.id));
        journal.check(&self.id, all.len() <= 1, || {
            format!("it has {} documents", all.len())
        });
        let found = serde_json::to_value(all.pop()?).expect("a document");
        found["config"].get("round").cloned()
    }
}

/// A host on a Docker daemon of the soak's own; on the machine's, which is not killed, where there can be none.
fn host() -> Option<(Stack, Option<Daemon>)> {
    let own = Docker::here(TEST)?;
    let image = own.image(TEST, "python3.11")?;
    let Some(daemon) = Daemon::start(TEST, &[]) else {
        return Some((Stack::start(TEST, &["python3.11"])?, None));
    };
    daemon.load(&own, &image);
    let mut stack = Stack::on(&daemon)?;
    stack.mongo = Mongo::start_with_password()?;
    Some((stack, Some(daemon)))
}

type Links = Vec<(&'static str, Link)>;

/// Puts links before the servers, and has the agents and containers use them.
fn links(stack: &mut Stack) -> Option<(Links, Vec<Proxy>)> {
    let nats = Nats::start_with_password()?;
    nats.make_stream();
    let store = stack.store.address().to_owned();
    let gateway = store.rsplit_once(':')?.0.parse().ok()?;
    let proxies = [(); 2].map(|()| Proxy::start(&store));
    let links = vec![
        ("mongodb", Link::start(stack.mongo.address())?),
        ("nats", Link::start(nats.address())?),
        ("store", Link::start(proxies[0].address())?),
        (
            "store for containers",
            Link::start_at(gateway, proxies[1].address())?,
        ),
    ];
    let uri = stack.mongo.uri_at(links[0].1.address());
    stack.set("MONGO_URI", &uri);
    stack.set(
        "NATS_URL",
        &nats.uri().replace(nats.address(), links[1].1.address()),
    );
    stack.set("MINIO_ENDPOINT", links[2].1.address());
    stack.set("MINIO_CONTAINER_ENDPOINT", links[3].1.address());
    stack.nats = Some(nats);
    Some((links, proxies.into()))
}
