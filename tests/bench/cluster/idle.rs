//! What the controller asks the API server: for each bot that it starts, and then, with all of them there, when there is
//! nothing to do.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use tests::wait_for;

use super::host::{Host, Place};
use super::wire::Wire;

/// Bots that there are.
const BOTS: u64 = 100;
/// How long they may take to be there.
const ALL: Duration = Duration::from_secs(120);
/// How long it is left alone before it is counted.
const SETTLE: Duration = Duration::from_secs(20);
/// How long it is counted: two watches' time, and two listings of the documents a minute.
const COUNTED: Duration = Duration::from_secs(120);

/// Counts and prints.
pub fn count(host: &mut Host) {
    let wire = Wire::lay(&host.cluster);
    host.begin(Place::Nowhere, Some(&wire.server()));
    wire.asked();
    host.insert((0..BOTS).map(|n| format!("i{n}")));
    wait_for("all Pods", ALL, || {
        sleep(Duration::from_millis(500));
        (host.pods() == Some(BOTS)).then_some(())
    });
    sleep(SETTLE);
    println!("\nRequests to the API server for {BOTS} bots that are started\n");
    print(&wire.asked());
    sleep(COUNTED);
    println!(
        "\nRequests with {BOTS} bots and nothing to do, in {} s\n",
        COUNTED.as_secs()
    );
    print(&wire.asked());
    host.end();
}

fn print(asked: &BTreeMap<String, usize>) {
    for (request, count) in asked {
        println!("{count:>6}  {request}");
    }
}
