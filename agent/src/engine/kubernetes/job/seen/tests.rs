use super::*;
use contract::record::{Outcome, Time};
use serde_json::{Value, json};

const START: &str = "2026-01-01T00:00:00Z";

fn at(seconds: u64) -> SystemTime {
    // START
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + seconds)
}

fn pod(metadata: &Value, spec: &Value, status: &Value) -> Pod {
    let mut metadata = metadata.clone();
    metadata["creationTimestamp"] = START.into();
    let mut spec = spec.clone();
    spec["containers"] = json!([]);
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn ended(code: i32, words: &str, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "message": words, "reason": reason}})
}

fn status(name: &str, state: &Value) -> Value {
    json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn record(reason: Reason, code: u8) -> String {
    let at = Time::from(at(0));
    serde_json::to_string(&RunRecord {
        run: 1,
        code,
        signal: None,
        reason,
        started_at: at,
        ended_at: at,
        restarts: 0,
        message: None,
        result: None,
    })
    .unwrap()
}

fn synced(result: Option<Sent>) -> String {
    serde_json::to_string(&Synced {
        outcome: Outcome::Ok,
        run: 1,
        generation: 0,
        digest: None,
        log: contract::logs::Position::default(),
        ok_at: None,
        at: Time::from(at(0)),
        error: None,
        left_out: Vec::new(),
        traffic: None,
        result,
    })
    .unwrap()
}

/// One that has ended, with these words of bot and sync.
fn over(metadata: &Value, bot: &Value, sync: &str) -> Pod {
    let status = json!({
        "phase": "Failed",
        "initContainerStatuses": [status("fetch", &ended(0, "", "Completed")), status("sync", &ended(0, sync, ""))],
        "containerStatuses": [status("bot", bot)],
    });
    pod(metadata, &json!({"nodeName": "n"}), &status)
}

#[test]
fn how_far_it_is_is_told_by_gate_phase_and_deletion() {
    let gated = json!({"schedulingGates": [{"name": "the0.app/permit"}]});
    let (none, node) = (json!({}), json!({"nodeName": "n"}));
    let deleted = json!({"deletionTimestamp": START});
    let running = json!({"phase": "Running"});
    let bot = status("bot", &ended(0, "", "Completed"));
    let saving = json!({"phase": "Running", "containerStatuses": [bot]});
    let cases = [
        (&none, &gated, &none, 0, Container::Made),
        (&none, &none, &none, 0, Container::Running),
        (&none, &node, &running, 0, Container::Running),
        (&none, &node, &saving, 0, Container::Saving),
        (&deleted, &node, &saving, 61, Container::Over),
        (
            &none,
            &node,
            &json!({"phase": "Succeeded"}),
            0,
            Container::Over,
        ),
        (&deleted, &gated, &none, 0, Container::Over),
        (&deleted, &node, &running, 59, Container::Running),
        (&deleted, &node, &running, 61, Container::Over),
    ];
    for (metadata, spec, status, seconds, expected) in cases {
        let pod = pod(metadata, spec, status);
        assert_eq!(container(&pod, at(seconds)), expected, "{pod:?}");
    }
}

#[test]
fn what_does_not_come_to_run_is_not_waited_for() {
    let held = |reason: &str| {
        let waits = json!({"waiting": {"reason": reason, "message": "m"}});
        let status =
            json!({"phase": "Pending", "initContainerStatuses": [status("fetch", &waits)]});
        pod(&json!({}), &json!({"nodeName": "n"}), &status)
    };
    let never = held("ErrImageNeverPull");
    assert_eq!(container(&never, at(0)), Container::Over);
    assert!(!is_over(&never, at(0)), "its kubelet has it still");
    let (left, sent) = left(&never);
    assert!(
        left.lost
            .unwrap()
            .contains("container fetch: ErrImageNeverPull: m")
    );
    assert_eq!((left.code, left.found, sent), (-1, Found::Nothing, None));
    let pulls = held("ImagePullBackOff");
    assert_eq!(container(&pulls, at(290)), Container::Running);
    assert_eq!(container(&pulls, at(301)), Container::Over);
}

#[test]
fn what_it_left_is_told_by_the_last_words_of_its_programs() {
    let bot = ended(3, &record(Reason::Exited, 3), "Error");
    let (whole, sent) = left(&over(&json!({}), &bot, &synced(Some(Sent::Whole))));
    assert_eq!(
        (whole.code, &whole.lost, sent),
        (3, &None, Some(Sent::Whole))
    );
    assert_eq!(whole.record.unwrap().reason, Reason::Exited);
    for (sent, found) in [
        (Sent::Nothing, Found::Nothing),
        (Sent::NoFile, Found::NoFile),
        (Sent::TooLarge, Found::TooLarge),
    ] {
        assert_eq!(
            left(&over(&json!({}), &bot, &synced(Some(sent)))).0.found,
            found
        );
    }
    let silent = left(&over(&json!({}), &bot, "")).0;
    assert_eq!(silent.found, Found::Unsaved);
    let older = left(&over(&json!({}), &bot, &synced(None))).0;
    assert_eq!(older.found, Found::Unsaved);
    let oom = left(&over(
        &json!({}),
        &ended(137, "", "OOMKilled"),
        &synced(None),
    ))
    .0;
    assert!(oom.is_oom && oom.code == 137 && oom.record.is_none());
}

#[test]
fn code_that_cannot_be_fetched_is_told_by_fetch() {
    let status = json!({"phase": "Failed", "initContainerStatuses": [
        status("fetch", &ended(112, "no such object", "Error"))]});
    let (left, sent) = left(&pod(&json!({}), &json!({"nodeName": "n"}), &status));
    assert_eq!(
        (left.code, left.last.as_deref()),
        (112, Some("no such object"))
    );
    assert_eq!((left.lost, left.found, sent), (None, Found::Nothing, None));
}

#[test]
fn what_others_ended_is_told_to_be_lost_and_what_had_ended_before_is_not() {
    let deleted = json!({"deletionTimestamp": START});
    let stopped = ended(143, &record(Reason::Stopped, 143), "Error");
    let why = left(&over(&deleted, &stopped, &synced(None))).0.lost;
    assert_eq!(
        why.as_deref(),
        Some("its Pod was told to end by somebody else")
    );
    let done = ended(0, &record(Reason::Exited, 0), "Completed");
    assert_eq!(left(&over(&deleted, &done, &synced(None))).0.lost, None);
    let mut evicted = over(&json!({}), &ended(137, "", "Error"), "");
    let status = evicted.status.as_mut().unwrap();
    (status.reason, status.message) = (Some("Evicted".into()), Some("the node is full".into()));
    let why = left(&evicted).0.lost.unwrap();
    assert!(why.contains("Evicted: the node is full"), "{why}");
    let silent = pod(
        &deleted,
        &json!({"nodeName": "n"}),
        &json!({"phase": "Running"}),
    );
    assert!(left(&silent).0.lost.is_some());
}
