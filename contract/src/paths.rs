//! Where things are in a bot's container.

use std::path::{Path, PathBuf};

/// The directories of one bot. Under `agent dev` they are folders of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The bot's code (`CODE_PATH`).
    pub code: PathBuf,
    /// What the bot keeps (`STATE_PATH`).
    pub state: PathBuf,
    /// What the SDKs keep in the state (`STATE_DIR`).
    pub sdk_state: PathBuf,
    /// What the programs tell each other (`THE0_VAR_PATH`).
    pub var: PathBuf,
    /// The bot's log (`LOGS_PATH`).
    pub logs: PathBuf,
}

impl Paths {
    /// The exit code of the run that ended last, decimal; absent while a run is under way. Writer: supervisor.
    pub fn done(&self) -> PathBuf {
        self.var.join("done")
    }

    /// The [record](crate::record::RunRecord) of that run. Writer: supervisor.
    pub fn done_record(&self) -> PathBuf {
        self.var.join("done.json")
    }

    /// The [records](crate::record::RunRecord) of all runs, one a line, oldest first. Writer: supervisor.
    pub fn runs(&self) -> PathBuf {
        self.var.join("runs.jsonl")
    }

    /// The supervisor's [`Status`](crate::record::Status). Writer: supervisor.
    pub fn status(&self) -> PathBuf {
        self.var.join("status.json")
    }

    /// What has been [saved](crate::record::Synced). Writer: `sync watch`.
    pub fn synced(&self) -> PathBuf {
        self.var.join("synced.json")
    }

    /// Where questions are answered ([`Listening`](crate::record::Listening)). Writer: query.
    pub fn listening(&self) -> PathBuf {
        self.var.join("query.json")
    }

    /// What `sync` remembers between its own runs. Nobody else looks inside.
    pub fn sync_private(&self) -> PathBuf {
        self.var.join("sync")
    }

    /// The bot's answer to how its run went, written by an SDK or a wrapper.
    pub fn result(&self) -> PathBuf {
        self.code.join("result.json")
    }

    /// The layout under one folder, as `agent dev` uses it.
    pub fn under(root: &Path) -> Self {
        let state = root.join("state");
        let var = root.join("var");
        Self {
            code: root.join("code"),
            sdk_state: state.join(".the0-state"),
            state,
            logs: var.join("logs"),
            var,
        }
    }
}
