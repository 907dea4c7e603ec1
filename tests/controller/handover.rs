//! Two controllers, of which one stands still while it hands a schedule over to the cluster's own clock.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant, UNIX_EPOCH};

use mongodb::bson::doc;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::cluster::LONG;
use tests::door::Way;
use tests::{skip, wait_for};

use crate::rig::{Rig, SCHEDULES};

const TEST: &str = "controller::handover";
const CRONJOB: &str = "schedule-default-clock";
/// So much later comes each answer to the controller that will stand still.
const LATE: Duration = Duration::from_secs(4);

/// Seconds since 1970.
fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[test]
fn a_cronjob_that_a_controller_makes_when_another_acts_starts_nothing_beside_its_runs() {
    let Some(rig) = Rig::start(TEST) else {
        return;
    };
    let (slow, kubeconfig) = rig.lane("first");
    slow.is(Way::Slow(Duration::from_secs(1)));
    let first = rig.agent(&[("KUBECONFIG", &kubeconfig)]);
    first.says("this agent has the lease and acts");
    let second = rig.agent(&[]);
    second.says("this one stands by");
    rig.scheduled("clock", doc! {"once": true, "schedule": "* * * * *"});

    // Its two Secrets are made, and its CronJob is on its way when everything stands still.
    first.says("its times are kept by a CronJob from now on");
    slow.is(Way::Slow(LATE));
    let is_of_cronjob = |name: &String| !name.contains("-t1");
    wait_for("Secrets of a CronJob", LONG, || {
        let secrets = rig.names("secrets");
        (secrets.iter().filter(|name| is_of_cronjob(name)).count() == 2).then_some(())
    });
    slow.is(Way::Hangs);
    sleep(LATE + Duration::from_secs(1));
    first.signal(Signal::SIGSTOP);
    assert!(rig.names("cronjobs").is_empty());
    let ran = rig.saved("clock", "count").unwrap();

    // The other one starts a tick that does not end.
    let due = i64::try_from(now()).unwrap();
    let longer = doc! {"$set": {"config.once": false, "next_execution_time": due}};
    assert_eq!(rig.mongo.update(SCHEDULES, doc! {"id": "clock"}, longer), 1);
    second.says("this agent has the lease and acts");
    let count = (ran.parse::<u32>().unwrap() + 1).to_string();
    rig.wait_saved("clock", "count", &count);
    assert_eq!(rig.names("pods").len(), 1);

    // It comes before a minute ends, and the other one hears of it after that.
    wait_for("some time before a minute", LONG, || {
        (now() % 60 < 52).then_some(())
    });
    let minute = now() / 60 * 60 + 60;
    let deaf = Duration::from_secs(minute - now() + 3);
    rig.api.is(Way::Slow(deaf));
    slow.is(Way::Open);
    let late = || Some(rig.cluster.get("cronjob", CRONJOB)).filter(|cron| !cron.is_null());
    let comes = Instant::now() + Duration::from_secs(10);
    let cron = loop {
        if let Some(cron) = late() {
            break cron;
        }
        if Instant::now() > comes {
            return skip(
                TEST,
                "what was to come late was given up: this machine has too much to do",
            );
        }
        sleep(Duration::from_millis(50));
    };
    wait_for("the minute", LONG, || (now() >= minute + 2).then_some(()));
    assert!(rig.names("jobs").is_empty(), "{cron:#}");
    assert_eq!(rig.names("pods").len(), 1);
    rig.api.is(Way::Open);
    wait_for("the end of the CronJob", LONG, || {
        rig.names("cronjobs").is_empty().then_some(())
    });

    // Nor does the first one switch it on when it goes on.
    first.signal(Signal::SIGCONT);
    first.says("has the lease: this one stands by");
    sleep(LATE);
    assert!(rig.names("cronjobs").is_empty() && rig.names("jobs").is_empty());
    assert_eq!(rig.names("pods").len(), 1);

    // What the other one has started is told once, and then the cluster's clock gets the schedule.
    let once = doc! {"$set": {"config.once": true}};
    assert_eq!(rig.mongo.update(SCHEDULES, doc! {"id": "clock"}, once), 1);
    let pod = rig.names("pods").remove(0);
    rig.cluster.ask(["delete", &pod, "--wait=false"]);
    wait_for("a CronJob that is switched on", LONG, || {
        let cron = rig.cluster.get("cronjob", CRONJOB);
        (cron["spec"]["suspend"] == false).then_some(())
    });
    second.wait_history(&rig, "clock", |runs| {
        // What was missed meanwhile is told by the tick that runs for it.
        let ran: Vec<&Value> = runs.iter().filter(|run| run["run"] != 0).collect();
        let ticks: BTreeSet<String> = ran.iter().map(|run| run["because"].to_string()).collect();
        !ran.is_empty() && ticks.len() == ran.len()
    });
    assert!(!second.said().contains("TWO Pods"), "{}", second.said());
}
