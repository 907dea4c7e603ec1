//! The one owner of wait, and the end of everything that descends from a run.
//!
//! We are PID 1 or a sub-reaper, so whoever loses its parent becomes our child. A direct child that we have not
//! reaped keeps its process id, so it can be signalled without ever hitting a stranger; killed, its children
//! become ours in turn, until none is left.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

use crate::machine::Exit;
use crate::signals;

/// What happened to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It ended and is reaped.
    Ended(Exit),
    /// A signal stopped it.
    Stopped(i32),
}

/// Whether there are children still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// At least one.
    Some,
    /// None.
    None,
}

/// Reaps everything there is and tells what happened to whom.
pub fn reap(mut changed: impl FnMut(i32, Change)) -> Left {
    loop {
        match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((pid, status))) => {
                let pid = pid.as_raw_nonzero().get();
                if let Some(code) = status.exit_status() {
                    let code = u8::try_from(code & 0xff).unwrap_or(u8::MAX);
                    changed(pid, Change::Ended(Exit::Code(code)));
                } else if let Some(signal) = status.terminating_signal() {
                    changed(pid, Change::Ended(Exit::Signal(signal)));
                } else if let Some(signal) = status.stopping_signal() {
                    changed(pid, Change::Stopped(signal));
                }
            }
            Ok(None) => return Left::Some,
            Err(Errno::INTR) => {}
            Err(_) => return Left::None,
        }
    }
}

/// Whether `/proc` is mounted and numbers processes as we do. That of another PID namespace would name strangers.
fn is_proc_ours() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own.as_os_str() == &*std::process::id().to_string())
}

/// Our direct children, reaped ones not among them; `None` without a `/proc` of ours.
pub fn children() -> Option<Vec<i32>> {
    if !is_proc_ours() {
        return None;
    }
    let own = std::process::id().cast_signed();
    if let Ok(text) = fs::read_to_string(format!("/proc/{own}/task/{own}/children")) {
        return Some(
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect(),
        );
    }
    let all = every_process()?;
    Some(
        all.iter()
            .filter(|p| p.parent == own)
            .map(|p| p.pid)
            .collect(),
    )
}

/// Sends `signal` to everything of the run of `main` that can be reached: its group, and our children that are in
/// none of the `others`' families.
pub fn signal_run(main: i32, others: &[i32], signal: i32, is_main_reaped: Reaped) {
    let ours = leftovers(others);
    let group_lives = is_main_reaped == Reaped::No
        || ours
            .as_ref()
            .is_none_or(|list| list.iter().any(|pid| group_of(*pid) == Some(main)));
    if group_lives {
        let _ = signals::send_group(main, signal);
    }
    for pid in ours.unwrap_or_default() {
        let reached = group_lives && group_of(pid) == Some(main);
        if !reached || signal == signals::KILL {
            let _ = signals::send(pid, signal);
        }
    }
}

/// Whether a main process has been waited for, after which its number may belong to a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// It has.
    Yes,
    /// It has not.
    No,
}

/// Our children but `others`; `None` without `/proc`.
pub fn leftovers(others: &[i32]) -> Option<Vec<i32>> {
    let mut list = children()?;
    list.retain(|pid| !others.contains(pid));
    Some(list)
}

fn group_of(pid: i32) -> Option<i32> {
    nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)))
        .ok()
        .map(nix::unistd::Pid::as_raw)
}

/// A process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// The name of its program.
    pub name: String,
    /// `R`, `S`, `Z` and so on.
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
}

impl Process {
    /// Reads a line of `/proc/PID/stat`; the name in it may hold blanks and parentheses.
    pub fn parse(line: &str) -> Option<Self> {
        let (head, tail) = line.rsplit_once(')')?;
        let (pid, name) = head.split_once('(')?;
        let mut fields = tail.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let mut number = || fields.next()?.parse().ok();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            state,
            parent: number()?,
            group: number()?,
            session: number()?,
        })
    }

    /// The process with this id.
    pub fn look(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// The children of all threads of `pid`; `None` where the kernel does not list them.
fn children_of(pid: i32) -> Option<Vec<i32>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let mut found = Vec::new();
    for thread in threads {
        let listed = fs::read_to_string(thread.path().join("children")).ok()?;
        found.extend(
            listed
                .split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
    }
    Some(found)
}

/// Whether the main thread of `pid` has children, by one read.
pub fn has_children(pid: i32) -> bool {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    listed.map_or(true, |listed| !listed.is_empty())
}

/// All that descends from us; where the kernel lists no children, all there is.
fn descendants() -> Vec<Process> {
    let Some(mut due) = children_of(std::process::id().cast_signed()) else {
        return every_process().unwrap_or_default();
    };
    let mut found = Vec::new();
    while let Some(pid) = due.pop() {
        found.extend(Process::look(pid));
        due.extend(children_of(pid).unwrap_or_default());
    }
    found
}

fn every_process() -> Option<Vec<Process>> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Some(pids.filter_map(Process::look).collect())
}

/// How long a zombie must have been one before its parent is named, unless at a stop.
pub const UNREAPED: Duration = Duration::from_secs(10);

/// Zombies that descend from us and whose living parent is not us: `(zombie, parent)`.
pub fn unreaped() -> Vec<(Process, Process)> {
    find_unreaped(&descendants(), std::process::id().cast_signed())
}

fn find_unreaped(all: &[Process], own: i32) -> Vec<(Process, Process)> {
    let by_pid: BTreeMap<i32, &Process> = all.iter().map(|p| (p.pid, p)).collect();
    let find = |pid: i32| by_pid.get(&pid).copied();
    let descends = |process: &Process| {
        let mut at = process.parent;
        for _ in 0..all.len() {
            if at == own {
                return true;
            }
            match find(at) {
                Some(parent) => at = parent.parent,
                None => return false,
            }
        }
        false
    };
    let zombies = all
        .iter()
        .filter(|p| p.state == 'Z' && p.parent != own && descends(p));
    zombies
        .filter_map(|zombie| {
            let parent = find(zombie.parent).filter(|parent| parent.state != 'Z')?;
            Some((zombie.clone(), parent.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, state: char) -> Process {
        Process {
            pid,
            name: format!("p{pid}"),
            state,
            parent,
            group: pid,
            session: pid,
        }
    }

    #[test]
    fn a_name_with_blanks_and_parentheses_is_read() {
        let read = Process::parse("42 (a (b) c) S 1 41 40 0 -1 4194560").unwrap();
        assert_eq!(
            (read.pid, read.parent, read.group, read.session),
            (42, 1, 41, 40)
        );
        assert_eq!((read.name.as_str(), read.state), ("a (b) c", 'S'));
        assert_eq!(Process::parse("42 (gone"), None);
    }

    #[test]
    fn a_zombie_is_put_down_to_the_living_parent_that_descends_from_us() {
        let all = [
            process(1, 0, 'S'),
            process(10, 1, 'S'),
            process(11, 10, 'Z'),
            process(12, 1, 'Z'),
            process(90, 2, 'S'),
            process(91, 90, 'Z'),
        ];
        let found = find_unreaped(&all, 1);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.pid, found[0].1.pid), (11, 10));
    }
}
