//! `make bench`: what is claimed about speed and memory, measured side by side in one run.
//!
//! The argument is the folder of the static binaries. The program is also the child it measures with: see
//! [`roles`]. Figures are medians; machines are noisy, so compare rows of one run and not runs.

mod bot;
mod init;
mod process;
mod roles;

use std::path::PathBuf;

fn main() {
    if roles::play() {
        return;
    }
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: bench FOLDER-OF-THE-STATIC-BINARIES");
        std::process::exit(2);
    };
    let folder = folder.canonicalize().unwrap_or(folder);
    init::compare(&folder);
    bot::measure(&folder);
}
