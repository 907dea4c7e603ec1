use ::tests::servers::mongo::{self, document};
use contract::Secret;

use super::*;
use crate::bots::mongo::{Deadlines, Place};
use crate::show::Colours;

const BOTS: &str = "bot_runner.bots";
/// Longer than anything takes here on a loaded machine.
const LONG: Duration = Duration::from_secs(30);
/// Well below the pauses between two looks at a database.
const SOON: Duration = Duration::from_secs(5);

fn reader(server: &mongo::Mongo) -> Mongo {
    let uri = Secret::new(server.uri());
    Mongo::new(&uri, Place::default(), Deadlines::default()).unwrap()
}

fn real() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Whoever waits for changes of a server.
struct Lister(Waker);

impl Lister {
    /// Follows until the test has ended.
    fn of(server: &mongo::Mongo) -> Self {
        let (mongo, waker) = (reader(server), Waker::default());
        let console = Console::open(std::io::sink(), Colours::Off).unwrap();
        let shared = waker.clone();
        std::thread::spawn(move || real().block_on(follow(mongo, &shared, &console)));
        Self(waker)
    }

    fn is_woken_within(&self, limit: Duration) -> bool {
        let woken = async { timeout(limit, self.0.woken()).await };
        real().block_on(woken).is_ok()
    }

    /// How often it is woken until nothing wakes it any more.
    fn rests(&self) -> usize {
        let mut count = 0;
        while self.is_woken_within(LONGEST + SHORTEST) {
            count += 1;
        }
        count
    }
}

#[test]
fn what_is_written_wakes_at_once_also_after_the_server_was_away() {
    let Some(mut server) = mongo::Mongo::start() else {
        return;
    };
    let lister = Lister::of(&server);
    assert!(lister.is_woken_within(LONG), "the stream is open");
    lister.rests();
    server.insert(BOTS, [document("b1", "u/b/1", doc! {})]);
    assert!(lister.is_woken_within(SOON));
    assert_eq!(lister.rests(), 0);
    server.delete(BOTS, doc! {"id": "b1"});
    assert!(lister.is_woken_within(SOON));

    server.stop();
    lister.rests();
    server.start_again();
    // The stream goes on where it was, or is opened anew, which wakes for what was missed.
    server.insert(BOTS, [document("b2", "u/b/1", doc! {})]);
    assert!(lister.is_woken_within(LONG), "for what was missed");
    lister.rests();
    server.insert(BOTS, [document("b3", "u/b/1", doc! {})]);
    assert!(lister.is_woken_within(SOON));
}

#[test]
fn a_thousand_changes_wake_a_few_times_and_for_the_last_one() {
    let Some(server) = mongo::Mongo::start() else {
        return;
    };
    let lister = Lister::of(&server);
    assert!(lister.is_woken_within(LONG));
    lister.rests();
    let ids = (0..1000).map(|n| format!("b{n}"));
    server.insert(BOTS, ids.map(|id| document(&id, "u/b/1", doc! {})));
    let woken = lister.rests();
    assert!((1..10).contains(&woken), "{woken}");
}

#[test]
fn a_collection_that_is_dropped_is_watched_again() {
    let Some(server) = mongo::Mongo::start() else {
        return;
    };
    server.insert(BOTS, [document("b1", "u/b/1", doc! {})]);
    let lister = Lister::of(&server);
    assert!(lister.is_woken_within(LONG));
    lister.rests();
    let bots = server.collection(BOTS);
    real().block_on(async { bots.drop().await }).unwrap();
    assert!(lister.is_woken_within(SOON));
    lister.rests();
    server.insert(BOTS, [document("b2", "u/b/1", doc! {})]);
    assert!(lister.is_woken_within(SOON));
}

#[test]
fn a_server_of_its_own_has_none_and_that_is_said_aside() {
    let Some(server) = mongo::Mongo::start_alone() else {
        return;
    };
    let (mut mongo, seen) = (reader(&server), Notify::new());
    let tried = real().block_on(async { timeout(LONG, watch(&mut mongo, &seen)).await });
    let Err(failed) = tried.unwrap();
    let (word, is_final) = judge(&failed, BOTS);
    assert!(matches!(word, Word::Aside(_)) && is_final, "{failed:?}");
}

#[test]
fn who_may_not_watch_is_told_so() {
    let Some(server) = mongo::Mongo::start_with_password() else {
        return;
    };
    server.command(doc! {"createUser": "nobody", "pwd": "hunter2", "roles": []});
    let uri = format!(
        "mongodb://nobody:hunter2@{}/?replicaSet=rs0",
        server.address()
    );
    let uri = Secret::new(uri);
    let mut mongo = Mongo::new(&uri, Place::default(), Deadlines::default()).unwrap();
    let seen = Notify::new();
    let tried = real().block_on(async { timeout(LONG, watch(&mut mongo, &seen)).await });
    let Err(failed) = tried.unwrap();
    assert!(
        matches!(judge(&failed, BOTS).0, Word::Loud(_)),
        "{failed:?}"
    );
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(work)
}

/// How often the lister is woken in so long by changes that come so far apart.
fn woken(apart: Duration, long: Duration) -> usize {
    run(async {
        let (seen, waker) = (Notify::new(), Waker::default());
        let mut count = 0;
        let changes = async {
            loop {
                seen.notify_one();
                sleep(apart).await;
            }
        };
        let listings = async {
            loop {
                waker.woken().await;
                count += 1;
            }
        };
        tokio::select! {
            () = changes => {}
            () = listings => {}
            () = pace(&seen, &waker) => {}
            () = sleep(long) => {}
        }
        count
    })
}

#[test]
fn a_change_wakes_at_once_and_a_flood_of_them_now_and_then() {
    let second = Duration::from_secs(1);
    assert_eq!(woken(second * 100, second), 1);
    assert_eq!(woken(second * 10, second * 95), 10, "each of a few");
    let flood = woken(second / 1000, second * 10);
    assert!((4..12).contains(&flood), "{flood}");
}

#[test]
fn what_was_changed_in_a_pause_is_seen_after_it() {
    let woken = run(async {
        let (seen, waker) = (Notify::new(), Waker::default());
        seen.notify_one();
        let twice = async {
            waker.woken().await;
            seen.notify_one();
            waker.woken().await;
        };
        tokio::select! {
            () = twice => true,
            () = pace(&seen, &waker) => false,
            () = sleep(LONGEST) => false,
        }
    });
    assert!(woken);
}

#[test]
fn pauses_between_tries_grow_to_a_bound() {
    assert_eq!(pause(0), AGAIN[0]);
    assert!(pause(3) > pause(2));
    assert_eq!(pause(100), AGAIN[1]);
}
