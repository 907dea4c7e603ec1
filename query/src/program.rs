//! The bot's query program: started, restarted when it ends, ended when this program ends.
//!
//! ```text
//!              ┌──── ended, pause is zero ────┐
//!   Starting ──▶ Up { port } ── ended ──▶ Waiting { why, until }
//!              └──────◀──── pause over ───────┘
//! ```
//!
//! *Up* means that its process lives; whether it listens yet is seen by connecting. A question during *Waiting*
//! is answered at once with why: it does not shorten the pause, so clients that ask often cannot make a program
//! that crashes at its start a load on the machine.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use contract::launch::Variables;
use contract::runtime::Program as Kind;
use contract::stage::{Placement, Stage};
use contract::{Launch, exit, vars};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::line::{Lines, Visit};

/// How long a question waits for a program that lives and does not listen yet.
const TO_LISTEN: Duration = Duration::from_secs(10);
/// How long the program may take to end after TERM.
const TO_END: Duration = Duration::from_secs(2);
/// Questions asked of the program at once. Python's http.server answers one and lets five wait; what is beyond
/// would have its connection refused by silence and tried again after a second, so it waits here instead.
const AT_ONCE: usize = 6;
/// Added to the program's oom_score_adj, so that the kernel takes it before it takes us.
const OOM_SCORE_ABOVE: u16 = 200;

/// Where the program is in its life.
#[derive(Debug, Clone)]
enum State {
    Starting,
    Up { port: u16 },
    Waiting { why: String, until: Instant },
}

/// The program as those see it who ask it.
#[derive(Debug, Clone)]
pub struct Program {
    state: watch::Receiver<State>,
    slots: Arc<Semaphore>,
    lines: Lines,
}

/// The program as the one sees it who keeps it running.
#[derive(Debug)]
pub struct Keeper {
    recipe: Recipe,
    state: watch::Sender<State>,
}

/// The two sides of `launch`'s query program, not started yet; `None` when it has none.
///
/// # Errors
/// When this program cannot find out where its siblings lie.
pub fn of(launch: &Launch) -> anyhow::Result<Option<(Program, Keeper)>> {
    let Some(stage) = stage(launch) else {
        return Ok(None);
    };
    let own = std::env::current_exe().context("find the own path in /proc/self/exe")?;
    let recipe = Recipe {
        supervisor: own.with_file_name("supervisor").into(),
        arguments: stage.to_args(),
        environment: launch.program_environment(Kind::Query),
    };
    let (sender, state) = watch::channel(State::Starting);
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    Ok(Some((
        Program {
            state,
            slots,
            lines: Lines::default(),
        },
        Keeper {
            recipe,
            state: sender,
        },
    )))
}

/// How the second stage starts the program.
fn stage(launch: &Launch) -> Option<Stage> {
    let command = launch.command(Kind::Query)?;
    Some(Stage {
        placement: Placement::Session,
        cage: launch.cage(Kind::Query),
        parent_death_signal: Signal::SIGKILL as i32,
        oom_score_above: OOM_SCORE_ABOVE,
        directory: Some(launch.paths.code.clone()),
        command: command.into_iter().map(OsString::from).collect(),
    })
}

impl Program {
    /// Waits for its turn among the questions asked at once; the question is over at `deadline`.
    pub async fn visit(&self, deadline: Instant) -> Visit {
        let turn = self.slots.clone().acquire_owned().await.ok();
        self.lines.visit(turn, deadline)
    }

    /// A connection to the program, as soon as it listens.
    ///
    /// # Errors
    /// Why it is not running, or that it does not listen.
    pub async fn connect(&self) -> Result<TcpStream, String> {
        let end = Instant::now() + TO_LISTEN;
        let mut state = self.state.clone();
        let mut pause = Duration::from_millis(5);
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Waiting { why, until } => return Err(waiting(&why, until)),
                State::Up { port } => {
                    if let Some(stream) = reach(port).await {
                        return Ok(stream);
                    }
                }
                State::Starting => {}
            }
            if Instant::now() >= end {
                return Err(format!(
                    "it lives but does not listen on port {} (it is told by {})",
                    if let State::Up { port } = now {
                        port
                    } else {
                        0
                    },
                    vars::THE0_QUERY_PORT
                ));
            }
            // A change ends the pause; so does the keeper's end, after which nothing changes any more.
            let _ = timeout(pause, state.changed()).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

fn waiting(why: &str, until: Instant) -> String {
    let left = until.saturating_duration_since(Instant::now());
    format!("{why}; it is started again in {:.1} s", left.as_secs_f64())
}

/// Connects to `port` on loopback. A connection to itself, which the kernel makes when it picks the very port as
/// the source of a connection nobody listens for, is none.
async fn reach(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let to_itself = stream.local_addr().ok()? == SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let _ = stream.set_nodelay(true);
    (!to_itself).then_some(stream)
}

impl Keeper {
    /// Keeps the program running until `stop` changes or its sender is gone; then ends it.
    pub async fn keep(self, mut stop: watch::Receiver<()>) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let why = match self.recipe.start() {
                Ok((mut child, port)) => {
                    let group = child.id();
                    let _ = self.state.send(State::Up { port });
                    tokio::select! {
                        status = child.wait() => { sweep(group); ended(status) }
                        _ = stop.changed() => return end(&mut child).await,
                    }
                }
                Err(err) => format!("{err:#}"),
            };
            let pause = backoff.pause(started.elapsed());
            contract::warn!(
                "the query program is not running: {why}; starting it again in {} s",
                pause.as_secs()
            );
            if pause.is_zero() {
                continue;
            }
            let until = Instant::now() + pause;
            let _ = self.state.send(State::Waiting { why, until });
            tokio::select! {
                () = sleep(pause) => {}
                _ = stop.changed() => return,
            }
            let _ = self.state.send(State::Starting);
        }
    }
}

/// What a start takes.
#[derive(Debug)]
struct Recipe {
    supervisor: Box<Path>,
    arguments: Vec<OsString>,
    environment: Variables,
}

impl Recipe {
    fn start(&self) -> anyhow::Result<(Child, u16)> {
        let port = free_port().context("find a free port")?;
        // The bot's standard output is the bot's own: what its query program says goes to standard error.
        let child = Command::new(&*self.supervisor)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .env(vars::THE0_QUERY_PORT, port.to_string())
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start {}", self.supervisor.display()))?;
        Ok((child, port))
    }
}

/// A port that nobody uses now. SDKs listen on all addresses, so it must be free on all of them.
fn free_port() -> std::io::Result<u16> {
    let taken = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    Ok(taken.local_addr()?.port())
}

/// How it ended, for a person.
fn ended(status: std::io::Result<ExitStatus>) -> String {
    let status = match status {
        Ok(status) => status,
        Err(err) => return format!("it cannot be waited for: {err}"),
    };
    match (status.code(), status.signal()) {
        (Some(code), _) => match u8::try_from(code).ok().and_then(exit::meaning) {
            Some(meaning) => format!("it ended with exit code {code} ({meaning})"),
            None => format!("it ended with exit code {code}"),
        },
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("it was ended by {name}"),
            Err(_) => format!("it was ended by signal {signal}"),
        },
        (None, None) => "it ended".to_owned(),
    }
}

/// Ends `child`: TERM to it, KILL to its group when it has ended or its time is over.
async fn end(child: &mut Child) {
    let group = child.id();
    if let Some(pid) = process(group) {
        let _ = kill(pid, Signal::SIGTERM);
    }
    let in_time = timeout(TO_END, child.wait()).await;
    sweep(group);
    if in_time.is_err() {
        let _ = child.start_kill();
        let _ = child.wait().await;
    }
}

/// Kills what is left of the program's session leader's group.
fn sweep(group: Option<u32>) {
    if let Some(pid) = process(group) {
        let _ = killpg(pid, Signal::SIGKILL);
    }
}

fn process(id: Option<u32>) -> Option<Pid> {
    id.and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use contract::stage::Cage;

    use super::*;

    fn launch(extra: &[(&str, &str)]) -> Launch {
        let base = [
            ("BOT_ID", "b1"),
            ("RUNTIME", "python3.11"),
            ("ENTRYPOINT", "main.py"),
        ];
        let pairs = base.iter().chain(extra);
        Launch::parse(
            pairs
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn a_bot_without_a_query_program_has_no_stage() {
        assert_eq!(stage(&launch(&[])), None);
    }

    #[test]
    fn the_cage_follows_the_confinement_and_never_opens_code_or_state() {
        let cage = |confine| {
            let pairs = [("QUERY_ENTRYPOINT", "query.py"), ("THE0_CONFINE", confine)];
            stage(&launch(&pairs)).unwrap().cage
        };
        assert_eq!(cage("off"), Cage::Open);
        assert_eq!(cage("signals"), Cage::Signals);
        assert_eq!(
            cage("full"),
            Cage::Writes(vec!["/tmp".into(), "/query".into()])
        );
    }

    #[test]
    fn the_program_dies_with_us_and_before_us() {
        let stage = stage(&launch(&[("QUERY_ENTRYPOINT", "query.py")])).unwrap();
        assert_eq!(stage.parent_death_signal, 9);
        assert_eq!(stage.oom_score_above, 200);
        assert_eq!(stage.command, ["python3", "/bot/query.py"]);
    }

    #[test]
    fn an_end_is_told_in_words() {
        let rows = [
            (0, "it ended with exit code 0"),
            (
                127 << 8,
                "it ended with exit code 127 (the command was not found)",
            ),
            (11, "it was ended by SIGSEGV"),
            (40, "it was ended by signal 40"),
        ];
        for (raw, expected) in rows {
            assert_eq!(ended(Ok(ExitStatus::from_raw(raw))), expected);
        }
    }
}
