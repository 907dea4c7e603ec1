//! With bots as containers and documents in MongoDB: `agent run`.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::listener::Listener;
use tests::servers::mongo::bson::{Document, doc};
use tests::servers::mongo::document;
use tests::stack::{BOTS, COUNTER, CRASHES_ONCE, IDLE, LONG, Stack};
use tests::{Process, wait_for};

use crate::{Line, line, lines};

const RUNS: &str = "bot_runner.runs";

/// Takes more memory than it may have, the first time.
const GREEDY: &str = r#"
import os, pathlib, time
def main(id, config):
    mark = pathlib.Path(os.environ["STATE_DIR"]) / "mark.json"
    mark.parent.mkdir(parents=True, exist_ok=True)
    if not mark.exists():
        mark.write_text("1")
        all = []
        while True: all.append(bytearray(b"x" * (1 << 20)))
    time.sleep(100000)
"#;

fn host(test: &str) -> Option<Stack> {
    let mut host = Stack::start(test, &["python3.11"])?;
    host.set("THE0_HISTORY_INTERVAL", "1s");
    Some(host)
}

fn entries(host: &Stack, bot: &str) -> Vec<Value> {
    let output = host.run(&["history", "-n", "1000", "-o", "json", bot]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Waits until the history of a bot is `expected`.
fn tells(host: &Stack, bot: &str, expected: &[Line]) {
    let end = Instant::now() + LONG;
    loop {
        let found = lines(&entries(host, bot));
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < end,
            "{found:#?} instead of {expected:#?}\n{}",
            host.said()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the database has of a bot.
fn documents(host: &Stack, bot: &str) -> Vec<Document> {
    let mut all = host.mongo.all(RUNS);
    all.retain(|run| run.get_str("bot").is_ok_and(|id| id == bot));
    all
}

/// Changes a bot, with which its run of this number begins, and kills the agent as soon as the container is seen. Tells
/// whether the run was recorded before.
fn is_recorded_before_a_kill(host: &mut Stack, bot: &str, run: u8) -> bool {
    let before = host.container(bot).inspect()["Id"].clone();
    host.change(bot, doc! {"config.x": i32::from(run)});
    wait_for("the container of a changed bot", LONG, || {
        let found = host.container(bot).inspect();
        let is_new = found["Id"] != before && found["State"]["Running"] == true;
        (is_new && found["Config"]["Labels"]["the0.cause"] == "config").then_some(())
    });
    host.kill();
    let is_it = |known: &Document| {
        known
            .get_i64("run")
            .is_ok_and(|number| number == i64::from(run))
    };
    documents(host, bot).iter().any(is_it)
}

#[test]
fn each_run_is_one_document_with_its_cause() {
    let Some(mut host) = host("history::causes") else {
        return;
    };
    let bot = host.bot("causes", CRASHES_ONCE, doc! {"x": 1});
    host.begin();
    let mut expected = vec![
        line(1, "created", Some("exited 7")),
        line(2, "crashed: exit 7", None),
    ];
    tells(&host, &bot, &expected);

    host.change(&bot, doc! {"config.x": 2});
    expected[1].2 = Some("stopped: changed".into());
    expected.push(line(3, "config", None));
    tells(&host, &bot, &expected);

    host.ok(&["restart", &bot]);
    expected[2].2 = Some("stopped: restarted".into());
    expected.push(line(4, "asked", None));
    tells(&host, &bot, &expected);

    host.change(&bot, doc! {"enabled": false});
    host.state(&bot, "disabled");
    host.change(&bot, doc! {"enabled": true});
    expected[3].2 = Some("stopped: disabled".into());
    expected.push(line(5, "enabled", None));
    tells(&host, &bot, &expected);

    let key = format!("tests/{bot}/2.0.0");
    host.code(&key, &[("main.py", CRASHES_ONCE)]);
    host.change(
        &bot,
        doc! {"custom.filePath": &key, "custom.version": "2.0.0"},
    );
    expected[4].2 = Some("stopped: changed".into());
    expected.push(line(6, "code", None));
    tells(&host, &bot, &expected);

    // The container is killed behind the agent's back.
    let container = host.container(&bot).inspect()["Id"].clone();
    host.docker.ask(["kill", container.as_str().unwrap()]);
    expected[5].2 = Some("lost".into());
    let lost = "crashed: its supervisor was killed with it";
    expected.push(line(7, lost, None));
    tells(&host, &bot, &expected);

    let found = entries(&host, &bot);
    for entry in &found {
        assert!(
            entry["image"].as_str().unwrap().starts_with("sha256:"),
            "{entry}"
        );
        assert_eq!(entry["container"].as_str().unwrap().len(), 12, "{entry}");
    }
    assert_eq!(found[4]["version"], "1.0.0");
    assert_eq!(found[5]["version"], "2.0.0");
    assert_eq!(found[1]["saved"]["all"], true, "{}", found[1]);
    assert_eq!(found[5]["saved"]["all"], false, "{}", found[5]);
    let documents = documents(&host, &bot);
    assert_eq!(documents.len(), 7, "one a run");
    assert!(
        documents
            .iter()
            .all(|run| run.get_datetime("started_at").is_ok())
    );
    assert!(documents[0].get_datetime("ended_at").is_ok());
    let row = host.row(&bot).unwrap();
    assert!(row["usage"]["memory"].as_u64() > Some(0), "{row}");
    assert!(row["usage"]["memory_limit"].as_u64() > Some(0), "{row}");
    assert!(row["usage"]["cpu"].is_f64(), "{row}");
}

#[test]
fn an_agent_that_is_killed_between_a_start_and_its_record_leaves_the_cause() {
    let Some(mut host) = host("history::killed") else {
        return;
    };
    let bot = host.bot("killed", IDLE, doc! {"x": 1});
    let mut expected = vec![line(1, "created", None)];
    // On a slow machine a record may be written before its container is seen.
    let is_missing = (2..=11u8).any(|run| {
        host.begin();
        tells(&host, &bot, &expected);
        if let Some(last) = expected.last_mut() {
            last.2 = Some("stopped: changed".into());
        }
        expected.push(line(run.into(), "config", None));
        !is_recorded_before_a_kill(&mut host, &bot, run)
    });
    assert!(is_missing, "each record was written before the kill");
    host.begin();
    tells(&host, &bot, &expected);
    assert_eq!(documents(&host, &bot).len(), expected.len());
}

#[test]
fn a_start_that_fails_is_on_record_once_with_how_often() {
    let Some(mut host) = host("history::failed") else {
        return;
    };
    let key = format!("tests/{}/none", host.name());
    let nocode = host.id("nocode");
    host.mongo
        .put(BOTS, &document(&nocode, &key, doc! {"name": "nocode"}));
    let noimage = host.bot("noimage", IDLE, doc! {});
    host.set("RUNTIME_IMAGE", "the0-no-such-image/{runtime}:none");
    host.begin();
    let failed = |bot: &str, least: u64| {
        wait_for("a start that failed again", LONG, || {
            let entry = entries(&host, bot).into_iter().last()?;
            let count = entry["count"].as_u64().unwrap_or(1);
            (entry["reason"] == "start_failed" && count >= least).then_some(entry)
        })
    };
    let entry = failed(&noimage, 3);
    assert_eq!(
        (&entry["cause"], &entry["run"]),
        (&"created".into(), &0.into())
    );
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("the0-no-such-image"), "{message}");
    assert_eq!(documents(&host, &noimage).len(), 1);

    host.end();
    host.settings.retain(|(name, _)| name != "RUNTIME_IMAGE");
    host.begin();
    host.state(&noimage, "running");
    wait_for("a run", LONG, || {
        let entries = entries(&host, &noimage);
        (entries.len() == 2 && entries[1]["run"] == 1).then_some(())
    });
    let entry = wait_for("code that is refused twice", LONG, || {
        let entry = entries(&host, &nocode).into_iter().last()?;
        (entry["exit"] == 112 && entry["count"].as_u64() >= Some(2)).then_some(entry)
    });
    assert_eq!(entry["reason"], "start_failed");
    assert_eq!(
        documents(&host, &nocode).len(),
        2,
        "an image, and then code"
    );
}

#[test]
fn a_bot_that_takes_too_much_memory_is_on_record_as_such() {
    let Some(mut host) = host("history::oom") else {
        return;
    };
    let bot = host.bot("greedy", GREEDY, doc! {"memory_limit": "48Mi"});
    host.begin();
    let expected = [
        line(1, "created", Some("oom")),
        line(2, "crashed: out of memory", None),
    ];
    tells(&host, &bot, &expected);
}

#[test]
fn what_a_database_that_is_away_could_not_take_is_written_when_it_is_back() {
    let Some(mut host) = host("history::outage") else {
        return;
    };
    let bot = host.bot("outage", IDLE, doc! {});
    host.begin();
    tells(&host, &bot, &[line(1, "created", None)]);
    host.mongo.stop();
    for _ in 0..2 {
        let before = host.container(&bot).inspect()["Id"].clone();
        host.ok(&["restart", &bot]);
        wait_for("another container", LONG, || {
            let found = host.container(&bot).inspect();
            (found["Id"] != before && found["State"]["Running"] == true).then_some(())
        });
        host.state(&bot, "running");
    }
    host.says("written later");
    let output = host.run(&["history", &bot]);
    assert!(output.status.success());
    let said = tests::text(&output.stderr);
    assert!(said.contains("not all may be shown"), "{said}");
    host.mongo.start_again();
    let expected = [
        line(1, "created", Some("stopped: restarted")),
        line(2, "asked", Some("stopped: restarted")),
        line(3, "asked", None),
    ];
    tells(&host, &bot, &expected);
    host.says("history is written again");
    assert_eq!(documents(&host, &bot).len(), 3);
}

#[test]
fn a_state_that_cannot_be_saved_is_told_and_that_it_is_again() {
    let Some(mut host) = host("history::unsaved") else {
        return;
    };
    let listener = Listener::start(0);
    let url = format!("http://{}/hook", listener.address);
    host.set("THE0_NOTICE_URL", &url);
    host.set("THE0_NOTICE_UNSAVED", "1s");
    let bot = host.bot("unsaved", COUNTER, doc! {});
    host.begin();
    wait_for("a state in the store", LONG, || {
        (host.saved(&bot) > 0).then_some(())
    });
    host.store.stop();
    let notice = wait_for("a notice", LONG * 2, || listener.taken().into_iter().next());
    assert_eq!(
        (&notice["kind"], &notice["bot"]),
        (&"unsaved".into(), &bot.as_str().into())
    );
    let message = notice["message"].as_str().unwrap();
    assert!(message.contains("saving failed"), "{notice}");
    let log = notice["log"].as_array().unwrap();
    assert!(
        log.iter()
            .any(|line| line.as_str().unwrap().contains("BEGAN")),
        "{notice}"
    );
    host.store.start_again();
    let notice = wait_for("a notice that it is over", LONG * 2, || {
        listener.taken().into_iter().nth(1)
    });
    assert_eq!(
        (&notice["kind"], &notice["of"]),
        (&"recovered".into(), &"unsaved".into())
    );
    host.ok(&["stop", &bot]);
    host.state(&bot, "stopped");
    assert_eq!(listener.taken().len(), 2, "{:?}", listener.taken());
}

#[test]
fn what_a_bot_says_of_its_run_is_on_record() {
    let Some(mut host) = host("history::result") else {
        return;
    };
    let main = r#"
def main(id, config):
    return {"status": "error", "message": "no funds", "data": {"$balance": 0, "a.b": [1]}}
"#;
    let bot = host.id("result");
    let key = format!("tests/{bot}/1.0.0");
    host.code(&key, &[("main.py", main)]);
    let mut document = document(&bot, &key, doc! {"name": "result"});
    let custom = document.get_document_mut("custom").unwrap();
    let definition = custom.get_document_mut("config").unwrap();
    definition.insert("type", "scheduled");
    host.mongo.put(BOTS, &document);
    host.begin();
    let entry = wait_for("a result", LONG, || {
        let entry = entries(&host, &bot).into_iter().next()?;
        entry["result"].is_object().then_some(entry)
    });
    assert_eq!(entry["exit"], 0, "{entry}");
    let said = &entry["result"];
    assert_eq!(
        (&said["status"], &said["message"]),
        (&"error".into(), &"no funds".into())
    );
    let data = serde_json::json!({"$balance": 0, "a.b": [1]});
    assert_eq!(said["data"], data, "{entry}");
    let table = host.ok(&["history", &bot]);
    assert!(table.contains("exit 0 (error: no funds)"), "{table}");
}

#[test]
fn the_kill_switch_and_a_roll_are_causes() {
    let Some(mut host) = host("history::switch") else {
        return;
    };
    let bot = host.bot("switch", IDLE, doc! {});
    host.begin();
    tells(&host, &bot, &[line(1, "created", None)]);
    host.ok(&["drain"]);
    let mut expected = vec![line(1, "created", Some("stopped: asked"))];
    tells(&host, &bot, &expected);
    // Another agent knows of the stop as well as the one that made it.
    host.end();
    host.begin();
    host.ok(&["start", "--all"]);
    expected.push(line(2, "host: all bots were stopped", None));
    tells(&host, &bot, &expected);

    host.end();
    host.set("THE0_PIDS", "200");
    host.begin();
    host.ok(&["roll"]);
    expected[1].2 = Some("stopped: rolled".into());
    expected.push(line(3, "rolled", None));
    tells(&host, &bot, &expected);
    assert_eq!(documents(&host, &bot).len(), 3);
}

#[test]
fn bots_of_a_folder_have_their_history_beside_them() {
    let Some(host) = host("history::folder") else {
        return;
    };
    let name = host.id("folder");
    let bots = tempfile::tempdir().unwrap();
    let folder = bots.path().join(&name);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("main.py"), CRASHES_ONCE).unwrap();
    let definition = format!("name: {name}\nversion: 1.0.0\nentrypoints: {{bot: main.py}}\n");
    fs::write(folder.join("bot-config.yaml"), definition).unwrap();
    let mut command = host.command(&["run", "--bots"]);
    command.arg(bots.path()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut agent = Process::start(&mut command);
    let expected = [
        line(1, "created", Some("exited 7")),
        line(2, "crashed: exit 7", None),
    ];
    tells(&host, &name, &expected);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.code(LONG), 0);
    assert!(
        host.mongo.all(RUNS).is_empty(),
        "nothing is in the database"
    );
    let id = host.containers()[0].rsplit_once('.').unwrap().1.to_owned();
    let kept = tests::read(&host.data().join("bots").join(&id).join("history.jsonl"));
    assert!(kept.lines().count() >= 2, "{kept}");
    let found = lines(&entries(&host, &id));
    assert_eq!(found, expected, "without an agent, by its id");
}

#[test]
fn an_agent_that_stands_by_writes_nothing_and_goes_on_where_the_other_ended() {
    let Some(mut host) = host("history::standby") else {
        return;
    };
    let bot = host.bot("standby", IDLE, doc! {"x": 1});
    host.begin();
    let mut expected = vec![line(1, "created", None)];
    tells(&host, &bot, &expected);
    let data = tempfile::tempdir().unwrap();
    let args = ["bot-runner", "--reconcile-interval", "1s", "--settle", "2s"];
    let mut command = host.command(&args);
    command.env("THE0_DATA", data.path()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _other = Process::start(&mut command);
    wait_for("an agent that stands by", LONG, || {
        let known = run_of(&host, data.path(), &bot);
        (lines(&known) == expected).then_some(())
    });
    host.change(&bot, doc! {"config.x": 2});
    expected[0].2 = Some("stopped: changed".into());
    expected.push(line(2, "config", None));
    tells(&host, &bot, &expected);

    host.kill();
    host.change(&bot, doc! {"config.x": 3});
    expected[1].2 = Some("stopped: changed".into());
    expected.push(line(3, "config", None));
    wait_for("the other agent's records", LONG, || {
        let output = run_of(&host, data.path(), &bot);
        (lines(&output) == expected).then_some(())
    });
    assert_eq!(documents(&host, &bot).len(), 3);
}

fn run_of(host: &Stack, data: &Path, bot: &str) -> Vec<Value> {
    let mut command = host.command(&["history", "-o", "json", bot]);
    command.env("THE0_DATA", data);
    let output = tests::run(&mut command);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}
