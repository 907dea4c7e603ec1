//! Reading a tar: what each entry says, extension headers included, with nothing left to a parser's leniency.

use std::io::Read;

use tar::{Archive, EntryType, Header, PaxExtensions};

use super::Target;
use super::name::{Name, Style};
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

/// Remembers whether the input has ended, which the parser takes for the end of the archive.
struct Watched<R> {
    inner: R,
    ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(into)?;
        self.ended |= got == 0 && !into.is_empty();
        Ok(got)
    }
}

/// What extension headers say about the entry after them.
#[derive(Default)]
struct Said {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: Option<()>,
}

pub(super) fn unpack(input: impl Read, target: &mut Target) -> Result<(), Error> {
    let mut archive = Archive::new(Watched {
        inner: input,
        ended: false,
    });
    let mut said = Said::default();
    let mut last = Vec::new();
    let entries = archive
        .entries()
        .map_err(|error| corrupt(&error, &last))?
        .raw(true);
    for entry in entries {
        let mut entry = entry.map_err(|error| corrupt(&error, &last))?;
        let kind = entry.header().entry_type();
        last = entry.header().path_bytes().into_owned();
        if is_extension(kind) {
            read_extension(kind, &mut entry, &mut said, &last)?;
        } else {
            let said = std::mem::take(&mut said);
            last = said.name.clone().unwrap_or(last);
            place(&mut entry, &said, &last, target)?;
        }
    }
    if said.name.is_some() || said.link.is_some() || said.size.is_some() {
        return Err(Reason::Truncated.of_archive());
    }
    drain(archive.into_inner(), target)
}

fn corrupt(error: &std::io::Error, last: &[u8]) -> Error {
    let text = error.to_string();
    let cut = error.kind() == std::io::ErrorKind::UnexpectedEof || text.contains("unexpected EOF");
    let why = if cut {
        Reason::Truncated
    } else {
        Reason::Corrupt(text)
    };
    if last.is_empty() {
        why.of_archive()
    } else {
        why.of_bytes(last)
    }
}

/// After the end there may only be zeros, and the checksum of a gzip is beyond them.
fn drain(mut input: Watched<impl Read>, target: &mut Target) -> Result<(), Error> {
    if input.ended {
        return Err(Reason::Truncated.of_archive());
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = input
            .read(&mut buffer)
            .map_err(|error| corrupt(&error, b""))?;
        if got == 0 {
            return Ok(());
        }
        if buffer[..got].iter().any(|b| *b != 0) {
            return Err(Reason::Trailing.of_archive());
        }
        target.spent.bytes(got as u64).map_err(Reason::of_archive)?;
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
    entry: &mut (impl Read + Sized),
    said: &mut Said,
    name: &[u8],
) -> Result<(), Error> {
    let mut content = Vec::new();
    let read = entry.take(LONGEST_EXTENSION + 1).read_to_end(&mut content);
    read.map_err(|error| corrupt(&error, name))?;
    if content.len() as u64 > LONGEST_EXTENSION {
        return Err(Reason::Corrupt("an extension header is too long".into()).of_bytes(name));
    }
    let once = |slot: &mut Option<Vec<u8>>, value: Vec<u8>| match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Reason::Disagreement("two extension headers".into()).of_bytes(name)),
    };
    if kind.is_gnu_longname() || kind.is_gnu_longlink() {
        while content.last() == Some(&0) {
            content.pop();
        }
        let slot = if kind.is_gnu_longname() {
            &mut said.name
        } else {
            &mut said.link
        };
        return once(slot, content);
    }
    for extension in PaxExtensions::new(&content) {
        let extension = extension.map_err(|error| corrupt(&error, name))?;
        let key = extension.key_bytes();
        let value = extension.value_bytes().to_vec();
        let global = kind.is_pax_global_extensions();
        match key {
            b"path" | b"linkpath" | b"size" if global => {
                let why = "a global header names a file".to_owned();
                return Err(Reason::Disagreement(why).of_bytes(name));
            }
            b"path" => once(&mut said.name, value)?,
            b"linkpath" => once(&mut said.link, value)?,
            b"size" => {
                let size = std::str::from_utf8(&value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                let size = size.ok_or_else(|| Reason::Corrupt("its size".into()).of_bytes(name))?;
                said.size = Some(size);
            }
            _ if key.starts_with(b"GNU.sparse") => said.sparse = Some(()),
            _ => {}
        }
    }
    Ok(())
}

fn place<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    said: &Said,
    raw: &[u8],
    target: &mut Target,
) -> Result<(), Error> {
    let header = entry.header().clone();
    let name = Name::parse(raw, Style::Tar)?;
    let number = |n: std::io::Result<u64>| n.map_err(|error| corrupt(&error, raw));
    let size = number(header.entry_size())?;
    if said.size.is_some_and(|said| said != size) {
        return Err(Reason::Disagreement("its size".into()).of(&name));
    }
    if said.sparse.is_some() {
        return Err(Reason::UnknownKind("sparse".into()).of(&name));
    }
    let mode = header.mode().map_err(|error| corrupt(&error, raw))?;
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
        EntryType::Regular | EntryType::Continuous => target.file(&name, mode, size, entry),
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
