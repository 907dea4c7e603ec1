//! When a Pod gets new keys.
//!
//! A Pod that is told to end goes on saving for as long as its grace, and what its Secret becomes then never reaches it: a
//! kubelet brings Secrets to Pods that run. So its keys are renewed early enough to be good for a whole end at any time, if
//! their life is long enough for that; and who ends a Pod whose keys are not, renews them first.

use std::time::Duration;

use contract::ObjectKey;
use tokio::time::{sleep, timeout};

use super::access::Access;
use super::seen::{Seen, Stage};
use super::slot::Slot;
use super::work;

/// What a stop waits, at most, for new keys: a store that is away is in nobody's way.
const LAST: Duration = Duration::from_secs(3);
/// How long a kubelet takes to bring them to a Pod, once that has an annotation of it.
const TAKES: Duration = Duration::from_secs(2);
/// Keys that would be renewed more often are renewed at half their life.
const OFTEN: Duration = Duration::from_mins(10);

/// How long a Pod's keys are good, by the engine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Good {
    /// That is not known: another agent has given them.
    Unknown,
    /// Until then.
    Until(Duration),
    /// They have no end.
    Always,
}

impl Good {
    /// Keys of this life, given now.
    pub fn of(term: Term, now: Duration) -> Self {
        term.good_for
            .map_or(Self::Always, |left| Self::Until(now + left))
    }

    /// Whether they outlive an end of a Pod that begins now.
    pub fn lasts(self, grace: Duration, now: Duration) -> bool {
        match self {
            Self::Unknown => false,
            Self::Until(end) => end >= now + grace,
            Self::Always => true,
        }
    }
}

/// The life of keys, from the moment they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// When the next should be made, if there is nothing against it.
    pub renew_in: Option<Duration>,
    /// How long they are good; `None`: they have no end.
    pub good_for: Option<Duration>,
}

impl Term {
    /// When the next are made, for Pods that may take `grace` to end.
    pub fn due(self, grace: Duration) -> Option<Duration> {
        let spare = self.good_for.and_then(|left| left.checked_sub(grace));
        let early = spare.filter(|spare| *spare >= OFTEN);
        let half = self.renew_in?;
        Some(early.map_or(half, |early| early.min(half)))
    }
}

/// What a Pod that is to end needs first: keys of the code that is named, or none.
pub fn wanted(slot: &Slot, grace: Duration, now: Duration) -> Option<ObjectKey> {
    let stage = slot.pod.as_ref()?.stage;
    let saves = matches!(stage, Stage::Running | Stage::Waiting);
    let code = slot.code.clone().filter(|_| saves);
    code.filter(|_| !slot.keys.lasts(grace, now))
}

/// Gives a Pod the keys it is to end with, and its kubelet the time to bring them.
///
/// # Errors
/// There are none, or not soon enough.
pub async fn give_last(access: &Access, pod: &Seen, code: &ObjectKey) -> Result<Term, String> {
    access.keys.ready().map_err(|not| not.why)?;
    within(work::renew(access, pod, code)).await
}

/// Renews keys for an end, if that is soon done.
///
/// # Errors
/// They are not, or it takes too long.
pub async fn within(renewal: impl Future<Output = Result<Term, String>>) -> Result<Term, String> {
    let late = |_| "they take too long".to_owned();
    let term = timeout(LAST, renewal).await.map_err(late)??;
    if term.good_for.is_some() {
        sleep(TAKES).await;
    }
    Ok(term)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const MINUTE: Duration = Duration::from_mins(1);

    fn term(life: Duration) -> Term {
        Term {
            renew_in: Some(life / 2),
            good_for: Some(life),
        }
    }

    #[test]
    fn keys_that_end_in_an_end_are_renewed_before_it() {
        let now = 7 * HOUR;
        assert!(Good::Always.lasts(HOUR, now));
        assert!(!Good::Unknown.lasts(HOUR, now));
        assert!(Good::of(term(HOUR), now).lasts(HOUR, now));
        assert!(!Good::of(term(HOUR), now).lasts(HOUR, now + MINUTE));
        assert!(Good::of(term(2 * HOUR), now).lasts(HOUR, now + HOUR));
        let own = Term {
            renew_in: Some(HOUR),
            good_for: None,
        };
        assert_eq!(Good::of(own, now), Good::Always);
    }

    #[test]
    fn keys_are_renewed_while_they_are_good_for_a_whole_end_if_they_can_be() {
        assert_eq!(term(12 * HOUR).due(HOUR), Some(6 * HOUR));
        assert_eq!(term(90 * MINUTE).due(HOUR), Some(30 * MINUTE));
        assert_eq!(
            term(HOUR).due(HOUR),
            Some(30 * MINUTE),
            "never good for one"
        );
        assert_eq!(term(65 * MINUTE).due(HOUR), Some(65 * MINUTE / 2));
        let endless = Term {
            renew_in: Some(HOUR),
            good_for: None,
        };
        assert_eq!(endless.due(HOUR), Some(HOUR));
    }
}
