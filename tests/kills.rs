//! Proofs by many rounds, the same on every store: `sync` is killed at any moment, and nothing is lost, halved or
//! doubled. `THE0_TEST_SECONDS` makes them go on longer.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contract::logs;
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use tests::volume::{Content, LONG, Volume, World, chance, rounds_for};
use tests::{Process, wait_for};

/// Stops those who look at it, also when a test fails.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Print = [u8; 32];

fn print(content: &Content) -> Print {
    let mut hash = Sha256::new();
    for (name, bytes) in content {
        hash.update(format!("{name}\0{}\0", bytes.len()));
        hash.update(bytes);
    }
    hash.finalize().into()
}

/// What changes from state to state beside what stays.
const COUNTER: &str = "n";

fn counter(n: u64) -> Vec<u8> {
    let filling = "x".repeat(usize::try_from(300 * (n % 7)).unwrap());
    format!("{n}-{filling}").into_bytes()
}

fn next(state: &Content, n: u64) -> Content {
    let mut state = state.clone();
    state.insert(COUNTER.into(), counter(n));
    state
}

/// Bytes that do not compress, in files of half a MiB.
fn ballast(mebibytes: usize) -> Content {
    use std::io::Read;
    let mut noise = fs::File::open("/dev/urandom").unwrap();
    let mut file = |n| {
        let mut bytes = vec![0; 1 << 19];
        noise.read_exact(&mut bytes).unwrap();
        (format!("ballast-{n:03}"), bytes)
    };
    (0..2 * mebibytes).map(&mut file).collect()
}

/// What the bot has written so far, and what of it a reader has seen.
#[derive(Default)]
pub struct Written {
    all: Mutex<BTreeSet<Print>>,
    seen: Mutex<BTreeSet<Print>>,
    /// Whether the reader is to end.
    pub over: AtomicBool,
}

impl Written {
    /// The bot is about to write this.
    pub fn add(&self, state: &Content) {
        self.all.lock().unwrap().insert(print(state));
    }

    /// Looks at the object all along: it is always a state of the bot's, and never half of one.
    pub fn poll(&self, volume: &Volume) {
        while !self.over.load(Ordering::Relaxed) {
            if let Some(content) = volume.archive() {
                let found = print(&content);
                let known = self.all.lock().unwrap().contains(&found);
                let names: Vec<_> = content.keys().collect();
                assert!(known, "a state that was never written: {names:?}");
                self.seen.lock().unwrap().insert(found);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Kills `sync watch` at any moment of its pushes and `sync fetch` at any of its own, in a new place each round, while
/// a reader polls the object. What is restored is what was there at the start of the round before or one of the last
/// two states written; and the last one, if that was acknowledged.
pub fn pushes(world: &World, mebibytes: usize, seconds: u64) {
    let written = Written::default();
    let first = world.volume("first");
    let start = ballast(mebibytes);
    written.add(&start);
    first.session(|volume| {
        for (name, bytes) in &start {
            volume.put(name, bytes);
        }
    });
    let end = Instant::now() + rounds_for(seconds);
    let rounds = std::thread::scope(|scope| {
        let reader = scope.spawn(|| written.poll(&first));
        let _stop = Stop(&written.over);
        let mut allowed = vec![start];
        let mut round = 0;
        while (Instant::now() < end || round < 3) && !reader.is_finished() {
            round += 1;
            allowed = one_round(world, &written, round, &allowed);
        }
        round
    });
    let seen = written.seen.lock().unwrap().len();
    eprintln!("{rounds} rounds of killed pushes, {seen} states seen by the reader");
    assert!(seen > 1);
}

/// One round; gives the states of which the next one restores one.
fn one_round(world: &World, written: &Written, round: u64, allowed: &[Content]) -> Vec<Content> {
    let volume = world.volume("moved");
    if chance(3) == 0 {
        let fetch = Process::start(volume.command("fetch").stderr(std::process::Stdio::null()));
        std::thread::sleep(Duration::from_millis(chance(60)));
        kill(fetch);
    }
    volume.fetched();
    let found = volume.on_disk();
    let which = allowed.iter().position(|state| *state == found);
    assert!(
        which.is_some(),
        "restored {:?} in round {round}",
        found.get(COUNTER)
    );

    let new = next(&found, round);
    written.add(&new);
    let mut watch = volume.watch();
    volume.put(COUNTER, &new[COUNTER]);
    if chance(2) == 0 || found.len() > 2 {
        volume.end_run(round);
    }
    for _ in 0..chance(2) {
        std::thread::sleep(Duration::from_millis(chance(60)));
        kill(watch);
        watch = volume.watch();
    }
    let acknowledged = chance(3) == 0;
    if acknowledged {
        volume.acknowledged(round);
    } else {
        let longest = if found.len() > 2 { 800 } else { 80 };
        std::thread::sleep(Duration::from_millis(chance(longest)));
    }
    kill(watch);
    fs::remove_dir_all(&volume.root).unwrap();
    if acknowledged {
        return vec![new];
    }
    // What was under way when its writer was killed may land later than that.
    let mut next = vec![found, new];
    next.extend(allowed.last().cloned());
    next
}

fn kill(process: Process) {
    let _ = nix::sys::signal::kill(process.pid(), Signal::SIGKILL);
    drop(process);
}

/// Kills `sync fetch` at any moment: what is on the disk is then the old state or the new one, whole.
pub fn restores(world: &World, seconds: u64) {
    let (one, two) = (world.volume("one"), world.volume("two"));
    let files = |n: u64| -> Content {
        let file = |i: u64| (format!("d{}/f{i}", i % 5), format!("{n}-{i}").into_bytes());
        let folders = (0..5).map(|i| (format!("d{i}/"), Vec::new()));
        (0..40).map(file).chain(folders).collect()
    };
    let absent = two
        .clone()
        .without_store()
        .with("THE0_FETCH_DEADLINE", "1ms");
    let end = Instant::now() + rounds_for(seconds);
    let (mut n, mut old, mut new) = (0, 0, 0);
    let mut before = Content::new();
    // How long a restore takes here.
    let mut span = 60;
    while Instant::now() < end || n < 3 {
        n += 1;
        one.session(|one| {
            for (name, content) in files(n).iter().filter(|(name, _)| !name.ends_with('/')) {
                one.put(name, content);
            }
        });
        for _ in 0..4 {
            let fetch = Process::start(two.command("fetch").stderr(std::process::Stdio::null()));
            std::thread::sleep(Duration::from_millis(chance(span)));
            kill(fetch);
            // Without a store only what was decided is finished.
            absent.fetch();
            match two.on_disk() {
                found if found == files(n) => new += 1,
                found if found == before => old += 1,
                found => panic!("half a restore: {found:?}"),
            }
        }
        let started = Instant::now();
        two.fetched();
        let took = u64::try_from(started.elapsed().as_millis()).unwrap();
        span = span.midpoint(took) + 2;
        assert_eq!(two.on_disk(), files(n));
        before = files(n);
    }
    eprintln!("{n} rounds of killed restores, {old} times the old state, {new} times the new one");
}

/// Appends log lines as the supervisor does, in segments.
struct LogWriter {
    folder: PathBuf,
    segment: u64,
    lines: u64,
}

impl LogWriter {
    fn line(&mut self) {
        let n = self.lines;
        self.lines += 1;
        let day = if n < 400 { "20" } else { "21" };
        let end = if n % 50 == 49 && day == "20" {
            "\n2026-11-20T09:00:00.000000Z   \n"
        } else {
            "\n"
        };
        let line = format!("2026-11-{day}T08:00:00.{n:06}Z line {n}{end}");
        let path = self.folder.join(logs::segment_name(self.segment));
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        file.unwrap().write_all(line.as_bytes()).unwrap();
        if n % 40 == 39 {
            self.segment += 1;
        }
    }
}

/// Kills `sync watch` at any moment while lines of two days come: each is in its day's object once.
pub fn log_lines(world: &World) {
    let volume = world.volume("one");
    volume.fetched();
    let folder = volume.var("logs");
    fs::create_dir_all(&folder).unwrap();
    let mut writer = LogWriter {
        folder: folder.clone(),
        segment: 1,
        lines: 0,
    };
    let mut rounds = 0;
    while writer.lines < 900 {
        let watch = volume.watch();
        for _ in 0..=chance(30) {
            writer.line();
        }
        rounds += 1;
        volume.end_run(rounds);
        std::thread::sleep(Duration::from_millis(chance(80)));
        kill(watch);
    }
    volume.end_run(rounds + 1);
    let mut watch = volume.watch();
    wait_for("the last pass", LONG, || {
        volume.synced().filter(|synced| synced.run == rounds + 1)
    });
    watch.signal(Signal::SIGTERM);
    assert_eq!(watch.code(LONG), 0);

    let expected = |range: std::ops::Range<u64>, day: &str| -> String {
        let time = |n| format!("2026-11-{day}T08:00:00.{n:06}Z");
        let line = |n| {
            format!(
                "{{\"timestamp\":\"{}\",\"message\":\"line {n}\"}}\n",
                time(n)
            )
        };
        range.map(line).collect()
    };
    assert_eq!(volume.day("20261120"), expected(0..400, "20"));
    assert_eq!(volume.day("20261121"), expected(400..writer.lines, "21"));
    // Shipped and closed: gone.
    assert!(logs::segments(&folder).unwrap().len() <= 1);
    eprintln!("{rounds} rounds of killed log shipping");
}
