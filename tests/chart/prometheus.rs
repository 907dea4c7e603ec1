//! What the chart makes for the Prometheus operator, on an API server that has the operator's own definitions.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tests::cluster::{Cluster, LONG};
use tests::{repository, run, skip, text, wait_for};

use super::is_of_prometheus;
use super::rendered::{Helm, all, kind, of_kind};

/// The operator's definitions, as its release has them; `test` is skipped where they could not be had.
fn definitions(test: &str) -> Option<Vec<PathBuf>> {
    let folder = repository().join(".cache/prometheus-operator-v0.86.1");
    let Ok(files) = fs::read_dir(folder) else {
        skip(
            test,
            "the Prometheus operator's definitions are not there: run tests/setup/helm.sh",
        );
        return None;
    };
    Some(files.map(|file| file.expect("a file").path()).collect())
}

/// Whether all of `part` is in `whole`, which may have more: the API server's own defaults.
fn is_in(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|has| is_in(value, has))),
        (Value::Array(part), Value::Array(whole)) => {
            let mut pairs = part.iter().zip(whole);
            part.len() == whole.len() && pairs.all(|(value, has)| is_in(value, has))
        }
        _ => part == whole,
    }
}

fn kubectl(cluster: &Cluster, words: &[&str]) -> Value {
    serde_json::from_str(&cluster.ask(words)).expect("JSON")
}

#[test]
fn the_prometheus_operators_definitions_take_its_monitor_and_its_rules_and_drop_nothing() {
    let test = "chart::prometheus::the_prometheus_operators_definitions_take_it";
    let (Some(helm), Some(files)) = (Helm::found(test), definitions(test)) else {
        return;
    };
    let Some(cluster) = Cluster::here(test) else {
        return;
    };
    for file in &files {
        let mut apply: Command = cluster.command();
        apply
            .args(["apply", "--server-side", "--filename"])
            .arg(file);
        let output = run(&mut apply);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    wait_for("definitions that are in force", LONG, || {
        let served = cluster.output(["get", "servicemonitors,prometheusrules"]);
        served.status.success().then_some(())
    });

    let made = all(&helm.rendered("everything", "prod", cluster.namespace()));
    let made: Vec<Value> = made.into_iter().filter(is_of_prometheus).collect();
    assert_eq!(made.len(), 2);
    for object in &made {
        // A field that is not defined is refused, or dropped and then missing.
        cluster.apply(object);
        let name = object["metadata"]["name"].as_str().expect("a name");
        let has = kubectl(&cluster, &["get", kind(object), name, "--output=json"]);
        assert!(is_in(&object["spec"], &has["spec"]), "{object}\n{has}");
    }

    let mut wrong = of_kind(&made, "ServiceMonitor").clone();
    wrong["spec"]["endpoints"][0]["interval"] = json!("sometimes");
    let refused = cluster.try_apply(&wrong).unwrap_err();
    assert!(refused.contains("interval"), "{refused}");
    wrong = of_kind(&made, "PrometheusRule").clone();
    wrong["spec"]["groups"][0]["rules"][0]["expr"] = Value::Null;
    assert!(cluster.try_apply(&wrong).is_err());
}
