use ::tests::servers::mongo;
use contract::Secret;
use proptest::prelude::*;
use serde_json::json;
use tokio::runtime::Runtime;

use super::*;
use crate::bots::mongo::{Deadlines, Place};

const BOTS: &str = "bot_runner.bots";

struct Rig {
    server: mongo::Mongo,
    writer: Writer,
    runtime: Runtime,
}

impl Rig {
    fn start() -> Option<Self> {
        let server = mongo::Mongo::start()?;
        let secret = Secret::new(server.uri());
        let mongo = Mongo::new(&secret, Place::default(), Deadlines::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        Some(Self {
            server,
            writer: Writer::new(mongo),
            runtime,
        })
    }

    fn apply(&mut self, change: Change, seq: i64) -> Result<(), Unwritten> {
        self.apply_of(change, 7, seq)
    }

    fn apply_of(&mut self, change: Change, stream: i64, seq: i64) -> Result<(), Unwritten> {
        let applied = self.writer.apply(change, Stamp { stream, seq });
        self.runtime.block_on(applied)
    }

    /// The document without its key, as JSON; a tombstone's time is left out.
    fn only(&self) -> serde_json::Value {
        let mut all = self.server.all(BOTS);
        assert_eq!(all.len(), 1);
        let mut one = all.remove(0);
        one.remove("_id");
        if let Ok(ours) = one.get_document_mut(OURS)
            && let Some(deleted) = ours.remove("deleted")
        {
            assert!(deleted.as_datetime().is_some());
            ours.insert("gone", true);
        }
        serde_json::to_value(one).unwrap()
    }
}

fn created(step: i64) -> Change {
    change("created", step)
}

fn updated(step: i64) -> Change {
    change("updated", step)
}

fn deleted() -> Change {
    change("deleted", 0)
}

fn change(word: &str, step: i64) -> Change {
    let payload = json!({"id": "b", "config": {"step": step}, "custom": {"version": "1"}});
    Change::read(&format!("the0.bot.{word}"), payload.to_string().as_bytes()).unwrap()
}

fn bot(step: i64, stream: i64, seq: i64) -> serde_json::Value {
    json!({"id": "b", "segment_id": 0, "config": {"step": step}, "custom": {"version": "1"},
        "the0": {"seq": seq, "stream": stream}})
}

#[test]
fn a_bot_is_made_once_changed_and_leaves_a_tombstone() {
    let Some(mut rig) = Rig::start() else { return };
    rig.apply(created(1), 1).unwrap();
    assert_eq!(rig.only(), bot(1, 7, 1));
    rig.apply(created(2), 2).unwrap();
    assert_eq!(rig.only(), bot(1, 7, 1), "it is known: no change");
    rig.apply(updated(3), 3).unwrap();
    assert_eq!(rig.only(), bot(3, 7, 3));
    rig.apply(deleted(), 4).unwrap();
    let gone = json!({"id": "b", "segment_id": 0, "the0": {"seq": 4, "stream": 7, "gone": true}});
    assert_eq!(rig.only(), gone);
    for late in [created(1), updated(3), deleted()] {
        rig.apply(late, 3).unwrap();
        assert_eq!(rig.only(), gone, "said before the deletion");
    }
    rig.apply(created(5), 5).unwrap();
    assert_eq!(rig.only(), bot(5, 7, 5), "it lives again");
}

#[test]
fn a_bot_nobody_knows_is_made_by_an_update_and_its_deletion_is_kept() {
    let Some(mut rig) = Rig::start() else { return };
    rig.apply(deleted(), 2).unwrap();
    rig.apply(created(1), 1).unwrap();
    let gone = json!({"id": "b", "the0": {"seq": 2, "stream": 7, "gone": true}});
    assert_eq!(rig.only(), gone);
    rig.apply(updated(3), 3).unwrap();
    assert_eq!(rig.only()["config"]["step"], 3);
}

#[test]
fn a_stream_made_anew_is_heard_from_its_first_event_on() {
    let Some(mut rig) = Rig::start() else { return };
    rig.apply(updated(1), 900).unwrap();
    rig.apply_of(updated(2), 8, 1).unwrap();
    assert_eq!(rig.only(), bot(2, 8, 1));
}

#[test]
fn what_an_update_does_not_bring_stays() {
    let Some(mut rig) = Rig::start() else { return };
    let before = doc! {"id": "b", "enabled": false, "segment_id": 3, "config": {"old": 1},
    "custom": {"version": "1"}, "theirs": "x"};
    rig.server.insert(BOTS, [before]);
    let read = |payload: serde_json::Value| {
        Change::read("the0.bot.updated", payload.to_string().as_bytes()).unwrap()
    };
    rig.apply(read(json!({"id": "b", "custom": {"version": "2"}})), 1)
        .unwrap();
    let now = rig.only();
    assert_eq!(
        (&now["enabled"], &now["config"]["old"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(now["custom"]["version"], "2");
    let config = json!({"id": "b", "config": {"new": 2, "enabled": true}});
    rig.apply(read(config), 2).unwrap();
    let now = rig.only();
    assert_eq!(now.get("enabled"), None, "the parameters' own word counts");
    assert_eq!(now["config"], json!({"new": 2, "enabled": true}));
    assert_eq!(
        (&now["theirs"], &now["segment_id"]),
        (&json!("x"), &json!(3))
    );
    rig.apply(read(json!({"id": "b", "enabled": false})), 3)
        .unwrap();
    assert_eq!(rig.only()["enabled"], false);
}

#[test]
fn names_that_mean_something_to_the_server_are_names() {
    let Some(mut rig) = Rig::start() else { return };
    let config = json!({"$set": 1, "a.b": {"$date": "x"}, "": 2, "_id": 3});
    let payload = json!({"id": "b", "config": config, "custom": {}}).to_string();
    for (seq, word) in [(1, "created"), (2, "updated"), (3, "updated")] {
        let change = Change::read(&format!("the0.bot.{word}"), payload.as_bytes()).unwrap();
        rig.apply(change, seq).unwrap();
        assert_eq!(rig.only()["config"], config);
    }
}

#[test]
fn what_the_database_does_not_take_is_refused_and_what_is_away_is_not() {
    let Some(mut rig) = Rig::start() else { return };
    let rule = doc! {"create": "bots", "validator": {"config.step": {"$lt": 100}}};
    rig.runtime.block_on(async {
        let client = rig.writer.mongo.connect().await.unwrap();
        client
            .database("bot_runner")
            .run_command(rule)
            .await
            .unwrap();
    });
    let refused = rig.apply(updated(100), 1).unwrap_err();
    assert!(matches!(refused, Unwritten::Refused(_)), "{refused:?}");
    rig.apply(updated(99), 2).unwrap();
    rig.server.stop();
    let later = rig.apply(updated(98), 3).unwrap_err();
    assert!(matches!(later, Unwritten::Later(_)), "{later:?}");
    rig.server.start_again();
    rig.apply(updated(98), 3).unwrap();
    assert_eq!(rig.only()["config"]["step"], 98);
}

#[test]
fn indexes_are_made_once_and_twins_are_told() {
    let Some(mut rig) = Rig::start() else { return };
    for _ in 0..2 {
        rig.runtime.block_on(rig.writer.index()).unwrap();
    }
    rig.apply(created(1), 1).unwrap();
    let Some(mut other) = Rig::start() else {
        return;
    };
    other
        .server
        .insert(BOTS, [doc! {"id": "b"}, doc! {"id": "b"}]);
    let (what, failed) = other.runtime.block_on(other.writer.index()).unwrap_err();
    assert!(what.contains("unique"), "{what}");
    assert!(failed.to_string().contains("uplicate"), "{failed}");
    other.apply(deleted(), 1).unwrap();
    let all = other.server.all(BOTS);
    assert!(
        all.iter().all(|one| one.get_document(OURS).is_ok()),
        "{all:?}"
    );
}

/// What a document would be if events came once and in order.
fn expected(history: &[Change]) -> Option<i64> {
    history.iter().fold(None, |now, change| match &change.kind {
        Kind::Created(content) => now.or_else(|| step(content)),
        Kind::Updated(content) => step(content),
        Kind::Deleted => None,
    })
}

fn step(content: &super::super::change::Content) -> Option<i64> {
    content.config.as_ref()?.as_document()?.get_i64("step").ok()
}

#[test]
fn repeated_events_change_nothing_whatever_the_history() {
    let Some(rig) = Rig::start() else { return };
    let runner = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let kind = prop_oneof![
        (0..9_i64).prop_map(created),
        (10..19_i64).prop_map(updated),
        Just(deleted())
    ];
    let histories = (
        proptest::collection::vec(kind, 1..8),
        proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    );
    // The runner lends nothing that changes.
    let (rig, stream) = (std::cell::RefCell::new(rig), std::cell::Cell::new(100));
    let mut test = proptest::test_runner::TestRunner::new(runner);
    test.run(&histories, |(history, again)| {
        let (mut rig, stream) = (rig.borrow_mut(), stream.replace(stream.get() + 1));
        rig.server.delete(BOTS, doc! {});
        let mut said = 0;
        for (n, change) in history.iter().enumerate() {
            rig.apply_of(change.clone(), stream, i64::try_from(n).unwrap())
                .unwrap();
            said += 1;
            for index in &again {
                let old = index.index(said);
                let change = history[old].clone();
                rig.apply_of(change, stream, i64::try_from(old).unwrap())
                    .unwrap();
            }
        }
        prop_assert_eq!(rig.only()["config"]["step"].as_i64(), expected(&history));
        Ok(())
    })
    .unwrap();
}

/// A schedule's event; its writer writes where schedules are.
fn timed(word: &str, config: &serde_json::Value) -> Change {
    let payload = json!({"id": "b", "config": config, "custom": {"version": "1"}});
    let subject = format!("the0.bot-schedule.{word}");
    Change::read(&subject, payload.to_string().as_bytes()).unwrap()
}

#[test]
fn the_next_time_of_a_schedule_is_worked_out_when_it_is_made_and_when_its_times_change() {
    let Some(mut rig) = Rig::start() else { return };
    let next = |rig: &Rig| rig.only()["next_execution_time"].as_i64();
    let daily = json!({"schedule": "0 0 * * *", "step": 1});
    rig.apply(timed("created", &daily), 1).unwrap();
    let first = next(&rig).unwrap();
    assert!(first > wall() && first % 86_400 == 0);
    let filter = doc! {"id": "b"};
    let tick = doc! {"at": 1_i64, "rev": 3_i64};
    let claimed = doc! {"$set": {"next_execution_time": 77_i64, "tick": tick}};
    rig.server.update(BOTS, filter, claimed);
    rig.apply(timed("created", &daily), 2).unwrap();
    rig.apply(
        timed("updated", &json!({"schedule": "0 0 * * *", "step": 2})),
        3,
    )
    .unwrap();
    let document = rig.only();
    assert_eq!(
        (document["config"]["step"].as_i64(), next(&rig)),
        (Some(2), Some(77))
    );
    assert_eq!(document["tick"]["rev"], 3, "a run goes on");
    rig.apply(timed("updated", &json!({"schedule": "0 1 * * *"})), 4)
        .unwrap();
    assert_eq!(next(&rig).unwrap() % 86_400, 3600);
    let zone = json!({"schedule": "0 1 * * *", "timezone": "Asia/Tokyo"});
    rig.apply(timed("updated", &zone), 5).unwrap();
    assert_eq!(next(&rig).unwrap() % 86_400, 16 * 3600);
    assert_eq!(rig.only()["the0"], json!({"seq": 5, "stream": 7}));
    rig.apply(timed("deleted", &json!({})), 6).unwrap();
    let gone = rig.only();
    assert!(gone.get("tick").is_none() && next(&rig).is_none(), "{gone}");
    rig.apply(timed("updated", &daily), 7).unwrap();
    assert_eq!(next(&rig).unwrap() % 86_400, 0);
    assert!(rig.only()["the0"].get("gone").is_none());
}

#[test]
fn a_schedule_that_says_no_times_or_impossible_ones_is_refused() {
    let Some(mut rig) = Rig::start() else { return };
    let bad = [
        json!({}),
        json!({"schedule": ""}),
        json!({"schedule": "0 0 30 2 *"}),
        json!({"schedule": "* * * * *", "timezone": "Nowhere/At_all"}),
        json!({"schedule": "* * * * *", "schedule_policy": {"catch_up": "some"}}),
    ];
    for config in bad {
        for word in ["created", "updated"] {
            let refused = rig.apply(timed(word, &config), 1).unwrap_err();
            assert!(refused.to_string().contains("config."), "{refused}");
        }
    }
    assert!(rig.server.all(BOTS).is_empty());
}
