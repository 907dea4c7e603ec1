//! A Pod as the agent makes it, of what a test of the agent's own proves that to be, and a store that Pods reach through a
//! door.

use std::collections::BTreeSet;
use std::io::{Cursor, Write};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use contract::record::{RunRecord, Synced};
use serde_json::{Value, json};
use tests::cluster::{Cluster, HOST, LONG, Pod};
use tests::door::Door;
use tests::servers::{ACCESS_KEY, Minio, SECRET_KEY, Store};
use tests::{read, repository, text, wait_for};

/// Counts its runs in the state, says so, and ends as it is told: `crash` runs with 1 at once, one that is `once` with 0.
/// At TERM it takes two seconds, and has last words.
pub const COUNTS: &str = r"
import os, signal, sys, time

def main(id, config):
    def end(*_):
        time.sleep(config.get('slow', 2))
        open('/state/last', 'w').write('words')
        print('LAST WORDS', flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    path = '/state/count'
    count = int(open(path).read()) + 1 if os.path.exists(path) else 1
    open(path, 'w').write(str(count))
    print('COUNT', count, 'of', config['word'], flush=True)
    if count <= config.get('crash', 0):
        sys.exit(1)
    if config.get('hungry'):
        kept = []
        while True:
            kept.append(bytearray(b'x') * (1 << 20))
    while not config.get('once'):
        time.sleep(0.1)
";

/// Answers each question with the count, and leaves a grandchild behind.
pub const ANSWERS: &str = r"
import http.server, json, os, time

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(0.05)
            os._exit(0)
        os.wait()
        body = json.dumps({'status': 'ok', 'data': int(open('/state/count').read())}).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST

http.server.HTTPServer(('127.0.0.1', int(os.environ['THE0_QUERY_PORT'])), Answer).serve_forever()
";

/// How long a bot has between TERM and KILL: more than any here takes.
const GRACE: &str = "30s";
/// The token that questions over the network bring.
pub const TOKEN: &str = "the-token-of-a-test";

/// A bot to run in a Pod.
#[derive(Debug, Clone)]
pub struct Bot {
    /// Its id, and its Pod's name.
    pub id: &'static str,
    /// Whether it is a run of a schedule or a job: once, whatever becomes of it.
    pub restart: &'static str,
    /// Its parameters.
    pub config: Value,
    /// Its container's limit.
    pub memory: &'static str,
}

impl Bot {
    /// `id` is that of no other test here: they have one store.
    pub fn new(id: &'static str, config: Value) -> Self {
        static USED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
        let is_new = USED.lock().expect("no test panics here").insert(id);
        assert!(is_new, "another test has a bot {id}");
        Self {
            id,
            restart: "Always",
            config,
            memory: "256Mi",
        }
    }
}

/// What a test of a Pod needs.
pub struct Rig {
    pub cluster: Cluster,
    pub store: &'static Store,
    /// What Pods reach the store through.
    pub door: Door,
    image: String,
}

impl Rig {
    /// `None` where it cannot be had, which has been said.
    pub fn start(test: &str) -> Option<Self> {
        static STORE: LazyLock<Option<Store>> = LazyLock::new(|| Minio::start_at(HOST));
        let cluster = Cluster::here(test)?;
        let image = cluster.image(test, "python3.11")?;
        let store = STORE.as_ref()?;
        Some(Self {
            cluster,
            store,
            door: Door::before(HOST, store.address()),
            image,
        })
    }

    /// Makes a Pod of the bot, with its code in the store and its Secrets.
    pub fn run(&self, bot: &Bot) -> Pod<'_> {
        self.run_code(bot, COUNTS)
    }

    pub fn run_code(&self, bot: &Bot, code: &str) -> Pod<'_> {
        let zipped = zipped(&[("main.py", code), ("answers.py", ANSWERS)]);
        self.store.client().put("custom-bots", bot.id, &zipped);
        self.put_keys(bot, SECRET_KEY);
        self.secret(
            &format!("{}-config", bot.id),
            &json!({
                "config": bot.config.to_string(), "token": TOKEN,
            }),
        );
        self.cluster.apply(&self.manifest(bot));
        self.cluster.pod(bot.id)
    }

    /// The keys of fetch and sync.
    pub fn put_keys(&self, bot: &Bot, secret: &str) {
        let keys = json!({"MINIO_ACCESS_KEY": ACCESS_KEY, "MINIO_SECRET_KEY": secret});
        self.secret(
            &format!("{}-keys", bot.id),
            &json!({"keys.json": keys.to_string()}),
        );
    }

    fn secret(&self, name: &str, entries: &Value) {
        self.cluster.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries,
        }));
    }

    /// The Pod of a bot: the agent's, with what is the test's own.
    pub fn manifest(&self, bot: &Bot) -> Value {
        let golden = match bot.restart {
            "Always" => "pod-with-query.json",
            _ => "pod-of-a-tick.json",
        };
        let golden = read(&repository().join("agent/golden").join(golden));
        let mut pod: Value = serde_json::from_str(&golden).expect("the agent's Pod");
        pod["metadata"]["name"] = bot.id.into();
        let spec = &mut pod["spec"];
        assert_eq!(spec["restartPolicy"], bot.restart);
        assert_eq!(spec["terminationGracePeriodSeconds"], 3600);
        let fields = spec.as_object_mut().expect("its fields");
        // Nobody is here to let it go.
        fields.remove("schedulingGates");
        fields.insert("dnsPolicy".to_owned(), "Default".into());
        for volume in all(spec, "volumes") {
            if let Some(secret) = volume.get_mut("secret") {
                secret["secretName"] = format!("{}-keys", bot.id).into();
                // The store has no certificate.
                all(secret, "items").retain(|item| item["key"] == "keys.json");
            }
        }
        for kind in ["initContainers", "containers"] {
            for container in all(spec, kind) {
                self.adapt(bot, container);
            }
        }
        pod
    }

    /// Makes a container of the agent's the test's.
    fn adapt(&self, bot: &Bot, container: &mut Value) {
        container["image"] = self.image.as_str().into();
        container["imagePullPolicy"] = "Never".into();
        let name = container["name"].clone();
        if name == "bot" {
            let resources = &mut container["resources"];
            resources["limits"]["memory"] = bot.memory.into();
            resources["requests"]["memory"] = bot.memory.into();
            // As of one that asks for none itself: all tests have one node.
            resources["requests"]["cpu"] = "100m".into();
        }
        let own = [
            ("BOT_ID", bot.id),
            ("CODE_FILE", bot.id),
            ("ENTRYPOINT", "main.py"),
            ("MINIO_ENDPOINT", self.door.address()),
            ("QUERY_ENTRYPOINT", "answers.py"),
            ("RUNTIME", "python3.11"),
            ("THE0_GRACE", GRACE),
        ];
        let variables = all(container, "env");
        variables.retain(|variable| variable["name"] != "THE0_CA_FILE");
        for variable in variables.iter_mut() {
            let value = own.iter().find(|(name, _)| variable["name"] == *name);
            if let Some((_, value)) = value {
                variable["value"] = (*value).into();
            }
            if let Some(secret) = variable.pointer_mut("/valueFrom/secretKeyRef/name") {
                *secret = format!("{}-config", bot.id).into();
            }
        }
        variables.push(json!({"name": "LOG_LEVEL", "value": "debug"}));
        if name == "fetch" || name == "sync" {
            variables.push(json!({"name": "THE0_FETCH_DEADLINE", "value": "5s"}));
        }
    }

    /// A file of the state in the store.
    pub fn saved(&self, bot: &Bot, file: &str) -> Option<String> {
        let key = format!("{}/state.tar.gz", bot.id);
        let object = self.store.client().get("bot-state", &key)?;
        let files = tests::volume::unpack(&object.bytes);
        files.get(file).map(|bytes| text(bytes))
    }

    pub fn wait_saved(&self, bot: &Bot, file: &str, content: &str) {
        wait_for(&format!("{file} with {content}"), LONG, || {
            (self.saved(bot, file)? == content).then_some(())
        });
    }

    /// All that is in the store of the bot's log.
    pub fn log(&self, bot: &Bot) -> String {
        let client = self.store.client();
        let days = client.list("bot-logs", &format!("logs/{}/", bot.id));
        let days = days.iter().filter_map(|day| client.get("bot-logs", day));
        days.map(|day| text(&day.bytes)).collect()
    }
}

/// All that a list in an object has.
fn all<'a>(object: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    let list = object.get_mut(name).and_then(Value::as_array_mut);
    list.unwrap_or_else(|| panic!("no {name}"))
}

fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// How the last life of a container that runs again has ended, or its only one.
pub fn ended(status: &Value) -> &Value {
    match &status["state"]["terminated"] {
        Value::Null => &status["lastState"]["terminated"],
        ended => ended,
    }
}

/// The last words of a container: of the bot's, its run's record.
pub fn run_of(status: &Value) -> RunRecord {
    let said = ended(status)["message"].as_str().unwrap_or_default();
    serde_json::from_str(said).unwrap_or_else(|err| panic!("{err}: {status:#}"))
}

/// Of the container of `sync`, how saving went.
pub fn synced_of(status: &Value) -> Synced {
    let said = ended(status)["message"].as_str().unwrap_or_default();
    serde_json::from_str(said).unwrap_or_else(|err| panic!("{err}: {status:#}"))
}

/// A point in time of a container's status.
pub fn time(status: &Value, name: &str) -> std::time::SystemTime {
    let said = status[name].as_str();
    let said = said.unwrap_or_else(|| panic!("{name} of {status:#}"));
    contract::record::Time::try_from(said.to_owned())
        .unwrap()
        .system()
}

/// As long as a store is away in these tests.
pub const AWAY: Duration = Duration::from_secs(10);
