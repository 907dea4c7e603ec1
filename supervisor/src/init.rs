//! `supervisor run`: an init for any command. No fetch, no sides, no files, descriptors 0, 1 and 2 untouched.
//!
//! The decisions are the [machine](crate::machine)'s, with one run and nobody to wait for after it.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use contract::exit;
use contract::stage::{Cage, Placement, Stage};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::{RunOptions, Target};
use crate::machine::{Effect, Ending, Event, Machine, Plan, Restart, Sides};
use crate::processes::{self, Change, Left, Reaped};
use crate::signals::{self, Signals};
use crate::spawn;
use crate::terminal;
use crate::zombies::Zombies;

struct Init {
    options: RunOptions,
    signals: Signals,
    started: Instant,
    machine: Machine,
    main: Main,
    placement: Placement,
    /// Children that whoever became us had before.
    elders: Vec<i32>,
    zombies: Zombies,
    exit: Option<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Main {
    NotYet,
    Alive(i32),
    Reaped(i32),
}

/// Runs the command and gives the code to exit with.
///
/// # Errors
/// The kernel gives us no descriptors.
pub fn run(options: RunOptions) -> io::Result<u8> {
    let signals = Signals::take()?;
    crate::become_reaper();
    let plan = Plan {
        restart: Restart::Never,
        sides: Sides::Elsewhere,
        grace: options.grace,
        drain: Duration::ZERO,
        last_run: 0,
    };
    let mut init = Init {
        options,
        signals,
        started: Instant::now(),
        machine: Machine::new(plan),
        main: Main::NotYet,
        placement: terminal::placement(),
        elders: processes::children().unwrap_or_default(),
        zombies: Zombies::default(),
        exit: None,
    };
    init.take(Event::Begin);
    loop {
        if let Some(code) = init.exit {
            return Ok(code);
        }
        init.wait()?;
        init.handle_signals();
        if let Main::Alive(_) = init.main {
            init.zombies.look(init.started.elapsed());
        }
        if init
            .machine
            .deadline()
            .is_some_and(|due| due <= init.started.elapsed())
        {
            init.take(Event::Tick);
        }
    }
}

/// How long to sleep until `deadline`; no end without one.
pub fn timeout(deadline: Option<Duration>, now: Duration) -> PollTimeout {
    let Some(due) = deadline else {
        return PollTimeout::NONE;
    };
    // Rounded up, so that the deadline has passed when we wake.
    let millis = due.saturating_sub(now).as_nanos().div_ceil(1_000_000);
    PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
}

impl Init {
    fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match poll(
            &mut fds,
            timeout(self.machine.deadline(), self.started.elapsed()),
        ) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    fn handle_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                signals::CHLD => self.reap(),
                signals::CONT => self.continued(),
                signals::TERM => self.stop(),
                other => self.forward(other),
            }
        }
    }

    /// Before the first TERM goes on, while there are parents to name; a child without children waits for nothing.
    fn stop(&mut self) {
        if let (Main::Alive(pid), None) = (self.main, self.machine.deadline())
            && processes::has_children(pid)
        {
            self.zombies.tell_all();
        }
        self.take(Event::Stop(signals::TERM));
    }

    fn continued(&self) {
        match (self.placement, self.main) {
            (_, Main::Alive(pid)) if self.placement == Placement::Foreground => {
                terminal::continued(pid);
            }
            _ => self.forward(signals::CONT),
        }
    }

    fn forward(&self, signal: i32) {
        if let Main::Alive(pid) = self.main {
            let _ = match self.options.target {
                Target::Main => signals::send(pid, signal),
                Target::Group => signals::send_group(pid, signal),
            };
        }
    }

    fn reap(&mut self) {
        let mut ended = None;
        let (main, elders) = (self.main, &mut self.elders);
        let left = processes::reap(|pid, change| match (main, change) {
            (Main::Alive(own), Change::Ended(exit)) if own == pid => ended = Some((pid, exit)),
            (Main::Alive(own), Change::Stopped(signal)) if own == pid => {
                terminal::child_stopped(pid, signal);
            }
            // Its number may now be given to a process of the command's.
            (_, Change::Ended(_)) => elders.retain(|elder| *elder != pid),
            _ => {}
        });
        if let Some((pid, exit)) = ended {
            self.main = Main::Reaped(pid);
            if self.placement == Placement::Foreground {
                terminal::take_back(pid);
            }
            self.take(Event::Ended(Ending::Exit(exit)));
        }
        self.clear(left);
    }

    /// While leftovers are being ended: whether the last is gone, and once KILL has begun, the next to get it.
    fn clear(&mut self, left: Left) {
        if !self.machine.is_clearing() {
            return;
        }
        let none = match left {
            Left::None => true,
            Left::Some if self.elders.is_empty() => false,
            Left::Some => processes::leftovers(&self.elders).is_none_or(|left| left.is_empty()),
        };
        if none {
            self.take(Event::Cleared);
        } else if self.machine.is_killing() {
            self.signal_run(signals::KILL);
        }
    }

    fn signal_run(&self, signal: i32) {
        match self.main {
            Main::NotYet => {}
            Main::Alive(pid) => processes::signal_run(pid, &self.elders, signal, Reaped::No),
            Main::Reaped(pid) => processes::signal_run(pid, &self.elders, signal, Reaped::Yes),
        }
    }

    fn take(&mut self, event: Event) {
        for effect in self.machine.on(event, self.started.elapsed()) {
            match effect {
                Effect::Start { .. } => self.start(),
                Effect::Signal(signal) => self.forward(signal),
                Effect::EndLeftovers => self.signal_run(signals::TERM),
                Effect::KillLeftovers => self.signal_run(signals::KILL),
                Effect::Exit(code) => self.exit = Some(code),
                _ => {}
            }
        }
    }

    fn start(&mut self) {
        let stage = Stage {
            placement: self.placement,
            cage: Cage::Open,
            parent_death_signal: 0,
            oom_score_above: 0,
            directory: None,
            command: self.options.command.clone(),
        };
        match spawn::here(&stage, self.signals.given()) {
            Ok(pid) => self.main = Main::Alive(pid),
            Err(err) => {
                contract::error!(
                    "start a process: {err}: is a limit on processes or memory reached?"
                );
                self.exit = Some(exit::INTERNAL);
            }
        }
    }
}
