//! What it costs to ask: the bot's own server directly, through `query`, through the gateway, over kept connections and in
//! turn; the same under load; and a question in a container of its own beside a bare `docker run` of the same program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tests::containers::image;
use tests::servers::mongo::bson::doc;
use tests::stack::LONG;
use tests::wait_for;

use super::figures::{Sample, millis};
use super::{Host, PYTHON, bot};

/// Questions one by one, of each kind.
const ONE_BY_ONE: usize = 2000;
/// Clients at once, and how long.
const CLIENTS: usize = 4;
const LOADED: Duration = Duration::from_secs(8);
/// Questions in containers of their own.
const APART: usize = 15;

const MAIN: &str = "import time\ndef main(id, config):\n    time.sleep(100000)\n";
/// Answers both ways; one write an answer.
const QUERY: &str = r#"
import json, os, pathlib, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
port = int(os.environ.get("THE0_QUERY_PORT", "9476"))
class Live(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"status": "ok", "data": {"port": port, "text": "x" * 1000}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self._headers_buffer.append(b"\r\n" + body)
        self.flush_headers()
    def log_message(self, *words): pass
if os.environ.get("QUERY_PATH"):
    pathlib.Path("/query/result.json").write_text(json.dumps({"status": "ok", "data": {"n": 1}}))
    sys.exit(0)
ThreadingHTTPServer(("0.0.0.0", port), Live).serve_forever()
"#;

/// A kept connection on which one thing is asked.
struct Line {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Line {
    fn to(address: &str, path: &str, body: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            stream: BufReader::new(stream),
            request: request.into_bytes(),
        }
    }

    /// Asks; how long that took, in microseconds, and the body.
    fn ask(&mut self) -> (i64, Vec<u8>) {
        let began = Instant::now();
        self.stream
            .get_mut()
            .write_all(&self.request)
            .expect("a question");
        let (mut status, mut length) = (String::new(), 0);
        self.stream.read_line(&mut status).expect("a status");
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a header");
            if line.trim().is_empty() {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        assert!(
            status.contains("200"),
            "{status} {}",
            String::from_utf8_lossy(&body)
        );
        let took = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX);
        (took, body)
    }
}

/// Measures and prints.
pub fn compare(host: &mut Host) {
    host.stack.set("THE0_GATEWAY_ADDRESS", "127.0.0.1:0");
    let files = [("main.py", MAIN.into()), ("query.py", QUERY.into())];
    let key = host.bundle("asked", &files);
    let [live, rests] = ["live", "rests"].map(|short| host.stack.id(short));
    let entry = || doc! {"bot": "main.py", "query": "query.py"};
    let mut off = bot(&rests, &key, PYTHON, entry());
    off.insert("enabled", false);
    host.insert([bot(&live, &key, PYTHON, entry()), off]);
    host.begin(&[]);
    let said = host.stack.data().with_file_name("log");
    let gateway = wait_for("the gateway", LONG, || {
        let said = tests::read(&said);
        let (_, rest) = said.rsplit_once("questions are answered on http://")?;
        Some(rest.split_once(',')?.0.to_owned())
    });
    let body = |id: &str| {
        format!(r#"{{"bot_id":"{id}","query_path":"/x","params":{{"symbol":"BTC/USD"}}}}"#)
    };
    wait_for("an answer", LONG, || {
        (tests::http(&gateway, "POST", "/query", &body(&live)).status == 200).then_some(())
    });
    let found = host.docker().inspect(&host.container(&live));
    let networks = found["NetworkSettings"]["Networks"]
        .as_object()
        .expect("networks");
    let inside = networks
        .values()
        .find_map(|network| network["IPAddress"].as_str())
        .expect("an address")
        .to_owned();
    let through = format!("{inside}:9476");
    let (_, first) = Line::to(&through, "/x", "{}").ask();
    let first: serde_json::Value = serde_json::from_slice(&first).expect("JSON");
    let direct = format!("{inside}:{}", first["data"]["port"]);
    let ways = [
        (
            "the bot's own server, directly",
            direct,
            "/x",
            r#"{"symbol":"BTC/USD"}"#.to_owned(),
        ),
        (
            "through `query`",
            through,
            "/x",
            r#"{"symbol":"BTC/USD"}"#.to_owned(),
        ),
        (
            "through the gateway",
            gateway.clone(),
            "/query",
            body(&live),
        ),
    ];
    println!(
        "\n| a question to a bot that runs, µs | median | p90 | p99 | under load of {CLIENTS}: median | p99 | a second |\n|---|---|---|---|---|---|---|"
    );
    let mut lines = ways
        .each_ref()
        .map(|(_, at, path, body)| Line::to(at, path, body));
    let mut alone: [Sample; 3] = Default::default();
    for _ in 0..ONE_BY_ONE {
        for (line, sample) in lines.iter_mut().zip(&mut alone) {
            sample.push(line.ask().0);
        }
    }
    for ((name, at, path, body), alone) in ways.iter().zip(&alone) {
        let loaded = load(at, path, body);
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} |",
            alone.at(50),
            alone.at(90),
            alone.at(99),
            loaded.at(50),
            loaded.at(99),
            loaded.count() / usize::try_from(LOADED.as_secs()).unwrap_or(1)
        );
    }
    apart(host, &gateway, &body(&rests));
}

fn load(at: &str, path: &str, body: &str) -> Sample {
    thread::scope(|scope| {
        let client = || {
            let mut line = Line::to(at, path, body);
            let end = Instant::now() + LOADED;
            let mut took = Vec::new();
            while Instant::now() < end {
                took.push(line.ask().0);
            }
            took
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let all = clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client"));
        all.collect()
    })
}

/// A question in a container of its own, and a bare container of the same program, in turn.
fn apart(host: &Host, gateway: &str, body: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("query.py"), QUERY).expect("the program");
    let bare = || {
        let began = Instant::now();
        let mut command = host.docker().command();
        command.args([
            "run",
            "--rm",
            "--network",
            "none",
            "--user",
            "1000:1000",
            "--read-only",
        ]);
        command.args([
            "--tmpfs",
            "/query:mode=1777",
            "--env",
            "QUERY_PATH=/x",
            "--entrypoint",
            "python3",
        ]);
        command
            .arg("--volume")
            .arg(format!("{}:/bot:ro", folder.path().display()));
        command.arg(image(PYTHON)).arg("/bot/query.py");
        let done = run(&mut command);
        assert!(done, "a bare run");
        i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX)
    };
    let asked = || {
        let began = Instant::now();
        let reply = tests::http(gateway, "POST", "/query", body);
        assert_eq!(reply.status, 200, "{reply:?}");
        i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX)
    };
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("a mode");
    bare();
    asked();
    let (mut plain, mut ours) = (Sample::default(), Sample::default());
    for _ in 0..APART {
        plain.push(bare());
        ours.push(asked());
        // What is removed after an answer is not in the next one's time.
        thread::sleep(Duration::from_millis(500));
    }
    println!(
        "\n| a question in a container of its own (Python, {APART} of each), ms | median | p90 |\n|---|---|---|\n\
         | `docker run --rm` of the query program alone | {:.0} | {:.0} |\n| the gateway's answer | {:.0} | {:.0} |",
        millis(plain.at(50)),
        millis(plain.at(90)),
        millis(ours.at(50)),
        millis(ours.at(90))
    );
}

fn run(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
