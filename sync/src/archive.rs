//! The state as one `tar.gz`: the same tree gives the same bytes.
//!
//! Names are sorted and relative without `./`, owner and time are fixed, permissions are kept, empty folders and
//! links are in it. It is written as a stream; a file is held in memory only if it is small.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use flate2::{Compression, GzBuilder, write::GzEncoder};
use rustix::fs::readlinkat;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use thiserror::Error;

use crate::beneath;
use crate::tree::{Entry, Kind, Tree, open_file};

/// Files up to this size are read whole before they are written, so that a change while reading is noticed first.
const SMALL: u64 = 1 << 20;
/// The user and group of bots in their images.
const OWNER: u64 = 1000;
/// 1980-01-01, the first time that every archive format can say; GNU tar complains about 0.
const TIME: u64 = 315_532_800;

/// Why an archive was not finished.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The tree changed while it was being read.
    #[error("the state changed while it was being read")]
    Torn,
    /// A file is not what it was when it was hashed.
    #[error("{} changed while the state was being read", String::from_utf8_lossy(.0))]
    Changed(Box<[u8]>),
    /// The store's side broke.
    #[error("write the archive: {0}")]
    Output(#[from] io::Error),
}

/// What to do about a file that is not what it was when it was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Torn {
    /// Give up.
    Refuse,
    /// Write what is there now.
    Accept,
}

/// Writes the archive of `tree`, whose files are read beneath `root`.
pub fn write(
    tree: &Tree,
    root: BorrowedFd<'_>,
    torn: Torn,
    out: impl Write,
) -> Result<(), WriteError> {
    let gzip: GzEncoder<_> = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(out, Compression::new(3));
    let mut tar = Builder::new(gzip);
    for entry in &tree.entries {
        let written = match entry.kind {
            Kind::Folder => folder(&mut tar, entry)?,
            Kind::Link => link(&mut tar, root, entry)?,
            Kind::File if entry.size <= SMALL => small_file(&mut tar, root, entry)?,
            Kind::File => large_file(&mut tar, root, entry)?,
        };
        if written == Written::Otherwise && torn == Torn::Refuse {
            return Err(WriteError::Changed(entry.path.clone()));
        }
    }
    tar.into_inner()?.finish()?;
    Ok(())
}

/// Whether what went into the archive is what was hashed.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    AsHashed,
    Otherwise,
}

impl Written {
    fn compare(entry: &Entry, hash: &[u8]) -> Self {
        if entry.hash.is_some_and(|h| h == hash) {
            Self::AsHashed
        } else {
            Self::Otherwise
        }
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(OWNER);
    header.set_gid(OWNER);
    header.set_mtime(TIME);
    header
}

/// Longest text in a header's fields for names.
const FIELD: usize = 100;

/// Appends an entry whose names are these bytes exactly. (The crate's own setters take them for paths and change them:
/// a link to `a//b` would come back as one to `a/b`, and be taken for corrupt.)
fn append<W: Write>(
    tar: &mut Builder<W>,
    mut header: Header,
    path: &[u8],
    target: &[u8],
    content: impl Read,
) -> io::Result<()> {
    if path.len() > FIELD {
        long(tar, EntryType::GNULongName, path)?;
    }
    if target.len() > FIELD {
        long(tar, EntryType::GNULongLink, target)?;
    }
    let fields = header.as_old_mut();
    put(&mut fields.name, path);
    put(&mut fields.linkname, target);
    header.set_cksum();
    tar.append(&header, content)
}

/// A name too long for its field goes before the entry, as GNU tar has it.
fn long<W: Write>(tar: &mut Builder<W>, kind: EntryType, text: &[u8]) -> io::Result<()> {
    let mut header = header(kind, 0o644, text.len() as u64 + 1);
    put(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_cksum();
    tar.append(&header, text.chain(&b"\0"[..]))
}

fn put(field: &mut [u8; FIELD], text: &[u8]) {
    let fits = text.len().min(FIELD);
    field[..fits].copy_from_slice(&text[..fits]);
}

fn folder<W: Write>(tar: &mut Builder<W>, entry: &Entry) -> io::Result<Written> {
    let header = header(EntryType::Directory, entry.mode, 0);
    let name = [&entry.path, &b"/"[..]].concat();
    append(tar, header, &name, b"", io::empty())?;
    Ok(Written::AsHashed)
}

fn link<W: Write>(
    tar: &mut Builder<W>,
    root: BorrowedFd<'_>,
    entry: &Entry,
) -> io::Result<Written> {
    let (folder, name) = beneath::split(&entry.path);
    let target = beneath::open_folder(root, folder)
        .and_then(|folder| Ok(readlinkat(&folder, name, Vec::new())?));
    let Ok(target) = target else {
        return Ok(Written::Otherwise);
    };
    let header = header(EntryType::Symlink, 0o777, 0);
    append(tar, header, &entry.path, target.as_bytes(), io::empty())?;
    Ok(Written::compare(entry, &Sha256::digest(target.as_bytes())))
}

/// A file that vanished or cannot be read any more is not in the archive.
fn small_file<W: Write>(
    tar: &mut Builder<W>,
    root: BorrowedFd<'_>,
    entry: &Entry,
) -> io::Result<Written> {
    let Ok(content) = read_steady(root, entry) else {
        return Ok(Written::Otherwise);
    };
    let header = header(EntryType::Regular, entry.mode, content.len() as u64);
    append(tar, header, &entry.path, b"", content.as_slice())?;
    Ok(Written::compare(entry, &Sha256::digest(&content)))
}

/// Reads the file until two looks at its size and time around a reading agree; after some tries, as it is.
fn read_steady(root: BorrowedFd<'_>, entry: &Entry) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    for _ in 0..5 {
        let mut file = open_file(root, &entry.path)?;
        let before = file.metadata()?;
        content.clear();
        Read::by_ref(&mut file)
            .take(SMALL)
            .read_to_end(&mut content)?;
        let after = file.metadata()?;
        let steady = before.len() == after.len() && before.modified()? == after.modified()?;
        if steady && content.len() as u64 == after.len() {
            break;
        }
    }
    Ok(content)
}

fn large_file<W: Write>(
    tar: &mut Builder<W>,
    root: BorrowedFd<'_>,
    entry: &Entry,
) -> io::Result<Written> {
    let Ok(file) = open_file(root, &entry.path) else {
        return Ok(Written::Otherwise);
    };
    let header = header(EntryType::Regular, entry.mode, entry.size);
    let mut exact = Exactly {
        file,
        rest: entry.size,
        sum: Sha256::new(),
    };
    append(tar, header, &entry.path, b"", &mut exact)?;
    Ok(Written::compare(entry, &exact.sum.finalize()))
}

/// Reads a file as exactly so many bytes as its header says: cut, or lengthened by zeros.
struct Exactly {
    file: std::fs::File,
    rest: u64,
    sum: Sha256,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.rest)
            .unwrap_or(usize::MAX)
            .min(into.len());
        let into = &mut into[..most];
        let got = match self.file.read(into) {
            Ok(0) | Err(_) => {
                into.fill(0);
                into.len()
            }
            Ok(got) => got,
        };
        self.rest -= got as u64;
        self.sum.update(&into[..got]);
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn archive(dir: &Path) -> Vec<u8> {
        let tree = crate::tree::read(dir).unwrap();
        let root = beneath::root(dir).unwrap();
        let mut out = Vec::new();
        write(&tree, root.as_fd(), Torn::Refuse, &mut out).unwrap();
        out
    }

    fn fill(dir: &Path) {
        std::fs::create_dir_all(dir.join("d/empty")).unwrap();
        std::fs::write(dir.join("d/f"), "1").unwrap();
        std::fs::write(dir.join("d").join("n".repeat(200)), "2").unwrap();
        std::fs::write(dir.join("big"), vec![7; (1 << 20) + 3]).unwrap();
        std::os::unix::fs::symlink("d/f", dir.join("l")).unwrap();
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(one.path());
        fill(two.path());
        assert_eq!(archive(one.path()), archive(two.path()));
    }

    #[test]
    fn any_name_and_any_link_comes_back_as_it_was() {
        let (dir, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &[u8]| dir.path().join(OsStr::from_bytes(name));
        let targets: [&[u8]; 8] = [
            b"a//b",
            b"a/./b",
            b"/",
            b"//x//",
            b"x/",
            b".",
            b"\xff",
            &[0xff; 150],
        ];
        for (n, target) in targets.iter().enumerate() {
            let target = OsStr::from_bytes(target);
            std::os::unix::fs::symlink(target, at(format!("l{n}").as_bytes())).unwrap();
        }
        for length in [1, 98, 99, 100, 101, 200] {
            std::fs::write(at(&vec![0xff; length]), "1").unwrap();
            std::fs::create_dir(at(&vec![0xfe; length])).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive(dir.path())).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let rules = crate::extract::Rules {
            links: crate::extract::Links::All,
            budget: crate::extract::Budget::default(),
        };
        crate::extract::unpack(&mut file, back.path(), rules).unwrap();
        let digest = |path: &Path| crate::tree::read(path).unwrap().digest().unwrap();
        assert_eq!(digest(back.path()), digest(dir.path()));
    }

    #[test]
    fn a_file_that_changed_since_it_was_hashed_tears_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        for name in ["d/f", "big", "l"] {
            let tree = crate::tree::read(dir.path()).unwrap();
            let root = beneath::root(dir.path()).unwrap();
            std::fs::remove_file(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name), "3").unwrap();
            let with = |torn| write(&tree, root.as_fd(), torn, io::sink());
            let refused = with(Torn::Refuse).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{name} changed")), "{refused}");
            assert!(with(Torn::Accept).is_ok(), "{name}");
        }
    }
}
