//! How `sync watch` is, for one who asks over HTTP, as a kubelet does: `/saved` is 200 while saving works and 503 while it
//! fails; anything else is 200, as it is up.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

/// One who asks has as long to do so, and keeps others waiting no longer.
const PATIENCE: Duration = Duration::from_secs(2);
const YES: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
const NO: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nConnection: close\r\n\r\nsaving fails\n";

static FAILS: AtomicBool = AtomicBool::new(false);

/// Saving fails, or it does not, from now on.
pub fn saving(fails: bool) {
    FAILS.store(fails, Ordering::Relaxed);
}

/// Answers on `port` of every address from now on.
pub fn say(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .with_context(|| format!("listen on the readiness port {port}"))?;
    let serve = move || listener.incoming().flatten().for_each(answer);
    let thread = std::thread::Builder::new().name("ready".into());
    thread.spawn(serve).context("start a thread")?;
    Ok(())
}

fn answer(mut asker: TcpStream) {
    let mut request = [0; 4096];
    let limited = asker.set_read_timeout(Some(PATIENCE));
    // One who has gone meanwhile needs no answer.
    let _ = limited
        .and_then(|()| asker.read(&mut request))
        .and_then(|length| {
            asker.write_all(reply(&request[..length], FAILS.load(Ordering::Relaxed)))
        });
}

fn reply(request: &[u8], fails: bool) -> &'static [u8] {
    if fails && request.starts_with(b"GET /saved ") {
        NO
    } else {
        YES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_it_hears_that_saving_fails() {
        let saved = b"GET /saved HTTP/1.1\r\n\r\n";
        assert_eq!(reply(saved, false), YES);
        assert_eq!(reply(saved, true), NO);
        assert_eq!(reply(b"GET / HTTP/1.1\r\n\r\n", true), YES);
        let text = std::str::from_utf8(NO).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    }
}
