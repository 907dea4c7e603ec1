//! A Docker daemon of the test's own, for tests that stop and kill it.
//!
//! It shares nothing with the machine's: data, sockets, containerd and bridge are its own, and it leaves iptables alone
//! (a second daemon would take away the chains of the first). So its containers reach the host, and nobody else.
//!
//! As with the servers of [`crate::servers`], a small shell guards it and ends it when the test has ended, however that
//! came; its containers, its bridge and its folder go with it.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::Docker;
use crate::{is_alive, read, run, skip, text, wait_for};

const START: Duration = Duration::from_secs(30);

/// `$0` is the folder, `$1` the bridge, the rest the command. A line on the standard input starts the daemon; at the
/// end of the input what is left of it goes: itself, its containerd and shims, its mounts, bridge and folder.
const GUARD: &str = r#"bridge=$1; shift
while read -r word; do
  "$@" >>"$0/log" 2>&1 </dev/null &
  server=$!
  echo $server
done
kill -9 $server
wait $server 2>/dev/null
for process in /proc/[0-9]*; do
  case $(readlink "$process/exe") in */containerd*) ;; *) continue ;; esac
  grep -q "$0/" "$process/cmdline" && kill -9 "${process#/proc/}"
done
grep -o " $0/[^ ]*" /proc/mounts | sort -r | while read -r mount; do umount -l "$mount"; done
ip link delete "$bridge"
rm -rf "$0""#;

/// The daemon.
#[derive(Debug)]
pub struct Daemon {
    docker: Docker,
    gateway: IpAddr,
    folder: String,
    guard: Option<Child>,
    said: BufReader<std::process::ChildStdout>,
    pid: i32,
}

impl Daemon {
    /// One with further `options` of dockerd's (`--live-restore`); `None` where that cannot be, which has been said.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(test: &str, options: &[&str]) -> Option<Self> {
        if !geteuid().is_root()
            || !run(Command::new("sh").args(["-c", "command -v dockerd ip"]))
                .status
                .success()
        {
            skip(
                test,
                "a Docker daemon of one's own needs root, dockerd and ip",
            );
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("the0-dockerd-")
            .tempdir_in("/var/tmp");
        let folder = folder
            .expect("a folder for a daemon")
            .keep()
            .to_string_lossy()
            .into_owned();
        let docker = Docker::at(Some(format!("unix://{folder}/socket")));
        let (bridge, gateway) = make_bridge();
        let mut guard = guard(&folder, &bridge, options);
        let said = BufReader::new(guard.stdout.take().expect("a pipe"));
        let mut daemon = Self {
            docker,
            gateway,
            folder,
            guard: Some(guard),
            said,
            pid: 0,
        };
        daemon.start_again();
        Some(daemon)
    }

    /// The client of it.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Another client of it, with a token of its own.
    pub fn client(&self) -> Docker {
        Docker::at(self.docker.host.clone())
    }

    /// Where its containers reach the host.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Its address as `DOCKER_HOST` takes it.
    pub fn host(&self) -> &str {
        self.docker.host().unwrap_or_default()
    }

    /// Gives it an image that another daemon has.
    ///
    /// # Panics
    /// When that fails.
    pub fn load(&self, from: &Docker, image: &str) {
        let mut save = from
            .command()
            .args(["save", image])
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker save");
        let mut load = self.docker.command();
        load.arg("load")
            .stdin(save.stdout.take().expect("a pipe"))
            .stdout(Stdio::null());
        assert!(
            load.status().expect("docker load").success(),
            "load {image}"
        );
        assert!(save.wait().expect("docker save").success(), "save {image}");
    }

    /// Ends it, by TERM as on a shutdown or by KILL as in a crash, and waits until it is gone.
    ///
    /// # Panics
    /// When it stays.
    pub fn stop(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("a running daemon");
        let containerd = self.at("exec/containerd/containerd.pid");
        let pids = [
            Some(self.pid),
            read(containerd.as_ref()).trim().parse().ok(),
        ];
        wait_for("the end of dockerd and its containerd", START, || {
            let ended = |pid: &i32| !is_alive(*pid);
            pids.iter().flatten().all(ended).then_some(())
        });
        // One that nobody has waited for yet would be taken for running.
        for left in [containerd, self.at("pid")] {
            let _ = std::fs::remove_file(left);
        }
    }

    /// Lets it read its file of settings again.
    ///
    /// # Panics
    /// When it does not run.
    pub fn reload(&self) {
        kill(Pid::from_raw(self.pid), Signal::SIGHUP).expect("a running daemon");
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// Starts it where it is not running, on what it had.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        let stdin = self.guard.as_mut().and_then(|guard| guard.stdin.as_mut());
        stdin
            .expect("a guard")
            .write_all(b"start\n")
            .expect("a guard that listens");
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a process id");
        self.pid = line.trim().parse().expect("a process id");
        let log = self.at("log");
        wait_for("a Docker daemon of the test's own", START, || {
            assert!(is_alive(self.pid), "dockerd ended:\n{}", read(log.as_ref()));
            self.docker.answers().then_some(())
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let ids = text(&self.docker.output(["ps", "--all", "--quiet"]).stdout);
        if !ids.is_empty() {
            let remove = ["rm", "--force", "--volumes"];
            self.docker
                .output(remove.into_iter().chain(ids.split_whitespace()));
        }
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
        let end = Instant::now() + START;
        while is_alive(self.pid) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

fn guard(folder: &str, bridge: &str, options: &[&str]) -> Child {
    let at = |name: &str| format!("{folder}/{name}");
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(GUARD)
        .args([folder, bridge, "dockerd"]);
    command.args(["--bridge", bridge, "--iptables=false", "--ip-masq=false"]);
    command.args([
        "--data-root",
        &at("data"),
        "--exec-root",
        &at("exec"),
        "--pidfile",
        &at("pid"),
    ]);
    command
        .args(["--host", &format!("unix://{}", at("socket"))])
        .args(options);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.process_group(0).spawn().expect("a shell")
}

/// A bridge with a network of its own, out of those that nobody else here uses.
fn make_bridge() -> (String, IpAddr) {
    let ip = |words: &str| {
        run(Command::new("ip").args(words.split(' ')))
            .status
            .success()
    };
    for third in 100..200u8 {
        let (name, gateway) = (format!("t0-br{third}"), IpAddr::from([10, 213, third, 1]));
        if !ip(&format!("link add {name} type bridge")) {
            continue;
        }
        if ip(&format!("address add {gateway}/24 dev {name}")) && ip(&format!("link set {name} up"))
        {
            return (name, gateway);
        }
        ip(&format!("link delete {name}"));
    }
    panic!("no bridge can be made for a Docker daemon")
}
