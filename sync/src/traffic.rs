//! What has been sent to the store, counted where requests are made, so that an operator sees what bots cost.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::record::{Time, Traffic};

static SINCE: OnceLock<Time> = OnceLock::new();
static SENT: AtomicU64 = AtomicU64::new(0);
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// The store has taken so many bytes.
pub fn sent(bytes: usize) {
    SENT.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// The store did not answer, or refused.
pub fn failed() {
    ERRORS.fetch_add(1, Ordering::Relaxed);
}

/// All of it since the first time that somebody asked.
pub fn so_far() -> Traffic {
    Traffic {
        since: *SINCE.get_or_init(Time::now),
        sent: SENT.load(Ordering::Relaxed),
        errors: ERRORS.load(Ordering::Relaxed),
    }
}
