//! How often something took how long.

use std::fmt::Write;
use std::time::Duration;

/// Counts of durations up to each of `N` bounds.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// The upper bounds, in seconds, ascending.
    bounds: [f64; N],
    counts: [u64; N],
    sum: f64,
    count: u64,
}

impl<const N: usize> Histogram<N> {
    /// One that has counted nothing.
    pub fn new(bounds: [f64; N]) -> Self {
        Self {
            bounds,
            counts: [0; N],
            sum: 0.0,
            count: 0,
        }
    }

    /// It took so long.
    pub fn add(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        for (count, bound) in self.counts.iter_mut().zip(self.bounds) {
            *count += u64::from(took <= bound);
        }
        self.sum += took;
        self.count += 1;
    }

    /// Its samples under the name `name`.
    pub fn write(&self, text: &mut String, name: &str) {
        for (count, bound) in self.counts.iter().zip(self.bounds) {
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let (sum, count) = (self.sum, self.count);
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {count}");
    }
}
