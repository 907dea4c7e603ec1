//! How the agent is seen by the programs around it: readers of logs, and a service manager.

use std::fs::{self, File};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::servers::mongo::{Mongo, bson::doc, document};
use tests::{Process, bin, repository, run, skip, text, wait_for};

/// Longer than anything takes here on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

/// An agent of a database without a Docker, in a folder.
fn command(dir: &TempDir, uri: &str) -> Command {
    let socket = dir.path().join("docker.sock");
    let _ = fs::remove_file(&socket);
    drop(UnixListener::bind(&socket).unwrap());
    let screen = File::create(dir.path().join("screen")).unwrap();
    let mut command = Command::new(bin("agent"));
    command.args(["run", "--reconcile-interval", "200ms", "--data"]);
    command.arg(dir.path().join("data")).env_clear();
    command.env("MONGO_URI", uri);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    command.envs([
        ("MINIO_ENDPOINT", "127.0.0.1:1"),
        ("MINIO_CONTAINER_ENDPOINT", "192.0.2.1:1"),
        ("MINIO_ACCESS_KEY", "hunter1"),
        ("MINIO_SECRET_KEY", "hunter2"),
    ]);
    command.stdin(Stdio::null());
    command.stdout(screen.try_clone().unwrap()).stderr(screen);
    command
}

fn screen(dir: &TempDir) -> String {
    fs::read_to_string(dir.path().join("screen")).unwrap()
}

/// The lines that are there, each an object of JSON with what every line has.
fn lines(screen: &str) -> Vec<Value> {
    let whole = screen.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|err| panic!("{line}: {err}"));
        for field in ["ts", "level", "program", "msg"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        line
    };
    whole.lines().map(parse).collect()
}

#[test]
fn every_line_of_the_agent_is_json_where_that_is_asked_for_and_names_the_bot_it_is_about() {
    let Some(mongo) = Mongo::start() else { return };
    let mut bad = document("bad", "u/b/1", doc! {"api_key": "hunter3"});
    bad.get_document_mut("custom").unwrap().remove("filePath");
    mongo.insert("bot_runner.bots", [bad]);
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&dir, &mongo.uri());
    let mut agent = Process::start(command.env("LOG_FORMAT", "json"));
    let about = wait_for("a line about the bot", LONG, || {
        let all = lines(&screen(&dir));
        all.into_iter().find(|line| line["bot"] == "bad")
    });
    assert_eq!(about["level"], "warn");
    assert_eq!(about["name"], "test-bot");
    assert!(
        about["msg"].as_str().unwrap().contains("filePath"),
        "{about}"
    );
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.code(LONG), 0);
    let all = screen(&dir);
    assert!(lines(&all).len() >= 4, "{all}");
    assert!(!all.contains("hunter"), "{all}");
}

#[test]
fn the_programs_beside_a_bot_say_bot_run_and_generation_and_a_bots_own_lines_are_messages() {
    let dir = tempfile::tempdir().unwrap();
    let bot = dir.path().join("bots/talker");
    fs::create_dir_all(&bot).unwrap();
    let config = "name: talker\nversion: 1.0.0\nruntime: python3.11\ntype: realtime\nentrypoints:\n  bot: main.py\n";
    fs::write(bot.join("bot-config.yaml"), config).unwrap();
    let main = "import time\ndef main(id, config):\n    print('{\"mine\": 1}', flush=True)\n    time.sleep(1000)\n";
    fs::write(bot.join("main.py"), main).unwrap();
    let screen_file = File::create(dir.path().join("screen")).unwrap();
    let mut command = Command::new(bin("agent"));
    command.arg("dev").arg(dir.path().join("bots"));
    command
        .env_remove("MINIO_ENDPOINT")
        .env("LOG_FORMAT", "json");
    command.env("THE0_DATA", dir.path().join("data"));
    command
        .stdin(Stdio::null())
        .stdout(screen_file)
        .stderr(Stdio::null());
    let mut agent = Process::start(&mut command);
    let find = |what: &str, fits: &dyn Fn(&Value) -> bool| {
        wait_for(what, LONG, || {
            lines(&screen(&dir)).into_iter().find(|line| fits(line))
        })
    };
    let has = |line: &Value, word: &str| line["msg"].as_str().is_some_and(|m| m.contains(word));
    let started = find("the start of a run", &|line| {
        line["program"] == "supervisor" && has(line, "started")
    });
    assert_eq!(started["run"], 1, "{started}");
    let bot = started["bot"].as_str().expect("a bot").to_owned();
    assert_eq!(started["name"], "talker");
    let watching = find("a word of sync", &|line| {
        line["program"] == "sync" && has(line, "watching")
    });
    assert_eq!(
        (&watching["generation"], &watching["bot"]),
        (&1.into(), &started["bot"])
    );
    let own = find("the bot's own line", &|line| has(line, "mine"));
    assert_eq!(
        (own["program"].as_str(), own["bot"].as_str()),
        (Some("bot"), Some(bot.as_str()))
    );
    assert_eq!(own["msg"], "{\"mine\": 1}");
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.code(LONG), 0);
    lines(&screen(&dir));
}

#[test]
fn a_service_manager_is_told_that_the_agent_is_ready_that_it_lives_and_that_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    let hear = || {
        let mut buffer = [0; 512];
        let count = manager.recv(&mut buffer).expect("a word of the agent's");
        text(&buffer[..count])
    };
    // Neither database, nor store, nor Docker is there: it is ready all the same.
    let mut command = command(&dir, "mongodb://127.0.0.1:1");
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
    let mut agent = Process::start(&mut command);
    assert!(hear().contains("READY=1"));
    assert!(dir.path().join("data/agent.sock").exists());
    assert_eq!([hear(), hear(), hear()], ["WATCHDOG=1"; 3]);
    agent.signal(Signal::SIGTERM);
    let last = (0..100).map(|_| hear()).find(|word| word != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(agent.code(LONG), 0);
}

#[test]
fn the_unit_is_one_that_systemd_takes_without_a_complaint() {
    let name = "the_unit_is_one_that_systemd_takes_without_a_complaint";
    let probe = Command::new("systemd-analyze").arg("--version").output();
    if probe.is_err() {
        return skip(name, "there is no systemd-analyze");
    }
    let unit = fs::read_to_string(repository().join("images/systemd/the0-agent.service")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // What is installed elsewhere is not here.
    let agent = bin("agent");
    let unit = unit.replace("/opt/the0/bin/agent", agent.to_str().unwrap());
    let unit = unit.replace("docker.service", "");
    let path = dir.path().join("the0-agent.service");
    fs::write(&path, unit).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&path);
    let output = run(&mut verify);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
