//! Documents that are written into MongoDB by others than the agent: seen at once where the deployment tells changes, at
//! the next look elsewhere. No NATS; a real MongoDB, a real Docker.

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use tests::servers::mongo::{Mongo, document};
use tests::stack::{BOTS, IDLE, LONG, Stack};
use tests::wait_for;

const SCHEDULES: &str = "bot_scheduler.bot_schedules";

/// Time between two looks at the database, and what is well before it.
const INTERVAL: (&str, Duration) = ("120s", Duration::from_secs(60));

/// Lists that the agent has made: nobody else asks this server for documents in this way.
fn listings(stack: &Stack) -> i64 {
    let status = stack.mongo.command(doc! {"serverStatus": 1});
    let counts = status.get_document("opcounters").unwrap();
    let count = counts.get("query").unwrap();
    count.as_i64().or(count.as_i32().map(i64::from)).unwrap()
}

fn runs(stack: &Stack, id: &str) {
    wait_for("a container that runs", LONG, || {
        let name = format!("the0-{}.{id}", stack.name());
        let found = stack.containers().contains(&name);
        (found && stack.container(id).inspect()["State"]["Running"] == true).then_some(())
    });
}

#[test]
fn a_document_that_is_written_by_hand_is_started_long_before_the_next_look() {
    let Some(mut stack) = Stack::start("wake::set", &["python3.11"]) else {
        return;
    };
    stack.interval = INTERVAL.0;
    stack.begin();
    let first = stack.bot("first", IDLE, doc! {});
    runs(&stack, &first);

    let begun = Instant::now();
    let second = stack.bot("second", IDLE, doc! {});
    runs(&stack, &second);
    assert!(begun.elapsed() < INTERVAL.1, "{:?}", begun.elapsed());

    // The stream is lost with its server, and opened anew.
    stack.mongo.stop();
    stack.says("no lease, so bots run on");
    stack.mongo.start_again();
    let begun = Instant::now();
    let third = stack.bot("third", IDLE, doc! {});
    runs(&stack, &third);
    assert!(begun.elapsed() < INTERVAL.1, "{:?}", begun.elapsed());
    stack.change(&third, doc! {"enabled": false});
    stack.state(&third, "disabled");
    assert!(begun.elapsed() < INTERVAL.1, "{:?}", begun.elapsed());

    let begun = Instant::now();
    let id = stack.id("at-times");
    let schedule = document(&id, "u/c/1", doc! {"schedule": "0 0 1 1 *"});
    stack.mongo.insert(SCHEDULES, [schedule]);
    wait_for("a schedule", LONG, || {
        let rows = stack.rows()?;
        rows.iter().any(|row| row["id"] == id).then_some(())
    });
    assert!(begun.elapsed() < INTERVAL.1, "{:?}", begun.elapsed());
}

#[test]
fn a_thousand_changes_cost_a_few_listings() {
    let Some(mut stack) = Stack::start("wake::flood", &[]) else {
        return;
    };
    stack.interval = INTERVAL.0;
    stack.begin();
    let id = stack.id("off");
    let mut off = document(&id, "u/b/1", doc! {});
    off.insert("enabled", false);
    stack.mongo.insert(BOTS, [off]);
    stack.state(&id, "disabled");
    let (before, begun) = (listings(&stack), Instant::now());
    for n in 0..1000 {
        stack.change(&id, doc! {"config.n": n});
    }
    stack.change(&id, doc! {"config.name": "the last"});
    wait_for("the last change", LONG, || {
        let rows = stack.rows()?;
        rows.iter()
            .any(|row| row["name"] == "the last")
            .then_some(())
    });
    // A listing asks twice, for bots and for schedules: one each two seconds while they go on, and some seven with which it
    // begins. What people have said is looked up beside it.
    let most = 20 + 2 * i64::try_from(begun.elapsed().as_secs()).unwrap();
    let cost = listings(&stack) - before;
    assert!(
        (1..=most).contains(&cost),
        "{cost} in {:?}",
        begun.elapsed()
    );
}

#[test]
fn a_server_of_its_own_tells_no_changes_and_is_read_each_interval() {
    let Some(mut stack) = Stack::start("wake::alone", &["python3.11"]) else {
        return;
    };
    let Some(alone) = Mongo::start_alone() else {
        return;
    };
    stack.mongo = alone;
    stack.interval = "2s";
    stack.set("LOG_LEVEL", "debug");
    stack.begin();
    stack.says("mongodb has no change streams");
    let bot = stack.bot("first", IDLE, doc! {});
    runs(&stack, &bot);
    stack.change(&bot, doc! {"enabled": false});
    stack.state(&bot, "disabled");
    let said = stack.said();
    assert_eq!(said.matches("changes in bot_runner.bots").count(), 1);
}
