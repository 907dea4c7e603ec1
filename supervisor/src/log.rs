//! The bot's log on disk, as [`contract::logs`] lays it out: segments, cut at 8 MiB and at UTC midnight.
//!
//! Writing never fails the caller: what the disk does not take is counted and told in one line once it takes
//! lines again. Over eight segments the oldest goes; how many of its lines were not shipped is told the same way.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use contract::file;
use contract::logs::{self, Position};
use contract::record::Synced;

const DAY: u64 = 24 * 60 * 60;

/// The writer of the log.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    synced: PathBuf,
    segment: Option<Segment>,
    batch: Vec<u8>,
    lines: u64,
    lost: u64,
    dropped: u64,
    dropped_untold: u64,
    complained: Complaint,
}

#[derive(Debug)]
struct Segment {
    file: File,
    number: u64,
    size: u64,
    day: u64,
}

/// Whether the journal has been told that the log cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complaint {
    Silent,
    Told,
}

impl Log {
    /// A log in `folder`; what has been shipped of it is read from `synced`. Nothing is opened before it is needed.
    pub fn new(folder: &Path, synced: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            synced: synced.to_owned(),
            segment: None,
            batch: Vec::new(),
            lines: 0,
            lost: 0,
            dropped: 0,
            dropped_untold: 0,
            complained: Complaint::Silent,
        }
    }

    /// Lines that were dropped unshipped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes one line, which goes out with the next [`Log::flush`].
    pub fn line(&mut self, line: &[u8], stamp: &str) {
        self.batch.extend_from_slice(stamp.as_bytes());
        self.batch.extend_from_slice(line);
        self.batch.push(b'\n');
        self.lines += 1;
    }

    /// Writes the lines taken, in one write.
    pub fn flush(&mut self, now: SystemTime) {
        if self.batch.is_empty() {
            return;
        }
        let written = self.write(now);
        self.batch.clear();
        self.batch.shrink_to(16 << 10);
        let lines = std::mem::take(&mut self.lines);
        match written {
            Ok(()) => self.complained = Complaint::Silent,
            Err(err) => {
                self.lost += lines;
                if self.complained == Complaint::Silent {
                    self.complained = Complaint::Told;
                    let folder = self.folder.display();
                    contract::error!(
                        "write the bot's log in {folder}: {err}; its lines are lost until that works"
                    );
                }
            }
        }
    }

    fn write(&mut self, now: SystemTime) -> io::Result<()> {
        let today = day(now);
        let fits = |s: &Segment| s.size < logs::SEGMENT_BYTES && s.day == today;
        if !self.segment.as_ref().is_some_and(fits) {
            self.segment = None;
            self.segment = Some(self.open(today)?);
            // One that cannot be removed is no reason to lose lines.
            if let Err(err) = self.drop_oldest() {
                contract::warn!("drop the oldest of the bot's log: {err}");
            }
        }
        let notes = self.notes(&logs::stamp(now));
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        let text = [notes.as_slice(), &self.batch].concat();
        if let Err(err) = segment.file.write_all(&text) {
            // Half a line must not stay: what follows would be taken for its end.
            let cut = segment.file.set_len(segment.size);
            if cut.is_err() || err.kind() != io::ErrorKind::StorageFull {
                self.segment = None;
            }
            return Err(err);
        }
        segment.size += text.len() as u64;
        (self.lost, self.dropped_untold) = (0, 0);
        Ok(())
    }

    /// What the log says about itself, as lines of the log.
    fn notes(&self, stamp: &str) -> Vec<u8> {
        let mut notes = Vec::new();
        if self.lost > 0 {
            let lost = self.lost;
            let text = format!(
                "{stamp}{{\"level\":\"warn\",\"message\":\"the0: {lost} log lines were lost: the disk did not take them\"}}\n"
            );
            notes.extend_from_slice(text.as_bytes());
        }
        if self.dropped_untold > 0 {
            let dropped = self.dropped_untold;
            let text = format!(
                "{stamp}{{\"level\":\"warn\",\"message\":\"the0: {dropped} log lines were dropped before they could be sent to the store\"}}\n"
            );
            notes.extend_from_slice(text.as_bytes());
        }
        notes
    }

    /// Opens the segment to write to: the last one if it is today's, not full and whole, else a new one.
    fn open(&self, today: u64) -> io::Result<Segment> {
        fs::create_dir_all(&self.folder)?;
        let number = match logs::segments(&self.folder)?.pop() {
            None => self.shipped().segment.saturating_add(1),
            Some((number, path)) if continues(&path, today)? => number,
            // After the last number there is (somebody else's, then) only that segment itself is left to write on.
            Some((number, _)) => number.saturating_add(1),
        };
        let path = self.folder.join(logs::segment_name(number));
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        self.link(number)?;
        Ok(Segment {
            file,
            number,
            size,
            day: today,
        })
    }

    fn link(&self, number: u64) -> io::Result<()> {
        let temporary = self
            .folder
            .join(format!(".{}.{}.tmp", logs::CURRENT, std::process::id()));
        file::remove(&temporary)?;
        symlink(logs::segment_name(number), &temporary)?;
        fs::rename(&temporary, self.folder.join(logs::CURRENT))
    }

    fn shipped(&self) -> Position {
        let synced: io::Result<Option<Synced>> = file::read_json(&self.synced);
        synced
            .ok()
            .flatten()
            .map_or(Position::default(), |synced| synced.log)
    }

    fn drop_oldest(&mut self) -> io::Result<()> {
        let segments = logs::segments(&self.folder)?;
        let surplus = segments.len().saturating_sub(logs::SEGMENTS);
        let shipped = self.shipped();
        for (number, path) in segments.into_iter().take(surplus) {
            let current = self.segment.as_ref().is_some_and(|s| s.number == number);
            if current {
                continue;
            }
            let unshipped = match number.cmp(&shipped.segment) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => lines_after(&path, shipped.offset)?,
                std::cmp::Ordering::Greater => lines_after(&path, 0)?,
            };
            file::remove(&path)?;
            self.dropped += unshipped;
            self.dropped_untold += unshipped;
        }
        Ok(())
    }
}

fn day(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        / DAY
}

/// Whether the segment can be written on. One with a torn last line gets its newline and is left at that.
fn continues(path: &Path, today: u64) -> io::Result<bool> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    let meta = file.metadata()?;
    if meta.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            return Ok(false);
        }
    }
    Ok(meta.len() < logs::SEGMENT_BYTES && day(meta.modified()?) == today)
}

fn lines_after(path: &Path, offset: u64) -> io::Result<u64> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut buffer = vec![0u8; 32 << 10];
    let mut lines = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(lines),
            n => lines += buffer[..n].split(|b| *b == b'\n').count() as u64 - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contract::record::{Outcome, Time};

    use super::*;

    fn log(dir: &Path) -> Log {
        Log::new(&dir.join("logs"), &dir.join("synced.json"))
    }

    fn write(log: &mut Log, line: &str, now: SystemTime) {
        log.line(line.as_bytes(), &logs::stamp(now));
        log.flush(now);
    }

    fn names(dir: &Path) -> Vec<u64> {
        logs::segments(&dir.join("logs"))
            .unwrap()
            .into_iter()
            .map(|(number, _)| number)
            .collect()
    }

    fn text(dir: &Path, number: u64) -> String {
        fs::read_to_string(dir.join("logs").join(logs::segment_name(number))).unwrap()
    }

    fn shipped(dir: &Path, segment: u64, offset: u64) {
        let synced = Synced {
            outcome: Outcome::Ok,
            run: 0,
            generation: 1,
            digest: None,
            log: Position { segment, offset },
            ok_at: None,
            at: Time::now(),
            error: None,
            left_out: Vec::new(),
            traffic: None,
            result: None,
        };
        file::replace_json(&dir.join("synced.json"), &synced).unwrap();
    }

    #[test]
    fn lines_carry_their_time_and_the_link_points_at_them() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        write(&mut log(dir.path()), "hello", now);
        write(&mut log(dir.path()), "again", now);
        let linked = fs::read_to_string(dir.path().join("logs/bot.log")).unwrap();
        let lines: Vec<_> = linked
            .lines()
            .map(|l| logs::split_stamp(l.as_bytes()).unwrap().1)
            .collect();
        assert_eq!(lines, [b"hello", b"again"]);
        assert_eq!(names(dir.path()), [1]);
    }

    #[test]
    fn a_day_has_segments_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path());
        let midnight =
            SystemTime::UNIX_EPOCH + Duration::from_secs((day(SystemTime::now()) + 1) * DAY);
        write(&mut log, "before", midnight - Duration::from_millis(1));
        write(&mut log, "after", midnight);
        assert_eq!(names(dir.path()), [1, 2]);
        assert!(text(dir.path(), 2).ends_with("after\n"));
    }

    #[test]
    fn a_torn_line_is_ended_and_left_in_its_segment() {
        let dir = tempfile::tempdir().unwrap();
        write(&mut log(dir.path()), "whole", SystemTime::now());
        let path = dir.path().join("logs").join(logs::segment_name(1));
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"torn")
            .unwrap();
        write(&mut log(dir.path()), "next", SystemTime::now());
        assert!(text(dir.path(), 1).ends_with("whole\ntorn\n"));
        assert!(text(dir.path(), 2).ends_with("next\n"));
    }

    #[test]
    fn numbers_are_not_used_again_when_all_was_shipped_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        shipped(dir.path(), 5, 100);
        write(&mut log(dir.path()), "x", SystemTime::now());
        assert_eq!(names(dir.path()), [6]);
    }

    #[test]
    fn the_last_number_there_is_ends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        shipped(dir.path(), u64::MAX, 100);
        let old = SystemTime::UNIX_EPOCH;
        write(&mut log(dir.path()), "one", SystemTime::now());
        let path = dir.path().join("logs").join(logs::segment_name(u64::MAX));
        let file = OpenOptions::new().append(true).open(path).unwrap();
        file.set_modified(old).unwrap();
        write(&mut log(dir.path()), "two", SystemTime::now());
        assert_eq!(names(dir.path()), [u64::MAX]);
        let text = text(dir.path(), u64::MAX);
        assert!(text.contains("one\n") && text.ends_with("two\n"), "{text}");
    }

    #[test]
    fn an_oldest_segment_that_cannot_be_removed_costs_no_lines() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("logs");
        fs::create_dir_all(&folder).unwrap();
        for number in 1..=8 {
            fs::create_dir(folder.join(logs::segment_name(number))).unwrap();
        }
        fs::write(folder.join(logs::segment_name(9)), "").unwrap();
        write(&mut log(dir.path()), "new", SystemTime::now());
        assert!(text(dir.path(), 9).ends_with("new\n"));
    }

    #[test]
    fn the_oldest_segment_goes_first_and_its_unshipped_lines_are_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("logs");
        fs::create_dir_all(&folder).unwrap();
        for number in 1..=10 {
            fs::write(folder.join(logs::segment_name(number)), "a\nb\nc\n").unwrap();
            let old = File::options()
                .append(true)
                .open(folder.join(logs::segment_name(number)))
                .unwrap();
            old.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        shipped(dir.path(), 2, 2);
        let mut log = log(dir.path());
        write(&mut log, "new", SystemTime::now());
        assert_eq!(names(dir.path()), (4..=11).collect::<Vec<_>>());
        assert_eq!(
            log.dropped(),
            2 + 3,
            "all of 1 was shipped, the first line of 2"
        );
        write(&mut log, "newer", SystemTime::now());
        let told: Vec<_> = text(dir.path(), 11)
            .lines()
            .filter(|l| l.contains("5 log lines were dropped"))
            .map(str::to_owned)
            .collect();
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn a_segment_is_closed_when_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path());
        let long = "x".repeat(logs::LONGEST_LINE);
        for _ in 0..=logs::SEGMENT_BYTES / logs::LONGEST_LINE as u64 {
            write(&mut log, &long, SystemTime::now());
        }
        assert_eq!(names(dir.path()), [1, 2]);
    }

    #[test]
    fn what_the_disk_does_not_take_is_counted_and_told_when_it_works_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("logs"), b"in the way").unwrap();
        let mut log = log(dir.path());
        write(&mut log, "one", SystemTime::now());
        write(&mut log, "two", SystemTime::now());
        fs::remove_file(dir.path().join("logs")).unwrap();
        write(&mut log, "three", SystemTime::now());
        let text = text(dir.path(), 1);
        assert!(
            text.contains("2 log lines were lost") && text.ends_with("three\n"),
            "{text}"
        );
    }
}
