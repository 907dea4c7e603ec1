//! The Kubernetes of one node that `tests/setup/kubernetes.sh` starts, as one test uses it: a namespace of its own, in
//! which Pod Security `restricted` is enforced, gone with everything in it when the test ends.
//!
//! It is the tests' own cluster and no other: a kubeconfig of the user's is never looked at.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::time::Duration;

use serde_json::{Value, json};

use crate::containers::{is_of_the_dead, new_token, tokens};
use crate::{Process, Reply, http, repository, run, skip, text, wait_for};

/// The host as Pods see it: a server that binds it is reached by them.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 89, 0, 1));
/// All of the cluster is below this folder.
const HOME: &str = "/var/lib/the0-test-kubernetes";
/// How long one command of kubectl's may take.
const LIMIT: &str = "--request-timeout=60s";
/// Pods that one command of kubectl's names.
const AT_ONCE: usize = 300;
/// The finalizer of what a test looks at when others have removed it.
const SEEN: &str = "the0.test/seen";
/// Longer than a Pod should take to start or to end with two cores shared by everything.
pub const LONG: Duration = Duration::from_secs(90);

/// A cluster, and a namespace of one test in it.
#[derive(Debug)]
pub struct Cluster {
    namespace: String,
    proxy: Proxy,
}

impl Cluster {
    /// The tests' own; `None` when it does not run, which has been said.
    ///
    /// # Panics
    /// When it runs and gives no namespace.
    pub fn here(test: &str) -> Option<Self> {
        static SWEPT: Once = Once::new();
        if !Path::new(HOME).join("ready").exists() {
            skip(test, "no Kubernetes: run tests/setup/kubernetes.sh start");
            return None;
        }
        SWEPT.call_once(sweep);
        let cluster = Self {
            namespace: new_token(),
            proxy: Proxy::start(),
        };
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        cluster.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": cluster.namespace, "labels": labels},
        }));
        Some(cluster)
    }

    /// The same with a namespace that others make, and that goes all the same when the test ends.
    ///
    /// # Panics
    /// The cluster does not run.
    pub fn unmade() -> Self {
        Self {
            namespace: new_token(),
            proxy: Proxy::start(),
        }
    }

    /// The namespace, unique on the machine.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        Path::new(HOME).join("pki/admin.kubeconfig")
    }

    /// Where the API server is to be had without encryption, with the administrator's rights: host and port.
    pub fn proxy(&self) -> &str {
        &self.proxy.address
    }

    /// kubectl in the namespace.
    pub fn command(&self) -> Command {
        let mut command = kubectl();
        command.args(["--namespace", &self.namespace]);
        command
    }

    /// Runs a command of kubectl's to its end.
    pub fn output<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        run(self.command().args(words))
    }

    /// The same where it must succeed; what it printed, trimmed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ask<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> String {
        let mut command = self.command();
        let output = run(command.args(words));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        text(&output.stdout).trim().to_owned()
    }

    /// Creates or changes an object; what kubectl says when it is refused.
    ///
    /// # Errors
    /// The API server refuses it.
    ///
    /// # Panics
    /// When kubectl cannot be started.
    pub fn try_apply(&self, object: &Value) -> Result<(), String> {
        let mut command = self.command();
        command.args(["apply", "--filename", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("kubectl");
        let stdin = child.stdin.take().expect("its input");
        serde_json::to_writer(stdin, object).expect("its input");
        let output = child.wait_with_output().expect("kubectl");
        if output.status.success() {
            Ok(())
        } else {
            Err(text(&output.stderr))
        }
    }

    /// The same where it must succeed.
    ///
    /// # Panics
    /// When it is refused.
    pub fn apply(&self, object: &Value) {
        let applied = self.try_apply(object);
        assert!(applied.is_ok(), "{object}: {applied:?}");
    }

    /// An object as the API server has it; null when there is none.
    ///
    /// # Panics
    /// Of a kind that is not known here.
    pub fn get(&self, kind: &str, name: &str) -> Value {
        let reply = self.proxy.get(&format!("{}/{name}", self.place(kind)));
        if reply.status == 200 {
            reply.json()
        } else {
            Value::Null
        }
    }

    /// All objects of a kind in the namespace.
    ///
    /// # Panics
    /// The API server does not list them, or of a kind that is not known here.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let reply = self.proxy.get(&self.place(kind));
        assert_eq!(reply.status, 200, "{kind}: {}", reply.body);
        let mut list = reply.json();
        serde_json::from_value(list["items"].take()).expect("a list")
    }

    /// Where the API server has objects of a kind, in the singular.
    fn place(&self, kind: &str) -> String {
        let group = match kind {
            "pod" | "secret" | "event" | "resourcequota" => "/api/v1",
            "cronjob" | "job" => "/apis/batch/v1",
            _ => panic!("what is a {kind}?"),
        };
        format!("{group}/namespaces/{}/{kind}s", self.namespace)
    }

    /// The image of `runtime` as `images/build.sh` names it; `None` when the node has none, which has been said.
    pub fn image(&self, test: &str, runtime: &str) -> Option<String> {
        let image = crate::containers::image(runtime);
        let socket = format!("{HOME}/containerd.sock");
        let mut list = Command::new("ctr");
        list.args(["--address", &socket, "--namespace", "k8s.io"]);
        let listed = text(&run(list.args(["images", "ls", "-q"])).stdout);
        let there = listed.lines().any(|line| line.ends_with(&image));
        if !there {
            let why =
                format!("the node has no image {image}: tests/setup/kubernetes.sh import {image}");
            skip(test, &why);
        }
        there.then_some(image)
    }

    /// Has an object, `secret/name` say, stay until what this gives is dropped, whoever removes it.
    ///
    /// # Panics
    /// When it is not there.
    pub fn hold(&self, object: impl Into<String>) -> Held<'_> {
        let object = object.into();
        let patch = json!({"metadata": {"finalizers": [SEEN]}}).to_string();
        self.ask(["patch", &object, "--patch", &patch]);
        Held {
            cluster: self,
            object,
        }
    }

    /// A Pod of the namespace, there or not.
    pub fn pod(&self, name: impl Into<String>) -> Pod<'_> {
        Pod {
            cluster: self,
            name: name.into(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        remove(&self.namespace);
    }
}

/// An object that stays until this is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    cluster: &'a Cluster,
    object: String,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Finalizers of others stay, whatever has become of them.
        let own = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [SEEN]}}).to_string();
        self.cluster
            .output(["patch", &self.object, "--patch", &own]);
    }
}

/// A way to the API server that needs no process for each question.
#[derive(Debug)]
struct Proxy {
    address: String,
    _process: Process,
}

impl Proxy {
    fn start() -> Self {
        let mut command = kubectl();
        command.args(["proxy", "--port=0"]).stdin(Stdio::null());
        let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let said = process.0.stdout.take().expect("its output");
        let mut line = String::new();
        let read = BufReader::new(said).read_line(&mut line);
        let address = line.trim().rsplit_once(' ');
        let (_, address) = address.unwrap_or_else(|| panic!("a proxy said {line:?}: {read:?}"));
        Self {
            address: address.to_owned(),
            _process: process,
        }
    }

    fn get(&self, path: &str) -> Reply {
        http(&self.address, "GET", path, "")
    }
}

/// A Pod of a test.
#[derive(Debug, Clone)]
pub struct Pod<'a> {
    cluster: &'a Cluster,
    /// Its name.
    pub name: String,
}

impl<'a> Pod<'a> {
    /// Has it stay until what this gives is dropped, whoever removes it.
    ///
    /// # Panics
    /// When it is not there.
    pub fn hold(&self) -> Held<'a> {
        self.cluster.hold(format!("pod/{}", self.name))
    }
}

impl Pod<'_> {
    /// As the API server has it; null when there is none.
    pub fn get(&self) -> Value {
        self.cluster.get("pod", &self.name)
    }

    /// Its address.
    ///
    /// # Panics
    /// When it has none.
    pub fn address(&self) -> String {
        let pod = self.get();
        let address = pod["status"]["podIP"].as_str();
        address.expect("the Pod's address").to_owned()
    }

    /// The status of a container of it, of whatever kind; null when it has none yet.
    pub fn container(&self, name: &str) -> Value {
        container(&self.get(), name)
    }

    /// What a container has printed in its present life; nothing where there is none.
    pub fn logs(&self, container: &str) -> String {
        let cluster = self.cluster;
        let place = format!("{}/{}", cluster.place("pod"), self.name);
        let reply = cluster
            .proxy
            .get(&format!("{place}/log?container={container}"));
        if reply.status == 200 {
            reply.body
        } else {
            String::new()
        }
    }

    /// The process of a container in the host's eyes: the eldest of that name.
    ///
    /// # Panics
    /// When there is none.
    pub fn process(&self, container: &str, program: &str) -> i32 {
        let found = self.find_process(container, program);
        found.expect("a process of the container")
    }

    /// The same, if there is one.
    pub fn find_process(&self, container: &str, program: &str) -> Option<i32> {
        let status = self.container(container);
        let id = status["containerID"].as_str()?;
        let id = id.strip_prefix("containerd://")?;
        let entries = std::fs::read_dir("/proc").ok()?;
        let ids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_it = |pid: &i32| {
            let file = |name: &str| crate::read(Path::new(&format!("/proc/{pid}/{name}")));
            file("comm").trim() == program && file("cgroup").contains(id)
        };
        ids.filter(is_it).min()
    }

    /// Waits until `look` finds something in it.
    ///
    /// # Panics
    /// When the deadline has passed, with the Pod as it is then.
    pub fn wait<T>(&self, what: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        let end = std::time::Instant::now() + LONG;
        loop {
            let pod = self.get();
            if let Some(found) = look(&pod) {
                return found;
            }
            let status = &pod["status"];
            assert!(
                std::time::Instant::now() < end,
                "waited in vain for {what}: {status:#}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until all its containers are ready.
    pub fn ready(&self) -> &Self {
        self.wait("a Pod that is ready", |pod| {
            let conditions = pod["status"]["conditions"].as_array()?;
            let ready = conditions.iter().find(|one| one["type"] == "Ready")?;
            (ready["status"] == "True").then_some(())
        });
        self
    }

    /// Asks for its end and does not wait for it.
    pub fn delete(&self) {
        self.cluster
            .ask(["delete", "pod", &self.name, "--wait=false"]);
    }

    /// Waits until there is no such Pod.
    pub fn gone(&self) {
        wait_for("a Pod that is gone", LONG, || {
            self.get().is_null().then_some(())
        });
    }

    /// Takes its finalizers away.
    pub fn release(&self) {
        let nothing = r#"{"metadata":{"finalizers":null}}"#;
        self.cluster.ask([
            "patch",
            "pod",
            &self.name,
            "--type=merge",
            "--patch",
            nothing,
        ]);
    }
}

/// The status of a container of `pod`, of whatever kind; null when it has none yet.
pub fn container(pod: &Value, name: &str) -> Value {
    let kinds = ["containerStatuses", "initContainerStatuses"];
    let all = kinds
        .into_iter()
        .filter_map(|kind| pod["status"][kind].as_array());
    let mut all = all.flatten();
    all.find(|status| status["name"] == name)
        .cloned()
        .unwrap_or_default()
}

fn kubectl() -> Command {
    let mut command = Command::new(repository().join(".cache/bin/kubernetes-node"));
    let kubeconfig = format!("--kubeconfig={HOME}/pki/admin.kubeconfig");
    let cache = format!("--cache-dir={HOME}/kubectl");
    command.args(["kubectl", &kubeconfig, &cache, LIMIT]);
    command.env_clear();
    command
}

/// Nothing in it is waited for: a Pod may have an hour to end.
fn remove(namespace: &str) {
    let words = ["get", "pods", "--namespace", namespace, "--output", "name"];
    let listed = text(&run(kubectl().args(words)).stdout);
    let names: Vec<&str> = listed.lines().collect();
    for some in names.chunks(AT_ONCE) {
        let nothing = r#"{"metadata":{"finalizers":null}}"#;
        let mut patch = kubectl();
        patch.arg("patch").args(some);
        run(patch.args(["--namespace", namespace, "--type=merge", "--patch", nothing]));
    }
    let now = ["--force", "--grace-period=0", "--wait=false"];
    let pods = ["delete", "pods", "--all", "--namespace", namespace];
    run(kubectl().args(pods).args(now));
    run(kubectl().args(["delete", "namespace", namespace, "--wait=false"]));
}

/// Removes what killed runs have left.
fn sweep() {
    let listed = run(kubectl().args(["get", "namespaces", "--output", "name"]));
    for name in tokens(&text(&listed.stdout)).filter(|token| is_of_the_dead(token)) {
        remove(name);
    }
}
