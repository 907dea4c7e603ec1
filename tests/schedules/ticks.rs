//! Ticks run once, in order, on the state of the last run; an edit is for the next one.

use mongodb::bson::doc;
use serde_json::json;
use tests::servers::nats::event;
use tests::stack::LONG;
use tests::wait_for;

use crate::rig::{ADDS, Rig, SCHEDULES, now, number};

/// Runs until it may end.
const WAITS: &str = r#"
import os, time
def main(id, config):
    print("BEGAN", flush=True)
    while not os.path.exists("/tmp/go"):
        time.sleep(0.05)
"#;

#[test]
fn a_schedule_of_each_two_seconds_runs_each_tick_once_and_goes_on_from_its_state() {
    let Some(mut rig) = Rig::start("schedules::each") else {
        return;
    };
    let policy = doc! {"catch_up": "all", "catch_up_max": 1000};
    let config = doc! {"schedule": "*/2 * * * * *", "schedule_policy": policy};
    let id = rig.schedule("each", ADDS, None, config);
    rig.stack.begin();
    let ticks = rig.reach(&id, 5);
    assert!(
        ticks.windows(2).all(|two| two[1] == two[0] + 2),
        "{ticks:?}"
    );
    assert!(ticks.iter().all(|at| at % 2 == 0), "{ticks:?}");
    let never = doc! {"$set": {"next_execution_time": now() + 1_000_000}};
    rig.stack.mongo.update(SCHEDULES, doc! {"id": &id}, never);
    rig.until(&id, "end of the last run", |_, word| word == "completed");
    let runs = rig.ticks(&id).len() as u64;
    assert_eq!(
        rig.stack.saved(&id),
        runs,
        "each run went on from the last one's state"
    );
    let entries = wait_for("the history of all runs", LONG, || {
        let said = rig.stack.run(&["history", "-n", "1000", "-o", "json", &id]);
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&said.stdout).ok()?;
        let ended = entries.iter().filter(|entry| entry["reason"] == "exited");
        (ended.count() as u64 == runs).then_some(entries)
    });
    assert!(
        entries.iter().all(|entry| entry["cause"] == "tick"),
        "{entries:#?}"
    );
    let container = rig.stack.containers();
    let own = format!("the0-{}.{id}.", rig.stack.name());
    assert!(
        container.iter().all(|name| name.starts_with(&own)),
        "{container:?}"
    );
}

#[test]
fn a_row_tells_when_the_next_tick_is_and_what_the_last_one_came_to() {
    let Some(mut rig) = Rig::start("schedules::rows") else {
        return;
    };
    let (at, schedule) = crate::rig::past();
    let id = rig.schedule("row", ADDS, Some(at), doc! {"schedule": &schedule});
    let bad = rig.schedule("bad", ADDS, None, doc! {"schedule": "0 0 30 2 *"});
    let none = rig.schedule("none", ADDS, None, doc! {});
    rig.stack.begin();
    rig.until(&id, "end of the run", |_, word| word == "completed");
    let row = wait_for("a row that tells of the end", LONG, || {
        let row = rig.stack.state(&id, "waiting");
        (row["last_tick"]["state"] == "completed").then_some(row)
    });
    assert!(row["next_tick"].as_str().unwrap() > row["last_tick"]["at"].as_str().unwrap());
    for id in [bad, none] {
        let row = rig.stack.state(&id, "invalid");
        assert!(
            row["reason"].as_str().unwrap().contains("config.schedule"),
            "{row:#}"
        );
    }
    assert_eq!(rig.ticks(&id), [at]);
}

#[test]
fn events_make_and_edit_a_schedule_and_an_edit_stops_no_run() {
    let Some(mut rig) = Rig::start("schedules::events") else {
        return;
    };
    if rig.stack.listen().is_none() {
        return;
    }
    let id = rig.stack.id("edited");
    let key = format!("tests/{id}/1.0.0");
    rig.stack.code(&key, &[("main.py", WAITS)]);
    let say = |word: &str, config: &serde_json::Value| {
        let nats = rig.stack.nats.as_ref().unwrap();
        nats.say(
            &format!("the0.bot-schedule.{word}"),
            &event(&id, &key, config),
        );
    };
    say("created", &json!({"schedule": "*/5 * * * * *", "step": 1}));
    say("created", &json!({"id": "never", "schedule": "0 0 30 2 *"}));
    rig.stack.begin();
    let (at, _) = rig.until(&id, "run", |_, word| word == "started");
    let say = |word: &str, config: &serde_json::Value| {
        let nats = rig.stack.nats.as_ref().unwrap();
        nats.say(
            &format!("the0.bot-schedule.{word}"),
            &event(&id, &key, config),
        );
    };
    // The same times: the next one stays. Then others: it is worked out anew.
    say("updated", &json!({"schedule": "*/5 * * * * *", "step": 2}));
    let is_edited = |step: i64| {
        wait_for("the edit", LONG, || {
            let document = rig.document(&id);
            (number(document.get_document("config").ok()?.get("step")) == step).then_some(())
        });
    };
    is_edited(2);
    let next = number(rig.document(&id).get("next_execution_time"));
    assert!(next > at && next % 5 == 0);
    say("updated", &json!({"schedule": "0 0 1 1 *", "step": 3}));
    is_edited(3);
    let name = format!("the0-{}.{id}.{at}", rig.stack.name());
    let container = rig.stack.docker.container(name);
    container.says("BEGAN", LONG);
    let gone_on = container.exec(&["touch", "/tmp/go"]);
    assert!(gone_on.status.success(), "{gone_on:?}");
    let (ended, word) = rig.until(&id, "end of the run", |_, word| {
        !["claimed", "started"].contains(&word)
    });
    assert_eq!(
        (ended, word.as_str()),
        (at, "completed"),
        "no edit has stopped it"
    );
    let document = rig.document(&id);
    assert!(
        number(document.get("next_execution_time")) > at + 60,
        "{document}"
    );
    assert_eq!(rig.ticks(&id), [at]);
}
