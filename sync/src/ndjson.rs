//! A line of the bot's log as the line of NDJSON that readers of day logs expect.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What a line is, by the contract's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// A JSON object with a `timestamp`.
    Stamped,
    /// A JSON object without one; whether it has any members.
    Object(Members),
    /// Anything else.
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Members {
    None,
    Some,
}

/// Looks at the top level of an object only; what is in it stays as it is.
struct Seen(Line);

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Seen;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
                let mut seen = Line::Object(Members::None);
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    map.next_value::<IgnoredAny>()?;
                    seen = match seen {
                        _ if key == "timestamp" => Line::Stamped,
                        Line::Stamped => Line::Stamped,
                        _ => Line::Object(Members::Some),
                    };
                }
                Ok(Seen(seen))
            }
        }
        from.deserialize_map(Look)
    }
}

/// Appends what the bot wrote at `stamp` to `out`, with a newline; a blank line gives nothing.
pub fn append(stamp: &str, line: &[u8], out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(line);
    let bare = text.trim_start();
    if bare.is_empty() {
        return;
    }
    match serde_json::from_str::<Seen>(&text).map_or(Line::Text, |seen| seen.0) {
        Line::Stamped => out.extend_from_slice(text.as_bytes()),
        // The rest of the object keeps its bytes.
        Line::Object(members) => {
            let comma = if members == Members::Some { "," } else { "" };
            let head = format!("{{\"timestamp\":\"{stamp}\"{comma}");
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(bare.get(1..).unwrap_or("").as_bytes());
        }
        Line::Text => {
            let message = serde_json::Value::from(text.as_ref());
            let whole = format!("{{\"timestamp\":\"{stamp}\",\"message\":{message}}}");
            out.extend_from_slice(whole.as_bytes());
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAMP: &str = "2026-11-21T07:52:48.123456Z";

    fn line(text: &[u8]) -> String {
        let mut out = Vec::new();
        append(STAMP, text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_become_what_the_contract_says() {
        let stamped = format!("\"timestamp\":\"{STAMP}\"");
        for (text, expected) in [
            (
                &b"  { \"timestamp\" : 1, \"a\":[1, 2] }"[..],
                "  { \"timestamp\" : 1, \"a\":[1, 2] }\n".to_owned(),
            ),
            (
                b"{ \"a\" : 1.50 }",
                format!("{{{stamped}, \"a\" : 1.50 }}\n"),
            ),
            (b"{}", format!("{{{stamped}}}\n")),
            (
                b"{\"a\":{\"timestamp\":1}}",
                format!("{{{stamped},\"a\":{{\"timestamp\":1}}}}\n"),
            ),
            (
                b"hello \"you\"",
                format!("{{{stamped},\"message\":\"hello \\\"you\\\"\"}}\n"),
            ),
            (b"[1]", format!("{{{stamped},\"message\":\"[1]\"}}\n")),
            (
                b"{\"a\":1} x",
                format!("{{{stamped},\"message\":\"{{\\\"a\\\":1}} x\"}}\n"),
            ),
            (b"\xff", format!("{{{stamped},\"message\":\"\u{fffd}\"}}\n")),
            (b" \t\r", String::new()),
        ] {
            assert_eq!(line(text), expected);
        }
    }

    proptest! {
        #[test]
        fn every_line_is_one_json_object_with_a_timestamp(text in "[^\n]{0,60}", json in any::<bool>()) {
            let text = if json { format!("{{\"a\":{}}}", serde_json::json!(text)) } else { text };
            let out = line(text.as_bytes());
            if text.trim_start().is_empty() { prop_assert!(out.is_empty()); return Ok(()); }
            prop_assert_eq!(out.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&out).unwrap();
            prop_assert!(value["timestamp"].is_string());
        }
    }
}
