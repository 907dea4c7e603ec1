//! The log in the store: day objects that grow, large ones too, within a limit and with few requests.

use std::fs;
use std::io::Write;
use std::ops::Range;

use contract::logs;
use nix::sys::signal::Signal;
use tests::servers::{Fault, Minio, Proxy};
use tests::volume::{LONG, Volume, World};
use tests::{SOON, wait_for};

/// Appends lines of about a hundred bytes to the first segment.
fn write(volume: &Volume, lines: Range<u64>) {
    let filling = "x".repeat(60);
    let line = |n| format!("2026-11-20T08:00:00.000000Z line {n} {filling}\n");
    let path = volume.var("logs").join(logs::segment_name(1));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(lines.map(line).collect::<String>().as_bytes())
        .unwrap();
}

/// The numbers of the lines in the day's object, as they come.
fn found(volume: &Volume) -> Vec<u64> {
    let day = volume.day("20261120");
    let number = |line: &str| line.split("line ").nth(1)?.split(' ').next()?.parse().ok();
    day.lines().map(|line| number(line).unwrap()).collect()
}

fn wait_shipped(volume: &Volume, lines: u64) {
    wait_for("the log", LONG, || {
        (found(volume).len() as u64 >= lines).then_some(())
    });
}

/// An object of 5 MiB and more is appended to inside the store.
#[test]
fn a_day_that_grows_large_has_each_line_once_whatever_happens_to_an_append() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let volume = World::through(store, proxy.address(), "day").volume("one");
    volume.fetched();
    let mut watch = volume.watch();
    let cases = [
        ("PUT", "logs/day", Fault::LoseAnswer),
        ("PUT", "logs/day", Fault::DropRequest),
        ("PUT", "logs/day", Fault::FlipRequest(5000)),
        ("POST", "uploadId=", Fault::LoseAnswer),
        ("PUT", "partNumber=2", Fault::DropRequest),
        ("POST", "uploadId=", Fault::DropRequest),
        ("PUT", "partNumber=1", Fault::LoseAnswer),
    ];
    let mut lines = 0;
    for (run, (method, part, fault)) in cases.into_iter().enumerate() {
        proxy.fail(method, part, 1, fault);
        write(&volume, lines..lines + 15_000);
        lines += 15_000;
        volume.end_run(run as u64 + 1);
        wait_shipped(&volume, lines);
    }
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    assert_eq!(found(&volume), (0..lines).collect::<Vec<_>>());
    let copied = proxy
        .requests()
        .iter()
        .filter(|r| r.copies.is_some())
        .count();
    assert!(
        copied > 0,
        "the day was large enough to be copied inside the store"
    );
}

#[test]
fn a_chatty_bot_costs_few_requests() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let volume = World::through(store, proxy.address(), "chatty").volume("one");
    volume.fetched();
    let mut watch = volume.watch();
    wait_for("the first pass", SOON, || volume.synced());
    proxy.forget();
    for second in 0..4 {
        for tenth in 0..10 {
            let first = second * 10_000 + tenth * 1000;
            write(&volume, first..first + 1000);
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
    volume.end_run(1);
    wait_shipped(&volume, 40_000);
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    assert_eq!(found(&volume), (0..40_000).collect::<Vec<_>>());
    let requests = proxy.requests().len();
    assert!(requests < 100, "{requests} requests for 40,000 lines");
}

#[test]
fn the_limit_of_a_day_is_kept_and_said_once() {
    let Some(store) = Minio::shared() else { return };
    let volume = World::on(store, "limit").volume("one");
    let volume = volume.with("THE0_MAX_DAY_LOG_MB", "1");
    volume.fetched();
    let mut watch = volume.watch();
    for run in 1..4 {
        write(&volume, run * 10_000..(run + 1) * 10_000);
        volume.end_run(run);
        wait_for("the log", LONG, || {
            let written = fs::metadata(volume.var("logs").join(logs::segment_name(1)));
            let whole = written.unwrap().len();
            volume
                .synced()
                .filter(|s| s.run == run && s.log.offset == whole)
        });
    }
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);
    let day = volume.day("20261120");
    assert!(
        day.len() > (1 << 20) - 300 && day.len() < (1 << 20) + 1000,
        "{}",
        day.len()
    );
    assert_eq!(day.matches("THE0_MAX_DAY_LOG_MB").count(), 1);
}
