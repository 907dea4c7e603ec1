//! Keys and trust: the bot sees no key, a key that is renewed is used, and a store that is not the one is not spoken to.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use contract::record::Outcome;
use nix::sys::signal::Signal;
use tests::servers::{ACCESS_KEY, Minio, SECRET_KEY};
use tests::volume::{LONG, Volume, World, content};
use tests::{Process, repository, run, skip, text};

use crate::{STATE, supervise};

/// Reads all it can of every process of the test, and its own surroundings.
const SPY: &str = "env; cat /proc/self/environ /proc/self/cmdline; ls -l /proc/self/fd
for p in /proc/[0-9]*; do case $(readlink $p/exe) in */supervisor|*/sync) cat $p/cmdline;; esac; done
find \"$STATE_DIR/../..\" -type f -exec cat {} +; exit 0";

#[test]
fn a_bot_finds_no_key_in_its_surroundings() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "spy");
    let volume = world.volume("one").with("IS_SCHEDULED", "true");
    let mut command = supervise(&volume, SPY);
    let mut supervisor = Process::start(command.stderr(Stdio::null()));
    assert_eq!(supervisor.code(LONG), 0);
    let days = store.client().list("bot-logs", "logs/spy/");
    let log: Vec<_> = days.iter().map(|key| volume.get("bot-logs", key)).collect();
    let log = text(&log.into_iter().flatten().flatten().collect::<Vec<_>>());
    assert!(log.contains("BOT_ID=spy"), "{log}");
    for secret in [ACCESS_KEY, SECRET_KEY, "MINIO_"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn renewed_keys_are_used_from_the_next_request_on() {
    let Some(store) = Minio::shared() else { return };
    let volume = World::on(store, "rotated").volume("one");
    volume.fetched();
    let without = |name: &str| volume.clone().with(name, "");
    let volume = without("MINIO_ACCESS_KEY").with("MINIO_SECRET_KEY", "");
    let mut command = volume.command("watch");
    command
        .arg("--keys-from-stdin")
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    let mut watch = Process::start(&mut command);
    let mut stdin = watch.0.stdin.take().unwrap();
    let mut keys = |secret: &str| {
        let keys = serde_json::json!({"MINIO_ACCESS_KEY": ACCESS_KEY, "MINIO_SECRET_KEY": secret});
        let line = serde_json::json!({"type": "keys", "v": 1, "keys": keys});
        writeln!(stdin, "{line}").unwrap();
    };
    volume.put("a", "1");
    keys("expired");
    let failed = volume.wait_outcome(Outcome::Failed).error.unwrap();
    assert!(
        !failed.contains(ACCESS_KEY) && !failed.contains("expired"),
        "{failed}"
    );
    keys(SECRET_KEY);
    volume.wait_pushed(&content(&[("a", "1")]));
    volume.wait_outcome(Outcome::Ok);
    keys("expired again");
    volume.put("a", "2");
    volume.end_run(1);
    volume.wait_outcome(Outcome::Failed);
    keys(SECRET_KEY);
    volume.wait_pushed(&content(&[("a", "2")]));
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
}

/// Puts keys where the kubelet would: it makes a folder with all files of a Secret, and turns a link to it.
fn mount_keys(mount: &Path, version: u32, secret: &str) {
    let folder = mount.join(format!("..{version}"));
    fs::create_dir_all(&folder).unwrap();
    let keys = serde_json::json!({"MINIO_ACCESS_KEY": ACCESS_KEY, "MINIO_SECRET_KEY": secret});
    fs::write(folder.join("keys.json"), keys.to_string()).unwrap();
    let new = mount.join("..new");
    symlink(format!("..{version}"), &new).unwrap();
    fs::rename(&new, mount.join("..data")).unwrap();
    if version == 1 {
        symlink("..data/keys.json", mount.join("keys.json")).unwrap();
    }
}

#[test]
fn keys_in_a_file_are_read_again_as_they_are_renewed() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "mounted");
    let mount = world.dir.path().join("keys");
    let volume = world.volume("one").with("MINIO_ACCESS_KEY", "");
    let volume = volume.with("MINIO_SECRET_KEY", "");
    let volume = volume.with("THE0_KEYS_FILE", mount.join("keys.json").to_str().unwrap());
    let refused = volume.fetch();
    let said = text(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("THE0_KEYS_FILE"),
        "{said}"
    );
    mount_keys(&mount, 1, SECRET_KEY);
    volume.fetched();
    let mut watch = volume.watch();
    volume.put("a", "1");
    volume.wait_pushed(&content(&[("a", "1")]));
    mount_keys(&mount, 2, "expired");
    volume.put("a", "2");
    volume.end_run(1);
    let failed = volume.wait_outcome(Outcome::Failed).error.unwrap();
    assert!(!failed.contains("expired"), "{failed}");
    mount_keys(&mount, 3, SECRET_KEY);
    volume.wait_pushed(&content(&[("a", "2")]));
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
}

/// What ships, if it has been built.
fn shipped() -> Option<PathBuf> {
    let folders = fs::read_dir(repository().join("target/dist"))
        .into_iter()
        .flatten();
    let programs = folders
        .flatten()
        .map(|folder| folder.path().join("release/sync"));
    programs.into_iter().find(|path| path.exists())
}

fn over_tls(program: &dyn Fn(&Volume, &str) -> Command) {
    let Some(store) = Minio::start_with_tls() else {
        return;
    };
    let port = store.address().rsplit(':').next().unwrap();
    for (bot, host) in [("by-name", "localhost"), ("by-address", "127.0.0.1")] {
        let world = World::through(&store, &format!("{host}:{port}"), bot);
        let volume = world.volume("one");
        let output = run(&mut program(&volume, "fetch"));
        assert!(output.status.success(), "{host}: {}", text(&output.stderr));
        let mut command = program(&volume, "watch");
        let mut watch = Process::start(command.stderr(Stdio::null()));
        volume.put("a", "1");
        volume.wait_pushed(&content(&[("a", "1")]));
        watch.signal(Signal::SIGTERM);
        volume.end_run(1);
        assert_eq!(watch.code(LONG), 0);
        let stranger = volume
            .with("THE0_CA_FILE", "")
            .with("THE0_FETCH_DEADLINE", "1s");
        let output = run(&mut program(&stranger, "fetch"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), STATE, "{said}");
        assert!(
            said.contains("certificate") && said.contains("THE0_CA_FILE"),
            "{said}"
        );
    }
}

#[test]
fn a_store_with_a_private_ca_is_trusted_by_its_file_alone() {
    over_tls(&|volume, verb| volume.command(verb));
}

#[test]
fn the_static_program_speaks_tls_and_finds_names() {
    let Some(program) = shipped() else {
        return skip(
            "the static program speaks TLS",
            "no static binaries: run `make dist`",
        );
    };
    over_tls(&|volume, verb| {
        let mut command = Command::new(&program);
        command.arg(verb).env_clear().envs(volume.variables());
        command.stdin(Stdio::null());
        command
    });
}
