//! What an agent does next about the lease, and how long it may act: decided from values alone.
//!
//! ```text
//!            found: nobody's, given back, mine, the same for 15 s ─▶ take ─▶ taken
//!  Watching ──────────────────────────────────────────────────────────────────────▶ Holding
//!     ▲                                    renewed by nobody: somebody else's          │
//!     └────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::time::Duration;

use super::{ACTS, LASTS};

/// What makes one state of the document differ from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Who has it; empty: given back.
    pub holder: String,
    /// Grows with every write.
    pub beat: i64,
}

/// The document as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which state.
    pub mark: Mark,
    /// The holder's host.
    pub host: String,
    /// For how long it has run out, by the server's clock.
    pub overdue: Duration,
}

/// What to ask of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// How it stands.
    Look,
    /// Renew it, if it is still mine.
    Renew,
    /// Take it, if it is still so; `None`: if there is none.
    Take(Option<Mark>),
}

/// One agent's knowledge of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    me: String,
    state: State,
    until: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nothing was ever seen.
    New,
    /// Somebody else's, and since when it has been seen unchanged, without a gap.
    Watching(Option<(Mark, Duration)>),
    /// Ours, as far as is known.
    Holding,
}

impl Claim {
    /// Of the agent `me`.
    pub fn new(me: String) -> Self {
        Self {
            me,
            state: State::New,
            until: Duration::ZERO,
        }
    }

    /// What to ask first.
    pub fn first(&self) -> Step {
        match self.state {
            State::Holding => Step::Renew,
            State::New | State::Watching(_) => Step::Look,
        }
    }

    /// Until when this agent may act.
    pub fn until(&self) -> Duration {
        self.until
    }

    /// It was asked at `asked` how it stands, and the answer came at `now`; gives what to do at once, if anything.
    pub fn looked(
        &mut self,
        found: Option<&Found>,
        asked: Duration,
        now: Duration,
    ) -> Option<Step> {
        let before = std::mem::replace(&mut self.state, State::Watching(None));
        let Some(found) = found else {
            return Some(Step::Take(None));
        };
        let take = Some(Step::Take(Some(found.mark.clone())));
        if found.mark.holder == self.me {
            return Some(Step::Renew);
        }
        if found.mark.holder.is_empty() {
            return take;
        }
        let since = match before {
            // Its holder has written it before we saw it, and may act for a time that is shorter than ours.
            State::New if found.overdue >= LASTS => return take,
            State::Watching(Some((mark, since))) if mark == found.mark => since,
            _ => now,
        };
        self.state = State::Watching(Some((found.mark.clone(), since)));
        (asked.saturating_sub(since) >= LASTS)
            .then_some(take)
            .flatten()
    }

    /// It was asked at `asked` to be taken or renewed, and was, or is not ours.
    pub fn written(&mut self, is_ours: bool, asked: Duration) {
        if is_ours {
            self.state = State::Holding;
            self.until = self.until.max(asked + ACTS);
        } else {
            self.state = State::Watching(None);
            self.until = Duration::ZERO;
        }
    }

    /// No answer: what was asked for may have been done or not. What was seen unchanged may have changed meanwhile, and
    /// whoever has it must get the chance to renew it.
    pub fn failed(&mut self) {
        if matches!(self.state, State::Watching(_)) {
            self.state = State::Watching(None);
        }
    }
}

#[cfg(test)]
#[path = "claim/tests.rs"]
mod tests;
