//! The real MongoDB the tests run against: what they rely on.

use tests::servers::mongo::{Mongo, PASSWORD, bson::doc, document};

const BOTS: &str = "bot_runner.bots";

#[test]
fn a_mongod_keeps_what_it_is_given_and_comes_back_with_it() {
    let Some(mut mongo) = Mongo::start() else {
        return;
    };
    assert!(mongo.all(BOTS).is_empty());
    let ids = ["a", "b", "c"].map(|id| document(id, "u/b/1.0.0", doc! {}));
    mongo.insert(BOTS, ids);
    mongo.put(BOTS, &document("b", "u/b/2.0.0", doc! { "symbol": "BTC" }));
    mongo.put(BOTS, &document("d", "u/b/1.0.0", doc! {}));
    let off = doc! { "$set": { "enabled": false } };
    assert_eq!(mongo.update(BOTS, doc! { "id": "c" }, off), 1);
    assert_eq!(mongo.delete(BOTS, doc! { "id": "a" }), 1);
    let address = mongo.address().to_owned();
    mongo.stop();
    mongo.start_again();
    assert_eq!(mongo.address(), address);
    let all = mongo.all(BOTS);
    let ids: Vec<_> = all
        .iter()
        .filter_map(|found| found.get_str("id").ok())
        .collect();
    assert_eq!(ids, ["b", "c", "d"]);
    let custom = all[0].get_document("custom").unwrap();
    assert_eq!(custom.get_str("filePath").unwrap(), "u/b/2.0.0");
    assert!(!all[1].get_bool("enabled").unwrap());
}

#[test]
fn a_mongod_with_a_password_is_a_primary_that_knows_its_user() {
    let Some(mongo) = Mongo::start_with_password() else {
        return;
    };
    mongo.insert(BOTS, [document("a", "u/b/1.0.0", doc! {})]);
    assert_eq!(mongo.all(BOTS).len(), 1);
    assert!(!mongo.uri().contains(PASSWORD));
    let status = mongo.command(doc! { "replSetGetStatus": 1 });
    assert_eq!(status.get_i32("myState").unwrap(), 1);
}
