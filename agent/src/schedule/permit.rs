//! The word that stands between a container that was made and one that is started.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::BotId;
use tokio::sync::mpsc::UnboundedSender;

use super::book::{Book, Written};
use super::ledger::{Key, Ledger, State};
use super::timetable::Timetable;
use super::{News, wall};

/// A claim that this process has made.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What is written down.
    pub ledger: Ledger,
    /// Of which schedule.
    pub timetable: Timetable,
}

/// Gives permits for the claims of this process; clones are the same one.
#[derive(Debug, Clone)]
pub struct Permits {
    book: Book,
    claims: Arc<Mutex<HashMap<BotId, Claim>>>,
    news: UnboundedSender<crate::engine::News>,
}

impl Permits {
    /// Permits are written in `book` and told on `news`.
    pub fn new(book: Book, news: UnboundedSender<crate::engine::News>) -> Self {
        Self {
            book,
            claims: Arc::default(),
            news,
        }
    }

    /// This process has made a claim.
    pub fn note(&self, bot: &BotId, claim: Claim) {
        self.claims().insert(bot.clone(), claim);
    }

    /// Writes that the claimed tick is started. Whoever went on from the claim since has it.
    ///
    /// # Errors
    /// It must not be started, and why.
    pub async fn take(&self, bot: &BotId, key: Key) -> Result<(), String> {
        let (claim, to) = self.next(bot, key)?;
        let done = self
            .book
            .write(bot, &claim.timetable, &claim.ledger, &to)
            .await;
        self.tell(bot, to, done)
    }

    /// The same where ledgers are files.
    ///
    /// # Errors
    /// It must not be started, and why.
    pub fn take_now(&self, bot: &BotId, key: Key) -> Result<(), String> {
        let (claim, to) = self.next(bot, key)?;
        let done = self.book.put(bot, &claim.timetable, &claim.ledger, &to);
        self.tell(bot, to, done)
    }

    /// A claim is good for one permit.
    fn next(&self, bot: &BotId, key: Key) -> Result<(Claim, Ledger), String> {
        let claim = self.claims().remove(bot);
        let is_it = |claim: &Claim| claim.ledger.tick.as_ref().is_some_and(|t| t.key() == key);
        let claim = claim.filter(is_it).ok_or("its tick is not claimed")?;
        let mut to = claim.ledger.clone();
        if let Some(tick) = &mut to.tick {
            tick.state = State::Started;
            tick.since = wall();
            tick.rev += 1;
        }
        Ok((claim, to))
    }

    fn tell(&self, bot: &BotId, to: Ledger, done: Written) -> Result<(), String> {
        let answer = match &done {
            Written::Taken => Ok(()),
            Written::Refused => Err("another agent has gone on with its tick".to_owned()),
            Written::Unknown(why) => Err(format!("that its tick is started is not written: {why}")),
        };
        let news = News {
            bot: bot.clone(),
            to,
            done,
            is_permit: true,
        };
        let _ = self
            .news
            .send(crate::engine::News::Schedule(Box::new(news)));
        answer
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<BotId, Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
