//! The result of a one-shot question, from a folder in which the bot's program may have left anything.
//!
//! It ensures: what is sent is that file's own content. A link there would be the way to whatever we may read, our keys
//! among it; none is followed, and nothing is waited for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// The largest result, in bytes.
const LARGEST: u64 = 16 << 20;

/// What is in it.
///
/// # Errors
/// It is not there, no plain file, or larger than a result may be.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty());
    let file = opened.with_context(|| format!("open {}", path.display()))?;
    let file = File::from(file);
    anyhow::ensure!(
        file.metadata()?.is_file(),
        "{} is no regular file",
        path.display()
    );
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("read {}", path.display()))?;
    anyhow::ensure!(
        bytes.len() as u64 <= LARGEST,
        "{} is larger than a result may be, {} MiB",
        path.display(),
        LARGEST >> 20
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_itself_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answer.json");
        assert!(read(&path).is_err());
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path).unwrap(), b"{}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link).is_err());
        assert!(read(dir.path()).is_err());
        let large = File::create(dir.path().join("large")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        let why = read(&dir.path().join("large")).unwrap_err().to_string();
        assert!(why.contains("16 MiB"), "{why}");
    }
}
