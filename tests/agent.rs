//! `agent dev` as a person uses it: real binaries, real bots in Python, real signals.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tests::{Process, bin, is_alive, read, run, skip, text, wait_for};

/// Longer than anything takes here on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

/// Counts in its state, and has a child that left its session.
const COUNTER: &str = r#"
import json, os, pathlib, subprocess, time
def main(id, config):
    path = pathlib.Path(os.environ["STATE_DIR"]) / "count.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = json.loads(path.read_text()) if path.exists() else 0
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print("VERSION 1 began at", count, config, flush=True)
    while True:
        count += 1
        path.with_suffix(".tmp").write_text(json.dumps(count))
        path.with_suffix(".tmp").rename(path)
        time.sleep(0.05)
"#;

/// Does nothing, for ever.
const IDLE: &str =
    "import time\ndef main(id, config):\n    print('idle', flush=True)\n    time.sleep(100000)\n";

/// Does not let itself be asked to end.
const STUBBORN: &str = "
import signal, time
def main(id, config):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print('stubborn', flush=True)
    time.sleep(100000)
";

/// Runs to its end.
const ONCE: &str =
    "import sys\ndef main(id, config):\n    print('once', flush=True)\n    sys.exit(3)\n";

/// Answers questions by the contract.
const QUERY: &str = r#"
import json, os, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit
class Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "{}")
        if urlsplit(self.path).path == "/slow": time.sleep(20)
        found = urlsplit(self.path).path == "/echo"
        answer = {"status": "ok", "data": body} if found else {"status": "error", "error": "No handler for path: " + self.path, "available": ["/echo"]}
        self.send_response(200 if found else 404)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())
    def log_message(self, *args): pass
HTTPServer(("127.0.0.1", int(os.environ["THE0_QUERY_PORT"])), Answers).serve_forever()
"#;

/// A folder of bots and a data folder.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bots")).unwrap();
        Self { dir }
    }

    fn bots(&self) -> PathBuf {
        self.dir.path().join("bots")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Writes a bot with the program `main`; `more` goes into its definition.
    fn bot(&self, name: &str, main: &str, more: &str) -> PathBuf {
        let folder = self.bots().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("main.py"), main).unwrap();
        let query = if more.contains("query:") {
            ""
        } else {
            "entrypoints: {bot: main.py}\n"
        };
        let config = format!("name: {name}\nversion: 1.0.0\nruntime: python3.11\n{query}{more}");
        fs::write(folder.join("bot-config.yaml"), config).unwrap();
        folder
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin("agent"));
        command.args(args).arg("--data").arg(self.data());
        command
            .env("THE0_GRACE", "3s")
            .env("THE0_DRAIN", "30s")
            .env_remove("THE0_DATA");
        command
    }

    fn agent(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    /// The agent's standard output; the command must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.agent(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// The exit code and standard error of a command that must fail.
    fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.agent(args);
        (output.status.code().unwrap(), text(&output.stderr))
    }

    /// Starts a session and waits until it answers.
    fn dev(&self) -> Session<'_> {
        let mut command = self.command(&["dev", "--settle", "1s"]);
        command.arg(self.bots());
        self.start(&mut command)
    }

    fn start(&self, command: &mut Command) -> Session<'_> {
        let screen = self.dir.path().join("screen");
        let out = File::create(&screen).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        let process = Process::start(command);
        let session = Session {
            place: self,
            process,
            screen,
        };
        wait_for("the greeting", LONG, || {
            session
                .screen()
                .contains("in another terminal")
                .then_some(())
        });
        session
    }

    fn row(&self, name: &str) -> Option<Value> {
        let rows: Vec<Value> = serde_json::from_str(&self.ok(&["ps", "-o", "json"])).unwrap();
        rows.into_iter().find(|row| row["name"] == name)
    }

    /// Waits until the bot is in `state`.
    fn state(&self, name: &str, state: &str) -> Value {
        let mut last = None;
        wait_for(&format!("{name} to be {state}"), LONG, || {
            last = self.row(name);
            last.clone().filter(|row| row["state"] == state)
        })
    }

    fn folder_of(&self, name: &str) -> PathBuf {
        let id = self.row(name).unwrap()["id"].as_str().unwrap().to_owned();
        self.data().join("bots").join(id)
    }

    /// What the counter in this bot's state has come to.
    fn count(folder: &Path) -> u64 {
        read(&folder.join("state/.the0-state/count.json"))
            .trim()
            .parse()
            .unwrap_or(0)
    }

    /// Processes of any bot of this place.
    fn processes(&self) -> Vec<i32> {
        let data = self.dir.path().to_str().unwrap().to_owned();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let environment = read(Path::new(&format!("/proc/{pid}/environ")));
            let is_ours = cwd.starts_with(&data) || environment.contains(&data);
            is_ours && is_alive(*pid)
        })
        .collect()
    }

    fn nothing_is_left(&self) {
        wait_for("all processes to end", LONG, || {
            self.processes().is_empty().then_some(())
        });
    }
}

/// A running `agent dev`.
struct Session<'a> {
    place: &'a Place,
    process: Process,
    screen: PathBuf,
}

impl Session<'_> {
    fn screen(&self) -> String {
        read(&self.screen)
    }

    fn says(&self, what: &str) {
        let found = || self.screen().contains(what).then_some(());
        wait_for(&format!("{what:?} in {}", self.screen()), LONG, found);
    }

    /// Ends it as Ctrl-C does.
    fn end(mut self) {
        self.process.signal(Signal::SIGINT);
        assert_eq!(self.process.code(LONG), 0, "{}", self.screen());
        self.place.nothing_is_left();
    }
}

fn pid(row: &Value, field: &str) -> i32 {
    i32::try_from(
        row[field]
            .as_i64()
            .unwrap_or_else(|| panic!("{field} of {row}")),
    )
    .unwrap()
}

fn run_of(row: &Value) -> u64 {
    row["run"].as_u64().unwrap()
}

#[test]
fn bots_of_a_folder_run_and_can_be_looked_at_and_asked() {
    let place = Place::new();
    place.bot("counter", COUNTER, "config: {limit: 5}\n");
    let asker = place.bot(
        "asker",
        IDLE,
        "entrypoints: {bot: main.py, query: query.py}\n",
    );
    fs::write(asker.join("query.py"), QUERY).unwrap();
    let session = place.dev();
    place.state("counter", "running");
    session.says("counter | VERSION 1 began at 0 {'limit': 5}");

    let table = place.ok(&["ps"]);
    assert!(
        table.starts_with("NAME") && table.contains("counter  "),
        "{table}"
    );
    let log = wait_for("the log", LONG, || {
        let log = place.ok(&["logs", "counter"]);
        log.contains("began at 0").then_some(log)
    });
    assert!(log.starts_with("VERSION 1"), "{log}");

    let answer = wait_for("an answer", LONG, || {
        let output = place.agent(&["query", "asker", "/echo", "limit=5", "symbol=BTC/USD"]);
        output.status.success().then(|| text(&output.stdout))
    });
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer, serde_json::json!({"limit": 5, "symbol": "BTC/USD"}));
    let (code, error) = place.fails(&["query", "asker", "/nope"]);
    assert!(
        code == 1 && error.contains("No handler") && error.contains("/echo"),
        "{code} {error}"
    );
    let whole = place.ok(&["query", "asker", "echo", "-o", "json"]);
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert!(
        whole["duration"].is_u64() && whole["timestamp"].is_string(),
        "{whole}"
    );

    let (code, error) = place.fails(&["query", "--timeout", "1s", "asker", "/slow"]);
    assert!(
        code == 1 && error.contains("no answer within 1s"),
        "{error}"
    );

    let rows = [
        (
            vec!["query", "counter", "/x"],
            1,
            "does not have a query entrypoint",
        ),
        (vec!["query", "nobody", "/x"], 4, "nobody"),
        (vec!["restart", "nobody"], 4, "counter"),
        (vec!["logs", "nobody"], 4, "counter"),
        (vec!["query", "asker", "/x", "novalue"], 2, "KEY=VALUE"),
    ];
    for (args, expected, part) in rows {
        let (code, error) = place.fails(&args);
        assert!(
            code == expected && error.contains(part),
            "{args:?}: {code} {error}"
        );
    }
    session.end();
    let (code, error) = place.fails(&["ps"]);
    assert!(code == 3 && error.contains("agent dev"), "{code} {error}");
    assert!(
        place.ok(&["logs", "counter"]).contains("began at 0"),
        "without an agent"
    );
}

#[test]
fn one_bots_trouble_is_told_and_is_its_own() {
    let place = Place::new();
    place.bot("good", IDLE, "");
    place.bot(
        "once",
        ONCE,
        "type: scheduled\nconfig: {schedule: '0 0 1 1 *'}\n",
    );
    place.bot("off", IDLE, "enabled: false\n");
    let bad = place.bot("bad", IDLE, "type: daily\n");
    place.bot("event", IDLE, "type: event\n");
    let absent = ["dotnet8", "scala3"].into_iter().zip(["dotnet", "java"]);
    let path = std::env::var("PATH").unwrap_or_default();
    let on_path = |program: &str| {
        path.split(':')
            .any(|dir| Path::new(dir).join(program).exists())
    };
    let absent = absent
        .filter(|(_, program)| !on_path(program))
        .map(|(runtime, _)| runtime)
        .next();
    if let Some(runtime) = absent {
        let folder = place.bot("alien", IDLE, "");
        let config = format!("name: alien\nruntime: {runtime}\nentrypoints: {{bot: main.py}}\n");
        fs::write(folder.join("bot-config.yaml"), config).unwrap();
    } else {
        skip(
            "one_bots_trouble_is_told_and_is_its_own",
            "every runtime is installed",
        );
    }
    let session = place.dev();
    place.state("good", "running");
    let ran = |runs: u64| {
        wait_for("a run of the schedule", LONG, || {
            let row = place.row("once")?;
            (run_of(&row) == runs && row["last_tick"]["state"] == "failed").then_some(row)
        })
    };
    let knows = || place.row("once").filter(|row| row["next_tick"].is_string());
    wait_for("its next tick", LONG, knows);
    place.ok(&["cron", "run", "once"]);
    assert_eq!(ran(1)["last_exit"]["code"], 3);
    assert_eq!(place.state("off", "disabled")["run"], 0);
    if absent.is_some() {
        let reason = place.state("alien", "failed")["reason"].to_string();
        assert!(reason.contains("not installed"), "{reason}");
    }
    let reason = place.state("bad", "invalid")["reason"].to_string();
    assert!(
        reason.contains("bad/bot-config.yaml: type") && reason.contains("use realtime"),
        "{reason}"
    );
    assert!(
        place.state("event", "invalid")["reason"]
            .to_string()
            .contains("event")
    );

    let config = fs::read_to_string(bad.join("bot-config.yaml")).unwrap();
    fs::write(
        bad.join("bot-config.yaml"),
        config.replace("daily", "realtime"),
    )
    .unwrap();
    place.state("bad", "running");
    place.ok(&["cron", "run", "once"]);
    ran(2);
    let config = "name: good\nversion: 1.0.0\nenabled: 0\nentrypoints: {bot: main.py}\n";
    fs::write(place.bots().join("good/bot-config.yaml"), config).unwrap();
    place.state("good", "disabled");
    session.end();
}

#[test]
fn a_stop_is_remembered_and_state_goes_on() {
    let place = Place::new();
    place.bot("counter", COUNTER, "");
    place.bot("other", IDLE, "");
    let session = place.dev();
    place.state("counter", "running");
    place.state("other", "running");
    let folder = place.folder_of("counter");
    wait_for("some counting", LONG, || {
        (Place::count(&folder) > 5).then_some(())
    });
    place.ok(&["stop", "other"]);
    place.state("other", "stopped");
    session.end();
    let counted = Place::count(&folder);
    assert!(counted > 5);

    let session = place.dev();
    place.state("counter", "running");
    session.says(&format!("began at {counted} "));
    assert_eq!(place.state("other", "stopped")["run"], 1);
    place.ok(&["start", "other"]);
    place.state("other", "running");
    let before = place.state("counter", "running");
    place.ok(&["restart", "count"]);
    let after = wait_for("another run", LONG, || {
        place
            .row("counter")
            .filter(|row| row["state"] == "running" && run_of(row) > run_of(&before))
    });
    assert_ne!(pid(&before, "supervisor"), pid(&after, "supervisor"));
    session.end();
}

#[test]
fn an_edit_restarts_the_bot_it_is_about_and_only_if_it_changes_something() {
    let place = Place::new();
    let counter = place.bot("counter", COUNTER, "");
    place.bot("other", IDLE, "");
    let session = place.dev();
    let other = place.state("other", "running");
    let before = place.state("counter", "running");
    fs::write(counter.join("main.py"), COUNTER).unwrap();
    fs::write(counter.join("result.json"), "{}").unwrap();
    fs::write(
        counter.join("main.py"),
        COUNTER.replace("VERSION 1", "VERSION 2"),
    )
    .unwrap();
    session.says("counter | VERSION 2 began at");
    let after = place.state("counter", "running");
    assert_eq!(run_of(&after), run_of(&before) + 1);
    assert_eq!(
        pid(&place.state("other", "running"), "supervisor"),
        pid(&other, "supervisor")
    );
    let bundles = place.data().join("store/custom-bots/dev/counter");
    for version in 3..9 {
        let text = COUNTER.replace("VERSION 1", &format!("VERSION {version}"));
        fs::write(counter.join("main.py"), text).unwrap();
        session.says(&format!("counter | VERSION {version} began at"));
    }
    assert!(
        fs::read_dir(bundles).unwrap().count() <= 4,
        "old bundles are collected"
    );
    session.end();
}

#[test]
fn an_agent_that_is_killed_leaves_nothing_and_the_next_goes_on() {
    let place = Place::new();
    place.bot("counter", COUNTER, "");
    let mut session = place.dev();
    let row = place.state("counter", "running");
    let folder = place.folder_of("counter");
    wait_for("some counting", LONG, || {
        (Place::count(&folder) > 5).then_some(())
    });
    let locks = |pid: i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        fds.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("lock")))
            .count()
    };
    assert_eq!(
        locks(pid(&row, "supervisor")),
        1,
        "the supervisor holds its bot's lock"
    );
    assert_eq!(locks(pid(&row, "pid")), 0, "the bot does not");
    session.process.signal(Signal::SIGKILL);
    session.process.code(LONG);
    // At once: the earlier supervisor may still be ending, and is waited for.
    let next = place.dev();
    let again = place.state("counter", "running");
    assert_ne!(pid(&again, "supervisor"), pid(&row, "supervisor"));
    assert!(!is_alive(pid(&row, "supervisor")) && !is_alive(pid(&row, "pid")));
    let counted = Place::count(&folder);
    wait_for("counting on", LONG, || {
        (Place::count(&folder) > counted.max(5)).then_some(())
    });
    assert!(!next.screen().contains("began at 0 "));
    drop(session);
    next.end();
}

#[test]
fn an_agent_that_is_killed_takes_its_bots_along_and_the_next_one_waits_for_their_end() {
    let place = Place::new();
    place.bot("counter", COUNTER, "");
    place.bot("stubborn", STUBBORN, "");
    let mut session = place.dev();
    place.state("counter", "running");
    let row = place.state("stubborn", "running");
    session.says("stubborn | stubborn");
    session.process.signal(Signal::SIGKILL);
    session.process.code(LONG);
    let next = place.dev();
    next.says("stubborn: an earlier agent's supervisor of this bot is still ending");
    assert!(is_alive(pid(&row, "pid")), "it has its grace");
    let again = place.state("stubborn", "running");
    assert!(!is_alive(pid(&row, "pid")) && !is_alive(pid(&row, "supervisor")));
    assert_eq!(run_of(&again), run_of(&row) + 1);
    let mut next = next;
    next.process.signal(Signal::SIGKILL);
    next.process.code(LONG);
    place.nothing_is_left();
}

#[test]
fn a_supervisor_that_is_killed_is_replaced_and_leaves_no_orphan() {
    let place = Place::new();
    place.bot("counter", COUNTER, "");
    let session = place.dev();
    let before = place.state("counter", "running");
    session.says("VERSION 1 began at");
    let old = place.processes();
    assert!(
        old.len() >= 4,
        "supervisor, sync, bot and its child: {old:?}"
    );
    kill(Pid::from_raw(pid(&before, "supervisor")), Signal::SIGKILL).unwrap();
    let after = wait_for("another supervisor", LONG, || {
        place
            .row("counter")
            .filter(|row| row["state"] == "running" && row["supervisor"] != before["supervisor"])
    });
    let agent = i32::try_from(session.process.0.id()).unwrap();
    let left = || {
        old.iter()
            .filter(|pid| **pid != agent && is_alive(**pid))
            .count()
            == 0
    };
    wait_for("the old processes to be gone", LONG, || {
        left().then_some(())
    });
    assert!(run_of(&after) > run_of(&before));
    session.says("ended by signal 9");
    session.end();
}

#[test]
fn a_second_interrupt_does_not_wait() {
    let place = Place::new();
    place.bot("stubborn", STUBBORN, "");
    let mut command = place.command(&["dev"]);
    command.arg(place.bots()).env("THE0_GRACE", "10m");
    let mut session = place.start(&mut command);
    place.state("stubborn", "running");
    session.says("stubborn | stubborn");
    session.process.signal(Signal::SIGINT);
    session.says("ending all bots");
    session.process.signal(Signal::SIGINT);
    assert_eq!(session.process.code(LONG), 130, "{}", session.screen());
    assert!(session.screen().contains("unsaved"));
    place.nothing_is_left();
}

#[test]
fn a_term_and_a_hangup_end_a_session_like_an_interrupt() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let place = Place::new();
        place.bot("idle", IDLE, "");
        let mut session = place.dev();
        place.state("idle", "running");
        session.process.signal(signal);
        assert_eq!(session.process.code(LONG), 0, "{}", session.screen());
        place.nothing_is_left();
    }
}

#[test]
fn a_bot_is_deployed_updated_and_taken_away() {
    let place = Place::new();
    let elsewhere = Place::new();
    let counter = elsewhere.bot("counter", COUNTER, "config: {limit: 5}\n");
    let path = counter.to_str().unwrap();
    let said = place.ok(&["deploy", path]);
    assert!(
        said.contains("deployed counter 1.0.0") && said.contains("no agent runs"),
        "{said}"
    );
    let session = place.dev();
    place.state("counter", "running");
    session.says("VERSION 1 began at 0 {'limit': 5}");
    let said = place.ok(&["deploy", path]);
    assert!(
        said.contains("same as before") && said.contains("takes it up"),
        "{said}"
    );

    fs::write(
        counter.join("main.py"),
        COUNTER.replace("VERSION 1", "VERSION 2"),
    )
    .unwrap();
    let said = place.ok(&["deploy", path]);
    assert!(
        said.contains("updated") && said.contains("replaced"),
        "{said}"
    );
    session.says("counter | VERSION 2 began at");

    let config = elsewhere.dir.path().join("second.yaml");
    fs::write(&config, "limit: 7\nname: second\n").unwrap();
    place.ok(&[
        "deploy",
        path,
        "--id",
        "second-one",
        "--config",
        config.to_str().unwrap(),
    ]);
    place.state("second", "running");
    session.says("{'limit': 7, 'name': 'second'}");

    fs::write(
        counter.join("bot-config.yaml"),
        "name: counter\nruntime: x\nentrypoints: {bot: main.py}\n",
    )
    .unwrap();
    let (code, error) = place.fails(&["deploy", path]);
    assert!(
        code == 1 && error.contains("runtime") && error.contains("use one of"),
        "{error}"
    );

    let said = place.ok(&["undeploy", "second"]);
    assert!(said.contains("state and log stay"), "{said}");
    wait_for("the bot to be gone", LONG, || {
        place.row("second").is_none().then_some(())
    });
    session.says("second: stopping, it was deleted");
    assert_eq!(place.fails(&["undeploy", "second"]).0, 4);
    place.state("counter", "running");
    let only_owner = fs::metadata(place.data()).unwrap().permissions().mode() & 0o777;
    assert_eq!(only_owner, 0o700, "parameters lie in the data folder");
    session.end();
}

#[test]
fn somebody_elses_data_is_not_taken_for_an_empty_one() {
    let name = "somebody_elses_data_is_not_taken_for_an_empty_one";
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "only root can be somebody else");
    }
    let place = Place::new();
    place.bot("mine", IDLE, "");
    let session = place.dev();
    place.state("mine", "running");
    // The programs may lie where others cannot reach: a copy can be run, though.
    let program = place.dir.path().join("agent");
    fs::copy(bin("agent"), &program).unwrap();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for args in [["ps", "-ojson"], ["logs", "mine"]] {
        let mut command = Command::new(&program);
        let user = std::os::unix::process::CommandExt::uid(&mut command, 65534);
        let output = run(user.args(args).arg("--data").arg(place.data()));
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("Permission denied"), "{error}");
    }
    session.end();
}

#[test]
fn a_second_agent_on_the_same_data_is_told_who_has_it() {
    let place = Place::new();
    place.bot("idle", IDLE, "");
    let session = place.dev();
    let bots = place.bots();
    let (code, error) = place.fails(&["dev", bots.to_str().unwrap()]);
    let holder = format!("process {}", session.process.0.id());
    assert!(
        code == 1 && error.contains(&holder) && error.contains("--data"),
        "{error}"
    );
    place.state("idle", "running");
    session.end();
}

#[test]
fn bots_that_vanish_together_run_on_until_it_is_confirmed() {
    let place = Place::new();
    let count = 8;
    for n in 0..count {
        place.bot(&format!("bot{n}"), IDLE, "");
    }
    let session = place.dev();
    for n in 0..count {
        place.state(&format!("bot{n}"), "running");
    }
    // All at once, and nothing can be listed: what runs goes on.
    let aside = place.dir.path().join("aside");
    fs::rename(place.bots(), &aside).unwrap();
    session.says("cannot be listed");
    fs::rename(&aside, place.bots()).unwrap();
    session.says("can be listed again");
    place.state("bot0", "running");

    for n in 1..count {
        fs::remove_dir_all(place.bots().join(format!("bot{n}"))).unwrap();
    }
    session.says("are missing at once");
    assert_eq!(place.state("bot1", "held")["run"], 1);
    assert!(place.ok(&["confirm"]).contains("confirmed: 7"));
    wait_for("seven to stop", LONG, || {
        let rows: Vec<Value> = serde_json::from_str(&place.ok(&["ps", "-o", "json"])).unwrap();
        (rows.len() == 1).then_some(())
    });
    // One alone is taken for removed.
    fs::remove_dir_all(place.bots().join("bot0")).unwrap();
    wait_for("the last to stop", LONG, || {
        place.row("bot0").is_none().then_some(())
    });
    session.end();
}

#[test]
fn a_bot_with_the_agents_data_in_its_own_folder_is_not_its_own_change() {
    let place = Place::new();
    let counter = place.bot("counter", COUNTER, "");
    let mut command = Command::new(bin("agent"));
    command
        .arg("dev")
        .current_dir(&counter)
        .env_remove("THE0_DATA");
    let session = place.start(&mut command);
    session.says("counter | VERSION 1 began at 0");
    let state = || {
        fs::read_dir(counter.join("data/bots"))
            .unwrap()
            .flatten()
            .next()
    };
    let folder = state().unwrap().path();
    wait_for("several listings", LONG, || {
        (Place::count(&folder) > 120).then_some(())
    });
    session.end();
    let runs = read(&folder.join("var/runs.jsonl"));
    assert_eq!(runs.lines().count(), 1, "{runs}");
}

#[test]
fn a_log_is_followed_while_the_bot_writes_it() {
    let place = Place::new();
    let ticks = "import time\ndef main(id, config):\n    n = 0\n    while True:\n        print('tick', n, flush=True)\n        n += 1\n        time.sleep(0.05)\n";
    place.bot("ticker", ticks, "");
    let session = place.dev();
    place.state("ticker", "running");
    session.says("ticker | tick 1");
    let followed = place.dir.path().join("followed");
    let mut command = place.command(&["logs", "-f", "-n", "1", "ticker"]);
    command.stdout(File::create(&followed).unwrap());
    let mut follower = Process::start(&mut command);
    wait_for("twenty lines", LONG, || {
        (read(&followed).lines().count() >= 20).then_some(())
    });
    follower.0.kill().unwrap();
    let numbers: Vec<u64> = read(&followed)
        .lines()
        .map(|line| line.strip_prefix("tick ").unwrap().parse().unwrap())
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{numbers:?}"
    );
    session.end();
}

#[test]
fn a_log_that_is_followed_is_left_when_nobody_reads_it_any_more() {
    let place = Place::new();
    place.bot("quiet", IDLE, "");
    let session = place.dev();
    place.state("quiet", "running");
    wait_for("the line", LONG, || {
        place.ok(&["logs", "quiet"]).contains("idle").then_some(())
    });
    let mut follow = place.command(&["logs", "-f", "quiet"]);
    let mut follow = Process::start(follow.stdin(Stdio::null()).stdout(Stdio::piped()));
    let mut pipe = follow.0.stdout.take().unwrap();
    let mut first = [0; 5];
    std::io::Read::read_exact(&mut pipe, &mut first).unwrap();
    assert_eq!(&first, b"idle\n");
    drop(pipe);
    assert_eq!(follow.code(LONG), 0);
    session.end();
}

#[test]
fn bots_with_one_name_are_told_apart_and_a_folder_of_any_name_can_be_pasted() {
    let place = Place::new();
    let config = "name: two\nentrypoints: {bot: main.py, query: main.py}\n";
    for folder in ["one", "other"] {
        let folder = place.bot(folder, IDLE, "");
        fs::write(folder.join("bot-config.yaml"), config).unwrap();
    }
    let data = place.dir.path().join("its data");
    let mut command = Command::new(bin("agent"));
    command.env_remove("THE0_DATA");
    command
        .arg("dev")
        .arg(place.bots())
        .arg("--data")
        .arg(&data);
    let mut session = place.start(&mut command);
    let pasted = format!("`export THE0_DATA='{}'`", data.display());
    session.says(&pasted);
    assert!(
        !session.screen().contains("logs -f two"),
        "{}",
        session.screen()
    );
    let ask = |args: &[&str]| {
        let mut command = Command::new(bin("agent"));
        let output = run(command.args(args).arg("--data").arg(&data));
        (output.status.code().unwrap(), text(&output.stderr))
    };
    for args in [["query", "two", "/x"], ["logs", "two", "-f"]] {
        let (code, error) = ask(&args);
        assert!(code == 4 && error.contains("give the id"), "{code} {error}");
    }
    assert_eq!(ask(&["logs", "one", "-n", "x"]).0, 2);
    let longest = ask(&[
        "query",
        "nobody",
        "/x",
        "--timeout",
        "18446744073709551615s",
    ]);
    assert_eq!(longest.0, 4, "{}", longest.1);

    // A name that an earlier bot had too means the one that is there.
    fs::remove_dir_all(place.bots().join("other")).unwrap();
    wait_for("the name to be clear", LONG, || {
        (ask(&["logs", "two"]).0 == 0).then_some(())
    });
    session.process.signal(Signal::SIGINT);
    assert_eq!(session.process.code(LONG), 0);
    place.nothing_is_left();
}

#[test]
fn what_is_not_in_the_store_at_the_end_is_told() {
    let place = Place::new();
    place.bot("counter", COUNTER, "");
    let mut command = place.command(&["dev"]);
    command.arg(place.bots()).env("THE0_DRAIN", "2s");
    let mut session = place.start(&mut command);
    place.state("counter", "running");
    let (store, away) = (place.data().join("store"), place.data().join("away"));
    fs::rename(&store, &away).unwrap();
    fs::write(&store, "no folder").unwrap();
    session.process.signal(Signal::SIGINT);
    assert_eq!(session.process.code(LONG), 1, "{}", session.screen());
    assert!(
        session
            .screen()
            .contains("not all that these had is in the store: counter")
    );
    drop(session);

    fs::remove_file(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    let session = place.dev();
    place.state("counter", "running");
    session.end();
}

#[test]
fn a_bot_that_cannot_run_is_not_said_to_be_started() {
    let place = Place::new();
    place.bot("off", COUNTER, "enabled: false\n");
    place.bot("broken", COUNTER, "type: event\n");
    let session = place.dev();
    for (name, why) in [("off", "disabled"), ("broken", "event")] {
        for verb in ["start", "restart"] {
            let (code, said) = place.fails(&[verb, name]);
            assert!(code == 1 && said.contains(why), "{verb} {name}: {said}");
        }
    }
    session.end();
}

#[test]
fn instances_of_one_version_do_not_get_other_code() {
    let place = Place::new();
    let folder = place.bot("shared", COUNTER, "");
    let folder = folder.to_str().unwrap();
    place.ok(&["deploy", folder, "--id", "one"]);
    place.ok(&["deploy", folder, "--id", "two"]);
    fs::write(
        Path::new(folder).join("main.py"),
        format!("{COUNTER}# changed\n"),
    )
    .unwrap();
    let (code, said) = place.fails(&["deploy", folder, "--id", "two"]);
    assert!(code == 1 && said.contains("raise the version"), "{said}");
    place.ok(&["undeploy", "one"]);
    place.ok(&["deploy", folder, "--id", "two"]);
}
