//! More clients than places, for some seconds.

use std::io::Write;
use std::process::Command;

use mongodb::bson::doc;
use tests::stack::LONG;
use tests::{skip, wait_for};

use crate::rig::Rig;

/// Tells each status with the number of its answers, as `STATUS 200 17`.
const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() seen = {} end
function response(status) seen[status] = (seen[status] or 0) + 1 end
function done(summary)
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("seen")) do print("STATUS", status, count) end
  end
  for kind, count in pairs(summary.errors) do print("ERROR", kind, count) end
end
"#;

#[test]
fn more_clients_than_places_get_answers_or_are_told_to_come_again() {
    let test = "gateway::load";
    if Command::new("wrk").arg("--version").output().is_err() {
        return skip(test, "wrk is not installed: run tests/setup/all.sh");
    }
    let settings = [("THE0_QUERY_AT_ONCE_PER_BOT", "4")];
    let Some(mut rig) = Rig::start(test, &settings) else {
        return;
    };
    let id = rig.bot("live", doc! {});
    rig.live(&id, "/count");
    let pid = rig.stack.agent().pid();
    let files = || {
        let folder = format!("/proc/{pid}/fd");
        std::fs::read_dir(folder).unwrap().count()
    };
    let before = files();
    let mut script = tempfile::NamedTempFile::new().unwrap();
    let body = format!(r#"{{"bot_id":"{id}","query_path":"/count","timeout_sec":20}}"#);
    writeln!(script, "{SCRIPT}wrk.body = '{body}'").unwrap();
    let url = format!("http://{}/query", rig.address());
    let path = script.path().to_str().unwrap();
    let args = ["-t2", "-c64", "-d5s", "--timeout", "25s", "-s", path, &url];
    let said = Command::new("wrk").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let rows = |word: &str| -> Vec<(String, u64)> {
        let rows = said.lines().filter_map(|line| line.strip_prefix(word));
        rows.map(|row| {
            let (name, count) = row.trim().split_once(char::is_whitespace).unwrap();
            (name.to_owned(), count.trim().parse().unwrap())
        })
        .collect()
    };
    let count = |status: &str| -> u64 {
        let rows = rows("STATUS").into_iter().filter(|row| row.0 == status);
        rows.map(|row| row.1).sum()
    };
    let all: u64 = rows("STATUS").iter().map(|row| row.1).sum();
    assert_eq!(count("200") + count("429"), all, "{said}");
    assert!(count("200") > 0 && count("429") > 0, "{said}");
    let errors = rows("ERROR");
    let broken = errors
        .iter()
        .filter(|row| ["connect", "read", "write", "timeout"].contains(&row.0.as_str()));
    assert_eq!(broken.map(|row| row.1).sum::<u64>(), 0, "{said}");
    rig.live(&id, "/count");
    wait_for("the end of its connections", LONG, || {
        (files() < before + 10).then_some(())
    });
    let line = format!("bot {id} \"/count\": 200, live");
    wait_for("a line of the log for each answer", LONG, || {
        let told = rig.stack.said().matches(&line).count();
        (told as u64 >= count("200")).then_some(())
    });
}
