//! What of bots in Pods is not saved, and who is told of it.

use std::time::Duration;

use mongodb::bson::doc;
use tests::cluster::{HOST, LONG};
use tests::door::{Door, Way};
use tests::listener::Listener;
use tests::{stays, text, wait_for};

use crate::rig::{Agent, Rig};

/// Ended bots of which something is not saved.
const UNSAVED: &str = "the0_unsaved_bots";
/// For how long the running bot that waits longest has not been saved.
const AGE: &str = "the0_sync_age_seconds";
/// For so long a bot is looked at that is saved: longer than the first looks at it are apart.
const AT_LEAST: Duration = Duration::from_secs(30);

/// Changes its state five times a second, by numbers.
pub const WRITES: &str = r"
import os, time

def main(id, config):
    def put(name, content):
        open(f'/state/{name}.new', 'w').write(content)
        os.replace(f'/state/{name}.new', f'/state/{name}')
    put('word', config.get('word', ''))
    path = '/state/number'
    number = int(open(path).read()) if os.path.exists(path) else 0
    while True:
        number += 1
        put('number', str(number))
        time.sleep(0.2)
";

/// The last number in the store.
fn number(rig: &Rig, id: &str) -> u64 {
    let text = rig.saved(id, "number");
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Waits until one more is there.
fn is_saved_on(rig: &Rig, id: &str) {
    let before = number(rig, id);
    wait_for(&format!("numbers of {id} after {before}"), LONG, || {
        (number(rig, id) > before).then_some(())
    });
}

/// Waits until a metric has this value.
fn measures(agent: &Agent, name: &str, value: &str) {
    wait_for(&format!("{name} {value}"), LONG, || {
        (agent.metric(name).as_deref() == Some(value)).then_some(())
    });
}

#[test]
fn a_drain_names_the_bot_whose_pod_gave_up_saving_and_the_next_one_does_not() {
    let Some(rig) = Rig::start("controller::drain_lost") else {
        return;
    };
    let door = Door::before(HOST, rig.store.address());
    // Of that a minute is made, the least that a Pod may have.
    let settings = [
        ("MINIO_ENDPOINT", door.address()),
        ("THE0_POD_GRACE", "10s"),
        ("THE0_DRAIN", "1s"),
    ];
    let agent = rig.agent(&settings);
    let [tidy, doomed] = ["tidy", "doomed"].map(|id| rig.running(id, WRITES, doc! {"name": id}));
    for id in ["tidy", "doomed"] {
        is_saved_on(&rig, id);
    }
    agent.does(&rig, &["stop", "tidy"]);
    tidy.gone();
    measures(&agent, UNSAVED, "0");

    door.is(Way::Refused);
    let drained = agent.output(&rig, &["drain"]);
    let why = text(&drained.stderr);
    assert_eq!(drained.status.code(), Some(1), "{why}");
    let is_named = why.contains("doomed") && !why.contains("tidy");
    assert!(is_named && why.contains("gone with"), "{why}");
    doomed.gone();
    measures(&agent, UNSAVED, "1");
    agent.wait_history(&rig, "doomed", |runs| {
        let last = runs.last();
        last.is_some_and(|run| run["ended_at"].is_string() && run["saved"]["all"] == false)
    });

    // It goes on from what was saved, and what was lost is not told for ever.
    door.is(Way::Open);
    agent.does(&rig, &["start", "--all"]);
    is_saved_on(&rig, "doomed");
    measures(&agent, UNSAVED, "0");
    let drained = agent.prints(&rig, &["drain"]);
    assert!(drained.contains("all of them is in the store"), "{drained}");
    doomed.gone();
    measures(&agent, UNSAVED, "0");
}

#[test]
fn a_bot_that_answers_no_questions_is_told_of_when_it_is_not_saved_and_when_it_is_again() {
    let Some(rig) = Rig::start("controller::unsaved") else {
        return;
    };
    let door = Door::before(HOST, rig.store.address());
    let listener = Listener::start(0);
    let url = format!("http://{}/hook", listener.address);
    let settings = [
        ("MINIO_ENDPOINT", door.address()),
        ("THE0_NOTICE_URL", url.as_str()),
        ("THE0_NOTICE_UNSAVED", "20s"),
    ];
    let agent = rig.agent(&settings);
    let pod = rig.running("silent", WRITES, doc! {"name": "silent"});
    is_saved_on(&rig, "silent");
    pod.ready();
    measures(&agent, AGE, "0");
    assert!(listener.taken().is_empty());

    door.is(Way::Refused);
    let notice = wait_for("a notice", LONG * 2, || listener.taken().into_iter().next());
    assert_eq!(notice["kind"], "unsaved", "{notice}");
    assert_eq!(notice["bot"], "silent", "{notice}");
    let age = wait_for("an age", LONG, || {
        agent.metric(AGE).filter(|age| age != "0")
    });
    assert!(age.parse::<f64>().is_ok_and(|age| age > 0.0), "{age}");

    door.is(Way::Open);
    let over = wait_for("a notice that it is over", LONG * 2, || {
        listener.taken().into_iter().nth(1)
    });
    assert_eq!(over["kind"], "recovered", "{over}");
    assert_eq!(over["of"], "unsaved", "{over}");
    measures(&agent, AGE, "0");
    assert_eq!(pod.container("bot")["restartCount"], 0);
    assert_eq!(listener.taken().len(), 2, "{:?}", listener.taken());
}

#[test]
fn a_bot_that_has_crashed_once_and_runs_again_counts_as_saved() {
    let Some(rig) = Rig::start("controller::saved_again") else {
        return;
    };
    let agent = rig.agent(&[]);
    rig.bot("again", doc! {"crash": 1});
    agent.wait_row(&rig, "again", |row| {
        (row["state"] == "running" && row["run"] == 2).then_some(())
    });
    rig.wait_saved("again", "count", "2");
    agent.wait_history(&rig, "again", |runs| {
        runs.first().is_some_and(|run| run["exit"] == 1)
    });
    measures(&agent, AGE, "0");
    stays("a bot that is saved", AT_LEAST, || {
        agent.metric(AGE).as_deref() == Some("0")
    });
    assert_eq!(rig.saved("again", "count").as_deref(), Some("2"));
}

/// Outgrows a limit of 1 MiB in its first run, when that is in the store.
const GROWS: &str = r"
import os, time

def main(id, config):
    path = '/state/runs'
    runs = int(open(path).read()) + 1 if os.path.exists(path) else 1
    open(path, 'w').write(str(runs))
    if runs == 1:
        time.sleep(4)
        open('/state/new', 'w').write('of this run')
        open('/state/large', 'wb').write(os.urandom(3 << 20))
    while True:
        time.sleep(1)
";

#[test]
fn a_bot_that_outgrew_its_limit_keeps_its_pod_and_goes_on_there_when_there_is_room() {
    let Some(rig) = Rig::start("controller::outgrown") else {
        return;
    };
    let agent = rig.agent(&[("MAX_STATE_SIZE_MB", "1")]);
    let pod = rig.running("grows", GROWS, doc! {});
    wait_for("its first state in the store", LONG, || {
        (rig.saved("grows", "runs")? == "1").then_some(())
    });
    let before = pod.get()["metadata"]["uid"].clone();
    agent.wait_row(&rig, "grows", |row| {
        let reason = row["reason"].as_str().unwrap_or_default();
        let is_told = reason.contains("over its limit of disk") && reason.contains("kubectl exec");
        is_told.then_some(())
    });
    stays("its Pod, and no run", AT_LEAST / 3, || {
        pod.get()["metadata"]["uid"] == before && rig.saved("grows", "new").is_none()
    });
    let name = pod.get()["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    rig.cluster.ask([
        "exec",
        &name,
        "--container=sync",
        "--",
        "rm",
        "/state/large",
    ]);
    wait_for("a run after that, and what it had before", LONG * 2, || {
        let is_saved = rig.saved("grows", "runs")? == "2";
        (is_saved && rig.saved("grows", "new")? == "of this run").then_some(())
    });
    assert_eq!(pod.get()["metadata"]["uid"], before);
}
