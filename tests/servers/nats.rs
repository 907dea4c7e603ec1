//! A real NATS with JetStream on its disk, and a publisher that says events as the platform does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::{Info, PullConsumer};
use async_nats::jetstream::stream::{Config, RawMessageErrorKind};
use async_nats::jetstream::{self, Context};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{START, Server, free_port, installed, new_root};
use crate::{is_alive, read, wait_for};

/// The name of a server's user, where it asks for one.
pub const USER: &str = "the0-test-user";
/// See [`USER`]. It has characters that must be written otherwise in an address.
pub const PASSWORD: &str = "the0-nats-p@ss/word";
/// A user, with its password, who may make no stream.
pub const CLOSED: &str = "the0-closed-user:hunter4";
/// The platform's stream of events.
pub const EVENTS: &str = "THE0_EVENTS";
/// The stream of what bots print.
pub const LINES: &str = "THE0_BOT_LOGS";
/// Where what cannot be kept goes.
pub const LETTERS: &str = "THE0_DLQ";

const LIMIT: Duration = Duration::from_secs(20);

/// A running nats-server of the caller's own.
#[derive(Debug)]
pub struct Nats {
    server: Server,
    access: Access,
    runtime: Runtime,
    context: Context,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Free,
    Password,
    /// As [`Access::Password`], and there is [`CLOSED`] beside.
    Closed,
    /// As [`Access::Free`], without streams.
    Streamless,
}

/// A message of a stream: a dead letter, a chunk of lines, what is told of a run.
#[derive(Debug)]
pub struct Letter {
    /// The subject it lies under.
    pub subject: String,
    /// The bytes of the event.
    pub payload: Vec<u8>,
    /// What is said about it, by name.
    pub headers: std::collections::BTreeMap<String, String>,
}

impl Nats {
    /// One that lets everybody in; `None` when it is not installed, which has been said.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Option<Self> {
        Self::start_with(Access::Free)
    }

    /// One that wants [`USER`] and [`PASSWORD`].
    ///
    /// # Panics
    /// As [`Nats::start`].
    pub fn start_with_password() -> Option<Self> {
        Self::start_with(Access::Password)
    }

    /// One that wants a user, and has one that may make no stream.
    ///
    /// # Panics
    /// As [`Nats::start`].
    pub fn start_closed() -> Option<Self> {
        Self::start_with(Access::Closed)
    }

    /// One that keeps no streams.
    ///
    /// # Panics
    /// As [`Nats::start`].
    pub fn start_streamless() -> Option<Self> {
        Self::start_with(Access::Streamless)
    }

    fn start_with(access: Access) -> Option<Self> {
        let program = installed("nats-server")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        for _ in 0..3 {
            let mut server = prepare(program.clone().into(), access);
            server.run();
            if is_up(&server) {
                let context = connect(&runtime, &server.address, access);
                return Some(Self {
                    server,
                    access,
                    runtime,
                    context,
                });
            }
        }
        panic!("nats-server does not come up; its last words are above")
    }

    /// The address for `NATS_URL`.
    pub fn uri(&self) -> String {
        let address = self.address();
        match self.access {
            Access::Free | Access::Streamless => format!("nats://{address}"),
            Access::Password | Access::Closed => {
                let password = PASSWORD.replace('@', "%40").replace('/', "%2F");
                format!("nats://{USER}:{password}@{address}")
            }
        }
    }

    /// Host and port it listens on.
    pub fn address(&self) -> &str {
        &self.server.address
    }

    /// Makes the stream of events, as the platform's API does, and not with the settings that the agent would choose.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn make_stream(&self) {
        self.make_stream_over(EVENTS, &["the0.bot.*", "the0.bot-schedule.*"]);
    }

    /// Makes a stream over these subjects.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn make_stream_over(&self, name: &str, subjects: &[&str]) {
        let config = Config {
            name: name.to_owned(),
            subjects: subjects.iter().map(ToString::to_string).collect(),
            max_age: Duration::from_secs(60 * 60),
            ..Config::default()
        };
        self.wait(async { self.context.create_stream(config).await });
    }

    /// Takes the stream of events away, with all that is in it.
    ///
    /// # Panics
    /// When it cannot be.
    pub fn remove_stream(&self) {
        self.remove_stream_of(EVENTS);
    }

    /// The same of a stream of any name.
    ///
    /// # Panics
    /// When it cannot be.
    pub fn remove_stream_of(&self, name: &str) {
        self.wait(async { self.context.delete_stream(name).await });
    }

    /// How many streams there are.
    ///
    /// # Panics
    /// When the server does not tell.
    pub fn streams(&self) -> usize {
        self.wait(async { self.context.query_account().await })
            .streams
    }

    /// The stream of events as the server has it.
    ///
    /// # Panics
    /// When there is none.
    pub fn stream(&self) -> jetstream::stream::Info {
        self.wait(async { self.context.get_stream(EVENTS).await })
            .cached_info()
            .clone()
    }

    /// Waits until there is a stream of events.
    ///
    /// # Panics
    /// When nobody makes one.
    pub fn wait_for_stream(&self) {
        self.wait_for(EVENTS);
    }

    /// Waits until there is a stream of this name.
    ///
    /// # Panics
    /// When nobody makes one.
    pub fn wait_for(&self, stream: &str) {
        let there = || {
            let found = self.run(async { self.context.get_stream(stream).await });
            found.ok().map(drop)
        };
        wait_for("the stream of events", LIMIT, there);
    }

    /// Says an event; gives the number that the stream gave it.
    ///
    /// # Panics
    /// When the stream does not take it.
    pub fn say(&self, subject: &str, event: &Value) -> u64 {
        self.say_raw(subject, event.to_string().as_bytes())
    }

    /// The same with bytes that may be anything.
    ///
    /// # Panics
    /// As [`Nats::say`].
    pub fn say_raw(&self, subject: &str, event: &[u8]) -> u64 {
        let (subject, event) = (subject.to_owned(), event.to_vec());
        let taken = async {
            let taken = self.context.publish(subject, event.into()).await?;
            taken.await
        };
        self.wait(taken).sequence
    }

    /// What the server knows of a consumer of the events.
    ///
    /// # Panics
    /// When there is none.
    pub fn consumer(&self, name: &str) -> Info {
        self.try_consumer(name).expect("a consumer of the events")
    }

    /// The same, if there is one.
    pub fn try_consumer(&self, name: &str) -> Option<Info> {
        let consumer = async {
            let stream = self.context.get_stream(EVENTS).await.ok()?;
            let consumer: PullConsumer = stream.get_consumer(name).await.ok()?;
            Some(consumer.cached_info().clone())
        };
        self.run(consumer)
    }

    /// Takes a consumer of the events away, with all it knows.
    ///
    /// # Panics
    /// When it cannot be.
    pub fn remove_consumer(&self, name: &str) {
        self.wait(async { self.context.delete_consumer_from_stream(name, EVENTS).await });
    }

    /// Everything that was put aside, in its order.
    ///
    /// # Panics
    /// When it cannot be had.
    pub fn letters(&self) -> Vec<Letter> {
        self.messages(LETTERS)
    }

    /// Everything that is in a stream, in its order; nothing when there is no such stream.
    ///
    /// # Panics
    /// When it cannot be had.
    pub fn messages(&self, stream: &str) -> Vec<Letter> {
        let letters = async {
            let mut letters = Vec::new();
            let Ok(stream) = self.context.get_stream(stream).await else {
                return Ok(letters);
            };
            let state = &stream.cached_info().state;
            for sequence in state.first_sequence.max(1)..=state.last_sequence {
                match stream.get_raw_message(sequence).await {
                    Ok(raw) => letters.push(letter(&raw)),
                    Err(err) if err.kind() == RawMessageErrorKind::NoMessageFound => {}
                    Err(err) => return Err(err),
                }
            }
            Ok(letters)
        };
        self.wait(letters)
    }

    /// What was sent of what a bot prints, chunk by chunk.
    ///
    /// # Panics
    /// As [`Nats::messages`].
    pub fn chunks_of(&self, bot: &str) -> Vec<Letter> {
        let mut all = self.messages(LINES);
        all.retain(|chunk| chunk.subject == format!("the0.bot.logs.{bot}"));
        all
    }

    /// The same as one text, each chunk checked.
    ///
    /// # Panics
    /// As [`Nats::messages`], or a chunk is not as it is promised.
    pub fn lines_of(&self, bot: &str) -> String {
        let chunks = self.chunks_of(bot);
        for chunk in &chunks {
            assert!(chunk.payload.ends_with(b"\n"), "a chunk is whole lines");
            assert!(chunk.payload.len() < 1 << 20, "{}", chunk.payload.len());
        }
        let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.payload).collect();
        String::from_utf8(bytes).expect("lines are cut between characters of ASCII here")
    }

    fn run<T>(&self, what: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(LIMIT, what).await };
        let done = self.runtime.block_on(limited);
        done.expect("an answer of nats-server in time")
    }

    fn wait<T, E: std::fmt::Display>(&self, what: impl Future<Output = Result<T, E>>) -> T {
        self.run(what)
            .unwrap_or_else(|err| panic!("nats-server: {err}"))
    }

    /// Kills it. Its data and its port stay for [`Nats::start_again`].
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Starts it again where it was, on what it had.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        self.server.run();
        assert!(is_up(&self.server), "nats-server does not come up again");
        self.context = connect(&self.runtime, &self.server.address, self.access);
        // JetStream is there a moment after the port.
        let ready = || {
            self.run(async { self.context.query_account().await })
                .ok()
                .map(drop)
        };
        wait_for("JetStream", START, ready);
    }
}

/// The event that there is, or is changed, a Python bot whose code is at `code`, as the platform's API says it.
pub fn event(id: &str, code: &str, config: &Value) -> Value {
    let mut parameters = config.as_object().cloned().unwrap_or_default();
    parameters.insert("customBotId".to_owned(), json!("test-bot"));
    json!({
        "id": id,
        "config": parameters,
        "custom": {
            "version": "1.0.0",
            "filePath": code,
            "createdAt": "2026-11-25T10:00:00Z",
            "updatedAt": "2026-11-25T10:00:00Z",
            "config": {
                "name": "test-bot",
                "description": "a bot of the tests",
                "runtime": "python3.11",
                "version": "1.0.0",
                "author": "the0",
                "type": "realtime",
                "entrypoints": {"bot": "main.py"},
                "schema": {"type": "object", "properties": {}},
                "readme": "# A bot of the tests",
                "metadata": {},
            },
        },
    })
}

fn letter(raw: &jetstream::message::StreamMessage) -> Letter {
    let headers = raw.headers.iter().map(|(name, values)| {
        let values: Vec<&str> = values.iter().map(async_nats::HeaderValue::as_str).collect();
        (name.to_string(), values.join(","))
    });
    Letter {
        subject: raw.subject.to_string(),
        payload: raw.payload.to_vec(),
        headers: headers.collect(),
    }
}

fn prepare(program: OsString, access: Access) -> Server {
    let root = new_root();
    let port = free_port().to_string();
    let mut command = vec![program];
    command.extend(["-a", "127.0.0.1", "-p", &port].map(OsString::from));
    if access != Access::Streamless {
        command.extend(["-js".into(), "-sd".into()]);
        command.push(root.join("data").into_os_string());
    }
    if access == Access::Closed {
        command.extend(["-c".into(), users(&root).into()]);
    }
    if access == Access::Password {
        command.extend(["--user", USER, "--pass", PASSWORD].map(OsString::from));
    }
    Server {
        root,
        address: format!("127.0.0.1:{port}"),
        command,
        guard: None,
    }
}

/// The users of [`Access::Closed`].
fn users(root: &Path) -> PathBuf {
    let (closed, password) = CLOSED.split_once(':').expect("user:password");
    let text = format!(
        "authorization {{ users = [\n\
         {{ user: \"{USER}\", password: \"{PASSWORD}\" }}\n\
         {{ user: \"{closed}\", password: \"{password}\",\n\
         permissions: {{ publish: {{ deny: [\"$JS.API.STREAM.CREATE.>\"] }} }} }}\n\
         ] }}\n"
    );
    let path = root.join("users.conf");
    std::fs::write(&path, text).expect("a file of the server");
    path
}

fn connect(runtime: &Runtime, address: &str, access: Access) -> Context {
    let options = match access {
        Access::Free | Access::Streamless => ConnectOptions::new(),
        Access::Password | Access::Closed => {
            ConnectOptions::with_user_and_password(USER.to_owned(), PASSWORD.to_owned())
        }
    };
    let connected = async { tokio::time::timeout(LIMIT, options.connect(address)).await };
    let client = runtime.block_on(connected).expect("nats-server in time");
    let _inside = runtime.enter();
    jetstream::new(client.expect("a connection to nats-server"))
}

/// Waits until it takes connections; `false` when it has ended instead, as it does when somebody took its port.
fn is_up(server: &Server) -> bool {
    let end = Instant::now() + START;
    let pid = server.guard.as_ref().map_or(0, |guard| guard.server);
    while is_alive(pid) && Instant::now() < end {
        if std::net::TcpStream::connect(&server.address).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("{}", read(&server.root.join("log")));
    false
}
