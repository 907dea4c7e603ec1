//! Who is let in.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tests::{run, text};

use crate::rig::{IDLE, LONG, Place, READ, WRITE, until};

#[test]
fn with_tokens_every_request_needs_one_and_it_may_what_the_file_says() {
    let place = Place::new();
    place.bot("grid", IDLE, "");
    let session = place.dev(Some(&place.tokens()));
    place.state("grid", "running");
    let stop = "/v1/bots/grid/stop";
    let longer = format!("{WRITE}0");
    for token in ["", "x", &WRITE[..31], &longer, &WRITE.to_uppercase(), "ci"] {
        for (method, path) in [
            ("GET", "/v1/bots"),
            ("POST", stop),
            ("GET", "/v1/openapi.json"),
            ("GET", "/"),
        ] {
            let reply = session.with(token, method, path);
            assert_eq!(reply.status, 401, "{token:?} {path}: {reply:?}");
            assert!(reply.json()["error"].is_string());
        }
    }
    assert_eq!(session.ask("GET", "/v1/bots", "").status, 401);
    assert_eq!(session.with(READ, "GET", "/v1/bots").status, 200);
    assert_eq!(session.with(READ, "POST", stop).status, 403);
    assert_eq!(place.state("grid", "running")["state"], "running");
    assert_eq!(session.with(WRITE, "GET", "/v1/bots").status, 200);
    assert_eq!(session.with(WRITE, "POST", stop).status, 200);
    place.state("grid", "stopped");
    session.says("grid: stop of \"grid\", asked by ci at 127.0.0.1: done");
    let screen = session.screen();
    assert!(
        !screen.contains(WRITE) && !screen.contains(READ),
        "{screen}"
    );
    session.end();
}

#[test]
fn tokens_count_as_the_file_has_them_now() {
    let place = Place::new();
    let session = place.dev(Some(&place.tokens()));
    let status = |token: &str| session.with(token, "GET", "/v1/bots").status;
    assert_eq!((status(WRITE), status(READ)), (200, 200));
    let new = "abcdefghijklmnopqrstuvwxyz";
    place.private("tokens", &format!("other {new} write\n"));
    assert_eq!((status(WRITE), status(READ), status(new)), (401, 401, 200));
    place.private("tokens", "not understood\n");
    assert_eq!((status(new), status(WRITE)), (503, 503));
    session.says("tokens: line 1: ");
    let path = place.tokens();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(status(WRITE), 503);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!((status(WRITE), status(new)), (200, 401));
    session.end();
}

#[test]
fn nobody_listens_to_the_world_without_tokens_nor_with_a_file_that_others_may_read() {
    let place = Place::new();
    let fails = |command: &[&str], address: &str| {
        let mut command = place.command(command);
        command.env("THE0_API_ADDRESS", address);
        command.env("MINIO_ENDPOINT", "10.0.0.1:9000");
        command
            .env("MINIO_ACCESS_KEY", "k")
            .env("MINIO_SECRET_KEY", "s");
        command.env("THE0_API_TOKENS", place.path("tokens"));
        if !place.path("tokens").exists() {
            command.env_remove("THE0_API_TOKENS");
        }
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        text(&output.stderr)
    };
    let bots = place.path("bots");
    let bots = bots.to_str().unwrap();
    for command in [&["dev", bots][..], &["run", "--bots", bots]] {
        for address in ["0.0.0.0:0", "[::]:0"] {
            let why = fails(command, address);
            assert!(
                why.contains("without tokens") && why.contains("--api-tokens"),
                "{why}"
            );
        }
        let why = fails(command, "localhost");
        assert!(why.contains("THE0_API_ADDRESS"), "{why}");
    }
    fs::set_permissions(place.tokens(), Permissions::from_mode(0o644)).unwrap();
    for address in ["0.0.0.0:0", "127.0.0.1:0"] {
        let why = fails(&["dev", bots], address);
        assert!(why.contains("chmod 600") && !why.contains(WRITE), "{why}");
    }
}

#[test]
fn a_page_in_a_browser_is_not_answered() {
    let place = Place::new();
    place.bot("grid", IDLE, "");
    let session = place.dev(None);
    place.state("grid", "running");
    let port = session.address.rsplit(':').next().unwrap();
    let rebound = format!("Host: evil.example:{port}");
    let rows: [(&str, &[&str], u16); 5] = [
        ("GET", &[&rebound], 403),
        ("POST", &[&rebound], 403),
        ("POST", &["Origin: https://evil.example"], 403),
        ("POST", &["Origin: null"], 403),
        (
            "OPTIONS",
            &[
                "Origin: https://evil.example",
                "Access-Control-Request-Method: POST",
            ],
            403,
        ),
    ];
    for (method, headers, expected) in rows {
        let reply = session.send(method, "/v1/stop", headers, "");
        assert_eq!(reply.status, expected, "{method} {headers:?}");
        assert!(
            !reply.head.contains("access-control-allow"),
            "{}",
            reply.head
        );
    }
    let form = format!(
        "POST /v1/stop HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}",
        session.address
    );
    assert_eq!(
        tests::exchange(&session.address, form.as_bytes()).status,
        415
    );
    assert_eq!(
        session.ask("GET", "/v1/bots/grid", "").json()["state"],
        "running"
    );
    assert!(!session.screen().contains("stop of all"));
    session.end();
}

#[test]
fn those_who_come_slowly_are_cut_and_keep_nobody_out() {
    let place = Place::new();
    let session = place.dev(None);
    // More than are attended at once.
    let connect = |_| TcpStream::connect(&session.address).unwrap();
    let mut slow: Vec<TcpStream> = (0..100).map(connect).collect();
    for stream in &mut slow {
        stream
            .write_all(b"GET /v1/bots HTTP/1.1\r\nHost: ")
            .unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
    }
    let began = Instant::now();
    // Each letter that comes is no reason to wait longer.
    until(|| {
        let is_cut = slow[0].write_all(b"x").is_err();
        std::thread::sleep(Duration::from_millis(200));
        is_cut.then_some(())
    });
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(session.ask("GET", "/v1/bots", "").status, 200);
    for stream in &mut slow[1..] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!text(&rest).contains("200 OK"), "{}", text(&rest));
    }
    session.end();
}

#[test]
fn bodies_that_are_garbage_or_endless_are_refused() {
    let place = Place::new();
    let session = place.dev(None);
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{\"max_unavailable\": \"all\"}",
        "\0",
    ] {
        let reply = session.ask("POST", "/v1/roll", body);
        assert_eq!(reply.status, 400, "{body:?}: {reply:?}");
        assert!(reply.json()["error"].is_string(), "{reply:?}");
    }
    let large = "x".repeat(2 << 20);
    assert_eq!(session.ask("POST", "/v1/roll", &large).status, 413);
    let chunks = "400\r\n".to_owned() + &"x".repeat(1024) + "\r\n";
    let chunked = format!(
        "POST /v1/roll HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        session.address,
        chunks.repeat(1100)
    );
    assert_eq!(
        tests::exchange(&session.address, chunked.as_bytes()).status,
        413
    );
    assert_eq!(session.ask("GET", "/v1/bots", "").status, 200);
    session.end();
}
