//! The seven runtimes and the command each starts a bot with.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a bot is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Runtime {
    /// CPython 3.11.
    #[serde(rename = "python3.11")]
    Python,
    /// Node.js 20.
    #[serde(rename = "nodejs20")]
    Node,
    /// A program built with Rust.
    #[serde(rename = "rust-stable")]
    Rust,
    /// A program built with gcc.
    #[serde(rename = "gcc13")]
    Gcc,
    /// The same under the name of older documents.
    #[serde(rename = "cpp-gcc13")]
    CppGcc,
    /// .NET 8.
    #[serde(rename = "dotnet8")]
    Dotnet,
    /// Scala 3 on a JVM.
    #[serde(rename = "scala3")]
    Scala,
    /// A program built with GHC.
    #[serde(rename = "ghc96")]
    Haskell,
}

/// The runtime's name is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown runtime {0:?}: use one of {names}", names = Runtime::names())]
pub struct UnknownRuntime(pub String);

/// Which of a bot's two programs is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The bot itself, started through the wrapper of its language where it has one.
    Bot,
    /// The program that answers questions; it is a whole program in every language.
    Query,
}

impl Runtime {
    /// Every runtime, in the order of the documentation.
    pub const ALL: [Runtime; 8] = [
        Runtime::Python,
        Runtime::Node,
        Runtime::Rust,
        Runtime::Gcc,
        Runtime::CppGcc,
        Runtime::Dotnet,
        Runtime::Scala,
        Runtime::Haskell,
    ];

    /// The name the platform's documents use.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Python => "python3.11",
            Runtime::Node => "nodejs20",
            Runtime::Rust => "rust-stable",
            Runtime::Gcc => "gcc13",
            Runtime::CppGcc => "cpp-gcc13",
            Runtime::Dotnet => "dotnet8",
            Runtime::Scala => "scala3",
            Runtime::Haskell => "ghc96",
        }
    }

    /// All names, separated by spaces.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(" ")
    }

    /// The interpreter that must be on `PATH`; `None` where the entrypoint itself is executed.
    pub fn interpreter(self) -> Option<&'static str> {
        match self {
            Runtime::Python => Some("python3"),
            Runtime::Node => Some("node"),
            Runtime::Dotnet => Some("dotnet"),
            Runtime::Scala => Some("java"),
            Runtime::Rust | Runtime::Gcc | Runtime::CppGcc | Runtime::Haskell => None,
        }
    }

    /// Whether the entrypoint is a native executable, which gets its execute bit after unpacking.
    pub fn is_native(self) -> bool {
        self.interpreter().is_none()
    }

    /// The file name of the wrapper in the folder of wrappers, for the languages that have one.
    pub fn wrapper(self) -> Option<&'static str> {
        match self {
            Runtime::Python => Some("python.py"),
            Runtime::Node => Some("node.mjs"),
            _ => None,
        }
    }

    /// The command line of `program` with the entrypoint `entry`; its working directory is `code`.
    pub fn command(
        self,
        program: Program,
        entry: &str,
        code: &Path,
        wrappers: &Path,
    ) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let Some(interpreter) = self.interpreter() else {
            return vec![text(&code.join(entry))];
        };
        let mut argv = vec![interpreter.to_owned()];
        match (self, program, self.wrapper()) {
            (_, Program::Bot, Some(wrapper)) => argv.push(text(&wrappers.join(wrapper))),
            (Runtime::Scala, ..) => match entry.split_once(".jar:") {
                Some((jar, main)) => {
                    argv.extend([
                        "-cp".into(),
                        text(&code.join(format!("{jar}.jar"))),
                        main.into(),
                    ]);
                }
                None => argv.extend(["-jar".into(), text(&code.join(entry))]),
            },
            _ => argv.push(text(&code.join(entry))),
        }
        argv
    }

    /// The file in the code that `entry` names (a Scala entry may carry a class name after the file).
    pub fn entry_file(self, entry: &str) -> String {
        match (self, entry.split_once(".jar:")) {
            (Runtime::Scala, Some((jar, _))) => format!("{jar}.jar"),
            _ => entry.to_owned(),
        }
    }
}

impl FromStr for Runtime {
    type Err = UnknownRuntime;

    fn from_str(name: &str) -> Result<Self, UnknownRuntime> {
        Self::ALL
            .into_iter()
            .find(|r| r.name() == name)
            .ok_or_else(|| UnknownRuntime(name.to_owned()))
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(runtime: Runtime, program: Program, entry: &str) -> String {
        runtime
            .command(program, entry, Path::new("/bot"), Path::new("/w"))
            .join(" ")
    }

    #[test]
    fn each_runtime_has_the_command_of_the_contract() {
        use Program::{Bot, Query};
        assert_eq!(
            line(Runtime::Python, Bot, "main.py"),
            "python3 /w/python.py"
        );
        assert_eq!(
            line(Runtime::Python, Query, "query.py"),
            "python3 /bot/query.py"
        );
        assert_eq!(line(Runtime::Node, Bot, "main.js"), "node /w/node.mjs");
        assert_eq!(line(Runtime::Node, Query, "q.js"), "node /bot/q.js");
        assert_eq!(line(Runtime::Dotnet, Bot, "Bot.dll"), "dotnet /bot/Bot.dll");
        assert_eq!(line(Runtime::Gcc, Bot, "build/bot"), "/bot/build/bot");
        assert_eq!(
            line(Runtime::Scala, Bot, "bot.jar"),
            "java -jar /bot/bot.jar"
        );
        assert_eq!(
            line(Runtime::Scala, Bot, "bot.jar:app.Main"),
            "java -cp /bot/bot.jar app.Main"
        );
        assert_eq!(
            Runtime::Scala.entry_file("lib/bot.jar:app.Main"),
            "lib/bot.jar"
        );
    }

    #[test]
    fn an_unknown_runtime_is_told_the_known_ones() {
        let text = "python2".parse::<Runtime>().unwrap_err().to_string();
        assert!(
            text.contains("python2") && text.contains("python3.11 nodejs20"),
            "{text}"
        );
    }
}
