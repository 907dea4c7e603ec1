//! Bots in another OCI runtime, which a daemon of the test's own comes to know while the agent runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mongodb::bson::doc;
use tests::containers::{Daemon, Docker};
use tests::stack::{COUNTER, LONG, Stack};
use tests::{read, wait_for};

/// A runtime that notes what it is asked and lets the usual one do it.
fn noting(dir: &Path) -> (PathBuf, PathBuf) {
    let (program, notes) = (dir.join("noting"), dir.join("notes"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{}\nexec runc \"$@\"\n",
        notes.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, notes)
}

#[test]
fn bots_run_in_the_oci_runtime_that_is_set_as_soon_as_the_daemon_knows_it() {
    let test = "docker::runtime";
    let Some(own) = Docker::here(test) else {
        return;
    };
    let Some(image) = own.image(test, "python3.11") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("daemon.json");
    fs::write(&settings, "{}").unwrap();
    let options = ["--config-file", settings.to_str().unwrap()];
    let Some(daemon) = Daemon::start(test, &options) else {
        return;
    };
    daemon.load(&own, &image);
    let Some(mut host) = Stack::on(&daemon) else {
        return;
    };
    host.set("THE0_OCI_RUNTIME", "noting");
    let bot = host.bot("counter", COUNTER, doc! {});
    host.begin();
    let row = host.state(&bot, "failed");
    let why = row["reason"].as_str().unwrap();
    assert!(
        why.contains("noting") && why.contains("THE0_OCI_RUNTIME"),
        "{why}"
    );
    // It is tried again, ever later, and told once.
    wait_for("a third try", LONG, || {
        host.row(&bot)
            .filter(|row| row["restarts"].as_u64() >= Some(3))
    });
    assert_eq!(host.said().matches("untime specified").count(), 1);
    assert!(host.containers().is_empty());

    let (program, notes) = noting(dir.path());
    let runtimes = serde_json::json!({"runtimes": {"noting": {"path": program}}});
    fs::write(&settings, runtimes.to_string()).unwrap();
    daemon.reload();
    host.state(&bot, "running");
    let container = host.container(&bot).inspect();
    assert_eq!(container["HostConfig"]["Runtime"], "noting");
    let id = container["Id"].as_str().unwrap();
    let notes = read(&notes);
    let made = |line: &str| line.contains("create") && line.contains(id);
    assert!(notes.lines().any(made), "{notes}");
    wait_for("a count", LONG, || (host.count(&bot) > 0).then_some(()));
}
