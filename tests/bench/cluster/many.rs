//! The controller's memory and CPU with no documents, with some and with many, whose Pods have no node: as it made
//! them, of the most of them at rest, and once more as another one that has found them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::servers::mongo::bson::doc;

use super::host::{Host, Place};
use crate::containers::figures::{cpu, millis};
use crate::process::memory;

/// How many documents there are, in turn.
const COUNTS: [u64; 3] = [0, 100, 5000];
/// How long all their Pods may take to be there, and to go.
const ALL: Duration = Duration::from_secs(420);
/// How long the controller is left alone before anything is measured.
const SETTLE: Duration = Duration::from_secs(20);
/// How long later it is measured again, when the scheduler has said of each Pod why it has no node.
const REST: Duration = Duration::from_secs(180);
/// How long it is measured: two watches' time.
const MEASURED: Duration = Duration::from_secs(60);

/// Measures and prints.
pub fn measure(host: &mut Host) {
    host.begin(Place::Nowhere, None);
    println!(
        "\n| documents | Pods | made in s | RSS KB | PSS KB | anonymous KB | CPU ms a minute |\n|---|---|---|---|---|---|---|"
    );
    let mut there = 0;
    for count in COUNTS {
        let begun = Instant::now();
        host.insert((there..count).map(|n| format!("m{n}")));
        there = count;
        let pods = until(host, count);
        row(host, &count.to_string(), pods, Some(begun.elapsed()));
        if pods < count {
            println!("\nThe API server made {pods} in {} s.", ALL.as_secs());
            break;
        }
    }
    let pods = until(host, there);
    sleep(REST);
    row(host, &format!("{there}, later"), pods, None);
    host.end();
    host.begin(Place::Nowhere, None);
    row(host, &format!("{there}, found"), pods, None);
    host.off(doc! {});
    let begun = Instant::now();
    let left = until(host, 0);
    println!(
        "\nAll switched off: {} of {pods} Pods are gone after {:.0} s.",
        pods - left,
        begun.elapsed().as_secs_f64()
    );
}

/// Waits until there are so many Pods; gives how many there are.
fn until(host: &Host, count: u64) -> u64 {
    let end = Instant::now() + ALL;
    loop {
        sleep(Duration::from_secs(1));
        let is_late = Instant::now() >= end;
        match host.pods() {
            Some(pods) if pods == count || is_late => return pods,
            None if is_late => panic!("the API server does not tell how many Pods there are"),
            _ => {}
        }
    }
}

fn row(host: &Host, what: &str, pods: u64, made: Option<Duration>) {
    sleep(SETTLE);
    let before = cpu(host.pid());
    sleep(MEASURED);
    let spent = millis(cpu(host.pid()) - before);
    let [rss, pss, anonymous] = ["Rss", "Pss", "Anonymous"].map(|line| memory(host.pid(), line));
    let made = made.map_or(String::new(), |made| format!("{:.0}", made.as_secs_f64()));
    println!("| {what} | {pods} | {made} | {rss} | {pss} | {anonymous} | {spent:.0} |");
}
