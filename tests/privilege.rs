//! Keys of the platform stay out of a bot's reach, though it runs under the same user as those who hold them.
//!
//! The binaries are installed as in an image: owned by root, mode 0711. A hostile bot looks for a dummy key wherever
//! a process of its user can look; a negative control leaks the same key and shows that the search would find it.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use contract::Paths;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use tests::{Process, bin, read, run, skip, text, wait_for};

const USER: u32 = 1000;
const LATE: Duration = Duration::from_secs(60);

/// Looks in its environment, descriptors and disk, in `/proc` of every process it finds, and tries to kill and
/// to trace `sync`. The key comes as hex, so that looking for it is no leak of it.
const HOSTILE: &str = r"#!/usr/bin/python3
import ctypes, errno, json, os, sys, time
config = json.loads(os.environ['BOT_CONFIG'])
key = bytes.fromhex(config['hex'])
found, looked, denied = [], {'processes': 0, 'files': 0, 'bytes': 0}, []

def look(where, data):
    looked['bytes'] += len(data)
    if key in data:
        found.append(where)

def whole(path, limit=64 << 20):
    with open(path, 'rb', buffering=0) as file:
        return file.read(limit)

def memory(pid):
    for row in whole(f'/proc/{pid}/maps').decode(errors='replace').splitlines():
        span, rights = row.split()[:2]
        if 'r' not in rights or '[v' in row:
            continue
        start, end = (int(x, 16) for x in span.split('-'))
        try:
            with open(f'/proc/{pid}/mem', 'rb', buffering=0) as mem:
                mem.seek(start)
                while start < end:
                    data = mem.read(min(end - start, 1 << 20))
                    if not data:
                        break
                    look(f'mem of {pid} {name(pid)}', data)
                    start += len(data)
        except (OSError, ValueError, OverflowError):
            pass

def name(pid):
    try:
        return whole(f'/proc/{pid}/comm').decode().strip()
    except OSError:
        return '?'

for n, v in os.environ.items():
    look('own environment', f'{n}={v}'.encode())
for fd in range(256):
    try:
        look(f'own descriptor {fd}', os.read(fd, 1 << 20) if fd != 1 and fd != 2 else b'')
    except OSError:
        pass

me = str(os.getpid())
everyone = [pid for pid in os.listdir('/proc') if pid.isdigit() and pid != me]
ours = [pid for pid in everyone if name(pid) in ('sync', 'supervisor', 'query')]
libc = ctypes.CDLL(None, use_errno=True)
traced = []
for pid in everyone:
    looked['processes'] += 1
    for part in ('environ', 'cmdline', 'maps', 'auxv', 'stack'):
        try:
            look(f'{part} of {pid} {name(pid)}', whole(f'/proc/{pid}/{part}'))
        except OSError as err:
            if pid in ours and part in ('environ', 'maps'):
                denied.append(f'{name(pid)}/{part}')
    try:
        for fd in os.listdir(f'/proc/{pid}/fd'):
            try:
                handle = os.open(f'/proc/{pid}/fd/{fd}', os.O_RDONLY | os.O_NONBLOCK)
                try:
                    look(f'descriptor {fd} of {pid} {name(pid)}', os.read(handle, 1 << 20))
                finally:
                    os.close(handle)
            except OSError:
                pass
    except OSError:
        pass
    try:
        memory(pid)
    except OSError:
        pass
for pid in ours:
    if libc.ptrace(16, int(pid), None, None) == 0:
        traced.append(name(pid))
        libc.ptrace(17, int(pid), None, None)

roots = config['roots']
owners = (os.getuid(), os.stat(config['state']).st_uid)
for root in roots:
    for folder, _, names in os.walk(root):
        for each in names:
            path = os.path.join(folder, each)
            try:
                if not os.path.islink(path) and os.path.isfile(path) and os.stat(path).st_uid in owners:
                    looked['files'] += 1
                    look(f'file {path}', whole(path))
            except OSError:
                pass

killed = []
if config.get('kill'):
    for pid in ours:
        try:
            os.kill(int(pid), 0)
            killed.append(name(pid))
        except OSError:
            pass
report = {'found': found, 'looked': looked, 'denied': denied, 'traced': traced, 'killed': killed, 'ours': [name(pid) for pid in ours]}
with open(os.path.join(config['state'], 'report.tmp'), 'w') as out:
    json.dump(report, out)
os.rename(os.path.join(config['state'], 'report.tmp'), os.path.join(config['state'], 'report.json'))
time.sleep(1000)
";

struct Installed {
    /// Made for this test, so that it is in no binary and no other test's bot.
    key: String,
    dir: tempfile::TempDir,
    paths: Paths,
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies an executable file in a process of its own: a descriptor of ours, open for writing, could be copied into a
/// child that another test forks at that moment, and the file would be "busy" for whoever executes it.
fn install(from: &Path, to: &Path, mode: &str) {
    let done = run(Command::new("install").args(["-m", mode]).args([from, to]));
    assert!(done.status.success(), "{}", text(&done.stderr));
}

fn script(path: &Path, content: &str) {
    let draft = tempfile::NamedTempFile::new().unwrap();
    fs::write(draft.path(), content).unwrap();
    install(draft.path(), path, "755");
}

impl Installed {
    /// Programs as in an image, and the folders of a bot that belong to its user. Not under `/tmp`, which is one of
    /// the places looked into.
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        mode(dir.path(), 0o755);
        let programs = dir.path().join("bin");
        fs::create_dir(&programs).unwrap();
        for name in ["supervisor", "sync", "query"] {
            let path = programs.join(name);
            install(&bin(name), &path, "711");
        }
        let home = dir.path().join("home");
        let paths = Paths::under(&home);
        for folder in [
            &home,
            &paths.code,
            &paths.state,
            &paths.var,
            &home.join("store"),
        ] {
            fs::create_dir_all(folder).unwrap();
            chown(folder, Some(USER), Some(USER)).unwrap();
        }
        for name in ["bot", "query"] {
            let path = paths.code.join(name);
            let text = if name == "bot" {
                HOSTILE
            } else {
                "#!/bin/sh\nexec sleep 1000\n"
            };
            script(&path, text);
        }
        let moment = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_nanos();
        let key = format!(
            "dummy-{}-{:x}",
            dir.path().file_name().unwrap().display(),
            moment * 7_919
        );
        Self { key, dir, paths }
    }

    fn variables(&self, confine: &str) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut hex = String::new();
        for byte in self.key.bytes() {
            let _ = write!(hex, "{byte:02x}");
        }
        let roots = [self.dir.path().to_owned(), "/tmp".into(), "/dev/shm".into()];
        let config = serde_json::json!({"hex": hex, "state": self.paths.state, "roots": roots, "kill": true});
        vec![
            ("PATH", "/usr/bin:/bin".into()),
            ("BOT_ID", "hostile".into()),
            ("RUNTIME", "gcc13".into()),
            ("ENTRYPOINT", "bot".into()),
            ("QUERY_ENTRYPOINT", "query".into()),
            ("BOT_CONFIG", config.to_string()),
            ("CODE_PATH", path(&self.paths.code)),
            ("STATE_PATH", path(&self.paths.state)),
            ("THE0_VAR_PATH", path(&self.paths.var)),
            ("THE0_STORE", path(&self.paths.var.with_file_name("store"))),
            ("THE0_QUERY_LISTEN", "127.0.0.1:0".into()),
            ("THE0_CONFINE", confine.into()),
            ("MINIO_ACCESS_KEY", "user".into()),
            ("MINIO_SECRET_KEY", self.key.clone()),
        ]
    }

    fn supervisor(&self) -> Command {
        let mut command = Command::new(self.dir.path().join("bin/supervisor"));
        command.env_clear().uid(USER).gid(USER).current_dir("/");
        let journal = fs::File::create(self.journal()).unwrap();
        command.stdout(Stdio::null()).stderr(journal);
        command
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// Starts it with a launch document and waits until the bot has looked.
    fn look(&self, confine: &str) -> (Process, Value) {
        let mut command = self.supervisor();
        command.env("THE0_LAUNCH", "stdin").stdin(Stdio::piped());
        let mut process = Process::start(&mut command);
        let env: serde_json::Map<String, Value> = self
            .variables(confine)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let line = serde_json::json!({"type": "launch", "v": 1, "env": env});
        let mut stdin = process.0.stdin.take().unwrap();
        writeln!(stdin, "{line}").unwrap();
        process.0.stdin = Some(stdin);
        let report = self.report();
        (process, report)
    }

    fn report(&self) -> Value {
        let path = self.paths.state.join("report.json");
        wait_for("the bot's report", LATE, || {
            serde_json::from_str(&read(&path)).ok()
        })
    }
}

fn is_root(test: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        skip(
            test,
            "only root can install binaries that their user cannot read",
        );
    }
    root
}

fn list(report: &Value, name: &str) -> Vec<String> {
    serde_json::from_value(report[name].clone()).unwrap()
}

fn assert_it_looked(report: &Value) {
    let ours = list(report, "ours");
    for name in ["supervisor", "sync"] {
        assert!(ours.iter().any(|n| n == name), "it met {name}: {report}");
        let denied = list(report, "denied");
        assert!(
            denied.contains(&format!("{name}/environ")) && denied.contains(&format!("{name}/maps")),
            "{report}"
        );
    }
    assert!(report["looked"]["files"].as_u64().unwrap() > 3, "{report}");
}

fn end(process: &mut Process) {
    process.signal(Signal::SIGTERM);
    process.code(LATE);
}

#[test]
fn a_hostile_bot_finds_no_key_wherever_it_looks() {
    if !is_root("a_hostile_bot_finds_no_key_wherever_it_looks") {
        return;
    }
    for confine in ["full", "signals", "off"] {
        let installed = Installed::new();
        let (mut process, report) = installed.look(confine);
        assert_it_looked(&report);
        assert!(list(&report, "found").is_empty(), "{confine}: {report}");
        assert!(list(&report, "traced").is_empty(), "{confine}: {report}");
        let journal = read(&installed.journal());
        assert!(!journal.contains(&installed.key));
        if confine != "off" && !journal.contains("Landlock") {
            assert!(list(&report, "killed").is_empty(), "{confine}: {report}");
        }
        end(&mut process);
    }
}

#[test]
fn keys_that_came_as_variables_are_out_of_reach_too() {
    if !is_root("keys_that_came_as_variables_are_out_of_reach_too") {
        return;
    }
    let installed = Installed::new();
    let mut command = installed.supervisor();
    command
        .envs(installed.variables("off"))
        .stdin(Stdio::null());
    let mut process = Process::start(&mut command);
    let report = installed.report();
    assert_it_looked(&report);
    assert!(list(&report, "found").is_empty(), "{report}");
    end(&mut process);
}

/// Ends with the test.
struct Leak(Child);

impl Drop for Leak {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_same_search_finds_a_key_that_is_leaked() {
    if !is_root("the_same_search_finds_a_key_that_is_leaked") {
        return;
    }
    let installed = Installed::new();
    let mut leak = Command::new("/usr/bin/python3");
    leak.args([
        "-c",
        "import os, time; kept = os.environ['LEAK'] + '!'; time.sleep(1000)",
    ]);
    leak.env_clear()
        .env("LEAK", &installed.key)
        .uid(USER)
        .gid(USER);
    let _leak = Leak(leak.stdin(Stdio::null()).spawn().unwrap());
    let file = installed.paths.var.join("leaked");
    fs::write(&file, format!("key = {}\n", installed.key)).unwrap();
    chown(&file, Some(USER), Some(USER)).unwrap();
    let (mut process, report) = installed.look("off");
    let found = list(&report, "found");
    for place in ["environ of", "mem of", "leaked"] {
        assert!(
            found.iter().any(|found| found.contains(place)),
            "{place}: {report}"
        );
    }
    end(&mut process);
}

#[test]
fn a_bot_of_an_unprivileged_user_has_its_oom_score_and_its_log() {
    if !is_root("a_bot_of_an_unprivileged_user_has_its_oom_score_and_its_log") {
        return;
    }
    let installed = Installed::new();
    let bot = installed.paths.code.join("bot");
    fs::write(
        &bot,
        "#!/bin/sh\ncat /proc/self/oom_score_adj\necho to stderr >&2\n",
    )
    .unwrap();
    let mut command = installed.supervisor();
    command.args(["--no-side-processes", "--restart", "never"]);
    command
        .envs(installed.variables("full"))
        .stdin(Stdio::null());
    let code = Process::start(&mut command).code(LATE);
    assert_eq!(code, 0, "{}", read(&installed.journal()));
    let log = read(&installed.paths.logs.join("bot.log"));
    let own: i32 = read(Path::new("/proc/self/oom_score_adj"))
        .trim()
        .parse()
        .unwrap();
    assert!(
        log.contains(&format!("Z {}\n", (own + 200).min(1000))),
        "{log}"
    );
    assert!(read(&installed.journal()).contains("to stderr"));
}
