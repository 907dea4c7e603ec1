//! Schedules that are due all in one second: how fast they are claimed, and when the last has been started, with as many
//! starts at once as by default. And what an agent costs that waits for 10,000 of which none is due.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::servers::mongo::bson::{Document, doc};
use tests::wait_for;

use super::figures::{cpu, millis};
use super::wire::Wire;
use super::{Host, PYTHON, bot, daemon};
use crate::process::memory;

const SCHEDULES: &str = "bot_scheduler.bot_schedules";
/// Schedules that are claimed at once: as many as may be started at once at most.
const CLAIMED: usize = 1000;
/// Schedules that are started; `THE0_BENCH_TICKS` says otherwise.
const STARTED: usize = 100;
/// Schedules that wait.
const WAITING: usize = 10_000;
/// Until they are due.
const AHEAD: i64 = 20;
/// How long an agent is left alone, and how long one that waits is measured.
const SETTLE: Duration = Duration::from_secs(20);
const COUNTED: Duration = Duration::from_secs(30);
/// An agent that does not look through the documents meanwhile.
const RARELY: &[&str] = &["--reconcile-interval", "600s"];

const MAIN: &str = "def main(id, config):\n    print('TICK', flush=True)\n";

/// Measures claims, and prints. The daemon is asked to make containers and does not answer, so that nothing else is done.
pub fn claims(host: &mut Host) {
    let data = host.stack.data();
    let wire = Wire::lay(data.parent().expect("a folder"));
    wire.holds("/containers/create");
    host.stack.set("DOCKER_HOST", &wire.address());
    host.stack.set("THE0_SCHEDULE_STARTS", &CLAIMED.to_string());
    host.begin(RARELY);
    let due = insert(host, CLAIMED);
    let claimed = |one: &Document| at_least(one, due, &["claimed", "started", "over"]);
    let last = wait_for("all claims", Duration::from_secs(300), || {
        sleep(Duration::from_millis(50));
        let all = host.stack.mongo.all(SCHEDULES);
        all.iter().all(claimed).then(|| after(due))
    });
    println!(
        "\n{CLAIMED} schedules due in one second: the last is claimed {:.1} s after its time, {:.0} claims a second",
        last.as_secs_f64(),
        rate(CLAIMED, last)
    );
    host.end();
    host.stack.mongo.delete(SCHEDULES, doc! {});
}

/// Measures starts, and prints.
pub fn starts(host: &mut Host) {
    let count = std::env::var("THE0_BENCH_TICKS").ok();
    let count = count.and_then(|text| text.parse().ok()).unwrap_or(STARTED);
    host.begin(RARELY);
    let due = insert(host, count);
    let (mut first, mut most) = (None, 0);
    let over = wait_for("the end of all", Duration::from_secs(3600), || {
        sleep(Duration::from_millis(200));
        let all = host.stack.mongo.all(SCHEDULES);
        most = most.max(daemon::running(host.docker(), host.stack.name()));
        let started = all
            .iter()
            .all(|one| at_least(one, due, &["started", "over"]));
        first = first.or(started.then(|| after(due)));
        all.iter()
            .all(|one| at_least(one, due, &["over"]))
            .then_some(all)
    });
    let is_well = |one: &&Document| {
        let tick = one.get_document("tick");
        tick.and_then(|tick| tick.get_str("outcome"))
            .is_ok_and(|word| word == "completed")
    };
    for one in over.iter().filter(|one| !is_well(one)) {
        println!("not well: {:?}", one.get_document("tick"));
    }
    let (last, well) = (
        first.unwrap_or_default(),
        over.iter().filter(is_well).count(),
    );
    println!(
        "\n{count} schedules due in one second, with as many starts at once as by default: the last is started {:.1} s after \
         its time ({:.1} starts a second), at most {most} containers ran at once; {well} ran well, the last had ended {:.1} s \
         after its time",
        last.as_secs_f64(),
        rate(count, last),
        after(due).as_secs_f64()
    );
    host.end();
}

/// Measures an agent whose schedules wait, and prints.
pub fn waits(host: &mut Host) {
    println!(
        "\n| schedules that wait | agent CPU ms/min | RSS KB | anonymous KB |\n|---|---|---|---|"
    );
    for count in [0, WAITING] {
        let key = host.bundle("ticks", &[("main.py", MAIN.into())]);
        let far = wall() + 90 * 24 * 3600;
        let one = |n| schedule(&host.stack.id(&format!("w{n}")), &key, far);
        if count > 0 {
            host.stack.mongo.insert(SCHEDULES, (0..count).map(one));
        }
        host.begin(RARELY);
        sleep(SETTLE);
        let before = cpu(host.pid());
        sleep(COUNTED);
        let spent = cpu(host.pid()) - before;
        println!(
            "| {count} | {:.1} | {} | {} |",
            millis(spent) * 60.0 / COUNTED.as_secs_f64(),
            memory(host.pid(), "Rss"),
            memory(host.pid(), "Anonymous")
        );
        host.end();
    }
    host.stack.mongo.delete(SCHEDULES, doc! {});
}

/// Registers so many schedules that are due in the same second; which?
fn insert(host: &Host, count: usize) -> i64 {
    let key = host.bundle("ticks", &[("main.py", MAIN.into())]);
    let due = wall() + AHEAD;
    let one = |n| schedule(&host.stack.id(&format!("t{n}")), &key, due);
    host.stack.mongo.insert(SCHEDULES, (0..count).map(one));
    due
}

fn schedule(id: &str, key: &str, due: i64) -> Document {
    let mut document = bot(id, key, PYTHON, doc! {"bot": "main.py"});
    let config = document.get_document_mut("config").expect("its config");
    config.insert("schedule", "0 0 1 1 *");
    let custom = document.get_document_mut("custom").expect("custom");
    let definition = custom.get_document_mut("config").expect("its definition");
    definition.insert("type", "scheduled");
    document.insert("next_execution_time", due);
    document
}

/// Whether the tick that was due then is in one of these states.
fn at_least(schedule: &Document, due: i64, states: &[&str]) -> bool {
    let tick = schedule.get_document("tick");
    tick.is_ok_and(|tick| {
        let at = tick
            .get_i64("at")
            .or_else(|_| tick.get_i32("at").map(i64::from));
        at.is_ok_and(|at| at == due)
            && tick
                .get_str("state")
                .is_ok_and(|state| states.contains(&state))
    })
}

fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("a time after 1970").as_secs()).expect("seconds")
}

/// How long ago that second was.
fn after(due: i64) -> Duration {
    let due = UNIX_EPOCH + Duration::from_secs(due.unsigned_abs());
    SystemTime::now().duration_since(due).unwrap_or_default()
}

#[allow(clippy::cast_precision_loss)] // printed with one decimal
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(0.001)
}
