//! The state as one `tar.gz`: the same tree gives the same bytes, and an unchanged part of it the same part of them.
//!
//! Names are sorted and relative without `./`, owner and time are fixed, permissions are kept, empty folders and
//! links are in it. It is a sequence of gzip members, which every reader takes for one plain `tar.gz`:
//!
//! ```text
//! listing ─plan─▶ members ─▶ has the previous object a run of them?  ──yes──▶ taken over in the store, nothing read
//!                                 │no
//!                                 ▼
//!                           read, compared with what was hashed, compressed, written
//! ```
//!
//! What a member is follows from the listing ([`plan`]), so files in a part that is taken over are not read. Memory is
//! that of the listing, one small file or piece, and one member compressed.

mod entry;
mod gzip;
mod index;
mod plan;

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::store::{Then, Upload};
use crate::tree::{Entry, Hash, Kind, PIECE, Tree, open_file};

pub use index::{Index, Noted};
pub use plan::plan;

use index::{Previous, Run};
use plan::{Id, Member, What};

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

/// Where an archive goes: bytes, and ranges of the previous archive, as [`Upload`] says it.
pub trait Sink: Write {
    /// Whether so many bytes of the previous archive can be taken over now, and then comes that.
    fn can_copy(&self, length: u64, then: Then) -> bool;
    /// Takes them over.
    fn copy(&mut self, from: Range<u64>) -> io::Result<()>;
}

impl Sink for Upload<'_> {
    fn can_copy(&self, length: u64, then: Then) -> bool {
        Upload::can_copy(self, length, then)
    }

    fn copy(&mut self, from: Range<u64>) -> io::Result<()> {
        Upload::copy(self, from)
    }
}

/// Writes the archive of `tree`, whose files are read beneath `root`, with what is unchanged taken over from the object
/// it replaces, whose members are `previous`. Gives the members of the new one.
pub fn write(
    tree: &Tree,
    root: BorrowedFd<'_>,
    torn: Torn,
    previous: Option<&Index>,
    out: &mut impl Sink,
) -> Result<Index, WriteError> {
    let members = plan(tree);
    let nothing = Index::default();
    let mut writer = Writer {
        previous: Previous::new(previous.unwrap_or(&nothing)),
        near: 0,
        packer: Packer::new(tree, root, torn),
        index: Index::default(),
        out,
    };
    let mut rest = members.as_slice();
    while !rest.is_empty() {
        let done = match writer.copyable(rest) {
            Some(run) => writer.copy(&run)?,
            None => writer.produce(rest[0])?,
        };
        rest = &rest[done..];
    }
    Ok(writer.index)
}

/// Whether what went into the archive is what was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    AsHashed,
    Otherwise,
}

impl Written {
    fn compare(expected: Option<&Hash>, hash: &[u8]) -> Self {
        if expected.is_some_and(|expected| expected == hash) {
            Self::AsHashed
        } else {
            Self::Otherwise
        }
    }
}

struct Writer<'a, S> {
    previous: Previous<'a>,
    /// Where in the previous archive the next member is if nothing was added or removed.
    near: usize,
    packer: Packer<'a>,
    index: Index,
    out: &'a mut S,
}

impl<S: Sink> Writer<'_, S> {
    /// The run at the beginning of `rest`, if the store takes it now. A store may want more to be written first: then
    /// members are written although they are there, and what is left of the run comes up again.
    fn copyable(&self, rest: &[Member]) -> Option<Run> {
        let run = self.previous.run(rest, self.near)?;
        let then = if run.count == rest.len() {
            Then::End
        } else {
            Then::More
        };
        self.out.can_copy(run.length(), then).then_some(run)
    }

    fn copy(&mut self, run: &Run) -> io::Result<usize> {
        self.out.copy(run.bytes.clone())?;
        for (id, length) in self.previous.members(run) {
            self.index.push(id, length);
        }
        self.near = run.first + run.count;
        Ok(run.count)
    }

    /// Writes a member from the disk, and tells how many members are done with by that.
    fn produce(&mut self, member: Member) -> Result<usize, WriteError> {
        let packed = self.packer.pack(member)?;
        self.out.write_all(&self.packer.packed)?;
        self.index.push(packed.id, packed.length);
        self.near = match self.previous.run(&[member], self.near) {
            Some(run) => run.first + 1,
            None => self.near + 1,
        };
        Ok(1 + packed.left_out)
    }
}

/// A member that was packed.
struct Packed {
    id: Id,
    length: u32,
    /// How many members after it are not in the archive, as their file is gone.
    left_out: usize,
}

/// Makes members from what is on the disk.
struct Packer<'a> {
    tree: &'a Tree,
    root: BorrowedFd<'a>,
    torn: Torn,
    /// The large file being read.
    open: Option<(usize, File)>,
    content: Vec<u8>,
    packed: Vec<u8>,
}

impl<'a> Packer<'a> {
    fn new(tree: &'a Tree, root: BorrowedFd<'a>, torn: Torn) -> Self {
        Self {
            tree,
            root,
            torn,
            open: None,
            content: Vec::new(),
            packed: Vec::new(),
        }
    }

    /// Leaves the member's bytes in `packed`.
    fn pack(&mut self, member: Member) -> Result<Packed, WriteError> {
        let mut gzip = gzip::begin(std::mem::take(&mut self.packed));
        let (written, left_out) = match member.what {
            What::Group { first, count, then } => {
                let done = self.group(&mut gzip, first..first + count)?;
                if then == Then::End {
                    gzip.write_all(&entry::END)?;
                }
                done
            }
            What::Piece { entry, nth } => (self.piece(&mut gzip, entry, nth)?, 0),
        };
        let id = match written {
            Written::AsHashed => member.id,
            Written::Otherwise => Id::UNKNOWN,
        };
        let (packed, length) = gzip::end(gzip, id)?;
        self.packed = packed;
        Ok(Packed {
            id,
            length,
            left_out,
        })
    }

    /// Writes entries, and tells how many pieces are not to follow because their file is gone.
    fn group(
        &mut self,
        out: &mut impl Write,
        entries: Range<usize>,
    ) -> Result<(Written, usize), WriteError> {
        let (mut all, mut left_out) = (Written::AsHashed, 0);
        for n in entries {
            let entry = &self.tree.entries[n];
            let written = match entry.kind {
                Kind::Folder => entry::folder(out, entry)?,
                Kind::Link => entry::link(out, self.root, entry)?,
                Kind::File if entry.is_large() => self.large_header(out, n)?,
                Kind::File => entry::small_file(out, self.root, entry, &mut self.content)?,
            };
            if written == Written::Otherwise {
                self.accept(entry)?;
                all = written;
                left_out = plan::pieces_of(entry);
            }
        }
        Ok((all, left_out))
    }

    /// A large file that vanished is not in the archive.
    fn large_header(&mut self, out: &mut impl Write, n: usize) -> io::Result<Written> {
        let entry = &self.tree.entries[n];
        let Ok(file) = open_file(self.root, &entry.path) else {
            return Ok(Written::Otherwise);
        };
        self.open = Some((n, file));
        entry::large_header(out, entry)?;
        Ok(Written::AsHashed)
    }

    /// Writes a piece with exactly as many bytes as it should have: what is missing is zeros.
    fn piece(&mut self, out: &mut impl Write, n: usize, nth: usize) -> Result<Written, WriteError> {
        let entry = &self.tree.entries[n];
        let size = plan::piece_size(entry, nth);
        let mut content = std::mem::take(&mut self.content);
        content.clear();
        content.resize(size, 0);
        if let Some(file) = self.file(n) {
            fill(file, PIECE * nth as u64, &mut content);
        }
        let written = Written::compare(entry.pieces.get(nth), &Sha256::digest(&content));
        if written == Written::Otherwise {
            self.accept(entry)?;
        }
        out.write_all(&content)?;
        self.content = content;
        entry::pad(out, size)?;
        Ok(written)
    }

    fn file(&mut self, n: usize) -> Option<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != n) {
            let file = open_file(self.root, &self.tree.entries[n].path).ok()?;
            self.open = Some((n, file));
        }
        self.open.as_ref().map(|(_, file)| file)
    }

    fn accept(&self, entry: &Entry) -> Result<(), WriteError> {
        match self.torn {
            Torn::Accept => Ok(()),
            Torn::Refuse => Err(WriteError::Changed(entry.path.clone())),
        }
    }
}

/// Reads as much as there is from there on.
fn fill(file: &File, mut from: u64, mut into: &mut [u8]) {
    while !into.is_empty() {
        match file.read_at(into, from) {
            Ok(0) => break,
            Ok(got) => {
                from += got as u64;
                into = &mut into[got..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
}

#[cfg(test)]
mod tests;
