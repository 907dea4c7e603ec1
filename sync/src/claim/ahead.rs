//! Looking at the claim while the code is fetched: over a connection of its own, and nothing is claimed by it.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::Sight;
use crate::keys::KeyRing;
use crate::settings::Places;
use crate::store::{Address, Store};

/// How long one that is not needed any more may take to leave nothing behind in the store.
const LEAVE: Duration = Duration::from_secs(2);

/// A look at the claim that is under way; what goes wrong with it goes wrong, and is told, where it is done again.
#[derive(Debug)]
pub struct Ahead(Option<Receiver<Sight>>);

impl Ahead {
    /// Begins to look, where that takes requests.
    pub fn begin(places: &Places, keys: &KeyRing) -> Self {
        if !matches!(places.store, Address::S3(_)) {
            return Self(None);
        }
        let (told, comes) = mpsc::sync_channel(1);
        let (places, keys) = (places.clone(), keys.clone());
        let look = move || {
            let store = Store::open(&places.store, keys).ok()?;
            let sight = Sight::of(&places, &store, Duration::ZERO).ok()?;
            told.send(sight).ok()
        };
        let thread = thread::Builder::new().name("claim".into());
        Self(thread.spawn(look).ok().map(|_| comes))
    }

    /// What was seen; `None` if that has to be looked at again.
    pub fn seen(self) -> Option<Sight> {
        self.0?.recv().ok()
    }

    /// Waits a little for its end.
    pub fn leave(self) {
        let _ = self.0.map(|comes| comes.recv_timeout(LEAVE));
    }
}
