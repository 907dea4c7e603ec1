//! The harness itself: what it makes is really gone afterwards, and a private daemon is really another one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::containers::{Container, Daemon, Docker};
use tests::{SOON, run, text};

/// Ends at TERM like a program that has no handler, as `supervisor run` sees to it.
const SLEEP: [&str; 4] = ["run", "--", "/bin/sleep", "600"];

fn sleeper<'a>(docker: &'a Docker, image: &str) -> Container<'a> {
    let network = docker.network("net");
    let volume = format!("--volume={}:/state", docker.volume("state"));
    let options = [
        volume,
        format!("--network={network}"),
        "--no-healthcheck".into(),
    ];
    docker.run("sleeper", &options, image, &SLEEP)
}

/// Names of everything that carries `token`.
fn left(docker: &Docker, token: &str) -> String {
    let lists: [&[&str]; 3] = [&["ps", "--all"], &["network", "ls"], &["volume", "ls"]];
    let said = lists.map(|list| docker.ask(list));
    said.iter()
        .flat_map(|said| said.lines())
        .filter(|line| line.contains(token))
        .collect()
}

#[test]
fn what_a_test_made_goes_with_it_also_when_it_panics() {
    let name = "what_a_test_made_goes_with_it_also_when_it_panics";
    let Some(watcher) = Docker::here(name) else {
        return;
    };
    let Some(image) = watcher.image(name, "gcc13") else {
        return;
    };
    let mut token = String::new();
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let docker = Docker::here(name).expect("it was here a moment ago");
        token = docker.token().to_owned();
        let container = sleeper(&docker, &image);
        assert!(container.is_running() && !container.address().is_empty());
        assert!(left(&watcher, &token).contains("sleeper"));
        panic!("as a test does that fails");
    }));
    assert!(failed.is_err());
    assert_eq!(left(&watcher, &token), "");
}

#[test]
fn what_cannot_be_removed_is_told() {
    let name = "what_cannot_be_removed_is_told";
    let Some(watcher) = Docker::here(name) else {
        return;
    };
    let Some(image) = watcher.image(name, "gcc13") else {
        return;
    };
    let docker = Docker::here(name).expect("it was here a moment ago");
    let volume = docker.volume("state");
    let mount = format!("--volume={volume}:/state");
    let options = [mount, "--no-healthcheck".to_owned()];
    let container = watcher.run("guest", &options, &image, &SLEEP);
    let told = catch_unwind(AssertUnwindSafe(|| drop(docker))).expect_err("it stays");
    let told = told.downcast_ref::<String>().expect("words");
    assert!(
        told.contains("leaves behind") && told.contains("in use"),
        "{told}"
    );
    container.remove();
    watcher.ask(["volume", "rm", &volume]);
}

#[test]
fn a_container_is_looked_into_and_stopped() {
    let name = "a_container_is_looked_into_and_stopped";
    let Some(docker) = Docker::here(name) else {
        return;
    };
    let Some(image) = docker.image(name, "gcc13") else {
        return;
    };
    let container = sleeper(&docker, &image);
    let output = container.exec(&["/bin/sh", "-c", "echo hello >/state/file; cat /state/file"]);
    assert_eq!(text(&output.stdout), "hello\n", "{}", text(&output.stderr));
    assert_eq!(container.stop(), 143);
    assert_eq!(container.file("/state/file").as_deref(), Some("hello\n"));
    assert_eq!(container.file("/state/none"), None);
}

#[test]
fn a_daemon_of_ones_own_is_killed_and_started_again_beside_the_machines() {
    let name = "a_daemon_of_ones_own_is_killed_and_started_again_beside_the_machines";
    let Some(machine) = Docker::here(name) else {
        return;
    };
    let Some(image) = machine.image(name, "gcc13") else {
        return;
    };
    let Some(mut daemon) = Daemon::start(name, &["--live-restore"]) else {
        return;
    };
    let folder = daemon
        .host()
        .trim_start_matches("unix://")
        .trim_end_matches("/socket")
        .to_owned();
    daemon.load(&machine, &image);
    let options = ["--no-healthcheck".to_owned()];
    let container = daemon
        .docker()
        .run("sleeper", &options, &image, &SLEEP)
        .name;
    let pid = daemon.docker().inspect(&container)["State"]["Pid"].clone();
    assert_eq!(machine.inspect(&container), serde_json::Value::Null);

    daemon.stop(Signal::SIGKILL);
    assert!(!daemon.docker().answers() && machine.answers());
    daemon.start_again();
    let state = daemon.docker().inspect(&container)["State"].clone();
    assert_eq!(
        (&state["Running"], &state["Pid"]),
        (&true.into(), &pid),
        "it lives on"
    );

    drop(daemon);
    tests::wait_for("the end of all of it", SOON, || {
        let mounts = tests::read("/proc/mounts".as_ref());
        let gone = !mounts.contains(&folder) && !std::path::Path::new(&folder).exists();
        gone.then_some(())
    });
    assert!(!tests::is_alive(
        i32::try_from(pid.as_i64().expect("a pid")).expect("a pid")
    ));
    assert!(machine.gateway().is_ipv4());
    let links = run(Command::new("ip").args(["link", "show", "docker0"]));
    assert!(links.status.success(), "the machine's bridge is gone");
    let sleeper = sleeper(&machine, &image);
    sleeper.says("", Duration::from_secs(1));
    assert!(sleeper.is_running());
}
