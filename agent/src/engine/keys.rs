//! Keys for one bot: made by the store where it can (AssumeRole), the agent's own where it cannot.
//!
//! Which of both is learnt from its answers. A store that has made keys and then says that it makes none (a proxy before
//! it does, while it is away) is one that fails: nobody gets the agent's own for that. One that never made any is asked
//! again after [`AGAIN`], and bots get keys of their own once it does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use contract::launch::Keys;
use contract::{BotId, Digest, ObjectKey, Secret};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::not_started::NotStarted;
use crate::breaker::{Gate, Pace};
use crate::document::Bot;
use crate::plan::Outcome;
use crate::show::Console;
use crate::store::address::Endpoint;
use crate::store::sts::{Reach, Sts, StsError};

/// What is said of a bot that has to wait, and to who asks one.
const AWAY: &str = "the store does not answer, and the keys for this come from it";
/// Where nobody else asks the store.
const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(10),
    patience: Duration::from_secs(12),
};

/// The shortest life that stores give keys (AssumeRole's least).
const LEAST: Duration = Duration::from_mins(15);
/// A store that makes no keys is asked again after this time.
const AGAIN: Duration = Duration::from_hours(1);

/// What is known of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Makes {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It has made keys.
    Keys,
    /// It said at that time that it makes none.
    None(Instant),
}

/// Keys and when to make new ones.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The keys.
    pub keys: Keys,
    /// From now.
    pub renew_in: Option<Duration>,
    /// How long they are good, from now; `None`: they have no end.
    pub good_for: Option<Duration>,
}

/// Makes keys; clones share what it has learnt.
#[derive(Debug, Clone)]
pub struct KeyMaker {
    own: Keys,
    sts: Arc<Sts>,
    ttl: Duration,
    makes: Arc<Mutex<Makes>>,
    /// Whether the store answers.
    pub gate: Gate,
    /// Whether a bot's `query` wants a token of those who ask over the network.
    pub guards: bool,
    console: Console,
}

impl KeyMaker {
    /// For the store at `endpoint`; keys are good for `ttl`.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(endpoint: &Endpoint, ttl: Duration, console: Console) -> anyhow::Result<Self> {
        Ok(Self {
            own: endpoint.keys.clone(),
            sts: Arc::new(Sts::new(endpoint)?),
            ttl,
            makes: Arc::default(),
            gate: Gate::new(PACE),
            guards: true,
            console,
        })
    }

    /// The token of a container's `query`: of the store's own key, so that all agents of a stack know it and nothing keeps it;
    /// `began` is the container's. `None`: none is wanted.
    pub fn query_token(&self, stack: &str, bot: &BotId, began: &str) -> Option<Secret> {
        let key = self.own.get("MINIO_SECRET_KEY").filter(|_| self.guards)?;
        let mut sum = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes()).ok()?;
        for part in ["the0 query", stack, bot.as_str(), began] {
            sum.update(part.as_bytes());
            sum.update(b"\0");
        }
        let sum = Digest::from_bytes(sum.finalize().into_bytes().into());
        Some(Secret::new(sum.as_str()))
    }

    /// Whether it would be in vain to ask for keys now.
    ///
    /// # Errors
    /// The store does not answer: it is asked by one, now and then, and by all when it does.
    pub fn ready(&self) -> Result<(), NotStarted> {
        if self.makes_none() || self.gate.is_passable() {
            return Ok(());
        }
        Err(NotStarted::new(Outcome::Busy, AWAY))
    }

    /// Keys for a bot and its code.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn grant(&self, bot: &Bot) -> Result<Granted, NotStarted> {
        self.grant_for(&bot.id, &bot.code).await
    }

    /// The same, by what they are for.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn grant_for(&self, bot: &BotId, code: &ObjectKey) -> Result<Granted, NotStarted> {
        self.grant_reach(bot, code, self.ttl, Reach::Keeps).await
    }

    /// Keys that read the bot's code and states for at least `time`, and are not renewed.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn grant_to_read(&self, bot: &Bot, time: Duration) -> Result<Keys, NotStarted> {
        let time = time.max(LEAST);
        let granted = self.grant_reach(&bot.id, &bot.code, time, Reach::Reads);
        Ok(granted.await?.keys)
    }

    /// Keys that write the bot's one `result` for at least `time`, and are not renewed.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn grant_to_send(
        &self,
        bot: &BotId,
        result: &ObjectKey,
        time: Duration,
    ) -> Result<Keys, NotStarted> {
        let time = time.max(LEAST);
        let granted = self.grant_reach(bot, result, time, Reach::Sends);
        Ok(granted.await?.keys)
    }

    async fn grant_reach(
        &self,
        bot: &BotId,
        object: &ObjectKey,
        time: Duration,
        reach: Reach,
    ) -> Result<Granted, NotStarted> {
        if self.makes_none() {
            return Ok(self.own());
        }
        if self.gate.enter().is_err() {
            return Err(NotStarted::new(Outcome::Busy, AWAY));
        }
        let session = self.sts.session(bot, object, time, reach).await;
        match &session {
            Err(StsError::Silent(why)) => drop(self.gate.failed(why)),
            _ => self.gate.succeeded(),
        }
        match session {
            Ok(session) => {
                *self.makes() = Makes::Keys;
                let left = session
                    .expires
                    .duration_since(SystemTime::now())
                    .unwrap_or_default();
                Ok(Granted {
                    keys: session.keys,
                    renew_in: Some(left / 2),
                    good_for: Some(left),
                })
            }
            Err(StsError::Unsupported(why)) => {
                let before = *self.makes();
                if before == Makes::Keys {
                    let why = format!(
                        "the store made keys per bot before and says now that it cannot ({why})"
                    );
                    return Err(NotStarted::new(Outcome::Failed, why));
                }
                *self.makes() = Makes::None(Instant::now());
                if before == Makes::Unknown {
                    self.console.warn(&format!(
                        "the store makes no keys per bot ({why}): all supervisors get the agent's own, which open everything; bots cannot see them"
                    ));
                }
                Ok(self.own())
            }
            Err(err @ (StsError::Failed(_) | StsError::Silent(_))) => {
                Err(NotStarted::new(Outcome::Failed, err.to_string()))
            }
            // Names do not come right by themselves, and the agent's own keys open more than this bot's.
            Err(err @ StsError::Names(_)) => {
                Err(NotStarted::new(Outcome::Refused, err.to_string()))
            }
        }
    }

    /// As if the store had said that it makes none.
    #[cfg(test)]
    pub fn makes_no_keys(&self) {
        *self.makes() = Makes::None(Instant::now());
    }

    fn own(&self) -> Granted {
        Granted {
            keys: self.own.clone(),
            renew_in: Some(AGAIN),
            good_for: None,
        }
    }

    /// Whether the store has said lately that it makes none.
    fn makes_none(&self) -> bool {
        matches!(*self.makes(), Makes::None(since) if since.elapsed() < AGAIN)
    }

    fn makes(&self) -> MutexGuard<'_, Makes> {
        self.makes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
