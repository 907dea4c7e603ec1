//! Bots written with the platform's own SDK answer on both ways, unchanged.

use std::fs;

use mongodb::bson::doc;
use serde_json::json;
use tests::{repository, skip};

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
        let check = |how: &str| {
            let asked = rig
                .ask(&id, "/count", &json!({"params": {"symbol": "BTC/USD"}}))
                .json();
            assert_eq!(
                asked["data"],
                json!({"count": 7, "symbol": "BTC/USD"}),
                "{version} {how}: {asked}"
            );
            let failed = rig.ask(&id, "/fail", &json!({}));
            assert_eq!(failed.status, 500, "{version} {how}: {failed:?}");
            assert!(
                failed.body.contains("what was asked cannot be had"),
                "{failed:?}"
            );
            let none = rig.ask(&id, "/none", &json!({}));
            assert_eq!(none.status, 500, "{version} {how}: {none:?}");
            let set = rig.ask(&id, "/set", &json!({}));
            assert_eq!(
                set.status, 500,
                "a query writes nothing: {version} {how}: {set:?}"
            );
            let queries = tests::http(&rig.address(), "GET", &format!("/bots/{id}/queries"), "");
            assert!(
                queries.body.contains("/count"),
                "{version} {how}: {queries:?}"
            );
        };
        let end = std::time::Instant::now() + tests::stack::LONG;
        while rig.answers(&id, "/count")["count"] != 7 {
            assert!(std::time::Instant::now() < end, "its state");
        }
        check("live");
        rig.stack.change(&id, doc! {"enabled": false});
        rig.stack.state(&id, "disabled");
        let name = rig.stack.container(&id).name;
        tests::wait_for("the end of its container", tests::stack::LONG, || {
            (rig.stack.docker.inspect(&name)["State"]["Running"] != true).then_some(())
        });
        check("apart");
    }
}
