//! How ends are judged and told.

use mongodb::bson::doc;
use serde_json::Value;
use tests::stack::{COUNTER, LONG, Stack};
use tests::wait_for;

/// Asks for more memory than it may have.
const GREEDY: &str = "
def main(id, config):
    print('GREEDY', flush=True)
    held = []
    while True:
        held.append(b'x' * (8 << 20))
";

/// Ends by itself, at once.
const BRIEF: &str = "
import sys
def main(id, config):
    print('BRIEF', flush=True)
    sys.exit(3)
";

#[test]
fn a_bot_that_crashes_is_started_again_in_its_container() {
    let Some(mut host) = Stack::start("docker::crash", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("brief", BRIEF, doc! {});
    host.begin();
    let row = wait_for("a second run", LONG, || {
        host.row(&bot).filter(|row| row["run"].as_u64() >= Some(2))
    });
    assert_eq!(row["last_exit"]["code"], 3, "{row:#}");
    assert_eq!(row["last_exit"]["reason"], "exited");
    let container = host.container(&bot).inspect();
    assert_eq!(container["RestartCount"], 0);
    assert!(container["State"]["Running"] == true, "the container stays");
}

#[test]
fn a_bot_that_the_kernel_kills_for_want_of_memory_is_told_so() {
    let Some(mut host) = Stack::start("docker::oom", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("greedy", GREEDY, doc! {"memory_limit": "64Mi"});
    host.begin();
    let row = wait_for("a run that ended", LONG, || {
        host.row(&bot).filter(|row| row["last_exit"].is_object())
    });
    assert_eq!(row["last_exit"]["reason"], "oom", "{row:#}");
    assert_eq!(row["last_exit"]["code"], 137);
    assert_eq!(
        host.container(&bot).inspect()["HostConfig"]["Memory"],
        64 << 20
    );
}

#[test]
fn a_container_that_is_killed_or_removed_behind_the_agents_back_comes_again_with_its_state() {
    let Some(mut host) = Stack::start("docker::killed", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("counter", COUNTER, doc! {});
    host.begin();
    host.state(&bot, "running");
    let container = host.container(&bot);
    let id = |row: &Value| row["container"].as_str().map(str::to_owned);
    let mut last = id(&host.row(&bot).unwrap());
    for way in [["kill", "--signal=KILL"], ["rm", "--force"]] {
        wait_for("a count", LONG, || (host.count(&bot) > 0).then_some(()));
        host.docker.ask([&way[..], &[&container.name]].concat());
        let next = wait_for("another container", LONG, || {
            host.row(&bot)
                .and_then(|row| id(&row))
                .filter(|now| Some(now) != last.as_ref())
        });
        last = Some(next);
        host.state(&bot, "running");
        container.says("BEGAN", LONG);
        assert!(
            !container.logs().contains(" at 0 "),
            "{way:?}: {}",
            container.logs()
        );
    }
    host.says("exit code 137");
    host.says("its container was removed by somebody");
}

#[test]
fn a_stop_that_came_while_the_agent_was_away_is_not_the_bots_failure() {
    let Some(mut host) = Stack::start("docker::away", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("counter", COUNTER, doc! {});
    host.begin();
    host.state(&bot, "running");
    host.container(&bot).says("BEGAN", LONG);
    host.end();
    assert_eq!(
        host.container(&bot).stop(),
        143,
        "TERM ends a Python bot by the signal"
    );
    assert_eq!(
        host.count(&bot),
        host.saved(&bot),
        "a stop from outside saves too"
    );
    host.begin();
    host.state(&bot, "running");
    assert_eq!(host.containers().len(), 1);
}

/// Writes where its code is, and then to its state.
const FILLER: &str = r#"
import os, pathlib, time
def main(id, config):
    pathlib.Path("heap").write_bytes(os.urandom(4 << 20))
    state = pathlib.Path(os.environ["STATE_DIR"])
    state.mkdir(parents=True, exist_ok=True)
    state.joinpath("count.json").write_text("7")
    print("FILLED", flush=True)
    time.sleep(100000)
"#;

#[test]
fn a_bot_that_fills_the_folder_of_its_code_is_stopped_for_it_and_its_state_is_saved() {
    let Some(mut host) = Stack::start("docker::filler", &["python3.11"]) else {
        return;
    };
    host.set("THE0_MAX_CODE_MB", "2");
    let bot = host.bot("filler", FILLER, doc! {});
    host.begin();
    let row = host.state(&bot, "failed");
    assert_eq!(row["last_exit"]["reason"], "disk", "{row:#}");
    assert!(
        row["reason"].as_str().unwrap().contains("exit code 115"),
        "{row:#}"
    );
    let logs = host.container(&bot).logs();
    assert!(logs.contains("raise THE0_MAX_CODE_MB"), "{logs}");
    assert_eq!(host.saved(&bot), 7);
}
