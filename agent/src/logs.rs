//! `agent logs`: a bot's log from the segments on this machine, with or without an agent.
//!
//! Segments are read in order; `-f` goes on with the next one when the one being read is complete. One that is
//! removed while it is read (its content is in the store) is read to its end all the same.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contract::logs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How often a log that is followed is looked at.
const RHYTHM: Duration = Duration::from_millis(200);

/// How much of a log is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// All that is on this machine.
    All,
    /// The last lines.
    Lines(usize),
}

/// What there is of a log before what was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing that was asked for.
    Nothing,
    /// Lines that were asked for and are on this machine no more.
    Earlier,
}

/// Whether the time in front of each line is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamps {
    /// Shown.
    Shown,
    /// Left out.
    Hidden,
}

/// A reader of one bot's log.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    stamps: Stamps,
    /// The segment being read.
    at: Option<(u64, File)>,
    /// The segment read to its end.
    done: u64,
    partial: Vec<u8>,
}

impl Log {
    /// The log in `folder`.
    pub fn new(folder: &Path, stamps: Stamps) -> Self {
        Self {
            folder: folder.to_owned(),
            stamps,
            at: None,
            done: 0,
            partial: Vec::new(),
        }
    }

    /// Writes the end of the log and stands behind it.
    ///
    /// # Errors
    /// The log cannot be read, or `out` not be written.
    pub fn tail(&mut self, tail: Tail, out: &mut impl Write) -> io::Result<Before> {
        let segments = logs::segments(&self.folder)?;
        // Segments are numbered from 1 and removed oldest first.
        let earlier = match segments.first() {
            Some((first, _)) if *first > 1 => Before::Earlier,
            _ => Before::Nothing,
        };
        let Tail::Lines(count) = tail else {
            return self.read_on(out).map(|()| earlier);
        };
        let mut before = None;
        let mut lines = 0;
        for (number, path) in segments.into_iter().rev() {
            let Some(content) = read(&path)? else {
                continue;
            };
            before = Some((number, start_of_last(&content, count - lines)));
            lines += content.split(|b| *b == b'\n').count() - 1;
            if lines >= count {
                break;
            }
        }
        if let Some((number, offset)) = before
            && let Some(mut file) = open(&self.folder.join(logs::segment_name(number)))?
        {
            file.seek(SeekFrom::Start(offset))?;
            self.at = Some((number, file));
        }
        self.read_on(out)?;
        Ok(if lines < count {
            earlier
        } else {
            Before::Nothing
        })
    }

    /// Writes what has come since.
    ///
    /// # Errors
    /// As [`Self::tail`].
    pub fn read_on(&mut self, out: &mut impl Write) -> io::Result<()> {
        loop {
            // Looked for before reading: what is older than a newer segment is complete.
            let next = self.next_segment()?;
            if let Some((_, file)) = &mut self.at {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                self.show(&bytes, out)?;
            }
            let Some((number, path)) = next else { break };
            if let Some((number, _)) = self.at.take() {
                self.done = number;
                // What a crash tore off is not a line.
                self.partial.clear();
            }
            match open(&path)? {
                Some(file) => self.at = Some((number, file)),
                None => self.done = number,
            }
        }
        out.flush()
    }

    /// Goes on for ever, or until nobody reads `out` any more: a silent bot's log would not be written, and so
    /// not tell.
    ///
    /// # Errors
    /// As [`Self::tail`].
    pub fn follow(&mut self, out: &mut (impl Write + AsFd)) -> io::Result<()> {
        loop {
            self.read_on(out)?;
            if is_abandoned(out.as_fd(), RHYTHM) {
                return Ok(());
            }
        }
    }

    fn next_segment(&self) -> io::Result<Option<(u64, PathBuf)>> {
        let after = self.at.as_ref().map_or(self.done, |(number, _)| *number);
        let segments = logs::segments(&self.folder)?;
        Ok(segments.into_iter().find(|(number, _)| *number > after))
    }

    fn show(&mut self, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
        self.partial.extend_from_slice(bytes);
        let Some(end) = self.partial.iter().rposition(|b| *b == b'\n') else {
            return Ok(());
        };
        let rest = self.partial.split_off(end + 1);
        for line in self.partial.split_inclusive(|b| *b == b'\n') {
            let line = match (self.stamps, logs::split_stamp(line)) {
                (Stamps::Hidden, Some((_, text))) => text,
                _ => line,
            };
            out.write_all(line)?;
        }
        self.partial = rest;
        Ok(())
    }
}

/// Waits for `pause`, or until the reader of the pipe `out` is gone.
fn is_abandoned(out: BorrowedFd<'_>, pause: Duration) -> bool {
    let since = Instant::now();
    let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
    let mut ask = [PollFd::new(out, PollFlags::empty())];
    let gone = poll(&mut ask, timeout).is_ok_and(|count| count > 0)
        && ask[0]
            .revents()
            .is_some_and(|told| told.contains(PollFlags::POLLERR));
    if !gone {
        std::thread::sleep(pause.saturating_sub(since.elapsed()));
    }
    gone
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(mut file) = open(path)? else {
        return Ok(None);
    };
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Where the last `count` whole lines begin.
fn start_of_last(content: &[u8], count: usize) -> u64 {
    let ends = content
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, b)| **b == b'\n');
    let start = ends.map(|(at, _)| at + 1).nth(count);
    let start = if count == 0 {
        content.iter().rposition(|b| *b == b'\n').map(|at| at + 1)
    } else {
        start
    };
    start.unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn append(dir: &Path, segment: u64, text: &str) {
        let path = dir.join(logs::segment_name(segment));
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn line(text: &str) -> String {
        format!("{}{text}\n", logs::stamp(std::time::SystemTime::UNIX_EPOCH))
    }

    fn tail(dir: &Path, tail: Tail) -> String {
        let mut out = Vec::new();
        Log::new(dir, Stamps::Hidden).tail(tail, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_lines_are_found_across_segments() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tail(dir.path(), Tail::Lines(5)), "");
        append(dir.path(), 1, &(line("a") + &line("b")));
        append(dir.path(), 2, &line("c"));
        append(
            dir.path(),
            4,
            &(line("d") + "1970-01-01T00:00:00.000000Z half"),
        );
        assert_eq!(tail(dir.path(), Tail::All), "a\nb\nc\nd\n");
        for (count, expected) in [
            (0, ""),
            (1, "d\n"),
            (2, "c\nd\n"),
            (3, "b\nc\nd\n"),
            (9, "a\nb\nc\nd\n"),
        ] {
            assert_eq!(tail(dir.path(), Tail::Lines(count)), expected, "{count}");
        }
    }

    #[test]
    fn a_log_whose_beginning_is_gone_says_so_to_who_asks_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let tail = |tail| {
            Log::new(dir.path(), Stamps::Hidden)
                .tail(tail, &mut Vec::new())
                .unwrap()
        };
        assert_eq!(tail(Tail::All), Before::Nothing);
        append(dir.path(), 1, &(line("a") + &line("b")));
        append(dir.path(), 2, &line("c"));
        assert_eq!(tail(Tail::All), Before::Nothing);
        fs::remove_file(dir.path().join(logs::segment_name(1))).unwrap();
        assert_eq!(tail(Tail::All), Before::Earlier);
        assert_eq!(tail(Tail::Lines(2)), Before::Earlier);
        assert_eq!(tail(Tail::Lines(1)), Before::Nothing);
    }

    #[test]
    fn following_goes_over_rotation_and_removed_segments_without_loss() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::new(dir.path(), Stamps::Hidden);
        let mut out = Vec::new();
        log.tail(Tail::Lines(1), &mut out).unwrap();
        append(dir.path(), 1, &(line("a") + &line("b")[..20]));
        log.read_on(&mut out).unwrap();
        append(dir.path(), 1, &line("b")[20..]);
        append(dir.path(), 1, &line("c"));
        fs::remove_file(dir.path().join(logs::segment_name(1))).unwrap();
        append(dir.path(), 2, &line("d"));
        append(dir.path(), 3, &line("e"));
        log.read_on(&mut out).unwrap();
        log.read_on(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\nb\nc\nd\ne\n");
    }

    #[test]
    fn times_are_shown_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), 1, &line("a"));
        let mut out = Vec::new();
        Log::new(dir.path(), Stamps::Shown)
            .tail(Tail::All, &mut out)
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "1970-01-01T00:00:00.000000Z a\n"
        );
    }
}
