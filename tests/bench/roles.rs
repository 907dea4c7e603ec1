//! The programs the benchmark runs under what it measures.

use std::fs::OpenOptions;
use std::io::{Read, Write};

use nix::sys::signal::{SigSet, Signal};

use crate::process::now;

/// Plays the role the command line or the bot's configuration names; false when there is none.
pub fn play() -> bool {
    let args: Vec<_> = std::env::args().collect();
    if args.get(1).is_some_and(|role| role == "echo-term") {
        echo_term();
        return true;
    }
    match std::env::var("BOT_CONFIG")
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
    {
        Some(serde_json::Value::Object(config)) if config.contains_key("crash_into") => {
            crash(config["crash_into"].as_str().unwrap_or_default());
            true
        }
        _ => false,
    }
}

/// Writes the time at which each TERM arrived; ends when standard input does.
fn echo_term() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block().expect("block TERM");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mut out = std::io::stdout();
    let mut tell = |time: u64| {
        out.write_all(&time.to_le_bytes())
            .and_then(|()| out.flush())
    };
    tell(now()).expect("tell that the wait begins");
    while set.wait().is_ok() {
        if tell(now()).is_err() {
            return;
        }
    }
}

/// A bot that notes when it started and when it ended, and ends the first time it runs.
fn crash(file: &str) {
    let started = now();
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .expect("the file of times");
    let first = log.metadata().is_ok_and(|meta| meta.len() == 0);
    writeln!(log, "start {started}").expect("note the start");
    if !first {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
    writeln!(log, "end {}", now()).expect("note the end");
    std::process::exit(1);
}
