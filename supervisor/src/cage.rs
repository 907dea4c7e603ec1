//! What a bot cannot do, in the kernel's terms: Landlock and no-new-privileges.
//!
//! Best effort by what the kernel has: an older one enforces less, and one line of the journal says what is lacking.
//! Reading and executing are free everywhere (what must not be read is not readable for the bot's user), and the
//! network is the container's business.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use contract::stage::Cage;
use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::sys::prctl;
use thiserror::Error;

/// The newest kernel interface asked for: file access as of 5, scopes as of 6.
const NEWEST: ABI = ABI::V7;

/// The cage could not be entered; the program must not be started.
#[derive(Debug, Error)]
pub enum CageError {
    /// prctl(2).
    #[error("give up new privileges: {0}")]
    Privileges(nix::errno::Errno),
    /// Landlock.
    #[error("enter the Landlock domain: {0} (THE0_CONFINE=off starts the bot without it)")]
    Landlock(#[from] RulesetError),
}

/// Confines this process and what it becomes.
///
/// # Errors
/// The kernel has the means and refuses them.
pub fn enter(cage: &Cage) -> Result<(), CageError> {
    if *cage == Cage::Open {
        return Ok(());
    }
    prctl::set_no_new_privs().map_err(CageError::Privileges)?;
    let status = match cage {
        Cage::Open => return Ok(()),
        Cage::Signals => signals()?,
        Cage::Writes(folders) => writes(folders)?,
    };
    if let Some(lacking) = lacking(&status, cage) {
        contract::info!("{lacking}");
    }
    Ok(())
}

/// Whether this kernel bounds what a program writes to.
pub fn bounds_writes() -> bool {
    let asked = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V1));
    asked.and_then(Ruleset::create).is_ok()
}

/// Takes the right to write from all files and folders beneath `root`, which no program uses yet. A program of the same
/// user could take it back: it is for kernels that have nothing better.
///
/// # Errors
/// What cannot be read or changed.
pub fn make_read_only(root: &Path) -> io::Result<()> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                take_writing(&entry.path())?;
            }
        }
        take_writing(&folder)?;
    }
    Ok(())
}

fn take_writing(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    match fs::set_permissions(path, Permissions::from_mode(mode & !0o222)) {
        // Somebody else's, or nobody's to write.
        Err(err)
            if matches!(
                err.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

fn signals() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .scope(Scope::Signal)?
        .create()?
        .restrict_self()
}

fn writes(folders: &[PathBuf]) -> Result<RestrictionStatus, RulesetError> {
    let access = AccessFs::from_write(NEWEST);
    let always = [Path::new("/dev"), Path::new("/proc")];
    let writable = folders.iter().map(PathBuf::as_path).chain(always);
    Ruleset::default()
        .handle_access(access)?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?
        .add_rules(path_beneath_rules(writable, access))?
        .restrict_self()
}

fn lacking(status: &RestrictionStatus, cage: &Cage) -> Option<String> {
    let aim = match cage {
        Cage::Writes(_) => "writes outside its folders and signals to other processes",
        _ => "signals to other processes",
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => Some(format!(
            "this kernel's Landlock is older than what is asked for: of {aim}, it refuses the bot only some"
        )),
        RulesetStatus::NotEnforced => Some(format!(
            "this kernel has no Landlock for it: {aim} are not refused to the bot"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_read_only_stays_readable_and_links_are_not_followed() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), "1").unwrap();
        fs::write(other.path().join("outside"), "2").unwrap();
        std::os::unix::fs::symlink(other.path().join("outside"), inner.join("link")).unwrap();
        make_read_only(dir.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o222;
        assert_eq!(
            (mode(&inner), mode(&inner.join("file")), mode(dir.path())),
            (0, 0, 0)
        );
        assert_ne!(mode(&other.path().join("outside")), 0);
        assert_eq!(fs::read_to_string(inner.join("file")).unwrap(), "1");
        for folder in [dir.path(), &dir.path().join("a"), &inner] {
            fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        }
    }
}
