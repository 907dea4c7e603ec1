//! Signals: taken in one place, handed on by number, real-time ones included.
//!
//! From [`Signals::take`] on every signal that can be is blocked and read from a descriptor, so nothing here runs
//! in a handler and none is lost between two looks. What mask we were given is kept for the children.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix_libc_wrappers::process::SignalExt;

/// By number, as signals are kept here.
pub const INT: i32 = 2;
/// KILL.
pub const KILL: i32 = 9;
/// PIPE.
pub const PIPE: i32 = 13;
/// TERM.
pub const TERM: i32 = 15;
/// CHLD.
pub const CHLD: i32 = 17;
/// CONT.
pub const CONT: i32 = 18;

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    given: SigSet,
}

impl Signals {
    /// Blocks all signals and reads them from now on.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn take() -> io::Result<Self> {
        heed_children()?;
        let all = SigSet::all();
        let given = all.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let fd = SignalFd::with_flags(&all, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { fd, given })
    }

    /// The mask we were given.
    pub fn given(&self) -> &SigSet {
        &self.given
    }

    /// The next signal that has come; `None` when there is none.
    ///
    /// SIGPIPE from our own writes (which std ignores, and a blocked signal is queued all the same) is passed over.
    pub fn next(&self) -> Option<i32> {
        loop {
            let info = self.fd.read_signal().ok()??;
            let number = i32::try_from(info.ssi_signo).ok()?;
            if number != PIPE || info.ssi_pid != std::process::id() {
                return Some(number);
            }
        }
    }
}

/// Who starts us may ignore SIGCHLD; then the kernel would reap our children itself and tell nobody how they ended. A
/// handler undoes that (it never runs, the signal stays blocked); the child gets the default where it was ignored.
fn heed_children() -> io::Result<()> {
    let unused = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(CHLD, unused)?;
    Ok(())
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn target(pid: i32, signal: i32) -> io::Result<(Pid, Signal)> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match (Pid::from_raw(pid), Signal::from_raw(signal)) {
        (Some(pid), Some(signal)) => Ok((pid, signal)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Sends `signal` to the process `pid`.
///
/// # Errors
/// It is gone or not ours, or there is no such signal.
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    let (pid, signal) = target(pid, signal)?;
    Ok(kill_process(pid, signal)?)
}

/// Sends `signal` to the process group of `pid`, or to `pid` alone while it has none of its own yet.
///
/// # Errors
/// As [`send`].
pub fn send_group(pid: i32, signal: i32) -> io::Result<()> {
    let (group, number) = target(pid, signal)?;
    match kill_process_group(group, number) {
        Err(rustix::io::Errno::SRCH) => send(pid, signal),
        other => Ok(other?),
    }
}

/// `TERM`, `RTMIN+3`: the name as `kill -l` gives it.
pub fn name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(named) => named.as_str().trim_start_matches("SIG").to_owned(),
        Err(_) if signal >= 34 => format!("RTMIN+{}", signal - 34),
        Err(_) => signal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_names_people_use() {
        assert_eq!(name(TERM), "TERM");
        assert_eq!(name(34), "RTMIN+0");
        assert_eq!(name(64), "RTMIN+30");
    }

    #[test]
    fn a_signal_for_nobody_is_refused_before_it_is_sent() {
        assert!(send(0, TERM).is_err());
        assert!(send(-1, TERM).is_err());
        assert!(send_group(0, TERM).is_err());
        assert!(send(1, 999).is_err());
    }
}
