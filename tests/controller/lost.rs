//! Bots on a node that is lost.

use std::fs;
use std::time::Duration;

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::stays;

use crate::rig::Rig;

/// For so long, in which it is looked at several times, no other Pod may come.
const AT_LEAST: Duration = Duration::from_secs(5);

/// A node that no kubelet has: what is bound to it is as on one that was lost.
pub struct Lost<'a> {
    rig: &'a Rig,
    pub name: String,
}

impl<'a> Lost<'a> {
    pub fn new(rig: &'a Rig) -> Self {
        let name = rig.cluster.namespace().to_owned();
        let alone = json!({"key": "the0.test/alone", "value": name, "effect": "NoSchedule"});
        rig.cluster.apply(&json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"the0.test/node": name}}, "spec": {"taints": [alone]},
        }));
        let node = Self { rig, name };
        node.is("True");
        node
    }

    /// What its kubelet says of it, or nobody knows.
    pub fn is(&self, ready: &str) {
        let now = contract::record::Time::now().to_string();
        let room =
            json!({"cpu": "8", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "20"});
        self.patch(
            "node",
            &self.name,
            &json!({"status": {
                "capacity": room, "allocatable": room,
                "conditions": [{
                    "type": "Ready", "status": ready, "reason": "Test", "message": "a test says so",
                    "lastHeartbeatTime": now, "lastTransitionTime": now,
                }],
            }}),
        );
    }

    /// The last that its kubelet says of a Pod: its bot runs.
    pub fn runs(&self, pod: &str) {
        let started = contract::record::Time::now().to_string();
        let is =
            |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": started});
        let patch = json!({"status": {
            "phase": "Running", "conditions": [is("Ready"), is("ContainersReady")],
            "containerStatuses": [{
                "name": "bot", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": started}},
            }],
        }});
        self.patch("pod", pod, &patch);
    }

    fn patch(&self, kind: &str, name: &str, patch: &Value) {
        let patch = patch.to_string();
        let words = ["patch", kind, name, "--subresource=status", "--type=merge"];
        let words = words.into_iter().chain(["--patch", &patch]);
        self.rig.cluster.ask(words);
    }

    /// What the operator sets, so that Pods come here and are taken away soon.
    pub fn template(&self) -> String {
        let soon = |what: &str| {
            let key = format!("node.kubernetes.io/{what}");
            json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1})
        };
        let any = json!({"operator": "Exists", "effect": "NoSchedule"});
        json!({
            "dnsPolicy": "Default", "nodeSelector": {"the0.test/node": self.name},
            "tolerations": [any, soon("unreachable"), soon("not-ready")],
        })
        .to_string()
    }

    /// It is known to be gone.
    pub fn remove(&self) {
        let words = ["delete", "node", &self.name, "--ignore-not-found"];
        self.rig.cluster.output(words);
    }
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

#[test]
fn a_bot_on_a_lost_node_is_told_of_and_has_another_pod_when_the_node_is_known_to_be_gone() {
    let Some(rig) = Rig::start("controller::lost") else {
        return;
    };
    let node = Lost::new(&rig);
    fs::write(rig.template(), node.template()).unwrap();
    let agent = rig.agent(&[]);
    let pod = rig.bot("far", doc! {});
    pod.wait("a Pod on the node", |pod| {
        (pod["spec"]["nodeName"] == node.name.as_str()).then_some(())
    });
    node.runs(&pod.name);
    agent.wait_row(&rig, "far", |row| (row["state"] == "running").then_some(()));
    let uid = || pod.get()["metadata"]["uid"].clone();
    let first = uid();
    node.is("Unknown");
    agent.wait_row(&rig, "far", |row| {
        let is_told = row.to_string().contains("it is taken from its node");
        is_told.then_some(())
    });
    pod.wait("a Pod that is to end", |pod| {
        (!pod["metadata"]["deletionTimestamp"].is_null()).then_some(())
    });
    stays(
        "a Pod of which nobody knows whether it runs",
        AT_LEAST,
        || uid() == first,
    );

    node.remove();
    pod.wait("another Pod", |pod| {
        let uid = &pod["metadata"]["uid"];
        (uid.is_string() && *uid != first).then_some(())
    });
    agent.wait_history(&rig, "far", |runs| {
        let [run] = runs else {
            return false;
        };
        let message = run["message"].as_str().unwrap_or_default();
        run["reason"] == "lost" && message.contains("node no longer exists")
    });
    agent.says("it is not proven that all it had is in the store");
    agent.wait_row(&rig, "far", |row| {
        let why = row["reason"].as_str().unwrap_or_default();
        why.contains("cannot be scheduled").then_some(())
    });
}
