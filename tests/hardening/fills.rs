//! Using things up: a bot that fills what there is only hurts itself, and is told why it was stopped.

use mongodb::bson::{Document, doc};
use serde_json::Value;
use tests::stack::{COUNTER, LONG, Stack};
use tests::wait_for;

use super::{all_told, hostile, one};

/// What a bot that fills `what` says it came to.
fn filled(host: &Stack, what: &str, more: Document) -> Value {
    let mut config = doc! {"mode": "fill", "what": what, "stay": true};
    config.extend(more);
    let id = hostile(host, what, config);
    host.state(&id, "running");
    let told = all_told(&host.container(&id));
    let filled = one(&told, "filled").clone();
    host.change(&id, doc! {"enabled": false});
    filled
}

/// The records of a bot's runs.
fn runs(host: &Stack, id: &str) -> Vec<Value> {
    let file = host.container(id).file("/var/the0/runs.jsonl");
    let lines = file.unwrap_or_default();
    lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn wait_for_run(host: &Stack, id: &str, reason: &str) {
    wait_for(&format!("a run that ended by {reason}"), LONG, || {
        runs(host, id)
            .iter()
            .any(|run| run["reason"] == reason)
            .then_some(())
    });
}

#[test]
fn a_bot_that_fills_what_there_is_hurts_only_itself() {
    let test = "a_bot_that_fills_what_there_is_hurts_only_itself";
    let Some(mut host) = Stack::start(test, &["python3.11"]) else {
        return;
    };
    host.set("THE0_TMP_SIZE", "32Mi");
    let neighbour = host.bot("neighbour", COUNTER, doc! {});
    host.begin();
    host.state(&neighbour, "running");
    let rows = [
        ("tmp", "ENOSPC", 32 << 20),
        ("query", "ENOSPC", 16 << 20),
        ("var", "EACCES", 0),
        ("pids", "EAGAIN", 256),
        ("files", "EMFILE", 4096),
    ];
    for (what, stopped, most) in rows {
        let before = host.count(&neighbour);
        let filled = filled(&host, what, doc! {});
        assert_eq!(filled["stopped"], stopped, "{filled}");
        assert!(filled["amount"].as_u64().unwrap() <= most, "{filled}");
        wait_for("the neighbour to go on", LONG, || {
            (host.count(&neighbour) > before).then_some(())
        });
    }
}

#[test]
fn a_bot_that_floods_its_log_is_not_slowed_and_fills_no_disk() {
    let test = "a_bot_that_floods_its_log_is_not_slowed_and_fills_no_disk";
    let Some(mut host) = Stack::start(test, &["python3.11"]) else {
        return;
    };
    host.set("THE0_CONTAINER_LOG_SIZE", "1Mi");
    host.begin();
    let filled = filled(&host, "log", doc! {"lines": 100_000});
    assert_eq!(filled["amount"], 100_000);
    assert!(filled["seconds"].as_f64().unwrap() < 60.0, "{filled}");
    let logged = host.container(&host.id("log")).logs();
    assert!(logged.len() < 4 << 20, "{} bytes", logged.len());
}

#[test]
fn a_bot_that_takes_more_than_its_memory_or_state_is_told_so() {
    let test = "a_bot_that_takes_more_than_its_memory_or_state_is_told_so";
    let Some(mut host) = Stack::start(test, &["python3.11"]) else {
        return;
    };
    host.set("MAX_STATE_SIZE_MB", "16");
    let own = doc! {"mode": "fill", "what": "memory", "memory_limit": "96Mi"};
    let memory = hostile(&host, "memory", own);
    let state = hostile(
        &host,
        "state",
        doc! {"mode": "fill", "what": "state", "wait": 60},
    );
    let neighbour = host.bot("neighbour", COUNTER, doc! {});
    host.begin();
    host.state(&neighbour, "running");
    wait_for_run(&host, &memory, "oom");
    wait_for_run(&host, &state, "disk");
    let before = host.count(&neighbour);
    wait_for("the neighbour to go on", LONG, || {
        (host.count(&neighbour) > before).then_some(())
    });
}
