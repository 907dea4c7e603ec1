//! An address of an operator's at which notices are taken.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// Takes what is posted; refuses the first of it, so many.
#[derive(Debug)]
pub struct Listener {
    /// Host and port.
    pub address: String,
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Listener {
    /// One that refuses the first `refused`.
    ///
    /// # Panics
    /// There is no free port.
    pub fn start(mut refused: usize) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("its address").to_string();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                let Ok(mut stream) = stream else { return };
                let body = body(&mut stream);
                let status = if refused > 0 { "500 No" } else { "200 OK" };
                if refused == 0 {
                    let mut taken = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    taken.push(body);
                }
                refused = refused.saturating_sub(1);
                let answer =
                    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, taken }
    }

    /// What it has taken, oldest first.
    pub fn taken(&self) -> Vec<Value> {
        let taken = self.taken.lock();
        taken.unwrap_or_else(PoisonError::into_inner).clone()
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
