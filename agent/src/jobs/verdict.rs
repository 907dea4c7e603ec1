//! How a job came out, worked out from what its container left.
//!
//! Its own `result.json` is the result, byte for byte, when it is JSON and not too large; where it wrote none, one is
//! made of how it ended. Success is an exit with 0 and no word of an error in the result.

use contract::exit;
use contract::record::{Reason, RunRecord};
use serde_json::{Value, json};

use super::decide::{Halt, Status};

/// What was found of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is no such file.
    Nothing,
    /// It is a link, a folder or the like.
    NoFile,
    /// It has more bytes than a result may have.
    TooLarge,
    /// Nobody knows: it went with what it was in.
    Unsaved,
    /// Its bytes.
    Content(Vec<u8>),
}

/// What a container left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The code it ended with.
    pub code: i64,
    /// Whether the kernel killed in it for want of memory.
    pub is_oom: bool,
    /// Why it did not come to an end of its own, where others ended it.
    pub lost: Option<String>,
    /// What the supervisor wrote about the run.
    pub record: Option<RunRecord>,
    /// The last of our own programs' words.
    pub last: Option<String>,
    /// The result.
    pub found: Found,
}

/// What a verdict needs besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Why it was made to end.
    pub halt: Option<Halt>,
    /// The time it had, in seconds.
    pub seconds: u64,
    /// Bytes a result may have.
    pub most: u64,
}

/// How it came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How far it came.
    pub status: Status,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// The result.
    pub result: Vec<u8>,
}

/// Judges what a container left.
pub fn judge(left: &Left, terms: Terms) -> Verdict {
    if let Some(halt) = terms.halt {
        return halted(halt, terms.seconds);
    }
    let ending = ending(left);
    let own = match &left.found {
        Found::Nothing => return made(ending, left.code),
        Found::NoFile => return spoiled("is not a file", ending, left.code),
        Found::Unsaved => return spoiled("was not saved", ending, left.code),
        Found::TooLarge => {
            let why = format!("has more than the {} bytes it may have", terms.most);
            return spoiled(&why, ending, left.code);
        }
        Found::Content(bytes) => bytes,
    };
    match serde_json::from_slice::<Value>(own) {
        Err(err) => {
            let why = format!("is not JSON (line {}, column {})", err.line(), err.column());
            spoiled(&why, ending, left.code)
        }
        Ok(value) => Verdict {
            error: said(&value, ending),
            result: own.clone(),
            status: Status::Completed,
        }
        .settled(),
    }
}

impl Verdict {
    fn settled(self) -> Self {
        let status = match self.error {
            Some(_) if self.status == Status::Completed => Status::Failed,
            _ => self.status,
        };
        Self { status, ..self }
    }
}

fn halted(halt: Halt, seconds: u64) -> Verdict {
    let (status, error) = match halt {
        Halt::Cancelled => (Status::Cancelled, "cancelled".to_owned()),
        Halt::Limit => (
            Status::Failed,
            format!("it was stopped after {seconds} s, the time a job may take (THE0_JOB_TIME)"),
        ),
    };
    let result = json!({"status": "error", "message": error});
    Verdict {
        status,
        result: result.to_string().into_bytes(),
        error: Some(error),
    }
}

/// Why it did not end well; `None` if it did.
fn ending(left: &Left) -> Option<String> {
    let reason = left.record.as_ref().map(|record| record.reason);
    if left.is_oom || reason == Some(Reason::Oom) {
        return Some("it needed more memory than it may have, and was killed".to_owned());
    }
    if left.lost.is_some() {
        return left.lost.clone();
    }
    if let Some(record) = &left.record
        && let (Reason::StartFailed, Some(why)) = (record.reason, &record.message)
    {
        return Some(format!("it could not be started: {why}"));
    }
    let code = u8::try_from(left.code).unwrap_or(exit::INTERNAL);
    let ours = exit::meaning(code).filter(|_| left.record.is_none() || code == exit::DISK);
    match (left.code, ours) {
        (0, _) => None,
        (code, Some(meaning)) => {
            let last = left.last.as_ref();
            let last = last.map_or(String::new(), |last| format!(": {last}"));
            Some(format!("{meaning} (exit {code}){last}"))
        }
        (code, None) => Some(
            match left.record.as_ref().and_then(|record| record.signal) {
                Some(signal) => format!("it was ended by signal {signal}"),
                None => format!("it ended with exit {code}"),
            },
        ),
    }
}

/// Why it failed, by its own word or by its end.
fn said(result: &Value, ending: Option<String>) -> Option<String> {
    let word = |name: &str| result.get(name).and_then(Value::as_str);
    let is_error = word("status").is_some_and(|status| status.eq_ignore_ascii_case("error"));
    let message = word("message").map(|text| text.chars().take(512).collect::<String>());
    match (is_error, ending) {
        (true, ending) => message
            .or(ending)
            .or(Some("its result says error".to_owned())),
        (false, ending) => ending,
    }
}

fn made(ending: Option<String>, code: i64) -> Verdict {
    let result = match &ending {
        None => json!({"status": "success", "message": "it ended with exit 0 and wrote no result"}),
        Some(why) => json!({"status": "error", "message": why, "data": {"exit_code": code}}),
    };
    Verdict {
        status: Status::Completed,
        error: ending,
        result: result.to_string().into_bytes(),
    }
    .settled()
}

fn spoiled(why: &str, ending: Option<String>, code: i64) -> Verdict {
    let ending = ending.map_or(String::new(), |ending| format!("{ending}; "));
    made(Some(format!("{ending}its result.json {why}")), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        halt: None,
        seconds: 60,
        most: 100,
    };

    fn left(code: i64, found: Found) -> Left {
        Left {
            code,
            is_oom: false,
            lost: None,
            record: None,
            last: None,
            found,
        }
    }

    fn own(code: i64, text: &str) -> Verdict {
        judge(&left(code, Found::Content(text.into())), TERMS)
    }

    #[test]
    fn its_own_result_is_the_result_byte_for_byte() {
        let text = "{ \"status\":\"success\", \"data\": {\"pnl\": 1.50} }\n";
        let verdict = own(0, text);
        assert_eq!((verdict.status, &verdict.error), (Status::Completed, &None));
        assert_eq!(verdict.result, text.as_bytes());
        assert_eq!(own(0, "[1, 2]").status, Status::Completed);
    }

    #[test]
    fn a_result_that_says_error_or_an_end_that_is_one_is_a_failure() {
        let said = own(0, r#"{"status": "error", "message": "no data"}"#);
        assert_eq!(said.status, Status::Failed);
        assert_eq!(said.error.as_deref(), Some("no data"));
        let ended = own(3, r#"{"status": "success"}"#);
        assert_eq!(ended.status, Status::Failed);
        assert_eq!(ended.error.as_deref(), Some("it ended with exit 3"));
    }

    #[test]
    fn where_it_wrote_none_one_is_made_of_its_end() {
        let well = judge(&left(0, Found::Nothing), TERMS);
        assert_eq!(well.status, Status::Completed);
        let value: Value = serde_json::from_slice(&well.result).unwrap();
        assert_eq!(value["status"], "success");
        let badly = judge(&left(137, Found::Nothing), TERMS);
        assert_eq!(badly.status, Status::Failed);
        let value: Value = serde_json::from_slice(&badly.result).unwrap();
        assert_eq!(
            (&value["status"], &value["data"]["exit_code"]),
            (&json!("error"), &json!(137))
        );
    }

    #[test]
    fn what_others_ended_has_failed_whatever_it_left() {
        let lost = Left {
            lost: Some("its Pod was evicted".into()),
            ..left(0, Found::Content(b"{}".to_vec()))
        };
        let verdict = judge(&lost, TERMS);
        assert_eq!(verdict.status, Status::Failed);
        assert_eq!(verdict.error.as_deref(), Some("its Pod was evicted"));
        let unsaved = judge(&left(0, Found::Unsaved), TERMS);
        assert_eq!(unsaved.status, Status::Failed);
        assert_eq!(
            unsaved.error.as_deref(),
            Some("its result.json was not saved")
        );
    }

    #[test]
    fn what_cannot_be_a_result_is_a_failure_that_says_so() {
        for (found, word) in [
            (Found::TooLarge, "more than the 100 bytes"),
            (Found::NoFile, "not a file"),
            (
                Found::Content(b"{\"a\": hunter2}".to_vec()),
                "not JSON (line 1",
            ),
        ] {
            let verdict = judge(&left(0, found), TERMS);
            let error = verdict.error.unwrap();
            assert_eq!(verdict.status, Status::Failed);
            assert!(
                error.contains(word) && !error.contains("hunter2"),
                "{error}"
            );
            assert!(serde_json::from_slice::<Value>(&verdict.result).is_ok());
        }
    }

    #[test]
    fn want_of_memory_time_and_code_are_told_apart() {
        let oom = Left {
            is_oom: true,
            ..left(137, Found::Nothing)
        };
        assert!(judge(&oom, TERMS).error.unwrap().contains("memory"));
        let code = Left {
            last: Some("sync: no such object".into()),
            ..left(112, Found::Nothing)
        };
        let error = judge(&code, TERMS).error.unwrap();
        assert!(error.contains("could not be fetched") && error.ends_with("no such object"));
        let limit = Terms {
            halt: Some(Halt::Limit),
            ..TERMS
        };
        let late = judge(&left(143, Found::Nothing), limit);
        assert_eq!(late.status, Status::Failed);
        assert!(late.error.unwrap().contains("60 s"));
        let cancelled = Terms {
            halt: Some(Halt::Cancelled),
            ..TERMS
        };
        assert_eq!(
            judge(&left(0, Found::Nothing), cancelled).status,
            Status::Cancelled
        );
    }
}
