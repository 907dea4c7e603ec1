//! Agents that are killed, that are two, or that find what is not theirs.

use std::time::Duration;

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::stays;

use crate::clock::wait;
use crate::rig::Rig;

/// Longer than a start takes to begin.
const AT_LEAST: Duration = Duration::from_secs(5);

fn uid(pod: &Value) -> &Value {
    &pod["metadata"]["uid"]
}

/// A Pod of somebody else's that has the name of a bot's.
fn foreign(name: &str, image: &str) -> Value {
    let context = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let sleeps = [
        "run",
        "--",
        "python3",
        "-c",
        "import time; time.sleep(100000)",
    ];
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "a", "image": image, "imagePullPolicy": "Never", "securityContext": context,
            "command": ["/opt/the0/bin/supervisor"], "args": sleeps,
        }]},
    })
}

#[test]
fn an_agent_that_is_killed_finds_its_pods_again_and_touches_no_others() {
    let Some(rig) = Rig::start("controller::adopts") else {
        return;
    };
    rig.cluster.apply(&foreign("default-taken", &rig.image));
    let theirs = rig.cluster.pod("default-taken");
    let mut agent = rig.agent(&[]);
    let pod = rig.bot("kept", doc! {});
    rig.bot("taken", doc! {});
    pod.ready();
    rig.wait_saved("kept", "count", "1");
    let why = agent.wait_row(&rig, "taken", |row| {
        (row["state"] == "failed").then(|| row["reason"].as_str().unwrap_or_default().to_owned())
    });
    assert!(
        why.contains("default-taken is there that is not this agent's"),
        "{why}"
    );
    let (before, foreign) = (pod.get(), theirs.get());
    agent.kill();
    agent.start(&rig);
    agent.says("found, Pod default-kept");
    agent.wait_row(&rig, "kept", |row| {
        (row["state"] == "running").then_some(())
    });
    assert_eq!(uid(&pod.get()), uid(&before), "it runs on");
    rig.remove("kept");
    rig.remove("taken");
    pod.gone();
    assert_eq!(rig.saved("kept", "last").as_deref(), Some("words"));
    assert_eq!(uid(&theirs.get()), uid(&foreign));
    assert!(theirs.get()["metadata"]["deletionTimestamp"].is_null());
}

#[test]
fn of_two_agents_one_acts_and_the_other_one_takes_over() {
    let Some(rig) = Rig::start("controller::two") else {
        return;
    };
    let mut first = rig.agent(&[]);
    first.says("this agent has the lease and acts");
    let second = rig.agent(&[]);
    second.says("this one stands by");
    let pod = rig.bot("single", doc! {});
    pod.ready();
    rig.wait_saved("single", "count", "1");
    assert_eq!(rig.names("pods").len(), 1);
    let before = pod.get();
    first.kill();
    second.says("this agent has the lease and acts");
    assert_eq!(uid(&pod.get()), uid(&before), "it runs on");
    rig.remove("single");
    pod.gone();
    assert_eq!(rig.saved("single", "last").as_deref(), Some("words"));
    assert!(second.said().contains("stopping, it is not there any more"));
}

#[test]
fn a_bot_that_another_runner_has_is_started_when_that_one_has_ended() {
    let Some(rig) = Rig::start("controller::others") else {
        return;
    };
    // As the platform's own runner makes them: the contract's labels and names, and no stack.
    let mut theirs = foreign("some-name-7f", &rig.image);
    theirs["metadata"]["labels"] =
        json!({"the0.app/bot-id": "shared", "the0.app/managed-by": "it"});
    rig.cluster.apply(&theirs);
    let template = json!({"spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": theirs["spec"]["containers"],
    }}}});
    rig.cluster.apply(&json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "schedule-yearly"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": template},
    }));
    let agent = rig.agent(&[]);
    let pod = rig.bot("shared", doc! {});
    // It is due now, and then in a long time.
    rig.scheduled("yearly", doc! {"once": true, "schedule": "0 0 1 1 *"});
    agent.wait_row(&rig, "shared", |row| {
        let reason = row["reason"].as_str().unwrap_or_default();
        reason
            .contains("Pod some-name-7f of another runner")
            .then_some(())
    });
    agent.says("another runner has it in the cluster");
    stays("neither", AT_LEAST, || {
        pod.get().is_null() && rig.saved("yearly", "count").is_none()
    });
    rig.cluster.pod("some-name-7f").delete();
    let words = ["patch", "cronjob", "schedule-yearly", "--type=merge"];
    let off = r#"--patch={"spec":{"suspend":true}}"#;
    rig.cluster.ask(words.iter().chain(&[off]));
    // It looks again each minute.
    wait("start of both", &agent, || {
        let counts = ["shared", "yearly"].map(|id| rig.saved(id, "count"));
        let is_one = |count: &Option<String>| count.as_deref() == Some("1");
        counts.iter().all(is_one).then_some(())
    });
    let left = rig.cluster.get("cronjob", "schedule-yearly");
    assert_eq!(left["spec"]["suspend"], true, "it is left alone");
}
