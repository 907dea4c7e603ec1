//! What is done when a tick is late, long or fails.

use mongodb::bson::{Document, doc};
use serde_json::Value;
use tests::stack::LONG;
use tests::wait_for;

use crate::rig::{ADDS, Rig, number, past};

const HOUR: i64 = 3600;

fn over(word: &str) -> bool {
    !["claimed", "started"].contains(&word)
}

#[test]
fn missed_ticks_are_caught_up_as_the_policy_says() {
    let Some(mut rig) = Rig::start("schedules::missed") else {
        return;
    };
    let (at, schedule) = past();
    let of = |catch_up: &str| {
        let policy = doc! {"catch_up": catch_up};
        let config = doc! {"schedule": &schedule, "schedule_policy": policy};
        rig.schedule(catch_up, ADDS, Some(at - 2 * HOUR), config)
    };
    let (none, last, all) = (of("none"), of("last"), of("all"));
    rig.stack.begin();
    let (_, word) = rig.until(&none, "word", |last, word| last == at && over(word));
    assert_eq!(word, "missed");
    rig.until(&last, "end of the last", |last, word| {
        last == at && over(word)
    });
    rig.until(&all, "end of the last", |last, word| {
        last == at && over(word)
    });
    assert!(rig.ticks(&none).is_empty());
    assert_eq!(rig.ticks(&last), [at]);
    assert_eq!(rig.ticks(&all), [at - 2 * HOUR, at - HOUR, at]);
    let missed = |id: &str| number(rig.document(id).get_document("tick").unwrap().get("missed"));
    assert_eq!(missed(&last), 2);
    assert_eq!(missed(&none), 2);
}

fn history(rig: &Rig, id: &str, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    wait_for("a history", LONG, || {
        let said = rig.stack.run(&["history", "-n", "1000", "-o", "json", id]);
        let entries: Vec<Value> = serde_json::from_slice(&said.stdout).ok()?;
        is(&entries).then_some(entries)
    })
}

fn once(rig: &Rig, short: &str, config: Document) -> (String, i64) {
    let (at, schedule) = past();
    let mut parameters = doc! {"schedule": schedule};
    parameters.extend(config);
    (rig.schedule(short, ADDS, Some(at), parameters), at)
}

#[test]
fn a_run_that_takes_too_long_is_stopped_and_one_that_fails_is_tried_again() {
    let Some(mut rig) = Rig::start("schedules::limits") else {
        return;
    };
    let limit = doc! {"lasts": 1000, "schedule_policy": {"time_limit": "30s"}};
    let (long, _) = once(&rig, "long", limit);
    let retries = doc! {"fails": 2, "schedule_policy": {"retries": 6, "retry_pause": "1s"}};
    let (failing, tried) = once(&rig, "failing", retries);
    let (failed, at) = once(&rig, "failed", doc! {"fails": 1});
    rig.stack.begin();
    let (_, word) = rig.until(&long, "end", |_, word| over(word));
    assert_eq!(word, "limit");
    let entries = history(&rig, &long, |entries| {
        entries
            .last()
            .is_some_and(|last| last["reason"] == "stopped")
    });
    assert_eq!(entries.last().unwrap()["stopped"], "limit", "{entries:#?}");
    assert_eq!(rig.stack.saved(&long), 1, "it was stopped gracefully");

    let (_, word) = rig.until(&failing, "end", |_, word| over(word));
    assert_eq!(word, "completed");
    // One in which the bot could not begin counts, too.
    let tries: Vec<String> = rig.starts(&failing).into_keys().collect();
    let later = (2..=tries.len()).map(|n| format!("{tried}/{n}"));
    let each: Vec<String> = std::iter::once(tried.to_string()).chain(later).collect();
    assert!(tries.len() >= 3 && tries == each, "{tries:?}");
    assert_eq!(rig.ticks(&failing), [tried]);
    assert_eq!(rig.stack.saved(&failing), 3, "it ran until it went well");
    let (_, word) = rig.until(&failed, "end", |_, word| over(word));
    assert_eq!(word, "failed");
    assert_eq!(rig.ticks(&failed), [at]);
}

#[test]
fn a_tick_takes_the_place_of_one_that_runs_where_it_is_told_to() {
    let Some(mut rig) = Rig::start("schedules::replace") else {
        return;
    };
    let policy = doc! {"concurrency": "replace"};
    let config = doc! {"schedule": "*/10 * * * * *", "lasts": 1000, "schedule_policy": policy};
    let id = rig.schedule("replaced", ADDS, None, config);
    rig.stack.begin();
    let (first, _) = rig.until(&id, "run", |_, word| word == "started");
    let (second, _) = rig.until(&id, "next run", |at, word| at > first && word == "started");
    assert!(second > first && second % 10 == 0);
    history(&rig, &id, |entries| {
        entries.iter().any(|entry| entry["stopped"] == "replaced")
    });
    rig.ticks(&id);
}
