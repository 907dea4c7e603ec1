//! Bots as Pods of a cluster of one node: what the controller costs, and what a bot's Pod costs over a bare one.
//!
//! Each part has a namespace of its own, a controller as it is by default, and a MongoDB and a MinIO that nobody else uses.
//! When a Pod is there is told by a watch of the bench's own; what a container prints has the time at which its runtime
//! read it. All is on one machine, so all times are of one clock.

mod host;
mod idle;
mod line;
mod made;
mod many;
mod watch;
mod wire;

use std::path::Path;

use host::Host;

use crate::containers::figures::Business;

/// From a document to its Pod.
pub fn made(_: &Path) {
    on_a_cluster("cluster-made", made::compare);
}

/// From a Pod to the bot's first line.
pub fn line(_: &Path) {
    on_a_cluster("cluster-line", line::compare);
}

/// What the controller asks the API server when there is nothing to do.
pub fn idle(_: &Path) {
    on_a_cluster("cluster-idle", idle::count);
}

/// What the controller costs for many documents.
pub fn many(_: &Path) {
    on_a_cluster("cluster-many", many::measure);
}

fn on_a_cluster(part: &str, measure: fn(&mut Host)) {
    let Some(mut host) = Host::start(part) else {
        return;
    };
    let business = Business::from_now();
    measure(&mut host);
    println!("\n[{part}: {business}]");
}
