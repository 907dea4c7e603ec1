//! What a bot says about how its run went: `result.json`, `{"status", "message", "data"?}`.
//!
//! A bot writes it, so nothing of it is believed: it is cut to bounds before it goes anywhere. `data` larger than
//! [`RunResult::MOST_DATA`] is left out and its size told.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name under which the result of what runs once waits for the agent, among our own objects beside its state.
pub const LEFT: &str = "result.json";

/// Characters of a status.
const STATUS: usize = 64;
/// Characters of a message.
const MESSAGE: usize = 512;

/// The bot's own word about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    /// `success`, `error`, or another word of the bot's.
    pub status: String,
    /// What it says to a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Bytes of the file whose data were too large to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

/// The same without data: a reader that has no room for these passes them over.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    status: Option<Value>,
    #[serde(default)]
    message: Option<Value>,
    #[serde(default)]
    data: Option<IgnoredAny>,
}

impl RunResult {
    /// Bytes of JSON of the data that are kept.
    pub const MOST_DATA: usize = 16 << 10;
    /// Bytes of a file that is read at all.
    pub const MOST: u64 = 1 << 20;
    /// Bytes of a file whose data may fit.
    const ROOMY: usize = 4 * Self::MOST_DATA;

    /// Reads the file's content; `None` when it is not a JSON object with a status.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let head: Head = serde_json::from_slice(bytes).ok()?;
        // A sequence is a struct to serde.
        let is_object = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
        let status = head.status.filter(|_| is_object)?;
        let had_data = head.data.is_some();
        let data = if had_data { data_of(bytes) } else { None };
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Some(Self {
            status: cut(&text(&status), STATUS),
            message: head.message.map(|message| cut(&text(&message), MESSAGE)),
            left_out: (had_data && data.is_none()).then_some(size),
            data,
        })
    }

    /// Whether the bot says that it went wrong, whatever its exit code.
    pub fn is_error(&self) -> bool {
        self.status.eq_ignore_ascii_case("error")
    }
}

fn data_of(bytes: &[u8]) -> Option<Value> {
    if bytes.len() > RunResult::ROOMY {
        return None;
    }
    let mut whole: Value = serde_json::from_slice(bytes).ok()?;
    let data = whole.get_mut("data").map(Value::take)?;
    (data.to_string().len() <= RunResult::MOST_DATA).then_some(data)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value) -> Option<RunResult> {
        RunResult::parse(value.to_string().as_bytes())
    }

    #[test]
    fn a_result_is_read_as_the_contract_has_it() {
        let result = parse(&json!({"status": "error", "message": "no", "data": {"a": [1]}}));
        let result = result.unwrap();
        assert!(result.is_error());
        assert_eq!(result.message.as_deref(), Some("no"));
        assert_eq!(
            (result.data, result.left_out),
            (Some(json!({"a": [1]})), None)
        );
        let bare = parse(&json!({"status": "success"})).unwrap();
        assert!(!bare.is_error() && bare.data.is_none() && bare.left_out.is_none());
    }

    #[test]
    fn what_is_no_result_is_none() {
        for bad in [&b"["[..], b"[\"error\"]", b"{}", b"null", b"\"error\"", b""] {
            assert_eq!(RunResult::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_left_out_and_the_rest_is_kept() {
        for size in [20 << 10, 200 << 10] {
            let large = "x".repeat(size);
            let given = json!({"status": "error", "message": "m", "data": large});
            let result = parse(&given).unwrap();
            assert!(result.is_error() && result.data.is_none());
            assert!(result.left_out.unwrap() > size as u64);
        }
        let long = parse(&json!({"status": "s".repeat(999), "message": "é".repeat(9999)}));
        let long = long.unwrap();
        assert_eq!(long.status.len(), 64);
        assert_eq!(long.message.unwrap().chars().count(), 512);
    }
}
