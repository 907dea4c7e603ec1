//! The chart on a real cluster: what it installs runs bots with the rights that it has, and bots outlive it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Cluster, HOST, LONG, Pod};
use tests::door::Door;
use tests::servers::mongo::bson::doc;
use tests::servers::mongo::{Mongo, document};
use tests::servers::{Minio, Store};
use tests::stack::{COUNTER, zipped};
use tests::{containers, http, text, wait_for};

use super::rendered::Helm;

const RELEASE: &str = "the0";
const BOT: &str = "installedbot00000000abcd";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A release in a namespace of the test's own, and the servers that it is told of.
struct Release {
    helm: Helm,
    cluster: Cluster,
    mongo: Mongo,
    store: Store,
    /// What Pods reach the database through.
    _door: Door,
}

impl Release {
    /// Installs it, its bots beside it; `None` where a part is missing, which has been said.
    fn install(test: &str, values: &Value) -> Option<Self> {
        let helm = Helm::found(test)?;
        let cluster = Cluster::here(test)?;
        cluster.image(test, "agent")?;
        cluster.image(test, "python3.11")?;
        let (store, mongo) = (Minio::start_at(HOST)?, Mongo::start()?);
        let door = Door::before(HOST, mongo.address());
        let mut environment: BTreeMap<_, _> = store.environment().into_iter().collect();
        environment.insert("MONGO_URI".to_owned(), mongo.uri_at(door.address()));
        let release = Self {
            helm,
            cluster,
            mongo,
            store,
            _door: door,
        };
        release.secret("the0", &json!(environment));
        release.secret("tokens", &json!({"tokens": format!("me {TOKEN} *\n")}));
        release.does(&["install", "--wait", "--timeout=150s"], Some(values));
        Some(release)
    }

    fn secret(&self, name: &str, entries: &Value) {
        self.cluster.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": entries,
        }));
    }

    /// helm with the release, and what it wants for it.
    fn does(&self, words: &[&str], values: Option<&Value>) {
        let output = self.helm(RELEASE, words, values);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
    }

    /// The same of what helm refuses, with this word.
    fn refuses(&self, name: &str, words: &[&str], values: Option<&Value>, word: &str) {
        let output = self.helm(name, words, values);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "taken: {words:?}");
        assert!(said.contains(word), "{words:?}: {said}");
    }

    fn helm(&self, name: &str, words: &[&str], values: Option<&Value>) -> Output {
        let (kubeconfig, namespace) = (self.cluster.kubeconfig(), self.cluster.namespace());
        let place = (namespace, name);
        self.helm.release(&kubeconfig, place, words, values)
    }

    /// The controllers that run and are not told to end.
    fn controllers(&self) -> Vec<Value> {
        let selector = "--selector=app.kubernetes.io/component=controller";
        let pods = self.cluster.ask(["get", "pods", selector, "--output=json"]);
        let mut pods: Value = serde_json::from_str(&pods).expect("JSON");
        let pods = pods["items"].as_array_mut().expect("a list");
        let is_up = |pod: &Value| {
            pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["podIP"].is_string()
        };
        pods.drain(..).filter(is_up).collect()
    }

    /// The name of the one that acts, once it is one of two, and not `but`.
    fn acts(&self, but: &str) -> String {
        wait_for("one controller of two that acts", LONG, || {
            let controllers = self.controllers();
            let has_lease = |pod: &&Value| {
                let address = pod["status"]["podIP"].as_str().unwrap_or_default();
                let metrics = metrics(&format!("{address}:8080")).unwrap_or_default();
                metrics.lines().any(|line| line == "the0_lease_held 1")
            };
            let act: Vec<&Value> = controllers.iter().filter(has_lease).collect();
            let name = act.first()?["metadata"]["name"].as_str()?.to_owned();
            (controllers.len() == 2 && act.len() == 1 && name != but).then_some(name)
        })
    }

    /// A bot that counts.
    fn put(&self, id: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("main.py"), COUNTER).expect("a file");
        let client = self.store.client();
        client.put("custom-bots", id, &zipped(folder.path()));
        self.mongo
            .put("bot_runner.bots", &document(id, id, doc! {}));
    }

    /// What the agent's program in that Pod prints as JSON, however it ends.
    fn prints(&self, pod: &str, command: &str) -> Option<Value> {
        let exec = ["exec", pod, "--container=controller", "--"];
        let words = ["/opt/the0/bin/agent", command, "--output=json"];
        let output = self.cluster.output(exec.iter().chain(&words));
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Whether the controllers may do that in their namespace, or in another.
    fn may(&self, words: &[&str]) -> bool {
        let account = format!(
            "--as=system:serviceaccount:{}:the0",
            self.cluster.namespace()
        );
        let mut command = self.cluster.command();
        command.args(["auth", "can-i", &account]).args(words);
        text(&tests::run(&mut command).stdout).trim() == "yes"
    }
}

/// What a controller answers who asks for its metrics; `None` where it does not listen, or no longer.
fn metrics(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let limit = Duration::from_secs(60);
    stream.set_read_timeout(Some(limit)).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn has_its_rights_alone(release: &Release) {
    assert!(release.may(&["create", "pods"]) && release.may(&["patch", "secrets"]));
    for not in [
        &["get", "secrets"][..],
        &["create", "pods", "--subresource=exec"],
        &["list", "secrets", "--namespace=default"],
        &["get", "nodes"],
    ] {
        assert!(!release.may(not), "{not:?}");
    }
}

fn uid(pod: &Pod<'_>) -> Value {
    pod.get()["metadata"]["uid"].take()
}

fn values() -> Value {
    let tag = containers::image("agent");
    let (name, tag) = tag.rsplit_once(':').expect("a tag");
    let prefix = Path::new(name).parent().expect("a prefix");
    json!({
        "images": {"prefix": prefix, "tag": tag, "pullPolicy": "Never"},
        "bots": {"pod": {"dnsPolicy": "Default"}},
        "env": {"THE0_POD_GRACE": "1m"},
        "gateway": {"tokens": {"existingSecret": "tokens"}},
    })
}

#[test]
fn two_controllers_of_whom_one_acts_run_bots_that_outlive_them() {
    let test = "chart::two_controllers_of_whom_one_acts_run_bots_that_outlive_them";
    let Some(release) = Release::install(test, &values()) else {
        return;
    };
    has_its_rights_alone(&release);

    let first = release.acts("");
    release.put(BOT);
    let bot = release.cluster.pod(format!("default-{BOT}"));
    bot.ready();
    let born = uid(&bot);
    wait_for("a bot that runs", LONG, || {
        (release.prints(&first, "ps")?[0]["state"] == "running").then_some(())
    });
    let sheet = release.prints(&first, "doctor").expect("findings");
    let finds = |check: &str, what: &str| {
        let mut all = sheet["checks"].as_array().expect("checks").iter();
        all.any(|it| it["part"] == "kubernetes" && it["check"] == check && it["found"] == what)
    };
    assert!(finds("rights", "all that are needed"), "{sheet:#}");
    assert!(finds("pods", "a bot's Pod would be taken"), "{sheet:#}");
    wait_for("its state in the store", LONG, || {
        let client = release.store.client();
        client.get("bot-state", &format!("{BOT}/state.tar.gz"))
    });
    for pod in release.controllers() {
        let gateway = format!(
            "{}:9477",
            pod["status"]["podIP"].as_str().expect("an address")
        );
        let asked = json!({"bot_id": BOT, "query_path": "/x"}).to_string();
        assert_eq!(http(&gateway, "POST", "/query", &asked).status, 401);
    }

    release.cluster.pod(&first).delete();
    let second = release.acts(&first);
    release.does(
        &[
            "upgrade",
            "--reuse-values",
            "--set=lingerSeconds=0",
            "--wait",
            "--timeout=150s",
        ],
        None,
    );
    release.acts(&second);
    assert_eq!(uid(&bot), born, "it is not started anew");

    // What would run all bots once more, or have two controllers end each other's.
    let moves = ["upgrade", "--reuse-values", "--set=stack=other"];
    let place = format!("bots.movedFrom: {}/default", release.cluster.namespace());
    release.refuses(RELEASE, &moves, None, &place);
    // Who has drained the old place says so by its name, and no other name does.
    let named = |stack: &str| {
        format!(
            "--set=bots.movedFrom={}/{stack}",
            release.cluster.namespace()
        )
    };
    let [right, wrong] = ["default", "other"].map(named);
    let tried = [moves[0], moves[1], moves[2], "--dry-run=server"];
    release.refuses(RELEASE, &[&tried[..], &[&wrong]].concat(), None, &place);
    release.does(&[&tried[..], &[&right]].concat(), None);
    release.refuses(
        "second",
        &["install"],
        Some(&values()),
        "the0-stack-default",
    );
    assert_eq!(release.controllers().len(), 2);

    release.does(&["uninstall", "--wait"], None);
    wait_for("controllers that are gone", LONG, || {
        release.controllers().is_empty().then_some(())
    });
    bot.ready();
    assert_eq!(uid(&bot), born, "it runs on");
}

#[test]
fn bots_in_a_namespace_of_their_own_keep_to_its_quota_and_its_limits() {
    let test = "chart::bots_in_a_namespace_of_their_own_keep_to_its_quota_and_its_limits";
    if Cluster::here(test).is_none() {
        return;
    }
    let bots = Cluster::unmade();
    let mut values = values();
    values["bots"] = json!({
        "namespace": bots.namespace(), "createNamespace": true, "pod": {"dnsPolicy": "Default"},
        "quota": {"pods": "1"},
        "limitRange": [{"type": "Container", "min": {"cpu": "50m", "memory": "64Mi"}}],
    });
    values["env"]["THE0_SIDE_CPU_REQUEST"] = "50m".into();
    values["env"]["THE0_SIDE_MEMORY_REQUEST"] = "64Mi".into();
    let Some(release) = Release::install(test, &values) else {
        return;
    };
    let there = format!("--namespace={}", bots.namespace());
    assert!(release.may(&["create", "pods", &there]));
    assert!(!release.may(&["create", "pods"]));

    let acts = release.acts("");
    release.put(BOT);
    let first = bots.pod(format!("default-{BOT}"));
    first.ready();
    let other = "installedbot00000000abce";
    release.put(other);
    wait_for("a word on the quota", LONG, || {
        let rows = release.prints(&acts, "ps")?;
        let rows = rows.as_array()?;
        let row = rows.iter().find(|row| row["id"] == other)?;
        row.to_string().contains("exceeded quota").then_some(())
    });
    assert_eq!(bots.list("pod").len(), 1);
    let taken = release.mongo.delete("bot_runner.bots", doc! {"id": BOT});
    assert_eq!(taken, 1);
    first.gone();
    let second = bots.pod(format!("default-{other}"));
    wait_for("its room", LONG, || (!second.get().is_null()).then_some(()));
    second.ready();
    let born = uid(&second);
    release.does(&["uninstall", "--wait"], None);
    second.ready();
    assert_eq!(uid(&second), born, "its namespace stays");
}
