//! The soak: bots that write numbers while documents change, events come again, servers are cut off and slow, and agents,
//! `sync`, supervisors, containers and the Docker daemon are killed at random. At its end, with everything healed:
//!
//! * no number that was seen in the store was ever lost from it, and the last one written is there; of the lines of a life the log
//!   has each once, up to the last it has;
//! * no number was written by two instances of a bot, and no two of them ran at one time;
//! * every bot that is wanted runs, once, on its last document; of one that is not, nothing is left;
//! * no value of a bot's parameters and no key is in what the agents have said.
//!
//! The same with Pods of a cluster, where there is one: there Pods are deleted, and the API server and the kubelet are away.
//! There bots are asked too, and what is answered is not older than what is saved; schedules run, each tick once; and
//! history has each run, once.
//!
//! 40 seconds of each in `make test`, 10 minutes in `make soak`; `THE0_SOAK_SECONDS` and `THE0_SOAK_SEED` say otherwise. The seed
//! decides what is done and in which order; when it meets what is up to the machine. What was done is in a journal, whose
//! path is told, and which stays when the soak fails, beside what the agents said.

#[path = "soak/acts.rs"]
mod acts;
#[path = "soak/agents.rs"]
mod agents;
#[path = "soak/dice.rs"]
mod dice;
#[path = "soak/end.rs"]
mod end;
#[path = "soak/journal.rs"]
mod journal;
#[path = "soak/lines.rs"]
mod lines;
#[path = "soak/pods.rs"]
mod pods;
#[path = "soak/pods_end.rs"]
mod pods_end;
#[path = "soak/questions.rs"]
mod questions;
#[path = "controller/rig.rs"]
#[expect(dead_code, reason = "the tests of the controller use all of it")]
mod rig;
#[path = "soak/ticks.rs"]
mod ticks;
#[path = "soak/watch.rs"]
mod watch;
#[path = "soak/world.rs"]
mod world;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dice::Dice;
use journal::Journal;
use world::World;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}: give a number")),
    )
}

fn settings() -> (u64, Duration) {
    let seed = number("THE0_SOAK_SEED").unwrap_or_else(dice::seed);
    let length = Duration::from_secs(number("THE0_SOAK_SECONDS").unwrap_or(40));
    (seed, length)
}

/// Both want the machine for themselves.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn whatever_is_cut_killed_and_changed_nothing_acknowledged_is_lost_and_nothing_runs_twice() {
    let (seed, length) = settings();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let journal = Journal::new(seed, length);
    let Some(mut world) = World::start(journal, length) else {
        return;
    };
    let mut dice = Dice::new(seed);
    let end = Instant::now() + length;
    while Instant::now() < end {
        world.heal_what_is_due();
        world.act(&mut dice);
        world.watch.holds();
        std::thread::sleep(Duration::from_millis(dice.between(200, 1500)));
    }
    world.settle();
    world.finish();
}

#[test]
fn whatever_is_cut_killed_and_changed_in_a_cluster_nothing_acknowledged_is_lost_and_nothing_runs_twice()
 {
    let (seed, length) = settings();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(rig) = rig::Rig::start("soak::pods") else {
        return;
    };
    let journal = Journal::new(seed, length);
    let Some(mut pods) = pods::Pods::start(rig, journal, length) else {
        return;
    };
    let mut dice = Dice::new(seed);
    let end = Instant::now() + length;
    while Instant::now() < end {
        pods.heal(|until| until <= Instant::now());
        pods.act(&mut dice);
        pods.watch.holds();
        std::thread::sleep(Duration::from_millis(dice.between(200, 1500)));
    }
    pods.settle();
    pods.finish();
}
