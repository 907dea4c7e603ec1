//! The two collections of the platform's documents, as one listing.
//!
//! A user who may not read the second one has bots without schedules, and is told so; one that could be read once and
//! cannot any more is an error, so that nothing in it is taken for removed.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::mongo::{Mongo, Place};
use super::{ListError, Listed, Listing, Offer};

/// Bots that run all the time, and bots that run at times.
#[derive(Debug)]
pub struct Both {
    bots: Mongo,
    schedules: Mongo,
    /// Whether schedules could be read.
    is_read: bool,
    /// The last listings of the two, and the one made of them.
    last: Option<[Arc<Listing>; 3]>,
}

impl Both {
    /// Schedules are beside `bots`.
    pub fn new(bots: Mongo) -> Self {
        Self {
            schedules: bots.beside(Place::schedules()),
            bots,
            is_read: false,
            last: None,
        }
    }

    /// Those that run at times.
    pub fn schedules(&self) -> &Mongo {
        &self.schedules
    }

    /// Lists all. What is the same as in the last listing is shared with it.
    ///
    /// # Errors
    /// One of them cannot be read to its end.
    pub async fn list(&mut self) -> Result<Arc<Listing>, ListError> {
        let bots = self.bots.list().await?;
        let shared = self.schedules.share(&mut self.bots).await;
        shared.map_err(|err| self.schedules.error(&err.into()))?;
        let schedules = match self.schedules.try_list().await {
            Ok(schedules) => {
                self.is_read = true;
                schedules
            }
            Err(failed) if failed.is_forbidden() && !self.is_read => {
                let why = self.schedules.error(&failed).to_string();
                let listing = Listing {
                    remarks: vec![format!("{why}: there are no schedules until then")],
                    ..Listing::default()
                };
                Arc::new(listing)
            }
            Err(failed) => return Err(self.schedules.error(&failed)),
        };
        Ok(self.turn(bots, schedules))
    }

    fn turn(&mut self, bots: Arc<Listing>, schedules: Arc<Listing>) -> Arc<Listing> {
        if let Some([first, second, all]) = &self.last
            && Arc::ptr_eq(first, &bots)
            && (Arc::ptr_eq(second, &schedules) || **second == *schedules)
        {
            return Arc::clone(all);
        }
        let all = Arc::new(merged(&bots, &schedules));
        self.last = Some([bots, schedules, Arc::clone(&all)]);
        all
    }
}

fn merged(bots: &Listing, schedules: &Listing) -> Listing {
    let mut all = bots.clone();
    all.remarks.extend(schedules.remarks.iter().cloned());
    for (id, listed) in &schedules.bots {
        match all.bots.entry(id.clone()) {
            Entry::Vacant(free) => drop(free.insert(Arc::clone(listed))),
            Entry::Occupied(mut other) => match (&other.get().offer, &listed.offer) {
                // It has become the one of what it was the other.
                (_, Offer::Gone) => {}
                (Offer::Gone, _) => drop(other.insert(Arc::clone(listed))),
                _ => {
                    let sources = format!("{}; {}", other.get().source, listed.source);
                    let why = format!(
                        "it is in both collections ({sources}): remove it from one of them"
                    );
                    let name = other.get().name.clone();
                    let both = Listed::new(name, None, sources, Offer::Unusable(why));
                    other.insert(Arc::new(both));
                }
            },
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(rows: &[(&str, Offer)]) -> Listing {
        let row = |(id, offer): &(&str, Offer)| {
            let listed = Listed::new("b".into(), None, "somewhere".into(), offer.clone());
            (id.parse().unwrap(), Arc::new(listed))
        };
        Listing {
            bots: rows.iter().map(row).collect(),
            ..Listing::default()
        }
    }

    #[test]
    fn what_is_in_one_collection_counts_and_what_is_in_both_is_told() {
        let bad = || Offer::Unusable("bad".into());
        let bots = listing(&[("a", bad()), ("b", Offer::Gone), ("c", bad()), ("d", bad())]);
        let schedules = listing(&[("b", bad()), ("c", Offer::Gone), ("d", bad()), ("e", bad())]);
        let all = merged(&bots, &schedules);
        let why = |id: &str| match &all.bots[&id.parse().unwrap()].offer {
            Offer::Unusable(why) => why.clone(),
            _ => String::new(),
        };
        assert_eq!(["a", "b", "c", "e"].map(why), ["bad"; 4].map(str::to_owned));
        assert!(why("d").contains("both collections"), "{}", why("d"));
    }
}
