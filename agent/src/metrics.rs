//! What the agent counts, and how Prometheus reads it (text format 0.0.4, its naming conventions).
//!
//! Written by hand: the list is short and fixed, no label has a value from outside, so there is nothing to escape and
//! the number of series is bounded whatever bots there are. (The usual crate writes OpenMetrics only, where counters are
//! declared under other names, which `promtool check metrics` does not take.)

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::News;
use crate::engine::docker;
use crate::health::View;
use crate::plan::{Outcome, Why};

/// The upper bounds of the histogram's buckets, in seconds.
const BUCKETS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];
/// States a bot can be in.
const STATES: [&str; 12] = [
    "unknown",
    "starting",
    "running",
    "waiting",
    "stopping",
    "stopped",
    "disabled",
    "failed",
    "completed",
    "invalid",
    "removed",
    "held",
];
const STARTS: [&str; 6] = ["started", "found", "stopped", "failed", "refused", "busy"];
const ACTIONS: [&str; 6] = ["start", "signal", "inspect", "renew_keys", "remove", "open"];
const WHYS: [Why; 10] = [
    Why::Asked,
    Why::Disabled,
    Why::Deleted,
    Why::Absent,
    Why::Changed,
    Why::Restarted,
    Why::Rolled,
    Why::Limit,
    Why::Replaced,
    Why::Ending,
];

const BOTS: &str = "the0_bots";
const STARTED: &str = "the0_starts_total";
const STOPPED: &str = "the0_stops_total";
const ACTED: &str = "the0_actions_total";
const RECONCILE: &str = "the0_reconcile_duration_seconds";
const DEPENDENCY: &str = "the0_dependency_up";
const LEASE: &str = "the0_lease_held";
const LISTING: &str = "the0_listing_age_seconds";
const UNSAVED: &str = "the0_unsaved_bots";
const EVENTS: &str = "the0_events_total";
const WAITING: &str = "the0_events_waiting";
const BUILD: &str = "the0_build_info";
const CPU: &str = "process_cpu_seconds_total";
const MEMORY: &str = "process_resident_memory_bytes";
const FILES: &str = "process_open_fds";
const BEGAN: &str = "process_start_time_seconds";

/// Name, kind and help of every metric, in the order in which they are told.
const FAMILIES: [(&str, &str, &str); 16] = [
    (BOTS, "gauge", "Bots by state."),
    (STARTED, "counter", "Starts of bots by how they came out."),
    (
        STOPPED,
        "counter",
        "Stops of bots by why they were stopped.",
    ),
    (
        ACTED,
        "counter",
        "Operations on the Docker daemon by kind and outcome.",
    ),
    (
        RECONCILE,
        "histogram",
        "Time to compare what runs with what should and to act on it.",
    ),
    (
        DEPENDENCY,
        "gauge",
        "Whether a dependency answers (1) or not (0).",
    ),
    (
        LEASE,
        "gauge",
        "Whether this agent may act (1) or stands by (0).",
    ),
    (LISTING, "gauge", "Age of the listing of bots that counts."),
    (
        UNSAVED,
        "gauge",
        "Ended bots of which something is on this host only.",
    ),
    (
        EVENTS,
        "counter",
        "Events over NATS by what became of them.",
    ),
    (WAITING, "gauge", "Events over NATS known to wait."),
    (BUILD, "gauge", "The agent's version."),
    (CPU, "counter", "Processor time of the agent in seconds."),
    (MEMORY, "gauge", "Resident memory of the agent in bytes."),
    (FILES, "gauge", "Open file descriptors of the agent."),
    (
        BEGAN,
        "gauge",
        "Start of the agent in seconds since the epoch.",
    ),
];

type Labels = Vec<(&'static str, &'static str)>;

/// The values.
#[derive(Debug)]
pub struct Metrics {
    samples: BTreeMap<(&'static str, Labels), f64>,
    buckets: [u64; BUCKETS.len()],
    reconciled: (f64, u64),
}

impl Default for Metrics {
    /// Every counter begins at nought, so that its first increase is seen.
    fn default() -> Self {
        let mut samples = BTreeMap::new();
        let starts = STARTS
            .iter()
            .map(|outcome| (STARTED, vec![("outcome", *outcome)]));
        let stops = WHYS
            .iter()
            .map(|why| (STOPPED, vec![("reason", reason(*why))]));
        let outcomes = |action| ["ok", "failed"].map(|outcome| (ACTED, acted(action, outcome)));
        let acts = ACTIONS.iter().flat_map(|action| outcomes(action));
        let counters = starts.chain(stops).chain(acts);
        samples.extend(counters.map(|counter| (counter, 0.0)));
        samples.insert((BUILD, vec![("version", env!("CARGO_PKG_VERSION"))]), 1.0);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let began = since.unwrap_or_default().as_secs_f64();
        samples.insert((BEGAN, vec![]), (began * 100.0).round() / 100.0);
        Self {
            samples,
            buckets: [0; BUCKETS.len()],
            reconciled: (0.0, 0),
        }
    }
}

impl Metrics {
    /// An operation has come to its end.
    pub fn news(&mut self, news: &News) {
        let News::Docker(news) = news else { return };
        let (action, is_ok) = match news {
            docker::News::Started(_, result) => {
                self.add(STARTED, vec![("outcome", outcome(result))]);
                ("start", result.is_ok())
            }
            docker::News::Looked(_, result) => ("inspect", result.is_ok()),
            docker::News::Signalled(_, result) => ("signal", result.is_ok()),
            docker::News::Renewed(_, _, result) => ("renew_keys", result.is_ok()),
            docker::News::Removed(_, result) => ("remove", result.is_ok()),
            docker::News::Opened(_, result) => ("open", result.is_ok()),
            docker::News::Down(_) | docker::News::Listed(_) | docker::News::Happened(_) => return,
        };
        self.add(ACTED, acted(action, if is_ok { "ok" } else { "failed" }));
    }

    /// A bot is stopped.
    pub fn stopped(&mut self, why: Why) {
        self.add(STOPPED, vec![("reason", reason(why))]);
    }

    /// What runs was compared with what should, which took so long.
    pub fn reconciled(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        for (count, bound) in self.buckets.iter_mut().zip(BUCKETS) {
            *count += u64::from(took <= bound);
        }
        self.reconciled.0 += took;
        self.reconciled.1 += 1;
    }

    /// Whether a dependency answers.
    pub fn dependency(&mut self, name: &'static str, up: u8) {
        self.set(DEPENDENCY, vec![("dependency", name)], up.into());
    }

    /// Whether this agent may act.
    pub fn lease(&mut self, held: u8) {
        self.set(LEASE, vec![], held.into());
    }

    /// What the loop sees.
    pub fn view(&mut self, view: &View) {
        for state in STATES {
            let count = view.bots.get(state).copied().unwrap_or(0);
            self.set(BOTS, vec![("state", state)], small(count));
        }
        self.set(UNSAVED, vec![], small(view.unsaved));
        if let Some(events) = view.events {
            self.set(EVENTS, vec![("outcome", "applied")], large(events.applied));
            self.set(EVENTS, vec![("outcome", "refused")], large(events.refused));
            self.set(WAITING, vec![], large(events.waiting));
        }
        if let Some(listed) = view.listed {
            let age = Instant::now().saturating_duration_since(listed);
            let age = (age.as_secs_f64() * 1000.0).round() / 1000.0;
            self.set(LISTING, vec![], age);
        }
    }

    /// All of it, as Prometheus reads it.
    pub fn render(&mut self) -> String {
        self.process();
        let mut text = String::new();
        for (name, kind, help) in FAMILIES {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            if name == RECONCILE {
                self.histogram(&mut text);
            }
            for ((of, labels), value) in self.samples.range((name, vec![])..) {
                if *of != name {
                    break;
                }
                let _ = writeln!(text, "{name}{} {value}", written(labels));
            }
        }
        text
    }

    fn histogram(&self, text: &mut String) {
        for (count, bound) in self.buckets.iter().zip(BUCKETS) {
            let _ = writeln!(text, "{RECONCILE}_bucket{{le=\"{bound}\"}} {count}");
        }
        let (sum, count) = self.reconciled;
        let _ = writeln!(text, "{RECONCILE}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{RECONCILE}_sum {sum}\n{RECONCILE}_count {count}");
    }

    /// What the kernel says of this process; what it does not say is not told.
    fn process(&mut self) {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let stat = read("/proc/self/stat");
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<f64> = fields
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        if let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) {
            // The kernel tells hundredths of a second, whatever its own clock.
            self.set(CPU, vec![], (user + system) / 100.0);
        }
        let status = read("/proc/self/status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident =
            resident.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
        if let Some(kib) = resident {
            self.set(MEMORY, vec![], kib * 1024.0);
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // One is that of the looking.
            self.set(FILES, vec![], small(entries.count().saturating_sub(1)));
        }
    }

    fn add(&mut self, name: &'static str, labels: Labels) {
        *self.samples.entry((name, labels)).or_default() += 1.0;
    }

    fn set(&mut self, name: &'static str, labels: Labels, value: f64) {
        self.samples.insert((name, labels), value);
    }
}

fn acted(action: &'static str, outcome: &'static str) -> Labels {
    vec![("action", action), ("outcome", outcome)]
}

fn outcome(result: &Result<docker::Running, docker::NotStarted>) -> &'static str {
    match result {
        Ok(running) if running.origin == docker::Origin::Started => "started",
        Ok(_) => "found",
        Err(not) => match not.outcome {
            Outcome::Stopped | Outcome::Completed => "stopped",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Busy => "busy",
        },
    }
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Asked => "asked",
        Why::Disabled => "disabled",
        Why::Deleted => "deleted",
        Why::Absent => "absent",
        Why::Changed => "changed",
        Why::Restarted => "restarted",
        Why::Rolled => "rolled",
        Why::Limit => "limit",
        Why::Replaced => "replaced",
        Why::Ending => "ending",
    }
}

fn written(labels: &Labels) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

/// A count as Prometheus has numbers.
fn small(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

/// The same of one that may be greater than any count of things.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn large(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
