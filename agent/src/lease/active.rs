//! Who acts, for those who only want to know.

use std::fmt;

use contract::record::Time;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;

use super::PLACE;

/// The agent that has the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Where it is.
    pub host: String,
    /// Since when it has the lease.
    pub since: Option<Time>,
}

impl fmt::Display for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the agent on {} acts", self.host)?;
        match &self.since {
            Some(since) => write!(f, ", since {since}"),
            None => Ok(()),
        }
    }
}

/// The agent that has the lease of `database` and has renewed it in time, by the server's own clock.
///
/// # Errors
/// What the server answers.
pub async fn active(client: &Client, database: &str) -> Result<Option<Active>, Error> {
    let held = doc! {
        "_id": PLACE.1,
        "holder": { "$type": "string", "$ne": "" },
        "$expr": { "$gt": ["$until", "$$NOW"] },
    };
    let table = client.database(database).collection::<Document>(PLACE.0);
    let mut found = table.aggregate([doc! { "$match": held }]).await?;
    if !found.advance().await? {
        return Ok(None);
    }
    let document = found.deserialize_current()?;
    let since = document.get_datetime("since").ok();
    Ok(Some(Active {
        host: document.get_str("host").unwrap_or("?").to_owned(),
        since: since.map(|since| Time::from(since.to_system_time())),
    }))
}
