//! The state where nothing fails: what is sent, what is not, and who can read it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use contract::record::Outcome;
use nix::sys::signal::Signal;
use tests::servers::{Minio, Proxy, Versity};
use tests::volume::{Content, LONG, Volume, World, content};
use tests::{SOON, read, run, skip, text, wait_for};

use crate::noise;

#[test]
fn what_a_bot_writes_is_there_after_a_restart_elsewhere_on_both_stores() {
    for store in [Minio::shared(), Versity::shared()].into_iter().flatten() {
        let world = World::on(store, "elsewhere");
        let first = world.volume("one");
        first.fetched();
        let mut watch = first.watch();
        first.put("a", "1");
        first.put("d/b", "2");
        first.wait_pushed(&content(&[("a", "1"), ("d/", ""), ("d/b", "2")]));
        first.end_run(1);
        wait_for("the run's end", SOON, || {
            first.synced().filter(|synced| synced.run == 1)
        });
        watch.signal(Signal::SIGTERM);
        assert_eq!(watch.code(SOON), 0);
        let second = world.volume("two");
        second.fetched();
        assert_eq!(read(&second.state().join("d/b")), "2");
        assert_eq!(second.on_disk(), first.on_disk());
    }
}

#[test]
fn deletions_and_an_emptied_state_persist() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "deletions");
    let volume = world.volume("one");
    volume.session(|volume| {
        volume.put("a", "1");
        volume.put("b", "2");
    });
    volume.session(|volume| fs::remove_file(volume.state().join("a")).unwrap());
    assert_eq!(volume.archive(), Some(content(&[("b", "2")])));
    volume.session(|volume| fs::remove_file(volume.state().join("b")).unwrap());
    assert_eq!(volume.archive(), Some(content(&[])));
    let other = world.volume("two");
    other.fetched();
    assert_eq!(other.on_disk(), Content::new());
}

/// What of the state was sent through the proxy, in bytes, but for what the store copied itself.
fn sent(proxy: &Proxy) -> usize {
    let requests = proxy.requests();
    let of_state = requests.iter().filter(|r| r.is("PUT", "state.tar.gz"));
    of_state.map(|request| request.length).sum()
}

#[test]
fn an_unchanged_state_is_not_sent_again_also_not_after_a_restart_or_a_move() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let world = World::through(store, proxy.address(), "unchanged");
    let volume = world.volume("one");
    volume.session(|_| ());
    assert_eq!(volume.archive(), None, "there was nothing to send");
    volume.session(|volume| volume.put("a", "1"));
    assert_eq!(proxy.count("PUT", "state.tar.gz"), 1);
    proxy.forget();
    volume.session(|volume| volume.put("a", "1"));
    world.volume("two").session(|_| ());
    assert_eq!(proxy.count("PUT", "state.tar.gz"), 0);
    assert_eq!(proxy.count("POST", "state.tar.gz"), 0);
    assert!(
        proxy.count("GET", "state.tar.gz") > 0,
        "the proxy is in between"
    );
}

#[test]
fn of_a_large_state_only_what_changed_travels() {
    const FILE: usize = 1 << 20;
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let world = World::through(store, proxy.address(), "large");
    let volume = world.volume("one");
    volume.session(|volume| {
        for n in 0..48 {
            volume.put(&format!("f{n:02}"), noise(FILE));
        }
    });
    assert!(sent(&proxy) > 48 * FILE);
    for changed in ["f00", "f23", "f47"] {
        proxy.forget();
        let new = noise(FILE);
        volume.session(|volume| volume.put(changed, &new));
        let sent = sent(&proxy);
        assert!(
            sent > FILE && sent < 2 * FILE + (10 << 20),
            "{changed}: {sent} bytes"
        );
        assert_eq!(volume.archive(), Some(volume.on_disk()));
    }
    // The index comes from the restored archive as well.
    let other = world.volume("two");
    other.fetched();
    proxy.forget();
    other.session(|volume| volume.put("f30", noise(FILE)));
    let sent = sent(&proxy);
    assert!(sent < 2 * FILE + (10 << 20), "after a move: {sent} bytes");
    assert_eq!(other.archive(), Some(other.on_disk()));
}

#[test]
fn an_edit_from_outside_stops_the_bot_is_kept_and_is_what_it_goes_on_from() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "edited");
    let volume = world.volume("one");
    volume.session(|volume| volume.put("a", "edited"));
    let edited = volume.get("bot-state", &volume.key()).unwrap();
    volume.session(|volume| volume.put("a", "1"));
    volume.fetched();
    let mut watch = volume.watch();
    wait_for("the first pass", SOON, || volume.synced());
    store.client().put("bot-state", &volume.key(), &edited);
    volume.put("a", "own");
    volume.wait_outcome(Outcome::Edited);
    assert_eq!(volume.get("bot-state", &volume.key()), Some(edited));
    wait_for("the own state in the history", LONG, || {
        (volume.kept("edited") == [content(&[("a", "own")])]).then_some(())
    });
    volume.end_run(1);
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    volume.fetched();
    assert_eq!(read(&volume.state().join("a")), "edited");
}

#[test]
fn a_state_that_was_removed_from_the_store_is_pushed_again() {
    let Some(store) = Minio::shared() else { return };
    let volume = World::on(store, "removed").volume("one");
    volume.session(|volume| volume.put("a", "1"));
    store.client().remove("bot-state", &volume.key());
    volume.session(|_| ());
    assert_eq!(volume.archive(), Some(content(&[("a", "1")])));
}

#[test]
fn the_archive_is_one_plain_tar_gz_for_those_who_read_it() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "readers");
    let volume = world.volume("one");
    // Several members, a name over 100 bytes, one that is not ASCII, an empty file, an empty folder.
    volume.session(|volume| {
        volume.put("big", noise(9 << 20));
        for n in 0..40 {
            volume.put(&format!("d{}/f{n}", n % 3), noise(60_000));
        }
        volume.put(&format!("{}file", "long/".repeat(30)), "1");
        volume.put("später", "");
        fs::create_dir(volume.state().join("empty")).unwrap();
    });
    let archive = volume.root.join("state.tar.gz");
    fs::write(&archive, volume.get("bot-state", &volume.key()).unwrap()).unwrap();
    let readers = [Some(tar()), Some(python()), go()];
    for mut command in readers.into_iter().flatten() {
        let into = tempfile::tempdir_in(&volume.root).unwrap();
        command.arg(&archive).arg(into.path());
        let output = run(command.stderr(Stdio::piped()));
        assert!(
            output.status.success(),
            "{command:?}: {}",
            text(&output.stderr)
        );
        assert_same(&volume, into.path());
    }
}

fn assert_same(volume: &Volume, folder: &Path) {
    let difference = run(Command::new("diff")
        .arg("-r")
        .arg(volume.state())
        .arg(folder));
    let said = text(&difference.stdout);
    assert!(
        difference.status.success(),
        "{}",
        &said[..said.len().min(2000)]
    );
}

fn tar() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "tar -xzf \"$1\" -C \"$2\"", "sh"]);
    command
}

fn python() -> Command {
    let script = "import sys, tarfile; tarfile.open(sys.argv[1], 'r:gz').extractall(sys.argv[2])";
    let mut command = Command::new("python3");
    command.args(["-c", script]);
    command
}

fn go() -> Option<Command> {
    let mut asked = Command::new("go");
    if !asked
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        skip("Go reads the archive", "go is not installed");
        return None;
    }
    let mut command = Command::new("go");
    command.args(["run", concat!(env!("CARGO_MANIFEST_DIR"), "/s3/untar.go")]);
    command.env("GOFLAGS", "").env("GO111MODULE", "off");
    Some(command)
}
