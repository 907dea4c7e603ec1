//! The contract's run: the loop that turns the world into events for the [machine](crate::machine) and carries out
//! what it decides.
//!
//! One thread, one poll(2): signals, the bot's output, keys on standard input, the folder in which `sync` writes
//! `synced.json`. Nothing wakes it when nothing happens.

mod begin;
mod children;
mod world;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use contract::Launch;
use contract::launch::Keys;
use contract::record::{Reason, RunRecord, State, Status, Synced, Time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::Inotify;

use crate::cli::BotOptions;
use crate::launch::Input;
use crate::machine::{Effect, Ended, Event, Machine, Sides};
use crate::oom::Counter;
use crate::processes::{self, Reaped};
use crate::records::{Records, before_now, say_last};
use crate::side::Side;
use crate::signals::{self, Signals};
use crate::tee::Tee;
use crate::zombies::Zombies;

/// How long the last sweep may take.
const LAST_SWEEP: Duration = Duration::from_secs(1);

/// Everything of one bot.
struct Bot {
    launch: Launch,
    signals: Signals,
    clock: Instant,
    machine: Machine,
    pending: VecDeque<Event>,
    records: Records,
    tee: Tee,
    stderr: OwnedFd,
    main: Main,
    run_began: Time,
    fetch: Option<i32>,
    sync: Side,
    query: Side,
    keys: Keys,
    input: Option<Input>,
    watch: Option<Inotify>,
    seen: Option<Synced>,
    counter: Option<Counter>,
    kills_before: u64,
    zombies: Zombies,
    sides: SidesAim,
    /// Children that whoever became us had before.
    elders: Vec<i32>,
    exit: Option<u8>,
}

/// The bot's main process.
#[derive(Debug)]
enum Main {
    /// There was none yet.
    None,
    /// It runs; the pipe tells if it never became the bot.
    Alive { pid: i32, report: OwnedFd },
    /// It is reaped.
    Gone { pid: i32 },
}

/// What is meant to be with the sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SidesAim {
    Up,
    Down,
    /// Down, and the machine waits to hear that they are.
    Ending,
}

/// Runs the bot of our launch and gives the code to exit with.
///
/// # Errors
/// The kernel gives us no descriptors.
pub fn run(options: &BotOptions) -> io::Result<u8> {
    let mut bot = match begin::begin(options)? {
        begin::Begun::Bot(bot) => bot,
        begin::Begun::Over(code) => return Ok(code),
    };
    bot.take_keys();
    bot.look_at_synced();
    bot.take(Event::Begin);
    bot.look_at_synced();
    if options.sides == Sides::Elsewhere {
        bot.want_query();
    }
    loop {
        bot.start_due_sides();
        bot.clear();
        if let Some(code) = bot.exit {
            bot.records.catch_up();
            bot.tee.finish();
            bot.sweep();
            return Ok(code);
        }
        bot.wait()?;
        bot.tick();
    }
}

impl Bot {
    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    fn tick(&mut self) {
        if self
            .records
            .again()
            .is_some_and(|due| due <= Instant::now())
        {
            self.records.catch_up();
        }
        if self.machine.deadline().is_some_and(|due| due <= self.now()) {
            self.take(Event::Tick);
        }
    }

    /// Hands `event` to the machine and does what it says, and so on until nothing follows.
    fn take(&mut self, event: Event) {
        self.pending.push_back(event);
        self.take_pending();
    }

    fn take_pending(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            for effect in self.machine.on(event, self.now()) {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Fetch => self.start_fetch(),
            Effect::SignalFetch(signal) => {
                if let Some(pid) = self.fetch {
                    let _ = signals::send(pid, signal);
                }
            }
            Effect::StartSides => self.start_sides(),
            Effect::StopSides => self.stop_sides(),
            Effect::KillSides => self.kill_sides(),
            Effect::Start { run } => self.start_bot(run),
            Effect::Signal(signal) => self.forward(signal),
            Effect::EndLeftovers => self.signal_run(signals::TERM),
            Effect::KillLeftovers => self.kill_run(),
            Effect::Record(ended) => self.record(ended),
            Effect::Refuse { code, reason, run } => self.refuse(code, reason, run),
            Effect::Status(state, pause) => self.status(state, pause),
            Effect::AwaitPush => {
                contract::info!("waiting up to {:?} for the last push", self.launch.drain);
            }
            Effect::Unsaved => self.tell_unsaved(),
            Effect::Exit(code) => self.exit = Some(code),
        }
    }

    fn forward(&self, signal: i32) {
        if let Main::Alive { pid, .. } = self.main {
            contract::debug!("signal {} for the bot", signals::name(signal));
            let _ = signals::send(pid, signal);
        }
    }

    /// Sends `signal` to all that descends from the run.
    fn signal_run(&mut self, signal: i32) {
        let others = self.others();
        match self.main {
            Main::None => {}
            Main::Alive { pid, .. } => processes::signal_run(pid, &others, signal, Reaped::No),
            Main::Gone { pid } => {
                let left = processes::leftovers(&others).map_or(0, |list| list.len());
                if left > 0 {
                    contract::info!(
                        "{left} processes are left of the run: {} for them",
                        signals::name(signal)
                    );
                }
                processes::signal_run(pid, &others, signal, Reaped::Yes);
            }
        }
    }

    fn kill_run(&mut self) {
        let grace = self.launch.grace;
        if let Main::Alive { .. } = self.main {
            contract::warn!("the bot has not ended within its grace of {grace:?}: KILL");
        }
        self.signal_run(signals::KILL);
    }

    /// Processes of ours that are no part of a run.
    fn others(&self) -> Vec<i32> {
        let ours = [self.fetch, self.sync.pid(), self.query.pid()];
        ours.into_iter()
            .flatten()
            .chain(self.elders.iter().copied())
            .collect()
    }

    /// While leftovers are being ended: whether the last is gone; those who surface after a KILL get it too.
    fn clear(&mut self) {
        while self.machine.is_clearing() {
            let others = self.others();
            match processes::leftovers(&others) {
                Some(left) if !left.is_empty() => {
                    if self.machine.is_killing() {
                        for pid in left {
                            let _ = signals::send(pid, signals::KILL);
                        }
                    }
                    return;
                }
                _ => self.take(Event::Cleared),
            }
        }
    }

    /// What a side process or a fetch left behind does not stay behind us.
    fn sweep(&self) {
        let end = self.now() + LAST_SWEEP;
        while self.now() < end {
            let left = processes::leftovers(&self.elders).unwrap_or_default();
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = signals::send(pid, signals::KILL);
            }
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(20u8));
            while self.signals.next().is_some() {}
            processes::reap(|_, _| ());
        }
    }

    fn record(&mut self, ended: Ended) {
        self.tee.close();
        // Which limit it is over, and by how much.
        let over = (ended.reason == Reason::Disk).then(|| self.why_unsaved());
        let record = RunRecord {
            run: ended.run,
            code: ended.exit.code(),
            signal: ended.exit.signal(),
            reason: ended.reason,
            started_at: self.run_began,
            ended_at: before_now(ended.ago),
            restarts: ended.restarts,
            message: ended.message.or(over.flatten()),
            result: crate::result::read(&self.launch.paths.result()),
        };
        let (run, exit, reason) = (record.run, ended.exit, record.reason.name());
        match (&record.message, record.reason) {
            (Some(message), Reason::Disk) => {
                contract::error!("run {run} ended: disk, {exit}: {message}");
            }
            (Some(message), _) => contract::error!("run {run} could not be started: {message}"),
            (None, Reason::Oom) => {
                contract::error!(
                    "run {run} was killed by the kernel for want of memory: raise the bot's memory limit"
                );
            }
            (None, Reason::Killed) => contract::warn!("run {run} ended: {reason}, {exit}"),
            (None, _) => contract::info!("run {run} ended: {reason}, {exit}"),
        }
        self.records.write_run(&record);
        say_last(self.machine.sides(), &record, &self.launch.paths.runs());
    }

    /// What `sync` says of why it does not save.
    fn why_unsaved(&self) -> Option<String> {
        let read = contract::file::read_json(&self.launch.paths.synced());
        let synced: Option<Synced> = read.ok().flatten();
        synced?.error
    }

    fn refuse(&mut self, code: u8, reason: Reason, run: u64) {
        let message = match reason {
            Reason::Stopped => "stopped before the bot was started".to_owned(),
            Reason::Fenced => "another instance has claimed the bot".to_owned(),
            Reason::Edited => {
                "its state was edited in the store and is not fetched here: the Pod has to be made anew"
                    .to_owned()
            }
            Reason::Disk => "its state has outgrown the limit, and nothing is saved".to_owned(),
            _ => match contract::exit::meaning(code) {
                Some(meaning) => {
                    format!("sync fetch ended with code {code}: {meaning}; its own lines say more")
                }
                None => format!("sync fetch ended with code {code}; its own lines say more"),
            },
        };
        match reason {
            Reason::Stopped => contract::info!("{message}"),
            _ => contract::error!("the bot is not started: {message}"),
        }
        let now = Time::now();
        let record = RunRecord {
            run,
            code,
            signal: None,
            reason,
            started_at: now,
            ended_at: now,
            restarts: self.machine.restarts(),
            message: Some(message),
            result: None,
        };
        self.records.write_done(&record);
        say_last(self.machine.sides(), &record, &self.launch.paths.runs());
    }

    fn status(&mut self, state: State, pause: Option<Duration>) {
        match (state, pause) {
            (State::Waiting, Some(pause)) => {
                contract::info!("the bot is started again in {} s", pause.as_secs());
            }
            (State::Stopping, _) if matches!(self.main, Main::Alive { .. }) => {
                contract::info!("waiting up to {:?} for the bot to end", self.launch.grace);
            }
            _ => {}
        }
        let now = SystemTime::now();
        let pid = match self.main {
            Main::Alive { pid, .. } => Some(pid),
            _ => None,
        };
        self.records.write_status(&Status {
            state,
            since: if state == State::Running {
                self.run_began
            } else {
                Time::from(now)
            },
            run: self.machine.run(),
            pid,
            restarts: self.machine.restarts(),
            next_start: pause.map(|pause| Time::from(now + pause)),
            supervisor: std::process::id(),
            log_lines_dropped: self.tee.dropped(),
        });
    }

    fn tell_unsaved(&self) {
        let why = match &self.seen {
            Some(Synced {
                error: Some(error), ..
            }) => error.as_str(),
            _ => "sync has not said that it is",
        };
        contract::error!(
            "the bot's last state or log is NOT in the store ({why}); both are still in {} and {}: keep them",
            self.launch.paths.state.display(),
            self.launch.paths.logs.display()
        );
    }
}
