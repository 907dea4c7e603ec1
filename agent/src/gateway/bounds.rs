//! How many questions are attended at once: of all bots, of one, and of those that need a container of their own. What is
//! beyond is refused at once, so that nobody waits for what will not come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use contract::BotId;
use contract::launch::Variables;

/// The bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Of all.
    pub all: usize,
    /// Of one bot.
    pub bot: usize,
    /// Containers for one question each.
    pub apart: usize,
}

impl Most {
    /// Reads the agent's environment.
    ///
    /// # Errors
    /// The variable that cannot be used.
    pub fn parse(given: &Variables) -> Result<Self> {
        let get = |name: &str, usual: usize| {
            let text = given.get(name).map(|text| text.trim());
            match text.filter(|text| !text.is_empty()).map(str::parse) {
                None => Ok(usual),
                Some(Ok(count)) if (1..=10_000).contains(&count) => Ok(count),
                Some(_) => bail!(
                    "{name} is no number from 1 to 10000: give how many questions are attended at once"
                ),
            }
        };
        Ok(Self {
            all: get("THE0_QUERY_AT_ONCE", 64)?,
            bot: get("THE0_QUERY_AT_ONCE_PER_BOT", 8)?,
            apart: get("THE0_QUERY_CONTAINERS", 4)?,
        })
    }
}

/// The places there are; clones share them.
#[derive(Debug, Clone)]
pub struct Places(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    most: Most,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    bots: HashMap<BotId, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    bot: BotId,
}

impl Places {
    /// So many.
    pub fn new(most: Most) -> Self {
        Self(Arc::new(Inside {
            most,
            taken: Mutex::default(),
        }))
    }

    /// A place for a question to `bot`, if there is one.
    pub fn take(&self, bot: &BotId) -> Option<Place> {
        let (most, mut taken) = (self.0.most, self.taken());
        let of_bot = taken.bots.get(bot).copied().unwrap_or_default();
        if taken.all >= most.all || of_bot >= most.bot {
            return None;
        }
        taken.all += 1;
        taken.bots.insert(bot.clone(), of_bot + 1);
        Some(Place {
            places: self.clone(),
            bot: bot.clone(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        match taken.bots.get_mut(&self.bot) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.bots.remove(&self.bot)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_there_is_and_what_is_given_back_is_there_again() {
        let most = Most {
            all: 3,
            bot: 2,
            apart: 1,
        };
        let places = Places::new(most);
        let bot = |id: &str| id.parse::<BotId>().unwrap();
        let (a, b) = (bot("a"), bot("b"));
        let first = places.take(&a).unwrap();
        let second = places.take(&a).unwrap();
        assert!(places.take(&a).is_none(), "two of one bot");
        let third = places.take(&b).unwrap();
        assert!(places.take(&b).is_none(), "three of all");
        drop(first);
        assert!(places.take(&b).is_some());
        drop((second, third));
        let taken = places.taken();
        assert_eq!((taken.all, taken.bots.len()), (0, 0));
    }

    #[test]
    fn settings_have_defaults_and_a_refusal_names_the_variable() {
        let parse =
            |name: &str, value: &str| Most::parse(&[(name.to_owned(), value.to_owned())].into());
        assert_eq!(parse("THE0_QUERY_AT_ONCE", "5").unwrap().all, 5);
        assert_eq!(parse("X", "").unwrap().apart, 4);
        for value in ["0", "many", "10001"] {
            let err = parse("THE0_QUERY_CONTAINERS", value)
                .unwrap_err()
                .to_string();
            assert!(err.starts_with("THE0_QUERY_CONTAINERS"), "{err}");
        }
    }
}
