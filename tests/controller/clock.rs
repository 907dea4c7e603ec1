//! Schedules that the cluster's own clock keeps.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use serde_json::Value;

use crate::rig::{Agent, Rig, SCHEDULES};

/// Two minutes' ticks, and what they take.
const TICKS: Duration = Duration::from_secs(200);
const CRONJOB: &str = "cronjob.batch/schedule-default-clock";

/// Waits longer than for most.
pub fn wait<T>(what: &str, agent: &Agent, look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + TICKS;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "no {what}\n{}", agent.said());
        sleep(Duration::from_millis(500));
    }
}

/// The one CronJob of the namespace.
fn cronjob(rig: &Rig) -> Value {
    rig.cluster.get("cronjob", "schedule-default-clock")
}

/// Whether the schedule is the cluster's clock's, which starts its ticks.
fn is_kept(rig: &Rig) -> bool {
    rig.names("cronjobs") == [CRONJOB] && cronjob(rig)["spec"]["suspend"] == false
}

fn uids(pods: &[Value]) -> Vec<Value> {
    let of = |pod: &Value| pod["metadata"]["uid"].clone();
    pods.iter().map(of).collect()
}

fn is_over(pod: &Value) -> bool {
    pod["status"]["phase"] == "Succeeded"
}

/// How often it has run, as its state tells.
fn count(rig: &Rig) -> usize {
    let count = rig.saved("clock", "count").expect("a state");
    count.parse().expect("a count")
}

/// How often it has run, and the Pods that are left of that: at a moment at which no other one is there.
fn so_far(rig: &Rig, agent: &Agent) -> (usize, Vec<Value>) {
    wait("moment between two ticks", agent, || {
        let pods = rig.cluster.list("pod");
        let begun = count(rig);
        let same = uids(&rig.cluster.list("pod")) == uids(&pods);
        (same && pods.iter().all(is_over)).then(|| (begun, uids(&pods)))
    })
}

/// Waits until the cluster's clock has run two ticks without an agent; how often the bot had run before.
fn two_ticks(rig: &Rig, agent: &Agent) -> usize {
    let (begun, old) = so_far(rig, agent);
    let pods = wait("Pods of two ticks", agent, || {
        let mut pods = rig.cluster.list("pod");
        pods.retain(|pod| !old.contains(&pod["metadata"]["uid"]));
        let ended = pods.iter().filter(|pod| is_over(pod)).count();
        (ended >= 2).then_some(pods)
    });
    assert!(pods.iter().all(|pod| {
        let name = pod["metadata"]["name"].as_str();
        name.is_some_and(|name| name.starts_with("schedule-default-clock-"))
    }));
    let complete = |job: &Value| {
        let conditions = job["status"]["conditions"].as_array();
        let mut all = conditions.into_iter().flatten();
        all.any(|it| it["type"] == "Complete" && it["status"] == "True")
    };
    let jobs = rig.cluster.list("job");
    assert!(jobs.iter().any(complete), "{jobs:#?}");
    let logged = rig.logged("clock");
    for count in 1..=begun + 2 {
        let line = format!(r#""message":"COUNT {count}""#);
        assert!(logged.contains(&line), "{logged}");
    }
    begun
}

/// Waits until history and document tell of each tick up to now, once and well; how often the bot has run.
fn each_is_told(rig: &Rig, agent: &Agent) -> usize {
    wait("end of what ran meanwhile", agent, || {
        (!rig.cluster.list("pod").iter().any(is_over)).then_some(())
    });
    let saved = count(rig);
    agent.wait_history(rig, "clock", |runs| {
        let ticks: BTreeSet<String> = runs.iter().map(|run| run["because"].to_string()).collect();
        runs.len() >= saved
            && ticks.len() == runs.len()
            && runs.iter().all(|run| {
                run["cause"] == "tick" && run["exit"] == 0 && run["saved"]["all"] == true
            })
    });
    wait("word on the last tick", agent, || {
        let document = rig.mongo.all(SCHEDULES).remove(0);
        let tick = document.get_document("tick").ok()?;
        let is_told = tick.get_str("outcome").ok() == Some("completed");
        (is_told && tick.get("missed").is_none()).then_some(())
    });
    saved
}

#[test]
fn a_schedule_runs_on_while_no_controller_does_and_each_tick_is_told_once() {
    let Some(rig) = Rig::start("controller::clock") else {
        return;
    };
    let mut agent = rig.agent(&[]);
    rig.scheduled(
        "clock",
        doc! {"once": true, "schedule": "* * * * *", "word": "a-hidden-word"},
    );
    // What is due already is the agent's own, and then it hands the schedule over.
    wait("CronJob", &agent, || is_kept(&rig).then_some(()));
    let cron = cronjob(&rig);
    assert!(!cron.to_string().contains("a-hidden-word"), "{cron:#}");
    agent.kill();
    let begun = two_ticks(&rig, &agent);
    agent.start(&rig);
    let saved = each_is_told(&rig, &agent);
    assert!(saved >= begun + 2, "{begun} {saved}");

    // One that a person wants is the agent's, and after it the cluster has the schedule again, in another CronJob.
    wait("CronJob", &agent, || is_kept(&rig).then_some(()));
    let before = cronjob(&rig)["metadata"]["uid"].clone();
    agent.does(&rig, &["cron", "run", "clock"]);
    wait("CronJob again", &agent, || {
        let is_new = cronjob(&rig)["metadata"]["uid"] != before;
        (is_new && is_kept(&rig)).then_some(())
    });
    let after = count(&rig);
    assert!(after > saved, "{saved} {after}");

    let off = doc! {"$set": {"enabled": false}};
    assert_eq!(rig.mongo.update(SCHEDULES, doc! {"id": "clock"}, off), 1);
    wait("end of the CronJob", &agent, || {
        rig.names("cronjobs").is_empty().then_some(())
    });
    wait("end of its Secrets", &agent, || {
        rig.names("secrets").is_empty().then_some(())
    });
    let said = agent.said();
    assert!(!said.contains("TWO Pods"), "{said}");
}

#[test]
fn a_schedule_that_no_cronjob_can_say_is_the_agents_and_a_stray_cronjob_goes() {
    let Some(rig) = Rig::start("controller::strays") else {
        return;
    };
    let agent = rig.agent(&[("THE0_CRONJOBS", "false")]);
    rig.scheduled("clock", doc! {"once": true, "schedule": "*/5 * * * *"});
    rig.scheduled(
        "seconds",
        doc! {"once": true, "schedule": "0 */5 * * * *", "timezone": "America/New_York"},
    );
    agent.says("completed (exit code 0)");
    assert!(rig.names("cronjobs").is_empty());
    drop(agent);
    let agent = rig.agent(&[]);
    wait("CronJob", &agent, || is_kept(&rig).then_some(()));
    // Of a bot that is gone while nobody looks.
    drop(agent);
    assert_eq!(rig.mongo.delete(SCHEDULES, doc! {"id": "clock"}), 1);
    let agent = rig.agent(&[]);
    wait("end of the CronJob", &agent, || {
        rig.names("cronjobs").is_empty().then_some(())
    });
}
