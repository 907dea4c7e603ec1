//! The contract's table of requests and answers.

use mongodb::bson::doc;
use serde_json::{Value, json};
use tests::http;
use tests::stack::COUNTER;

use crate::rig::Rig;

#[test]
fn each_request_has_the_status_and_the_words_of_the_contract() {
    let Some(rig) = Rig::start("gateway::contract", &[]) else {
        return;
    };
    let live = rig.bot("live", doc! {});
    let mute = rig.bot_of("mute", &[("main.py", COUNTER)], doc! {});
    rig.live(&live, "/count");
    let address = rig.address();
    let health = http(&address, "GET", "/health", "");
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"status": "ok"}))
    );
    let live_question =
        |path: &str, more: &str| format!(r#"{{"bot_id":"{live}","query_path":"{path}"{more}}}"#);
    let of = |id: &str| format!(r#"{{"bot_id":"{id}","query_path":"/count"}}"#);
    let rows: [(&str, &str, String, u16, &str); 14] = [
        ("GET", "/query", String::new(), 405, "method not allowed"),
        ("PUT", "/query", of(&live), 405, "method not allowed"),
        ("POST", "/query", "{".into(), 400, "invalid request body: "),
        ("POST", "/query", "[]".into(), 400, "invalid request body: "),
        (
            "POST",
            "/query",
            r#"{"query_path":"/x"}"#.into(),
            400,
            "bot_id is required",
        ),
        (
            "POST",
            "/query",
            r#"{"bot_id":"b"}"#.into(),
            400,
            "query_path is required",
        ),
        ("POST", "/query", of("nobody"), 404, "bot not found: nobody"),
        ("POST", "/query", of("../x"), 404, "bot not found: ../x"),
        (
            "POST",
            "/query",
            of(&mute),
            404,
            "does not have a query entrypoint",
        ),
        (
            "POST",
            "/query",
            live_question("/fail", ""),
            500,
            "what was asked cannot be had",
        ),
        (
            "POST",
            "/query",
            live_question("/none", ""),
            500,
            "No handler for path: /none",
        ),
        (
            "POST",
            "/query",
            live_question("/sleep", r#","params":{"seconds":60},"timeout_sec":1"#),
            504,
            "no answer within 1s",
        ),
        ("GET", "/", String::new(), 404, "not found"),
        (
            "GET",
            "/bots/nobody/queries",
            String::new(),
            404,
            "bot not found: nobody",
        ),
    ];
    for (method, path, body, status, word) in rows {
        let reply = http(&address, method, path, &body);
        let said = reply.json();
        assert_eq!(
            (reply.status, &said["status"]),
            (status, &json!("error")),
            "{method} {path} {body}: {said}"
        );
        let error = said["error"].as_str().unwrap_or_default();
        assert!(error.contains(word), "{method} {path} {body}: {said}");
        assert!(
            said["duration"].is_u64() && said["timestamp"].is_string(),
            "{said}"
        );
    }
    let unknown = rig.ask(&live, "/none", &json!({})).json();
    assert!(unknown["data"]["available"].is_array(), "{unknown}");
}

#[test]
fn a_bot_that_runs_answers_from_where_it_is_and_gets_its_parameters() {
    let Some(rig) = Rig::start("gateway::live", &[]) else {
        return;
    };
    let id = rig.bot("live", doc! {});
    rig.live(&id, "/count");
    let counted = rig.stack.count(&id);
    let reply = rig.ask(&id, "count", &json!({}));
    let said = reply.json();
    assert_eq!(
        (reply.status, &said["status"]),
        (200, &json!("ok")),
        "{said}"
    );
    assert!(said["data"]["count"].as_u64() >= Some(counted), "{said}");
    assert!(said["duration"].as_u64() > Some(0), "{said}");
    let params = json!({"symbol": "BTC/USD", "limit": 5, "deep": {"a": [null, 1.5]}});
    let echo = rig.ask(&id, "/echo", &json!({"params": params})).json();
    assert_eq!(echo["data"], params);
    assert!(rig.containers().is_empty(), "nobody else was asked");
    let queries = http(&rig.address(), "GET", &format!("/bots/{id}/queries"), "").json();
    assert_eq!(queries["bot_id"], id);
    let known: Vec<&str> = queries["queries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(known.contains(&"/count"), "{queries}");
    rig.stack.says("\"/echo\": 200, live");
    let said = rig.stack.said();
    assert!(!said.contains("BTC/USD"), "{said}");
}
