//! What a record adds to the latest ones that are known of its bot. Pure.

use std::collections::VecDeque;

use super::entry::Entry;

/// Records of each bot that are remembered, because more may become known of them.
pub const RECENT: usize = 6;

/// Where a record goes among the latest ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the place of this one.
    At(usize),
    /// Before the one there is.
    Behind(usize),
}

/// Where `entry` goes and what is to be written; `None` when nothing is.
pub fn placed(recent: &VecDeque<Entry>, entry: &Entry) -> Option<(Place, Entry)> {
    if let Some(index) = recent.iter().position(|known| known.is(entry)) {
        let known = &recent[index];
        // Others have been folded into it: what it stands for is known.
        if known.count > 1 {
            return None;
        }
        let merged = known.merged(entry.clone());
        let is_news = merged.clone().light() != *known;
        return is_news.then_some((Place::At(index), merged));
    }
    let at = recent.partition_point(|known| known.started_at <= entry.started_at);
    if at == 0 && recent.len() >= RECENT {
        // Older than what is remembered: it was written then.
        return None;
    }
    if let Some(before) = at.checked_sub(1) {
        let before_it = &recent[before];
        let is_within = entry.ended_at.is_some() && entry.ended_at <= before_it.ended_at;
        if let Some(folded) = before_it.folded(entry) {
            return (!is_within).then_some((Place::At(before), folded));
        }
    }
    Some((Place::Behind(at), entry.clone()))
}

#[cfg(test)]
#[path = "recent/tests.rs"]
mod tests;
