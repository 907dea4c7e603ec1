//! Ticks that the cluster's clock starts late or not at all, and Jobs that no Pod comes of.

use std::time::{Duration, UNIX_EPOCH};

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::cluster::LONG;
use tests::{stays, wait_for};

use crate::clock::wait;
use crate::rig::{Agent, Rig, SCHEDULES};

const CRONJOB: &str = "schedule-default-clock";
/// Longer than a Job's controller takes to make a Pod, once it may.
const AT_LEAST: Duration = Duration::from_secs(8);

/// Changes the CronJob's spec, behind the agent's back.
fn patch(rig: &Rig, spec: &Value) {
    let patch = json!({ "spec": spec }).to_string();
    let words = [
        "patch",
        "cronjob",
        CRONJOB,
        "--type=merge",
        "--patch",
        &patch,
    ];
    rig.cluster.ask(words);
}

/// Waits until the cluster's clock has the schedule; gives its CronJob.
pub fn is_handed_over(rig: &Rig, agent: &Agent) -> Value {
    wait("CronJob", agent, || {
        let cron = rig.cluster.get("cronjob", CRONJOB);
        (cron["spec"]["suspend"] == false).then_some(cron)
    })
}

/// Waits for the next minute's beginning, and some seconds of it.
fn next_minute(seconds: u64) {
    let now = || UNIX_EPOCH.elapsed().unwrap().as_secs();
    let then = (now() / 60 + 1) * 60 + seconds;
    wait_for("the minute", LONG, || (now() >= then).then_some(()));
}

/// The runs that history tells of, without starts that came to nothing; each with another tick.
pub fn ran(runs: &[Value]) -> Vec<&Value> {
    let ran: Vec<&Value> = runs.iter().filter(|run| run["run"] != 0).collect();
    let ticks: std::collections::BTreeSet<String> =
        ran.iter().map(|run| run["because"].to_string()).collect();
    assert_eq!(ticks.len(), ran.len(), "{runs:#?}");
    ran
}

#[test]
fn a_tick_that_comes_late_runs_once() {
    let Some(rig) = Rig::start("controller::late") else {
        return;
    };
    let mut agent = rig.agent(&[]);
    rig.scheduled("clock", doc! {"once": true, "schedule": "* * * * *"});
    is_handed_over(&rig, &agent);
    agent.kill();
    // The cluster's clock is away for two ticks, and starts the later one when it is back.
    patch(&rig, &json!({"suspend": true}));
    let begun: usize = rig.saved("clock", "count").unwrap().parse().unwrap();
    next_minute(1);
    next_minute(5);
    patch(&rig, &json!({"suspend": false}));
    agent.start(&rig);
    agent.wait_history(&rig, "clock", |runs| ran(runs).len() > begun);
    let document = rig.mongo.all(SCHEDULES).remove(0);
    let document = serde_json::to_value(document).unwrap();
    assert!(
        document["tick"]["missed"].as_i64() >= Some(1),
        "{document:#}"
    );
    assert!(!agent.said().contains("TWO Pods"), "{}", agent.said());
}

#[test]
fn a_schedule_whose_cronjob_somebody_removed_suspended_or_edited_gets_another_before_it_runs() {
    let Some(rig) = Rig::start("controller::meddled") else {
        return;
    };
    let agent = rig.agent(&[]);
    // It is due now, and then in a long time.
    rig.scheduled("clock", doc! {"once": true, "schedule": "0 0 1 1 *"});
    is_handed_over(&rig, &agent);
    agent.wait_history(&rig, "clock", |runs| runs.len() == 1);
    let remove = || drop(rig.cluster.ask(["delete", "cronjob", CRONJOB]));
    let suspend = || patch(&rig, &json!({"suspend": true}));
    let edit = || patch(&rig, &json!({"schedule": "1 1 1 1 *"}));
    for meddle in [&remove as &dyn Fn(), &suspend, &edit] {
        let before = is_handed_over(&rig, &agent);
        meddle();
        wait_for("another CronJob", LONG, || {
            let cron = rig.cluster.get("cronjob", CRONJOB);
            let is_new = cron["metadata"]["uid"] != before["metadata"]["uid"];
            let is_right = cron["spec"]["suspend"] == false
                && cron["spec"]["schedule"] == before["spec"]["schedule"];
            (is_new && is_right).then_some(())
        });
    }
    agent.wait_history(&rig, "clock", |runs| runs.len() == 1);
}

#[test]
fn a_job_that_may_make_no_pod_goes_with_its_cronjob_and_never_makes_one() {
    let Some(rig) = Rig::start("controller::podless") else {
        return;
    };
    let agent = rig.agent(&[]);
    rig.scheduled("clock", doc! {"once": true, "schedule": "0 0 1 1 *"});
    is_handed_over(&rig, &agent);
    agent.wait_history(&rig, "clock", |runs| runs.len() == 1);
    wait_for("the end of its Pod", LONG, || {
        rig.cluster.list("pod").is_empty().then_some(())
    });
    rig.cluster.apply(&json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }));
    let minute = UNIX_EPOCH.elapsed().unwrap().as_secs() / 60 + 1;
    let (job, from) = (format!("{CRONJOB}-{minute}"), format!("cronjob/{CRONJOB}"));
    wait_for("a quota that is kept", LONG, || {
        let quota = rig.cluster.get("resourcequota", "none");
        quota["status"]["hard"].is_object().then_some(())
    });
    rig.cluster.ask(["create", "job", &job, "--from", &from]);
    wait_for("a Pod that is refused", LONG, || {
        let events = rig.cluster.list("event");
        let is_it = |event: &Value| event["message"].to_string().contains("exceeded quota");
        events.iter().any(is_it).then_some(())
    });
    agent.does(&rig, &["stop", "clock"]);
    wait_for("the end of the Job", LONG, || {
        rig.names("jobs").is_empty().then_some(())
    });
    rig.cluster.ask(["delete", "resourcequota", "none"]);
    stays("no Pod of a stopped bot", AT_LEAST, || {
        rig.cluster.list("pod").is_empty()
    });
    assert!(rig.names("cronjobs").is_empty());
}
