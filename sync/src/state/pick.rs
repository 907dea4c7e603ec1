//! Which state a word means.

use contract::ObjectKey;
use contract::record::Time;
use thiserror::Error;

use crate::history::{self, Kept};

/// A word does not tell one state.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unclear {
    /// There is none.
    #[error("no state is called {word}, nor was one kept until then: `state ls` shows them")]
    Nothing {
        /// What was given.
        word: String,
    },
    /// There are several.
    #[error("{word} can be {}: give more of the name", names.join(", "))]
    Several {
        /// What was given.
        word: String,
        /// The states that are called so.
        names: Vec<String>,
    },
    /// Nothing was kept yet.
    #[error("the history is empty: name two states, or `local`")]
    NoHistory,
}

/// The state of `history` (newest first) that `word` means: its key, its name, the beginning of one, or a time.
pub fn pick(word: &str, history: &[ObjectKey]) -> Result<ObjectKey, Unclear> {
    let bare = word.rsplit('/').next().unwrap_or(word);
    let bare = bare.strip_suffix(".tar.gz").unwrap_or(bare);
    if let Some(exact) = history.iter().find(|key| history::name(key) == bare) {
        return Ok(exact.clone());
    }
    let begun: Vec<_> = history
        .iter()
        .filter(|key| !bare.is_empty() && history::name(key).starts_with(bare))
        .collect();
    match begun.as_slice() {
        [one] => Ok((*one).clone()),
        [] => until(word, history).ok_or_else(|| Unclear::Nothing { word: word.into() }),
        several => Err(Unclear::Several {
            word: word.into(),
            names: several
                .iter()
                .map(|key| history::name(key).into())
                .collect(),
        }),
    }
}

/// The newest state that was kept at the time `word` or before.
fn until(word: &str, history: &[ObjectKey]) -> Option<ObjectKey> {
    let end = time(word)?.system();
    let is_older = |key: &&ObjectKey| Kept::parse(key).is_some_and(|kept| kept.at() <= end);
    history.iter().find(is_older).cloned()
}

/// A time as people write it, in UTC: `2026-11-21T08:21:00Z`, `2026-11-21 08:21`.
fn time(word: &str) -> Option<Time> {
    let mut text = word.trim_end_matches('Z').replace(' ', "T");
    if text.len() == "2026-11-21T08:21".len() {
        text.push_str(":00");
    }
    text.push('Z');
    Time::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: [&str; 3] = [
        "b/.the0/history/20261121T082101.123Z-g3-late.tar.gz",
        "b/.the0/history/20261121T082000.000Z-g3-push.tar.gz",
        "b/.the0/history/20261120T235959.999Z-g2-start.tar.gz",
    ];

    fn picked(word: &str) -> Result<usize, Unclear> {
        let keys: Vec<ObjectKey> = HISTORY.iter().map(|key| key.parse().unwrap()).collect();
        let key = pick(word, &keys)?;
        Ok(keys.iter().position(|one| *one == key).unwrap())
    }

    #[test]
    fn a_state_is_told_by_its_key_its_name_or_the_beginning_of_it() {
        for word in [
            HISTORY[1],
            "20261121T082000.000Z-g3-push",
            "20261121T082000.000Z-g3-push.tar.gz",
            "20261121T0820",
        ] {
            assert_eq!(picked(word), Ok(1), "{word}");
        }
    }

    #[test]
    fn a_time_means_the_newest_one_kept_until_then() {
        assert_eq!(picked("2026-11-21T08:21:00Z"), Ok(1));
        assert_eq!(picked("2026-11-21 08:22"), Ok(0));
        assert_eq!(picked("2026-11-21T00:00:00Z"), Ok(2));
    }

    #[test]
    fn what_means_none_or_several_is_refused_with_their_names() {
        let text = picked("20261121T").unwrap_err().to_string();
        assert!(text.contains("g3-late, 2026"), "{text}");
        for word in ["x", "", "2026-11-20T00:00:00Z", "2026-13-99T00:00:00Z"] {
            assert!(
                matches!(picked(word), Err(Unclear::Nothing { .. })),
                "{word}"
            );
        }
    }
}
