//! The supervisor as an init and as PID 1 of a bot, with real processes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use contract::record::{Outcome, Reason, RunRecord, State, Status, Synced, Time};
use contract::{Paths, file, logs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Process, SOON, bin, is_alive, read, run, skip, text, wait_for};

/// A machine that does other things besides may be slow.
const LATE: Duration = Duration::from_secs(40);

// ---------------------------------------------------------------------------------------------- as an init

fn init(options: &[&str], command: &[&str]) -> Command {
    let mut init = Command::new(bin("supervisor"));
    init.arg("run").args(options).arg("--").args(command);
    init
}

fn sh(script: &str) -> Command {
    init(&[], &["sh", "-c", script])
}

/// A child with a pipe from its standard output, by lines.
struct Talking {
    process: Process,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Talking {
    fn start(command: &mut Command) -> Self {
        let mut process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let stdout = process.0.stdout.take().expect("a pipe");
        Self {
            process,
            lines: BufReader::new(stdout).lines(),
        }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("text")
    }

    fn number(&mut self) -> i32 {
        self.line().trim().parse().expect("a number")
    }
}

fn send(pid: Pid, signal: i32) {
    let sent = run(Command::new("kill").args([format!("-{signal}"), pid.to_string()]));
    assert!(sent.status.success(), "{}", text(&sent.stderr));
}

#[test]
fn the_exit_code_is_the_childs_or_128_and_its_signal() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
        ("kill -40 $$", 168),
    ] {
        assert_eq!(run(&mut sh(script)).status.code(), Some(code), "{script}");
    }
}

#[test]
fn a_command_that_cannot_be_started_is_126_or_127_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8], mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", b"#!/bin/sh\n", 0o644);
    let orphan = file("orphan", b"#!/no/such/interpreter\n", 0o755);
    for (command, code, remedy) in [
        ("no-such-command-here", 127, "PATH"),
        ("/no/such/file", 127, "check the path"),
        (orphan.as_str(), 127, "interpreter"),
        (plain.as_str(), 126, "chmod +x"),
        (dir.path().to_str().unwrap(), 126, "executed"),
    ] {
        let output = run(&mut init(&[], &[command]));
        assert_eq!(output.status.code(), Some(code), "{command}");
        let said = text(&output.stderr);
        assert!(said.contains(command) && said.contains(remedy), "{said}");
        assert!(!said.contains("  "), "{said}");
    }
}

#[test]
fn a_command_line_that_is_not_understood_is_2() {
    for args in [
        &["run"][..],
        &["--nope"],
        &["run", "--grace", "x", "--", "ls"],
    ] {
        let output = run(Command::new(bin("supervisor")).args(args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains("error:"));
    }
    for arg in ["--help", "--version"] {
        let output = run(Command::new(bin("supervisor")).arg(arg));
        assert!(output.status.success() && text(&output.stdout).contains("supervisor"));
    }
}

#[test]
fn standard_streams_are_the_childs_own() {
    let mut cat = Process::start(
        init(&[], &["cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    );
    cat.0
        .stdin
        .take()
        .unwrap()
        .write_all(b"through and through")
        .unwrap();
    let mut out = String::new();
    cat.0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    assert_eq!(out, "through and through");
    assert_eq!(cat.code(SOON), 0);
}

#[test]
fn every_signal_that_can_be_is_handed_on_real_time_ones_too() {
    let script = "
import signal, sys
for n in range(1, 65):
    if n not in (9, 19, 32, 33):
        signal.signal(n, lambda n, _: print(n, flush=True))
print('ready', flush=True)
while True:
    signal.pause()
";
    let mut child = Talking::start(&mut init(&["--grace", "1h"], &["python3", "-c", script]));
    assert_eq!(child.line(), "ready");
    for signal in (1..=64).filter(|n| ![9, 17, 19, 32, 33].contains(n)) {
        send(child.process.pid(), signal);
        assert_eq!(child.number(), signal);
    }
    child.process.signal(Signal::SIGUSR1);
    assert_eq!(child.number(), 10, "CHLD is not handed on");
    let leader = children(child.process.pid().as_raw())[0];
    kill(Pid::from_raw(leader), Signal::SIGKILL).unwrap();
    assert_eq!(child.process.code(SOON), 137);
}

#[test]
fn with_group_a_signal_reaches_the_whole_group() {
    let script = "trap 'echo outer' USR1; (trap 'echo inner; exit' USR1; echo ready; while :; do sleep 0.05; done) & wait; wait; exit 4";
    let mut child = Talking::start(&mut init(&["--group"], &["sh", "-c", script]));
    assert_eq!(child.line(), "ready");
    child.process.signal(Signal::SIGUSR1);
    let mut said = [child.line(), child.line()];
    said.sort();
    assert_eq!(said, ["inner", "outer"]);
    assert_eq!(child.process.code(SOON), 4);
}

/// `SigBlk`, `SigIgn` and `SigCgt` as the child sees them.
fn masks(output: &str) -> [u64; 3] {
    ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| {
        let row = output
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect(name);
        u64::from_str_radix(row.trim(), 16).unwrap()
    })
}

#[test]
fn the_child_gets_the_mask_and_dispositions_that_we_were_given() {
    const PIPE: u64 = 1 << 12;
    let prepare = "
import os, signal, sys
signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2, signal.SIGTTOU, 36, 64})
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(35, signal.SIG_IGN)
os.execvp(sys.argv[1], sys.argv[1:])
";
    let status = ["cat", "/proc/self/status"];
    let direct = run(Command::new("python3").args(["-c", prepare]).args(status));
    let supervisor = bin("supervisor");
    let mut through = Command::new("python3");
    through
        .args(["-c", prepare])
        .arg(supervisor)
        .args(["run", "--"])
        .args(status);
    let through = run(&mut through);
    let [blocked, ignored, caught] = masks(&text(&direct.stdout));
    assert_ne!(
        (blocked, ignored & !PIPE),
        (0, 0),
        "the test would see a difference"
    );
    let expected = [blocked, ignored & !PIPE, caught];
    assert_eq!(masks(&text(&through.stdout)), expected);
}

#[test]
fn children_are_waited_for_also_where_their_end_was_ignored() {
    let prepare = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])";
    let mut command = Command::new("python3");
    command.args(["-c", prepare]).arg(bin("supervisor"));
    let mut child = Process::start(command.args(["run", "--", "sh", "-c", "exit 7"]));
    assert_eq!(child.code(SOON), 7);
}

#[test]
fn children_that_were_there_before_us_are_left_alone() {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "sleep 1000 & echo $!; exec \"$1\" run -- true", "sh"])
        .arg(bin("supervisor"));
    let mut shell = Talking::start(&mut shell);
    let elder = shell.number();
    assert_eq!(shell.process.code(SOON), 0);
    assert!(is_alive(elder));
    kill(Pid::from_raw(elder), Signal::SIGKILL).unwrap();
}

#[test]
fn a_grace_without_end_ends_nothing() {
    let grace = "18446744073709551615s";
    let mut init = init(
        &["--grace", grace],
        &["sh", "-c", "echo here; exec sleep 1000"],
    );
    let mut init = Talking::start(&mut init);
    assert_eq!(init.line(), "here");
    init.process.signal(Signal::SIGTERM);
    assert_eq!(init.process.code(SOON), 143);
}

#[test]
fn the_child_has_no_descriptor_of_ours() {
    let script = "ls /proc/self/fd | tr '\\n' ' '";
    let output = run(Command::new("sh")
        .args(["-c", "exec \"$@\" 7</dev/null", "sh"])
        .arg(bin("supervisor"))
        .args(["run", "--", "sh", "-c", script]));
    assert_eq!(
        text(&output.stdout).trim(),
        "0 1 2 3",
        "3 is the folder ls reads"
    );
}

fn children(pid: i32) -> Vec<i32> {
    let listed = read(Path::new(&format!("/proc/{pid}/task/{pid}/children")));
    listed
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

#[test]
fn any_number_of_orphans_is_reaped() {
    let script = "i=0; while [ $i -lt 1000 ]; do (true &); i=$((i+1)); done; echo made; sleep 100";
    let mut child = Talking::start(&mut sh(script));
    assert_eq!(child.line(), "made");
    let pid = child.process.pid().as_raw();
    wait_for("all orphans reaped", LATE, || {
        (children(pid).len() == 1).then_some(())
    });
    child.process.signal(Signal::SIGTERM);
    assert_eq!(child.process.code(SOON), 143);
}

#[test]
fn nothing_that_descends_from_the_command_survives_it() {
    let script = "setsid sh -c 'trap \"\" TERM; echo $$; sleep 1000' & sleep 0.2; (trap '' TERM HUP; sh -c 'echo $$; exec sleep 1000') & sleep 0.5; exit 5";
    let mut child = Talking::start(&mut init(&["--grace", "1s"], &["sh", "-c", script]));
    let left = [child.number(), child.number()];
    assert_eq!(child.process.code(LATE), 5);
    for pid in left {
        assert!(!is_alive(pid), "{pid} lives on");
    }
}

#[test]
fn leftovers_get_term_first() {
    let script = "(trap 'echo asked; exit' TERM; echo ready; while :; do sleep 0.05; done) & sleep 0.5; exit 0";
    let mut child = Talking::start(&mut init(&["--grace", "30s"], &["sh", "-c", script]));
    assert_eq!(child.line(), "ready");
    assert_eq!(child.line(), "asked");
    assert_eq!(child.process.code(SOON), 0);
}

#[test]
fn a_command_that_ignores_term_is_killed_at_the_end_of_its_grace() {
    let mut child = Talking::start(&mut init(
        &["--grace", "1s"],
        &[
            "sh",
            "-c",
            "trap '' TERM; echo ready; while :; do sleep 0.1; done",
        ],
    ));
    assert_eq!(child.line(), "ready");
    child.process.signal(Signal::SIGTERM);
    assert_eq!(child.process.code(LATE), 137);
}

const NEGLIGENT: &str = "
import os, time
if os.fork() == 0: os._exit(0)
print('ready', flush=True)
time.sleep(100)
";

/// Until the child of the only child of `supervisor` is a zombie.
fn wait_for_zombie(supervisor: &Process) {
    wait_for("the zombie", LATE, || {
        let bot = *children(supervisor.pid().as_raw()).first()?;
        let zombie = *children(bot).first()?;
        (!is_alive(zombie)).then_some(())
    });
}

#[test]
fn a_parent_that_does_not_reap_is_named_at_the_stop() {
    let home = Home::new();
    home.bot(&format!("#!/usr/bin/env python3\n{NEGLIGENT}"));
    let mut process = home.start(home.alone());
    wait_for("the bot", LATE, || {
        home.log().contains("ready").then_some(())
    });
    wait_for_zombie(&process);
    process.signal(Signal::SIGTERM);
    process.code(LATE);
    assert!(
        home.journal().contains("does not wait for its child"),
        "{}",
        home.journal()
    );

    let mut command = init(&[], &["python3", "-c", NEGLIGENT]);
    let mut child = Talking::start(command.stderr(Stdio::piped()));
    assert_eq!(child.line(), "ready");
    wait_for_zombie(&child.process);
    child.process.signal(Signal::SIGTERM);
    assert_eq!(child.process.code(LATE), 143);
    let mut said = String::new();
    child
        .process
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("does not wait for its child"), "{said}");
}

#[test]
fn an_idle_init_is_never_woken() {
    let child = Process::start(&mut init(&[], &["sleep", "100"]));
    let pid = child.pid().as_raw();
    wait_for("the child", SOON, || {
        (!children(pid).is_empty()).then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    let before = switches(pid);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(switches(pid), before);
}

fn switches(pid: i32) -> u64 {
    let status = read(Path::new(&format!("/proc/{pid}/status")));
    let row = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    row.and_then(|row| row.trim().parse().ok())
        .expect("a count")
}

#[test]
fn a_shell_under_it_has_working_job_control() {
    let script = r#"
import os, pty, sys, time, select, signal
def until(fd, mark, seen=b''):
    end = time.time() + 30
    while mark not in seen:
        left = end - time.time()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            sys.exit('no %r in %r' % (mark, seen))
        try: seen += os.read(fd, 4096)
        except OSError: sys.exit('closed before %r in %r' % (mark, seen))
    return seen
def sleeps():
    group = os.tcgetpgrp(fd)
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open('/proc/%s/cmdline' % pid, 'rb') as file:
                if file.read() == b'sleep\0001000\0' and os.getpgid(int(pid)) == group: return True
        except OSError: pass
    return False
def in_front(yes):
    end = time.time() + 30
    while sleeps() != yes:
        if time.time() > end: sys.exit('sleep in front: not %r' % yes)
        time.sleep(0.02)
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(PS1='', ENV='', HISTFILE='')
    os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])
def say(text): os.write(fd, text.encode() + b'\n')
say("stty -echo; PS1='$ '; echo up''up")
until(fd, b'upup')
say(sys.argv[1] + " run -- sh -c 'echo in''side; sleep 1000; echo after''wards'")
until(fd, b'inside')
in_front(True)
os.write(fd, b'\x1a')
until(fd, b'Stopped')
say('echo ba''ck; fg')
until(fd, b'sleep')
in_front(True)
os.write(fd, b'\x03')
in_front(False)
say('echo do''ne $?')
out = until(fd, b'done ')
say(sys.argv[1] + " run -- bash --norc --noprofile -i")
say("PS1='inner$ '; sleep 1000")
in_front(True)
os.write(fd, b'\x1a')
until(fd, b'Stopped')
say('fg')
until(fd, b'sleep')
in_front(True)
os.write(fd, b'\x03')
in_front(False)
say('echo lea''ving; exit 9')
until(fd, b'leaving')
say('echo co''de $?')
until(fd, b'code 9')
say('exit')
print('all is well')
"#;
    let output = run(Command::new("python3")
        .args(["-c", script])
        .arg(bin("supervisor")));
    assert!(
        text(&output.stdout).contains("all is well"),
        "{} {}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn as_pid_1_on_a_terminal_a_stopped_child_is_continued() {
    let allowed = run(Command::new("unshare").args(["--pid", "--fork", "true"]));
    if !allowed.status.success() {
        skip(
            "as_pid_1_on_a_terminal_a_stopped_child_is_continued",
            "no PID namespace may be made here",
        );
        return;
    }
    let script = r#"
import os, pty, sys, time, select
pid, fd = pty.fork()
if pid == 0:
    os.execvp('unshare', ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child', sys.argv[1], 'run', '--', 'python3', '-c',
        'import time\nfor i in range(600): print("tick", i, flush=True); time.sleep(0.1)'])
seen = b''
def more(n):
    global seen
    end = time.time() + 30
    while seen.count(b'tick') < n:
        left = end - time.time()
        if left <= 0 or not select.select([fd], [], [], left)[0]: sys.exit('stands still: %r' % seen)
        seen += os.read(fd, 4096)
more(3)
os.write(fd, b'\x1a')
more(seen.count(b'tick') + 10)
os.write(fd, b'\x03')
print('all is well')
"#;
    let output = run(Command::new("python3")
        .args(["-c", script])
        .arg(bin("supervisor")));
    assert!(
        text(&output.stdout).contains("all is well"),
        "{}",
        text(&output.stderr)
    );
}

// ------------------------------------------------------------------------------------- as PID 1 of a bot

/// A `sync` that claims nothing and stores nothing: it notes what it was called with and says that all is saved.
const SYNC: &str = r#"#!/bin/sh
var=$THE0_VAR_PATH
echo "$1 $$" >> $var/calls
if [ "$1" = fetch ]; then
    read keys
    echo "$keys" >> $var/keys
    [ -e $var/fetch.slow ] && { trap 'exit 1' TERM; sleep 100 & echo $! > $var/fetch.began; wait; }
    exit $(cat $var/fetch.code 2>/dev/null || echo 0)
fi
trap 'echo term >> $var/calls; exit 0' TERM
exec 3<&0
(while read more; do echo "$more" >> $var/keys; done) <&3 &
last=
while :; do
    outcome=$(cat $var/outcome 2>/dev/null || echo ok)
    run=0
    [ -e $var/done.json ] && run=$(sed 's/^{"run":\([0-9]*\).*/\1/' $var/done.json)
    if [ "$outcome.$run" != "$last" ]; then
        last=$outcome.$run
        echo "{\"outcome\":\"$outcome\",\"run\":$run,\"generation\":1,\"log\":{\"segment\":0,\"offset\":0},\"at\":\"2026-01-01T00:00:00.$$Z\"}" > $var/.synced
        mv $var/.synced $var/synced.json
        [ $outcome = edited ] && rm -f $var/outcome
    fi
    sleep 0.05 & wait $!
done
"#;

const QUERY: &str = "#!/bin/sh\necho $$ >> $THE0_VAR_PATH/queries\nexec sleep 1000\n";

/// Writes an executable file in a process of its own: a descriptor of ours, open for writing, could be copied into a
/// child that another test forks at that moment, and the file would be "busy" for whoever executes it.
fn script(path: &Path, text: &str) {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path);
    let mut install = Process::start(install.stdin(Stdio::piped()));
    install
        .0
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert_eq!(install.code(SOON), 0);
}

/// Copies an executable file, in a process of its own as well.
fn copy(from: &Path, to: &Path) {
    assert!(run(Command::new("cp").args([from, to])).status.success());
}

/// A folder with the programs and a bot in it.
struct Home {
    dir: tempfile::TempDir,
    paths: Paths,
}

impl Home {
    fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    fn within(dir: tempfile::TempDir) -> Self {
        let paths = Paths::under(dir.path());
        for folder in [
            &paths.code,
            &paths.state,
            &paths.var,
            &dir.path().join("bin"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        let home = Self { dir, paths };
        copy(&bin("supervisor"), &home.program("supervisor"));
        script(&home.program("sync"), SYNC);
        script(&home.program("query"), QUERY);
        home
    }

    fn program(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    fn bot(&self, text: &str) {
        script(&self.paths.code.join("bot"), text);
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        vec![
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("BOT_ID", "b1".into()),
            ("RUNTIME", "gcc13".into()),
            ("ENTRYPOINT", "bot".into()),
            ("CODE_PATH", path(&self.paths.code)),
            ("STATE_PATH", path(&self.paths.state)),
            ("THE0_VAR_PATH", path(&self.paths.var)),
            ("THE0_GRACE", "20s".into()),
        ]
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program("supervisor"));
        command.env_clear().envs(self.variables());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Without side processes.
    fn alone(&self) -> Command {
        let mut command = self.command();
        command.arg("--no-side-processes");
        command
    }

    fn start(&self, mut command: Command) -> Process {
        let journal = fs::File::create(self.dir.path().join("journal")).unwrap();
        Process::start(command.stderr(journal))
    }

    /// Runs to the end and gives the code.
    fn run(&self, command: Command) -> i32 {
        self.start(command).code(LATE)
    }

    fn journal(&self) -> String {
        read(&self.dir.path().join("journal"))
    }

    fn log(&self) -> String {
        let segments = logs::segments(&self.paths.logs).unwrap();
        segments.iter().map(|(_, path)| read(path)).collect()
    }

    /// What the bot wrote, without the times in front.
    fn lines(&self) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().map(|line| {
            logs::split_stamp(line.as_bytes())
                .expect("a time in front")
                .1
        });
        lines.map(text).collect()
    }

    fn var(&self, name: &str) -> String {
        read(&self.paths.var.join(name))
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.paths.var.join(name), content).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let calls = self.var("calls");
        calls
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    }

    fn runs(&self) -> Vec<RunRecord> {
        file::read_json_lines(&self.paths.runs()).unwrap()
    }

    fn done(&self) -> Option<RunRecord> {
        file::read_json(&self.paths.done_record()).unwrap()
    }

    fn status(&self) -> Option<Status> {
        file::read_json(&self.paths.status()).unwrap()
    }

    fn wait_for_bot(&self) -> i32 {
        let running = |status: Status| {
            (status.state == State::Running)
                .then_some(status.pid)
                .flatten()
        };
        wait_for("the bot to run", LATE, || self.status().and_then(running))
    }
}

#[test]
fn each_way_a_run_ends_is_recorded_and_gives_its_code() {
    for (script, code, reason, signal) in [
        ("exit 0", 0, Reason::Exited, None),
        ("exit 3", 3, Reason::Exited, None),
        ("exit 127", 127, Reason::Exited, None),
        ("kill -KILL $$", 137, Reason::Killed, Some(9)),
        ("kill -40 $$", 168, Reason::Killed, Some(40)),
    ] {
        let home = Home::new();
        home.bot(&format!("#!/bin/sh\n{script}\n"));
        let mut command = home.command();
        command.args(["--restart", "never"]);
        assert_eq!(home.run(command), code, "{script}: {}", home.journal());
        let record = home.done().expect("done.json");
        assert_eq!(
            (i32::from(record.code), record.reason, record.signal),
            (code, reason, signal)
        );
        assert_eq!(home.var("done"), code.to_string());
        assert_eq!(home.runs(), [record]);
        assert_eq!(home.status().unwrap().state, State::Stopped);
        assert_eq!(home.calls(), ["fetch", "watch", "term"]);
    }
}

#[test]
fn a_bot_that_cannot_be_started_is_told_apart_from_one_that_exits_127() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["--restart", "once"]);
    assert_eq!(home.run(command), 127, "{}", home.journal());
    let record = home.done().unwrap();
    assert_eq!(record.reason, Reason::StartFailed);
    assert!(record.message.unwrap().contains("was not found"));

    fs::write(home.paths.code.join("bot"), "#!/bin/sh\n").unwrap();
    let mut command = home.command();
    command.args(["--restart", "once"]);
    assert_eq!(home.run(command), 126);
    let record = home.done().unwrap();
    assert_eq!((record.run, record.reason), (2, Reason::StartFailed));
}

#[test]
fn a_bot_sees_its_own_environment_folder_and_descriptors_only() {
    let home = Home::new();
    home.bot("#!/bin/sh\nenv\necho cwd=$(pwd)\nls /proc/self/fd | tr '\\n' ' '\nreadlink /proc/self/fd/0\ncat /proc/self/oom_score_adj\n");
    let mut command = home.alone();
    command.args(["--restart=never"]);
    command.envs([
        ("MINIO_SECRET_KEY", "hunter2"),
        ("NATS_URL", "nats://h"),
        ("BOT_CONFIG", r#"{"a":1}"#),
    ]);
    assert_eq!(home.run(command), 0);
    let lines = home.lines();
    let log = lines.join("\n");
    assert!(log.contains(r#"BOT_CONFIG={"a":1}"#) && log.contains("BOT_ID=b1"));
    for word in ["hunter2", "MINIO", "NATS", "THE0_"] {
        assert!(!log.contains(word), "{word} in {log}");
    }
    assert!(
        lines.contains(&format!("cwd={}", home.paths.code.display())),
        "{log}"
    );
    assert!(log.contains("0 1 2 3 /dev/null"), "{log}");
    let own: i32 = read(Path::new("/proc/self/oom_score_adj"))
        .trim()
        .parse()
        .unwrap();
    assert!(lines.contains(&(own + 200).min(1000).to_string()), "{log}");
}

#[test]
fn a_realtime_bot_is_restarted_in_place_and_its_runs_are_numbered() {
    let home = Home::new();
    home.bot(
        "#!/bin/sh\necho run\n[ -e $STATE_DIR.up ] && exec sleep 1000\n: > $STATE_DIR.up\nexit 1\n",
    );
    let mut process = home.start(home.command());
    wait_for("the second run", LATE, || {
        home.status().filter(|s| s.run == 2 && s.pid.is_some())
    });
    let first = &home.runs()[0];
    assert_eq!(
        (first.run, first.code, first.reason, first.restarts),
        (1, 1, Reason::Exited, 0)
    );
    assert!(
        !home.paths.done().exists() && !home.paths.done_record().exists(),
        "a run is under way"
    );
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(LATE), 143, "{}", home.journal());
    let second = home.done().unwrap();
    assert_eq!(
        (second.run, second.reason, second.restarts),
        (2, Reason::Stopped, 1)
    );
    assert_eq!(
        home.calls(),
        ["fetch", "watch", "term"],
        "a crash needs neither code nor state"
    );

    let mut process = home.start(home.command());
    wait_for("the third run", LATE, || {
        home.status().filter(|s| s.run == 3 && s.pid.is_some())
    });
    process.signal(Signal::SIGTERM);
    process.code(LATE);
    assert_eq!(
        home.runs().iter().map(|r| r.run).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

#[test]
fn a_bot_ends_itself_gracefully_on_term_and_its_code_is_ours() {
    let home = Home::new();
    home.bot("#!/bin/sh\ntrap 'echo bye; exit 6' TERM\necho ready\nwhile :; do sleep 0.05; done\n");
    let ready = || home.lines().iter().filter(|line| *line == "ready").count();
    for (run, signal, code) in [(1, Signal::SIGTERM, 6), (2, Signal::SIGINT, 130)] {
        let mut process = home.start(home.command());
        wait_for("the bot's trap", LATE, || (ready() == run).then_some(()));
        process.signal(signal);
        assert_eq!(process.code(LATE), code, "{}", home.journal());
        assert_eq!(home.done().unwrap().reason, Reason::Stopped);
    }
    assert!(home.lines().contains(&"bye".to_owned()));
}

#[test]
fn other_signals_are_only_handed_on() {
    let home = Home::new();
    home.bot("#!/bin/sh\ntrap 'echo hup' HUP\ntrap 'echo usr1' USR1\necho ready\nwhile :; do sleep 0.05; done\n");
    let process = home.start(home.alone());
    wait_for("the bot", LATE, || {
        home.log().contains("ready").then_some(())
    });
    for (signal, word) in [(Signal::SIGHUP, "hup"), (Signal::SIGUSR1, "usr1")] {
        process.signal(signal);
        wait_for(word, LATE, || {
            home.lines().contains(&word.to_owned()).then_some(())
        });
    }
}

#[test]
fn a_stop_before_the_bot_is_not_lost() {
    let home = Home::new();
    home.bot("#!/bin/sh\necho started\n");
    home.put("fetch.slow", "");
    let mut process = home.start(home.command());
    let left = wait_for("fetch", LATE, || {
        home.var("fetch.began").trim().parse::<i32>().ok()
    });
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(LATE), 143, "{}", home.journal());
    let record = home.done().unwrap();
    assert_eq!(
        (record.run, record.code, record.reason),
        (0, 143, Reason::Stopped)
    );
    assert_eq!(home.var("done"), "143");
    assert!(home.log().is_empty() && home.runs().is_empty());
    assert!(!is_alive(left), "what fetch left behind");
}

#[test]
fn a_fetch_that_fails_starts_no_bot_and_gives_its_code() {
    let home = Home::new();
    home.bot("#!/bin/sh\necho started\n");
    home.put("fetch.code", "113");
    assert_eq!(home.run(home.command()), 113);
    let record = home.done().unwrap();
    assert_eq!((record.code, record.reason), (113, Reason::StartFailed));
    assert!(
        record
            .message
            .unwrap()
            .contains("state could not be restored")
    );
    assert_eq!(home.calls(), ["fetch"]);
    assert!(home.log().is_empty());
}

#[test]
fn a_refused_launch_names_the_variable_and_the_remedy_and_is_recorded() {
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(140_000));
    for (name, value, code, words) in [
        ("BOT_ID", "", 1, "BOT_ID is required"),
        ("RUNTIME", "python2", 111, "use one of"),
        ("ENTRYPOINT", "", 1, "ENTRYPOINT is required"),
        ("BOT_CONFIG", "{hunter2", 111, "BOT_CONFIG is not JSON"),
    ] {
        let home = Home::new();
        let mut command = home.command();
        command.env(name, value);
        assert_eq!(home.run(command), code, "{name}");
        let said = home.journal();
        assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
        assert_eq!(i32::from(home.done().unwrap().code), code);
        assert_eq!(home.var("done"), code.to_string());
    }
    let home = Home::new();
    let (mut process, mut stdin) = with_document(&home);
    writeln!(stdin, "{}", document(&home, &[("BOT_CONFIG", &large)])).unwrap();
    assert_eq!(process.code(LATE), 111);
    let said = home.journal();
    assert!(
        said.contains("BOT_CONFIG is 1400") && said.contains("131072"),
        "{said}"
    );
}

fn with_document(home: &Home) -> (Process, std::process::ChildStdin) {
    let mut command = Command::new(home.program("supervisor"));
    command
        .env_clear()
        .env("THE0_LAUNCH", "stdin")
        .env("PATH", std::env::var("PATH").unwrap_or_default());
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = home.start(command);
    let stdin = process.0.stdin.take().unwrap();
    (process, stdin)
}

fn document(home: &Home, more: &[(&str, &str)]) -> String {
    let mut env: serde_json::Map<String, serde_json::Value> = home
        .variables()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    env.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into())),
    );
    serde_json::json!({"type": "launch", "v": 1, "env": env}).to_string()
}

#[test]
fn a_launch_document_is_read_from_standard_input_and_its_end_means_nothing() {
    let home = Home::new();
    home.bot("#!/bin/sh\nreadlink /proc/self/fd/0\necho $BOT_CONFIG\nexec sleep 1000\n");
    let (mut process, mut stdin) = with_document(&home);
    writeln!(
        stdin,
        "{}",
        document(
            &home,
            &[("BOT_CONFIG", "{\"n\":1}"), ("MINIO_SECRET_KEY", "first")]
        )
    )
    .unwrap();
    home.wait_for_bot();
    wait_for("the first keys", LATE, || {
        (home.var("keys").matches("first").count() == 2).then_some(())
    });
    stdin
        .write_all(b"{\"type\":\"keys\",\"v\":1,\"keys\":{\"MINIO_SECRET_KEY\":\"second\"}}\n")
        .unwrap();
    wait_for("renewed keys", LATE, || {
        home.var("keys").contains("second").then_some(())
    });
    writeln!(stdin, "not json hunter2").unwrap();
    drop(stdin);
    wait_for("the end of input", LATE, || {
        home.journal().contains("renewed keys:").then_some(())
    });
    assert!(!home.journal().contains("hunter2") && !home.journal().contains("second"));
    assert_eq!(home.status().unwrap().state, State::Running);
    wait_for("the bot's lines", LATE, || {
        (home.lines().len() == 2).then_some(())
    });
    assert_eq!(home.lines(), ["/dev/null", "{\"n\":1}"]);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(LATE), 143);
}

#[test]
fn keys_right_behind_the_launch_are_the_ones_that_count() {
    let home = Home::new();
    home.bot("#!/bin/sh\nexec sleep 1000\n");
    let (process, mut input) = with_document(&home);
    let keys = r#"{"type":"keys","v":1,"keys":{"MINIO_ACCESS_KEY":"newer"}}"#;
    let both = format!(
        "{}\n{keys}\n",
        document(&home, &[("MINIO_ACCESS_KEY", "old")]).trim_end()
    );
    input.write_all(both.as_bytes()).unwrap();
    drop(input);
    home.wait_for_bot();
    wait_for("the keys to reach both syncs", LATE, || {
        (home.var("keys").matches("newer").count() == 2).then_some(())
    });
    assert!(!home.var("keys").contains("old"));
    process.signal(Signal::SIGTERM);
}

#[test]
fn a_second_stage_that_cannot_be_started_is_no_end_of_the_bot() {
    let home = Home::new();
    home.bot("#!/bin/sh\nexit 0\n");
    let journal = fs::File::create(home.dir.path().join("journal")).unwrap();
    let mut command = home.alone();
    command
        .args(["--restart", "never"])
        .env("THE0_LAUNCH", "stdin");
    let mut process = Process::start(command.stdin(Stdio::piped()).stderr(journal));
    let mut input = process.0.stdin.take().unwrap();
    input
        .write_all((document(&home, &[("TZ", "a\0b")]) + "\n").as_bytes())
        .unwrap();
    assert_eq!(process.code(LATE), 119);
    let done = home.done().expect("a record");
    assert_eq!(done.reason, Reason::StartFailed);
    assert!(done.message.unwrap().contains("nul byte"));
}

#[test]
fn the_end_of_a_child_from_before_us_is_not_the_bots() {
    let home = Home::new();
    home.bot("#!/bin/sh\necho $$; sleep 1000\n");
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "sleep 1000 & echo $! > $THE0_VAR_PATH/elder; exec \"$1\" --no-side-processes",
            "sh",
        ])
        .arg(home.program("supervisor"));
    shell.env_clear().envs(home.variables());
    shell.stdin(Stdio::null()).stdout(Stdio::null());
    let mut process = home.start(shell);
    let bot = home.wait_for_bot();
    kill(
        Pid::from_raw(home.var("elder").trim().parse().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(is_alive(bot) && home.runs().is_empty());
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(LATE), 143);
    assert_eq!(home.runs().len(), 1);
}

#[test]
fn the_last_push_is_seen_also_where_the_folder_was_replaced() {
    let home = Home::new();
    home.bot("#!/bin/sh\nexec sleep 1000\n");
    let mut process = home.start(home.command());
    home.wait_for_bot();
    wait_for("sync", LATE, || home.paths.synced().exists().then_some(()));
    fs::rename(&home.paths.var, home.dir.path().join("away")).unwrap();
    fs::create_dir(&home.paths.var).unwrap();
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(LATE), 143);
    assert!(
        !home.journal().contains("NOT in the store"),
        "{}",
        home.journal()
    );
}

#[test]
fn a_proc_of_another_pid_namespace_is_told_and_not_believed() {
    let home = Home::new();
    home.bot("#!/bin/sh\nexit 4\n");
    if !run(Command::new("unshare").args(["--pid", "--fork", "true"]))
        .status
        .success()
    {
        return skip(
            "a_proc_of_another_pid_namespace_is_told_and_not_believed",
            "may not make a PID namespace",
        );
    }
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork"])
        .arg(home.program("supervisor"));
    command.args(["--no-side-processes", "--restart", "never"]);
    command
        .env_clear()
        .envs(home.variables())
        .stdout(Stdio::null());
    assert_eq!(home.run(command), 4);
    assert!(
        home.journal().contains("there is no /proc"),
        "{}",
        home.journal()
    );
}

/// A file system of the test's own.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[test]
fn a_full_disk_loses_no_record_when_there_is_room_again() {
    let home = Home::new();
    let var = home.paths.var.to_str().unwrap();
    let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k", "none", var]));
    if !mounted.status.success() {
        return skip(
            "a_full_disk_loses_no_record_when_there_is_room_again",
            "may not mount",
        );
    }
    let mount = Mounted(home.paths.var.clone());
    home.bot(&format!(
        "#!/bin/sh\nv={var}; [ -e $v/../second ] && exec sleep 1000\n\
         : > $v/../second; head -c 300000 /dev/zero > $v/fill; exit 3\n"
    ));
    let mut command = home.alone();
    command.env("THE0_CONFINE", "off");
    let mut process = home.start(command);
    wait_for("a record that is not written", LATE, || {
        home.journal().contains("No space left").then_some(())
    });
    fs::remove_file(home.paths.var.join("fill")).unwrap();
    wait_for("the record of run 1", LATE, || {
        let runs = home.runs();
        (runs.len() == 1 && runs[0].run == 1 && runs[0].code == 3).then_some(())
    });
    process.signal(Signal::SIGTERM);
    let code = process.code(LATE);
    let runs = home.runs().len();
    drop(mount);
    assert_eq!((code, runs), (143, 2));
}

#[test]
fn a_bad_launch_document_is_110() {
    for (line, words) in [
        ("hunter2", "not understood"),
        (r#"{"type":"launch","v":7,"env":{}}"#, "version 7"),
        (r#"{"type":"keys","v":1,"keys":{}}"#, "begins with keys"),
        ("", "ended before"),
    ] {
        let home = Home::new();
        let (mut process, mut stdin) = with_document(&home);
        if !line.is_empty() {
            writeln!(stdin, "{line}").unwrap();
        }
        drop(stdin);
        assert_eq!(process.code(LATE), 110, "{line}");
        let said = home.journal();
        assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_stop_while_the_document_is_waited_for_is_obeyed() {
    let home = Home::new();
    let (mut process, _stdin) = with_document(&home);
    wait_for("waiting", SOON, || {
        home.journal()
            .contains("waiting for the launch")
            .then_some(())
    });
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(SOON), 143);
}

#[test]
fn side_processes_come_back_and_take_nobody_down() {
    let home = Home::new();
    home.bot("#!/bin/sh\nexec sleep 1000\n");
    let mut command = home.command();
    command.envs([("QUERY_ENTRYPOINT", "q"), ("MINIO_SECRET_KEY", "dummy")]);
    let mut process = home.start(command);
    let bot = home.wait_for_bot();
    let pid = |file: &str, nth: usize| {
        wait_for(file, LATE, || {
            let text = home.var(file);
            let rows: Vec<_> = text
                .lines()
                .filter(|row| !row.starts_with("fetch"))
                .collect();
            rows.get(nth)?.split(' ').next_back()?.parse::<i32>().ok()
        })
    };
    for (file, nth) in [("calls", 0), ("queries", 0)] {
        let first = pid(file, nth);
        kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
        let second = pid(file, nth + 1);
        assert!(second != first && is_alive(second));
    }
    wait_for("keys for the second sync", LATE, || {
        (home.var("keys").matches("dummy").count() >= 3).then_some(())
    });
    assert_eq!(home.status().unwrap().pid, Some(bot));
    let sides = [pid("calls", 1), pid("queries", 1)];
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(LATE), 143, "{}", home.journal());
    assert!(
        sides.iter().all(|pid| !is_alive(*pid)),
        "they do not stay behind"
    );
}

#[test]
fn one_who_is_fenced_stops_the_bot_with_its_own_code() {
    for (outcome, code, reason) in [
        ("fenced", 114, Reason::Fenced),
        ("too_large", 115, Reason::Disk),
    ] {
        let home = Home::new();
        home.bot("#!/bin/sh\nexec sleep 1000\n");
        let mut process = home.start(home.command());
        home.wait_for_bot();
        home.put("outcome", outcome);
        assert_eq!(process.code(LATE), code, "{}", home.journal());
        assert_eq!(home.done().unwrap().reason, reason);
    }
}

#[test]
fn an_edited_state_is_fetched_and_the_bot_started_again_in_place() {
    let home = Home::new();
    home.bot("#!/bin/sh\nexec sleep 1000\n");
    let mut process = home.start(home.command());
    home.wait_for_bot();
    home.put("outcome", "edited");
    wait_for("the second run", LATE, || {
        home.status().filter(|s| s.run == 2 && s.pid.is_some())
    });
    assert_eq!(home.runs()[0].reason, Reason::Edited);
    // The second `watch` begins beside the run.
    wait_for("all that `sync` is asked for", LATE, || {
        (home.calls() == ["fetch", "watch", "term", "fetch", "watch"]).then_some(())
    });
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(LATE), 143);
}

/// With `outcome` as what `sync` says, in another container of a Pod.
fn told_by_another_container(outcome: Outcome, code: i32, reason: Reason) {
    let home = Home::new();
    home.bot("#!/bin/sh\nexec sleep 1000\n");
    let mut process = home.start(home.alone());
    home.wait_for_bot();
    assert!(home.calls().is_empty());
    let synced = Synced {
        outcome,
        run: 0,
        generation: 2,
        digest: None,
        log: logs::Position::default(),
        ok_at: None,
        at: Time::now(),
        error: None,
        left_out: Vec::new(),
        traffic: None,
        result: None,
    };
    file::replace_json(&home.paths.synced(), &synced).unwrap();
    assert_eq!(process.code(LATE), code, "{}", home.journal());
    let runs = home.runs();
    assert_eq!((runs.len(), runs[0].reason), (1, reason));
    assert_eq!(home.run(home.alone()), code);
    assert_eq!(home.runs().len(), 1, "the next one starts no bot");
    assert_eq!(home.done().map(|done| done.reason), Some(reason));
}

#[test]
fn without_side_processes_nothing_is_fetched_and_what_sync_says_still_counts() {
    told_by_another_container(Outcome::Fenced, 114, Reason::Fenced);
    told_by_another_container(Outcome::TooLarge, 115, Reason::Disk);
    told_by_another_container(Outcome::Edited, 118, Reason::Edited);
}

#[test]
fn a_last_push_that_does_not_come_is_told_loudly() {
    let home = Home::new();
    home.bot("#!/bin/sh\nexit 4\n");
    home.put("outcome", "failed");
    let mut command = home.command();
    command.env("THE0_DRAIN", "1s").args(["--restart", "never"]);
    assert_eq!(home.run(command), 4);
    assert!(
        home.journal().contains("NOT in the store"),
        "{}",
        home.journal()
    );
    assert_eq!(home.journal().matches("for the last push").count(), 1);
}

#[test]
fn leftovers_of_a_crash_are_ended_before_the_next_run() {
    let home = Home::new();
    home.bot("#!/bin/sh\n[ -e $STATE_DIR.up ] && exec sleep 1000\nsetsid sh -c 'trap \"\" TERM; echo $$ > '$STATE_DIR.up'; exec sleep 1000' &\nwhile [ ! -s $STATE_DIR.up ]; do sleep 0.05; done\nexit 1\n");
    let mut command = home.alone();
    command.env("THE0_GRACE", "2s");
    let mut process = home.start(command);
    wait_for("the second run", LATE, || {
        home.status().filter(|s| s.run == 2 && s.pid.is_some())
    });
    let left: i32 = read(&home.paths.state.join(".the0-state.up"))
        .trim()
        .parse()
        .unwrap();
    assert!(!is_alive(left));
    process.signal(Signal::SIGTERM);
    process.code(LATE);
}

#[test]
fn a_grandchild_that_holds_standard_output_keeps_no_run_alive() {
    let home = Home::new();
    home.bot("#!/bin/sh\necho last words\nprintf 'and no newline'\n(trap '' TERM; exec sleep 1000) &\nexit 0\n");
    let mut command = home.alone();
    command.env("THE0_GRACE", "1s").args(["--restart", "never"]);
    assert_eq!(home.run(command), 0);
    assert_eq!(home.lines(), ["last words", "and no newline"]);
}

#[test]
fn output_passes_through_unchanged_and_by_lines_into_the_log() {
    let home = Home::new();
    home.bot("#!/bin/sh\nprintf 'one\\ntwo \\001\\377\\n\\nhalf'\nprintf 'err\\n' >&2\n");
    let mut command = home.alone();
    command.args(["--restart", "never"]).stdout(Stdio::piped());
    let mut process = home.start(command);
    let mut out = Vec::new();
    process
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut out)
        .unwrap();
    assert_eq!(process.code(LATE), 0);
    assert_eq!(out, b"one\ntwo \x01\xff\n\nhalf");
    assert!(home.journal().contains("\nerr\n"), "{}", home.journal());
    let bytes = fs::read(home.paths.logs.join("bot.log")).unwrap();
    assert_eq!(bytes.split(|b| *b == b'\n').count(), 6);
    assert!(
        bytes.contains(&0xff),
        "bytes that are not text are kept as they are"
    );
}

#[test]
fn a_bot_is_never_blocked_by_who_reads_it() {
    let home = Home::new();
    home.bot("#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' 'x' | fold -w 99\nhead -c 3000000 /dev/zero | tr '\\0' 'y' | fold -w 99 >&2\necho through > $STATE_DIR.through\nexec sleep 1000\n");
    let mut command = home.alone();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::start(&mut command);
    wait_for("the bot to have written it all", LATE, || {
        home.paths
            .state
            .join(".the0-state.through")
            .exists()
            .then_some(())
    });
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(LATE), 143, "nobody read a byte");
    assert_eq!(
        home.log().len() / 1_000_000,
        (2 * 3_000_000 + 2 * 30_304 * 29) / 1_000_000,
        "the log has it all"
    );
}

#[test]
fn a_chatty_bot_fills_eight_segments_and_what_was_dropped_is_counted() {
    let home = Home::new();
    home.bot("#!/bin/sh\nhead -c 80000000 /dev/zero | tr '\\0' 'x' | fold -w 999\necho the end\n");
    let mut command = home.alone();
    command.args(["--restart", "never"]);
    assert_eq!(home.run(command), 0);
    let segments = logs::segments(&home.paths.logs).unwrap();
    assert_eq!(segments.len(), logs::SEGMENTS);
    assert!(segments[0].0 > 1);
    let dropped = home.status().unwrap().log_lines_dropped;
    let log = home.log();
    let told: u64 = log
        .lines()
        .filter_map(|line| {
            line.split("the0: ")
                .nth(1)?
                .split(' ')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum();
    assert_eq!(told, dropped);
    let kept = log.lines().filter(|line| !line.contains("the0: ")).count() as u64;
    assert_eq!(
        kept + dropped,
        80_000_000_u64.div_ceil(999),
        "every line is kept or counted"
    );
    assert!(log.trim_end().ends_with("the end"));
}

#[test]
fn a_run_lost_with_its_supervisor_is_recorded_by_the_next() {
    let home = Home::new();
    home.bot("#!/bin/sh\nexec sleep 1000\n");
    let mut process = home.start(home.alone());
    let bot = home.wait_for_bot();
    process.signal(Signal::SIGKILL);
    process.code(SOON);
    wait_for("the bot to end with its supervisor", SOON, || {
        (!is_alive(bot)).then_some(())
    });
    assert!(home.runs().is_empty());
    let mut process = home.start(home.alone());
    wait_for("the second run", LATE, || {
        home.status().filter(|s| s.run == 2 && s.pid.is_some())
    });
    assert_eq!(
        (home.runs()[0].run, home.runs()[0].reason),
        (1, Reason::Lost)
    );
    process.signal(Signal::SIGTERM);
    process.code(LATE);
    assert_eq!(home.runs().len(), 2);
}

#[test]
fn a_supervisor_ends_with_its_parent() {
    let home = Home::new();
    home.bot("#!/bin/sh\ntrap 'echo bye; exit 0' TERM\nwhile :; do sleep 0.05; done\n");
    let mut parent = Command::new("sh");
    let supervisor = home.program("supervisor");
    parent
        .args([
            "-c",
            "\"$1\" --no-side-processes --die-with-parent=$$ & wait",
            "sh",
        ])
        .arg(supervisor);
    parent
        .env_clear()
        .envs(home.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut parent = home.start(parent);
    let bot = home.wait_for_bot();
    parent.signal(Signal::SIGKILL);
    parent.code(SOON);
    wait_for("the bot's end", LATE, || (!is_alive(bot)).then_some(()));
    wait_for("the record", LATE, || {
        home.done()
            .filter(|record| record.reason == Reason::Stopped)
    });
}

#[test]
fn a_stop_has_an_end_for_a_bot_that_ignores_it() {
    let home = Home::new();
    home.bot("#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 0.05; done\n");
    let mut command = home.command();
    command.env("THE0_GRACE", "1s");
    let mut process = home.start(command);
    wait_for("the bot", LATE, || {
        home.log().contains("ready").then_some(())
    });
    process.signal(Signal::SIGTERM);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.code(LATE), 137);
    let record = home.done().unwrap();
    assert_eq!((record.reason, record.signal), (Reason::Stopped, Some(9)));
}

#[test]
fn a_confined_bot_writes_to_its_own_folders_only() {
    let kernel = run(&mut init(&[], &["cat", "/proc/version"]));
    // Not under /tmp, which a bot may write to.
    let home = Home::within(tempfile::tempdir_in("/var/tmp").unwrap());
    home.bot("#!/bin/sh\nfor d in $STATE_DIR.x ./code.x /dev/null; do echo > $d && echo may $d; done\necho > $1/../var/x || echo var refused\nkill -0 $PPID || echo signal refused\ngrep NoNewPrivs /proc/self/status\n".replace("$1", home.paths.code.to_str().unwrap()).as_str());
    let mut command = home.alone();
    command.args(["--restart", "never"]);
    assert_eq!(home.run(command), 0);
    let log = home.log();
    assert_eq!(log.matches("may ").count(), 3, "{log}");
    assert!(log.contains("NoNewPrivs:\t1"), "{log}");
    if home.journal().contains("Landlock") {
        skip(
            "a_confined_bot_writes_to_its_own_folders_only",
            &format!("this kernel lacks it: {}", text(&kernel.stdout)),
        );
        return;
    }
    assert!(
        log.contains("var refused") && log.contains("signal refused"),
        "{log}"
    );
}

/// A memory cgroup of the first hierarchy with a limit, removed with the test; `None` where none may be made.
struct Limited(PathBuf);

impl Limited {
    fn new(bytes: u64) -> Option<Self> {
        let path = PathBuf::from(format!(
            "/sys/fs/cgroup/memory/the0-test-{}",
            std::process::id()
        ));
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        fs::write(group.0.join("memory.limit_in_bytes"), bytes.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_bot_that_takes_all_memory_is_recorded_as_such_and_the_supervisor_lives() {
    let Some(group) = Limited::new(64 << 20) else {
        skip(
            "a_bot_that_takes_all_memory_is_recorded_as_such_and_the_supervisor_lives",
            "no memory cgroup of the first hierarchy may be made here",
        );
        return;
    };
    let home = Home::new();
    home.bot(
        "#!/usr/bin/env python3\nkept = []\nwhile True: kept.append(bytearray(b'x') * (1 << 20))\n",
    );
    let mut command = Command::new("sh");
    let enter = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";
    command
        .args(["-c", enter, "sh"])
        .arg(&group.0)
        .arg(home.program("supervisor"));
    command.args(["--no-side-processes", "--restart", "never"]);
    command
        .env_clear()
        .envs(home.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    assert_eq!(home.run(command), 137, "{}", home.journal());
    let record = home.done().unwrap();
    assert_eq!((record.reason, record.signal), (Reason::Oom, Some(9)));
}

/// A question to the bot whose query program is `text`, its result left in a file; with the code and the result.
fn left(text: &str) -> (i32, serde_json::Value) {
    let home = Home::new();
    script(&home.paths.code.join("asks"), text);
    let file = home.dir.path().join("answer.json");
    let mut command = home.alone();
    command
        .env("QUERY_ENTRYPOINT", "asks")
        .env("QUERY_PATH", "/x")
        .env("THE0_CONFINE", "off")
        .env("THE0_QUERY_TIMEOUT", "2s")
        .env("THE0_QUERY_RESULT_FILE", &file);
    let output = home.dir.path().join("output");
    command.stdout(fs::File::create(&output).unwrap());
    let code = home.run(command);
    assert_eq!(read(&output), "", "nothing of it is in the log");
    assert_eq!(home.calls(), [""; 0], "nothing is fetched");
    assert_eq!(home.runs().len(), 0, "the bot is not run");
    let result = serde_json::from_str(&read(&file));
    (
        code,
        result.unwrap_or_else(|err| panic!("{err}: {}", home.journal())),
    )
}

#[test]
fn where_others_send_the_result_is_a_file_and_the_code_tells_that_it_is_there() {
    for (text, word) in [
        (
            "#!/bin/sh\nexit 3\n",
            "ended with code 3 and without a result",
        ),
        ("#!/bin/sh\nsleep 100 & sleep 100\n", "no answer within 2s"),
    ] {
        let (code, result) = left(text);
        assert_eq!((code, &result["status"]), (0, &"error".into()));
        let why = result["error"].as_str().unwrap_or_default();
        assert!(why.contains(word), "{why}");
    }
}
