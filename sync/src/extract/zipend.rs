//! The end of a zip: how many entries there are and where their list is, said once and at the very end.
//!
//! Read before the parser reads the list, because the list is held in memory, and strictly: the list ends where the end
//! records begin, these end where the file does, and what they say twice is the same.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::budget::Budget;
use super::refusal::{Error, Reason};

/// The end record without its comment (APPNOTE 4.3.16).
const END: usize = 22;
const END_MARK: &[u8; 4] = b"PK\x05\x06";
/// Its 64-bit forerunner (4.3.14) as everyone writes it, and what says where that is (4.3.15).
const END64: usize = 56;
const LOCATOR: usize = 20;

/// Where the list of entries lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct List {
    entries: u64,
    size: u64,
    start: u64,
}

/// Checks the end of the zip in `file`, of `size` bytes.
pub(super) fn check(file: &mut File, size: u64, budget: Budget) -> Result<(), Error> {
    let (at, end) = find(file, size)?;
    let (list, ends) = read(file, at, &end)?;
    if list.entries > budget.entries {
        return Err(Reason::Entries(budget.entries).of_archive());
    }
    if list.size > budget.names() {
        return Err(Reason::Names(budget.names() >> 10).of_archive());
    }
    match list.start.checked_add(list.size) {
        Some(end) if end == ends => Ok(()),
        Some(end) if end < ends => Err(Reason::Leading.of_archive()),
        _ => Err(disagree("where the list of entries is")),
    }
}

fn disagree(what: &str) -> Error {
    Reason::Disagreement(what.to_owned()).of_archive()
}

/// Where the end record is, with its bytes. It is the last thing in the file that begins like one.
fn find(file: &mut File, size: u64) -> Result<(u64, [u8; END]), Error> {
    let most = (END as u64 + u64::from(u16::MAX)).min(size);
    file.seek(SeekFrom::Start(size - most))?;
    let mut tail = Vec::new();
    file.take(most).read_to_end(&mut tail)?;
    let found = tail.windows(4).rposition(|four| four == END_MARK);
    let Some(at) = found else {
        let why = if tail.len() < END || size == most {
            Reason::Truncated
        } else {
            Reason::Trailing
        };
        return Err(why.of_archive());
    };
    let end = tail[at..].first_chunk::<END>();
    let end = *end.ok_or_else(|| Reason::Truncated.of_archive())?;
    let comment = usize::from(u16::from_le_bytes([end[20], end[21]]));
    match (tail.len() - at - END).cmp(&comment) {
        std::cmp::Ordering::Less => Err(Reason::Truncated.of_archive()),
        std::cmp::Ordering::Greater => Err(Reason::Trailing.of_archive()),
        std::cmp::Ordering::Equal => Ok((size - most + at as u64, end)),
    }
}

/// The list, and where it has to end.
fn read(file: &mut File, at: u64, end: &[u8; END]) -> Result<(List, u64), Error> {
    let short = |from: usize| u64::from(u16::from_le_bytes([end[from], end[from + 1]]));
    let long = |from: usize| number(&end[from..from + 4]);
    if [short(4), short(6)] != [0, 0] || short(8) != short(10) {
        return Err(disagree("how many parts it has"));
    }
    let list = List {
        entries: short(10),
        size: long(12),
        start: long(16),
    };
    let Some((list64, at64)) = read64(file, at)? else {
        return Ok((list, at));
    };
    let said = |small: u64, most: u64, large: u64| small == most || small == large;
    if said(list.entries, u64::from(u16::MAX), list64.entries)
        && said(list.size, u64::from(u32::MAX), list64.size)
        && said(list.start, u64::from(u32::MAX), list64.start)
    {
        Ok((list64, at64))
    } else {
        Err(disagree("its two end records"))
    }
}

/// What the 64-bit record before the end record at `at` says, if there is one, and where that is.
fn read64(file: &mut File, at: u64) -> Result<Option<(List, u64)>, Error> {
    let Some(start) = at.checked_sub(LOCATOR as u64) else {
        return Ok(None);
    };
    let mut locator = [0; LOCATOR];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut locator)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let record_at = start.checked_sub(END64 as u64);
    let record_at = record_at.ok_or_else(|| Reason::Truncated.of_archive())?;
    let mut record = [0; END64];
    file.seek(SeekFrom::Start(record_at))?;
    file.read_exact(&mut record)?;
    let sound = record.starts_with(b"PK\x06\x06")
        && number(&record[4..12]) == END64 as u64 - 12
        && number(&locator[8..16]) == record_at
        && number(&record[16..24]) == 0
        && record[24..32] == record[32..40];
    if !sound {
        return Err(disagree("its 64-bit end record"));
    }
    let list = List {
        entries: number(&record[32..40]),
        size: number(&record[40..48]),
        start: number(&record[48..56]),
    };
    Ok(Some((list, record_at)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
