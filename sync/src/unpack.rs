//! `sync unpack`: the confined unpacker for a person.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use contract::exit;

use crate::extract::{self, Budget, Links, Rules};
use crate::swap;

/// Unpacks `archive` into `folder`, which must be empty or not exist; on failure it is as it was.
pub fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut file = File::open(archive).with_context(|| format!("open {}", archive.display()))?;
    let entries = fs::read_dir(folder).map(|mut entries| entries.next().is_some());
    match entries {
        Ok(true) => bail!(
            "{} is not empty: give an empty folder or a new one",
            folder.display()
        ),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("look into {}", folder.display()));
        }
        _ => {}
    }
    let aside = beside(folder)?;
    fs::create_dir(&aside).with_context(|| format!("make {}", aside.display()))?;
    let rules = Rules {
        links: Links::Inside,
        budget: budget()?,
    };
    let unpacked = extract::unpack(&mut file, &aside, rules)
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            fs::rename(&aside, folder).with_context(|| format!("make {}", folder.display()))
        });
    if unpacked.is_err() {
        swap::remove_tree(&aside).with_context(|| format!("remove {}", aside.display()))?;
    }
    unpacked.with_context(|| archive.display().to_string())
}

fn beside(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(folder)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!(
            "{} cannot be replaced: give a folder below another",
            folder.display()
        );
    };
    let name = format!(".{}.{}{}", name.display(), std::process::id(), swap::NEW);
    Ok(parent.join(name))
}

fn budget() -> anyhow::Result<Budget> {
    let default = Budget::default();
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text
            .trim()
            .parse()
            .with_context(|| format!("{name} is not a whole number")),
        Err(_) => Ok(default),
    };
    Ok(Budget {
        bytes: number("THE0_MAX_UNPACKED_MB", default.bytes >> 20)?.saturating_mul(1 << 20),
        entries: number("THE0_MAX_UNPACKED_ENTRIES", default.entries)?,
        ratio: number("THE0_MAX_UNPACKED_RATIO", default.ratio)?.max(1),
    })
}

/// Refused where it is the archive's fault.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let refused = error
        .downcast_ref::<extract::Error>()
        .is_some_and(|e| e.reason().is_some());
    if refused {
        exit::REFUSED
    } else {
        exit::INTERNAL
    }
}
