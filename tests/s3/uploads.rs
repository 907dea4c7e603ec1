//! Uploads in parts that are cut off: whatever they were of, the bot's next pushes end them.

use contract::record::Outcome;
use nix::sys::signal::Signal;
use tests::servers::faults::error_body;
use tests::servers::{Fault, Minio, Proxy, Store};
use tests::volume::{LONG, Volume, World, content};
use tests::{Process, wait_for};

use crate::noise;

/// The completion of an upload of an object whose key contains `part` never comes through.
fn hang(proxy: &Proxy, part: &'static str) {
    proxy.script(move |request| {
        let met = request.is("POST", "uploadId=") && request.path.contains(part);
        met.then_some(Fault::Hang)
    });
}

/// Kills it when the completion is on its way; then the store has an upload more.
fn kill_there(proxy: &Proxy, store: &Store, mut sync: Process) {
    wait_for("the completion", LONG, || (proxy.met() > 0).then_some(()));
    sync.signal(Signal::SIGKILL);
    sync.code(LONG);
    assert_eq!(store.unfinished_uploads(), 1);
    proxy.heal();
}

fn marks(store: &Store) -> Vec<String> {
    let mut keys = store.client().list("bot-state", "");
    keys.retain(|key| key.ends_with(".sending"));
    keys
}

fn wait_ended(store: &Store) {
    wait_for("the end of the upload", LONG, || {
        (store.unfinished_uploads() == 0 && marks(store).is_empty()).then_some(())
    });
}

/// Two pushes of an instance, so that one of them replaces a state.
fn two_pushes(volume: &Volume) {
    let _watch = volume.watch();
    for text in ["1", "2"] {
        let state = content(&[("a", text)]);
        volume.put("a", text);
        volume.wait_pushed(&state);
    }
}

#[test]
fn what_was_being_kept_in_the_history_by_one_that_was_killed_is_ended_by_the_next() {
    let Some(store) = Minio::start() else { return };
    let proxy = Proxy::start(store.address());
    let world = World::through(&store, proxy.address(), "uploads-kept");
    let [first, second] = ["one", "two"].map(|name| world.volume(name));
    first.fetched();
    let watch = first.watch();
    first.put("a", "early");
    first.wait_pushed(&content(&[("a", "early")]));
    second.fetched();
    hang(&proxy, "/history/");
    first.put("a", noise(11 << 20));
    kill_there(&proxy, &store, watch);
    assert_eq!(marks(&store).len(), 1);
    two_pushes(&second);
    wait_ended(&store);
    assert!(first.history("fenced").is_empty());
}

#[test]
fn what_is_kept_in_the_history_leaves_nothing_beside_it() {
    let Some(store) = Minio::start() else { return };
    let world = World::on(&store, "uploads-whole");
    let [first, second] = ["one", "two"].map(|name| world.volume(name));
    first.fetched();
    let _watch = first.watch();
    second.fetched();
    first.put("a", noise(11 << 20));
    let own = first.on_disk();
    wait_for("the loser's state", LONG, || {
        (first.kept("fenced") == [own.clone()]).then_some(())
    });
    wait_ended(&store);
}

/// A winner cannot tell a slow loser from one that was killed.
#[test]
fn what_is_kept_is_sent_again_when_its_upload_was_ended_meanwhile() {
    let Some(store) = Minio::start() else { return };
    let proxy = Proxy::start(store.address());
    let first = World::through(&store, proxy.address(), "uploads-slow").volume("one");
    let second = World::on(&store, "uploads-slow").volume("two");
    first.fetched();
    let _watch = first.watch();
    first.put("a", "early");
    first.wait_pushed(&content(&[("a", "early")]));
    second.fetched();
    let gone = error_body("NoSuchUpload");
    proxy.fail("POST", "uploadId=", 1, Fault::Answer(404, gone));
    first.put("a", noise(11 << 20));
    let own = first.on_disk();
    wait_for("the loser's state", LONG, || {
        (first.kept("fenced") == [own.clone()]).then_some(())
    });
    assert!(proxy.met() > 0);
    wait_ended(&store);
}

#[test]
fn what_asked_for_conditions_when_it_was_killed_is_ended_by_the_next_start() {
    let Some(store) = Minio::start() else { return };
    let proxy = Proxy::start(store.address());
    let volume = World::through(&store, proxy.address(), "uploads-probe").volume("one");
    hang(&proxy, "/probe");
    let fetch = Process::start(&mut volume.command("fetch"));
    kill_there(&proxy, &store, fetch);
    volume.fetched();
    two_pushes(&volume);
    wait_ended(&store);

    volume.fetched();
    hang(&proxy, "/probe");
    kill_there(&proxy, &store, volume.watch());
    two_pushes(&volume);
    wait_ended(&store);
}

#[test]
fn what_a_failed_push_left_is_ended_by_the_next_push_of_the_same_instance() {
    let Some(store) = Minio::start() else { return };
    let proxy = Proxy::start(store.address());
    let volume = World::through(&store, proxy.address(), "uploads-failed").volume("one");
    volume.fetched();
    let _watch = volume.watch();
    wait_for("the first pass", LONG, || volume.synced());
    proxy.script(|request| {
        let met = request.is("PUT", "partNumber=2") || request.is("DELETE", "uploadId=");
        met.then(|| Fault::Answer(403, error_body("AccessDenied")))
    });
    volume.put("a", noise(11 << 20));
    volume.end_run(1);
    volume.wait_outcome(Outcome::Failed);
    assert!(store.unfinished_uploads() > 0);
    proxy.heal();
    volume.wait_pushed(&volume.on_disk());
    wait_ended(&store);
}
