//! Two agents on one database and one daemon: one acts, and the other one takes over. Real agents with data folders of
//! their own, a real MongoDB, a real Docker.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use mongodb::bson::{self, doc};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::containers::Events;
use tests::servers::free_port;
use tests::stack::{BOTS, IDLE, LONG, Stack};
use tests::{Process, Reply, http, read, run, text, wait_for};

/// How soon another one acts after a clean end.
const CLEAN: Duration = Duration::from_secs(15);
/// How long the lease lasts, and longer than which nobody waits for it on a loaded machine.
const LEASE: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(40)];

/// One of several agents of a stack.
struct Agent {
    dir: TempDir,
    address: String,
    process: Option<Process>,
}

impl Agent {
    fn new(stack: &Stack) -> Self {
        let mut agent = Self {
            dir: tempfile::tempdir().unwrap(),
            address: format!("127.0.0.1:{}", free_port()),
            process: None,
        };
        agent.start(stack);
        agent
    }

    fn start(&mut self, stack: &Stack) {
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.unwrap();
        let args = ["bot-runner", "--reconcile-interval", "1s", "--settle", "2s"];
        let mut command = stack.command(&args);
        command.env("THE0_DATA", self.dir.path().join("data"));
        command.env("THE0_HEALTH_LISTEN", &self.address);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Process::start(&mut command));
        wait_for("an agent that listens", LONG, || {
            std::net::TcpStream::connect(&self.address).ok()
        });
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn said(&self) -> String {
        read(&self.log())
    }

    fn says(&self, what: &str, times: usize) {
        let end = Instant::now() + LONG;
        while self.said().matches(what).count() < times {
            assert!(Instant::now() < end, "no {what:?} in\n{}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ready(&self) -> Reply {
        http(&self.address, "GET", "/readyz", "")
    }

    fn lease(&self) -> Value {
        self.ready().json()["dependencies"]["lease"]["state"].take()
    }

    fn acts(&self) {
        wait_for("an agent that acts", LONG, || {
            (self.lease() == "active").then_some(())
        });
    }

    fn stands_by(&self) {
        wait_for("an agent that stands by", LONG, || {
            (self.lease() == "standby").then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.0.kill().unwrap();
        process.0.wait().unwrap();
    }

    fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let code = self.process.take().unwrap().code(LONG);
        assert_eq!(code, 0, "{}", self.said());
    }

    fn run(&self, stack: &Stack, args: &[&str]) -> Output {
        let mut command = stack.command(args);
        run(command.env("THE0_DATA", self.dir.path().join("data")))
    }

    fn knows(&self, stack: &Stack, id: &str) {
        wait_for("a bot in ps", LONG, || {
            let said = self.run(stack, &["ps", "-o", "json"]);
            text(&said.stdout).contains(id).then_some(())
        });
    }
}

/// How often containers of a stack are started, by the daemon's own word.
struct Starts(Events);

impl Starts {
    fn of(stack: &Stack) -> Self {
        let of = format!("label=the0.stack={}", stack.name());
        Self(stack.docker.events(&[&of, "event=start"], "{{.ID}}"))
    }

    fn count(&self) -> usize {
        self.0.told().lines().count()
    }

    /// Waits until so many have been heard of, and gives how many there are.
    fn reach(&self, count: usize) -> usize {
        wait_for("word of a start", LONG, || {
            Some(self.count()).filter(|heard| *heard >= count)
        })
    }
}

fn runs(stack: &Stack, id: &str) -> Value {
    wait_for("a container that runs", LONG, || {
        let found = stack.container(id).inspect();
        (found["State"]["Running"] == true).then(|| found["Id"].clone())
    })
}

fn is_running(stack: &Stack, id: &str) -> bool {
    stack.container(id).inspect()["State"]["Running"] == true
}

fn ends(stack: &Stack, id: &str) {
    wait_for("the end of the container", LONG, || {
        (!is_running(stack, id)).then_some(())
    });
}

fn start(test: &str) -> Option<(Stack, Starts)> {
    let stack = Stack::start(test, &["python3.11"])?;
    let starts = Starts::of(&stack);
    Some((stack, starts))
}

#[test]
fn one_agent_acts_and_the_other_stands_by_until_that_one_ends() {
    let Some((stack, starts)) = start("lease::ends") else {
        return;
    };
    let first = stack.bot("first", IDLE, doc! {});
    let mut active = Agent::new(&stack);
    active.acts();
    let container = runs(&stack, &first);
    let other = Agent::new(&stack);
    other.stands_by();
    other.says("has the lease: this one stands by", 1);
    wait_for(
        "an agent that is ready, as to stand by is no fault",
        LONG,
        || (other.ready().status == 200).then_some(()),
    );
    let metrics = http(&other.address, "GET", "/metrics", "").body;
    assert!(metrics.contains("the0_lease_held 0\n"), "{metrics}");
    other.knows(&stack, &first);

    for order in [&["restart", "first"][..], &["start", "--all"], &["roll"]] {
        let refused = other.run(&stack, order);
        assert!(!refused.status.success(), "{order:?}");
        let why = text(&refused.stderr);
        assert!(why.contains("this agent stands by"), "{why}");
    }
    let second = stack.bot("second", IDLE, doc! {});
    runs(&stack, &second);
    other.knows(&stack, &second);

    let begun = Instant::now();
    active.end();
    other.says("has the lease and acts", 1);
    assert!(begun.elapsed() < CLEAN, "{:?}", begun.elapsed());
    let third = stack.bot("third", IDLE, doc! {});
    runs(&stack, &third);
    assert_eq!(
        runs(&stack, &first),
        container,
        "it ran on through all of it"
    );
    assert_eq!(starts.reach(3), 3, "{}\n{}", active.said(), other.said());
}

#[test]
fn what_a_person_stops_at_a_standby_is_stopped_for_good_and_the_agent_that_acts_knows_it() {
    let Some((stack, starts)) = start("lease::standby") else {
        return;
    };
    let first = stack.bot("first", IDLE, doc! {});
    let active = Agent::new(&stack);
    active.acts();
    runs(&stack, &first);
    let other = Agent::new(&stack);
    other.stands_by();
    other.knows(&stack, &first);
    other.says("found running", 1);

    let stopped = other.run(&stack, &["stop", "first"]);
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    active.says("as another agent was told", 1);
    ends(&stack, &first);
    let second = stack.bot("second", IDLE, doc! {});
    runs(&stack, &second);
    assert!(!is_running(&stack, &first), "{}", active.said());

    let started = active.run(&stack, &["start", "first"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    runs(&stack, &first);
    other.says("to run again", 1);
    // One that acts may have started it once more before it had heard of it.
    let count = starts.reach(3);
    assert!(
        (3..=4).contains(&count),
        "{}\n{}",
        active.said(),
        other.said()
    );
}

#[test]
fn what_was_stopped_stays_so_under_the_agent_that_takes_over_until_it_is_told() {
    let Some((stack, starts)) = start("lease::orders") else {
        return;
    };
    let ids = ["first", "second"].map(|name| stack.bot(name, IDLE, doc! {}));
    let mut active = Agent::new(&stack);
    active.acts();
    for id in &ids {
        runs(&stack, id);
    }
    for order in [&["stop", "first"][..], &["stop", "--all"]] {
        let done = active.run(&stack, order);
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    for id in &ids {
        ends(&stack, id);
    }
    wait_for("both words in the database", LONG, || {
        let kept = stack.mongo.all("bot_runner.the0");
        let orders = kept
            .into_iter()
            .find(|d| d.get_str("_id").is_ok_and(|id| id == "orders"))?;
        let off = |word: &bson::Document| word.get_bool("off").is_ok_and(|off| off);
        let all = orders.get_document("switch").is_ok_and(off);
        let bots = orders.get_document("bots").ok()?;
        let one = bots.get_document(&ids[0]).is_ok_and(off);
        (all && one && bots.len() == 1).then_some(())
    });
    active.kill();

    let other = Agent::new(&stack);
    other.acts();
    let third = stack.bot("third", IDLE, doc! {});
    other.knows(&stack, &third);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let said = text(&other.run(&stack, &["ps", "-o", "json"]).stdout);
        assert_eq!(said.matches("\"running\"").count(), 0, "{said}");
        assert_eq!(starts.count(), 2, "{}", other.said());
    }
    let done = other.run(&stack, &["start", "--all"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    runs(&stack, &ids[1]);
    runs(&stack, &third);
    assert!(
        !is_running(&stack, &ids[0]),
        "that one was stopped by itself"
    );

    // The first one comes again on its own folder, where all are stopped, and hears of it.
    active.start(&stack);
    active.stands_by();
    active.says(
        "bots run again as they are wanted: so another agent was told",
        1,
    );
    let found = stack.container(&third).inspect();
    assert_eq!(
        found["State"]["Running"],
        true,
        "{found:#}\n{}\n{}",
        active.said(),
        other.said()
    );
    let done = other.run(&stack, &["start", "first"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    runs(&stack, &ids[0]);
    assert_eq!(starts.reach(5), 5, "{}\n{}", active.said(), other.said());
}

#[test]
fn what_is_said_while_the_database_is_away_counts_here_and_is_written_when_it_is_back() {
    let Some((mut stack, _starts)) = start("lease::said") else {
        return;
    };
    let first = stack.bot("first", IDLE, doc! {});
    let active = Agent::new(&stack);
    active.acts();
    runs(&stack, &first);
    stack.mongo.stop();
    active.says("no lease, so bots run on", 1);
    let done = active.run(&stack, &["stop", "first"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    ends(&stack, &first);
    stack.mongo.start_again();
    active.acts();
    wait_for("the word in the database", LONG, || {
        let kept = stack.mongo.all("bot_runner.the0");
        let orders = kept
            .into_iter()
            .find(|d| d.get_str("_id").is_ok_and(|id| id == "orders"))?;
        let bots = orders.get_document("bots").ok()?;
        bots.contains_key(&first).then_some(())
    });
    let other = Agent::new(&stack);
    other.says("stopped, as another agent was told", 1);
    assert!(!is_running(&stack, &first));
}

#[test]
fn after_a_kill_the_same_agent_acts_at_once_and_another_one_after_the_lease() {
    let Some((stack, starts)) = start("lease::kill") else {
        return;
    };
    let first = stack.bot("first", IDLE, doc! {});
    let mut active = Agent::new(&stack);
    active.acts();
    runs(&stack, &first);
    let other = Agent::new(&stack);
    other.stands_by();

    active.kill();
    let begun = Instant::now();
    active.start(&stack);
    active.says("has the lease and acts", 2);
    assert!(begun.elapsed() < LEASE[0], "{:?}", begun.elapsed());
    active.acts();
    assert_eq!(other.lease(), "standby");

    active.kill();
    let begun = Instant::now();
    other.says("has the lease and acts", 1);
    let took = begun.elapsed();
    assert!(took > LEASE[0] / 2 && took < LEASE[1], "{took:?}");
    let second = stack.bot("second", IDLE, doc! {});
    runs(&stack, &second);
    assert_eq!(starts.reach(2), 2, "{}\n{}", active.said(), other.said());
}

#[test]
fn an_agent_that_was_held_longer_than_its_lease_does_not_act_on_what_it_thought() {
    let Some((stack, starts)) = start("lease::held") else {
        return;
    };
    let first = stack.bot("first", IDLE, doc! {});
    let active = Agent::new(&stack);
    active.acts();
    runs(&stack, &first);
    let other = Agent::new(&stack);
    other.stands_by();

    active.signal(Signal::SIGSTOP);
    other.says("has the lease and acts", 1);
    // The agent that is held does not know of this, and will find a bot that should run.
    let stopped = other.run(&stack, &["stop", "first"]);
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    wait_for("the end of the container", LONG, || {
        (stack.container(&first).inspect()["State"]["Running"] != true).then_some(())
    });
    active.signal(Signal::SIGCONT);
    active.stands_by();
    let off = stack.bot("second", IDLE, doc! {});
    active.knows(&stack, &off);
    runs(&stack, &off);
    assert!(stack.container(&first).inspect()["State"]["Running"] != true);
    assert_eq!(starts.reach(2), 2, "{}\n{}", active.said(), other.said());
}

#[test]
fn without_the_database_bots_run_on_and_nobody_acts_until_it_is_back() {
    let Some((mut stack, starts)) = start("lease::away") else {
        return;
    };
    let ids = ["first", "second"].map(|name| stack.bot(name, IDLE, doc! {}));
    let active = Agent::new(&stack);
    active.acts();
    let before = runs(&stack, &ids[0]);
    runs(&stack, &ids[1]);
    let other = Agent::new(&stack);
    other.stands_by();

    stack.mongo.stop();
    active.says("no lease, so bots run on", 1);
    let reply = active.ready();
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.json()["dependencies"]["mongodb"]["ok"],
        false,
        "{}",
        reply.body
    );
    stack.docker.ask(["kill", &stack.container(&ids[1]).name]);
    wait_for("word of its end", LONG, || {
        let metrics = http(&active.address, "GET", "/metrics", "").body;
        metrics
            .contains("the0_bots{state=\"running\"} 1\n")
            .then_some(())
    });
    assert_eq!(starts.reach(2), 2, "{}\n{}", active.said(), other.said());
    let refused = active.run(&stack, &["restart", "first"]);
    let why = text(&refused.stderr);
    assert!(why.contains("does not have the lease"), "{why}");
    assert_eq!(runs(&stack, &ids[0]), before);

    stack.mongo.start_again();
    runs(&stack, &ids[1]);
    assert_eq!(runs(&stack, &ids[0]), before);
    let both = wait_for("one that acts and one that does not", LONG, || {
        let both = [active.lease(), other.lease()];
        both.iter().all(|state| state != "unknown").then_some(both)
    });
    assert!(both.contains(&"active".into()) && both.contains(&"standby".into()));
    assert_eq!(starts.reach(3), 3, "{}\n{}", active.said(), other.said());
    assert_eq!(stack.mongo.all(BOTS).len(), 2);
}
