//! What supervisor and sync have written down about the bot, as one document.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use contract::record::{Report, RunRecord};
use contract::{BotId, Paths, file};
use thiserror::Error;

/// How many of the latest runs are told.
const RUNS: usize = 20;
/// How much of the end of the list of runs is read: room for 20 with results, whatever the list has grown to.
const TAIL: u64 = 400 * 1024;

/// A file cannot be read.
#[derive(Debug, Error)]
#[error("cannot read {path}: {cause}")]
pub struct Unreadable {
    path: PathBuf,
    cause: io::Error,
}

/// Reads what there is.
///
/// # Errors
/// The first file that is there and cannot be read.
pub fn read(bot: &BotId, paths: &Paths) -> Result<Report, Unreadable> {
    let unreadable = |path: PathBuf| move |cause| Unreadable { path, cause };
    let runs = paths.runs();
    Ok(Report {
        bot: bot.clone(),
        status: file::read_json(&paths.status()).map_err(unreadable(paths.status()))?,
        synced: file::read_json(&paths.synced()).map_err(unreadable(paths.synced()))?,
        runs: latest(&tail(&runs).map_err(unreadable(runs))?),
    })
}

/// The last runs in `lines`, without the data of their results. What is not a record is passed over: a torn line, the rest of one whose beginning was
/// not read, one of a later version.
fn latest(lines: &[u8]) -> Vec<RunRecord> {
    let mut runs: Vec<RunRecord> = lines
        .rsplit(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .take(RUNS)
        .collect();
    for result in runs.iter_mut().filter_map(|run| run.result.as_mut()) {
        result.data = None;
    }
    runs.reverse();
    runs
}

fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::record::{Reason, Time};

    fn record(run: u64) -> RunRecord {
        RunRecord {
            run,
            code: 1,
            signal: None,
            reason: Reason::Exited,
            started_at: Time::now(),
            ended_at: Time::now(),
            restarts: 0,
            message: Some("m".repeat(400)),
            result: None,
        }
    }

    #[test]
    fn a_bot_that_has_not_run_has_an_empty_report() {
        let dir = tempfile::tempdir().unwrap();
        let report = read(&"b1".parse().unwrap(), &Paths::under(dir.path())).unwrap();
        assert!(report.status.is_none() && report.synced.is_none() && report.runs.is_empty());
    }

    #[test]
    fn the_last_20_runs_are_told_oldest_first_however_long_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        std::fs::create_dir(&paths.var).unwrap();
        let lines: Vec<_> = (1..=500)
            .map(|run| serde_json::to_string(&record(run)).unwrap())
            .collect();
        std::fs::write(paths.runs(), lines.join("\n") + "\n{\"run\":").unwrap();
        let report = read(&"b1".parse().unwrap(), &paths).unwrap();
        let runs: Vec<_> = report.runs.iter().map(|run| run.run).collect();
        assert_eq!(runs, (481..=500).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::under(dir.path());
        std::fs::create_dir(&paths.var).unwrap();
        std::fs::write(paths.status(), "{").unwrap();
        let error = read(&"b1".parse().unwrap(), &paths).unwrap_err();
        assert!(error.to_string().contains("status.json"), "{error}");
    }
}
