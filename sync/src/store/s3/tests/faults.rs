//! The client on MinIO through a proxy that does to single requests what networks do.

use ::tests::servers::faults::{Fault, Proxy};
use ::tests::servers::{self, Minio};

use super::*;
use crate::store::{Probe, Store};

const MIB: usize = 1 << 20;

struct Way {
    server: &'static servers::Store,
    proxy: Proxy,
    store: Store,
}

/// The way to the shared MinIO; `None` where it is not installed.
fn way() -> Option<Way> {
    let server = Minio::shared()?;
    let proxy = Proxy::start(server.address());
    let quick = Times {
        pause: Duration::from_millis(1),
        ..Times::default()
    };
    let keys = KeyRing::from_environment(&server.environment().into_iter().collect());
    let store = S3::with_times(&endpoint(proxy.address()), keys, quick).unwrap();
    Some(Way {
        server,
        proxy,
        store: Store::S3(store),
    })
}

fn place(name: &str) -> Place {
    let key = format!("faults-{}/{name}", std::process::id());
    Place::new("bot-state", key.parse().unwrap())
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| (n ^ (n >> 9)).to_le_bytes()[0])
        .collect()
}

impl Way {
    /// As another client sees it.
    fn seen(&self, at: &Place) -> Option<Vec<u8>> {
        let object = self.server.client().get(&at.bucket, at.key.as_str());
        object.map(|object| object.bytes)
    }

    fn put(&self, at: &Place, bytes: &[u8]) -> Result<Etag, Error> {
        self.store
            .put_bytes(at, &Condition::Any, &Metadata::new(), bytes)
    }

    fn methods(&self) -> Vec<String> {
        self.proxy
            .requests()
            .into_iter()
            .map(|request| request.method)
            .collect()
    }
}

#[test]
fn a_byte_that_is_flipped_on_the_way_is_found_and_sent_again() {
    let Some(way) = way() else { return };
    for (name, length, part) in [
        ("flip-small", 5_000, "flip-small"),
        ("flip-large", 12 * MIB, "partNumber=2"),
    ] {
        let at = place(name);
        way.proxy.fail("PUT", part, 1, Fault::FlipRequest(1_000));
        way.put(&at, &bytes(length)).unwrap();
        assert!(way.seen(&at) == Some(bytes(length)), "{name}");
    }
    let refused = way
        .proxy
        .requests()
        .into_iter()
        .filter(|request| request.status == 400);
    assert_eq!(refused.count(), 2);
}

#[test]
fn a_part_whose_answer_is_lost_is_sent_again_and_the_last_request_is_not() {
    let Some(way) = way() else { return };
    let at = place("lost");
    way.proxy.fail("PUT", "partNumber=1", 1, Fault::LoseAnswer);
    way.put(&at, &bytes(12 * MIB)).unwrap();
    assert!(way.seen(&at) == Some(bytes(12 * MIB)));
    way.proxy.fail("POST", "uploadId", 1, Fault::LoseAnswer);
    let unknown = way.put(&at, &bytes(13 * MIB));
    assert!(
        matches!(unknown, Err(Error::Unavailable { .. })),
        "{unknown:?}"
    );
    assert!(way.seen(&at) == Some(bytes(13 * MIB)));
    way.proxy.fail("PUT", "lost", 1, Fault::LoseAnswer);
    let unknown = way.put(&at, b"small");
    assert!(
        matches!(unknown, Err(Error::Unavailable { .. })),
        "{unknown:?}"
    );
    assert_eq!(way.seen(&at).unwrap(), b"small");
}

#[test]
fn an_object_that_is_cut_on_the_way_comes_whole() {
    let Some(way) = way() else { return };
    let (at, given) = (place("cut"), bytes(12 * MIB));
    way.put(&at, &given).unwrap();
    way.proxy.fail("GET", "cut", 3, Fault::CutAnswer(MIB + 17));
    let mut came = Vec::new();
    way.store
        .get(&at)
        .unwrap()
        .body
        .read_to_end(&mut came)
        .unwrap();
    assert!(came == given);
    way.proxy.fail("GET", "cut", 99, Fault::CutAnswer(17));
    let failed = way
        .store
        .get(&at)
        .unwrap()
        .body
        .read_to_end(&mut Vec::new());
    assert!(failed.unwrap_err().to_string().contains("cut 6 times"));
}

#[test]
fn an_object_that_is_said_to_be_longer_is_no_object() {
    let Some(way) = way() else { return };
    let at = place("longer");
    way.put(&at, b"content").unwrap();
    way.proxy.fail("GET", "longer", 99, Fault::WrongLength(3));
    let failed = way
        .store
        .get(&at)
        .unwrap()
        .body
        .read_to_end(&mut Vec::new());
    assert!(failed.is_err(), "{failed:?}");
}

#[test]
fn a_store_that_passes_conditions_over_is_found_out_and_nothing_is_left() {
    let Some(way) = way() else { return };
    let at = place("probe");
    way.proxy.script(|_| Some(Fault::StripConditions));
    for probe in [Probe::Put, Probe::Complete] {
        assert!(!way.store.honours_conditions(&at, probe).unwrap());
        assert_eq!(way.seen(&at), None);
    }
    let unable = "<Error><Code>NotImplemented</Code></Error>";
    way.proxy
        .fail("PUT", "probe", 1, Fault::Answer(501, unable.to_owned()));
    assert!(!way.store.honours_conditions(&at, Probe::Put).unwrap());
}

#[test]
fn an_append_costs_few_requests_and_does_not_bring_a_large_object_here() {
    let Some(way) = way() else { return };
    let at = place("day.log");
    let append = |condition: Condition, length: usize| {
        way.store
            .append(&at, &condition, &Metadata::new(), &bytes(length))
            .unwrap()
    };
    let first = append(Condition::IfAbsent, 100);
    let second = append(Condition::IfMatch(first), 6 * MIB);
    assert_eq!(way.methods(), ["PUT", "GET", "PUT"]);
    way.proxy.forget();
    append(Condition::IfMatch(second), 1_000);
    assert_eq!(way.methods(), ["POST", "PUT", "PUT", "POST"]);
    let requests = way.proxy.requests();
    let sent: usize = requests.iter().map(|request| request.length).sum();
    assert!(sent < 2_000, "{sent} bytes were sent");
}

#[test]
fn a_failed_upload_leaves_no_parts_behind() {
    let Some(server) = Minio::start() else { return };
    let proxy = Proxy::start(server.address());
    let keys = KeyRing::from_environment(&server.environment().into_iter().collect());
    let store = S3::open(&endpoint(proxy.address()), keys).unwrap();
    let fill = |out: &mut Upload<'_>| {
        out.write_all(&bytes(12 * MIB)).unwrap();
        assert_eq!(server.unfinished_uploads(), 1);
        Err("torn")
    };
    let torn = store.put(&at(), &Condition::Any, &Metadata::new(), fill);
    assert!(matches!(torn, Err(PutError::Fill("torn"))), "{torn:?}");
    assert_eq!(server.unfinished_uploads(), 0);
    let nobodys = Condition::IfMatch(Etag(NOBODYS.to_owned()));
    let fill = |out: &mut Upload<'_>| out.write_all(&bytes(12 * MIB));
    let late = store.put(&at(), &nobodys, &Metadata::new(), fill);
    assert!(
        matches!(late, Err(PutError::Store(Error::Conflict(_)))),
        "{late:?}"
    );
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    proxy.fail(
        "PUT",
        "partNumber=2",
        1,
        Fault::Answer(403, denied.to_owned()),
    );
    let failed = store.put(&at(), &Condition::Any, &Metadata::new(), fill);
    assert!(
        matches!(failed, Err(PutError::Store(Error::Unavailable { .. }))),
        "{failed:?}"
    );
    assert_eq!(server.unfinished_uploads(), 0);
}
