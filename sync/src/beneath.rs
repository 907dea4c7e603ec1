//! Opening what is inside a folder, and nothing else.
//!
//! Every path is resolved by the kernel from the folder's descriptor without leaving it and without following a
//! link (openat2 with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`), so a link planted between two steps is an error
//! and never a way out. Where openat2 is missing or forbidden, the same is done one component at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Opens the folder at `path` itself.
pub fn root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// Opens `path` beneath `root`; `path` is relative, without empty, `.` or `..` components. Empty: the root again.
pub fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.is_empty() {
        return Ok(openat(root, c".", flags, mode)?);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, flags, mode, resolve) {
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => walk(root, path, flags, mode),
        other => Ok(other?),
    }
}

/// Opens the folder at `path` beneath `root`.
pub fn open_folder(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    open(
        root,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )
}

fn walk(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (folders, name) = split(path);
    let mut at: Option<OwnedFd> = None;
    for part in folders
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty())
    {
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        at = Some(openat(from, part, folder, Mode::empty())?);
    }
    let from = at.as_ref().map_or(root, AsFd::as_fd);
    Ok(openat(from, name, flags, mode)?)
}

/// A path's folder (empty for the root) and its last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_never_followed_on_either_way() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("in/a")).unwrap();
        std::fs::write(dir.path().join("in/a/f"), "x").unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("in/up")).unwrap();
        std::os::unix::fs::symlink("a/f", dir.path().join("in/l")).unwrap();
        let root = root(&dir.path().join("in")).unwrap();
        for opens in [open, walk] {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            let with = |path: &[u8]| opens(root.as_fd(), path, flags, Mode::empty());
            assert!(with(b"a/f").is_ok());
            assert!(with(b"l").is_err());
            assert!(with(b"up/in").is_err());
        }
    }
}
