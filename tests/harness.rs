//! What the tests share: the binaries, folders that clean themselves up, waiting, and skipping aloud.

pub mod cluster;
pub mod containers;
pub mod door;
pub mod fuzz;
pub mod hostile;
pub mod listener;
pub mod metadata;
pub mod promise;
pub mod servers;
pub mod stack;
pub mod volume;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program `name` of this build; `make build` (or `cargo build --workspace`) makes them all.
///
/// # Panics
/// When it was not built.
pub fn bin(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("a test lies in <profile>/deps");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `make build` first",
        path.display()
    );
    path
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Looks for so long, ten times or so, that `holds` does: a look may be a program of its own.
///
/// # Panics
/// With `what` when it does not.
pub fn stays(what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    loop {
        assert!(holds(), "no longer after {:?}: {what}", begun.elapsed());
        if begun.elapsed() >= time {
            return;
        }
        std::thread::sleep((time / 10).max(Duration::from_millis(200)));
    }
}

/// Looks every 10 ms until `look` finds something.
///
/// # Panics
/// With `what` when the deadline has passed.
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < end,
            "waited {deadline:?} in vain for: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ten seconds: longer than anything here should take on a loaded machine, short enough to wait for.
pub const SOON: Duration = Duration::from_secs(10);

/// A child that does not outlive the test.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// Starts `command` with nothing on its standard input unless the test set something.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        Self(
            command
                .spawn()
                .unwrap_or_else(|err| panic!("start {command:?}: {err}")),
        )
    }

    /// Its process id.
    ///
    /// # Panics
    /// Never: process ids fit.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).expect("a process id"))
    }

    /// Sends it `signal`.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("signal a child of ours");
    }

    /// Waits for its end and gives its exit code, or 1000 + the signal that ended it.
    ///
    /// # Panics
    /// When the deadline has passed.
    pub fn code(&mut self, deadline: Duration) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = wait_for("the end of a process", deadline, || {
            self.0.try_wait().expect("wait")
        });
        status
            .code()
            .unwrap_or_else(|| 1000 + status.signal().unwrap_or(0))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = kill(self.pid(), Signal::SIGTERM);
            let end = Instant::now() + Duration::from_secs(5);
            while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Runs `command` to its end, its output collected.
///
/// # Panics
/// When it cannot be started.
pub fn run(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|err| panic!("run {command:?}: {err}"))
}

/// Bytes as text, whatever they are.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a file holds; empty when it is not there.
pub fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        let _ = file.read_to_end(&mut bytes);
    }
    text(&bytes)
}

/// Whether a process with this id exists and is not a zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = read(Path::new(&format!("/proc/{pid}/stat")));
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}

/// Says that a test is skipped and why; `make test` counts these lines.
pub fn skip(test: &str, why: &str) {
    // Written past the capture of the test runner, which takes only what the print macros say.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!(
            "SKIPPED {test}: {why}
"
        )
        .as_bytes(),
    );
}

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    /// 0 when there was no answer.
    pub status: u16,
    /// Its first line and its headers.
    pub head: String,
    /// Its body, whole.
    pub body: String,
    /// Whether the body came to its end: the length it said, or the last chunk.
    pub complete: bool,
}

impl Reply {
    /// Its body as JSON; null when it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = bytes.split_at(end.map_or(bytes.len(), |end| end + 4));
        let head = text(head).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let length = head
            .split_once("content-length: ")
            .and_then(|(_, rest)| rest.lines().next()?.parse().ok());
        let (body, complete) = if head.contains("transfer-encoding: chunked") {
            unchunk(body)
        } else {
            (
                body.to_vec(),
                length.is_none_or(|length: usize| body.len() == length),
            )
        };
        Self {
            status: status.unwrap_or(0),
            head,
            body: text(&body),
            complete,
        }
    }
}

fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
            return (body, false);
        };
        match usize::from_str_radix(&text(&bytes[..end]), 16) {
            Ok(0) => return (body, true),
            Ok(length) if bytes.len() >= end + 4 + length => {
                body.extend_from_slice(&bytes[end + 2..end + 2 + length]);
                bytes = &bytes[end + 4 + length..];
            }
            _ => return (body, false),
        }
    }
}

/// Sends `request` as it is and reads what comes back until the server ends the connection.
///
/// # Panics
/// When nobody listens there.
pub fn exchange(address: &str, request: &[u8]) -> Reply {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(address)
        .unwrap_or_else(|err| panic!("connect to {address}: {err}"));
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a time limit");
    // A server may refuse and stop listening before it has heard all.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    Reply::read(&bytes)
}

/// Asks an HTTP server one thing over a connection of its own.
///
/// # Panics
/// As [`exchange`].
pub fn http(address: &str, method: &str, target: &str, body: &str) -> Reply {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(address, request.as_bytes())
}
