//! A store that is not there, at the start and while a bot runs. Only a state that does not exist is a first run.

use std::fs;
use std::process::Stdio;

use contract::{exit, logs};
use nix::sys::signal::Signal;
use tests::servers::{Minio, Store};
use tests::volume::{Content, LONG, Volume, World, content};
use tests::{Process, SOON, run, text, wait_for};

use crate::{STATE, supervise};

/// A volume whose store refuses connections.
fn nowhere(store: &Store, bot: &str) -> Volume {
    let world = World::through(store, "127.0.0.1:1", bot);
    world.volume("one").with("THE0_FETCH_DEADLINE", "1s")
}

#[test]
fn without_a_store_nothing_starts_and_the_code_says_what_could_not_be_had() {
    let Some(store) = Minio::shared() else { return };
    let code = nowhere(store, "away").with("CODE_FILE", "u/bot/1");
    for (volume, expected) in [(nowhere(store, "away"), exit::STATE), (code, exit::CODE)] {
        let output = volume.fetch();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(expected)), "{said}");
        assert!(said.contains("127.0.0.1:1"), "{said}");
        let marker = format!("touch {}", volume.state().join("ran").display());
        let output = run(&mut supervise(&volume, &marker));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(expected)), "{said}");
        assert_eq!(volume.on_disk(), Content::new());
    }
}

#[test]
fn a_store_that_comes_within_the_deadline_is_waited_for() {
    let Some(mut store) = Minio::start() else {
        return;
    };
    let world = World::on(&store, "waits");
    let volume = world.volume("one");
    volume.session(|volume| volume.put("a", "1"));
    store.stop();
    let other = world.volume("two").with("THE0_FETCH_DEADLINE", "30s");
    let said = fs::File::create(other.root.join("said")).unwrap();
    let mut fetch = Process::start(other.command("fetch").stderr(said));
    wait_for("a word about it", SOON, || {
        (!tests::read(&other.root.join("said")).is_empty()).then_some(())
    });
    store.start_again();
    assert_eq!(fetch.code(LONG), 0);
    assert_eq!(other.on_disk(), content(&[("a", "1")]));
}

#[test]
fn keys_that_are_refused_are_no_first_run_and_are_not_said() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "refused");
    let volume = world.volume("one").with("THE0_FETCH_DEADLINE", "1s");
    for name in ["MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"] {
        let volume = volume.clone().with(name, "hunter2hunter2");
        let output = volume.fetch();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), STATE, "{said}");
        assert!(
            said.contains("bot-state") && said.contains("MINIO_"),
            "{said}"
        );
        for secret in ["hunter2", "X-Amz-Signature", tests::servers::SECRET_KEY] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[test]
fn a_bucket_that_is_missing_is_no_first_run() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "bucket");
    let volume = world.volume("one").with("THE0_FETCH_DEADLINE", "1s");
    let volume = volume.with("MINIO_STATE_BUCKET", "not-there-yet");
    let output = volume.fetch();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), STATE, "{said}");
    assert!(
        said.contains("not-there-yet") && said.contains("does not exist"),
        "{said}"
    );
    store.client().make_bucket("not-there-yet");
    volume.fetched();
}

#[test]
fn a_corrupt_state_is_refused_with_the_command_that_restores_an_older_one() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "corrupt");
    let volume = world.volume("one");
    volume.session(|volume| volume.put("a", "1"));
    volume.session(|volume| volume.put("a", "2"));
    let older = volume.history("start").pop().unwrap();
    let mut bytes = volume.get("bot-state", &volume.key()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    store.client().put("bot-state", &volume.key(), &bytes);
    let other = world.volume("two");
    let output = other.fetch();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), STATE, "{said}");
    let name = older
        .rsplit('/')
        .next()
        .unwrap()
        .trim_end_matches(".tar.gz");
    assert!(
        said.contains(&format!("state restore corrupt {name}")),
        "{said}"
    );
    assert_eq!(other.on_disk(), Content::new());
    let mut restore = other.command("state");
    let output = run(restore.args(["restore", name]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    other.fetched();
    assert_eq!(other.on_disk(), content(&[("a", "1")]));
}

#[test]
fn what_is_written_while_the_store_is_away_is_there_when_it_is_back() {
    let Some(mut store) = Minio::start() else {
        return;
    };
    let world = World::on(&store, "outage");
    let volume = world.volume("one");
    volume.fetched();
    let mut watch = volume.watch();
    volume.put("a", "1");
    volume.wait_pushed(&content(&[("a", "1")]));
    store.stop();
    let line = |n: u64| format!("2026-11-20T08:00:00.{n:06}Z line {n}\n");
    fs::create_dir_all(volume.var("logs")).unwrap();
    for (segment, lines) in [(1, 0..700), (2, 700..1400), (3, 1400..1500)] {
        let path = volume.var("logs").join(logs::segment_name(segment));
        fs::write(path, lines.map(line).collect::<String>()).unwrap();
    }
    volume.put("a", "2");
    volume.end_run(1);
    let failed = volume.wait_outcome(contract::record::Outcome::Failed);
    assert!(failed.error.unwrap().contains("bot-"));
    store.start_again();
    volume.wait_pushed(&content(&[("a", "2")]));
    volume.end_run(2);
    wait_for("the log", LONG, || {
        (volume.day("20261120").lines().count() >= 1500).then_some(())
    });
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    let day = volume.day("20261120");
    let messages = (0..1500).map(|n| format!("\"message\":\"line {n}\"}}"));
    let found: Vec<_> = day
        .lines()
        .map(|line| line.split_once(',').unwrap().1)
        .collect();
    assert_eq!(found, messages.collect::<Vec<_>>());
}

/// The supervisor exits when everything is in the store: the last file, the last line.
#[test]
fn the_last_words_of_a_dying_bot_are_in_the_store_when_the_supervisor_exits() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "dying");
    let volume = world.volume("one").with("IS_SCHEDULED", "true");
    let script = "mkdir -p \"$STATE_DIR\"; echo 7 >\"$STATE_DIR/last\"; echo first; printf 'no newline'; exit 3";
    let mut command = supervise(&volume, script);
    let mut supervisor = Process::start(command.stderr(Stdio::null()));
    assert_eq!(supervisor.code(LONG), 3);
    let state = volume.archive().unwrap();
    assert_eq!(state[".the0-state/last"], b"7\n");
    let days = store.client().list("bot-logs", "logs/dying/");
    let log: String = days
        .iter()
        .map(|key| text(&volume.get("bot-logs", key).unwrap()))
        .collect();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[0].contains("first") && lines[1].contains("no newline"),
        "{log}"
    );
}

/// A bot that appends a line to its state each tenth of a second, until it is told to end.
const COUNTING: &str =
    "mkdir -p \"$STATE_DIR\"; while :; do echo x >>\"$STATE_DIR/count\"; sleep 0.1; done";

#[test]
fn a_bot_that_another_instance_has_claimed_is_stopped_with_its_own_code() {
    let Some(store) = Minio::shared() else { return };
    let world = World::on(store, "claimed");
    let volume = world.volume("one");
    let mut command = supervise(&volume, COUNTING);
    let mut supervisor = Process::start(command.stderr(Stdio::null()));
    let count = |archive: Option<Content>| archive?.get(".the0-state/count").map(Vec::len);
    wait_for("a state", LONG, || count(volume.archive()));
    let other = world.volume("two");
    other.fetched();
    assert_eq!(supervisor.code(LONG), i32::from(exit::FENCED));
    assert!(count(volume.kept("fenced").pop()) >= count(volume.archive()));
}

#[test]
fn a_bot_whose_state_was_edited_goes_on_from_the_edited_one() {
    let Some(store) = Minio::shared() else { return };
    let volume = World::on(store, "edited-running").volume("one");
    let editor = World::on(store, "editor").volume("one");
    editor.session(|editor| editor.put(".the0-state/count", "edited\n"));
    let edited = editor.get("bot-state", &editor.key()).unwrap();
    let mut command = supervise(&volume, COUNTING);
    let mut supervisor = Process::start(command.stderr(Stdio::null()));
    wait_for("a state", LONG, || volume.archive());
    store.client().put("bot-state", &volume.key(), &edited);
    let count = || volume.archive()?.remove(".the0-state/count");
    wait_for("the edited state", LONG, || {
        count()
            .filter(|count| count.starts_with(b"edited\nx"))
            .map(drop)
    });
    assert!(!volume.kept("edited").is_empty());
    supervisor.signal(Signal::SIGTERM);
    supervisor.code(LONG);
}
