//! Writes history, in a thread of its own: the loop that runs bots waits for no file and no database.
//!
//! ```text
//!   seen, ended, not started ─▶ records ─▶ what is known? ─▶ new: write   the same: nothing   more: replace
//!                                 │                              └ the database is away: kept, tried again
//!                                 └▶ episodes ─▶ notices
//! ```
//!
//! While nothing can be written, ends and failed starts wait in a bounded queue; what is told of bots that run is
//! dropped, because their volumes keep the latest runs and are read again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use contract::BotId;
use contract::record::Time;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot::Sender;

use super::alarm::Alarm;
use super::book::History;
use super::cause::Start;
use super::entry::Entry;
use super::herald::{self, Herald};
use super::make::{self, Life};
use super::recent::{Place, RECENT, placed};
use crate::health::Board;
use crate::report::Records;
use crate::show::Console;

/// Records of ends that wait for a database that is away.
const QUEUE: usize = 2048;
/// Records that are looked up at once to be told of.
const OWED: usize = 100;
/// The first pause after a failed write, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// How long what is known of a bot's records counts when nothing is told of it.
const STALE: Duration = Duration::from_mins(10);
/// The shortest pause of all.
const LEAST: Duration = Duration::from_millis(50);

/// What the scribe is told.
#[derive(Debug)]
pub enum Word {
    /// A bot's files were read, or its supervisor has ended.
    Seen(Box<Sight>),
    /// A start came to nothing.
    NotStarted(Box<Failed>),
    /// Somebody wants to see a bot's latest records; first its files are read, if it has some.
    Ask(BotId, usize, Option<Box<Sight>>, Sender<Answer>),
    /// These are all bots there are.
    There(BTreeSet<BotId>),
}

/// What the files of a bot say.
#[derive(Debug)]
pub struct Sight {
    /// Of which start.
    pub life: Life,
    /// What they say.
    pub records: Records,
    /// Ends of its supervisor in a row.
    pub failures: u32,
    /// Dropped when all of it is written, where somebody waits for that.
    pub noted: Option<Sender<()>>,
}

/// A start that came to nothing.
#[derive(Debug)]
pub struct Failed {
    /// Whose.
    pub bot: BotId,
    /// Its name.
    pub name: String,
    /// Which.
    pub start: Start,
    /// Why not.
    pub why: String,
    /// When that was known.
    pub at: Time,
    /// Failures in a row.
    pub failures: u32,
}

/// What is known of a bot's history.
#[derive(Debug)]
pub struct Answer {
    /// The records, oldest first.
    pub entries: Vec<Entry>,
    /// Why there may be more.
    pub but: Option<String>,
}

/// Who is told of runs besides.
#[derive(Debug)]
pub struct Teller {
    /// NATS, where there is one.
    pub herald: Option<Herald>,
    /// Where runs are counted.
    pub board: Board,
}

/// The writer.
#[derive(Debug)]
pub struct Scribe {
    history: History,
    alarm: Alarm,
    console: Console,
    /// The latest records of each bot, as they are kept.
    recent: HashMap<BotId, VecDeque<Entry>>,
    /// Records that could not be written yet.
    waiting: VecDeque<Entry>,
    /// Those who wait for them.
    owed: Vec<Sender<()>>,
    /// When these were last looked up or used: another agent may have written since.
    used: HashMap<BotId, Instant>,
    /// When each bot's last life began that is known to be over.
    over: HashMap<BotId, Time>,
    failed: Option<(Instant, Duration)>,
    /// Who tells of runs over NATS.
    herald: Option<Herald>,
    /// Whether there may be records of which something is still to be told.
    owes: bool,
    board: Board,
}

impl Scribe {
    /// One that has written nothing yet.
    pub fn new(history: History, alarm: Alarm, teller: Teller, console: Console) -> Self {
        let Teller { herald, board } = teller;
        Self {
            history,
            alarm,
            console,
            recent: HashMap::new(),
            used: HashMap::new(),
            waiting: VecDeque::new(),
            owed: Vec::new(),
            over: HashMap::new(),
            failed: None,
            owes: herald.is_some(),
            herald,
            board,
        }
    }

    /// Takes words until nobody says any more.
    pub async fn run(mut self, mut words: UnboundedReceiver<Word>) {
        loop {
            match tokio::time::timeout(self.pause(), words.recv()).await {
                Ok(Some(word)) => self.take(word).await,
                Ok(None) => break,
                Err(_) => {}
            }
            self.alarm.tick();
            self.catch_up().await;
            self.tell_late().await;
        }
        self.alarm.save();
        self.failed = None;
        self.catch_up().await;
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let again = self.failed.filter(|_| !self.waiting.is_empty());
        let again = again.map(|(at, pause)| pause.saturating_sub(at.elapsed()));
        let is_restless = self.alarm.is_restless() || self.owes;
        let restless = is_restless.then_some(PAUSES[0]);
        let pauses = [again, restless].into_iter().flatten();
        pauses.min().unwrap_or(PAUSES[1]).max(LEAST)
    }

    async fn take(&mut self, word: Word) {
        match word {
            Word::Seen(sight) => self.see(*sight).await,
            Word::NotStarted(failed) => self.note_failed(*failed).await,
            Word::Ask(bot, count, sight, to) => {
                if let Some(sight) = sight {
                    self.see(*sight).await;
                }
                let answer = self.answer(&bot, count).await;
                let _ = to.send(answer);
            }
            Word::There(bots) => {
                self.recent.retain(|bot, _| bots.contains(bot));
                self.used.retain(|bot, _| bots.contains(bot));
                self.over.retain(|bot, _| bots.contains(bot));
                self.alarm.retain(&bots);
            }
        }
    }

    async fn see(&mut self, sight: Sight) {
        let Sight {
            life,
            records,
            failures,
            noted,
        } = sight;
        let began = life.birth.start.at;
        let is_over = self.over.get(&life.bot).is_some_and(|over| *over >= began);
        // Files that were read while the bot was started anew tell of a life that is not this one.
        if is_over && life.end.is_none() {
            return;
        }
        if life.end.is_some() {
            self.over.insert(life.bot.clone(), began);
        }
        self.alarm.see(&life, &records, failures);
        let entries = make::entries(&life, &records);
        self.write(&life.bot, entries, life.end.is_some()).await;
        if !self.waiting.is_empty() {
            self.owed.extend(noted);
        }
    }

    async fn note_failed(&mut self, failed: Failed) {
        let Failed {
            bot,
            name,
            start,
            why,
            at,
            failures,
        } = failed;
        self.alarm.not_started(&bot, &name, &why, failures);
        let mut entry = make::not_started(&bot, &name, &start, &why, at);
        entry.restarts = failures.saturating_sub(1);
        self.write(&bot, vec![entry], true).await;
    }

    /// Writes what is new of a bot's records. What cannot be written waits if `is_last_word` of it.
    async fn write(&mut self, bot: &BotId, entries: Vec<Entry>, is_last_word: bool) {
        if entries.is_empty() {
            return;
        }
        let known = self.is_open() && self.learn(bot).await;
        if !known {
            if is_last_word {
                let began = entries.iter().filter(|entry| !entry.is_hearsay);
                let began: Vec<Entry> = began.cloned().collect();
                self.wait(began);
            }
            return;
        }
        for entry in entries {
            if self.is_open() && self.put(&entry).await {
                continue;
            }
            if is_last_word && !entry.is_hearsay {
                self.wait([entry]);
            }
        }
    }

    /// Whether it is worth trying to write: not right after a failure.
    fn is_open(&self) -> bool {
        self.failed.is_none_or(|(at, pause)| at.elapsed() >= pause)
    }

    fn wait(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            if let Some(last) = self.waiting.back_mut()
                && last.bot == entry.bot
                && let Some(folded) = last.folded(&entry)
            {
                *last = folded;
                continue;
            }
            if self.waiting.len() >= QUEUE {
                self.waiting.pop_front();
            }
            self.waiting.push_back(entry);
        }
    }

    /// Writes what waits, as far as that goes.
    async fn catch_up(&mut self) {
        while self.is_open()
            && let Some(entry) = self.waiting.front().cloned()
        {
            if !self.learn(&entry.bot).await || !self.put(&entry).await {
                return;
            }
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            self.owed.clear();
        }
    }

    /// Makes sure that a bot's latest records are known.
    async fn learn(&mut self, bot: &BotId) -> bool {
        let used = self.used.insert(bot.clone(), Instant::now());
        if used.is_none_or(|used| used.elapsed() > STALE) {
            self.recent.remove(bot);
        }
        if self.recent.contains_key(bot) {
            return true;
        }
        match self.history.list(bot, RECENT).await {
            Ok(entries) => {
                self.succeeded();
                let light = entries.into_iter().map(Entry::light).collect();
                self.recent.insert(bot.clone(), light);
                true
            }
            Err(err) => {
                self.failed_to(&format!("{err:#}"));
                false
            }
        }
    }

    /// Writes a record if it is new, or tells more than is known.
    async fn put(&mut self, entry: &Entry) -> bool {
        let recent = self.recent.entry(entry.bot.clone()).or_default();
        let Some((place, mut entry)) = placed(recent, entry) else {
            return true;
        };
        let before = match place {
            Place::At(index) => Some(recent[index].clone()),
            Place::Behind(_) => None,
        };
        let has_ended = entry.run > 0 && !entry.is_open();
        let is_end = has_ended && before.as_ref().is_none_or(Entry::is_open);
        self.tell(before.as_ref(), &mut entry).await;
        if let Err(err) = self.history.put(&entry).await {
            self.failed_to(&format!("{err:#}"));
            return false;
        }
        self.succeeded();
        if is_end {
            self.board.count(|metrics| metrics.executed(&entry));
        }
        let recent = self.recent.entry(entry.bot.clone()).or_default();
        match place {
            Place::At(index) => recent[index] = entry.light(),
            Place::Behind(index) => recent.insert(index, entry.light()),
        }
        while recent.len() > RECENT {
            recent.pop_front();
        }
        true
    }

    /// Tells what is new of a run; what cannot be told now is noted in it.
    async fn tell(&mut self, before: Option<&Entry>, entry: &mut Entry) {
        let Some(herald) = &mut self.herald else {
            return;
        };
        for kind in herald::news(before, entry) {
            // What is owed of it comes first.
            let is_told = entry.untold.is_empty() && herald.tell(kind, entry).await;
            if !is_told && !entry.untold.contains(&kind) {
                entry.untold.push(kind);
                self.owes = true;
            }
        }
    }

    /// Tells what could not be told when it was news, as far as that goes.
    async fn tell_late(&mut self) {
        while self.owes && self.is_open() {
            let Some(herald) = &mut self.herald else {
                return;
            };
            if !herald.is_open().await {
                return;
            }
            let owed = match self.history.untold(OWED).await {
                Ok(owed) => owed,
                Err(err) => return self.failed_to(&format!("{err:#}")),
            };
            self.owes = !owed.is_empty();
            for entry in owed {
                if !self.settle(entry).await {
                    return;
                }
            }
        }
    }

    async fn settle(&mut self, mut entry: Entry) -> bool {
        let Some(herald) = &mut self.herald else {
            return false;
        };
        for kind in entry.untold.clone() {
            if !herald.tell(kind, &entry).await {
                return false;
            }
        }
        entry.untold.clear();
        if let Err(err) = self.history.put(&entry).await {
            self.failed_to(&format!("{err:#}"));
            return false;
        }
        let recent = self.recent.get_mut(&entry.bot).into_iter().flatten();
        for known in recent.filter(|known| known.key() == entry.key()) {
            known.untold.clear();
        }
        true
    }

    fn succeeded(&mut self) {
        if self.failed.take().is_some() {
            self.console.say("history is written again");
        }
    }

    fn failed_to(&mut self, why: &str) {
        let before = self.failed.map(|(_, pause)| pause);
        if before.is_none() {
            self.console.warn(&format!(
                "{why}; what happens stays in the bots' volumes and is written later"
            ));
        }
        let pause = before.map_or(PAUSES[0], |pause| (pause * 2).min(PAUSES[1]));
        self.failed = Some((Instant::now(), pause));
    }

    async fn answer(&mut self, bot: &BotId, count: usize) -> Answer {
        let (mut entries, but) = match self.history.list(bot, count).await {
            Ok(entries) => (entries, None),
            Err(err) => (Vec::new(), Some(format!("{err:#}"))),
        };
        if but.is_some() {
            let recent = self.recent.get(bot).into_iter().flatten();
            entries.extend(recent.cloned());
        }
        let waiting = self.waiting.iter().filter(|entry| entry.bot == *bot);
        entries.extend(waiting.cloned());
        entries.drain(..entries.len().saturating_sub(count));
        Answer { entries, but }
    }
}
