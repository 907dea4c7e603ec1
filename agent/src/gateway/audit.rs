//! A line per question, made and written a moment later: whoever asks does not wait for it, and each line would wake the
//! console's thread, which on a machine of few processors takes the next question's place. Lines of one moment wake it once.
//!
//! None is missed where the console is slower than the questions: they wait for it, up to [`MOST`] of them.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::BotId;
use hyper::StatusCode;
use tokio::time::{Instant, sleep};

use super::dispatch::Kind;
use crate::show::Console;

/// How long a line waits for others.
const MOMENT: Duration = Duration::from_millis(20);
/// Lines that may wait; of more than these the oldest are left to the console, which counts those that it has no room for.
const MOST: usize = 65_536;
/// How long the last ones wait at the end.
const LAST: Duration = Duration::from_secs(1);
/// Characters of a text from outside that are shown.
const SHOWN: usize = 100;

/// Where lines wait; clones are the same place.
#[derive(Debug, Clone)]
pub struct Audit {
    console: Console,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Line>,
    /// Whether a task writes them.
    is_tended: bool,
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

    /// Takes a line; it is written after [`MOMENT`], or when there is room for it.
    pub fn note(&self, line: Line) {
        let mut waiting = self.waiting();
        waiting.lines.push_back(line);
        let oldest = (waiting.lines.len() > MOST).then(|| waiting.lines.pop_front());
        let is_first = !mem::replace(&mut waiting.is_tended, true);
        drop(waiting);
        for line in oldest.into_iter().flatten() {
            self.console.say(&line.to_string());
        }
        if is_first {
            let audit = self.clone();
            tokio::spawn(async move {
                sleep(MOMENT).await;
                while !audit.write() {
                    sleep(MOMENT).await;
                }
            });
        }
    }

    /// Waits until all is written, or for [`LAST`]: what the console has not taken by then it counts.
    pub async fn flush(&self) {
        let end = Instant::now() + LAST;
        while self.waiting().is_tended && Instant::now() < end {
            sleep(MOMENT).await;
        }
        for line in mem::take(&mut self.waiting().lines) {
            self.console.say(&line.to_string());
        }
    }

    /// Writes what there is room for; whether that is all.
    fn write(&self) -> bool {
        loop {
            let mut waiting = self.waiting();
            let Some(line) = waiting.lines.pop_front() else {
                waiting.is_tended = false;
                return true;
            };
            if !self.console.says(&line.to_string()) {
                waiting.lines.push_front(line);
                return false;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Colours;
    use crate::show::tests::Screen;

    fn line(number: usize) -> Line {
        Line {
            who: Who {
                name: None,
                address: "127.0.0.1".parse().unwrap(),
            },
            bot: number.to_string(),
            path: "/x".to_owned(),
            asked: None,
            status: StatusCode::OK,
            took: Duration::ZERO,
        }
    }

    /// The numbers of the lines on the screen, in their order.
    fn shown(screen: &Screen) -> Vec<usize> {
        let text = screen.text();
        let numbers = text.lines().map(|line| line.split('"').nth(1));
        numbers.flatten().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn a_screen_that_stands_still_for_a_while_misses_none_and_gets_them_in_their_order() {
        const LINES: usize = 20_000;
        let screen = Screen::default();
        let console = Console::open(screen.clone(), Colours::Off).unwrap();
        let audit = Audit::new(console.clone());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let stuck = screen.0.lock().unwrap();
            (0..LINES).for_each(|number| audit.note(line(number)));
            // Longer than the console has room for what comes at once.
            std::thread::sleep(MOMENT * 5);
            drop(stuck);
            audit.flush().await;
        });
        console.flush();
        let shown = shown(&screen);
        assert!(shown.iter().copied().eq(0..LINES), "{}", shown.len());
    }

    #[test]
    fn one_that_never_moves_again_makes_nobody_wait_and_what_is_kept_for_it_has_an_end() {
        let screen = Screen::default();
        let console = Console::open(screen.clone(), Colours::Off).unwrap();
        let audit = Audit::new(console.clone());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stuck = screen.0.lock().unwrap();
        runtime.block_on(async {
            (0..MOST * 2).for_each(|number| audit.note(line(number)));
            assert!(audit.waiting().lines.len() <= MOST);
            let flushed = tokio::time::timeout(LAST * 5, audit.flush());
            flushed.await.expect("an end of it");
            assert!(audit.waiting().lines.is_empty());
        });
        drop(stuck);
        console.flush();
        console.say("the last");
        console.flush();
        let text = screen.text();
        assert!(text.contains("lines were too fast"), "{}", text.len());
    }

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
