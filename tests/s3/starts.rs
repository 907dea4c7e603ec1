//! What a start asks of the store: few requests, and none of them on trust. That a store keeps to the conditions of writes
//! is noted in the bot's claim, and asked again before anything is pushed on it.

use contract::record::Outcome;
use nix::sys::signal::Signal;
use tests::servers::{Fault, Minio, Proxy};
use tests::volume::{Content, LONG, Volume, World, content};
use tests::{text, wait_for};

use crate::noise;

const CODE: &str = "a-user/starts/1";

fn state(text: &str) -> Content {
    content(&[("a", text)])
}

/// The requests of one `sync fetch` through this proxy.
fn fetch(proxy: &Proxy, volume: &Volume) -> Vec<String> {
    proxy.forget();
    volume.fetched();
    let requests = proxy.requests();
    let said = requests
        .iter()
        .map(|r| format!("{} {} {}", r.method, r.path, r.status));
    said.collect()
}

fn of(requests: &[String], part: &str) -> usize {
    requests
        .iter()
        .filter(|request| request.contains(part))
        .count()
}

#[test]
fn a_start_asks_little_of_the_store() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let world = World::through(store, proxy.address(), "starts");
    store.client().put("custom-bots", CODE, &bundle());
    let on = |name| world.volume(name).with("CODE_FILE", CODE);

    let first = on("one");
    let new = fetch(&proxy, &first);
    assert_eq!(of(&new, "/probe "), 5, "the store is asked once: {new:#?}");
    assert!(new.len() <= 9, "a new bot: {new:#?}");
    first.put("a", "1");
    first.session_from_here();
    assert_eq!(first.archive(), Some(state("1")));

    let second = on("two");
    let elsewhere = fetch(&proxy, &second);
    assert!(
        elsewhere.len() <= 4,
        "a known bot, nothing on the disk: {elsewhere:#?}"
    );
    assert_eq!(second.on_disk(), state("1"));
    second.session_from_here();

    let again = fetch(&proxy, &second);
    assert!(
        again.len() <= 4,
        "a known bot, all of it on the disk: {again:#?}"
    );
    assert_eq!(of(&again, "HEAD /custom-bots/"), 1, "{again:#?}");
    assert_eq!(second.on_disk(), state("1"));
}

/// A code bundle with `main.py`.
fn bundle() -> Vec<u8> {
    let mut bundle = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let script = b"print()";
    header.set_size(script.len() as u64);
    header.set_mode(0o644);
    bundle
        .append_data(&mut header, "main.py", &script[..])
        .unwrap();
    bundle.into_inner().unwrap()
}

trait Session {
    /// Pushes what is on the disk, and ends.
    fn session_from_here(&self);
}

impl Session for Volume {
    fn session_from_here(&self) {
        let mut watch = self.watch();
        wait_for("the first pass", LONG, || self.synced());
        self.acknowledged(1);
        watch.signal(Signal::SIGTERM);
        assert_eq!(watch.code(LONG), 0);
    }
}

/// What the claim says of the store.
fn noted(volume: &Volume, bot: &str) -> serde_json::Value {
    let claim = volume
        .get("bot-state", &format!("{bot}/.the0/claim"))
        .unwrap();
    let claim: serde_json::Value = serde_json::from_slice(&claim).unwrap();
    claim["kept"]["store"].clone()
}

#[test]
fn a_store_at_another_address_is_asked_before_it_is_claimed_in() {
    let Some(store) = Minio::shared() else { return };
    let [one, other] = [(); 2].map(|()| Proxy::start(store.address()));
    let bot = "starts-moved";
    let through = |proxy: &Proxy| World::through(store, proxy.address(), bot);
    let [here, there] = [&one, &other].map(through);
    let [first, second] = [&here, &there].map(|world| world.volume("one"));
    assert_eq!(of(&fetch(&one, &first), "/probe "), 5);
    assert_eq!(
        noted(&first, bot),
        format!("http://{} MinIO", one.address())
    );
    assert_eq!(of(&fetch(&one, &first), "/probe "), 0);
    assert_eq!(of(&fetch(&other, &second), "/probe "), 5);
    assert_eq!(
        noted(&second, bot),
        format!("http://{} MinIO", other.address())
    );

    let ignoring = Proxy::start(store.address());
    ignoring.script(|_| Some(Fault::StripConditions));
    let third = through(&ignoring).volume("one");
    let said = text(&third.fetch().stderr);
    assert!(said.contains("If-Match"), "{said}");
    assert_eq!(noted(&third, bot), serde_json::Value::Null);
}

/// The store's conditions cease to count between two starts, as behind a new gateway.
#[test]
fn a_store_that_ceases_to_keep_to_conditions_is_found_out_before_anything_is_pushed() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let bot = "starts-ceased";
    let world = World::through(store, proxy.address(), bot);
    let [one, two] = ["one", "two"].map(|name| world.volume(name));
    one.session(|volume| volume.put("a", "1"));
    proxy.script(|_| Some(Fault::StripConditions));
    for volume in [&one, &two] {
        assert_eq!(
            of(&fetch(&proxy, volume), "/probe "),
            0,
            "it is trusted with a claim"
        );
    }
    proxy.forget();
    two.put("a", "2");
    two.end_run(2);
    let _two = two.watch();
    two.wait_pushed(&state("2"));
    let requests = proxy.requests();
    let first = |part: &str| requests.iter().position(|request| request.is("PUT", part));
    let place = |part: &str| first(part).unwrap_or_else(|| panic!("no {part} in {requests:#?}"));
    let in_turn = ["/probe", "/claims/", "/states/"].map(place);
    assert!(in_turn.is_sorted(), "{requests:#?}");
    assert_eq!(noted(&two, bot), serde_json::Value::Null);
    one.put("a", "stale");
    one.end_run(2);
    let _one = one.watch();
    one.wait_outcome(Outcome::Fenced);
    assert_eq!(one.archive(), Some(state("2")));

    let said = text(&world.volume("three").fetch().stderr);
    assert!(said.contains("If-Match"), "{said}");
}

#[test]
fn of_two_that_were_told_of_the_same_claim_one_is_fenced_before_it_pushes() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let bot = "starts-same";
    let world = World::through(store, proxy.address(), bot);
    let [one, two] = ["one", "two"].map(|name| world.volume(name));
    one.session(|volume| volume.put("a", "1"));
    let claim = format!("{bot}/.the0/claim");
    let before = store.client().get("bot-state", &claim).unwrap();
    proxy.script(|_| Some(Fault::StripConditions));
    one.fetched();
    // As if the second had looked before the first claimed.
    let noted: Vec<_> = before
        .metadata
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    store
        .client()
        .put_with("bot-state", &claim, &before.bytes, &noted);
    two.fetched();
    let _watches = [&one, &two].map(Volume::watch);
    let ok = |volume: &Volume| {
        volume
            .synced()
            .filter(|synced| synced.outcome == Outcome::Ok)
    };
    let fenced = |volume: &Volume| {
        volume
            .synced()
            .filter(|synced| synced.outcome == Outcome::Fenced)
    };
    let (winner, loser) = wait_for("one winner", LONG, || match (fenced(&one), fenced(&two)) {
        (Some(_), None) => Some((&two, &one)),
        (None, Some(_)) => Some((&one, &two)),
        _ => None,
    });
    winner.put("a", "winner");
    loser.put("a", "loser");
    winner.end_run(2);
    loser.end_run(2);
    winner.wait_pushed(&state("winner"));
    assert!(ok(winner).is_some() && ok(loser).is_none());
}

/// What a bot puts into its state is in the state's object, wherever it lies on the disk.
#[test]
fn nothing_that_a_bot_writes_gets_into_its_claim() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let bot = "starts-forged";
    let world = World::through(store, proxy.address(), bot);
    let volume = world.volume("one");
    volume.fetched();
    let claim = format!("{bot}/.the0/claim");
    let before = volume.get("bot-state", &claim);
    let forged = r#"{"generation":1,"kept":{"store":"forged","at":"2026-01-01T00:00:00Z"}}"#;
    for name in [".the0/claim", "claim"] {
        volume.put(name, forged);
    }
    volume.session_from_here();
    assert!(volume.archive().unwrap().contains_key(".the0/claim"));
    assert_eq!(volume.get("bot-state", &claim), before);
}

#[test]
fn a_claim_that_was_removed_is_made_above_what_was_pushed() {
    let Some(store) = Minio::shared() else { return };
    let bot = "starts-lost";
    let world = World::on(store, bot);
    for text in ["1", "2", "3"] {
        world.volume("one").session(|volume| volume.put("a", text));
    }
    store
        .client()
        .remove("bot-state", &format!("{bot}/.the0/claim"));
    let other = world.volume("two");
    other.session(|volume| volume.put("a", "4"));
    assert_eq!(other.archive(), Some(state("4")));
    assert_eq!(other.synced().unwrap().generation, 4);
}

#[test]
fn what_a_killed_instance_was_sending_is_ended_by_the_next() {
    let Some(store) = Minio::start() else { return };
    let proxy = Proxy::start(store.address());
    let world = World::through(&store, proxy.address(), "starts-cut");
    let volume = world.volume("one");
    volume.fetched();
    let mut watch = volume.watch();
    wait_for("the first pass", LONG, || volume.synced());
    proxy.fail("POST", "uploadId=", 1, Fault::Hang);
    volume.put("a", noise(11 << 20));
    wait_for("the completion", LONG, || (proxy.met() > 0).then_some(()));
    watch.signal(Signal::SIGKILL);
    watch.code(LONG);
    assert_eq!(store.unfinished_uploads(), 1);
    proxy.heal();
    volume.fetched();
    assert_eq!(
        store.unfinished_uploads(),
        1,
        "a start does not wait for that"
    );
    volume.session_from_here();
    assert_eq!(store.unfinished_uploads(), 0);
}
