//! What a program has left as its result, from a folder in which it may have left anything: of a one-shot question, sent
//! at once, and of what runs once, sent when that has ended ([`Parcel`]).
//!
//! It ensures: what is sent is that file's own content. A link there would be the way to whatever we may read, our keys
//! among it; none is followed, and nothing is waited for.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, bail};
use contract::record::Sent;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::settings::Settings;
use crate::store::{Condition, Metadata, Store};

/// The largest result of a question, in bytes.
const LARGEST: u64 = 16 << 20;

/// What there is of a result.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    NoFile,
    TooLarge,
    Whole(Vec<u8>),
}

/// What is in the result of a question.
///
/// # Errors
/// It is not there, no plain file, or larger than a result may be.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    match find(path, LARGEST).with_context(|| format!("read {shown}"))? {
        Found::Whole(bytes) => Ok(bytes),
        Found::Nothing => bail!("{shown} is not there"),
        Found::NoFile => bail!("{shown} is no regular file that may be read"),
        Found::TooLarge => bail!(
            "{shown} is larger than a result may be, {} MiB",
            LARGEST >> 20
        ),
    }
}

fn find(path: &Path, most: u64) -> io::Result<Found> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        // A link, a socket, or what its owner has closed to himself.
        Err(Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::PERM) => return Ok(Found::NoFile),
        Err(errno) => return Err(errno.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(Found::NoFile);
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Ok(Found::TooLarge);
    }
    Ok(Found::Whole(bytes))
}

/// The result of what runs once: it waits beside the state for the agent, which says what it is worth.
#[derive(Debug)]
pub struct Parcel<'a> {
    settings: &'a Settings,
    store: &'a Store,
    sent: Option<Sent>,
}

impl<'a> Parcel<'a> {
    /// Nothing is sent yet.
    pub fn new(settings: &'a Settings, store: &'a Store) -> Self {
        let sent = None;
        Self {
            settings,
            store,
            sent,
        }
    }

    /// What became of it, once it is known.
    pub fn sent(&self) -> Option<Sent> {
        self.sent
    }

    /// Sends it, unless that is done or nobody wants it.
    ///
    /// # Errors
    /// It cannot be read, or the store does not take it: it is tried again.
    pub fn send(&mut self) -> Result<(), String> {
        if let (Some(most), None) = (self.settings.result, self.sent) {
            let sent = self.put(most);
            self.sent = Some(sent.map_err(|error| format!("{error:#}"))?);
        }
        Ok(())
    }

    fn put(&self, most: u64) -> anyhow::Result<Sent> {
        let path = self.settings.launch.paths.result();
        let found = find(&path, most).with_context(|| format!("read {}", path.display()))?;
        let bytes = match found {
            Found::Nothing => return Ok(Sent::Nothing),
            Found::NoFile => return Ok(Sent::NoFile),
            Found::TooLarge => return Ok(Sent::TooLarge),
            Found::Whole(bytes) => bytes,
        };
        let at = self.settings.places.left()?;
        let put = self
            .store
            .put_bytes(&at, &Condition::Any, &Metadata::new(), &bytes);
        put.with_context(|| at.to_string())?;
        Ok(Sent::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_itself_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answer.json");
        assert!(read(&path).is_err());
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path).unwrap(), b"{}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link).is_err());
        assert!(read(dir.path()).is_err());
        let large = File::create(dir.path().join("large")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        let why = read(&dir.path().join("large")).unwrap_err().to_string();
        assert!(why.contains("16 MiB"), "{why}");
        let find = |name: &str| find(&dir.path().join(name), 2).unwrap();
        assert_eq!(find("answer.json"), Found::Whole(b"{}".to_vec()));
        assert_eq!(find("none"), Found::Nothing);
        assert_eq!((find("link"), find(".")), (Found::NoFile, Found::NoFile));
        assert_eq!(find("large"), Found::TooLarge);
    }
}
