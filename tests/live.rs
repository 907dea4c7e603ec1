//! What goes out over a real NATS while bots run in real containers: their lines as they are printed, and that their
//! runs begin and end.

#[path = "live/lines.rs"]
mod lines;
#[path = "live/runs.rs"]
mod runs;

use tests::stack::Stack;

/// A host whose agent hears NATS, and reads bots' files each second.
fn host(test: &str) -> Option<Stack> {
    let mut host = Stack::start(test, &["python3.11"])?;
    host.listen()?;
    host.set("THE0_HISTORY_INTERVAL", "1s");
    Some(host)
}
