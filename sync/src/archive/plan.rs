//! Where an archive is cut into members, and what each member is: decided from the listing alone.
//!
//! Small entries are grouped. A group ends after an entry when it has [`LEAST`] bytes and that entry's path says so,
//! or before it would have more than [`MOST`]: so the cuts follow the content, and a change in one place does not move
//! those elsewhere. A large file's header ends a group too; its content follows in pieces, each a member of its own
//! that is the same wherever that piece lies and whatever the file is called.

use sha2::{Digest as _, Sha256};

use super::entry::length;
use crate::store::Then;
use crate::tree::{Entry, PIECE, Tree};

/// Raised whenever the same listing would give other bytes: the layout, the compressor or its level.
const FORMAT: u8 = 1;
/// A group has so many bytes before its entries' paths may end it.
const LEAST: u64 = 256 << 10;
/// After that, a group has so many more on average.
const MORE: u64 = 512 << 10;
/// A group has at most so many bytes.
const MOST: u64 = 2 << 20;

/// What a member holds, as a number that members with other bytes do not have; 16 bytes of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u128);

impl Id {
    /// Of a member that holds something else than what was hashed. It is like no other, itself included.
    pub const UNKNOWN: Self = Self(0);

    fn of(sum: Sha256) -> Self {
        let hash: [u8; 32] = sum.finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        Self(u128::from_le_bytes(half))
    }
}

/// One gzip member to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub id: Id,
    /// What is in it.
    pub what: What,
}

/// What is in a member, by the places of entries in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Entries one after the other, of large files the header only; then maybe the archive's end.
    Group {
        /// The first.
        first: usize,
        /// How many.
        count: usize,
        /// Whether the archive ends here.
        then: Then,
    },
    /// A piece of a large file.
    Piece {
        /// The file.
        entry: usize,
        /// Which piece of it, from 0.
        nth: usize,
    },
}

/// Cuts the archive of `tree`.
pub fn plan(tree: &Tree) -> Vec<Member> {
    let mut group = Group::at(0);
    let mut members = Vec::new();
    for (n, entry) in tree.entries.iter().enumerate() {
        if group.bytes + length(entry) > MOST {
            members.push(group.close(Then::More));
            group = Group::at(n);
        }
        group.add(entry);
        if entry.is_large() {
            members.push(group.close(Then::More));
            members.extend(pieces(n, entry));
        } else if group.bytes >= LEAST && ends_a_group(entry) {
            members.push(group.close(Then::More));
        } else {
            continue;
        }
        group = Group::at(n + 1);
    }
    members.push(group.close(Then::End));
    members
}

/// A group being filled.
struct Group {
    first: usize,
    count: usize,
    bytes: u64,
    /// `None` when something in it has no hash.
    sum: Option<Sha256>,
}

impl Group {
    fn at(first: usize) -> Self {
        let sum = Sha256::new().chain_update([FORMAT, b'g']);
        Self {
            first,
            count: 0,
            bytes: 0,
            sum: Some(sum),
        }
    }

    fn add(&mut self, entry: &Entry) {
        self.count += 1;
        self.bytes += length(entry);
        self.sum = self.sum.take().and_then(|mut sum| {
            entry.describe(&mut sum);
            if !entry.is_large() {
                entry.describe_content(&mut sum)?;
            }
            Some(sum)
        });
    }

    fn close(self, then: Then) -> Member {
        let (first, count) = (self.first, self.count);
        let sum = self
            .sum
            .map(|sum| sum.chain_update([u8::from(then == Then::End)]));
        Member {
            id: sum.map_or(Id::UNKNOWN, Id::of),
            what: What::Group { first, count, then },
        }
    }
}

/// Whether a group that has enough ends after this entry: the larger the entry, the likelier.
fn ends_a_group(entry: &Entry) -> bool {
    let hash: [u8; 32] = Sha256::digest(&entry.path).into();
    let mut chance = [0; 4];
    chance.copy_from_slice(&hash[..4]);
    u64::from(u32::from_le_bytes(chance)) * MORE < length(entry) << 32
}

fn pieces(n: usize, entry: &Entry) -> impl Iterator<Item = Member> + '_ {
    (0..pieces_of(entry)).map(move |nth| {
        let hash = entry.pieces.get(nth).filter(|_| entry.hash.is_some());
        let id = hash.map_or(Id::UNKNOWN, |hash| {
            let sum = Sha256::new().chain_update([FORMAT, b'p']);
            let size = piece_size(entry, nth) as u64;
            Id::of(sum.chain_update(size.to_le_bytes()).chain_update(hash))
        });
        let what = What::Piece { entry: n, nth };
        Member { id, what }
    })
}

/// How many pieces follow the entry's header: none unless it is a large file.
pub(super) fn pieces_of(entry: &Entry) -> usize {
    if entry.is_large() {
        usize::try_from(entry.size.div_ceil(PIECE)).unwrap_or(usize::MAX)
    } else {
        0
    }
}

/// Bytes in the piece `nth` of a large file.
pub(super) fn piece_size(entry: &Entry, nth: usize) -> usize {
    let before = PIECE.saturating_mul(nth as u64);
    usize::try_from(entry.size.saturating_sub(before).min(PIECE)).unwrap_or(0)
}
