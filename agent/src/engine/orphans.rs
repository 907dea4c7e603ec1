//! What a supervisor that was killed leaves behind.
//!
//! The agent is a sub-reaper: descendants of a child that dies become its own children. Those that it did not start
//! are killed; their children become ours in turn and are killed at the next look, until none is left. A child of
//! ours that we have not waited for keeps its process id, so no other process is ever hit.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Kills and reaps the children that are not in `known`; gives how many are still there.
pub fn sweep(known: &BTreeSet<i32>) -> usize {
    let me = nix::unistd::getpid().as_raw();
    let strangers = children(me).into_iter().filter(|pid| !known.contains(pid));
    let mut left = 0;
    for pid in strangers.map(Pid::from_raw) {
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        left += 1;
    }
    left
}

/// The processes whose parent is `parent`, zombies too.
fn children(parent: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parent_in(&stat) == Some(parent)
    })
    .collect()
}

/// The parent's id in a line of `/proc/PID/stat` (proc_pid_stat(5)); the name before it may hold anything.
pub(super) fn parent_in(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_whatever_the_name_of_the_program() {
        assert_eq!(parent_in("7 (a) S 3 (x) S 42 7 7 0"), Some(42));
        assert_eq!(parent_in("7 (sh) Z 1 7"), Some(1));
        assert_eq!(parent_in(""), None);
    }

    #[test]
    fn children_are_seen() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let me = nix::unistd::getpid().as_raw();
        assert!(children(me).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(me).contains(&pid));
    }
}
