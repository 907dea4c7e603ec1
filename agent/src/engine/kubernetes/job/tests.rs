use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::super::tests::{Cluster, Request, access};
use super::*;
use crate::engine::docker::tests::{block_on, bot};
use crate::store::Address;

const TERMS: Terms = Terms {
    time: Duration::from_mins(1),
    most: 1024,
};

/// Jobs of a cluster whose API server answers what `script` says.
fn jobs(
    script: impl Fn(&Request) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> (Jobs, Cluster) {
    let (access, cluster) = access(script);
    let folder = std::env::temp_dir();
    let store = Store::open(&Address::Directory(folder.clone()), folder).unwrap();
    let jobs = Jobs {
        access,
        store,
        bucket: "states".to_owned(),
        terms: TERMS,
    };
    (jobs, cluster)
}

/// The job's Pod, as an API server has it.
fn there(jobs: &Jobs, gates: &Value) -> Value {
    let job = bot("j1");
    let made = pod::pod(&job, &jobs.access.template, TERMS, "s").unwrap();
    let mut made = serde_json::to_value(made).unwrap();
    made["metadata"]["uid"] = "u1".into();
    made["metadata"]["resourceVersion"] = "7".into();
    made["spec"]["schedulingGates"] = gates.clone();
    made
}

fn refused(code: u16) -> (u16, Value) {
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "message": "no"});
    (code, status)
}

/// Makes the job where this is there, which is patched with that answer; what was asked of the API server.
fn make_over(there: &Value, patched: (u16, Value)) -> (Result<Made, NotStarted>, Cluster) {
    let (there, tries) = (there.clone(), AtomicU32::new(0));
    let script = move |request: &Request| {
        Some(match (request.method.as_str(), &request.path) {
            ("POST", path) if path.contains("/pods") => {
                if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                    return Some(refused(409));
                }
                let mut made = request.body.clone();
                made["metadata"]["uid"] = "u2".into();
                (201, made)
            }
            ("POST", _) => (201, request.body.clone()),
            ("PATCH", _) => patched.clone(),
            ("GET" | "DELETE", _) => (200, there.clone()),
            _ => refused(500),
        })
    };
    block_on(async {
        let (jobs, cluster) = jobs(script);
        (Box::pin(jobs.make(&bot("j1"))).await, cluster)
    })
}

fn plain() -> Value {
    let (jobs, _) = jobs(|_| None);
    there(&jobs, &json!([{"name": names::PERMIT}]))
}

#[test]
fn a_pod_behind_its_gate_makes_way_as_it_was_seen() {
    let there = runtime(plain);
    let mut freed = there.clone();
    freed["metadata"]["resourceVersion"] = "8".into();
    let (made, cluster) = make_over(&there, (200, freed));
    assert_eq!(made.unwrap().id, "u2");
    let requests = cluster.requests();
    let of = |method: &str| {
        let mut all = requests.iter().filter(|request| request.method == method);
        all.next().unwrap().body.clone()
    };
    assert_eq!(of("PATCH")["metadata"]["resourceVersion"], "7");
    let only = &of("DELETE")["preconditions"];
    assert_eq!(only, &json!({"uid": "u1", "resourceVersion": "8"}));
    let secret = requests.last().unwrap();
    let owner = &secret.body["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], "u2", "its Secret goes with it");
}

#[test]
fn a_pod_whose_gate_was_opened_meanwhile_stays() {
    let there = runtime(plain);
    let (made, cluster) = make_over(&there, refused(409));
    assert_eq!(made.unwrap_err().outcome, Outcome::Busy);
    let mut opened = there;
    opened["spec"]["schedulingGates"] = Value::Null;
    let (made, again) = make_over(&opened, (200, Value::Null));
    assert_eq!(made.unwrap_err().outcome, Outcome::Busy);
    for cluster in [cluster, again] {
        let requests = cluster.requests();
        assert!(requests.iter().all(|request| request.method != "DELETE"));
    }
}

#[test]
fn what_has_its_name_and_is_somebody_elses_is_left_alone() {
    let mut foreign = runtime(plain);
    foreign["metadata"]["labels"] = json!({"app": "other"});
    let (made, cluster) = make_over(&foreign, (200, Value::Null));
    let not = made.unwrap_err();
    assert!(
        not.why.contains("is there that is not this agent's"),
        "{}",
        not.why
    );
    let requests = cluster.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.method != "DELETE" && request.method != "PATCH")
    );
}

/// In a runtime, which a client needs.
fn runtime<T>(make: impl FnOnce() -> T) -> T {
    block_on(async { make() })
}
