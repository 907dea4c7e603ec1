//! What every store does alike: one suite, run on the directory store, on MinIO and on the Versity gateway.
//!
//! Each test has a folder of keys of its own, so that the ones of one server can run side by side.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::servers::{self, Minio, Versity};

use super::{
    Address, Condition, Error, Etag, Metadata, Place, Probe, PutError, Store, Then, Upload,
};
use crate::keys::KeyRing;

const MIB: usize = 1 << 20;
const PART: usize = 5 * MIB;

/// A store under test, and keys of a test's own.
struct Bench {
    store: Store,
    server: Option<&'static servers::Store>,
    folder: String,
    _disk: Option<tempfile::TempDir>,
}

impl Bench {
    fn directory() -> Self {
        let disk = tempfile::tempdir().unwrap();
        let address = Address::Directory(disk.path().to_owned());
        Self {
            store: Store::open(&address, KeyRing::default()).unwrap(),
            server: None,
            folder: String::from("t"),
            _disk: Some(disk),
        }
    }

    fn server(server: &'static servers::Store) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            store: open(server),
            server: Some(server),
            folder: format!("t{}-{count}", std::process::id()),
            _disk: None,
        }
    }

    fn at(&self, name: &str) -> Place {
        let key = format!("{}/{name}", self.folder).parse().unwrap();
        Place::new("bot-state", key)
    }

    fn put(&self, at: &Place, condition: &Condition, bytes: &[u8]) -> Result<Etag, Error> {
        self.store.put_bytes(at, condition, &noted("1"), bytes)
    }

    fn content(&self, at: &Place) -> Vec<u8> {
        let mut object = self.store.get(at).unwrap();
        let mut bytes = Vec::new();
        object.body.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, object.head.size);
        bytes
    }

    fn names(&self) -> Vec<String> {
        let prefix = format!("{}/", self.folder);
        let keys = self.store.list("bot-state", &prefix).unwrap();
        let name = |key: contract::ObjectKey| key.as_str()[prefix.len()..].to_owned();
        keys.into_iter().map(name).collect()
    }
}

fn open(server: &servers::Store) -> Store {
    let variables = server.environment().into_iter().collect();
    let address = Address::parse(&variables).unwrap();
    Store::open(&address, KeyRing::from_environment(&variables)).unwrap()
}

fn noted(text: &str) -> Metadata {
    Metadata::from([("the0-note".to_owned(), text.to_owned())])
}

/// Bytes that are not the same at any two places of an object a part apart.
fn bytes(length: usize) -> Vec<u8> {
    let byte = |n: usize| (n ^ (n >> 8) ^ (n >> 16)).to_le_bytes()[0];
    (0..length).map(byte).collect()
}

fn is_conflict<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    match result {
        Err(Error::Conflict(_)) => true,
        other => panic!("no conflict: {other:?}"),
    }
}

/// A gateway may refuse a large object by closing the connection in the middle of it: then the caller looks again.
fn is_refused(result: Result<Etag, Error>) {
    match result {
        Err(Error::Conflict(_) | Error::Unavailable { .. }) => {}
        other => panic!("not refused: {other:?}"),
    }
}

fn a_write_happens_only_on_the_version_it_names(bench: &Bench) {
    let at = bench.at("a");
    assert_eq!(bench.store.head(&at).unwrap(), None);
    let nobodys = Condition::IfMatch(Etag("0123456789abcdef0123456789abcdef".into()));
    assert!(is_conflict(bench.put(&at, &nobodys, b"0")));
    assert_eq!(bench.store.head(&at).unwrap(), None);
    let first = bench.put(&at, &Condition::IfAbsent, b"1").unwrap();
    assert!(is_conflict(bench.put(&at, &Condition::IfAbsent, b"2")));
    let second = bench
        .put(&at, &Condition::IfMatch(first.clone()), b"two")
        .unwrap();
    assert!(is_conflict(bench.put(
        &at,
        &Condition::IfMatch(first),
        b"3"
    )));
    let head = bench.store.head(&at).unwrap().unwrap();
    assert_eq!((head.etag, head.size), (second, 3));
    assert_eq!(bench.content(&at), b"two");
    bench.put(&at, &Condition::Any, b"4").unwrap();
    assert_eq!(bench.content(&at), b"4");
}

fn of_many_who_create_one_wins(bench: &Bench) {
    let at = bench.at("race");
    let won = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..8u8 {
            let (at, won) = (&at, &won);
            scope.spawn(move || match bench.put(at, &Condition::IfAbsent, &[n]) {
                Ok(_) => won.fetch_add(1, Ordering::Relaxed),
                // The second is what a store says that is asked too often at once: the loser looks again.
                Err(Error::Conflict(_) | Error::Unavailable { .. }) => 0,
                Err(error) => panic!("{error}"),
            });
        }
    });
    assert_eq!(won.into_inner(), 1);
}

fn metadata_is_switched_with_the_content(bench: &Bench) {
    let at = bench.at("noted");
    let read = || bench.store.get(&at).unwrap().head.metadata;
    bench
        .store
        .put_bytes(&at, &Condition::Any, &noted("old"), b"1")
        .unwrap();
    assert_eq!(read(), noted("old"));
    let more = Metadata::from([
        ("generation".into(), "7".into()),
        ("digest".into(), "a b=c/d".into()),
    ]);
    bench
        .store
        .put_bytes(&at, &Condition::Any, &more, b"2")
        .unwrap();
    assert_eq!(read(), more);
    assert_eq!(bench.store.head(&at).unwrap().unwrap().metadata, more);
    bench
        .store
        .put_bytes(&at, &Condition::Any, &Metadata::new(), b"3")
        .unwrap();
    assert_eq!(read(), Metadata::new());
}

fn objects_of_every_size_come_back_as_they_were(bench: &Bench) {
    for length in [0, 1, PART - 1, PART, PART + 1, 12 * MIB] {
        let (at, given) = (bench.at(&format!("size/{length}")), bytes(length));
        for condition in [Condition::IfAbsent, Condition::Any] {
            let etag = bench.put(&at, &condition, &given).unwrap();
            let head = bench.store.head(&at).unwrap().unwrap();
            assert_eq!((&head.etag, head.size), (&etag, length as u64));
            assert_eq!(head.metadata, noted("1"));
        }
        assert!(bench.content(&at) == given, "{length} bytes changed");
        is_refused(bench.put(&at, &Condition::IfAbsent, &given));
        let etag = bench.store.head(&at).unwrap().unwrap().etag;
        let named = Condition::IfMatch(etag);
        let shorter = bench.put(&at, &named, b"shorter").unwrap();
        is_refused(bench.put(&at, &named, &given));
        let head = bench.store.head(&at).unwrap().unwrap();
        assert_eq!((head.etag, head.size), (shorter, 7));
    }
}

fn keys_may_be_odd(bench: &Bench) {
    let mut names = vec![
        "with space",
        "plus+plus",
        "100%",
        "%41",
        "späß/日本",
        "a&b=c?d#e",
        "~tilde",
        "quo'te\"",
        "(x)[y]{z}",
        "a;b,c:d@e!$*",
        ".hidden",
        "x..y",
        "<&>",
    ];
    names.sort_unstable();
    for name in &names {
        let at = bench.at(name);
        let etag = bench
            .put(&at, &Condition::IfAbsent, name.as_bytes())
            .unwrap();
        assert_eq!(bench.content(&at), name.as_bytes(), "{name}");
        bench
            .store
            .copy(&at, &etag, &bench.at(&format!("copy/{name}")))
            .unwrap();
    }
    let copies: Vec<_> = names.iter().map(|name| format!("copy/{name}")).collect();
    let mut all: Vec<_> = names
        .iter()
        .map(ToString::to_string)
        .chain(copies)
        .collect();
    all.sort();
    assert_eq!(bench.names(), all);
    for name in &all {
        bench.store.delete(&bench.at(name)).unwrap();
    }
    assert_eq!(bench.names(), [""; 0]);
}

fn a_fill_that_fails_changes_nothing(bench: &Bench) {
    let at = bench.at("torn");
    bench.put(&at, &Condition::Any, b"old").unwrap();
    for length in [3, 12 * MIB] {
        let failed = bench.store.put(&at, &Condition::Any, &noted("new"), |out| {
            out.write_all(&bytes(length)).unwrap();
            Err("torn")
        });
        assert!(matches!(failed, Err(PutError::Fill("torn"))), "{failed:?}");
        assert_eq!(bench.content(&at), b"old");
        assert_eq!(bench.store.head(&at).unwrap().unwrap().metadata, noted("1"));
    }
}

fn ranges_of_the_replaced_version_can_be_taken_over(bench: &Bench) {
    let (at, old) = (bench.at("ranges"), bytes(17 * MIB));
    let first = bench.put(&at, &Condition::Any, &old).unwrap();
    let named = Condition::IfMatch(first);
    let (cut, most) = (6 * MIB as u64, 14 * MIB as u64);
    let fill = |out: &mut Upload<'_>| {
        assert!(out.can_copy(cut, Then::More));
        out.copy(0..cut)?;
        out.write_all(&vec![1; 3 * MIB])?;
        out.write_all(&vec![2; 3 * MIB])?;
        assert!(out.can_copy(most - cut, Then::More));
        out.copy(cut..most)?;
        assert!(out.can_copy(7, Then::End));
        out.copy(2..9)
    };
    bench.store.put(&at, &named, &noted("new"), fill).unwrap();
    let (cut, most) = (6 * MIB, 14 * MIB);
    let new = [
        &old[..cut],
        &vec![1; 3 * MIB],
        &vec![2; 3 * MIB],
        &old[cut..most],
        &old[2..9],
    ]
    .concat();
    assert!(bench.content(&at) == new);
    assert_eq!(
        bench.store.head(&at).unwrap().unwrap().metadata,
        noted("new")
    );
}

fn a_range_of_a_version_that_is_gone_is_a_conflict(bench: &Bench) {
    let at = bench.at("gone");
    let first = bench.put(&at, &Condition::Any, &bytes(6 * MIB)).unwrap();
    let second = Arc::new(std::sync::Mutex::new(None));
    let fill = |out: &mut Upload<'_>| {
        let etag = bench.put(&at, &Condition::Any, &bytes(7 * MIB)).unwrap();
        *second.lock().unwrap() = Some(etag);
        out.copy(0..6 * MIB as u64)
    };
    let put = bench
        .store
        .put(&at, &Condition::IfMatch(first), &noted("new"), fill);
    assert!(
        matches!(put, Err(PutError::Store(Error::Conflict(_)))),
        "{put:?}"
    );
    let head = bench.store.head(&at).unwrap().unwrap();
    assert_eq!(Some(head.etag), second.lock().unwrap().take());
}

fn nothing_can_be_copied_of_a_version_that_is_not_named(bench: &Bench) {
    let at = bench.at("unnamed");
    for condition in [Condition::Any, Condition::IfAbsent] {
        let fill = |out: &mut Upload<'_>| {
            assert!(!out.can_copy(6 * MIB as u64, Then::End));
            out.write_all(b"x")
        };
        bench.store.delete(&at).unwrap();
        bench.store.put(&at, &condition, &noted("1"), fill).unwrap();
    }
}

fn an_append_lengthens_and_switches_what_is_noted(bench: &Bench) {
    let at = bench.at("log/day.log");
    let append = |condition: &Condition, n: &str, more: &[u8]| {
        bench.store.append(&at, condition, &noted(n), more)
    };
    let first = append(&Condition::IfAbsent, "1", b"one\n").unwrap();
    assert!(is_conflict(append(&Condition::IfAbsent, "2", b"x")));
    let second = append(&Condition::IfMatch(first.clone()), "2", b"two\n").unwrap();
    assert!(is_conflict(append(&Condition::IfMatch(first), "3", b"x")));
    assert_eq!(bench.content(&at), b"one\ntwo\n");
    let mut expected = b"one\ntwo\n".to_vec();
    let mut etag = second;
    for (n, length) in [
        ("3", 3 * MIB),
        ("4", 3 * MIB),
        ("5", 100),
        ("6", 7 * MIB),
        ("7", 1),
    ] {
        let more = bytes(length);
        etag = append(&Condition::IfMatch(etag), n, &more).unwrap();
        expected.extend_from_slice(&more);
        let head = bench.store.head(&at).unwrap().unwrap();
        assert_eq!((&head.etag, head.size), (&etag, expected.len() as u64));
        assert_eq!(head.metadata, noted(n));
    }
    assert!(bench.content(&at) == expected);
    append(&Condition::Any, "8", b"end").unwrap();
    assert!(bench.content(&at).ends_with(b"end"));
    let gone = bench.at("log/other.log");
    assert!(is_conflict(bench.store.append(
        &gone,
        &Condition::IfMatch(etag),
        &noted("9"),
        b"x"
    )));
}

fn a_copy_is_of_the_version_that_is_named(bench: &Bench) {
    let (at, to) = (bench.at("original"), bench.at("kept/copy"));
    let first = bench.put(&at, &Condition::Any, &bytes(6 * MIB)).unwrap();
    bench.store.copy(&at, &first, &to).unwrap();
    bench.put(&at, &Condition::Any, b"new").unwrap();
    assert!(bench.content(&to) == bytes(6 * MIB));
    assert_eq!(bench.store.head(&to).unwrap().unwrap().metadata, noted("1"));
    assert!(is_conflict(bench.store.copy(
        &at,
        &first,
        &bench.at("kept/late")
    )));
    let missing = bench.store.copy(&bench.at("nothing"), &first, &to);
    let missing = missing.unwrap_err();
    assert!(
        matches!(missing, Error::NotFound(_) | Error::Conflict(_)),
        "{missing}"
    );
    assert_eq!(bench.names(), ["kept/copy", "original"]);
}

fn what_is_not_there_is_not_found_and_may_be_deleted(bench: &Bench) {
    let at = bench.at("nothing");
    assert!(matches!(bench.store.get(&at), Err(Error::NotFound(place)) if place == at));
    assert_eq!(bench.store.head(&at).unwrap(), None);
    bench.store.delete(&at).unwrap();
    bench.put(&at, &Condition::Any, b"").unwrap();
    assert_eq!(bench.content(&at), b"");
    bench.store.delete(&at).unwrap();
    assert_eq!(bench.store.head(&at).unwrap(), None);
}

fn conditions_are_honoured(bench: &Bench) {
    let scratch = bench.at("probe");
    for probe in [Probe::Put, Probe::Complete] {
        assert!(bench.store.honours_conditions(&scratch, probe).unwrap());
        assert_eq!(bench.store.head(&scratch).unwrap(), None);
    }
}

/// Leaves an upload in parts as a writer does that is killed.
fn cut_off(bench: &Bench, at: &Place) {
    let put = || {
        let fill = |out: &mut Upload<'_>| -> Result<(), ()> {
            out.write_all(&bytes(2 * PART)).unwrap();
            out.write_all(b"more").unwrap();
            resume_unwind(Box::new(()))
        };
        bench.store.put(at, &Condition::Any, &noted("1"), fill)
    };
    assert!(catch_unwind(AssertUnwindSafe(put)).is_err());
}

fn uploads_that_were_cut_off_are_ended(bench: &Bench) {
    let (at, other) = (bench.at("cut"), bench.at("cut.other"));
    cut_off(bench, &at);
    cut_off(bench, &at);
    cut_off(bench, &other);
    let expected = |some| if bench.server.is_some() { some } else { 0 };
    assert_eq!(bench.store.abandon_uploads(&at).unwrap(), expected(2));
    assert_eq!(bench.store.abandon_uploads(&at).unwrap(), 0);
    assert_eq!(bench.store.abandon_uploads(&other).unwrap(), expected(1));
    assert_eq!(bench.store.head(&at).unwrap(), None);
    let fill = |out: &mut Upload<'_>| {
        out.write_all(&bytes(2 * PART))?;
        out.write_all(b"more")?;
        bench
            .store
            .abandon_uploads(&at)
            .map_err(std::io::Error::other)?;
        out.write_all(b"still")
    };
    let put = bench
        .store
        .put(&at, &Condition::IfAbsent, &noted("1"), fill);
    if bench.server.is_some() {
        // A server may hang up in the middle of a part of an upload that is gone; the next try learns why.
        let ended = |put: &PutError<std::io::Error>| {
            matches!(
                put,
                PutError::Store(Error::Conflict(_) | Error::Unavailable { .. })
            )
        };
        assert!(put.as_ref().is_err_and(ended), "{put:?}");
        assert_eq!(bench.store.head(&at).unwrap(), None, "nothing of it");
    }
}

fn a_list_is_whole_and_sorted(bench: &Bench) {
    for n in 0..1_005 {
        bench
            .put(&bench.at(&format!("many/{n:04}")), &Condition::Any, b"")
            .unwrap();
    }
    bench
        .put(&bench.at("manyother"), &Condition::Any, b"")
        .unwrap();
    let prefix = format!("{}/many/", bench.folder);
    let keys = bench.store.list("bot-state", &prefix).unwrap();
    let expected = (0..1_005).map(|n| format!("{prefix}{n:04}"));
    assert!(keys.iter().map(|key| key.as_str().to_owned()).eq(expected));
    assert_eq!(bench.store.list("bot-state", "nobody/").unwrap(), []);
}

fn a_foreign_object_has_nothing_noted(bench: &Bench) {
    let Some(server) = bench.server else { return };
    let at = bench.at("foreign");
    let etag = bench.put(&at, &Condition::Any, b"ours").unwrap();
    server.client().put("bot-state", at.key.as_str(), b"theirs");
    let head = bench.store.head(&at).unwrap().unwrap();
    assert_eq!(head.metadata, Metadata::new());
    assert!(is_conflict(bench.put(
        &at,
        &Condition::IfMatch(etag),
        b"ours"
    )));
    bench
        .store
        .put_bytes(&at, &Condition::IfMatch(head.etag), &noted("1"), b"ours")
        .unwrap();
    let seen = server.client().get("bot-state", at.key.as_str()).unwrap();
    assert_eq!(seen.bytes, b"ours");
}

fn a_bucket_that_is_missing_is_an_outage(bench: &Bench) {
    if bench.server.is_none() {
        return;
    }
    let at = Place::new("no-such-bucket", "a/b".parse().unwrap());
    let told = |error: Error| {
        let text = error.to_string();
        assert!(matches!(error, Error::Unavailable { .. }), "{text}");
        assert!(
            text.contains("bucket no-such-bucket does not exist: create it"),
            "{text}"
        );
    };
    told(bench.store.get(&at).unwrap_err());
    told(bench.store.head(&at).unwrap_err());
    told(bench.put(&at, &Condition::IfAbsent, b"x").unwrap_err());
    told(
        bench
            .put(&at, &Condition::IfAbsent, &bytes(12 * MIB))
            .unwrap_err(),
    );
    told(bench.store.list("no-such-bucket", "a").unwrap_err());
    told(bench.store.delete(&at).unwrap_err());
}

/// Writes down each behaviour as a test of every store.
macro_rules! behaviours {
    ($($name:ident),+ $(,)?) => {
        mod directory {
            $(#[test] fn $name() { super::$name(&super::Bench::directory()); })+
        }
        mod minio {
            $(#[test] fn $name() {
                if let Some(server) = super::Minio::shared() { super::$name(&super::Bench::server(server)); }
            })+
        }
        mod versity {
            $(#[test] fn $name() {
                if let Some(server) = super::Versity::shared() { super::$name(&super::Bench::server(server)); }
            })+
        }
    };
}

behaviours!(
    a_write_happens_only_on_the_version_it_names,
    of_many_who_create_one_wins,
    metadata_is_switched_with_the_content,
    objects_of_every_size_come_back_as_they_were,
    keys_may_be_odd,
    a_fill_that_fails_changes_nothing,
    ranges_of_the_replaced_version_can_be_taken_over,
    a_range_of_a_version_that_is_gone_is_a_conflict,
    nothing_can_be_copied_of_a_version_that_is_not_named,
    an_append_lengthens_and_switches_what_is_noted,
    a_copy_is_of_the_version_that_is_named,
    what_is_not_there_is_not_found_and_may_be_deleted,
    conditions_are_honoured,
    uploads_that_were_cut_off_are_ended,
    a_list_is_whole_and_sorted,
    a_foreign_object_has_nothing_noted,
    a_bucket_that_is_missing_is_an_outage,
);
