//! Bots as containers follow events.

use mongodb::bson::doc;
use serde_json::json;
use tests::stack::{BOTS, COUNTER, IDLE, LONG, Stack};
use tests::wait_for;

/// Puts the code of a bot where its events say that it is.
fn code(host: &Stack, short: &str, main: &str) -> String {
    let id = host.id(short);
    host.code(&format!("tests/{id}/1.0.0"), &[("main.py", main)]);
    id
}

#[test]
fn a_bot_follows_its_events_from_the_first_start_to_its_removal() {
    let Some(mut host) = Stack::start("events::life", &["python3.11"]) else {
        return;
    };
    let Some(()) = host.listen() else { return };
    host.interval = "60s";
    host.begin();
    let bot = code(&host, "counter", COUNTER);
    host.say("created", &bot, &json!({"step": 1}));
    let container = host.container(&bot);
    container.says(&format!("BEGAN {bot} at 0 step 1"), LONG);
    host.state(&bot, "running");
    let first = container.inspect()["Id"].clone();

    host.say("updated", &bot, &json!({"step": 1000}));
    container.says("step 1000", LONG);
    assert_ne!(container.inspect()["Id"], first, "another container");

    host.say("deleted", &bot, &json!({}));
    host.is_collected(&bot);
    assert!(host.saved(&bot) > 0);
    assert!(host.said().contains("it was deleted"), "{}", host.said());
}

#[test]
fn three_of_three_bots_deleted_while_the_agent_is_away_are_stopped_at_once() {
    let Some(mut host) = Stack::start("events::away", &["python3.11"]) else {
        return;
    };
    let Some(()) = host.listen() else { return };
    host.settle = "10m";
    host.begin();
    let bots: Vec<String> = (0..3)
        .map(|n| code(&host, &format!("b{n}"), IDLE))
        .collect();
    for bot in &bots {
        host.say("created", bot, &json!({}));
    }
    host.states(&bots, "running");
    host.kill();
    let next = code(&host, "next", IDLE);
    for bot in &bots {
        host.say("deleted", bot, &json!({}));
    }
    host.say("created", &next, &json!({}));
    host.begin();
    for bot in &bots {
        host.is_collected(bot);
    }
    host.state(&next, "running");
    assert_eq!(host.containers().len(), 1);
}

#[test]
fn without_nats_bots_start_from_the_database_and_what_is_missing_there_runs_on() {
    let Some(mut host) = Stack::start("events::partial", &["python3.11"]) else {
        return;
    };
    let Some(()) = host.listen() else { return };
    host.begin();
    let missing = code(&host, "missing", IDLE);
    host.say("created", &missing, &json!({}));
    host.state(&missing, "running");
    host.kill();

    host.nats.as_mut().unwrap().stop();
    let deleted = host.mongo.delete(BOTS, doc! {"id": &missing});
    assert_eq!(deleted, 1);
    let new = host.bot("new", IDLE, doc! {});
    host.launch();
    host.says("events are not received");
    assert!(
        host.container(&new).inspect().is_null(),
        "nothing is started before events could tell more"
    );
    host.says("no events come forward");
    host.state(&new, "running");
    assert_eq!(host.container(&missing).inspect()["State"]["Running"], true);

    host.nats.as_mut().unwrap().start_again();
    host.is_collected(&missing);
    wait_for("a bot that runs on", LONG, || {
        (host.container(&new).inspect()["State"]["Running"] == true).then_some(())
    });
}
