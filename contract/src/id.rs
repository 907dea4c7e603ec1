//! Names with a rule, each with one fallible constructor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The bot id breaks its rule.
    #[error(
        "bot id {0:?} is not usable: 1 to 64 characters of A-Z a-z 0-9 _ - that do not begin with -"
    )]
    BotId(String),
    /// The object key breaks its rule.
    #[error("object key {key:?} is not usable: {why}")]
    ObjectKey {
        /// The key as given.
        key: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// Not 64 lower-case hexadecimal digits.
    #[error("{0:?} is not a SHA-256 digest (64 lower-case hexadecimal digits)")]
    Digest(String),
}

/// The id of a bot: a name safe in paths, subjects, labels and container names.
///
/// The platform's ids are 24 characters of `a-z0-9`; others are accepted so that a person can name a bot, as
/// long as they need no escaping anywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BotId(String);

impl BotId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BotId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=64).contains(&text.len())
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::BotId(text.to_owned()))
        }
    }
}

/// The key of an object in a bucket: relative, without empty, `.` or `..` components.
///
/// Stores accept more; a key of this kind is also a safe relative path, which the directory store needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<botId>/state.tar.gz`: the state as readers outside know it.
    pub fn state(bot: &BotId) -> Self {
        Self(format!("{bot}/state.tar.gz"))
    }

    /// `<botId>/.the0/<name>`: an object of ours beside the platform's.
    ///
    /// # Errors
    /// When `name` breaks the rule of a key.
    pub fn ours(bot: &BotId, name: &str) -> Result<Self, NameError> {
        format!("{bot}/.the0/{name}").parse()
    }

    /// `logs/<botId>/<YYYYMMDD>.log`; `day` is `YYYY-MM-DD` or `YYYYMMDD`.
    ///
    /// # Errors
    /// When `day` breaks the rule of a key.
    pub fn log(bot: &BotId, day: &str) -> Result<Self, NameError> {
        format!("logs/{bot}/{}.log", day.replace('-', "")).parse()
    }
}

impl FromStr for ObjectKey {
    type Err = NameError;

    fn from_str(key: &str) -> Result<Self, NameError> {
        let refuse = |why| {
            Err(NameError::ObjectKey {
                key: key.to_owned(),
                why,
            })
        };
        match key {
            "" => return refuse("it is empty"),
            _ if key.len() > 1024 => return refuse("it is longer than 1024 bytes"),
            _ if key.contains(['\0', '\n', '\r']) => return refuse("it has a control character"),
            _ => {}
        }
        match key.split('/').find(|part| matches!(*part, "" | "." | "..")) {
            Some(_) => refuse("a component between slashes is empty, . or .."),
            None => Ok(Self(key.to_owned())),
        }
    }
}

/// A SHA-256 digest in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, enough to tell two apart for a person.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// From the 32 bytes a hash function gives.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        use fmt::Write;
        Self(
            bytes
                .iter()
                .fold(String::with_capacity(64), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                }),
        )
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Digest(text.to_owned()))
        }
    }
}

macro_rules! text_form {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    )*};
}
text_form!(BotId, ObjectKey, Digest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_need_escaping_are_refused() {
        for good in ["k3v9x0", "a", "price-watcher", "A_b"] {
            assert!(good.parse::<BotId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a/b", "..", "a b", "a.b", &"x".repeat(65)] {
            assert!(bad.parse::<BotId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_that_leave_their_bucket_are_refused() {
        for good in [
            "u1/watcher/1.0.0",
            "a",
            "logs/b/20260101.log",
            "a/.the0/claim",
        ] {
            assert!(good.parse::<ObjectKey>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\nb"] {
            assert!(bad.parse::<ObjectKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_has_its_text_form() {
        let digest = Digest::from_bytes([0xab; 32]);
        assert_eq!(digest.as_str().parse::<Digest>(), Ok(digest.clone()));
        assert_eq!(digest.short(), "abababababab");
    }
}
