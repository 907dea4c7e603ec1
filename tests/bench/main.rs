//! `make bench`: what is claimed about speed and memory, measured side by side in one run.
//!
//! The first argument is the folder of the static binaries; those after it name the parts to measure (none: all;
//! `containers`, `cluster`: all whose names begin so). The program is also the child it measures with: see [`roles`]. Figures are medians; machines are noisy, so compare rows of one run and not runs.

mod archives;
mod bot;
mod cluster;
mod containers;
mod day;
mod documents;
mod init;
mod mirrors;
mod process;
mod roles;
mod store;

use std::path::PathBuf;

/// Measures with the binaries in a folder, and prints.
type Measure = fn(&std::path::Path);

fn main() {
    if roles::play() {
        return;
    }
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: bench FOLDER-OF-THE-STATIC-BINARIES");
        std::process::exit(2);
    };
    let folder = folder.canonicalize().unwrap_or(folder);
    let parts: Vec<_> = std::env::args().skip(2).collect();
    let measure: [(&str, Measure); 20] = [
        ("init", init::compare),
        ("bot", bot::measure),
        ("archives", archives::compare),
        ("durable", store::durable),
        ("push", store::pushes),
        ("mirrors", mirrors::compare),
        ("day", day::measure),
        ("documents", documents::measure),
        ("containers-line", containers::line),
        ("containers-rate", containers::rate),
        ("containers-hundred", containers::hundred),
        ("containers-event", containers::event),
        ("containers-recovery", containers::recovery),
        ("containers-live", containers::live),
        ("containers-ticks", containers::ticks),
        ("containers-ask", containers::ask),
        ("cluster-made", cluster::made),
        ("cluster-line", cluster::line),
        ("cluster-idle", cluster::idle),
        ("cluster-many", cluster::many),
    ];
    for (part, measure) in measure {
        if parts.is_empty() || parts.iter().any(|wanted| is_of(part, wanted)) {
            measure(&folder);
        }
    }
}

fn is_of(part: &str, wanted: &str) -> bool {
    let rest = part.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}
