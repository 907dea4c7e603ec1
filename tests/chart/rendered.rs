//! What helm makes of the chart, as values.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tests::servers::program;
use tests::{repository, run, skip, text};

use super::SETS;

/// The version of Kubernetes that helm is told of, which has no cluster to ask.
const KUBERNETES: &str = "1.32.0";

/// The program.
#[derive(Debug)]
pub struct Helm(PathBuf);

impl Helm {
    /// The one of the cache or of PATH; `test` is skipped where there is none.
    pub fn found(test: &str) -> Option<Self> {
        let found = program("helm").map(Self);
        if found.is_none() {
            skip(test, "helm is not installed: run tests/setup/helm.sh");
        }
        found
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        command
            .args(words)
            .env_remove("KUBECONFIG")
            .env("HELM_DEBUG", "false");
        command
    }

    /// Lints the chart with a set of values.
    pub fn lint(&self, set: &str) -> Output {
        let mut command = self.command(&["lint", "--strict", "--kube-version", KUBERNETES]);
        run(command.arg(chart()).args(file_of(set)))
    }

    /// What comes of a file of values, or of none, and of `more` words.
    pub fn template(
        &self,
        release: &str,
        namespace: &str,
        file: Option<&Path>,
        more: &[&str],
    ) -> Output {
        let mut command = self.command(&[
            "template",
            "--kube-version",
            KUBERNETES,
            "--namespace",
            namespace,
        ]);
        let file = file.map(|path| format!("--values={}", path.display()));
        run(command.args(more).args(file).arg(release).arg(chart()))
    }

    /// What comes of a set of values.
    pub fn rendered(&self, set: &str, release: &str, namespace: &str) -> String {
        let file = path_of(set);
        let output = self.template(release, namespace, file.as_deref(), &[]);
        assert!(output.status.success(), "{set}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The same, of its own release.
    pub fn set(&self, set: &str) -> String {
        let found = SETS.iter().find(|(name, ..)| *name == set);
        let (_, release, namespace) = found.expect("a set");
        self.rendered(set, release, namespace)
    }

    /// Does something to a release on a cluster; all but `uninstall` wants the chart, and perhaps values.
    pub fn release(
        &self,
        kubeconfig: &Path,
        (namespace, name): (&str, &str),
        words: &[&str],
        values: Option<&Value>,
    ) -> Output {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = self.command(words);
        command
            .arg(name)
            .args(["--namespace", namespace])
            .arg("--kubeconfig")
            .arg(kubeconfig);
        if words[0] != "uninstall" {
            command.arg(chart());
        }
        if let Some(values) = values {
            let path = folder.path().join("values.json");
            std::fs::write(&path, values.to_string()).expect("a file");
            command.arg("--values").arg(path);
        }
        run(&mut command)
    }

    /// What comes of the defaults but for `values`, a text of YAML.
    pub fn with(&self, values: &str) -> Output {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("values.yaml");
        std::fs::write(&path, values).expect("a file");
        self.template("the0", "the0", Some(&path), &[])
    }
}

fn chart() -> PathBuf {
    repository().join("images/chart")
}

fn path_of(set: &str) -> Option<PathBuf> {
    let path = repository().join(format!("tests/chart/values/{set}.yaml"));
    (set != "defaults").then_some(path)
}

fn file_of(set: &str) -> Option<String> {
    path_of(set).map(|path| format!("--values={}", path.display()))
}

/// A document of YAML.
pub fn parse(yaml: &str) -> Value {
    serde_norway::from_str(yaml).unwrap_or_else(|err| panic!("{err}: {yaml}"))
}

/// The objects in a text of several documents.
pub fn all(yaml: &str) -> Vec<Value> {
    let documents = format!("\n{yaml}");
    let documents = documents.split("\n---\n").map(parse);
    documents.filter(|object| !object.is_null()).collect()
}

/// What an object is.
pub fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

/// What there is.
pub fn kinds(objects: &[Value]) -> BTreeSet<&str> {
    objects.iter().map(kind).collect()
}

/// The only object of a kind.
pub fn of_kind<'a>(objects: &'a [Value], wanted: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| kind(object) == wanted);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("there is no {wanted}"));
    assert!(found.next().is_none(), "there are several {wanted}");
    first
}

/// A list, or nothing.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
