//! Agents that are killed, that are two, or that find what is not theirs.

use mongodb::bson::doc;
use serde_json::{Value, json};

use crate::rig::Rig;

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
