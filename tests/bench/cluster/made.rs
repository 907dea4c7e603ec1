//! From a document to its Pod, one at a time on a controller with nothing else to do: from when the database has taken the
//! document to when a watch tells of the Pod. Beside it, in turn, what the servers alone need for the same: a document
//! written and read, two Secrets and a Pod made, by requests over `kubectl proxy`, and told by the same watch.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::http;
use tests::servers::mongo::{bson::doc, document};
use tests::stack::BOTS;

use super::host::{self, Host, Place};
use super::watch::Watch;
use super::wire::Wire;
use crate::containers::figures::{Sample, millis};

/// Documents that are measured.
const DOCUMENTS: usize = 80;
/// What is aimed at, of 99 in a hundred.
const AIM: i64 = 50_000;
/// Between two of them: changes that come at once are taken together.
const PAUSE: Duration = Duration::from_millis(400);

/// Measures and prints.
pub fn compare(host: &mut Host) {
    host.begin(Place::Nowhere, None);
    let watch = Watch::over(&host.cluster);
    let wire = Wire::lay(&host.cluster);
    let like = warm_up(host, &watch);
    let mut rows = [const { Vec::new() }; 2];
    for n in 0..DOCUMENTS {
        std::thread::sleep(PAUSE);
        let id = format!("d{n}");
        host.insert([id.clone()]);
        let begun = Instant::now();
        rows[0].push(micros(begun, watch.made(&host::pod(&id)).at));
        std::thread::sleep(PAUSE);
        rows[1].push(alone(host, &wire, &watch, &like, n));
    }
    print(&rows.map(Sample::from_iter));
}

fn print(rows: &[Sample; 2]) {
    println!(
        "\n| from a document to its Pod, ms (of {DOCUMENTS}) | median | p90 | p99 | most |\n|---|---|---|---|---|"
    );
    let names = [
        "the controller",
        "servers alone: document written and read, two Secrets and a Pod made",
    ];
    for (name, row) in names.iter().zip(rows) {
        let [median, high, p99, most] = [50, 90, 99, 100].map(|part| millis(row.at(part)));
        println!("| {name} | {median:.1} | {high:.1} | {p99:.1} | {most:.1} |");
    }
    let word = if rows[0].at(99) <= AIM {
        "reached"
    } else {
        "missed"
    };
    println!(
        "\nThe aim of {} ms for 99 in a hundred is {word}.",
        AIM / 1000
    );
}

/// Makes one, so that all connections are there; gives its Pod.
fn warm_up(host: &Host, watch: &Watch) -> Value {
    host.insert(["warm".to_owned()]);
    let name = host::pod("warm");
    watch.made(&name);
    host.cluster.get("pod", &name)
}

fn alone(host: &Host, wire: &Wire, watch: &Watch, like: &Value, n: usize) -> i64 {
    let mut off = document(&format!("off{n}"), "u/b/1", doc! {});
    off.insert("enabled", false);
    let begun = Instant::now();
    host.mongo.insert(BOTS, [off]);
    host.mongo.all(BOTS);
    let of = |kind: &str| format!("/api/v1/namespaces/{}/{kind}", host.cluster.namespace());
    let make = |kind: &str, object: &Value| {
        let made = http(&wire.behind, "POST", &of(kind), &object.to_string());
        assert_eq!(made.status, 201, "{}", made.body);
    };
    for part in ["config", "keys"] {
        let name = format!("alone-{n}-{part}");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "stringData": {part: "x".repeat(500)},
        });
        make("secrets", &secret);
    }
    let name = format!("alone-{n}");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": like["metadata"]["annotations"]},
        "spec": like["spec"],
    });
    make("pods", &pod);
    micros(begun, watch.made(&name).at)
}

fn micros(from: Instant, to: Instant) -> i64 {
    i64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(i64::MAX)
}
