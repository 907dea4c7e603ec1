//! One writer a bot: a start claims the bot by raising the generation in a small object beside the state.
//!
//! The claim is compared and set, so of two starts at once one has the higher generation and the other is fenced
//! as soon as it looks or pushes.

use std::io::Read;

use contract::record::Time;
use serde::{Deserialize, Serialize};

use crate::store::{Condition, Error, Etag, Metadata, Place, Store};

/// What the claim's object holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Raised by one with each start.
    pub generation: u64,
    /// Who claimed: host and process, for a person.
    pub instance: String,
    /// When.
    pub at: Time,
}

/// The claim as it stands; `None` if the bot was never claimed.
pub fn look(store: &Store, at: &Place) -> Result<Option<(Claim, Etag)>, Error> {
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
    let claim = serde_json::from_slice(&text).map_err(|_| Error::Other {
        what: at.to_string(),
        why: "it is not a claim; remove it if no instance of the bot runs".to_owned(),
    })?;
    Ok(Some((claim, object.head.etag)))
}

/// Claims the bot with a generation above the claim's and above `least`.
pub fn raise(store: &Store, at: &Place, least: u64) -> Result<u64, Error> {
    let mut lost = None;
    for _ in 0..20 {
        let seen = look(store, at)?;
        let generation = seen
            .as_ref()
            .map_or(0, |(claim, _)| claim.generation)
            .max(least)
            + 1;
        let claim = Claim {
            generation,
            instance: instance(),
            at: Time::now(),
        };
        let bytes = serde_json::to_vec(&claim).map_err(|error| Error::Other {
            what: at.to_string(),
            why: error.to_string(),
        })?;
        let condition = Condition::still(seen.as_ref().map(|(_, etag)| etag));
        match store.put_bytes(at, &condition, &Metadata::new(), &bytes) {
            Ok(_) => return Ok(generation),
            Err(error @ Error::Conflict(_)) => lost = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(lost.unwrap_or_else(|| Error::Conflict(at.clone())))
}

fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
