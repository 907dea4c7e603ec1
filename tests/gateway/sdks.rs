//! Bots written with the platform's own SDK answer on both ways, unchanged.

use std::fs;

use mongodb::bson::doc;
use serde_json::json;
use tests::stack::LONG;
use tests::{Reply, repository, skip, wait_for};

use crate::rig::Rig;

const MAIN: &str = r#"
import time
from the0 import state
def main(id, config):
    state.set("count", 7)
    time.sleep(100000)
"#;

const QUERY: &str = r#"
from the0 import query, state

@query.handler("/count")
def count(request):
    return {"count": state.get("count", 0), "symbol": request.get("symbol", "none")}

@query.handler("/fail")
def fail(request):
    raise ValueError("what was asked cannot be had")

@query.handler("/set")
def set(request):
    state.set("count", 8)
    return {}

query.run()
"#;

#[test]
fn bots_with_either_sdk_answer_live_and_apart() {
    let test = "gateway::sdks";
    let Some(rig) = Rig::start(test, &[]) else {
        return;
    };
    for version in ["0.3.1", "0.4.0"] {
        let folder = repository().join(format!(".cache/sdk-{version}/the0"));
        let Ok(entries) = fs::read_dir(&folder) else {
            skip(
                test,
                &format!("the0-sdk {version} is not there: run tests/setup/sdk.sh"),
            );
            continue;
        };
        let sources: Vec<(String, String)> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let text = fs::read_to_string(entry.path()).ok()?;
                Some((format!("vendor/the0/{name}"), text))
            })
            .collect();
        let mut files: Vec<(&str, &str)> = vec![("main.py", MAIN), ("query.py", QUERY)];
        files.extend(
            sources
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str())),
        );
        let id = rig.bot_of(&version.replace('.', "-"), &files, doc! {});
        wait_for("its failure, told", LONG, || {
            let failed = rig.ask(&id, "/fail", &json!({}));
            (failed.status == 500 && failed.body.contains("what was asked cannot be had"))
                .then_some(())
        });
        answers_both_ways(&rig, &id, version, |set| set.status == 500);
        let failed = rig.ask(&id, "/fail", &json!({}));
        assert!(
            failed.body.contains("what was asked cannot be had"),
            "{version} apart: {failed:?}"
        );
    }
}

#[test]
fn bots_with_either_sdk_of_rust_answer_live_and_apart() {
    let test = "gateway::rust_sdks";
    let Some(rig) = Rig::start(test, &[]) else {
        return;
    };
    if rig.stack.docker.image(test, "rust-stable").is_none() {
        return;
    }
    for version in ["0.3.1", "0.4.0"] {
        let code = repository().join(".cache/bots/rust-sdk").join(version);
        if !code.is_dir() {
            let why =
                format!("the bot with the0-sdk {version} is not built: run tests/setup/bots.sh");
            skip(test, &why);
            continue;
        }
        let id = rig.bot_in(
            "rust-stable",
            &code,
            &["bot", "query"],
            &version.replace('.', "-"),
        );
        answers_both_ways(&rig, &id, version, |set| {
            set.json()["data"]["is_set"] == false
        });
    }
}

/// Asks a bot that has counted to 7 while it runs, and when it does not; `refused` tells that it could not write.
fn answers_both_ways(rig: &Rig, id: &str, version: &str, refused: impl Fn(&Reply) -> bool) {
    rig.live(id, "/count");
    wait_for("its state", LONG, || {
        (rig.answers(id, "/count")["count"] == 7).then_some(())
    });
    answers(rig, id, &format!("{version} live"), &refused);
    rig.stack.change(id, doc! {"enabled": false});
    rig.stack.state(id, "disabled");
    let name = rig.stack.container(id).name;
    wait_for("the end of its container", LONG, || {
        (rig.stack.docker.inspect(&name)["State"]["Running"] == false).then_some(())
    });
    answers(rig, id, &format!("{version} apart"), &refused);
}

fn answers(rig: &Rig, id: &str, how: &str, refused: &impl Fn(&Reply) -> bool) {
    // Rust's 0.3.1 takes what is in a URL as it is written there.
    let params = json!({"params": {"symbol": "BTC-USD"}});
    let asked = rig.ask(id, "/count", &params).json();
    assert_eq!(
        asked["data"],
        json!({"count": 7, "symbol": "BTC-USD"}),
        "{how}: {asked}"
    );
    let none = rig.ask(id, "/none", &json!({}));
    assert_eq!(none.status, 500, "{how}: {none:?}");
    assert!(none.body.contains("No handler"), "{how}: {none:?}");
    let set = rig.ask(id, "/set", &json!({}));
    assert!(refused(&set), "a query writes nothing: {how}: {set:?}");
    let count = rig.ask(id, "/count", &json!({})).json();
    assert_eq!(count["data"]["count"], 7, "{how}: {count}");
    let queries = tests::http(&rig.address(), "GET", &format!("/bots/{id}/queries"), "");
    assert!(queries.body.contains("/count"), "{how}: {queries:?}");
}
