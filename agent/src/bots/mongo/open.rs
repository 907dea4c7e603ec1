//! The database for those who do more than list it: the doctor, and backups.

use contract::{BotId, ObjectKey};
use mongodb::Client;
use mongodb::bson::RawDocument;

use super::error::Failed;
use super::{Mongo, json};
use crate::document::Bot;

impl Mongo {
    /// The client, made at the first call.
    ///
    /// # Errors
    /// Why there is none, without a credential.
    pub async fn client(&mut self) -> Result<Client, String> {
        let connected = self.connect().await;
        connected.map_err(|error| self.explain(error))
    }

    /// What went wrong, for a person, without a credential.
    pub fn explain(&self, error: impl Into<Failed>) -> String {
        error.into().why(&self.hidden)
    }

    /// Its hosts, and the collection of bots.
    pub fn name(&self) -> &str {
        &self.what
    }
}

/// Whose document it is and where its code is, as far as it tells.
pub fn owner(document: &RawDocument) -> (Option<BotId>, Option<ObjectKey>) {
    let id = document.get_str("id").ok().and_then(|id| id.parse().ok());
    let bot = json::object(document)
        .ok()
        .and_then(|value| Bot::from_document(&value).ok());
    if let Some(bot) = bot {
        return (id, Some(bot.code));
    }
    // One that cannot be used now may be mended later.
    let custom = document.get_document("custom").ok();
    let code = custom.and_then(|custom| custom.get_str("filePath").ok()?.parse().ok());
    (id, code)
}
