//! Containers that wait for a question, by runtime.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::Runtime;
use contract::launch::Variables;
use tokio::sync::Notify;

use super::{Begun, WAITS};
use crate::document::{Bot, Limits};

/// Containers that wait; clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Warm(Arc<Pool>);

#[derive(Default)]
struct Pool {
    wanted: BTreeMap<Runtime, usize>,
    ready: Mutex<Vec<(Runtime, Begun)>>,
    taken: Notify,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.wanted).finish()
    }
}

impl Warm {
    /// As many as `THE0_QUERY_WARM` says, as in `python3.11=2,nodejs20=1`; none without it.
    ///
    /// # Errors
    /// It says something else.
    pub fn parse(given: &Variables) -> anyhow::Result<Self> {
        let text = given.get("THE0_QUERY_WARM").map_or("", |text| text.trim());
        let mut wanted = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let read = || -> Option<(Runtime, usize)> {
                let (runtime, count) = part.trim().split_once('=')?;
                let count = count.parse().ok().filter(|count| *count <= 100)?;
                Some((runtime.parse().ok()?, count))
            };
            let (runtime, count) = read().ok_or_else(|| {
                anyhow::anyhow!("THE0_QUERY_WARM is not understood at {part:?}: give runtimes and numbers, as in python3.11=2")
            })?;
            wanted.insert(runtime, count);
        }
        Ok(Self(Arc::new(Pool {
            wanted,
            ..Pool::default()
        })))
    }

    /// One for this bot, unless it has bounds of its own.
    pub(super) fn take(&self, bot: &Bot) -> Option<Begun> {
        if bot.bounds != Limits::default() {
            return None;
        }
        let mut ready = self.ready();
        let is_it = |(runtime, _): &(Runtime, Begun)| *runtime == bot.definition.runtime;
        let at = ready.iter().position(is_it)?;
        let (_, begun) = ready.remove(at);
        self.0.taken.notify_one();
        Some(begun)
    }

    pub(super) fn add(&self, runtime: Runtime, begun: Begun) {
        self.ready().push((runtime, begun));
    }

    /// Those that have waited too long are of an image that may be old.
    pub(super) fn let_go(&self) {
        self.ready()
            .retain(|(_, begun)| begun.since.elapsed() < WAITS / 2);
    }

    /// Of which runtime another one is wanted, each as often as it is.
    pub(super) fn missing(&self) -> Vec<Runtime> {
        let ready = self.ready();
        let wanted = self.0.wanted.iter();
        wanted
            .flat_map(|(runtime, count)| {
                let there = ready.iter().filter(|(of, _)| of == runtime).count();
                std::iter::repeat_n(*runtime, count.saturating_sub(there))
            })
            .collect()
    }

    /// Lets go of all.
    pub(super) fn end(&self) {
        self.ready().clear();
    }

    /// Waits until one was taken.
    pub(super) async fn taken(&self) {
        self.0.taken.notified().await;
    }

    fn ready(&self) -> MutexGuard<'_, Vec<(Runtime, Begun)>> {
        self.0.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
