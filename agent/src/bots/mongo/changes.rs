//! Changes of documents as they are made, where the deployment tells them (a replica set, a sharded cluster).
//!
//! ```text
//!   change stream: "something changed" ─▶ paced ─▶ the lister is woken ─▶ a full listing
//! ```
//!
//! It ensures: what is written into the collection is seen within moments, and nothing depends on it: a change only
//! makes the next listing come sooner, and that one starts from nothing. So no place in the stream is remembered: one
//! that was lost is opened anew, for ever, and a listing is made then for what was missed. The server sends no document,
//! only that there was a change. A flood of changes costs a listing each [`LONGEST`]. A server that has no change
//! streams is read each interval only, which is said once, and not to everybody.

use std::convert::Infallible;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{Failed, Mongo};
use crate::health::jitter;
use crate::lister::Waker;
use crate::show::Console;

/// The time between two listings for changes, while they are few; doubled while they go on.
const SHORTEST: Duration = Duration::from_millis(100);
/// The same at most.
const LONGEST: Duration = Duration::from_secs(2);
/// How long the server waits for a change before it says that there was none.
const AWAIT: Duration = Duration::from_secs(5);
/// How long it may be silent and still count as there.
const SILENCE: Duration = Duration::from_secs(15);
/// The pause before a lost stream is opened anew: at first, and at most.
const AGAIN: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(8)];
/// The same where the server has said that there is none to be had.
const LATER: Duration = Duration::from_secs(60);
/// The server's number for one that is no member of a set.
const ALONE: i32 = 40_573;
/// Its number for what a user may not do.
const FORBIDDEN: i32 = 13;

/// What there is to say of a stream that is not there.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// It will be tried again soon, and the listings tell what is wrong.
    Nothing,
    /// It is as it was set up.
    Aside(String),
    /// A person should act.
    Loud(String),
}

/// Wakes the lister of `mongo`'s documents when there are changes, for ever.
pub async fn follow(mut mongo: Mongo, waker: &Waker, console: &Console) {
    let seen = Notify::new();
    let place = format!("{}.{}", mongo.place.database, mongo.place.collection);
    let watch = async {
        let (mut tries, mut told) = (0, Word::Nothing);
        loop {
            let begun = Instant::now();
            let Err(failed) = watch(&mut mongo, &seen).await;
            let (word, is_final) = judge(&failed, &place);
            if word != told {
                tell(console, &word);
                told = word;
            }
            // One that has lasted for a while was a good one.
            tries = if begun.elapsed() > SILENCE {
                0
            } else {
                tries + 1
            };
            sleep(jitter(if is_final { LATER } else { pause(tries) })).await;
        }
    };
    tokio::join!(watch, pace(&seen, waker));
}

/// Reads a stream until it ends.
async fn watch(mongo: &mut Mongo, seen: &Notify) -> Result<Infallible, Failed> {
    let patience = mongo.deadlines().answer;
    let client = mongo.connect().await?;
    let database = client.database(&mongo.place.database);
    let bots = database.collection::<Document>(&mongo.place.collection);
    let only = doc! { "$project": { "operationType": 1, "ns": 1 } };
    let opened = bots.watch().pipeline([only]).max_await_time(AWAIT);
    let mut stream = timeout(patience, opened).await??.with_type::<Document>();
    // What was changed before is in no stream that was open.
    seen.notify_one();
    while stream.is_alive() {
        if timeout(SILENCE, stream.next_if_any()).await??.is_some() {
            seen.notify_one();
        }
    }
    // The collection was dropped, or renamed: a new one may come.
    Err(Failed::Garbled)
}

/// Wakes for each change that is seen, with a pause after it; all that are seen in the pause are one.
async fn pace(seen: &Notify, waker: &Waker) {
    let mut gap = SHORTEST;
    loop {
        let begun = Instant::now();
        seen.notified().await;
        gap = next_gap(gap, begun.elapsed());
        waker.wake();
        sleep(gap).await;
    }
}

/// The pause after a change that came so long after the last pause. Pure.
fn next_gap(gap: Duration, quiet: Duration) -> Duration {
    if quiet < gap {
        (gap * 2).min(LONGEST)
    } else {
        SHORTEST
    }
}

/// The pause after so many tries that came to nothing. Pure.
fn pause(tries: u32) -> Duration {
    (AGAIN[0] * 2u32.pow(tries.min(10))).min(AGAIN[1])
}

/// What to say, and whether only a person can change it. Pure.
fn judge(failed: &Failed, place: &str) -> (Word, bool) {
    match code(failed) {
        Some(ALONE) => {
            let text = format!(
                "mongodb has no change streams, as it is no replica set: changes in {place} are seen when it is read \
                 each interval"
            );
            (Word::Aside(text), true)
        }
        Some(FORBIDDEN) => {
            let text = format!(
                "changes in mongodb are not seen at once: its user may not watch {place}: grant it the role `read` on \
                 that database; it is read each interval"
            );
            (Word::Loud(text), true)
        }
        _ => (Word::Nothing, false),
    }
}

fn code(failed: &Failed) -> Option<i32> {
    let Failed::Driver(error) = failed else {
        return None;
    };
    number(error)
}

fn number(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(said) => Some(said.code),
        _ => None,
    }
}

fn tell(console: &Console, word: &Word) {
    match word {
        Word::Nothing => {}
        Word::Aside(text) => console.aside(text),
        Word::Loud(text) => console.warn(text),
    }
}

#[cfg(test)]
#[path = "changes/tests.rs"]
mod tests;
