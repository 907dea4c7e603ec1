//! Ids and names of bots: making the one from text, finding the other from what a person types.

use contract::BotId;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// An id in the platform's form, 24 characters of a-z0-9, the same for the same text everywhere.
///
/// # Panics
/// Never: what it makes is an id.
pub fn from_text(text: &str) -> BotId {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let hash = Sha256::digest(text);
    // 36 does not divide 256: the bias is of no matter for a name, that it never changes is.
    let id: String = hash
        .iter()
        .take(24)
        .map(|byte| char::from(DIGITS[usize::from(*byte) % 36]))
        .collect();
    id.parse()
        .unwrap_or_else(|_| unreachable!("24 letters and digits are an id"))
}

/// How a bot may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: BotId,
    /// Its name.
    pub name: String,
    /// Its folder's name.
    pub alias: Option<String>,
}

/// Why a word does not tell a bot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unclear {
    /// There is none.
    #[error("no bot is called {word:?}{hint}")]
    Nobody {
        /// The word.
        word: String,
        /// What there is.
        hint: String,
    },
    /// There are several.
    #[error("{word:?} may be {candidates}: give the id")]
    Several {
        /// The word.
        word: String,
        /// Names and ids.
        candidates: String,
    },
}

/// Finds the bot that a person means: by its id, its name, its folder's name, or the beginning of one of these.
///
/// # Errors
/// Nobody, or several, are called so.
pub fn find<'a>(word: &str, known: &'a [Known]) -> Result<&'a Known, Unclear> {
    if let Some(bot) = known.iter().find(|bot| bot.id.as_str() == word) {
        return Ok(bot);
    }
    let names = |bot: &Known| [Some(bot.name.clone()), bot.alias.clone()];
    let exact: Vec<_> = known
        .iter()
        .filter(|b| names(b).iter().flatten().any(|n| n == word))
        .collect();
    let begins = |bot: &&Known| {
        let mut words = names(bot).into_iter().flatten().chain([bot.id.to_string()]);
        words.any(|name| name.starts_with(word))
    };
    let found = if exact.is_empty() && !word.is_empty() {
        known.iter().filter(begins).collect()
    } else {
        exact
    };
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Unclear::Nobody {
            word: word.to_owned(),
            hint: hint(known),
        }),
        several => {
            let each = several
                .iter()
                .map(|bot| format!("{} ({})", bot.name, bot.id));
            let candidates = each.collect::<Vec<_>>().join(" or ");
            Err(Unclear::Several {
                word: word.to_owned(),
                candidates,
            })
        }
    }
}

fn hint(known: &[Known]) -> String {
    let mut names: Vec<_> = known.iter().map(|bot| bot.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names.len() {
        0 => "; there are none here".into(),
        n if n > 12 => format!("; there are {n}, see `agent ps`"),
        _ => format!("; there are: {}", names.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: &str, name: &str, alias: Option<&str>) -> Known {
        Known {
            id: id.parse().unwrap(),
            name: name.into(),
            alias: alias.map(Into::into),
        }
    }

    #[test]
    fn an_id_has_the_platforms_form_and_never_changes() {
        let id = from_text("directory bot\nwatcher");
        assert_eq!(id.as_str().len(), 24);
        assert_eq!(id.as_str(), "pouh8mosp98d3osksp1s2nrb");
    }

    #[test]
    fn a_bot_is_found_by_id_name_folder_or_their_beginning() {
        let all = [
            known("aaa1", "price watcher", Some("watcher")),
            known("aab2", "grid", Some("grid")),
            known("w", "grid2", None),
        ];
        let found = |word: &str| find(word, &all).map(|bot| bot.id.to_string());
        for (word, id) in [
            ("aaa1", "aaa1"),
            ("watcher", "aaa1"),
            ("price", "aaa1"),
            ("grid", "aab2"),
            ("aab", "aab2"),
            ("w", "w"),
        ] {
            assert_eq!(found(word).as_deref(), Ok(id), "{word}");
        }
        let several = found("gr").unwrap_err().to_string();
        assert!(several.contains("grid (aab2) or grid2 (w)"), "{several}");
        let nobody = found("x").unwrap_err().to_string();
        assert!(nobody.contains("grid2"), "{nobody}");
        assert!(found("").is_err());
    }
}
