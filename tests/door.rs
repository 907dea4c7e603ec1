//! A door before a server, of TCP or of a Unix socket, which a test shuts in many ways: the agent goes through it, and
//! the test goes around it.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What becomes of those who come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They pass.
    Open,
    /// They are sent away, in the middle of a sentence if they have begun one.
    Refused,
    /// Nothing is carried on, and nobody says so.
    Hangs,
    /// Every answer comes so much later.
    Slow(Duration),
    /// Each HTTP request is answered with this status, and the server never hears of it.
    Answers(u16),
    /// Requests with this in their first line are kept back, and counted; all others pass.
    Keeps(&'static str),
    /// What a client says that has more bytes waits, and what the same one says after it; all else passes.
    HoldsLarge(usize),
    /// Of the HTTP requests that change something one has no answer, and none after it is carried on; it is counted as kept
    /// back when that is done.
    Cuts {
        /// Which, counted from 0.
        write: usize,
        /// Whether it itself is carried on.
        passes: bool,
    },
}

impl Way {
    /// Whether what was begun goes on, now or later.
    fn is_carrying(self) -> bool {
        matches!(
            self,
            Self::Open
                | Self::Slow(_)
                | Self::Hangs
                | Self::Keeps(_)
                | Self::HoldsLarge(_)
                | Self::Cuts { .. }
        )
    }

    /// Whether so many bytes wait.
    fn holds(self, count: usize) -> bool {
        match self {
            Self::Hangs => true,
            Self::HoldsLarge(most) => count > most,
            Self::Open
            | Self::Refused
            | Self::Slow(_)
            | Self::Answers(_)
            | Self::Keeps(_)
            | Self::Cuts { .. } => false,
        }
    }
}

/// The door; who is in it is sent away when it is dropped.
#[derive(Debug)]
pub struct Door {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    way: Mutex<Way>,
    upstream: String,
    inside: Mutex<Vec<Stream>>,
    /// How many came since the way was last changed.
    came: AtomicUsize,
    /// How many requests were kept back since then.
    kept: AtomicUsize,
    /// The most bytes that one of those inside has said since then and that wait.
    held: AtomicUsize,
    /// How many requests that change something came since then.
    wrote: AtomicUsize,
}

impl Door {
    /// Before the server at `upstream`, on a free port of `host`.
    ///
    /// # Panics
    /// There is no free port.
    pub fn before(host: IpAddr, upstream: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let comers = move || {
            listener
                .accept()
                .ok()
                .map(|(stream, _)| Stream::Tcp(stream))
        };
        Self::serve(address, upstream, comers)
    }

    /// Before the server at the Unix socket `upstream`, at another one.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn before_socket(path: &Path, upstream: &str) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let comers = move || {
            listener
                .accept()
                .ok()
                .map(|(stream, _)| Stream::Unix(stream))
        };
        let address = format!("unix://{}", path.display());
        Self::serve(address, upstream, comers)
    }

    fn serve(
        address: String,
        upstream: &str,
        mut comers: impl FnMut() -> Option<Stream> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            way: Mutex::new(Way::Open),
            upstream: upstream.to_owned(),
            inside: Mutex::default(),
            came: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            wrote: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Some(stream) = comers() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.attend(stream));
            }
        });
        Self { address, shared }
    }

    /// Where it is: host and port, or a socket's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on it is so, also for those who are in it.
    pub fn is(&self, way: Way) {
        let mut inside = hold(&self.shared.inside);
        *hold(&self.shared.way) = way;
        self.shared.came.store(0, Ordering::Relaxed);
        self.shared.kept.store(0, Ordering::Relaxed);
        self.shared.held.store(0, Ordering::Relaxed);
        self.shared.wrote.store(0, Ordering::Relaxed);
        if !way.is_carrying() {
            inside.drain(..).for_each(|stream| stream.end());
        }
    }

    /// How many requests were kept back since the way was last changed.
    pub fn kept(&self) -> usize {
        self.shared.kept.load(Ordering::Relaxed)
    }

    /// The most bytes that one of those inside has said at once, up to 16 KiB, and that wait, as it hangs or holds what is
    /// so large: what is encrypted is told from other requests by its size. What waits goes on, in order, when the way is
    /// another one.
    pub fn held(&self) -> usize {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// How many requests that change something came since the way was last changed, as it cuts them.
    pub fn wrote(&self) -> usize {
        self.shared.wrote.load(Ordering::Relaxed)
    }

    /// How many came since the way was last changed.
    pub fn came(&self) -> usize {
        self.shared.came.load(Ordering::Relaxed)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.is(Way::Refused);
    }
}

impl Shared {
    fn way(&self) -> Way {
        *hold(&self.way)
    }

    fn attend(self: Arc<Self>, mut client: Stream) {
        self.came.fetch_add(1, Ordering::Relaxed);
        hold(&self.inside).push(client.clone());
        match self.way_on(0) {
            Way::Answers(status) => client.answer(status),
            Way::Open | Way::Slow(_) | Way::Keeps(_) | Way::HoldsLarge(_) | Way::Cuts { .. } => {
                self.carry(&client);
            }
            Way::Refused | Way::Hangs => client.end(),
        }
    }

    /// How it is when so many bytes of a client do not wait any more.
    fn way_on(&self, count: usize) -> Way {
        loop {
            let way = self.way();
            if !way.holds(count) {
                return way;
            }
            self.held.fetch_max(count, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn carry(self: Arc<Self>, client: &Stream) {
        let Some(server) = Stream::connect(&self.upstream) else {
            return client.end();
        };
        hold(&self.inside).push(server.clone());
        // One that was let in as the way was changed.
        if !self.way().is_carrying() {
            client.end();
            server.end();
        }
        let (back, to) = (server.clone(), client.clone());
        let (queue, queued) = channel();
        let slow = Arc::clone(&self);
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        std::thread::spawn(move || slow.listen(back, &queue, &cut));
        std::thread::spawn(move || say(to, &queued));
        self.ask(client.clone(), server, &is_cut);
    }

    fn ask(&self, mut client: Stream, mut server: Stream, is_cut: &AtomicBool) {
        let mut buffer = [0; 16 << 10];
        let mut is_deaf = false;
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let said = &buffer[..count];
            match self.way_on(count) {
                Way::Keeps(what) if is_of(said, what) => {
                    self.kept.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Way::Cuts { write, passes } if is_write(said) => {
                    let nth = self.wrote.fetch_add(1, Ordering::Relaxed);
                    is_deaf = nth > write || (nth == write && !passes);
                    is_cut.store(nth >= write, Ordering::Relaxed);
                    if is_deaf {
                        self.kept.fetch_add(1, Ordering::Relaxed);
                    }
                }
                _ => {}
            }
            // The rest of what is not carried on, its body, is not either.
            if is_deaf {
                continue;
            }
            if server.write_all(said).is_err() {
                break;
            }
        }
        server.end_writing();
    }

    /// Reads answers, each with the time when it is to be heard.
    fn listen(&self, mut server: Stream, queue: &Sender<(Instant, Vec<u8>)>, is_cut: &AtomicBool) {
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            if is_cut.load(Ordering::Relaxed) {
                self.kept.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let late = match self.way_on(0) {
                Way::Slow(late) => late,
                _ => Duration::ZERO,
            };
            if queue
                .send((Instant::now() + late, buffer[..count].to_vec()))
                .is_err()
            {
                break;
            }
        }
    }
}

fn say(mut client: Stream, queued: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, bytes)) = queued.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if client.write_all(&bytes).is_err() {
            break;
        }
    }
    client.end_writing();
}

/// Whether a request that begins with these bytes has `what` in its first line.
fn is_of(bytes: &[u8], what: &str) -> bool {
    let line = first_line(bytes);
    line.ends_with("HTTP/1.1") && line.contains(what)
}

/// Whether these bytes begin a request that changes something.
fn is_write(bytes: &[u8]) -> bool {
    let line = first_line(bytes);
    let mut methods = ["POST ", "PUT ", "PATCH ", "DELETE "].into_iter();
    line.ends_with("HTTP/1.1") && methods.any(|method| line.starts_with(method))
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next();
    String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(upstream: &str) -> Option<Self> {
        Some(match upstream.strip_prefix("unix://") {
            Some(path) => Self::Unix(UnixStream::connect(path).ok()?),
            None => Self::Tcp(TcpStream::connect(upstream).ok()?),
        })
    }

    fn clone(&self) -> Self {
        match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone().expect("a descriptor")),
            Self::Unix(stream) => Self::Unix(stream.try_clone().expect("a descriptor")),
        }
    }

    fn end(&self) {
        self.shut(Shutdown::Both);
    }

    fn end_writing(&self) {
        self.shut(Shutdown::Write);
    }

    fn shut(&self, how: Shutdown) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    fn drain(&mut self) {
        let _ = std::io::copy(self, &mut std::io::sink());
    }

    /// Answers what comes, one request a connection, whatever it asks.
    fn answer(&mut self, status: u16) {
        let mut buffer = [0; 16 << 10];
        if self.read(&mut buffer).is_ok() {
            let head = format!(
                "HTTP/1.1 {status} Of the door\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = self.write_all(head.as_bytes());
        }
        self.end_writing();
        self.drain();
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
