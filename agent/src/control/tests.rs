//! The API as its askers see it, over real sockets, with a stand-in for the loop.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use ::tests::promise::Document;
use contract::BotId;
use contract::launch::Variables;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::engine::usage::Used;
use crate::gateway::bounds::Most;
use crate::gateway::dispatch::Dispatcher;
use crate::id::Unclear;
use crate::jobs::document::Job;
use crate::request::{Done, NoJob, Planned, Turned, Whom};
use crate::show::Colours;
use crate::show::tests::Screen;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const LOOK: &str = "fedcba9876543210fedcba9876543210";

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let limited = async { tokio::time::timeout(Duration::from_secs(60), work).await };
    let done = builder.enable_all().build().unwrap().block_on(limited);
    done.expect("its end within a minute")
}

/// An API with its log.
struct Rig {
    api: Api,
    console: Console,
    screen: Screen,
}

impl Rig {
    fn new(requests: UnboundedSender<Request>, lease: Lease) -> Self {
        let screen = Screen::default();
        let console = Console::open(screen.clone(), Colours::Off).unwrap();
        let most = Most::parse(&Variables::new()).unwrap();
        let dispatcher = Dispatcher::new(requests.clone(), None, most);
        let api = Api::new(requests, lease, &console, dispatcher);
        Self {
            api,
            console,
            screen,
        }
    }

    /// One that a stand-in for the loop answers.
    fn answered() -> Self {
        let (to, from) = unbounded_channel();
        tokio::spawn(stand_in(from));
        Self::new(to, Lease::alone())
    }

    fn said(&self) -> String {
        self.console.flush();
        self.screen.text()
    }

    /// Serves it on the network.
    async fn served(&self, guard: Guard) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(listen::serve(listener, guard, self.api.clone()));
        address
    }
}

fn bot_id() -> BotId {
    "b1".parse().unwrap()
}

fn row() -> crate::report::Row {
    let time = "2026-11-21T07:52:48.123Z";
    let value = json!({
        "id": "b1", "name": "grid", "alias": "a", "source": "s", "version": "1", "runtime": "python3.11",
        "state": "running", "reason": "r", "since": time, "run": 2, "restarts": 1, "pid": 5, "supervisor": 4,
        "last_exit": {"run": 1, "code": 137, "signal": 9, "reason": "killed", "started_at": time, "ended_at": time,
            "restarts": 0, "message": "m", "result": {"status": "error", "message": "m", "left_out": 3}},
        "synced": {"outcome": "ok", "run": 1, "generation": 3, "log": {"segment": 1, "offset": 5}, "ok_at": time,
            "at": time, "error": "e", "left_out": ["f"]},
        "unsaved": true, "lost": false, "query": "127.0.0.1:1", "container": "c", "image": "i",
    });
    serde_json::from_value(value).unwrap()
}

fn entry(run: u64) -> crate::history::Entry {
    let time = "2026-11-21T07:52:48.123Z";
    let value = json!({
        "bot": "b1", "run": run, "started_at": time, "cause": "crashed", "because": "b", "name": "grid", "version": "1",
        "code_key": "k", "launch": "l", "image": "i", "container": "c", "ended_at": time, "duration_ms": 5,
        "reason": "exited", "exit": 1, "signal": 9, "message": "m", "stopped": "s", "restarts": 2,
        "result": {"status": "success", "data": {"a": [1]}},
        "saved": {"outcome": "ok", "generation": 3, "ok_at": time, "all": false, "left_out": 2},
        "log_lines_dropped": 4, "count": 3,
    });
    serde_json::from_value(value).unwrap()
}

fn planned() -> Planned {
    let time = "2026-11-21T07:52:48.123Z";
    let value = json!({
        "id": "b1", "name": "grid", "schedule": "*/5 * * * *", "timezone": "Europe/Berlin", "enabled": true,
        "next_tick": time, "last_tick": {"at": time, "state": "completed", "attempt": 1, "missed": 2, "why": "w"},
    });
    serde_json::from_value(value).unwrap()
}

fn job() -> Job {
    let at = mongodb::bson::DateTime::from_millis(1_000);
    let document = mongodb::bson::doc! {
        "id": "j1", "status": "failed", "cancel": true, "queued_at": at, "claimed_at": at, "begun_at": at, "ended_at": at,
        "starts": 1, "told": true, "success": false, "error": "e", "result": "j1/result.json", "host": "h",
    };
    mongodb::bson::deserialize_from_document(document).unwrap()
}

fn nobody(word: &str) -> Unclear {
    let (word, hint) = (word.to_owned(), String::new());
    Unclear::Nobody { word, hint }
}

/// Answers as a loop would that has one bot, `grid`, and a roll under way for more than 5.
async fn stand_in(mut requests: UnboundedReceiver<Request>) {
    while let Some(request) = requests.recv().await {
        match request {
            Request::Rows(to) => drop(to.send(vec![row()])),
            Request::Usage(to) => {
                let used = json!({"cpu": 1.5, "memory": 7, "memory_limit": 8});
                let used = (bot_id(), serde_json::from_value(used).unwrap());
                let by = [used].into();
                let but = Some("why".to_owned());
                drop(to.send(Used { by, but }));
            }
            Request::History(word, count, to) if word == "grid" => {
                let entries = (1..=3).map(entry).collect::<Vec<_>>();
                let entries = entries[3 - count.min(3)..].to_vec();
                let but = Some("why".to_owned());
                let answer = crate::history::Answer { entries, but };
                drop(to.send(Ok((bot_id(), answer))));
            }
            Request::History(word, _, to) => drop(to.send(Err(nobody(&word)))),
            Request::Do(word, _, to) if word == "grid" => {
                let (name, but) = ("grid".to_owned(), Some("it is disabled".to_owned()));
                let id = bot_id();
                drop(to.send(Ok(Done { id, name, but })));
            }
            Request::RunNow(word, _, to) if word == "grid" => {
                let (id, name, but) = (bot_id(), word, None);
                drop(to.send(Ok(Done { id, name, but })));
            }
            Request::Do(word, _, to) | Request::RunNow(word, _, to) => {
                drop(to.send(Err(nobody(&word))));
            }
            Request::Schedules(to) => drop(to.send(vec![planned()])),
            Request::Jobs(7, to) => drop(to.send(Err(NoJob::Nowhere("no database".into())))),
            Request::Jobs(_, to) => drop(to.send(Ok(vec![job()]))),
            Request::Job(id, to) | Request::CancelJob(id, to) => {
                drop(to.send(match id.as_str() {
                    "grid" => Ok(job()),
                    "over" => Err(NoJob::Over("it has ended already".into())),
                    _ => Err(NoJob::Nowhere("no such job".into())),
                }));
            }
            Request::Target(Whom::Id(word) | Whom::Word(word), to) => {
                drop(to.send(Err(match word.as_str() {
                    "busy" => crate::ask::Refusal::Busy,
                    _ => crate::ask::Refusal::Unknown(word),
                })));
            }
            Request::Confirm(to) => drop(to.send(vec![bot_id()])),
            Request::Switch(_, to) => {
                let (live, unsaved) = (vec!["grid".to_owned()], Vec::new());
                let known = true;
                drop(to.send(Turned {
                    known,
                    live,
                    unsaved,
                    lost: Vec::new(),
                    jobs: vec![bot_id()],
                    unkept: None,
                }));
            }
            Request::Roll(most, to) if most <= 5 => drop(to.send(Ok(vec![bot_id()]))),
            Request::Roll(_, to) => drop(to.send(Err("a roll is under way".to_owned()))),
            Request::Collect(bots, _, to) if bots.iter().all(|bot| bot == "grid") => {
                let left = json!([{"bot": "b1", "name": "grid", "what": "removed"}]);
                drop(to.send(Ok(serde_json::from_value(left).unwrap())));
            }
            Request::Collect(_, _, to) => drop(to.send(Err("no bot is called so".to_owned()))),
            other @ Request::RollTo(..) => panic!("{other:?}"),
        }
    }
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Value,
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> Reply {
    // One that refuses need not hear all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    Reply {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: serde_json::from_str(body).unwrap(),
    }
}

/// A request as text; `headers` are whole lines.
fn request(method: &str, path: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    for line in headers {
        text += line;
        text += "\r\n";
    }
    let length = body.len();
    format!("{text}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Asks over the socket.
async fn ask(rig: &Rig, method: &str, path: &str, body: &str) -> Reply {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let api = rig.api.clone();
    let attended = tokio::spawn(async move {
        attend(theirs, &Door::Socket(Some(7)), &Guard::Loopback, &api).await;
    });
    let reply = exchange(ours, &request(method, path, &["Host: agent"], body)).await;
    attended.await.unwrap();
    reply
}

/// Asks over the network, as a client without a token would.
async fn ask_net(address: SocketAddr, method: &str, path: &str, headers: &[&str]) -> Reply {
    let stream = TcpStream::connect(address).await.unwrap();
    let host = format!("Host: {address}");
    let mut lines = vec![host.as_str(), "Content-Type: application/json"];
    lines.extend_from_slice(headers);
    exchange(stream, &request(method, path, &lines, "")).await
}

/// A file of tokens: `ci` may change things, `eye` may look.
fn tokens(dir: &tempfile::TempDir) -> Guard {
    let path = dir.path().join("tokens");
    fs::write(&path, format!("ci {TOKEN} write\neye {LOOK} read\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    Guard::Tokens(path)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn document() -> Document {
    Document::new(serde_json::from_str(answers::DOCUMENT).unwrap()).unwrap()
}

/// A body and a path that get 200 for a row of the table.
fn good(template: &str) -> (String, &'static str) {
    let body = match template {
        "/v1/roll" => "{\"max_unavailable\": 2}",
        "/v1/collect" => "{}",
        _ => "",
    };
    let path = template.replace("{bot}", "grid");
    (path.replace("{job}", "grid"), body)
}

#[test]
fn the_document_has_the_routes_there_are() {
    let document = document();
    let told: BTreeSet<(String, String)> = document
        .operations()
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    let table = route::TABLE.iter();
    let there = table.map(|(method, path, _)| (method.to_string(), (*path).to_owned()));
    assert_eq!(told, there.collect());
}

/// Answers of every kind, looked at as they come.
struct Seen {
    document: Document,
    seen: BTreeSet<(String, String, u16)>,
}

impl Seen {
    fn note(&mut self, method: &str, template: &str, expected: u16, reply: &Reply) {
        assert_eq!(reply.status, expected, "{method} {template}: {reply:?}");
        let allowed = self
            .document
            .allows(method, template, expected, &reply.body);
        allowed.unwrap();
        let content = "content-type: application/json";
        assert!(reply.head.contains(content), "{}", reply.head);
        self.seen
            .insert((method.to_owned(), template.to_owned(), expected));
    }
}

#[test]
fn every_route_answers_as_the_document_says_with_every_status_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let guard = tokens(&dir);
    block_on(async {
        let mut seen = Seen {
            document: document(),
            seen: BTreeSet::new(),
        };
        let rig = Rig::answered();
        let standby = {
            let (to, from) = unbounded_channel();
            tokio::spawn(stand_in(from));
            Rig::new(to, Lease::shared())
        };
        let ended = Rig::new(unbounded_channel().0, Lease::alone());
        let (net, open) = (rig.served(guard).await, rig.served(Guard::Loopback).await);
        for (method, template, make) in &route::TABLE {
            let (path, body) = good(template);
            let (method, is_post) = (method.as_str(), *method == Method::POST);
            let route = make("grid".into());
            if route != Route::Query {
                let reply = ask(&rig, method, &path, body).await;
                seen.note(method, template, 200, &reply);
            }
            if route == Route::Document {
                let none = ask_net(net, method, &path, &[]).await;
                seen.note(method, template, 401, &none);
                assert!(none.head.contains("www-authenticate: bearer"), "{none:?}");
            }
            let token = ask_net(net, method, &path, &[&bearer("wrong")]).await;
            seen.note(method, template, 401, &token);
            let page = ask_net(open, method, &path, &["Origin: http://x"]).await;
            seen.note(method, template, 403, &page);
            if route.access() == Access::Write {
                let looks = ask_net(net, method, &path, &[&bearer(LOOK)]).await;
                seen.note(method, template, 403, &looks);
            }
            if route.needs_lease() {
                let passive = ask(&standby, method, &path, body).await;
                seen.note(method, template, 409, &passive);
            }
            if is_post {
                posts(&mut seen, &rig, open, template, &path).await;
            }
            if !matches!(route, Route::Document | Route::Query) {
                let reply = ask(&ended, method, &path, body).await;
                seen.note(method, template, 503, &reply);
            }
            if template.contains('{') {
                let path = template.replace("{bot}", "nobody");
                let path = path.replace("{job}", "nobody");
                let unknown = ask(&rig, method, &path, body).await;
                seen.note(method, template, 404, &unknown);
            }
            if matches!(
                route,
                Route::Bots | Route::Bot(_) | Route::History(_) | Route::Schedules | Route::Jobs
            ) {
                let reply = ask(&rig, method, &format!("{path}?x=1"), body).await;
                seen.note(method, template, 400, &reply);
            }
        }
        odd_ones(&mut seen, &rig).await;
        no_tokens(&mut seen, &rig).await;
        let mut promised = BTreeSet::new();
        for (method, path, operation) in seen.document.operations() {
            for status in seen.document.statuses(operation) {
                promised.insert((method.clone(), path.clone(), status));
            }
        }
        // A bot that answers is in the tests of real agents, as is a body that does not come below.
        promised.retain(|(_, path, status)| {
            *status != 408 && !(path == "/v1/query" && [200, 500, 504].contains(status))
        });
        assert_eq!(seen.seen, promised);
    });
}

/// What is refused of any POST.
async fn posts(seen: &mut Seen, rig: &Rig, open: SocketAddr, template: &str, path: &str) {
    let large = ask(rig, "POST", path, &" ".repeat(LARGEST + 1)).await;
    seen.note("POST", template, 413, &large);
    let stream = TcpStream::connect(open).await.unwrap();
    let form = request(
        "POST",
        path,
        &["Host: localhost", "Content-Type: text/plain"],
        "{}",
    );
    seen.note("POST", template, 415, &exchange(stream, &form).await);
}

/// What only some do.
async fn odd_ones(seen: &mut Seen, rig: &Rig) {
    let rows = [
        ("/v1/roll", "{}", 400),
        ("/v1/roll", "{\"max_unavailable\": 6}", 409),
        ("/v1/collect", "[]", 400),
        ("/v1/collect", "{\"bots\": [\"x\"]}", 404),
        ("/v1/query", "{}", 400),
        (
            "/v1/query",
            "{\"bot_id\": \"busy\", \"query_path\": \"/\"}",
            429,
        ),
        (
            "/v1/query",
            "{\"bot_id\": \"x\", \"query_path\": \"/\"}",
            404,
        ),
    ];
    for (path, body, status) in rows {
        let reply = ask(rig, "POST", path, body).await;
        seen.note("POST", path, status, &reply);
    }
    let none = ask(rig, "GET", "/v1/jobs?count=7", "").await;
    seen.note("GET", "/v1/jobs", 404, &none);
    let over = ask(rig, "POST", "/v1/jobs/over/cancel", "").await;
    seen.note("POST", "/v1/jobs/{job}/cancel", 409, &over);
    for query in ["?usage", "?usage=true"] {
        let path = format!("/v1/bots/grid{query}");
        let reply = ask(rig, "GET", &path, "").await;
        seen.note("GET", "/v1/bots/{bot}", 200, &reply);
        assert_eq!(reply.body["usage"]["memory"], 7);
        assert!(reply.body["sync_age_seconds"].is_u64());
    }
}

/// Where the file of tokens is gone.
async fn no_tokens(seen: &mut Seen, rig: &Rig) {
    let gone = rig.served(Guard::Tokens("/nowhere/tokens".into())).await;
    for (method, template, _) in &route::TABLE {
        let (path, _) = good(template);
        let reply = ask_net(gone, method.as_str(), &path, &[&bearer(TOKEN)]).await;
        seen.note(method.as_str(), template, 503, &reply);
    }
    assert!(
        rig.said().contains("/nowhere/tokens: No such file"),
        "{}",
        rig.said()
    );
}

#[test]
fn what_is_not_there_or_not_by_that_method_is_told_in_json() {
    block_on(async {
        let rig = Rig::answered();
        for path in ["/", "/bots", "/v1", "/v2/bots", "/v1/bots/grid/fly"] {
            let reply = ask(&rig, "GET", path, "").await;
            assert_eq!(reply.status, 404, "{path}");
            assert!(
                reply.body["error"]
                    .as_str()
                    .unwrap()
                    .contains("openapi.json")
            );
        }
        for (method, path, allowed) in [
            ("DELETE", "/v1/bots/grid", "get"),
            ("GET", "/v1/bots/grid/stop", "post"),
            ("HEAD", "/v1/stop", "post"),
            ("GET", "/v1/query", "post"),
        ] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let api = rig.api.clone();
            tokio::spawn(async move {
                attend(theirs, &Door::Socket(None), &Guard::Loopback, &api).await;
            });
            let mut stream = ours;
            let text = request(method, path, &["Host: agent"], "");
            stream.write_all(&text).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
            let allow = format!("allow: {allowed}");
            assert!(answer.to_lowercase().contains(&allow), "{answer}");
        }
    });
}

#[test]
fn a_history_is_given_in_pages() {
    block_on(async {
        let rig = Rig::answered();
        let page = ask(&rig, "GET", "/v1/bots/grid/history?count=2", "")
            .await
            .body;
        let runs = |page: &Value| {
            let entries = page["entries"].as_array().unwrap();
            entries
                .iter()
                .map(|e| e["run"].as_u64().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(runs(&page), [2, 3]);
        let next = page["next"].as_str().unwrap();
        let path = format!("/v1/bots/grid/history?count=2&before={next}");
        let page = ask(&rig, "GET", &path, "").await.body;
        assert_eq!((runs(&page), &page["next"]), (vec![1], &Value::Null));
        let all = ask(&rig, "GET", "/v1/bots/grid/history", "").await.body;
        assert_eq!((runs(&all), &all["next"]), (vec![1, 2, 3], &Value::Null));
    });
}

#[test]
fn who_changed_what_is_in_the_log_and_nobodys_token() {
    let dir = tempfile::tempdir().unwrap();
    let guard = tokens(&dir);
    block_on(async {
        let rig = Rig::answered();
        let net = rig.served(guard).await;
        let write = bearer(TOKEN);
        ask_net(net, "POST", "/v1/bots/grid/stop", &[&write]).await;
        ask_net(net, "POST", "/v1/bots/no%0Abody/start", &[&write]).await;
        ask_net(net, "POST", "/v1/confirm", &[&write]).await;
        ask_net(net, "GET", "/v1/bots", &[&write]).await;
        for _ in 0..3 {
            ask_net(net, "POST", "/v1/stop", &[&write]).await;
        }
        ask(&rig, "POST", "/v1/roll", "{\"max_unavailable\": 6}").await;
        ask_net(net, "POST", "/v1/bots/grid/stop", &[&bearer(LOOK)]).await;
        ask_net(net, "POST", "/v1/bots/grid/stop", &[]).await;
        let expected = "\
agent | grid: stop of \"grid\", asked by ci at 127.0.0.1: done, but it is disabled
agent | start of \"no\\nbody\", asked by ci at 127.0.0.1: 404, no bot is called \"no\\nbody\"
agent | confirmation, asked by ci at 127.0.0.1: done, {\"confirmed\":[\"b1\"]}
agent | stop of all, asked by ci at 127.0.0.1: done
agent | roll {\"max_unavailable\":6}, asked by user 7 on the socket: 409, a roll is under way
agent | refused \"POST /v1/bots/grid/stop\" from 127.0.0.1: the token of eye at 127.0.0.1 may only look
";
        assert_eq!(rig.said(), expected);
    });
}

#[test]
fn a_request_whose_asker_goes_away_is_done_and_told_all_the_same() {
    block_on(async {
        let (to, mut from) = unbounded_channel();
        let rig = Rig::new(to, Lease::alone());
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let api = rig.api.clone();
        let attended = tokio::spawn(async move {
            attend(theirs, &Door::Socket(None), &Guard::Loopback, &api).await;
        });
        let text = request("POST", "/v1/bots/grid/stop", &["Host: agent"], "");
        ours.write_all(&text).await.unwrap();
        let Some(Request::Do(word, _, answer)) = from.recv().await else {
            panic!("no order");
        };
        assert_eq!(word, "grid");
        drop(ours);
        attended.await.unwrap();
        let (id, name) = (bot_id(), "grid".to_owned());
        answer
            .send(Ok(Done {
                id,
                name,
                but: None,
            }))
            .unwrap();
        while !rig.said().contains("asked by the socket: done") {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn whoever_does_not_send_his_request_is_cut_and_others_are_answered_meanwhile() {
    block_on(async {
        let rig = Rig::answered();
        let address = rig.served(Guard::Loopback).await;
        let heads: [&[u8]; 3] = [
            b"",
            b"GET /v1/bots HTTP/1.1\r\nHost: local",
            b"POST /v1/stop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        ];
        let began = Instant::now();
        let mut slow = Vec::new();
        for head in heads {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head).await.unwrap();
            slow.push(stream);
        }
        assert_eq!(ask_net(address, "GET", "/v1/bots", &[]).await.status, 200);
        assert!(began.elapsed() < PATIENCE);
        let mut ends = Vec::new();
        for mut stream in slow {
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            ends.push(answer);
        }
        assert!(began.elapsed() < PATIENCE * 3, "{:?}", began.elapsed());
        let last = ends.pop().unwrap();
        let (head, body) = last.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        let body = serde_json::from_str(body).unwrap();
        document().allows("POST", "/v1/stop", 408, &body).unwrap();
        assert!(
            ends.iter().all(|answer| !answer.contains("200 OK")),
            "{ends:?}"
        );
        assert!(!rig.said().contains("stop of all"), "{}", rig.said());
    });
}

#[test]
fn garbage_gets_no_further_than_the_door() {
    block_on(async {
        let (to, mut from) = unbounded_channel();
        let rig = Rig::new(to, Lease::alone());
        let address = rig.served(Guard::Loopback).await;
        let long = format!(
            "GET /v1/bots HTTP/1.1\r\nX: {}\r\n\r\n",
            "x".repeat(HEAD * 4)
        );
        let rows: [&[u8]; 5] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\0\0\0\0\r\n\r\n",
            b"GET\r\n\r\n",
            b"POST /v1/stop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n",
            long.as_bytes(),
        ];
        for bytes in rows {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8(answer).unwrap();
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                "{answer}"
            );
        }
        assert!(from.try_recv().is_err());
    });
}

#[test]
fn the_socket_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    block_on(async {
        drop(open(&path).unwrap());
        let _again = open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    });
}

#[test]
fn a_body_that_is_not_understood_is_refused_with_the_reason_and_nothing_is_asked_of_the_loop() {
    let rows: [(&str, &str, &str); 19] = [
        ("/roll", "", "EOF"),
        ("/roll", "max_unavailable=1", "expected value"),
        ("/roll", "{\"max_unavailable\": 1", "EOF"),
        ("/roll", "{\"max_unavailable\": 1} x", "trailing"),
        ("/roll", "{}", "max_unavailable"),
        ("/roll", "null", "a map"),
        ("/roll", "{\"max_unavailable\": 0}", "nonzero"),
        ("/roll", "{\"max_unavailable\": -1}", "nonzero"),
        ("/roll", "{\"max_unavailable\": 1.5}", "nonzero"),
        ("/roll", "{\"max_unavailable\": \"2\"}", "nonzero"),
        (
            "/roll",
            "{\"max_unavailable\": 1, \"force\": true}",
            "force",
        ),
        ("/collect", "", "EOF"),
        ("/collect", "{\"bots\": [\"a\"", "EOF"),
        ("/collect", "{\"bots\": \"a\"}", "sequence"),
        ("/collect", "{\"bots\": [1]}", "string"),
        (
            "/collect",
            "{\"bots\": [\"a\"], \"discard_state\": \"yes\"}",
            "boolean",
        ),
        (
            "/collect",
            "{\"bots\": [\"a\"], \"discard-state\": true}",
            "discard-state",
        ),
        ("/collect", "{\"bot\": [\"a\"]}", "bot"),
        ("/collect", "{\"discard_state\": true}", "by name"),
    ];
    block_on(async {
        let (to, mut from) = unbounded_channel();
        let rig = Rig::new(to, Lease::alone());
        for (path, body, hint) in rows {
            let reply = ask(&rig, "POST", &format!("/v1{path}"), body).await;
            assert_eq!(reply.status, 400, "{path} {body}: {reply:?}");
            let why = reply.body["error"].as_str().unwrap();
            assert!(why.contains(hint), "{path} {body}: {why}");
            assert!(from.try_recv().is_err(), "{path} {body}");
        }
    });
}

/// What the loop is asked, as text; it answers nothing.
async fn heard(requests: &mut UnboundedReceiver<Request>) -> String {
    match requests.recv().await {
        Some(Request::Roll(most, _)) => format!("roll {most}"),
        Some(Request::Collect(bots, unsaved, _)) => format!("collect {bots:?} {unsaved:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_body_that_is_understood_is_asked_of_the_loop_as_it_says() {
    let discard = "{\"bots\": [\"a\"], \"discard_state\": true}";
    let rows = [
        ("/v1/roll", "{\"max_unavailable\": 2}", "roll 2"),
        ("/v1/collect", discard, "collect [\"a\"] Discard"),
        ("/v1/collect", "{}", "collect [] Keep"),
    ];
    block_on(async {
        let (to, mut from) = unbounded_channel();
        let rig = Rig::new(to, Lease::alone());
        for (path, body, expected) in rows {
            let (reply, request) = tokio::join!(ask(&rig, "POST", path, body), heard(&mut from));
            assert_eq!((reply.status, request.as_str()), (503, expected), "{body}");
        }
    });
}
