//! The last words of a container of a Pod: the kubelet keeps them in the Pod's status, where they outlive the
//! container and need no way into it. Elsewhere there is no file for them, and nothing is said.
//!
//! A record is cut to what fits, and stays JSON whatever is left out.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::record::{RunRecord, Synced};

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

/// How a run ended: its record, without the bot's own data, and then without anything of the bot's, where these are
/// too much.
pub fn of_run(record: &RunRecord) -> String {
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
        assert_eq!(read(&of_run(&small)), small);
    }

    #[test]
    fn a_record_is_cut_to_what_fits_and_stays_one() {
        let without_data = read(&of_run(&record(None, Some(result("no", 16 << 10)))));
        let said = without_data.result.unwrap();
        assert_eq!((said.data, said.left_out), (None, Some(16_386)));
        // Four bytes a character, as long as a message of a bot's may be.
        let without_result = read(&of_run(&record(
            None,
            Some(result(&"\u{1f600}".repeat(512), 0)),
        )));
        assert_eq!((without_result.run, without_result.result), (7, None));
        let message = Some("\u{1}é".repeat(3000));
        assert!(read(&of_run(&record(message, None))).message.unwrap().len() <= TEXT);
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
