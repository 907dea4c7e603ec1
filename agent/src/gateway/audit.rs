//! A line per question, made and written a moment later: whoever asks does not wait for it, and each line would wake the
//! console's thread, which on a machine of few processors takes the next question's place. Lines of one moment wake it once.

use std::fmt;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::BotId;
use hyper::StatusCode;
use tokio::time::sleep;

use super::dispatch::Kind;
use crate::show::Console;

/// How long a line waits for others.
const MOMENT: Duration = Duration::from_millis(20);
/// Characters of a text from outside that are shown.
const SHOWN: usize = 100;

/// Where lines wait; clones are the same place.
#[derive(Debug, Clone)]
pub struct Audit {
    console: Console,
    waiting: Arc<Mutex<Vec<Line>>>,
}

/// Who asked.
#[derive(Debug, Clone)]
pub struct Who {
    /// The name of the token, where one was needed.
    pub name: Option<String>,
    /// From where.
    pub address: IpAddr,
}

/// A question and what came of it, without its parameters.
#[derive(Debug)]
pub struct Line {
    /// Who asked.
    pub who: Who,
    /// The bot, as the asker calls it.
    pub bot: String,
    /// The path that was asked for.
    pub path: String,
    /// Which bot, and how, if it came so far.
    pub asked: Option<(BotId, Kind)>,
    /// What the answer's status is.
    pub status: StatusCode,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} at {}", self.address),
            None => self.address.fmt(f),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "question of {}: bot ", self.who)?;
        let how = self.asked.as_ref().map_or("", |(_, kind)| match kind {
            Kind::Live => ", live",
            Kind::Apart => ", in a container of its own",
        });
        match &self.asked {
            Some((bot, _)) => bot.fmt(f),
            None => write!(f, "{:?}", shortened(&self.bot)),
        }?;
        let path = self.path.split('?').next().unwrap_or_default();
        let (path, status) = (shortened(path), self.status.as_u16());
        write!(f, " {path:?}: {status}{how}, {} ms", self.took.as_millis())
    }
}

/// What is shown of a text from outside.
fn shortened(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

impl Audit {
    /// None yet.
    pub fn new(console: Console) -> Self {
        Self {
            console,
            waiting: Arc::default(),
        }
    }

    /// Takes a line; it is written after [`MOMENT`], or by [`Self::flush`].
    pub fn note(&self, line: Line) {
        let mut waiting = self.waiting();
        waiting.push(line);
        if waiting.len() == 1 {
            let audit = self.clone();
            tokio::spawn(async move {
                sleep(MOMENT).await;
                audit.flush();
            });
        }
    }

    /// Writes what waits.
    pub fn flush(&self) {
        let lines = mem::take(&mut *self.waiting());
        for line in lines {
            self.console.say(&line.to_string());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Line>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_asked_what_and_nothing_of_a_query_string() {
        let mut line = Line {
            who: Who {
                name: None,
                address: "127.0.0.1".parse().unwrap(),
            },
            bot: "b1".to_owned(),
            path: "/x?token=hidden".to_owned(),
            asked: Some(("b1".parse().unwrap(), Kind::Live)),
            status: StatusCode::OK,
            took: Duration::from_micros(2900),
        };
        let shown = "question of 127.0.0.1: bot b1 \"/x\": 200, live, 2 ms";
        assert_eq!(line.to_string(), shown);
        line.who.name = Some("some".to_owned());
        line.asked = None;
        line.bot = "\n".repeat(1000);
        let shown = line.to_string();
        let long = "\\n".repeat(SHOWN);
        assert_eq!(
            shown,
            format!("question of some at 127.0.0.1: bot \"{long}\" \"/x\": 200, 2 ms")
        );
    }
}
