//! A backup as a file: written in one go and read in one go, both in bounded memory.
//!
//! Ensures: what is read is what was written, to the last byte, or an error that says which entry is not; a file that
//! was cut off is never taken for a whole one, for its last entry is missing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use contract::Digest;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::format::{Entry, FORMAT, HEADER, Header, MANIFEST, Manifest, What};

/// The longest description that is read.
const LONGEST: u64 = 1 << 30;

/// A backup that is being written.
pub struct Writer<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
    manifest: Manifest,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub fn begin(out: W, header: Header) -> Result<Self> {
        // Most of it is compressed already.
        let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::fast()));
        let bytes = serde_json::to_vec(&header)?;
        append(&mut tar, HEADER, bytes.len() as u64, bytes.as_slice())?;
        Ok(Self {
            tar,
            manifest: Manifest {
                header,
                counts: BTreeMap::new(),
                missing: Vec::new(),
                entries: Vec::new(),
            },
        })
    }

    /// Adds all of the file `from`.
    pub fn add(&mut self, name: &str, what: What, from: &mut File) -> Result<()> {
        let size = from.metadata()?.len();
        from.rewind()?;
        let mut hashed = Hashed::new(from.take(size));
        append(&mut self.tar, name, size, &mut hashed)?;
        ensure!(hashed.size == size, "{name} was cut off while it was read");
        if let Some((word, count)) = what.counted() {
            *self.manifest.counts.entry(word.to_owned()).or_default() += count;
        }
        self.manifest.entries.push(Entry {
            name: name.to_owned(),
            size,
            sha256: hashed.digest(),
            what,
        });
        Ok(())
    }

    /// Notes that something is nowhere.
    pub fn is_missing(&mut self, what: String) {
        self.manifest.missing.push(what);
    }

    /// Ends it, which makes it count.
    pub fn finish(mut self) -> Result<(W, Manifest)> {
        let bytes = serde_json::to_vec_pretty(&self.manifest)?;
        append(
            &mut self.tar,
            MANIFEST,
            bytes.len() as u64,
            bytes.as_slice(),
        )?;
        Ok((self.tar.into_inner()?.finish()?, self.manifest))
    }
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    from: impl Read,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    header.set_mtime(since.map_or(0, |since| since.as_secs()));
    tar.append_data(&mut header, name, from)
        .with_context(|| format!("write {name}"))
}

/// Reads all of a backup and shows each entry to `visit`, which need not read it to its end.
///
/// # Errors
/// What is wrong with it, also only at its end: what `visit` was shown counts when this has succeeded.
pub fn read(
    path: &Path,
    mut visit: impl FnMut(&str, &mut dyn Read) -> Result<()>,
) -> Result<Manifest> {
    let shown = path.display();
    let file = File::open(path).with_context(|| shown.to_string())?;
    let damaged = || format!("{shown} is not a whole backup");
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    let mut seen: Vec<(String, u64, Digest)> = Vec::new();
    let mut manifest: Option<Manifest> = None;
    for (number, entry) in archive.entries().with_context(damaged)?.enumerate() {
        let mut entry = entry.with_context(damaged)?;
        let name = entry.path().with_context(damaged)?;
        let name = name.to_str().with_context(damaged)?.to_owned();
        ensure!(manifest.is_none(), "{shown}: {name} comes after {MANIFEST}");
        match (number, name.as_str()) {
            (0, HEADER) => check_format(&text(&mut entry).with_context(damaged)?, path)?,
            (0, _) => bail!("{shown} is not a backup: it does not begin with {HEADER}"),
            (_, MANIFEST) => {
                let read = text(&mut entry).and_then(|text| Ok(serde_json::from_str(&text)?));
                manifest = Some(read.with_context(damaged)?);
            }
            _ => {
                let mut hashed = Hashed::new(&mut entry);
                visit(&name, &mut hashed)?;
                io::copy(&mut hashed, &mut io::sink()).with_context(damaged)?;
                seen.push((name, hashed.size, hashed.digest()));
            }
        }
    }
    // What follows is checked by the sum at the end.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).with_context(damaged)?;
    let manifest = manifest.with_context(|| format!("{}: {MANIFEST} is missing", damaged()))?;
    compare(&manifest, &seen).with_context(damaged)?;
    Ok(manifest)
}

fn check_format(header: &str, path: &Path) -> Result<()> {
    let header: Value =
        serde_json::from_str(header).with_context(|| format!("{}: {HEADER}", path.display()))?;
    match header["format"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => Ok(()),
        Some(format) => bail!(
            "{} has the format {format}, this agent reads {FORMAT}: use the agent that wrote it ({})",
            path.display(),
            header["agent"].as_str().unwrap_or("unknown")
        ),
        None => bail!("{}: {HEADER} does not tell its format", path.display()),
    }
}

fn text(entry: &mut impl Read) -> Result<String> {
    let mut text = String::new();
    entry.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

fn compare(manifest: &Manifest, seen: &[(String, u64, Digest)]) -> Result<()> {
    let (said, found) = (manifest.entries.len(), seen.len());
    ensure!(said == found, "{said} entries should be in it, {found} are");
    for (entry, (name, size, digest)) in manifest.entries.iter().zip(seen) {
        ensure!(
            entry.name == *name,
            "{name} is in the place of {}",
            entry.name
        );
        ensure!(
            entry.size == *size && entry.sha256 == *digest,
            "{name} is not what it was"
        );
    }
    Ok(())
}

/// Counts and hashes what is read through it.
pub struct Hashed<R> {
    from: R,
    hash: Sha256,
    /// Bytes until now.
    pub size: u64,
}

impl<R: Read> Hashed<R> {
    /// Through this reader.
    pub fn new(from: R) -> Self {
        Self {
            from,
            hash: Sha256::new(),
            size: 0,
        }
    }

    /// Of what was read until now.
    pub fn digest(self) -> Digest {
        Digest::from_bytes(self.hash.finalize().into())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::record::Time;
    use std::fs;

    fn backup(path: &Path) {
        let header = Header {
            format: FORMAT,
            agent: "0".into(),
            made: Time::now(),
            stack: "s".into(),
        };
        let mut writer = Writer::begin(File::create(path).unwrap(), header).unwrap();
        for n in 0..3 {
            let mut file = tempfile::tempfile().unwrap();
            // Does not compress, so that every byte of the file counts.
            let bytes: Vec<u8> = (0..3000u32)
                .flat_map(|i| Sha256::digest((i * 7 + n).to_le_bytes()).to_vec())
                .collect();
            file.write_all(&bytes).unwrap();
            let bot = "b".parse().unwrap();
            writer
                .add(
                    &format!("registered/{n}"),
                    What::Registered { bot },
                    &mut file,
                )
                .unwrap();
        }
        writer.finish().unwrap();
    }

    fn whole(path: &Path) -> Result<Manifest> {
        read(path, |_, _| Ok(()))
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        backup(&path);
        let mut sizes = Vec::new();
        let manifest = read(&path, |name, entry| {
            sizes.push((name.to_owned(), io::copy(entry, &mut io::sink())?));
            Ok(())
        });
        assert_eq!(manifest.unwrap().counts["documents"], 3);
        assert_eq!(sizes[2], ("registered/2".to_owned(), 96_000));
    }

    #[test]
    fn a_file_that_is_cut_off_or_changed_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        backup(&path);
        let bytes = fs::read(&path).unwrap();
        let step = bytes.len() / 60;
        for at in (0..bytes.len()).step_by(step) {
            fs::write(&path, &bytes[..at]).unwrap();
            assert!(whole(&path).is_err(), "cut off at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            fs::write(&path, &changed).unwrap();
            // The first bytes of a gzip hold its time and system, which nobody reads.
            assert!(at < 10 || whole(&path).is_err(), "changed at {at}");
        }
        fs::write(&path, &bytes).unwrap();
        assert!(whole(&path).is_ok());
    }

    #[test]
    fn another_format_and_another_archive_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let write = |name: &str, content: &[u8]| {
            let out = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
            let mut tar = tar::Builder::new(out);
            append(&mut tar, name, content.len() as u64, content).unwrap();
            tar.into_inner().unwrap().finish().unwrap();
            format!("{:#}", whole(&path).unwrap_err())
        };
        assert!(write("main.py", b"x").contains("is not a backup"));
        let later = write(HEADER, br#"{"format":2,"agent":"9.9"}"#);
        assert!(
            later.contains("format 2") && later.contains("9.9"),
            "{later}"
        );
        assert!(write(HEADER, br#"{"format":1}"#).contains("manifest.json is missing"));
    }
}
