//! Bots that run at times: each tick once, whoever is killed or paused when.
//!
//! ```text
//!                     the ledger of each schedule ([`book`]: in its document, or in a file beside the bot)
//!   next time due ──▶ claimed ──▶ a container is made ──▶ started ──▶ it runs, is saved ──▶ over ──▶ it is removed
//!                       ▲ its name has the tick: the       ▲ [`permit`]: who lost the claim    ▲ only then
//!                       │ daemon gives a name once         │ removes what it made
//!                       └ on condition ([`decide`])        └ on condition
//! ```
//!
//! Everything can be cut off between any two steps, and is gone on with from what is written and what is there. The
//! loop owns [`Schedules`]; what is written comes back as [`News`]. An idle schedule costs nothing: what is due is the
//! first of a sorted set. So many starts are under way at once and no more; the others wait, the longest due first.

pub mod book;
pub mod decide;
pub mod ledger;
mod live;
pub mod permit;
pub mod timetable;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use contract::BotId;
use tokio::sync::mpsc::UnboundedSender;

use crate::bots::{Listed, Listing, Offer};
use crate::engine::{self, Engine};
use crate::history::{Failed, Start, cause::Cause};
use crate::plan::{self, Wanted, Why};
use crate::show::Console;
use book::{Book, Written};
use decide::{Exit, See, Step, Unstarted, decide};
use ledger::{Key, Ledger, Outcome};
use live::Launched;
use permit::{Claim, Permits};
use timetable::{Cron, Seconds, Timetable};

/// Starts of ticks under way at once, where nothing else is said.
pub const STARTS: usize = 8;
/// The longest pause after a word that was not taken.
const LONGEST_PAUSE: Seconds = 30;

/// A word that was to be written, and what has become of it.
#[derive(Debug)]
pub struct News {
    /// Whose.
    pub bot: BotId,
    /// What was to be written.
    pub to: Ledger,
    /// What has become of it.
    pub done: Written,
    /// Whether it was the word before a start.
    pub is_permit: bool,
}

/// How far this process is with a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Nothing is under way.
    Rest,
    /// A word is being written.
    Writing,
    /// The same; it is a claim.
    Claiming,
    /// The claim is ours: it is to be started.
    Mine,
    /// The engine was told to start it.
    Launched(Key, i64),
}

/// What is known of a schedule.
#[derive(Debug)]
struct Entry {
    row: Arc<Listed>,
    timetable: Timetable,
    cron: Cron,
    /// Whether new ticks are wanted.
    is_on: bool,
    ledger: Ledger,
    /// When what is written was last known for certain.
    touched: Instant,
    /// Whether it has to be read again first.
    is_stale: bool,
    work: Work,
    /// When it is looked at again.
    armed: Option<Seconds>,
    /// Nothing is tried before, and how often that was said in a row.
    pause: (Seconds, u32),
    unstarted: Option<Unstarted>,
    /// Starts of the tick that came to nothing.
    tries: u32,
    end: Option<(Key, Exit)>,
    stopping: Option<Why>,
    is_doubted: bool,
}

/// What the loop has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Stop what runs.
    Stop(BotId, Why),
    /// Remove the container that was made for it and not started.
    Unmake(BotId),
    /// Ask the engine anew what there is.
    LookAnew,
}

/// All schedules.
#[derive(Debug)]
pub struct Schedules {
    book: Book,
    permits: Permits,
    me: String,
    most: usize,
    news: UnboundedSender<engine::News>,
    console: Console,
    known: BTreeMap<BotId, Entry>,
    /// Those that wait for a time.
    due: BTreeSet<(Seconds, BotId)>,
    /// Those that are looked at each time.
    active: BTreeSet<BotId>,
    /// Those that are being started.
    starting: BTreeSet<BotId>,
    missed: Vec<Failed>,
    /// Whether what is written has to be read again.
    is_curious: bool,
    is_told: bool,
}

/// Seconds since 1970, by the host's clock.
pub fn wall() -> Seconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

impl Schedules {
    /// None yet. Words are written in `book` in the name of `me` and told on `news`; so many starts at once.
    pub fn new(
        book: Book,
        me: String,
        most: usize,
        news: UnboundedSender<engine::News>,
        console: Console,
    ) -> Self {
        Self {
            permits: Permits::new(book.clone(), news.clone()),
            book,
            me,
            most: most.max(1),
            news,
            console,
            known: BTreeMap::new(),
            due: BTreeSet::new(),
            active: BTreeSet::new(),
            starting: BTreeSet::new(),
            missed: Vec::new(),
            is_curious: false,
            is_told: false,
        }
    }

    /// Who gives the permits.
    pub fn permits(&self) -> Permits {
        self.permits.clone()
    }

    /// Takes in a listing that was begun at `begun`.
    pub fn listed(&mut self, listing: &Listing, begun: Instant) {
        let gone = |bot: &BotId| {
            let listed = listing.get(bot);
            listed.is_none_or(|listed| listed.offer == Offer::Gone)
        };
        let left: Vec<BotId> = self.known.keys().filter(|bot| gone(bot)).cloned().collect();
        for bot in left {
            self.drop_it(&bot);
        }
        for (bot, row) in &listing.bots {
            match &row.offer {
                Offer::Bot(found) => match &found.timetable {
                    Some(timetable) => self.see(bot, row, timetable, found.enabled, begun),
                    None => self.drop_it(bot),
                },
                // What runs goes on, and its end is written down.
                Offer::Unusable(_) => self.close(bot),
                Offer::Gone => {}
            }
        }
    }

    fn drop_it(&mut self, bot: &BotId) {
        if self.known.contains_key(bot) {
            self.arm(bot, None);
            self.known.remove(bot);
            self.active.remove(bot);
            self.starting.remove(bot);
        }
    }

    fn close(&mut self, bot: &BotId) {
        if let Some(entry) = self.known.get_mut(bot) {
            entry.is_on = false;
            self.active.insert(bot.clone());
        }
    }

    fn see(
        &mut self,
        bot: &BotId,
        row: &Arc<Listed>,
        timetable: &Timetable,
        is_on: bool,
        begun: Instant,
    ) {
        let Some(entry) = self.known.get_mut(bot) else {
            return self.meet(bot, row, timetable, is_on, begun);
        };
        if Arc::ptr_eq(&entry.row, row) && !entry.is_stale && entry.is_on == is_on {
            return;
        }
        entry.row = Arc::clone(row);
        entry.is_on = is_on;
        let is_other = !entry.is_at(timetable);
        if is_other && let Ok(cron) = timetable.cron() {
            (entry.timetable, entry.cron) = (timetable.clone(), cron);
        }
        entry.timetable.policy = timetable.policy;
        let is_busy = matches!(entry.work, Work::Writing | Work::Claiming);
        if begun > entry.touched && !is_busy {
            let before = entry.ledger.clone();
            let written = row.ledger.clone();
            entry.ledger = written.unwrap_or_else(|| self.book.open(bot, timetable));
            entry.is_stale = false;
            // Somebody has edited the times by hand: nobody has worked out the next one.
            let is_same = entry.ledger.next == before.next && entry.ledger.seq == before.seq;
            if is_other && is_same {
                entry.ledger.next = None;
            }
            if entry.ledger.rev() != before.rev() {
                entry.is_doubted = false;
            }
            let is_ours = entry.ledger.rev() == before.rev();
            if entry.work == Work::Mine && !is_ours {
                entry.work = Work::Rest;
                self.starting.remove(bot);
            }
        }
        self.active.insert(bot.clone());
    }

    fn meet(
        &mut self,
        bot: &BotId,
        row: &Arc<Listed>,
        timetable: &Timetable,
        is_on: bool,
        begun: Instant,
    ) {
        let Ok(cron) = timetable.cron() else { return };
        let ledger = row.ledger.clone();
        let entry = Entry {
            row: Arc::clone(row),
            timetable: timetable.clone(),
            cron,
            is_on,
            ledger: ledger.unwrap_or_else(|| self.book.open(bot, timetable)),
            touched: begun,
            is_stale: false,
            work: Work::Rest,
            armed: None,
            pause: (0, 0),
            unstarted: None,
            tries: 0,
            end: None,
            stopping: None,
            is_doubted: false,
        };
        let next = entry.ledger.next.filter(|_| !entry.ledger.is_open());
        self.known.insert(bot.clone(), entry);
        match next {
            Some(next) if is_on => self.arm(bot, Some(next)),
            _ => drop(self.active.insert(bot.clone())),
        }
    }

    /// Takes in what has become of a word.
    pub fn take(&mut self, news: News) {
        let News {
            bot,
            to,
            done,
            is_permit,
        } = news;
        let Some(entry) = self.known.get_mut(&bot) else {
            return;
        };
        entry.touched = Instant::now();
        let was = entry.work;
        if !is_permit {
            entry.work = Work::Rest;
        }
        if done == Written::Taken {
            entry.pause = (0, 0);
            entry.is_doubted = false;
            self.is_told = false;
            return self.taken(&bot, to, was, is_permit);
        }
        // What is written is read again before anything else is tried.
        entry.is_stale = true;
        let pauses = entry.pause.1.saturating_add(1);
        let pause = (1 << pauses.min(6)) / 2;
        entry.pause = (wall() + LONGEST_PAUSE.min(pause) - 1, pauses);
        self.is_curious = true;
        if !is_permit {
            self.starting.remove(&bot);
        }
        if let Written::Unknown(why) = done
            && !std::mem::replace(&mut self.is_told, true)
        {
            self.console.warn(&format!(
                "schedules: {why}; what was to be written is looked up first, and ticks wait"
            ));
        }
    }

    fn taken(&mut self, bot: &BotId, to: Ledger, was: Work, is_permit: bool) {
        let Some(entry) = self.known.get_mut(bot) else {
            return;
        };
        if !is_permit {
            entry.ledger.next = to.next;
        }
        let before = entry.ledger.tick.take();
        entry.ledger.tick = to.tick;
        let Some(tick) = entry.ledger.tick.clone() else {
            return;
        };
        let is_new = before.is_none_or(|before| before.at != tick.at);
        if is_new {
            (entry.unstarted, entry.stopping, entry.tries) = (None, None, 0);
        }
        if was == Work::Claiming {
            entry.work = Work::Mine;
            let claim = Claim {
                ledger: entry.ledger.clone(),
                timetable: entry.timetable.clone(),
            };
            self.permits.note(bot, claim);
        }
        let is_missed = tick.outcome == Some(Outcome::Missed);
        if is_missed || (is_new && tick.missed > 0) {
            let passed = tick.missed + u32::from(is_missed);
            let (name, why) = (entry.row.name.clone(), tick.why.clone());
            self.tell_missed(bot, name, &tick, passed, why);
        }
    }

    fn tell_missed(
        &mut self,
        bot: &BotId,
        name: String,
        tick: &ledger::Tick,
        passed: u32,
        why: Option<String>,
    ) {
        let until = timetable::shown(tick.at);
        let text = match (passed, why) {
            (1, Some(why)) => format!("missed: {why}"),
            (n, _) => format!("missed: {n} ticks up to {until} were not run"),
        };
        self.console.about(bot, &name).warn(&text);
        let start = Start::now(Cause::Tick, Some(until));
        self.missed.push(Failed {
            bot: bot.clone(),
            name,
            at: start.at,
            start,
            why: text,
            failures: 0,
        });
    }

    /// Ticks that were passed over since it was last asked, for history.
    pub fn missed(&mut self) -> Vec<Failed> {
        std::mem::take(&mut self.missed)
    }

    /// Whether what is written has to be read again, since it was last asked.
    pub fn is_curious(&mut self) -> bool {
        std::mem::take(&mut self.is_curious)
    }

    /// Whether time has made something due.
    pub fn is_due(&self) -> bool {
        let due = self.due.first();
        due.is_some_and(|(at, _)| *at <= wall()) && self.starting.len() < self.most
    }

    /// Does what there is to do; `may` tells the bots that a person lets run.
    pub fn step(&mut self, engine: &Engine, may: impl Fn(&BotId) -> bool) -> Vec<Order> {
        let now = wall();
        let mut orders = Vec::new();
        for bot in self.active.clone() {
            orders.extend(self.look(&bot, engine, now, &may));
        }
        while let Some((at, bot)) = self.due.first().cloned() {
            if at > now || self.starting.len() >= self.most {
                break;
            }
            self.arm(&bot, None);
            self.active.insert(bot.clone());
            orders.extend(self.look(&bot, engine, now, &may));
        }
        orders
    }

    fn look(
        &mut self,
        bot: &BotId,
        engine: &Engine,
        now: Seconds,
        may: &impl Fn(&BotId) -> bool,
    ) -> Option<Order> {
        let entry = self.known.get_mut(bot)?;
        let live = live::live(engine, bot, &mut entry.end, entry.stopping);
        if let Work::Launched(key, rev) = entry.work
            && let Some(launched) = live::launched(engine, bot, key)
        {
            entry.work = Work::Rest;
            self.starting.remove(bot);
            entry.take_launched(launched, rev, now);
        }
        let may = entry.is_on && may(bot);
        if entry.work == Work::Mine && !may {
            entry.work = Work::Rest;
            self.starting.remove(bot);
        }
        let is_busy = matches!(
            entry.work,
            Work::Writing | Work::Claiming | Work::Launched(..)
        );
        if is_busy || entry.is_stale {
            return None;
        }
        if entry.pause.0 > now {
            let until = entry.pause.0;
            self.arm(bot, Some(until));
            return None;
        }
        let is_live = matches!(live, decide::Live::Runs(_));
        let step = entry.decide(live, now, &self.me);
        match step {
            Step::Wait(at) => self.rest(bot, at, is_live),
            Step::Write(to) => self.write(bot, to, Work::Writing),
            Step::Claim(to) if may && self.starting.len() < self.most => {
                self.starting.insert(bot.clone());
                self.write(bot, to, Work::Claiming);
            }
            Step::Claim(to) => self.wait(bot, &to, may),
            Step::Stop(why) if entry.stopping.is_none() => {
                return Some(Order::Stop(bot.clone(), why));
            }
            Step::Start | Step::Stop(_) => {}
            Step::Unmake => return Some(Order::Unmake(bot.clone())),
            Step::Doubt => {
                entry.is_doubted = true;
                return Some(Order::LookAnew);
            }
        }
        None
    }

    /// It may be started, and others are first; or a person must let it.
    fn wait(&mut self, bot: &BotId, to: &Ledger, may: bool) {
        let Some(entry) = self.known.get(bot) else {
            return;
        };
        let at = to.tick.as_ref().map(|tick| tick.at);
        if may {
            self.active.remove(bot);
            self.arm(bot, at);
        } else if !entry.is_on && !entry.ledger.is_open() {
            self.active.remove(bot);
        }
    }

    /// It is looked at again at that time; if nothing is under way, not before.
    fn rest(&mut self, bot: &BotId, at: Option<Seconds>, is_live: bool) {
        let Some(entry) = self.known.get(bot) else {
            return;
        };
        let at = at.filter(|_| entry.is_on || entry.ledger.is_open());
        if !entry.ledger.is_open() && !is_live {
            self.active.remove(bot);
        }
        self.arm(bot, at);
    }

    fn arm(&mut self, bot: &BotId, at: Option<Seconds>) {
        let Some(entry) = self.known.get_mut(bot) else {
            return;
        };
        if let Some(before) = entry.armed.take() {
            self.due.remove(&(before, bot.clone()));
        }
        entry.armed = at;
        self.due.extend(at.map(|at| (at, bot.clone())));
    }

    fn write(&mut self, bot: &BotId, to: Ledger, work: Work) {
        let Some(entry) = self.known.get_mut(bot) else {
            return;
        };
        entry.work = work;
        let (from, timetable) = (entry.ledger.clone(), entry.timetable.clone());
        let (book, news, bot) = (self.book.clone(), self.news.clone(), bot.clone());
        if let Book::Folder(_) = book {
            let done = book.put(&bot, &timetable, &from, &to);
            let _ = news.send(told(bot, to, done));
            return;
        }
        tokio::spawn(async move {
            let done = book.write(&bot, &timetable, &from, &to).await;
            let _ = news.send(told(bot, to, done));
        });
    }

    /// What the plan wants to know of those of which something is under way.
    pub fn wanted(&self) -> impl Iterator<Item = (&BotId, Wanted)> {
        self.active.iter().filter_map(|bot| {
            let entry = self.known.get(bot)?;
            let is_next = entry.work == Work::Mine;
            Some((bot, if is_next { Wanted::Once } else { Wanted::Idle }))
        })
    }

    /// The engine is told to start the claimed tick of the bot: which?
    pub fn launch(&mut self, bot: &BotId) -> Option<Key> {
        let entry = self.known.get_mut(bot)?;
        let tick = entry.ledger.tick.as_ref();
        let tick = tick.filter(|_| entry.work == Work::Mine)?;
        let (key, rev) = (tick.key(), tick.rev);
        entry.work = Work::Launched(key, rev);
        Some(key)
    }

    /// It was not told, after all: another one has gone on with the tick.
    pub fn give_up(&mut self, bot: &BotId) {
        self.starting.remove(bot);
        if let Some(entry) = self.known.get_mut(bot) {
            entry.work = Work::Rest;
        }
    }

    /// Somebody has the bot stopped.
    pub fn halted(&mut self, bot: &BotId, why: Why) {
        if let Some(entry) = self.known.get_mut(bot) {
            entry.stopping.get_or_insert(why);
            self.active.insert(bot.clone());
        }
    }

    /// Whether what is left of the bot's last run is needed: its end is not written down.
    pub fn holds(&self, bot: &BotId) -> bool {
        let entry = self.known.get(bot);
        entry.is_some_and(|entry| entry.ledger.is_open() || entry.work != Work::Rest)
    }

    /// What a person may know of the bot's schedule.
    pub fn timing(&self, bot: &BotId) -> Option<&Ledger> {
        Some(&self.known.get(bot)?.ledger)
    }
}

fn told(bot: BotId, to: Ledger, done: Written) -> engine::News {
    engine::News::Schedule(Box::new(News {
        bot,
        to,
        done,
        is_permit: false,
    }))
}

impl Entry {
    fn is_at(&self, timetable: &Timetable) -> bool {
        self.timetable.schedule == timetable.schedule
            && self.timetable.timezone == timetable.timezone
    }

    fn decide(&self, live: decide::Live, now: Seconds, me: &str) -> Step {
        let next = |after| self.cron.next(after);
        decide(&See {
            now,
            me,
            next: &next,
            policy: &self.timetable.policy,
            ledger: &self.ledger,
            live,
            is_mine: self.work == Work::Mine,
            unstarted: self.unstarted.as_ref(),
            is_sure: self.is_doubted,
        })
    }

    fn take_launched(&mut self, launched: Launched, rev: i64, now: Seconds) {
        let Launched::Not {
            key,
            why,
            is_final,
            is_certain,
        } = launched
        else {
            self.tries = 0;
            return;
        };
        self.stopping = None;
        self.tries = self.tries.saturating_add(1);
        let pause = i64::try_from(plan::pause(self.tries).as_secs()).unwrap_or(LONGEST_PAUSE);
        if is_certain {
            self.unstarted = Some(Unstarted {
                key,
                rev,
                why,
                is_final,
                not_before: now + pause,
            });
        } else {
            self.pause.0 = now + pause;
        }
    }
}

/// So many ticks may be started at once, as the operator says.
///
/// # Errors
/// It is no number.
pub fn starts(given: &contract::launch::Variables) -> anyhow::Result<usize> {
    let text = given.get("THE0_SCHEDULE_STARTS").map(|text| text.trim());
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(STARTS);
    };
    let count = text.parse().ok().filter(|count| (1..=1000).contains(count));
    count.ok_or_else(|| {
        anyhow::anyhow!("THE0_SCHEDULE_STARTS is {text:?}: give a whole number from 1 to 1000")
    })
}

#[cfg(test)]
mod tests;
