//! What keeps bots from running, and an API server that is away.

use std::time::Duration;

use mongodb::bson::doc;
use tests::cluster::LONG;
use tests::door::Way;
use tests::{stays, wait_for};

use crate::rig::Rig;

#[test]
fn what_keeps_a_pod_from_its_work_is_told() {
    let Some(rig) = Rig::start("controller::trouble") else {
        return;
    };
    let agent = rig.agent(&[("THE0_MAX_MEMORY", "100Ti")]);
    let told = |id: &str, what: &str| {
        agent.wait_row(&rig, id, |row| {
            let reason = row["reason"].as_str().unwrap_or_default();
            reason.contains(what).then_some(())
        });
    };
    rig.bot("large", doc! {"memory_limit": "90Ti"});
    told("large", "cannot be scheduled");
    let pod = rig.bot("bare", doc! {});
    pod.ready();
    rig.remove("large");
    rig.cluster.pod("default-large").gone();
    rig.bot("huge", doc! {"memory_limit": "200Ti"});
    told("huge", "config.memory_limit asks for");
    assert!(rig.cluster.pod("default-huge").get().is_null());
}

#[test]
fn an_image_that_is_not_there_is_told_and_a_change_goes_on() {
    let Some(rig) = Rig::start("controller::image") else {
        return;
    };
    let agent = rig.agent(&[("RUNTIME_IMAGE", "the0.test/none:1")]);
    let pod = rig.bot("lost", doc! {});
    agent.wait_row(&rig, "lost", |row| {
        let reason = row["reason"].as_str().unwrap_or_default();
        reason.contains("container fetch: ErrImage").then_some(())
    });
    rig.remove("lost");
    pod.gone();
}

#[test]
fn bots_run_on_while_the_api_server_is_away_and_changes_wait() {
    let Some(rig) = Rig::start("controller::away") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.bot("steady", doc! {});
    pod.ready();
    let before = pod.get()["metadata"]["uid"].clone();
    rig.api.is(Way::Refused);
    wait_for("an API server that is away", LONG, || {
        (agent.depends("kubernetes")["ok"] == false).then_some(())
    });
    rig.bot("late", doc! {});
    rig.remove("steady");
    stays("bots as they are", Duration::from_secs(60), || {
        let there = pod.get();
        there["metadata"]["uid"] == before
            && there["metadata"]["deletionTimestamp"].is_null()
            && rig.cluster.pod("default-late").get().is_null()
    });
    assert_eq!(
        agent.said().matches("bots run on, changes wait").count(),
        1,
        "{}",
        agent.said()
    );
    rig.api.is(Way::Open);
    rig.cluster.pod("default-late").ready();
    pod.gone();
    assert_eq!(rig.saved("steady", "last").as_deref(), Some("words"));
}
