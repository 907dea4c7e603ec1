//! Programs of a Pod that are killed at bad moments.

use contract::record::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::cluster::{LONG, Pod, container};
use tests::door::Way;
use tests::{is_alive, wait_for};

use crate::rig::{Bot, Rig, synced_of};

/// Writes 0 into the state, and 1 at USR1, at which it ends.
const TOLD: &str = r"
import signal
def main(id, config):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    open('/state/count', 'w').write('0')
    signal.sigtimedwait([signal.SIGUSR1], 1000)
    open('/state/count', 'w').write('1')
";

/// Kills the first process of a container.
fn kill_nine(pod: &Pod<'_>, container: &str, program: &str) {
    let pid = pod.process(container, program);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

fn restarted(pod: &Pod<'_>, name: &str) {
    pod.wait("a container that runs again", |pod| {
        let status = container(pod, name);
        let again = status["restartCount"].as_u64() >= Some(1);
        (again && !status["state"]["running"].is_null()).then_some(())
    });
}

#[test]
fn a_sync_that_is_killed_in_a_push_pushes_again() {
    let Some(rig) = Rig::start("kubernetes::sync") else {
        return;
    };
    rig.door
        .is(Way::Keeps("PUT /bot-state/pushing/state.tar.gz"));
    let bot = Bot::new("pushing", json!({"word": "w"}));
    let pod = rig.run(&bot);
    wait_for("a push", LONG, || (rig.door.kept() > 1).then_some(()));
    kill_nine(&pod, "sync", "sync");
    rig.door.is(Way::Open);
    restarted(&pod, "sync");
    rig.wait_saved(&bot, "count", "1");
    assert_eq!(pod.container("bot")["restartCount"], 0);
    assert_eq!(pod.container("fetch")["restartCount"], 0);
}

#[test]
fn a_sync_that_is_killed_when_a_run_has_ended_saves_the_end_all_the_same() {
    let Some(rig) = Rig::start("kubernetes::last") else {
        return;
    };
    let mut bot = Bot::new("saved", json!({"word": "w"}));
    bot.restart = "Never";
    let pod = rig.run_code(&bot, TOLD);
    rig.wait_saved(&bot, "count", "0");
    // The kubelet may tell of it later.
    let program = wait_for("its program", LONG, || pod.find_process("bot", "python3"));
    rig.door.is(Way::Hangs);
    kill(Pid::from_raw(program), Signal::SIGUSR1).unwrap();
    wait_for("the end of the run", LONG, || {
        let gone = pod.find_process("bot", "python3").is_none();
        gone.then_some(())
    });
    kill_nine(&pod, "sync", "sync");
    rig.door.is(Way::Open);
    pod.wait("a Pod that is over", |pod| {
        (pod["status"]["phase"] == "Succeeded").then_some(())
    });
    assert_eq!(rig.saved(&bot, "count").as_deref(), Some("1"));
}

#[test]
fn a_supervisor_that_is_killed_before_it_tells_its_bots_end_loses_nothing_of_the_state() {
    let Some(rig) = Rig::start("kubernetes::untold") else {
        return;
    };
    let mut bot = Bot::new("untold", json!({"word": "w"}));
    bot.restart = "Never";
    let pod = rig.run_code(&bot, TOLD);
    rig.wait_saved(&bot, "count", "0");
    let process = |name: &str| wait_for(name, LONG, || pod.find_process("bot", name));
    let (supervisor, program) = (Pid::from_raw(process("supervisor")), process("python3"));
    // It stands still from before the end of its bot until it is killed, so it has told nobody of it.
    kill(supervisor, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(program), Signal::SIGUSR1).unwrap();
    wait_for("the end of the run", LONG, || {
        (!is_alive(program)).then_some(())
    });
    kill(supervisor, Signal::SIGKILL).unwrap();
    pod.wait("a Pod that is over", |pod| {
        (pod["status"]["phase"] == "Failed").then_some(())
    });
    assert_eq!(pod.container("bot")["state"]["terminated"]["exitCode"], 137);
    assert_eq!(rig.saved(&bot, "count").as_deref(), Some("1"));
    let synced = synced_of(&pod.container("sync"));
    assert_eq!(synced.outcome, Outcome::Ok);
}

#[test]
fn a_fetch_that_is_killed_is_done_again() {
    let Some(rig) = Rig::start("kubernetes::fetch") else {
        return;
    };
    rig.door.is(Way::Keeps("GET /custom-bots/fetched"));
    let bot = Bot::new("fetched", json!({"word": "w"}));
    let pod = rig.run(&bot);
    wait_for("a fetch", LONG, || (rig.door.kept() > 0).then_some(()));
    let fetch = wait_for("its process", LONG, || pod.find_process("fetch", "sync"));
    kill(Pid::from_raw(fetch), Signal::SIGKILL).unwrap();
    rig.door.is(Way::Open);
    rig.wait_saved(&bot, "count", "1");
    assert!(pod.container("fetch")["restartCount"].as_u64() >= Some(1));
}

#[test]
fn a_supervisor_that_is_killed_takes_its_bot_along_and_the_run_is_recorded_as_lost() {
    let Some(rig) = Rig::start("kubernetes::supervisor") else {
        return;
    };
    let bot = Bot::new("killed", json!({"word": "w"}));
    let pod = rig.run(&bot);
    pod.ready();
    rig.wait_saved(&bot, "count", "1");
    kill_nine(&pod, "bot", "supervisor");
    restarted(&pod, "bot");
    rig.wait_saved(&bot, "count", "2");
    let runs = rig.cluster.output([
        "exec",
        bot.id,
        "-c",
        "query",
        "--",
        "/bin/cat",
        "/var/the0/runs.jsonl",
    ]);
    let runs = tests::text(&runs.stdout);
    assert!(
        runs.contains(r#""run":1"#) && runs.contains(r#""reason":"lost""#),
        "{runs}"
    );
}

#[test]
fn a_query_that_is_killed_answers_again() {
    let Some(rig) = Rig::start("kubernetes::killed-query") else {
        return;
    };
    let bot = Bot::new("deaf", json!({"word": "w"}));
    let pod = rig.run(&bot);
    let address = format!("{}:9476", pod.ready().address());
    // Its own program answers, out of the state.
    rig.wait_saved(&bot, "count", "1");
    kill_nine(&pod, "query", "query");
    restarted(&pod, "query");
    pod.ready();
    wait_for("an answer", LONG, || {
        let health = tests::http(&address, "GET", "/health", "").json();
        (health["status"] == "ok").then_some(())
    });
    assert_eq!(pod.container("bot")["restartCount"], 0);
}

#[test]
fn what_a_node_had_when_it_was_started_again_is_not_fetched_over() {
    let Some(rig) = Rig::start("kubernetes::sandbox") else {
        return;
    };
    let bot = Bot::new("rebooted", json!({"word": "w", "slow": 0}));
    let pod = rig.run(&bot);
    pod.ready();
    rig.wait_saved(&bot, "count", "1");
    // From now on nothing is saved; what the bot writes is on the node alone.
    rig.door.is(Way::Keeps("PUT /bot-state"));
    kill_nine(&pod, "bot", "supervisor");
    restarted(&pod, "bot");
    wait_for("a push", LONG, || (rig.door.kept() > 1).then_some(()));
    kill_sandbox(&pod);
    rig.door.is(Way::Open);
    pod.wait("a Pod with all containers started again", |pod| {
        let status = container(pod, "fetch");
        let fetched = status["restartCount"].as_u64() >= Some(1);
        (fetched && !container(pod, "bot")["state"]["running"].is_null()).then_some(())
    });
    rig.wait_saved(&bot, "count", "3");
}

/// Ends what holds the Pod's namespaces, as the end of a node does.
fn kill_sandbox(pod: &Pod<'_>) {
    let main = pod.process("bot", "supervisor");
    let group = tests::read(std::path::Path::new(&format!("/proc/{main}/cgroup")));
    let of_pod = group
        .lines()
        .find_map(|line| line.split("/kubepods").nth(1)?.rsplit_once('/'));
    let (of_pod, _) = of_pod.expect("the Pod's group");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let file =
        |pid: i32, name: &str| tests::read(std::path::Path::new(&format!("/proc/{pid}/{name}")));
    let mut holders = ids.filter(|pid| {
        file(*pid, "comm").trim() == "pause" && file(*pid, "cgroup").contains(of_pod)
    });
    let holder = holders.next().expect("the Pod's pause");
    kill(Pid::from_raw(holder), Signal::SIGKILL).unwrap();
}
