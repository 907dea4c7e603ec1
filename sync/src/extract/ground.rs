//! The folder being filled: makes things in it, and only in it.
//!
//! Folders are made by hand, one at a time, with everything allowed to us; their own permissions are set at the end,
//! inner ones first. Files are always new (`O_EXCL`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, linkat, mkdirat, symlinkat};

use super::name::Name;
use crate::beneath;

/// What of an entry's mode is kept: no setuid, setgid or sticky bit.
const PERMISSIONS: u32 = 0o777;

#[derive(Debug)]
pub(super) struct Ground {
    root: OwnedFd,
    /// The folder last written to, as most entries follow one of the same folder.
    last: Option<(Vec<u8>, OwnedFd)>,
    modes: BTreeMap<Vec<u8>, u32>,
}

impl Ground {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            root: beneath::root(path)?,
            last: None,
            modes: BTreeMap::new(),
        })
    }

    pub(super) fn folder(&mut self, name: &Name, mode: u32) -> io::Result<()> {
        if !name.is_root() {
            self.enter(name.path())?;
            self.modes.insert(name.path().to_vec(), mode & PERMISSIONS);
        }
        Ok(())
    }

    pub(super) fn file(&mut self, name: &Name) -> io::Result<File> {
        let (folder, last) = beneath::split(name.path());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::from_raw_mode(0o600);
        Ok(beneath::open(self.enter(folder)?, last, flags, mode)?.into())
    }

    #[expect(
        clippy::unused_self,
        reason = "the ground decides what of a mode is kept"
    )]
    pub(super) fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        Ok(fchmod(file, Mode::from_raw_mode(mode & PERMISSIONS))?)
    }

    pub(super) fn link(&mut self, name: &Name, target: &[u8]) -> io::Result<()> {
        let (folder, last) = beneath::split(name.path());
        Ok(symlinkat(target, self.enter(folder)?, last)?)
    }

    pub(super) fn hard_link(&mut self, name: &Name, to: &Name) -> io::Result<()> {
        let (to_folder, to_last) = beneath::split(to.path());
        let from = beneath::open_folder(self.root.as_fd(), to_folder)?;
        let (folder, last) = beneath::split(name.path());
        Ok(linkat(
            from,
            to_last,
            self.enter(folder)?,
            last,
            AtFlags::empty(),
        )?)
    }

    /// The folder `path`, made with those above it where they are not there.
    fn enter(&mut self, path: &[u8]) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            self.last = Some((path.to_vec(), self.make(path)?));
        }
        Ok(self
            .last
            .as_ref()
            .map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    fn make(&self, path: &[u8]) -> io::Result<OwnedFd> {
        match beneath::open_folder(self.root.as_fd(), path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (above, part) = beneath::split(path);
        let above = match above {
            [] => None,
            above => Some(self.make(above)?),
        };
        let from = above.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
        mkdirat(from, part, Mode::from_raw_mode(0o700))?;
        let made = beneath::open_folder(from, part)?;
        fchmod(&made, Mode::from_raw_mode(0o755))?;
        Ok(made)
    }

    /// Sets the folders' permissions, inner ones first.
    pub(super) fn finish(self) -> io::Result<()> {
        for (path, mode) in self.modes.iter().rev() {
            let folder = beneath::open_folder(self.root.as_fd(), path)?;
            fchmod(folder, Mode::from_raw_mode(*mode))?;
        }
        Ok(())
    }
}
