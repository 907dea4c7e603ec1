//! An archive as a list of things, and the ways to write it down.

use std::io::Write;

use super::tar::{self, Block, Magic};
use super::zip::{self, Zipped};

/// Random numbers that are the same each time.
#[derive(Debug)]
pub struct Seed(u64);

impl Seed {
    /// A seed of its own for each `name`.
    pub fn new(name: &str) -> Self {
        let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, mix) | 1)
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// Never: what is below a `usize` is one.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % end.max(1) as u64).expect("it was one")
    }

    /// Some bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| self.below(256).to_le_bytes()[0])
            .collect()
    }

    fn word(&mut self) -> String {
        let letter = |seed: &mut Self| char::from(b'a' + seed.below(26).to_le_bytes()[0]);
        let length = 5 + self.below(6);
        (0..length).map(|_| letter(self)).collect()
    }
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Thing {
    File(Vec<u8>),
    Folder,
    Link(Vec<u8>),
    /// Only tars have them.
    Hard(Vec<u8>),
    /// A kind by its letter in a tar and its type in a zip.
    Special(u8, u32),
}

/// An entry.
#[derive(Debug, Clone)]
pub struct Item {
    pub name: Vec<u8>,
    pub thing: Thing,
}

impl Item {
    pub fn new(name: impl AsRef<[u8]>, thing: Thing) -> Self {
        let name = name.as_ref().to_vec();
        Self { name, thing }
    }

    pub fn file(name: impl AsRef<[u8]>) -> Self {
        Self::new(name, Thing::File(b"owned".to_vec()))
    }

    pub fn link(name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        Self::new(name, Thing::Link(to.as_ref().to_vec()))
    }
}

/// Where a name or a link is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Field,
    Prefix,
    Pax,
    Long,
    UnicodePath,
}

/// A way to write an archive down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Tar(Carrier),
    Gzip(Carrier),
    Zip(Carrier),
}

use Carrier::{Field, Long, Pax, Prefix, UnicodePath};

/// All ways to write a name.
pub const NAMING: [Shape; 9] = [
    Shape::Tar(Field),
    Shape::Tar(Prefix),
    Shape::Tar(Pax),
    Shape::Tar(Long),
    Shape::Gzip(Field),
    Shape::Gzip(Pax),
    Shape::Gzip(Long),
    Shape::Zip(Field),
    Shape::Zip(UnicodePath),
];

/// All ways to write where a link leads; zips have it as content.
pub const LINKING: [Shape; 7] = [
    Shape::Tar(Field),
    Shape::Tar(Pax),
    Shape::Tar(Long),
    Shape::Gzip(Field),
    Shape::Gzip(Pax),
    Shape::Gzip(Long),
    Shape::Zip(Field),
];

/// The three formats.
pub const FORMATS: [Shape; 3] = [Shape::Tar(Field), Shape::Gzip(Field), Shape::Zip(Field)];

impl Shape {
    pub fn is_tar(self) -> bool {
        !matches!(self, Self::Zip(_))
    }

    /// Whether this way can carry the name `name`.
    pub fn takes(self, name: &[u8]) -> bool {
        match self {
            Self::Tar(Prefix) | Self::Gzip(Prefix) => {
                let at = name.iter().position(|b| *b == b'/').unwrap_or(0);
                let fits = at > 0 && at <= 155 && (2..=101).contains(&(name.len() - at));
                fits && !name.contains(&0)
            }
            Self::Tar(Long) | Self::Gzip(Long) => name.last() != Some(&0),
            Self::Tar(Field) | Self::Gzip(Field) => {
                name.len() <= 100 && !name.contains(&0) && !name.is_empty()
            }
            // Replacing a name by one of another shape is an entry of its own in this family.
            Self::Zip(UnicodePath) => std::str::from_utf8(name).is_ok() && name.len() < 1000,
            _ => true,
        }
    }
}

/// Writes `items` down, those marked by the carrier of `shape`.
pub fn write(items: &[(Item, bool)], shape: Shape) -> Vec<u8> {
    match shape {
        Shape::Tar(carrier) => tar::tar(&blocks(items, carrier)),
        Shape::Gzip(carrier) => gzip(&tar::tar(&blocks(items, carrier))),
        Shape::Zip(carrier) => {
            let zipped = |(item, marked): &(Item, bool)| {
                let carrier = if *marked { carrier } else { Field };
                zipped(item, carrier)
            };
            zip::zip(&items.iter().map(zipped).collect::<Vec<_>>())
        }
    }
}

/// `bytes` as one gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    squeeze(bytes, flate2::Compression::fast())
}

/// `bytes` as one gzip member, so far compressed.
pub fn squeeze(bytes: &[u8], level: flate2::Compression) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
    gzip.write_all(bytes).expect("memory takes all");
    gzip.finish().expect("memory takes all")
}

fn blocks(items: &[(Item, bool)], carrier: Carrier) -> Vec<Block> {
    let carriers = items
        .iter()
        .map(|(_, marked)| if *marked { carrier } else { Field });
    let blocks = items.iter().zip(carriers);
    blocks
        .flat_map(|((item, _), carrier)| block(item, carrier))
        .collect()
}

/// The headers of one entry.
pub fn block(item: &Item, carrier: Carrier) -> Vec<Block> {
    let (kind, link, content) = match &item.thing {
        Thing::File(content) => (b'0', &[][..], &content[..]),
        Thing::Folder => (b'5', &[][..], &[][..]),
        Thing::Link(to) => (b'2', &to[..], &[][..]),
        Thing::Hard(to) => (b'1', &to[..], &[][..]),
        Thing::Special(letter, _) => (*letter, &[][..], &[][..]),
    };
    let mut entry = Block::new(kind, &item.name).to(link).with(content);
    entry.mode = if item.name.len().is_multiple_of(2) {
        0o755
    } else {
        0o4755
    };
    let mut before = Vec::new();
    match carrier {
        Prefix => {
            let at = item.name.iter().position(|b| *b == b'/').unwrap_or(0);
            (entry.prefix, entry.name) = (item.name[..at].to_vec(), item.name[at + 1..].to_vec());
            entry.magic = Magic::Ustar;
        }
        Pax => {
            let mut records = vec![("path", &item.name[..])];
            if !link.is_empty() {
                records.push(("linkpath", link));
            }
            before.push(tar::pax(b'x', &records));
            (entry.name, entry.link) = (b"innocent".to_vec(), b"innocent".to_vec());
        }
        Long => {
            before.push(tar::long(b'L', &item.name));
            if !link.is_empty() {
                before.push(tar::long(b'K', link));
            }
            (entry.name, entry.link) = (b"innocent".to_vec(), b"innocent".to_vec());
        }
        Field | UnicodePath => {}
    }
    before.push(entry);
    before
}

/// The entry in a zip.
pub fn zipped(item: &Item, carrier: Carrier) -> Zipped {
    let slash = [&item.name[..], b"/"].concat();
    let name = match &item.thing {
        Thing::Folder if !item.name.ends_with(b"/") => &slash,
        _ => &item.name,
    };
    let entry = match &item.thing {
        Thing::File(content) => zip::deflated(name, 0o100_644, content),
        Thing::Folder => zip::stored(name, 0o040_755, b""),
        Thing::Link(to) => zip::stored(name, 0o120_777, to),
        Thing::Hard(_) => unreachable!("a zip has no hard links"),
        Thing::Special(_, kind) => zip::stored(name, kind | 0o644, b""),
    };
    if carrier == UnicodePath {
        let extra = zip::unicode_path(b"innocent", name);
        return entry.both(|said| {
            said.name = b"innocent".to_vec();
            said.extra.clone_from(&extra);
        });
    }
    entry
}

/// Puts `evil` among innocent entries.
pub fn among(seed: &mut Seed, evil: &[Item]) -> Vec<(Item, bool)> {
    let innocent = |seed: &mut Seed| {
        let length = seed.below(40);
        let name = format!("{}/{}.py", seed.word(), seed.word());
        (Item::new(name, Thing::File(seed.bytes(length))), false)
    };
    let before = seed.below(3);
    let mut all: Vec<_> = (0..before).map(|_| innocent(seed)).collect();
    all.extend(evil.iter().map(|item| (item.clone(), true)));
    let after = seed.below(3);
    all.extend((0..after).map(|_| innocent(seed)));
    all
}
