//! Keys of jobs that run longer than these are good, seen by a proxy in front of the store.

use std::collections::BTreeSet;

use serde_json::json;
use tests::servers::{ACCESS_KEY, Proxy};
use tests::stack::{LONG, Stack};
use tests::wait_for;

use crate::rig::Rig;

/// Fills its log, so that it is sent soon, and never ends.
const CHATTY: &str = r#"
import time
def main(id, config):
    while True:
        for _ in range(300):
            print("x" * 1000)
        print("ROUND", flush=True)
        time.sleep(1)
"#;

fn signers(proxy: &Proxy, job: &str) -> BTreeSet<String> {
    let requests = proxy.requests().into_iter();
    let sent = requests.filter(|request| {
        request.is("PUT", &format!("bot-logs/logs/{job}")) && request.status == 200
    });
    sent.filter_map(|request| request.signer).collect()
}

#[test]
fn a_job_that_an_agent_finds_running_gets_new_keys() {
    let Some(mut host) = Stack::start("jobs::keys", &["python3.11"]) else {
        return;
    };
    let proxy = Proxy::start_at(host.docker.gateway(), host.store.address());
    host.set("MINIO_ENDPOINT", proxy.address());
    let Some(mut rig) = Rig::on(host) else { return };
    let id = rig.job("long", CHATTY, &json!({}));
    let first = wait_for("a log in the store", LONG, || {
        signers(&proxy, &id).into_iter().next()
    });
    assert_ne!(first, ACCESS_KEY, "keys of its own");
    let container = rig.host.docker.inspect(&rig.container(&id))["Id"].clone();
    rig.host.kill();
    proxy.forget();
    rig.host.begin();
    wait_for("a log that is sent with other keys", LONG, || {
        signers(&proxy, &id)
            .into_iter()
            .find(|key| *key != first && key != ACCESS_KEY)
    });
    let now = rig.host.docker.inspect(&rig.container(&id))["Id"].clone();
    assert_eq!(now, container, "it runs on");
    rig.host.ok(&["job", "cancel", &id]);
    rig.becomes(&id, "cancelled");
}
