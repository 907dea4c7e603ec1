//! A tick that a person wants now, from the command line and over the network.

use mongodb::bson::doc;
use serde_json::Value;
use tests::stack::LONG;
use tests::{http, text, wait_for};

use crate::rig::{ADDS, Rig, now};

/// The schedule's row, once it is known when it runs next.
fn listed(rig: &Rig, id: &str) -> Value {
    wait_for("the next tick", LONG, || {
        let said = rig.stack.ok(&["cron", "ls", "-o", "json"]);
        let rows: Vec<Value> = serde_json::from_str(&said).unwrap();
        let row = rows.into_iter().find(|row| row["id"] == id);
        row.filter(|row| row["next_tick"].is_string())
    })
}

#[test]
fn a_tick_that_is_wanted_now_runs_once_and_the_next_one_keeps_its_time() {
    let Some(mut rig) = Rig::start("schedules::asked") else {
        return;
    };
    rig.stack.set("THE0_API_ADDRESS", "127.0.0.1:0");
    let id = rig.schedule(
        "asked",
        ADDS,
        None,
        doc! {"schedule": "0 0 1 1 *", "lasts": 2},
    );
    let off = rig.schedule(
        "off",
        ADDS,
        None,
        doc! {"schedule": "0 0 1 1 *", "enabled": false},
    );
    rig.stack.begin();
    let next = listed(&rig, &id)["next_tick"].clone();
    let asked = now();
    rig.stack.ok(&["cron", "run", &id]);
    let asked = asked..=now();
    let (at, _) = rig.until(&id, "tick that runs", |_, word| word == "started");
    assert!(asked.contains(&at), "{at} was asked at {asked:?}");
    // One that is asked for while one runs comes after it, and is remembered over the agent's end.
    rig.stack.ok(&["cron", "run", &id]);
    rig.stack.kill();
    rig.stack.begin();
    let (second, _) = rig.until(&id, "second tick", |second, word| {
        second > at && word == "completed"
    });
    assert_eq!(rig.ticks(&id), [at, second]);
    let again = listed(&rig, &id);
    assert_eq!(again["next_tick"], next);
    wait_for("a row that tells of its end", LONG, || {
        (listed(&rig, &id)["last_tick"]["state"] == "completed").then_some(())
    });

    let output = rig.stack.run(&["cron", "run", &off]);
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("disabled"),
        "{said}"
    );
    assert_eq!(
        rig.stack.run(&["cron", "run", "nobody"]).status.code(),
        Some(4)
    );
    rig.stack.ok(&["stop", &id]);
    let output = rig.stack.run(&["cron", "run", &id]);
    assert!(text(&output.stderr).contains("stopped"), "{output:?}");

    let address = rig.stack.api();
    let document = http(&address, "GET", "/v1/openapi.json", "").json();
    let document = tests::promise::Document::new(document).unwrap();
    let rows = http(&address, "GET", "/v1/schedules", "");
    document
        .allows("GET", "/v1/schedules", rows.status, &rows.json())
        .unwrap();
    assert_eq!(rows.json()["schedules"].as_array().unwrap().len(), 2);
    rig.stack.end();
    assert_eq!(rig.ticks(&id).len(), 2);
}
