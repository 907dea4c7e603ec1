use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::*;

fn document(id: &str) -> Document {
    doc! {
        "_id": format!("key of {id}"), "id": id, "segment_id": 3.0,
        "config": { "customBotId": "c", "limit": 5.0, "since": 7_i64 },
        "custom": {
            "version": "1.2.0", "filePath": "u/b/1.2.0",
            "config": {
                "name": "b", "type": "realtime", "runtime": "python3.11", "version": "1.0.0",
                "entrypoints": { "bot": "main.py" }
            }
        },
        "unknown": { "kept": [1] }
    }
}

/// The document with the field at `path` (of names with dots) set, or taken away where `value` is undefined.
fn with(mut document: Document, path: &str, value: impl Into<Bson>) -> Document {
    let (way, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut holder = &mut document;
    for name in way.split('.').filter(|name| !name.is_empty()) {
        holder = holder.get_document_mut(name).unwrap();
    }
    match value.into() {
        Bson::Undefined => drop(holder.remove(last)),
        value => drop(holder.insert(last, value)),
    }
    document
}

fn list(rows: &mut Rows, documents: &[Document]) -> Arc<Listing> {
    let look = |document: &Document| {
        let document = RawDocumentBuf::try_from(document).unwrap();
        rows.look_up(&document)
    };
    let found = documents.iter().map(look).collect();
    rows.turn(found)
}

fn new() -> Rows {
    Rows::new("d.bots".into(), Kind::Bots)
}

/// The one bot of a listing of this document.
fn bot(document: Document) -> Bot {
    let listing = list(&mut new(), &[document]);
    let (id, listed) = listing.bots.first_key_value().unwrap();
    match &listed.offer {
        Offer::Bot(_) => listing.bot(id).unwrap().clone(),
        other => panic!("{other:?}"),
    }
}

fn why(listing: &Listing, id: &str) -> String {
    match &listing.bots[&id.parse().unwrap()].offer {
        Offer::Unusable(why) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_document_of_the_platform_is_a_bot() {
    let bot = bot(document("abc"));
    assert_eq!((bot.id.as_str(), bot.code.as_str()), ("abc", "u/b/1.2.0"));
    assert_eq!(bot.definition.version, "1.2.0");
    let config: serde_json::Value = serde_json::from_str(bot.config.reveal()).unwrap();
    let expected = serde_json::json!({"customBotId": "c", "limit": 5, "since": 7});
    assert_eq!(config, expected);
    assert!(bot.enabled && !bot.has_schedule);
}

#[test]
fn older_documents_scheduled_ones_and_those_with_limits_are_bots_too() {
    let old = with(document("a"), "custom.filePath", Bson::Undefined);
    let old = bot(with(old, "custom.gcsPath", "gs://bucket/u/b/1.zip"));
    assert_eq!(old.code.as_str(), "u/b/1.zip");

    let scheduled = with(document("a"), "custom.config.type", "scheduled");
    let scheduled = bot(with(scheduled, "config.schedule", "@hourly"));
    assert!(scheduled.has_schedule);
    assert_eq!(scheduled.definition.kind, contract::BotType::Scheduled);

    let limited = with(document("a"), "config.memory_limit", "64Mi");
    let limited = bot(with(limited, "config.cpu_limit", 0.5)).bounds;
    let expected = (Some(64 << 20), Some(500_000_000));
    assert_eq!((limited.memory, limited.cpu), expected);
}

#[test]
fn enabled_is_read_in_all_its_shapes() {
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    let rows = [
        (Bson::Undefined, true),
        (Bson::Null, true),
        (true.into(), true),
        (false.into(), false),
        ("false".into(), false),
        ("0".into(), false),
        ("False".into(), true),
        ("".into(), true),
        (0.into(), false),
        (0_i64.into(), false),
        (0.0.into(), false),
        ((-0.0).into(), false),
        (decimal("0.00"), false),
        (1.into(), true),
        (0.5.into(), true),
        (f64::NAN.into(), true),
        (decimal("0.01"), true),
        (doc! { "on": false }.into(), true),
        (Bson::Array(vec![]), true),
    ];
    for (given, expected) in rows {
        for place in ["enabled", "config.enabled"] {
            let is = bot(with(document("a"), place, given.clone())).enabled;
            assert_eq!(is, expected, "{place} {given:?}");
        }
        // The root counts before the parameters.
        if !matches!(given, Bson::Undefined | Bson::Null) {
            let both = with(document("a"), "enabled", given.clone());
            let both = with(both, "config.enabled", !expected);
            assert_eq!(bot(both).enabled, expected, "{given:?}");
        }
    }
}

#[test]
fn a_document_that_cannot_be_used_is_told_by_its_id_and_spoils_only_itself() {
    let rows = [
        ("config", Bson::Int32(1), "config: is not a mapping"),
        ("custom", Bson::Undefined, "custom.config: is not"),
        ("custom.config", "x".into(), "custom.config: is not"),
        (
            "custom.filePath",
            Bson::Undefined,
            "custom.filePath: is missing",
        ),
        (
            "custom.filePath",
            1.into(),
            "custom.filePath: is not a text",
        ),
        (
            "custom.config.type",
            "event".into(),
            "custom.config.type: event",
        ),
        (
            "custom.config.entrypoints",
            Bson::Null,
            "entrypoints.bot: is missing",
        ),
        (
            "config.memory_limit",
            "hunter2".into(),
            "config.memory_limit: is not",
        ),
    ];
    for (path, value, part) in rows {
        let bad = with(document("bad"), path, value);
        let listing = list(&mut new(), &[document("a"), bad, document("b")]);
        assert_eq!(listing.bots.len(), 3);
        let why = why(&listing, "bad");
        assert!(
            why.starts_with("d.bots, _id \"key of bad\", id bad: "),
            "{why}"
        );
        assert!(why.contains(part) && !why.contains("hunter2"), "{why}");
        assert!(listing.remarks.is_empty());
    }
}

#[test]
fn a_document_without_an_id_is_told_by_its_key_and_left_out() {
    let rows = [
        (Bson::Undefined, "id: is missing"),
        (Bson::Null, "id: is not a text"),
        (7.into(), "id: is not a text"),
        ("../etc".into(), "not usable"),
        ("".into(), "not usable"),
    ];
    for (id, part) in rows {
        let bad = with(document("bad"), "id", id);
        let listing = list(&mut new(), &[document("a"), bad]);
        assert_eq!(listing.bots.len(), 1);
        let [remark] = &*listing.remarks else {
            panic!("{:?}", listing.remarks);
        };
        assert!(
            remark.starts_with("d.bots, _id \"key of bad\": "),
            "{remark}"
        );
        assert!(remark.contains(part), "{remark}");
    }
    let many = (0..TOLD + 5).map(|n| with(document("x"), "_id", n.to_string()));
    let many: Vec<_> = many.map(|d| with(d, "id", Bson::Null)).collect();
    let remarks = &list(&mut new(), &many).remarks;
    assert_eq!(remarks.len(), TOLD + 1);
    assert!(
        remarks[TOLD].starts_with("d.bots: 5 more"),
        "{}",
        remarks[TOLD]
    );
}

#[test]
fn several_documents_with_one_id_are_none_of_them_the_bot() {
    let twin = |n: i32| with(document("twin"), "_id", n);
    let listing = list(&mut new(), &[twin(1), document("a"), twin(2), twin(3)]);
    assert_eq!(listing.bots.len(), 2);
    let why = why(&listing, "twin");
    for n in 1..=3 {
        assert!(why.contains(&format!("_id {n}")), "{why}");
    }
    assert!(why.contains("remove all but one"), "{why}");
}

#[test]
fn only_what_changed_is_worked_out_again() {
    let mut rows = new();
    let all = ["a", "b", "c"].map(document);
    let first = list(&mut rows, &all);
    let ids: [BotId; 3] = ["a", "b", "c"].map(|id| id.parse().unwrap());
    assert!(Arc::ptr_eq(&first, &list(&mut rows, &all)));
    let mut turned = all.clone();
    turned.reverse();
    assert!(Arc::ptr_eq(&first, &list(&mut rows, &turned)));

    let mut changed = all.clone();
    changed[1] = with(document("b"), "config.limit", 6);
    let second = list(&mut rows, &changed);
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&first.bots[&ids[0]], &second.bots[&ids[0]]));
    assert_ne!(first.wanted()[&ids[1]], second.wanted()[&ids[1]]);

    let third = list(&mut rows, &all[..2]);
    assert!(third.get(&ids[2]).is_none());
    assert_eq!(first.bots[&ids[1]], third.bots[&ids[1]]);

    let fourth = list(&mut rows, &all);
    assert_eq!(*first, *fourth);
    assert!(list(&mut rows, &[]).bots.is_empty());
}

#[test]
fn a_bot_that_an_event_has_deleted_is_gone_and_nothing_of_its_document_is_asked_for() {
    let deleted = mongodb::bson::DateTime::from_millis(1);
    let tombstone = |id: &str| doc! { "id": id, "the0": { "seq": 1_i64, "deleted": deleted } };
    let all = [
        tombstone("gone"),
        document("a"),
        tombstone("b"),
        tombstone("b"),
    ];
    let mut listing = list(&mut new(), &all);
    let offer = |id: &str| listing.bots[&id.parse().unwrap()].offer.clone();
    assert_eq!([offer("gone"), offer("b")], [Offer::Gone, Offer::Gone]);
    assert!(matches!(offer("a"), Offer::Bot(_)));

    // One that lives beside one that is gone: nobody can say which is meant.
    listing = list(&mut new(), &[tombstone("a"), document("a")]);
    assert!(why(&listing, "a").contains("remove all but one"));
    let known = with(
        document("a"),
        "the0",
        doc! { "seq": 1_i64, "stream": 2_i64 },
    );
    assert_eq!(bot(known).id.as_str(), "a");
}
