//! Commands about all of it: `agent drain`, and those that look at the cluster themselves, `agent doctor` and `agent restore`.

use std::time::Duration;

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::cluster::LONG;
use tests::text;

use crate::rig::{Agent, Rig};

/// So long nothing happens, and nobody looks at a schedule any more.
const QUIET: Duration = Duration::from_secs(5);

/// The findings of `agent doctor` on the cluster, as `verdict check: found`.
fn findings(agent: &Agent, rig: &Rig) -> Vec<String> {
    let namespace = rig.cluster.namespace();
    let words = [
        "doctor",
        "--controller",
        "--namespace",
        namespace,
        "-o",
        "json",
    ];
    let output = agent.output(rig, &words);
    let sheet: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(sheet["ok"], output.status.success());
    let checks = sheet["checks"].as_array().expect("checks").iter();
    let ours = checks.filter(|check| check["part"] == "kubernetes");
    let word = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let line = |check| {
        format!(
            "{} {}: {}",
            word(check, "verdict"),
            word(check, "check"),
            word(check, "found")
        )
    };
    let lines: Vec<String> = ours.map(line).collect();
    assert!(!sheet.to_string().contains("docker"), "{sheet:#}");
    lines
}

#[test]
fn a_doctor_finds_a_cluster_well_and_says_what_keeps_bots_from_it() {
    let Some(rig) = Rig::start("controller::doctor") else {
        return;
    };
    let agent = rig.agent(&[]);
    let namespace = rig.cluster.namespace();
    let well = findings(&agent, &rig);
    let expected = [
        format!("ok server: 1.34, namespace {namespace}"),
        "ok rights: all that are needed".to_owned(),
        "ok pods: a bot's Pod would be taken".to_owned(),
    ];
    assert_eq!(well[..3], expected, "{well:#?}");
    assert!(well[3].starts_with("ok images: "), "{well:#?}");
    rig.cluster.apply(&json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }));
    tests::wait_for("the quota's word", LONG, || {
        let found = findings(&agent, &rig);
        (found[2].starts_with("failed pods: would not be taken: a Pod: ")
            && found[2].contains("exceeded quota"))
        .then_some(())
    });
    let found = findings(&rig.stranger(), &rig);
    let rights = "failed rights: not allowed: pods: create, delete, get, list, patch, watch; pods/log: get; \
                  secrets: create, delete, list, patch; cronjobs: create, delete, list, patch, watch; jobs: delete, list";
    assert_eq!(found[1], rights, "{found:#?}");
    assert!(
        rig.names("pods").is_empty() && rig.names("secrets").is_empty(),
        "nothing was made"
    );
}

#[test]
fn a_drain_is_over_when_the_clusters_clock_starts_nothing_any_more() {
    let Some(rig) = Rig::start("controller::drain") else {
        return;
    };
    let agent = rig.agent(&[]);
    // Its next tick is months away: nothing but the order makes anybody look at it.
    let yearly = doc! {"once": true, "schedule": "0 0 1 1 *"};
    rig.scheduled("clock", yearly);
    let cronjob = || !rig.names("cronjobs").is_empty();
    tests::wait_for("the CronJob", LONG, || cronjob().then_some(()));
    tests::stays("its CronJob", QUIET, cronjob);
    let drained = agent.prints(&rig, &["drain"]);
    assert!(drained.contains("all bots have ended"), "{drained}");
    assert!(!cronjob(), "{drained}");
    agent.does(&rig, &["start", "--all"]);
    tests::wait_for("the CronJob again", LONG, || cronjob().then_some(()));
    tests::stays("its CronJob", QUIET, cronjob);
    agent.does(&rig, &["stop", "clock"]);
    tests::wait_for("its end", LONG, || (!cronjob()).then_some(()));
}

#[test]
fn a_backup_is_not_put_back_under_bots_that_run_as_pods() {
    let Some(rig) = Rig::start("controller::restore") else {
        return;
    };
    let mut agent = rig.agent(&[]);
    let pod = rig.bot("counter", doc! {"word": "kept"});
    rig.wait_saved("counter", "count", "1");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let file = file.to_str().unwrap();
    agent.does(&rig, &["backup", file]);
    agent.kill();
    let restore = ["restore", file, "--force"];
    let refused = agent.output(&rig, &restore);
    let said = text(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("bots of it run: default-counter"),
        "{said}"
    );
    pod.delete();
    pod.release();
    pod.gone();
    rig.remove("counter");
    rig.store
        .client()
        .remove("bot-state", "counter/state.tar.gz");
    let done = agent.prints(&rig, &restore);
    assert!(done.contains("is put back"), "{done}");
    agent.start(&rig);
    rig.wait_saved("counter", "count", "2");
}
