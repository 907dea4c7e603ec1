//! The second stage: `supervisor exec`, the short program between a fork and a bot's exec.
//!
//! What must happen in the child before the program starts (session, terminal, parent-death signal, confinement)
//! happens in a process of its own, so it needs no code between fork and exec and no `unsafe`. The supervisor
//! starts bots through it, `query` the query programs; [`Stage`] is the command line they agree on.

use std::ffi::OsString;
use std::path::PathBuf;

use thiserror::Error;

/// Where the program stands towards the terminal and its parent's signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// A session of its own.
    Session,
    /// A process group of its own.
    Group,
    /// A process group of its own that takes the terminal on descriptor 0.
    Foreground,
}

/// What the program may do, in the kernel's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cage {
    /// Everything.
    Open,
    /// No new privileges; no signal to a process outside the cage, where the kernel has Landlock's scopes.
    Signals,
    /// The same, and writes only beneath these folders, `/dev` and `/proc`.
    Writes(Vec<PathBuf>),
}

/// How to start a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Where it stands.
    pub placement: Placement,
    /// What it may do.
    pub cage: Cage,
    /// Signal it gets when the thread that started it ends; 0: none.
    pub parent_death_signal: i32,
    /// Added to the starter's own `oom_score_adj`, 0 to 1000.
    pub oom_score_above: u16,
    /// Its working directory; `None`: the starter's.
    pub directory: Option<PathBuf>,
    /// The program and its arguments; the program is looked up on `PATH` when it has no slash.
    pub command: Vec<OsString>,
}

/// The command line of a second stage is not understood.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("exec: {0}")]
pub struct BadStage(pub String);

impl Stage {
    /// The arguments after `supervisor`.
    pub fn to_args(&self) -> Vec<OsString> {
        let placement = match self.placement {
            Placement::Session => "session",
            Placement::Group => "group",
            Placement::Foreground => "foreground",
        };
        let mut args: Vec<OsString> = vec!["exec".into(), "--placement".into(), placement.into()];
        let mut option = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
        option(
            "--parent-death-signal",
            self.parent_death_signal.to_string().into(),
        );
        option("--oom-score-above", self.oom_score_above.to_string().into());
        if let Some(directory) = &self.directory {
            option("--directory", directory.into());
        }
        match &self.cage {
            Cage::Open => option("--cage", "open".into()),
            Cage::Signals => option("--cage", "signals".into()),
            Cage::Writes(folders) => {
                option("--cage", "writes".into());
                for folder in folders {
                    option("--writable", folder.into());
                }
            }
        }
        args.push("--".into());
        args.extend(self.command.iter().cloned());
        args
    }

    /// Reads the arguments after `exec`.
    ///
    /// # Errors
    /// What is not understood.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, BadStage> {
        let mut args = args.into_iter();
        let mut stage = Self {
            placement: Placement::Session,
            cage: Cage::Open,
            parent_death_signal: 0,
            oom_score_above: 0,
            directory: None,
            command: Vec::new(),
        };
        let mut writable = Vec::new();
        while let Some(name) = args.next() {
            if name == "--" {
                stage.command = args.collect();
                break;
            }
            let value = args
                .next()
                .ok_or_else(|| BadStage(format!("{} has no value", name.display())))?;
            let bad = || {
                BadStage(format!(
                    "{} {} is not understood",
                    name.display(),
                    value.display()
                ))
            };
            let number = || {
                value
                    .to_str()
                    .and_then(|text| text.parse::<u16>().ok())
                    .ok_or_else(bad)
            };
            match (name.to_str(), value.to_str()) {
                (Some("--placement"), Some("session")) => stage.placement = Placement::Session,
                (Some("--placement"), Some("group")) => stage.placement = Placement::Group,
                (Some("--placement"), Some("foreground")) => {
                    stage.placement = Placement::Foreground;
                }
                (Some("--parent-death-signal"), _) => stage.parent_death_signal = number()?.into(),
                (Some("--oom-score-above"), _) => stage.oom_score_above = number()?,
                (Some("--directory"), _) => stage.directory = Some(value.into()),
                (Some("--writable"), _) => writable.push(PathBuf::from(value)),
                (Some("--cage"), Some("open")) => stage.cage = Cage::Open,
                (Some("--cage"), Some("signals")) => stage.cage = Cage::Signals,
                (Some("--cage"), Some("writes")) => stage.cage = Cage::Writes(Vec::new()),
                _ => return Err(bad()),
            }
        }
        if let Cage::Writes(folders) = &mut stage.cage {
            *folders = writable;
        }
        if stage.command.is_empty() {
            return Err(BadStage("no command after --".into()));
        }
        Ok(stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_reads_back_as_it_was_written() {
        let stage = Stage {
            placement: Placement::Foreground,
            cage: Cage::Writes(vec!["/bot".into(), "/state dir".into()]),
            parent_death_signal: 9,
            oom_score_above: 200,
            directory: Some("/bot".into()),
            command: vec!["python3".into(), "--".into(), "-u".into()],
        };
        let args = stage.to_args();
        assert_eq!(args[0], "exec");
        assert_eq!(Stage::from_args(args.into_iter().skip(1)), Ok(stage));
    }

    #[test]
    fn a_stage_without_a_command_is_refused() {
        assert!(Stage::from_args(["--cage", "open"].map(OsString::from)).is_err());
        assert!(Stage::from_args(["--cage"].map(OsString::from)).is_err());
    }
}
