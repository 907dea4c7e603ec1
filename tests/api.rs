//! The agent's API over the network: a real agent, real bots in Python, requests as anybody may send them, and the command
//! line of another machine.

#[path = "api/containers.rs"]
mod containers;
#[path = "api/doors.rs"]
mod doors;
#[path = "api/remote.rs"]
mod remote;
#[path = "api/rig.rs"]
mod rig;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::promise::Document;

use rig::{Place, Session};

/// Asks and looks whether the answer is one that the document promises; gives it.
struct Client<'a> {
    session: &'a Session<'a>,
    document: Document,
    seen: BTreeSet<(String, String, u16)>,
}

impl<'a> Client<'a> {
    fn new(session: &'a Session<'a>) -> Self {
        let document = session.ask("GET", "/v1/openapi.json", "");
        assert_eq!(document.status, 200, "{document:?}");
        Self {
            session,
            document: Document::new(document.json()).unwrap(),
            seen: BTreeSet::new(),
        }
    }

    /// `template` is the path as the document has it, for the bot `bot`, and `query` what stands behind it.
    fn ask(&mut self, route: (&str, &str), bot: &str, query: &str, body: &Value) -> (u16, Value) {
        let (method, template) = route;
        let path = template.replace("{bot}", bot).replace("{job}", bot) + query;
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let reply = self.session.ask(method, &path, &body);
        let json = reply.json();
        let allowed = self.document.allows(method, template, reply.status, &json);
        allowed.unwrap_or_else(|why| panic!("{why}"));
        assert!(reply.head.contains("content-type: application/json"));
        self.seen
            .insert((method.to_owned(), template.to_owned(), reply.status));
        (reply.status, json)
    }

    fn get(&mut self, template: &str, bot: &str, query: &str) -> (u16, Value) {
        self.ask(("GET", template), bot, query, &Value::Null)
    }

    fn post(&mut self, template: &str, bot: &str, body: &Value) -> (u16, Value) {
        self.ask(("POST", template), bot, "", body)
    }
}

#[test]
fn every_route_of_a_real_agent_answers_as_its_document_says() {
    let place = Place::new();
    place.bot("grid", rig::IDLE, "config: {key: hunter2-of-grid}\n");
    place.bot("once", rig::ONCE, "");
    place.asker("asker");
    let session = place.dev(None);
    place.state("grid", "running");
    place.state("asker", "running");
    let mut client = Client::new(&session);
    let (status, rows) = client.get("/v1/bots", "", "?usage");
    assert_eq!((status, rows["bots"].as_array().unwrap().len()), (200, 3));
    let (_, row) = client.get("/v1/bots/{bot}", "grid", "");
    assert_eq!(
        (&row["name"], &row["state"]),
        (&json!("grid"), &json!("running"))
    );
    for bot in ["grid", "once"] {
        let (status, page) = client.get("/v1/bots/{bot}/history", bot, "?count=1");
        assert_eq!(
            (status, page["entries"].as_array().unwrap().len()),
            (200, 1)
        );
    }
    for verb in ["stop", "start", "restart"] {
        let template = format!("/v1/bots/{{bot}}/{verb}");
        let (status, done) = client.post(&template, "grid", &json!({}));
        assert_eq!((status, &done["name"]), (200, &json!("grid")), "{verb}");
        assert_eq!(client.post(&template, "nobody", &Value::Null).0, 404);
    }
    for (path, expected) in [("/echo", 200), ("/nowhere", 500), ("/slow", 504)] {
        let question =
            json!({"bot_id": "asker", "query_path": path, "timeout_sec": 2, "params": {"a": 1}});
        let (status, _) = rig::until(|| {
            let (status, reply) = client.post("/v1/query", "", &question);
            // Its query program may not listen yet.
            (status == expected).then_some((status, reply))
        });
        assert_eq!(status, expected);
    }
    let (status, rows) = client.get("/v1/schedules", "", "");
    assert_eq!((status, &rows["schedules"]), (200, &json!([])));
    let (status, done) = client.post("/v1/schedules/{bot}/run", "grid", &Value::Null);
    assert_eq!(status, 200);
    assert!(
        done["but"].as_str().unwrap().contains("not at times"),
        "{done}"
    );
    // There is no database of jobs here.
    assert_eq!(client.get("/v1/jobs", "", "").0, 404);
    assert_eq!(client.get("/v1/jobs/{job}", "j1", "").0, 404);
    assert_eq!(
        client.post("/v1/jobs/{job}/cancel", "j1", &Value::Null).0,
        404
    );
    assert_eq!(client.post("/v1/confirm", "", &Value::Null).0, 200);
    // There is no container here.
    assert_eq!(
        client
            .post("/v1/roll", "", &json!({"max_unavailable": 1}))
            .0,
        409
    );
    assert_eq!(
        client
            .post("/v1/collect", "", &json!({"bots": ["nobody"]}))
            .0,
        200
    );
    let (status, turned) = client.post("/v1/stop", "", &Value::Null);
    assert_eq!((status, &turned["known"]), (200, &json!(true)));
    rig::until(|| {
        let (_, turned) = client.post("/v1/stop", "", &Value::Null);
        (turned["live"] == json!([])).then_some(())
    });
    assert_eq!(
        client.get("/v1/bots/{bot}", "grid", "").1["state"],
        "stopped"
    );
    assert_eq!(client.post("/v1/start", "", &Value::Null).0, 200);
    place.state("grid", "running");
    let asked: BTreeSet<&str> = client
        .seen
        .iter()
        .map(|(_, path, _)| path.as_str())
        .collect();
    assert_eq!(
        asked.len(),
        client.document.operations().len() - 1,
        "{asked:?}"
    );
    let screen = session.screen();
    assert!(
        screen.contains("restart of \"grid\", asked by somebody at 127.0.0.1: done"),
        "{screen}"
    );
    assert!(
        screen.contains("stop of all, asked by somebody at 127.0.0.1: done"),
        "{screen}"
    );
    session.end();
}

#[test]
fn no_value_of_a_bots_parameters_is_in_an_answer_or_in_the_log() {
    let place = Place::new();
    place.bot("grid", rig::IDLE, "config: {key: hunter2-of-grid}\n");
    let session = place.dev(None);
    place.state("grid", "running");
    let mut client = Client::new(&session);
    let mut answers = client.get("/v1/bots", "", "?usage").1.to_string();
    answers += &client.get("/v1/bots/{bot}", "grid", "").1.to_string();
    answers += &client
        .get("/v1/bots/{bot}/history", "grid", "")
        .1
        .to_string();
    answers += &client
        .post("/v1/bots/{bot}/restart", "grid", &Value::Null)
        .1
        .to_string();
    assert!(answers.contains("grid"));
    let told = answers + &session.screen();
    assert!(!told.contains("hunter2"), "{told}");
    session.end();
}
