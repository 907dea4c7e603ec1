//! What comes before the first push of a start, and need not keep the bot from starting. Nobody else has claimed the bot by
//! then.
//!
//! * A store that was trusted with the claim because it had kept to conditions before ([`Asked::Before`]) is asked again. If
//!   it passes them over by now, another start may have the same generation, as both were told that their claim was
//!   a conditional write: a new one is claimed, in the way that needs none, and only one of the two keeps the bot.
//! * Uploads that nobody goes on with are ended, those of the probe too. Those of the history have [`crate::history`]'s marks.

use std::time::Duration;

use anyhow::Context;
use contract::ObjectKey;
use contract::record::Time;

use crate::base::Base;
use crate::claim::{self, Asked, Fence};
use crate::settings::Settings;
use crate::store::{Place, Store};

/// Does it; where that fails, nothing may be pushed yet.
pub fn arrive(settings: &Settings, store: &Store, base: &mut Base) -> anyhow::Result<()> {
    let places = &settings.places;
    if base.asked == Asked::Before {
        if Fence::of(places, store, Duration::ZERO)? == Fence::Generations {
            base.generation = claim::claim_beside(places, store, base.generation)?;
            base.fence = Fence::Generations;
        }
        base.asked = Asked::Now;
        base.save(settings)
            .context("note how the store keeps writers apart")?;
    }
    let today = Time::now().to_string();
    let log = ObjectKey::log(&places.bot, &today[..10]);
    let log = log.map(|key| Place::new(&places.logs_bucket, key));
    abandon_uploads(store, log.into_iter().chain(places.ours("probe")));
    abandon_uploads(store, [places.state()]);
    Ok(())
}

/// Ends what an instance before was writing when it was killed, or what a push of ours left when the store went away. An
/// instance that still runs has lost to our claim, and a person who puts a state is told of a conflict and begins again.
pub fn abandon_uploads(store: &Store, of: impl IntoIterator<Item = Place>) -> bool {
    let mut all = true;
    for at in of {
        match store.abandon_uploads(&at) {
            Ok(0) => {}
            Ok(some) => contract::info!("{at}: {some} unfinished uploads of before are ended"),
            Err(error) => {
                contract::debug!("unfinished uploads of before stay: {error}");
                all = false;
            }
        }
    }
    all
}
