//! Notices to the operator's address.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tests::wait_for;

use crate::dev::{LONG, Place};

/// Takes what is posted; refuses the first `refused` of it.
pub struct Listener {
    /// Host and port.
    pub address: String,
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Listener {
    pub fn start(mut refused: usize) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                let Ok(mut stream) = stream else { return };
                let body = body(&mut stream);
                let status = if refused > 0 { "500 No" } else { "200 OK" };
                if refused == 0 {
                    shared.lock().unwrap().push(body);
                }
                refused = refused.saturating_sub(1);
                let answer =
                    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, taken }
    }

    pub fn taken(&self) -> Vec<Value> {
        self.taken.lock().unwrap().clone()
    }
}

fn body(stream: &mut impl Read) -> Value {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return serde_json::from_str(body).unwrap_or_default();
            }
        }
        match stream.read(&mut piece) {
            Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
            _ => return Value::Null,
        }
    }
}

#[test]
fn a_bot_that_keeps_crashing_is_told_once_with_the_end_of_its_log() {
    let listener = Listener::start(1);
    let mut place = Place::new();
    let url = format!("http://u:hunter2@{}/hook", listener.address);
    place.settings.push(("THE0_NOTICE_URL", url));
    place.settings.push(("THE0_NOTICE_CRASHES", "3".to_owned()));
    let main = "def main(id, config):\n    print('BOOM', flush=True)\n    raise ValueError('x')\n";
    place.bot("boom", main, "");
    place.begin();
    let notice = wait_for("a notice", LONG, || listener.taken().into_iter().next());
    assert_eq!(notice["kind"], "crashing");
    assert_eq!(notice["name"], "boom");
    assert!(
        notice["bot"].is_string() && notice["since"].is_string(),
        "{notice}"
    );
    assert!(notice["restarts"].as_u64() >= Some(3), "{notice}");
    assert!(
        notice["message"].as_str().unwrap().contains("exit 1"),
        "{notice}"
    );
    let log = notice["log"].as_array().unwrap();
    assert!((1..=20).contains(&log.len()), "{notice}");
    assert!(
        log.iter()
            .any(|line| line.as_str().unwrap().contains("BOOM")),
        "{notice}"
    );

    // It goes on crashing, over the agent's end too, and is not told again.
    wait_for("more crashes", LONG, || {
        (place.entries("boom").len() > 5).then_some(())
    });
    place.end();
    let before = place.entries("boom").len();
    place.begin();
    wait_for("crashes of a second session", LONG, || {
        (place.entries("boom").len() > before + 4).then_some(())
    });
    assert_eq!(listener.taken().len(), 1, "{:?}", listener.taken());
    assert!(!place.said().contains("hunter2"));
    place.end();
}
