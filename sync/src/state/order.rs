//! What `sync state` is asked to do.

use std::path::PathBuf;

use lexopt::prelude::*;

use crate::command::{Command, Keys};

const HELP: &str = "\
Looks at the states of a bot in the store, and replaces the current one.

Usage:
  sync state ls [-o json]               the current state and the older ones kept
  sync state get [STATE] FILE|-         one as a tar.gz, verified; - is standard output
  sync state put FILE|DIR               a tar.gz, tar or zip, or a folder, becomes the current one
  sync state restore STATE              an older one becomes the current one again
  sync state diff [STATE [STATE]] [-o json]
                                        what was added, removed and changed from one to another
                                        (the newest kept one and the current one)

A STATE is `current`, `local` (the folder STATE_PATH; diff only), a name as `ls` shows it or as
much of its beginning as only one has, or a time, as in 2026-11-21T08:21:00Z, which means the newest
one kept until then.

What put and restore replace is kept in the history. An instance that runs ends its bot gracefully
within about 15 s, keeps the bot's own state in the history, and starts the bot on the new one.

Options:
  --unchecked          get: as it is, also a corrupt one
  --keys-from-stdin    the store's keys come as a line on standard input
  -o, --output FORM    table or json

Only BOT_ID and what names the store must be set (`sync --help`). Larger states than TMPDIR has
room for need another TMPDIR: what is put or compared is unpacked there.

Exit codes: 113 no such state, or the store does not do it; 116 an archive is refused.
";

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Table,
    /// For a program.
    Json,
}

/// Where a state goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Out,
    /// A file, replaced whole.
    File(PathBuf),
}

/// Whether a state is given only if it could be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// It is.
    Verified,
    /// It is given as it is.
    AsItIs,
}

/// One thing to do. A state is told by a word that [`super::pick`] understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// `ls`.
    List(Format),
    /// `get`.
    Get(String, Target, Check),
    /// `put`.
    Put(PathBuf),
    /// `restore`.
    Restore(String),
    /// `diff`; `None` is the newest of the history.
    Diff(Option<String>, String, Format),
}

/// Reads what follows the word `state`.
pub fn parse(mut parser: lexopt::Parser, mut keys: Keys) -> Result<Command, lexopt::Error> {
    let (mut words, mut format, mut check) = (Vec::new(), None, Check::Verified);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Say(HELP.to_owned())),
            Long("keys-from-stdin") => keys = Keys::FromStdin,
            Long("unchecked") => check = Check::AsItIs,
            Short('o') | Long("output") => format = Some(form(&parser.value()?.string()?)?),
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let order = order(&words, format.unwrap_or(Format::Table), check)?;
    if format.is_some() && !matches!(order, Order::List(_) | Order::Diff(..)) {
        return Err("-o is for ls and diff".into());
    }
    if check == Check::AsItIs && !matches!(order, Order::Get(..)) {
        return Err("--unchecked is for get".into());
    }
    Ok(Command::State(order, keys))
}

fn form(text: &str) -> Result<Format, lexopt::Error> {
    match text {
        "table" => Ok(Format::Table),
        "json" => Ok(Format::Json),
        _ => Err("-o takes table or json".into()),
    }
}

fn order(words: &[&str], format: Format, check: Check) -> Result<Order, lexopt::Error> {
    let target = |word: &str| match word {
        "-" => Target::Out,
        path => Target::File(path.into()),
    };
    let diff =
        |from: Option<&str>, to: &str| Order::Diff(from.map(str::to_owned), to.to_owned(), format);
    Ok(match words {
        ["ls"] => Order::List(format),
        ["get", to] => Order::Get("current".to_owned(), target(to), check),
        ["get", state, to] => Order::Get((*state).to_owned(), target(to), check),
        ["put", from] => Order::Put(from.into()),
        ["restore", state] => Order::Restore((*state).to_owned()),
        ["diff"] => diff(None, "current"),
        ["diff", from] => diff(Some(from), "current"),
        ["diff", from, to] => diff(Some(from), to),
        [] => return Err("state: ls, get, put, restore or diff?".into()),
        ["get", ..] => return Err("state get takes a file, or a state and a file".into()),
        ["put", ..] => return Err("state put takes an archive or a folder".into()),
        ["restore", ..] => return Err("state restore takes one state".into()),
        ["ls", ..] => return Err("state ls takes no words".into()),
        ["diff", ..] => return Err("state diff takes at most two states".into()),
        [other, ..] => return Err(format!("unknown command state {other}").into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn read(line: &str) -> Result<Command, lexopt::Error> {
        Command::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn orders_are_understood_or_refused() {
        let order = |line: &str| match read(line) {
            Ok(Command::State(order, keys)) => (order, keys),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(order("state ls"), (Order::List(Format::Table), Keys::None));
        assert_eq!(
            order("--keys-from-stdin state ls -o json"),
            (Order::List(Format::Json), Keys::FromStdin)
        );
        let get = |word: &str, target, check| (Order::Get(word.into(), target, check), Keys::None);
        assert_eq!(
            order("state get -"),
            get("current", Target::Out, Check::Verified)
        );
        assert_eq!(
            order("state get 2026 f --unchecked"),
            get("2026", Target::File("f".into()), Check::AsItIs)
        );
        let diff = Order::Diff(Some("a".into()), "local".into(), Format::Table);
        assert_eq!(
            order("state diff a local --keys-from-stdin"),
            (diff, Keys::FromStdin)
        );
        for bad in [
            "state",
            "state ls x",
            "state get",
            "state put",
            "state put a b",
            "state restore",
            "state drop",
            "state diff a b c",
            "state put a -o json",
            "state ls -o xml",
            "state ls --unchecked",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
