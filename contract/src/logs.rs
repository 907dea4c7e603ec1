//! The bot's log on disk, between the supervisor that writes it and `sync` that ships it.
//!
//! ```text
//! logs/bot.00000000000000000007.log   a closed segment
//! logs/bot.00000000000000000008.log   the one being written
//! logs/bot.log -> bot.00000000000000000008.log
//! ```
//!
//! A line is `2026-11-21T07:52:48.123456Z <the bytes the bot wrote>\n`: the time it was written first, so that it
//! belongs to its UTC day whenever it is shipped. Segments are numbered without reuse, so a [`Position`] stays
//! meaningful over rotation, restarts and dropped segments. The writer appends whole lines only; what a crash
//! tore off at the end of a segment is not a line and is ended by the next writer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A segment is closed when it has reached this size, in bytes.
pub const SEGMENT_BYTES: u64 = 8 << 20;
/// Segments on disk at most, the one being written included; then the oldest is dropped.
pub const SEGMENTS: usize = 8;
/// Longest line in bytes; what is beyond is cut and counted in a marker at the line's end.
pub const LONGEST_LINE: usize = 256 << 10;
/// The link to the segment being written.
pub const CURRENT: &str = "bot.log";

/// A place in the log: a segment's number and an offset in it, in bytes. The default is before everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The segment's number, from 1.
    pub segment: u64,
    /// Bytes from its start.
    pub offset: u64,
}

/// The file name of the segment `number`.
pub fn segment_name(number: u64) -> String {
    format!("bot.{number:020}.log")
}

/// The number of the segment with this file name.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("bot.")?.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The segments in `folder`, oldest first; none when there is no such folder.
///
/// # Errors
/// The folder cannot be read.
pub fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(segment_number) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The time in front of a line of the log, with its space: always 28 bytes.
pub fn stamp(now: SystemTime) -> String {
    format!("{} ", humantime::format_rfc3339_micros(now))
}

/// Splits a line of the log into the time in front and what the bot wrote; `None` where no time is in front.
pub fn split_stamp(line: &[u8]) -> Option<(&str, &[u8])> {
    let (stamp, rest) = line.split_at_checked(28)?;
    let shape = |(i, b): (usize, &u8)| match i {
        4 | 7 => *b == b'-',
        10 => *b == b'T',
        13 | 16 => *b == b':',
        19 => *b == b'.',
        26 => *b == b'Z',
        27 => *b == b' ',
        _ => b.is_ascii_digit(),
    };
    stamp
        .iter()
        .enumerate()
        .all(shape)
        .then(|| (std::str::from_utf8(&stamp[..27]).unwrap_or(""), rest))
}

/// Turns a stream of bytes into whole lines, each at most [`LONGEST_LINE`] long.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    cut: u64,
}

impl Lines {
    /// Takes `bytes` and gives each line that is complete, without its newline, to `line`.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            let (head, tail) = rest.split_at(at);
            if self.partial.is_empty() && head.len() <= LONGEST_LINE {
                line(head);
            } else {
                self.keep(head);
                self.end(&mut line);
            }
            rest = &tail[1..];
        }
        self.keep(rest);
    }

    /// Gives what has come since the last newline as a line, if anything.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            self.end(&mut line);
        }
    }

    /// Whether a line has begun and not ended.
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(LONGEST_LINE - self.partial.len());
        self.partial.extend_from_slice(&bytes[..fits]);
        self.cut += (bytes.len() - fits) as u64;
    }

    fn end(&mut self, line: &mut impl FnMut(&[u8])) {
        if self.cut > 0 {
            let marker = format!(" [the0: {} more bytes of this line were cut]", self.cut);
            self.partial.extend_from_slice(marker.as_bytes());
        }
        line(&self.partial);
        self.cut = 0;
        self.partial.clear();
        self.partial.shrink_to(4096);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(chunks: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| out.push(line.to_vec()));
        }
        lines.finish(|line| out.push(line.to_vec()));
        out
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            text in "[ab\n]{0,200}", cuts in prop::collection::vec(0usize..200, 0..8)
        ) {
            let bytes = text.as_bytes();
            let mut at: Vec<_> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<_> = at.windows(2).map(|w| bytes[w[0]..w[1]].to_vec()).collect();
            let mut expected: Vec<_> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) { expected.pop(); }
            prop_assert_eq!(collect(&chunks), expected);
        }
    }

    #[test]
    fn a_long_line_is_cut_with_a_marker_that_counts() {
        let mut text = vec![b'x'; LONGEST_LINE + 7];
        text.extend_from_slice(b"\nnext\n");
        for chunk in [text.len(), 1000] {
            let chunks: Vec<_> = text.chunks(chunk).map(<[u8]>::to_vec).collect();
            let lines = collect(&chunks);
            assert_eq!(lines.len(), 2);
            assert!(lines[0].ends_with(b" [the0: 7 more bytes of this line were cut]"));
            assert_eq!(lines[1], b"next");
        }
    }

    #[test]
    fn a_stamp_comes_off_as_it_went_on() {
        let line = [stamp(SystemTime::UNIX_EPOCH).as_bytes(), b"hello"].concat();
        assert_eq!(
            split_stamp(&line),
            Some(("1970-01-01T00:00:00.000000Z", &b"hello"[..]))
        );
        assert_eq!(split_stamp(b"1970-01-01 no stamp at all here"), None);
        assert_eq!(split_stamp(b""), None);
    }

    #[test]
    fn segments_are_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for number in [10, 2, 9] {
            std::fs::write(dir.path().join(segment_name(number)), b"").unwrap();
        }
        std::fs::write(dir.path().join("bot.1.log"), b"").unwrap();
        let numbers: Vec<_> = segments(dir.path())
            .unwrap()
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        assert_eq!(numbers, [2, 9, 10]);
    }
}
