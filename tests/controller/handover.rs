//! Two controllers, of which one stands still while it hands a schedule over to the cluster's own clock.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use mongodb::bson::doc;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::cluster::LONG;
use tests::door::{Door, Way};
use tests::{stays, wait_for};

use crate::late::is_handed_over;
use crate::rig::{Agent, Rig, SCHEDULES};

const CRONJOB: &str = "schedule-default-clock";
/// Bytes; nothing that is asked of the API server is longer, but a Pod, and a CronJob, which has a Pod in it.
const SMALL: usize = 4500;
/// So much later comes each answer about the Pod of a tick, so that it is seen long before a CronJob is asked for.
const LATE: Duration = Duration::from_secs(3);
/// For so long it is looked that it does nothing when it goes on.
const AT_LEAST: Duration = Duration::from_secs(5);

/// Seconds since 1970.
fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// The CronJob, if there is one.
fn cronjob(rig: &Rig) -> Option<Value> {
    Some(rig.cluster.get("cronjob", CRONJOB)).filter(|cron| !cron.is_null())
}

fn uid(cron: &Value) -> &Value {
    &cron["metadata"]["uid"]
}

/// Holds the next large thing that is asked for behind `door`. Whether it is the CronJob; the Pod of a tick, which comes
/// before that, goes on.
fn holds_the_cronjob(rig: &Rig, agent: &Agent, door: &Door) -> bool {
    door.is(Way::HoldsLarge(SMALL));
    wait_for("a Pod or a CronJob, on the way", LONG, || {
        (door.held() > 0).then_some(())
    });
    let said = agent.said();
    if said.contains("its times are kept by a CronJob from now on") {
        return true;
    }
    let before = rig.names("pods");
    door.is(Way::Slow(LATE));
    wait_for("the Pod of a tick", LONG, || {
        let is_new = |pod: &String| !before.contains(pod);
        rig.names("pods").iter().any(is_new).then_some(())
    });
    false
}

/// Stops the controller behind `door` when its CronJob is on its way and has not come.
fn stop_in_the_middle(rig: &Rig, agent: &Agent, door: &Door) {
    // Where a tick takes long, the next one comes before the CronJob, too.
    let is_held = (0..5).any(|_| holds_the_cronjob(rig, agent, door));
    assert!(is_held, "{}", agent.said());
    agent.signal(Signal::SIGSTOP);
    assert_eq!(cronjob(rig), None);
}

/// Lets it come, and the other controller hear of it only when a minute has begun; gives the CronJob.
fn let_come(rig: &Rig, door: &Door) -> Value {
    rig.api.is(Way::Hangs);
    door.is(Way::Open);
    let late = wait_for("a CronJob that comes late", LONG, || cronjob(rig));
    let minute = now() / 60 * 60 + 60;
    wait_for("the minute", LONG, || (now() >= minute + 3).then_some(()));
    assert!(rig.names("jobs").is_empty(), "{late:#}");
    rig.api.is(Way::Open);
    late
}

#[test]
fn a_cronjob_that_comes_late_of_a_controller_that_stood_still_starts_nothing() {
    let Some(rig) = Rig::start("controller::handover") else {
        return;
    };
    let (door, kubeconfig) = rig.lane("first");
    let first = rig.agent(&[("KUBECONFIG", &kubeconfig)]);
    first.says("this agent has the lease and acts");
    let second = rig.agent(&[]);
    second.says("this one stands by");
    rig.scheduled("clock", doc! {"once": true, "schedule": "* * * * *"});
    stop_in_the_middle(&rig, &first, &door);
    second.says("this agent has the lease and acts");

    let late = let_come(&rig, &door);
    wait_for("the end of the CronJob that came late", LONG, || {
        cronjob(&rig)
            .is_none_or(|cron| uid(&cron) != uid(&late))
            .then_some(())
    });
    // Nor does the first one switch it on, or make another, when it goes on.
    first.signal(Signal::SIGCONT);
    first.says("has the lease: this one stands by");
    stays("no CronJob of the one that stood still", AT_LEAST, || {
        cronjob(&rig).is_none_or(|cron| uid(&cron) != uid(&late))
    });

    // The cluster's clock gets the schedule from the one that acts, and each tick runs once.
    wait_for("a CronJob that is switched on", LONG, || {
        let cron = cronjob(&rig)?;
        (cron["spec"]["suspend"] == false).then_some(())
    });
    second.wait_history(&rig, "clock", |runs| {
        // What was missed meanwhile is told by the tick that runs for it.
        let ran: Vec<&Value> = runs.iter().filter(|run| run["run"] != 0).collect();
        let ticks: BTreeSet<String> = ran.iter().map(|run| run["because"].to_string()).collect();
        assert_eq!(ticks.len(), ran.len(), "{runs:#?}");
        ran.len() > 1
    });
    assert!(!second.said().contains("TWO Pods"), "{}", second.said());
}

#[test]
fn an_edit_that_comes_late_of_a_controller_that_stood_still_is_not_put_over_a_later_one() {
    let Some(rig) = Rig::start("controller::lateedit") else {
        return;
    };
    let (door, kubeconfig) = rig.lane("edits");
    let first = rig.agent(&[("KUBECONFIG", &kubeconfig)]);
    first.says("this agent has the lease and acts");
    let second = rig.agent(&[]);
    second.says("this one stands by");
    // It is due now, and then in a long time.
    rig.scheduled("clock", doc! {"once": true, "schedule": "0 0 1 1 *"});
    is_handed_over(&rig, &first);
    first.wait_history(&rig, "clock", |runs| runs.len() == 1);
    let digest =
        || cronjob(&rig).map(|cron| cron["metadata"]["annotations"]["the0.app/digest"].clone());
    let edit = |word: &str| {
        let word = doc! {"$set": {"config.word": word}};
        assert_eq!(rig.mongo.update(SCHEDULES, doc! {"id": "clock"}, word), 1);
    };
    let changes = |before: &Option<Value>| {
        wait_for("a CronJob that is changed", LONG, || {
            let now = digest();
            (now.is_some() && now != *before).then_some(now)
        })
    };
    let begun = digest();
    door.is(Way::HoldsLarge(SMALL));
    edit("one");
    wait_for("an edit on the way", LONG, || {
        (door.held() > 0).then_some(())
    });
    first.signal(Signal::SIGSTOP);
    assert_eq!(digest(), begun);

    second.says("this agent has the lease and acts");
    let one = changes(&begun);
    edit("two");
    let two = changes(&one);
    door.is(Way::Open);
    stays("the later edit", AT_LEAST, || digest() == two);
    first.signal(Signal::SIGCONT);
    first.says("has the lease: this one stands by");
    stays("the later edit", AT_LEAST, || digest() == two);
}
