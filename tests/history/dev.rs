//! With bots as processes: `agent dev`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tests::stack::CRASHES_ONCE;
use tests::{Process, bin, read, run, skip, text, wait_for};

use crate::{Line, line, lines};

/// Longer than anything takes here on a loaded machine.
pub const LONG: Duration = Duration::from_secs(60);

/// A folder of bots, a data folder, and a session.
pub struct Place {
    dir: TempDir,
    /// More of the agent's environment.
    pub settings: Vec<(&'static str, String)>,
    session: Option<Process>,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bots")).unwrap();
        Self {
            dir,
            settings: vec![("THE0_HISTORY_INTERVAL", "1s".to_owned())],
            session: None,
        }
    }

    pub fn bot(&self, name: &str, main: &str, more: &str) {
        let folder = self.dir.path().join("bots").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("main.py"), main).unwrap();
        let config = format!("name: {name}\nversion: 1.0.0\nentrypoints: {{bot: main.py}}\n{more}");
        // A definition is seen before or after it is replaced, and not half of it.
        fs::write(folder.join("next"), config).unwrap();
        fs::rename(folder.join("next"), folder.join("bot-config.yaml")).unwrap();
    }

    fn screen(&self) -> PathBuf {
        self.dir.path().join("screen")
    }

    pub fn said(&self) -> String {
        read(&self.screen())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin("agent"));
        command.args(args).arg("--data");
        command.arg(self.dir.path().join("data"));
        command.env("THE0_GRACE", "3s").env("THE0_DRAIN", "30s");
        command.env_remove("THE0_DATA");
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn agent(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.agent(args);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        text(&output.stdout)
    }

    pub fn begin(&mut self) {
        let mut command = self.command(&["dev", "--settle", "1s"]);
        command.arg(self.dir.path().join("bots"));
        let out = File::options()
            .create(true)
            .append(true)
            .open(self.screen());
        let out = out.unwrap();
        command.stdin(Stdio::null());
        command.stdout(out.try_clone().unwrap()).stderr(out);
        self.session = Some(Process::start(&mut command));
        wait_for("an agent that answers", LONG, || {
            self.agent(&["ps"]).status.success().then_some(())
        });
    }

    pub fn end(&mut self) {
        let mut session = self.session.take().unwrap();
        session.signal(Signal::SIGINT);
        assert_eq!(session.code(LONG), 0, "{}", self.said());
    }

    pub fn entries(&self, bot: &str) -> Vec<Value> {
        let output = self.agent(&["history", "-n", "1000", "-o", "json", bot]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until the history of a bot is `expected`.
    fn tells(&self, bot: &str, expected: &[Line]) {
        let end = std::time::Instant::now() + LONG;
        loop {
            let found = lines(&self.entries(bot));
            if found == expected {
                return;
            }
            assert!(
                std::time::Instant::now() < end,
                "{found:#?} instead of {expected:#?}\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn row(&self, name: &str) -> Value {
        let rows: Vec<Value> = serde_json::from_str(&self.ok(&["ps", "-o", "json"])).unwrap();
        let row = rows.into_iter().find(|row| row["name"] == name);
        row.unwrap_or_default()
    }
}

#[test]
fn each_run_is_one_record_that_says_why_it_was_started_and_how_it_ended() {
    let mut place = Place::new();
    place.bot("b", CRASHES_ONCE, "config: {x: 1}\n");
    place.begin();
    let mut expected = vec![
        line(1, "created", Some("exited 7")),
        line(2, "crashed: exit 7", None),
    ];
    place.tells("b", &expected);

    place.bot("b", CRASHES_ONCE, "config: {x: 2}\n");
    expected[1].2 = Some("stopped: changed".into());
    expected.push(line(3, "config", None));
    place.tells("b", &expected);

    place.ok(&["restart", "b"]);
    expected[2].2 = Some("stopped: restarted".into());
    expected.push(line(4, "asked", None));
    place.tells("b", &expected);

    let changed = format!("{CRASHES_ONCE}\n# another one\n");
    place.bot("b", &changed, "config: {x: 2}\n");
    expected[3].2 = Some("stopped: changed".into());
    expected.push(line(5, "code", None));
    place.tells("b", &expected);

    let supervisor = place.row("b")["supervisor"].as_i64().unwrap();
    let supervisor = Pid::from_raw(i32::try_from(supervisor).unwrap());
    kill(supervisor, Signal::SIGKILL).unwrap();
    expected[4].2 = Some("lost".into());
    let lost = "crashed: its supervisor was killed with it";
    expected.push(line(6, lost, None));
    place.tells("b", &expected);

    place.end();
    expected[5].2 = Some("stopped: the session ended".into());
    place.tells("b", &expected);
    place.begin();
    expected.push(line(7, "host: the agent was away", None));
    place.tells("b", &expected);
    place.ok(&["stop", "b"]);
    expected[6].2 = Some("stopped: asked".into());
    place.tells("b", &expected);
    place.ok(&["start", "b"]);
    expected.push(line(8, "asked", None));
    place.tells("b", &expected);

    let entries = place.entries("b");
    let saved = |n: usize| &entries[n]["saved"];
    assert_eq!(saved(5)["all"], true, "{}", entries[5]);
    assert!(saved(5)["generation"].as_u64() > saved(0)["generation"].as_u64());
    for entry in &entries[..7] {
        assert!(entry["duration_ms"].is_u64() && entry["launch"].is_string());
        assert_eq!(entry["version"], "1.0.0");
    }
    let table = place.ok(&["history", "b", "-n", "3"]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 4, "{table}");
    assert!(rows[0].starts_with("STARTED") && rows[2].contains("host: the agent was away"));
    assert!(rows[2].contains("stopped: asked") && rows[2].contains("all, generation"));
    place.end();
}

#[test]
fn a_bot_that_exits_with_0_and_says_error_is_an_error() {
    let mut place = Place::new();
    let main = r#"
import json
def main(id, config):
    with open("result.json", "w") as file:
        json.dump({"status": "error", "message": "no funds", "data": {"balance": 0}}, file)
"#;
    place.bot("r", main, "type: scheduled\n");
    place.begin();
    place.tells("r", &[line(1, "created", Some("exited 0"))]);
    let result = place.entries("r")[0]["result"].clone();
    let expected = serde_json::json!({
        "status": "error", "message": "no funds", "data": {"balance": 0}
    });
    assert_eq!(result, expected);
    let table = place.ok(&["history", "r"]);
    assert!(table.contains("exit 0 (error: no funds)"), "{table}");
    place.end();
}

#[test]
fn starts_that_fail_over_and_over_are_one_record() {
    let path = std::env::var("PATH").unwrap_or_default();
    let is_there = |program: &str| {
        path.split(':')
            .any(|dir| std::path::Path::new(dir).join(program).exists())
    };
    if is_there("dotnet") {
        return skip(
            "starts_that_fail_over_and_over_are_one_record",
            "dotnet is installed",
        );
    }
    let mut place = Place::new();
    place.bot("alien", "", "runtime: dotnet8\n");
    place.begin();
    let entry = wait_for("a third try", LONG, || {
        let entries = place.entries("alien");
        assert!(entries.len() <= 1, "{entries:?}");
        let entry = entries.into_iter().next()?;
        (entry["count"].as_u64() >= Some(3)).then_some(entry)
    });
    assert_eq!(entry["reason"], "start_failed");
    assert_eq!(entry["cause"], "created");
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("not installed"), "{message}");
    place.end();
}

#[test]
fn ps_tells_what_a_bot_uses() {
    let mut place = Place::new();
    let busy = "def main(id, config):\n    while True: pass\n";
    place.bot("busy", busy, "");
    place.begin();
    let usage = wait_for("a bot that is busy", LONG, || {
        let usage = place.row("busy")["usage"].clone();
        (usage["cpu"].as_f64() > Some(5.0)).then_some(usage)
    });
    assert!(usage["memory"].as_u64() > Some(1 << 20), "{usage}");
    let table = place.ok(&["ps"]);
    let head = table.lines().next().unwrap();
    for column in [
        "STATE",
        "SINCE",
        "RESTARTS",
        "LAST-EXIT",
        "SYNCED",
        "CPU",
        "MEMORY",
    ] {
        assert!(head.contains(column), "{table}");
    }
    assert!(table.contains('%'), "{table}");
    place.end();
}
