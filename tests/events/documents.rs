//! What events make of the documents.

use std::time::Duration;

use serde_json::json;
use tests::servers::nats::{EVENTS, PASSWORD, event};
use tests::wait_for;

use super::rig::{CONSUMER, LONG, Rig};

#[test]
fn a_stream_is_made_where_there_is_none_and_one_that_is_there_stays_as_it_is() {
    let Some(rig) = Rig::start() else { return };
    let _agent = rig.agent();
    rig.nats.wait_for_stream();
    let made = rig.nats.stream().config;
    let mut subjects = made.subjects.clone();
    subjects.sort_unstable();
    let words = ["created", "deleted", "updated"];
    let bots = words.map(|word| format!("the0.bot.{word}"));
    let schedules = words.map(|word| format!("the0.bot-schedule.{word}"));
    assert_eq!(subjects, [schedules, bots].concat());
    assert_eq!(made.max_age, Duration::from_secs(7 * 24 * 60 * 60));
    assert_eq!(
        made.storage,
        async_nats::jetstream::stream::StorageType::File
    );

    let Some(rig) = Rig::start() else { return };
    rig.nats.make_stream();
    let before = rig.nats.stream().config;
    rig.nats
        .say("the0.bot.created", &event("a", "u/b/1", &json!({})));
    let _agent = rig.agent();
    rig.becomes("a", |is| is["config"]["customBotId"] == "test-bot");
    assert_eq!(rig.nats.stream().config, before);
}

#[test]
fn documents_follow_events_in_both_forms_and_those_of_schedules_are_in_a_place_of_their_own() {
    let Some(rig) = Rig::start() else { return };
    rig.nats.make_stream();
    let agent = rig.agent();
    let say = |word: &str, step: i32| {
        let event = event(
            "a",
            "u/b/1",
            &json!({"step": step, "nested": {"$date": [1.5]}}),
        );
        rig.nats.say(&format!("the0.bot.{word}"), &event)
    };
    say("created", 1);
    let is = rig.becomes("a", |is| is["config"]["step"] == 1);
    assert_eq!(is["config"]["nested"], json!({"$date": [1.5]}));
    assert_eq!(is["custom"]["filePath"], "u/b/1");
    agent.shows("a", "1.0.0");

    rig.nats.say(
        "the0.bot-schedule.created",
        &json!({"id": "scheduled", "config": {}}),
    );
    let timed = event("timed", "u/b/1", &json!({"schedule": "0 0 1 1 *"}));
    rig.nats.say("the0.bot-schedule.created", &timed);
    say("created", 2);
    let inner = event("a", "u/b/2", &json!({"step": 3, "enabled": false}));
    let wrapped = json!({"type": "bot.updated", "entity_id": "a", "data": inner, "timestamp": "t"});
    let last = rig.nats.say("the0.bot.updated", &wrapped);
    let is = rig.becomes("a", |is| is["custom"]["filePath"] == "u/b/2");
    assert_eq!(is["config"]["step"], 3);
    assert_eq!(is["the0"]["seq"], last);

    rig.nats
        .say("the0.bot.deleted", &json!({"id": "a", "config": {}}));
    let is = rig.becomes("a", |is| is["the0"]["deleted"].is_object());
    assert!(
        is.get("config").is_none() && is.get("custom").is_none(),
        "{is}"
    );
    wait_for("the end of a row", LONG, || {
        agent.row("a").is_none().then_some(())
    });
    say("created", 4);
    rig.becomes("a", |is| {
        is["config"]["step"] == 4 && is["the0"].get("deleted").is_none()
    });
    agent.shows("a", "1.0.0");
    assert_eq!(
        rig.mongo.all(super::BOTS).len(),
        1,
        "nothing of the scheduled one"
    );
    let schedules = rig.mongo.all("bot_scheduler.bot_schedules");
    let ids: Vec<&str> = schedules
        .iter()
        .map(|is| is.get_str("id").unwrap())
        .collect();
    assert_eq!(ids, ["timed"], "the other one does not say when it runs");
    assert!(schedules[0].get_i64("next_execution_time").unwrap() > 0);

    rig.is_drained();
    let filters = rig.nats.consumer(CONSUMER).config.filter_subjects;
    assert_eq!(filters.len(), 6, "{filters:?}");
    assert_eq!(
        rig.nats.stream().state.messages,
        7,
        "{EVENTS} keeps them all"
    );
}

#[test]
fn what_cannot_be_kept_is_put_aside_with_the_reason_and_blocks_nobody() {
    let Some(rig) = Rig::start() else { return };
    rig.nats.make_stream();
    let bad: [(&str, &[u8], &str); 4] = [
        ("the0.bot.created", b"hunter2", "not JSON"),
        (
            "the0.bot.updated",
            br#"{"config":{"key":"hunter2"}}"#,
            "id: is missing",
        ),
        (
            "the0.bot.deleted",
            br#"{"id":"../hunter2"}"#,
            "id: is not usable",
        ),
        (
            "the0.bot.created",
            br#"{"id":"n","config":{"hunter2\u0000":1}}"#,
            "NUL",
        ),
    ];
    for (n, (subject, payload, _)) in bad.iter().enumerate() {
        rig.nats.say_raw(subject, payload);
        let good = event(&format!("good{n}"), "u/b/1", &json!({}));
        rig.nats.say("the0.bot.created", &good);
    }
    // It cannot run, but it is a document, and the listing says what is wrong.
    rig.nats
        .say("the0.bot.created", &json!({"id": "odd", "config": 7}));
    let agent = rig.agent();
    rig.becomes("odd", |is| is["config"] == 7);
    agent.says("id odd: ");
    let ids: Vec<_> = (0..4).map(|n| format!("good{n}")).collect();
    for id in &ids {
        rig.becomes(id, |is| is["custom"]["version"] == "1.0.0");
    }
    rig.is_drained();
    let letters = rig.nats.letters();
    assert_eq!(letters.len(), bad.len());
    for (n, (letter, (subject, payload, why))) in letters.iter().zip(bad).enumerate() {
        assert_eq!(letter.subject, format!("the0.dlq.{subject}"));
        assert_eq!(letter.payload, payload);
        let reason = &letter.headers["The0-Reason"];
        assert!(reason.contains(why), "{reason}");
        assert_eq!(letter.headers["The0-Sequence"], (2 * n + 1).to_string());
        assert_eq!(letter.headers["The0-Stream"], EVENTS);
        assert!(
            letter
                .headers
                .values()
                .all(|value| !value.contains("hunter2"))
        );
    }
    agent.says("event 1 on the0.bot.created cannot be kept: it is not JSON");
    assert!(!agent.screen().contains("hunter2"), "{}", agent.screen());
}

#[test]
fn an_event_that_comes_again_or_late_changes_nothing() {
    let Some(rig) = Rig::start() else { return };
    rig.nats.make_stream();
    let say = |word: &str, step: i32| {
        let event = event("a", "u/b/1", &json!({"step": step}));
        rig.nats.say(&format!("the0.bot.{word}"), &event);
    };
    say("created", 1);
    say("updated", 2);
    let agent = rig.agent();
    rig.becomes("a", |is| is["config"]["step"] == 2);
    rig.is_drained();
    // As it would be if the update had been taken in first: told later, the older ones must not count.
    let ahead = mongodb::bson::doc! {"$set": {"the0.seq": 4_i64, "config.step": 9}};
    assert_eq!(
        rig.mongo
            .update(super::BOTS, mongodb::bson::doc! {"id": "a"}, ahead),
        1
    );
    say("updated", 3);
    say("deleted", 0);
    rig.is_drained();
    assert_eq!(rig.one("a").unwrap()["config"]["step"], 9);
    say("updated", 5);
    rig.becomes("a", |is| is["config"]["step"] == 5);

    // The consumer is lost, with all it knew: everything comes again.
    drop(agent);
    rig.nats.remove_consumer(CONSUMER);
    rig.mongo
        .delete(super::BOTS, mongodb::bson::doc! {"id": {"$ne": "a"}});
    let _agent = rig.agent();
    wait_for("a consumer", LONG, || rig.nats.try_consumer(CONSUMER));
    rig.is_drained();
    assert_eq!(rig.one("a").unwrap()["config"]["step"], 5);
}

#[test]
fn a_stream_made_anew_is_heard_though_it_counts_from_one() {
    let Some(rig) = Rig::start() else { return };
    rig.nats.make_stream();
    let agent = rig.agent();
    for step in 1..=5 {
        let event = event("a", "u/b/1", &json!({"step": step}));
        rig.nats.say("the0.bot.updated", &event);
    }
    rig.becomes("a", |is| is["config"]["step"] == 5);
    rig.nats.remove_stream();
    agent.says("events are not received");
    agent.says("events are received");
    rig.nats.wait_for_stream();
    let event = event("a", "u/b/1", &json!({"step": 6}));
    assert_eq!(rig.nats.say("the0.bot.updated", &event), 1);
    rig.becomes("a", |is| is["config"]["step"] == 6);
}

#[test]
fn a_user_who_is_not_let_in_is_told_and_no_password_is() {
    let Some(rig) = Rig::start_with_password() else {
        return;
    };
    rig.nats.make_stream();
    rig.nats
        .say("the0.bot.created", &event("a", "u/b/1", &json!({})));
    let wrong = format!("nats://bob:hunter2@{}", rig.nats.address());
    let agent = rig.agent_at(&wrong);
    agent.says(&format!(
        "nats {}: events are not received",
        rig.nats.address()
    ));
    let screen = agent.screen();
    drop(agent);
    let agent = rig.agent();
    rig.becomes("a", |is| is["custom"]["version"] == "1.0.0");
    let screens = [screen, agent.screen()];
    drop(agent);
    for screen in screens {
        assert!(
            !["hunter2", PASSWORD, "p%40ss"]
                .iter()
                .any(|word| screen.contains(word)),
            "{screen}"
        );
    }
    let mut agent = rig.agent_at("nats://u:hun/ter2@h");
    assert_eq!(agent.process.code(LONG), 1);
    let screen = agent.screen();
    assert!(
        screen.contains("address of NATS") && !screen.contains("ter2"),
        "{screen}"
    );
}
