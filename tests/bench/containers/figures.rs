//! Figures of many measurements, and how they are printed.

use std::fmt;
use std::fs;
use std::time::Instant;

/// Measurements in microseconds; less than nothing where the daemon notes a start after the first words were said.
#[derive(Debug, Default, Clone)]
pub struct Sample(Vec<i64>);

impl Sample {
    /// The middle one.
    pub fn median(&self) -> i64 {
        self.at(50)
    }

    /// The value below which so many of a hundred are.
    pub fn at(&self, percent: usize) -> i64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((last * percent + 50) / 100)
            .copied()
            .unwrap_or(0)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// One more.
    pub fn push(&mut self, micros: i64) {
        self.0.push(micros);
    }
}

impl FromIterator<i64> for Sample {
    fn from_iter<I: IntoIterator<Item = i64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// In milliseconds: the median, and between which values eight of ten are.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, median, high] = [10, 50, 90].map(|percent| millis(self.at(percent)));
        f.pad(&format!("{median:.1} ({low:.1} - {high:.1})"))
    }
}

/// Microseconds in milliseconds.
#[allow(clippy::cast_precision_loss)] // printed with one decimal
pub fn millis(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

/// From one time of the daemon's to another.
pub fn micros(from: u64, to: u64) -> i64 {
    to.cast_signed().wrapping_sub(from.cast_signed()) / 1000
}

/// How busy the machine is, with us and with others.
pub struct Business {
    since: Instant,
    waited: Option<u64>,
}

impl Business {
    /// From now on.
    pub fn from_now() -> Self {
        Self {
            since: Instant::now(),
            waited: waited(),
        }
    }
}

impl fmt::Display for Business {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        write!(f, "load {}", load.split(' ').next().unwrap_or("?"))?;
        let (Some(before), Some(now)) = (self.waited, waited()) else {
            return Ok(());
        };
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        write!(
            f,
            ", some process waited for a processor {} % of the time",
            (now - before) * 100 / took.max(1)
        )
    }
}

/// Microseconds in which some process had to wait for a processor, where the kernel counts them.
fn waited() -> Option<u64> {
    let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
    text.lines().next()?.rsplit_once("total=")?.1.parse().ok()
}

/// CPU time of all threads of `pid` so far, in microseconds.
pub fn cpu(pid: u32) -> i64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<i64>().ok()
    });
    nanos.sum::<i64>() / 1000
}

/// CPU time of `pid` so far with that of its children that have ended, in milliseconds, with a resolution of ten. `self` is
/// us.
pub fn cpu_with_children(pid: &str) -> i64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    // Fields 14 to 17 of proc(5): utime, stime, cutime, cstime; the first after the name is field 3.
    let ticks = fields.skip(11).take(4);
    ticks
        .filter_map(|field| field.parse::<i64>().ok())
        .sum::<i64>()
        * 10
}
