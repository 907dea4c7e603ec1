//! Bringing the bot's log to the store, a day's object at a time, each line once.
//!
//! How far a log was shipped is noted in the metadata of the day's object, together with the lines (one switch), under
//! the name of the volume the log is on. The local note only says where to look: lines that were appended just before a
//! crash are found in the object that the next line's day names, and not appended again. A log that was cut below what
//! was shipped is gone on with under another name, as that object's position means nothing any more.

mod cut;

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use contract::ObjectKey;
use contract::logs::{self, Position};
use contract::record::Time;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::cut::{Line, Segment};
use crate::ndjson;
use crate::settings::Settings;
use crate::store::{Condition, Error, Head, Metadata, Place, Store};

/// Most bytes of the log read for one append; a line is shorter. An append costs a handful of requests and a copy of
/// the day inside the store, so a log that grows fast goes in large ones.
const CHUNK: usize = 4 << 20;
/// How many volumes' positions an object remembers.
const SOURCES: usize = 8;
/// Metadata: the object has reached its limit and says so.
const CAPPED: &str = "capped";

/// The local note.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// This volume's name.
    source: String,
    /// Everything before it is in the store.
    position: Position,
    /// The day of the line before it, `YYYY-MM-DD`.
    day: String,
    /// The line before it in the same segment, if that has a time and is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Line>,
}

/// Whole lines of one day.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    day: String,
    ndjson: Vec<u8>,
    until: Position,
    last: Option<Line>,
}

/// Ships one bot's log.
#[derive(Debug)]
pub struct Shipper<'a> {
    settings: &'a Settings,
    store: &'a Store,
    note: Note,
    /// The day's object as our last append left it; it need not be looked at before the next.
    left: Option<(Place, Head)>,
}

impl<'a> Shipper<'a> {
    /// Goes on from what is noted.
    pub fn new(settings: &'a Settings, store: &'a Store) -> io::Result<Self> {
        let path = settings.private("log.json");
        let note = if let Some(note) = contract::file::read_json::<Note>(&path)? {
            note
        } else {
            let note = Note {
                source: new_name()?,
                ..Note::default()
            };
            contract::file::replace_json(&path, &note)?;
            note
        };
        Ok(Self {
            settings,
            store,
            note,
            left: None,
        })
    }

    /// Everything before it is in the store.
    pub fn position(&self) -> Position {
        self.note.position
    }

    /// Bytes of the log that are not in the store.
    pub fn waiting(&self) -> u64 {
        let segments = self.segments().unwrap_or_default();
        let size = |(number, path): &(u64, PathBuf)| {
            let size = fs::metadata(path).map_or(0, |found| found.len());
            match number.cmp(&self.note.position.segment) {
                std::cmp::Ordering::Less => 0,
                // Of one that was cut, something may be new: that is found out when it is shipped.
                std::cmp::Ordering::Equal => size
                    .checked_sub(self.note.position.offset)
                    .unwrap_or(size.max(1)),
                std::cmp::Ordering::Greater => size,
            }
        };
        segments.iter().map(size).sum()
    }

    /// The segments that are plain files: a link could lead to what is not the bot's to publish.
    fn segments(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut segments = logs::segments(&self.settings.launch.paths.logs)?;
        segments.retain(|(_, path)| fs::symlink_metadata(path).is_ok_and(|found| found.is_file()));
        Ok(segments)
    }

    /// Ships every whole line there is, and removes segments that are shipped and closed. What is written meanwhile
    /// is for the next time: a log that never rests does not keep the rest from being done.
    pub fn ship(&mut self) -> anyhow::Result<()> {
        self.mend().context("look for where the log goes on")?;
        let mut end = None;
        loop {
            let segments = self.segments().context("look for the log")?;
            let end = *end.get_or_insert_with(|| end_of(&segments));
            if self.note.position >= end {
                return self
                    .clean(&segments)
                    .context("remove a shipped segment of the log");
            }
            let today = Time::now().to_string();
            let day = if self.note.day.is_empty() {
                &today[..10]
            } else {
                &self.note.day
            };
            let Some(chunk) =
                next_chunk(&segments, self.note.position, day).context("read the log")?
            else {
                return self
                    .clean(&segments)
                    .context("remove a shipped segment of the log");
            };
            self.append(chunk)?;
        }
    }

    /// Goes back to where the log goes on, if it was cut below what was shipped of it.
    fn mend(&mut self) -> anyhow::Result<()> {
        let segments = self.segments()?;
        let Position { segment, offset } = self.note.position;
        let Some((_, path)) = segments.iter().find(|(number, _)| *number == segment) else {
            return Ok(());
        };
        let state = match segments.last() {
            Some((newest, _)) if *newest > segment => Segment::Closed,
            _ => Segment::Open,
        };
        let resumed = match cut::resume(path, offset, self.note.last.as_ref(), state) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            resumed => resumed?,
        };
        let Some(resumed) = resumed else {
            return Ok(());
        };
        contract::warn!(
            "{} was cut after {offset} bytes of it were shipped, going on at {resumed}",
            path.display()
        );
        self.note(Note {
            source: new_name()?,
            position: Position {
                segment,
                offset: resumed,
            },
            day: self.note.day.clone(),
            last: None,
        })
    }

    fn append(&mut self, chunk: Chunk) -> anyhow::Result<()> {
        if chunk.ndjson.is_empty() {
            return self.advance(chunk.until, chunk);
        }
        let key = ObjectKey::log(&self.settings.launch.bot, &chunk.day)?;
        let at = Place::new(&self.settings.places.logs_bucket, key);
        for _ in 0..10 {
            let head = match self.left.take() {
                Some((left, head)) if left == at => Some(head),
                _ => self.store.head(&at)?,
            };
            let known = head
                .as_ref()
                .and_then(|head| position_of(head, &self.note.source));
            if let Some(known) = known.filter(|known| *known > self.note.position) {
                // Appended before a crash, and not noted here.
                return self.advance(known, chunk);
            }
            let Some((metadata, bytes)) = self.to_append(&chunk, head.as_ref()) else {
                self.left = head.map(|head| (at, head));
                return self.advance(chunk.until, chunk);
            };
            let condition = Condition::still(head.as_ref().map(|head| &head.etag));
            match self.store.append(&at, &condition, &metadata, &bytes) {
                Ok(etag) => {
                    let size = head.map_or(0, |head| head.size) + bytes.len() as u64;
                    let head = Head {
                        etag,
                        size,
                        metadata,
                    };
                    self.left = Some((at, head));
                    return self.advance(chunk.until, chunk);
                }
                Err(Error::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::bail!("{at} keeps changing under us")
    }

    /// What is appended and noted; `None` when the day is full and says so already.
    fn to_append<'c>(
        &self,
        chunk: &'c Chunk,
        head: Option<&Head>,
    ) -> Option<(Metadata, Cow<'c, [u8]>)> {
        let mut metadata = head.map(|head| head.metadata.clone()).unwrap_or_default();
        note_position(
            &mut metadata,
            &self.note.source,
            chunk.until,
            SystemTime::now(),
        );
        let there = head.map_or(0, |head| head.size);
        let room = usize::try_from(self.settings.largest_log.saturating_sub(there));
        let fits = lines_within(&chunk.ndjson, room.unwrap_or(usize::MAX));
        if fits.len() == chunk.ndjson.len() {
            return Some((metadata, Cow::Borrowed(fits)));
        }
        if metadata.insert(CAPPED.to_owned(), "1".to_owned()).is_some() {
            return None;
        }
        let mib = self.settings.largest_log >> 20;
        contract::warn!(
            "the log of {} has reached {mib} MiB, the rest of the day is not kept",
            chunk.day
        );
        let text = format!(
            "the0: the log of this day has reached its limit of {mib} MiB (THE0_MAX_DAY_LOG_MB), the rest is not kept"
        );
        let mut bytes = fits.to_vec();
        ndjson::append(&Time::now().to_string(), text.as_bytes(), &mut bytes);
        Some((metadata, Cow::Owned(bytes)))
    }

    fn advance(&mut self, position: Position, chunk: Chunk) -> anyhow::Result<()> {
        self.note(Note {
            source: self.note.source.clone(),
            last: chunk.last.filter(|_| position == chunk.until),
            day: chunk.day,
            position,
        })
    }

    fn note(&mut self, note: Note) -> anyhow::Result<()> {
        contract::file::replace_json(&self.settings.private("log.json"), &note)
            .context("note how far the log is shipped")?;
        self.note = note;
        Ok(())
    }

    fn clean(&self, segments: &[(u64, PathBuf)]) -> anyhow::Result<()> {
        let open = segments.last().map_or(0, |(number, _)| *number);
        for (number, path) in segments {
            if *number < open && *number < self.note.position.segment {
                contract::file::remove(path)?;
            }
        }
        Ok(())
    }
}

/// The whole lines at the start of `text` that are at most `room` bytes.
fn lines_within(text: &[u8], room: usize) -> &[u8] {
    let most = &text[..room.min(text.len())];
    let end = most.iter().rposition(|b| *b == b'\n');
    &most[..end.map_or(0, |end| end + 1)]
}

/// A name for a volume's log that no other has.
fn new_name() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(id.trim().to_owned())
}

fn end_of(segments: &[(u64, PathBuf)]) -> Position {
    segments
        .last()
        .map_or(Position::default(), |(number, path)| Position {
            segment: *number,
            offset: fs::symlink_metadata(path).map_or(0, |found| found.len()),
        })
}

fn position_of(head: &Head, source: &str) -> Option<Position> {
    let text = head.metadata.get(&format!("source-{source}"))?;
    let mut parts = text.split(':');
    let mut number = || parts.next()?.parse().ok();
    Some(Position {
        segment: number()?,
        offset: number()?,
    })
}

/// Notes a position as `segment:offset:seconds`, and forgets those not heard of for longest.
fn note_position(metadata: &mut Metadata, source: &str, at: Position, now: SystemTime) {
    let seconds = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let text = format!("{}:{}:{seconds}", at.segment, at.offset);
    metadata.insert(format!("source-{source}"), text);
    let mut sources: Vec<(u64, String)> = metadata
        .iter()
        .filter(|(name, _)| name.starts_with("source-"))
        .map(|(name, text)| {
            (
                text.rsplit(':')
                    .next()
                    .and_then(|t| t.parse().ok())
                    .unwrap_or(0),
                name.clone(),
            )
        })
        .collect();
    sources.sort();
    for (_, name) in sources.iter().take(sources.len().saturating_sub(SOURCES)) {
        metadata.remove(name);
    }
}

/// The next whole lines of one day from `at` on; `day` is that of lines without a time in front.
fn next_chunk(segments: &[(u64, PathBuf)], at: Position, day: &str) -> io::Result<Option<Chunk>> {
    let open = segments.last().map_or(0, |(number, _)| *number);
    for (number, path) in segments.iter().filter(|(number, _)| *number >= at.segment) {
        let offset = if *number == at.segment { at.offset } else { 0 };
        let bytes = match read_at(path, offset, CHUNK) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let whole = match bytes.iter().rposition(|b| *b == b'\n') {
            Some(end) => &bytes[..=end],
            // A line torn off at the end of a closed segment is not continued anywhere.
            None if *number < open => &bytes[..],
            None => &[],
        };
        if !whole.is_empty() {
            return Ok(Some(lines_of_a_day(
                whole,
                Position {
                    segment: *number,
                    offset,
                },
                day,
            )));
        }
        if *number < open && at.segment <= *number {
            let until = Position {
                segment: number + 1,
                offset: 0,
            };
            return Ok(Some(Chunk {
                day: day.to_owned(),
                ndjson: Vec::new(),
                until,
                last: None,
            }));
        }
    }
    Ok(None)
}

fn read_at(path: &Path, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    // A link or a FIFO that took its place is not followed and not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP) => return Err(io::ErrorKind::NotFound.into()),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The lines at the start of `whole` that are of one day.
fn lines_of_a_day(whole: &[u8], at: Position, day: &str) -> Chunk {
    let mut chunk = Chunk {
        day: day.to_owned(),
        ndjson: Vec::new(),
        until: at,
        last: None,
    };
    for line in whole.split_inclusive(|b| *b == b'\n') {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let unstamped = format!("{}T00:00:00.000000Z", chunk.day);
        let (stamp, text) = logs::split_stamp(bare).unwrap_or((&unstamped, bare));
        if stamp[..10] != chunk.day {
            if chunk.until != at {
                break;
            }
            stamp[..10].clone_into(&mut chunk.day);
        }
        chunk.last = logs::split_stamp(bare).map(|(stamp, _)| Line {
            offset: chunk.until.offset,
            stamp: stamp.to_owned(),
        });
        ndjson::append(stamp, text, &mut chunk.ndjson);
        chunk.until.offset += line.len() as u64;
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(dir: &Path, number: u64, text: &str) {
        fs::write(dir.join(logs::segment_name(number)), text).unwrap();
    }

    fn chunks(dir: &Path) -> Vec<(String, String)> {
        let segments = logs::segments(dir).unwrap();
        let (mut at, mut all, mut day) = (Position::default(), Vec::new(), "2000-01-01".to_owned());
        while let Some(chunk) = next_chunk(&segments, at, &day).unwrap() {
            assert!(chunk.until > at);
            (at, day) = (chunk.until, chunk.day.clone());
            if !chunk.ndjson.is_empty() {
                all.push((chunk.day, String::from_utf8(chunk.ndjson).unwrap()));
            }
        }
        all
    }

    #[test]
    fn lines_go_to_the_day_they_were_written_on_and_unfinished_ones_wait() {
        let dir = tempfile::tempdir().unwrap();
        let line = |day: &str, text: &str| format!("{day}T23:59:59.999999Z {text}");
        let two = format!(
            "{}\n{}\n{}",
            line("2026-01-01", "a"),
            line("2026-01-02", "b"),
            line("2026-01-02", "torn")
        );
        segment(dir.path(), 3, &two);
        segment(
            dir.path(),
            5,
            &format!(
                "{}\n\n{}",
                line("2026-01-02", "c"),
                line("2026-01-03", "unfinished")
            ),
        );
        let all = chunks(dir.path());
        let days: Vec<_> = all.iter().map(|(day, _)| day.as_str()).collect();
        assert_eq!(
            days,
            ["2026-01-01", "2026-01-02", "2026-01-02", "2026-01-02"]
        );
        let text: String = all.into_iter().map(|(_, text)| text).collect();
        assert_eq!(text.lines().count(), 4);
        assert!(text.contains("torn") && !text.contains("unfinished"));
    }

    #[test]
    fn an_object_remembers_the_volumes_heard_of_last() {
        let mut metadata = Metadata::from([("capped".into(), "1".into())]);
        for n in 0..20u64 {
            let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n);
            note_position(
                &mut metadata,
                &n.to_string(),
                Position {
                    segment: n,
                    offset: 7,
                },
                now,
            );
        }
        assert_eq!(metadata.len(), SOURCES + 1);
        let head = Head {
            etag: crate::store::Etag(String::new()),
            size: 0,
            metadata,
        };
        assert_eq!(
            position_of(&head, "19"),
            Some(Position {
                segment: 19,
                offset: 7
            })
        );
        assert_eq!(position_of(&head, "3"), None);
    }
}
