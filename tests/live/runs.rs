//! Runs on `the0.bot.execution.*`.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::servers::mongo::bson::doc;
use tests::stack::{CRASHES_ONCE, IDLE, LONG, Stack};
use tests::wait_for;

use crate::host;

const STREAM: &str = "THE0_JOBS";
const RUNS: &str = "bot_runner.runs";

/// What was told of a bot's runs: the kind, the number, and how it came out.
fn told(host: &Stack, bot: &str) -> Vec<(String, u64, Option<String>)> {
    let nats = host.nats.as_ref().expect("a NATS");
    let mut all = Vec::new();
    for message in nats.messages(STREAM) {
        let kind = message.subject.strip_prefix("the0.bot.execution.");
        let body: Value = serde_json::from_slice(&message.payload).expect("JSON");
        if let Some(kind) = kind
            && body["bot_id"] == bot
        {
            let outcome = body["outcome"].as_str().map(str::to_owned);
            all.push((
                kind.to_owned(),
                body["run"].as_u64().expect("a run"),
                outcome,
            ));
        }
    }
    all
}

/// Waits until exactly `expected` is told, in any order of runs, and each of it once.
fn tells(host: &Stack, bot: &str, expected: &[(&str, u64, Option<&str>)]) {
    let mine = |(kind, run, outcome): &(&str, u64, Option<&str>)| {
        ((*kind).to_owned(), *run, outcome.map(str::to_owned))
    };
    let expected: BTreeSet<_> = expected.iter().map(mine).collect();
    let found = wait_for("what is told of runs", LONG, || {
        let found = told(host, bot);
        (found.len() >= expected.len()).then_some(found)
    });
    let count = found.len();
    assert_eq!(BTreeSet::from_iter(found), expected, "{}", host.said());
    assert_eq!(count, expected.len(), "each once");
}

#[test]
fn a_run_is_told_of_once_when_it_begins_and_once_when_it_ends() {
    let Some(mut host) = host("live::runs") else {
        return;
    };
    let bot = host.bot("runs", CRASHES_ONCE, doc! {});
    host.begin();
    let mut expected = vec![
        ("started", 1, None),
        ("completed", 1, Some("error")),
        ("started", 2, None),
    ];
    tells(&host, &bot, &expected);
    host.kill();
    host.begin();
    host.ok(&["restart", &bot]);
    expected.extend([("completed", 2, Some("stopped")), ("started", 3, None)]);
    tells(&host, &bot, &expected);
    let nats = host.nats.as_ref().expect("a NATS");
    let ended = nats.messages(STREAM).into_iter().find_map(|message| {
        let body: Value = serde_json::from_slice(&message.payload).ok()?;
        (body["outcome"] == "error").then_some(body)
    });
    let ended = ended.expect("the run that crashed");
    assert_eq!(
        (&ended["exit"], &ended["reason"]),
        (&7.into(), &"exited".into())
    );
    assert!(
        ended["duration_ms"].is_u64() && ended["cause"] == "created",
        "{ended}"
    );
}

#[test]
fn what_happens_while_nats_is_away_is_told_when_it_is_back_by_whoever_is_there_then() {
    let Some(mut host) = host("live::away") else {
        return;
    };
    let bot = host.bot("away", IDLE, doc! {});
    host.begin();
    tells(&host, &bot, &[("started", 1, None)]);
    host.nats.as_mut().expect("a NATS").stop();
    host.ok(&["restart", &bot]);
    wait_for("two runs on record", LONG, || {
        let runs = host.mongo.all(RUNS);
        let owed = runs.iter().filter(|run| run.get_array("untold").is_ok());
        (runs.len() == 2 && owed.count() == 2).then_some(())
    });
    host.kill();
    host.nats.as_mut().expect("a NATS").start_again();
    host.begin();
    let expected = [
        ("started", 1, None),
        ("completed", 1, Some("stopped")),
        ("started", 2, None),
    ];
    tells(&host, &bot, &expected);
    wait_for("records that owe nothing", LONG, || {
        let runs = host.mongo.all(RUNS);
        runs.iter()
            .all(|run| run.get("untold").is_none())
            .then_some(())
    });
}
