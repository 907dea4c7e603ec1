//! Which bots a token may ask: `NAME TOKEN *`, or `NAME TOKEN ID,ID`.

use std::collections::BTreeSet;

use contract::BotId;

use crate::control::tokens::Allows;

/// The bots of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bots {
    /// All.
    All,
    /// These.
    These(BTreeSet<BotId>),
}

impl Bots {
    /// Whether this one is among them.
    pub fn has(&self, bot: &BotId) -> bool {
        match self {
            Self::All => true,
            Self::These(bots) => bots.contains(bot),
        }
    }
}

impl Allows for Bots {
    const FORM: &'static str = "NAME TOKEN *|ID,ID";

    fn read(word: Option<&str>) -> Result<Self, String> {
        let word = word.ok_or("say which bots: `*`, or their ids, separated by commas")?;
        if word == "*" {
            return Ok(Self::All);
        }
        let id = |id: &str| id.parse().map_err(|err| format!("{id:?}: {err}"));
        let ids: Result<_, String> = word.split(',').map(id).collect();
        Ok(Self::These(ids?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_all_bots_or_for_those_it_names() {
        let read = |word| Bots::read(Some(word));
        assert!(read("*").unwrap().has(&"b".parse().unwrap()));
        let two = read("a,b").unwrap();
        assert!(two.has(&"b".parse().unwrap()) && !two.has(&"c".parse().unwrap()));
        for bad in ["", "a,,b", "../x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(Bots::read(None).is_err());
    }
}
