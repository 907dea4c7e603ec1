//! One writer in a store that passes the conditions of writes over: each instance writes objects of its own.
//!
//! ```text
//! <bot>/.the0/claims/<generation>-<uuid>    one for each start
//! <bot>/.the0/states/<generation>.tar.gz    what that instance pushed last; copied to <bot>/state.tar.gz
//! ```
//!
//! * A claim counts once its writer has listed the claims and found it the highest, and no other of its generation:
//!   of two at once, at least the later one sees both, and takes a higher one.
//! * A push writes the instance's own object, looks at the claims, and only then copies it to the state's place. A
//!   loser that was held up between the two still replaces the state there; the winner sees that at its next look, by the
//!   lower generation, and pushes again. Until then, and whatever else happens, the winner's object holds its state, and a
//!   start goes by that ([`recover`]).
//!
//! A state's object that was removed by hand comes back from there too, unless `.the0/states` is removed with it.

use std::fs;

use contract::ObjectKey;

use crate::base::GENERATION;
use crate::settings::Places;
use crate::store::{Condition, Error, Etag, Head, Metadata, Place, PutError, Store, Upload};

/// How many claims, and states of instances, are kept.
const KEPT: usize = 3;

/// The highest claim; 0 if there is none.
pub fn highest(places: &Places, store: &Store) -> Result<u64, Error> {
    let keys = list(places, store, "claims/")?;
    Ok(keys.iter().filter_map(generation_of).max().unwrap_or(0))
}

/// Claims the bot with a generation above `least` that is nobody else's.
pub fn raise(places: &Places, store: &Store, least: u64) -> Result<u64, Error> {
    let instance = uuid()?;
    let mut generation = highest(places, store)?.max(least) + 1;
    for _ in 0..20 {
        let own = ours(places, &format!("claims/{generation:020}-{instance}"))?;
        store.put_bytes(&own, &Condition::Any, &Metadata::new(), b"")?;
        let keys = list(places, store, "claims/")?;
        let same = |key: &&ObjectKey| generation_of(key) == Some(generation);
        let rivals: Vec<_> = keys.iter().filter(same).collect();
        let highest = keys.iter().filter_map(generation_of).max();
        if highest <= Some(generation) && rivals.len() <= 1 {
            prune(places, store, &keys);
            return Ok(generation);
        }
        // Rivals that see each other take different steps.
        let below = rivals.iter().filter(|key| ***key < own.key).count() as u64;
        generation = highest.unwrap_or(0).max(generation) + 1 + below;
    }
    Err(Error::Conflict(ours(places, "claims/x")?))
}

/// Writes the state as `generation`, into the object of its own and from there into the state's place, unless someone
/// has put another than `seen` there by hand.
pub fn put<E>(
    places: &Places,
    store: &Store,
    generation: u64,
    seen: Option<&Etag>,
    metadata: &Metadata,
    fill: impl FnOnce(&mut Upload<'_>) -> Result<(), E>,
) -> Result<Etag, PutError<E>> {
    let own = ours(places, &format!("states/{generation:020}.tar.gz")).map_err(PutError::Store)?;
    let etag = store.put(&own, &Condition::Any, metadata, fill)?;
    check(places, store, generation, seen).map_err(PutError::Store)?;
    publish(places, store, generation, &own, &etag).map_err(PutError::Store)
}

/// That nobody else's is overwritten, as far as looking before can tell.
fn check(
    places: &Places,
    store: &Store,
    generation: u64,
    seen: Option<&Etag>,
) -> Result<(), Error> {
    let at = places.state();
    let there = store.head(&at)?;
    let edited = there.is_some_and(|head| said(&head).is_none() && Some(&head.etag) != seen);
    if edited || highest(places, store)? > generation {
        return Err(Error::Conflict(at));
    }
    Ok(())
}

fn publish(
    places: &Places,
    store: &Store,
    generation: u64,
    own: &Place,
    etag: &Etag,
) -> Result<Etag, Error> {
    let at = places.state();
    store.copy(own, etag, &at)?;
    let there = store
        .head(&at)?
        .filter(|head| said(head) == Some(generation));
    let there = there.ok_or(Error::Conflict(at))?;
    prune(places, store, &list(places, store, "states/")?);
    Ok(there.etag)
}

/// Puts into the state's place what the highest instance pushed last, if a push that was cut off or a loser's late one
/// left something older there. What someone else put there stays.
pub fn recover(places: &Places, store: &Store) -> Result<(), Error> {
    let keys = list(places, store, "states/")?;
    let Some(key) = keys.last() else {
        return Ok(());
    };
    let (own, at) = (
        Place::new(&places.state_bucket, key.clone()),
        places.state(),
    );
    let (Some(newest), there) = (store.head(&own)?, store.head(&at)?) else {
        return Ok(());
    };
    let older = there.is_none_or(|there| match (said(&there), generation_of(key)) {
        (Some(there), Some(newest)) if there < newest => true,
        // The instance's own object is written first.
        (Some(same), newest_is) if Some(same) == newest_is => there.metadata != newest.metadata,
        _ => false,
    });
    if older {
        contract::warn!("{at} is older than {own} and is replaced by it");
        store.copy(&own, &newest.etag, &at)?;
    }
    Ok(())
}

fn said(head: &Head) -> Option<u64> {
    head.metadata.get(GENERATION)?.parse().ok()
}

/// The generation in the key of a claim or a state.
fn generation_of(key: &ObjectKey) -> Option<u64> {
    let name = key.as_str().rsplit('/').next()?;
    name.get(..20)?.parse().ok()
}

fn list(places: &Places, store: &Store, folder: &str) -> Result<Vec<ObjectKey>, Error> {
    let prefix = ours(places, &format!("{folder}x"))?.key;
    let prefix = prefix.as_str().trim_end_matches('x');
    let mut keys = store.list(&places.state_bucket, prefix)?;
    keys.retain(|key| generation_of(key).is_some());
    keys.sort();
    Ok(keys)
}

/// Removes all but the last of `keys`. What cannot be removed now is removed the next time.
fn prune(places: &Places, store: &Store, keys: &[ObjectKey]) {
    for key in &keys[..keys.len().saturating_sub(KEPT)] {
        if let Err(error) = store.delete(&Place::new(&places.state_bucket, key.clone())) {
            contract::debug!("{key} cannot be removed: {error}");
        }
    }
}

fn ours(places: &Places, name: &str) -> Result<Place, Error> {
    places.ours(name).map_err(|error| Error::Other {
        what: name.to_owned(),
        why: error.to_string(),
    })
}

fn uuid() -> Result<String, Error> {
    let what = "/proc/sys/kernel/random/uuid";
    let read = fs::read_to_string(what).map_err(|cause| Error::Unavailable {
        what: what.to_owned(),
        cause,
    })?;
    Ok(read.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::TREE;
    use crate::store::Directory;
    use std::io::{self, Read, Write};

    fn bot() -> (tempfile::TempDir, Places, Store) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let variables = [("BOT_ID", "b1"), ("THE0_STORE", path)];
        let variables = variables.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let places = Places::parse(&variables.into_iter().collect()).unwrap();
        let store = Store::Directory(Directory::open(dir.path()).unwrap());
        (dir, places, store)
    }

    fn metadata(generation: u64, text: &str) -> Metadata {
        Metadata::from([
            (GENERATION.to_owned(), generation.to_string()),
            (TREE.to_owned(), text.to_owned()),
        ])
    }

    fn push(places: &Places, store: &Store, generation: u64, text: &str) -> Result<Etag, Error> {
        push_over(places, store, None, generation, text)
    }

    fn push_over(
        places: &Places,
        store: &Store,
        seen: Option<&Etag>,
        generation: u64,
        text: &str,
    ) -> Result<Etag, Error> {
        let fill = |out: &mut Upload<'_>| out.write_all(text.as_bytes());
        let metadata = metadata(generation, text);
        put(places, store, generation, seen, &metadata, fill).map_err(|error| match error {
            PutError::Store(error) => error,
            PutError::Fill(error) => panic!("{error}"),
        })
    }

    #[test]
    fn what_a_person_put_there_while_a_push_was_on_its_way_stays() {
        let (_dir, places, store) = bot();
        push(&places, &store, 1, "1").unwrap();
        let edit = store.put_bytes(
            &places.state(),
            &Condition::Any,
            &Metadata::new(),
            b"edited",
        );
        let edit = edit.unwrap();
        let late = push(&places, &store, 1, "late").unwrap_err();
        assert!(matches!(late, Error::Conflict(_)), "{late}");
        assert_eq!(content(&places, &store), "edited");
        push_over(&places, &store, Some(&edit), 1, "went on from it").unwrap();
        assert_eq!(content(&places, &store), "went on from it");
    }

    fn content(places: &Places, store: &Store) -> String {
        let object = store.get(&places.state()).unwrap();
        io::read_to_string(object.body.take(100)).unwrap()
    }

    #[test]
    fn of_claims_at_once_no_two_have_the_same_generation() {
        let (_dir, places, store) = bot();
        let some = || {
            let each = (0..5).map(|_| raise(&places, &store, 0).unwrap());
            each.collect::<Vec<_>>()
        };
        let mut all = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(some)).collect();
            let each = threads.into_iter().flat_map(|t| t.join().unwrap());
            each.collect::<Vec<_>>()
        });
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        assert!(raise(&places, &store, 500).unwrap() > 500);
        assert!(list(&places, &store, "claims/").unwrap().len() <= KEPT);
    }

    #[test]
    fn one_that_was_claimed_over_does_not_reach_the_states_place() {
        let (_dir, places, store) = bot();
        let first = raise(&places, &store, 0).unwrap();
        push(&places, &store, first, "1").unwrap();
        let second = raise(&places, &store, 0).unwrap();
        push(&places, &store, second, "2").unwrap();
        let late = push(&places, &store, first, "late").unwrap_err();
        assert!(matches!(late, Error::Conflict(_)), "{late}");
        assert_eq!(content(&places, &store), "2");
    }

    #[test]
    fn a_losers_late_copy_and_a_push_that_was_cut_off_are_put_right_at_the_next_start() {
        let (_dir, places, store) = bot();
        push(&places, &store, 4, "loser").unwrap();
        push(&places, &store, 5, "winner").unwrap();
        let at = places.state();
        let overwrite = |generation, text: &str| {
            let metadata = metadata(generation, text);
            let put = store.put_bytes(&at, &Condition::Any, &metadata, text.as_bytes());
            put.unwrap();
        };
        for (generation, text) in [(4, "loser"), (5, "the one before")] {
            overwrite(generation, text);
            recover(&places, &store).unwrap();
            assert_eq!(content(&places, &store), "winner");
        }
        store.delete(&at).unwrap();
        recover(&places, &store).unwrap();
        assert_eq!(content(&places, &store), "winner");
        overwrite(6, "of a start that knows conditions");
        recover(&places, &store).unwrap();
        assert_eq!(content(&places, &store), "of a start that knows conditions");
        let edit = store.put_bytes(&at, &Condition::Any, &Metadata::new(), b"edited");
        edit.unwrap();
        recover(&places, &store).unwrap();
        assert_eq!(content(&places, &store), "edited");
    }

    #[test]
    fn of_states_by_generation_the_last_three_stay() {
        let (_dir, places, store) = bot();
        for generation in 1..=6 {
            push(&places, &store, generation, "1").unwrap();
        }
        let keys = list(&places, &store, "states/").unwrap();
        let left: Vec<_> = keys.iter().filter_map(generation_of).collect();
        assert_eq!(left, [4, 5, 6]);
    }
}
