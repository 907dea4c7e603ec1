//! A bot's folder becomes a code bundle: the same content always gives the same bytes.
//!
//! What goes in: every file, folder and link, but never [`NEVER`], what an editor keeps beside a file that is open
//! in it, or the agent's own data. A `.the0ignore` in the folder (gitignore syntax) says what else stays out. Without
//! one, the folder's `.gitignore` files do, and then the programs the bot declares and its `vendor` and
//! `node_modules` go in all the same: they are made by a build and so are often ignored, and a bot without them
//! does not run.
//!
//! Links that lead out of the folder are refused; sockets, devices and the like are left out.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use contract::Digest;
use ignore::WalkBuilder;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Names that never go in, wherever they are.
pub const NEVER: [&str; 5] = [
    ".git",
    "__pycache__",
    "result.json",
    ".the0-state",
    ".the0ignore",
];
/// Whether an editor made it for itself (vim, emacs, and backups): a bot is not restarted because somebody looks at
/// its code.
fn is_an_editors(name: &str) -> bool {
    let swap = [".swp", ".swo", ".swx"];
    let is_vims = name.starts_with('.') && swap.iter().any(|end| name.ends_with(end));
    let is_emacss =
        name.starts_with(".#") || (name.len() > 2 && name.starts_with('#') && name.ends_with('#'));
    is_vims || is_emacss || name.ends_with('~')
}

/// What `sync` unpacks at most, by default.
const MOST_BYTES: u64 = 1 << 30;
const MOST_ENTRIES: usize = 100_000;
/// A file changed this short before it was looked at may change again without a trace in its times.
const RACY: Duration = Duration::from_secs(2);

/// Why a folder cannot be packed.
#[derive(Debug, Error)]
pub enum PackError {
    /// Something cannot be read.
    #[error("{path} cannot be read: {cause}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A name has no text form.
    #[error("{0:?} has a name that is not UTF-8: rename it")]
    Name(PathBuf),
    /// A link leads out of the folder.
    #[error(
        "{path} links to {target}, outside of the bot's folder: copy what it needs into it, or name the link in .the0ignore"
    )]
    Outside {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: String,
    },
    /// More than a bundle may hold.
    #[error(
        "{path} holds more than {MOST_ENTRIES} files or {} MiB: name what the bot does not need in .the0ignore",
        MOST_BYTES >> 20
    )]
    TooLarge {
        /// The folder.
        path: PathBuf,
    },
    /// It was written to meanwhile.
    #[error("{path} changed while it was packed")]
    Changed {
        /// The folder.
        path: PathBuf,
    },
    /// The bundle cannot be written.
    #[error("the bundle cannot be written: {0}")]
    Write(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    mode: u32,
    size: u64,
    /// Inode, modification and change times: what tells one content from the next without reading it.
    stamp: (u64, i64, i64, i64, i64),
}

/// What of a folder goes into its bundle, by names relative to it.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    entries: BTreeMap<String, Entry>,
}

/// Where an archive goes. One that is given up is not ended by its writer: that would fail on a full disk again, and
/// be told on standard error at each try.
struct Target<'a, W> {
    to: W,
    given_up: &'a Cell<bool>,
}

impl<W: Write> Write for Target<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.given_up.get() {
            return Ok(bytes.len());
        }
        let written = self.to.write(bytes);
        let is_over = |err: &io::Error| err.kind() != io::ErrorKind::Interrupted;
        self.given_up.set(written.as_ref().is_err_and(is_over));
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.given_up.get() {
            return Ok(());
        }
        self.to.flush()
    }
}

impl<W: Seek> Seek for Target<'_, W> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.to.seek(to)
    }
}

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The bot's folder.
    pub root: &'a Path,
    /// Files that go in although `.gitignore` leaves them out.
    pub always: &'a [&'a str],
    /// A folder that stays out: the agent's data may lie inside of the bot's folder.
    pub except: &'a Path,
}

impl Tree {
    /// Looks through the folder without reading the files.
    ///
    /// # Errors
    /// What cannot go into a bundle.
    pub fn scan(scope: Scope<'_>) -> Result<Self, PackError> {
        let mut tree = Self {
            root: scope.root.to_owned(),
            entries: BTreeMap::new(),
        };
        if scope.root.join(".the0ignore").is_file() {
            tree.walk(scope, scope.root, Some(".the0ignore"))?;
        } else {
            tree.walk(scope, scope.root, Some(".gitignore"))?;
            for built in ["vendor", "node_modules"].iter().chain(scope.always) {
                let path = scope.root.join(built);
                if path.symlink_metadata().is_ok() {
                    tree.add_parents(&path)?;
                    tree.walk(scope, &path, None)?;
                }
            }
        }
        let bytes: u64 = tree.entries.values().map(|entry| entry.size).sum();
        if bytes > MOST_BYTES || tree.entries.len() > MOST_ENTRIES {
            let path = tree.root;
            return Err(PackError::TooLarge { path });
        }
        Ok(tree)
    }

    fn walk(
        &mut self,
        scope: Scope<'_>,
        from: &Path,
        ignore: Option<&str>,
    ) -> Result<(), PackError> {
        let mut walk = WalkBuilder::new(from);
        walk.standard_filters(false).follow_links(false);
        if let Some(name) = ignore {
            walk.add_custom_ignore_filename(name);
        }
        let except = scope.except.to_owned();
        walk.filter_entry(move |entry| {
            let never = |name: &str| NEVER.contains(&name) || is_an_editors(name);
            let never = entry.file_name().to_str().is_some_and(never);
            !never && entry.path() != except
        });
        for found in walk.build() {
            let entry = found.map_err(|err| PackError::Read {
                path: from.to_owned(),
                cause: err
                    .into_io_error()
                    .unwrap_or_else(|| io::ErrorKind::Other.into()),
            })?;
            if entry.path() != scope.root {
                self.add(entry.path())?;
            }
            if self.entries.len() > MOST_ENTRIES {
                break;
            }
        }
        Ok(())
    }

    fn add_parents(&mut self, path: &Path) -> Result<(), PackError> {
        let root = self.root.clone();
        let parents = path.ancestors().skip(1);
        for parent in parents.take_while(|parent| *parent != root) {
            self.add(parent)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<(), PackError> {
        let name = path.strip_prefix(&self.root).ok().and_then(Path::to_str);
        let name = name.ok_or_else(|| PackError::Name(path.to_owned()))?;
        let read = |cause| PackError::Read {
            path: path.to_owned(),
            cause,
        };
        let meta = match path.symlink_metadata() {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(read)?,
        };
        let kind = if meta.is_symlink() {
            Kind::Link(self.target(path)?)
        } else if meta.is_dir() {
            Kind::Folder
        } else if meta.is_file() {
            Kind::File
        } else {
            return Ok(());
        };
        self.entries
            .insert(name.to_owned(), Entry::new(kind, &meta));
        Ok(())
    }

    /// Where a link leads, if that is inside of the folder: by its own text, and followed to its end.
    fn target(&self, path: &Path) -> Result<String, PackError> {
        let read = |cause| PackError::Read {
            path: path.to_owned(),
            cause,
        };
        let target = fs::read_link(path).map_err(read)?;
        let text = target
            .to_str()
            .ok_or_else(|| PackError::Name(path.to_owned()))?;
        let mut depth = path
            .strip_prefix(&self.root)
            .map_or(0, |p| p.components().count())
            - 1;
        let stays = target.components().all(|part| match part {
            Component::Normal(_) => {
                depth += 1;
                true
            }
            Component::CurDir => true,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(up) => {
                    depth = up;
                    true
                }
                None => false,
            },
            Component::RootDir | Component::Prefix(_) => false,
        });
        let end = || match (path.canonicalize(), self.root.canonicalize()) {
            (Ok(end), Ok(root)) => end.starts_with(root),
            _ => true,
        };
        if stays && end() {
            return Ok(text.to_owned());
        }
        Err(PackError::Outside {
            path: path.to_owned(),
            target: text.to_owned(),
        })
    }

    /// Whether it has the file `name`.
    pub fn has_file(&self, name: &str) -> bool {
        let entry = self.entries.get(name);
        entry.is_some_and(|entry| matches!(entry.kind, Kind::File | Kind::Link(_)))
    }

    /// A digest of names, sizes and times: equal ones mean equal contents, unless the tree [is
    /// racy](Self::is_racy).
    pub fn fingerprint(&self) -> Digest {
        let mut hash = Sha256::new();
        for (name, entry) in &self.entries {
            hash.update(format!("{name}\0{entry:?}\0"));
        }
        Digest::from_bytes(hash.finalize().into())
    }

    /// Whether a file was changed so lately that it may change again without a trace.
    pub fn is_racy(&self, now: SystemTime) -> bool {
        let since = now.checked_sub(RACY).unwrap_or(SystemTime::UNIX_EPOCH);
        let since = since
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let since = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let late = |entry: &Entry| entry.stamp.1 >= since || entry.stamp.3 >= since;
        self.entries.values().any(late)
    }

    /// The digest of the content: names, kinds, permissions and bytes.
    ///
    /// # Errors
    /// A file cannot be read, or is not as it was scanned.
    pub fn digest(&self) -> Result<Digest, PackError> {
        self.each(|_, ()| Ok(()), |_, ()| Ok(()), &mut ())
    }

    /// Writes the bundle as a zip archive.
    ///
    /// # Errors
    /// As [`Self::digest`], or what the disk answers.
    pub fn write(&self, to: impl Write + Seek) -> Result<Digest, PackError> {
        let failed = |err: zip::result::ZipError| PackError::Write(err.to_string());
        let given_up = Cell::new(false);
        let to = Target {
            to,
            given_up: &given_up,
        };
        let mut zip = ZipWriter::new(to);
        let written = self.each(
            |(name, entry), zip: &mut ZipWriter<_>| {
                let options = SimpleFileOptions::default()
                    .compression_method(CompressionMethod::Deflated)
                    .last_modified_time(DateTime::default())
                    .unix_permissions(entry.mode);
                match &entry.kind {
                    Kind::Folder => zip.add_directory(name, options),
                    Kind::File => zip.start_file(name, options),
                    Kind::Link(target) => zip.add_symlink(name, target, options),
                }
                .map_err(failed)
            },
            |bytes, zip| {
                zip.write_all(bytes)
                    .map_err(|err| PackError::Write(err.to_string()))
            },
            &mut zip,
        );
        given_up.set(written.is_err());
        let digest = written?;
        let finished = zip.finish().map(drop);
        finished.map_err(failed)?;
        if given_up.get() {
            return Err(PackError::Write("a part of it was not taken".into()));
        }
        Ok(digest)
    }

    /// Goes through all entries and their bytes and gives the digest of them.
    fn each<T>(
        &self,
        mut begin: impl FnMut((&str, &Entry), &mut T) -> Result<(), PackError>,
        mut bytes: impl FnMut(&[u8], &mut T) -> Result<(), PackError>,
        to: &mut T,
    ) -> Result<Digest, PackError> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        for (name, entry) in &self.entries {
            begin((name, entry), to)?;
            hash.update(format!(
                "{name}\0{:?}\0{:o}\0{}\0",
                entry.kind, entry.mode, entry.size
            ));
            if entry.kind != Kind::File {
                continue;
            }
            let path = self.root.join(name);
            let read = |cause| PackError::Read {
                path: path.clone(),
                cause,
            };
            let mut file = File::open(&path).map_err(read)?;
            let mut size = 0u64;
            loop {
                let count = file.read(&mut buffer).map_err(read)?;
                if count == 0 {
                    break;
                }
                size += count as u64;
                hash.update(&buffer[..count]);
                bytes(&buffer[..count], to)?;
            }
            if size != entry.size {
                return Err(PackError::Changed { path });
            }
        }
        Ok(Digest::from_bytes(hash.finalize().into()))
    }
}

impl Entry {
    fn new(kind: Kind, meta: &Metadata) -> Self {
        let (mode, size) = match kind {
            Kind::Folder => (0o755, 0),
            Kind::Link(_) => (0o777, 0),
            // Readable for whoever unpacks it; set-id bits have no place in a bundle.
            Kind::File => (meta.permissions().mode() & 0o777 | 0o400, meta.len()),
        };
        let times = (
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        // A folder's own times change with every file that is left out.
        let stamp = match kind {
            Kind::Folder => (0, 0, 0, 0, 0),
            _ => (meta.ino(), times.0, times.1, times.2, times.3),
        };
        Self {
            kind,
            mode,
            size,
            stamp,
        }
    }
}

#[cfg(test)]
#[path = "pack/tests.rs"]
mod tests;
