//! The database.

use crate::SLOW;
use crate::world::{RECOVERY, World};
use tests::door::Way;

#[test]
fn bots_run_on_whatever_the_database_does_and_what_was_said_is_made_good() {
    let Some(mut world) = World::running("outages::mongodb") else {
        return;
    };
    for way in [Way::Refused, SLOW, Way::Hangs] {
        world.outage("mongodb", way);
    }
    world.flaps("mongodb");
    world.makes_good();
}

#[test]
fn a_database_without_a_primary_is_waited_for() {
    let Some(mut world) = World::running("outages::primary") else {
        return;
    };
    world.stack.mongo.step_down(10);
    world.say_new();
    world.is_told("mongodb");
    world.runs_on();
    world.becomes_ready(RECOVERY);
    world.makes_good();
}
