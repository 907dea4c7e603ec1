//! A host with a gateway, and bots that can be asked.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use tests::containers::{Container, Events};
use tests::servers::mongo::document;
use tests::stack::{BOTS, COUNTER, LONG, Stack, zipped};
use tests::{Reply, http, text, wait_for};

/// Answers both ways, as the contract has it, without an SDK.
pub const QUERY: &str = r#"
import json, os, pathlib, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

def number():
    path = pathlib.Path(os.environ["STATE_DIR"]) / "count.json"
    return json.loads(path.read_text()) if path.exists() else 0

def write(path):
    try:
        with open(path, "w") as file:
            file.write("0")
        return "written"
    except OSError as error:
        return error.strerror

def count(params):
    return {"count": number()}

def echo(params):
    return params

def sleep(params):
    subprocess.Popen(["sleep", "1000"])
    time.sleep(float(params.get("seconds", 1)))
    return {"slept": True}

def wait(params):
    subprocess.Popen(["sleep", "1000"])
    while not os.path.exists("/tmp/go"):
        time.sleep(0.05)
    return {"waited": True}

def fail(params):
    raise ValueError("what was asked cannot be had")

def leave(params):
    os._exit(9)

def writes(params):
    state, code = os.environ["STATE_DIR"], "/" + os.environ["CODE_MOUNT_DIR"]
    paths = [state + "/count.json", state + "/new.json", code + "/main.py", code + "/new.py", "/var/the0/logs/new", "/etc/new"]
    return {path: write(path) for path in paths}

def environment(params):
    return sorted(os.environ)

HANDLERS = {"/count": count, "/echo": echo, "/sleep": sleep, "/fail": fail, "/leave": leave, "/writes": writes,
            "/environment": environment, "/wait": wait}

def answer(path, params):
    if path == "/info":
        return 200, {"available_queries": sorted(HANDLERS)}
    if path not in HANDLERS:
        return 404, {"status": "error", "error": "No handler for path: " + path, "available": sorted(HANDLERS)}
    try:
        return 200, {"status": "ok", "data": HANDLERS[path](params)}
    except Exception as error:
        return 500, {"status": "error", "error": str(error)}

class Live(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, said = answer(urlsplit(self.path).path, json.loads(body or b"{}"))
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

if os.environ.get("QUERY_PATH"):
    print("this goes to no answer", flush=True)
    status, said = answer(os.environ["QUERY_PATH"], json.loads(os.environ["QUERY_PARAMS"]))
    pathlib.Path("/query/result.json").write_text(json.dumps(said))
    sys.exit(0 if status == 200 else 1)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["THE0_QUERY_PORT"])), Live).serve_forever()
"#;

/// The host.
pub struct Rig {
    pub stack: Stack,
}

impl Rig {
    /// One whose agent has these settings and listens; `None` when a part is missing, which has been said.
    pub fn start(test: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let mut stack = Stack::start(test, &["python3.11"])?;
        stack.set("THE0_GATEWAY_ADDRESS", "127.0.0.1:0");
        for (name, value) in settings {
            stack.set(name, value);
        }
        stack.begin();
        Some(Self { stack })
    }

    /// Where the agent that was started last answers.
    pub fn address(&self) -> String {
        wait_for("the gateway", LONG, || {
            let said = self.stack.said();
            let (_, rest) = said.rsplit_once("questions are answered on http://")?;
            Some(rest.split_once(',')?.0.to_owned())
        })
    }

    /// Registers a Python bot that counts and answers; `change` goes into its document.
    pub fn bot(&self, short: &str, change: Document) -> String {
        self.bot_of(short, &[("main.py", COUNTER), ("query.py", QUERY)], change)
    }

    /// The same of these files.
    pub fn bot_of(&self, short: &str, files: &[(&str, &str)], change: Document) -> String {
        let id = self.stack.id(short);
        let key = format!("tests/{id}/1.0.0");
        self.stack.code(&key, files);
        let mut bot = document(&id, &key, doc! {"name": short});
        let custom = bot.get_document_mut("custom").unwrap();
        let definition = custom.get_document_mut("config").unwrap();
        if files.iter().any(|(name, _)| *name == "query.py") {
            definition.insert("entrypoints", doc! {"bot": "main.py", "query": "query.py"});
        }
        bot.extend(change);
        self.stack.mongo.put(BOTS, &bot);
        id
    }

    /// Registers a bot of `runtime` with the programs of a folder: its own and the one that answers.
    pub fn bot_in(&self, runtime: &str, code: &Path, entries: &[&str; 2], short: &str) -> String {
        let id = self.stack.id(short);
        let key = format!("tests/{id}/1.0.0");
        self.stack.objects().put("custom-bots", &key, &zipped(code));
        let mut bot = document(&id, &key, doc! {"name": short, "symbol": "BTC/USD"});
        let custom = bot.get_document_mut("custom").unwrap();
        let definition = custom.get_document_mut("config").unwrap();
        definition.insert("runtime", runtime);
        definition.insert("entrypoints", doc! {"bot": entries[0], "query": entries[1]});
        self.stack.mongo.put(BOTS, &bot);
        id
    }

    /// A bot that was saved and is disabled now; what it had counted.
    pub fn rests(&self, short: &str) -> (String, u64) {
        let id = self.bot(short, doc! {});
        wait_for("a number in the store", LONG, || {
            (self.stack.saved(&id) > 0).then_some(())
        });
        self.stack.change(&id, doc! {"enabled": false});
        self.stack.state(&id, "disabled");
        let name = self.stack.container(&id).name;
        wait_for("the end of its container", LONG, || {
            (self.stack.docker.inspect(&name)["State"]["Running"] == false).then_some(())
        });
        let saved = self.stack.saved(&id);
        (id, saved)
    }

    /// Puts a question.
    pub fn ask(&self, id: &str, path: &str, more: &Value) -> Reply {
        let mut body = json!({"bot_id": id, "query_path": path});
        let more = more.as_object().cloned().unwrap_or_default();
        body.as_object_mut().unwrap().extend(more);
        http(&self.address(), "POST", "/query", &body.to_string())
    }

    /// Puts a question until the bot itself answers where it runs, and no instance that answered for it before is left.
    pub fn live(&self, id: &str, path: &str) {
        let word = format!("bot {id} \"{path}\": 200, live");
        let told = || self.stack.said().matches(&word).count();
        let before = told();
        wait_for("an answer of the bot that runs", LONG, || {
            self.ask(id, path, &json!({}));
            (told() > before).then_some(())
        });
        wait_for("the end of what answered before", LONG, || {
            self.containers().is_empty().then_some(())
        });
    }

    /// Puts a question until it is answered well, by whomever.
    pub fn answers(&self, id: &str, path: &str) -> Value {
        let end = Instant::now() + LONG;
        loop {
            let reply = self.ask(id, path, &json!({}));
            if reply.status == 200 {
                return reply.json()["data"].clone();
            }
            assert!(Instant::now() < end, "{reply:?}\n{}", self.stack.said());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until so many questions `/wait` are with the query program in this container: each has a child there that
    /// sleeps, as those of `/sleep` have.
    pub fn under_way(&self, container: &Container<'_>, count: usize) {
        let top = ["top", &container.name, "-eo", "pid,args"];
        wait_for("questions that are under way", LONG, || {
            let said = text(&self.stack.docker.output(top).stdout);
            (said.matches("sleep 1000").count() == count).then_some(())
        });
    }

    /// Containers that were made for questions.
    pub fn containers(&self) -> Vec<String> {
        let stack = format!("label=the0.stack={}", self.stack.name());
        let words = [
            "ps",
            "-a",
            "-q",
            "--filter",
            &stack,
            "--filter",
            "label=runtime.type=query",
        ];
        let said = self.stack.docker.ask(words);
        said.lines().map(str::to_owned).collect()
    }

    /// Waits until none is left, nor any of the volumes that they have had.
    pub fn leaves_nothing(&self, volumes: &Volumes) {
        wait_for("the end of all containers for questions", LONG, || {
            self.containers().is_empty().then_some(())
        });
        wait_for("the end of their volumes", LONG, || {
            let had = volumes.unnamed(self.stack.name());
            let said = self.stack.docker.ask(["volume", "ls", "-q"]);
            let is_left = |name: &String| said.lines().any(|line| line == name);
            (!had.is_empty() && !had.iter().any(is_left)).then_some(())
        });
    }

    /// The volumes that its containers have from now on.
    pub fn volumes(&self) -> Volumes {
        Volumes::of(&self.stack)
    }
}

/// Volumes that containers have had, by the daemon's own word: those without a name do not tell whose they are.
pub struct Volumes(Events);

impl Volumes {
    fn of(stack: &Stack) -> Self {
        let filters = [
            "type=container",
            "event=create",
            "type=volume",
            "event=mount",
        ];
        let form = "{{.Type}},{{.Actor.ID}},{{index .Actor.Attributes \"the0.stack\"}},{{index .Actor.Attributes \"container\"}}";
        Self(stack.docker.events(&filters, form))
    }

    /// Those without a name that containers of this stack have had.
    fn unnamed(&self, stack: &str) -> Vec<String> {
        let is_unnamed =
            |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let (mut containers, mut volumes) = (BTreeSet::new(), Vec::new());
        // A container is made before anything is mounted into it.
        for line in self.0.told().lines() {
            let row: Vec<&str> = line.split(',').collect();
            match &row[..] {
                ["container", id, of, _] if *of == stack => {
                    containers.insert((*id).to_owned());
                }
                ["volume", name, _, of] if containers.contains(*of) && is_unnamed(name) => {
                    volumes.push((*name).to_owned());
                }
                _ => {}
            }
        }
        volumes
    }
}

/// Lets the questions `/wait` to the query program in this container be answered.
pub fn let_go(container: &Container<'_>) {
    let done = container.exec(&["touch", "/tmp/go"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
}
