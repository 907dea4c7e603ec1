//! The store's credentials, from the environment, as they come over standard input, or from a file that others renew:
//! held in memory, never said.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use contract::Secret;
use contract::launch::{Keys, Line, Variables};

/// The keys that came last; a reader thread goes on replacing them, or they are read again when they are used.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    keys: Mutex<Option<Credentials>>,
    came: Condvar,
    file: Option<KeysFile>,
}

/// A file of keys. It is read at each use: that costs less than a request does, and misses no renewal.
#[derive(Debug)]
struct KeysFile {
    path: PathBuf,
    /// That it cannot be read was told.
    told: AtomicBool,
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

    /// The keys in the file at `path`, whatever they are then: a JSON object of the names in [`contract::vars::KEYS`].
    ///
    /// # Errors
    /// There is no pair of keys in it yet.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let keys = in_file(path)?;
        let file = KeysFile {
            path: path.to_owned(),
            told: AtomicBool::new(false),
        };
        let ring = Self(Arc::new(Held {
            file: Some(file),
            ..Held::default()
        }));
        ring.replace(keys);
        Ok(ring)
    }

    /// The keys of now.
    pub fn current(&self) -> Option<Credentials> {
        if let Some(file) = &self.0.file {
            self.read_again(file);
        }
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

    /// Those there were stay where the file has none: whoever renews it may be about to.
    fn read_again(&self, file: &KeysFile) {
        match in_file(&file.path) {
            Ok(keys) => {
                file.told.store(false, Ordering::Relaxed);
                self.replace(keys);
            }
            Err(error) => {
                if !file.told.swap(true, Ordering::Relaxed) {
                    let path = file.path.display();
                    contract::warn!(
                        "{path} cannot be read, going on with the keys there were: {error}"
                    );
                }
            }
        }
    }

    fn replace(&self, keys: Credentials) {
        let mut held = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref() == Some(&keys) {
            return;
        }
        let what = match *held {
            None => "received",
            Some(_) => "renewed",
        };
        contract::debug!("keys {what}");
        *held = Some(keys);
        self.0.came.notify_all();
    }
}

/// The keys in a file. What is wrong with it is told, what is in it is not.
fn in_file(path: &Path) -> io::Result<Credentials> {
    let bytes = std::fs::read(path)?;
    let keys = serde_json::from_slice(&bytes).ok();
    let keys = keys.and_then(|keys| Credentials::of(&keys));
    keys.ok_or_else(|| {
        let why = "it is not a JSON object with MINIO_ACCESS_KEY and MINIO_SECRET_KEY";
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
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
    fn keys_in_a_file_are_those_of_now_and_stay_when_it_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        assert!(KeyRing::from_file(&path).is_err());
        write(r#"{"MINIO_ACCESS_KEY":"a","MINIO_SECRET_KEY":"1","MINIO_SESSION_TOKEN":"t"}"#);
        let ring = KeyRing::from_file(&path).unwrap();
        let token = Some(Secret::new("t"));
        assert_eq!(
            ring.current(),
            Some(Credentials {
                token,
                ..pair("a", "1")
            })
        );
        write(r#"{"MINIO_ACCESS_KEY":"b","MINIO_SECRET_KEY":"2"}"#);
        assert_eq!(ring.current(), Some(pair("b", "2")));
        for none in ["", "{", "[]", r#"{"MINIO_ACCESS_KEY":"c"}"#] {
            write(none);
            assert_eq!(ring.current(), Some(pair("b", "2")), "{none}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ring.current(), Some(pair("b", "2")));
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
