//! Agents that are killed between the steps of a job, and a NATS that is away at its end.

use serde_json::json;
use tests::stack::LONG;
use tests::wait_for;

use crate::rig::{Rig, SLOW, is_success};

#[test]
fn an_agent_killed_at_each_step_leaves_a_job_that_runs_once_and_is_told_of_once() {
    let Some(mut rig) = Rig::start("jobs::kills", &[]) else {
        return;
    };
    for (n, moment) in ["claimed", "made", "running", "over", "saved", "closed"]
        .iter()
        .enumerate()
    {
        let id = rig.job(&format!("j{n}"), SLOW, &json!({"seconds": 2}));
        let name = rig.container(&id);
        let status = |rig: &Rig| rig.host.docker.inspect(&name)["State"]["Status"].clone();
        let is_there = || {
            match *moment {
                "claimed" => rig.show(&id)?["claimed_at"].is_string(),
                "made" => !status(&rig).is_null(),
                "running" => status(&rig) == "running",
                "over" => status(&rig) == "exited" || rig.result(&id).is_some(),
                "saved" => rig.result(&id).is_some(),
                _ => rig.show(&id)?["ended_at"].is_string(),
            }
            .then_some(())
        };
        wait_for(&format!("a job that is {moment}"), LONG, is_there);
        rig.host.kill();
        rig.host.begin();
        rig.becomes(&id, "completed");
        is_success(&rig.is_told(&id), &id);
        rig.is_gone(&id);
        assert_eq!(rig.result(&id).unwrap()["data"]["slept"], true);
        let printed = rig.host.ok(&["job", "logs", &id]);
        assert_eq!(printed.matches("BEGAN").count(), 1, "{moment}: {printed}");
    }
}

#[test]
fn a_job_whose_container_goes_while_it_runs_has_failed_and_is_not_run_again() {
    let Some(rig) = Rig::start("jobs::gone", &[]) else {
        return;
    };
    let id = rig.job("gone", SLOW, &json!({"seconds": 10_000}));
    let container = rig.host.docker.container(rig.container(&id));
    container.says("BEGAN", LONG);
    container.remove();
    let job = rig.becomes(&id, "failed");
    assert!(job["error"].as_str().unwrap().contains("has gone"), "{job}");
    assert_eq!(rig.is_told(&id)["success"], false);
    assert_eq!(rig.starts(&id), 1);
}

#[test]
fn the_end_of_a_job_is_told_when_nats_is_back() {
    let Some(mut rig) = Rig::start("jobs::away", &[]) else {
        return;
    };
    let id = rig.job("away", SLOW, &json!({"seconds": 3}));
    let container = rig.container(&id);
    rig.host.docker.container(container).says("BEGAN", LONG);
    rig.host.nats.as_mut().unwrap().stop();
    let job = rig.becomes(&id, "completed");
    assert_eq!(job["told"], false);
    rig.is_gone(&id);
    rig.host.nats.as_mut().unwrap().start_again();
    is_success(&rig.is_told(&id), &id);
}
