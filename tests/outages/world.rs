//! A host whose agent reaches each of its four dependencies through a door, and what must hold of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::door::{Door, Way};
use tests::servers::free_port;
use tests::stack::{COUNTER, LONG, Stack};
use tests::{Reply, http, wait_for};

/// How soon the agent is ready again when all that was away is back, on a machine that does other things too.
pub const RECOVERY: Duration = Duration::from_secs(30);
/// How soon it tells that something does not answer.
pub const TOLD: Duration = Duration::from_secs(45);
/// How soon a change that waited is done, and what waited to be saved is, once all is back.
const CAUGHT_UP: Duration = Duration::from_secs(90);

/// What an agent depends on.
pub const ALL: [&str; 4] = ["mongodb", "nats", "store", "docker"];

/// The host.
pub struct World {
    pub stack: Stack,
    doors: BTreeMap<&'static str, Door>,
    address: String,
    /// The bot that runs all the time, and its container.
    pub bot: String,
    container: Value,
    /// Bots that were said while something was away.
    late: Vec<String>,
    _socket: tempfile::TempDir,
}

impl World {
    /// One whose agent is not started; `None` when a part is missing, which has been said.
    pub fn new(test: &str) -> Option<Self> {
        let mut stack = Stack::start(test, &["python3.11"])?;
        stack.listen()?;
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let gateway = stack.docker.gateway();
        let socket = tempfile::tempdir().expect("a folder");
        let host = std::env::var("DOCKER_HOST");
        let host = host.unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let nats = stack.nats.as_ref()?.address().to_owned();
        let doors = BTreeMap::from([
            ("mongodb", Door::before(local, stack.mongo.address())),
            ("nats", Door::before(local, &nats)),
            ("store", Door::before(gateway, stack.store.address())),
            (
                "docker",
                Door::before_socket(&socket.path().join("docker.sock"), &host),
            ),
        ]);
        let address = format!("127.0.0.1:{}", free_port());
        stack.set("THE0_HEALTH_LISTEN", &address);
        stack.set("MONGO_URI", &stack.mongo.uri_at(doors["mongodb"].address()));
        stack.set("NATS_URL", &format!("nats://{}", doors["nats"].address()));
        stack.set("MINIO_ENDPOINT", doors["store"].address());
        stack.set("DOCKER_HOST", doors["docker"].address());
        let bot = stack.id("counter");
        stack.code(&format!("tests/{bot}/1.0.0"), &[("main.py", COUNTER)]);
        stack.say("created", &bot, &json!({"step": 1}));
        Some(Self {
            stack,
            doors,
            address,
            bot,
            container: Value::Null,
            late: Vec::new(),
            _socket: socket,
        })
    }

    /// One whose agent is ready and whose bot counts.
    pub fn running(test: &str) -> Option<Self> {
        let mut world = Self::new(test)?;
        world.stack.launch();
        world.settles();
        Some(world)
    }

    /// Waits until the agent is ready and the bot counts and is saved; from here on it must not be touched.
    pub fn settles(&mut self) {
        self.becomes_ready(LONG);
        wait_for("a number in the store", LONG, || {
            (self.stack.saved(&self.bot) > 0).then_some(())
        });
        self.container = self.id_of(&self.bot);
        assert!(self.container.is_string(), "its container");
    }

    fn id_of(&self, bot: &str) -> Value {
        self.stack.container(bot).inspect()["Id"].clone()
    }

    /// From now on the way to `dependency` is so.
    pub fn door(&self, dependency: &str, way: Way) {
        self.doors[dependency].is(way);
    }

    /// The same of all ways at once.
    pub fn all_doors(&self, way: Way) {
        for door in self.doors.values() {
            door.is(way);
        }
    }

    /// How many came to the door of `dependency` since it was last changed.
    pub fn came(&self, dependency: &str) -> usize {
        self.doors[dependency].came()
    }

    fn ready(&self) -> Option<Reply> {
        std::net::TcpStream::connect(&self.address).ok()?;
        Some(http(&self.address, "GET", "/readyz", ""))
    }

    /// What `/readyz` says of a dependency.
    pub fn told(&self, dependency: &str) -> Option<Value> {
        let told = self.ready()?.json();
        Some(told["dependencies"][dependency].clone())
    }

    /// The value of a line of `/metrics`.
    pub fn metric(&self, line: &str) -> Option<String> {
        let metrics = http(&self.address, "GET", "/metrics", "").body;
        let found = metrics.lines().find_map(|is| is.strip_prefix(line));
        found.map(|value| value.trim().to_owned())
    }

    /// Waits until `/readyz` tells that `dependency` does not answer, and since when, and gives that.
    pub fn is_told(&self, dependency: &str) -> Value {
        let away = wait_for(&format!("word that {dependency} is away"), TOLD, || {
            self.told(dependency).filter(|told| told["ok"] == false)
        });
        let is_said = |name: &str| away[name].as_str().is_some_and(|text| !text.is_empty());
        assert!(is_said("why") && is_said("since"), "{away:#}");
        let up = format!("the0_dependency_up{{dependency=\"{dependency}\"}}");
        assert_eq!(self.metric(&up).as_deref(), Some("0"), "{away:#}");
        // Events only shorten the wait.
        let status = self.ready().map(|reply| reply.status);
        let is_needed = dependency != "nats";
        if is_needed {
            assert_eq!(status, Some(503), "{away:#}");
        }
        away
    }

    /// Waits until the agent is ready and misses nothing.
    pub fn becomes_ready(&self, deadline: Duration) {
        let end = Instant::now() + deadline;
        loop {
            let told = self.ready().map(|reply| (reply.status, reply.json()));
            if let Some((200, told)) = &told
                && ALL
                    .iter()
                    .all(|name| told["dependencies"][name]["ok"] == true)
            {
                return;
            }
            assert!(
                Instant::now() < end,
                "not ready after {deadline:?}: {told:#?}\n{}",
                self.stack.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a dependency answers.
    pub fn answers(&self, dependency: &str, deadline: Duration) {
        wait_for(&format!("an answer of {dependency}"), deadline, || {
            self.told(dependency).filter(|told| told["ok"] == true)
        });
    }

    /// The bot runs on: it is the same container, and counts.
    pub fn runs_on(&self) {
        let before = self.stack.count(&self.bot);
        wait_for("a bot that counts on", LONG, || {
            (self.stack.count(&self.bot) > before + 3).then_some(())
        });
        assert_eq!(self.id_of(&self.bot), self.container, "the same container");
    }

    /// Says that there is one more bot, which the stream acknowledges.
    pub fn say_new(&mut self) {
        let bot = self.stack.id(&format!("late{}", self.late.len()));
        self.stack
            .code(&format!("tests/{bot}/1.0.0"), &[("main.py", COUNTER)]);
        self.stack.say("created", &bot, &json!({"step": 1}));
        self.late.push(bot);
    }

    /// What was said meanwhile is done, nothing runs twice, and what was counted is saved.
    pub fn makes_good(&self) {
        let counted = self.stack.count(&self.bot);
        assert!(counted > 0);
        for bot in &self.late {
            wait_for("a bot that was said meanwhile", CAUGHT_UP, || {
                (self.stack.count(bot) > 0).then_some(())
            });
        }
        wait_for("all that was counted in the store", CAUGHT_UP, || {
            (self.stack.saved(&self.bot) >= counted).then_some(())
        });
        self.runs_on();
        assert_eq!(
            self.stack.containers().len(),
            self.late.len() + 1,
            "one each"
        );
        for bot in self.late.iter().chain([&self.bot]) {
            let began = self.stack.container(bot).logs().matches("BEGAN").count();
            assert_eq!(began, 1, "{bot} began once");
        }
    }

    /// One outage of `dependency` from its beginning to what must be after it.
    pub fn outage(&mut self, dependency: &str, way: Way) {
        eprintln!("{dependency}: {way:?}");
        self.door(dependency, way);
        self.say_new();
        let away = self.is_told(dependency);
        self.runs_on();
        let told = self.told(dependency).expect("an answer");
        assert_eq!(told["since"], away["since"], "since when stays");
        self.door(dependency, Way::Open);
        self.becomes_ready(RECOVERY);
        let back = self.told(dependency).expect("an answer");
        assert!(back["since"].as_str() > away["since"].as_str(), "{back:#}");
        assert_eq!(
            (&back["state"], &back["failures"]),
            (&json!("closed"), &json!(0))
        );
    }

    /// The way to `dependency` comes and goes each second for a while, and then stays.
    pub fn flaps(&mut self, dependency: &str) {
        eprintln!("{dependency}: flapping");
        self.say_new();
        for _ in 0..5 {
            for way in [Way::Refused, Way::Open] {
                self.door(dependency, way);
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        self.runs_on();
        self.becomes_ready(RECOVERY);
    }
}
