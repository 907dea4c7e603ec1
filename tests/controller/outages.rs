//! Agents, kubelets and databases that stand still or are killed at bad moments.

use std::process::Command;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use tests::cluster::{LONG, Pod};
use tests::{http, repository, run, text, wait_for};

use crate::rig::{Agent, Rig};

fn uid(pod: &Pod<'_>) -> Value {
    pod.get()["metadata"]["uid"].clone()
}

/// A part of the cluster's.
fn part(act: &str, part: &str) {
    let script = repository().join("tests/setup/kubernetes.sh");
    let output = run(Command::new(script).args([act, part]));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A part that comes again, whatever becomes of the test.
struct Halted(&'static str);

impl Halted {
    fn new(name: &'static str) -> Self {
        part("halt", name);
        Self(name)
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        part("resume", self.0);
    }
}

#[test]
fn a_pod_that_no_kubelet_ends_keeps_its_name_until_one_does() {
    let Some(rig) = Rig::start("controller::kubelet") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.bot("held", doc! {});
    pod.ready();
    rig.wait_saved("held", "count", "1");
    let first = uid(&pod);
    let halted = Halted::new("kubelet");
    agent.does(&rig, &["stop", "held"]);
    pod.wait("a Pod that is to end", |pod| {
        (!pod["metadata"]["deletionTimestamp"].is_null()).then_some(())
    });
    agent.does(&rig, &["start", "held"]);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(uid(&pod), first, "nobody knows whether it runs");
    assert_eq!(agent.row(&rig, "held")["state"], "stopping");
    drop(halted);
    rig.wait_saved("held", "count", "2");
    assert_ne!(uid(&pod), first);
    rig.remove("held");
    pod.gone();
}

#[test]
fn an_agent_that_stood_still_past_its_lease_does_nothing_when_it_goes_on() {
    let Some(rig) = Rig::start("controller::paused") else {
        return;
    };
    let first = rig.agent(&[]);
    first.says("this agent has the lease and acts");
    let second = rig.agent(&[]);
    second.says("this one stands by");
    let pod = rig.bot("one", doc! {"word": "before"});
    pod.ready();
    rig.bot("two", doc! {});
    // In the middle of a start.
    first.signal(Signal::SIGSTOP);
    let said = first.said().len();
    second.says("this agent has the lease and acts");
    rig.bot("one", doc! {"word": "after"});
    rig.wait_saved("one", "word", "after");
    rig.cluster.pod("default-two").ready();
    let there = (uid(&pod), uid(&rig.cluster.pod("default-two")));
    first.signal(Signal::SIGCONT);
    first.says("has the lease: this one stands by");
    for _ in 0..20 {
        assert_eq!(rig.names("pods").len(), 2);
        std::thread::sleep(Duration::from_millis(250));
    }
    let later = (uid(&pod), uid(&rig.cluster.pod("default-two")));
    assert_eq!(later, there, "each is the one that the second made");
    let says = &first.said()[said..];
    for act in ["stopping,", "failed"] {
        assert!(!says.contains(act), "{act}: {says}");
    }
    rig.remove("one");
    rig.remove("two");
    pod.gone();
    assert_eq!(rig.saved("one", "last").as_deref(), Some("words"));
}

#[test]
fn an_agent_that_is_killed_at_any_moment_leaves_one_pod_and_all_of_the_state() {
    let Some(rig) = Rig::start("controller::kills") else {
        return;
    };
    let mut agent = rig.agent(&[]);
    let mut counted = 0;
    // Not quite at random: spread over the time that a start and a stop take.
    for round in 0..10u64 {
        let pod = rig.bot("tough", doc! {"word": format!("round {round}")});
        std::thread::sleep(Duration::from_millis(150 + round * 330 % 1700));
        agent.kill();
        assert!(rig.names("pods").len() <= 1);
        let saved = rig
            .saved("tough", "count")
            .map_or(0, |it| it.parse().unwrap());
        assert!(saved >= counted, "{saved} after {counted}");
        counted = saved;
        agent.start(&rig);
        drop(pod);
    }
    let pod = rig.bot("tough", doc! {"word": "last"});
    rig.wait_saved("tough", "word", "last");
    let saved: u64 = rig.saved("tough", "count").unwrap().parse().unwrap();
    assert!(saved > counted, "{saved} after {counted}");
    assert_eq!(rig.names("pods").len(), 1);
    rig.remove("tough");
    pod.gone();
    assert_eq!(rig.saved("tough", "last").as_deref(), Some("words"));
    // Those of starts that were cut off before their Pod was made are removed when they are older than any start takes.
    let owned = |secret: &str| {
        let (_, name) = secret.split_once('/').unwrap();
        let owners = &rig.cluster.get("secret", name)["metadata"]["ownerReferences"];
        owners.is_array()
    };
    wait_for("Secrets that are gone with their Pods", LONG, || {
        let left = rig.names("secrets");
        (!left.iter().any(|secret| owned(secret))).then_some(())
    });
}

#[test]
fn a_database_that_stands_still_for_some_seconds_changes_nothing_for_bots() {
    let Some(rig) = Rig::start("controller::frozen") else {
        return;
    };
    let agents = [rig.agent(&[]), rig.agent(&[])];
    let has = |said: String| said.contains("this agent has the lease and acts");
    wait_for("an agent that acts", LONG, || {
        agents.iter().any(|agent| has(agent.said())).then_some(())
    });
    for (round, seconds) in [(0, 4), (1, 12), (2, 20)] {
        let id = format!("calm{round}");
        let pod = rig.asked(&id, doc! {});
        std::thread::sleep(Duration::from_millis(300 * round));
        rig.mongo.freeze();
        std::thread::sleep(Duration::from_secs(seconds));
        rig.mongo.thaw();
        pod.ready();
        for agent in &agents {
            agent.wait_row(&rig, &id, |row| (row["state"] == "running").then_some(()));
            answers(agent, &id);
        }
    }
}

/// Asks a bot by an agent until it answers with the count of its first run.
fn answers(agent: &Agent, id: &str) {
    let question = format!(r#"{{"bot_id": "{id}", "query_path": "/count"}}"#);
    let end = Instant::now() + LONG;
    loop {
        let answer = http(&agent.gateway, "POST", "/query", &question).body;
        if answer.contains(r#""data":1"#) {
            return;
        }
        assert!(Instant::now() < end, "{answer}\n{}", agent.said());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Connections whose packets nobody carries any more, and nobody says so: of each the two ports.
struct Lost(Vec<[String; 2]>);

impl Lost {
    /// Of those that an agent has with `server` now.
    fn of(agent: Pid, server: &str) -> Self {
        let (_, listens) = server.rsplit_once(':').expect("host and port");
        let to = format!("dst {server}");
        let shown = run(Command::new("ss").args(["-Htnp", "state", "established", &to]));
        let owner = format!("pid={agent},");
        let shown = text(&shown.stdout);
        let its = shown.lines().filter(|line| line.contains(&owner));
        let port = |line: &str| {
            let own = line.split_whitespace().nth(2)?;
            Some([own.rsplit_once(':')?.1.to_owned(), listens.to_owned()])
        };
        let lost = Self(its.filter_map(port).collect());
        assert!(!lost.0.is_empty(), "no connection: {shown}");
        lost.rules("-I");
        lost
    }

    fn rules(&self, act: &str) {
        // Both ports, lest others' connections are lost, which use one of them again.
        for [own, other] in &self.0 {
            for [from, to] in [[own, other], [other, own]] {
                let mut rule = Command::new("iptables");
                rule.args(["-w", act, "INPUT", "-i", "lo", "-p", "tcp"]);
                run(rule.args(["--sport", from, "--dport", to, "-j", "DROP"]));
            }
        }
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        self.rules("-D");
    }
}

#[test]
fn a_connection_to_the_api_server_that_is_dead_without_a_word_is_another_one_soon() {
    let Some(rig) = Rig::start("controller::dead") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.bot("seen", doc! {});
    pod.wait("a Pod", |pod| (!pod.is_null()).then_some(()));
    let lost = Lost::of(agent.pid(), rig.api.address());
    pod.ready();
    let ready = Instant::now();
    agent.wait_row(&rig, "seen", |row| {
        (row["state"] == "running").then_some(())
    });
    let took = ready.elapsed();
    assert!(took < Duration::from_secs(45), "{took:?}\n{}", agent.said());
    drop(lost);
    rig.remove("seen");
    pod.gone();
}
