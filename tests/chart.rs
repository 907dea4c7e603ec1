//! The Helm chart (`images/chart`): what it makes of values, held against golden files and Kubernetes' own schemas, and
//! what it refuses. `UPDATE_GOLDEN=1` writes the golden files anew.

#[path = "chart/installed.rs"]
mod installed;
#[path = "chart/network.rs"]
mod network;
#[path = "chart/prometheus.rs"]
mod prometheus;
#[path = "chart/refused.rs"]
mod refused;
#[path = "chart/rendered.rs"]
mod rendered;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tests::servers::program;
use tests::{read, repository, run, skip, text};

use rendered::{Helm, all, kind, kinds, of_kind};

/// Values, and the release and the namespace that they are rendered for.
const SETS: [(&str, &str, &str); 3] = [
    ("defaults", "the0", "the0"),
    ("everything", "prod", "trading"),
    (
        "odd",
        "0.release-with-a-name-of-fifty-three-characters-0-x-y",
        "0",
    ),
];

#[test]
fn helm_finds_no_fault_in_it() {
    let Some(helm) = Helm::found("helm_finds_no_fault_in_it") else {
        return;
    };
    for (set, ..) in SETS {
        let output = helm.lint(set);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{set}: {said}");
    }
}

#[test]
fn it_makes_of_values_what_the_golden_files_say() {
    let Some(helm) = Helm::found("it_makes_of_values_what_the_golden_files_say") else {
        return;
    };
    for (set, release, namespace) in SETS {
        let made = helm.rendered(set, release, namespace);
        let path = repository().join(format!("tests/chart/golden/{set}.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &made).expect("a golden file");
        }
        let golden = read(&path);
        let differs = made.lines().zip(golden.lines()).find(|(a, b)| a != b);
        assert!(
            made == golden,
            "{set}: not as tests/chart/golden/{set}.yaml; the first difference: {differs:?}"
        );
    }
}

#[test]
fn kubernetes_takes_it_from_1_29_to_the_newest() {
    let test = "kubernetes_takes_it_from_1_29_to_the_newest";
    let judge = repository().join(".cache/kubernetes-validate-1.37.0");
    if !judge.is_dir() {
        return skip(
            test,
            "kubernetes-validate is not there: run tests/setup/helm.sh",
        );
    }
    let Some(helm) = Helm::found(test) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let files: Vec<PathBuf> = SETS
        .iter()
        .map(|(set, release, namespace)| {
            let known = all(&helm.rendered(set, release, namespace))
                .into_iter()
                .filter(|object| !is_of_prometheus(object));
            let path = folder.path().join(format!("{set}.yaml"));
            let documents: Vec<String> = known.map(|object| format!("---\n{object}\n")).collect();
            fs::write(&path, documents.concat()).expect("a file");
            path
        })
        .collect();
    for version in [&["-k", "1.29.0"][..], &["-k", "1.32.0"], &[]] {
        let mut validate = Command::new("python3");
        validate
            .env("PYTHONPATH", &judge)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args(["-m", "kubernetes_validate", "--strict", "--no-warn"])
            .args(version)
            .args(&files);
        let output = run(&mut validate);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{version:?}: {said}");
        assert!(said.contains("deployment/the0"), "{version:?}: {said}");
    }
}

fn is_of_prometheus(object: &Value) -> bool {
    object["apiVersion"] == "monitoring.coreos.com/v1"
}

#[test]
fn its_rights_are_those_it_needs_in_the_namespace_of_the_bots() {
    let Some(helm) = Helm::found("its_rights_are_those_it_needs_in_the_namespace_of_the_bots")
    else {
        return;
    };
    for (set, namespace) in [("defaults", "the0"), ("everything", "bots")] {
        let made = all(&helm.set(set));
        assert!(kinds(&made).iter().all(|kind| !kind.starts_with("Cluster")));
        let role = of_kind(&made, "Role");
        assert_eq!(role["metadata"]["namespace"], namespace);
        let rules = json!([
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "get", "list", "patch", "watch"]},
            {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
            {"apiGroups": ["metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]},
            {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["create", "delete", "list", "patch", "watch"]},
            {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["delete", "list"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete", "list", "patch"]},
        ]);
        assert_eq!(role["rules"], rules);
        let binding = of_kind(&made, "RoleBinding");
        assert_eq!(binding["metadata"]["namespace"], namespace);
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        let account = of_kind(&made, "ServiceAccount");
        let subject = &binding["subjects"][0];
        assert_eq!(subject["name"], account["metadata"]["name"]);
        assert_eq!(subject["namespace"], account["metadata"]["namespace"]);
    }
}

#[test]
fn every_container_passes_the_strictest_of_kubernetes_standards() {
    let Some(helm) = Helm::found("every_container_passes_the_strictest_of_kubernetes_standards")
    else {
        return;
    };
    for (set, ..) in SETS {
        let made = all(&helm.set(set));
        let spec = &of_kind(&made, "Deployment")["spec"]["template"]["spec"];
        let pod = &spec["securityContext"];
        assert_eq!(pod["runAsNonRoot"], true, "{set}");
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{set}");
        assert_ne!(pod["runAsUser"], 0, "{set}");
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(spec[host].is_null(), "{set}: {host}");
        }
        let allowed = ["configMap", "emptyDir", "projected", "secret"];
        for volume in rendered::list(&spec["volumes"]) {
            let is_allowed = allowed.iter().any(|kind| volume[*kind].is_object());
            assert!(is_allowed, "{set}: {volume}");
        }
        let containers = rendered::list(&spec["initContainers"]);
        for container in containers.iter().chain(rendered::list(&spec["containers"])) {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{set}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{set}");
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{set}");
            assert!(security["privileged"].is_null(), "{set}");
            assert!(
                container["resources"]["limits"]["memory"].is_string(),
                "{set}"
            );
            assert!(
                rendered::list(&container["ports"])
                    .iter()
                    .all(|port| port["hostPort"].is_null())
            );
        }
    }
}

#[test]
fn nothing_secret_is_in_what_it_makes() {
    let Some(helm) = Helm::found("nothing_secret_is_in_what_it_makes") else {
        return;
    };
    for (set, ..) in SETS {
        let made = all(&helm.set(set));
        assert!(!kinds(&made).contains("Secret"), "{set}");
        let container = &of_kind(&made, "Deployment")["spec"]["template"]["spec"]["containers"][0];
        for variable in rendered::list(&container["env"]) {
            let name = variable["name"].as_str().unwrap_or_default();
            let is_secret = ["KEY", "SECRET", "TOKEN", "PASSWORD", "URI", "URL"]
                .iter()
                .any(|word| name.ends_with(word));
            assert!(
                !is_secret || variable["value"].is_null(),
                "{set}: {variable}"
            );
        }
        let last = rendered::list(&container["envFrom"]).last();
        assert!(
            last.is_some_and(|from| from["secretRef"]["name"].is_string()),
            "{set}"
        );
    }
}

#[test]
fn its_alerts_are_those_of_the_one_file() {
    let Some(helm) = Helm::found("its_alerts_are_those_of_the_one_file") else {
        return;
    };
    let link = repository().join("images/chart/alerts.yaml");
    let leads = fs::read_link(link).expect("a link");
    assert_eq!(leads, PathBuf::from("../prometheus/alerts.yaml"));
    let made = all(&helm.set("everything"));
    let rule = of_kind(&made, "PrometheusRule");
    let source = read(&repository().join("images/prometheus/alerts.yaml"));
    let source = source.replace(r#"job="the0""#, r#"job="the0-prod""#);
    assert_eq!(rule["spec"], rendered::parse(&source));
    let monitor = of_kind(&made, "ServiceMonitor");
    let job = &monitor["spec"]["endpoints"][0]["relabelings"][0];
    assert_eq!(
        *job,
        json!({"targetLabel": "job", "replacement": "the0-prod"})
    );
    let Some(promtool) = program("promtool") else {
        return skip(
            "its_alerts_are_those_of_the_one_file",
            "promtool is not installed: run tests/setup/promtool.sh",
        );
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rules.yaml");
    fs::write(&path, rule["spec"].to_string()).expect("a file");
    let output = run(Command::new(promtool).args(["check", "rules"]).arg(&path));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn what_selects_finds_what_is_meant() {
    let Some(helm) = Helm::found("what_selects_finds_what_is_meant") else {
        return;
    };
    let made = all(&helm.set("everything"));
    let deployment = of_kind(&made, "Deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let services = made.iter().filter(|object| kind(object) == "Service");
    let services: Vec<&Value> = services.collect();
    let [service, metrics] = services[..] else {
        panic!("the one that leads in, and that of metrics: {services:?}");
    };
    let budget = of_kind(&made, "PodDisruptionBudget");
    let monitor = of_kind(&made, "ServiceMonitor");
    let selectors = [
        (&deployment["spec"]["selector"]["matchLabels"], labels),
        (&service["spec"]["selector"], labels),
        (&budget["spec"]["selector"]["matchLabels"], labels),
        (
            &monitor["spec"]["selector"]["matchLabels"],
            &metrics["metadata"]["labels"],
        ),
        (&metrics["spec"]["selector"], labels),
    ];
    for (selector, labels) in selectors {
        let wanted = selector.as_object().expect("labels");
        assert!(
            wanted.len() == 3 && wanted.iter().all(|(name, value)| labels[name] == *value),
            "{selector}"
        );
    }
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let ports: BTreeSet<_> = rendered::list(&container["ports"])
        .iter()
        .filter_map(|port| port["name"].as_str())
        .collect();
    let of = |service: &'_ Value| rendered::list(&service["spec"]["ports"]).to_vec();
    for port in of(service).iter().chain(&of(metrics)) {
        assert!(
            port["targetPort"]
                .as_str()
                .is_some_and(|name| ports.contains(name)),
            "{port}"
        );
    }
    let leads = |service: &'_ Value, name: &str| of(service).iter().any(|it| it["name"] == name);
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert!(metrics["spec"]["type"].is_null(), "not from outside");
    assert!(leads(metrics, "metrics") && !leads(service, "metrics"));
}

#[test]
fn every_name_is_one_that_kubernetes_takes() {
    let Some(helm) = Helm::found("every_name_is_one_that_kubernetes_takes") else {
        return;
    };
    for (set, ..) in SETS {
        for object in all(&helm.set(set)) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let fits =
                (1..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-');
            assert!(fits, "{set}: {} {name}", kind(&object));
            assert!(
                kind(&object) != "Service" || name.starts_with(|c: char| c.is_ascii_lowercase()),
                "{set}: {name}"
            );
        }
    }
}

#[test]
fn every_value_is_in_the_schema_and_explained_and_the_version_is_the_programs() {
    let chart = repository().join("images/chart");
    let values = rendered::parse(&read(&chart.join("values.yaml")));
    let schema: Value =
        serde_json::from_str(&read(&chart.join("values.schema.json"))).expect("JSON");
    same(&values, &schema, "");
    let about = rendered::parse(&read(&chart.join("Chart.yaml")));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        (&about["version"], &about["appVersion"]),
        (&json!(version), &json!(version))
    );
}

/// Whether values and schema have the same names, down to where values are the operator's own.
fn same(values: &Value, schema: &Value, at: &str) {
    let (Some(values), Some(known)) = (values.as_object(), schema["properties"].as_object()) else {
        return;
    };
    if values.is_empty() || at == ".resources" {
        return;
    }
    let known = known.keys().filter(|name| *name != "global");
    assert_eq!(
        values.keys().collect::<BTreeSet<_>>(),
        known.collect(),
        "at {at:?}"
    );
    for (name, value) in values {
        same(value, &schema["properties"][name], &format!("{at}.{name}"));
    }
}
