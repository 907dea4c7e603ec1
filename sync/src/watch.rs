//! `sync watch`: keeps the store up to date with the disk until it is told to end.
//!
//! ```text
//! hints ─▶ Pace ─▶ due: pass | log | look | log size ─▶ Pusher, Shipper ─▶ synced.json
//!            ▲                                                │
//!            └───────────────── how it went ◀─────────────────┘
//! ```
//!
//! The end of a run (`done`, `done.json`) and TERM cause a pass at once, which reads all of a state that is not large
//! ([`Care::All`]). After TERM the pass is repeated when the bot has ended, for which it waits as long as `THE0_DRAIN`
//! says; with [`Patience::Endless`] the last push is tried until it is done, or whoever sent TERM kills us. A store that
//! fails is tried again for ever. State and log go out each in its own time; `synced.json` says how both went last, and
//! at the end the last words in a Pod's status do. Lines a fenced instance has logged are shipped all the same: they were logged, and nobody else has
//! them.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;
use contract::record::{CODE_OVER, Outcome, RunRecord, Synced, Time};
use nix::time::{ClockId, clock_gettime};

use crate::base::Base;
use crate::command::{Patience, Until};
use crate::hints::{Hints, Wake};
use crate::pace::{At, Pace, Went, Work};
use crate::push::{Care, Halt, Pushed, Pusher, Sight};
use crate::result::Parcel;
use crate::settings::{Keeping, LARGEST_CODE, Settings};
use crate::ship::Shipper;
use crate::store::Store;
use crate::{pace, restore, retry, room, traffic};

/// Between two tries of the last push, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Makes ready to watch: [`Watch::run`] does it.
pub fn begin<'a>(
    settings: &'a Settings,
    store: &'a Store,
    hints: Hints,
) -> anyhow::Result<Watch<'a>> {
    let paths = &settings.launch.paths;
    fs::create_dir_all(&paths.logs).with_context(|| format!("make {}", paths.logs.display()))?;
    restore::finish(settings)?;
    let base = Base::load(settings).context("read what the state is based on")?;
    let base = match settings.state {
        Keeping::Kept => base.context("the state was not fetched: run `sync fetch` first")?,
        Keeping::Off | Keeping::Read => Base::default(),
    };
    let synced = contract::file::read_json(&paths.synced()).ok().flatten();
    let shipper = Shipper::new(settings, store).context("read how far the log is shipped")?;
    let mut watch = Watch {
        run: synced.as_ref().map_or(0, |synced: &Synced| synced.run),
        synced: synced.filter(|synced| synced.generation == base.generation),
        pusher: Pusher::new(settings, store, base),
        pace: Pace::new(pace::Hints::Come),
        started: Instant::now(),
        ended: Ended::default(),
        state: (Outcome::Ok, None),
        held_at: None,
        log: Ok(()),
        parcel: Parcel::new(settings, store),
        result: Ok(()),
        room: (Room::Enough, At::ZERO),
        settings,
        shipper,
        hints,
    };
    watch.begin();
    Ok(watch)
}

/// What there is of the last run's end.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Ended {
    /// Its record's number.
    run: Option<u64>,
    /// When the exit file was written.
    done: Option<std::time::SystemTime>,
}

/// Whether there is room for the folder of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Enough,
    Over,
}

/// When `synced.json` is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tell {
    /// In any case: someone waits for it.
    Always,
    /// When it says something new.
    News,
}

/// A bot's folders that are watched.
pub struct Watch<'a> {
    settings: &'a Settings,
    hints: Hints,
    pace: Pace,
    pusher: Pusher<'a>,
    shipper: Shipper<'a>,
    started: Instant,
    ended: Ended,
    /// How the last pass went.
    state: (Outcome, Option<String>),
    /// When the store last held all of the state.
    held_at: Option<Time>,
    /// How the log's last shipping went.
    log: Result<(), String>,
    /// The result of what runs once, and how its last sending went.
    parcel: Parcel<'a>,
    result: Result<(), String>,
    /// Whether the folder of the code has outgrown its limit, and when that is looked at next.
    room: (Room, At),
    run: u64,
    synced: Option<Synced>,
}

impl Watch<'_> {
    fn begin(&mut self) {
        if let Err(error) = self.hints.watch(&self.settings.launch.paths) {
            contract::warn!("folders cannot be watched and are scanned instead: {error}");
            self.pace = Pace::new(Pace::without_hints());
        }
        let generation = self.pusher.generation();
        contract::journal::as_generation(generation);
        contract::info!("watching as generation {generation}");
        self.pace.log_seen(self.now(), self.shipper.waiting());
    }

    fn now(&self) -> At {
        self.started.elapsed()
    }

    /// Keeps the store up to date until told to end, or until the end of a run.
    pub fn run(mut self, until: Until, patience: Patience) {
        loop {
            let (at, work) = self.pace.next();
            match self.hints.wait(at.saturating_sub(self.now())) {
                Wake::State => self.pace.state_changed(self.now()),
                Wake::Log => self.pace.log_changed(self.now()),
                Wake::Run => {}
                Wake::Time => self.work(work),
                Wake::Term => return self.end(patience),
            }
            if self.see_end() {
                self.save_all();
            }
            if until == Until::Done && self.has_ended() {
                return self.end(patience);
            }
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Pass => self.pass(),
            Work::Log => self.ship(),
            Work::LogSize => self.pace.log_seen(self.now(), self.shipper.waiting()),
            Work::Look => self.look(),
        }
    }

    /// Whether a run has ended since this was asked last.
    fn see_end(&mut self) -> bool {
        let paths = &self.settings.launch.paths;
        let record: Option<RunRecord> = contract::file::read_json(&paths.done_record())
            .ok()
            .flatten();
        let done = fs::metadata(paths.done())
            .and_then(|found| found.modified())
            .ok();
        let ended = Ended {
            run: record.map(|record| record.run),
            done,
        };
        if ended == self.ended {
            return false;
        }
        let some = ended != Ended::default();
        self.run = ended.run.unwrap_or(self.run);
        self.ended = ended;
        some
    }

    fn look(&mut self) {
        if self.settings.state != Keeping::Kept {
            return self.pace.looked(self.now());
        }
        match self.pusher.look() {
            // A state that has gone from the store, or a late write, is due for a push.
            Ok(None) if self.pusher.digest().is_none() => self.pace.state_changed(self.now()),
            Ok(None) => {}
            Ok(Some(_)) if self.is_told() => {}
            Ok(Some(_)) | Err(_) => return self.pass(),
        }
        self.pace.looked(self.now());
    }

    /// Whether the supervisor was told that nothing is pushed any more.
    fn is_told(&self) -> bool {
        let told = self.synced.as_ref().map(|synced| synced.outcome);
        matches!(told, Some(Outcome::Fenced | Outcome::Edited))
    }

    fn pass(&mut self) {
        self.push(Care::Changed);
        self.look_at_room();
        self.tell(Tell::News);
    }

    fn look_at_room(&mut self) {
        let now = self.now();
        if now < self.room.1 {
            return;
        }
        let (code, most) = (&self.settings.launch.paths.code, self.settings.largest_code);
        let room = if room::is_over(code, most) {
            Room::Over
        } else {
            Room::Enough
        };
        let then = self.now();
        self.room = (room, then + room::pause(then.saturating_sub(now)));
    }

    fn ship(&mut self) {
        self.ship_log();
        self.tell(Tell::News);
    }

    /// A run has ended, or we are to end: nothing waits.
    fn save_all(&mut self) {
        self.push(Care::All);
        self.ship_log();
        self.tell(Tell::Always);
    }

    /// Nothing is pushed of a state that is not kept, and it has its limit all the same.
    fn pass_over(&mut self, began: At) {
        let (places, paths) = (&self.settings.places, &self.settings.launch.paths);
        self.state = if room::is_over(&paths.state, places.largest_state) {
            let (state, most) = (paths.state.display(), places.largest_state >> 20);
            let text = format!("{state} has more than the {most} MiB of MAX_STATE_SIZE_MB");
            (Outcome::TooLarge, Some(text))
        } else {
            (Outcome::Ok, None)
        };
        self.held_at = Some(Time::now());
        let now = self.now();
        self.pace.looked(now);
        self.pace.passed(began, now, Went::Same);
        self.pace.log_seen(now, self.shipper.waiting());
    }

    fn push(&mut self, care: Care) {
        let began = self.now();
        if self.settings.state != Keeping::Kept {
            return self.pass_over(began);
        }
        // A state that is pushed each second is looked at no more often than one that rests.
        let sight = if care == Care::All || self.pace.is_look_due(began) {
            Sight::Whole
        } else {
            Sight::Claim
        };
        let before = worked();
        let state = self.pusher.pass(care, sight);
        let now = self.now();
        if sight == Sight::Whole {
            self.pace.looked(now);
        }
        let went = match state {
            Err(_) => Went::Failed,
            Ok(Pushed::New | Pushed::Torn) => Went::Pushed(worked().saturating_sub(before)),
            Ok(_) => Went::Same,
        };
        self.pace.passed(began, now, went);
        if matches!(state, Ok(Pushed::Torn)) {
            self.pace.state_changed(now);
        }
        self.state = outcome(state, self.pusher.oversize());
        if self.state.0 == Outcome::Ok {
            self.held_at = Some(Time::now());
        }
        self.pace.log_seen(now, self.shipper.waiting());
    }

    fn ship_log(&mut self) {
        let began = self.now();
        self.log = self.shipper.ship().map_err(|error| format!("{error:#}"));
        let (now, waiting) = (self.now(), self.shipper.waiting());
        match self.log {
            Ok(()) => self.pace.log_shipped(began, now, waiting),
            Err(_) => self.pace.log_failed(now),
        }
    }

    /// How state and log went, in one word; what became of the state comes first.
    fn outcome(&self) -> (Outcome, Option<String>) {
        if self.room.0 == Room::Over && self.state.0 == Outcome::Ok && !self.has_ended() {
            let (code, most) = (&self.settings.launch.paths.code, self.settings.largest_code);
            let text = format!(
                "{CODE_OVER} {}: more than {} MiB are in it; write to the state or /tmp, or raise {LARGEST_CODE}",
                code.display(),
                most >> 20
            );
            return (Outcome::TooLarge, Some(text));
        }
        match (&self.state, &self.log, &self.result) {
            ((Outcome::Ok, _), Err(error), _) => (Outcome::Failed, Some(format!("log: {error}"))),
            ((Outcome::Ok, _), _, Err(error)) => {
                (Outcome::Failed, Some(format!("result: {error}")))
            }
            (state, ..) => state.clone(),
        }
    }

    /// Replaces `synced.json`.
    fn tell(&mut self, when: Tell) {
        let (outcome, error) = self.outcome();
        crate::ready::saving(!matches!(outcome, Outcome::Ok | Outcome::Edited));
        let before = self.synced.as_ref();
        let ok_at = match outcome {
            Outcome::Ok => self.held_at,
            _ => before.and_then(|synced| synced.ok_at),
        };
        let synced = Synced {
            outcome,
            run: self.run,
            generation: self.pusher.generation(),
            digest: self
                .pusher
                .digest()
                .cloned()
                .or_else(|| before.and_then(|s| s.digest.clone())),
            log: self.shipper.position(),
            ok_at,
            at: Time::now(),
            error,
            left_out: self.pusher.left_out().to_vec(),
            traffic: Some(traffic::so_far()),
            result: self.parcel.sent(),
        };
        let news = before.is_none_or(|before| differs(before, &synced));
        if news {
            if let Some(error) = &synced.error {
                contract::warn!("not saved ({}): {error}", name(outcome));
            } else if before.is_some_and(|before| before.outcome != outcome) {
                contract::info!("saved again");
            }
        }
        if news || when == Tell::Always {
            self.write(synced);
        }
    }

    /// What cannot be written now is written after the next pass.
    fn write(&mut self, synced: Synced) {
        let path = self.settings.launch.paths.synced();
        match contract::file::replace_json(&path, &synced) {
            Ok(()) => self.synced = Some(synced),
            Err(error) => {
                contract::error!("{} cannot be written: {error}", path.display());
                self.synced = None;
            }
        }
    }

    /// After TERM: a pass, and one more when the bot has ended.
    fn end(&mut self, patience: Patience) {
        let until = Instant::now() + self.settings.launch.drain;
        self.see_end();
        if self.has_ended() {
            self.send_result();
        }
        self.save_last();
        if !self.has_ended() {
            self.wait_for_end(until);
            self.send_result();
            self.save_last();
        }
        let mut failures = 0;
        while self.has_failed() && (patience == Patience::Endless || Instant::now() < until) {
            std::thread::sleep(match patience {
                Patience::Drain => FIRST_PAUSE,
                Patience::Endless => retry::backoff(failures, FIRST_PAUSE, LONGEST_PAUSE),
            });
            failures += 1;
            self.see_end();
            self.send_result();
            self.save_last();
        }
        contract::info!("ending at generation {}", self.pusher.generation());
    }

    fn wait_for_end(&mut self, until: Instant) {
        contract::info!("the bot still runs, waiting for its end");
        while !self.has_ended() && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            self.hints.wait(left.min(FIRST_PAUSE));
            self.see_end();
        }
    }

    /// What runs once has ended, or was killed without a word of its end.
    fn send_result(&mut self) {
        self.result = self.parcel.send();
    }

    /// What is said of it may be the last.
    fn save_last(&mut self) {
        self.save_all();
        if let Some(synced) = &self.synced {
            crate::say_last(&contract::last_words::of_sync(synced));
        }
    }

    fn has_failed(&self) -> bool {
        let said = self.synced.as_ref().map(|synced| synced.outcome);
        said == Some(Outcome::Failed)
    }

    fn has_ended(&self) -> bool {
        self.ended.done.is_some()
    }
}

/// The processor's time this process has had.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// How the state went. That it is not ours any more comes before what else is wrong with it.
fn outcome(state: anyhow::Result<Pushed>, oversize: Option<u64>) -> (Outcome, Option<String>) {
    let limit = |bytes: u64| format!("the state has {bytes} bytes, over MAX_STATE_SIZE_MB");
    let halted = |why: &str| match oversize {
        None => why.to_owned(),
        Some(bytes) => format!("{why}; {}, and is not kept in the history", limit(bytes)),
    };
    let (outcome, text) = match state {
        Ok(Pushed::Same | Pushed::New | Pushed::Torn) => return (Outcome::Ok, None),
        Ok(Pushed::Halted(Halt::Fenced)) => (
            Outcome::Fenced,
            halted("another instance has claimed the bot"),
        ),
        Ok(Pushed::Halted(Halt::Edited)) => (
            Outcome::Edited,
            halted("the state in the store was replaced by someone else"),
        ),
        Ok(Pushed::TooLarge(bytes)) => (
            Outcome::TooLarge,
            format!("{}; nothing is pushed", limit(bytes)),
        ),
        Err(error) => (Outcome::Failed, format!("{error:#}")),
    };
    (outcome, Some(text))
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::Fenced => "fenced",
        Outcome::Edited => "edited",
        Outcome::TooLarge => "too large",
    }
}

/// Whether they say different things, times aside.
fn differs(a: &Synced, b: &Synced) -> bool {
    let times_of = |synced: &Synced| Synced {
        at: b.at,
        ok_at: b.ok_at,
        traffic: b.traffic,
        ..synced.clone()
    };
    times_of(a) != *b
}
