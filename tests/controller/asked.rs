//! Questions to bots that do not run: a Pod for each, of which nothing is left.

use std::io::Write;
use std::net::TcpStream;

use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use tests::cluster::LONG;
use tests::servers::mongo::document;
use tests::stack::{BOTS, zipped};
use tests::{Reply, http, wait_for};

use crate::rig::{Agent, COUNTS, Rig};

/// Answers one question as the contract has it.
const ONCE: &str = r"
import json, os, pathlib, sys, time

path, params = os.environ['QUERY_PATH'], json.loads(os.environ['QUERY_PARAMS'])

def write(path):
    try:
        open(path, 'w').write('0')
        return 'written'
    except OSError as error:
        return error.strerror

def answer():
    if path == '/count':
        count = pathlib.Path('/state/count')
        return int(count.read_text()) if count.exists() else 0
    if path == '/echo':
        return {'params': params, 'config': json.loads(os.environ['BOT_CONFIG']).get('word')}
    if path == '/writes':
        return [write(path) for path in ('/state/count', '/state/new', '/bot/main.py', '/bot/new', '/var/the0/new', '/etc/new')]
    if path == '/environment':
        return sorted(os.environ)
    if path == '/link':
        os.symlink('/run/the0/keys/keys.json', '/query/answer.json')
        os.symlink('/run/the0/keys/keys.json', '/query/answer.part')
        return os.path.exists('/run/the0/keys')
    if path == '/sleep':
        time.sleep(1000)
    if path == '/leave':
        os._exit(9)
    raise ValueError('what was asked cannot be had')

try:
    said, code = {'status': 'ok', 'data': answer()}, 0
except ValueError as error:
    said, code = {'status': 'error', 'error': str(error)}, 1
print('this goes to no answer', flush=True)
pathlib.Path('/query/result.json').write_text(json.dumps(said))
sys.exit(code)
";

impl Rig {
    /// A bot that answers one question at a time and is not run.
    pub fn rests(&self, id: &str, config: Document) {
        let key = format!("tests/{id}/1.0.0");
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("main.py", COUNTS), ("asks.py", ONCE)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let bundle = zipped(folder.path());
        self.store.client().put("custom-bots", &key, &bundle);
        let mut bot = document(id, &key, config);
        let custom = bot.get_document_mut("custom").unwrap();
        let definition = custom.get_document_mut("config").unwrap();
        let entrypoints = doc! {"bot": "main.py", "query": "asks.py"};
        definition.insert("entrypoints", entrypoints);
        self.mongo.put(BOTS, &bot);
    }

    /// What there is of questions: Pods, Secrets and objects.
    pub fn left(&self) -> Vec<String> {
        let of_questions = ["--selector", "the0.app/type=query", "--output", "name"];
        let words = ["get", "pods,secrets"].into_iter().chain(of_questions);
        let mut left: Vec<String> = self.cluster.ask(words).lines().map(str::to_owned).collect();
        left.extend(self.store.client().list("query-results", ""));
        left
    }

    pub fn leaves_nothing(&self) {
        wait_for("the end of all there was of questions", LONG, || {
            self.left().is_empty().then_some(())
        });
    }
}

fn ask(agent: &Agent, id: &str, path: &str, more: &Value) -> Reply {
    let mut body = json!({"bot_id": id, "query_path": path, "timeout_sec": 80});
    let more = more.as_object().cloned().unwrap_or_default();
    body.as_object_mut().unwrap().extend(more);
    http(&agent.gateway, "POST", "/query", &body.to_string())
}

fn data(agent: &Agent, id: &str, path: &str) -> Value {
    let reply = ask(agent, id, path, &json!({}));
    assert_eq!(reply.status, 200, "{reply:?}\n{}", agent.said());
    reply.json()["data"].take()
}

/// Sends a question to a gateway; who has sent it goes away when this is dropped.
pub fn sent(gateway: &str, question: &Value) -> TcpStream {
    let mut asker = TcpStream::connect(gateway).unwrap();
    let body = question.to_string();
    let length = body.len();
    let head = format!(
        "POST /query HTTP/1.1\r\nHost: {gateway}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    asker.write_all((head + &body).as_bytes()).unwrap();
    asker
}

/// Begins a question that takes long; it is asked until this is dropped.
fn begin(rig: &Rig, agent: &Agent) -> TcpStream {
    let question = json!({"bot_id": "rests", "query_path": "/sleep", "timeout_sec": 600});
    let asker = sent(&agent.gateway, &question);
    wait_for("a query program that runs", LONG, || {
        let words = [
            "get",
            "pods",
            "--selector",
            "the0.app/type=query",
            "--output",
            "json",
        ];
        let pods: Value = serde_json::from_str(&rig.cluster.ask(words)).ok()?;
        let ask = tests::cluster::container(&pods["items"][0], "ask");
        (!ask["state"]["running"].is_null()).then_some(())
    });
    asker
}

#[test]
fn a_bot_that_does_not_run_answers_in_a_pod_of_its_own_and_nothing_is_left() {
    let Some(rig) = Rig::start("controller::asked") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.bot("rests", doc! {"word": "a-word"});
    pod.ready();
    rig.wait_saved("rests", "count", "1");
    rig.rests("rests", doc! {"word": "a-word", "enabled": false});
    pod.gone();
    let state = rig
        .store
        .client()
        .get("bot-state", "rests/state.tar.gz")
        .unwrap();
    assert_eq!(data(&agent, "rests", "/count"), 1, "its last state's");
    let params = json!({"symbol": "BTC/USD", "limit": 5, "deep": {"a": [null, 1.5]}});
    let echo = ask(&agent, "rests", "/echo", &json!({"params": params})).json();
    assert_eq!(
        echo["data"],
        json!({"params": params, "config": "a-word"}),
        "{echo}"
    );
    let writes = data(&agent, "rests", "/writes");
    let writes = writes.as_array().unwrap();
    assert!(
        writes.len() == 6 && writes.iter().all(|how| how != "written"),
        "{writes:?}"
    );
    let environment = data(&agent, "rests", "/environment").to_string();
    assert!(
        !environment.contains("MINIO") && !environment.contains("KEYS"),
        "{environment}"
    );
    assert_eq!(data(&agent, "rests", "/link"), false, "no keys are there");
    for (path, word) in [
        ("/fail", "what was asked cannot be had"),
        ("/leave", "ended with code 9 and without a result"),
    ] {
        let reply = ask(&agent, "rests", path, &json!({}));
        let why = reply.json()["error"].to_string();
        assert!(reply.status == 500 && why.contains(word), "{reply:?}");
    }
    let after = rig
        .store
        .client()
        .get("bot-state", "rests/state.tar.gz")
        .unwrap();
    assert_eq!(after.etag, state.etag, "the state is as it was");
    rig.leaves_nothing();
}

#[test]
fn what_takes_too_long_or_is_given_up_leaves_nothing() {
    let Some(rig) = Rig::start("controller::leaks") else {
        return;
    };
    let mut agent = rig.agent(&[]);
    rig.rests("rests", doc! {"enabled": false});
    wait_for("a bot that is known", LONG, || {
        (!agent.row(&rig, "rests").is_null()).then_some(())
    });
    assert_eq!(data(&agent, "rests", "/count"), 0, "it has never run");
    let late = ask(&agent, "rests", "/sleep", &json!({"timeout_sec": 8}));
    assert_eq!(late.status, 504, "{late:?}");
    rig.leaves_nothing();
    drop(begin(&rig, &agent));
    rig.leaves_nothing();
    let asker = begin(&rig, &agent);
    agent.kill();
    assert_eq!(rig.left().len(), 2, "a Pod and its Secret");
    drop(asker);
    agent.start(&rig);
    rig.leaves_nothing();
}

#[test]
fn why_a_bot_cannot_be_asked_is_told_and_nothing_is_left() {
    let Some(rig) = Rig::start("controller::unasked") else {
        return;
    };
    let settings = [("THE0_QUERY_CONTAINERS", "1"), ("THE0_MAX_MEMORY", "100Ti")];
    let agent = rig.agent(&settings);
    rig.rests("large", doc! {"enabled": false, "memory_limit": "90Ti"});
    rig.rests("rests", doc! {"enabled": false});
    wait_for("bots that are known", LONG, || {
        let known = ["large", "rests"].map(|id| agent.row(&rig, id));
        known.iter().all(|row| !row.is_null()).then_some(())
    });
    // Until it is long enough for all that comes before the scheduler's word.
    let mut seconds = 5;
    wait_for("the reason why it is late", LONG, || {
        let late = ask(&agent, "large", "/count", &json!({"timeout_sec": seconds}));
        // Else the last one is not gone yet.
        if late.status == 504 {
            seconds *= 2;
        }
        let why = late.json()["error"].to_string();
        (late.status == 504 && why.contains("cannot be scheduled")).then_some(())
    });
    rig.leaves_nothing();
    let asker = begin(&rig, &agent);
    let busy = ask(&agent, "rests", "/count", &json!({}));
    assert_eq!(busy.status, 429, "{busy:?}");
    drop(asker);
    rig.leaves_nothing();
    rig.store
        .client()
        .remove("custom-bots", "tests/rests/1.0.0");
    let reply = ask(&agent, "rests", "/count", &json!({}));
    let why = reply.json()["error"].to_string();
    assert!(
        reply.status == 500 && why.contains("the code could not be fetched"),
        "{reply:?}"
    );
    rig.leaves_nothing();
}

#[test]
fn an_image_that_is_not_there_is_told_at_once() {
    let Some(rig) = Rig::start("controller::no_image") else {
        return;
    };
    let agent = rig.agent(&[("RUNTIME_IMAGE", "the0.test/none:1")]);
    rig.rests("rests", doc! {"enabled": false});
    wait_for("a bot that is known", LONG, || {
        (!agent.row(&rig, "rests").is_null()).then_some(())
    });
    let reply = ask(&agent, "rests", "/count", &json!({}));
    let why = reply.json()["error"].to_string();
    assert!(
        reply.status == 500 && why.contains("ErrImageNeverPull"),
        "{reply:?}"
    );
    rig.leaves_nothing();
}
