//! Others that keep a folder in a store, beside `sync`: `mc mirror --watch`, and looking at it once a second.
//!
//! They are not the same: `sync` puts one archive that is always whole, under a condition, with a history; these put
//! each file as it is found, so a reader may see files of different moments, and a second writer is not noticed.
//! The poller stands in for programs like litestream, which look each second and send what changed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use tests::repository;
use tests::servers::{Client, Minio, Proxy, Store};
use tests::volume::World;

use crate::day::credentials;
use crate::process::{cpu_millis, memory, now, percentile};
use crate::store::Watch;

const ROUNDS: usize = 40;

struct Row {
    times: Vec<u64>,
    requests: usize,
    idle: usize,
    cpu: u64,
    anonymous: u64,
}

/// Measures and prints.
pub fn compare(folder: &Path) {
    let Some(minio) = Minio::start() else { return };
    println!(
        "\nA folder of 100 files kept in MinIO; one written each two seconds, {ROUNDS} times; then 30 s of nothing\n"
    );
    println!(
        "{:<20} {:>8} {:>8} {:>16} {:>14} {:>12} {:>8}",
        "", "median", "p99 ms", "requests/write", "idle requests", "CPU ms/write", "anon KB"
    );
    tell("sync watch", &sync(&minio, folder));
    match mirror(&minio) {
        Some(row) => tell("mc mirror --watch", &row),
        None => println!("mc is not installed and is left out"),
    }
    tell("polling", &poll(&minio));
}

fn tell(name: &str, row: &Row) {
    let mut times = row.times.clone();
    let [median, p99] = [50, 99].map(|percent| percentile(&mut times, percent));
    let tenths = row.requests * 10 / ROUNDS;
    println!(
        "{name:<20} {median:>8} {p99:>8} {:>14}.{} {:>14} {:>12} {:>8}",
        tenths / 10,
        tenths % 10,
        row.idle,
        row.cpu / ROUNDS as u64,
        row.anonymous
    );
}

fn fill(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    for n in 0..100 {
        fs::write(folder.join(format!("f{n}")), format!("{n:>1000}")).expect("a file");
    }
}

/// Writes again and again, and looks until `there` says that it is in the store.
fn rounds(pid: u32, proxy: &Proxy, state: &Path, mut there: impl FnMut(&str) -> bool) -> Row {
    let mut times = Vec::new();
    proxy.forget();
    let before = cpu_millis(pid);
    for round in 0..ROUNDS {
        sleep(Duration::from_millis(2000 + (round as u64 * 37) % 500));
        let content = format!("{round:>1000}");
        let start = now();
        fs::write(state.join("new"), &content).expect("a file");
        fs::rename(state.join("new"), state.join("f7")).expect("a file");
        let end = Instant::now() + Duration::from_secs(30);
        while !there(&content) && Instant::now() < end {
            sleep(Duration::from_millis(5));
        }
        times.push((now() - start) / 1_000_000);
    }
    let cpu = cpu_millis(pid) - before;
    let requests = proxy.requests().len();
    proxy.forget();
    sleep(Duration::from_secs(30));
    Row {
        times,
        requests,
        idle: proxy.requests().len(),
        cpu,
        anonymous: memory(pid, "Anonymous"),
    }
}

fn sync(minio: &Store, folder: &Path) -> Row {
    let proxy = Proxy::start(minio.address());
    let volume = World::through(minio, proxy.address(), "mirrored").volume("v");
    fill(&volume.state());
    let watch = Watch::start(&volume, folder);
    let client = Arc::clone(minio.client());
    let etag = |client: &Client| {
        client
            .get("bot-state", "mirrored/state.tar.gz")
            .map(|object| object.bytes)
    };
    let mut last = None;
    while last.is_none() {
        sleep(Duration::from_millis(50));
        last = etag(&client);
    }
    rounds(watch.pid(), &proxy, &volume.state(), |_| {
        let seen = etag(&client);
        let is_new = seen != last;
        last = seen;
        is_new
    })
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mirror(minio: &Store) -> Option<Row> {
    let program = repository().join(".cache/bin/mc");
    if !program.is_file() {
        return None;
    }
    let proxy = Proxy::start(minio.address());
    let dir = tempfile::tempdir().ok()?;
    let state = dir.path().join("state");
    fill(&state);
    minio.client().make_bucket("mirror");
    let mut command = Command::new(program);
    command.arg("--config-dir").arg(dir.path().join("config"));
    command.args(["--quiet", "mirror", "--watch", "--overwrite", "--remove"]);
    command.arg(&state).arg("bench/mirror/state");
    command.env(
        "MC_HOST_bench",
        format!("http://{}@{}", credentials(), proxy.address()),
    );
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mc = Ended(quiet.spawn().ok()?);
    let client = minio.client();
    let end = Instant::now() + Duration::from_secs(60);
    while client.list("mirror", "").len() < 100 && Instant::now() < end {
        sleep(Duration::from_millis(50));
    }
    sleep(Duration::from_secs(2));
    Some(rounds(mc.0.id(), &proxy, &state, |content| {
        let found = client.get("mirror", "state/f7");
        found.is_some_and(|object| object.bytes == content.as_bytes())
    }))
}

fn poll(minio: &Store) -> Row {
    let proxy = Proxy::start(minio.address());
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("state");
    fill(&state);
    minio.client().make_bucket("polled");
    let through = Client::new(proxy.address(), None);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = SystemTime::UNIX_EPOCH;
            while !stop.load(Ordering::SeqCst) {
                last = put_newer(&through, &state, last);
                sleep(Duration::from_secs(1));
            }
        });
        sleep(Duration::from_secs(3));
        let client = minio.client();
        let mut row = rounds(std::process::id(), &proxy, &state, |content| {
            let found = client.get("polled", "state/f7");
            found.is_some_and(|object| object.bytes == content.as_bytes())
        });
        stop.store(true, Ordering::SeqCst);
        // It is a thread of ours, so what it costs cannot be told.
        (row.cpu, row.anonymous) = (0, 0);
        row
    })
}

fn put_newer(client: &Client, state: &Path, since: SystemTime) -> SystemTime {
    let mut newest = since;
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        let Ok(time) = entry.metadata().and_then(|meta| meta.modified()) else {
            continue;
        };
        if time > since {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            client.put(
                "polled",
                &format!("state/{}", entry.file_name().display()),
                &bytes,
            );
            newest = newest.max(time);
        }
    }
    newest
}
