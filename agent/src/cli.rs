//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::failure::EXIT_CODES;
use crate::logs::Tail;
use crate::output::Format;
use crate::{backup, cron, days, deploy, dev, doctor, host, jobs, state};

/// Runs trading bots: starts them, restarts them, keeps their state and their logs, and answers for them
#[derive(Debug, Parser)]
#[command(name = "agent", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// The folder in which the agent keeps everything
    #[arg(
        long,
        global = true,
        env = "THE0_DATA",
        default_value = "./data",
        value_name = "DIR"
    )]
    pub data: PathBuf,
    /// Ask the agent with this API instead of the one of the data folder, as in http://127.0.0.1:9478
    #[arg(
        long,
        global = true,
        env = "THE0_HOST",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub host: Option<String>,
    /// The file whose first line is the token for --host
    #[arg(
        long,
        global = true,
        env = "THE0_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub token_file: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the bots of a folder in the foreground, until Ctrl-C
    Dev(dev::Options),
    /// Run bots as containers of this host; they run on when this ends
    #[command(visible_aliases = ["bot-runner", "bot-scheduler"])]
    Run(host::Options),
    /// Run bots as Pods of a Kubernetes namespace; they run on when this ends
    Controller(Box<host::cluster::Options>),
    /// Only answer questions about the bots of this host, which another agent runs (the platform's word)
    QueryServer(host::Options),
    /// Show how the bots are
    Ps {
        /// The form of the answer
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Show why a bot's runs were started, how they ended and what they lost; newest last
    History {
        /// The bot
        bot: String,
        /// How many of the latest
        #[arg(short = 'n', long, default_value = "20", value_name = "RUNS")]
        count: usize,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Show a bot's log
    Logs {
        /// The bot: name, id, or the beginning of one
        bot: String,
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
        /// How many of the last lines; `all` for all on this machine
        #[arg(short = 'n', long, default_value = "100", value_name = "LINES", value_parser = tail)]
        tail: Tail,
        /// Show when each line was written
        #[arg(short, long)]
        timestamps: bool,
        /// That day's log as the store has it, in UTC; the last 512 KiB of it
        #[arg(long, value_name = "YYYY-MM-DD", value_parser = days::day, conflicts_with = "follow")]
        day: Option<String>,
    },
    /// Ask a bot a question
    Query {
        /// The bot
        bot: String,
        /// The path, as in /prices
        path: String,
        /// Parameters; a value that is JSON is sent as such
        #[arg(value_name = "KEY=VALUE", value_parser = parameter)]
        params: Vec<(String, serde_json::Value)>,
        /// How long the answer may take
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
        timeout: Duration,
        /// `json` prints the gateway's whole answer, errors too
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Let bots run again
    Start {
        /// The bots
        #[arg(required_unless_present = "all")]
        bots: Vec<String>,
        /// Let all run that should, after `stop --all` or `drain`
        #[arg(long, conflicts_with = "bots")]
        all: bool,
    },
    /// Stop bots; remembered until they are started again
    Stop {
        /// The bots
        #[arg(required_unless_present = "all")]
        bots: Vec<String>,
        /// Stop all, and start none, new ones neither, until `start --all`
        #[arg(long, conflicts_with = "bots")]
        all: bool,
    },
    /// Stop all bots, wait for the last, and tell what is not in the store
    Drain {
        /// How long it is waited
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Start bots anew whose containers have another image or other settings than they would get now
    Roll {
        /// How many may be away at once
        #[arg(long, value_name = "BOTS", default_value = "1")]
        max_unavailable: usize,
    },
    /// Remove containers and volumes that nobody needs: those of bots that have ended and are saved
    Gc {
        /// Of these bots only
        bots: Vec<String>,
        /// Also what is not in the store: it is lost
        #[arg(long, requires = "bots")]
        discard_state: bool,
    },
    /// Stop bots and start them anew
    Restart {
        /// The bots
        #[arg(required = true)]
        bots: Vec<String>,
    },
    /// Look at run-to-end jobs (backtests), cancel one, or run a folder's program once by hand
    Job {
        /// What to do
        #[command(subcommand)]
        command: jobs::commands::Job,
    },
    /// Look at a bot's states in the store, and replace the current one
    State {
        /// What to do
        #[command(subcommand)]
        command: state::State,
    },
    /// Say when a schedule's expression is due, look at schedules, and run one now
    Cron {
        /// What to do
        #[command(subcommand)]
        command: cron::Cron,
    },
    /// Write everything of a stack into one file, while bots run
    Backup(backup::Options),
    /// Put everything of a backup back, where nothing else is
    Restore(backup::RestoreOptions),
    /// Look at everything that `agent run` needs, with its settings, and say what to do
    Doctor(doctor::Options),
    /// Confirm that bots that are missing were removed on purpose
    Confirm,
    /// Pack a bot's folder and register it
    Deploy(deploy::Options),
    /// Take a registered bot away
    Undeploy {
        /// The bot
        bot: String,
    },
    /// Print what a shell needs to complete this program's commands
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the version
    Version,
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        number => number
            .parse()
            .map(Tail::Lines)
            .map_err(|_| "give a number, or all".into()),
    }
}

fn parameter(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("give it as KEY=VALUE")?;
    if name.is_empty() {
        return Err("give it as KEY=VALUE".into());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use serde_json::json;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_is_the_one_promised() {
        let mut command = Cli::command().term_width(100);
        let mut text = command.render_help().to_string();
        for name in [
            "dev",
            "run",
            "controller",
            "logs",
            "history",
            "query",
            "stop",
            "drain",
            "roll",
            "gc",
            "doctor",
            "backup",
            "restore",
            "deploy",
            "state get",
            "state diff",
            "cron next",
            "cron run",
            "job ls",
            "job run",
        ] {
            let mut sub = &mut command;
            for word in name.split(' ') {
                sub = sub.find_subcommand_mut(word).unwrap();
            }
            text += "\n--- ";
            text += name;
            text += "\n";
            text += &sub.render_help().to_string();
        }
        // The variable's value of whoever runs the test is not part of the promise.
        let text = without_environment(&text);
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/help.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(golden).unwrap());
    }

    fn without_environment(text: &str) -> String {
        let mut out = String::new();
        for line in text.lines() {
            let line = match line.split_once("[env: THE0_DATA=") {
                Some((head, tail)) => {
                    let rest = tail.split_once(']').map_or("", |(_, rest)| rest);
                    format!("{head}[env: THE0_DATA=]{rest}")
                }
                None => line.to_owned(),
            };
            out += line.trim_end();
            out += "\n";
        }
        out
    }

    #[test]
    fn a_number_of_lines_or_all_is_asked_for() {
        assert_eq!(tail("all"), Ok(Tail::All));
        assert_eq!(tail("0"), Ok(Tail::Lines(0)));
        assert!(tail("x").is_err() && tail("-1").is_err() && tail("").is_err());
    }

    #[test]
    fn a_parameter_is_typed_when_it_is_json() {
        assert_eq!(parameter("limit=5"), Ok(("limit".into(), json!(5))));
        assert_eq!(
            parameter("symbol=BTC/USD"),
            Ok(("symbol".into(), json!("BTC/USD")))
        );
        assert_eq!(
            parameter("f={\"a\":[1]}"),
            Ok(("f".into(), json!({"a": [1]})))
        );
        assert_eq!(parameter("e="), Ok(("e".into(), json!(""))));
        assert!(parameter("x").is_err() && parameter("=x").is_err());
    }
}
