//! Older states, kept beside the state: `<bot>/.the0/history/<time>-g<generation>-<reason>.tar.gz`.
//!
//! Kept are the last 5, then one an hour for 24 hours, one a day for 7 days, and for 7 days (at most 50 of each) what
//! starts found, and what lost against another writer or a person. A push keeps what it replaces, but only the first
//! of a start and then one each [`SPACING`]: keeping copies the object, and pushes each second would push everything
//! worth keeping out of the last 5.

mod mark;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use contract::ObjectKey;
use contract::record::Time;

use crate::archive::{self, Torn, WriteError};
use crate::base::{GENERATION, TREE};
use crate::settings::Places;
use crate::store::{Condition, Error, Etag, Metadata, Place, PutError, Store, Upload};
use crate::tree::Tree;
use mark::Mark;

/// Time between two states kept by pushes.
pub const SPACING: Duration = Duration::from_secs(600);

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Why a state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It was replaced by a push.
    Push,
    /// It was there when an instance started.
    Start,
    /// It was on an instance's disk when the store's was restored over it.
    Local,
    /// It is that of an instance that was fenced.
    Fenced,
    /// It is that of an instance whose state was edited outside.
    Edited,
    /// It was pushed by an instance after another had claimed the bot.
    Late,
    /// A person put another one in its place.
    Replaced,
}

impl Reason {
    const ALL: [Self; 7] = [
        Self::Push,
        Self::Start,
        Self::Local,
        Self::Fenced,
        Self::Edited,
        Self::Late,
        Self::Replaced,
    ];

    /// What it is called in keys and by people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Start => "start",
            Self::Local => "local",
            Self::Fenced => "fenced",
            Self::Edited => "edited",
            Self::Late => "late",
            Self::Replaced => "replaced",
        }
    }
}

/// A kept state, as its key tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    at: SystemTime,
    key: ObjectKey,
    reason: Reason,
}

impl Kept {
    /// What `key` tells, if it is one of the history.
    pub fn parse(key: &ObjectKey) -> Option<Self> {
        let name = key.as_str().rsplit('/').next()?.strip_suffix(".tar.gz")?;
        let mut parts = name.splitn(3, '-');
        let at = expand(parts.next()?)?;
        parts.next()?.strip_prefix('g')?.parse::<u64>().ok()?;
        let reason = parts.next()?;
        let reason = Reason::ALL.into_iter().find(|r| r.name() == reason)?;
        Some(Self {
            at,
            key: key.clone(),
            reason,
        })
    }

    /// When it was kept.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    fn age(&self, now: SystemTime) -> u64 {
        now.duration_since(self.at).unwrap_or_default().as_secs()
    }

    fn since_epoch(&self) -> u64 {
        self.at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    }
}

/// `20261121T082101.123Z` as a time.
fn expand(compact: &str) -> Option<SystemTime> {
    let (date, time) = compact.split_once('T')?;
    let long = |text: &str, at: [usize; 2], sign: char| {
        let (a, b, c) = (
            text.get(..at[0])?,
            text.get(at[0]..at[1])?,
            text.get(at[1]..)?,
        );
        Some(format!("{a}{sign}{b}{sign}{c}"))
    };
    let text = format!("{}T{}", long(date, [4, 6], '-')?, long(time, [2, 4], ':')?);
    Time::try_from(text).ok().map(Time::system)
}

fn key_name(now: Time, generation: u64, reason: Reason) -> String {
    let compact = now.to_string().replace(['-', ':'], "");
    format!("history/{compact}-g{generation}-{}.tar.gz", reason.name())
}

/// Which of `kept` have had their time.
pub fn prune(now: SystemTime, mut kept: Vec<Kept>) -> Vec<ObjectKey> {
    kept.sort_by(|a, b| b.cmp(a));
    let mut keep = BTreeSet::new();
    let mut take = |some: &mut dyn Iterator<Item = &Kept>| {
        keep.extend(some.map(|k| k.key.clone()));
    };
    take(&mut kept.iter().take(5));
    take(&mut newest_of_each(&kept, HOUR, 24 * HOUR, now).into_iter());
    take(&mut newest_of_each(&kept, DAY, 7 * DAY, now).into_iter());
    // A bot that starts each minute does not push out what lost.
    let of_a_start = |k: &&Kept| k.reason == Reason::Start && k.age(now) < 7 * DAY;
    let lost =
        |k: &&Kept| !matches!(k.reason, Reason::Push | Reason::Start) && k.age(now) < 7 * DAY;
    take(&mut kept.iter().filter(of_a_start).take(50));
    take(&mut kept.iter().filter(lost).take(50));
    kept.into_iter()
        .map(|k| k.key)
        .filter(|key| !keep.contains(key))
        .collect()
}

fn newest_of_each(newest_first: &[Kept], slot: u64, span: u64, now: SystemTime) -> Vec<&Kept> {
    let mut slots = BTreeSet::new();
    let in_span = newest_first.iter().filter(|k| k.age(now) < span);
    in_span
        .filter(|k| slots.insert(k.since_epoch() / slot))
        .collect()
}

/// Keeps the object `from`, if it is still the version `etag`, by a copy inside the store.
pub fn keep_object(
    places: &Places,
    store: &Store,
    etag: &Etag,
    generation: u64,
    reason: Reason,
) -> anyhow::Result<ObjectKey> {
    let to = places.ours(&key_name(Time::now(), generation, reason))?;
    store
        .copy(&places.state(), etag, &to)
        .context("keep the state in the history")?;
    tidy(places, store);
    Ok(to.key)
}

/// How often a state is sent, as another instance that tidies may take the upload for one that was cut off.
const TRIES: u32 = 3;

/// Keeps the state on disk.
pub fn keep_tree(
    places: &Places,
    store: &Store,
    tree: &Tree,
    root: BorrowedFd<'_>,
    generation: u64,
    reason: Reason,
) -> anyhow::Result<ObjectKey> {
    let mut metadata = Metadata::from([(GENERATION.to_owned(), generation.to_string())]);
    metadata.extend(
        tree.digest()
            .map(|digest| (TREE.to_owned(), digest.to_string())),
    );
    let mut tries = 1..=TRIES;
    let to = loop {
        tries.next();
        let to = places.ours(&key_name(Time::now(), generation, reason))?;
        match send_tree(store, &to, &metadata, tree, root) {
            Ok(()) => break to,
            Err(PutError::Store(Error::Conflict(_))) if !tries.is_empty() => {}
            Err(PutError::Store(error)) => return Err(error).context(ON_DISK),
            Err(PutError::Fill(error)) => return Err(error).context(ON_DISK),
        }
    };
    tidy(places, store);
    Ok(to.key)
}

const ON_DISK: &str = "keep the state on disk in the history";

fn send_tree(
    store: &Store,
    to: &Place,
    metadata: &Metadata,
    tree: &Tree,
    root: BorrowedFd<'_>,
) -> Result<(), PutError<WriteError>> {
    let mark = Mark::put(store, to).map_err(PutError::Store)?;
    let fill =
        |out: &mut Upload<'_>| archive::write(tree, root, Torn::Accept, None, out).map(|_| ());
    match store.put(to, &Condition::Any, metadata, fill) {
        Ok(_) => mark.sent(store),
        Err(error) => {
            mark.failed(store);
            return Err(error);
        }
    }
    Ok(())
}

/// The keys of the history, newest first.
pub fn list(places: &Places, store: &Store) -> anyhow::Result<Vec<ObjectKey>> {
    let mut keys = all(places, store)?;
    keys.retain(|key| Kept::parse(key).is_some());
    keys.reverse();
    Ok(keys)
}

/// All keys there, those of marks too.
fn all(places: &Places, store: &Store) -> anyhow::Result<Vec<ObjectKey>> {
    let folder = places.ours("history/x")?;
    let prefix = folder.key.as_str().trim_end_matches('x');
    Ok(store.list(&folder.bucket, prefix)?)
}

/// What a person calls the state kept under `key`: its file name without `.tar.gz`.
pub fn name(key: &ObjectKey) -> &str {
    let key = key.as_str();
    let name = key.rsplit('/').next().unwrap_or(key);
    name.strip_suffix(".tar.gz").unwrap_or(name)
}

/// Removes what has had its time, and what uploads have left that were cut off. What cannot be removed now is removed the next time.
fn tidy(places: &Places, store: &Store) {
    let keys = match all(places, store) {
        Ok(keys) => keys,
        Err(error) => return contract::warn!("the history cannot be listed: {error:#}"),
    };
    mark::end_all(store, &places.state_bucket, &keys);
    let kept = keys.iter().filter_map(Kept::parse).collect();
    for key in prune(SystemTime::now(), kept) {
        let place = Place::new(&places.state_bucket, key);
        if let Err(error) = store.delete(&place) {
            contract::warn!("the history cannot be pruned: {error}");
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(seconds_ago: u64, reason: Reason, now: SystemTime) -> Kept {
        let at = Time::from(now - Duration::from_secs(seconds_ago));
        let key = format!("b/.the0/{}", key_name(at, 3, reason))
            .parse()
            .unwrap();
        Kept::parse(&key).unwrap()
    }

    #[test]
    fn a_key_tells_when_and_why() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_249_261_123);
        let one = kept(0, Reason::Late, now);
        assert_eq!(
            one.key.as_str(),
            "b/.the0/history/20261121T082101.123Z-g3-late.tar.gz"
        );
        assert_eq!((one.at, one.reason), (now, Reason::Late));
    }

    #[test]
    fn the_last_five_then_hours_then_days_and_each_start_stay() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * DAY + DAY / 2);
        let pushes: Vec<_> = (0..10 * 24 * 6)
            .map(|n| kept(n * 600, Reason::Push, now))
            .collect();
        let gone = prune(now, pushes.clone());
        let stay: Vec<_> = pushes.iter().filter(|k| !gone.contains(&k.key)).collect();
        assert!(
            stay.len() >= 5 + 22 + 5 && stay.len() <= 5 + 25 + 8,
            "{}",
            stay.len()
        );
        assert!((0..5).all(|n| stay.contains(&&pushes[n])));
        assert!(stay.iter().all(|k| k.age(now) < 7 * DAY));
        let mut with_start = pushes;
        with_start.push(kept(3 * DAY + 7, Reason::Start, now));
        with_start.push(kept(8 * DAY + 7, Reason::Start, now));
        let gone = prune(now, with_start.clone());
        let starts = with_start.iter().filter(|k| k.reason == Reason::Start);
        assert_eq!(starts.filter(|k| !gone.contains(&k.key)).count(), 1);
    }

    #[test]
    fn many_starts_push_no_state_out_that_lost() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * DAY + DAY / 2);
        let starts = (0..3_000).map(|n| kept(n * 60, Reason::Start, now));
        let lost = [Reason::Replaced, Reason::Fenced].map(|reason| kept(DAY + 90, reason, now));
        let all: Vec<_> = starts.chain(lost.clone()).collect();
        let gone = prune(now, all.clone());
        assert!(lost.iter().all(|k| !gone.contains(&k.key)));
        let left = all.len() - gone.len();
        assert!(left <= 2 + 50 + 25 + 8, "{left}");
    }

    #[test]
    fn pruning_twice_is_pruning_once() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * DAY);
        let all: Vec<_> = (0..500).map(|n| kept(n * 977, Reason::Push, now)).collect();
        let gone = prune(now, all.clone());
        let rest: Vec<_> = all.into_iter().filter(|k| !gone.contains(&k.key)).collect();
        assert_eq!(prune(now, rest), Vec::<ObjectKey>::new());
    }
}
