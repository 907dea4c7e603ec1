//! Marks of what is being sent to the history.
//!
//! A kill in the midst of an upload in parts leaves its parts in the store, unseen and paid for. Uploads can be looked for by
//! the whole key of an object only (MinIO lists no others), and one of the history has a time in it: nobody would look for it
//! again. So an empty object beside it, `<key>.sending`, is there from before the upload until after it. Whoever tidies the
//! history, which lists it anyway, finds the marks and ends what they tell of.

use contract::ObjectKey;

use crate::store::{Condition, Error, Metadata, Place, Store};

const SUFFIX: &str = ".sending";

/// That `to` is being sent; removed when it is certain that nothing of it stays but the object.
#[derive(Debug)]
pub struct Mark<'a> {
    to: &'a Place,
    /// Where the mark is; a folder needs none.
    at: Option<Place>,
}

impl<'a> Mark<'a> {
    /// Puts it.
    pub fn put(store: &Store, to: &'a Place) -> Result<Self, Error> {
        if matches!(store, Store::Directory(_)) {
            return Ok(Self { to, at: None });
        }
        let key = format!("{}{SUFFIX}", to.key).parse();
        let key = key.map_err(|error| Error::Other {
            what: to.to_string(),
            why: format!("there is no key for its mark: {error}"),
        })?;
        let at = Place::new(&to.bucket, key);
        store.put_bytes(&at, &Condition::Any, &Metadata::new(), &[])?;
        Ok(Self { to, at: Some(at) })
    }

    /// `to` is there whole. A mark that stays is removed by the next who tidies.
    pub fn sent(self, store: &Store) {
        if let Some(Err(error)) = self.at.map(|at| store.delete(&at)) {
            contract::debug!("the mark of what was sent stays: {error}");
        }
    }

    /// `to` was not sent: the upload is ended, or else the mark stays.
    pub fn failed(self, store: &Store) {
        if let Some(Err(error)) = self.at.map(|at| end(store, self.to, &at)) {
            contract::debug!("the mark of what was not sent stays: {error}");
        }
    }
}

/// Ends what the marks among `keys` tell of. A writer that is still at it is told of a conflict and begins again.
pub fn end_all(store: &Store, bucket: &str, keys: &[ObjectKey]) {
    for mark in keys {
        let Some(to) = marked(mark) else { continue };
        let (to, at) = (Place::new(bucket, to), Place::new(bucket, mark.clone()));
        match end(store, &to, &at) {
            Ok(0) => {}
            Ok(some) => contract::info!("{to}: {some} unfinished uploads of before are ended"),
            Err(error) => contract::debug!("unfinished uploads of before stay: {error}"),
        }
    }
}

fn end(store: &Store, to: &Place, at: &Place) -> Result<usize, Error> {
    let ended = store.abandon_uploads(to)?;
    store.delete(at).map(|()| ended)
}

/// What a mark tells of, if it is one.
fn marked(key: &ObjectKey) -> Option<ObjectKey> {
    key.as_str().strip_suffix(SUFFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mark_tells_of_an_upload() {
        let key = |text: &str| text.parse::<ObjectKey>().unwrap();
        let kept = "b/.the0/history/20261121T082101.123Z-g3-fenced.tar.gz";
        assert_eq!(marked(&key(&format!("{kept}.sending"))), Some(key(kept)));
        assert_eq!(marked(&key(kept)), None);
    }
}
