//! Real servers for the tests, each on a free port of the loopback with its data in a folder of its own, gone when
//! the test has ended however it ended. Where a program is not installed (`tests/setup/servers.sh` does it), the test
//! is skipped aloud.
//!
//! A server is the child of a small shell, its guard, which waits for the end of its standard input: the pipe ends
//! with the test, also when that is killed, and then the guard kills the server and removes its folder.

pub mod client;
pub mod faults;
pub mod mongo;
pub mod nats;
mod tls;
mod toxic;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use client::{Client, Object};
pub use faults::{Fault, Proxy, Request};
pub use toxic::{Link, Toxic};

use crate::{is_alive, repository, skip};

/// The keys every server is started with.
pub const ACCESS_KEY: &str = "the0-test-access";
/// See [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "the0-test-secret-key";
/// The platform's buckets by their default names, made at the start of each store: code, state, logs.
pub const BUCKETS: [&str; 3] = ["custom-bots", "bot-state", "bot-logs"];

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const START: Duration = Duration::from_secs(30);

/// MinIO, the store of the platform.
#[derive(Debug)]
pub struct Minio;

/// The Versity gateway, the other store.
#[derive(Debug)]
pub struct Versity;

impl Minio {
    /// A MinIO of the caller's own; `None` when it is not installed, which has been said.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Option<Store> {
        Self::start_at(LOOPBACK)
    }

    /// The same on another address of this machine: one that containers reach, say.
    ///
    /// # Panics
    /// As [`Minio::start`].
    pub fn start_at(host: IpAddr) -> Option<Store> {
        Store::start("minio", host, Tls::Off, minio)
    }

    /// One with a certificate of a private CA, for `127.0.0.1` and `localhost`.
    ///
    /// # Panics
    /// As [`Minio::start`].
    pub fn start_with_tls() -> Option<Store> {
        Store::start("minio", LOOPBACK, Tls::On, minio)
    }

    /// The one that all tests of this binary share: take a bot id of your own, and leave the server running.
    ///
    /// # Panics
    /// As [`Minio::start`].
    pub fn shared() -> Option<&'static Store> {
        static SHARED: LazyLock<Option<Store>> =
            LazyLock::new(|| program("minio").and_then(|_| Minio::start()));
        installed("minio").and(SHARED.as_ref())
    }
}

impl Versity {
    /// A gateway of the caller's own over a folder; `None` when it is not installed, which has been said.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Option<Store> {
        Store::start("versitygw", LOOPBACK, Tls::Off, versity)
    }

    /// The one that all tests of this binary share.
    ///
    /// # Panics
    /// As [`Versity::start`].
    pub fn shared() -> Option<&'static Store> {
        static SHARED: LazyLock<Option<Store>> =
            LazyLock::new(|| program("versitygw").and_then(|_| Versity::start()));
        installed("versitygw").and(SHARED.as_ref())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Off,
    On,
}

/// Arguments and environment of a server that listens on `address` and keeps everything in `root`.
type Recipe = fn(root: &Path, address: &str) -> Vec<OsString>;

fn minio(root: &Path, address: &str) -> Vec<OsString> {
    let words = ["server", "--quiet", "--address", address, "--certs-dir"];
    let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
    words.extend([root.join("certs").into(), root.join("data").into()]);
    words
}

fn versity(root: &Path, address: &str) -> Vec<OsString> {
    let words = ["--quiet", "--port", address, "posix"];
    let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
    words.push(root.join("data").into());
    words
}

/// A running object store.
#[derive(Debug)]
pub struct Store {
    server: Server,
    ca: Option<PathBuf>,
    client: OnceLock<Arc<Client>>,
}

impl Store {
    fn start(name: &str, host: IpAddr, tls: Tls, recipe: Recipe) -> Option<Self> {
        let program = installed(name)?;
        for _ in 0..3 {
            let mut store = Self::prepare(&program, host, tls, recipe);
            store.server.run();
            if store.answers() {
                for bucket in BUCKETS {
                    store.client().make_bucket(bucket);
                }
                return Some(store);
            }
        }
        panic!("{name} does not come up; its last words are above")
    }

    fn prepare(program: &Path, host: IpAddr, tls: Tls, recipe: Recipe) -> Self {
        let root = new_root();
        for folder in ["data", "certs"] {
            std::fs::create_dir(root.join(folder)).expect("a folder of the server");
        }
        let ca = (tls == Tls::On).then(|| tls::write(&root.join("certs")));
        let address = format!("{host}:{}", free_port_at(host));
        let mut command = vec![OsString::from(program)];
        command.extend(recipe(&root, &address));
        let server = Server {
            root,
            address,
            command,
            guard: None,
        };
        Self {
            server,
            ca,
            client: OnceLock::new(),
        }
    }

    /// Waits until it answers; `false` when it has ended instead, as it does when somebody took its port.
    fn answers(&self) -> bool {
        let end = Instant::now() + START;
        while is_alive(self.pid()) && Instant::now() < end {
            if self.client().answers() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{}", crate::read(&self.server.root.join("log")));
        false
    }

    /// Host and port it listens on.
    pub fn address(&self) -> &str {
        &self.server.address
    }

    /// Its process id, while it runs.
    ///
    /// # Panics
    /// While it is stopped.
    pub fn pid(&self) -> i32 {
        self.server.guard.as_ref().expect("a running server").server
    }

    /// The folder it keeps everything in: `data` below is what it stores.
    pub fn root(&self) -> &Path {
        &self.server.root
    }

    /// The certificate of the CA that signed its own, in PEM; with TLS only.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The variables by which the programs of ours find it, keys included.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.environment_at(self.address())
    }

    /// The same, reached at another address: a proxy in between, a name.
    pub fn environment_at(&self, address: &str) -> Vec<(String, String)> {
        let mut variables = vec![
            ("MINIO_ENDPOINT", address.to_owned()),
            ("MINIO_USE_SSL", self.ca.is_some().to_string()),
            ("MINIO_ACCESS_KEY", ACCESS_KEY.to_owned()),
            ("MINIO_SECRET_KEY", SECRET_KEY.to_owned()),
        ];
        if let Some(ca) = &self.ca {
            variables.push(("THE0_CA_FILE", ca.to_string_lossy().into_owned()));
        }
        let owned = variables.into_iter().map(|(n, v)| (n.to_owned(), v));
        owned.collect()
    }

    /// The independent client.
    pub fn client(&self) -> &Arc<Client> {
        self.client
            .get_or_init(|| Arc::new(Client::new(self.address(), self.ca())))
    }

    /// How many multipart uploads MinIO has begun and neither completed nor ended, by what lies on its disk.
    pub fn unfinished_uploads(&self) -> usize {
        let folders = |path: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        let objects = folders(&self.server.root.join("data/.minio.sys/multipart"));
        objects.iter().map(|object| folders(object).len()).sum()
    }

    /// Kills it. Its data and its port stay for [`Store::start_again`].
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Starts it again where it was, on what it had.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        self.server.run();
        assert!(self.answers(), "the store does not come up again");
    }

    /// Stops it where it stands: connections are accepted and nothing answers.
    ///
    /// # Panics
    /// When it is gone.
    pub fn freeze(&self) {
        freeze(self.pid());
    }

    /// Lets it go on after [`Store::freeze`].
    ///
    /// # Panics
    /// When it is gone.
    pub fn thaw(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGCONT).expect("continue the server");
    }
}

/// Stops all threads of a process, and returns when they have: the signal alone reaches them in a moment.
///
/// # Panics
/// When it is gone.
pub(crate) fn freeze(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("stop the server");
    let is_still = |task: &Path| {
        let stat = crate::read(&task.join("stat"));
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('T'))
    };
    crate::wait_for("a server that stands still", START, || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        let mut tasks = tasks.filter_map(Result::ok);
        tasks.all(|task| is_still(&task.path())).then_some(())
    });
}

/// A program under its guard.
#[derive(Debug)]
pub(crate) struct Server {
    root: PathBuf,
    address: String,
    command: Vec<OsString>,
    guard: Option<Guard>,
}

#[derive(Debug)]
struct Guard {
    shell: Child,
    server: i32,
}

/// `$0` is the folder, the rest the command. Any word but `keep` on the standard input removes the folder too.
const GUARD: &str = r#""$@" >>"$0/log" 2>&1 </dev/null &
server=$!
echo $server
read -r word
kill -9 $server
wait $server 2>/dev/null
[ "$word" = keep ] || rm -rf "$0""#;

impl Server {
    fn run(&mut self) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARD).arg(&self.root);
        command.args(&self.command).env_clear().process_group(0);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.root).envs([
            ("MINIO_ROOT_USER", ACCESS_KEY),
            ("MINIO_ROOT_PASSWORD", SECRET_KEY),
            ("MINIO_BROWSER", "off"),
            ("MINIO_UPDATE", "off"),
            ("ROOT_ACCESS_KEY", ACCESS_KEY),
            ("ROOT_SECRET_KEY", SECRET_KEY),
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.stderr(Stdio::null()).spawn().expect("a shell");
        let mut said = BufReader::new(shell.stdout.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).expect("the server's process id");
        let server = line.trim().parse().expect("a process id");
        self.guard = Some(Guard { shell, server });
    }

    fn stop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            if let Some(mut stdin) = guard.shell.stdin.take() {
                let _ = stdin.write_all(b"keep\n");
            }
            let _ = guard.shell.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.shell.stdin.take());
            let _ = guard.shell.wait();
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn new_root() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("the0-server-").tempdir();
    folder.expect("a folder for a server").keep()
}

/// A port of the loopback that was free a moment ago.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    free_port_at(LOOPBACK)
}

fn free_port_at(host: IpAddr) -> u16 {
    let listener = TcpListener::bind((host, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Where the program lies: in the cache, or on PATH.
pub fn program(name: &str) -> Option<PathBuf> {
    let own = repository().join(".cache/bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path).map(|folder| folder.join(name));
    std::iter::once(own)
        .chain(others)
        .find(|path| path.is_file())
}

/// The program, or nothing and a word about the test that is skipped.
fn installed(name: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        let thread = std::thread::current();
        let why = format!("{name} is not installed: run tests/setup/servers.sh");
        skip(thread.name().unwrap_or("a test"), &why);
    }
    found
}
