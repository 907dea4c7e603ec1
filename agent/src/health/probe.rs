//! Asks the object store whether it answers, one small question at a time, in a thread of its own: calls to it block.

use std::io;
use std::thread;
use std::time::Duration;

use super::{Board, Dependency, jitter};
use crate::store::Store;

/// Time between two questions while it answers, and the longest while it does not.
const PAUSE: Duration = Duration::from_secs(15);
/// The pause after the first question without an answer; it doubles with each further one.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts to ask; ends with the agent.
///
/// # Errors
/// The thread cannot be started.
pub fn start(store: Store, board: Board) -> io::Result<()> {
    let ask = move || {
        let mut failures = 0;
        loop {
            let answer = store.probe();
            failures = if answer.is_ok() { 0 } else { failures + 1 };
            board.set(Dependency::Store, answer.map_err(|err| err.to_string()));
            thread::sleep(jitter(pause(failures)));
        }
    };
    thread::Builder::new().name("probe".into()).spawn(ask)?;
    Ok(())
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => PAUSE,
        n => (AGAIN * 2u32.pow((n - 1).min(4))).min(PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_does_not_answer_is_asked_soon_and_then_ever_less() {
        let pauses: Vec<u64> = (0..8).map(|n| pause(n).as_secs()).collect();
        assert_eq!(pauses, [15, 1, 2, 4, 8, 15, 15, 15]);
    }
}
