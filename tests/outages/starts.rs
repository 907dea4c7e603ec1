//! What is not there when the agent starts.

use tests::door::Way;
use tests::stack::LONG;

use crate::world::{ALL, RECOVERY, World};

#[test]
fn an_agent_that_finds_nothing_of_what_it_needs_tells_so_and_begins_as_it_comes() {
    let Some(mut world) = World::new("outages::starts") else {
        return;
    };
    world.all_doors(Way::Refused);
    world.stack.launch();
    for name in ALL {
        world.is_told(name);
    }
    for name in ALL {
        world.door(name, Way::Open);
        world.answers(name, RECOVERY);
    }
    world.settles();
    world.makes_good();
}

#[test]
fn an_agent_that_is_answered_by_nobody_tells_so_and_begins_when_it_is() {
    let Some(mut world) = World::new("outages::starts_hanging") else {
        return;
    };
    world.all_doors(Way::Hangs);
    world.stack.launch();
    for name in ALL {
        world.is_told(name);
    }
    world.all_doors(Way::Open);
    world.becomes_ready(LONG);
    world.settles();
    world.makes_good();
}

#[test]
fn an_agent_that_is_ended_while_it_waits_for_an_answer_ends_well() {
    let Some(mut world) = World::new("outages::starts_ended") else {
        return;
    };
    world.all_doors(Way::Hangs);
    world.stack.launch();
    world.stack.says("code, states and logs are in");
    world.stack.end();
}
