//! The loop: makes what runs match what should.
//!
//! ```text
//!   a listing ┐
//!   an ending ├─▶ take it in ─▶ plan (pure) ─▶ start, stop, forget ─▶ wait for the next
//!   a request │
//!   a tick    ┘
//! ```
//!
//! It can begin from nothing at any time: each round compares the last full listing with what the engine has. A
//! listing that cannot be made changes nothing. One task owns everything here, so nothing needs a lock.

mod events;
mod notes;
mod pace;
mod runs;
mod times;
mod turn;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::BotId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::{Instant as Moment, sleep_until};

use crate::bots::{Listing, Offer};
use crate::engine::{Bond, Engine, Instance, News};
use crate::events::{Progress, Sight};
use crate::health::Board;
use crate::history::Watch;
use crate::jobs::Queue;
use crate::launch::Host;
use crate::lease::Lease;
use crate::lister::Waker;
use crate::live::Live;
use crate::orders::desk::Desk;
use crate::place;
use crate::plan::{self, Action, Patience, Plan, Situation, Switch, Wanted, Why, plan};
use crate::request::Request;
use crate::roll::Roll;
use crate::schedule::Schedules;
use crate::show::Console;
use crate::signals::Signal;
use crate::store::Store;
use events::Event;
use pace::Pace;

pub use events::{Events, ticks};

/// How often what only time makes due is looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long nothing is looked at when nothing happens and bots do not depend on the agent.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How long the agent's end waits for starts that are under way.
const LEAVE: Duration = Duration::from_secs(20);
/// How much of what has come is taken in before signals, ticks and the whole have their turn.
const AT_ONCE: usize = 4096;
/// After the second signal, time for the kernel to end what was killed.
const ABORT: Duration = Duration::from_secs(10);

/// Everything the loop knows.
#[derive(Debug)]
pub struct World {
    /// The host.
    pub host: Host,
    /// Where bundles are.
    pub store: Store,
    /// Where bots run.
    pub engine: Engine,
    /// Where people look.
    pub console: Console,
    /// Bots that a person has stopped.
    pub stopped: BTreeSet<BotId>,
    /// Whether any bot may run.
    pub switch: Switch,
    /// Where words are shared with the other agents of a database.
    pub desk: Option<Desk>,
    /// Bots that a person has just told to stop.
    pub said: BTreeSet<BotId>,
    /// The roll under way.
    pub roll: Option<Roll>,
    /// How far the events are, where they are to be heard.
    pub progress: Option<watch::Receiver<Progress>>,
    /// Makes the next listing come at once.
    pub waker: Option<Waker>,
    /// What becomes of what happens.
    pub history: Option<Watch>,
    /// What becomes of what bots print, where it is sent.
    pub live: Option<Live>,
    /// Bots that run at times.
    pub schedules: Option<Schedules>,
    /// Run-to-end jobs, where there is a database for them.
    pub jobs: Option<Queue>,
    /// The right to act.
    pub lease: Lease,
    /// Where it is told outside how things are.
    pub board: Board,
    /// Where requests are put whose answer comes later.
    pub requests: UnboundedSender<Request>,
    /// How long a bot must be missing to count as removed.
    pub settle: Duration,
    /// The last full listing.
    pub listing: Arc<Listing>,
    /// Bots that only a confirmation stops.
    pub held: BTreeSet<BotId>,
    wanted: BTreeMap<BotId, Wanted>,
    patience: Patience,
    began: Instant,
    listed: Option<Duration>,
    problem: Option<String>,
    wake: Option<Duration>,
    pace: Pace,
    /// The turn of the lease that counts, and since when.
    turn: (Option<u64>, Duration),
    shown: Option<Duration>,
    /// How much of the world the last look had to act on.
    sight: Sight,
    /// Whether something has happened since it was last told what runs.
    is_moved: bool,
}

/// How the session came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every bot has ended and what it had is saved.
    Clean,
    /// A person did not want to wait.
    Aborted,
}

impl World {
    /// A world in which nothing has been listed yet.
    pub fn new(
        host: Host,
        store: Store,
        engine: Engine,
        console: Console,
        settle: Duration,
        requests: UnboundedSender<Request>,
    ) -> Self {
        Self {
            host,
            store,
            engine,
            console,
            settle,
            stopped: BTreeSet::new(),
            switch: Switch::On,
            desk: None,
            said: BTreeSet::new(),
            roll: None,
            progress: None,
            waker: None,
            history: None,
            live: None,
            schedules: None,
            jobs: None,
            lease: Lease::alone(),
            board: Board::default(),
            requests,
            listing: Arc::default(),
            held: BTreeSet::new(),
            wanted: BTreeMap::new(),
            patience: Patience::default(),
            began: Instant::now(),
            listed: None,
            problem: None,
            wake: None,
            pace: Pace::default(),
            turn: (Some(0), Duration::ZERO),
            shown: None,
            sight: Sight::Closed,
            is_moved: true,
        }
    }

    /// Runs until a signal ends it; calls `first` after the first listing.
    pub async fn run(&mut self, events: &mut Events, first: impl FnOnce(&World)) -> End {
        let (mut first, mut rest) = (Some(first), None);
        loop {
            match events.next(rest.take()).await {
                Event::Signal(signal) => return self.finish(signal, events).await,
                event => self.take_all(event, events),
            }
            self.hear_words();
            self.turn_jobs();
            if self.engine.is_ready() && self.looks() {
                first.take().into_iter().for_each(|first| first(self));
                if self.wake.is_none_or(|wake| self.now() >= wake) {
                    rest = self.pace.rest(Moment::now());
                    if rest.is_none() {
                        self.converge_in_turn();
                    }
                }
            } else if self.engine.is_ready() {
                self.obey();
            }
            self.show();
        }
    }

    /// Answers what is asked until `done`, and does nothing else.
    pub async fn answer_until(&mut self, events: &mut Events, done: impl Future<Output = ()>) {
        let mut done = pin!(done);
        loop {
            tokio::select! {
                () = &mut done => return,
                Some(request) = events.requests.recv() => request.answer(self),
            }
        }
    }

    /// Whether there was a listing.
    pub fn is_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// Jobs get their turn while bots may run, and it is known whether they may.
    pub fn turn_jobs(&self) {
        if let Some(jobs) = &self.jobs {
            let may = self.switch == Switch::On && self.knows_words();
            jobs.turns.give(may);
        }
    }

    /// Whether there is enough to see to act on it.
    fn looks(&mut self) -> bool {
        let Some(listed) = self.listed else {
            return false;
        };
        let (listed, now) = (self.began + listed, Instant::now());
        let sight = self
            .progress
            .as_ref()
            .map_or(Sight::Full, |progress| progress.borrow().sight(listed, now));
        if sight == Sight::Partial && self.sight != sight {
            self.console.warn(
                "no events come forward: bots start as the database has them; those missing there run on until events come",
            );
        }
        self.sight = sight;
        sight != Sight::Closed
    }

    /// Takes in an event and those that have come meanwhile, so that many cost one look at the whole.
    fn take_all(&mut self, event: Event, events: &mut Events) {
        self.take(event);
        for _ in 0..AT_ONCE {
            let Some(event) = events.ready() else { return };
            self.take(event);
        }
    }

    async fn finish(&mut self, signal: Signal, events: &mut Events) -> End {
        let name = signal.name();
        match self.engine.bond() {
            Bond::Together => {
                self.console.say(&format!("{name}: ending all bots"));
                self.end(events).await
            }
            Bond::Apart => {
                self.console
                    .say(&format!("{name}: the agent ends, bots run on"));
                self.leave(events).await
            }
        }
    }

    /// Waits for what is being started, so that it is not cut off between two steps.
    async fn leave(&mut self, events: &mut Events) -> End {
        let end = Moment::now() + LEAVE;
        while self.engine.is_starting() {
            tokio::select! {
                event = events.next(None) => match event {
                    Event::Signal(_) => break,
                    event => self.take(event),
                },
                () = sleep_until(end) => break,
            }
        }
        End::Clean
    }

    /// Stops everything and waits; the second signal ends the waiting.
    async fn end(&mut self, events: &mut Events) -> End {
        let running: Vec<BotId> = self.engine.instances().into_keys().collect();
        for bot in &running {
            self.halt(bot, Why::Ending, self.now());
        }
        let mut aborted = None;
        while !self.engine.is_idle() {
            match events.next(None).await {
                Event::Signal(_) if aborted.is_none() => {
                    self.console
                        .warn("aborting: state since the last push may be unsaved");
                    self.engine.abort();
                    aborted = Some(Instant::now());
                }
                event => self.take(event),
            }
            if aborted.is_some_and(|since| since.elapsed() > ABORT) {
                break;
            }
        }
        self.step_schedules();
        if aborted.is_some() {
            End::Aborted
        } else {
            End::Clean
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Listed(listed) => self.note(listed),
            Event::Told(news) => {
                self.wake = None;
                self.board.count(|metrics| metrics.news(&news));
                match news {
                    News::Schedule(news) => self.take_word(*news),
                    news => self.engine.take(news, self.now()),
                }
                self.hear();
                self.is_moved = true;
            }
            Event::Asked(request) => {
                self.wake = None;
                request.answer(self);
            }
            Event::Rested => {}
            Event::Tick | Event::Signal(_) => {
                self.engine.tick(self.now());
                self.read_runs();
                if self.schedules.as_ref().is_some_and(Schedules::is_due) {
                    self.wake = None;
                }
            }
        }
    }

    /// Without a listing or the lease: only what a person has asked for. Unless this agent acts and knows all that was
    /// said, that is what was said just now: what was said here before may have been taken back elsewhere.
    fn obey(&mut self) {
        let (stopped, switch, now) = (&self.stopped, self.switch, self.now());
        let knows_all = self.lease.may_act() && self.knows_words();
        let said = mem::take(&mut self.said);
        let is_stopped = |bot: &BotId| {
            let counts = knows_all || said.contains(bot);
            counts && (switch == Switch::Off || stopped.contains(bot))
        };
        for action in plan::ordered(&self.engine.actual(), is_stopped) {
            self.act(action, now);
        }
    }

    fn converge(&mut self) {
        if let Some(history) = &mut self.history {
            let track = &mut history.track;
            track.keep(&self.wanted, &self.stopped, self.switch);
        }
        self.step_schedules();
        let actual = self.engine.actual();
        let now = self.now();
        let see = Situation {
            wanted: &self.wanted,
            listed: self.listed.unwrap_or(now),
            actual: &actual,
            stopped: &self.stopped,
            switch: self.switch,
            now,
            settle: match self.sight {
                Sight::Full => self.settle,
                Sight::Partial | Sight::Closed => Duration::MAX,
            },
        };
        let Plan {
            actions,
            patience,
            held,
        } = plan(see, mem::take(&mut self.patience));
        self.patience = patience;
        self.tell_held(held);
        let started = actions
            .iter()
            .any(|action| matches!(action, Action::Start(_)));
        for action in actions {
            self.act(action, now);
        }
        if started {
            self.collect_bundles();
        }
        self.step_roll(now);
        let listing = Arc::clone(&self.listing);
        let unseen = self.sight != Sight::Full;
        let is_listed = |bot: &BotId| {
            let listed = listing.get(bot);
            listed.map_or(unseen, |listed| listed.offer != Offer::Gone)
        };
        let schedules = self.schedules.as_ref();
        let is_held = |bot: &BotId, of| schedules.is_some_and(|schedules| schedules.holds(bot, of));
        self.engine.collect(is_listed, is_held, now);
        let actual = self.engine.actual();
        self.wake = Some(
            plan::wake(&actual, now)
                .unwrap_or(now + LONGEST_SLEEP)
                .min(now + self.sleep()),
        );
        self.bury(&actual.into_keys().collect());
    }

    /// How long nothing is looked at when nothing happens.
    fn sleep(&self) -> Duration {
        match (&self.roll, self.engine.bond()) {
            (None, Bond::Apart) => LONGEST_SLEEP,
            (Some(_), Bond::Apart) => TICK,
            (_, Bond::Together) => Duration::ZERO,
        }
    }

    fn step_roll(&mut self, now: Duration) {
        let Some(roll) = &mut self.roll else { return };
        let wanted = &self.wanted;
        let (stopped, switch) = (&self.stopped, self.switch);
        let is_wanted = |bot: &BotId| {
            let runs = matches!(wanted.get(bot), Some(Wanted::Run(_)));
            runs && switch == Switch::On && !stopped.contains(bot)
        };
        let instances = self.engine.instances();
        let next = roll.next(is_wanted, wanted.keys(), &instances, now);
        if roll.is_over() {
            self.console.say("the roll is over");
            self.roll = None;
        }
        for bot in next {
            self.stop(&bot, Why::Rolled);
        }
    }

    fn act(&mut self, action: Action, now: Duration) {
        match action {
            Action::Start(bot) => self.begin(&bot, now),
            Action::Stop(bot, why) => self.stop(&bot, why),
            Action::Forget(bot) => self.engine.forget(&bot),
        }
    }

    fn stop(&mut self, bot: &BotId, why: Why) {
        self.board.count(|metrics| metrics.stopped(why));
        self.halt(bot, why, self.now());
    }

    /// Starts the bot anew: at once, whatever it was waiting for.
    pub fn restart(&mut self, bot: &BotId) {
        self.engine.hope();
        self.asked(bot);
        self.stop(bot, Why::Restarted);
        self.engine.forget(bot);
        self.look_again();
    }

    /// A person acts: what they have changed before in the database should be known.
    pub fn look_again(&self) {
        self.waker.iter().for_each(Waker::wake);
    }

    /// A person confirms that the missing bots were removed on purpose.
    pub fn confirm(&mut self) -> BTreeSet<BotId> {
        self.patience.confirm(self.held.iter().cloned());
        self.held.clone()
    }

    /// All instances.
    pub fn instances(&self) -> BTreeMap<BotId, Instance> {
        self.engine.instances()
    }

    /// The name a bot had when it was last started.
    pub fn name_of(&self, bot: &BotId) -> Option<String> {
        if let Engine::Docker(_) | Engine::Kubernetes(_) = &self.engine {
            return self.engine.instance(bot)?.name.clone();
        }
        let path = self.host.folder(bot).join(place::ABOUT);
        let about: place::About = contract::file::read_json(&path).ok().flatten()?;
        Some(about.name)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests;
