//! What must be so before a supervisor is started: the interpreter is there, the folders are, nobody else runs the bot.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use contract::{Launch, Runtime, file};

use crate::document::Bot;
use crate::place::{ABOUT, About};

/// Makes the bot's folders and writes down, for `agent logs`, whose they are.
pub(super) fn prepare(folder: &Path, launch: &Launch, bot: &Bot) -> io::Result<()> {
    let paths = &launch.paths;
    for path in [&paths.code, &paths.state, &paths.var, &paths.logs] {
        fs::create_dir_all(path)?;
    }
    let about = About {
        id: bot.id.clone(),
        name: bot.definition.name.clone(),
        version: bot.definition.version.clone(),
    };
    file::replace_json(&folder.join(ABOUT), &about)
}

/// Locks the file; `None` when somebody else has it.
pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).append(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(err)) => Err(err),
    }
}

/// Whether the interpreter of the bot's runtime is installed; if not, what a person should know.
pub(super) fn check_interpreter(runtime: Runtime, path: Option<&str>) -> Result<(), String> {
    let Some(interpreter) = runtime.interpreter() else {
        return Ok(());
    };
    let mut folders = path.unwrap_or("/usr/bin:/bin").split(':');
    if folders.any(|folder| is_executable(&Path::new(folder).join(interpreter))) {
        return Ok(());
    }
    Err(format!(
        "its runtime {runtime} is not installed: {interpreter} is not on PATH: install it"
    ))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_that_is_not_installed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let why = check_interpreter(Runtime::Scala, Some(path)).unwrap_err();
        assert!(why.contains("scala3") && why.contains("java"), "{why}");
        fs::write(dir.path().join("java"), "").unwrap();
        assert!(check_interpreter(Runtime::Scala, Some(path)).is_err());
        assert_eq!(check_interpreter(Runtime::Rust, Some(path)), Ok(()));
        assert_eq!(
            check_interpreter(Runtime::Python, Some("/bin:/usr/bin:/usr/local/bin")),
            Ok(())
        );
    }

    #[test]
    fn a_lock_is_one_holders_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = lock(&path).unwrap();
        assert!(first.is_some() && lock(&path).unwrap().is_none());
        drop(first);
        assert!(lock(&path).unwrap().is_some());
    }
}
