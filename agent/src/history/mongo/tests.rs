use ::tests::servers::mongo::{self, PASSWORD, USER};
use contract::record::{Reason, RunResult};
use serde_json::json;
use tokio::runtime::Runtime;

use super::*;
use crate::history::tests::{birth, bot, time};

const RUNS: &str = "bot_runner.runs";

fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap()
}

/// A run that began a little before now.
fn recent(run: u64) -> Entry {
    let ago = Duration::from_secs(100_000 - run);
    let at = std::time::SystemTime::now() - ago;
    Entry::open(&bot(), &birth(time(0)), run, at.into())
}

#[test]
fn a_record_comes_back_as_it_was() {
    let mut one = Entry::open(&bot(), &birth(time(5)), 3, time(7));
    one.because = Some("exit 1".into());
    let open = entry(document(&one).unwrap()).unwrap();
    assert_eq!(open, one);
    one.end(time(9));
    one.reason = Some(Reason::Oom);
    let said = json!({"status": "error", "message": "m", "data": {"$set": [1], "a.b": null}});
    one.result = RunResult::parse(said.to_string().as_bytes());
    let document = document(&one).unwrap();
    assert!(document.get_datetime("ended_at").is_ok());
    assert_eq!(entry(document).unwrap(), one);
}

#[test]
fn a_run_that_is_written_twice_is_one_document_and_the_oldest_make_way() {
    let Some(server) = mongo::Mongo::start() else {
        return;
    };
    let runtime = runtime();
    let mut mongo = Mongo::new(Secret::new(server.uri()));
    let listed = |mongo: &mut Mongo, n| runtime.block_on(mongo.list(&bot(), n)).unwrap();
    assert!(listed(&mut mongo, 9).is_empty());
    let mut first = recent(1);
    let put = |mongo: &mut Mongo, entry: &Entry| runtime.block_on(mongo.put(entry)).unwrap();
    put(&mut mongo, &first);
    first.end(Time::now());
    put(&mut mongo, &first);
    put(&mut mongo, &first);
    assert_eq!(listed(&mut mongo, 9), [first]);
    assert_eq!(server.all(RUNS).len(), 1);

    let documents = (2..=1100).map(|run| document(&recent(run)).unwrap());
    server.insert(RUNS, documents);
    let mut mongo = Mongo::new(Secret::new(server.uri()));
    put(&mut mongo, &recent(1101));
    assert_eq!(server.all(RUNS).len(), KEPT);
    let last = listed(&mut mongo, 2);
    assert_eq!([last[0].run, last[1].run], [1100, 1101], "oldest first");

    let indexes = runtime.block_on(async {
        let runs = mongo.runs().await.unwrap();
        let indexes = runs.list_indexes().await.unwrap();
        indexes.try_collect::<Vec<IndexModel>>().await.unwrap()
    });
    let ageing = indexes
        .iter()
        .find(|index| index.keys == doc! {"ended_at": 1});
    let options = ageing.unwrap().options.clone().unwrap();
    assert_eq!(options.expire_after, Some(AGE));
    assert!(indexes.iter().any(|index| {
        index
            .options
            .as_ref()
            .is_some_and(|options| options.unique == Some(true))
    }));
}

#[test]
fn a_database_that_does_not_answer_is_told_without_its_password() {
    let runtime = runtime();
    let uri = format!(
        "mongodb://{USER}:{PASSWORD}@127.0.0.1:1/",
        PASSWORD = "hunter2%40"
    );
    let mut mongo = Mongo::new(Secret::new(uri));
    let began = std::time::Instant::now();
    let text = runtime.block_on(mongo.put(&recent(1))).unwrap_err();
    let text = format!("{text:#} {mongo:?}");
    assert!(text.contains("no server answers"), "{text}");
    assert!(
        !text.contains("hunter2") && began.elapsed() < ANSWER * 2,
        "{text}"
    );
    assert!(!text.contains(PASSWORD));
}
