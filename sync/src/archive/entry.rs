//! One entry as bytes of a tar: headers, content, padding.

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::readlinkat;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::Written;
use crate::beneath;
use crate::tree::{Entry, Kind, PIECE, open_file};

/// The user and group of bots in their images.
const OWNER: u64 = 1000;
/// 1980-01-01, the first time that every archive format can say; GNU tar complains about 0.
const TIME: u64 = 315_532_800;
/// Longest text in a header's fields for names.
const FIELD: usize = 100;
/// Everything in a tar begins at a multiple of this.
const BLOCK: usize = 512;
/// What a tar ends with.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Bytes that the entry takes up in a tar; of a large file, without its pieces.
pub(super) fn length(entry: &Entry) -> u64 {
    let names = match entry.kind {
        Kind::Folder => long_length(entry.path.len() as u64 + 1),
        Kind::File => long_length(entry.path.len() as u64),
        Kind::Link => long_length(entry.path.len() as u64) + long_length(entry.size),
    };
    let content = match entry.kind {
        Kind::File if !entry.is_large() => blocks(entry.size),
        _ => 0,
    };
    BLOCK as u64 + names + content
}

fn long_length(name: u64) -> u64 {
    if name > FIELD as u64 {
        BLOCK as u64 + blocks(name + 1)
    } else {
        0
    }
}

fn blocks(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK as u64)
}

/// Writes a folder.
pub(super) fn folder(out: &mut impl Write, entry: &Entry) -> io::Result<Written> {
    let header = header(EntryType::Directory, entry.mode, 0);
    let name = [&entry.path, &b"/"[..]].concat();
    put_header(out, header, &name, b"")?;
    Ok(Written::AsHashed)
}

/// Writes a link; one that vanished is not in the archive.
pub(super) fn link(
    out: &mut impl Write,
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
    put_header(out, header, &entry.path, target.as_bytes())?;
    let hash = Sha256::digest(target.as_bytes());
    Ok(Written::compare(entry.hash.as_ref(), &hash))
}

/// Writes a small file; one that vanished or cannot be read any more is not in the archive.
pub(super) fn small_file(
    out: &mut impl Write,
    root: BorrowedFd<'_>,
    entry: &Entry,
    content: &mut Vec<u8>,
) -> io::Result<Written> {
    if read_steady(root, entry, content).is_err() {
        return Ok(Written::Otherwise);
    }
    let header = header(EntryType::Regular, entry.mode, content.len() as u64);
    put_header(out, header, &entry.path, b"")?;
    out.write_all(content)?;
    pad(out, content.len())?;
    let hash = Sha256::digest(content.as_slice());
    Ok(Written::compare(entry.hash.as_ref(), &hash))
}

/// Writes the header of a large file, whose pieces come next.
pub(super) fn large_header(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let header = header(EntryType::Regular, entry.mode, entry.size);
    put_header(out, header, &entry.path, b"")
}

/// Fills up to a whole block after `length` bytes of content.
pub(super) fn pad(out: &mut impl Write, length: usize) -> io::Result<()> {
    out.write_all(&END[..length.next_multiple_of(BLOCK) - length])
}

/// Reads the file until two looks at its size and time around a reading agree; after some tries, as it is.
fn read_steady(root: BorrowedFd<'_>, entry: &Entry, content: &mut Vec<u8>) -> io::Result<()> {
    for _ in 0..5 {
        let mut file = open_file(root, &entry.path)?;
        let before = file.metadata()?;
        content.clear();
        Read::by_ref(&mut file).take(PIECE).read_to_end(content)?;
        let after = file.metadata()?;
        let steady = before.len() == after.len() && before.modified()? == after.modified()?;
        if steady && content.len() as u64 == after.len() {
            break;
        }
    }
    Ok(())
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

/// Writes the header of an entry whose names are these bytes exactly. (The crate's own setters take them for paths and
/// change them: a link to `a//b` would come back as one to `a/b`, and be taken for corrupt.)
fn put_header(
    out: &mut impl Write,
    mut header: Header,
    path: &[u8],
    target: &[u8],
) -> io::Result<()> {
    if path.len() > FIELD {
        long(out, EntryType::GNULongName, path)?;
    }
    if target.len() > FIELD {
        long(out, EntryType::GNULongLink, target)?;
    }
    let fields = header.as_old_mut();
    put(&mut fields.name, path);
    put(&mut fields.linkname, target);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// A name too long for its field goes before the entry, as GNU tar has it.
fn long(out: &mut impl Write, kind: EntryType, text: &[u8]) -> io::Result<()> {
    let mut header = header(kind, 0o644, text.len() as u64 + 1);
    put(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(text)?;
    out.write_all(b"\0")?;
    pad(out, text.len() + 1)
}

fn put(field: &mut [u8; FIELD], text: &[u8]) {
    let fits = text.len().min(FIELD);
    field[..fits].copy_from_slice(&text[..fits]);
}
