//! Ticks whose controller is killed behind their gate, or whose keys have ended.

use std::time::Duration;

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::cluster::LONG;
use tests::door::Way;
use tests::wait_for;

use crate::clock::wait;
use crate::rig::Rig;

const CRONJOB: &str = "schedule-default-daily";
/// So much later comes each answer of the API server: time to see a Pod behind its gate, and to kill who made it.
const LATE: Duration = Duration::from_secs(10);

/// How each run came out that history tells of.
fn exits(runs: &[Value]) -> Vec<&Value> {
    runs.iter().map(|run| &run["exit"]).collect()
}

#[test]
fn a_tick_cut_off_behind_its_gate_and_one_with_keys_that_have_ended_run_all_the_same_and_once() {
    let settings = [("THE0_FETCH_DEADLINE", "2s")];
    let Some(rig) = Rig::start("controller::ticks") else {
        return;
    };
    let mut agent = rig.agent(&settings);
    rig.api.is(Way::Slow(LATE));
    // It is due now, and then in a long time.
    rig.scheduled("daily", doc! {"once": true, "schedule": "0 0 1 1 *"});
    let gated = wait_for("a Pod behind its gate", LONG, || {
        let pod = rig.cluster.list("pod").pop()?;
        pod["spec"]["schedulingGates"].is_array().then_some(pod)
    });
    agent.kill();
    rig.api.is(Way::Open);
    agent.start(&rig);
    agent.wait_history(&rig, "daily", |runs| exits(runs) == [&json!(0)]);
    assert_eq!(rig.saved("daily", "count").as_deref(), Some("1"));
    wait_for("the end of the Pod that was made first", LONG, || {
        let there = rig.cluster.get("pod", gated["metadata"]["name"].as_str()?);
        (there["metadata"]["uid"] != gated["metadata"]["uid"]).then_some(())
    });

    // The cluster's clock has it, and nobody renews the keys.
    wait("CronJob", &agent, || {
        let cron = rig.cluster.get("cronjob", CRONJOB);
        (cron["spec"]["suspend"] == false).then_some(())
    });
    agent.kill();
    let keys = wait_for("its keys", LONG, || {
        let mut all = rig.names("secrets").into_iter();
        all.find(|name| name.ends_with("-keys") && !name.contains("-t1"))
    });
    let ended = json!({"MINIO_ACCESS_KEY": "ended", "MINIO_SECRET_KEY": "ended-too"});
    let ended = json!({"stringData": {"keys.json": ended.to_string()}}).to_string();
    let words = ["patch", &keys, "--type=merge", "--patch", &ended];
    rig.cluster.ask(words);
    // As at the minute that comes.
    let minute = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60 + 1;
    let (job, from) = (format!("{CRONJOB}-{minute}"), format!("cronjob/{CRONJOB}"));
    rig.cluster.ask(["create", "job", &job, "--from", &from]);
    wait_for("a tick that has failed", LONG, || {
        let is_failed = |pod: &Value| pod["status"]["phase"] == "Failed";
        rig.cluster.list("pod").iter().any(is_failed).then_some(())
    });
    agent.start(&rig);
    agent.wait_history(&rig, "daily", |runs| {
        let [first, second, third] = runs else {
            return false;
        };
        let is_told = second["message"] == "exit 112, the code could not be fetched";
        first["exit"] == 0 && second["exit"] == 112 && is_told && third["exit"] == 0
    });
    assert_eq!(
        rig.saved("daily", "count").as_deref(),
        Some("2"),
        "{}",
        agent.said()
    );
}
