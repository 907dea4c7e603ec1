//! What becomes of a document.

use std::fs;
use std::time::Duration;

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::cluster::LONG;
use tests::{http, wait_for};

use crate::rig::{COUNTS, Rig};

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_roll_and_a_restart_are_another_pod_that_goes_on_from_the_state() {
    let Some(rig) = Rig::start("controller::roll") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.bot("counter", doc! {});
    pod.ready();
    rig.wait_saved("counter", "count", "1");
    let first = uid(&pod.get());
    let rolled = agent.prints(&rig, &["roll"]);
    assert!(rolled.contains("as it would be made now"), "{rolled}");
    agent.does(&rig, &["restart", "counter"]);
    rig.wait_saved("counter", "count", "2");
    let second = uid(&pod.get());
    assert_ne!(first, second);
    drop(agent);

    // Pods run on as they are when another agent has other settings, until it is told to roll.
    let agent = rig.agent(&[("THE0_BOT_CPU_REQUEST", "50m")]);
    agent.wait_row(&rig, "counter", |row| {
        (row["state"] == "running").then_some(())
    });
    assert_eq!(uid(&pod.get()), second);
    agent.does(&rig, &["roll"]);
    rig.wait_saved("counter", "count", "3");
    let third = pod.get();
    let main = &third["spec"]["containers"][0];
    assert_eq!(main["name"], "bot", "{third:#}");
    assert_eq!(main["resources"]["requests"]["cpu"], "50m", "{third:#}");
    agent.says("the roll is over");
}

#[test]
fn a_document_becomes_a_pod_another_when_it_changes_and_none_when_it_goes() {
    let Some(rig) = Rig::start("controller::life") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.asked("counter", doc! {"word": "a-hidden-word"});
    pod.ready();
    rig.wait_saved("counter", "count", "1");
    let first = pod.get();
    assert!(!first.to_string().contains("a-hidden-word"), "{first:#}");
    let question = json!({"bot_id": "counter", "query_path": "/count"}).to_string();
    let answer = http(&agent.gateway, "POST", "/query", &question).json();
    assert_eq!(answer["data"], 1, "{answer}");
    let printed = agent.prints(&rig, &["logs", "counter"]);
    assert!(printed.contains("COUNT 1"), "{printed}");
    agent.wait_row(&rig, "counter", |row| {
        (row["synced"]["outcome"] == "ok").then_some(())
    });
    let remarks = agent.remarks(&rig, &["ps"]);
    assert!(
        remarks.contains("CPU and memory are not known: the cluster serves no metrics.k8s.io"),
        "{remarks}"
    );
    rig.asked("counter", doc! {"word": "changed"});
    rig.wait_saved("counter", "word", "changed");
    assert_eq!(
        rig.saved("counter", "count").as_deref(),
        Some("2"),
        "it goes on from its state"
    );
    assert_ne!(uid(&first), uid(&pod.get()));
    rig.remove("counter");
    pod.gone();
    assert_eq!(rig.saved("counter", "last").as_deref(), Some("words"));
    wait_for("Secrets that are gone", LONG, || {
        rig.names("secrets").is_empty().then_some(())
    });
    agent.wait_history(&rig, "counter", |runs| {
        let stopped: Vec<&str> = runs
            .iter()
            .filter_map(|run| run["stopped"].as_str())
            .collect();
        stopped == ["changed", "removed"] && runs.iter().all(|run| run["saved"]["all"] == true)
    });
}

#[test]
fn the_kubelet_starts_a_bot_again_that_ends_and_each_run_is_told_once() {
    let Some(rig) = Rig::start("controller::crash") else {
        return;
    };
    let agent = rig.agent(&[]);
    rig.bot("crasher", doc! {"crash": 2});
    agent.wait_row(&rig, "crasher", |row| {
        (row["state"] == "running" && row["run"] == 3).then_some(())
    });
    agent.wait_history(&rig, "crasher", |runs| {
        let told: Vec<(&Value, &Value)> =
            runs.iter().map(|run| (&run["run"], &run["exit"])).collect();
        told == [
            (&json!(1), &json!(1)),
            (&json!(2), &json!(1)),
            (&json!(3), &Value::Null),
        ]
    });
    // It is known to run before it does anything.
    rig.wait_saved("crasher", "count", "3");
    agent.does(&rig, &["stop", "crasher"]);
    rig.cluster.pod("default-crasher").gone();
    agent.wait_history(&rig, "crasher", |runs| {
        runs.len() == 3 && runs[2]["stopped"] == "asked"
    });
    assert_eq!(rig.saved("crasher", "count").as_deref(), Some("3"));
}

#[test]
fn runs_that_end_while_no_controller_looks_are_in_history_each_once() {
    let Some(rig) = Rig::start("controller::unseen") else {
        return;
    };
    let mut agent = rig.agent(&[]);
    let pod = rig.bot("unseen", doc! {"crash": 100});
    wait_for("a Pod", LONG, || (!pod.get().is_null()).then_some(()));
    agent.kill();
    // The kubelet waits 10, 20 and 40 s between the later ones.
    wait_for("five runs", LONG * 2, || {
        std::thread::sleep(Duration::from_millis(500));
        let bot = pod.container("bot");
        let fifth = bot["state"]["terminated"]["message"].as_str();
        let fifth = fifth.or(bot["lastState"]["terminated"]["message"].as_str());
        fifth?.contains(r#""run":5,"#).then_some(())
    });
    agent.start(&rig);
    agent.wait_history(&rig, "unseen", |runs| {
        let numbers = runs.iter().map(|run| run["run"].as_u64());
        let ended = runs.iter().take(5).all(|run| run["exit"] == 1);
        numbers.take(5).eq((1..=5).map(Some)) && ended
    });
    rig.remove("unseen");
    pod.gone();
}

#[test]
fn a_tick_runs_once_in_a_pod_that_goes_when_its_end_is_written_down() {
    let Some(rig) = Rig::start("controller::tick") else {
        return;
    };
    let agent = rig.agent(&[]);
    rig.scheduled("timed", doc! {"once": true, "schedule": "0 0 1 1 *"});
    agent.says("completed (exit code 0)");
    wait_for("a Pod that is gone", LONG, || {
        rig.names("pods").is_empty().then_some(())
    });
    agent.wait_history(&rig, "timed", |runs| {
        let [run] = runs else { return false };
        run["cause"] == "tick" && run["exit"] == 0 && run["saved"]["all"] == true
    });
    assert_eq!(rig.saved("timed", "count").as_deref(), Some("1"));
}

#[test]
fn bots_of_a_folder_run_as_pods_without_a_database() {
    let Some(rig) = Rig::start("controller::folder") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let bot = folder.path().join("counter");
    fs::create_dir(&bot).unwrap();
    let definition = "name: counter\nruntime: python3.11\nversion: 1.0.0\ntype: realtime\nentrypoints:\n  bot: main.py\n";
    fs::write(bot.join("bot-config.yaml"), definition).unwrap();
    fs::write(bot.join("main.py"), COUNTS).unwrap();
    let mut agent = rig.agent_of(folder.path());
    let runs = |row: &Value| (row["state"] == "running").then_some(());
    // Its id is made of the machine's and the folder's.
    let id = wait_for("a bot", LONG, || {
        let rows = agent.ask(&rig, &["ps"]);
        rows[0]["id"].as_str().map(str::to_owned)
    });
    rig.wait_saved(&id, "count", "1");
    agent.kill();
    agent.start(&rig);
    agent.wait_row(&rig, &id, runs);
    fs::write(
        bot.join("bot-config.yaml"),
        format!("{definition}config:\n  word: other\n"),
    )
    .unwrap();
    rig.wait_saved(&id, "count", "2");
    rig.wait_saved(&id, "word", "other");
    fs::remove_dir_all(&bot).unwrap();
    rig.cluster.pod(format!("default-{id}")).gone();
    agent.wait_history(&rig, &id, |runs| {
        let stopped = runs.iter().map(|run| run["stopped"].as_str());
        stopped.eq([Some("changed"), Some("removed")])
    });
}
