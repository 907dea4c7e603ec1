//! History: a record of every run of every bot, that answers why it was started, how it ended and what was lost.
//!
//! ```text
//!   the loop: why is it started? ([`Track`]) ─▶ a label, or a file beside the bot
//!     │ ends, failed starts, the bots' files (in [`rounds`], and when somebody asks)
//!     ▼
//!   the [`scribe`], a thread of its own ─▶ [`make`]: records ─▶ [`book`]: beside the bots, or MongoDB
//!                                      └─▶ [`episodes`] ─▶ [`notices`]
//! ```
//!
//! It ensures: nothing here delays the loop; each run is one record, whoever is killed when; what cannot be written is
//! in the bots' volumes and is written later; what is kept is bounded by count and age.

mod alarm;
mod book;
pub mod cause;
mod entry;
mod episodes;
mod folder;
mod herald;
mod make;
mod mongo;
pub mod notices;
mod recent;
mod rounds;
mod scribe;
pub mod show;
mod track;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use contract::launch::Variables;
use contract::record::{Reason, Time};
use contract::{BotId, Paths, file};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot::Sender;

use alarm::{Alarm, Troubled};
pub use book::History;
pub use cause::{Birth, Start};
pub use entry::Entry;
use herald::Herald;
pub use herald::{Outlet, outcome};
pub use make::{End, Life};
use notices::{Logs, Post};
use rounds::Rounds;
pub use scribe::{Answer, Failed, Sight};
use scribe::{Scribe, Teller, Word};
pub use track::{Before, Last, Track, boot};

use crate::health::Board;
use crate::report::Records;
use crate::show::Console;

/// Records of a bot that are kept.
pub const KEPT: usize = 1000;
/// How long they are kept.
pub const AGE: Duration = Duration::from_hours(90 * 24);
/// How often a bot's files are read when nothing happens.
const INTERVAL: Duration = Duration::from_secs(300);
/// Ends that are held while another agent acts.
const HELD: usize = 256;
/// The file in a bot's folder that says why it was last started.
pub const START: &str = "start.json";

/// What of history the operator sets.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Notices.
    pub notices: notices::Settings,
    /// How often a bot's files are read.
    pub interval: Option<Duration>,
    /// Where runs are told of, if anywhere.
    pub outlet: Option<Outlet>,
    /// Where they are counted.
    pub board: Board,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn parse(given: &Variables) -> anyhow::Result<Self> {
        let interval = given.get("THE0_HISTORY_INTERVAL").map(|text| text.trim());
        let interval = interval.filter(|text| !text.is_empty());
        let interval = interval.map(humantime::parse_duration).transpose();
        Ok(Self {
            notices: notices::Settings::parse(given)?,
            interval: interval
                .map_err(|err| anyhow::anyhow!("THE0_HISTORY_INTERVAL is no duration: {err}"))?,
            ..Self::default()
        })
    }
}

/// What the loop knows of history.
#[derive(Debug)]
pub struct Watch {
    /// Why bots are started.
    pub track: Track,
    rounds: Rounds,
    words: UnboundedSender<Word>,
    troubled: Troubled,
    scribe: Option<std::thread::JoinHandle<()>>,
    there: BTreeSet<BotId>,
    held: BTreeMap<BotId, Sight>,
}

impl Watch {
    /// Starts the scribe.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn start(
        settings: &Settings,
        history: History,
        logs: Logs,
        data: &Path,
        console: &Console,
    ) -> io::Result<Self> {
        let (words, heard) = unbounded_channel();
        let troubled = Troubled::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (notices, memory) = (settings.notices.clone(), data.join("episodes.json"));
        let (shared, console) = (troubled.clone(), console.clone());
        let (outlet, board) = (settings.outlet.clone(), settings.board.clone());
        let work = move || {
            runtime.block_on(async move {
                let post = Post::open(&notices, logs, &console);
                let thresholds = notices.thresholds;
                let alarm = Alarm::new(post, thresholds, memory, shared, console.clone());
                let herald = outlet.map(|outlet| Herald::new(outlet, console.clone()));
                let teller = Teller { herald, board };
                let scribe = Scribe::new(history, alarm, teller, console);
                scribe.run(heard).await;
            });
        };
        let scribe = std::thread::Builder::new()
            .name("history".into())
            .spawn(work)?;
        Ok(Self {
            words,
            troubled,
            track: Track::default(),
            rounds: Rounds::new(settings.interval.unwrap_or(INTERVAL)),
            scribe: Some(scribe),
            there: BTreeSet::new(),
            held: BTreeMap::new(),
        })
    }

    /// The bots of `live`, each with when it was started, whose files are to be read now.
    pub fn due<'a>(
        &mut self,
        live: impl Iterator<Item = (&'a BotId, Time)>,
        now: Duration,
    ) -> Vec<BotId> {
        let troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        self.rounds.due(live, |bot| troubled.contains(bot), now)
    }

    /// Hands on what a bot's files say.
    pub fn seen(&self, sight: Sight) {
        let _ = self.words.send(Word::Seen(Box::new(sight)));
    }

    /// Keeps what a bot's files say until [`Self::release`]; the last word on each bot, and not of too many.
    pub fn hold(&mut self, sight: Sight) {
        if self.held.len() < HELD || self.held.contains_key(&sight.life.bot) {
            self.held.insert(sight.life.bot.clone(), sight);
        }
    }

    /// Hands on what was held.
    pub fn release(&mut self) {
        for sight in std::mem::take(&mut self.held).into_values() {
            self.seen(sight);
        }
    }

    /// Where sights may be put by tasks.
    pub fn seer(&self) -> impl Fn(Sight) + Send + Sync + use<> {
        let words = self.words.clone();
        move |sight| drop(words.send(Word::Seen(Box::new(sight))))
    }

    /// A start came to nothing.
    pub fn not_started(&self, failed: Failed) {
        let _ = self.words.send(Word::NotStarted(Box::new(failed)));
    }

    /// These are all bots there are.
    pub fn there(&mut self, bots: BTreeSet<BotId>) {
        if self.there != bots {
            self.track.retain(&bots);
            self.there.clone_from(&bots);
            let _ = self.words.send(Word::There(bots));
        }
    }

    /// Asks for a bot's latest records; `sight` is what its files say now.
    pub fn asker(
        &self,
        bot: BotId,
        count: usize,
        to: Sender<Answer>,
    ) -> impl FnOnce(Option<Sight>) + Send + use<> {
        let words = self.words.clone();
        move |sight| drop(words.send(Word::Ask(bot, count, sight.map(Box::new), to)))
    }

    /// Says no more and waits until all is written, but not for ever.
    pub fn finish(&mut self, patience: Duration) {
        let (words, _) = unbounded_channel();
        drop(std::mem::replace(&mut self.words, words));
        let Some(scribe) = self.scribe.take() else {
            return;
        };
        let end = std::time::Instant::now() + patience;
        while !scribe.is_finished() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// How a life that is over came to its end, for the cause of the next start.
pub fn last_of(life: &Life, records: &Records) -> Last {
    let entries = make::entries(life, records);
    let Some(last) = entries.last() else {
        let how = cause::ended_with(None, None, None);
        return Last::Ended(Reason::Lost, how);
    };
    let reason = last.reason.unwrap_or(Reason::Lost);
    let how = match (reason, &last.message) {
        (Reason::StartFailed, Some(message)) => message.clone(),
        _ => cause::ended_with(last.reason, last.exit, last.signal),
    };
    Last::Ended(reason, how)
}

/// The records of a bot whose folder is under `data`, without an agent: those that are kept, and what its files say
/// beyond.
///
/// # Errors
/// The file is there and cannot be read.
pub fn of_folder(data: &Path, bot: &BotId, count: usize) -> io::Result<Vec<Entry>> {
    let mut entries = folder::Folder::new(data).list(bot, KEPT)?;
    let root = data.join("bots").join(bot.as_str());
    let birth: Option<Birth> = file::read_json(&root.join(START)).ok().flatten();
    let mut new = Vec::new();
    if let Some(birth) = birth {
        let life = Life {
            bot: bot.clone(),
            birth,
            end: None,
        };
        let told = make::entries(&life, &Records::read(&Paths::under(&root)));
        for entry in told {
            match entries.iter_mut().find(|known| known.is(&entry)) {
                Some(known) => *known = known.merged(entry),
                None => new.push(entry),
            }
        }
    }
    let last = entries.last().map(|last| last.started_at);
    entries.extend(new.into_iter().filter(|new| last < Some(new.started_at)));
    entries.drain(..entries.len().saturating_sub(count));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after the epoch.
    pub fn time(seconds: u64) -> Time {
        Time::from(std::time::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    pub fn bot() -> BotId {
        "b1".parse().unwrap()
    }

    pub fn birth(at: Time) -> Birth {
        Birth {
            start: Start {
                cause: cause::Cause::Created,
                because: None,
                at,
                tick: None,
            },
            name: "b".into(),
            version: Some("1.0.0".into()),
            code: Some("u/b/1".into()),
            config: None,
            launch: None,
            image: None,
            container: Some("c1".into()),
        }
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named() {
        let given: Variables = [("THE0_HISTORY_INTERVAL".to_owned(), "soon".to_owned())].into();
        let text = Settings::parse(&given).unwrap_err().to_string();
        assert!(text.starts_with("THE0_HISTORY_INTERVAL"), "{text}");
    }
}
