//! A daemon that goes and comes back. It is one of the test's own.

use mongodb::bson::doc;
use nix::sys::signal::Signal;
use tests::containers::{Daemon, Docker};
use tests::stack::{COUNTER, LONG, Stack};
use tests::wait_for;

#[test]
fn a_daemon_that_is_not_there_is_waited_for_and_one_that_is_killed_loses_nothing() {
    let Some(own) = Docker::here("docker::daemon") else {
        return;
    };
    let Some(image) = own.image("docker::daemon", "python3.11") else {
        return;
    };
    let Some(mut daemon) = Daemon::start("docker::daemon", &[]) else {
        return;
    };
    daemon.load(&own, &image);
    let Some(mut host) = Stack::on(&daemon) else {
        return;
    };
    let bot = host.bot("counter", COUNTER, doc! {});
    daemon.stop(Signal::SIGTERM);
    host.launch();
    host.says("bots run on, changes wait until it answers");
    daemon.start_again();
    host.says("the Docker daemon answers");
    host.state(&bot, "running");
    wait_for("a count", LONG, || (host.count(&bot) > 0).then_some(()));

    let before = host.count(&bot);
    daemon.stop(Signal::SIGKILL);
    daemon.start_again();
    let row = wait_for("the bot again", LONG, || {
        host.row(&bot)
            .filter(|row| row["state"] == "running" && host.count(&bot) > before)
    });
    assert!(row["run"].as_u64() >= Some(1));
    let ours = host.docker.ask([
        "ps",
        "--all",
        "--quiet",
        "--filter",
        &format!("label=runtime.id={bot}"),
    ]);
    assert_eq!(ours.lines().count(), 1, "one container: {ours}");
    let logs = host.container(&bot).logs();
    assert!(!logs.contains(" at 0 ") || row["run"] == 1, "{logs}");
}
