//! What the directory store knows of an object beside its content.
//!
//! A file system has neither etags nor metadata, so each object has a folder of notes,
//! `<root>/.the0-meta/<bucket>/<key>/`, with one note a version. The name of a note says which version it is about:
//!
//! * `<ino>-<mtime_ns>-<size>.json` for an object written whole: that stamp is its etag. The note is on the disk before
//!   the object is renamed into place, so an object without one was put there by someone else.
//! * `append-<ino>.json` for one that grows: the note holds the length that counts. Bytes beyond it are an append that
//!   was torn off by a crash; the next append cuts them.

use std::fs::{self, Metadata as FileMetadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Etag, Head, Metadata};

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Bytes that count, of an object that grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    metadata: Metadata,
}

/// The version that a file is, by what changes when it is replaced or written to.
pub(super) fn stamp(file: &FileMetadata) -> String {
    let mtime = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
    format!("{}-{mtime}-{}", file.ino(), file.len())
}

fn growing(file: &FileMetadata) -> String {
    format!("append-{}.json", file.ino())
}

/// What is noted about this file; `None` if nothing is.
pub(super) fn read(folder: &Path, file: &FileMetadata) -> io::Result<Option<Head>> {
    if let Some(note) = load(&folder.join(growing(file)))? {
        let length = note.length.unwrap_or(0);
        if file.len() >= length {
            let etag = Etag(format!("a{}-{length}", file.ino()));
            return Ok(Some(Head {
                etag,
                size: length,
                metadata: note.metadata,
            }));
        }
    }
    let stamp = stamp(file);
    let note = load(&folder.join(format!("{stamp}.json")))?;
    Ok(note.map(|note| Head {
        etag: Etag(stamp),
        size: file.len(),
        metadata: note.metadata,
    }))
}

fn load(path: &Path) -> io::Result<Option<Note>> {
    match contract::file::read_json(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        other => other,
    }
}

/// What is known of a file nobody noted anything about.
pub(super) fn foreign(file: &FileMetadata) -> Head {
    Head {
        etag: Etag(stamp(file)),
        size: file.len(),
        metadata: Metadata::new(),
    }
}

/// Notes a file that is about to become the object, and gives its etag.
pub(super) fn write(folder: &Path, file: &FileMetadata, metadata: &Metadata) -> io::Result<Etag> {
    fs::create_dir_all(folder)?;
    let stamp = stamp(file);
    let note = Note {
        length: None,
        metadata: metadata.clone(),
    };
    contract::file::replace_json(&folder.join(format!("{stamp}.json")), &note)?;
    Ok(Etag(stamp))
}

/// Notes that the first `length` bytes of a growing file count, and gives its etag.
pub(super) fn write_growing(
    folder: &Path,
    file: &FileMetadata,
    length: u64,
    metadata: &Metadata,
) -> io::Result<Etag> {
    fs::create_dir_all(folder)?;
    let note = Note {
        length: Some(length),
        metadata: metadata.clone(),
    };
    contract::file::replace_json(&folder.join(growing(file)), &note)?;
    Ok(Etag(format!("a{}-{length}", file.ino())))
}

/// Removes every note but those about this file.
pub(super) fn forget_others(folder: &Path, file: &FileMetadata) {
    let keep = [growing(file), format!("{}.json", stamp(file))];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !keep.iter().any(|k| name == k.as_str()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
