//! The queue: order, how many at once, cancelling.

use serde_json::json;
use tests::text;

use crate::rig::{GOOD, Rig, SLOW, is_success};

#[test]
fn jobs_run_in_their_order_and_no_more_at_once_than_may() {
    let Some(rig) = Rig::start("jobs::order", &[("THE0_JOBS", "1")]) else {
        return;
    };
    let config = json!({"seconds": 1});
    let jobs: Vec<String> = (0..3)
        .map(|n| rig.job(&format!("j{n}"), SLOW, &config))
        .collect();
    let ends: Vec<_> = jobs.iter().map(|id| rig.becomes(id, "completed")).collect();
    for pair in ends.windows(2) {
        let time = |job: &serde_json::Value, name: &str| job[name].as_str().unwrap().to_owned();
        assert!(
            time(&pair[0], "ended_at") <= time(&pair[1], "begun_at"),
            "{pair:#?}"
        );
    }
}

#[test]
fn a_job_is_cancelled_while_it_waits_and_while_it_runs() {
    let settings = [("THE0_JOBS", "1"), ("THE0_API_ADDRESS", "127.0.0.1:0")];
    let Some(rig) = Rig::start("jobs::cancel", &settings) else {
        return;
    };
    let runs = rig.job("runs", SLOW, &json!({"seconds": 10_000}));
    let waits = rig.job("waits", GOOD, &json!({}));
    let said = rig.job("said", GOOD, &json!({}));
    let next = rig.job("next", GOOD, &json!({}));
    rig.host
        .docker
        .container(rig.container(&runs))
        .says("BEGAN", tests::stack::LONG);
    rig.becomes(&next, "queued");
    let mounts = rig.host.docker.inspect(&rig.container(&runs))["Mounts"].clone();
    let volumes = mounts
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|mount| mount["Name"].as_str());
    let volumes: Vec<&str> = volumes.collect();
    assert_eq!(volumes.len(), 3, "{mounts:#}");

    let cancelled = rig.host.ok(&["job", "cancel", &waits]);
    assert!(cancelled.contains("which waited"), "{cancelled}");
    let nats = rig.host.nats.as_ref().unwrap();
    nats.say("the0.backtest.cancelled", &json!({"backtest_id": said}));
    rig.becomes(&said, "cancelled");
    let cancelled = rig.host.ok(&["job", "cancel", &runs]);
    assert!(cancelled.contains("is being ended"), "{cancelled}");
    for id in [&runs, &waits, &said] {
        rig.becomes(id, "cancelled");
        let told = rig.is_told(id);
        assert_eq!(
            told,
            json!({"backtest_id": id, "success": false, "error": "cancelled"})
        );
    }
    rig.is_gone(&runs);
    for volume in volumes {
        assert!(
            rig.host.docker.inspect(volume).is_null(),
            "{volume} is left"
        );
    }
    assert_eq!((rig.starts(&waits), rig.starts(&said)), (0, 0));
    rig.becomes(&next, "completed");
    is_success(&rig.is_told(&next), &next);

    over_the_network(&rig, &waits, &next);
    let again = rig.host.run(&["job", "cancel", &next]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again.stderr).contains("completed"),
        "{}",
        text(&again.stderr)
    );
    let nobody = rig.host.run(&["job", "cancel", "nobody"]);
    assert_eq!(nobody.status.code(), Some(4));
    let table = rig.host.ok(&["job", "ls"]);
    assert_eq!(table.lines().count(), 5, "{table}");
}

/// What another machine sees of the queue, with nothing but the agent's API.
fn over_the_network(rig: &Rig, cancelled: &str, completed: &str) {
    let address = rig.host.api();
    let document = tests::http(&address, "GET", "/v1/openapi.json", "").json();
    let document = tests::promise::Document::new(document).unwrap();
    let all = tests::http(&address, "GET", "/v1/jobs?count=10", "");
    document
        .allows("GET", "/v1/jobs", all.status, &all.json())
        .unwrap();
    assert_eq!(all.json()["jobs"].as_array().unwrap().len(), 4, "{all:?}");
    let one = tests::http(&address, "GET", &format!("/v1/jobs/{cancelled}"), "");
    document
        .allows("GET", "/v1/jobs/{job}", one.status, &one.json())
        .unwrap();
    assert_eq!(one.json()["status"], "cancelled");
    let host = format!("http://{address}");
    let there = |words: &[&str]| {
        let mut command = std::process::Command::new(tests::bin("agent"));
        command.args(["--host", &host, "job"]).args(words);
        command.env_remove("MONGO_URI");
        tests::run(&mut command)
    };
    let table = text(&there(&["ls"]).stdout);
    assert!(
        table.contains("cancelled") && table.contains(completed),
        "{table}"
    );
    let again = there(&["cancel", completed]);
    let why = text(&again.stderr);
    assert!(
        again.status.code() == Some(1) && why.contains("completed"),
        "{why}"
    );
    assert_eq!(there(&["show", "nobody"]).status.code(), Some(4));
}

#[test]
fn with_all_bots_stopped_no_job_begins_and_a_drain_waits_for_those_that_run() {
    let Some(rig) = Rig::start("jobs::drain", &[("THE0_JOBS", "2")]) else {
        return;
    };
    let runs = rig.job("runs", SLOW, &json!({"seconds": 40}));
    let container = rig.host.docker.container(rig.container(&runs));
    container.says("BEGAN", tests::stack::LONG);
    let said = rig.host.ok(&["stop", "--all"]);
    assert!(
        said.contains(&runs) && said.contains("job cancel"),
        "{said}"
    );
    let waits = rig.job("waits", GOOD, &json!({}));
    rig.becomes(&waits, "queued");
    let early = rig.host.run(&["drain", "--timeout", "1s"]);
    let why = text(&early.stderr);
    assert!(!early.status.success() && why.contains(&runs), "{why}");
    rig.host.ok(&["drain", "--timeout", "90s"]);
    rig.becomes(&runs, "completed");
    rig.becomes(&waits, "queued");
    rig.host.ok(&["start", "--all"]);
    rig.becomes(&waits, "completed");
}
