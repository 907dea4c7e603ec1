//! What shortens the wait: file events, signals. A hint may come late, twice or never; the scan is the truth.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use contract::Paths;
use nix::sys::signal::{SigSet, Signal};
use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something in the state, perhaps.
    State,
    /// Something in the log.
    Log,
    /// A run ended or began, perhaps.
    Run,
    /// We are told to end.
    Term,
    /// Only time has passed.
    Time,
}

/// Signals that tell us to end. To be blocked before any thread is started.
fn ends() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT].into_iter().collect()
}

/// Where hints arrive.
#[derive(Debug)]
pub struct Hints {
    wakes: Receiver<Wake>,
    sender: Sender<Wake>,
    log: Arc<AtomicBool>,
    watcher: Option<RecommendedWatcher>,
}

impl Hints {
    /// Takes over the signals; called before any other thread is started.
    pub fn new() -> anyhow::Result<Self> {
        ends().thread_block()?;
        let (sender, wakes) = channel();
        let told = sender.clone();
        let wait = move || {
            while ends().wait().is_ok() {
                if told.send(Wake::Term).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .stack_size(64 << 10)
            .spawn(wait)?;
        Ok(Self {
            wakes,
            sender,
            log: Arc::default(),
            watcher: None,
        })
    }

    /// Watches the folders of `paths`.
    pub fn watch(&mut self, paths: &Paths) -> notify::Result<()> {
        self.watcher = None;
        let told = self.sender.clone();
        let log = Arc::clone(&self.log);
        let folders = (paths.state.clone(), paths.logs.clone(), paths.var.clone());
        let tell = move |event: notify::Result<Event>| {
            let wake = match event {
                Ok(event) => of_event(&event, &folders),
                // Events were lost: look at everything.
                Err(_) => Some(Wake::State),
            };
            // A chatty log wakes us once until it is looked at.
            if wake == Some(Wake::Log) && log.swap(true, Ordering::AcqRel) {
                return;
            }
            if let Some(wake) = wake {
                let _ = told.send(wake);
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(tell, config)?;
        watcher.watch(&paths.var, RecursiveMode::NonRecursive)?;
        watcher.watch(&paths.logs, RecursiveMode::NonRecursive)?;
        watcher.watch(&paths.state, RecursiveMode::Recursive)?;
        self.watcher = Some(watcher);
        Ok(())
    }

    /// The next hint, or [`Wake::Time`] after `most`.
    pub fn wait(&self, most: Duration) -> Wake {
        match self.wakes.recv_timeout(most) {
            Ok(Wake::Log) => {
                self.log.store(false, Ordering::Release);
                Wake::Log
            }
            Ok(wake) => wake,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Wake::Time,
        }
    }
}

/// What an event is about. Reading is no change, and what `sync` writes itself is no news.
fn of_event(event: &Event, (state, logs, var): &(PathBuf, PathBuf, PathBuf)) -> Option<Wake> {
    let changes = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    };
    if !changes {
        return None;
    }
    if event.need_rescan() || event.paths.is_empty() {
        return Some(Wake::State);
    }
    let inside = |folder: &Path| event.paths.iter().any(|path| path.starts_with(folder));
    let named = |names: &[&str]| {
        let name = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|n| names.iter().any(|m| n == *m))
        };
        event.paths.iter().any(name)
    };
    if inside(state) {
        Some(Wake::State)
    } else if inside(logs) {
        Some(Wake::Log)
    } else {
        (inside(var) && named(&["done", "done.json"])).then_some(Wake::Run)
    }
}
