//! Schedules that the cluster's own clock keeps.

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

/// All objects of a kind in the namespace.
pub fn items(rig: &Rig, kind: &str) -> Vec<Value> {
    let listed = rig.cluster.ask(["get", kind, "--output", "json"]);
    let mut listed: Value = serde_json::from_str(&listed).unwrap();
    serde_json::from_value(listed["items"].take()).unwrap()
}

fn is_kept(rig: &Rig) -> bool {
    rig.names("cronjobs") == [CRONJOB]
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
    let cron = rig.cluster.get("cronjob", "schedule-default-clock");
    assert!(!cron.to_string().contains("a-hidden-word"), "{cron:#}");
    agent.kill();
    let begun: usize = rig.saved("clock", "count").unwrap().parse().unwrap();
    let ended = |pods: &[Value]| {
        let is_over = |pod: &&Value| pod["status"]["phase"] == "Succeeded";
        pods.iter().filter(is_over).count()
    };
    let pods = wait("Pods of two ticks", &agent, || {
        let pods = items(&rig, "pods");
        (ended(&pods) >= 2).then_some(pods)
    });
    assert!(pods.iter().all(|pod| {
        pod["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("schedule-default-clock-")
    }));
    let jobs = items(&rig, "jobs");
    let complete = |job: &Value| {
        let mut all = job["status"]["conditions"].as_array().unwrap().iter();
        all.any(|it| it["type"] == "Complete" && it["status"] == "True")
    };
    assert!(jobs.iter().any(complete), "{jobs:#?}");
    let logged = rig.logged("clock");
    for count in 1..=begun + 2 {
        let line = format!(r#""message":"COUNT {count}""#);
        assert!(logged.contains(&line), "{logged}");
    }
    agent.start(&rig);
    wait("end of what ran meanwhile", &agent, || {
        let pods = items(&rig, "pods");
        let old = |pod: &Value| pod["status"]["phase"] == "Succeeded";
        (!pods.iter().any(old)).then_some(())
    });
    let saved: usize = rig.saved("clock", "count").unwrap().parse().unwrap();
    assert!(saved >= begun + 2, "{begun} {saved}");
    agent.wait_history(&rig, "clock", |runs| {
        let ticks: std::collections::BTreeSet<String> =
            runs.iter().map(|run| run["because"].to_string()).collect();
        runs.len() >= saved
            && ticks.len() == runs.len()
            && runs.iter().all(|run| {
                run["cause"] == "tick" && run["exit"] == 0 && run["saved"]["all"] == true
            })
    });
    let document = || rig.mongo.all(SCHEDULES).remove(0);
    let tick = |name: &str| document().get_document("tick").unwrap().get(name).cloned();
    assert_eq!(
        tick("outcome").unwrap().as_str(),
        Some("completed"),
        "{}",
        document()
    );
    assert!(tick("missed").is_none(), "{}", document());

    // One that a person wants is the agent's, and after it the cluster has the schedule again.
    agent.does(&rig, &["cron", "run", "clock"]);
    wait("time without a CronJob", &agent, || {
        (!is_kept(&rig)).then_some(())
    });
    wait("CronJob again", &agent, || is_kept(&rig).then_some(()));
    let after: usize = rig.saved("clock", "count").unwrap().parse().unwrap();
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
