//! The way between the agent and the Docker daemon, on which it is noted when what was asked, and which can be cut.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tests::stack::LONG;

/// The daemon's own socket.
pub const DAEMON: &str = "/var/run/docker.sock";

/// A socket that stands for the daemon's.
pub struct Wire {
    path: PathBuf,
    inside: Arc<Inside>,
}

#[derive(Default)]
struct Inside {
    is_cut: AtomicBool,
    held: OnceLock<&'static str>,
    asked: Mutex<Vec<(Instant, String)>>,
    live: Mutex<Vec<UnixStream>>,
}

impl Wire {
    /// At a path in `folder`.
    pub fn lay(folder: &Path) -> Self {
        let path = folder.join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let inside = Arc::new(Inside::default());
        let shared = Arc::clone(&inside);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                shared.join(client);
            }
        });
        Self { path, inside }
    }

    /// For `DOCKER_HOST`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// When the first request after `since` was made that `is` so.
    ///
    /// # Panics
    /// When none is.
    pub fn at(&self, since: Instant, is: impl Fn(&str) -> bool) -> Instant {
        let end = Instant::now() + LONG;
        loop {
            let asked = lock(&self.inside.asked);
            let mut found = asked.iter().filter(|(at, what)| *at >= since && is(what));
            if let Some((at, _)) = found.next() {
                return *at;
            }
            drop(asked);
            assert!(Instant::now() < end, "the agent has not asked for it");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        self.inside.is_cut.store(true, Ordering::SeqCst);
        for stream in lock(&self.inside.live).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// From now on requests with this in their first line are not passed on, and never answered.
    pub fn holds(&self, what: &'static str) {
        let _ = self.inside.held.set(what);
    }

    /// It does again.
    pub fn mend(&self) {
        self.inside.is_cut.store(false, Ordering::SeqCst);
    }
}

impl Inside {
    fn join(self: &Arc<Self>, client: UnixStream) {
        if self.is_cut.load(Ordering::SeqCst) {
            return;
        }
        let daemon = UnixStream::connect(DAEMON).expect("the daemon");
        let clone = |stream: &UnixStream| stream.try_clone().expect("a descriptor");
        lock(&self.live).extend([clone(&client), clone(&daemon)]);
        let (answers, asker) = (clone(&daemon), clone(&client));
        thread::spawn(move || pass(answers, asker, |_| true));
        let inside = Arc::clone(self);
        thread::spawn(move || pass(client, daemon, |bytes| inside.note(bytes)));
    }

    /// A request begins where a write of the client does. Whether it is passed on.
    fn note(&self, bytes: &[u8]) -> bool {
        if bytes.starts_with(b"POST ") {
            let line = bytes
                .split(|byte| *byte == b'\r')
                .next()
                .unwrap_or_default();
            let line = String::from_utf8_lossy(line).into_owned();
            let is_held = self.held.get().is_some_and(|what| line.contains(what));
            lock(&self.asked).push((Instant::now(), line));
            return !is_held;
        }
        true
    }
}

fn pass(mut from: UnixStream, mut to: UnixStream, passes: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if passes(&buffer[..count]) && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
