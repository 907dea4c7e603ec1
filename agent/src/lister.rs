//! Makes listings, again and again, in a thread of its own: reading folders blocks.
//!
//! Changes seen by `notify` only make the next listing come sooner; each listing starts from nothing.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::bots::{Bots, ListError, Listing};
use crate::store::Store;

/// Time between listings when nothing is seen to change.
const RHYTHM: Duration = Duration::from_secs(2);
/// A listing's cost is at most one part in so many of the time.
const SHARE: u32 = 20;
/// After a change is seen, it is waited until nothing more changes for as long.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// But no longer than this.
const LONGEST_DEBOUNCE: Duration = Duration::from_secs(1);

/// A listing and when it was begun.
pub type Listed = (Instant, Result<Listing, ListError>);

/// Starts to list `bots`; ends when the listings are not received any more.
///
/// # Errors
/// The thread cannot be started.
pub fn start(bots: Bots, store: Store) -> io::Result<UnboundedReceiver<Listed>> {
    let (listings, received) = unbounded_channel();
    let list = move || run(bots, &store, &listings);
    std::thread::Builder::new()
        .name("lister".into())
        .spawn(list)?;
    Ok(received)
}

fn run(mut bots: Bots, store: &Store, listings: &UnboundedSender<Listed>) {
    let (hint, hints) = mpsc::channel();
    let mut watch = Watch::new(hint);
    loop {
        let begun = Instant::now();
        let listing = bots.list(store, begun);
        let pause = match &listing {
            Ok(Listing {
                again: Some(again), ..
            }) => *again,
            _ => RHYTHM.max(begun.elapsed() * SHARE),
        };
        watch.follow(bots.places());
        if listings.send((begun, listing)).is_err() {
            return;
        }
        wait(&hints, pause);
        if listings.is_closed() {
            return;
        }
    }
}

/// Waits `pause`, or until a change was seen and nothing more changes.
fn wait(hints: &Receiver<()>, pause: Duration) {
    match hints.recv_timeout(pause) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => return,
        Err(RecvTimeoutError::Disconnected) => return std::thread::sleep(pause),
    }
    let end = Instant::now() + LONGEST_DEBOUNCE;
    while Instant::now() < end && hints.recv_timeout(DEBOUNCE).is_ok() {}
}

/// The folders that are watched. Without a watch (inotify's limits) the rhythm alone finds changes.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    places: BTreeSet<PathBuf>,
    /// Keeps the channel open where there is no watcher.
    _hint: Sender<()>,
}

impl Watch {
    fn new(hint: Sender<()>) -> Self {
        let send = hint.clone();
        let on = move |event: notify::Result<Event>| {
            // Our own reading is seen as well and is no change.
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                let _ = send.send(());
            }
        };
        let watcher = notify::recommended_watcher(on).ok();
        Self {
            watcher,
            places: BTreeSet::new(),
            _hint: hint,
        }
    }

    fn follow(&mut self, places: Vec<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let places: BTreeSet<PathBuf> = places.into_iter().collect();
        for gone in self.places.difference(&places) {
            let _ = watcher.unwatch(gone);
        }
        let new: Vec<PathBuf> = places.difference(&self.places).cloned().collect();
        self.places.retain(|place| places.contains(place));
        for place in new {
            if watcher.watch(&place, RecursiveMode::NonRecursive).is_ok() {
                self.places.insert(place);
            }
        }
    }
}
