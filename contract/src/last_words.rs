//! The last words of a container of a Pod: the kubelet keeps them in the Pod's status, where they outlive the
//! container and need no way into it. Elsewhere there is no file for them, and nothing is said.
//!
//! A record is cut to what fits, and stays JSON whatever is left out. What room is left has the runs before it, each as
//! short as can be: a status tells of two lives of a container at most, and nobody may have looked between more of them.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::record::{Reason, RunRecord, Synced, Time};

/// The file, made by the kubelet for each life of a container.
pub const FILE: &str = "/dev/termination-log";
/// Bytes at most. The kubelet keeps 4096, and 12 KiB of all containers of a Pod together: this leaves room for six.
pub const MOST: usize = 2048;
/// Bytes of a text within a record that has to be cut.
const TEXT: usize = 512;

/// Leaves `words`, instead of what was said before.
///
/// # Errors
/// There is such a file, and it does not take them.
pub fn leave(words: &str) -> io::Result<()> {
    leave_at(Path::new(FILE), words)
}

fn leave_at(path: &Path, words: &str) -> io::Result<()> {
    match OpenOptions::new().write(true).truncate(true).open(path) {
        Ok(mut file) => file.write_all(cut(words, MOST).as_bytes()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
    }
}

/// A run that ended before, without what was said of it: number, code, signal, reason, start, end, restarts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Brief(u64, u8, Option<i32>, Reason, Millis, Millis, u32);

/// A time in as few letters as can be.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
struct Millis(u64);

impl From<Time> for Millis {
    fn from(time: Time) -> Self {
        let since = time.system().duration_since(SystemTime::UNIX_EPOCH);
        Self(u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or_default())
    }
}

impl From<Millis> for Time {
    fn from(Millis(millis): Millis) -> Self {
        let most = Duration::from_millis(millis.min(LATEST));
        Self::from(SystemTime::UNIX_EPOCH + most)
    }
}

/// The last millisecond that can be written as a time.
const LATEST: u64 = 253_402_300_799_999;

#[derive(Debug, Default, Deserialize)]
struct Before {
    #[serde(default)]
    before: Vec<Brief>,
}

/// The runs before the last one, oldest first, of which a supervisor's `words` tell.
pub fn before(words: &str) -> Vec<RunRecord> {
    let said: Before = serde_json::from_str(words).unwrap_or_default();
    said.before.into_iter().map(RunRecord::from).collect()
}

impl From<Brief> for RunRecord {
    fn from(Brief(run, code, signal, reason, started, ended, restarts): Brief) -> Self {
        Self {
            run,
            code,
            signal,
            reason,
            started_at: started.into(),
            ended_at: ended.into(),
            restarts,
            message: None,
            result: None,
        }
    }
}

impl From<&RunRecord> for Brief {
    fn from(run: &RunRecord) -> Self {
        let (start, end) = (run.started_at.into(), run.ended_at.into());
        let how = (run.code, run.signal, run.reason);
        Self(run.run, how.0, how.1, how.2, start, end, run.restarts)
    }
}

/// How a run ended, with the latest of the runs before it.
pub fn of_run(record: &RunRecord, before: &[RunRecord]) -> String {
    with(alone(record), before)
}

/// What is said while a run goes on, in case its supervisor is killed with it: the runs before it.
pub fn of_runs(before: &[RunRecord]) -> String {
    with("{}".to_owned(), before)
}

/// Adds what fits of `before`, the latest, to the object `text`.
fn with(mut text: String, before: &[RunRecord]) -> String {
    let begun = if text == "{}" { "" } else { "," };
    let begun = format!("{begun}\"before\":[");
    let mut room = MOST.saturating_sub(text.len() + begun.len() + 1);
    let briefs = before.iter().rev().map(|run| json(&Brief::from(run)));
    let fitting = briefs.take_while(|brief| {
        let fits = brief.len() < room;
        room = room.saturating_sub(brief.len() + 1);
        fits
    });
    let mut fitting: Vec<String> = fitting.collect();
    if !fitting.is_empty() && text.pop().is_some() {
        fitting.reverse();
        return text + &begun + &fitting.join(",") + "]}";
    }
    text
}

/// How a run ended: its record, without the bot's own data, and then without anything of the bot's, where these are
/// too much.
fn alone(record: &RunRecord) -> String {
    let mut record = record.clone();
    let mut text = json(&record);
    if let Some(result) = record.result.as_mut().filter(|_| text.len() > MOST) {
        let data = result.data.take().map(|data| data.to_string().len());
        result.left_out = data.map(|size| size as u64).or(result.left_out);
        text = json(&record);
    }
    if text.len() > MOST {
        record.result = None;
        record.message = record.message.map(|message| cut(&message, TEXT).to_owned());
        text = json(&record);
    }
    text
}

/// How saving went: what could not be saved is not named where that is too much.
pub fn of_sync(synced: &Synced) -> String {
    let text = json(synced);
    if text.len() <= MOST {
        return text;
    }
    let error = synced.error.as_deref();
    json(&Synced {
        left_out: Vec::new(),
        error: error.map(|error| cut(error, TEXT).to_owned()),
        ..synced.clone()
    })
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The beginning of `text`, at most so many bytes and whole characters.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Outcome, Reason, RunResult, Time};

    fn record(message: Option<String>, result: Option<RunResult>) -> RunRecord {
        RunRecord {
            run: 7,
            code: 1,
            signal: None,
            reason: Reason::Exited,
            started_at: Time::now(),
            ended_at: Time::now(),
            restarts: 0,
            message,
            result,
        }
    }

    fn result(message: &str, data: usize) -> RunResult {
        RunResult {
            status: "error".into(),
            message: Some(message.into()),
            data: Some("x".repeat(data).into()),
            left_out: None,
        }
    }

    fn read(text: &str) -> RunRecord {
        assert!(text.len() <= MOST, "{}", text.len());
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_record_that_fits_is_said_whole() {
        let small = record(None, Some(result("no", 10)));
        assert_eq!(read(&of_run(&small, &[])), small);
    }

    #[test]
    fn a_record_is_cut_to_what_fits_and_stays_one() {
        let without_data = read(&of_run(&record(None, Some(result("no", 16 << 10))), &[]));
        let said = without_data.result.unwrap();
        assert_eq!((said.data, said.left_out), (None, Some(16_386)));
        // Four bytes a character, as long as a message of a bot's may be.
        let long = record(None, Some(result(&"\u{1f600}".repeat(512), 0)));
        let without_result = read(&of_run(&long, &[]));
        assert_eq!((without_result.run, without_result.result), (7, None));
        let message = Some("\u{1}é".repeat(3000));
        let said = read(&of_run(&record(message, None), &[]));
        assert!(said.message.unwrap().len() <= TEXT);
    }

    fn runs(count: u64) -> Vec<RunRecord> {
        let run = |run| RunRecord {
            run,
            signal: Some(11),
            ..record(Some("m".repeat(400)), Some(result("no", 400)))
        };
        (1..=count).map(run).collect()
    }

    #[test]
    fn the_latest_of_the_runs_before_are_said_as_far_as_there_is_room() {
        let last = record(None, None);
        let three = of_run(&last, &runs(3));
        assert_eq!(read(&three), last);
        let said = before(&three);
        let numbers = |runs: &[RunRecord]| runs.iter().map(|run| run.run).collect::<Vec<_>>();
        assert_eq!(numbers(&said), [1, 2, 3]);
        assert_eq!(
            (said[2].code, said[2].signal, said[2].reason),
            (1, Some(11), Reason::Exited)
        );
        assert_eq!((&said[2].message, &said[2].result), (&None, &None));
        let many = of_run(&last, &runs(1000));
        assert_eq!(read(&many), last);
        let said = before(&many);
        assert!(said.len() >= 24, "{}", said.len());
        assert_eq!(
            numbers(&said),
            (1001 - said.len() as u64..=1000).collect::<Vec<_>>()
        );
        let full = record(Some("m".repeat(TEXT)), Some(result(&"r".repeat(1200), 0)));
        assert_eq!(read(&of_run(&full, &runs(9))), full);
    }

    #[test]
    fn the_runs_before_are_said_of_a_run_that_has_no_end_yet() {
        let said = before(&of_runs(&runs(40)));
        assert_eq!(said.last().unwrap().run, 40);
        assert!(of_runs(&runs(40)).len() <= MOST);
        assert_eq!(of_runs(&[]), "{}");
        for none in ["", "not JSON", "{}", r#"{"before":[[1]]}"#] {
            assert!(before(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_time_is_the_same_to_the_millisecond() {
        let now = Time::now();
        assert_eq!(Time::from(Millis::from(now)), now);
        let late = String::from(Time::from(Millis(u64::MAX)));
        assert!(late.starts_with("9999-12-31"), "{late}");
    }

    #[test]
    fn what_sync_says_is_cut_to_what_fits() {
        let synced = Synced {
            outcome: Outcome::Failed,
            run: 3,
            generation: 2,
            digest: None,
            log: crate::logs::Position::default(),
            ok_at: None,
            at: Time::now(),
            error: Some("e".repeat(5000)),
            left_out: vec!["a/long/path".repeat(9); 100],
            traffic: None,
            result: None,
        };
        let text = of_sync(&synced);
        assert!(text.len() <= MOST);
        let said: Synced = serde_json::from_str(&text).unwrap();
        assert_eq!((said.run, said.outcome), (3, Outcome::Failed));
    }

    #[test]
    fn words_replace_what_was_said_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        leave_at(&path, "nobody hears").unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "what was said before, and longer").unwrap();
        leave_at(&path, &"é".repeat(MOST)).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "é".repeat(MOST / 2)
        );
        assert!(leave_at(dir.path(), "").is_err());
    }
}
