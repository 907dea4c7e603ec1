use std::net::TcpListener;
use std::time::Instant;

use ::tests::servers::mongo::{self, PASSWORD, USER, document};
use ::tests::{SOON, wait_for};
use mongodb::bson::Uuid;
use mongodb::bson::oid::ObjectId;
use tokio::runtime::Runtime;

use super::*;
use crate::bots::Offer;

const BOTS: &str = "bot_runner.bots";

/// Shorter than life, longer than a loaded machine takes.
const QUICK: Deadlines = Deadlines {
    server: Duration::from_millis(1500),
    answer: Duration::from_secs(2),
};

struct Reader {
    mongo: Mongo,
    runtime: Runtime,
}

impl Reader {
    fn new(uri: &str) -> Self {
        let mongo = Mongo::new(&Secret::new(uri), Place::default(), QUICK).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        Self { mongo, runtime }
    }

    fn list(&mut self) -> Result<Arc<Listing>, ListError> {
        self.runtime.block_on(self.mongo.list())
    }

    fn ids(&mut self) -> Vec<String> {
        let listing = self.list().unwrap();
        listing.bots.keys().map(ToString::to_string).collect()
    }

    /// The error of a listing, which must come in time.
    fn error(&mut self) -> String {
        let begun = Instant::now();
        let error = self.list().unwrap_err().to_string();
        assert!(begun.elapsed() < QUICK.server + QUICK.answer, "{error}");
        error
    }
}

#[test]
fn an_address_that_is_none_is_refused_without_its_password() {
    let rows = [
        ("hunter2", "no scheme"),
        ("postgres://h", "scheme"),
        ("mongodb://", "give mongodb://"),
        ("mongodb://h:port", "port"),
        ("mongodb://user:hun/ter2@h", "%2F"),
        ("mongodb://user:hunter2@h@h2", "%40"),
        ("mongodb://user:hunter2@h:port", "give mongodb://"),
        ("mongodb://user:hunter2@h/?retryReads=hunter2", "give"),
    ];
    for (uri, part) in rows {
        let refused = Mongo::new(&Secret::new(uri), Place::default(), QUICK);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(part), "{uri}: {text}");
        assert!(!text.contains("ter2"), "{text}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_in_time_with_its_address_and_the_remedy() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let address = address.unwrap().to_string();
    let mut reader = Reader::new(&format!("mongodb://user:hunter2@{address}/"));
    let begun = format!("mongodb {address}, {BOTS} cannot be listed: no server answers");
    for _ in 0..2 {
        let text = reader.error();
        assert!(text.starts_with(&begun), "{text}");
        assert!(text.contains("refused") && text.contains("start it"));
        assert!(!text.contains("hunter2") && !format!("{:?}", reader.mongo).contains("hunter2"));
    }
}

#[test]
fn a_server_that_says_nothing_is_told_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let text = Reader::new(&format!("mongodb://{address}")).error();
    assert!(text.contains("cannot be listed: no "), "{text}");
}

#[test]
fn a_password_is_not_told_however_it_is_written() {
    let hidden = error::hidden(&Secret::new("mongodb://u:hunter%402@h/?x=y@z"));
    assert!(hidden.contains(&"hunter@2".to_owned()), "{hidden:?}");
    let error = Failed::Driver(mongodb::error::Error::from(std::io::Error::other(
        "hunter@2 hunter%402",
    )));
    assert!(error.why(&[]).contains("hunter"));
    assert!(!error.why(&hidden).contains("hunter"));
    assert!(error::hidden(&Secret::new("mongodb://h")).is_empty());
}

#[test]
fn every_document_is_listed_once_whatever_its_key_and_nothing_of_its_schema_is_asked_for() {
    let Some(server) = mongo::Mongo::start() else {
        return;
    };
    let mut reader = Reader::new(&server.uri());
    assert!(reader.ids().is_empty());
    let count = i32::try_from(BATCH).unwrap() * 2 + 1;
    let all = (0..count).map(|n| {
        let mut document = document(&format!("bot{n:05}"), "u/b/1", doc! {});
        let key = match n % 5 {
            0 => Bson::Null,
            1 => Bson::String(format!("key {n}")),
            2 => Bson::Int32(n),
            3 => Uuid::new().into(),
            _ => ObjectId::new().into(),
        };
        if key != Bson::Null {
            document.insert("_id", key);
        }
        document
    });
    server.insert(BOTS, all);
    let listing = reader.list().unwrap();
    assert_eq!(i32::try_from(listing.bots.len()), Ok(count));
    assert!(listing.remarks.is_empty());
    assert!(
        listing
            .bots
            .values()
            .all(|l| matches!(l.offer, Offer::Bot(_)))
    );
    assert!(Arc::ptr_eq(&listing, &reader.list().unwrap()));

    let deep = doc! { "$set": { "custom.config.readme": "another", "custom.updatedAt": 1 } };
    let updated = server.update(BOTS, doc! {}, deep);
    assert_eq!(i32::try_from(updated), Ok(count));
    assert!(Arc::ptr_eq(&listing, &reader.list().unwrap()));
}

#[test]
fn a_change_is_seen_and_a_document_taken_away_is_absent() {
    let Some(server) = mongo::Mongo::start() else {
        return;
    };
    let mut reader = Reader::new(&server.uri());
    let bots = ["a", "b", "c"].map(|id| document(id, "u/b/1", doc! {}));
    server.insert(BOTS, bots);
    let before = reader.list().unwrap();
    server.put(BOTS, &document("b", "u/b/2", doc! {}));
    server.delete(BOTS, doc! { "id": "c" });
    let after = reader.list().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|id| id.parse().unwrap());
    assert_eq!(after.bots.keys().collect::<Vec<_>>(), [&a, &b]);
    assert!(before.get(&c).is_some());
    assert!(Arc::ptr_eq(&before.bots[&a], &after.bots[&a]));
    assert_eq!(after.bot(&b).unwrap().code.as_str(), "u/b/2");
    assert_ne!(before.wanted()[&b], after.wanted()[&b]);
}

#[test]
fn a_server_that_stands_still_or_ends_is_told_and_read_again_when_it_is_back() {
    let Some(mut server) = mongo::Mongo::start() else {
        return;
    };
    let mut reader = Reader::new(&server.uri());
    server.insert(BOTS, [document("a", "u/b/1", doc! {})]);
    assert_eq!(reader.ids(), ["a"]);

    server.freeze();
    let text = reader.error();
    assert!(text.contains("cannot be listed: no "), "{text}");
    server.thaw();
    wait_for("a listing", SOON, || reader.list().ok());

    server.stop();
    let text = reader.error();
    assert!(text.contains("start it"), "{text}");
    server.start_again();
    wait_for("a listing", SOON, || reader.list().ok());
    assert_eq!(reader.ids(), ["a"]);
}

#[test]
fn a_user_who_is_not_let_in_is_told_and_the_password_is_not() {
    let Some(server) = mongo::Mongo::start_with_password() else {
        return;
    };
    server.insert(BOTS, [document("a", "u/b/1", doc! {})]);
    assert_eq!(Reader::new(&server.uri()).ids(), ["a"]);

    let uri = format!("mongodb://{USER}:hunter2@{}/", server.address());
    let wrong = Reader::new(&uri).error();
    assert!(wrong.contains("user and password"), "{wrong}");
    let nobody = format!("mongodb://{}/", server.address());
    let nobody = Reader::new(&nobody).error();
    assert!(nobody.contains("user"), "{nobody}");
    server.command(doc! { "createUser": "guest", "pwd": "hunter2", "roles": [] });
    let guest = format!("mongodb://guest:hunter2@{}/", server.address());
    let guest = Reader::new(&guest).error();
    assert!(guest.contains("role `read`"), "{guest}");
    for text in [wrong, nobody, guest] {
        assert!(
            !text.contains("hunter2") && !text.contains(PASSWORD),
            "{text}"
        );
    }
}
