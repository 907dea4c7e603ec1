//! The second stage: what must happen in the child itself before it becomes its program.
//!
//! In this order: session or group and terminal; parent-death signal; oom score (dumpable first: the `/proc` files
//! of a process whose binary cannot be read belong to root); the cage; every descriptor above 2 marked to be closed;
//! exec, which puts SIGPIPE back to its default. The signal mask and the other dispositions come in as the
//! program shall have them and are not touched.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use contract::exit;
use contract::stage::{Placement, Stage};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd;
use thiserror::Error;

use crate::cage;

/// What only a supervisor tells its second stage, in front of the [`Stage`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Descriptor 0 is a pipe for the reason of a failed start; the program gets `/dev/null` there.
    pub report: Report,
    /// The process id of the one who starts it.
    pub parent: Option<i32>,
    /// Level of its journal.
    pub journal: Option<String>,
}

/// Where the reason of a failed start goes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// To the journal.
    #[default]
    Journal,
    /// Into the pipe on descriptor 0.
    Pipe,
}

impl Inside {
    /// The arguments after `exec`.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        if self.report == Report::Pipe {
            args.push("--report-on-stdin".into());
        }
        if let Some(parent) = self.parent {
            args.push(format!("--parent={parent}").into());
        }
        if let Some(level) = &self.journal {
            args.push(format!("--journal={level}").into());
        }
        args
    }

    /// Takes them from the front of `args`.
    pub fn take(args: impl IntoIterator<Item = OsString>) -> (Self, Vec<OsString>) {
        let mut inside = Self::default();
        let mut args = args.into_iter().peekable();
        while args
            .next_if(|arg| inside.note(arg.to_str().unwrap_or("")))
            .is_some()
        {}
        (inside, args.collect())
    }

    fn note(&mut self, arg: &str) -> bool {
        if arg == "--report-on-stdin" {
            self.report = Report::Pipe;
        } else if let Some(parent) = arg.strip_prefix("--parent=") {
            self.parent = parent.parse().ok();
        } else if let Some(level) = arg.strip_prefix("--journal=") {
            self.journal = Some(level.to_owned());
        } else {
            return false;
        }
        true
    }
}

/// Why a program was not started.
#[derive(Debug, Error)]
enum Failed {
    #[error("{what}: {cause}")]
    Prepare {
        what: &'static str,
        cause: io::Error,
    },
    #[error(transparent)]
    Cage(#[from] cage::CageError),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    NotExecutable(String),
    #[error("start {command}: {cause}")]
    Exec { command: String, cause: io::Error },
}

impl Failed {
    fn code(&self) -> u8 {
        match self {
            Failed::NotFound(_) => exit::NOT_FOUND,
            Failed::NotExecutable(_) => exit::NOT_EXECUTABLE,
            _ => exit::INTERNAL,
        }
    }
}

/// Becomes the program of `stage`; returns only if that failed, with the code to exit with.
pub fn become_program(stage: &Stage, inside: &Inside) -> u8 {
    let failed = match inside.report {
        Report::Journal => (prepare_and_exec(stage, inside), None),
        Report::Pipe => match take_report() {
            Ok(pipe) => (prepare_and_exec(stage, inside), Some(pipe)),
            Err(cause) => {
                let what = "put /dev/null on standard input";
                (Failed::Prepare { what, cause }, None)
            }
        },
    };
    let code = failed.0.code();
    match failed.1 {
        Some(pipe) => {
            let _ = write!(std::fs::File::from(pipe), "{code} {}", failed.0);
        }
        None => contract::error!("{}", failed.0),
    }
    code
}

/// What a report says: the code and the message.
pub fn read_report(text: &str) -> Option<(u8, String)> {
    let (code, message) = text.split_once(' ')?;
    Some((code.parse().ok()?, message.to_owned()))
}

fn take_report() -> io::Result<OwnedFd> {
    let pipe = unistd::dup(io::stdin())?;
    unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(pipe)
}

fn prepare_and_exec(stage: &Stage, inside: &Inside) -> Failed {
    match prepare(stage, inside) {
        Ok(()) => exec(stage),
        Err(failed) => failed,
    }
}

fn prepare(stage: &Stage, inside: &Inside) -> Result<(), Failed> {
    let failed = |what| move |cause: io::Error| Failed::Prepare { what, cause };
    place(stage.placement).map_err(failed("take a session or group of its own"))?;
    if stage.parent_death_signal != 0 {
        follow_parent(stage.parent_death_signal, inside.parent)
            .map_err(failed("end with the parent"))?;
    }
    raise_oom_score(stage.oom_score_above);
    if let Some(directory) = &stage.directory {
        std::env::set_current_dir(directory).map_err(|cause| {
            Failed::NotExecutable(format!(
                "its working directory {} cannot be entered: {cause}",
                directory.display()
            ))
        })?;
    }
    cage::enter(&stage.cage)?;
    close_fds::set_fds_cloexec(3, &[]);
    Ok(())
}

fn place(placement: Placement) -> io::Result<()> {
    let zero = unistd::Pid::from_raw(0);
    match placement {
        // A leader of a group (somebody typed `supervisor exec` into a shell) stays where it is.
        Placement::Session => match unistd::setsid() {
            Err(nix::errno::Errno::EPERM) | Ok(_) => Ok(()),
            Err(err) => Err(err.into()),
        },
        Placement::Group => Ok(unistd::setpgid(zero, zero)?),
        Placement::Foreground => {
            unistd::setpgid(zero, zero)?;
            take_terminal()
        }
    }
}

/// From a background group this is a write to the terminal, answered with SIGTTOU unless that is blocked.
fn take_terminal() -> io::Result<()> {
    let mut ttou = SigSet::empty();
    ttou.add(Signal::SIGTTOU);
    let before = ttou.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let taken = unistd::tcsetpgrp(io::stdin(), unistd::getpgrp());
    before.thread_set_mask()?;
    match taken {
        Err(nix::errno::Errno::ENOTTY) | Ok(()) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

fn follow_parent(signal: i32, parent: Option<i32>) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::try_from(signal)?)?;
    match parent {
        Some(parent) if unistd::getppid().as_raw() != parent => {
            Err(io::Error::other("it is gone already"))
        }
        _ => Ok(()),
    }
}

/// Makes the kernel prefer this process when memory is short. Where that is not possible, nothing is lost but the
/// preference.
fn raise_oom_score(above: u16) {
    if above == 0 {
        return;
    }
    let path = Path::new("/proc/self/oom_score_adj");
    let raise = || -> io::Result<()> {
        prctl::set_dumpable(true)?;
        let own: i32 = std::fs::read_to_string(path)?.trim().parse().unwrap_or(0);
        std::fs::write(path, (own + i32::from(above)).min(1000).to_string())
    };
    if let Err(err) = raise() {
        contract::debug!("the bot's oom score stays as ours: {err}");
    }
}

fn exec(stage: &Stage) -> Failed {
    let Some((program, args)) = stage.command.split_first() else {
        return Failed::NotFound("no command".to_owned());
    };
    let cause = Command::new(program).args(args).exec();
    let shown = program.display();
    match cause.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(nix::errno::Errno::ENOENT) if Path::new(program).exists() => {
            Failed::NotFound(format!(
                "{shown} is there but what it needs to run is not: the interpreter its first line names, or the loader it was linked for"
            ))
        }
        Some(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => {
            let hint = if program.to_string_lossy().contains('/') {
                "check the path"
            } else {
                "install it, or add its folder to PATH"
            };
            Failed::NotFound(format!("{shown} was not found: {hint}"))
        }
        Some(nix::errno::Errno::EACCES | nix::errno::Errno::EPERM) => {
            Failed::NotExecutable(format!(
                "{shown} may not be executed: make it executable (chmod +x), and its file system not noexec"
            ))
        }
        Some(nix::errno::Errno::ENOEXEC) => Failed::NotExecutable(format!(
            "{shown} is not a program for this machine: build it for {}",
            std::env::consts::ARCH
        )),
        Some(
            nix::errno::Errno::EISDIR | nix::errno::Errno::ETXTBSY | nix::errno::Errno::ELIBBAD,
        ) => Failed::NotExecutable(format!("{shown} cannot be executed: {cause}")),
        _ => Failed::Exec {
            command: shown.to_string(),
            cause,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_we_tell_comes_off_the_front() {
        let inside = Inside {
            report: Report::Pipe,
            parent: Some(12),
            journal: Some("debug".into()),
        };
        let mut args = inside.to_args();
        args.extend(["--cage", "open"].map(OsString::from));
        let (read, rest) = Inside::take(args);
        assert_eq!(read, inside);
        assert_eq!(rest, ["--cage", "open"]);
        assert_eq!(Inside::take([]).0, Inside::default());
    }

    #[test]
    fn a_report_is_a_code_and_a_message() {
        assert_eq!(
            read_report("127 python3 was not found"),
            Some((127, "python3 was not found".into()))
        );
        assert_eq!(read_report(""), None);
    }
}
