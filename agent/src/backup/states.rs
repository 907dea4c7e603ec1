//! States are put back by `sync state put`, which alone knows how: what it puts it has unpacked before, and what it
//! replaces is in the history.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use contract::{BotId, ObjectKey, vars};
use serde_json::Value;

use crate::launch::Host;
use crate::state;
use crate::store::Store;
use crate::store::objects::Bucket;

/// What `sync` notes about a state (`sync/src/base.rs`): the digest of what is in it ..
const TREE: &str = "tree";
/// .. which is that of a moment before where this is noted too.
const TORN: &str = "torn";

/// The states in a store.
pub struct States<'a> {
    sync: PathBuf,
    host: &'a Host,
    store: &'a Store,
    folder: PathBuf,
}

/// What there is in the place of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    /// None.
    Nothing,
    /// The same.
    Same,
    /// Another one.
    Other,
}

impl<'a> States<'a> {
    /// Those of this host's store; what is compared lies in `folder` meanwhile.
    pub fn open(host: &'a Host, store: &'a Store, folder: PathBuf) -> Result<Self> {
        Ok(Self {
            sync: state::program()?,
            host,
            store,
            folder,
        })
    }

    /// What is in the place of this bot's state. `archive` gives it as a file where what is noted does not tell.
    pub fn compare(
        &self,
        bot: &BotId,
        noted: &BTreeMap<String, String>,
        archive: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<There> {
        let Some(about) = self.store.about(Bucket::State, &ObjectKey::state(bot))? else {
            return Ok(There::Nothing);
        };
        let same = match (digest(noted), digest(&about.metadata)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.are_equal(bot, &archive()?)?,
        };
        Ok(if same { There::Same } else { There::Other })
    }

    /// Whether the archive holds what the current state does, file by file.
    fn are_equal(&self, bot: &BotId, archive: &Path) -> Result<bool> {
        let tree = self.folder.join(format!("tree-{}", super::make::unique()));
        let mut unpack = Command::new(&self.sync);
        unpack.arg("unpack").arg(archive).arg(&tree);
        let output = unpack.stdin(Stdio::null()).output().context("sync")?;
        ensure!(output.status.success(), "{}", words(&output));
        let mut diff = state::command(&self.sync, bot, self.host);
        diff.args(["state", "--keys-from-stdin", "diff", "-o", "json"])
            .args(["current", "local"])
            .env(vars::STATE_PATH, &tree);
        let output = self.wait(diff);
        let _ = fs::remove_dir_all(&tree);
        let output = output?;
        ensure!(output.status.success(), "{}", words(&output));
        let diff: Value = serde_json::from_slice(&output.stdout).context("what sync says")?;
        let lists = ["added", "removed", "changed"];
        let is_empty = |name: &str| diff[name].as_array().is_some_and(Vec::is_empty);
        Ok(lists.into_iter().all(is_empty))
    }

    /// Makes what is in the archive the bot's current state.
    pub fn put(&self, bot: &BotId, archive: &Path) -> Result<()> {
        let mut put = state::command(&self.sync, bot, self.host);
        put.args(["state", "--keys-from-stdin", "put"]).arg(archive);
        let output = self.wait(put)?;
        if !output.status.success() {
            bail!("the state of bot {bot}: {}", words(&output));
        }
        Ok(())
    }

    fn wait(&self, mut command: Command) -> Result<Output> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| self.sync.display().to_string())?;
        state::hand_over(&mut child, self.host)?;
        let mut stderr = child.stderr.take();
        let reading = std::thread::spawn(move || {
            let mut said = Vec::new();
            if let Some(stderr) = &mut stderr {
                let _ = stderr.read_to_end(&mut said);
            }
            said
        });
        let mut stdout = Vec::new();
        if let Some(out) = &mut child.stdout {
            out.read_to_end(&mut stdout)?;
        }
        let stderr = reading.join().unwrap_or_default();
        let status = child.wait()?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

fn digest(noted: &BTreeMap<String, String>) -> Option<&String> {
    if noted.contains_key(TORN) {
        return None;
    }
    noted.get(TREE)
}

/// What `sync` has said last.
fn words(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or("sync failed").to_owned()
}
