//! `query` as its clients see it: the real program in front of query programs written by hand, without an SDK.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use contract::Paths;
use contract::file::{append_json_line, replace_json};
use contract::logs::Position;
use contract::record::{Outcome, Reason, RunRecord, State, Status, Synced, Time};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::{Process, Reply, bin, exchange, http, is_alive, read, run, skip, text, wait_for};

/// Long enough for a machine that does ten other things, for what takes seconds by design.
const LATE: Duration = Duration::from_secs(40);

/// A query program by the contract's protocol. `VERSION` is what it speaks: `HTTP/1.0` as the SDKs, or `HTTP/1.1`
/// with connections kept open.
const PROGRAM: &str = r#"
import json, os, signal, sys, threading, time
from http.server import ThreadingHTTPServer, BaseHTTPRequestHandler
from urllib.parse import urlparse

class Handler(BaseHTTPRequestHandler):
    protocol_version = "VERSION"
    def do_POST(self):
        path = urlparse(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if path == "/echo":
            self.send(200, {"method": self.command, "target": self.path, "body": body, "pid": os.getpid()})
        elif path == "/length":
            self.send(200, {"target": len(self.path), "body": len(body)})
        elif path == "/environment":
            self.send(200, {"names": sorted(os.environ), "query_path": os.environ.get("QUERY_PATH"), "cwd": os.getcwd()})
        elif path == "/fault":
            self.send(500, {"status": "error", "error": "division by zero"})
        elif path == "/plain":
            self.send_raw(200, "text/csv", b"a,b\n")
        elif path == "/crash":
            os._exit(3)
        elif path == "/slow":
            print("asked to sleep", flush=True)
            time.sleep(json.loads(body)["seconds"])
            self.send(200, {"slept": True})
        elif path == "/large":
            self.send_raw(200, "text/plain", b"x" * json.loads(body)["bytes"])
        elif path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
            self.wfile.flush()
            self.close_connection = True
        elif path == "/garbage":
            self.wfile.write(b"\x00\x01 what?\r\n\r\n")
            self.close_connection = True
        else:
            self.send(404, {"status": "error", "error": "No handler for path: " + path})
    def send(self, status, value):
        self.send_raw(status, "application/json", json.dumps(value).encode())
    def send_raw(self, status, kind, data):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if self.protocol_version == "HTTP/1.1":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_):
        pass

print("the program says this on its standard output", flush=True)
ThreadingHTTPServer(("0.0.0.0", int(os.environ["THE0_QUERY_PORT"])), Handler).serve_forever()
"#;

fn program() -> String {
    PROGRAM.replace("VERSION", "HTTP/1.0")
}

/// A running `query`, its folders and what it says.
struct Served {
    process: Process,
    address: String,
    paths: Paths,
    folder: tempfile::TempDir,
}

impl Served {
    /// Starts `query` for a bot with the query program `source`, or with none.
    fn start(source: Option<&str>, extra: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths::under(folder.path());
        for path in [&paths.code, &paths.state, &paths.var] {
            fs::create_dir_all(path).expect("a folder");
        }
        let said = fs::File::create(folder.path().join("stderr")).expect("a file");
        let mut command = Command::new(bin("query"));
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs([
            ("BOT_ID", "b1"),
            ("RUNTIME", "python3.11"),
            ("ENTRYPOINT", "main.py"),
            ("BOT_CONFIG", r#"{"secret":"hunter2"}"#),
            ("THE0_QUERY_LISTEN", "127.0.0.1:0"),
            ("MINIO_ENDPOINT", "store:9000"),
            ("LOG_LEVEL", "debug"),
        ]);
        command
            .env("CODE_PATH", &paths.code)
            .env("STATE_PATH", &paths.state);
        command
            .env("THE0_VAR_PATH", &paths.var)
            .envs(extra.iter().copied());
        if let Some(source) = source {
            fs::write(paths.code.join("query.py"), source).expect("write the program");
            command.env("QUERY_ENTRYPOINT", "query.py");
        }
        let process = Process::start(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(said),
        );
        let address = wait_for("query to listen", LATE, || {
            let value: serde_json::Value = serde_json::from_str(&read(&paths.listening())).ok()?;
            Some(value["address"].as_str()?.to_owned())
        });
        Self {
            process,
            address,
            paths,
            folder,
        }
    }

    fn ask(&self, target: &str, body: &str) -> Reply {
        http(&self.address, "POST", target, body)
    }

    fn said(&self) -> String {
        read(&self.folder.path().join("stderr"))
    }

    /// The process id of the query program, which answers for that.
    fn program(&self) -> i32 {
        // Its first start may take longer than a question.
        let pid = wait_for("a query program that answers", LATE, || {
            let reply = self.ask("/echo", "");
            (reply.status == 200).then(|| reply.json()["pid"].as_i64())
        });
        let pid = pid.unwrap_or_else(|| panic!("no process id: {}", self.said()));
        i32::try_from(pid).expect("a process id")
    }

    fn descriptors(&self) -> usize {
        let folder = PathBuf::from(format!("/proc/{}/fd", self.process.pid()));
        fs::read_dir(folder).map_or(0, Iterator::count)
    }
}

/// Whether there is what most of these tests need, said aloud when not.
fn python(test: &str) -> bool {
    let found = Command::new("python3")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        skip(test, "python3 is not installed");
    }
    found
}

#[test]
fn parameters_reach_the_program_in_both_forms_however_they_came() {
    if !python("parameters_reach_the_program_in_both_forms_however_they_came") {
        return;
    }
    let served = Served::start(Some(&program()), &[]);
    let rows = [
        ("GET", "/echo", "", "/echo", json!({})),
        (
            "GET",
            "/echo?limit=5&s=a%2Fb+c",
            "",
            "/echo?limit=5&s=a%2Fb%20c",
            json!({"limit": "5", "s": "a/b c"}),
        ),
        (
            "POST",
            "/echo",
            r#"{"symbol":"BTC/USD","limit":5,"filter":{"side":"buy"},"cursor":null}"#,
            "/echo?filter=%7B%22side%22%3A%22buy%22%7D&limit=5&symbol=BTC%2FUSD",
            json!({"symbol": "BTC/USD", "limit": 5, "filter": {"side": "buy"}, "cursor": null}),
        ),
        (
            "POST",
            "/echo?a=1&b=2",
            r#"{"a":true}"#,
            "/echo?a=true&b=2",
            json!({"a": true, "b": "2"}),
        ),
    ];
    for (method, target, body, expected, params) in rows {
        let reply = http(&served.address, method, target, body);
        assert_eq!(reply.status, 200, "{target}: {reply:?} {}", served.said());
        let value = reply.json();
        assert_eq!(value["target"], expected);
        assert_eq!(value["method"], "POST");
        let arrived: serde_json::Value =
            serde_json::from_str(value["body"].as_str().unwrap_or("")).unwrap_or_default();
        assert_eq!(arrived, params, "{target}");
    }
}

#[test]
fn what_the_program_answers_passes_through() {
    if !python("what_the_program_answers_passes_through") {
        return;
    }
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let served = Served::start(Some(&PROGRAM.replace("VERSION", version)), &[]);
        let fault = served.ask("/fault", "");
        assert_eq!(
            (fault.status, fault.json()["error"].as_str()),
            (500, Some("division by zero"))
        );
        let missing = served.ask("/a%2Fb", "");
        assert_eq!(
            (missing.status, missing.json()["error"].as_str()),
            (404, Some("No handler for path: /a%2Fb"))
        );
        let plain = served.ask("/plain", "");
        assert_eq!(
            (plain.status, plain.body.as_str()),
            (200, "a,b\n"),
            "{version}"
        );
        assert!(
            plain.head.contains("content-type: text/csv"),
            "{}",
            plain.head
        );
        let large = served.ask("/large", r#"{"bytes":5000000}"#);
        assert_eq!(
            (large.body.len(), large.complete),
            (5_000_000, true),
            "{version}"
        );
    }
}

#[test]
fn a_crash_answers_502_and_the_program_comes_back() {
    if !python("a_crash_answers_502_and_the_program_comes_back") {
        return;
    }
    let served = Served::start(Some(&program()), &[]);
    let first = served.program();
    let reply = served.ask("/crash", "");
    assert_eq!(
        (reply.status, reply.json()["status"].as_str()),
        (502, Some("error")),
        "{reply:?}"
    );
    let second = wait_for("the program to come back", LATE, || {
        let reply = served.ask("/echo", "");
        (reply.status == 200).then(|| reply.json()["pid"].as_i64())
    });
    assert_ne!(second, Some(first.into()));
    assert!(
        served.said().contains("it ended with exit code 3"),
        "{}",
        served.said()
    );
}

#[test]
fn a_program_that_ends_at_its_start_is_told_at_once_and_with_its_exit_code() {
    if !python("a_program_that_ends_at_its_start_is_told_at_once_and_with_its_exit_code") {
        return;
    }
    let served = Served::start(Some("import sys; sys.exit(9)"), &[]);
    let reply = wait_for("the program to be given a pause", LATE, || {
        let reply = served.ask("/echo", "");
        assert_eq!(reply.status, 502, "{reply:?}");
        reply.body.contains("started again in").then_some(reply)
    });
    let why = reply.json()["error"].as_str().unwrap_or("").to_owned();
    assert!(
        why.starts_with("the query program is not running: it ended with exit code 9"),
        "{why}"
    );
    assert_eq!(served.ask("/_status", "").status, 200);
}

#[test]
fn a_program_that_speaks_no_http_or_breaks_off_is_an_error_and_no_answer() {
    if !python("a_program_that_speaks_no_http_or_breaks_off_is_an_error_and_no_answer") {
        return;
    }
    let served = Served::start(Some(&program()), &[]);
    assert_eq!(served.ask("/garbage", "").status, 502);
    let cut = served.ask("/cut", "");
    assert!(cut.status == 502 || !cut.complete, "{cut:?}");
    assert_eq!(served.ask("/echo", "").status, 200);
}

#[test]
fn a_slow_program_answers_504_and_does_not_keep_others_out() {
    if !python("a_slow_program_answers_504_and_does_not_keep_others_out") {
        return;
    }
    let served = Served::start(Some(&program()), &[("THE0_QUERY_TIMEOUT", "3s")]);
    served.program();
    let slow: Vec<_> = (0..12)
        .map(|_| {
            let address = served.address.clone();
            std::thread::spawn(move || http(&address, "POST", "/slow", r#"{"seconds":60}"#))
        })
        .collect();
    for reply in slow {
        let reply = reply.join().expect("an answer");
        assert_eq!(
            (reply.status, reply.json()["status"].as_str()),
            (504, Some("error")),
            "{reply:?}"
        );
        assert!(reply.body.contains("within 3 s"), "{reply:?}");
    }
    assert_eq!(served.ask("/echo", "").status, 200);
}

#[test]
fn a_question_may_take_as_long_as_its_asker_waits() {
    if !python("a_question_may_take_as_long_as_its_asker_waits") {
        return;
    }
    let served = Served::start(Some(&program()), &[("THE0_QUERY_TIMEOUT", "1s")]);
    served.program();
    let ask = |millis: u32| {
        let body = r#"{"seconds":2}"#;
        let request = format!(
            "POST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\nthe0-timeout-ms: {millis}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(&served.address, request.as_bytes())
    };
    assert_eq!(ask(30_000).status, 200);
    let late = ask(300);
    assert!(
        late.status == 504 && late.body.contains("within 0.3 s"),
        "{late:?}"
    );
}

#[test]
fn a_program_that_never_listens_is_told() {
    if !python("a_program_that_never_listens_is_told") {
        return;
    }
    let served = Served::start(Some("import time; time.sleep(600)"), &[]);
    let reply = served.ask("/echo", "");
    assert_eq!(reply.status, 502, "{reply:?}");
    assert!(
        reply.body.contains("does not listen") && reply.body.contains("THE0_QUERY_PORT"),
        "{reply:?}"
    );
}

#[test]
fn a_bot_without_a_query_program_is_well_and_has_nothing_to_ask() {
    let served = Served::start(None, &[]);
    let answers = [
        ("GET", "/health", 200, json!({"status": "ok"})),
        ("POST", "/info", 200, json!({"available_queries": []})),
        (
            "GET",
            "/prices",
            404,
            json!({"status": "error", "error": "No handler for path: /prices", "available": ["/health", "/info"]}),
        ),
    ];
    for (method, path, status, body) in answers {
        let reply = http(&served.address, method, path, "");
        assert_eq!((reply.status, reply.json()), (status, body));
    }
    for method in ["PUT", "DELETE", "OPTIONS", "BREW"] {
        let reply = http(&served.address, method, "/health", "");
        assert_eq!(
            (reply.status, reply.json()["status"].as_str()),
            (405, Some("error")),
            "{method}"
        );
    }
}

fn time() -> Time {
    Time::now()
}

fn record(run: u64) -> RunRecord {
    RunRecord {
        run,
        code: 137,
        signal: Some(9),
        reason: Reason::Oom,
        started_at: time(),
        ended_at: time(),
        restarts: 1,
        message: None,
        result: None,
    }
}

#[test]
fn the_status_tells_state_runs_and_what_is_saved_and_nothing_of_the_configuration() {
    let served = Served::start(None, &[]);
    let empty = served.ask("/_status", "").json();
    assert_eq!(
        empty,
        json!({"bot": "b1", "status": null, "synced": null, "runs": []})
    );
    let status = Status {
        state: State::Waiting,
        since: time(),
        run: 25,
        pid: None,
        restarts: 4,
        next_start: Some(time()),
        supervisor: 1,
        log_lines_dropped: 0,
    };
    let synced = Synced {
        outcome: Outcome::Ok,
        run: 25,
        generation: 7,
        digest: None,
        log: Position::default(),
        ok_at: Some(time()),
        at: time(),
        error: None,
        left_out: Vec::new(),
        traffic: None,
        result: None,
    };
    replace_json(&served.paths.status(), &status).expect("write the status");
    replace_json(&served.paths.synced(), &synced).expect("write what is saved");
    for run in 1..=25 {
        append_json_line(&served.paths.runs(), &record(run)).expect("write a run");
    }
    let reply = http(&served.address, "GET", "/_status", "");
    assert_eq!(reply.status, 200);
    let report = reply.json();
    assert_eq!(report["status"]["state"], "waiting");
    assert_eq!(report["synced"]["generation"], 7);
    let runs = report["runs"].as_array().expect("runs");
    assert_eq!(
        (runs.len(), &runs[0]["run"], &runs[19]["run"]),
        (20, &json!(6), &json!(25))
    );
    assert_eq!(
        (&runs[19]["reason"], &runs[19]["code"]),
        (&json!("oom"), &json!(137))
    );
    assert!(!reply.body.contains("hunter2"), "{}", reply.body);
    assert!(!served.said().contains("hunter2"), "{}", served.said());
}

#[test]
fn a_body_that_is_no_question_is_refused() {
    if !python("a_body_that_is_no_question_is_refused") {
        return;
    }
    let served = Served::start(Some(&program()), &[]);
    let large = "x".repeat(2 * 1024 * 1024);
    let rows = [
        ("{", 400),
        ("[1]", 400),
        ("a=1", 400),
        (large.as_str(), 413),
    ];
    for (body, status) in rows {
        let reply = served.ask("/echo", body);
        assert_eq!(reply.status, status, "{} {reply:?}", body.len());
        assert_eq!(reply.json()["status"], "error");
    }
    let huge = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n";
    assert_eq!(exchange(&served.address, huge).status, 413);
    let fitting = format!(r#"{{"a":"{}"}}"#, "x".repeat(900_000));
    let reply = served.ask("/length", &fitting);
    assert_eq!(
        reply.json(),
        json!({"target": "/length".len(), "body": fitting.len()}),
        "{reply:?}"
    );
    assert!(!served.said().contains("xxxx"), "a parameter was logged");
}

#[test]
fn requests_that_are_none_end_their_connection_and_nothing_else() {
    let served = Served::start(None, &[]);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(300_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5_000));
    let rows: [&[u8]; 8] = [
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ];
    for request in rows {
        let mut stream = TcpStream::connect(&served.address).expect("connect");
        stream.set_read_timeout(Some(LATE)).expect("a time limit");
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        assert!(
            !text(&bytes).starts_with("HTTP/1.1 200"),
            "{:?}",
            text(request).get(..40)
        );
        assert_eq!(served.ask("/health", "").status, 200);
    }
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out_for_long() {
    let served = Served::start(None, &[]);
    let silent: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(&served.address).expect("connect"))
        .collect();
    let mut half = TcpStream::connect(&served.address).expect("connect");
    half.write_all(b"POST /health HTTP/1.1\r\nContent-Length: 10\r\n\r\n{")
        .expect("half a request");
    assert_eq!(served.ask("/health", "").status, 200);
    drop(silent);
}

#[test]
fn a_body_that_does_not_arrive_is_not_waited_for_without_end() {
    if !python("a_body_that_does_not_arrive_is_not_waited_for_without_end") {
        return;
    }
    let served = Served::start(Some(&program()), &[]);
    let half = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n{";
    let reply = exchange(&served.address, half);
    assert_eq!(reply.status, 408, "{reply:?}");
    assert_eq!(served.ask("/echo", "").status, 200);
}

#[test]
fn questions_leave_no_descriptor_behind() {
    if !python("questions_leave_no_descriptor_behind") {
        return;
    }
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let served = Served::start(Some(&PROGRAM.replace("VERSION", version)), &[]);
        served.program();
        let before = served.descriptors();
        for _ in 0..100 {
            assert_eq!(served.ask("/echo", "{}").status, 200);
        }
        // Clients that go away before their answer.
        for _ in 0..10 {
            let mut stream = TcpStream::connect(&served.address).expect("connect");
            stream
                .write_all(b"POST /slow HTTP/1.1\r\nContent-Length: 15\r\n\r\n{\"seconds\":0.5}")
                .expect("ask");
        }
        wait_for("all connections to be closed", LATE, || {
            (served.descriptors() <= before).then_some(())
        });
    }
}

#[test]
fn the_program_sees_the_contract_and_nothing_of_the_platform() {
    if !python("the_program_sees_the_contract_and_nothing_of_the_platform") {
        return;
    }
    let mut served = Served::start(Some(&program()), &[]);
    let value = served.ask("/environment", "").json();
    let names: Vec<_> = value["names"]
        .as_array()
        .expect("names")
        .iter()
        .filter_map(|n| n.as_str())
        .collect();
    for name in [
        "BOT_ID",
        "BOT_CONFIG",
        "STATE_DIR",
        "THE0_QUERY_PORT",
        "PYTHONPATH",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    for name in [
        "MINIO_ENDPOINT",
        "THE0_QUERY_LISTEN",
        "THE0_VAR_PATH",
        "LOG_LEVEL",
    ] {
        assert!(!names.contains(&name), "{name}: {names:?}");
    }
    assert_eq!(value["query_path"], "");
    let code = fs::canonicalize(&served.paths.code).expect("the code's folder");
    assert_eq!(value["cwd"], code.to_string_lossy().as_ref());
    served.process.signal(Signal::SIGTERM);
    let mut own = String::new();
    let mut out = served.process.0.stdout.take().expect("a pipe");
    out.read_to_string(&mut own).expect("its standard output");
    assert_eq!(own, "", "standard output belongs to the bot");
    assert!(
        served.said().contains("the program says this"),
        "{}",
        served.said()
    );
}

#[test]
fn term_finishes_what_is_under_way_and_ends_the_program() {
    if !python("term_finishes_what_is_under_way_and_ends_the_program") {
        return;
    }
    let mut served = Served::start(Some(&program()), &[]);
    let program = served.program();
    let mut stream = TcpStream::connect(&served.address).expect("connect");
    stream
        .write_all(b"POST /slow HTTP/1.1\r\nContent-Length: 15\r\n\r\n{\"seconds\":1.5}")
        .expect("ask");
    wait_for("the program to be asked", LATE, || {
        served.said().contains("asked to sleep").then_some(())
    });
    served.process.signal(Signal::SIGTERM);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the answer");
    assert!(
        text(&bytes).contains(r#"{"slept": true}"#),
        "{}",
        text(&bytes)
    );
    assert_eq!(served.process.code(LATE), 0, "{}", served.said());
    assert!(!is_alive(program));
    assert!(!served.paths.listening().exists());
    assert!(TcpStream::connect(&served.address).is_err());
}

#[test]
fn a_program_that_ignores_term_is_killed_with_its_children() {
    if !python("a_program_that_ignores_term_is_killed_with_its_children") {
        return;
    }
    let stubborn = program().replace(
        "print(\"the program",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
         child = os.fork()\n\
         if child == 0:\n    time.sleep(600)\n\
         open('../child', 'w').write(str(child))\n\
         print(\"the program",
    );
    let mut served = Served::start(Some(&stubborn), &[("THE0_CONFINE", "off")]);
    let program = served.program();
    let child: i32 = read(&served.folder.path().join("child"))
        .parse()
        .expect("a process id");
    assert!(is_alive(child));
    served.process.signal(Signal::SIGTERM);
    assert_eq!(served.process.code(LATE), 0, "{}", served.said());
    wait_for("the program and its child to be gone", LATE, || {
        (!is_alive(program) && !is_alive(child)).then_some(())
    });
}

#[test]
fn a_program_does_not_outlive_a_query_that_was_killed() {
    if !python("a_program_does_not_outlive_a_query_that_was_killed") {
        return;
    }
    let mut served = Served::start(Some(&program()), &[]);
    let program = served.program();
    served.process.signal(Signal::SIGKILL);
    assert_eq!(served.process.code(LATE), 1009);
    wait_for("the program to be gone", LATE, || {
        (!is_alive(program)).then_some(())
    });
}

#[test]
fn a_launch_or_address_that_cannot_be_used_is_refused_with_its_own_code() {
    let query = |extra: &[(&str, &str)]| {
        let base = [
            ("BOT_ID", "b1"),
            ("RUNTIME", "python3.11"),
            ("ENTRYPOINT", "main.py"),
        ];
        let output = run(Command::new(bin("query"))
            .env_clear()
            .envs(base)
            .envs(extra.iter().copied()));
        (output.status.code(), text(&output.stderr))
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let rows = [
        (("BOT_ID", ""), 1, "BOT_ID is required"),
        (("THE0_QUERY_TIMEOUT", "soon"), 111, "THE0_QUERY_TIMEOUT"),
        (("THE0_QUERY_LISTEN", "localhost"), 111, "THE0_QUERY_LISTEN"),
        (("THE0_QUERY_LISTEN", address.as_str()), 119, "in use"),
    ];
    for (variable, code, says) in rows {
        let (found, said) = query(&[variable]);
        assert_eq!(found, Some(code), "{variable:?}: {said}");
        assert!(said.contains(says), "{said}");
    }
}

fn ask(args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(Command::new(bin("query")).arg("ask").args(args));
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn ask_prints_the_answer_and_its_code_tells_how_it_went() {
    if !python("ask_prints_the_answer_and_its_code_tells_how_it_went") {
        return;
    }
    let served = Served::start(Some(&program()), &[]);
    let at = |args: &[&str]| ask(&[&["--at", &served.address], args].concat());
    let (code, out, said) = at(&["/echo?a=1", "limit=5", "symbol=BTC/USD"]);
    assert_eq!(code, Some(0), "{said}");
    let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(value["body"], r#"{"a":"1","limit":5,"symbol":"BTC/USD"}"#);
    assert!(out.ends_with('\n'));
    let (code, out, _) = at(&["missing"]);
    assert_eq!(
        (code, out.contains("No handler for path: /missing")),
        (Some(1), true)
    );
    let named = format!(
        "localhost:{}",
        served.address.rsplit(':').next().expect("a port")
    );
    assert_eq!(ask(&["--at", &named, "/_status"]).0, Some(0));
    assert_eq!(at(&["/p", "not-a-parameter"]).0, Some(2));
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port");
    let (code, out, said) = ask(&["--at", &closed.to_string(), "/health"]);
    assert_eq!((code, out.as_str()), (Some(117), ""), "{said}");
    assert!(
        said.contains(&closed.to_string()) && said.contains("refused"),
        "{said}"
    );
}
