//! What was found, and how it is shown.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::{Value, json};

use crate::show::Colours;

/// What was looked at, in the order in which it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The agent's own settings.
    Settings,
    /// The Docker daemon.
    Docker,
    /// The cluster whose Pods bots are.
    Kubernetes,
    /// The database of bots.
    #[serde(rename = "mongodb")]
    Mongo,
    /// Where events come from.
    Nats,
    /// The object store.
    Store,
    /// The machine that this runs on.
    Machine,
}

/// What it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Bots run, but less well or less safely than they could.
    Warning,
    /// Bots do not run, or not all of them.
    Failed,
}

#[derive(Debug, Serialize)]
struct Finding {
    part: Part,
    check: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// All findings.
#[derive(Debug, Default)]
pub struct Sheet {
    findings: Vec<Finding>,
}

impl Sheet {
    /// It is as it should be.
    pub fn ok(&mut self, part: Part, check: &'static str, found: impl Into<String>) {
        self.add(part, check, Verdict::Ok, found.into(), None);
    }

    /// It could be better, and how.
    pub fn warning(
        &mut self,
        part: Part,
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let remedy = Some(remedy.into());
        self.add(part, check, Verdict::Warning, found.into(), remedy);
    }

    /// It does not do, and what would.
    pub fn failed(
        &mut self,
        part: Part,
        check: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let remedy = Some(remedy.into());
        self.add(part, check, Verdict::Failed, found.into(), remedy);
    }

    fn add(
        &mut self,
        part: Part,
        check: &'static str,
        verdict: Verdict,
        found: String,
        remedy: Option<String>,
    ) {
        self.findings.push(Finding {
            part,
            check,
            verdict,
            found,
            remedy,
        });
    }

    /// In the order of its parts; within one as it was looked at.
    pub fn sorted(mut self) -> Self {
        self.findings.sort_by_key(|finding| finding.part);
        self
    }

    /// Whether nothing has failed.
    pub fn is_well(&self) -> bool {
        self.count(Verdict::Failed) == 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        let findings = self.findings.iter();
        findings.filter(|f| f.verdict == verdict).count()
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({"ok": self.is_well(), "checks": self.findings})
    }

    /// For people: one line a finding, and what to do below it.
    pub fn table(&self, colours: Colours) -> String {
        let width = self.findings.iter().map(|f| name(f).len()).max();
        let width = width.unwrap_or(0);
        let mut text = String::new();
        for finding in &self.findings {
            let (word, style) = worth(finding.verdict);
            let word = colours.paint(style, &format!("{word:7}"));
            let _ = writeln!(text, "{word}  {:width$}  {}", name(finding), finding.found);
            if let Some(remedy) = &finding.remedy {
                let _ = writeln!(text, "{:7}  {:width$}  -> {remedy}", "", "");
            }
        }
        let (failed, warnings) = (self.count(Verdict::Failed), self.count(Verdict::Warning));
        let _ = write!(text, "{failed} failed, {warnings} to look at");
        text
    }
}

fn name(finding: &Finding) -> String {
    let part = match finding.part {
        Part::Settings => "settings",
        Part::Docker => "docker",
        Part::Kubernetes => "kubernetes",
        Part::Mongo => "mongodb",
        Part::Nats => "nats",
        Part::Store => "store",
        Part::Machine => "machine",
    };
    format!("{part} {}", finding.check)
}

fn worth(verdict: Verdict) -> (&'static str, Style) {
    match verdict {
        Verdict::Ok => ("ok", AnsiColor::Green.on_default()),
        Verdict::Warning => ("warning", AnsiColor::Yellow.on_default()),
        Verdict::Failed => ("failed", AnsiColor::Red.on_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_in_the_order_of_parts_with_the_remedy_below() {
        let mut sheet = Sheet::default();
        sheet.warning(Part::Machine, "disk", "1 GiB free", "make room");
        sheet.failed(
            Part::Store,
            "bucket",
            "bot-state: no",
            "grant PutObject on it",
        );
        sheet.ok(Part::Docker, "daemon", "20.10");
        let sheet = sheet.sorted();
        let expected = "\
ok       docker daemon  20.10
failed   store bucket   bot-state: no
                        -> grant PutObject on it
warning  machine disk   1 GiB free
                        -> make room
1 failed, 1 to look at";
        assert_eq!(sheet.table(Colours::Off), expected);
        let json = sheet.json();
        assert_eq!((&json["ok"], sheet.is_well()), (&false.into(), false));
        let first = &json["checks"][0];
        assert_eq!(first["part"], "docker");
        assert_eq!(first["verdict"], "ok");
        assert!(first.get("remedy").is_none());
    }
}
