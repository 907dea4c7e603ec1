//! Requests: of the example bots, run in real time for some minutes, and of a bot that talks without end.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::servers::{ACCESS_KEY, Minio, Proxy, Request, SECRET_KEY};
use tests::{bin, repository};

use crate::bot::Run;
use crate::process::{children, cpu_millis, memory, name};

/// How long the example bots run before and while they are counted.
const WARM: u64 = 40;
const COUNTED: u64 = 240;
/// How long the loud bot is.
const LOUD: u64 = 60;

/// Measures and prints.
pub fn measure(folder: &Path) {
    let Some(minio) = Minio::start() else { return };
    let proxy = Proxy::start(minio.address());
    examples(&minio.environment_at(proxy.address()), &proxy);
    loud(folder, &minio.environment_at(proxy.address()), &proxy);
}

fn examples(environment: &[(String, String)], proxy: &Proxy) {
    let data = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(bin("agent"));
    command
        .arg("dev")
        .arg(repository().join("examples"))
        .arg("--data")
        .arg(data.path());
    command.envs(environment.iter().cloned());
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut agent = quiet.spawn().expect("agent is built");
    sleep(Duration::from_secs(WARM));
    proxy.forget();
    sleep(Duration::from_secs(COUNTED));
    let requests = proxy.requests();
    let _ = kill(Pid::from_raw(agent.id().cast_signed()), Signal::SIGTERM);
    let _ = agent.wait();
    println!(
        "\nRequests of the example bots, counted for {COUNTED} s after a start, as many as that are a day\n"
    );
    let mut bots: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for request in &requests {
        let kinds = bots.entry(bot(request)).or_default();
        *kinds.entry(kind(request)).or_default() += 1;
    }
    for (bot, kinds) in bots {
        let a_day = |count: u64| count * 86_400 / COUNTED;
        let told: Vec<_> = kinds
            .iter()
            .map(|(kind, n)| format!("{kind} {}", a_day(*n)))
            .collect();
        let all = a_day(kinds.values().sum());
        println!("{bot:<26} {all:>7}: {}", told.join(", "));
    }
}

fn bot(request: &Request) -> String {
    let mut parts = request.path.split('/').skip(2);
    match parts.next() {
        Some("logs") => parts.next().unwrap_or("").to_owned(),
        other => other.unwrap_or("").to_owned(),
    }
}

/// What it is for: the method and the kind of object.
fn kind(request: &Request) -> String {
    let object = match &request.path {
        path if path.contains("/logs/") => "log",
        path if path.ends_with("state.tar.gz") => "state",
        path if path.contains("/history/") => "history",
        path if path.contains("claim") => "claim",
        path if path.contains("custom-bots") => "code",
        _ => "other",
    };
    let copies = if request.copies.is_some() {
        " copy"
    } else {
        ""
    };
    format!("{} {object}{copies}", request.method)
}

const BOT: &str = r#"#!/usr/bin/env python3
import sys, time
start = time.time()
for tick in range(600):
    for n in range(1000):
        sys.stdout.write('{"timestamp":"2026-01-01T00:00:00Z","message":"tick %d of a bot that talks, line %d"}\n' % (tick, n))
    sys.stdout.flush()
    time.sleep(max(0, start + (tick + 1) / 10 - time.time()))
time.sleep(1000)
"#;

fn loud(folder: &Path, environment: &[(String, String)], proxy: &Proxy) {
    let run = Run::on(folder, "{}", environment, |code| {
        crate::bot::script(&code.join("bot"), BOT);
        crate::bot::script(&code.join("questions"), "#!/bin/sh\nexec sleep 1000\n");
    });
    sleep(Duration::from_secs(2));
    proxy.forget();
    let ours: Vec<_> = std::iter::once(run.pid())
        .chain(
            children(run.pid())
                .into_iter()
                .filter(|pid| name(*pid) == "sync"),
        )
        .collect();
    let before: Vec<_> = ours.iter().map(|pid| cpu_millis(*pid)).collect();
    let mut most = 0;
    for _ in 0..LOUD * 10 {
        sleep(Duration::from_millis(100));
        most = most.max(ours.last().map_or(0, |pid| memory(*pid, "Anonymous")));
    }
    let requests = proxy.requests();
    println!("\nA bot that writes 10,000 lines a second, for {LOUD} s\n");
    for (pid, before) in ours.iter().zip(before) {
        println!(
            "{:<12} CPU ms a second: {}",
            name(*pid),
            (cpu_millis(*pid) - before) / LOUD
        );
    }
    println!("{:<12} most anonymous KB: {most}", "sync");
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for request in requests {
        let (count, bytes) = kinds.entry(kind(&request)).or_default();
        *count += 1;
        *bytes += request.length as u64;
    }
    for (kind, (count, bytes)) in kinds {
        println!("{kind:<14} {count:>5} requests {:>6} KiB", bytes >> 10);
    }
}

/// The keys, for clients that take them in an address.
pub fn credentials() -> String {
    format!("{ACCESS_KEY}:{SECRET_KEY}")
}
