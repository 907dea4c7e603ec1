//! A namespace, a database, a store that Pods reach, and agents that run bots there.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::cluster::{Cluster, HOST, LONG, Pod};
use tests::door::Door;
use tests::servers::mongo::{Mongo, document};
use tests::servers::{Minio, Store, free_port};
use tests::stack::BOTS;
use tests::{Process, bin, http, read, repository, run, text, volume, wait_for};

/// Who the agents are to the API server.
const USER: &str = "the0-controller-of-a-test";
/// Where bots are that run at times.
pub const SCHEDULES: &str = "bot_scheduler.bot_schedules";

/// Counts its runs in the state and says so; ends as it is told: with 1 while the count is not over `crash`, with 0 if it is
/// `once`. At TERM it has last words.
pub const COUNTS: &str = r"
import os, signal, sys, time

def main(id, config):
    def end(*_):
        open('/state/last', 'w').write('words')
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    path = '/state/count'
    count = int(open(path).read()) + 1 if os.path.exists(path) else 1
    open(path, 'w').write(str(count))
    open('/state/word', 'w').write(config.get('word', ''))
    print('COUNT', count, flush=True)
    if count <= config.get('crash', 0):
        sys.exit(1)
    kept = []
    while config.get('hungry'):
        kept.append(bytearray(b'x') * (1 << 20))
    while not config.get('once'):
        time.sleep(0.1)
";

/// Answers each question with the count.
pub const ANSWERS: &str = r"
import http.server, json, os

class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        body = json.dumps({'status': 'ok', 'data': int(open('/state/count').read())}).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST

http.server.HTTPServer(('127.0.0.1', int(os.environ['THE0_QUERY_PORT'])), Answer).serve_forever()
";

/// What agents of one database and one cluster need.
pub struct Rig {
    dir: TempDir,
    /// The image of Python bots.
    pub image: String,
    /// The way of agents to the API server.
    pub api: Door,
    pub mongo: Mongo,
    pub store: Store,
    pub cluster: Cluster,
}

impl Rig {
    /// `None` where it cannot be had, which has been said.
    pub fn start(test: &str) -> Option<Self> {
        let cluster = Cluster::here(test)?;
        let image = cluster.image(test, "python3.11")?;
        let (store, mongo) = (Minio::start_at(HOST)?, Mongo::start()?);
        let rig = Self {
            dir: tempfile::tempdir().unwrap(),
            image,
            api: door(),
            mongo,
            store,
            cluster,
        };
        rig.install();
        rig.lead(&rig.api, &rig.kubeconfig());
        // There are no names to be looked up.
        fs::write(rig.template(), "dnsPolicy: Default\n").unwrap();
        Some(rig)
    }

    /// Gives [`USER`] what the chart's Role gives a controller, and no more.
    fn install(&self) {
        let chart = read(&repository().join("tests/chart/golden/defaults.yaml"));
        let objects = chart.split("\n---\n");
        let objects = objects.filter_map(|text| serde_norway::from_str::<Value>(text).ok());
        let role = objects.into_iter().find(|object| object["kind"] == "Role");
        let rules = role.expect("the chart's Role")["rules"].take();
        let group = "rbac.authorization.k8s.io";
        let made = |kind: &str| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": "bots"}});
        let (mut role, mut binding) = (made("Role"), made("RoleBinding"));
        role["rules"] = rules;
        binding["roleRef"] = json!({"apiGroup": group, "kind": "Role", "name": "bots"});
        binding["subjects"] = json!([{"apiGroup": group, "kind": "User", "name": USER}]);
        self.cluster.apply(&role);
        self.cluster.apply(&binding);
    }

    /// A kubeconfig of [`USER`] that leads through a door, to the server that is known by its own name.
    fn lead(&self, door: &Door, path: &Path) {
        let own = fs::read_to_string(self.cluster.kubeconfig()).unwrap();
        let server = "server: \"https://10.96.0.1\"";
        assert!(own.contains(server), "another kubeconfig");
        let ours = format!(
            "server: \"https://{}\", tls-server-name: 10.96.0.1",
            door.address()
        );
        let ours = own.replace(server, &ours);
        let user = format!("user: {{as: {USER}, client");
        fs::write(path, ours.replace("user: {client", &user)).unwrap();
    }

    /// A way to the API server for one agent alone: its door, and the kubeconfig for that agent.
    pub fn lane(&self, name: &str) -> (Door, String) {
        let (door, path) = (door(), self.dir.path().join(name));
        self.lead(&door, &path);
        (door, path.display().to_string())
    }

    /// The same, by an administrator's proxy, so that the door can tell requests apart; rights are not looked at there.
    pub fn plain_lane(&self, name: &str) -> (Door, String) {
        let door = Door::before(Ipv4Addr::LOCALHOST.into(), self.cluster.proxy());
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "plain",
            "clusters": [{"name": "plain", "cluster": {"server": format!("http://{}", door.address())}}],
            "contexts": [{"name": "plain", "context": {"cluster": "plain", "user": "nobody"}}],
            "users": [{"name": "nobody", "user": {}}],
        });
        let path = self.dir.path().join(name);
        fs::write(&path, config.to_string()).unwrap();
        (door, path.display().to_string())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// What the operator sets of Pods.
    pub fn template(&self) -> PathBuf {
        self.dir.path().join("pods.yaml")
    }

    /// An agent, with more of an environment; it runs.
    pub fn agent(&self, more: &[(&str, &str)]) -> Agent {
        let mut agent = Self::idle(more);
        agent.start(self);
        agent
    }

    /// One of the bots of a folder, without a database; it runs.
    pub fn agent_of(&self, folder: &Path) -> Agent {
        let mut agent = Self::idle(&[]);
        agent.folder = Some(folder.to_owned());
        agent.start(self);
        agent
    }

    /// One that is not known to the cluster as anybody.
    pub fn stranger(&self) -> Agent {
        let own = read(&self.kubeconfig());
        let path = self.dir.path().join("stranger");
        fs::write(&path, own.replace(USER, "stranger")).unwrap();
        Self::idle(&[("KUBECONFIG", path.to_str().unwrap())])
    }

    /// One that does not run.
    fn idle(more: &[(&str, &str)]) -> Agent {
        let dir = tempfile::tempdir().unwrap();
        Agent {
            health: format!("127.0.0.1:{}", free_port()),
            gateway: format!("127.0.0.1:{}", free_port()),
            more: more
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            folder: None,
            dir,
            process: None,
        }
    }

    /// Puts a bot's document and code; its Pod's name is the id's.
    pub fn bot(&self, id: &str, config: Document) -> Pod<'_> {
        self.running(id, COUNTS, config)
    }

    /// The same of one that answers questions.
    pub fn asked(&self, id: &str, config: Document) -> Pod<'_> {
        let mut document = self.document(id, COUNTS, config);
        let custom = document.get_document_mut("custom").unwrap();
        let definition = custom.get_document_mut("config").unwrap();
        let entrypoints = doc! {"bot": "main.py", "query": "answers.py"};
        definition.insert("entrypoints", entrypoints);
        self.mongo.put(BOTS, &document);
        self.cluster.pod(format!("default-{id}"))
    }

    /// The same of one that runs `program`.
    pub fn running(&self, id: &str, program: &str, config: Document) -> Pod<'_> {
        let document = self.document(id, program, config);
        self.mongo.put(BOTS, &document);
        self.cluster.pod(format!("default-{id}"))
    }

    fn document(&self, id: &str, program: &str, config: Document) -> Document {
        let key = format!("tests/{id}/1.0.0");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("main.py"), program).unwrap();
        fs::write(folder.path().join("answers.py"), ANSWERS).unwrap();
        let bundle = tests::stack::zipped(folder.path());
        self.store.client().put("custom-bots", &key, &bundle);
        document(id, &key, config)
    }

    /// Puts a bot that runs at times.
    pub fn scheduled(&self, id: &str, config: Document) {
        self.scheduled_as(id, COUNTS, config);
    }

    /// The same of one that runs `program`.
    pub fn scheduled_as(&self, id: &str, program: &str, config: Document) {
        let mut document = self.document(id, program, config);
        let custom = document.get_document_mut("custom").unwrap();
        let definition = custom.get_document_mut("config").unwrap();
        definition.insert("type", "scheduled");
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        document.insert("next_execution_time", i64::try_from(now).unwrap());
        self.mongo.put(SCHEDULES, &document);
    }

    /// Takes a bot's document away.
    pub fn remove(&self, id: &str) {
        assert_eq!(self.mongo.delete(BOTS, doc! {"id": id}), 1);
    }

    /// A file of the bot's state in the store.
    pub fn saved(&self, id: &str, file: &str) -> Option<String> {
        let object = self
            .store
            .client()
            .get("bot-state", &format!("{id}/state.tar.gz"))?;
        volume::unpack(&object.bytes)
            .get(file)
            .map(|bytes| text(bytes))
    }

    /// The log of a bot in the store, all days of it.
    pub fn logged(&self, id: &str) -> String {
        let client = self.store.client();
        let days = client.list("bot-logs", &format!("logs/{id}/"));
        let days = days.iter().filter_map(|day| client.get("bot-logs", day));
        days.map(|day| text(&day.bytes)).collect()
    }

    pub fn wait_saved(&self, id: &str, file: &str, content: &str) {
        wait_for(&format!("{file} with {content}"), LONG, || {
            (self.saved(id, file)? == content).then_some(())
        });
    }

    /// The names of all objects of a kind in the namespace, as kubectl tells them: `pod/NAME`.
    pub fn names(&self, kind: &str) -> Vec<String> {
        let kind = kind.trim_end_matches('s');
        let group = if kind.ends_with("job") { ".batch" } else { "" };
        let name = |object: Value| {
            let name = object["metadata"]["name"].as_str().expect("a name");
            format!("{kind}{group}/{name}")
        };
        self.cluster.list(kind).into_iter().map(name).collect()
    }
}

/// One before the API server.
fn door() -> Door {
    Door::before(IpAddr::V4(Ipv4Addr::LOCALHOST), "10.96.0.1:443")
}

/// One agent.
pub struct Agent {
    dir: TempDir,
    health: String,
    /// Where it answers questions.
    pub gateway: String,
    more: Vec<(String, String)>,
    /// Its bots, where they are not the database's.
    folder: Option<PathBuf>,
    process: Option<Process>,
}

impl Agent {
    /// A command of the agent's program on its data.
    fn command(&self, rig: &Rig) -> Command {
        let mut command = Command::new(bin("agent"));
        command.env_clear().env("HOME", self.dir.path());
        command
            .env("THE0_DATA", self.dir.path().join("data"))
            .env("KUBECONFIG", rig.kubeconfig())
            .env("THE0_POD_TEMPLATE", rig.template())
            .env("MONGO_URI", rig.mongo.uri())
            .env("THE0_PULL", "Never")
            .env("RUNTIME_IMAGE", &rig.image)
            .env("THE0_GRACE", "5s")
            .env("THE0_API_ADDRESS", "")
            .env("THE0_GATEWAY_ADDRESS", &self.gateway)
            .env("THE0_HEALTH_LISTEN", &self.health);
        command.envs(rig.store.environment());
        command.envs(self.more.iter().cloned());
        command.current_dir(repository());
        command
    }

    /// Starts it again.
    pub fn start(&mut self, rig: &Rig) {
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.unwrap();
        let mut command = self.command(rig);
        command.args(["controller", "--namespace", rig.cluster.namespace()]);
        command.args(["--reconcile-interval", "1s", "--settle", "2s"]);
        if let Some(folder) = &self.folder {
            command.arg("--bots").arg(folder).env_remove("MONGO_URI");
        }
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Process::start(&mut command));
        wait_for("an agent that listens", LONG, || {
            std::net::TcpStream::connect(&self.health).ok()
        });
    }

    /// Kills it, as a machine does that goes away.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("an agent");
        process.signal(nix::sys::signal::Signal::SIGKILL);
        process.code(LONG);
    }

    /// Stops it where it stands, or lets it go on.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        self.process.as_ref().expect("an agent").signal(signal);
    }

    /// Its process id.
    pub fn pid(&self) -> nix::unistd::Pid {
        self.process.as_ref().expect("an agent").pid()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// All it has said.
    pub fn said(&self) -> String {
        read(&self.log())
    }

    /// Waits until it has said that.
    pub fn says(&self, what: &str) {
        let end = Instant::now() + LONG;
        while !self.said().contains(what) {
            assert!(Instant::now() < end, "no {what:?} in\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a command of its program prints as JSON.
    pub fn ask(&self, rig: &Rig, words: &[&str]) -> Value {
        let output = run(self.command(rig).args(words).args(["-o", "json"]));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What comes of a command of its program.
    pub fn output(&self, rig: &Rig, words: &[&str]) -> Output {
        run(self.command(rig).args(words))
    }

    /// Does what a person asks.
    pub fn does(&self, rig: &Rig, words: &[&str]) {
        self.prints(rig, words);
    }

    /// The same, and what is printed.
    pub fn prints(&self, rig: &Rig, words: &[&str]) -> String {
        let output = run(self.command(rig).args(words));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        text(&output.stdout)
    }

    /// What a command says beside what it prints.
    pub fn remarks(&self, rig: &Rig, words: &[&str]) -> String {
        text(&run(self.command(rig).args(words)).stderr)
    }

    /// Begins a command that goes on; what it prints is in the file `shown`.
    pub fn goes_on(&self, rig: &Rig, words: &[&str], shown: &Path) -> Process {
        let mut command = self.command(rig);
        command.args(words).stdin(Stdio::null());
        command.stdout(File::create(shown).unwrap());
        Process::start(command.stderr(Stdio::null()))
    }

    /// How a bot is.
    pub fn row(&self, rig: &Rig, id: &str) -> Value {
        let rows = self.ask(rig, &["ps"]);
        let rows = rows.as_array().unwrap();
        let row = rows.iter().find(|row| row["id"] == id);
        row.cloned().unwrap_or_default()
    }

    /// Waits until `look` finds something in the bot's row.
    pub fn wait_row<T>(&self, rig: &Rig, id: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        let end = Instant::now() + LONG;
        loop {
            let row = self.row(rig, id);
            if let Some(found) = look(&row) {
                return found;
            }
            assert!(Instant::now() < end, "{row:#}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until history tells of the bot what `look` wants.
    pub fn wait_history(&self, rig: &Rig, id: &str, look: impl Fn(&[Value]) -> bool) {
        let end = Instant::now() + LONG;
        loop {
            let entries = self.ask(rig, &["history", "-n", "1000", id]);
            if look(entries.as_array().unwrap()) {
                return;
            }
            assert!(Instant::now() < end, "{entries:#}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The value of one of its metrics.
    pub fn metric(&self, name: &str) -> Option<String> {
        let metrics = http(&self.health, "GET", "/metrics", "").body;
        let front = format!("{name} ");
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(front.as_str()))?;
        Some(value.trim().to_owned())
    }

    /// Its word on a dependency.
    pub fn depends(&self, name: &str) -> Value {
        http(&self.health, "GET", "/readyz", "").json()["dependencies"][name].take()
    }
}
