//! Questions to bots while all around them breaks: what is answered is never older than what was saved before.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tests::http;

use crate::journal::Journal;

/// Answers with the number in the state: as a server, or once.
pub const ANSWERS: &str = r#"
import http.server, json, os, pathlib

def answer():
    path = pathlib.Path("/state/.the0-state/count.json")
    return {"status": "ok", "data": json.loads(path.read_text())["n"] if path.exists() else 0}

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(answer()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST

if os.environ.get("QUERY_PATH"):
    pathlib.Path("/query/result.json").write_text(json.dumps(answer()))
else:
    http.server.HTTPServer(("127.0.0.1", int(os.environ["THE0_QUERY_PORT"])), Answer).serve_forever()
"#;
/// What may be said to somebody who asks while the bot or a server is away, with a reason.
const EXCUSES: [u16; 6] = [404, 429, 500, 502, 503, 504];
/// Seconds that a question may take.
const PATIENCE: u32 = 20;

/// Those that were asked.
#[derive(Debug, Default)]
pub struct Questions {
    asked: Vec<JoinHandle<()>>,
    found: Arc<Mutex<Found>>,
}

#[derive(Debug, Default)]
struct Found {
    /// How many had an answer.
    answers: usize,
    /// The first that was not as it should be: of which bot, and why.
    wrong: Option<(String, String)>,
}

impl Questions {
    /// Asks the gateway at `address` in the background; `saved` was in the store before.
    pub fn ask(&mut self, address: &str, bot: &str, saved: u64, journal: &Arc<Journal>) {
        let (found, journal) = (Arc::clone(&self.found), Arc::clone(journal));
        let (address, bot) = (address.to_owned(), bot.to_owned());
        self.asked.push(std::thread::spawn(move || {
            let (status, body) = ask(&address, &bot);
            journal.note(&format!("{bot} answered {status} {body}"));
            let mut found = found.lock().expect("what was found");
            let is_excused = EXCUSES.contains(&status) && body["error"].is_string();
            if status == 200 && body["data"].as_u64() >= Some(saved) {
                found.answers += 1;
            // 0: its gateway was killed.
            } else if status != 0 && !is_excused {
                let why = format!("{saved} was in the store, and it answered {status} {body}");
                found.wrong.get_or_insert((bot, why));
            }
        }));
    }

    /// Waits for all answers; gives how many there were.
    pub fn end(&mut self, journal: &Journal) -> usize {
        for asked in self.asked.drain(..) {
            asked.join().expect("somebody who asks");
        }
        let found = self.found.lock().expect("what was found");
        if let Some((bot, why)) = &found.wrong {
            journal.broken(bot, why);
        }
        found.answers
    }
}

/// Asks a bot for its number; 0 where its gateway does not listen, or not to the end.
pub fn ask(address: &str, bot: &str) -> (u16, Value) {
    if std::net::TcpStream::connect(address).is_err() {
        return (0, Value::Null);
    }
    let question = json!({"bot_id": bot, "query_path": "/number", "timeout_sec": PATIENCE});
    let reply = http(address, "POST", "/query", &question.to_string());
    (reply.status, reply.json())
}
