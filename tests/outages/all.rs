//! All at once, while bots run.

use crate::world::{ALL, RECOVERY, World};
use tests::door::Way;

#[test]
fn bots_run_on_with_all_of_it_away_and_what_was_said_is_made_good() {
    let Some(mut world) = World::running("outages::all") else {
        return;
    };
    world.all_doors(Way::Refused);
    world.say_new();
    for name in ALL {
        world.is_told(name);
    }
    world.runs_on();
    world.all_doors(Way::Open);
    world.becomes_ready(RECOVERY);
    world.makes_good();
}

#[test]
fn an_agent_that_ends_while_all_is_away_stops_nothing_and_the_next_one_goes_on() {
    let Some(mut world) = World::running("outages::all_killed") else {
        return;
    };
    world.all_doors(Way::Refused);
    world.say_new();
    world.stack.kill();
    world.stack.launch();
    for name in ALL {
        world.is_told(name);
    }
    world.runs_on();
    world.all_doors(Way::Open);
    world.becomes_ready(RECOVERY);
    world.makes_good();
}
