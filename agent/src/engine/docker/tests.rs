//! An engine on a daemon that a test plays: what happens is told to it, and the requests it makes are seen.

use std::collections::HashMap;
use std::path::Path;

use ::tests::servers::{Fault, Proxy, Request};
use contract::launch::Variables;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::examine::Origin;
use super::template::Template;
use super::*;
use crate::engine::keys::KeyMaker;
use crate::history::Start;
use crate::history::cause::Cause;
use crate::show::Colours;
use crate::store::Address;

/// An engine, and what is around it.
pub struct Stage {
    /// The engine.
    pub engine: Engine,
    /// Its daemon.
    pub daemon: Proxy,
    /// What its tasks tell.
    pub news: UnboundedReceiver<News>,
}

/// Work in a runtime of its own, which comes to an end.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let limited = async { tokio::time::timeout(Duration::from_secs(30), work).await };
    let done = builder.enable_all().build().unwrap().block_on(limited);
    done.expect("its end within half a minute")
}

/// Nobody listens there.
fn nowhere() -> Variables {
    let pairs = [
        ("MINIO_ENDPOINT", "127.0.0.1:1"),
        ("MINIO_ACCESS_KEY", "a"),
        ("MINIO_SECRET_KEY", "s"),
    ];
    pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).into()
}

/// An engine whose daemon answers what `script` says, and else not at all.
pub fn stage(script: impl Fn(&Request) -> Option<(u16, &'static str)> + Send + 'static) -> Stage {
    let daemon = Proxy::start("127.0.0.1:1");
    daemon.script(move |request| {
        let answer = script(request).map(|(status, body)| Fault::Answer(status, body.to_owned()));
        Some(answer.unwrap_or(Fault::Hang))
    });
    let docker = Engine::connect(Some(&format!("tcp://{}", daemon.address()))).unwrap();
    let console = Console::open(std::io::sink(), Colours::Off).unwrap();
    let Ok(Address::S3(endpoint)) = Address::parse(&nowhere(), Path::new("/")) else {
        panic!("no object store");
    };
    let template = Template::parse(&Variables::new(), Variables::new(), nowhere()).unwrap();
    let keys = KeyMaker::new(&endpoint, template.keys, console.clone()).unwrap();
    let access = Access::new(docker, template, keys, console);
    let (to, news) = unbounded_channel();
    let engine = Engine::new(access, Duration::from_hours(1), to);
    Stage {
        engine,
        daemon,
        news,
    }
}

/// A bot.
pub fn bot(id: &str) -> Bot {
    let document = json!({
        "id": id, "config": {},
        "custom": {"version": "1.0.0", "filePath": "u/b/1.0.0", "config": {
            "name": "b", "type": "realtime", "runtime": "python3.11", "version": "1.0.0",
            "entrypoints": {"bot": "main.py"}}}
    });
    Bot::from_document(&document).unwrap()
}

/// That container, as a start of ours gives it.
pub fn started(bot: &Bot, id: &str, renew_in: Option<Duration>) -> Running {
    let labels = [(names::LAUNCH.to_owned(), launch::digest(bot).to_string())];
    Running {
        renew_in,
        origin: Origin::Started,
        ..Running::found(id.into(), "image".into(), None, &labels.into(), None)
    }
}

/// Volumes of `bots` and no container, as a listing begun at `begun` tells it.
pub fn volumes_alone(begun: u64, bots: &[&Bot]) -> Snapshot {
    let volumes = bots
        .iter()
        .map(|bot| (bot.id.clone(), Some("i".to_owned())));
    Snapshot {
        begun,
        volumes: volumes.collect::<HashMap<_, _>>(),
        ..Snapshot::default()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn keys_are_renewed_when_half_their_life_is_over_and_soon_again_when_the_store_gives_none() {
    block_on(async {
        let Stage {
            mut engine,
            mut news,
            daemon: _daemon,
        } = stage(|_| None);
        let bot = bot("b");
        engine.take(News::Listed(Box::default()), Duration::ZERO);
        engine.start(&bot, Start::now(Cause::Created, None), Duration::ZERO);
        let running = started(&bot, "c", Some(450 * SECOND));
        engine.take(News::Started(bot.id.clone(), Ok(running)), 10 * SECOND);
        let due = |engine: &Engine| engine.slots[&bot.id].renew_at.unwrap();
        engine.tick(459 * SECOND);
        assert_eq!(due(&engine), 460 * SECOND, "not yet");
        engine.tick(460 * SECOND);
        assert_eq!(due(&engine), 460 * SECOND + RENEW_AGAIN);
        let told = loop {
            if let told @ News::Renewed(..) = news.recv().await.unwrap() {
                break told;
            }
        };
        assert!(matches!(&told, News::Renewed(_, id, Err(_)) if id == "c"));
        engine.take(told, 461 * SECOND);
        assert_eq!(due(&engine), 460 * SECOND + RENEW_AGAIN, "tried again");
        let next = |id: &str| News::Renewed(bot.id.clone(), id.into(), Ok(Some(450 * SECOND)));
        engine.take(next("another"), 800 * SECOND);
        assert_eq!(due(&engine), 460 * SECOND + RENEW_AGAIN, "of another");
        engine.take(next("c"), 800 * SECOND);
        assert_eq!(due(&engine), 1250 * SECOND);
    });
}

#[test]
fn a_daemon_that_says_who_it_is_and_no_more_is_asked_ever_more_seldom() {
    block_on(async {
        let mut stage = stage(|request| {
            let version = r#"{"Version": "20.10.24", "ApiVersion": "1.41"}"#;
            let is_version = request.path.ends_with("/version");
            let broken = r#"{"message": "it is broken"}"#;
            Some(if is_version {
                (200, version)
            } else {
                (500, broken)
            })
        });
        let began = std::time::Instant::now();
        for _ in 0..4 {
            let Some(News::Down(why)) = stage.news.recv().await else {
                panic!("it does not answer");
            };
            assert_eq!(why, "it is broken");
        }
        // A quarter, a half and a whole second, less by chance.
        assert!(began.elapsed() >= SECOND * 7 / 5, "{:?}", began.elapsed());
        assert!(stage.engine.access.gate.sight().failures >= 4);
    });
}

/// Keys of a store that hears every request and ends the connection.
fn keys_of_a_broken_store() -> (Proxy, KeyMaker) {
    let store = Proxy::start("127.0.0.1:1");
    store.script(|_| Some(Fault::DropRequest));
    let mut variables = nowhere();
    variables.insert("MINIO_ENDPOINT".into(), store.address().to_owned());
    let Ok(Address::S3(endpoint)) = Address::parse(&variables, Path::new("/")) else {
        panic!("no object store");
    };
    let console = Console::open(std::io::sink(), Colours::Off).unwrap();
    let keys = KeyMaker::new(&endpoint, Duration::from_hours(12), console).unwrap();
    (store, keys)
}

#[test]
fn many_bots_that_wait_for_a_store_ask_it_as_one() {
    block_on(async {
        let (store, keys) = keys_of_a_broken_store();
        let bots: Vec<Bot> = (0..50).map(|n| bot(&format!("b{n}"))).collect();
        let first = keys.grant(&bots[0]).await.unwrap_err();
        assert_eq!(first.outcome, Outcome::Failed, "{}", first.why);
        let asked = store.requests().len();
        assert!(asked > 0);
        let all = async || {
            let asking = bots.iter().map(|bot| keys.grant(bot));
            futures_util::future::join_all(asking).await
        };
        for not in all().await {
            assert_eq!(not.unwrap_err().outcome, Outcome::Busy);
        }
        assert!(keys.ready().is_err());
        assert_eq!(store.requests().len(), asked, "nobody asked");
        tokio::time::sleep(keys.gate.sight().wait).await;
        keys.ready().unwrap();
        let refused = all().await.into_iter().filter_map(Result::err);
        let failed = refused.filter(|not| not.outcome == Outcome::Failed);
        assert_eq!(failed.count(), 1, "one of them asks");
        assert_eq!(keys.gate.sight().failures, 2);
        store.script(|_| Some(Fault::Answer(501, String::new())));
        tokio::time::sleep(keys.gate.sight().wait).await;
        keys.grant(&bots[7]).await.unwrap();
        assert!(all().await.iter().all(Result::is_ok), "and then all may");
    });
}

#[test]
fn a_store_that_has_made_keys_and_then_makes_none_gives_nobody_the_agents_own() {
    const GRANT: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
        <Credentials><AccessKeyId>k</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
        <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
    block_on(async {
        let (store, keys) = keys_of_a_broken_store();
        store.script(|_| Some(Fault::Answer(200, GRANT.to_owned())));
        let granted = keys.grant(&bot("b1")).await.unwrap();
        assert!(granted.keys.values().any(|key| key.reveal() == "k"));
        for status in [404, 405, 501] {
            store.script(move |_| Some(Fault::Answer(status, String::new())));
            let not = keys.grant(&bot("b1")).await.unwrap_err();
            assert_eq!(not.outcome, Outcome::Failed);
            assert!(not.why.contains("before"), "{}", not.why);
        }
    });
}

#[test]
fn the_container_that_a_job_was_to_be_started_in_is_kept_where_it_never_ran() {
    const NEVER: &str = r#"{"Id": "c1", "State": {"Status": "created"}}"#;
    block_on(async {
        let Stage {
            mut engine, daemon, ..
        } = stage(|request| {
            request
                .path
                .contains("/containers/c1/json")
                .then_some((200, NEVER))
        });
        let (store, keys) = keys_of_a_broken_store();
        store.script(|_| Some(Fault::Answer(501, String::new())));
        engine.access.keys = keys;
        let job = bot("j");
        let made = job::make(&engine.access, &job, Some("c1"));
        let made = made.await.unwrap();
        assert_eq!((made.id.as_str(), made.is_kept), ("c1", true));
        let asked = daemon.requests();
        assert!(!asked.iter().any(|request| request.path.contains("/create")));
    });
}
