//! Makes listings, again and again, in a thread of its own: reading folders blocks.
//!
//! The thread runs a small runtime that nothing else uses. The client of a database lives in it too, so that its
//! time-outs and its watch over the servers go on while the lister waits, and nothing it does delays the agent's loop.
//!
//! Changes seen by `notify`, and whoever calls [`Waker::wake`], only make the next listing come sooner; each listing
//! starts from nothing. One that failed is tried again at its gate's pace, whoever asks for it: sooner than usual, so that
//! what comes back is seen soon, and no more often, so that what is away is left alone.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::bots::{Bots, ListError, Listing};
use crate::breaker::{Gate, Pace};
use crate::store::Store;

/// A listing's cost is at most one part in so many of the time.
const SHARE: u32 = 20;
/// How a listing that failed is tried again.
const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(5),
    patience: Duration::from_secs(60),
};
/// After a change is seen, it is waited until nothing more changes for as long.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// But no longer than this.
const LONGEST_DEBOUNCE: Duration = Duration::from_secs(1);

/// A listing and when it was begun.
pub type Listed = (Instant, Result<Arc<Listing>, ListError>);

/// Makes the next listing come at once; many calls before it are one.
#[derive(Debug, Clone, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Something may have changed.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits until it is called.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

/// What makes the next listing come sooner.
#[derive(Debug, Clone, Default)]
struct Hints {
    /// At once: whoever calls knows that it is there to be listed.
    waker: Waker,
    /// When nothing more changes: files are written one after another.
    seen: Arc<Notify>,
}

/// The gate of a lister.
pub fn gate() -> Gate {
    Gate::new(PACE)
}

/// Starts to list `bots` every `rhythm`, and whenever it is woken; ends when the listings are not received any more.
/// Whether listings come is known at `gate`.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    bots: Bots,
    store: Store,
    rhythm: Duration,
    gate: Gate,
) -> io::Result<(UnboundedReceiver<Listed>, Waker)> {
    let (listings, received) = unbounded_channel();
    let hints = Hints::default();
    let waker = hints.waker.clone();
    let mut lister = Lister {
        bots,
        store,
        rhythm,
        gate,
        watch: Watch::new(Arc::clone(&hints.seen)),
        hints,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("lister".into())
        .spawn(move || lister.run(&runtime, &listings))?;
    Ok((received, waker))
}

struct Lister {
    bots: Bots,
    store: Store,
    rhythm: Duration,
    gate: Gate,
    watch: Watch,
    hints: Hints,
}

impl Lister {
    fn run(&mut self, runtime: &Runtime, listings: &UnboundedSender<Listed>) {
        loop {
            // Nobody else asks at this gate: that one tries is to be seen from outside.
            let _ = self.gate.enter();
            let begun = Instant::now();
            // Outside of the runtime: what reads folders asks the store, whose client has a runtime of its own.
            let listing = self.bots.list(&self.store, begun, runtime);
            let next = self.next(&listing, begun.elapsed());
            self.watch.follow(self.bots.places());
            if listings.send((begun, listing)).is_err() {
                return;
            }
            let closed = runtime.block_on(async {
                tokio::select! {
                    () = listings.closed() => true,
                    () = next.come(&self.hints) => false,
                }
            });
            if closed {
                return;
            }
        }
    }

    fn next(&self, listing: &Result<Arc<Listing>, ListError>, cost: Duration) -> Next {
        match listing {
            Ok(listing) => {
                self.gate.succeeded();
                let usual = || self.rhythm.max(cost * SHARE);
                Next::Within(listing.again.unwrap_or_else(usual))
            }
            Err(err) => Next::After(self.gate.failed(&err.why)),
        }
    }
}

/// When the next listing is made.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// After this time, or when there is a hint.
    Within(Duration),
    /// After this time; hints are kept until then.
    After(Duration),
}

impl Next {
    async fn come(self, hints: &Hints) {
        match self {
            Self::Within(pause) => wait(hints, pause).await,
            Self::After(pause) => sleep(pause).await,
        }
    }
}

/// Waits `pause`, or until it is woken, or until a change was seen and nothing more changes. Who is woken while it lists
/// lists once more, however often that was.
async fn wait(hints: &Hints, pause: Duration) {
    let settled = async {
        hints.seen.notified().await;
        let end = Instant::now() + LONGEST_DEBOUNCE;
        while Instant::now() < end && timeout(DEBOUNCE, hints.seen.notified()).await.is_ok() {}
    };
    tokio::select! {
        () = hints.waker.woken() => {}
        () = settled => {}
        () = sleep(pause) => {}
    }
}

/// The folders that are watched. Without a watch (inotify's limits) the rhythm alone finds changes.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    places: BTreeSet<PathBuf>,
    seen: Arc<Notify>,
}

impl Watch {
    fn new(seen: Arc<Notify>) -> Self {
        Self {
            watcher: None,
            places: BTreeSet::new(),
            seen,
        }
    }

    fn follow(&mut self, places: Vec<PathBuf>) {
        if places.is_empty() {
            return;
        }
        let seen = &self.seen;
        let Some(watcher) = self.watcher.take().or_else(|| watcher(Arc::clone(seen))) else {
            return;
        };
        let watcher = self.watcher.insert(watcher);
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

fn watcher(seen: Arc<Notify>) -> Option<RecommendedWatcher> {
    let on = move |event: notify::Result<Event>| {
        // Our own reading is seen as well and is no change.
        if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
            seen.notify_one();
        }
    };
    notify::recommended_watcher(on).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn waits(hints: &Hints) -> bool {
        comes(Next::Within(LONG), hints)
    }

    /// Whether all of the time was waited for.
    fn comes(next: Next, hints: &Hints) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let begun = tokio::time::Instant::now();
            next.come(hints).await;
            begun.elapsed() == LONG
        })
    }

    #[test]
    fn whoever_is_woken_lists_at_once_and_once_for_all_that_woke_it_meanwhile() {
        let hints = Hints::default();
        assert!(waits(&hints));
        for _ in 0..3 {
            hints.waker.wake();
        }
        assert!(!waits(&hints));
        assert!(waits(&hints), "three were one");
    }

    #[test]
    fn what_is_away_is_left_alone_and_a_hint_is_kept() {
        let hints = Hints::default();
        hints.waker.wake();
        assert!(comes(Next::After(LONG), &hints));
        assert!(!waits(&hints), "it is not lost");
    }
}
