//! A store in a folder: `<root>/<bucket>/<key>` is a plain file that a person can look at, copy and replace.
//!
//! Writes go to a temporary file of the same file system, are synced and renamed. Writers of a bucket take turns
//! ([`Lock`], across processes) for the moment between looking at an object and replacing it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use contract::ObjectKey;
use rustix::fs::{FlockOperation, OFlags, flock};

use super::{
    Body, Condition, Error, Etag, Head, Metadata, Object, Place, PutError, Then, Upload, notes,
};

/// How long a writer waits for its turn. The turn of another takes a few syncs; longer means it is stopped.
const TURN: Duration = Duration::from_secs(10);
/// A temporary file that nobody holds is a crashed writer's when it is this old.
const STALE: Duration = Duration::from_secs(60);

/// A folder of buckets.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
}

/// The right to replace objects of one bucket, until dropped.
struct Lock(#[expect(dead_code, reason = "held, not used")] File);

/// An object being written to a temporary file.
#[derive(Debug)]
pub struct DirectoryUpload<'a> {
    out: BufWriter<File>,
    /// The version being replaced: where it is, and the condition that names it.
    replaces: Option<(&'a Directory, &'a Place, &'a Condition)>,
    failed: Option<Error>,
}

impl DirectoryUpload<'_> {
    pub(super) fn can_copy(&self, _length: u64, _then: Then) -> bool {
        self.replaces.is_some()
    }

    pub(super) fn copy(&mut self, from: Range<u64>) -> io::Result<()> {
        let copied = self.copy_range(from);
        copied.map_err(|error| self.fail(error))
    }

    fn copy_range(&mut self, from: Range<u64>) -> Result<(), Error> {
        let Some((store, at, condition)) = self.replaces else {
            let why = "nothing is replaced that could be copied from".to_owned();
            let what = "a copy of a range".to_owned();
            return Err(Error::Other { what, why });
        };
        let (mut file, head) = store.look(at)?;
        if !condition.holds(Some(&head.etag)) || from.end > head.size {
            return Err(Error::Conflict(at.clone()));
        }
        let length = from.end - from.start;
        let copy = || {
            file.seek(SeekFrom::Start(from.start))?;
            io::copy(&mut file.take(length), &mut self.out)
        };
        match copy() {
            Ok(copied) if copied == length => Ok(()),
            Ok(_) => Err(Error::Conflict(at.clone())),
            Err(cause) => Err(unavailable(at, cause)),
        }
    }

    /// Remembers an error, for what the filler makes of it need not say it.
    fn fail(&mut self, error: Error) -> io::Error {
        let text = error.to_string();
        self.failed.get_or_insert(error);
        io::Error::other(text)
    }

    fn io_failed(&mut self, cause: io::Error) -> io::Error {
        self.fail(unavailable(&"a temporary file of the store", cause))
    }
}

impl Write for DirectoryUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|cause| self.io_failed(cause))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().map_err(|cause| self.io_failed(cause))
    }
}

impl Directory {
    /// Uses the folder `root`, which must exist: an unmounted disk is not an empty store.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let store = Self {
            root: root.to_owned(),
        };
        store.check_root()?;
        store.sweep();
        Ok(store)
    }

    fn check_root(&self) -> Result<(), Error> {
        match fs::metadata(&self.root) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(unavailable(
                &self.root.display(),
                io::ErrorKind::NotADirectory.into(),
            )),
            Err(cause) => Err(unavailable(
                &format!("store folder {}", self.root.display()),
                cause,
            )),
        }
    }

    /// Removes what crashed writers left.
    fn sweep(&self) {
        for entry in fs::read_dir(self.root.join(".the0-tmp"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let age = entry.metadata().and_then(|m| m.modified()).ok();
            let age = age.and_then(|at| SystemTime::now().duration_since(at).ok());
            let unheld = File::open(entry.path())
                .is_ok_and(|f| flock(&f, FlockOperation::NonBlockingLockExclusive).is_ok());
            if unheld && age.is_some_and(|age| age > STALE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, at: &Place) -> Result<PathBuf, Error> {
        let plain =
            !at.bucket.is_empty() && !at.bucket.starts_with('.') && !at.bucket.contains('/');
        if plain {
            Ok(self.root.join(&at.bucket).join(at.key.as_str()))
        } else {
            let why =
                "a bucket's name cannot be empty, begin with a dot or contain a slash".to_owned();
            Err(Error::Other {
                what: at.to_string(),
                why,
            })
        }
    }

    fn notes(&self, at: &Place) -> PathBuf {
        self.root
            .join(".the0-meta")
            .join(&at.bucket)
            .join(at.key.as_str())
    }

    /// Only a path where nothing lies is one where there is no object.
    fn failed(&self, at: &Place, path: &Path, cause: io::Error) -> Error {
        let gone = match self.check_root() {
            Ok(()) => Error::NotFound(at.clone()),
            Err(error) => return error,
        };
        let why = match cause.kind() {
            io::ErrorKind::NotFound if path.is_symlink() => "a link that leads nowhere lies there",
            io::ErrorKind::NotFound => return gone,
            io::ErrorKind::NotADirectory => "a part of the path is no folder",
            io::ErrorKind::IsADirectory => "a folder lies where the object should be",
            io::ErrorKind::InvalidInput => "what lies there is no plain file",
            _ => return unavailable(at, cause),
        };
        Error::Other {
            what: path.display().to_string(),
            why: why.to_owned(),
        }
    }

    fn lock(&self, bucket: &str) -> Result<Lock, Error> {
        self.check_root()?;
        let folder = self.root.join(".the0-lock");
        let what = folder.join(bucket);
        let open = || {
            fs::create_dir_all(&folder)?;
            OpenOptions::new().create(true).append(true).open(&what)
        };
        let file = open().map_err(|cause| unavailable(&what.display(), cause))?;
        let end = Instant::now() + TURN;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() > end {
                let cause = io::Error::new(io::ErrorKind::TimedOut, "another writer holds it");
                return Err(unavailable(&what.display(), cause));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Lock(file))
    }

    /// The object's file and what is known of it, both of one version.
    fn look(&self, at: &Place) -> Result<(File, Head), Error> {
        let path = self.path(at)?;
        let notes_of = self.notes(at);
        let look = || -> io::Result<(File, Head)> {
            loop {
                let file = open(&path)?;
                let found = file.metadata()?;
                if let Some(head) = notes::read(&notes_of, &found)? {
                    return Ok((file, head));
                }
                // Unnoted, unless a writer replaced it and its note between the two looks.
                if notes::stamp(&fs::metadata(&path)?) == notes::stamp(&found) {
                    return Ok((file, notes::foreign(&found)));
                }
            }
        };
        look().map_err(|cause| self.failed(at, &path, cause))
    }

    fn current(&self, at: &Place) -> Result<Option<Head>, Error> {
        match self.look(at) {
            Ok((_, head)) => Ok(Some(head)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check(&self, at: &Place, condition: &Condition) -> Result<Option<Head>, Error> {
        let current = self.current(at)?;
        if condition.holds(current.as_ref().map(|head| &head.etag)) {
            Ok(current)
        } else {
            Err(Error::Conflict(at.clone()))
        }
    }

    pub(super) fn get(&self, at: &Place) -> Result<Object, Error> {
        let (file, head) = self.look(at)?;
        let body = Body::File(file.take(head.size));
        Ok(Object { head, body })
    }

    pub(super) fn head(&self, at: &Place) -> Result<Head, Error> {
        self.look(at).map(|(_, head)| head)
    }

    pub(super) fn put<E>(
        &self,
        at: &Place,
        condition: &Condition,
        metadata: &Metadata,
        fill: impl FnOnce(&mut Upload<'_>) -> Result<(), E>,
    ) -> Result<Etag, PutError<E>> {
        // Looked at before as well, so that a write that cannot succeed is not begun.
        self.check(at, condition).map_err(PutError::Store)?;
        let (temporary, file) = self.temporary(at).map_err(PutError::Store)?;
        let mut upload = Upload::Directory(DirectoryUpload {
            out: BufWriter::with_capacity(128 << 10, file),
            replaces: matches!(condition, Condition::IfMatch(_)).then_some((self, at, condition)),
            failed: None,
        });
        let filled = fill(&mut upload).map_err(PutError::Fill);
        let Upload::Directory(DirectoryUpload { out, failed, .. }) = upload else {
            unreachable!("an upload stays one of its store")
        };
        let filled = failed.map_or(filled, |error| Err(PutError::Store(error)));
        let put = filled.and_then(|()| {
            let flushed = out.into_inner().map_err(io::IntoInnerError::into_error);
            let file = flushed.map_err(|cause| PutError::Store(unavailable(at, cause)))?;
            self.switch(at, condition, metadata, &temporary, &file)
                .map_err(PutError::Store)
        });
        if put.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        put
    }

    fn temporary(&self, at: &Place) -> Result<(PathBuf, File), Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        self.check_root()?;
        let folder = self.root.join(".the0-tmp");
        // Writers in other containers have the same process ids: a name that is taken is another's.
        let make = || {
            fs::create_dir_all(&folder)?;
            loop {
                let count = COUNT.fetch_add(1, Ordering::Relaxed);
                let path = folder.join(format!("{}-{count}", std::process::id()));
                let mut options = OpenOptions::new();
                match options.write(true).create_new(true).mode(0o644).open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                    Ok(file) => {
                        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
                        return Ok((path, file));
                    }
                }
            }
        };
        make().map_err(|cause| unavailable(at, cause))
    }

    /// Makes the written file the object: the note first, then the rename that counts.
    fn switch(
        &self,
        at: &Place,
        condition: &Condition,
        metadata: &Metadata,
        temporary: &Path,
        file: &File,
    ) -> Result<Etag, Error> {
        let path = self.path(at)?;
        let notes_of = self.notes(at);
        file.sync_all().map_err(|cause| unavailable(at, cause))?;
        let _turn = self.lock(&at.bucket)?;
        self.check(at, condition)?;
        let act = || {
            let written = file.metadata()?;
            let etag = notes::write(&notes_of, &written, metadata)?;
            let folder = parent(&path)?;
            fs::create_dir_all(folder)?;
            fs::rename(temporary, &path)?;
            File::open(folder)?.sync_all()?;
            notes::forget_others(&notes_of, &written);
            Ok(etag)
        };
        act().map_err(|cause| unavailable(at, cause))
    }

    pub(super) fn append(
        &self,
        at: &Place,
        condition: &Condition,
        metadata: &Metadata,
        bytes: &[u8],
    ) -> Result<Etag, Error> {
        let path = self.path(at)?;
        let notes_of = self.notes(at);
        let _turn = self.lock(&at.bucket)?;
        let current = self.check(at, condition)?;
        let act = || {
            let (file, length) = match current {
                Some(head) => (Self::reopen(&path, &notes_of, &head)?, head.size),
                None => (self.begin(at, &path, &notes_of)?, 0),
            };
            file.set_len(length)?;
            (&file).write_all(bytes)?;
            file.sync_data()?;
            let grown = length + bytes.len() as u64;
            notes::write_growing(&notes_of, &file.metadata()?, grown, metadata)
        };
        act().map_err(|cause| unavailable(at, cause))
    }

    /// Opens an object for an append. What is there is noted before the first byte is added, so that a torn
    /// append is known for one.
    fn reopen(path: &Path, notes_of: &Path, head: &Head) -> io::Result<File> {
        let file = OpenOptions::new().append(true).open(path)?;
        notes::write_growing(notes_of, &file.metadata()?, head.size, &head.metadata)?;
        notes::forget_others(notes_of, &file.metadata()?);
        Ok(file)
    }

    /// Makes an empty object that grows.
    fn begin(&self, at: &Place, path: &Path, notes_of: &Path) -> io::Result<File> {
        let (temporary, file) = self.temporary(at).map_err(io::Error::other)?;
        drop(file);
        let file = OpenOptions::new().append(true).open(&temporary)?;
        notes::write_growing(notes_of, &file.metadata()?, 0, &Metadata::new())?;
        let folder = parent(path)?;
        fs::create_dir_all(folder)?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()?;
        notes::forget_others(notes_of, &file.metadata()?);
        Ok(file)
    }

    /// A real copy, not a hard link: a person who puts an old state back with `cp` writes into the object's inode,
    /// and must not write into the history's.
    pub(super) fn copy(&self, from: &Place, etag: &Etag, to: &Place) -> Result<(), Error> {
        let (mut file, head) = self.look(from)?;
        if head.etag != *etag {
            return Err(Error::Conflict(from.clone()));
        }
        let fill = |out: &mut Upload<'_>| io::copy(&mut file, out).map(|_| ());
        match self.put(to, &Condition::Any, &head.metadata, fill) {
            Ok(_) => Ok(()),
            Err(PutError::Store(error)) => Err(error),
            Err(PutError::Fill(cause)) => Err(unavailable(to, cause)),
        }
    }

    pub(super) fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ObjectKey>, Error> {
        self.check_root()?;
        let base = self.root.join(bucket);
        let from = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut keys = Vec::new();
        let mut folders = vec![base.join(from)];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(cause) => return Err(unavailable(&folder.display(), cause)),
            };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                } else if let Some(key) = key_of(&base, &entry.path(), prefix) {
                    keys.push(key);
                }
            }
        }
        keys.sort();
        Ok(keys)
    }

    pub(super) fn delete(&self, at: &Place) -> Result<(), Error> {
        let path = self.path(at)?;
        let _turn = self.lock(&at.bucket)?;
        contract::file::remove(&path).map_err(|cause| unavailable(at, cause))?;
        let _ = fs::remove_dir_all(self.notes(at));
        Ok(())
    }
}

/// Opens a plain file; a FIFO is not waited for.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if kind.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

fn key_of(base: &Path, path: &Path, prefix: &str) -> Option<ObjectKey> {
    let key = path.strip_prefix(base).ok()?.to_str()?;
    key.starts_with(prefix).then(|| key.parse().ok()).flatten()
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent()
        .ok_or_else(|| io::Error::other("a path without a folder"))
}

fn unavailable(what: &impl ToString, cause: io::Error) -> Error {
    Error::Unavailable {
        what: what.to_string(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    fn store() -> (tempfile::TempDir, Directory, Place) {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::open(dir.path()).unwrap();
        (dir, store, Place::new("b", "k/x".parse().unwrap()))
    }

    fn put(
        store: &Directory,
        at: &Place,
        condition: &Condition,
        text: &str,
    ) -> Result<Etag, Error> {
        let metadata = Metadata::from([("m".into(), text.into())]);
        let fill = |out: &mut Upload<'_>| out.write_all(text.as_bytes());
        store
            .put(at, condition, &metadata, fill)
            .map_err(|error| match error {
                PutError::Store(error) => error,
                PutError::Fill(error) => panic!("{error}"),
            })
    }

    fn content(store: &Directory, at: &Place) -> String {
        let mut text = String::new();
        store
            .get(at)
            .unwrap()
            .body
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn a_conditional_write_happens_only_on_the_version_it_names() {
        let (_dir, store, at) = store();
        let first = put(&store, &at, &Condition::IfAbsent, "1").unwrap();
        assert!(matches!(
            put(&store, &at, &Condition::IfAbsent, "2"),
            Err(Error::Conflict(_))
        ));
        let second = put(&store, &at, &Condition::IfMatch(first.clone()), "2").unwrap();
        assert!(matches!(
            put(&store, &at, &Condition::IfMatch(first), "3"),
            Err(Error::Conflict(_))
        ));
        let head = store.head(&at).unwrap();
        assert_eq!((head.etag, head.metadata["m"].as_str()), (second, "2"));
        assert_eq!(content(&store, &at), "2");
    }

    #[test]
    fn an_object_someone_else_put_there_has_no_metadata_and_another_etag() {
        let (dir, store, at) = store();
        let etag = put(&store, &at, &Condition::Any, "ours").unwrap();
        fs::write(dir.path().join("b/k/x"), "theirs").unwrap();
        let head = store.head(&at).unwrap();
        assert!(head.metadata.is_empty() && head.etag != etag);
    }

    #[test]
    fn a_fill_that_fails_changes_nothing() {
        let (dir, store, at) = store();
        put(&store, &at, &Condition::Any, "old").unwrap();
        let failed = store.put(&at, &Condition::Any, &Metadata::new(), |out| {
            out.write_all(b"half").unwrap();
            Err("torn")
        });
        assert!(matches!(failed, Err(PutError::Fill("torn"))));
        assert_eq!(content(&store, &at), "old");
        assert_eq!(
            fs::read_dir(dir.path().join(".the0-tmp")).unwrap().count(),
            0
        );
    }

    #[test]
    fn a_temporary_file_of_another_writer_with_our_process_id_is_left_alone() {
        let (dir, store, at) = store();
        let folder = dir.path().join(".the0-tmp");
        fs::create_dir(&folder).unwrap();
        let theirs = |n: u32| folder.join(format!("{}-{n}", std::process::id()));
        for n in 0..200 {
            fs::write(theirs(n), "theirs").unwrap();
        }
        put(&store, &at, &Condition::Any, "ours").unwrap();
        assert_eq!(content(&store, &at), "ours");
        assert!((0..200).all(|n| fs::read(theirs(n)).unwrap() == b"theirs"));
    }

    #[test]
    fn an_append_that_was_torn_is_cut_by_the_next() {
        let (dir, store, at) = store();
        let meta = |n: &str| Metadata::from([("at".into(), n.into())]);
        let etag = store
            .append(&at, &Condition::IfAbsent, &meta("1"), b"one\n")
            .unwrap();
        let mut file = OpenOptions::new()
            .append(true)
            .open(dir.path().join("b/k/x"))
            .unwrap();
        file.write_all(b"tor").unwrap();
        assert_eq!(content(&store, &at), "one\n");
        assert_eq!(store.head(&at).unwrap().etag, etag);
        store
            .append(&at, &Condition::IfMatch(etag.clone()), &meta("2"), b"two\n")
            .unwrap();
        assert_eq!(fs::read(dir.path().join("b/k/x")).unwrap(), b"one\ntwo\n");
        assert_eq!(store.head(&at).unwrap().metadata, meta("2"));
        let late = store.append(&at, &Condition::IfMatch(etag), &meta("3"), b"x");
        assert!(matches!(late, Err(Error::Conflict(_))));
    }

    #[test]
    fn a_copy_lives_on_when_its_original_is_written_into() {
        let (dir, store, at) = store();
        let etag = put(&store, &at, &Condition::Any, "old").unwrap();
        let to = Place::new("b", "h/y".parse().unwrap());
        store.copy(&at, &etag, &to).unwrap();
        fs::write(dir.path().join("b/k/x"), "new").unwrap();
        assert_eq!(content(&store, &to), "old");
        assert_eq!(store.head(&to).unwrap().metadata["m"], "old");
        assert_eq!(
            store.list("b", "h/").unwrap(),
            std::slice::from_ref(&to.key)
        );
        store.delete(&to).unwrap();
        assert!(matches!(store.get(&to), Err(Error::NotFound(_))));
    }

    #[test]
    fn what_is_no_object_is_an_error_naming_the_path_and_not_an_absence() {
        let (dir, store, at) = store();
        let path = dir.path().join("b/k/x");
        let refused = |why: &str| {
            for error in [
                store.head(&at).unwrap_err(),
                store.get(&at).unwrap_err(),
                put(&store, &at, &Condition::IfAbsent, "1").unwrap_err(),
            ] {
                let said = error.to_string();
                assert!(matches!(error, Error::Other { .. }), "{error:?}");
                assert!(
                    said.contains(path.to_str().unwrap()) && said.contains(why),
                    "{said}"
                );
            }
        };
        fs::create_dir_all(&path).unwrap();
        refused("a folder");
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        refused("a link");
        fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        refused("no plain file");
        fs::remove_file(&path).unwrap();
        assert!(matches!(store.head(&at), Err(Error::NotFound(_))));
        fs::remove_dir(path.parent().unwrap()).unwrap();
        fs::write(path.parent().unwrap(), "").unwrap();
        refused("no folder");
    }

    #[test]
    fn a_store_whose_folder_is_gone_is_unavailable_and_not_empty() {
        let (dir, store, at) = store();
        fs::remove_dir_all(dir.path()).unwrap();
        assert!(matches!(store.head(&at), Err(Error::Unavailable { .. })));
        assert!(matches!(
            Directory::open(dir.path()),
            Err(Error::Unavailable { .. })
        ));
    }
}
