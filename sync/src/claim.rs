//! One writer a bot: a start claims the bot by raising the generation in a small object beside the state.
//!
//! The claim is compared and set, so of two starts at once one has the higher generation and the other is fenced
//! as soon as it looks or pushes. In a store that passes conditions over, [`generations`] does what can be done.
//!
//! Which of the two a store is, it is asked with writes whose condition cannot hold. That it keeps to conditions is noted
//! in the claim, which no bot can write, so that the next start claims without asking first. Nothing is pushed on that:
//! `sync watch` asks again before the first push of each start ([`Asked::Before`]). A store of another address or name,
//! an answer that is old, and a store that passes conditions over are asked before the claim.

mod ahead;
pub mod generations;

use std::io::{self, Read};
use std::time::Duration;

use anyhow::Context;
use contract::record::Time;
use serde::{Deserialize, Serialize};

use crate::base::GENERATION;
use crate::retry;
use crate::settings::Places;
use crate::store::{Condition, Error, Etag, Metadata, Place, Probe, Store};

pub use ahead::Ahead;

/// How long a store that kept to conditions is claimed in without being asked first.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 86_400);

/// How writers are kept apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fence {
    /// By the conditions of writes.
    #[default]
    Conditional,
    /// By objects of their own, as the store passes conditions over.
    Generations,
}

/// When the store was asked which [`Fence`] it has to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// In this start.
    #[default]
    Now,
    /// In an earlier one: to be asked again before anything is pushed.
    Before,
}

impl Fence {
    /// Asks the store which it has to be, for as long as `deadline`, and says what is lost if it is not the better one.
    pub fn of(places: &Places, store: &Store, deadline: Duration) -> anyhow::Result<Self> {
        let scratch = places.ours("probe")?;
        for probe in [Probe::Put, Probe::Complete] {
            let asked = || store.honours_conditions(&scratch, probe);
            let honoured = retry::until(deadline, asked);
            if !honoured.context("find out whether the store keeps to conditions of writes")? {
                contract::warn!(
                    "the store writes also where a condition of the write (If-Match) does not hold: a second instance \
                     is noticed before each push and not in it, so that for moments it may be seen in {}; each push \
                     sends the whole state; of a log that two instances write, lines can be lost",
                    places.state()
                );
                return Ok(Self::Generations);
            }
        }
        Ok(Self::Conditional)
    }

    /// The highest generation that has claimed the bot; 0 if none has.
    pub fn claimed(self, places: &Places, store: &Store) -> anyhow::Result<u64> {
        let claim = look(store, &places.ours("claim")?)?;
        let claimed = claim.map_or(0, |(claim, _)| claim.generation);
        Ok(match self {
            Self::Conditional => claimed,
            Self::Generations => claimed.max(generations::highest(places, store)?),
        })
    }
}

/// That a store kept to the conditions of writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Which store: its address, and what it calls itself.
    store: String,
    /// When it was asked.
    at: Time,
}

impl Kept {
    /// Whether that still says something of the store called `name`. A time to come is no time that it was asked at.
    fn holds_for(&self, name: &str) -> bool {
        let asked = self.at.system().elapsed();
        self.store == name && asked.is_ok_and(|age| age < KNOWN_FOR)
    }
}

/// The claim's object as it was found: `None` if the bot was never claimed.
type Found = Option<(Claim, Etag)>;

/// What a start knows before it claims the bot.
#[derive(Debug)]
pub struct Sight {
    /// How writers are kept apart here.
    pub fence: Fence,
    /// When the store said so.
    pub asked: Asked,
    /// The claim, until it was tried to replace it.
    found: Option<Found>,
    /// What the claim is to say of the store.
    kept: Option<Kept>,
}

impl Sight {
    /// Looks at the claim, and asks the store what the claim does not know of it, for as long as `deadline` each.
    pub fn of(places: &Places, store: &Store, deadline: Duration) -> anyhow::Result<Self> {
        let place = places.ours("claim")?;
        let found = retry::until(deadline, || look(store, &place)).context("claim the bot")?;
        let kept = found.as_ref().and_then(|(claim, _)| claim.kept.clone());
        let name = store.name();
        let known = kept.filter(|kept| name.as_ref().is_some_and(|name| kept.holds_for(name)));
        let asked = if known.is_some() {
            Asked::Before
        } else {
            Asked::Now
        };
        let fence = match known {
            Some(_) => Fence::Conditional,
            None => Fence::of(places, store, deadline)?,
        };
        let now = || {
            let store = name.filter(|_| fence == Fence::Conditional)?;
            let at = Time::now();
            Some(Kept { store, at })
        };
        Ok(Self {
            fence,
            asked,
            found: Some(found),
            kept: known.or_else(now),
        })
    }

    /// Claims the bot with a generation above every other's and above `least`.
    pub fn raise(&mut self, places: &Places, store: &Store, least: u64) -> anyhow::Result<u64> {
        let place = places.ours("claim")?;
        let raised = retry::until(places.deadline, || match self.fence {
            Fence::Conditional => self.replace(store, &place, least),
            Fence::Generations => raise_beside(places, store, &place, least),
        });
        raised.context("claim the bot")
    }

    /// Claims the bot anew, above `pushed`, if a state of that generation is there under our claim `ours`: the claim's object
    /// was removed or went back. If another has claimed the bot meanwhile, that is whose the state is, and `ours` stays.
    pub fn raise_above(
        &mut self,
        places: &Places,
        store: &Store,
        ours: u64,
        pushed: u64,
    ) -> anyhow::Result<u64> {
        let place = places.ours("claim")?;
        let found = retry::until(places.deadline, || look(store, &place))?;
        if (found.as_ref()).is_some_and(|(claim, _)| claim.generation > ours) {
            return Ok(ours);
        }
        self.raise(places, store, pushed)
    }

    /// Claims the bot with a generation above the claim's and above `least`.
    fn replace(&mut self, store: &Store, at: &Place, least: u64) -> Result<u64, Error> {
        let mut lost = None;
        for _ in 0..20 {
            let seen = match self.found.take() {
                Some(found) => found,
                None => look(store, at)?,
            };
            let generation = seen
                .as_ref()
                .map_or(0, |(claim, _)| claim.generation)
                .max(least)
                + 1;
            let condition = Condition::still(seen.as_ref().map(|(_, etag)| etag));
            match put(store, at, &condition, generation, self.kept.clone()) {
                Ok(()) => return Ok(generation),
                Err(error @ Error::Conflict(_)) => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(lost.unwrap_or_else(|| Error::Conflict(at.clone())))
    }
}

/// Claims the bot where conditions are passed over.
pub fn claim_beside(places: &Places, store: &Store, least: u64) -> anyhow::Result<u64> {
    let place = places.ours("claim")?;
    raise_beside(places, store, &place, least).context("claim the bot")
}

fn raise_beside(places: &Places, store: &Store, at: &Place, least: u64) -> Result<u64, Error> {
    let claim = look(store, at)?;
    let least = claim.map_or(0, |(claim, _)| claim.generation).max(least);
    let generation = generations::raise(places, store, least)?;
    put(store, at, &Condition::Any, generation, None)?;
    Ok(generation)
}

/// What the claim's object holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Raised by one with each start.
    pub generation: u64,
    /// Who claimed: host and process, for a person.
    pub instance: String,
    /// When.
    pub at: Time,
    /// What is known of the store's conditions, if they are kept to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
}

/// The claim as it stands.
fn look(store: &Store, at: &Place) -> Result<Found, Error> {
    let object = match store.get(at) {
        Ok(object) => object,
        Err(Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    let read = object.body.take(64 << 10).read_to_end(&mut text);
    read.map_err(|cause| Error::Unavailable {
        what: at.to_string(),
        cause,
    })?;
    let claim = agreed(at, &text, object.head.metadata.get(GENERATION))?;
    Ok(Some((claim, object.head.etag)))
}

/// The claim in `text`, if it says the same as what is noted beside it: who is fenced depends on it.
fn agreed(at: &Place, text: &[u8], noted: Option<&String>) -> Result<Claim, Error> {
    let claim: Option<Claim> = serde_json::from_slice(text).ok();
    match (claim, noted) {
        (Some(claim), None) => Ok(claim),
        (Some(claim), Some(noted)) if *noted == claim.generation.to_string() => Ok(claim),
        (_, Some(_)) => Err(Error::Unavailable {
            what: at.to_string(),
            cause: io::Error::other("it came damaged, its content and its metadata disagree"),
        }),
        (None, None) => Err(Error::Other {
            what: at.to_string(),
            why: "it is not a claim; remove it if no instance of the bot runs".to_owned(),
        }),
    }
}

fn put(
    store: &Store,
    at: &Place,
    condition: &Condition,
    generation: u64,
    kept: Option<Kept>,
) -> Result<(), Error> {
    let claim = Claim {
        generation,
        instance: instance(),
        at: Time::now(),
        kept,
    };
    let bytes = serde_json::to_vec(&claim).map_err(|error| Error::Other {
        what: at.to_string(),
        why: error.to_string(),
    })?;
    let metadata = Metadata::from([(GENERATION.to_owned(), generation.to_string())]);
    store
        .put_bytes(at, condition, &metadata, &bytes)
        .map(|_| ())
}

fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn raise(store: &Store, at: &Place, least: u64) -> Result<u64, Error> {
        let mut sight = Sight {
            fence: Fence::Conditional,
            asked: Asked::Now,
            found: None,
            kept: None,
        };
        sight.replace(store, at, least)
    }

    #[test]
    fn that_conditions_are_kept_to_is_known_of_one_store_for_a_time() {
        let ago = |days: u64| Kept {
            store: "http://store MinIO".to_owned(),
            at: (SystemTime::now() - Duration::from_secs(days * 86_400)).into(),
        };
        assert!(ago(0).holds_for("http://store MinIO") && ago(29).holds_for("http://store MinIO"));
        assert!(!ago(31).holds_for("http://store MinIO"));
        for other in [
            "http://store",
            "http://other MinIO",
            "https://store MinIO",
            "",
        ] {
            assert!(!ago(0).holds_for(other), "{other}");
        }
        let to_come = Kept {
            at: (SystemTime::now() + Duration::from_secs(60)).into(),
            ..ago(0)
        };
        assert!(!to_come.holds_for("http://store MinIO"));
    }

    #[test]
    fn each_claim_is_higher_than_all_before_also_when_two_race() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new("s", "b/.the0/claim".parse().unwrap());
        let open = || Store::Directory(crate::store::Directory::open(dir.path()).unwrap());
        assert_eq!(look(&open(), &place).unwrap(), None);
        let raise_some = || {
            let store = open();
            (0..4)
                .map(|_| raise(&store, &place, 0).unwrap())
                .collect::<Vec<_>>()
        };
        let mut all = std::thread::scope(|scope| {
            let two = [scope.spawn(raise_some), scope.spawn(raise_some)];
            two.into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect::<Vec<_>>()
        });
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(raise(&open(), &place, 20).unwrap(), 21);
    }

    #[test]
    fn a_claim_that_came_damaged_is_asked_for_again_and_fences_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new("s", "b/.the0/claim".parse().unwrap());
        let store = Store::Directory(crate::store::Directory::open(dir.path()).unwrap());
        raise(&store, &place, 6).unwrap();
        let (claim, _) = look(&store, &place).unwrap().unwrap();
        let text = serde_json::to_string(&claim).unwrap();
        let noted = "7".to_owned();
        for damaged in [text.replace('7', "9"), text.replace('{', "x")] {
            let error = agreed(&place, damaged.as_bytes(), Some(&noted)).unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        }
        // One that a person wrote has nothing noted beside it.
        assert_eq!(agreed(&place, text.as_bytes(), None).unwrap(), claim);
        let other = agreed(&place, b"what?", None).unwrap_err();
        assert!(matches!(other, Error::Other { .. }), "{other}");
    }
}
