//! One question in a container of its own: code and state are brought, the bot's query program is run once with the question
//! in its environment, and what it leaves in `/query/result.json` is told. The bot is not run.
//!
//! ```text
//!   sync fetch (nothing is claimed) ──▶ query program ──▶ result.json ──▶ standard output, the store, or a file
//! ```
//!
//! It ensures: there is always a result, `{"status": "error", "error": ..}` where the program left none; standard output has
//! that and nothing else; the time is bounded by `THE0_QUERY_TIMEOUT`; nothing the program has started outlives it.
//!
//! In a Pod whose other containers fetch and send, the result is left in a file (`THE0_QUERY_RESULT_FILE`), and the code
//! says only whether it is there: what the program ended with is in the result.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use contract::launch::{Confine, Launch, Question};
use contract::runtime::Program;
use contract::stage::{Placement, Stage};
use contract::{exit, vars};
use nix::poll::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use crate::cage;
use crate::init::timeout;
use crate::machine::{Exit, Sides};
use crate::processes::{self, Change};
use crate::result;
use crate::signals::{self, Signals};
use crate::spawn::{self, Ours, Stdio};
use crate::stage::{Inside, Report};

/// Where the contract has a query program leave its result.
const RESULT: &str = "/query/result.json";
/// Where a result that is put into the store lies meanwhile; the program has ended then.
const OURS: &str = "/query/.the0-result.json";
/// The largest result, in bytes.
const LARGEST: u64 = 16 << 20;
/// Time between TERM and KILL for a program that is ended.
const TO_END: Duration = Duration::from_secs(2);
/// How much sooner than us the kernel ends the program when memory is short.
const OOM_SCORE_ABOVE: u16 = 200;

/// How a child's life came to its end.
enum End {
    Exit(Exit),
    Late,
    Stopped(i32),
}

struct Asking<'a> {
    launch: &'a Launch,
    signals: &'a Signals,
    due: Instant,
}

/// Answers the launch's question and gives the code to exit with: the program's, where it was run.
///
/// # Errors
/// The kernel gives us no descriptors.
pub fn answer(
    launch: &Launch,
    question: &Question,
    sides: Sides,
    signals: &Signals,
) -> io::Result<u8> {
    let asking = Asking {
        launch,
        signals,
        due: Instant::now() + launch.query_timeout,
    };
    let (result, code) = asking.result(sides)?;
    let (told, code) = match (&question.result_file, &question.result_key) {
        (Some(file), _) => (result::leave(file, &result), 0),
        (None, Some(key)) => (asking.put(key.as_str(), &result), code),
        (None, None) => (print(&result), code),
    };
    match told {
        Ok(()) => Ok(code),
        Err(err) => {
            contract::error!("the result could not be told: {err}");
            Ok(exit::INTERNAL)
        }
    }
}

fn print(result: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(result)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn failed(why: &str) -> Vec<u8> {
    contract::error!("{why}");
    json!({"status": "error", "error": why})
        .to_string()
        .into_bytes()
}

impl Asking<'_> {
    fn result(&self, sides: Sides) -> io::Result<(Vec<u8>, u8)> {
        if sides == Sides::Ours
            && let Some(refused) = self.fetch()?
        {
            return Ok(refused);
        }
        if sides == Sides::Ours
            && let Err(err) = self.close()
        {
            let why = format!("code and state cannot be closed to writes: {err}");
            return Ok((failed(&why), exit::INTERNAL));
        }
        let Some(command) = self.launch.command(Program::Query) else {
            let why = format!(
                "bot {} does not have a query entrypoint ({})",
                self.launch.bot,
                vars::QUERY_ENTRYPOINT
            );
            return Ok((failed(&why), exit::BAD_LAUNCH));
        };
        result::forget(Path::new(RESULT));
        let ended = match self.start(command) {
            Ok(pid) => self.wait(pid)?,
            Err(err) => {
                let why = format!("the query program is not started: {err}");
                return Ok((failed(&why), exit::INTERNAL));
            }
        };
        self.sweep()?;
        Ok(match ended {
            End::Exit(exit) => (left(exit), exit.code()),
            End::Late => {
                let limit = humantime::format_duration(self.launch.query_timeout);
                let why = format!("no answer within {limit}");
                (failed(&why), exit::of_signal(signals::KILL))
            }
            End::Stopped(signal) => {
                let why = "the question was given up before there was an answer";
                (failed(why), exit::of_signal(signal))
            }
        })
    }

    /// Brings code and state; a result and a code, where that came to nothing.
    fn fetch(&self) -> io::Result<Option<(Vec<u8>, u8)>> {
        let (mut env, keys) = (self.launch.sync_environment(), self.launch.keys());
        // Whoever only asks claims nothing, whatever was said.
        env.insert(vars::THE0_STATE.to_owned(), "read".to_owned());
        let sync = Ours {
            name: "sync",
            args: &["fetch", "--keys-from-stdin"],
            env: &env,
            keys: Some(&keys),
        };
        Ok(match self.run(sync)? {
            End::Exit(Exit::Code(0)) => None,
            End::Exit(exit) => {
                let code = exit.code();
                let why = exit::meaning(code).unwrap_or("code or state could not be brought");
                Some((
                    failed(&format!("{why}; the container's log says more")),
                    code,
                ))
            }
            End::Late => {
                let why = "code and state were not brought in time";
                Some((failed(why), exit::CODE))
            }
            End::Stopped(signal) => {
                let why = "the question was given up before it was put";
                Some((failed(why), exit::of_signal(signal)))
            }
        })
    }

    /// Where the kernel bounds no program's writes, the copies of code and state are made read-only.
    fn close(&self) -> io::Result<()> {
        if self.launch.confine != Confine::Full || cage::bounds_writes() {
            return Ok(());
        }
        cage::make_read_only(&self.launch.paths.code)?;
        cage::make_read_only(&self.launch.paths.state)
    }

    fn run(&self, ours: Ours<'_>) -> io::Result<End> {
        let (pid, _input) =
            ours.start(io::stderr().as_fd(), &self.inside(), self.signals.given())?;
        self.wait(pid)
    }

    fn start(&self, command: Vec<String>) -> io::Result<i32> {
        let stage = Stage {
            placement: Placement::Session,
            cage: self.launch.cage(Program::Query),
            parent_death_signal: signals::KILL,
            oom_score_above: OOM_SCORE_ABOVE,
            directory: Some(self.launch.paths.code.clone()),
            command: command.into_iter().map(Into::into).collect(),
        };
        let (nothing, journal) = (fs::File::open("/dev/null")?, io::stderr());
        // Our standard output is for the result alone.
        let stdio = Stdio {
            input: Some(nothing.as_fd()),
            output: Some(journal.as_fd()),
            error: Some(journal.as_fd()),
        };
        let env = self.launch.program_environment(Program::Query);
        spawn::second_stage(&stage, &self.inside(), &env, stdio, self.signals.given())
    }

    fn inside(&self) -> Inside {
        Inside {
            report: Report::Journal,
            parent: Some(std::process::id().cast_signed()),
            journal: self.launch.log_level().map(str::to_owned),
        }
    }

    /// Waits for the end of a child; one that is late, or to be given up, is ended.
    fn wait(&self, pid: i32) -> io::Result<End> {
        let mut cut = None;
        let mut due = self.due;
        let clock = Instant::now();
        loop {
            if let Some(exit) = reap(pid) {
                return Ok(cut.unwrap_or(End::Exit(exit)));
            }
            let stop = std::iter::from_fn(|| self.signals.next())
                .find(|signal| matches!(*signal, signals::TERM | signals::INT));
            if let (Some(signal), None) = (stop, &cut) {
                (cut, due) = (Some(End::Stopped(signal)), Instant::now() + TO_END);
                let _ = signals::send(pid, signals::TERM);
            }
            if Instant::now() >= due {
                let _ = signals::send_group(pid, signals::KILL);
                cut.get_or_insert(End::Late);
                due = Instant::now() + TO_END;
            }
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let until = due.saturating_duration_since(clock);
            match poll(&mut fds, timeout(Some(until), clock.elapsed())) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    /// Ends what the program has left behind.
    fn sweep(&self) -> io::Result<()> {
        let end = Instant::now() + TO_END;
        loop {
            let left = processes::leftovers(&[]).unwrap_or_default();
            if left.is_empty() || Instant::now() >= end {
                return Ok(());
            }
            for pid in left {
                let _ = signals::send(pid, signals::KILL);
            }
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            poll(
                &mut fds,
                timeout(Some(Duration::from_millis(20)), Duration::ZERO),
            )?;
            while self.signals.next().is_some() {}
            processes::reap(|_, _| ());
        }
    }

    /// Puts the result into the store.
    fn put(&self, key: &str, result: &[u8]) -> io::Result<()> {
        result::leave(Path::new(OURS), result)?;
        let (env, keys) = (self.launch.sync_environment(), self.launch.keys());
        let sync = Ours {
            name: "sync",
            args: &["result", "--keys-from-stdin", OURS, key],
            env: &env,
            keys: Some(&keys),
        };
        match self.run(sync)? {
            End::Exit(Exit::Code(0)) => Ok(()),
            _ => Err(io::Error::other("sync could not put it into the store")),
        }
    }
}

/// The child's end, if it has come; whoever else has ended is reaped too.
fn reap(child: i32) -> Option<Exit> {
    let mut ended = None;
    processes::reap(|pid, change| {
        if let (true, Change::Ended(exit)) = (pid == child, change) {
            ended = Some(exit);
        }
    });
    ended
}

/// What the program has left as its result.
fn left(exit: Exit) -> Vec<u8> {
    let missing = |why: &str| failed(&format!("the query program ended with {exit} and {why}"));
    match result::content(Path::new(RESULT), LARGEST) {
        Ok(bytes) => match serde_json::from_slice::<Value>(&bytes) {
            Ok(_) => bytes,
            Err(err) => missing(&format!(
                "left a result that is not JSON (line {}, column {})",
                err.line(),
                err.column()
            )),
        },
        Err(err) if err.kind() == io::ErrorKind::NotFound => missing("without a result"),
        Err(err) => missing(&format!("left a result that is not read: {err}")),
    }
}
