//! Starting children: with the mask and dispositions that we were given, and nothing of ours but what they need.
//!
//! The child is a fork of this process of one thread: it puts its descriptors and its mask in place and executes
//! the second stage. (`posix_spawn` would do, but glibc's leaves the signals 32 and 33 ignored in the child.) The
//! second stage of a bot is a program of its own, not only a fork, because it becomes dumpable, which memory that
//! holds keys must never be.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use contract::exit;
use contract::launch::{Keys, Line, Variables};
use contract::stage::{Cage, Placement, Stage};
use fork::Fork;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::SigSet;
use nix::unistd::{self, pipe2};

use crate::signals;
use crate::stage::{Inside, Report, become_program};

/// The three descriptors of a child; `None`: ours.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stdio<'a> {
    /// 0.
    pub input: Option<BorrowedFd<'a>>,
    /// 1.
    pub output: Option<BorrowedFd<'a>>,
    /// 2.
    pub error: Option<BorrowedFd<'a>>,
}

/// Starts `stage` in a fork that holds nothing secret, with our environment and descriptors; gives its process id.
///
/// # Errors
/// No process or memory is left.
pub fn here(stage: &Stage, mask: &SigSet) -> io::Result<i32> {
    match fork::fork()? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            if let Err(err) = mask.thread_set_mask() {
                contract::error!("set the signal mask: {err}");
                std::process::exit(exit::INTERNAL.into());
            }
            std::process::exit(become_program(stage, &Inside::default()).into());
        }
    }
}

/// Starts `stage` through `supervisor exec` with exactly the environment `env`; gives its process id.
///
/// # Errors
/// No process or memory is left.
pub fn second_stage(
    stage: &Stage,
    inside: &Inside,
    env: &Variables,
    stdio: Stdio<'_>,
    mask: &SigSet,
) -> io::Result<i32> {
    let mut command = Command::new(own_program());
    command.arg0("supervisor").env_clear().envs(env);
    let staged = stage.to_args();
    if let Some((word, rest)) = staged.split_first() {
        command.arg(word).args(inside.to_args()).args(rest);
    }
    match fork::fork()? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            let failed = match prepare(stdio, mask) {
                Ok(()) => command.exec(),
                Err(err) => err,
            };
            tell(inside.report, &format!("start the second stage: {failed}"));
            std::process::exit(exit::INTERNAL.into());
        }
    }
}

/// Where the second stage itself would have told it: a bot's log is not the place.
fn tell(report: Report, failed: &str) {
    let text = format!("{} {failed}", exit::INTERNAL);
    let told = report == Report::Pipe && unistd::write(io::stdin(), text.as_bytes()).is_ok();
    if !told {
        contract::error!("{failed}");
    }
}

/// A program of ours that lies beside us.
#[derive(Debug, Clone, Copy)]
pub struct Ours<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its arguments.
    pub args: &'a [&'a str],
    /// Its whole environment.
    pub env: &'a Variables,
    /// What waits on its standard input.
    pub keys: Option<&'a Keys>,
}

impl Ours<'_> {
    /// Starts it in a session of its own, to end when we do; both of its outputs go to `journal`. Gives its process id
    /// and the other end of its standard input.
    ///
    /// # Errors
    /// No process, memory or descriptor is left.
    pub fn start(
        self,
        journal: BorrowedFd<'_>,
        inside: &Inside,
        mask: &SigSet,
    ) -> io::Result<(i32, OwnedFd)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        if let Some(keys) = self.keys {
            write_keys(keys, &writer)?;
        }
        let mut command = vec![sibling(self.name)?];
        command.extend(self.args.iter().map(Into::into));
        let stage = Stage {
            placement: Placement::Session,
            cage: Cage::Open,
            parent_death_signal: signals::TERM,
            oom_score_above: 0,
            directory: None,
            command,
        };
        let stdio = Stdio {
            input: Some(reader.as_fd()),
            output: Some(journal),
            error: Some(journal),
        };
        let pid = second_stage(&stage, inside, self.env, stdio, mask)?;
        Ok((pid, writer))
    }
}

/// Writes keys as `sync` reads them; none, as for a store that is a folder, are not written.
///
/// # Errors
/// Nobody reads, or the pipe is full.
pub fn write_keys(keys: &Keys, pipe: &OwnedFd) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let line = Line::Keys {
        v: Line::VERSION,
        keys: keys.clone(),
    };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    File::from(pipe.try_clone()?).write_all(&text)
}

fn prepare(stdio: Stdio<'_>, mask: &SigSet) -> io::Result<()> {
    if let Some(input) = stdio.input {
        unistd::dup2_stdin(input)?;
    }
    if let Some(output) = stdio.output {
        unistd::dup2_stdout(output)?;
    }
    if let Some(error) = stdio.error {
        unistd::dup2_stderr(error)?;
    }
    Ok(mask.thread_set_mask()?)
}

/// The program `name` beside ours.
///
/// # Errors
/// Our own path cannot be had.
pub fn sibling(name: &str) -> io::Result<OsString> {
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or(io::ErrorKind::NotFound)?;
    Ok(folder.join(name).into_os_string())
}

/// Ourselves, also after our file was replaced by a newer one; without `/proc`, as we were started.
fn own_program() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return link.to_owned();
    }
    PathBuf::from(rustix::param::linux_execfn().to_string_lossy().into_owned())
}
