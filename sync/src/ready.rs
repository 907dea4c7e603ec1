//! Whether `sync watch` is up, for one who asks over HTTP: any request is answered with 200, whatever it is.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Context;

/// One who asks has as long to do so, and keeps others waiting no longer.
const PATIENCE: Duration = Duration::from_secs(2);
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

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
        .and_then(|_| asker.write_all(ANSWER));
}
