//! The database for those who do more than list it: the doctor, and backups.

use mongodb::Client;

use super::Mongo;
use super::error::Failed;

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
