//! `agent state`: finds the bot and lets `sync state` do the work, which alone knows how states are claimed and kept.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use contract::launch::Line;
use contract::{BotId, exit, vars};

use crate::commands;
use crate::failure::Failure;
use crate::launch::Host;
use crate::output::Format;
use crate::place;

/// What is done with a bot's states.
#[derive(Debug, Subcommand)]
pub enum State {
    /// List the current state and the older ones that are kept
    Ls {
        /// The bot
        bot: String,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Get a state as a tar.gz, verified: `get BOT FILE`, or `get BOT STATE FILE` for an older one
    Get {
        /// The bot
        bot: String,
        /// [STATE] FILE; a file `-` is standard output
        #[arg(required = true, num_args = 1..=2, value_name = "STATE_AND_FILE")]
        words: Vec<String>,
        /// As it is, also a corrupt one
        #[arg(long)]
        unchecked: bool,
    },
    /// Put an archive or a folder in place of the current state, which is kept
    Put {
        /// The bot
        bot: String,
        /// A tar.gz, tar or zip, or a folder
        from: PathBuf,
    },
    /// Make an older state the current one again; the one it replaces is kept
    Restore {
        /// The bot
        bot: String,
        /// A name as `ls` shows it, its beginning, or a time: the newest state kept until then
        state: String,
    },
    /// Show what was added, removed and changed between two states
    Diff {
        /// The bot
        bot: String,
        /// Two states [default: the newest kept one and `current`]; `local` is the bot's folder
        #[arg(num_args = 0..=2, value_name = "STATE")]
        states: Vec<String>,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
}

impl State {
    fn bot(&self) -> &str {
        match self {
            Self::Ls { bot, .. }
            | Self::Get { bot, .. }
            | Self::Put { bot, .. }
            | Self::Restore { bot, .. }
            | Self::Diff { bot, .. } => bot,
        }
    }

    /// The words and options after `sync state`.
    fn arguments(&self) -> Vec<String> {
        let mut options = Vec::new();
        let mut words: Vec<String> = Vec::new();
        match self {
            Self::Ls { output, .. } => {
                options.push(form(*output));
                words.push("ls".into());
            }
            Self::Get {
                words: given,
                unchecked,
                ..
            } => {
                options.extend(unchecked.then(|| "--unchecked".to_owned()));
                words.push("get".into());
                words.extend(given.iter().cloned());
            }
            Self::Put { from, .. } => words.extend(["put".into(), from.display().to_string()]),
            Self::Restore { state, .. } => words.extend(["restore".into(), state.clone()]),
            Self::Diff { states, output, .. } => {
                options.push(form(*output));
                words.push("diff".into());
                words.extend(states.iter().cloned());
            }
        }
        options.push("--".to_owned());
        options.extend(words);
        options
    }
}

fn form(format: Format) -> String {
    match format {
        Format::Table => "--output=table".to_owned(),
        Format::Json => "--output=json".to_owned(),
    }
}

/// Does it.
///
/// # Errors
/// The bot is not known, or [`Failure::Told`] when `sync` has said why.
pub fn run(state: &State, data: &Path) -> Result<()> {
    let data = std::path::absolute(data)?;
    let bot = commands::find(&data, state.bot())?;
    let host = place::host_beside_agent(&data)?;
    let sync = program()?;
    let child = start(&sync, state, &bot, &host).with_context(|| sync.display().to_string())?;
    finish(child, &host)
}

/// Where `sync` is: beside the agent.
///
/// # Errors
/// It is not there.
pub fn program() -> Result<PathBuf> {
    let me = std::env::current_exe().context("the agent's own path")?;
    let sync = me.with_file_name("sync");
    if !sync.is_file() {
        bail!("{} is not there: run `make build`", sync.display());
    }
    Ok(sync)
}

fn start(sync: &Path, state: &State, bot: &BotId, host: &Host) -> std::io::Result<Child> {
    let mut command = command(sync, bot, host);
    command.args(["state", "--keys-from-stdin"]);
    command.args(state.arguments()).spawn()
}

/// `sync` for this bot, which waits for its keys on standard input if it is told `--keys-from-stdin`.
pub fn command(sync: &Path, bot: &BotId, host: &Host) -> Command {
    let paths = host.paths(bot);
    let mut command = Command::new(sync);
    command
        .env_clear()
        .envs(&host.environment)
        .envs(host.store.variables())
        .env(vars::BOT_ID, bot.as_str())
        .env(vars::STATE_PATH, &paths.state)
        .stdin(Stdio::piped());
    command
}

/// Hands it the keys.
///
/// # Errors
/// Never for what it does with them: one that has ended already tells why by its code.
pub fn hand_over(child: &mut Child, host: &Host) -> Result<()> {
    let line = Line::Keys {
        v: Line::VERSION,
        keys: host.store.keys(),
    };
    let line = serde_json::to_string(&line)? + "\n";
    if let Some(mut stdin) = child.stdin.take().filter(|_| !host.store.keys().is_empty()) {
        let _ = stdin.write_all(line.as_bytes());
    }
    Ok(())
}

/// Hands it the keys and waits for its end.
fn finish(mut child: Child, host: &Host) -> Result<()> {
    hand_over(&mut child, host)?;
    let status = child.wait().context("sync")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::Told(u8::try_from(code).unwrap_or(exit::INTERNAL)).into()),
        None => bail!("sync was ended by a signal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sync_is_asked_is_what_was_asked() {
        let get = State::Get {
            bot: "b".into(),
            words: vec!["current".into(), "-".into()],
            unchecked: true,
        };
        assert_eq!(
            get.arguments(),
            ["--unchecked", "--", "get", "current", "-"]
        );
        let put = State::Put {
            bot: "b".into(),
            from: "-odd name".into(),
        };
        assert_eq!(put.arguments(), ["--", "put", "-odd name"]);
        let diff = State::Diff {
            bot: "b".into(),
            states: vec!["local".into()],
            output: Format::Json,
        };
        assert_eq!(diff.arguments(), ["--output=json", "--", "diff", "local"]);
    }
}
