//! The object store, for the agent and for what runs in containers.

use crate::SLOW;
use crate::world::World;
use tests::door::Way;

#[test]
fn bots_run_on_with_a_store_that_fails_and_what_they_count_is_saved() {
    let Some(mut world) = World::running("outages::store_says") else {
        return;
    };
    for way in [Way::Answers(500), Way::Answers(403), Way::Answers(503)] {
        world.outage("store", way);
    }
    world.makes_good();
}

#[test]
fn bots_run_on_with_a_store_that_cannot_be_reached_and_what_they_count_is_saved() {
    let Some(mut world) = World::running("outages::store_away") else {
        return;
    };
    for way in [Way::Refused, SLOW, Way::Hangs] {
        world.outage("store", way);
    }
    world.flaps("store");
    world.makes_good();
}
