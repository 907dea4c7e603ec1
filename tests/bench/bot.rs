//! The contract's run of a bot: what the three programs weigh together, and how soon a crashed bot is back.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{children, memory, name, percentile, switches};

/// Measures and prints.
pub fn measure(folder: &Path) {
    weigh(folder);
    come_back(folder);
}

/// A supervised bot with folders of its own.
pub struct Run {
    root: tempfile::TempDir,
    supervisor: std::process::Child,
}

impl Run {
    fn start(folder: &Path, config: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::on(folder, config, &[], prepare)
    }

    /// The same, with the store that `environment` names instead of a folder, if it does.
    pub fn on(
        folder: &Path,
        config: &str,
        environment: &[(String, String)],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        for part in ["code", "state", "var", "store"] {
            fs::create_dir(root.path().join(part)).expect("a folder");
        }
        prepare(&root.path().join("code"));
        let path = |part: &str| root.path().join(part);
        let mut command = Command::new(folder.join("supervisor"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("BOT_ID", "bench")
            .env("RUNTIME", "gcc13")
            .env("ENTRYPOINT", "bot")
            .env("QUERY_ENTRYPOINT", "questions")
            .env("BOT_TYPE", "realtime")
            .env(
                "BOT_CONFIG",
                config.replace("ROOT", &root.path().to_string_lossy()),
            )
            .env("CODE_PATH", path("code"))
            .env("STATE_PATH", path("state"))
            .env("THE0_VAR_PATH", path("var"))
            .envs(environment.iter().cloned())
            .env("THE0_QUERY_LISTEN", "127.0.0.1:0")
            .env("LOG_LEVEL", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if environment.is_empty() {
            command.env("THE0_STORE", path("store"));
        }
        let supervisor = command.spawn().expect("start supervisor");
        Self { root, supervisor }
    }

    /// The supervisor's process id.
    pub fn pid(&self) -> u32 {
        self.supervisor.id()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = kill(
            Pid::from_raw(self.supervisor.id().cast_signed()),
            Signal::SIGTERM,
        );
        let end = Instant::now() + Duration::from_secs(30);
        while matches!(self.supervisor.try_wait(), Ok(None)) && Instant::now() < end {
            sleep(Duration::from_millis(5));
        }
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

/// Writes a program.
pub fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).expect("write a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("make it executable");
}

fn weigh(folder: &Path) {
    let run = Run::start(folder, "{}", |code| {
        script(
            &code.join("bot"),
            "#!/bin/sh\nmkdir -p $STATE_DIR && echo 1 > $STATE_DIR/count\nexec sleep 1000\n",
        );
        script(&code.join("questions"), "#!/bin/sh\nexec sleep 1000\n");
    });
    let end = Instant::now() + Duration::from_secs(20);
    while !run
        .root
        .path()
        .join("store/bot-state/bench/state.tar.gz")
        .exists()
        && Instant::now() < end
    {
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_secs(3));
    let mut ours = vec![run.supervisor.id()];
    ours.extend(
        children(run.supervisor.id())
            .into_iter()
            .filter(|pid| ["sync", "query"].contains(&name(*pid).as_str())),
    );
    let before: Vec<_> = ours.iter().map(|pid| switches(*pid)).collect();
    sleep(Duration::from_secs(5));
    println!("\nBeside one bot with nothing to do (KB; wakeups in 5 s)\n");
    println!(
        "{:<12} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "size", "RSS", "PSS", "anon", "wakeups"
    );
    let mut sum = [0; 4];
    for (pid, before) in ours.iter().zip(before) {
        let size = fs::metadata(folder.join(name(*pid))).map_or(0, |meta| meta.len() / 1024);
        let row = [
            size,
            memory(*pid, "Rss"),
            memory(*pid, "Pss"),
            memory(*pid, "Anonymous"),
        ];
        sum.iter_mut()
            .zip(row)
            .for_each(|(sum, value)| *sum += value);
        let [size, rss, pss, anon] = row;
        println!(
            "{:<12} {size:>8} {rss:>8} {pss:>8} {anon:>8} {:>8}",
            name(*pid),
            switches(*pid) - before
        );
    }
    let [size, rss, pss, anon] = sum;
    println!("{:<12} {size:>8} {rss:>8} {pss:>8} {anon:>8}", "together");
}

fn come_back(folder: &Path) {
    let me = std::env::current_exe().expect("our own path");
    let mut gaps: Vec<u64> = (0..15).map(|_| gap(folder, &me)).collect();
    println!(
        "\nLast act of a crashed bot -> first act of the next: {:.1} ms median, {:.1} ms at most, of {} crashes",
        millis(percentile(&mut gaps, 50)),
        millis(percentile(&mut gaps, 100)),
        gaps.len()
    );
}

#[allow(clippy::cast_precision_loss)] // printed with one decimal
fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn gap(folder: &Path, me: &Path) -> u64 {
    let run = Run::start(folder, r#"{"crash_into":"ROOT/times"}"#, |code| {
        fs::copy(me, code.join("bot")).expect("copy the bot");
        script(&code.join("questions"), "#!/bin/sh\nexec sleep 1000\n");
    });
    let times = run.root.path().join("times");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let text = fs::read_to_string(&times).unwrap_or_default();
        let stamps: Vec<u64> = text
            .lines()
            .filter_map(|row| row.split(' ').nth(1)?.parse().ok())
            .collect();
        if let [_, ended, started] = stamps[..] {
            return started - ended;
        }
        assert!(Instant::now() < end, "the bot did not come back");
        sleep(Duration::from_millis(5));
    }
}
