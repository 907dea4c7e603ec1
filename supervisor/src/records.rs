//! What is written down in `/var/the0` about runs: `done`, `done.json`, `runs.jsonl`, `status.json`.
//!
//! A disk that takes nothing is told in the journal and stops no bot; what it did not take is kept and tried again.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use contract::paths::Paths;
use contract::record::{Numbered, Reason, RunRecord, State, Status, Time};
use contract::{exit, file, last_words};

use crate::machine::Sides;
use crate::signals;

/// Records kept when the file is rewritten.
const KEPT: usize = 1000;
/// Records in the file before it is rewritten.
const MOST: usize = 2000;
/// Bytes of the file before it is rewritten.
const ROOM: u64 = 2 << 20;
/// Bytes of the bots' own data that are kept when the file is rewritten: those of the latest runs.
const DATA: usize = 256 << 10;
/// Between two tries to write what the disk did not take.
const AGAIN: Duration = Duration::from_secs(1);

/// The writer of the records.
#[derive(Debug)]
pub struct Records {
    paths: Paths,
    last_run: u64,
    count: usize,
    owed: Owed,
}

/// What the disk did not take.
#[derive(Debug, Default)]
struct Owed {
    runs: Vec<RunRecord>,
    done: Option<RunRecord>,
    status: Option<Status>,
    again: Option<Instant>,
}

impl Owed {
    fn is_nothing(&self) -> bool {
        self.runs.is_empty() && self.done.is_none() && self.status.is_none()
    }
}

impl Records {
    /// Reads what is there. A run that an earlier supervisor began and nobody recorded is recorded now, as killed for
    /// want of memory if `kills` says that the kernel did that here before us, else as lost.
    pub fn open(paths: &Paths, kills: u64) -> Self {
        let path = paths.runs();
        let runs: Vec<Numbered> = file::read_json_lines(&path).unwrap_or_else(|err| {
            contract::error!(
                "read {}: {err}; runs are numbered from what else is known",
                path.display()
            );
            Vec::new()
        });
        let status: Option<Status> = file::read_json(&paths.status()).ok().flatten();
        let mut records = Self {
            paths: paths.clone(),
            last_run: runs.iter().map(|record| record.run).max().unwrap_or(0),
            count: runs.len(),
            owed: Owed::default(),
        };
        if let Some(lost) = status
            .as_ref()
            .and_then(|status| lost_run(status, records.last_run, kills))
        {
            contract::warn!(
                "run {} ended with the supervisor before this one ({})",
                lost.run,
                lost.reason.name()
            );
            records.write_run(&lost);
        }
        records.last_run = records.last_run.max(status.map_or(0, |status| status.run));
        records
    }

    /// The number of the last run there was.
    pub fn last_run(&self) -> u64 {
        self.last_run
    }

    /// A run begins: what is said of the last one goes.
    pub fn begin(&mut self) {
        self.owed.done = None;
        for path in [self.paths.done(), self.paths.done_record()] {
            let removed = match file::remove(&path) {
                // An image may come with a folder of that name.
                Err(err) if err.kind() == io::ErrorKind::IsADirectory => std::fs::remove_dir(&path),
                other => other,
            };
            tell(removed, &format!("remove {}", path.display()));
        }
    }

    /// When [`Records::catch_up`] is due; `None` when the disk took everything.
    pub fn again(&self) -> Option<Instant> {
        self.owed.again
    }

    /// Tries to write what the disk did not take.
    pub fn catch_up(&mut self) {
        if self.owed.is_nothing() {
            return;
        }
        let runs = std::mem::take(&mut self.owed.runs);
        for (at, record) in runs.iter().enumerate() {
            if self.is_recorded(record.run) {
                continue;
            }
            if file::append_json_line(&self.paths.runs(), record).is_err() {
                self.owed.runs = runs[at..].to_vec();
                break;
            }
            self.count += 1;
        }
        if let Some(record) = self.owed.done.take()
            && self.replace_done(&record).is_err()
        {
            self.owed.done = Some(record);
        }
        if let Some(status) = self.owed.status.take()
            && file::replace_json(&self.paths.status(), &status).is_err()
        {
            self.owed.status = Some(status);
        }
        self.note_owed();
        if self.owed.is_nothing() {
            contract::info!("what the disk did not take of the records is written now");
        }
    }

    fn note_owed(&mut self) {
        self.owed.again = (!self.owed.is_nothing()).then(|| Instant::now() + AGAIN);
    }

    /// A write may fail after the line is in the file.
    fn is_recorded(&self, run: u64) -> bool {
        let runs: Vec<Numbered> = file::read_json_lines(&self.paths.runs()).unwrap_or_default();
        runs.iter().rev().any(|record| record.run == run)
    }

    /// Writes down a run that has ended.
    pub fn write_run(&mut self, record: &RunRecord) {
        let path = self.paths.runs();
        let written = file::append_json_line(&path, record);
        if written.is_err() {
            let surplus = (self.owed.runs.len() + 1).saturating_sub(KEPT);
            self.owed.runs.drain(..surplus);
            self.owed.runs.push(record.clone());
        } else {
            self.count += 1;
        }
        tell(written, &format!("write {}", path.display()));
        self.last_run = self.last_run.max(record.run);
        let size = std::fs::metadata(&path).map_or(0, |found| found.len());
        if self.count > MOST || size > ROOM {
            tell(self.shorten(), &format!("shorten {}", path.display()));
        }
        self.write_done(record);
    }

    /// Writes down how it ended, without a run of its own in the history.
    pub fn write_done(&mut self, record: &RunRecord) {
        let written = self.replace_done(record);
        self.owed.done = written.is_err().then(|| record.clone());
        self.note_owed();
        tell(written, &format!("write {}", self.paths.done().display()));
    }

    fn replace_done(&self, record: &RunRecord) -> io::Result<()> {
        file::replace_json(&self.paths.done_record(), record)?;
        file::replace(&self.paths.done(), record.code.to_string().as_bytes())
    }

    /// Writes down where we are.
    pub fn write_status(&mut self, status: &Status) {
        let path = self.paths.status();
        let written = file::replace_json(&path, status);
        self.owed.status = written.is_err().then(|| status.clone());
        self.note_owed();
        tell(written, &format!("write {}", path.display()));
    }

    fn shorten(&mut self) -> io::Result<()> {
        let path = self.paths.runs();
        let mut runs: Vec<RunRecord> = file::read_json_lines(&path)?;
        let surplus = runs.len().saturating_sub(KEPT);
        let kept = &mut runs[surplus..];
        lighten(kept);
        let mut text = Vec::new();
        for record in &*kept {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        file::replace(&path, &text)?;
        self.count = kept.len();
        Ok(())
    }
}

/// Leaves out the bots' own data but for the latest runs'.
fn lighten(runs: &mut [RunRecord]) {
    let mut room = DATA;
    for result in runs.iter_mut().rev().filter_map(|run| run.result.as_mut()) {
        let size = result
            .data
            .as_ref()
            .map_or(0, |data| data.to_string().len());
        if size > room {
            room = 0;
            result.data = None;
            result.left_out = u64::try_from(size).ok();
        } else {
            room -= size;
        }
    }
}

fn tell(written: io::Result<()>, what: &str) {
    if let Err(err) = written {
        contract::error!("{what}: {err}");
    }
}

/// The record of the run that `status` says is under way, unless it is recorded.
fn lost_run(status: &Status, last_recorded: u64, kills: u64) -> Option<RunRecord> {
    let under_way = matches!(status.state, State::Running | State::Stopping);
    if !under_way || status.run <= last_recorded {
        return None;
    }
    Some(RunRecord {
        run: status.run,
        code: exit::of_signal(signals::KILL),
        signal: Some(signals::KILL),
        reason: if kills > 0 { Reason::Oom } else { Reason::Lost },
        started_at: status.since,
        ended_at: Time::now(),
        restarts: status.restarts,
        message: Some(
            "the supervisor ended with it; the time of the end is when the next one began"
                .to_owned(),
        ),
        result: None,
    })
}

/// Leaves a run's record, and those before it in the file `runs`, where the kubelet finds them, when we are alone in a
/// container of a Pod.
pub fn say_last(sides: Sides, record: &RunRecord, runs: &Path) {
    if sides == Sides::Elsewhere {
        let mut before = recorded(runs);
        before.retain(|one| (one.run, one.ended_at) != (record.run, record.ended_at));
        say(&last_words::of_run(record, &before));
    }
}

/// The same when a run begins: what is said of it if it takes us with it.
pub fn say_before(sides: Sides, runs: &Path) {
    if sides == Sides::Elsewhere {
        let before = recorded(runs);
        if !before.is_empty() {
            say(&last_words::of_runs(&before));
        }
    }
}

fn recorded(runs: &Path) -> Vec<RunRecord> {
    file::read_json_lines(runs).unwrap_or_default()
}

fn say(words: &str) {
    let said = last_words::leave(words);
    tell(said, &format!("write {}", last_words::FILE));
}

/// A point in time `ago`.
pub fn before_now(ago: Duration) -> Time {
    Time::from(
        SystemTime::now()
            .checked_sub(ago)
            .unwrap_or(SystemTime::UNIX_EPOCH),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(run: u64) -> RunRecord {
        RunRecord {
            run,
            code: 1,
            signal: None,
            reason: Reason::Exited,
            started_at: Time::now(),
            ended_at: Time::now(),
            restarts: 0,
            message: None,
            result: None,
        }
    }

    fn status(state: State, run: u64) -> Status {
        Status {
            state,
            since: Time::now(),
            run,
            pid: Some(7),
            restarts: 0,
            next_start: None,
            supervisor: 1,
            log_lines_dropped: 0,
        }
    }

    fn paths() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        std::fs::create_dir_all(&paths.var).unwrap();
        (dir, paths)
    }

    #[test]
    fn runs_are_numbered_on_and_done_goes_when_the_next_begins() {
        let (_dir, paths) = paths();
        let mut records = Records::open(&paths, 0);
        assert_eq!(records.last_run(), 0);
        records.write_run(&record(1));
        assert_eq!(std::fs::read_to_string(paths.done()).unwrap(), "1");
        assert_eq!(Records::open(&paths, 0).last_run(), 1);
        records.begin();
        assert!(!paths.done().exists() && !paths.done_record().exists());
    }

    #[test]
    fn what_the_disk_does_not_take_is_written_when_it_does() {
        let (_dir, paths) = paths();
        let mut records = Records::open(&paths, 0);
        std::fs::remove_dir(&paths.var).unwrap();
        records.write_run(&record(1));
        records.begin();
        records.write_run(&record(2));
        records.write_status(&status(State::Waiting, 2));
        records.catch_up();
        assert!(records.again().is_some());
        std::fs::create_dir(&paths.var).unwrap();
        records.catch_up();
        assert!(records.again().is_none());
        let runs: Vec<RunRecord> = file::read_json_lines(&paths.runs()).unwrap();
        assert_eq!(runs.iter().map(|r| r.run).collect::<Vec<_>>(), [1, 2]);
        let done: Option<RunRecord> = file::read_json(&paths.done_record()).unwrap();
        assert_eq!(done.unwrap().run, 2);
        assert_eq!(std::fs::read_to_string(paths.done()).unwrap(), "1");
        let status: Option<Status> = file::read_json(&paths.status()).unwrap();
        assert_eq!(status.unwrap().run, 2);
    }

    #[test]
    fn an_empty_folder_in_the_place_of_done_makes_way() {
        let (_dir, paths) = paths();
        std::fs::create_dir(paths.done()).unwrap();
        let mut records = Records::open(&paths, 0);
        records.begin();
        records.write_run(&record(1));
        assert_eq!(std::fs::read_to_string(paths.done()).unwrap(), "1");
    }

    #[test]
    fn a_run_that_nobody_recorded_is_lost_or_killed_for_want_of_memory() {
        for (kills, reason) in [(0, Reason::Lost), (1, Reason::Oom)] {
            let (_dir, paths) = paths();
            let mut records = Records::open(&paths, 0);
            records.write_run(&record(4));
            records.write_status(&status(State::Running, 5));
            assert_eq!(Records::open(&paths, kills).last_run(), 5);
            let runs: Vec<RunRecord> = file::read_json_lines(&paths.runs()).unwrap();
            assert_eq!((runs[1].run, runs[1].reason, runs.len()), (5, reason, 2));
            Records::open(&paths, kills);
            let again: Vec<RunRecord> = file::read_json_lines(&paths.runs()).unwrap();
            assert_eq!(again.len(), 2, "once");
        }
    }

    #[test]
    fn a_run_that_was_recorded_is_not_lost() {
        assert_eq!(lost_run(&status(State::Stopping, 3), 3, 0), None);
        assert_eq!(lost_run(&status(State::Waiting, 3), 2, 0), None);
    }

    #[test]
    fn the_history_is_bounded() {
        let (_dir, paths) = paths();
        let lines = (1..=2000).map(|run| serde_json::to_string(&record(run)).unwrap() + "\n");
        std::fs::write(paths.runs(), lines.collect::<String>()).unwrap();
        let mut records = Records::open(&paths, 0);
        records.write_run(&record(2001));
        let runs: Vec<RunRecord> = file::read_json_lines(&paths.runs()).unwrap();
        assert_eq!((runs.len(), runs[0].run, runs[999].run), (1000, 1002, 2001));
    }

    #[test]
    fn what_bots_say_does_not_make_the_history_grow_without_end() {
        use contract::record::RunResult;
        let (_dir, paths) = paths();
        let mut records = Records::open(&paths, 0);
        let data = serde_json::json!({"status": "success", "data": "x".repeat(16_000)});
        let result = RunResult::parse(data.to_string().as_bytes());
        assert!(result.as_ref().unwrap().data.is_some());
        for run in 1..=200 {
            let result = result.clone();
            records.write_run(&RunRecord {
                result,
                ..record(run)
            });
        }
        assert!(std::fs::metadata(paths.runs()).unwrap().len() <= ROOM);
        let runs: Vec<RunRecord> = file::read_json_lines(&paths.runs()).unwrap();
        assert_eq!(runs.len(), 200);
        let has_data = |run: &RunRecord| run.result.as_ref().unwrap().data.is_some();
        assert!(has_data(&runs[199]) && !has_data(&runs[0]));
        assert_eq!(Records::open(&paths, 0).last_run(), 200);
    }
}
