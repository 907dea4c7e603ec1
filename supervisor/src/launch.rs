//! Where the launch comes from: the environment, or lines of JSON on standard input.
//!
//! A document's variables win over the environment's, so what an image sets (PATH, TZ, the folder of the wrappers)
//! need not be repeated in it. Nothing read here is ever printed.

use std::io;
use std::time::Duration;

use contract::launch::{Keys, Line, Variables};
use contract::vars;
use nix::unistd;
use thiserror::Error;

/// How long the first line may take, unless `THE0_LAUNCH_WITHIN` says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest line, in bytes: a configuration at the kernel's limit with every byte escaped fits.
const LONGEST: usize = 2 << 20;

/// No launch can be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadDocument {
    /// Nobody wrote.
    #[error("no launch document came on standard input within {} s: start this container through the agent, or unset THE0_LAUNCH", .0.as_secs())]
    Late(Duration),
    /// Somebody closed.
    #[error(
        "standard input ended before a launch document came: keep it open (docker run -i), or unset THE0_LAUNCH"
    )]
    Ended,
    /// Too much.
    #[error("the launch document's line is longer than {} bytes", LONGEST)]
    TooLong,
    /// Not JSON, or not ours.
    #[error(
        "the launch document is not understood (line {line}, column {column}): its first line must be {{\"type\":\"launch\",\"v\":1,\"env\":{{..}}}}"
    )]
    NotUnderstood {
        /// Line of the text.
        line: usize,
        /// Column.
        column: usize,
    },
    /// Of another time.
    #[error("the launch document has version {0} and this supervisor reads version {ours}: use images of the agent's release", ours = Line::VERSION)]
    Version(u32),
    /// Keys before the launch.
    #[error("the launch document begins with keys: its first line must be the launch")]
    KeysFirst,
    /// The input fails.
    #[error("standard input cannot be read: {0}")]
    Input(String),
}

/// Our environment, without what is not text.
pub fn environment() -> Variables {
    let pairs = std::env::vars_os();
    pairs
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Whether the launch is a document on standard input.
pub fn is_document(env: &Variables) -> bool {
    env.get(vars::THE0_LAUNCH)
        .is_some_and(|value| value == "stdin")
}

/// How long the first line may take.
pub fn patience(env: &Variables) -> Duration {
    let given = env.get(vars::THE0_LAUNCH_WITHIN);
    let given = given.and_then(|text| humantime::parse_duration(text).ok());
    given.unwrap_or(PATIENCE)
}

/// What a line says.
///
/// # Errors
/// It is not understood.
pub fn parse(line: &[u8]) -> Result<Line, BadDocument> {
    let parsed: Line = serde_json::from_slice(line).map_err(|err| BadDocument::NotUnderstood {
        line: err.line(),
        column: err.column(),
    })?;
    let (Line::Launch { v, .. } | Line::Keys { v, .. }) = &parsed;
    match *v {
        Line::VERSION => Ok(parsed),
        other => Err(BadDocument::Version(other)),
    }
}

/// The variables of a launch: those of the document over `env`.
///
/// # Errors
/// It is not a launch.
pub fn variables(first: &[u8], mut env: Variables) -> Result<Variables, BadDocument> {
    let Line::Launch { env: given, .. } = parse(first)? else {
        return Err(BadDocument::KeysFirst);
    };
    env.extend(
        given
            .into_iter()
            .map(|(name, value)| (name, value.reveal().to_owned())),
    );
    Ok(env)
}

/// Renewed keys, if the line has some.
///
/// # Errors
/// It is not understood, or is a second launch.
pub fn keys(line: &[u8]) -> Result<Keys, BadDocument> {
    match parse(line)? {
        Line::Keys { keys, .. } => Ok(keys),
        Line::Launch { .. } => Err(BadDocument::NotUnderstood { line: 1, column: 1 }),
    }
}

/// Lines out of what arrives on standard input.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    state: InputState,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum InputState {
    #[default]
    Open,
    Ended,
}

impl Input {
    /// Whether more can come.
    pub fn is_open(&self) -> bool {
        self.state == InputState::Open
    }

    /// Reads what is there; call it when there is something.
    ///
    /// # Errors
    /// The input fails, or a line has no end.
    pub fn read(&mut self) -> Result<(), BadDocument> {
        let mut buffer = [0; 16 << 10];
        match unistd::read(io::stdin(), &mut buffer).map_err(io::Error::from) {
            Ok(0) => self.state = InputState::Ended,
            Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Err(err) => {
                self.state = InputState::Ended;
                return Err(BadDocument::Input(err.to_string()));
            }
        }
        if self.bytes.len() > LONGEST {
            self.state = InputState::Ended;
            self.bytes = Vec::new();
            return Err(BadDocument::TooLong);
        }
        Ok(())
    }

    /// Takes the first whole line; at the end of input also one without its newline.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let end = match self.bytes.iter().position(|b| *b == b'\n') {
            Some(at) => at + 1,
            None if !self.is_open() && !self.bytes.is_empty() => self.bytes.len(),
            None => return None,
        };
        let rest = self.bytes.split_off(end);
        Some(std::mem::replace(&mut self.bytes, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_documents_variables_win() {
        let env = Variables::from([
            ("PATH".into(), "/bin".into()),
            ("BOT_ID".into(), "old".into()),
        ]);
        let read = variables(br#"{"type":"launch","v":1,"env":{"BOT_ID":"b1"}}"#, env).unwrap();
        assert_eq!(
            (read["PATH"].as_str(), read["BOT_ID"].as_str()),
            ("/bin", "b1")
        );
    }

    #[test]
    fn what_is_wrong_with_a_document_is_told_without_its_values() {
        let refuse = |text: &str| variables(text.as_bytes(), Variables::new()).unwrap_err();
        assert_eq!(
            refuse(r#"{"type":"launch","v":9,"env":{}}"#),
            BadDocument::Version(9)
        );
        assert_eq!(
            refuse(r#"{"type":"keys","v":1,"keys":{}}"#),
            BadDocument::KeysFirst
        );
        for text in [
            "hunter2",
            r#"{"type":"launch","v":1,"env":{"X":hunter2}}"#,
            r#"{"type":"hunter2"}"#,
            "",
        ] {
            let err = refuse(text);
            assert!(matches!(err, BadDocument::NotUnderstood { .. }), "{text}");
            assert!(!err.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn lines_come_whole_and_the_last_needs_no_newline() {
        let mut input = Input {
            bytes: b"one\ntwo\nthr".to_vec(),
            ..Input::default()
        };
        assert_eq!(input.line().as_deref(), Some(&b"one\n"[..]));
        assert_eq!(input.line().as_deref(), Some(&b"two\n"[..]));
        assert_eq!(input.line(), None);
        input.state = InputState::Ended;
        assert_eq!(input.line().as_deref(), Some(&b"thr"[..]));
        assert_eq!(input.line(), None);
    }
}
