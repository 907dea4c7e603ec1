//! Images that are not there, or come slowly.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::doc;
use tests::stack::{IDLE, LONG, Stack};
use tests::wait_for;

/// A registry of the test's own on the loopback, which daemons take without TLS: it has nothing.
struct Registry {
    address: String,
    asked: Arc<AtomicU32>,
}

impl Registry {
    fn start(status: &'static str, code: &'static str, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                std::thread::spawn(move || answer(stream, status, code, pause, &count));
            }
        });
        Self { address, asked }
    }
}

fn answer(mut stream: TcpStream, status: &str, code: &str, pause: Duration, count: &AtomicU32) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let mut buffer = [0; 8192];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        let head = String::from_utf8_lossy(&buffer[..read]).into_owned();
        let (status, body) = if head.contains(" /v2/ ") {
            ("200 OK", "{}".to_owned())
        } else {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(pause);
            (
                status,
                format!(r#"{{"errors":[{{"code":"{code}","message":"{code}"}}]}}"#),
            )
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn an_image_that_is_nowhere_is_told_and_the_bot_starts_when_it_is_there() {
    let Some(mut host) = Stack::start("docker::nowhere", &["python3.11"]) else {
        return;
    };
    let image = format!("{}-own/{{runtime}}", host.name());
    host.set("RUNTIME_IMAGE", &image);
    let bot = host.bot("b", IDLE, doc! {});
    host.begin();
    let row = host.state(&bot, "failed");
    let reason = row["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("python3.11 is nowhere") && reason.contains("THE0_PULL=never"),
        "{reason}"
    );
    let own = image.replace("{runtime}", "python3.11");
    host.docker
        .ask(["tag", &tests::containers::image("python3.11"), &own]);
    host.ok(&["restart", &bot]);
    let row = host.state(&bot, "running");
    let id = host.docker.inspect(&own)["Id"].clone();
    assert_eq!(row["image"], id, "which image it was is on record");
    host.docker.ask(["rmi", &own]);
}

#[test]
fn a_pull_that_is_denied_is_told_so_and_asked_for_seldom() {
    let Some(mut host) = Stack::start("docker::denied", &[]) else {
        return;
    };
    let registry = Registry::start("403 Forbidden", "DENIED", Duration::ZERO);
    host.set(
        "RUNTIME_IMAGE",
        &format!("{}/own/{{runtime}}:1", registry.address),
    );
    host.set("THE0_PULL", "missing");
    let bots = [host.bot("a", IDLE, doc! {}), host.bot("b", IDLE, doc! {})];
    host.begin();
    for bot in &bots {
        let row = host.state(bot, "failed");
        assert!(
            row["reason"].as_str().unwrap().contains("is denied"),
            "{row}"
        );
    }
    let asked = registry.asked.load(Ordering::Relaxed);
    assert!(asked > 0);
    wait_for("some more tries to start them", LONG, || {
        let tries = |bot: &String| host.row(bot).and_then(|row| row["restarts"].as_u64());
        bots.iter().all(|bot| tries(bot) >= Some(3)).then_some(())
    });
    assert_eq!(
        registry.asked.load(Ordering::Relaxed),
        asked,
        "the registry is left alone for a while"
    );
}

#[test]
fn a_slow_pull_doubles_nothing_and_a_stop_does_not_wait_for_it() {
    let Some(mut host) = Stack::start("docker::slow", &[]) else {
        return;
    };
    let registry = Registry::start("404 Not Found", "MANIFEST_UNKNOWN", Duration::from_secs(8));
    host.set(
        "RUNTIME_IMAGE",
        &format!("{}/own/{{runtime}}:1", registry.address),
    );
    host.set("THE0_PULL", "always");
    let bots = [host.bot("a", IDLE, doc! {}), host.bot("b", IDLE, doc! {})];
    host.begin();
    wait_for("a pull that is under way", LONG, || {
        (registry.asked.load(Ordering::Relaxed) > 0).then_some(())
    });
    host.states(&bots, "starting");
    host.ok(&["stop", &bots[0]]);
    let begun = std::time::Instant::now();
    host.state(&bots[0], "stopped");
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "the stop came before the pull was over"
    );
    let row = host.state(&bots[1], "failed");
    assert!(
        row["reason"].as_str().unwrap().contains("is nowhere"),
        "{row}"
    );
    assert!(host.containers().is_empty());
}
