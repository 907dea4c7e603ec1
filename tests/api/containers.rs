//! The same before bots in containers, and on an agent that stands by.

use mongodb::bson::doc;
use serde_json::json;
use tests::stack::{IDLE, LONG, Stack};
use tests::{http, read, run, text, wait_for};

use crate::rig::served;

fn post(address: &str, path: &str, body: &str) -> tests::Reply {
    let text = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    tests::exchange(address, text.as_bytes())
}

#[test]
fn bots_in_containers_are_looked_at_stopped_and_collected_over_the_network() {
    let Some(mut host) = Stack::start("api::containers", &["python3.11"]) else {
        return;
    };
    host.set("THE0_API_ADDRESS", "127.0.0.1:0");
    host.set("THE0_KEEP_ENDED", "0s");
    let bot = host.bot("a", IDLE, doc! {});
    host.begin();
    host.state(&bot, "running");
    let address = served(&host.said()).unwrap();
    let document = http(&address, "GET", "/v1/openapi.json", "").json();
    let document = tests::promise::Document::new(document).unwrap();
    let path = format!("/v1/bots/{bot}?usage");
    let row = http(&address, "GET", &path, "");
    assert!(
        row.json()["container"].is_string() && row.json()["usage"].is_object(),
        "{row:?}"
    );
    let allowed = document.allows("GET", "/v1/bots/{bot}", row.status, &row.json());
    allowed.unwrap();
    let page = http(&address, "GET", &format!("/v1/bots/{bot}/history"), "");
    let allowed = document.allows("GET", "/v1/bots/{bot}/history", 200, &page.json());
    allowed.unwrap();
    let rolled = post(&address, "/v1/roll", "{\"max_unavailable\": 1}");
    assert_eq!(
        (rolled.status, rolled.json()),
        (200, json!({"rolling": []}))
    );
    assert_eq!(
        post(&address, &format!("/v1/bots/{bot}/stop"), "").status,
        200
    );
    host.state(&bot, "stopped");
    let left = post(&address, "/v1/collect", "{}");
    document
        .allows("POST", "/v1/collect", left.status, &left.json())
        .unwrap();
    host.says("asked by somebody at 127.0.0.1: done");
    host.end();
}

#[test]
fn an_agent_that_stands_by_refuses_over_the_network_and_says_who_acts() {
    let Some(mut host) = Stack::start("api::standby", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("a", IDLE, doc! {});
    host.begin();
    host.state(&bot, "running");
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let out = std::fs::File::create(&log).unwrap();
    let mut command = host.command(&["run"]);
    command.env("THE0_DATA", dir.path().join("data"));
    command.env("THE0_API_ADDRESS", "127.0.0.1:0");
    command.stdin(std::process::Stdio::null());
    command.stdout(out.try_clone().unwrap()).stderr(out);
    let _second = tests::Process::start(&mut command);
    let address = wait_for("the API of the second", LONG, || served(&read(&log)));
    let refused = wait_for("an agent that stands by", LONG, || {
        let refused = post(&address, &format!("/v1/bots/{bot}/restart"), "");
        assert_eq!(refused.status, 409, "{refused:?}");
        refused.body.contains("stands by").then_some(refused)
    });
    assert!(refused.json()["error"].as_str().unwrap().contains("acts"));
    assert_eq!(http(&address, "GET", "/v1/bots", "").status, 200);
    let mut command = host.command(&["restart", &bot, "--host"]);
    let output = run(command.arg(format!("http://{address}")));
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("stands by"),
        "{said}"
    );
    host.end();
}
