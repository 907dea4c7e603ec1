//! Jobs whose controller stands still, whose store is away, or whose node is lost.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::cluster::{LONG, container};
use tests::door::Way;
use tests::{stays, wait_for};

use crate::jobs::{SLOW, Site, TIME, TOO_LONG, ask, let_end, put};
use crate::lost::Lost;

/// So much later comes each answer of the API server, where a test needs the time between two of them.
const LATE: Duration = Duration::from_secs(2);
/// The same where several commands have to be done in that time.
const LATER: Duration = Duration::from_secs(8);
/// For so long, in which it is looked at several times, nothing may become of a job.
const AT_LEAST: Duration = Duration::from_secs(5);

fn uid(pod: &Value) -> &Value {
    &pod["metadata"]["uid"]
}

/// Stops the controller when the Pod of a job is made and not let go; gives the job.
fn stop_at_the_gate(site: &Site) -> &'static str {
    for id in ["begun", "again", "third"] {
        site.rig.api.is(Way::Slow(LATER));
        site.job(id, SLOW, &json!({}));
        let pod = site.pod(id);
        site.agent.signal(Signal::SIGSTOP);
        if pod.get()["spec"]["schedulingGates"].is_array() {
            return id;
        }
        // Too late, on a machine that is slow.
        site.agent.signal(Signal::SIGCONT);
        site.rig.api.is(Way::Open);
        let_end(&site.runs(id));
        site.ends(id, "completed");
    }
    panic!("no Pod was behind its gate\n{}", site.agent.said());
}

#[test]
fn of_two_controllers_whichever_stands_still_jobs_run_once_and_are_told_of_once() {
    let Some(site) = Site::start("controller::jobs_paused", &[("THE0_JOBS", "4")]) else {
        return;
    };
    let first = &site.agent;
    first.says("this agent has the lease and acts");
    let (door, kubeconfig) = site.rig.lane("second");
    let nats = site.nats.uri();
    let second = [("NATS_URL", nats.as_str()), ("KUBECONFIG", &kubeconfig)];
    let second = site.rig.agent(&second);
    second.says("this one stands by");
    site.job("long", SLOW, &json!({}));
    let long = site.runs("long");

    // One job runs, and of another one the Pod is made and not let go.
    let begun = stop_at_the_gate(&site);
    second.says("this agent has the lease and acts");
    let_end(&long);
    let_end(&site.runs(begun));
    for id in ["long", begun] {
        site.ends(id, "completed");
    }
    site.rig.api.is(Way::Open);
    first.signal(Signal::SIGCONT);
    first.says("has the lease: this one stands by");

    // The other way round, with one that is just being judged.
    site.job("over", SLOW, &json!({}));
    let over = site.runs("over");
    let held = over.hold();
    door.is(Way::Slow(LATE));
    let_end(&over);
    over.wait("its end", |pod| {
        (pod["status"]["phase"] == "Succeeded").then_some(())
    });
    second.signal(Signal::SIGSTOP);
    drop(held);
    let acts = "this agent has the lease and acts";
    wait_for("the first one's turn again", LONG, || {
        (first.said().matches(acts).count() == 2).then_some(())
    });
    site.ends("over", "completed");
    second.signal(Signal::SIGCONT);
    second.says("has the lease: this one stands by");

    let all = ["long", begun, "over"];
    site.leaves_nothing(&all);
    for id in all {
        let told = json!({"backtest_id": id, "success": true});
        assert_eq!(site.told(id), [told]);
        assert_eq!(site.result(id).unwrap()["data"]["slept"], true);
        assert_eq!(site.printed(id).matches("BEGAN").count(), 1, "{id}");
    }
}

#[test]
fn a_store_that_is_away_as_a_job_ends_costs_neither_its_result_nor_its_outcome() {
    let settings = [("THE0_JOB_TIME", TIME)];
    let Some(mut site) = Site::start("controller::jobs_store", &settings) else {
        return;
    };
    site.job("kept", SLOW, &json!({}));
    let name = site.runs("kept").name;
    // Its code is there, and it comes when nothing can be asked for.
    put(&site.rig, "late", SLOW);
    site.rig.store.stop();
    ask(&site.nats, "late", &json!({"seconds": 1}));
    let pod = site.rig.cluster.pod(name);
    let_end(&pod);
    pod.wait("a program that has ended", |pod| {
        let bot = container(pod, "bot");
        (!bot["state"]["terminated"].is_null()).then_some(())
    });
    site.wait_row("late", |row| row["status"] == "running");
    // Its time is over, too, and that is looked at.
    site.ages("kept", TOO_LONG);
    stays("jobs that are not judged", AT_LEAST, || {
        let is_running = |id: &&str| site.row(id)["status"] == "running";
        ["kept", "late"].iter().all(is_running)
    });
    site.rig.store.start_again();
    for id in ["kept", "late"] {
        site.ends(id, "completed");
        let told = json!({"backtest_id": id, "success": true});
        assert_eq!(site.told(id), [told]);
        assert_eq!(site.result(id).unwrap()["data"]["slept"], true);
        assert_eq!(site.printed(id).matches("BEGAN").count(), 1, "{id}");
    }
    site.leaves_nothing(&["kept", "late"]);
}

#[test]
fn a_job_on_a_lost_node_is_not_run_again_and_has_failed_when_the_node_is_known_to_be_gone() {
    let Some(mut site) = Site::start("controller::jobs_node", &[]) else {
        return;
    };
    site.agent.kill();
    let node = Lost::new(&site.rig);
    fs::write(site.rig.template(), node.template()).unwrap();
    site.agent.start(&site.rig);
    site.job("far", SLOW, &json!({}));
    let name = site.pod("far").name;
    let pod = site.rig.cluster.pod(name);
    pod.wait("a Pod on the node", |pod| {
        (pod["spec"]["nodeName"] == node.name.as_str()).then_some(())
    });
    node.runs(&pod.name);
    let first = uid(&pod.get()).clone();
    node.is("Unknown");
    pod.wait("a Pod that is to end", |pod| {
        (!pod["metadata"]["deletionTimestamp"].is_null()).then_some(())
    });
    // One that has not seen all this decides as well.
    site.agent.kill();
    site.agent.start(&site.rig);
    site.agent.says("this agent has the lease and acts");
    stays(
        "a Pod of which nobody knows whether it runs",
        AT_LEAST,
        || *uid(&pod.get()) == first && site.row("far")["status"] == "running",
    );
    assert!(site.told("far").is_empty());

    node.remove();
    site.fails("far", "PodGC: node no longer exists");
    site.leaves_nothing(&["far"]);
    let said = site.agent.said();
    assert_eq!(said.matches("job far runs").count(), 1, "{said}");
}
