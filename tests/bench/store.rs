//! What it costs to keep a state in a store: a folder, and MinIO on this machine behind a proxy that counts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::servers::{Minio, Proxy};
use tests::volume::{Volume, World};

use crate::process::{cpu_millis, memory, now, percentile};

const ROUNDS: usize = 100;

/// Measures how soon a write is safe.
pub fn durable(folder: &Path) {
    let minio = Minio::start();
    println!(
        "\nA quiet write (64 bytes) until `sync` says that it is in the store, ms, of {ROUNDS} writes\n"
    );
    println!("{:<10} {:>8} {:>8} {:>8}", "", "median", "p99", "most");
    std::thread::scope(|scope| {
        scope.spawn(|| quiet("folder", &World::new(), folder));
        if let Some(minio) = &minio {
            scope.spawn(|| quiet("MinIO", &World::on(minio, "quiet"), folder));
        }
    });
}

/// Measures what a push costs.
pub fn pushes(folder: &Path) {
    let minio = Minio::start();
    println!(
        "\nA push of everything, then of one file that grew by 20 KiB, at the end of the run; into the folder, out \
         is all that was written\n"
    );
    let columns = [
        "files",
        "MiB",
        "all ms",
        "CPU ms",
        "MiB out",
        "requests",
        "one ms",
        "CPU ms",
        "KiB out",
        "requests",
        "anon KB",
        "RSS KB",
        "idle anon",
    ];
    print!("{:<8}", "");
    for column in columns {
        print!(" {column:>9}");
    }
    println!();
    let trees = [
        (10, 1 << 20),
        (1000, 1 << 20),
        (1000, 100 << 20),
        (100_000, 50 << 20),
        (1000, 1 << 30),
        (1, 1 << 30),
    ];
    for (files, bytes) in trees {
        cost("folder", &World::new(), None, folder, files, bytes);
        if let Some(minio) = &minio {
            let proxy = Proxy::start(minio.address());
            let bot = format!("push{files}-{}", bytes >> 20);
            let world = World::through(minio, proxy.address(), &bot);
            cost("MinIO", &world, Some(&proxy), folder, files, bytes);
        }
    }
}

/// `sync watch` of the binaries being measured, ended at its last push.
pub struct Watch {
    child: Child,
    synced: PathBuf,
}

impl Watch {
    pub fn start(volume: &Volume, folder: &Path) -> Self {
        let run = |verb: &str| {
            let mut command = Command::new(folder.join("sync"));
            command
                .arg(verb)
                .env_clear()
                .envs(volume.variables())
                .env("LOG_LEVEL", "error");
            command.stdin(Stdio::null());
            command
        };
        let status = run("fetch").status().expect("sync is built");
        assert!(status.success(), "sync fetch");
        Self {
            child: run("watch").spawn().expect("sync is built"),
            synced: volume.var("synced.json"),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn stamp(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(&self.synced).ok().map(|meta| meta.ino())
    }

    /// Waits until what is saved is told anew.
    fn wait_after(&self, before: Option<u64>) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.stamp() == before && Instant::now() < end {
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn quiet(name: &str, world: &World, folder: &Path) {
    let volume = world.volume("v");
    volume.put("count", "0");
    let watch = Watch::start(&volume, folder);
    watch.wait_after(None);
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        // Past the pause after the last push, at another phase of the scan each time.
        sleep(Duration::from_millis(1500 + (round as u64 * 37) % 500));
        let before = watch.stamp();
        let start = now();
        volume.put("count", format!("{round:>64}"));
        watch.wait_after(before);
        times.push((now() - start) / 1_000_000);
    }
    let [median, p99, most] = [50, 99, 100].map(|percent| percentile(&mut times, percent));
    println!("{name:<10} {median:>8} {p99:>8} {most:>8}");
}

/// One push, as it is seen from outside.
#[derive(Default)]
struct Push {
    wall: u64,
    cpu: u64,
    out: u64,
    requests: usize,
    anonymous: u64,
    peak: u64,
}

fn cost(
    name: &str,
    world: &World,
    proxy: Option<&Proxy>,
    folder: &Path,
    files: usize,
    bytes: usize,
) {
    let volume = world.volume("v");
    grow(&volume.state(), files, bytes);
    let watch = Watch::start(&volume, folder);
    let all = push(&watch, proxy, |watch| watch.stamp().is_some());
    sleep(Duration::from_secs(1));
    let idle = memory(watch.pid(), "Anonymous");
    append(&volume.state().join("d0/f0"));
    // At the end of a run nothing waits for the pause that follows a push.
    volume.end_run(1);
    let saved = |_: &Watch| volume.synced().is_some_and(|synced| synced.run == 1);
    let one = push(&watch, proxy, saved);
    let row = [
        files as u64,
        (bytes >> 20) as u64,
        all.wall,
        all.cpu,
        all.out >> 20,
        all.requests as u64,
        one.wall,
        one.cpu,
        one.out >> 10,
        one.requests as u64,
        all.anonymous.max(one.anonymous),
        all.peak.max(one.peak),
        idle,
    ];
    print!("{name:<8}");
    for value in row {
        print!(" {value:>9}");
    }
    println!();
}

/// Looks at a push until `is_over`.
fn push(watch: &Watch, proxy: Option<&Proxy>, is_over: impl Fn(&Watch) -> bool) -> Push {
    if let Some(proxy) = proxy {
        proxy.forget();
    }
    let pid = watch.pid();
    let (start, cpu, before) = (now(), cpu_millis(pid), written(pid));
    let mut push = Push::default();
    let end = Instant::now() + Duration::from_secs(600);
    while !is_over(watch) && Instant::now() < end {
        push.anonymous = push.anonymous.max(memory(pid, "Anonymous"));
        push.peak = push.peak.max(peak(pid));
        push.out = push.out.max(written(pid).saturating_sub(before));
        sleep(Duration::from_millis(5));
    }
    push.wall = (now() - start) / 1_000_000;
    push.cpu = cpu_millis(pid) - cpu;
    if let Some(proxy) = proxy {
        let requests = proxy.requests();
        push.requests = requests.len();
        push.out = requests.iter().map(|request| request.length as u64).sum();
    }
    push
}

/// Bytes that the process has handed to `write`.
fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let row = text.lines().find_map(|row| row.strip_prefix("wchar: "));
    row.and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn peak(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let row = text.lines().find_map(|row| row.strip_prefix("VmHWM:"));
    row.and_then(|row| row.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn append(path: &Path) {
    let file = fs::OpenOptions::new().append(true).open(path);
    let more = vec![b'y'; 20 << 10];
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, &more));
    written.expect("a file of the state");
}

/// Files of the same size, a thousand in a folder, of bytes that do not compress.
fn grow(state: &Path, files: usize, bytes: usize) {
    let mut noise = vec![0u8; 1 << 20];
    let mut x = 88_172_645_463_325_252u64;
    for at in 0..files {
        let path = state.join(format!("d{}/f{at}", at / 1000));
        if at % 1000 == 0 {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        }
        let mut file = fs::File::create(path).expect("a file");
        let mut rest = bytes / files;
        while rest > 0 {
            let part = rest.min(noise.len());
            for chunk in noise[..part].chunks_mut(8) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                let random = x.to_le_bytes();
                chunk.copy_from_slice(&random[..chunk.len()]);
            }
            std::io::Write::write_all(&mut file, &noise[..part]).expect("room");
            rest -= part;
        }
    }
}
