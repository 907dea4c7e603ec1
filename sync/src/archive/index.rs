//! What members an archive has: enough to take them over into the next one without reading them.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::gzip::{self, HEADER};
use super::plan::{Id, Member};
use crate::settings::Settings;
use crate::store::Etag;

/// The name of the file in which the index of the state's object is remembered.
const FILE: &str = "members.json";
/// The index of a smaller archive is not remembered: it is written whole, as stores copy no less than 5 MiB.
const WORTH: u64 = 10 << 20;

/// The members of an archive, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    ids: Vec<u128>,
    lengths: Vec<u32>,
}

impl Index {
    /// Adds the member that comes next.
    pub(super) fn push(&mut self, id: Id, length: u32) {
        self.ids.push(id.0);
        self.lengths.push(length);
    }

    /// Bytes of the archive.
    pub fn bytes(&self) -> u64 {
        self.lengths.iter().map(|length| u64::from(*length)).sum()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Rebuilds the index from an archive of ours, from the headers of its members; `None` if it is not one.
    pub fn of(archive: &File) -> io::Result<Option<Self>> {
        let size = archive.metadata()?.len();
        let mut input = BufReader::with_capacity(HEADER, archive);
        let mut index = Self::default();
        let mut at = 0;
        while at < size {
            input.seek(SeekFrom::Start(at))?;
            let mut header = [0; HEADER];
            match input.read_exact(&mut header) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                other => other?,
            }
            let Some((id, length)) = gzip::parse(&header) else {
                return Ok(None);
            };
            index.push(id, length);
            at += u64::from(length);
        }
        let whole = at == size && index.ids.len() == index.lengths.len();
        Ok(whole.then_some(index))
    }
}

/// An index and the version of the state's object that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// The version.
    pub etag: Etag,
    /// Its members.
    pub index: Index,
}

impl Noted {
    /// What is remembered. Without it the next archive is sent whole, so that it cannot be read is no failure.
    pub fn load(settings: &Settings) -> Option<Self> {
        let noted: Self = contract::file::read_json(&settings.private(FILE)).ok()??;
        (noted.index.ids.len() == noted.index.lengths.len()).then_some(noted)
    }

    /// Remembers it, if it is worth it, in place of what was remembered.
    pub fn save(self, settings: &Settings) -> Option<Self> {
        let path = settings.private(FILE);
        let noted = Some(self).filter(|noted| noted.index.bytes() >= WORTH);
        let saved = match &noted {
            Some(noted) => contract::file::replace_json(&path, noted),
            None => contract::file::remove(&path),
        };
        if let Err(error) = saved {
            contract::debug!("{} cannot be written: {error}", path.display());
        }
        noted
    }
}

/// Members that follow each other both in the archive being written and in the previous one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The first of them in the previous archive.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Where they are in it.
    pub bytes: Range<u64>,
}

impl Run {
    /// How many bytes.
    pub fn length(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

/// The previous archive, with what it takes to find members in it.
#[derive(Debug)]
pub(super) struct Previous<'a> {
    index: &'a Index,
    /// Where each member begins, and where the last one ends.
    offsets: Vec<u64>,
    /// The members sorted by what they are.
    sorted: Vec<usize>,
}

impl<'a> Previous<'a> {
    pub fn new(index: &'a Index) -> Self {
        let mut offsets = vec![0];
        let mut at = 0;
        for length in &index.lengths {
            at += u64::from(*length);
            offsets.push(at);
        }
        let mut sorted: Vec<usize> = (0..index.ids.len()).collect();
        sorted.sort_by_key(|n| index.ids[*n]);
        Self {
            index,
            offsets,
            sorted,
        }
    }

    /// The longest run with which `members` begins, looked for at `near` first, where equal members are in a row.
    pub fn run(&self, members: &[Member], near: usize) -> Option<Run> {
        let wanted = members.first().filter(|member| member.id != Id::UNKNOWN)?;
        let first = self.find(wanted.id, near)?;
        let there = &self.index.ids[first..];
        let same = |(member, id): &(&Member, &u128)| member.id.0 == **id && **id != 0;
        let count = members.iter().zip(there).take_while(same).count();
        let bytes = self.offsets[first]..self.offsets[first + count];
        Some(Run {
            first,
            count,
            bytes,
        })
    }

    fn find(&self, id: Id, near: usize) -> Option<usize> {
        let ids = &self.index.ids;
        if ids.get(near) == Some(&id.0) {
            return Some(near);
        }
        let at = self.sorted.partition_point(|n| ids[*n] < id.0);
        self.sorted.get(at).copied().filter(|n| ids[*n] == id.0)
    }

    /// The members of a run, as they are noted.
    pub fn members(&self, run: &Run) -> impl Iterator<Item = (Id, u32)> {
        let at = run.first..run.first + run.count;
        at.map(|n| (Id(self.index.ids[n]), self.index.lengths[n]))
    }
}
