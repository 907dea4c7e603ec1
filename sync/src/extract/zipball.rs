//! Reading a zip: the central directory says what there is, and everything else in the file must agree with it.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use zip::read::{ZipArchive, ZipReadOptions};
use zip::result::ZipError;

use super::Target;
use super::name::{Name, Style};
use super::refusal::{Error, Reason};
use super::zipdata::Described;
use super::zipend;

const TYPE: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

type Zip<'a> = ZipArchive<BufReader<&'a mut File>>;

/// What an entry is, before its content is looked at.
struct Entry {
    name: Name,
    kind: u32,
    mode: Option<u32>,
    size: u64,
}

pub(super) fn unpack(file: &mut File, target: &mut Target) -> Result<(), Error> {
    let size = file.metadata()?.len();
    zipend::check(file, size, target.rules.budget)?;
    let whole = file.try_clone()?;
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|e| of_archive(e).of_archive())?;
    if zip.has_duplicate_names() {
        return Err(Reason::Twice.of_bytes(&duplicate(zip)?));
    }
    if zip.offset() != 0 {
        return Err(Reason::Leading.of_archive());
    }
    let mut entries = Vec::new();
    let mut declared = 0u64;
    for index in 0..zip.len() {
        let entry = describe(&zip, index)?;
        declared = declared.saturating_add(entry.size);
        target
            .spent
            .fits(declared)
            .map_err(|why| why.of(&entry.name))?;
        entries.push(entry);
    }
    for (index, entry) in entries.iter().enumerate() {
        let data = place(&mut zip, index, entry, target)?;
        data.check(&whole).map_err(|why| why.of(&entry.name))?;
    }
    zip.validate_header_consistency()
        .map_err(|e| of_archive(e).of_archive())
}

/// The name that is twice in the central directory; the parser keeps only the last of them.
fn duplicate(zip: Zip<'_>) -> Result<Vec<u8>, Error> {
    let start = zip.central_directory_start();
    let mut file = zip.into_inner();
    file.seek(SeekFrom::Start(start))?;
    let mut seen = std::collections::HashSet::new();
    loop {
        // A record of the central directory (APPNOTE 4.3.12): 46 bytes, then name, extra field, comment.
        let mut record = [0; 46];
        if file.read_exact(&mut record).is_err() || !record.starts_with(b"PK\x01\x02") {
            return Ok(Vec::new());
        }
        let length = |at: usize| usize::from(u16::from_le_bytes([record[at], record[at + 1]]));
        let mut rest = vec![0; length(28) + length(30) + length(32)];
        file.read_exact(&mut rest)?;
        rest.truncate(length(28));
        if let Some(name) = seen.replace(rest) {
            return Ok(name);
        }
    }
}

fn describe(zip: &Zip<'_>, index: usize) -> Result<Entry, Error> {
    let data = zip
        .by_index_data(index)
        .map_err(|e| of_archive(e).of_archive())?;
    let name = Name::parse(data.name_raw(), Style::Zip)?;
    if data.encrypted() {
        return Err(Reason::Encrypted.of(&name));
    }
    let mode = data.unix_mode().filter(|mode| mode & 0o777 != 0);
    let slash = data.name_raw().ends_with(b"/");
    let kind = match (data.unix_mode().unwrap_or(0) & TYPE, slash) {
        (0 | FOLDER, true) => FOLDER,
        (0 | FILE, false) => FILE,
        (LINK, false) => LINK,
        (FOLDER | FILE | LINK, _) => return Err(Reason::KindChanges.of(&name)),
        (0o010_000, _) => return Err(Reason::Kind("FIFO").of(&name)),
        (0o140_000, _) => return Err(Reason::Kind("socket").of(&name)),
        (0o020_000 | 0o060_000, _) => return Err(Reason::Kind("device").of(&name)),
        (other, _) => return Err(Reason::UnknownKind(format!("{other:o}")).of(&name)),
    };
    let size = data.size();
    if kind == FOLDER && size > 0 {
        return Err(Reason::ContentOfNone.of(&name));
    }
    Ok(Entry {
        name,
        kind,
        mode,
        size,
    })
}

fn place(
    zip: &mut Zip<'_>,
    index: usize,
    entry: &Entry,
    target: &mut Target,
) -> Result<Described, Error> {
    let name = &entry.name;
    let options = ZipReadOptions::new().enforce_header_consistency(true);
    let mut data = zip
        .by_index_with_options(index, options)
        .map_err(|e| of_archive(e).of(name))?;
    let start = data.data_start().unwrap_or(0);
    let described = Described {
        header: data.header_start(),
        end: start.saturating_add(data.compressed_size()),
        crc: data.crc32(),
        packed: data.compressed_size(),
        size: data.size(),
    };
    match entry.kind {
        FOLDER => target.folder(name, entry.mode.unwrap_or(0o755))?,
        LINK => {
            let mut to = Vec::new();
            let read = data.by_ref().take(4097).read_to_end(&mut to);
            read.map_err(|error| Reason::of_read(&error).of(name))?;
            target.link(name, &to)?;
        }
        _ => target.file(name, entry.mode.unwrap_or(0o644), entry.size, &mut data)?,
    }
    Ok(described)
}

fn of_archive(error: ZipError) -> Reason {
    match error {
        ZipError::CompressionMethodNotSupported(number) => Reason::Method(number.to_string()),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => Reason::Encrypted,
        ZipError::UnsupportedArchive(why) => Reason::Method(why.to_owned()),
        ZipError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Reason::Truncated
        }
        ZipError::InvalidArchive(why) if why.contains("overlapping") => Reason::Overlap,
        ZipError::InvalidArchive(why) if why.contains("inconsisten") => {
            Reason::Disagreement(why.into_owned())
        }
        other => Reason::Corrupt(other.to_string()),
    }
}
