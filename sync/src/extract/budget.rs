//! How much an archive may unpack to.

use super::refusal::Reason;

/// Ratios are not looked at below this many bytes: a short file of zeros is no bomb.
const HARMLESS: u64 = 10 << 20;

/// Bytes that an entry's name may have on average, with the folders above it and what a link leads to: what is
/// remembered of an archive is bounded by it.
const NAME: u64 = 320;

/// Bytes around an entry's content in a tar: its header, padding, and two extension headers of the usual size.
const AROUND: u64 = 4096;

/// What a reader of small archives may always have.
const LITTLE: u64 = 1 << 20;

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
            names: 0,
        }
    }

    /// Bytes of names, folders and link targets together.
    pub(super) fn names(&self) -> u64 {
        self.entries.saturating_mul(NAME).max(LITTLE)
    }

    /// Bytes of an archive that could still be within the other bounds.
    pub fn largest_archive(&self) -> u64 {
        let around = self.entries.saturating_mul(AROUND);
        self.bytes.saturating_add(around).saturating_add(LITTLE)
    }
}

/// What of it has been used.
#[derive(Debug)]
pub(super) struct Spent {
    budget: Budget,
    archive: u64,
    bytes: u64,
    entries: u64,
    names: u64,
}

impl Spent {
    /// Counts an entry, or a folder that only the path of one names.
    pub(super) fn entry(&mut self, name: usize) -> Result<(), Reason> {
        self.entries += 1;
        self.name(name)?;
        if self.entries > self.budget.entries {
            return Err(Reason::Entries(self.budget.entries));
        }
        Ok(())
    }

    /// Counts what is remembered of an entry: its name, or where it leads.
    pub(super) fn name(&mut self, length: usize) -> Result<(), Reason> {
        self.names = self.names.saturating_add(length as u64);
        if self.names > self.budget.names() {
            return Err(Reason::Names(self.budget.names() >> 10));
        }
        Ok(())
    }

    /// Counts what comes out of a compressed archive, headers included.
    pub(super) fn stream(&self) -> Stream {
        Stream {
            budget: self.budget,
            archive: self.archive,
            seen: 0,
        }
    }

    /// Counts unpacked bytes.
    pub(super) fn bytes(&mut self, count: u64) -> Result<(), Reason> {
        self.fits(count)?;
        self.bytes += count;
        check_ratio(self.budget, self.archive, self.bytes)
    }

    /// Whether so many more bytes would fit.
    pub(super) fn fits(&self, count: u64) -> Result<(), Reason> {
        if self.bytes.saturating_add(count) > self.budget.bytes {
            return Err(Reason::Size(self.budget.bytes >> 20));
        }
        Ok(())
    }
}

/// Everything that came out of a compressed archive.
#[derive(Debug)]
pub(super) struct Stream {
    budget: Budget,
    archive: u64,
    seen: u64,
}

impl Stream {
    /// Counts bytes that were read.
    pub(super) fn bytes(&mut self, count: usize) -> Result<(), Reason> {
        self.seen = self.seen.saturating_add(count as u64);
        if self.seen > self.budget.largest_archive() {
            return Err(Reason::Size(self.budget.bytes >> 20));
        }
        check_ratio(self.budget, self.archive, self.seen)
    }
}

fn check_ratio(budget: Budget, archive: u64, unpacked: u64) -> Result<(), Reason> {
    if unpacked > HARMLESS && unpacked / budget.ratio > archive {
        return Err(Reason::Ratio(budget.ratio));
    }
    Ok(())
}
