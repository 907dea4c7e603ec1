//! A bot follows its document.

use std::time::Duration;

use mongodb::bson::doc;
use serde_json::json;
use tests::stack::{BOTS, COUNTER, IDLE, LONG, Stack};
use tests::{servers::mongo::document, wait_for};

const QUERY: &str = r#"
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answers(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "{}")
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"status": "ok", "data": body}).encode())
    def log_message(self, *args): pass
HTTPServer(("127.0.0.1", int(os.environ["THE0_QUERY_PORT"])), Answers).serve_forever()
"#;

#[test]
fn a_bot_follows_its_document_from_the_first_start_to_its_removal() {
    let Some(mut host) = Stack::start("docker::life", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("counter", COUNTER, doc! {"step": 1.0, "enabled": true});
    host.begin();
    host.state(&bot, "running");
    let container = host.container(&bot);
    container.says(&format!("BEGAN {bot} at 0 step 1"), LONG);
    let first = container.inspect()["Id"].clone();
    wait_for("a state in the store", LONG, || {
        (host.saved(&bot) > 0).then_some(())
    });

    host.change(&bot, doc! {"config.step": 1000});
    container.says("step 1000", LONG);
    assert_ne!(container.inspect()["Id"], first, "another container");
    assert!(
        !container.logs().contains(&format!("BEGAN {bot} at 0 ")),
        "it went on from its state"
    );

    host.change(&bot, doc! {"config.enabled": "false"});
    let row = host.state(&bot, "disabled");
    assert!(row["supervisor"].is_null());
    assert_eq!(
        host.count(&bot),
        host.saved(&bot),
        "all of it is in the store"
    );

    host.change(&bot, doc! {"enabled": true});
    host.state(&bot, "running");

    host.mongo.delete(BOTS, doc! {"id": &bot});
    host.is_collected(&bot);
    assert!(host.saved(&bot) >= 1000);
    assert!(host.containers().is_empty());
}

#[test]
fn a_document_that_cannot_be_used_is_told_by_its_id_and_stops_nobody_else() {
    let Some(mut host) = Stack::start("docker::documents", &["python3.11"]) else {
        return;
    };
    let good = host.bot("good", IDLE, doc! {});
    let greedy = host.bot("greedy", IDLE, doc! {"memory_limit": "64Gi"});
    let bad = host.id("bad");
    let mut document = document(&bad, "u/b/1", doc! {"api_key": "hunter2"});
    document
        .get_document_mut("custom")
        .unwrap()
        .get_document_mut("config")
        .unwrap()
        .insert("runtime", "cobol85");
    host.mongo.put(BOTS, &document);
    host.begin();
    host.state(&good, "running");
    let row = host.state(&bad, "invalid");
    assert!(row["reason"].as_str().unwrap().contains("cobol85"), "{row}");
    let row = host.state(&greedy, "failed");
    let reason = row["reason"].as_str().unwrap();
    assert!(
        reason.contains("64Gi") && reason.contains("THE0_MAX_MEMORY"),
        "{reason}"
    );
    assert!(!host.said().contains("hunter2"));

    // One that runs goes on when its document is spoilt.
    let before = host.container(&good).inspect()["Id"].clone();
    host.change(&good, doc! {"custom.config.runtime": "cobol85"});
    let row = wait_for("a remark about the document", LONG, || {
        host.row(&good).filter(|row| {
            row["reason"]
                .as_str()
                .is_some_and(|why| why.contains("cobol85"))
        })
    });
    assert_eq!(row["state"], "running");
    assert_eq!(host.container(&good).inspect()["Id"], before);
}

#[test]
fn a_running_bot_is_asked_in_its_container() {
    let Some(mut host) = Stack::start("docker::query", &["python3.11"]) else {
        return;
    };
    let bot = host.id("asked");
    host.code("t/asked/1", &[("main.py", IDLE), ("query.py", QUERY)]);
    let mut document = document(&bot, "t/asked/1", doc! {});
    let custom = document.get_document_mut("custom").unwrap();
    custom
        .get_document_mut("config")
        .unwrap()
        .insert("entrypoints", doc! {"bot": "main.py", "query": "query.py"});
    host.mongo.put(BOTS, &document);
    host.begin();
    host.state(&bot, "running");
    let answer = wait_for("an answer", LONG, || {
        let output = host.run(&["query", &bot, "/echo", "limit=5"]);
        output.status.success().then(|| tests::text(&output.stdout))
    });
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&answer).unwrap(),
        json!({"limit": 5})
    );
    let row = host.row(&bot).unwrap();
    assert!(row["query"].as_str().unwrap().ends_with(":9476"), "{row}");
}

#[test]
fn an_agent_that_comes_and_goes_stops_no_bot_and_doubles_none() {
    let Some(mut host) = Stack::start("docker::agents", &["python3.11"]) else {
        return;
    };
    let bots = host.counters(3);
    // Killed at a different moment of the first starts each time.
    for pause in [50, 400, 700, 1000, 1300] {
        host.launch();
        std::thread::sleep(Duration::from_millis(pause));
        host.kill();
        assert!(
            host.containers().len() <= bots.len(),
            "{:?}",
            host.containers()
        );
    }
    host.begin();
    host.states(&bots, "running");
    let ids = |host: &Stack| -> Vec<_> {
        bots.iter()
            .map(|bot| host.container(bot).inspect()["Id"].clone())
            .collect()
    };
    let before = ids(&host);
    host.kill();
    let counts: Vec<u64> = bots.iter().map(|bot| host.count(bot)).collect();
    host.begin();
    host.states(&bots, "running");
    host.end();
    for (bot, count) in bots.iter().zip(counts) {
        wait_for("a bot that goes on without an agent", LONG, || {
            (host.count(bot) > count).then_some(())
        });
    }
    host.begin();
    host.states(&bots, "running");
    assert_eq!(ids(&host), before, "the same containers all along");
    // Whoever started twice would have claimed twice, and the first would have been fenced.
    let said = host.said();
    assert!(
        !said.contains("claimed") && !said.contains("fenced"),
        "{said}"
    );
}
