//! The bot's own word about a run, taken from the folder of its code when the run has ended.
//!
//! The bot may put anything there: only a regular file is opened, links are not followed, nothing is waited for, and no
//! more than [`RunResult::MOST`] is read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use contract::record::RunResult;
use nix::fcntl::OFlag;

/// Removes what an earlier run has said, so that it is not taken for this one's word.
pub fn forget(path: &Path) {
    match fs::remove_file(path) {
        Err(err) if !matches!(err.kind(), io::ErrorKind::NotFound) => {
            contract::warn!("remove {}: {err}", path.display());
        }
        _ => {}
    }
}

/// What the run has said, if anything that is understood.
pub fn read(path: &Path) -> Option<RunResult> {
    match content(path, RunResult::MOST) {
        Ok(bytes) => {
            let result = RunResult::parse(&bytes);
            if result.is_none() {
                contract::warn!(
                    "{} is no result: it should be {{\"status\": .., \"message\": ..}}",
                    path.display()
                );
            }
            result
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(err) => {
            contract::warn!("{} is not read: {err}", path.display());
            None
        }
    }
}

/// What is in it, at most `most` bytes.
///
/// # Errors
/// It is not there, no plain file, or larger.
pub fn content(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it is larger than {} MiB", most >> 20);
        return Err(io::Error::other(why));
    }
    Ok(bytes)
}

/// Makes `bytes` the file at `path`, whole or not at all, in a folder in which a program may have left anything: no link is
/// followed.
///
/// # Errors
/// Whatever the file system answers.
pub fn leave(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("part");
    let _ = fs::remove_file(&temporary);
    let made = File::options()
        .write(true)
        .create_new(true)
        .open(&temporary);
    made?.write_all(bytes)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_file_of_some_size_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        assert_eq!(read(&path), None);
        fs::write(&path, r#"{"status":"error","message":"no"}"#).unwrap();
        assert!(read(&path).unwrap().is_error());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read(&link), None);
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&pipe), None);
        let large = format!(r#"{{"status":"error","data":"{}"}}"#, "x".repeat(1 << 20));
        fs::write(&path, large).unwrap();
        assert_eq!(read(&path), None);
        fs::create_dir(dir.path().join("folder")).unwrap();
        assert_eq!(read(&dir.path().join("folder")), None);
    }

    #[test]
    fn what_is_left_is_a_file_of_its_own_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("answer.json"), dir.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        for name in ["answer.json", "answer.part"] {
            std::os::unix::fs::symlink(&other, dir.path().join(name)).unwrap();
        }
        leave(&path, b"ours").unwrap();
        assert_eq!(content(&path, 4).unwrap(), b"ours");
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        assert!(!dir.path().join("answer.part").exists());
    }

    #[test]
    fn what_an_earlier_run_said_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        fs::write(&path, r#"{"status":"error"}"#).unwrap();
        forget(&path);
        forget(&path);
        assert!(!path.exists());
    }
}
