//! Who changed what, and how it came out: a line of the agent's log for each request that changes something.
//!
//! Nothing that was sent gets into a line but names and the few words an order may have; and nobody who is not let in
//! can fill the log.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contract::BotId;

use super::guard::Asker;
use crate::show::Console;

/// How long a line that would say the same again is left out.
const PAUSE: Duration = Duration::from_secs(10);
/// Characters of what somebody else has chosen.
const WIDTH: usize = 300;

/// Where it is told; clones tell it in one place.
#[derive(Debug, Clone)]
pub struct Audit {
    console: Console,
    last: Arc<Mutex<Last>>,
}

#[derive(Debug, Default)]
struct Last {
    /// What was said of those who ask the same over and over.
    repeated: Option<(String, Instant)>,
    /// Why the tokens could not be used.
    unusable: Option<(String, Instant)>,
    /// When somebody was told of who was not let in, and how many were not since.
    denied: Option<(Instant, u64)>,
}

/// A request that was to change something.
#[derive(Debug)]
pub struct Deed<'a> {
    /// Who asked.
    pub asker: &'a Asker,
    /// What for.
    pub what: String,
    /// The bot it was about, where there is one.
    pub bot: Option<(BotId, String)>,
    /// How it came out.
    pub outcome: String,
    /// Whether it is one that is asked again and again until it is done.
    pub repeats: bool,
}

impl Audit {
    /// Tells it on `console`.
    pub fn new(console: Console) -> Self {
        let last = Arc::default();
        Self { console, last }
    }

    /// Tells what was asked.
    pub fn tell(&self, deed: &Deed<'_>) {
        let (asker, what, outcome) = (deed.asker, clipped(&deed.what), clipped(&deed.outcome));
        let text = format!("{what}, asked by {asker}: {outcome}");
        if deed.repeats && !is_news(&mut self.last().repeated, &text, Instant::now()) {
            return;
        }
        match &deed.bot {
            Some((id, name)) => self.console.about(id, name).say(&text),
            None => self.console.say(&text),
        }
    }

    /// Tells why nobody is let in.
    pub fn unusable(&self, why: &str) {
        if is_news(&mut self.last().unusable, why, Instant::now()) {
            self.console
                .warn(&format!("nobody is let in over the network: {why}"));
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that somebody was not let in; not of each, when there are many.
    pub fn denied(&self, from: Option<IpAddr>, asked: &str, why: &str) {
        let Some(before) = self.turn(Instant::now()) else {
            return;
        };
        let from = from.map_or_else(|| "the socket".to_owned(), |address| address.to_string());
        let more = match before {
            0 => String::new(),
            n => format!(" (and {n} more before)"),
        };
        let asked = clipped(asked);
        self.console
            .warn(&format!("refused {asked:?} from {from}: {why}{more}"));
    }

    /// How many were left out since the last time; `None`: this one is left out as well.
    fn turn(&self, now: Instant) -> Option<u64> {
        match &mut self.last().denied {
            Some((at, more)) if now - *at < PAUSE => {
                *more += 1;
                None
            }
            other => {
                let more = other.map_or(0, |(_, more)| more);
                *other = Some((now, 0));
                Some(more)
            }
        }
    }
}

/// Whether `text` was not said last, or some time ago; then it is now.
fn is_news(last: &mut Option<(String, Instant)>, text: &str, now: Instant) -> bool {
    let is_new = |(said, at): &(String, Instant)| said != text || now - *at > PAUSE;
    let news = last.as_ref().is_none_or(is_new);
    if news {
        *last = Some((text.to_owned(), now));
    }
    news
}

fn clipped(text: &str) -> String {
    text.chars().take(WIDTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Colours;

    #[test]
    fn many_who_are_not_let_in_are_a_line_in_ten_seconds_that_counts_them() {
        let console = Console::open(std::io::sink(), Colours::Off).unwrap();
        let audit = Audit::new(console);
        let start = Instant::now();
        assert_eq!(audit.turn(start), Some(0));
        assert_eq!(audit.turn(start + Duration::from_secs(1)), None);
        assert_eq!(audit.turn(start + Duration::from_secs(9)), None);
        assert_eq!(audit.turn(start + Duration::from_secs(10)), Some(2));
        assert_eq!(audit.turn(start + Duration::from_secs(30)), Some(0));
    }

    #[test]
    fn what_is_asked_again_with_the_same_outcome_is_told_once_in_a_while() {
        let start = Instant::now();
        let mut last = None;
        let mut told =
            |text, seconds| is_news(&mut last, text, start + Duration::from_secs(seconds));
        assert!(told("stop", 0) && !told("stop", 10));
        assert!(told("start", 10) && !told("start", 20) && told("start", 21));
    }
}
