//! Keys for one bot: made by the store where it can (AssumeRole), the agent's own where it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use contract::launch::Keys;
use contract::{BotId, ObjectKey};

use super::refusal::NotStarted;
use crate::document::Bot;
use crate::plan::Outcome;
use crate::show::Console;
use crate::store::address::Endpoint;
use crate::store::sts::{Sts, StsError};

/// Keys and when to make new ones.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The keys.
    pub keys: Keys,
    /// From now; `None`: they have no end.
    pub renew_in: Option<Duration>,
}

/// Makes keys; clones share what it has learnt.
#[derive(Debug, Clone)]
pub struct KeyMaker {
    own: Keys,
    sts: Arc<Sts>,
    ttl: Duration,
    is_unsupported: Arc<AtomicBool>,
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
            is_unsupported: Arc::default(),
            console,
        })
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
        if self.is_unsupported.load(Ordering::Relaxed) {
            return Ok(self.own());
        }
        match self.sts.session(bot, code, self.ttl).await {
            Ok(session) => {
                let left = session
                    .expires
                    .duration_since(SystemTime::now())
                    .unwrap_or_default();
                Ok(Granted {
                    keys: session.keys,
                    renew_in: Some(left / 2),
                })
            }
            Err(StsError::Unsupported(why)) => {
                if !self.is_unsupported.swap(true, Ordering::Relaxed) {
                    self.console.warn(&format!(
                        "the store makes no keys per bot ({why}): all supervisors get the agent's own, which open everything; bots cannot see them"
                    ));
                }
                Ok(self.own())
            }
            Err(err @ StsError::Failed(_)) => {
                Err(NotStarted::new(Outcome::Failed, err.to_string()))
            }
            // Names do not come right by themselves, and the agent's own keys open more than this bot's.
            Err(err @ StsError::Names(_)) => {
                Err(NotStarted::new(Outcome::Refused, err.to_string()))
            }
        }
    }

    fn own(&self) -> Granted {
        Granted {
            keys: self.own.clone(),
            renew_in: None,
        }
    }
}
