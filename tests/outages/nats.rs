//! Events.

use crate::SLOW;
use crate::world::World;
use tests::door::Way;

#[test]
fn bots_run_on_whatever_happens_to_events_and_each_is_heard_in_the_end() {
    let Some(mut world) = World::running("outages::nats") else {
        return;
    };
    for way in [Way::Refused, SLOW, Way::Hangs] {
        world.outage("nats", way);
    }
    world.flaps("nats");
    world.makes_good();
}
