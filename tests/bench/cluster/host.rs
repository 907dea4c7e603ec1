//! A namespace, a database, a store that Pods reach, and a controller.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::cluster::{Cluster, HOST, LONG};
use tests::servers::mongo::{Mongo, bson::Document, bson::doc, document};
use tests::servers::{Minio, Store, free_port};
use tests::stack::{BOTS, zipped};
use tests::{Process, bin, http, repository, wait_for};

/// Where Pods go.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// To the node.
    Node,
    /// There is no node for them, so that they are there and cost nothing else.
    Nowhere,
}

/// What a controller needs, and one when it was begun.
pub struct Host {
    agent: Option<Process>,
    health: String,
    gateway: String,
    /// The image of Python bots.
    pub image: String,
    pub mongo: Mongo,
    store: Store,
    dir: TempDir,
    /// Last: what is left in it goes after the controller.
    pub cluster: Cluster,
}

impl Host {
    /// `None` where it cannot be had, which has been said.
    pub fn start(part: &str) -> Option<Self> {
        let cluster = Cluster::here(part)?;
        let image = cluster.image(part, "python3.11")?;
        Some(Self {
            agent: None,
            health: format!("127.0.0.1:{}", free_port()),
            gateway: format!("127.0.0.1:{}", free_port()),
            image,
            store: Minio::start_at(HOST)?,
            mongo: Mongo::start()?,
            dir: tempfile::tempdir().expect("a folder"),
            cluster,
        })
    }

    /// Starts the controller and waits until it acts. `server` is the API server, if not the cluster's own address.
    pub fn begin(&mut self, place: Place, server: Option<&str>) {
        let own = fs::read_to_string(self.cluster.kubeconfig()).expect("a kubeconfig");
        let kubeconfig = match server {
            None => own,
            Some(other) => own.replace("https://10.96.0.1", other),
        };
        fs::write(self.path("kubeconfig"), kubeconfig).expect("a kubeconfig");
        let selector = match place {
            Place::Node => "",
            Place::Nowhere => "nodeSelector: {the0.test/node: none}\n",
        };
        // There are no names to be looked up.
        let template = format!("dnsPolicy: Default\n{selector}");
        fs::write(self.path("pods.yaml"), template).expect("a template");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        let log = log.expect("a log");
        let mut command = self.command();
        command.stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("the log"))
            .stderr(log);
        self.agent = Some(Process::start(&mut command));
        wait_for("a controller that acts", LONG, || {
            let ready = std::net::TcpStream::connect(&self.health).is_ok();
            (ready && http(&self.health, "GET", "/readyz", "").status == 200).then_some(())
        });
    }

    fn command(&self) -> Command {
        let mut command = Command::new(bin("agent"));
        command.env_clear().env("HOME", self.dir.path());
        command
            .env("THE0_DATA", self.path("data"))
            .env("KUBECONFIG", self.path("kubeconfig"))
            .env("THE0_POD_TEMPLATE", self.path("pods.yaml"))
            .env("MONGO_URI", self.mongo.uri())
            .env("THE0_PULL", "Never")
            .env("RUNTIME_IMAGE", &self.image)
            .env("THE0_API_ADDRESS", "")
            .env("THE0_GATEWAY_ADDRESS", &self.gateway)
            .env("THE0_HEALTH_LISTEN", &self.health);
        command.envs(self.store.environment());
        command.current_dir(repository());
        command.args(["controller", "--namespace", self.cluster.namespace()]);
        command
    }

    /// Ends the controller; Pods stay.
    pub fn end(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.signal(Signal::SIGTERM);
            agent.code(Duration::from_secs(30));
        }
    }

    /// The controller's process.
    pub fn pid(&self) -> u32 {
        self.agent.as_ref().expect("a controller").0.id()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts the code of bots into the store.
    pub fn code(&self, main: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("main.py"), main).expect("a file");
        let bundle = zipped(folder.path());
        self.store.client().put("custom-bots", KEY, &bundle);
    }

    /// Inserts documents.
    pub fn insert(&self, ids: impl IntoIterator<Item = String>) {
        let bots: Vec<Document> = ids.into_iter().map(|id| bot(&id)).collect();
        if !bots.is_empty() {
            self.mongo.insert(BOTS, bots);
        }
    }

    /// Switches the bots off that `filter` matches; their Pods end.
    pub fn off(&self, filter: Document) {
        self.mongo
            .update(BOTS, filter, doc! {"$set": {"enabled": false}});
    }

    /// How many Pods there are, if the API server says.
    pub fn pods(&self) -> Option<u64> {
        let namespace = self.cluster.namespace();
        let path = format!("/api/v1/namespaces/{namespace}/pods?limit=1");
        let list = self.cluster.output(["get", "--raw", &path]).stdout;
        let list: Value = serde_json::from_slice(&list).ok()?;
        let first = list["items"].as_array()?.len() as u64;
        Some(first + list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0))
    }

    /// All the controller has said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// The key of all bots' code.
const KEY: &str = "bench/cluster/1.0.0";

fn bot(id: &str) -> Document {
    document(id, KEY, doc! {"symbol": "BTC/USD"})
}

/// The name of a bot's Pod.
pub fn pod(id: &str) -> String {
    format!("default-{id}")
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}
