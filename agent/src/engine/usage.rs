//! What bots use of the host now: looked at when somebody asks, twice within a moment, because processor time is a
//! difference.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::{Duration, Instant};

use contract::BotId;
use serde::{Deserialize, Serialize};

/// Time between the two looks.
pub const APART: Duration = Duration::from_millis(250);

/// What a bot uses, with the programs around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Percent of one processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes it may have, where that is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
}

/// What bots use, as far as that is known.
#[derive(Debug, Default)]
pub struct Used {
    /// By bot.
    pub by: HashMap<BotId, Usage>,
    /// Why of none it is known.
    pub but: Option<String>,
}

impl Used {
    /// It is not known, and why.
    pub fn unknown(why: String) -> Self {
        Self {
            by: HashMap::new(),
            but: Some(why),
        }
    }
}

impl From<HashMap<BotId, Usage>> for Used {
    fn from(by: HashMap<BotId, Usage>) -> Self {
        Self { by, but: None }
    }
}

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds of a processor so far.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub limit: Option<u64>,
    /// When.
    pub at: Instant,
}

impl Usage {
    /// From two looks.
    pub fn between(first: Option<Sample>, last: Sample) -> Self {
        let cpu = first.and_then(|first| {
            let time = last.at.duration_since(first.at).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a share is no exact number")]
            let used = last.cpu.saturating_sub(first.cpu) as f64 / 1e9;
            (time > 0.0).then(|| (used / time * 1000.0).round() / 10.0)
        });
        Self {
            cpu,
            memory: last.memory,
            memory_limit: last.limit,
        }
    }
}

/// Bytes as a person reads them at a glance.
pub fn brief(bytes: u64) -> String {
    match bytes {
        n if n >= 10 << 30 => format!("{}G", n >> 30),
        n if n >= 1 << 20 => format!("{}M", n >> 20),
        n => format!("{}K", n >> 10),
    }
}

/// What the trees of processes under `roots` use.
pub async fn of_processes(roots: BTreeMap<BotId, i32>) -> HashMap<BotId, Usage> {
    let first = samples(&roots);
    tokio::time::sleep(APART).await;
    let last = samples(&roots);
    let usage = last.into_iter().map(|(bot, last)| {
        let usage = Usage::between(first.get(&bot).copied(), last);
        (bot, usage)
    });
    usage.collect()
}

fn samples(roots: &BTreeMap<BotId, i32>) -> HashMap<BotId, Sample> {
    let children = children();
    let sample = |(bot, root): (&BotId, &i32)| Some((bot.clone(), tree(*root, &children)?));
    roots.iter().filter_map(sample).collect()
}

/// Each process's children.
fn children() -> HashMap<i32, Vec<i32>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = super::orphans::parent_in(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

fn tree(root: i32, children: &HashMap<i32, Vec<i32>>) -> Option<Sample> {
    let mut sample = Sample {
        cpu: 0,
        memory: 0,
        limit: None,
        at: Instant::now(),
    };
    let mut left = vec![root];
    let mut seen = 0;
    while let Some(pid) = left.pop() {
        if let Some((cpu, memory)) = process(pid) {
            sample.cpu += cpu;
            sample.memory += memory;
            seen += 1;
        }
        left.extend(children.get(&pid).into_iter().flatten());
    }
    (seen > 0).then_some(sample)
}

/// Nanoseconds of processor time and resident bytes of one process (proc(5)).
fn process(pid: i32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let times = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Some((times.sum(), kilobytes.unwrap_or(0) << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_uses_a_processor_and_memory() {
        let mut busy = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let bot: BotId = "b1".parse().unwrap();
        let roots = BTreeMap::from([(bot.clone(), i32::try_from(busy.id()).unwrap())]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let usage = runtime.block_on(of_processes(roots.clone()));
        busy.kill().unwrap();
        busy.wait().unwrap();
        let usage = usage[&bot];
        assert!(
            usage.cpu.unwrap() > 5.0 && usage.memory > 100 << 10,
            "{usage:?}"
        );
        assert!(runtime.block_on(of_processes(roots)).is_empty());
    }

    #[test]
    fn a_share_is_a_difference() {
        let at = Instant::now();
        let sample = |cpu, at| Sample {
            cpu,
            memory: 5,
            limit: None,
            at,
        };
        let later = sample(150_000_000, at + Duration::from_secs(1));
        assert_eq!(Usage::between(Some(sample(0, at)), later).cpu, Some(15.0));
        assert_eq!(Usage::between(None, later).cpu, None);
        assert_eq!(
            [brief(512 << 10), brief(512 << 20), brief(12 << 30)],
            ["512K", "512M", "12G"]
        );
    }
}
