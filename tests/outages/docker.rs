//! The Docker daemon: the way to it is cut, not the daemon, so that its containers can be looked at.

use std::time::Duration;

use crate::SLOW;
use crate::world::{RECOVERY, World};
use tests::door::Way;

#[test]
fn bots_run_on_with_a_daemon_that_fails_and_changes_wait_for_it() {
    let Some(mut world) = World::running("outages::docker_says") else {
        return;
    };
    for way in [Way::Answers(500), Way::Answers(403), Way::Answers(503)] {
        world.outage("docker", way);
    }
    world.makes_good();
}

#[test]
fn bots_run_on_with_a_daemon_that_cannot_be_reached_and_changes_wait_for_it() {
    let Some(mut world) = World::running("outages::docker_away") else {
        return;
    };
    for way in [Way::Refused, Way::Slow(Duration::from_secs(20)), Way::Hangs] {
        world.outage("docker", way);
    }
    world.flaps("docker");
    world.makes_good();
}

#[test]
fn a_daemon_that_takes_its_time_is_not_taken_for_gone() {
    let Some(mut world) = World::running("outages::docker_slow") else {
        return;
    };
    world.door("docker", SLOW);
    world.say_new();
    // Its next listing is asked for within a second, and takes two answers.
    let listed = || {
        let told = world.told("docker").expect("an answer");
        assert_eq!(told["ok"], true, "{told:#}");
        (world.came("docker") >= 4).then_some(())
    };
    tests::wait_for("several answers", Duration::from_secs(60), listed);
    world.runs_on();
    world.door("docker", Way::Open);
    world.becomes_ready(RECOVERY);
    world.makes_good();
}
