//! What it costs to ask: the bot's own server directly, through `query`, through the gateway, over kept connections and in
//! turn, beside as many relays that do nothing but copy; the same under load; and a question in a container of its own
//! beside a bare `docker run` of the same program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tests::containers::image;
use tests::servers::SECRET_KEY;
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
        self.send_header("Connection", "keep-alive")
        self._headers_buffer.append(b"\r\n" + body)
        self.flush_headers()
    def log_message(self, *words): pass
if os.environ.get("QUERY_PATH"):
    pathlib.Path("/query/result.json").write_text(json.dumps({"status": "ok", "data": {"n": 1}}))
    sys.exit(0)
ThreadingHTTPServer(("0.0.0.0", port), Live).serve_forever()
"#;

/// The same answer with the platform's SDK, whose server ends each connection.
const SDK: &str = r#"
import os
from the0 import query
@query.handler("/x")
def x(request):
    return {"port": int(os.environ["THE0_QUERY_PORT"]), "text": "x" * 1000}
query.run()
"#;

/// One thing that is asked of a server, over a kept connection while that is kept.
struct Line {
    address: String,
    stream: Option<BufReader<TcpStream>>,
    request: Vec<u8>,
}

impl Line {
    fn to(way: &Way) -> Self {
        let Way {
            address,
            path,
            body,
            token,
            ..
        } = way;
        let token = token.as_ref().map_or(String::new(), |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n{token}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            address: address.clone(),
            stream: None,
            request: request.into_bytes(),
        }
    }

    /// Asks; how long that took, in microseconds, and the body.
    fn ask(&mut self) -> (i64, Vec<u8>) {
        let began = Instant::now();
        let mut stream = self.stream.take().unwrap_or_else(|| {
            let stream = TcpStream::connect(&self.address).expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            BufReader::new(stream)
        });
        stream
            .get_mut()
            .write_all(&self.request)
            .expect("a question");
        let (mut status, mut length, mut is_chunked) = (String::new(), None, false);
        let mut line = || {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a line");
            line.trim().to_ascii_lowercase()
        };
        status += &line();
        loop {
            let header = line();
            if header.is_empty() {
                break;
            }
            is_chunked |= header == "transfer-encoding: chunked";
            if let Some(text) = header.strip_prefix("content-length:") {
                length = Some(text.trim().parse().expect("a length"));
            }
        }
        let mut body = vec![0; length.unwrap_or(0)];
        while is_chunked {
            let mut size = String::new();
            stream.read_line(&mut size).expect("a chunk");
            let size = usize::from_str_radix(size.trim(), 16).expect("its size");
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).expect("a chunk");
            body.extend_from_slice(&chunk[..size]);
            is_chunked = size > 0;
            length = length.or(Some(0));
        }
        match length {
            Some(0) => {}
            Some(_) => stream.read_exact(&mut body).expect("a body"),
            None => drop(stream.read_to_end(&mut body).expect("a body")),
        }
        assert!(
            status.contains("200"),
            "{status} {}",
            String::from_utf8_lossy(&body)
        );
        let took = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX);
        if status.starts_with("http/1.1") && length.is_some() {
            self.stream = Some(stream);
        }
        (took, body)
    }
}

/// A way to ask the same.
struct Way {
    name: &'static str,
    address: String,
    path: &'static str,
    body: String,
    token: Option<String>,
}

/// As the agent makes it.
fn token(host: &Host, id: &str, began: &str) -> String {
    let mut sum = Hmac::<Sha256>::new_from_slice(SECRET_KEY.as_bytes()).expect("a key");
    for part in ["the0 query", host.stack.name(), id, began] {
        sum.update(part.as_bytes());
        sum.update(b"\0");
    }
    let bytes = sum.finalize().into_bytes();
    contract::Digest::from_bytes(bytes.into()).to_string()
}

/// Measures and prints.
pub fn compare(host: &mut Host) {
    host.stack.set("THE0_GATEWAY_ADDRESS", "127.0.0.1:0");
    let own: Vec<(&str, Vec<u8>)> = vec![("main.py", MAIN.into()), ("query.py", QUERY.into())];
    let mut sdk: Vec<(String, Vec<u8>)> = vec![
        ("main.py".into(), MAIN.into()),
        ("query.py".into(), SDK.into()),
    ];
    let folder = tests::repository().join(".cache/sdk-0.4.0/the0");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("vendor/the0/{}", entry.file_name().display());
        sdk.extend(std::fs::read(entry.path()).ok().map(|bytes| (name, bytes)));
    }
    let sdk: Vec<(&str, Vec<u8>)> = sdk
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.clone()))
        .collect();
    let keys = [host.bundle("own", &own), host.bundle("sdk", &sdk)];
    let [live, with_sdk, rests] = ["live", "with-sdk", "rests"].map(|short| host.stack.id(short));
    let entry = || doc! {"bot": "main.py", "query": "query.py"};
    let mut off = bot(&rests, &keys[0], PYTHON, entry());
    off.insert("enabled", false);
    let runs = |id: &str, key: &str| bot(id, key, PYTHON, entry());
    host.insert([runs(&live, &keys[0]), runs(&with_sdk, &keys[1]), off]);
    host.begin(&[]);
    let gateway = gateway(host);
    println!(
        "\n| a question to a bot that runs, µs | median | p90 | p99 | {CLIENTS} clients at once: median | p99 | a second |\n\
         |---|---|---|---|---|---|---|"
    );
    for (server, id) in [
        ("a server of its own", &live),
        ("the SDK's server (0.4.0)", &with_sdk),
    ] {
        println!("| **{server}** | | | | | | |");
        live_ways(host, id, &gateway);
    }
    apart(host, &gateway, &body(&rests), &rests);
}

fn body(id: &str) -> String {
    format!(r#"{{"bot_id":"{id}","query_path":"/x","params":{{"symbol":"BTC/USD"}}}}"#)
}

/// Asks a bot that runs in each way, in turn, and then each under load.
fn live_ways(host: &Host, id: &str, gateway: &str) {
    let found = wait_for("a container that runs", LONG, || {
        let found = host.docker().inspect(&host.container(id));
        (found["State"]["Running"] == true).then_some(found)
    });
    let networks = found["NetworkSettings"]["Networks"]
        .as_object()
        .expect("networks");
    let inside = networks
        .values()
        .find_map(|network| network["IPAddress"].as_str());
    let inside = inside.expect("an address").to_owned();
    let began = found["Config"]["Labels"]["the0.began"]
        .as_str()
        .expect("a label");
    let through = Way {
        name: "through `query`",
        address: format!("{inside}:9476"),
        path: "/x",
        body: r#"{"symbol":"BTC/USD"}"#.to_owned(),
        token: Some(token(host, id, began)),
    };
    wait_for("a bot that answers", LONG, || {
        let reply = tests::http(gateway, "POST", "/query", &body(id));
        (reply.status == 200 && reply.json()["data"]["port"].is_u64()).then_some(())
    });
    let (_, first) = Line::to(&through).ask();
    let first: serde_json::Value = serde_json::from_slice(&first).expect("JSON");
    let server = format!("{inside}:{}", first["data"]["port"]);
    let relayed = relay(relay(server.clone()));
    let directly = |name, address| Way {
        name,
        address,
        path: "/x",
        body: through.body.clone(),
        token: None,
    };
    let ways = [
        directly("the bot's server, directly", server),
        directly("through two relays that copy bytes", relayed),
        through,
        Way {
            name: "through the gateway",
            address: gateway.to_owned(),
            path: "/query",
            body: body(id),
            token: None,
        },
    ];
    let mut lines = ways.each_ref().map(Line::to);
    let mut alone: [Sample; 4] = Default::default();
    // Whoever is asked before one leaves processor and caches to it: each follows each other as often.
    let orders = [[0, 1, 2, 3], [1, 3, 0, 2], [2, 0, 3, 1], [3, 2, 1, 0]];
    for order in orders.iter().cycle().take(ONE_BY_ONE) {
        for &way in order {
            alone[way].push(lines[way].ask().0);
        }
    }
    drop(lines);
    for (way, alone) in ways.iter().zip(&alone) {
        let loaded = load(way);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            way.name,
            alone.at(50),
            alone.at(90),
            alone.at(99),
            loaded.at(50),
            loaded.at(99),
            loaded.count() / usize::try_from(LOADED.as_secs()).unwrap_or(1)
        );
    }
}

/// Copies bytes to `address` and back, a thread for each direction; gives where. What lies between asker and bot costs at least
/// its wake-ups.
fn relay(address: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address").to_string();
    thread::spawn(move || {
        for from in listener.incoming() {
            let from = from.expect("a connection");
            let to = TcpStream::connect(&address).expect("a connection");
            let copies = [(from.try_clone(), to.try_clone()), (Ok(to), Ok(from))];
            for (from, to) in copies {
                let (mut from, mut to) = (from.expect("a stream"), to.expect("a stream"));
                to.set_nodelay(true).expect("no delay");
                thread::spawn(move || {
                    let mut bytes = [0; 16 << 10];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        if to.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    at
}

fn load(way: &Way) -> Sample {
    thread::scope(|scope| {
        let client = || {
            let mut line = Line::to(way);
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
fn apart(host: &mut Host, gateway: &str, body: &str, rests: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("query.py"), QUERY).expect("the program");
    let bare = |network: &str| {
        let began = Instant::now();
        let mut command = host.docker().command();
        command.args([
            "run",
            "--rm",
            "--network",
            network,
            "--user",
            "1000:1000",
            "--read-only",
        ]);
        command.args([
            "--tmpfs",
            "/query:mode=1777,uid=1000",
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
    bare("bridge");
    asked();
    let [mut plain, mut without, mut ours]: [Sample; 3] = Default::default();
    for _ in 0..APART {
        for (network, sample) in [("bridge", &mut plain), ("none", &mut without)] {
            sample.push(bare(network));
        }
        ours.push(asked());
        // What is removed after an answer is not in the next one's time.
        thread::sleep(Duration::from_millis(500));
    }
    let rows = [
        (
            "`docker run --rm` of the query program alone, on Docker's network as by default",
            plain,
        ),
        ("the same on none", without),
        ("the gateway's answer", ours),
        ("the same with a container that waits", warm(host, rests)),
    ];
    println!(
        "\n| a question in a container of its own (Python, {APART} of each), ms | median | p90 |\n|---|---|---|"
    );
    for (name, sample) in rows {
        println!(
            "| {name} | {:.0} | {:.0} |",
            millis(sample.at(50)),
            millis(sample.at(90))
        );
    }
}

/// An agent that keeps containers waiting.
fn warm(host: &mut Host, rests: &str) -> Sample {
    host.end();
    host.stack.set("THE0_QUERY_WARM", "python3.11=1");
    host.begin(&[]);
    let gateway = gateway(host);
    let mut took = Sample::default();
    for n in 0..=APART {
        // Until one waits.
        thread::sleep(Duration::from_secs(2));
        let began = Instant::now();
        let reply = tests::http(&gateway, "POST", "/query", &body(rests));
        assert_eq!(reply.status, 200, "{reply:?}");
        if n > 0 {
            took.push(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX));
        }
    }
    took
}

fn gateway(host: &Host) -> String {
    let log = host.stack.data().with_file_name("log");
    wait_for("the gateway", LONG, || {
        let said = tests::read(&log);
        let (_, rest) = said.rsplit_once("questions are answered on http://")?;
        Some(rest.split_once(',')?.0.to_owned())
    })
}

fn run(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
