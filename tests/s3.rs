//! `sync` and the supervisor against a real object store: nothing is lost, halved or doubled, whatever the store, the
//! network or a second instance does. What is in the store is told by an independent client.
//!
//! The tests share one MinIO, each with a bot id of its own, but those that stop it or count what lies on its disk.

#[path = "kills.rs"]
mod kills;

#[path = "s3/faults.rs"]
mod faults;
#[path = "s3/keys.rs"]
mod keys;
#[path = "s3/log.rs"]
mod log;
#[path = "s3/outages.rs"]
mod outages;
#[path = "s3/starts.rs"]
mod starts;
#[path = "s3/state.rs"]
mod state;
#[path = "s3/uploads.rs"]
mod uploads;
#[path = "s3/writers.rs"]
mod writers;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use tests::bin;
use tests::servers::Minio;
use tests::volume::{Volume, World};

/// The programs' exit code for a state that could not be restored.
const STATE: Option<i32> = Some(contract::exit::STATE as i32);

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut random = fs::File::open("/dev/urandom").unwrap();
    random.read_exact(&mut bytes).unwrap();
    bytes
}

/// The supervisor over this volume with `script` as the bot; it runs until told to end, or once.
fn supervise(volume: &Volume, script: &str) -> Command {
    let bot = volume.root.join("code/bot");
    fs::write(&bot, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&bot, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(bin("supervisor"));
    command.env_clear().envs(volume.variables());
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.envs([("RUNTIME", "gcc13"), ("ENTRYPOINT", "bot")]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[test]
fn a_reader_only_ever_sees_whole_states_that_the_bot_wrote() {
    let Some(store) = Minio::shared() else { return };
    kills::pushes(&World::on(store, "kills"), 0, 20);
}

/// Uploads in parts, of which most are copied.
#[test]
fn a_reader_of_a_large_state_only_ever_sees_whole_states_that_the_bot_wrote() {
    let Some(store) = Minio::shared() else { return };
    kills::pushes(&World::on(store, "large-kills"), 12, 20);
}

#[test]
fn a_restore_that_is_killed_leaves_a_whole_state() {
    let Some(store) = Minio::shared() else { return };
    kills::restores(&World::on(store, "restores"), 10);
}

#[test]
fn each_log_line_arrives_once_on_its_day_however_often_sync_is_killed() {
    let Some(store) = Minio::shared() else { return };
    kills::log_lines(&World::on(store, "log-kills"));
}
