//! A clock of the host that jumps, by libfaketime, which stands between the agent and the clock that tells the time of day;
//! the clock that only runs on is the kernel's own. Containers and servers have the true time.

use std::fs;
use std::path::{Path, PathBuf};

use tests::skip;
use tests::stack::LONG;

use crate::world::{RECOVERY, World};

/// Where Debian and Fedora have the library.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];
/// What a store still takes as the time of a request.
const LITTLE: [&str; 2] = ["+600s", "-600s"];

/// The time of day as the agent sees it: a file that says how far it is off.
struct Clock(PathBuf);

impl Clock {
    fn of(world: &mut World, test: &str) -> Option<Self> {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
        let Some(library) = library else {
            skip(
                test,
                "libfaketime is not installed: tests/setup/all.sh does it as root on Debian",
            );
            return None;
        };
        let clock = Self(world.stack.data().with_file_name("clock"));
        clock.is_off_by("+0s");
        let path = clock.0.to_str().expect("a path in UTF-8").to_owned();
        for (name, value) in [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", &path),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ] {
            world.stack.set(name, value);
        }
        Some(clock)
    }

    fn is_off_by(&self, what: &str) {
        eprintln!("the clock is off by {what}");
        let new = self.0.with_extension("new");
        fs::write(&new, what).expect("write the clock");
        fs::rename(new, &self.0).expect("set the clock");
    }
}

#[test]
fn a_clock_that_jumps_stops_nothing_and_keeps_nothing_from_being_done() {
    let test = "outages::clock";
    let Some(mut world) = World::new(test) else {
        return;
    };
    let Some(clock) = Clock::of(&mut world, test) else {
        return;
    };
    world.stack.launch();
    world.settles();
    for off in LITTLE {
        clock.is_off_by(off);
        world.say_new();
        world.makes_good();
        world.becomes_ready(RECOVERY);
        world.stack.kill();
        world.stack.launch();
        world.becomes_ready(LONG);
        world.makes_good();
    }
    assert!(!world.stack.said().contains("lease was lost"));
    clock.is_off_by("+0s");
    world.makes_good();
}

#[test]
fn a_clock_that_is_so_wrong_that_the_store_refuses_it_is_told_and_set_right_it_goes_on() {
    let test = "outages::clock_far";
    let Some(mut world) = World::new(test) else {
        return;
    };
    let Some(clock) = Clock::of(&mut world, test) else {
        return;
    };
    world.stack.launch();
    world.settles();
    for off in ["+30d", "-30d"] {
        clock.is_off_by(off);
        world.say_new();
        let away = world.is_told("store");
        let why = away["why"].to_string();
        assert!(why.contains("clock"), "{why}");
        world.runs_on();
        clock.is_off_by("+0s");
        world.becomes_ready(RECOVERY);
        world.makes_good();
    }
}
