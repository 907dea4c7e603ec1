//! Pods that others end, and keys that have an end.

use std::path::Path;
use std::process::Stdio;

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::cluster::{LONG, Pod};
use tests::{read, wait_for};

use crate::rig::Rig;

#[test]
fn a_bot_whose_pod_is_evicted_is_saved_and_gets_another_one() {
    let Some(rig) = Rig::start("controller::evicted") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.bot("guest", doc! {});
    pod.ready();
    rig.wait_saved("guest", "count", "1");
    let before = pod.get()["metadata"]["uid"].clone();
    evict(&rig, &pod);
    rig.wait_saved("guest", "count", "2");
    assert_ne!(pod.get()["metadata"]["uid"], before);
    agent.wait_history(&rig, "guest", |runs| {
        let [first, ..] = runs else { return false };
        let why = first["message"].as_str().unwrap_or_default();
        let is_told = first["reason"] == "stopped" && why.contains("Eviction API");
        first["saved"]["all"] == true && is_told && runs.len() == 2
    });
    rig.remove("guest");
    pod.gone();
}

/// Has more in its code folder in its first run than a Pod may have that [`limit_disk`] holds for.
const FILLS: &str = r"
import os, signal

def main(id, config):
    path = '/state/count'
    count = int(open(path).read()) + 1 if os.path.exists(path) else 1
    open(path, 'w').write(str(count))
    if count == 1:
        with open('/bot/filling', 'wb') as filling:
            for _ in range(150):
                filling.write(bytes(1 << 20))
    while True:
        signal.pause()
";

/// Lets no container of the namespace have more than 20 MiB of a disk, as who runs a cluster may.
fn limit_disk(rig: &Rig) {
    let most = json!({"type": "Container", "default": {"ephemeral-storage": "20Mi"}});
    rig.cluster.apply(&json!({
        "apiVersion": "v1", "kind": "LimitRange",
        "metadata": {"name": "disk"}, "spec": {"limits": [most]},
    }));
}

#[test]
fn a_bot_whose_pod_its_kubelet_evicts_goes_on_from_its_state_in_another_one() {
    let Some(rig) = Rig::start("controller::pressed") else {
        return;
    };
    limit_disk(&rig);
    let agent = rig.agent(&[]);
    let pod = rig.running("pressed", FILLS, doc! {});
    rig.wait_saved("pressed", "count", "1");
    let before = pod.get()["metadata"]["uid"].clone();
    // The kubelet looks at what is used once a minute.
    wait_for("another run", LONG * 2, || {
        (rig.saved("pressed", "count")? == "2").then_some(())
    });
    assert_ne!(pod.get()["metadata"]["uid"], before);
    agent.wait_history(&rig, "pressed", |runs| {
        let [first, second] = runs else { return false };
        let why = first["message"].as_str().unwrap_or_default();
        // Its kubelet waits a second or two, and then kills.
        let has_ended = first["reason"] == "stopped" || first["reason"] == "lost";
        has_ended && why.contains("Evicted: ") && second["ended_at"].is_null()
    });
    rig.remove("pressed");
    pod.gone();
}

/// As a drain of the node does it.
pub fn evict(rig: &Rig, pod: &Pod<'_>) {
    let (name, namespace) = (&pod.name, rig.cluster.namespace());
    let wish = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    });
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    let mut command = rig.cluster.command();
    command.args(["create", "--raw", &path, "--filename", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), &wish).unwrap();
    assert!(child.wait().unwrap().success(), "it is not evicted");
}

#[test]
fn a_bot_that_takes_all_memory_is_told_to_have_done_so() {
    let Some(rig) = Rig::start("controller::oom") else {
        return;
    };
    let agent = rig.agent(&[]);
    let config = doc! {"hungry": true, "memory_limit": "64Mi"};
    let pod = rig.bot("hungry", config);
    agent.wait_history(&rig, "hungry", |runs| {
        let is_oom = |run: &Value| run["reason"] == "oom" && run["exit"] == 137;
        // The kubelet starts it again, in the same Pod.
        runs.len() >= 2 && runs.iter().all(is_oom) && runs[1]["run"] == 2
    });
    rig.remove("hungry");
    pod.gone();
}

#[test]
fn renewed_keys_come_into_a_pod_and_it_has_new_ones_for_its_end() {
    let Some(rig) = Rig::start("controller::keys") else {
        return;
    };
    let mut agent = rig.agent(&[("THE0_KEYS_TTL", "15m")]);
    let pod = rig.bot("keyed", doc! {});
    pod.ready();
    rig.wait_saved("keyed", "count", "1");
    let sync = pod.process("sync", "sync");
    let keys = || {
        read(Path::new(&format!(
            "/proc/{sync}/root/run/the0/keys/keys.json"
        )))
    };
    let first = keys();
    let are_others = |than: &str| {
        let now = keys();
        (now != than && now.contains("MINIO_SESSION_TOKEN")).then_some(())
    };
    are_others("").expect("keys of its own");
    let renewed = || pod.get()["metadata"]["annotations"]["the0.app/keys-renewed"].clone();
    assert_eq!(renewed(), Value::Null);
    // An agent does not know how long keys are good that another one has given.
    agent.kill();
    agent.start(&rig);
    wait_for("keys that are renewed", LONG, || {
        (!renewed().is_null()).then_some(())
    });
    wait_for("keys in the Pod", LONG, || are_others(&first));
    // They are not good for as long as a Pod may take to end, so there are new ones before it is told to.
    let secret = secret_of_keys(&pod.get());
    let held = rig.cluster.hold(format!("secret/{secret}"));
    let given = || rig.cluster.get("secret", &secret)["data"]["keys.json"].clone();
    let second = given();
    assert!(second.is_string(), "{secret} has no keys");
    rig.remove("keyed");
    pod.gone();
    let last = given();
    assert!(last.is_string() && last != second, "no keys for the end");
    drop(held);
    assert_eq!(rig.saved("keyed", "last").as_deref(), Some("words"));
}

/// The name of the Secret that a Pod has its keys of.
fn secret_of_keys(pod: &Value) -> String {
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    let keys = volumes.iter().find(|volume| volume["name"] == "keys");
    let name = keys.expect("a volume of keys")["secret"]["secretName"].as_str();
    name.expect("the name of a Secret").to_owned()
}
