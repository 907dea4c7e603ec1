//! Faults on the way: whatever happens to single requests and to the connection, the store has what the disk has
//! when it is over, a reader never sees anything else than states of the bot's, and a restore is whole or refused.

use std::fs;

use contract::record::Outcome;
use tests::servers::faults::error_body;
use tests::servers::{Fault, Link, Minio, Proxy, Toxic};
use tests::text;
use tests::volume::{Content, Volume, World, content};

use crate::kills::{Stop, Written};
use crate::{STATE, noise};

fn answer(status: u16, code: &str) -> Fault {
    Fault::Answer(status, error_body(code))
}

const HTML: &str = "<html><body>Sign in to the network of this hotel</body></html>";

/// Runs `act` while a reader polls the volume's object, which is only ever one of what `act` says is written.
fn polled(volume: &Volume, act: impl FnOnce(&Written)) {
    let written = Written::default();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| written.poll(volume));
        let stop = Stop(&written.over);
        act(&written);
        drop(stop);
        reader.join().unwrap();
    });
}

#[test]
fn a_push_gets_through_whatever_happens_to_its_request() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let volume = World::through(store, proxy.address(), "put-faults").volume("one");
    volume.fetched();
    let _watch = volume.watch();
    let faults = [
        answer(500, "InternalError"),
        answer(503, "SlowDown"),
        answer(403, "AccessDenied"),
        answer(412, "PreconditionFailed"),
        answer(409, "ConditionalRequestConflict"),
        Fault::Answer(200, HTML.into()),
        Fault::Answer(302, HTML.into()),
        Fault::Answer(502, String::new()),
        Fault::LoseAnswer,
        Fault::DropRequest,
        Fault::FlipRequest(40),
        Fault::FlipRequest(400),
    ];
    polled(&volume, |written| {
        for (n, fault) in faults.into_iter().enumerate() {
            proxy.fail("PUT", "state.tar.gz", 2, fault.clone());
            let state = Content::from([("a".into(), format!("{n}-{}", "x".repeat(900)).into())]);
            written.add(&state);
            volume.put("a", &state["a"]);
            volume.acknowledged(n as u64 + 1);
            assert_eq!(
                volume.archive().map(|found| found == state),
                Some(true),
                "{fault:?}"
            );
            assert!(proxy.met() > 0, "{fault:?}");
        }
    });
}

#[test]
fn an_upload_in_parts_gets_through_whatever_happens_to_its_requests_and_leaves_nothing() {
    let Some(store) = Minio::start() else { return };
    let proxy = Proxy::start(store.address());
    let volume = World::through(&store, proxy.address(), "parts").volume("one");
    volume.fetched();
    let _watch = volume.watch();
    let cases = [
        ("POST", "uploads=", answer(503, "SlowDown")),
        ("POST", "uploads=", Fault::DropRequest),
        ("PUT", "partNumber=1", Fault::FlipRequest(1_000_000)),
        ("PUT", "partNumber=2", answer(500, "InternalError")),
        ("PUT", "partNumber=3", Fault::LoseAnswer),
        ("PUT", "partNumber=2", Fault::DropRequest),
        ("PUT", "partNumber=1", answer(403, "AccessDenied")),
        (
            "POST",
            "uploadId=",
            Fault::Answer(200, error_body("InternalError")),
        ),
        ("POST", "uploadId=", Fault::LoseAnswer),
        ("POST", "uploadId=", Fault::DropRequest),
        ("POST", "uploadId=", Fault::FlipAnswer(250)),
        ("POST", "uploadId=", Fault::CutAnswer(60)),
        ("POST", "uploadId=", answer(412, "PreconditionFailed")),
        ("POST", "uploadId=", answer(500, "InternalError")),
    ];
    polled(&volume, |written| {
        for (n, (method, part, fault)) in cases.into_iter().enumerate() {
            proxy.fail(method, part, 1, fault.clone());
            let state = Content::from([("a".into(), noise(11 << 20))]);
            written.add(&state);
            volume.put("a", &state["a"]);
            volume.acknowledged(n as u64 + 1);
            assert_eq!(
                volume.archive().map(|found| found == state),
                Some(true),
                "{fault:?}"
            );
            assert!(proxy.met() > 0, "{method} {part} {fault:?}");
        }
    });
    volume.wait_outcome(Outcome::Ok);
    assert_eq!(store.unfinished_uploads(), 0);
}

/// A state in the store that takes several reads, and a volume behind the proxy where nothing is yet.
fn stored(world: &World) -> Content {
    let volume = world.volume("writer");
    let state = Content::from([
        ("big".into(), noise(6 << 20)),
        ("small".into(), b"1".into()),
    ]);
    volume.session(|volume| {
        for (name, bytes) in &state {
            volume.put(name, bytes);
        }
    });
    state
}

#[test]
fn a_restore_gets_through_what_passes() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let state = stored(&World::on(store, "get-faults"));
    let world = World::through(store, proxy.address(), "get-faults");
    let faults = [
        answer(500, "InternalError"),
        answer(503, "SlowDown"),
        answer(403, "AccessDenied"),
        answer(404, "NoSuchBucket"),
        Fault::Answer(200, HTML.into()),
        Fault::Answer(200, String::new()),
        Fault::CutAnswer(3_000_000),
        Fault::CutAnswer(0),
        Fault::WrongLength(-1000),
        Fault::WrongLength(1000),
        Fault::LoseAnswer,
        Fault::FlipAnswer(3_000_000),
        Fault::FlipAnswer(20),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let volume = world
            .volume(&format!("v{n}"))
            .with("THE0_FETCH_DEADLINE", "15s");
        proxy.fail("GET", "state.tar.gz", 1, fault.clone());
        let output = volume.fetch();
        assert!(
            output.status.success(),
            "{fault:?}: {}",
            text(&output.stderr)
        );
        assert_eq!(volume.on_disk(), state, "{fault:?}");
        assert!(proxy.met() > 0, "{fault:?}");
        fs::remove_dir_all(&volume.root).unwrap();
    }
}

#[test]
fn code_that_was_damaged_on_its_way_is_fetched_again_and_what_is_broken_there_is_refused() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_gnu();
    header.set_size(100_000);
    header.set_mode(0o644);
    let program = noise(100_000);
    tar.append_data(&mut header, "main.py", program.as_slice())
        .unwrap();
    let good = tar.into_inner().unwrap().finish().unwrap();
    let bad = &good[..good.len() - 9];
    for (key, bytes) in [("u/good/1", good.as_slice()), ("u/bad/1", bad)] {
        store.client().put("custom-bots", key, bytes);
    }
    let world = World::through(store, proxy.address(), "code-faults");
    let fetch = |key: &str| world.volume(&key.replace('/', "-")).with("CODE_FILE", key);
    proxy.fail("GET", "u/good/1", 1, Fault::FlipAnswer(50_000));
    let volume = fetch("u/good/1");
    let output = volume.fetch();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read(volume.root.join("code/main.py")).unwrap(), program);
    assert!(proxy.met() > 0 && text(&output.stderr).contains("fetching it again"));
    let output = fetch("u/bad/1").fetch();
    assert_eq!(output.status.code(), Some(i32::from(contract::exit::CODE)));
}

#[test]
fn a_restore_from_what_stays_broken_is_refused_with_nothing_on_the_disk() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    stored(&World::on(store, "broken"));
    let world = World::through(store, proxy.address(), "broken");
    let faults = [
        (Fault::FlipAnswer(3_000_000), "corrupt"),
        (Fault::FlipAnswer(3), "corrupt"),
        (Fault::CutAnswer(1000), "state.tar.gz"),
        (Fault::Answer(200, HTML.into()), "state.tar.gz"),
        (answer(403, "AccessDenied"), "AccessDenied"),
        (answer(500, "InternalError"), "InternalError"),
    ];
    for (n, (fault, word)) in faults.into_iter().enumerate() {
        let volume = world
            .volume(&format!("v{n}"))
            .with("THE0_FETCH_DEADLINE", "2s");
        proxy.fail("GET", "state.tar.gz", usize::MAX, fault.clone());
        let output = volume.fetch();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), STATE, "{fault:?}: {said}");
        assert!(
            said.contains(word) && said.contains("bot-state"),
            "{fault:?}: {said}"
        );
        assert_eq!(volume.on_disk(), Content::new(), "{fault:?}");
    }
}

/// A HEAD has no body that says what is not found; a GET that finds the object is believed.
#[test]
fn a_head_that_finds_nothing_is_no_first_run() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let state = stored(&World::on(store, "head"));
    let volume = World::through(store, proxy.address(), "head").volume("one");
    proxy.fail("HEAD", "", usize::MAX, Fault::Answer(404, String::new()));
    volume.fetched();
    assert_eq!(volume.on_disk(), state);
    let output = volume.fetch();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), STATE, "{said}");
    assert!(
        said.contains("head/state.tar.gz") && proxy.met() > 0,
        "{said}"
    );
    assert_eq!(volume.on_disk(), state);
}

#[test]
fn a_claim_that_is_damaged_on_the_way_fences_nobody_and_is_not_lowered() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let world = World::through(store, proxy.address(), "claims");
    let generation = |volume: &Volume| volume.wait_outcome(Outcome::Ok).generation;
    let mut place = 0;
    let mut flip = false;
    let damage = move |request: &tests::servers::Request| {
        flip = !flip && request.is("GET", ".the0/claim");
        place += usize::from(flip);
        flip.then_some(Fault::FlipAnswer(place))
    };
    for before in 0..12 {
        let volume = world.volume(&format!("v{before}"));
        proxy.script(damage);
        volume.fetched();
        let _watch = volume.watch();
        volume.put("a", before.to_string());
        volume.end_run(1);
        assert_eq!(generation(&volume), before + 1);
        assert!(proxy.met() > 1, "{before}");
    }
}

#[test]
fn a_slow_connection_carries_and_a_broken_one_is_waited_for() {
    let Some(store) = Minio::shared() else { return };
    let Some(link) = Link::start(store.address()) else {
        return;
    };
    let volume = World::through(store, link.address(), "toxics").volume("one");
    volume.fetched();
    let _watch = volume.watch();
    let slow = [
        Toxic::Latency(60),
        Toxic::Bandwidth(500),
        Toxic::SlowClose(200),
    ];
    let broken = [
        Toxic::ResetPeer(0),
        Toxic::ResetPeer(3),
        Toxic::LimitAnswer(300),
        Toxic::LimitRequest(900),
        Toxic::Timeout(200),
    ];
    let mut n = 0;
    let mut write = |written: &Written| {
        n += 1;
        let filling = text(&noise(900));
        let state = content(&[("a", &format!("{n} {filling}"))]);
        written.add(&state);
        volume.put("a", &state["a"]);
        volume.end_run(n);
        state
    };
    polled(&volume, |written| {
        for toxic in slow {
            link.add(toxic);
            let state = write(written);
            volume.wait_pushed(&state);
            link.heal();
        }
        for toxic in broken {
            eprintln!("{toxic:?}");
            link.add(toxic);
            let state = write(written);
            volume.wait_outcome(Outcome::Failed);
            link.heal();
            volume.wait_pushed(&state);
            volume.wait_outcome(Outcome::Ok);
        }
        link.cut();
        let state = write(written);
        volume.wait_outcome(Outcome::Failed);
        link.heal();
        volume.wait_pushed(&state);
    });
}

#[test]
fn a_restore_goes_on_where_the_connection_was_cut() {
    let Some(store) = Minio::shared() else { return };
    let Some(link) = Link::start(store.address()) else {
        return;
    };
    let state = stored(&World::on(store, "resumed"));
    let world = World::through(store, link.address(), "resumed");
    let volume = world.volume("one").with("THE0_FETCH_DEADLINE", "20s");
    link.add(Toxic::LimitAnswer(4_000_000));
    volume.fetched();
    assert_eq!(volume.on_disk(), state);
}
