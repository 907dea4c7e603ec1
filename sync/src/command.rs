//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::settings::Entry;
use crate::state::order::{self, Order};

const HELP: &str = "\
Moves a bot's code, state and logs between its disk and the object store.

Usage:
  sync fetch [--keys-from-stdin]   bring code and state to the disk, then end
  sync watch [--keys-from-stdin]   keep the store up to date with the disk until TERM
  sync state COMMAND ..            look at the states in the store and replace the current one:
                                   ls, get, put, restore, diff; see sync state --help
  sync result FILE KEY             put the result of a one-shot question into the bucket of these
  sync unpack ARCHIVE DIR          unpack a zip, tar.gz or tar into DIR, confined to it
  sync --help | --version

What others start instead of our supervisor (its words `daemon init` and `daemon sync`) may add:
  --any-entrypoint                 RUNTIME and ENTRYPOINT need not be set; fetch then makes every
                                   program in the code executable
  --until-saved                    watch tries the last push after TERM until it is done: whoever
                                   sent the signal says how long, by killing it (Kubernetes)
  --until-done                     watch ends by itself after the push that follows a run's end
  --readiness-port N               watch answers 200 to any request on this port

The bot, its folders and the store are told by environment variables:
  BOT_ID RUNTIME ENTRYPOINT         the bot (required)
  CODE_FILE                         the code's key in the store; empty: the code is there
  CODE_PATH STATE_PATH LOGS_PATH    folders (/bot /state /var/the0/logs)
  THE0_VAR_PATH                     what the programs tell each other (/var/the0)
  THE0_STORE                        the folder of the directory store, or
  MINIO_ENDPOINT MINIO_USE_SSL MINIO_REGION THE0_CA_FILE
                                    host:port of an S3 store, true for TLS, its region
                                    (us-east-1), a PEM file of authorities to trust besides
  MINIO_ACCESS_KEY MINIO_SECRET_KEY MINIO_SESSION_TOKEN
                                    its keys, unless they come from standard input, or from
  THE0_KEYS_FILE                    a file: a JSON object of these names, read again at each use;
                                    not for a container the bot is in, too
  MINIO_CODE_BUCKET MINIO_STATE_BUCKET MINIO_LOGS_BUCKET
                                    buckets (custom-bots bot-state bot-logs)
  MINIO_QUERY_RESULTS_BUCKET        the same of results (query-results)
  THE0_STATE                        off: no state is brought or saved; read: it is brought, and
                                    neither claimed nor saved
  THE0_RESULT                       bytes that CODE_PATH/result.json may have, which watch puts beside
                                    the state, as .the0/result.json, when the run has ended
  MAX_STATE_SIZE_MB                 largest state (8192)
  MAX_STATE_FILE_SIZE_MB            largest file of a state (none)
  THE0_MAX_UNPACKED_MB THE0_MAX_UNPACKED_ENTRIES THE0_MAX_UNPACKED_RATIO
                                    largest code (1024, 100000, 1000)
  THE0_MAX_DAY_LOG_MB               largest log of a day (256)
  THE0_MAX_CODE_MB                  most that the code's folder may take while the bot runs (2048)
  THE0_FETCH_DEADLINE               how long fetch goes on trying (60s)
  THE0_DRAIN                        how long watch waits for the bot's end after TERM, and tries the
                                    last push (20s)
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Print this.
    Say(String),
    /// `sync fetch`.
    Fetch(Keys, Entry),
    /// `sync watch`.
    Watch(Watching),
    /// `sync state`.
    State(Order, Keys),
    /// `sync result`.
    Result {
        /// Where the store's keys come from.
        keys: Keys,
        /// The result.
        file: PathBuf,
        /// Where it goes.
        key: String,
    },
    /// `sync unpack`.
    Unpack {
        /// The archive's file.
        archive: PathBuf,
        /// The folder to fill.
        folder: PathBuf,
    },
}

/// Where the store's keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// The environment, if the store needs some.
    None,
    /// Lines of JSON on standard input.
    FromStdin,
}

/// How `sync watch` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watching {
    /// Where its keys come from.
    pub keys: Keys,
    /// Whether the bot's program must be told.
    pub entry: Entry,
    /// When it ends.
    pub until: Until,
    /// How long it tries the last push.
    pub patience: Patience,
    /// Where it says that it is up.
    pub readiness: Option<u16>,
}

/// How long `sync watch` tries the last push after TERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as it waits for the bot's end.
    Drain,
    /// Until it is done.
    Endless,
}

/// When `sync watch` ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Not before TERM.
    Term,
    /// After the push that follows the end of a run.
    Done,
}

impl Command {
    /// Reads the arguments after the program's name.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        let mut parser = lexopt::Parser::from_args(args);
        let mut words = Vec::new();
        let mut told = Watching {
            keys: Keys::None,
            entry: Entry::Told,
            until: Until::Term,
            patience: Patience::Drain,
            readiness: None,
        };
        while let Some(arg) = parser.next()? {
            match arg {
                Short('h') | Long("help") => return Ok(Self::Say(HELP.to_owned())),
                Short('V') | Long("version") => {
                    return Ok(Self::Say(format!("sync {}\n", env!("CARGO_PKG_VERSION"))));
                }
                Long("keys-from-stdin") => told.keys = Keys::FromStdin,
                Long("any-entrypoint") => told.entry = Entry::Any,
                Long("until-done") => told.until = Until::Done,
                Long("until-saved") => told.patience = Patience::Endless,
                Long("readiness-port") => told.readiness = Some(parser.value()?.parse()?),
                Value(word) if words.is_empty() && word == "state" => {
                    return order::parse(parser, told.keys);
                }
                Value(word) => words.push(word),
                other => return Err(other.unexpected()),
            }
        }
        Self::of(words, told)
    }

    /// The command of these words, if the options go with it.
    fn of(words: Vec<OsString>, told: Watching) -> Result<Self, lexopt::Error> {
        let plain = Watching {
            keys: told.keys,
            entry: told.entry,
            until: Until::Term,
            patience: Patience::Drain,
            readiness: None,
        };
        let mut words = words.into_iter();
        let verb = words.next().unwrap_or_default();
        let rest = [words.next(), words.next(), words.next()];
        match (verb.to_str(), rest) {
            (Some("watch"), [None, ..]) => Ok(Self::Watch(told)),
            (Some("fetch" | "unpack"), _) if told != plain => {
                Err("--until-done, --until-saved and --readiness-port go with watch".into())
            }
            (Some("fetch"), [None, ..]) => Ok(Self::Fetch(told.keys, told.entry)),
            (Some("unpack"), [Some(archive), Some(folder), None])
                if (told.keys, told.entry) == (Keys::None, Entry::Told) =>
            {
                Ok(Self::Unpack {
                    archive: archive.into(),
                    folder: folder.into(),
                })
            }
            (Some("result"), [Some(file), Some(key), None])
                if told == plain && told.entry == Entry::Told =>
            {
                Ok(Self::Result {
                    keys: told.keys,
                    file: file.into(),
                    key: key.into_string()?,
                })
            }
            (Some("result"), _) => Err("result takes a file and a key".into()),
            (Some("unpack"), _) => Err("unpack takes an archive and a folder".into()),
            (Some("fetch" | "watch"), _) => Err("fetch and watch take no words".into()),
            (Some(""), _) => Err("no command given".into()),
            _ => Err(format!("unknown command {}", verb.display()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood_or_refused() {
        let parse = |line: &str| Command::parse(line.split_whitespace().map(OsString::from));
        assert_eq!(
            parse("fetch").unwrap(),
            Command::Fetch(Keys::None, Entry::Told)
        );
        let plain = Watching {
            keys: Keys::FromStdin,
            entry: Entry::Told,
            until: Until::Term,
            patience: Patience::Drain,
            readiness: None,
        };
        assert_eq!(
            parse("watch --keys-from-stdin").unwrap(),
            Command::Watch(plain)
        );
        let others = Watching {
            keys: Keys::None,
            entry: Entry::Any,
            until: Until::Done,
            patience: Patience::Endless,
            readiness: Some(8081),
        };
        assert_eq!(
            parse("watch --any-entrypoint --until-done --until-saved --readiness-port 8081")
                .unwrap(),
            Command::Watch(others)
        );
        let unpack = Command::Unpack {
            archive: "a".into(),
            folder: "d".into(),
        };
        assert_eq!(parse("unpack a d").unwrap(), unpack);
        for bad in [
            "",
            "fetch x",
            "unpack a",
            "unpack a b c",
            "push",
            "watch --keys",
            "fetch --until-done",
            "fetch --until-saved",
            "watch --readiness-port x",
            "unpack a d --any-entrypoint",
            "result a",
            "result a b c",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
