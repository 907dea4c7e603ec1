//! Nothing that was said is lost, whoever ends.

use serde_json::json;
use tests::servers::nats::event;
use tests::wait_for;

use super::rig::{CONSUMER, LONG, Rig};

/// Says so many events about `bots` bots, the steps from `from` on.
fn say(rig: &Rig, bots: i32, from: i32, count: i32) {
    for step in from..from + count {
        let id = format!("b{}", step % bots);
        let event = event(&id, "u/b/1", &json!({"step": step}));
        rig.nats.say("the0.bot.updated", &event);
    }
}

/// Waits until each bot has the last step said about it.
fn all_are_at(rig: &Rig, bots: i32, last: i32) {
    for step in last - bots + 1..=last {
        let id = format!("b{}", step % bots);
        rig.becomes(&id, |is| is["config"]["step"] == step);
    }
}

#[test]
fn what_is_said_while_the_agent_is_away_is_made_good_at_its_start() {
    let Some(rig) = Rig::start() else { return };
    rig.nats.make_stream();
    let agent = rig.agent();
    say(&rig, 3, 0, 6);
    all_are_at(&rig, 3, 5);
    agent.kill();
    say(&rig, 3, 6, 30);
    rig.nats.say("the0.bot.deleted", &json!({"id": "b0"}));
    let agent = rig.agent();
    rig.becomes("b0", |is| is["the0"]["deleted"].is_object());
    rig.becomes("b2", |is| is["config"]["step"] == 35);
    rig.becomes("b1", |is| is["config"]["step"] == 34);
    rig.is_drained();
    agent.shows("b1", "1.0.0");
}

#[test]
fn an_agent_killed_again_and_again_in_the_middle_of_events_loses_none_and_turns_none_around() {
    let Some(rig) = Rig::start() else { return };
    rig.nats.make_stream();
    for round in 0..5 {
        say(&rig, 4, round * 100, 100);
        let agent = rig.agent();
        let reached = round * 100 + 20 * round + 4;
        let id = format!("b{}", reached % 4);
        rig.becomes(&id, |is| {
            is["config"]["step"].as_i64() >= Some(reached.into())
        });
        agent.kill();
    }
    let _agent = rig.agent();
    all_are_at(&rig, 4, 499);
    rig.is_drained();
    all_are_at(&rig, 4, 499);
}

#[test]
fn a_nats_that_ends_and_comes_back_has_lost_nothing_and_is_heard_again() {
    let Some(mut rig) = Rig::start() else { return };
    rig.nats.make_stream();
    let agent = rig.agent();
    say(&rig, 3, 0, 3);
    all_are_at(&rig, 3, 2);
    rig.mongo.freeze();
    say(&rig, 3, 3, 60);
    rig.nats.stop();
    rig.mongo.thaw();
    agent.says("events are not received");
    rig.nats.start_again();
    all_are_at(&rig, 3, 62);
    say(&rig, 3, 63, 3);
    all_are_at(&rig, 3, 65);
    rig.is_drained();
    assert!(
        agent.screen().contains("events are received"),
        "{}",
        agent.screen()
    );
    assert!(rig.nats.letters().is_empty());
}

#[test]
fn a_nats_that_comes_later_is_found() {
    let Some(mut rig) = Rig::start() else { return };
    rig.nats.make_stream();
    say(&rig, 1, 0, 1);
    rig.nats.stop();
    let agent = rig.agent();
    agent.says("events are not received");
    rig.nats.start_again();
    all_are_at(&rig, 1, 0);
    agent.says("events are received");
}

#[test]
fn events_wait_in_their_order_for_a_mongod_that_is_away() {
    let Some(mut rig) = Rig::start() else { return };
    rig.nats.make_stream();
    let agent = rig.agent();
    say(&rig, 2, 0, 2);
    all_are_at(&rig, 2, 1);
    rig.is_drained();
    rig.mongo.stop();
    say(&rig, 2, 2, 20);
    agent.says("an event waits for MongoDB");
    let waiting = rig.nats.consumer(CONSUMER);
    assert_eq!(waiting.num_ack_pending, 1, "one is being worked on");
    assert_eq!(waiting.num_pending, 19, "the others wait behind it");
    rig.mongo.start_again();
    all_are_at(&rig, 2, 21);
    agent.says("events are written");
    rig.is_drained();
    all_are_at(&rig, 2, 21);
    assert!(rig.nats.letters().is_empty());
    let indexes = wait_for("the indexes", LONG, || {
        let names = rig.mongo.indexes(super::BOTS);
        (names.len() == 3).then_some(names)
    });
    assert!(indexes.contains(&"id_1".to_owned()), "{indexes:?}");
}
