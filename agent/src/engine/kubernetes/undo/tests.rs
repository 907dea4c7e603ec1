use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::super::tests::{Request, access, pod, running};
use super::super::work;
use crate::engine::docker::tests::{block_on, bot};
use crate::engine::not_started::NotStarted;
use crate::history::{Start, cause::Cause};
use crate::plan::Outcome;
use crate::schedule::ledger::Key;

const TICK: Key = Key { at: 60, attempt: 1 };

/// The Pod of the tick, behind its gate or not.
fn there(gates: &Value) -> Value {
    let made = pod(&bot("b"), "u1", Some(TICK), &running());
    let mut made = serde_json::to_value(made).unwrap();
    made["metadata"]["resourceVersion"] = "7".into();
    made["spec"]["schedulingGates"] = gates.clone();
    made["spec"].as_object_mut().unwrap().remove("nodeName");
    made
}

fn status(code: u16) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "code": code, "message": "m"}),
    )
}

/// Starts the tick where this is there, which is patched with that answer; what was asked about Pods.
fn start_over(there: Value, patched: (u16, Value)) -> (Result<(), NotStarted>, Vec<Request>) {
    let tries = AtomicU32::new(0);
    let script = move |request: &Request| {
        let is_pod = request.path.contains("/pods");
        Some(match request.method.as_str() {
            "POST" if is_pod && tries.fetch_add(1, Ordering::Relaxed) == 0 => status(409),
            "POST" if is_pod => {
                let mut made = request.body.clone();
                made["metadata"]["uid"] = "u2".into();
                (201, made)
            }
            "PATCH" if is_pod && request.body["metadata"]["uid"] == "u1" => patched.clone(),
            "GET" | "PATCH" if is_pod => (200, there.clone()),
            "POST" | "PATCH" => (200, request.body.clone()),
            _ => status(200),
        })
    };
    block_on(async {
        let (access, cluster) = access(script);
        let (_keep, cancel) = oneshot::channel();
        let start = Start::now(Cause::Tick, None).of_tick(TICK);
        let bot = bot("b");
        let started = work::start(&access, &bot, &start, None, cancel);
        let started = Box::pin(started).await.map(drop);
        let asked = cluster.requests().into_iter();
        let of_pods = asked.filter(|request| request.path.contains("/pods/"));
        (started, of_pods.collect())
    })
}

#[test]
fn the_pod_of_a_tick_that_nobody_let_go_makes_way_for_the_next_try() {
    let gated = json!([{"name": "the0.app/permit"}]);
    let mut freed = there(&gated);
    freed["metadata"]["resourceVersion"] = "8".into();
    let (started, asked) = start_over(there(&gated), (200, freed));
    assert_eq!(started, Ok(()));
    let find = |method: &str| asked.iter().find(|request| request.method == method);
    let first = find("PATCH").unwrap();
    assert_eq!(first.body["metadata"]["resourceVersion"], "7");
    let only = &find("DELETE").unwrap().body["preconditions"];
    assert_eq!(only, &json!({"uid": "u1", "resourceVersion": "8"}));
}

#[test]
fn one_that_was_let_go_meanwhile_runs_on() {
    let gated = json!([{"name": "the0.app/permit"}]);
    let opened = there(&Value::Null);
    for (there, patched, is_found) in [
        (there(&gated), status(409), false),
        (opened, status(200), true),
    ] {
        let (started, asked) = start_over(there, patched);
        assert!(asked.iter().all(|request| request.method != "DELETE"));
        match started {
            Ok(()) => assert!(is_found, "it runs"),
            Err(not) => assert_eq!((not.outcome, is_found), (Outcome::Busy, false)),
        }
    }
}
