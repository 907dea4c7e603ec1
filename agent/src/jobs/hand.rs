//! `agent job run DIR`: a program of a bot's folder, run once by hand, without any server and without a data folder.
//!
//! It goes as `agent dev` does it: the folder is packed, unpacked aside and run under a supervisor, so it sees what it
//! would see on the platform. What it prints goes to standard error, its result to standard output; what it leaves goes
//! with the folder aside.

use std::fs::{self, DirBuilder};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use contract::launch::Line;
use contract::{Paths, Secret, file, vars};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::decide::Status;
use super::verdict::{Found, Left, Terms, Verdict, judge};
use crate::bots::directory;
use crate::document::{Bot, Definition};
use crate::failure::Failure;
use crate::launch::{self, Host};
use crate::output;
use crate::signals::Signals;
use crate::store::Store;
use crate::{dev, host, place};

/// Bytes of a result by hand.
const MOST: u64 = 256 << 20;
/// Time between two drawings of how far it is.
const TICK: Duration = Duration::from_secs(1);
/// Characters of a line that are shown of the last one.
const WIDTH: usize = 60;

/// What is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The bot's folder, with its bot-config.yaml
    dir: PathBuf,
    /// Which of its entrypoints
    #[arg(long, default_value = "backtest", value_name = "NAME")]
    entrypoint: String,
    /// The parameters, YAML or JSON, in place of `config` in the bot-config.yaml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the result goes, in place of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where supervisor and sync are [default: beside the agent]
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
}

/// A folder that goes with this.
struct Aside(PathBuf);

impl Aside {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("the0-job-{}", std::process::id()));
        // A crashed one's, whose process id has come round.
        let _ = fs::remove_dir_all(&path);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| path.display().to_string())?;
        Ok(Self(path.canonicalize()?))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs it to its end; succeeds only if it did.
///
/// # Errors
/// It cannot be run, has failed, or was stopped.
pub fn run(options: &Options) -> Result<()> {
    let supervisor = dev::find_programs(options.bin.as_deref())?;
    let shown = options.dir.display();
    let dir = options
        .dir
        .canonicalize()
        .with_context(|| format!("the bot's folder {shown}"))?;
    let aside = Aside::make()?;
    let bot = bot(options, &dir)?;
    let host = lay_out(&aside.0, &dir, &bot)?;
    nix::sys::prctl::set_child_subreaper(true).context("cannot adopt orphans")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let document = document(&bot, &host, &options.entrypoint)?;
    let (status, was_stopped) = runtime.block_on(attend(&supervisor, &host, document))?;
    if was_stopped {
        return Err(Failure::Aborted.into());
    }
    let verdict = verdict(&host.paths(&bot.id), status);
    deliver(&verdict, options.output.as_deref())?;
    match verdict.status {
        Status::Completed => Ok(()),
        _ => bail!("{}", verdict.error.unwrap_or_default()),
    }
}

/// The bot with the program that is meant, to run once.
fn bot(options: &Options, dir: &Path) -> Result<Bot> {
    let (mut value, path) = directory::read_definition(dir).map_err(|err| anyhow!(err))?;
    let name = &options.entrypoint;
    let Some(program) = value["entrypoints"].get(name).cloned() else {
        bail!(
            "{}: entrypoints.{name}: is missing: name the program to run, as in {name}.py",
            path.display()
        );
    };
    value["entrypoints"] = json!({"bot": program});
    value["type"] = "scheduled".into();
    if let Some(config) = &options.config {
        value["config"] = directory::read_value(config).map_err(|err| anyhow!(err))?;
    }
    let told = |err: &dyn std::fmt::Display| {
        let text = err.to_string();
        let text = text.replace("entrypoints.bot", &format!("entrypoints.{name}"));
        anyhow!("{}: {text}", path.display())
    };
    let definition = Definition::read(&value, "").map_err(|err| told(&err))?;
    let tree = directory::scan(dir, Path::new(""), &definition)?;
    directory::check_programs(&tree, dir, &definition).map_err(|err| told(&err))?;
    let folder = dir.file_name().unwrap_or_default().to_string_lossy();
    let id = directory::id_of(&folder);
    let key = "job/code/1".parse()?;
    Bot::assemble(id, definition, &value, key, None).map_err(|err| told(&err))
}

/// Puts the code where its `sync` will look for it.
fn lay_out(aside: &Path, dir: &Path, bot: &Bot) -> Result<Host> {
    let mut environment = host::environment();
    environment.retain(|name, _| !name.starts_with("MINIO_") && name != vars::THE0_STORE);
    // What the programs around it have to say is of interest where something is wrong.
    environment
        .entry(vars::LOG_LEVEL.to_owned())
        .or_insert_with(|| "error".to_owned());
    let host = Host::new(aside.to_owned(), environment)?;
    place::make(aside)?;
    dev::install_wrappers(aside)?;
    let paths = host.paths(&bot.id);
    for path in [&paths.code, &paths.state, &paths.var, &paths.logs] {
        fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    }
    let store = Store::open(&host.store, aside.join("temporary"))?;
    let tree = directory::scan(dir, Path::new(""), &bot.definition)?;
    store.put(&bot.code, |file| -> Result<_> { Ok(tree.write(file)?) })?;
    Ok(host)
}

fn document(bot: &Bot, host: &Host, entrypoint: &str) -> Result<String> {
    launch::check(bot, host)?;
    let Line::Launch { v, mut env } = launch::document(bot, host) else {
        bail!("the launch is none");
    };
    let more = [
        (vars::ENTRYPOINT_TYPE, entrypoint),
        (vars::THE0_STATE, "off"),
    ];
    env.extend(more.map(|(name, value)| (name.to_owned(), Secret::new(value))));
    Ok(serde_json::to_string(&Line::Launch { v, env })? + "\n")
}

/// Runs it to its end; whether it was stopped.
async fn attend(supervisor: &Path, host: &Host, document: String) -> Result<(ExitStatus, bool)> {
    let mut signals = Signals::catch().context("signals")?;
    let mut child = start(supervisor, host).with_context(|| supervisor.display().to_string())?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let pid = Pid::from_raw(pid.context("it ended at once")?);
    if let Some(mut stdin) = child.stdin.take() {
        // A supervisor that is gone already tells so by its ending.
        let _ = stdin.write_all(document.as_bytes()).await;
    }
    let mut lines = lines(&mut child);
    let mut screen = Screen::new();
    let mut ticks = tokio::time::interval(TICK);
    let mut stops = 0;
    let status = loop {
        tokio::select! {
            biased;
            signal = signals.next() => {
                stops += 1;
                let how = if stops == 1 { Signal::SIGTERM } else { Signal::SIGKILL };
                screen.note(&format!("{}: it is being ended", signal.name()));
                let _ = kill(pid, how);
            }
            Some(line) = lines.recv() => screen.line(&line),
            status = child.wait() => break status?,
            _ = ticks.tick() => screen.draw(),
        }
    };
    // The last lines; what still holds the pipe is not waited for.
    let rest = async {
        while let Some(line) = lines.recv().await {
            screen.line(&line);
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(500), rest).await;
    screen.clear();
    Ok((status, stops > 0))
}

fn start(supervisor: &Path, host: &Host) -> io::Result<Child> {
    Command::new(supervisor)
        .arg(format!("--die-with-parent={}", std::process::id()))
        .current_dir(&host.data)
        .env_clear()
        .envs(&host.environment)
        .env(vars::THE0_LAUNCH, "stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

fn lines(child: &mut Child) -> UnboundedReceiver<Vec<u8>> {
    let (to, lines) = unbounded_channel();
    if let Some(out) = child.stdout.take() {
        tokio::spawn(read(out, to.clone()));
    }
    if let Some(err) = child.stderr.take() {
        tokio::spawn(read(err, to));
    }
    lines
}

async fn read(mut from: impl AsyncRead + Unpin, to: UnboundedSender<Vec<u8>>) {
    let mut lines = contract::logs::Lines::default();
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        lines.push(&buffer[..count], |line| {
            let _ = to.send(line.to_vec());
        });
    }
    lines.finish(|line| {
        let _ = to.send(line.to_vec());
    });
}

/// Standard error: lines, and below them, on a terminal, how far it is.
struct Screen {
    is_terminal: bool,
    since: Instant,
    last: String,
}

impl Screen {
    fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            since: Instant::now(),
            last: String::new(),
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.clear();
        let mut bytes = line.to_vec();
        bytes.push(b'\n');
        // A standard error that is gone keeps nobody from running.
        let _ = io::stderr().write_all(&bytes);
        self.last = String::from_utf8_lossy(line).into_owned();
        self.draw();
    }

    fn note(&mut self, text: &str) {
        self.line(format!("agent: {text}").as_bytes());
    }

    fn draw(&mut self) {
        if self.is_terminal {
            let text = progress(self.since.elapsed(), &self.last);
            let _ = write!(io::stderr(), "\r\x1b[2K\x1b[2m{text}\x1b[0m");
        }
    }

    fn clear(&mut self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

/// How far it is: time and the last line, in which nothing moves the cursor.
fn progress(elapsed: Duration, line: &str) -> String {
    let time = humantime::format_duration(Duration::from_secs(elapsed.as_secs()));
    let line: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(WIDTH)
        .collect();
    format!("{time}  {line}")
}

fn verdict(paths: &Paths, status: ExitStatus) -> Verdict {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    let left = Left {
        code: code.unwrap_or(-1).into(),
        is_oom: false,
        lost: None,
        record: file::read_json(&paths.done_record()).ok().flatten(),
        last: None,
        found: found(&paths.result()),
    };
    judge(
        &left,
        Terms {
            halt: None,
            seconds: 0,
            most: MOST,
        },
    )
}

fn found(path: &Path) -> Found {
    match path.symlink_metadata() {
        Err(_) => Found::Nothing,
        Ok(about) if !about.is_file() => Found::NoFile,
        Ok(about) if about.len() > MOST => Found::TooLarge,
        Ok(_) => fs::read(path).map_or(Found::NoFile, Found::Content),
    }
}

fn deliver(verdict: &Verdict, to: Option<&Path>) -> Result<()> {
    let Some(path) = to else {
        let text: Value = serde_json::from_slice(&verdict.result)?;
        return Ok(output::print(&serde_json::to_string_pretty(&text)?)?);
    };
    file::replace(path, &verdict.result).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_time_and_the_last_line_without_what_moves_the_cursor() {
        let text = progress(Duration::from_millis(65_900), "\x1b[2Jday 3\r");
        assert_eq!(text, "1m 5s  [2Jday 3");
    }

    #[test]
    fn a_result_that_is_no_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        assert_eq!(found(&path), Found::Nothing);
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(found(&path), Found::NoFile);
    }
}
