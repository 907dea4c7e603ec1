//! Asks the object store whether it answers, one small question at a time, in a thread of its own: calls to it block.
//!
//! It asks seldom while the store answers, and is woken when somebody else finds that it does not; then it is the one
//! that tries again ([`crate::breaker`]).

use std::io;
use std::thread;
use std::time::Duration;

use super::{Board, Dependency, jitter};
use crate::breaker::State;
use crate::store::Store;

/// Time between two questions while it answers.
const PAUSE: Duration = Duration::from_secs(15);
/// The same while it answers and refuses.
const REFUSED: Duration = Duration::from_secs(5);

/// Time between two looks whether it may be asked again.
const LEAST: Duration = Duration::from_millis(20);
/// See [`LEAST`].
const MOST: Duration = Duration::from_secs(1);

/// Starts to ask, once `first` is done; ends with the agent.
///
/// # Errors
/// The thread cannot be started.
pub fn start(first: impl FnOnce() + Send + 'static, store: Store, board: Board) -> io::Result<()> {
    board.attach(Dependency::Store, store.gate());
    let ask = move || {
        first();
        loop {
            let answer = store.probe();
            let is_refused = answer.is_err();
            board.set(Dependency::Store, answer.map_err(|err| err.to_string()));
            rest(&store, &board, is_refused);
        }
    };
    thread::Builder::new().name("probe".into()).spawn(ask)?;
    Ok(())
}

/// Waits until it is time to ask.
fn rest(store: &Store, board: &Board, is_refused: bool) {
    let gate = store.gate();
    let sight = gate.sight();
    if sight.state != State::Closed {
        // Another one may try meanwhile, and be sooner.
        return thread::sleep(sight.wait.clamp(LEAST, MOST));
    }
    let pause = if is_refused { REFUSED } else { PAUSE };
    if let Some(why) = gate.sleep(jitter(pause)) {
        board.set(Dependency::Store, Err(why));
    }
}
