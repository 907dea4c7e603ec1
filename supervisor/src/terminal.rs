//! The terminal on descriptor 0 and who holds it, for `run`.
//!
//! The child has a group of its own in the foreground, so Ctrl-C and Ctrl-Z reach it directly. When it stops, we
//! take the terminal back and stop ourselves, so that the shell above notices; when we are continued, we hand
//! it on again. Where nobody above could continue us (PID 1, an orphaned group), the child is continued at once.

use std::io::{self, IsTerminal};

use contract::stage::Placement;
use nix::unistd::{self, Pid};

use crate::processes::Process;
use crate::signals;

/// Signals by which a terminal stops a process; `kill -STOP` is not one of them.
const BY_TERMINAL: [i32; 3] = [20, 21, 22];

/// Where the child belongs.
pub fn placement() -> Placement {
    if is_ours() {
        Placement::Foreground
    } else {
        Placement::Group
    }
}

/// Whether descriptor 0 is a terminal and we are in its foreground.
fn is_ours() -> bool {
    io::stdin().is_terminal()
        && unistd::tcgetpgrp(io::stdin()).is_ok_and(|group| group == unistd::getpgrp())
}

/// The child has stopped by `signal`.
pub fn child_stopped(child: i32, signal: i32) {
    if !io::stdin().is_terminal() {
        return;
    }
    if can_be_continued() {
        take_back(child);
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::STOP);
    } else if BY_TERMINAL.contains(&signal) {
        hand_to(child);
        let _ = signals::send_group(child, signals::CONT);
    }
}

/// We have been continued.
pub fn continued(child: i32) {
    if is_ours() {
        hand_to(child);
    }
    let _ = signals::send_group(child, signals::CONT);
}

/// The child is gone; the terminal is ours again if it was the child's.
pub fn take_back(child: i32) {
    if unistd::tcgetpgrp(io::stdin()).is_ok_and(|group| group.as_raw() == child) {
        let _ = unistd::tcsetpgrp(io::stdin(), unistd::getpgrp());
    }
}

/// SIGTTOU is blocked, as every signal is, so this does not stop us.
fn hand_to(child: i32) {
    let _ = unistd::tcsetpgrp(io::stdin(), Pid::from_raw(child));
}

/// Whether somebody of our session in another group is the parent of one of our group's ancestors (POSIX: the
/// group is not orphaned), as a shell with job control is.
fn can_be_continued() -> bool {
    let Some(own) = Process::look(std::process::id().cast_signed()) else {
        return false;
    };
    let mut at = own.parent;
    for _ in 0..64 {
        let Some(above) = Process::look(at).filter(|above| above.session == own.session) else {
            return false;
        };
        if above.group != own.group {
            return true;
        }
        at = above.parent;
    }
    false
}
