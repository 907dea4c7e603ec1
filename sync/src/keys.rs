//! The store's credentials, from the environment or as they come over standard input: held in memory, never said.

use std::io::BufRead;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use contract::Secret;
use contract::launch::{Keys, Line, Variables};

/// The keys that came last; a reader thread goes on replacing them.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    keys: Mutex<Option<Credentials>>,
    came: Condvar,
}

/// What a request is signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key.
    pub access: Secret,
    /// The secret key.
    pub secret: Secret,
    /// The token of keys with an end.
    pub token: Option<Secret>,
}

impl Credentials {
    /// From the names in [`contract::vars::KEYS`]; `None` if there is no pair.
    fn of(keys: &Keys) -> Option<Self> {
        let get = |names: &[&str]| {
            let mut found = names.iter().filter_map(|name| keys.get(*name));
            found.find(|key| !key.reveal().is_empty()).cloned()
        };
        Some(Self {
            access: get(&["MINIO_ACCESS_KEY", "MINIO_ACCESS_KEY_ID"])?,
            secret: get(&["MINIO_SECRET_KEY", "MINIO_SECRET_ACCESS_KEY"])?,
            token: get(&["MINIO_SESSION_TOKEN"]),
        })
    }
}

impl KeyRing {
    /// The keys in `variables`, if they have some.
    pub fn from_environment(variables: &Variables) -> Self {
        let ring = Self::default();
        let keys = contract::vars::KEYS.iter().filter_map(|name| {
            let value = variables.get(*name)?;
            Some(((*name).to_owned(), Secret::new(value)))
        });
        if let Some(keys) = Credentials::of(&keys.collect()) {
            ring.replace(keys);
        }
        ring
    }

    /// Reads lines of keys from standard input until it ends, which means nothing.
    pub fn from_stdin() -> std::io::Result<Self> {
        let ring = Self::default();
        let filled = ring.clone();
        let read = move || filled.read(std::io::stdin().lock());
        std::thread::Builder::new()
            .name("keys".into())
            .stack_size(128 << 10)
            .spawn(read)?;
        Ok(ring)
    }

    /// The keys of now.
    pub fn current(&self) -> Option<Credentials> {
        let held = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    /// Waits for the first keys; whether they came within `most`.
    pub fn wait(&self, most: Duration) -> bool {
        let held = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let none = |keys: &mut Option<Credentials>| keys.is_none();
        let waited = self.0.came.wait_timeout_while(held, most, none);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }

    pub(crate) fn read(&self, input: impl BufRead) {
        for line in input.lines().map_while(Result::ok) {
            let keys = match serde_json::from_str(&line) {
                Ok(Line::Keys {
                    v: Line::VERSION,
                    keys,
                }) => Credentials::of(&keys),
                _ => None,
            };
            match keys {
                Some(keys) => self.replace(keys),
                // What came is not told: it may hold a key.
                None => {
                    contract::warn!("a line on standard input has no pair of keys, passed over");
                }
            }
        }
    }

    fn replace(&self, keys: Credentials) {
        let mut held = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let what = match *held {
            None => "received",
            Some(_) => "renewed",
        };
        contract::debug!("keys {what}");
        *held = Some(keys);
        self.0.came.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(access: &str, secret: &str) -> Credentials {
        Credentials {
            access: Secret::new(access),
            secret: Secret::new(secret),
            token: None,
        }
    }

    #[test]
    fn the_last_pair_counts_and_other_lines_are_passed_over() {
        let ring = KeyRing::default();
        assert!(!ring.wait(Duration::ZERO));
        let text = concat!(
            r#"{"type":"keys","v":1,"keys":{"MINIO_ACCESS_KEY":"a","MINIO_SECRET_KEY":"first-secret"}}"#,
            "\n{\n",
            r#"{"type":"keys","v":1,"keys":{"MINIO_ACCESS_KEY":"b","MINIO_SECRET_KEY":"last-secret"}}"#,
            "\n",
            r#"{"type":"keys","v":1,"keys":{"MINIO_ACCESS_KEY":"half"}}"#,
            "\n",
        );
        ring.read(text.as_bytes());
        assert!(ring.wait(Duration::ZERO));
        assert_eq!(ring.current(), Some(pair("b", "last-secret")));
        assert!(!format!("{ring:?}").contains("secret\""));
        assert!(!format!("{ring:?}").contains("last-"));
    }

    #[test]
    fn the_environment_may_use_either_generation_of_names() {
        let read = |names: [&str; 2]| {
            let pairs = names.map(|name| (name.to_owned(), name.to_lowercase()));
            KeyRing::from_environment(&pairs.into()).current()
        };
        let own = pair("minio_access_key", "minio_secret_key");
        assert_eq!(read(["MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"]), Some(own));
        let older = pair("minio_access_key_id", "minio_secret_access_key");
        let names = ["MINIO_ACCESS_KEY_ID", "MINIO_SECRET_ACCESS_KEY"];
        assert_eq!(read(names), Some(older));
        assert_eq!(read(["MINIO_ACCESS_KEY", "MINIO_ROOT"]), None);
    }
}
