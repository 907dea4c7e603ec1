//! A controller that is killed at each of the calls with which it changes something in the cluster: as the call has not
//! come there, and as it has and its answer is not back.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant, UNIX_EPOCH};
use std::{io, thread};

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::cluster::LONG;
use tests::door::{Door, Way};
use tests::servers::nats::Nats;
use tests::{http, wait_for};

use crate::clock::wait;
use crate::late::{is_handed_over, ran};
use crate::rig::{Agent, Rig, SCHEDULES};
use crate::{asked, jobs};

const ID: &str = "walked";
const CRONJOB: &str = "schedule-default-clock";
/// Secrets that are there so long after their CronJob was left by an agent that was killed.
const SECRETS_STAY: Duration = Duration::from_secs(20);
/// More calls than any change of a bot takes.
const MOST: usize = 40;

/// Whether the controller was killed at the call `write`: it is not if what it does is over before it makes that many.
fn is_killed(
    rig: &Rig,
    agent: &mut Agent,
    door: &Door,
    write: usize,
    is_over: &dyn Fn() -> bool,
) -> bool {
    let is_cut = wait_for("a call that is cut, or the end of all", LONG, || {
        if door.wrote() > write {
            (door.kept() > 0).then_some(true)
        } else {
            is_over().then_some(false)
        }
    });
    if is_cut {
        agent.kill();
    }
    door.is(Way::Open);
    if is_cut {
        agent.start(rig);
    }
    is_cut
}

/// How this call is cut: as it has not come there, or as its answer is not back. Both where there is time
/// (`THE0_TEST_SECONDS`); else one of them, and the other one at the next call, which of them by chance.
fn ways(write: usize) -> &'static [bool] {
    static FIRST: OnceLock<bool> = OnceLock::new();
    if std::env::var_os("THE0_TEST_SECONDS").is_some() {
        return &[false, true];
    }
    let by_chance = || {
        UNIX_EPOCH
            .elapsed()
            .unwrap()
            .subsec_micros()
            .is_multiple_of(2)
    };
    let passes = write.is_multiple_of(2) == *FIRST.get_or_init(by_chance);
    if passes { &[true] } else { &[false] }
}

/// Has the controller killed at each call that `change` takes, which gives what shows that it is over; `prepare` comes
/// before, and both are told how often it was done before.
fn at_each_call<'a>(
    rig: &Rig,
    agent: &mut Agent,
    door: &Door,
    prepare: impl Fn(usize),
    change: impl Fn(usize) -> Box<dyn Fn() -> bool + 'a>,
) {
    let mut rounds = 0..;
    for write in 0.. {
        assert!(write < MOST, "it never ends: {}", agent.said());
        let mut is_last = true;
        for &passes in ways(write) {
            let round = rounds.next().expect("another number");
            prepare(round);
            door.is(Way::Cuts { write, passes });
            let is_over = change(round);
            is_last &= !is_killed(rig, agent, door, write, &is_over);
            let end = format!("end of what was cut at call {write}, which came there: {passes}");
            wait(&end, agent, || is_over().then_some(()));
        }
        if is_last {
            assert!(write > 0, "no call was cut");
            return;
        }
    }
}

#[test]
fn a_controller_killed_at_any_call_changes_a_bot_all_the_same_and_loses_none_of_its_runs() {
    let Some(rig) = Rig::start("controller::steps") else {
        return;
    };
    let (door, config) = rig.plain_lane("steps");
    let mut agent = rig.agent(&[("KUBECONFIG", &config)]);
    let rig = &rig;
    let pod = rig.bot(ID, doc! {"word": "begun"});
    rig.wait_saved(ID, "word", "begun");
    let edit = |round| -> Box<dyn Fn() -> bool> {
        let word = format!("word {round}");
        rig.bot(ID, doc! {"word": &word});
        Box::new(move || rig.saved(ID, "word").as_deref() == Some(&word))
    };
    at_each_call(rig, &mut agent, &door, |_| {}, edit);
    let comes_again = |round| {
        let word = format!("again {round}");
        rig.bot(ID, doc! {"word": &word});
        rig.wait_saved(ID, "word", &word);
    };
    let removal = |_| -> Box<dyn Fn() -> bool> {
        rig.remove(ID);
        Box::new(|| rig.names("pods").is_empty())
    };
    at_each_call(rig, &mut agent, &door, comes_again, removal);
    drop(pod);
    let count = rig.saved(ID, "count").unwrap();
    agent.wait_history(rig, ID, |runs| {
        // Starts that came to nothing are told, too.
        let runs: Vec<&Value> = runs.iter().filter(|run| run["run"] != 0).collect();
        let name = |run: &&Value| format!("{} {}", run["container"], run["run"]);
        let names: BTreeSet<String> = runs.iter().map(name).collect();
        let is_whole = |run: &&Value| run["exit"] == 0 && run["saved"]["all"] == true;
        let is_each_once = names.len() == runs.len() && runs.len().to_string() == count;
        is_each_once && runs.iter().all(is_whole)
    });
}

#[test]
fn a_controller_killed_at_any_call_changes_a_cronjob_all_the_same() {
    let Some(rig) = Rig::start("controller::handed") else {
        return;
    };
    let (door, config) = rig.plain_lane("handed");
    let mut agent = rig.agent(&[("KUBECONFIG", &config)]);
    let rig = &rig;
    // It is due now, and then in a long time.
    rig.scheduled("clock", doc! {"once": true, "schedule": "0 0 1 1 *"});
    is_handed_over(rig, &agent);
    let digest = |cron: &Value| cron["metadata"]["annotations"]["the0.app/digest"].clone();
    let edit = |round| -> Box<dyn Fn() -> bool> {
        let before = digest(&rig.cluster.get("cronjob", CRONJOB));
        let word = doc! {"$set": {"config.word": format!("word {round}")}};
        assert_eq!(rig.mongo.update(SCHEDULES, doc! {"id": "clock"}, word), 1);
        Box::new(move || {
            let cron = rig.cluster.get("cronjob", CRONJOB);
            cron["spec"]["suspend"] == false
                && digest(&cron) != before
                && has_its_secrets(rig, &cron)
        })
    };
    at_each_call(rig, &mut agent, &door, |_| {}, edit);
    assert_eq!(rig.names("cronjobs").len(), 1);
    agent.wait_history(rig, "clock", |runs| runs.len() == 1);
}

/// Lets the schedule run or not; gives what shows that its CronJob is there, with its Secrets and no other, or is not. Secrets
/// that an agent which was killed has left are removed much later.
fn switched(rig: &Rig, on: bool) -> Box<dyn Fn() -> bool + '_> {
    let word = doc! {"$set": {"enabled": on}};
    assert_eq!(rig.mongo.update(SCHEDULES, doc! {"id": "clock"}, word), 1);
    let gone = Cell::new(None);
    Box::new(move || {
        let secrets = rig.names("secrets").len();
        let cron = rig.cluster.get("cronjob", CRONJOB);
        if on {
            return cron["spec"]["suspend"] == false && has_its_secrets(rig, &cron) && secrets == 2;
        }
        if !cron.is_null() {
            return false;
        }
        let since = gone.get().unwrap_or_else(Instant::now);
        gone.set(Some(since));
        secrets == 0 || since.elapsed() > SECRETS_STAY
    })
}

/// Has the controller killed at each call with which it gives the cluster's clock a schedule, or takes it back.
fn switched_at_each_call(test: &str, on: bool) {
    let Some(rig) = Rig::start(&format!("controller::{test}")) else {
        return;
    };
    let (door, config) = rig.plain_lane(test);
    let mut agent = rig.agent(&[("KUBECONFIG", &config)]);
    let rig = &rig;
    // It is due now, and then in a long time.
    rig.scheduled("clock", doc! {"once": true, "schedule": "0 0 1 1 *"});
    is_handed_over(rig, &agent);
    let prepare = |_| {
        let is_over = switched(rig, !on);
        wait_for("the other way", LONG, || is_over().then_some(()));
    };
    at_each_call(rig, &mut agent, &door, prepare, |_| switched(rig, on));
    agent.wait_history(rig, "clock", |runs| runs.len() == 1);
}

#[test]
fn a_controller_killed_at_any_call_gives_a_schedule_its_cronjob_all_the_same() {
    switched_at_each_call("given", true);
}

#[test]
fn a_controller_killed_at_any_call_takes_a_schedule_back_all_the_same() {
    switched_at_each_call("taken", false);
}

#[test]
fn a_controller_killed_at_any_call_runs_each_tick_of_its_own_clock_once_all_the_same() {
    let Some(rig) = Rig::start("controller::owntick") else {
        return;
    };
    let (door, config) = rig.plain_lane("owntick");
    let mut agent = rig.agent(&[("KUBECONFIG", &config)]);
    let rig = &rig;
    // Seconds, which no CronJob can say: it is due now, and then in a long time.
    rig.scheduled("clock", doc! {"once": true, "schedule": "30 0 0 1 1 *"});
    let is_told = |count: usize| {
        let count = count.to_string();
        wait_for("the word that it is over", LONG, || {
            let document = serde_json::to_value(rig.mongo.all(SCHEDULES).remove(0)).ok()?;
            let is_over = document["tick"]["state"] == "over";
            let is_saved = rig.saved("clock", "count")? == count;
            (is_over && is_saved && rig.names("pods").is_empty()).then_some(())
        });
    };
    let tick = |round: usize| -> Box<dyn Fn() -> bool> {
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
        let due = doc! {"$set": {"next_execution_time": now}};
        assert_eq!(rig.mongo.update(SCHEDULES, doc! {"id": "clock"}, due), 1);
        let count = (round + 2).to_string();
        Box::new(move || {
            rig.saved("clock", "count").as_deref() == Some(&count) && rig.names("pods").is_empty()
        })
    };
    at_each_call(rig, &mut agent, &door, |round| is_told(round + 1), tick);
    let count: usize = rig.saved("clock", "count").unwrap().parse().unwrap();
    agent.wait_history(rig, "clock", |runs| ran(runs).len() == count);
    assert!(rig.names("cronjobs").is_empty());
}

#[test]
fn a_controller_killed_at_any_call_runs_each_job_once_all_the_same() {
    let test = "controller::jobsteps";
    let Some((rig, nats)) = Rig::start(test).zip(Nats::start()) else {
        return;
    };
    nats.make_stream();
    let (door, config) = rig.plain_lane("jobsteps");
    let mut agent = rig.agent(&[("KUBECONFIG", &config), ("NATS_URL", &nats.uri())]);
    nats.wait_for(jobs::JOBS);
    let (rig, nats) = (&rig, &nats);
    let id = |round: usize| format!("job-{round}");
    let asked = Cell::new(0);
    let job = |round: usize| -> Box<dyn Fn() -> bool> {
        let id = id(round);
        jobs::put(rig, &id, jobs::GOOD);
        jobs::ask(nats, &id, &json!({"n": round}));
        asked.set(round + 1);
        Box::new(move || !jobs::told(nats, &id).is_empty() && jobs::left(rig).is_empty())
    };
    at_each_call(rig, &mut agent, &door, |_| {}, job);
    for round in 0..asked.get() {
        let id = id(round);
        let told = json!({"backtest_id": id, "success": true});
        assert_eq!(jobs::told(nats, &id), [told]);
        let printed = agent.prints(rig, &["job", "logs", &id]);
        assert_eq!(printed.matches("TESTED").count(), 1, "{id}: {printed}");
    }
}

#[test]
fn a_controller_killed_at_any_call_leaves_nothing_of_a_question() {
    let Some(rig) = Rig::start("controller::asksteps") else {
        return;
    };
    let (door, config) = rig.plain_lane("asksteps");
    let mut agent = rig.agent(&[("KUBECONFIG", &config)]);
    let (rig, gateway) = (&rig, agent.gateway.clone());
    rig.rests("rests", doc! {"enabled": false});
    let question = json!({"bot_id": "rests", "query_path": "/count", "timeout_sec": 80});
    let answers = |_| {
        wait_for("an answer of the agent that acts", LONG, || {
            TcpStream::connect(&gateway).ok()?;
            let reply = http(&gateway, "POST", "/query", &question.to_string());
            (reply.status == 200).then_some(())
        });
        rig.leaves_nothing();
    };
    let asked = |_| -> Box<dyn Fn() -> bool> {
        let asker = asked::sent(&gateway, &question);
        let asker = thread::spawn(move || io::copy(&mut &asker, &mut io::sink()));
        Box::new(move || asker.is_finished() && rig.left().is_empty())
    };
    at_each_call(rig, &mut agent, &door, answers, asked);
}

/// Whether all Secrets are there that its Pods mount or read.
fn has_its_secrets(rig: &Rig, cron: &Value) -> bool {
    let there = rig.names("secrets");
    let spec = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let volumes = spec["volumes"].as_array().unwrap().iter();
    let mounted = volumes.filter_map(|volume| volume["secret"]["secretName"].as_str());
    let variables = spec["containers"][0]["env"].as_array().unwrap().iter();
    let read = variables.filter_map(|it| it["valueFrom"]["secretKeyRef"]["name"].as_str());
    let mut names: Vec<&str> = mounted.chain(read).collect();
    names.dedup();
    let is_there = |name: &&str| there.contains(&format!("secret/{name}"));
    names.len() >= 2 && names.iter().all(is_there)
}
