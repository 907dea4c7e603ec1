//! What shortens the wait: file events, signals. A hint may come late, twice or never; the scan is the truth.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
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

/// What waits in the queue already: a state or a log that never rests is one hint until that is taken, so the queue
/// stays short. TERM is seen past it.
#[derive(Debug, Default)]
struct Flags {
    state: AtomicBool,
    log: AtomicBool,
    term: AtomicBool,
}

impl Flags {
    /// Whether the hint is to be queued.
    fn is_news(&self, wake: Wake) -> bool {
        match wake {
            Wake::State => !self.state.swap(true, Ordering::AcqRel),
            Wake::Log => !self.log.swap(true, Ordering::AcqRel),
            _ => true,
        }
    }

    fn taken(&self, wake: Wake) {
        match wake {
            Wake::State => self.state.store(false, Ordering::Release),
            Wake::Log => self.log.store(false, Ordering::Release),
            Wake::Term => self.term.store(false, Ordering::Release),
            _ => {}
        }
    }
}

/// Where hints arrive.
#[derive(Debug)]
pub struct Hints {
    wakes: Receiver<Wake>,
    sender: Sender<Wake>,
    flags: Arc<Flags>,
    watcher: Option<RecommendedWatcher>,
}

impl Hints {
    /// Takes over the signals; called before any other thread is started.
    pub fn new() -> anyhow::Result<Self> {
        ends().thread_block()?;
        let (sender, wakes) = channel();
        let told = sender.clone();
        let flags = Arc::<Flags>::default();
        let flag = Arc::clone(&flags);
        let wait = move || {
            while ends().wait().is_ok() {
                flag.term.store(true, Ordering::Release);
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
            flags,
            watcher: None,
        })
    }

    /// Watches the folders of `paths`.
    pub fn watch(&mut self, paths: &Paths) -> notify::Result<()> {
        self.watcher = None;
        let told = self.sender.clone();
        let flags = Arc::clone(&self.flags);
        let folders = (paths.state.clone(), paths.logs.clone(), paths.var.clone());
        let tell = move |event: notify::Result<Event>| {
            let wake = match event {
                Ok(event) => of_event(&event, &folders),
                // Events were lost: look at everything.
                Err(_) => Some(Wake::State),
            };
            if let Some(wake) = wake.filter(|wake| flags.is_news(*wake)) {
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

    /// The next hint, or [`Wake::Time`] after `most`. Hints that never end do not keep the time from passing, nor
    /// TERM from being seen.
    pub fn wait(&self, most: Duration) -> Wake {
        if self.flags.term.swap(false, Ordering::AcqRel) {
            return Wake::Term;
        }
        if most.is_zero() {
            return Wake::Time;
        }
        let wake = self.wakes.recv_timeout(most).unwrap_or(Wake::Time);
        self.flags.taken(wake);
        wake
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
