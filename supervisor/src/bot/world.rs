//! What happens outside, as events: poll(2) over everything that can.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use contract::file;
use contract::record::Synced;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::{Bot, Main, SidesAim};
use crate::init::timeout;
use crate::launch;
use crate::machine::{Event, Exit};
use crate::processes::{self, Change};
use crate::signals;

/// Without a watch on the folder, it is looked into this often.
const WITHOUT_WATCH: Duration = Duration::from_secs(1);

/// Who can wake us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Input,
    Folder,
    /// One of the bot's streams has something.
    Pipe(usize),
    /// Our own stream takes something again.
    Room(usize),
}

impl Bot {
    /// Sleeps until something happens and takes it.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let stdin = io::stdin();
        let sources = self.sources(&stdin);
        let mut fds: Vec<PollFd<'_>> = sources
            .iter()
            .map(|(_, fd, flags)| PollFd::new(*fd, *flags))
            .collect();
        match poll(&mut fds, timeout(self.deadline(), self.now())) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(err) => return Err(err.into()),
        }
        let woken = sources.iter().zip(&fds);
        let woken: Vec<Source> = woken
            .filter(|(_, fd)| fd.any().unwrap_or(true))
            .map(|((source, ..), _)| *source)
            .collect();
        for source in woken {
            self.handle(source);
        }
        if self.is_blind() {
            self.look_at_synced();
        }
        if let Main::Alive { .. } = self.main {
            self.zombies.look(self.now());
        }
        Ok(())
    }

    /// Whether nobody may tell us that `sync` has said something. A watch is no more than a hint (its folder may have
    /// been replaced, its queue may run over), and the last push is too dear to miss.
    fn is_blind(&self) -> bool {
        self.watch.is_none() || self.machine.is_draining()
    }

    fn deadline(&self) -> Option<Duration> {
        let matters = matches!(self.main, Main::Alive { .. })
            || self.sides == SidesAim::Up
            || self.machine.is_draining();
        let blind = (self.is_blind() && matters).then(|| self.now() + WITHOUT_WATCH);
        let all = [
            self.machine.deadline(),
            self.sync.deadline(),
            self.query.deadline(),
            blind,
            self.records
                .again()
                .map(|due| due.saturating_duration_since(self.clock)),
        ];
        all.into_iter().flatten().min()
    }

    fn sources<'a>(&'a self, stdin: &'a io::Stdin) -> Vec<(Source, BorrowedFd<'a>, PollFlags)> {
        let mut sources = vec![(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN)];
        if self.input.is_some() {
            sources.push((Source::Input, stdin.as_fd(), PollFlags::POLLIN));
        }
        if let Some(watch) = &self.watch {
            sources.push((Source::Folder, watch.as_fd(), PollFlags::POLLIN));
        }
        for index in 0..2 {
            if let Some(pipe) = self.tee.pipe(index) {
                sources.push((Source::Pipe(index), pipe, PollFlags::POLLIN));
            }
            if let Some(fd) = self.tee.waits_for(index) {
                sources.push((Source::Room(index), fd, PollFlags::POLLOUT));
            }
        }
        sources
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.handle_signals(),
            Source::Input => self.read_keys(),
            Source::Folder => {
                if let Some(watch) = &self.watch {
                    let _ = watch.read_events();
                }
                self.look_at_synced();
            }
            Source::Pipe(index) => self.tee.read(index),
            Source::Room(index) => self.tee.resume(index),
        }
    }

    fn handle_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                signals::CHLD => self.reap(),
                signals::TERM | signals::INT => {
                    // Before the bot knows: once it has ended, nobody can tell any more.
                    self.zombies.tell_all();
                    self.take(Event::Stop(signal));
                    contract::info!("{}: stopping", signals::name(signal));
                }
                other => self.forward(other),
            }
        }
    }

    fn reap(&mut self) {
        let mut ended = Vec::new();
        let watched = self.watched();
        processes::reap(|pid, change| {
            if let (true, Change::Ended(exit)) = (watched.contains(&pid), change) {
                ended.push((pid, exit));
            }
        });
        for (pid, exit) in ended {
            self.note_end(pid, exit);
        }
    }

    fn watched(&self) -> Vec<i32> {
        let mut watched = self.others();
        if let Main::Alive { pid, .. } = self.main {
            watched.push(pid);
        }
        watched
    }

    fn note_end(&mut self, pid: i32, exit: Exit) {
        if self.fetch == Some(pid) {
            self.fetch = None;
            self.take(Event::Fetched(exit));
        } else if self.sync.pid() == Some(pid) {
            self.sync.ended(exit, self.now());
            self.note_sides_gone();
            self.take_pending();
        } else if self.query.pid() == Some(pid) {
            self.query.ended(exit, self.now());
            self.note_sides_gone();
            self.take_pending();
        } else if matches!(self.main, Main::Alive { pid: own, .. } if own == pid) {
            self.note_bot_end(pid, exit);
        } else {
            // Its number may now be given to a process of the bot's.
            self.elders.retain(|elder| *elder != pid);
        }
    }

    fn read_keys(&mut self) {
        let Some(input) = &mut self.input else { return };
        if let Err(err) = input.read() {
            contract::warn!("{err}");
        }
        self.take_keys();
    }

    /// Takes the keys among what has been read; the launch may have come with some right behind it.
    pub(super) fn take_keys(&mut self) {
        while let Some(line) = self.input.as_mut().and_then(launch::Input::line) {
            match launch::keys(&line) {
                Ok(keys) => {
                    self.keys = keys;
                    contract::info!("renewed keys have come");
                    self.hand_on_keys();
                }
                Err(err) => contract::warn!("renewed keys: {err}"),
            }
        }
        if self.input.as_ref().is_some_and(|input| !input.is_open()) {
            self.input = None;
        }
    }

    /// Reads what `sync` says; the same twice is said once.
    pub(super) fn look_at_synced(&mut self) {
        let read: io::Result<Option<Synced>> = file::read_json(&self.launch.paths.synced());
        let Ok(Some(synced)) = read else { return };
        if self.seen.as_ref() == Some(&synced) {
            return;
        }
        let event = Event::Synced {
            outcome: synced.outcome,
            run: synced.run,
        };
        let is_news = self
            .seen
            .as_ref()
            .is_none_or(|seen| seen.outcome != synced.outcome);
        if is_news {
            contract::debug!("sync says {:?}", synced.outcome);
        }
        self.seen = Some(synced);
        self.take(event);
    }
}
