//! Lists a state's folder by its metadata.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, FileType, Stat, readlinkat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{Entry, GRAIN, Kind, Settled, Tree, is_about_the_file};
use crate::beneath;
use crate::swap::{KEEP, LOST, NEW};

/// What is looked for in a state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scan {
    /// Files larger than this many bytes are left out.
    pub largest: Option<u64>,
}

impl Scan {
    /// Lists the folder `root`.
    pub fn run(self, root: BorrowedFd<'_>, now: SystemTime) -> io::Result<Tree> {
        let mut tree = Tree::default();
        let mut folders: Vec<Vec<u8>> = vec![Vec::new()];
        while let Some(folder) = folders.pop() {
            match self.list(root, &folder, now, &mut tree) {
                Ok(inner) => folders.extend(inner),
                Err(error) if folder.is_empty() || !is_about_the_file(&error) => return Err(error),
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        tree.leave_out(&folder, &error.to_string());
                    }
                    tree.entries.retain(|entry| *entry.path != *folder);
                }
            }
        }
        // A folder that changes while it is listed may name an entry twice; an archive must not.
        tree.entries.sort_unstable_by(|a, b| {
            a.path
                .cmp(&b.path)
                .then((a.kind as u8).cmp(&(b.kind as u8)))
        });
        tree.entries.dedup_by(|b, a| a.path == b.path);
        tree.left_out.sort();
        tree.bytes = tree.entries.iter().map(|entry| entry.size).sum();
        Ok(tree)
    }

    fn list(
        self,
        root: BorrowedFd<'_>,
        folder: &[u8],
        now: SystemTime,
        tree: &mut Tree,
    ) -> io::Result<Vec<Vec<u8>>> {
        let fd = beneath::open_folder(root, folder)?;
        let mut inner = Vec::new();
        for item in Dir::read_from(&fd)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            let ours = folder.is_empty() && [NEW, KEEP, LOST].iter().any(|n| name == n.as_bytes());
            if name == b"." || name == b".." || ours {
                continue;
            }
            let path = join(folder, name);
            let stat = match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    tree.leave_out(&path, &error.to_string());
                    continue;
                }
            };
            match self.entry(fd.as_fd(), name, &path, &stat, now) {
                Ok(entry) => {
                    if entry.kind == Kind::Folder {
                        inner.push(path);
                    }
                    tree.entries.push(entry);
                }
                Err(why) => tree.leave_out(&path, &why),
            }
        }
        Ok(inner)
    }

    fn entry(
        self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        now: SystemTime,
    ) -> Result<Entry, String> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let (kind, size, hash) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => (Kind::Folder, 0, None),
            FileType::RegularFile => match self.largest {
                Some(largest) if size > largest => {
                    return Err(format!("{size} bytes, over MAX_STATE_FILE_SIZE_MB"));
                }
                _ => (Kind::File, size, None),
            },
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).map_err(|e| e.to_string())?;
                let target = target.as_bytes();
                (
                    Kind::Link,
                    target.len() as u64,
                    Some(Sha256::digest(target).into()),
                )
            }
            FileType::Fifo => return Err("a FIFO".to_owned()),
            FileType::Socket => return Err("a socket".to_owned()),
            _ => return Err("a device".to_owned()),
        };
        let mode = if kind == Kind::Link {
            0o777
        } else {
            stat.st_mode & 0o777
        };
        let mtime = nanoseconds(
            stat.st_mtime,
            i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        );
        let ctime = nanoseconds(
            stat.st_ctime,
            i64::try_from(stat.st_ctime_nsec).unwrap_or(0),
        );
        let stamp = if kind == Kind::Folder {
            (0, 0, 0)
        } else {
            (stat.st_ino, mtime, ctime)
        };
        let settled = settled(ctime.max(mtime), now);
        Ok(Entry {
            path: path.into(),
            kind,
            mode,
            size,
            stamp,
            hash,
            pieces: Box::default(),
            settled,
        })
    }
}

fn settled(changed: i64, now: SystemTime) -> Settled {
    let trusted = now.checked_sub(GRAIN).unwrap_or(now);
    let trusted = trusted
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    if i128::from(changed) < i128::try_from(trusted.as_nanos()).unwrap_or(i128::MAX) {
        Settled::Yes
    } else {
        Settled::TooYoung
    }
}

/// Times that do not fit (before 1678, after 2261) wrap: they are compared for equality only, and with now.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .wrapping_mul(1_000_000_000)
        .wrapping_add(nanoseconds)
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        name.to_vec()
    } else {
        [folder, b"/", name].concat()
    }
}
