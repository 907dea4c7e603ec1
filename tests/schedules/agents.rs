//! Agents that are killed at each step, and two of which one stands still: no tick runs twice, none is lost in silence.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tests::door::{Door, Way};
use tests::stack::{LONG, Stack};
use tests::{Process, read, wait_for};

use crate::rig::{ADDS, Rig};

/// How far a tick is, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Claimed,
    Started,
    Running,
    Ended,
    Over,
}

fn is_at(rig: &Rig, id: &str, step: Step, after: i64) -> bool {
    let Some((at, word)) = rig.tick(id) else {
        return false;
    };
    let running = |is: bool| {
        let name = format!("the0-{}.{id}.{at}", rig.stack.name());
        let found = rig.stack.docker.container(name).inspect();
        found["State"]["Running"] == is && found["State"]["Status"] != "created"
    };
    at > after
        && match step {
            Step::Claimed => word == "claimed",
            Step::Started => word == "started",
            Step::Running => word == "started" && running(true),
            Step::Ended => running(false),
            // However soon the next one is: what was started before that is over then.
            Step::Over => {
                let is_before = |of: &i64| after < *of && *of < at;
                word == "completed" || rig.ticks(id).iter().any(is_before)
            }
        }
}

#[test]
fn an_agent_that_is_killed_at_any_step_leaves_a_tick_that_runs_once_or_is_told_lost() {
    let Some(mut rig) = Rig::start("schedules::kills") else {
        return;
    };
    let config = doc! {"schedule": "*/4 * * * * *", "lasts": 1};
    let id = rig.schedule("killed", ADDS, None, config);
    let mut last = 0;
    for step in [
        Step::Claimed,
        Step::Started,
        Step::Running,
        Step::Ended,
        Step::Over,
    ] {
        rig.stack.begin();
        let end = Instant::now() + LONG;
        while !is_at(&rig, &id, step, last) {
            assert!(
                Instant::now() < end,
                "{step:?}: {}\n{}",
                rig.document(&id),
                rig.stack.said()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        rig.stack.kill();
        last = rig.tick(&id).unwrap().0;
    }
    rig.stack.begin();
    rig.completed(&id, last);
    rig.stack.end();
    let (saved, ticks) = (rig.stack.saved(&id), rig.ticks(&id));
    assert!(ticks.len() >= 4, "{ticks:?}");
    let most = u64::try_from(ticks.len()).unwrap();
    assert!(saved <= most, "{saved} runs of {ticks:?}");
}

#[test]
fn an_agent_killed_between_the_permit_and_the_start_leaves_a_tick_that_is_told_and_runs_once_at_most()
 {
    let Some(mut rig) = Rig::start("schedules::permit") else {
        return;
    };
    let socket = tempfile::tempdir().unwrap();
    let host = std::env::var("DOCKER_HOST");
    let host = host.unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    let door = Door::before_socket(&socket.path().join("docker.sock"), &host);
    rig.stack.set("DOCKER_HOST", door.address());
    door.is(Way::Keeps("/start"));
    let id = rig.schedule("kept", ADDS, None, doc! {"schedule": "*/6 * * * * *"});
    rig.stack.begin();
    let (at, _) = rig.until(&id, "a tick that may start", |_, word| word == "started");
    wait_for("the call that starts it", LONG, || {
        (door.kept() > 0).then_some(())
    });
    let name = format!("the0-{}.{id}.{at}", rig.stack.name());
    let found = rig.stack.docker.container(name).inspect();
    assert_eq!(found["State"]["Status"], "created", "{found:#}");
    rig.stack.kill();
    door.is(Way::Open);
    rig.stack.begin();
    rig.until(&id, "what became of it", |of, word| {
        of > at || (of == at && ["completed", "lost", "missed"].contains(&word))
    });
    rig.completed(&id, at);
    rig.stack.end();
    let starts = rig.starts(&id);
    assert!(starts.values().all(|times| *times == 1), "{starts:?}");
}

/// A second agent, with a data folder of its own.
struct Other {
    dir: TempDir,
    process: Process,
}

impl Other {
    fn start(stack: &Stack) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = stack.command(&["bot-scheduler", "--check-interval", "1s"]);
        command.env("THE0_DATA", dir.path().join("data"));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let process = Process::start(&mut command);
        Self { dir, process }
    }

    fn said(&self) -> String {
        read(&self.dir.path().join("log"))
    }
}

#[test]
fn of_two_agents_one_that_stands_still_between_claim_and_start_runs_nothing_twice() {
    let Some(mut rig) = Rig::start("schedules::paused") else {
        return;
    };
    rig.stack.begin();
    rig.stack.says("has the lease and acts");
    let other = Other::start(&rig.stack);
    wait_for("an agent that stands by", LONG, || {
        other.said().contains("stands by").then_some(())
    });
    let config = doc! {"schedule": "*/3 * * * * *", "lasts": 1};
    let id = rig.schedule("paused", ADDS, None, config);
    let (at, _) = rig.until(&id, "claim", |_, word| word == "claimed");
    rig.stack.agent().signal(Signal::SIGSTOP);
    let later = rig.completed(&id, at);
    assert!(
        other.said().contains("has the lease and acts"),
        "{}",
        other.said()
    );
    rig.stack.agent().signal(Signal::SIGCONT);
    rig.completed(&id, later + 6);
    let (saved, ticks) = (rig.stack.saved(&id), rig.ticks(&id));
    assert!(ticks.len() >= 3 && ticks.contains(&later), "{ticks:?}");
    let most = u64::try_from(ticks.len()).unwrap();
    assert!(saved <= most, "{saved} runs of {ticks:?}");
    drop(other.process);
}
