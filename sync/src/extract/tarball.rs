//! Reading a tar: what each entry says, extension headers included, with nothing left to a parser's leniency.
//!
//! The tar crate reads the fields of a header. What comes after what is decided here, as its own reading names the wrong
//! entry where a header is bad, and takes the end of the input for the end of the archive.

use std::io::Read;

use tar::{EntryType, Header};

use super::Target;
use super::budget::Stream;
use super::name::{Name, Style};
use super::pax;
use super::refusal::{Error, Reason};

/// Extension headers hold names and times; more than this is a bomb for readers that take them whole.
const LONGEST_EXTENSION: u64 = 1 << 20;
const BLOCK: usize = 512;

/// Whether these bytes are a tar header, or the end of an empty tar.
pub(super) fn is_header(bytes: &[u8]) -> bool {
    let Ok(block) = <&[u8; BLOCK]>::try_from(bytes) else {
        return false;
    };
    if block.iter().all(|b| *b == 0) {
        return true;
    }
    let header = Header::from_byte_slice(block);
    let sum = block[..148]
        .iter()
        .chain(&block[156..])
        .map(|b| u32::from(*b))
        .sum::<u32>()
        + 8 * 32;
    header.cksum().is_ok_and(|said| said == sum)
}

/// Counts what is read, whatever it turns out to be.
struct Counted<R> {
    inner: R,
    so_far: Stream,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(into)?;
        self.so_far.bytes(got).map_err(std::io::Error::other)?;
        Ok(got)
    }
}

/// What extension headers say about the entry after them.
#[derive(Default)]
struct Said {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    /// A record that makes some readers see another file than the header describes.
    disguise: Option<&'static str>,
    /// Which kinds of extension headers there were.
    kinds: Vec<u8>,
}

pub(super) fn unpack(input: impl Read, target: &mut Target) -> Result<(), Error> {
    let mut input = Counted {
        inner: input,
        so_far: target.spent.stream(),
    };
    let mut said = Said::default();
    while let Some(header) = next(&mut input)? {
        let kind = header.entry_type();
        let mut name = header.path_bytes().into_owned();
        if !is_extension(kind) {
            name = said.name.clone().unwrap_or(name);
        }
        let size = check_header(&header).map_err(|why| why.of_bytes(&name))?;
        let mut content = input.by_ref().take(size);
        if is_extension(kind) {
            read_extension(kind, &mut content, &mut said, &name)?;
        } else {
            let said = std::mem::take(&mut said);
            place(&header, size, &mut content, &said, &name, target)?;
        }
        skip_padding(&mut input, size).map_err(|why| why.of_bytes(&name))?;
    }
    if !said.kinds.is_empty() {
        return Err(Reason::Truncated.of_archive());
    }
    drain(input)
}

/// The next header; none where a block of zeros ends the archive.
fn next(input: &mut impl Read) -> Result<Option<Header>, Error> {
    let mut header = Header::new_old();
    input
        .read_exact(header.as_mut_bytes())
        .map_err(|error| Reason::of_read(&error).of_archive())?;
    let is_end = header.as_bytes().iter().all(|b| *b == 0);
    Ok(if is_end { None } else { Some(header) })
}

/// What follows the content up to the next block.
fn skip_padding(input: &mut impl Read, size: u64) -> Result<(), Reason> {
    let mut padding = [0; BLOCK];
    let length = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
    input
        .read_exact(&mut padding[..length])
        .map_err(|error| Reason::of_read(&error))
}

/// The size in this header, if every reader finds the same name and size in it.
fn check_header(header: &Header) -> Result<u64, Reason> {
    if !is_header(header.as_bytes()) {
        return Err(Reason::Corrupt("the checksum of its header".into()));
    }
    let size = &header.as_old().size;
    let octal = || {
        let size = size.trim_ascii_start();
        let digits = size.iter().position(|b| !b"01234567".contains(b));
        let (digits, end) = size.split_at(digits.unwrap_or(size.len()));
        !digits.is_empty() && end.iter().all(|b| b" \0".contains(b))
    };
    // Binary from the first bit on where eleven digits are too few; more than eight bytes of it no file has.
    if !size.starts_with(&[0x80, 0, 0, 0]) && !octal() {
        return Err(Reason::Corrupt("its size is not a number".into()));
    }
    // Only some readers take a prefix where the header does not say that it is of the kind that has one.
    if header.as_ustar().is_none() && header.as_bytes()[345..500].iter().any(|b| *b != 0) {
        let why = "its format has no prefix, and there is one".to_owned();
        return Err(Reason::Disagreement(why));
    }
    header
        .entry_size()
        .map_err(|error| Reason::Corrupt(error.to_string()))
}

/// After the end there may only be zeros, and the checksum of a gzip is beyond them.
fn drain(mut input: impl Read) -> Result<(), Error> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = input
            .read(&mut buffer)
            .map_err(|error| Reason::of_read(&error).of_archive())?;
        if got == 0 {
            return Ok(());
        }
        if buffer[..got].iter().any(|b| *b != 0) {
            return Err(Reason::Trailing.of_archive());
        }
    }
}

fn is_extension(kind: EntryType) -> bool {
    kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_local_extensions()
        || kind.is_pax_global_extensions()
}

fn read_extension(
    kind: EntryType,
    input: &mut std::io::Take<impl Read>,
    said: &mut Said,
    name: &[u8],
) -> Result<(), Error> {
    let mut content = Vec::new();
    let size = input.limit();
    let result = if size > LONGEST_EXTENSION {
        Err(Reason::Corrupt("an extension header is too long".into()))
    } else {
        match input.read_to_end(&mut content) {
            Err(error) => Err(Reason::of_read(&error)),
            Ok(got) if (got as u64) < size => Err(Reason::Truncated),
            Ok(_) => said.hear(kind, content),
        }
    };
    result.map_err(|why| why.of_bytes(name))
}

impl Said {
    fn hear(&mut self, kind: EntryType, mut content: Vec<u8>) -> Result<(), Reason> {
        if kind.is_pax_global_extensions() {
            return hear_of_all(&content);
        }
        if self.kinds.contains(&kind.as_byte()) {
            return Err(two_of("extension headers"));
        }
        self.kinds.push(kind.as_byte());
        if kind.is_pax_local_extensions() {
            return self.hear_records(&content);
        }
        while content.last() == Some(&0) {
            content.pop();
        }
        let slot = if kind.is_gnu_longname() {
            &mut self.name
        } else {
            &mut self.link
        };
        once(slot, content)
    }

    fn hear_records(&mut self, content: &[u8]) -> Result<(), Reason> {
        for record in pax::records(content) {
            let record = record.map_err(Reason::Corrupt)?;
            match record.key {
                b"path" => once(&mut self.name, record.value.to_vec())?,
                b"linkpath" => once(&mut self.link, record.value.to_vec())?,
                b"size" => {
                    let size = pax::number(record.value);
                    let size = size.ok_or_else(|| Reason::Corrupt("its size".into()))?;
                    once(&mut self.size, size)?;
                }
                key => self.disguise = self.disguise.or(disguise(key)),
            }
        }
        Ok(())
    }
}

/// A global header says things of all entries after it, which readers that know it do not agree about.
fn hear_of_all(content: &[u8]) -> Result<(), Reason> {
    for record in pax::records(content) {
        let key = record.map_err(Reason::Corrupt)?.key;
        if matches!(key, b"path" | b"linkpath" | b"size") || disguise(key).is_some() {
            let why = "a global header describes a file".to_owned();
            return Err(Reason::Disagreement(why));
        }
    }
    Ok(())
}

fn disguise(key: &[u8]) -> Option<&'static str> {
    match key {
        _ if key.starts_with(b"GNU.sparse") => Some("sparse"),
        b"SCHILY.realsize" | b"SUN.holesdata" => Some("sparse"),
        b"SCHILY.filetype" => Some("SCHILY.filetype"),
        _ => None,
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Reason> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(two_of("names, links or sizes")),
    }
}

fn two_of(what: &str) -> Reason {
    Reason::Disagreement(format!("two {what} for one entry"))
}

fn place(
    header: &Header,
    size: u64,
    content: &mut impl Read,
    said: &Said,
    raw: &[u8],
    target: &mut Target,
) -> Result<(), Error> {
    let name = Name::parse(raw, Style::Tar)?;
    if said.size.is_some_and(|said| said != size) {
        return Err(Reason::Disagreement("its size".into()).of(&name));
    }
    if let Some(what) = said.disguise {
        return Err(Reason::UnknownKind(what.to_owned()).of(&name));
    }
    let mode = header.mode();
    let mode = mode.map_err(|error| Reason::Corrupt(error.to_string()).of(&name))?;
    let kind = header.entry_type();
    let is_folder = kind.is_dir() || (kind.is_file() && raw.ends_with(b"/"));
    if (is_folder || kind.is_symlink() || kind.is_hard_link()) && size > 0 {
        return Err(Reason::ContentOfNone.of(&name));
    }
    let link = || {
        said.link
            .clone()
            .or_else(|| header.link_name_bytes().map(Into::into))
    };
    match kind {
        _ if is_folder => target.folder(&name, mode),
        EntryType::Regular | EntryType::Continuous => target.file(&name, mode, size, content),
        EntryType::Symlink => target.link(&name, &link().unwrap_or_default()),
        EntryType::Link => {
            let to = Name::parse(&link().unwrap_or_default(), Style::Tar)
                .map_err(|_| Reason::HardLink.of(&name))?;
            target.hard_link(&name, &to)
        }
        EntryType::Char | EntryType::Block => Err(Reason::Kind("device").of(&name)),
        EntryType::Fifo => Err(Reason::Kind("FIFO").of(&name)),
        EntryType::GNUSparse => Err(Reason::UnknownKind("sparse".into()).of(&name)),
        other => {
            let letter = char::from(other.as_byte()).escape_default().to_string();
            Err(Reason::UnknownKind(letter).of(&name))
        }
    }
}
