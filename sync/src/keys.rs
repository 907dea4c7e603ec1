//! The store's credentials, as they come over standard input: held in memory, never said.

use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};

use contract::launch::{Keys, Line};

/// The keys that came last; a reader thread goes on replacing them.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Arc<Mutex<Keys>>);

impl KeyRing {
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

    fn read(&self, input: impl BufRead) {
        for line in input.lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Line::Keys {
                    v: Line::VERSION,
                    keys,
                }) => self.replace(keys),
                // What came is not told: it may hold a key.
                _ => contract::warn!("a line on standard input is not a line of keys, passed over"),
            }
        }
    }

    fn replace(&self, keys: Keys) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let what = if held.is_empty() {
            "received"
        } else {
            "renewed"
        };
        contract::debug!("keys {what}: {}", keys.len());
        *held = keys;
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_keys_count_and_other_lines_are_passed_over() {
        let ring = KeyRing::default();
        let text = concat!(
            r#"{"type":"keys","v":1,"keys":{"MINIO_ACCESS_KEY":"a"}}"#,
            "\n",
            "{\n",
            r#"{"type":"keys","v":1,"keys":{"MINIO_ACCESS_KEY":"b","MINIO_SECRET_KEY":"c"}}"#,
            "\n",
        );
        ring.read(text.as_bytes());
        assert_eq!(ring.count(), 2);
        assert!(!format!("{ring:?}").contains('c'.to_string().repeat(2).as_str()));
    }
}
