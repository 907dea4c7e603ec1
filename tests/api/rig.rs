//! A folder of bots, an agent over them that serves its API, and ways to ask it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::{Process, Reply, bin, exchange, read, run, text, wait_for};

/// Longer than anything takes here on a loaded machine.
pub const LONG: Duration = Duration::from_secs(60);

/// A token that may change things, and one that may look.
pub const WRITE: &str = "0123456789abcdef0123456789abcdef";
/// See [`WRITE`].
pub const READ: &str = "fedcba9876543210fedcba9876543210";

/// Does nothing, for ever.
pub const IDLE: &str =
    "import time\ndef main(id, config):\n    print('idle', flush=True)\n    time.sleep(100000)\n";

/// Runs to its end.
pub const ONCE: &str =
    "import sys\ndef main(id, config):\n    print('once', flush=True)\n    sys.exit(3)\n";

/// Answers questions by the contract.
const QUERY: &str = r#"
import json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit
class Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "{}")
        path = urlsplit(self.path).path
        if path == "/slow": time.sleep(20)
        answer = {"status": "ok", "data": body} if path == "/echo" else {"status": "error", "error": "none of mine", "available": ["/echo"]}
        self.send_response(200 if path == "/echo" else 404)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())
    def log_message(self, *args): pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["THE0_QUERY_PORT"])), Answers).serve_forever()
"#;

/// Waits for something that takes not too long.
pub fn until<T>(look: impl FnMut() -> Option<T>) -> T {
    wait_for("what was asked for", LONG, look)
}

/// A folder of bots and a data folder.
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bots")).unwrap();
        Self { dir }
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a bot with the program `main`; `more` goes into its definition.
    pub fn bot(&self, name: &str, main: &str, more: &str) -> PathBuf {
        let folder = self.path("bots").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("main.py"), main).unwrap();
        let entry = if more.contains("query:") {
            ""
        } else {
            "entrypoints: {bot: main.py}\n"
        };
        let config = format!("name: {name}\nversion: 1.0.0\nruntime: python3.11\n{entry}{more}");
        fs::write(folder.join("bot-config.yaml"), config).unwrap();
        folder
    }

    /// Writes a bot that answers questions.
    pub fn asker(&self, name: &str) {
        let folder = self.bot(name, IDLE, "entrypoints: {bot: main.py, query: query.py}\n");
        fs::write(folder.join("query.py"), QUERY).unwrap();
    }

    /// Writes a file that only we may read.
    pub fn private(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        // Whole or not at all, as an operator's tool does it.
        let new = path.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    /// The file of tokens.
    pub fn tokens(&self) -> PathBuf {
        let text = format!("# for the tests\nci {WRITE} write\neye {READ} read\n");
        self.private("tokens", &text)
    }

    /// A command of the agent on the data folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin("agent"));
        command.args(args).arg("--data").arg(self.path("data"));
        command.env("THE0_GRACE", "3s").env("THE0_DRAIN", "30s");
        for name in [
            "THE0_DATA",
            "THE0_HOST",
            "THE0_TOKEN_FILE",
            "THE0_API_ADDRESS",
            "THE0_API_TOKENS",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Starts a session that serves its API on a free port, with these tokens.
    pub fn dev(&self, tokens: Option<&Path>) -> Session<'_> {
        let mut command = self.command(&["dev", "--settle", "1s", "--api-address", "127.0.0.1:0"]);
        command.arg(self.path("bots"));
        if let Some(tokens) = tokens {
            command.arg("--api-tokens").arg(tokens);
        }
        let screen = self.path("screen");
        let out = File::create(&screen).unwrap();
        command.stdin(Stdio::null());
        command.stdout(out.try_clone().unwrap()).stderr(out);
        let process = Process::start(&mut command);
        let address = wait_for("the API", LONG, || {
            let said = read(&screen);
            assert!(!said.contains("agent: "), "{said}");
            served(&said).filter(|_| said.contains("in another terminal"))
        });
        Session {
            place: self,
            process,
            screen,
            address,
        }
    }

    /// Waits until the bot is in `state`, by the socket's word.
    pub fn state(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("{name} to be {state}"), LONG, || {
            let output = run(&mut self.command(&["ps", "-o", "json"]));
            let rows: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
            let row = rows.into_iter().find(|row| row["name"] == name)?;
            (row["state"] == state).then_some(row)
        })
    }
}

/// The address in what an agent has said of its API.
pub fn served(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("the API is on http://")?;
    Some(rest.split_once("/v1")?.0.to_owned())
}

/// A running agent.
pub struct Session<'a> {
    place: &'a Place,
    process: Process,
    screen: PathBuf,
    /// Where its API is.
    pub address: String,
}

impl Session<'_> {
    /// What it has said.
    pub fn screen(&self) -> String {
        read(&self.screen)
    }

    /// Waits until it has said `what`.
    pub fn says(&self, what: &str) {
        let found = || self.screen().contains(what).then_some(());
        wait_for(&format!("{what:?} in {}", self.screen()), LONG, found);
    }

    /// Asks as a client on this machine does that has no token.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        self.send(method, path, &[], body)
    }

    /// Asks with a token.
    pub fn with(&self, token: &str, method: &str, path: &str) -> Reply {
        let header = format!("Authorization: Bearer {token}");
        self.send(method, path, &[&header], "")
    }

    /// Asks with further headers.
    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        let mut lines = vec![
            format!("{method} {path} HTTP/1.1"),
            "Content-Type: application/json".to_owned(),
            format!("Content-Length: {}", body.len()),
        ];
        if !headers.iter().any(|line| line.starts_with("Host:")) {
            lines.push(format!("Host: {}", self.address));
        }
        lines.extend(headers.iter().map(|&line| line.to_owned()));
        let text = format!("{}\r\n\r\n{body}", lines.join("\r\n"));
        exchange(&self.address, text.as_bytes())
    }

    /// A command on another machine: with an empty data folder, and by the network.
    pub fn remote(&self, args: &[&str], token_file: Option<&Path>) -> Output {
        let mut command = Command::new(bin("agent"));
        command
            .args(args)
            .env("THE0_DATA", self.place.path("elsewhere"));
        command.env("THE0_HOST", format!("http://{}", self.address));
        command.env_remove("THE0_TOKEN_FILE");
        if let Some(path) = token_file {
            command.arg("--token-file").arg(path);
        }
        run(&mut command)
    }

    /// The exit code and what was said of a command on another machine.
    pub fn told(&self, args: &[&str], token_file: Option<&Path>) -> (i32, String) {
        let output = self.remote(args, token_file);
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code().unwrap(), said)
    }

    /// Ends it as Ctrl-C does.
    pub fn end(mut self) {
        self.process.signal(Signal::SIGINT);
        assert_eq!(self.process.code(LONG), 0, "{}", self.screen());
    }
}
