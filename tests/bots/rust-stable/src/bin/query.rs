//! Answers /count, on a port or, where it is asked one question, in a file.

use std::env::var;
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};

fn count() -> String {
    let folder = var("STATE_DIR").unwrap_or_default();
    std::fs::read_to_string(format!("{folder}/count.json")).unwrap_or_else(|_| "0".into())
}

fn said(path: Option<&str>) -> (bool, String) {
    match path {
        Some("/count") => (true, format!(r#"{{"status":"ok","data":{{"count":{}}}}}"#, count())),
        _ => (false, r#"{"status":"error","error":"No handler"}"#.to_owned()),
    }
}

fn answer(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let head: Vec<String> = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let length = head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    reader.read_exact(&mut vec![0; length.unwrap_or(0)])?;
    let target = head.first().and_then(|line| line.split([' ', '?']).nth(1));
    let (known, body) = said(target);
    let status = if known { "200 OK" } else { "404 Not Found" };
    let length = body.len();
    write!(&*stream, "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn main() -> Result<()> {
    if let Some(path) = var("QUERY_PATH").ok().filter(|path| !path.is_empty()) {
        let (known, body) = said(Some(&path));
        std::fs::write("/query/result.json", body)?;
        std::process::exit(i32::from(!known));
    }
    let port = var("THE0_QUERY_PORT").map_or(9476, |port| port.parse().expect("a port"));
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        // One who has gone while it was answered is nobody's trouble.
        let _ = stream.and_then(|stream| answer(&stream));
    }
    Ok(())
}
