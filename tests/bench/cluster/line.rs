//! From a Pod to its first line: a bot's, and in turn with it a bare Pod of the same image, whose one container prints the
//! same line with the same interpreter under the same bounds, and one that has before it what a bot's has: a container that
//! ends, and one that goes on and is probed, both with nothing to do. What the last one takes is the kubelet's own.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tests::cluster::LONG;
use tests::servers::mongo::bson::doc;
use tests::{text, wait_for};

use super::host::{self, Host, Place};
use super::watch::{Moment, Watch};
use crate::containers::figures::{Sample, millis};

/// Rounds that are measured; one more comes before them.
const ROUNDS: usize = 12;
/// What all print.
const LINE: &str = "FIRST";

const MAIN: &str = "
import time

def main(id, config):
    print('FIRST', flush=True)
    time.sleep(100000)
";

const BARE: &str = "import time; print('FIRST', flush=True); time.sleep(100000)";

/// Measures and prints.
pub fn compare(host: &mut Host) {
    host.code(MAIN);
    host.begin(Place::Node, None);
    let watch = Watch::over(&host.cluster);
    let mut rows = [const { Vec::new() }; 5];
    for n in 0..=ROUNDS {
        let bot = of_a_bot(host, &watch, n);
        let alone = bare(&host.image);
        let bare = of_a_pod(host, &watch, &format!("bare-{n}"), &alone);
        let chain = of_a_pod(host, &watch, &format!("chain-{n}"), &chained(alone));
        if n > 0 {
            let figures = [bot, bare, chain, bot - bare, bot - chain];
            rows.iter_mut()
                .zip(figures)
                .for_each(|(row, figure)| row.push(figure));
        }
    }
    print(&rows.map(Sample::from_iter));
}

fn print(rows: &[Sample; 5]) {
    println!(
        "\n| from a Pod to its first line, ms (of {ROUNDS}) | least | median | most |\n|---|---|---|---|"
    );
    let names = [
        "a bot",
        "a bare Pod",
        "one with containers that do nothing before it",
        "a bot, more than a bare Pod",
        "more than one with such containers",
    ];
    for (name, row) in names.iter().zip(rows) {
        let [least, median, most] = [0, 50, 100].map(|part| millis(row.at(part)));
        println!("| {name} | {least:.0} | {median:.0} | {most:.0} |");
    }
}

fn of_a_bot(host: &Host, watch: &Watch, n: usize) -> i64 {
    let id = format!("b{n}");
    host.insert([id.clone()]);
    let name = host::pod(&id);
    let made = watch.made(&name);
    let took = first_line(host, watch, &name, "bot", made);
    host.off(doc! {"id": id});
    watch.gone(&name);
    took
}

fn of_a_pod(host: &Host, watch: &Watch, name: &str, spec: &Value) -> i64 {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    host.cluster.apply(&pod);
    let made = watch.made(name);
    let took = first_line(host, watch, name, "bot", made);
    host.cluster.pod(name).delete();
    watch.gone(name);
    took
}

/// Hardened and bounded as a bot's is.
fn bare(image: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
        "enableServiceLinks": false, "dnsPolicy": "Default",
        "containers": [container("bot", image, &["python3", "-c", BARE], "512Mi")],
    })
}

/// The same with as much before it.
fn chained(mut spec: Value) -> Value {
    let image = spec["containers"][0]["image"].as_str().unwrap_or_default();
    let nothing = ["/opt/the0/bin/supervisor", "version"];
    let fetch = container("fetch", image, &nothing, "256Mi");
    let sleeps = ["python3", "-c", "import time; time.sleep(100000)"];
    let mut sync = container("sync", image, &sleeps, "256Mi");
    sync["restartPolicy"] = "Always".into();
    sync["startupProbe"] =
        json!({"exec": {"command": nothing}, "periodSeconds": 1, "timeoutSeconds": 5});
    spec["initContainers"] = json!([fetch, sync]);
    spec
}

fn container(name: &str, image: &str, command: &[&str], memory: &str) -> Value {
    let amounts = |cpu: &str| json!({"cpu": cpu, "memory": memory});
    json!({
        "name": name, "image": image, "imagePullPolicy": "Never", "command": command,
        "resources": {"requests": amounts("50m"), "limits": amounts("1")},
        "securityContext": {
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

/// From when the Pod was `made` to when its container's runtime read the line.
fn first_line(host: &Host, watch: &Watch, name: &str, container: &str, made: Moment) -> i64 {
    watch.runs(name, container);
    let read = wait_for("the first line", LONG, || {
        let words = ["logs", name, "--container", container, "--timestamps"];
        let printed = text(&host.cluster.output(words).stdout);
        let line = printed.lines().find(|line| line.ends_with(LINE))?;
        let at = contract::record::Time::try_from(line.split(' ').next()?.to_owned());
        at.ok().or_else(|| {
            std::thread::sleep(Duration::from_millis(100));
            None
        })
    });
    micros(made.on, read.system())
}

fn micros(from: SystemTime, to: SystemTime) -> i64 {
    let between = to.duration_since(from).unwrap_or_default();
    i64::try_from(between.as_micros()).unwrap_or(i64::MAX)
}
