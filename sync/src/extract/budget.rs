//! How much an archive may unpack to.

use super::refusal::Reason;

/// Ratios are not looked at below this many bytes: a short file of zeros is no bomb.
const HARMLESS: u64 = 10 << 20;

/// The bounds on one archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes in all files together.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes unpacked for each byte of the archive.
    pub ratio: u64,
}

impl Default for Budget {
    /// 1 GiB, 100,000 entries, 1000 : 1.
    fn default() -> Self {
        Self {
            bytes: 1 << 30,
            entries: 100_000,
            ratio: 1000,
        }
    }
}

impl Budget {
    pub(super) fn begin(self, archive: u64) -> Spent {
        Spent {
            budget: self,
            archive,
            bytes: 0,
            entries: 0,
        }
    }
}

/// What of it has been used.
#[derive(Debug)]
pub(super) struct Spent {
    budget: Budget,
    archive: u64,
    bytes: u64,
    entries: u64,
}

impl Spent {
    /// Counts an entry.
    pub(super) fn entry(&mut self) -> Result<(), Reason> {
        self.entries += 1;
        if self.entries > self.budget.entries {
            return Err(Reason::Entries(self.budget.entries));
        }
        Ok(())
    }

    /// Counts unpacked bytes.
    pub(super) fn bytes(&mut self, count: u64) -> Result<(), Reason> {
        self.fits(count)?;
        self.bytes += count;
        if self.bytes > HARMLESS && self.bytes / self.budget.ratio > self.archive {
            return Err(Reason::Ratio(self.budget.ratio));
        }
        Ok(())
    }

    /// Whether so many more bytes would fit.
    pub(super) fn fits(&self, count: u64) -> Result<(), Reason> {
        if self.bytes.saturating_add(count) > self.budget.bytes {
            return Err(Reason::Size(self.budget.bytes >> 20));
        }
        Ok(())
    }
}
