use contract::last_words;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::super::names;
use super::*;
use crate::engine::stack::Stack;

fn stack() -> Stack {
    "s".parse().unwrap()
}

fn seen(status: &Value) -> Seen {
    seen_with(&json!({}), status)
}

/// A Pod with this status, and with `more` in its metadata.
fn seen_with(more: &Value, status: &Value) -> Seen {
    let mut pod = json!({
        "metadata": {
            "name": "s-b", "uid": "11111111-2222", "labels": {}, "annotations": {
                names::ID: "b", names::NAME: "bot", names::BEGAN: "2026-01-01T00:00:00.000Z",
                names::CAUSE: "created", names::CODE: "u/b/1",
            }
        },
        "spec": {"nodeName": "n", "containers": [{"name": "bot", "image": "i"}]},
        "status": status,
    });
    pod["metadata"]["labels"] = json!(names::labels(&stack(), &"b".parse().unwrap()));
    for (name, value) in more.as_object().unwrap() {
        pod["metadata"][name] = value.clone();
    }
    let pod: Pod = serde_json::from_value(pod).unwrap();
    Seen::of(&stack(), &pod).unwrap()
}

fn main(state: &Value, last: &Value, restarts: u32) -> Value {
    json!({"name": "bot", "image": "i", "imageID": "", "ready": false, "restartCount": restarts,
           "state": state, "lastState": last})
}

fn ended(code: i32, reason: &str, message: &Value) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "message": message,
           "startedAt": "2026-01-01T00:00:05Z", "finishedAt": "2026-01-01T00:00:09Z"}})
}

fn record(run: u64, reason: Reason) -> RunRecord {
    let at = |second: i64| {
        let time = Timestamp::from_second(1_767_225_600 + second).unwrap();
        Time::from(SystemTime::from(time))
    };
    RunRecord {
        run,
        code: 1,
        signal: None,
        reason,
        started_at: at(5),
        ended_at: at(9),
        restarts: 0,
        message: None,
        result: None,
    }
}

fn words(record: &RunRecord) -> Value {
    serde_json::to_string(record).unwrap().into()
}

#[test]
fn a_pod_comes_runs_waits_and_is_over() {
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}});
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let of = |phase: &str, state: &Value| {
        let status = json!({"phase": phase, "containerStatuses": [main(state, &json!({}), 0)]});
        seen(&status).stage
    };
    assert_eq!(seen(&json!({"phase": "Pending"})).stage, Stage::Coming);
    assert_eq!(of("Running", &running), Stage::Running);
    assert_eq!(of("Running", &waiting), Stage::Waiting);
    assert_eq!(
        of("Running", &ended(1, "Error", &Value::Null)),
        Stage::Waiting
    );
    assert_eq!(
        of("Succeeded", &ended(0, "Completed", &Value::Null)),
        Stage::Over
    );
    assert_eq!(of("Failed", &running), Stage::Over);
}

#[test]
fn a_pod_that_was_told_to_end_is_over_when_its_kubelet_says_so_or_none_ever_saw_it() {
    let ending =
        json!({"deletionTimestamp": "2026-01-01T01:00:00Z", "deletionGracePeriodSeconds": 3600});
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}});
    let status = json!({"phase": "Running", "containerStatuses": [main(&running, &json!({}), 0)]});
    let seen = seen_with(&ending, &status);
    assert!(
        seen.is_ending && seen.stage == Stage::Running,
        "also on a node that nobody reaches"
    );
    assert_eq!(seen.status(0, 0).state, State::Stopping);
    let meta = json!({"metadata": {"name": "s-b", "uid": "u", "deletionTimestamp": "2026-01-01T01:00:00Z",
        "labels": names::labels(&stack(), &"b".parse().unwrap()), "annotations": {names::ID: "b"}},
        "spec": {"containers": []}, "status": {"phase": "Pending"}});
    let pod: Pod = serde_json::from_value(meta).unwrap();
    assert_eq!(Seen::of(&stack(), &pod).unwrap().stage, Stage::Over);
}

#[test]
fn runs_are_known_by_the_last_words_of_their_supervisor_or_by_what_the_kubelet_saw() {
    let (own, next) = (record(7, Reason::Exited), record(8, Reason::Exited));
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let told = |state: &Value, last: &Value, restarts| {
        let status =
            json!({"phase": "Running", "containerStatuses": [main(state, last, restarts)]});
        seen(&status).runs
    };
    let last = ended(1, "Error", &words(&own));
    assert_eq!(told(&waiting, &last, 3), std::slice::from_ref(&own));
    let now = ended(1, "Error", &words(&next));
    assert_eq!(told(&now, &last, 3), [own, next]);
    let oom = told(&waiting, &ended(137, "OOMKilled", &Value::Null), 3);
    assert_eq!(
        (oom[0].run, oom[0].reason, oom[0].code, oom[0].signal),
        (3, Reason::Oom, 137, Some(9))
    );
    let lost = told(&ended(137, "Error", &"not JSON".into()), &json!({}), 0);
    assert_eq!((lost[0].run, lost[0].reason), (1, Reason::Lost));
    assert_eq!(lost[0].message.as_deref(), Some("not JSON"));
}

#[test]
fn a_run_that_is_lost_with_its_node_has_an_end_that_nobody_saw() {
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}});
    let before = ended(1, "Error", &words(&record(1, Reason::Exited)));
    let gone = json!({"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-01-01T00:10:00Z"});
    let mut status = json!({"phase": "Running", "conditions": [gone],
        "containerStatuses": [main(&running, &before, 1)]});
    assert_eq!(seen(&status).runs, [record(1, Reason::Exited)]);
    status["phase"] = "Failed".into();
    status["message"] = "node is gone".into();
    let told = seen(&status);
    let lost = &told.runs[1];
    assert_eq!(
        (lost.run, lost.reason, told.runs.len()),
        (2, Reason::Lost, 2)
    );
    assert_eq!(lost.ended_at.to_string(), "2026-01-01T00:10:00.000Z");
    assert!(lost.message.as_ref().unwrap().contains("node is gone"));
    let end = told.end.unwrap();
    assert_eq!((end.code, end.at), (None, Some(lost.ended_at)));
}

#[test]
fn a_node_that_does_not_answer_is_told() {
    let of = |ready: Value| {
        let containers = json!({"type": "ContainersReady", "status": "True"});
        seen(&json!({"phase": "Running", "conditions": [ready, containers]})).trouble
    };
    let said = of(json!({"type": "Ready", "status": "False"}));
    assert!(said.unwrap().contains("its node does not answer"));
    let taken = of(json!({"type": "DisruptionTarget", "status": "True", "message": "a taint"}));
    assert_eq!(taken.as_deref(), Some("it is taken from its node: a taint"));
    for well in [
        json!({"type": "Ready", "status": "True"}),
        json!({"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"}),
    ] {
        assert_eq!(of(well), None);
    }
}

#[test]
fn runs_that_no_status_has_any_more_are_in_the_last_words_of_later_ones() {
    let all: Vec<RunRecord> = (1..=5).map(|run| record(run, Reason::Exited)).collect();
    let words = |last: usize| last_words::of_run(&all[last], &all[..last]).into();
    let (before, now) = (ended(1, "Error", &words(3)), ended(1, "Error", &words(4)));
    let status = json!({"phase": "Running", "containerStatuses": [main(&now, &before, 4)]});
    let told = seen(&status);
    assert_eq!(
        (&told.runs, &told.earlier),
        (&all[3..].to_vec(), &all[..4].to_vec())
    );
    let killed = last_words::of_runs(&all[..3]).into();
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:10Z"}});
    let last = ended(137, "OOMKilled", &killed);
    let status = json!({"phase": "Running", "containerStatuses": [main(&running, &last, 4)]});
    let told = seen(&status);
    assert_eq!((told.runs[0].run, told.runs[0].reason), (4, Reason::Oom));
    let message = told.runs[0].message.as_deref();
    assert_eq!(message, Some("its supervisor ended with it"));
    assert_eq!(told.earlier, all[..3]);
}

#[test]
fn what_keeps_a_pod_from_its_work_is_said_in_the_clusters_own_words() {
    let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available: Insufficient memory."}]});
    let why = seen(&unscheduled).trouble.unwrap();
    assert!(why.contains("cannot be scheduled: 0/1 nodes"), "{why}");
    let gated = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "SchedulingGated", "message": "no"}]});
    assert_eq!(seen(&gated).trouble, None);
    let mut fetch = main(
        &json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
        &json!({}),
        0,
    );
    fetch["name"] = "fetch".into();
    let status = json!({"phase": "Pending", "initContainerStatuses": [fetch]});
    let why = seen(&status).trouble.unwrap();
    assert_eq!(why, "container fetch: ImagePullBackOff: no such image");
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
    let mut fetch = main(
        &waiting,
        &ended(112, "Error", &"u/b/1 is not in the store".into()),
        2,
    );
    fetch["name"] = "fetch".into();
    let why = seen(&json!({"phase": "Pending", "initContainerStatuses": [fetch]}))
        .trouble
        .unwrap();
    assert!(
        why.contains("fetch failed (exit code 112)") && why.contains("not in the store"),
        "{why}"
    );
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
    assert_eq!(seen(&evicted).trouble.unwrap(), "Evicted: low on memory");
    let creating = json!({"waiting": {"reason": "ContainerCreating"}});
    let status = json!({"phase": "Pending", "containerStatuses": [main(&creating, &json!({}), 0)]});
    assert_eq!(seen(&status).trouble, None);
}

#[test]
fn why_the_cluster_takes_a_pod_is_told_unless_it_had_been_told_to_end_before() {
    let taken = |meta: &Value, status: &Value| seen_with(meta, status).taken;
    let none = json!({});
    assert_eq!(taken(&none, &json!({"phase": "Running"})), None);
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
    let why = taken(&none, &evicted).unwrap();
    assert_eq!(why, "Evicted: low on memory");
    let marked = json!({"phase": "Running", "conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastTransitionTime": "2026-01-01T01:00:00Z"}]});
    let told = |by: &str| json!({"deletionTimestamp": by, "deletionGracePeriodSeconds": 60});
    let at_once = taken(&told("2026-01-01T01:01:00Z"), &marked).unwrap();
    assert_eq!(at_once, "Eviction API: evicting");
    assert_eq!(taken(&told("2026-01-01T01:00:58Z"), &marked), None);
}

#[test]
fn a_run_that_was_fenced_or_whose_state_was_edited_wants_no_other_in_its_pod() {
    let after = |record: &RunRecord, state: &Value| {
        let last = ended(114, "Error", &words(record));
        let status = json!({"phase": "Running", "containerStatuses": [main(state, &last, 1)]});
        seen(&status)
    };
    let of = |reason, state: &Value| after(&record(1, reason), state).verdict();
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    for reason in [Reason::Fenced, Reason::Edited] {
        assert_eq!(of(reason, &waiting), Some(reason));
    }
    assert_eq!(of(Reason::Exited, &waiting), None);
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:10Z"}});
    // What a state that is too large has is in its Pod only; with a folder of code that is, the state is saved.
    let full = |message: &str| {
        let record = RunRecord {
            message: Some(message.to_owned()),
            ..record(1, Reason::Disk)
        };
        let seen = after(&record, &waiting);
        (seen.verdict(), seen.is_outgrown())
    };
    assert_eq!(full("the state is 3 MiB"), (None, true));
    assert_eq!(
        full(&format!("{CODE_OVER} /bot")),
        (Some(Reason::Disk), false)
    );
    assert_eq!(
        of(Reason::Fenced, &running),
        None,
        "it was tried again already"
    );
}

#[test]
fn the_readiness_of_sync_says_something_where_it_is_probed_and_has_begun() {
    let says = |probe: &Value, started: bool, ready: bool| {
        let mut pod = json!({
            "metadata": {"labels": names::labels(&stack(), &"b".parse().unwrap()), "annotations": {names::ID: "b"}},
            "spec": {"containers": [], "initContainers": [{"name": "sync", "readinessProbe": probe}]},
            "status": {"phase": "Running", "initContainerStatuses": [{
                "name": "sync", "image": "i", "imageID": "", "restartCount": 0,
                "started": started, "ready": ready, "state": {"running": {}},
            }]},
        });
        pod["metadata"]["uid"] = "u".into();
        let pod: Pod = serde_json::from_value(pod).unwrap();
        Seen::of(&stack(), &pod).unwrap().saves
    };
    let probe = json!({"periodSeconds": 10});
    assert_eq!(says(&probe, true, true), Some(true));
    assert_eq!(says(&probe, true, false), Some(false));
    assert_eq!(says(&probe, false, false), None);
    assert_eq!(says(&Value::Null, true, true), None);
}
