//! A line per question, written a moment later: each line wakes the console's thread, and on a machine of few processors
//! that one takes the next question's place. Lines of one moment wake it once.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::show::Console;

/// How long a line waits for others.
const MOMENT: Duration = Duration::from_millis(20);

/// Where lines wait; clones are the same place.
#[derive(Debug, Clone)]
pub struct Audit {
    console: Console,
    waiting: Arc<Mutex<Vec<String>>>,
}

impl Audit {
    /// None yet.
    pub fn new(console: Console) -> Self {
        Self {
            console,
            waiting: Arc::default(),
        }
    }

    /// Takes a line; it is written after [`MOMENT`], or by [`Self::flush`].
    pub fn note(&self, line: String) {
        let mut waiting = self.waiting();
        waiting.push(line);
        if waiting.len() == 1 {
            let audit = self.clone();
            tokio::spawn(async move {
                sleep(MOMENT).await;
                audit.flush();
            });
        }
    }

    /// Writes what waits.
    pub fn flush(&self) {
        let lines = mem::take(&mut *self.waiting());
        for line in lines {
            self.console.say(&line);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
