//! What the Docker daemon tells, by its own clock: nanoseconds since 1970.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use contract::record::Time;
use serde_json::Value;
use tests::containers::Docker;
use tests::stack::LONG;
use tests::{Process, text, wait_for};

use super::BATCH;
use super::figures::cpu_with_children;

/// A container was started, or has ended.
struct Happened {
    what: String,
    name: String,
    at: u64,
}

/// Follows the daemon's events, so that nobody has to ask again and again while something is measured. Good for less
/// than the two minutes that a command of Docker's has.
pub struct Events {
    lines: Receiver<Happened>,
    seen: Vec<Happened>,
    _docker: Process,
}

impl Events {
    /// From now on.
    pub fn follow(docker: &Docker) -> Self {
        let now = now();
        let since = format!("{}.{:09}", now / 1_000_000_000, now % 1_000_000_000);
        let mut command = docker.command();
        command.args(["events", "--since", &since, "--format", "{{json .}}"]);
        command.args(["--filter", "type=container"]);
        command.args(["--filter", "event=start", "--filter", "event=die"]);
        let mut docker = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let output = BufReader::new(docker.0.stdout.take().expect("a pipe"));
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let told = happened(&line);
                if told.is_some_and(|told| to.send(told).is_err()) {
                    return;
                }
            }
        });
        Self {
            lines,
            seen: Vec::new(),
            _docker: docker,
        }
    }

    /// Waits until `what` (start, die) is told of the container `name`, each time once; when that was.
    pub fn at(&mut self, what: &str, name: &str) -> u64 {
        let end = Instant::now() + LONG;
        loop {
            let is = |told: &Happened| told.what == what && told.name == name;
            if let Some(found) = self.seen.iter().position(is) {
                return self.seen.remove(found).at;
            }
            let told = self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()));
            self.seen
                .push(told.unwrap_or_else(|_| panic!("Docker told no {what} of {name}")));
        }
    }
}

fn happened(line: &str) -> Option<Happened> {
    let told: Value = serde_json::from_str(line).ok()?;
    Some(Happened {
        what: told["Action"].as_str()?.to_owned(),
        name: told["Actor"]["Attributes"]["name"].as_str()?.to_owned(),
        at: told["timeNano"].as_u64()?,
    })
}

/// A line that a container has printed, and when the daemon read it.
pub struct Line {
    /// When.
    pub at: u64,
    /// What.
    pub text: String,
}

/// What a container has printed, once `mark` is among it.
pub fn lines_with(docker: &Docker, name: &str, mark: &str) -> Vec<Line> {
    wait_for(&format!("{mark:?} of {name}"), LONG, || {
        let lines = lines(docker, name);
        lines
            .iter()
            .any(|line| line.text.contains(mark))
            .then_some(lines)
    })
}

fn lines(docker: &Docker, name: &str) -> Vec<Line> {
    let output = docker.output(["logs", "--timestamps", name]);
    let said = text(&output.stdout) + &text(&output.stderr);
    let parse = |line: &str| {
        let (at, text) = line.split_once(' ')?;
        Some(Line {
            at: nanos(at)?,
            text: text.to_owned(),
        })
    };
    said.lines().filter_map(parse).collect()
}

/// When the first line with `mark` was read.
pub fn said_at(lines: &[Line], mark: &str) -> Option<u64> {
    let found = lines.iter().filter(|line| line.text.contains(mark));
    found.map(|line| line.at).min()
}

/// When a container was started, by what `docker inspect` says.
pub fn started(inspected: &Value) -> u64 {
    let at = inspected["State"]["StartedAt"].as_str();
    at.and_then(nanos).expect("the time of a start")
}

/// What `docker inspect` says of several, in this order.
pub fn inspect(docker: &Docker, names: &[String]) -> Vec<Value> {
    let words = ["inspect"]
        .into_iter()
        .chain(names.iter().map(String::as_str));
    serde_json::from_str(&docker.ask(words)).expect("JSON")
}

/// Now, by the same clock.
pub fn now() -> u64 {
    since_1970(SystemTime::now())
}

fn nanos(rfc3339: &str) -> Option<u64> {
    Some(since_1970(
        Time::try_from(rfc3339.to_owned()).ok()?.system(),
    ))
}

fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(0)
}

/// How many containers of a stack run.
pub fn running(docker: &Docker, stack: &str) -> usize {
    let filter = format!("label=the0.stack={stack}");
    docker
        .ask(["ps", "--quiet", "--filter", &filter])
        .lines()
        .count()
}

/// Removes containers, running or not.
pub fn remove(docker: &Docker, names: &[String]) {
    for some in names.chunks(BATCH) {
        let words = ["rm", "--force", "--volumes"].into_iter();
        docker.output(words.chain(some.iter().map(String::as_str)));
    }
}

/// Removes a network, when the last of many containers has really left it.
pub fn remove_network(docker: &Docker, name: &str) {
    let end = Instant::now() + LONG;
    while !docker.inspect(name).is_null() {
        let output = docker.output(["network", "rm", name]);
        if Instant::now() > end {
            eprintln!("{}", text(&output.stderr));
            return;
        }
    }
}

/// Removes volumes.
pub fn remove_volumes(docker: &Docker, names: &[String]) {
    let words = ["volume", "rm", "--force"].into_iter();
    docker.output(words.chain(names.iter().map(String::as_str)));
}

/// Names of what carries a token.
pub fn left(docker: &Docker, token: &str) -> Vec<String> {
    let lists = [
        docker.ask(["ps", "--all", "--format", "{{.Names}}"]),
        docker.ask(["volume", "ls", "--format", "{{.Name}}"]),
        docker.ask(["network", "ls", "--format", "{{.Name}}"]),
    ];
    let names = lists.iter().flat_map(|list| list.lines());
    names
        .filter(|name| name.contains(token))
        .map(str::to_owned)
        .collect()
}

/// CPU time of the daemon and of its children that have ended, in milliseconds: of what all ask of it who use it. 0 where
/// it does not tell its process.
pub fn cpu() -> i64 {
    let pid = std::fs::read_to_string("/var/run/docker.pid").unwrap_or_default();
    cpu_with_children(pid.trim())
}
