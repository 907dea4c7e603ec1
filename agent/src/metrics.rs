//! What the agent counts, and how Prometheus reads it (text format 0.0.4, its naming conventions).
//!
//! Written by hand: the list is short and fixed, no label has a value from outside but ids of bots, which have nothing to
//! escape, and of these only as many as the operator wants: the number of series is bounded whatever bots there are. (The usual crate writes OpenMetrics only, where counters are
//! declared under other names, which `promtool check metrics` does not take.)

mod acts;
pub mod histogram;
mod names;
mod saves;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

use contract::BotId;

use crate::ask::{Refusal, Refused, Reply};
use crate::breaker::{Sight, State};
use crate::engine::News;
use crate::engine::usage::Sample;
use crate::gateway::dispatch::{Kind, Told};
use crate::health::View;
use crate::history::{self, Entry};
use crate::plan::Why;
use crate::store;
use histogram::Histogram;
use names::{
    ACTED, ACTIONS, AGE, ANSWERED, ANSWERS, ASKED, BEGAN, BOT_CPU, BOT_MEMORY, BOTS, BUILD, CPU,
    DEPENDENCY, DURATION, ERRORS, EVENTS, EXECUTED, FAILURES, FAMILIES, FILES, GATE, LAG, LEASE,
    LISTING, LIVE_BYTES, LIVE_CUT, MEMORY, NEXT, OUTCOMES, PUSHED, RECONCILE, STARTED, STARTS,
    STATES, STOPPED, UNSAVED, WAITING, WAYS, WHYS,
};
use saves::Saves;

/// The upper bounds of the histogram's buckets, in seconds.
const BUCKETS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];
/// The same for runs of bots, which may last for days.
const LONG: [f64; 11] = [
    0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0, 604_800.0,
];
type Labels = Vec<(&'static str, &'static str)>;

/// The values.
#[derive(Debug)]
pub struct Metrics {
    samples: BTreeMap<(&'static str, Labels), f64>,
    reconciled: Histogram<{ BUCKETS.len() }>,
    executed: Histogram<{ LONG.len() }>,
    answered: Histogram<{ BUCKETS.len() }>,
    /// What bots say of their saving.
    pub saves: Saves,
    usage: BTreeMap<BotId, (f64, f64)>,
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
        let runs = OUTCOMES.map(|outcome| (EXECUTED, vec![("outcome", outcome)]));
        let asked = |way| ANSWERS.map(|answer| (ASKED, put(way, answer)));
        let questions = WAYS.iter().flat_map(|way| asked(way));
        let counters = starts.chain(stops).chain(acts).chain(runs);
        let counters = counters.chain(questions);
        samples.extend(counters.map(|counter| (counter, 0.0)));
        samples.extend([LIVE_BYTES, LIVE_CUT].map(|name| ((name, vec![]), 0.0)));
        samples.insert((BUILD, vec![("version", env!("CARGO_PKG_VERSION"))]), 1.0);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let began = since.unwrap_or_default().as_secs_f64();
        samples.insert((BEGAN, vec![]), (began * 100.0).round() / 100.0);
        Self {
            samples,
            reconciled: Histogram::new(BUCKETS),
            executed: Histogram::new(LONG),
            answered: Histogram::new(BUCKETS),
            saves: Saves::default(),
            usage: BTreeMap::new(),
        }
    }
}

impl Metrics {
    /// An operation has come to its end.
    pub fn news(&mut self, news: &News) {
        let Some((action, is_ok, started)) = acts::act(news) else {
            return;
        };
        if let Some(outcome) = started {
            self.add(STARTED, vec![("outcome", outcome)]);
        }
        self.add(ACTED, acted(action, if is_ok { "ok" } else { "failed" }));
    }

    /// A bot is stopped.
    pub fn stopped(&mut self, why: Why) {
        self.add(STOPPED, vec![("reason", reason(why))]);
    }

    /// So many bytes of bots' lines were sent over NATS, and so many lines cut for it.
    pub fn live(&mut self, bytes: usize, cut: u64) {
        for (name, count) in [(LIVE_BYTES, small(bytes)), (LIVE_CUT, large(cut))] {
            *self.samples.entry((name, vec![])).or_default() += count;
        }
    }

    /// What runs was compared with what should, which took so long.
    pub fn reconciled(&mut self, took: Duration) {
        self.reconciled.add(took);
    }

    /// A run has ended.
    pub fn executed(&mut self, run: &Entry) {
        let Some(outcome) = history::outcome(run) else {
            return;
        };
        self.add(EXECUTED, vec![("outcome", outcome)]);
        let took = Duration::from_millis(run.duration_ms.unwrap_or(0));
        self.executed.add(took);
    }

    /// A question was put in the way of `told`, or to nobody, and that came of it after so long.
    pub fn asked(&mut self, told: &Told, took: Duration) {
        let way = match told.asked {
            Some((_, Kind::Live)) => "live",
            Some((_, Kind::Apart)) => "apart",
            None => "none",
        };
        self.add(ASKED, put(way, answer(&told.reply)));
        self.answered.add(took);
    }

    /// Whether a dependency answers.
    pub fn dependency(&mut self, name: &'static str, up: u8) {
        self.set(DEPENDENCY, vec![("dependency", name)], up.into());
    }

    /// How a dependency is asked.
    pub fn gate(&mut self, name: &'static str, sight: Sight) {
        for state in State::NAMES {
            let is = f64::from(u8::from(state == sight.state.name()));
            self.set(GATE, vec![("dependency", name), ("state", state)], is);
        }
        let labels = || vec![("dependency", name)];
        self.set(FAILURES, labels(), sight.failures.into());
        let wait = (sight.wait.as_secs_f64() * 1000.0).round() / 1000.0;
        self.set(NEXT, labels(), wait);
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
            let lag = events.oldest.map(|said| said.elapsed().unwrap_or_default());
            self.set(LAG, vec![], seconds(lag.unwrap_or_default()));
        }
        if let Some(listed) = view.listed {
            let age = Instant::now().saturating_duration_since(listed);
            self.set(LISTING, vec![], seconds(age));
        }
    }

    /// What bots use of the host; those that are not among them are told no more.
    pub fn used(&mut self, samples: impl IntoIterator<Item = (BotId, Sample)>) {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 104 days")]
        let cpu = |sample: &Sample| sample.cpu as f64 / 1e9;
        let samples = samples.into_iter();
        self.usage = samples
            .map(|(bot, sample)| (bot, (cpu(&sample), large(sample.memory))))
            .collect();
    }

    fn stored(&mut self) {
        let age = self.saves.age(SystemTime::now());
        self.set(AGE, vec![], seconds(age));
        self.set(PUSHED, vec![], large(self.saves.sent()));
        let errors = [("agent", store::errors()), ("bots", self.saves.errors())];
        for (by, count) in errors {
            self.set(ERRORS, vec![("by", by)], large(count));
        }
    }

    /// All of it, as Prometheus reads it.
    pub fn render(&mut self) -> String {
        self.process();
        self.stored();
        let mut text = String::new();
        for (name, kind, help) in FAMILIES {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            match name {
                RECONCILE => self.reconciled.write(&mut text, name),
                DURATION => self.executed.write(&mut text, name),
                ANSWERED => self.answered.write(&mut text, name),
                BOT_CPU => self.each_bot(&mut text, name, |usage| usage.0),
                BOT_MEMORY => self.each_bot(&mut text, name, |usage| usage.1),
                _ => {}
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

    fn each_bot(&self, text: &mut String, name: &str, value: impl Fn(&(f64, f64)) -> f64) {
        for (bot, usage) in &self.usage {
            let _ = writeln!(text, "{name}{{bot=\"{bot}\"}} {}", value(usage));
        }
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

fn put(way: &'static str, answer: &'static str) -> Labels {
    vec![("answer", answer), ("way", way)]
}

fn answer(reply: &Reply) -> &'static str {
    match reply {
        Ok(_) => "ok",
        Err(Refused::Bots(..)) => "error",
        Err(Refused::Ours(Refusal::Busy)) => "busy",
        Err(Refused::Ours(Refusal::Late(_))) => "late",
        Err(Refused::Ours(Refusal::Failed(_))) => "failed",
        Err(Refused::Ours(_)) => "refused",
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

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
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
