//! What a person does by hand about bots that run as Pods.

use mongodb::bson::doc;
use serde_json::Value;
use tests::cluster::LONG;
use tests::wait_for;

use crate::rig::{Agent, Rig};

fn running(agent: &Agent, rig: &Rig, id: &str) {
    agent.wait_row(rig, id, |row| (row["state"] == "running").then_some(()));
}

#[test]
fn a_state_that_is_put_or_restored_is_what_the_pod_goes_on_from() {
    let Some(rig) = Rig::start("controller::state") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.asked("held", doc! {"word": "w"});
    rig.wait_saved("held", "count", "1");
    running(&agent, &rig, "held");
    let born = pod.get()["metadata"]["uid"].clone();
    agent.does(&rig, &["restart", "held"]);
    rig.wait_saved("held", "count", "2");
    let other = pod.get()["metadata"]["uid"].clone();
    assert_ne!(other, born);

    // While it runs: it goes on from what was put, as another Pod or run.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("count"), "40").unwrap();
    let path = folder.path().to_str().unwrap();
    agent.does(&rig, &["state", "put", "held", path]);
    rig.wait_saved("held", "count", "41");
    assert_eq!(rig.saved("held", "word").as_deref(), Some("w"));
    running(&agent, &rig, "held");
    let answer = wait_for("an answer", LONG, || {
        let output = agent.output(&rig, &["query", "held", "/count"]);
        serde_json::from_slice::<Value>(&output.stdout).ok()
    });
    assert!(answer.to_string().contains("41"), "{answer}");

    let states = agent.ask(&rig, &["state", "ls", "held"]);
    let mut states = states.as_array().unwrap().iter();
    let replaced = states.find(|state| state["reason"] == "replaced");
    let before = replaced.expect("the state that was replaced")["name"].clone();
    let before = before.as_str().unwrap();
    agent.does(&rig, &["state", "restore", "held", before]);
    rig.wait_saved("held", "count", "3");
    agent.wait_history(&rig, "held", |runs| {
        runs.len() >= 3
            && runs
                .iter()
                .all(|run| run["ended_at"].is_null() || run["exit"].is_i64())
    });
}

#[test]
fn bots_that_a_person_stops_stay_so_and_start_again_where_they_were() {
    let Some(rig) = Rig::start("controller::stop") else {
        return;
    };
    let mut agent = rig.agent(&[]);
    let pods = ["one", "two"].map(|id| rig.bot(id, doc! {}));
    for pod in &pods {
        pod.ready();
    }
    agent.does(&rig, &["stop", "one"]);
    pods[0].gone();
    agent.does(&rig, &["stop", "--all"]);
    pods[1].gone();
    assert_eq!(rig.saved("two", "last").as_deref(), Some("words"));
    // The next agent knows it, too.
    agent.kill();
    agent.start(&rig);
    agent.wait_row(&rig, "two", |row| (row["state"] == "stopped").then_some(()));
    assert!(rig.names("pods").is_empty());
    agent.does(&rig, &["start", "--all"]);
    pods[1].ready();
    rig.wait_saved("two", "count", "2");
    agent.does(&rig, &["start", "one"]);
    rig.wait_saved("one", "count", "2");
    for id in ["one", "two"] {
        running(&agent, &rig, id);
    }
}
