//! A log that was cut below what was shipped of it, and where shipping goes on.
//!
//! A writer that runs out of disk in the middle of a batch cuts the segment back to where the batch began, and `sync`
//! may have shipped whole lines of it by then. What is written next is new and lies where the shipped lines were, so
//! it is told by its time: it is later than that of the last line shipped.

use std::io;
use std::path::Path;

use contract::logs;
use serde::{Deserialize, Serialize};

use super::{CHUNK, read_at};

/// A line of a segment, as it was shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Where it begins.
    pub offset: u64,
    /// The time in front of it.
    pub stamp: String,
}

/// Whether a segment is still being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    Open,
    Closed,
}

/// Where to go on in a segment that was shipped up to `offset`, its `last` line included; `None` if that is still
/// there.
pub fn resume(
    path: &Path,
    offset: u64,
    last: Option<&Line>,
    segment: Segment,
) -> io::Result<Option<u64>> {
    let length = std::fs::symlink_metadata(path)?.len();
    if offset == 0 || (offset <= length && is_there(path, offset, length, last, segment)?) {
        return Ok(None);
    }
    let resumed = match last {
        Some(last) => first_after(path, &last.stamp),
        None => line_at(path, offset.min(length)),
    };
    resumed.map(Some)
}

fn is_there(
    path: &Path,
    offset: u64,
    length: u64,
    last: Option<&Line>,
    segment: Segment,
) -> io::Result<bool> {
    // What a crash tore off at the end of a closed segment was shipped without a newline.
    if segment == Segment::Closed && offset == length {
        return Ok(true);
    }
    if read_at(path, offset - 1, 1)? != b"\n" {
        return Ok(false);
    }
    let Some(last) = last else {
        return Ok(true);
    };
    Ok(read_at(path, last.offset, last.stamp.len())? == last.stamp.as_bytes())
}

/// Where the first line later than `stamp` begins, or the end of the last whole line.
fn first_after(path: &Path, stamp: &str) -> io::Result<u64> {
    let mut at = 0;
    loop {
        let bytes = read_at(path, at, CHUNK)?;
        let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else {
            return Ok(at);
        };
        for line in bytes[..=end].split_inclusive(|b| *b == b'\n') {
            if logs::split_stamp(line).is_some_and(|(found, _)| found > stamp) {
                return Ok(at);
            }
            at += line.len() as u64;
        }
    }
}

/// Where the line begins that `at` is in the middle of: nothing of it was shipped, or `at` would be its end.
fn line_at(path: &Path, at: u64) -> io::Result<u64> {
    let from = at.saturating_sub(CHUNK as u64);
    let bytes = read_at(path, from, usize::try_from(at - from).unwrap_or(CHUNK))?;
    let newline = bytes.iter().rposition(|b| *b == b'\n');
    Ok(newline.map_or(from, |newline| from + newline as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: u8, text: &str) -> String {
        format!("2026-11-20T08:00:{second:02}.000000Z {text}\n")
    }

    /// Where it goes on when `shipped` was shipped and the segment now holds `now`.
    fn resumed(shipped: &[String], now: &str, segment: Segment) -> [Option<u64>; 2] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(logs::segment_name(1));
        std::fs::write(&path, now).unwrap();
        let offset = shipped.concat().len() as u64;
        let last = shipped.last().map(|line| Line {
            offset: offset - line.len() as u64,
            stamp: line[..27].to_owned(),
        });
        [last.as_ref(), None].map(|last| resume(&path, offset, last, segment).unwrap())
    }

    #[test]
    fn what_is_still_there_is_gone_on_from() {
        let shipped = [line(1, "a"), line(2, "b")];
        let all = shipped.concat();
        for more in ["", "half", &line(3, "c")] {
            let now = format!("{all}{more}");
            assert_eq!(resumed(&shipped, &now, Segment::Open), [None, None]);
        }
        assert_eq!(resumed(&[], "half", Segment::Open), [None, None]);
        let torn = [line(1, "a"), line(2, "torn").trim_end().to_owned()];
        assert_eq!(
            resumed(&torn, &torn.concat(), Segment::Closed),
            [None, None]
        );
    }

    #[test]
    fn after_a_cut_the_first_line_that_is_new_comes_next() {
        let shipped = [line(1, "a"), line(2, "cut"), line(3, "cut")];
        let kept = shipped[0].len() as u64;
        // Nothing new, half a line, a line, and lines that end where those cut away ended.
        for (new, by_line) in [
            (String::new(), kept),
            ("2026-11-20T08".to_owned(), kept),
            (line(4, "c"), kept + line(4, "c").len() as u64),
        ] {
            let now = format!("{}{new}", shipped[0]);
            assert_eq!(
                resumed(&shipped, &now, Segment::Open),
                [Some(kept), Some(by_line)]
            );
        }
        let same = [shipped[0].clone(), line(4, "new"), line(5, "new")].concat();
        assert_eq!(resumed(&shipped, &same, Segment::Open), [Some(kept), None]);
        let long = line(4, &"x".repeat(99));
        let now = format!("{}{long}{}", shipped[0], line(5, "d"));
        assert_eq!(
            resumed(&shipped, &now, Segment::Open),
            [Some(kept), Some(kept)]
        );
        assert_eq!(resumed(&shipped, "", Segment::Closed), [Some(0), Some(0)]);
    }
}
