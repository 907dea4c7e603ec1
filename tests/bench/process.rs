//! What the kernel tells of a process.

use std::fs;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock, comparable between processes.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the monotonic clock");
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// The direct children of `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    if let Ok(text) = fs::read_to_string(path) {
        return text
            .split_whitespace()
            .filter_map(|p| p.parse().ok())
            .collect();
    }
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// The name of the program `pid` runs.
pub fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// A line of `smaps_rollup` in KiB: `Rss`, `Pss`, `Anonymous`.
pub fn memory(pid: u32, line: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let row = text
        .lines()
        .find_map(|row| row.strip_prefix(line)?.strip_prefix(':'));
    row.and_then(|row| row.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// How often `pid` was scheduled so far, over all its threads.
pub fn switches(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let count = |text: String| -> u64 {
        let rows = text
            .lines()
            .filter(|row| row.contains("voluntary_ctxt_switches"));
        rows.filter_map(|row| row.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum()
    };
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .map(count)
        .sum()
}

/// CPU time of `pid` so far in microseconds, with a microsecond's resolution where the kernel counts it.
pub fn cpu_micros(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|ns| ns.parse::<u64>().ok())
        .unwrap_or(0)
        / 1000
}

/// The value at `percent` of the sorted values.
pub fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    values
        .get((values.len().saturating_sub(1)) * percent / 100)
        .copied()
        .unwrap_or(0)
}

/// CPU time of `pid` so far in milliseconds, all its threads, with a resolution of ten.
pub fn cpu_millis(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = fields
        .iter()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    ticks.sum::<u64>() * 10
}
