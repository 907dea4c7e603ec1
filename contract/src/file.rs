//! How a file that another program reads is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces `path` by `content` so that a reader, and the disk after a crash, has the old file or the new one.
///
/// Temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// Whatever the file system answers; the old file is then untouched.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::other("a path without a folder"))?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("a path without a name"))?;
    let temporary = folder.join(format!(
        ".{}.{}.tmp",
        name.to_string_lossy(),
        std::process::id()
    ));
    let written = write_synced(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// [`replace`] with `value` as JSON and a newline at the end.
///
/// # Errors
/// As [`replace`].
pub fn replace_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    replace(path, &text)
}

/// The JSON in `path`; `None` when there is no such file.
///
/// # Errors
/// The file cannot be read, or is not JSON of that kind.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// Appends `value` as a line of JSON and waits until it is on the disk.
///
/// The line goes out in one write; a torn last line of an earlier crash is ended first, so it spoils only itself.
///
/// # Errors
/// Whatever the file system answers.
pub fn append_json_line(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut line = if is_torn(path) {
        vec![b'\n']
    } else {
        Vec::new()
    };
    serde_json::to_writer(&mut line, value)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&line)?;
    file.sync_data()
}

/// Whether the last line of a file has no end.
fn is_torn(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    last().is_ok_and(|last| last != b'\n')
}

/// The lines of `path` that are JSON of kind `T`, oldest first; none when there is no such file. Lines that are
/// not (a torn one, one of a later version) are passed over.
///
/// # Errors
/// The file cannot be read.
pub fn read_json_lines<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes
            .split(|b| *b == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(err) => Err(err),
    }
}

/// Removes `path`; that it is not there is fine.
///
/// # Errors
/// Whatever else the file system answers.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_spoils_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.jsonl");
        append_json_line(&path, &1).unwrap();
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"[tor")
            .unwrap();
        append_json_line(&path, &2).unwrap();
        assert_eq!(read_json_lines::<u32>(&path).unwrap(), [1, 2]);
    }

    #[test]
    fn replacing_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("done");
        replace(&path, b"1").unwrap();
        replace(&path, b"0").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"0");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
