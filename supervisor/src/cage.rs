//! What a bot cannot do, in the kernel's terms: Landlock and no-new-privileges.
//!
//! Best effort by what the kernel has: an older one enforces less, and one line of the journal says what is lacking.
//! Reading and executing are free everywhere (what must not be read is not readable for the bot's user), and the
//! network is the container's business.

use std::path::{Path, PathBuf};

use contract::stage::Cage;
use landlock::{
    ABI, AccessFs, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
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
