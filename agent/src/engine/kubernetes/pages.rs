//! Lists of the API server, a page at a time: what is being read takes a hundred times what is kept of it.

use std::time::Duration;

use kube::Error;
use kube::api::{ListParams, ObjectList};
use tokio::time::timeout;

use super::refusal::{has_status, said};

/// Objects that are asked for at once.
const PAGE: u32 = 200;
/// How long the API server may take to list so many.
pub const LOOK: Duration = Duration::from_secs(30);

/// Why not all was listed.
#[derive(Debug)]
pub enum Missed {
    /// There was no answer in [`LOOK`].
    Late,
    /// The API server's refusal.
    Refused(Error),
}

impl Missed {
    /// Whether the answer has this status.
    pub fn has_status(&self, code: u16) -> bool {
        matches!(self, Self::Refused(err) if has_status(err, code))
    }

    /// Whether it took so long that the version is not known any more: from the beginning again.
    pub fn is_expired(&self) -> bool {
        self.has_status(410)
    }
}

impl From<Missed> for String {
    /// Why, for a person.
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Late => "the API server did not answer in time".to_owned(),
            Missed::Refused(err) => said(&err),
        }
    }
}

/// What `of` finds in all objects that `list` gives for `params`, and the version at which they were so.
///
/// # Errors
/// A page was not had.
pub async fn all<K: Clone, T, F>(
    params: ListParams,
    list: impl Fn(ListParams) -> F,
    of: impl Fn(&K) -> Option<T>,
) -> Result<(Vec<T>, String), Missed>
where
    F: Future<Output = Result<ObjectList<K>, Error>>,
{
    let mut params = params.limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = timeout(LOOK, list(params.clone())).await;
        let page = page.map_err(|_| Missed::Late)?.map_err(Missed::Refused)?;
        found.extend(page.items.iter().filter_map(&of));
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => params = params.continue_token(&more),
            None => return Ok((found, page.metadata.resource_version.unwrap_or_default())),
        }
    }
}
