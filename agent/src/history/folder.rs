//! History as lines of JSON beside each bot's folder: `bots/<id>/history.jsonl`.
//!
//! A later line about a run replaces an earlier one. The file is written anew, whole or not at all, when it has grown
//! to twice what is kept.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use contract::{BotId, file};

use super::entry::Entry;
use super::{AGE, KEPT};

/// Bytes of a file before it is written anew.
const ROOM: u64 = 16 << 20;

/// The files.
#[derive(Debug)]
pub struct Folder {
    bots: PathBuf,
    /// Lines in each file, as far as they were counted.
    lines: HashMap<BotId, usize>,
}

impl Folder {
    /// Those of the data folder `data`.
    pub fn new(data: &Path) -> Self {
        Self {
            bots: data.join("bots"),
            lines: HashMap::new(),
        }
    }

    fn path(&self, bot: &BotId) -> PathBuf {
        self.bots.join(bot.as_str()).join("history.jsonl")
    }

    /// The last `count` records of a bot, oldest first.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn list(&mut self, bot: &BotId, count: usize) -> io::Result<Vec<Entry>> {
        let lines: Vec<Entry> = file::read_json_lines(&self.path(bot))?;
        self.lines.insert(bot.clone(), lines.len());
        let mut entries = latest(lines);
        entries.drain(..entries.len().saturating_sub(count));
        Ok(entries)
    }

    /// Writes a record down.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn put(&mut self, entry: &Entry) -> io::Result<()> {
        let path = self.path(&entry.bot);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        file::append_json_line(&path, entry)?;
        let lines = self.lines.entry(entry.bot.clone()).or_default();
        *lines += 1;
        let size = std::fs::metadata(&path).map_or(0, |found| found.len());
        if *lines > 2 * KEPT || size > ROOM {
            self.shorten(&entry.bot, &path)?;
        }
        Ok(())
    }

    fn shorten(&mut self, bot: &BotId, path: &Path) -> io::Result<()> {
        let kept = kept(latest(file::read_json_lines(path)?));
        let mut text = Vec::new();
        for entry in &kept {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        file::replace(path, &text)?;
        self.lines.insert(bot.clone(), kept.len());
        Ok(())
    }
}

/// One record a run: the last that was written. Oldest first.
fn latest(lines: Vec<Entry>) -> Vec<Entry> {
    let mut by_key: HashMap<String, Entry> = HashMap::new();
    for entry in lines {
        by_key.insert(entry.key(), entry);
    }
    let mut entries: Vec<Entry> = by_key.into_values().collect();
    entries.sort_by_key(|entry| (entry.started_at, entry.run));
    entries
}

/// What is neither too old nor too much; data of results go first.
fn kept(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.retain(|entry| entry.ended_at.is_none_or(|at| at.age() <= AGE));
    entries.drain(..entries.len().saturating_sub(KEPT));
    let mut room = ROOM / 4;
    let mut all: VecDeque<Entry> = VecDeque::with_capacity(entries.len());
    for entry in entries.into_iter().rev() {
        let size = serde_json::to_string(&entry).map_or(0, |text| text.len() as u64);
        let fits = size <= room;
        room = if fits { room - size } else { room };
        all.push_front(if fits { entry } else { entry.light() });
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{birth, bot, time};

    fn entry(n: u64) -> Entry {
        Entry::open(&bot(), &birth(time(0)), n, time(1_000_000 + n))
    }

    #[test]
    fn a_run_that_is_written_twice_is_one_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(dir.path());
        assert!(folder.list(&bot(), 9).unwrap().is_empty());
        let mut first = entry(1);
        folder.put(&first).unwrap();
        folder.put(&entry(2)).unwrap();
        first.end(first.started_at);
        folder.put(&first).unwrap();
        folder.put(&first).unwrap();
        assert_eq!(folder.list(&bot(), 9).unwrap(), [first, entry(2)]);
        assert_eq!(folder.list(&bot(), 1).unwrap().len(), 1);
    }

    #[test]
    fn the_file_is_bounded_by_count_and_age() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(dir.path());
        let mut old = entry(1);
        old.started_at = time(0);
        old.end(time(1));
        folder.put(&old).unwrap();
        let path = folder.path(&bot());
        let lines: Vec<String> = (2..=2000)
            .map(|n| serde_json::to_string(&entry(n)).unwrap() + "\n")
            .collect();
        let text = std::fs::read_to_string(&path).unwrap() + &lines.concat();
        std::fs::write(&path, text).unwrap();
        folder.list(&bot(), 1).unwrap();
        folder.put(&entry(2001)).unwrap();
        let entries = folder.list(&bot(), usize::MAX).unwrap();
        assert_eq!(entries.len(), KEPT);
        assert_eq!(entries.last().unwrap().run, 2001);
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert_eq!(lines, KEPT, "the file itself is short");
    }

    #[test]
    fn what_is_too_old_is_not_kept() {
        let mut old = entry(1);
        old.started_at = time(0);
        old.end(time(1));
        assert_eq!(kept(vec![old, entry(2)]), [entry(2)]);
    }
}
