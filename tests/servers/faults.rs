//! A proxy of our own in front of a store, which does to single requests what networks, disks and other stores do:
//! it knows HTTP, so a test says which request and what. `Host` is handed on as it came, since it is signed.
//!
//!     sync --- request ---> [script: Fault or none] ---> store
//!
//! Every request is written down with its answer, so a test can count what a program asks for.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{text, unchunk};

/// What is done to one request and its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answered here; the store never hears of it.
    Answer(u16, String),
    /// `If-Match` and `If-None-Match` are taken out: the store that ignores conditions.
    StripConditions,
    /// The answer says that its body is so much longer, or shorter, than it is.
    WrongLength(isize),
    /// The connection ends after so many bytes of the answer's body.
    CutAnswer(usize),
    /// The store does what it was asked, and the connection ends before a byte of the answer.
    LoseAnswer,
    /// The connection ends before the store has heard anything.
    DropRequest,
    /// The store hears it so much later.
    Delay(Duration),
    /// One bit of the byte at this place of the request's body, counted round.
    FlipRequest(usize),
    /// The same in the answer's body.
    FlipAnswer(usize),
    /// Nothing more happens on this connection.
    Hang,
}

/// A request as it passed.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `PUT` ..
    pub method: String,
    /// Bucket and key as they were sent, percent-encoded, with a slash in front.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// Length of its body in bytes.
    pub length: usize,
    /// The range of another object that it asks the store to copy, or the object itself.
    pub copies: Option<String>,
    /// The access key that it is signed with.
    pub signer: Option<String>,
    /// The answer's status; 0 before there is one, or where it was lost.
    pub status: u16,
}

impl Request {
    /// Whether it is of this method and its path or query contains `part`.
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && (self.path.contains(part) || self.query.contains(part))
    }
}

type Script = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// A running proxy; its connections end with it.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    script: Mutex<Script>,
    seen: Mutex<Vec<Request>>,
    met: AtomicUsize,
    over: AtomicBool,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {} -> {}", self.address, self.shared.upstream)
    }
}

impl Proxy {
    /// Listens on a free port of the loopback and hands everything on to `upstream`.
    ///
    /// # Panics
    /// When there is no port to listen on.
    pub fn start(upstream: &str) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), upstream)
    }

    /// The same on another address of this machine: one that containers reach, say.
    ///
    /// # Panics
    /// As [`Proxy::start`].
    pub fn start_at(host: IpAddr, upstream: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            script: Mutex::new(Box::new(|_| None)),
            seen: Mutex::default(),
            met: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.over.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { address, shared }
    }

    /// Host and port it listens on.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on `script` says of each request what is done to it.
    pub fn script(&self, script: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        self.shared.met.store(0, Ordering::Relaxed);
        *hold(&self.shared.script) = Box::new(script);
    }

    /// The next `times` requests of this method whose path or query contains `part` meet `fault`, the rest nothing.
    pub fn fail(&self, method: &str, part: &str, times: usize, fault: Fault) {
        let (method, part, mut left) = (method.to_owned(), part.to_owned(), times);
        self.script(move |request| {
            let met = left > 0 && request.is(&method, &part);
            left -= usize::from(met);
            met.then(|| fault.clone())
        });
    }

    /// From now on everything passes.
    pub fn heal(&self) {
        self.script(|_| None);
    }

    /// How many requests have met a fault of the script of now.
    pub fn met(&self) -> usize {
        self.shared.met.load(Ordering::Relaxed)
    }

    /// What has passed since the start, or since it was last forgotten.
    pub fn requests(&self) -> Vec<Request> {
        hold(&self.shared.seen).clone()
    }

    /// Forgets what has passed.
    pub fn forget(&self) {
        hold(&self.shared.seen).clear();
    }

    /// How many requests of this method, with `part` in path or query, have passed.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let seen = hold(&self.shared.seen);
        seen.iter()
            .filter(|request| request.is(method, part))
            .count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

/// A test that failed while it held one has said so already.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// First line and headers, without the empty line, and the body.
struct Message {
    lines: Vec<String>,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.lines[1..].iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn remove(&mut self, names: &[&str]) {
        let kept = |line: &String| {
            let name = line.split(':').next().unwrap_or_default();
            !names.iter().any(|other| name.eq_ignore_ascii_case(other))
        };
        let first = self.lines.remove(0);
        self.lines.retain(kept);
        self.lines.insert(0, first);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n\r\n", self.lines.join("\r\n")).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    fn flip(&mut self, place: usize) {
        let length = self.body.len().max(1);
        if let Some(byte) = self.body.get_mut(place % length) {
            *byte ^= 0x10;
        }
    }
}

fn read_lines(from: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" if lines.is_empty() => {}
            "" => return Some(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn read_request(from: &mut impl BufRead) -> Option<Message> {
    let lines = read_lines(from)?;
    let mut message = Message {
        lines,
        body: Vec::new(),
    };
    let length = message.header("content-length");
    let length: u64 = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    from.take(length).read_to_end(&mut message.body).ok()?;
    (message.body.len() as u64 == length).then_some(message)
}

fn describe(message: &Message) -> Request {
    let mut words = message.lines[0].split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let range = message.header("x-amz-copy-source-range");
    Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        length: message.body.len(),
        copies: range
            .or_else(|| message.header("x-amz-copy-source"))
            .map(str::to_owned),
        signer: signer(query).or_else(|| signer(message.header("authorization")?)),
        status: 0,
    }
}

/// The access key in a signature of version 4, in the header or in the query.
fn signer(signed: &str) -> Option<String> {
    let (_, credential) = signed.split_once("Credential=")?;
    Some(credential.split(['/', '%']).next()?.to_owned())
}

impl Shared {
    fn serve(&self, client: &TcpStream) {
        let mut from = BufReader::new(client);
        while let Some(message) = read_request(&mut from) {
            let is_last = message.header("connection") == Some("close");
            let is_over = is_last || self.over.load(Ordering::Relaxed);
            if self.pass(message, client).is_none() || is_over {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    }

    /// Does one request; `None` ends the connection.
    fn pass(&self, mut message: Message, client: &TcpStream) -> Option<()> {
        let request = describe(&message);
        let fault = (hold(&self.script))(&request);
        self.met
            .fetch_add(usize::from(fault.is_some()), Ordering::Relaxed);
        let place = {
            let mut seen = hold(&self.seen);
            seen.push(request.clone());
            seen.len() - 1
        };
        match &fault {
            Some(Fault::Answer(status, body)) => {
                self.note(place, *status);
                return send(client, &refusal(*status, body));
            }
            Some(Fault::DropRequest) => return None,
            Some(Fault::Hang) => return self.hang(),
            Some(Fault::Delay(time)) => std::thread::sleep(*time),
            Some(Fault::StripConditions) => message.remove(&["if-match", "if-none-match"]),
            Some(Fault::FlipRequest(at)) => message.flip(*at),
            _ => {}
        }
        let mut answer = self.ask(message, request.method == "HEAD")?;
        let whole = answer.body.len();
        match fault {
            Some(Fault::LoseAnswer) => return None,
            Some(Fault::FlipAnswer(at)) => answer.flip(at),
            Some(Fault::CutAnswer(at)) => answer.body.truncate(at),
            Some(Fault::WrongLength(by)) => {
                answer.set_length(whole.saturating_add_signed(by));
            }
            _ => {}
        }
        let status = answer.lines[0].split(' ').nth(1);
        self.note(place, status.and_then(|status| status.parse().ok())?);
        send(client, &answer.bytes())?;
        (answer.body.len() == whole && !matches!(fault, Some(Fault::WrongLength(_)))).then_some(())
    }

    /// The number of what has passed may have been forgotten in between.
    fn note(&self, place: usize, status: u16) {
        if let Some(request) = hold(&self.seen).get_mut(place) {
            request.status = status;
        }
    }

    fn hang(&self) -> Option<()> {
        while !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn ask(&self, mut message: Message, is_head: bool) -> Option<Message> {
        message.remove(&["connection"]);
        message.lines.push("Connection: close".into());
        let mut store = TcpStream::connect(&self.upstream).ok()?;
        // A store may refuse before it has heard all.
        let _ = store.write_all(&message.bytes());
        let mut from = BufReader::new(store);
        let lines = read_lines(&mut from)?;
        let mut answer = Message {
            lines,
            body: Vec::new(),
        };
        from.read_to_end(&mut answer.body).ok()?;
        if answer.header("transfer-encoding").is_some() {
            let (body, complete) = unchunk(&answer.body);
            answer.body = complete.then_some(body)?;
        }
        answer.remove(&["connection", "transfer-encoding"]);
        if !is_head {
            answer.set_length(answer.body.len());
        }
        Some(answer)
    }
}

impl Message {
    fn set_length(&mut self, length: usize) {
        self.remove(&["content-length"]);
        self.lines.push(format!("Content-Length: {length}"));
    }
}

fn refusal(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Of the proxy\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// The body of an S3 error with this code.
pub fn error_body(code: &str) -> String {
    text(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>by the test</Message></Error>").as_bytes())
}

fn send(mut client: &TcpStream, bytes: &[u8]) -> Option<()> {
    client.write_all(bytes).ok()
}
