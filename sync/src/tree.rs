//! What is in the state's folder, as a listing that two passes can compare.
//!
//! A scan looks at metadata only. An [`Entry`] holds everything that changes when a file is changed, so two equal
//! scans mean an unchanged tree, with two exceptions. One: a file changed twice within the clock's grain looks the same.
//! Entries that were younger than [`GRAIN`] when they were read are therefore never trusted ([`inherit`]). Another is a
//! file written through a mapping on a file system that changes time stamps at the first write only (tmpfs):
//! [`Tree::forget`] makes every file be read again.

mod scan;

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use contract::Digest;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::beneath;
pub use scan::Scan;

/// Coarser than the time stamps of any local file system on a kernel with a 100 Hz clock.
const GRAIN: Duration = Duration::from_millis(100);
/// How many entries left out are named.
const NAMED: usize = 100;
/// A file of more bytes is large: it is hashed, compared and sent by pieces of this size.
pub const PIECE: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A plain file.
    File,
    /// A symbolic link.
    Link,
}

/// A hash of an entry's content (of a link: its target).
pub type Hash = [u8; 32];

/// One entry of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the state, any bytes.
    pub path: Box<[u8]>,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits.
    pub mode: u32,
    /// Its size in bytes; 0 for a folder.
    pub size: u64,
    /// Inode, and when its content and when anything of it was changed last, in nanoseconds.
    stamp: (u64, i64, i64),
    /// Its content (of a large file: the hash of the pieces' hashes); `None` for a folder, or as long as it was not
    /// read.
    pub hash: Option<Hash>,
    /// The hash of each [`PIECE`] of a large file, where `hash` is known.
    pub pieces: Box<[Hash]>,
    settled: Settled,
}

/// Whether equal metadata means equal content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Yes,
    TooYoung,
}

/// The state at one moment.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Its entries, sorted by path; a folder comes before what is in it.
    pub entries: Vec<Entry>,
    /// What cannot be saved, each with the reason, sorted.
    pub left_out: Vec<String>,
    /// Bytes in all files.
    pub bytes: u64,
    /// Files that could not be read when they were to be hashed; no longer among the entries.
    unreadable: Vec<Entry>,
}

impl Tree {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether `other` was scanned from the same, unchanged tree, as far as metadata tells.
    pub fn looks_like(&self, other: &Self) -> bool {
        let same = |(a, b): (&Entry, &Entry)| a.same_metadata(b);
        self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(same)
    }

    /// The digest of the content: paths, kinds, permissions, sizes and hashes. `None` until all files are hashed.
    pub fn digest(&self) -> Option<Digest> {
        let mut sum = Sha256::new();
        for entry in &self.entries {
            entry.describe(&mut sum);
            entry.describe_content(&mut sum)?;
        }
        Some(Digest::from_bytes(sum.finalize().into()))
    }

    fn leave_out(&mut self, path: &[u8], why: &str) {
        if self.left_out.len() < NAMED {
            self.left_out
                .push(format!("{}: {why}", String::from_utf8_lossy(path)));
        }
    }

    /// Forgets what is known of the files' content.
    pub fn forget(&mut self) {
        for entry in &mut self.entries {
            if entry.kind == Kind::File {
                entry.hash = None;
            }
        }
    }

    /// Forgets what is known of one file's content.
    pub fn forget_file(&mut self, path: &[u8]) {
        let at = self
            .entries
            .binary_search_by(|entry| (*entry.path).cmp(path));
        if let Ok(at) = at {
            self.entries[at].hash = None;
        }
    }

    /// Hashes every file that has no hash. One that cannot be read is left out; one that vanished or changed since
    /// the scan is dropped or hashed as it is now, which the scan after the push will notice.
    pub fn hash(&mut self, root: BorrowedFd<'_>) -> io::Result<()> {
        let mut entries = std::mem::take(&mut self.entries);
        let mut failed = None;
        entries.retain_mut(|entry| {
            if entry.kind != Kind::File || entry.hash.is_some() || failed.is_some() {
                return true;
            }
            match hash_file(root, entry) {
                Ok((hash, pieces)) => {
                    (entry.hash, entry.pieces) = (Some(hash), pieces);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if is_about_the_file(&error) => {
                    self.leave_out(&entry.path, &error.to_string());
                    self.unreadable.push(entry.clone());
                }
                Err(error) => failed = Some(error),
            }
            false
        });
        self.entries = entries;
        self.left_out.sort();
        failed.map_or(Ok(()), Err)
    }
}

impl Entry {
    /// Whether it is a file that is handled by pieces.
    pub fn is_large(&self) -> bool {
        self.kind == Kind::File && self.size > PIECE
    }

    /// Adds to `sum` what the entry is, but for its content.
    pub fn describe(&self, sum: &mut Sha256) {
        sum.update([self.kind as u8]);
        sum.update(self.mode.to_le_bytes());
        sum.update((self.path.len() as u64).to_le_bytes());
        sum.update(&self.path);
        if self.kind != Kind::Folder {
            sum.update(self.size.to_le_bytes());
        }
    }

    /// Adds the hash of its content, if it has any; `None` if that is not known.
    pub fn describe_content(&self, sum: &mut Sha256) -> Option<()> {
        if self.kind != Kind::Folder {
            sum.update(self.hash?);
        }
        Some(())
    }

    fn same_metadata(&self, other: &Self) -> bool {
        self.path == other.path
            && self.kind == other.kind
            && self.mode == other.mode
            && self.size == other.size
            && self.stamp == other.stamp
            && (self.kind != Kind::Link || self.hash == other.hash)
    }
}

/// Whether an error says something about one file, so that the others can go on.
fn is_about_the_file(error: &io::Error) -> bool {
    !matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
    )
}

/// Opens a plain file of the state for reading; a FIFO that took its place is not waited for.
pub fn open_file(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = std::fs::File::from(beneath::open(root, path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("no longer a plain file"))
    }
}

/// The hash of exactly as many bytes as the scan saw, and of a large file those of its pieces.
///
/// What is missing counts as zeros, as the archive writes it; the scan after the push finds the change.
fn hash_file(root: BorrowedFd<'_>, entry: &Entry) -> io::Result<(Hash, Box<[Hash]>)> {
    let mut file = open_file(root, &entry.path)?;
    let mut buffer = vec![0; BUFFER];
    if !entry.is_large() {
        return Ok((
            hash_part(&mut file, entry.size, &mut buffer)?,
            Box::default(),
        ));
    }
    let mut pieces = Vec::new();
    let mut rest = entry.size;
    while rest > 0 {
        let size = rest.min(PIECE);
        pieces.push(hash_part(&mut file, size, &mut buffer)?);
        rest -= size;
    }
    let all = Sha256::digest(pieces.as_flattened()).into();
    Ok((all, pieces.into()))
}

/// Room for reading a file that is hashed.
const BUFFER: usize = 64 << 10;

/// The hash of the next `size` bytes.
fn hash_part(file: &mut impl Read, size: u64, buffer: &mut [u8]) -> io::Result<Hash> {
    let mut sum = Sha256::new();
    let mut rest = size;
    while rest > 0 {
        let most = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        let part = &mut buffer[..most];
        let got = match file.read(part)? {
            0 => {
                part.fill(0);
                most
            }
            got => got,
        };
        sum.update(&part[..got]);
        rest -= got as u64;
    }
    Ok(sum.finalize().into())
}

/// Takes over from `old` what was learnt about files that have not changed since: their hashes, and which of them
/// cannot be read.
pub fn inherit(old: &Tree, new: &mut Tree) {
    for entry in &old.unreadable {
        let at = new
            .entries
            .binary_search_by(|new| new.path.cmp(&entry.path));
        if let Some(at) = at.ok().filter(|at| new.entries[*at].same_metadata(entry)) {
            new.entries.remove(at);
            new.unreadable.push(entry.clone());
            let named = format!("{}:", String::from_utf8_lossy(&entry.path));
            new.left_out.extend(
                old.left_out
                    .iter()
                    .find(|text| text.starts_with(&named))
                    .cloned(),
            );
        }
    }
    new.left_out.sort();
    let mut known = old.entries.iter().peekable();
    for entry in &mut new.entries {
        while known.next_if(|old| old.path < entry.path).is_some() {}
        let Some(old) = known.peek().filter(|old| old.path == entry.path) else {
            continue;
        };
        if old.settled == Settled::Yes && old.same_metadata(entry) {
            entry.hash = old.hash;
            entry.pieces = old.pieces.clone();
        }
    }
}

/// Scans the folder at `path` without reading files.
pub fn list(path: &Path) -> io::Result<Tree> {
    Scan::default().run(beneath::root(path)?.as_fd(), SystemTime::now())
}

/// Scans the folder at `path` and hashes everything in it.
pub fn read(path: &Path) -> io::Result<Tree> {
    let root = beneath::root(path)?;
    let mut tree = Scan::default().run(root.as_fd(), SystemTime::now())?;
    tree.hash(root.as_fd())?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::NEW;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn digest(path: &Path) -> Digest {
        read(path).unwrap().digest().unwrap()
    }

    #[test]
    fn the_digest_follows_content_names_kinds_and_permissions_but_not_times() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "1").unwrap();
        let first = digest(dir.path());
        fs::write(&file, "2").unwrap();
        let second = digest(dir.path());
        fs::write(&file, "1").unwrap();
        assert_eq!(digest(dir.path()), first);
        assert_ne!(first, second);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(digest(dir.path()), first);
        fs::create_dir(dir.path().join("empty")).unwrap();
        let with_folder = digest(dir.path());
        fs::rename(dir.path().join("empty"), dir.path().join("other")).unwrap();
        assert_ne!(digest(dir.path()), with_folder);
    }

    #[test]
    fn what_cannot_be_saved_is_named_and_the_rest_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("good"), "1").unwrap();
        fs::write(dir.path().join("large"), "12345").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        fs::create_dir(dir.path().join(NEW)).unwrap();
        let root = beneath::root(dir.path()).unwrap();
        let tree = Scan { largest: Some(4) }
            .run(root.as_fd(), SystemTime::now())
            .unwrap();
        assert_eq!(tree.entries.len(), 1);
        assert_eq!(
            tree.left_out,
            [
                "large: 5 bytes, over MAX_STATE_FILE_SIZE_MB",
                "socket: a socket"
            ]
        );
    }

    #[test]
    fn a_hash_is_taken_over_only_where_metadata_can_be_trusted() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "1").unwrap();
        let root = beneath::root(dir.path()).unwrap();
        let scan = |now| Scan::default().run(root.as_fd(), now).unwrap();
        let later = SystemTime::now() + Duration::from_secs(9);
        for (at, taken_over) in [(later, true), (SystemTime::now(), false)] {
            let mut old = scan(at);
            old.hash(root.as_fd()).unwrap();
            let mut new = scan(later);
            inherit(&old, &mut new);
            assert_eq!(new.entries[0].hash.is_some(), taken_over);
            assert!(new.looks_like(&old));
        }
    }
}
