//! `supervisor run` beside the usual inits of containers, each as PID 1 of a PID namespace of its own.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{children, cpu_micros, memory, now, percentile, switches};

const ROUNDS: usize = 200;
const ORPHANS: usize = 5000;

struct Init {
    name: &'static str,
    program: PathBuf,
    options: &'static [&'static str],
}

#[derive(Default)]
struct Row {
    size: u64,
    rss: u64,
    pss: u64,
    anonymous: u64,
    wakeups: u64,
    run_true: Vec<u64>,
    term: Vec<u64>,
    reap_wall: Vec<u64>,
    reap_cpu: Vec<u64>,
}

/// Measures and prints the table.
pub fn compare(folder: &Path) {
    let inits = present(folder);
    let mut rows: Vec<Row> = inits.iter().map(idle).collect();
    for _ in 0..ROUNDS {
        for (init, row) in inits.iter().zip(&mut rows) {
            row.run_true.push(time_of_true(init));
        }
    }
    for _ in 0..10 {
        for (init, row) in inits.iter().zip(&mut rows) {
            row.term.extend(term_latency(init, ROUNDS / 10));
        }
    }
    for _ in 0..3 {
        for (init, row) in inits.iter().zip(&mut rows) {
            let (wall, cpu) = reap(init);
            row.reap_wall.push(wall);
            row.reap_cpu.push(cpu);
        }
    }
    println!(
        "\nAs an init (medians; wakeups in 5 s with nothing to do; reaping of {ORPHANS} orphans at once)\n"
    );
    println!(
        "{:<12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "",
        "size KB",
        "RSS KB",
        "PSS KB",
        "anon KB",
        "wakeups",
        "true us",
        "TERM us",
        "TERM p99",
        "reap ms",
        "reap CPU"
    );
    for (init, row) in inits.iter().zip(&mut rows) {
        println!(
            "{:<12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10.1} {:>10.1} {:>10} {:>10}",
            init.name,
            row.size / 1024,
            row.rss,
            row.pss,
            row.anonymous,
            row.wakeups,
            percentile(&mut row.run_true, 50) / 1000,
            micros(percentile(&mut row.term, 50)),
            micros(percentile(&mut row.term, 99)),
            percentile(&mut row.reap_wall, 50) / 1_000_000,
            percentile(&mut row.reap_cpu, 50) / 1000,
        );
    }
}

#[allow(clippy::cast_precision_loss)] // printed with one decimal
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

fn present(folder: &Path) -> Vec<Init> {
    let on_path = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    };
    let mut inits = vec![Init {
        name: "supervisor",
        program: folder.join("supervisor"),
        options: &["run", "--grace", "1h", "--"],
    }];
    for (name, options) in [
        ("tini-static", &["-s", "--"][..]),
        ("tini", &["-s", "--"]),
        ("dumb-init", &["--single-child", "--"]),
        ("catatonit", &["--"]),
    ] {
        match on_path(name) {
            Some(program) => inits.push(Init {
                name,
                program,
                options,
            }),
            None => println!("{name} is not installed and is left out"),
        }
    }
    inits
}

/// The init as PID 1 of a namespace, with the host's id of it.
struct Running {
    unshare: Child,
    pid: u32,
}

impl Running {
    fn start(init: &Init, command: &[&str], stdin: Stdio, stdout: Stdio) -> Self {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(&init.program);
        let unshare = unshare
            .args(init.options)
            .args(command)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::null());
        let unshare = unshare
            .process_group(0)
            .spawn()
            .expect("start unshare (as root)");
        let pid = wait_until(|| children(unshare.id()).first().copied());
        wait_until(|| children(pid).first().copied());
        Self { unshare, pid }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGKILL);
        let _ = self.unshare.wait();
    }
}

fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited a minute in vain");
        sleep(Duration::from_millis(1));
    }
}

fn idle(init: &Init) -> Row {
    let running = Running::start(init, &["sleep", "1000"], Stdio::null(), Stdio::null());
    sleep(Duration::from_secs(1));
    let before = switches(running.pid);
    sleep(Duration::from_secs(5));
    Row {
        size: fs::metadata(&init.program).map_or(0, |meta| meta.len()),
        rss: memory(running.pid, "Rss"),
        pss: memory(running.pid, "Pss"),
        anonymous: memory(running.pid, "Anonymous"),
        wakeups: switches(running.pid) - before,
        ..Row::default()
    }
}

fn time_of_true(init: &Init) -> u64 {
    let before = now();
    let status = Command::new(&init.program)
        .args(init.options)
        .arg("true")
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{} -- true",
        init.name
    );
    now() - before
}

fn term_latency(init: &Init, rounds: usize) -> Vec<u64> {
    let me = std::env::current_exe().expect("our own path");
    let command = [me.to_str().expect("a path in UTF-8"), "echo-term"];
    let mut running = Running::start(init, &command, Stdio::piped(), Stdio::piped());
    let mut times = running.unshare.stdout.take().expect("a pipe");
    let mut next = || {
        let mut bytes = [0; 8];
        times.read_exact(&mut bytes).expect("a time from the child");
        u64::from_le_bytes(bytes)
    };
    next();
    let one = |_| {
        sleep(Duration::from_millis(2));
        let sent = now();
        kill(Pid::from_raw(running.pid.cast_signed()), Signal::SIGTERM).expect("signal the init");
        next().saturating_sub(sent)
    };
    (0..rounds).map(one).collect()
}

/// Wall time in nanoseconds until none of the orphans is left, and the init's own CPU time in microseconds.
fn reap(init: &Init) -> (u64, u64) {
    let folder = std::env::temp_dir().join(format!("the0-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let fifo = folder.join("fifo");
    let _ = fs::remove_file(&fifo);
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let orphans = "i=0; while [ $i -lt $2 ]; do (read x <$1) & i=$((i+1)); done";
    let script = format!("sh -c '{orphans}' sh $1 $2; exec sleep 1000");
    let count = ORPHANS.to_string();
    let command = [
        "sh",
        "-c",
        &script,
        "sh",
        fifo.to_str().expect("UTF-8"),
        &count,
    ];
    let running = Running::start(init, &command, Stdio::null(), Stdio::null());
    wait_until(|| (children(running.pid).len() > ORPHANS).then_some(()));
    let cpu = cpu_micros(running.pid);
    let before = now();
    wait_until(|| {
        // Again and again: an orphan that had not got to its wait the last time is let go the next.
        let _ = fs::OpenOptions::new()
            .write(true)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
            .open(&fifo);
        (children(running.pid).len() <= 1).then_some(())
    });
    let result = (now() - before, cpu_micros(running.pid) - cpu);
    drop(running);
    let _ = fs::remove_dir_all(&folder);
    result
}
