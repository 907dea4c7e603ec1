//! A real MongoDB: a replica set of one, with the platform's documents put into it by the driver's own words.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, Credential};
use mongodb::{Client, Collection};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;

pub use mongodb::bson;

use super::{START, Server, free_port, new_root, program};
use crate::{is_alive, read, skip};

/// The name of a server's user, where it asks for one.
pub const USER: &str = "the0-test-user";
/// See [`USER`]. It has characters that must be written otherwise in an address.
pub const PASSWORD: &str = "the0-test-p@ss/word";

const SET: &str = "rs0";
const LIMIT: Duration = Duration::from_secs(60);

/// A running mongod of the caller's own.
#[derive(Debug)]
pub struct Mongo {
    server: Server,
    access: Access,
    runtime: Runtime,
    client: Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Free,
    Password,
    /// As [`Access::Free`], and it is a server of its own, no member of a set.
    Alone,
}

impl Mongo {
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
    /// As [`Mongo::start`].
    pub fn start_with_password() -> Option<Self> {
        Self::start_with(Access::Password)
    }

    /// One that is a server of its own and no member of a replica set: it has no change streams.
    ///
    /// # Panics
    /// As [`Mongo::start`].
    pub fn start_alone() -> Option<Self> {
        Self::start_with(Access::Alone)
    }

    fn start_with(access: Access) -> Option<Self> {
        let Some(program) = program("mongod") else {
            let thread = std::thread::current();
            let why = "mongod is not installed: run tests/setup/mongo.sh";
            skip(thread.name().unwrap_or("a test"), why);
            return None;
        };
        for _ in 0..3 {
            let mut server = prepare(&program, access);
            server.run();
            if is_up(&server) {
                return Some(Self::open(server, access));
            }
        }
        panic!("mongod does not come up; its last words are above")
    }

    /// Makes it a primary, and its user where it wants one.
    fn open(server: Server, access: Access) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = connect(&runtime, &server.address, Access::Free);
        let mut mongo = Self {
            server,
            access,
            runtime,
            client,
        };
        if access == Access::Alone {
            return mongo;
        }
        let member = doc! { "_id": 0, "host": mongo.address() };
        mongo.command(doc! { "replSetInitiate": { "_id": SET, "members": [member] } });
        mongo.wait_for_primary();
        if access == Access::Password {
            let user = doc! { "createUser": USER, "pwd": PASSWORD, "roles": ["root"] };
            mongo.command(user);
            mongo.client = connect(&mongo.runtime, &mongo.server.address, access);
        }
        mongo
    }

    fn wait_for_primary(&self) {
        let hello = || self.command(doc! { "hello": 1 });
        crate::wait_for("a primary", START, || {
            let answer = hello();
            answer.get_bool("isWritablePrimary").ok().filter(|is| *is)
        });
    }

    /// Runs a command on the database `admin` and gives the answer.
    ///
    /// # Panics
    /// When it fails.
    pub fn command(&self, command: Document) -> Document {
        let admin = self.client.database("admin");
        self.wait(async { admin.run_command(command).await })
    }

    /// Host and port it listens on.
    pub fn address(&self) -> &str {
        &self.server.address
    }

    /// The address for `MONGO_URI`.
    pub fn uri(&self) -> String {
        let origin = self.origin(self.address());
        match self.access {
            Access::Alone => format!("{origin}/"),
            Access::Free | Access::Password => format!("{origin}/?replicaSet={SET}"),
        }
    }

    /// The same, reached at another address, a proxy in between say, and only there.
    pub fn uri_at(&self, address: &str) -> String {
        format!("{}/?directConnection=true", self.origin(address))
    }

    fn origin(&self, address: &str) -> String {
        match self.access {
            Access::Free | Access::Alone => format!("mongodb://{address}"),
            Access::Password => {
                let password = PASSWORD.replace('@', "%40").replace('/', "%2F");
                format!("mongodb://{USER}:{password}@{address}")
            }
        }
    }

    /// Its process id, while it runs.
    ///
    /// # Panics
    /// While it is stopped.
    pub fn pid(&self) -> i32 {
        self.server.guard.as_ref().expect("a running server").server
    }

    /// The collection `place`, as in `bot_runner.bots`.
    ///
    /// # Panics
    /// When it is not so written.
    pub fn collection(&self, place: &str) -> Collection<Document> {
        let (database, collection) = place.split_once('.').expect("database.collection");
        self.client.database(database).collection(collection)
    }

    /// Puts documents into a collection.
    ///
    /// # Panics
    /// When they cannot be.
    pub fn insert(&self, place: &str, documents: impl IntoIterator<Item = Document>) {
        let collection = self.collection(place);
        self.wait(async { collection.insert_many(documents).await });
    }

    /// Puts `document` where one with the same `id` is, or beside the others.
    ///
    /// # Panics
    /// When it cannot be, or has no `id`.
    pub fn put(&self, place: &str, document: &Document) {
        let filter = doc! { "id": document.get("id").expect("an id") };
        let collection = self.collection(place);
        let put = collection.replace_one(filter, document).upsert(true);
        self.wait(async { put.await });
    }

    /// Changes what `filter` matches and gives how many that were.
    ///
    /// # Panics
    /// When it cannot be.
    pub fn update(&self, place: &str, filter: Document, change: Document) -> u64 {
        let collection = self.collection(place);
        let done = self.wait(async { collection.update_many(filter, change).await });
        done.matched_count
    }

    /// Takes away what `filter` matches and gives how many that were.
    ///
    /// # Panics
    /// When it cannot be.
    pub fn delete(&self, place: &str, filter: Document) -> u64 {
        let collection = self.collection(place);
        let done = self.wait(async { collection.delete_many(filter).await });
        done.deleted_count
    }

    /// All documents of a collection, by `id`.
    ///
    /// # Panics
    /// When they cannot be had.
    pub fn all(&self, place: &str) -> Vec<Document> {
        let collection = self.collection(place);
        self.wait(async {
            let mut cursor = collection.find(doc! {}).sort(doc! { "id": 1 }).await?;
            let mut documents = Vec::new();
            while cursor.advance().await? {
                // Byte for byte: serde takes an object such as {"$date": ..} for what it is called.
                documents.push(Document::try_from(cursor.current())?);
            }
            Ok(documents)
        })
    }

    /// The names of a collection's indexes.
    ///
    /// # Panics
    /// When they cannot be had.
    pub fn indexes(&self, place: &str) -> Vec<String> {
        let collection = self.collection(place);
        self.wait(async { collection.list_index_names().await })
    }

    fn wait<T>(&self, what: impl Future<Output = Result<T, mongodb::error::Error>>) -> T {
        let limited = async { tokio::time::timeout(LIMIT, what).await };
        let done = self.runtime.block_on(limited);
        done.expect("an answer of mongod in time")
            .unwrap_or_else(|err| panic!("mongod: {err}"))
    }

    /// Kills it. Its data and its port stay for [`Mongo::start_again`].
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Starts it again where it was, on what it had.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        self.server.run();
        assert!(is_up(&self.server), "mongod does not come up again");
        self.client = connect(&self.runtime, &self.server.address, self.access);
        self.wait_for_primary();
    }

    /// Makes it a secondary for so many seconds.
    ///
    /// # Panics
    /// When it refuses.
    pub fn step_down(&self, seconds: i32) {
        let command = doc! {
            "replSetStepDown": seconds,
            "secondaryCatchUpPeriodSecs": 1,
            "force": true,
        };
        self.command(command);
    }

    /// Stops it where it stands: connections are accepted and nothing answers.
    ///
    /// # Panics
    /// When it is gone.
    pub fn freeze(&self) {
        super::freeze(self.pid());
    }

    /// Lets it go on after [`Mongo::freeze`].
    ///
    /// # Panics
    /// When it is gone.
    pub fn thaw(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGCONT).expect("continue the server");
    }
}

/// A document as the platform writes them, of a Python bot whose code is at `code`.
pub fn document(id: &str, code: &str, config: Document) -> Document {
    let mut parameters = doc! { "customBotId": "test-bot" };
    parameters.extend(config);
    doc! {
        "id": id,
        "segment_id": 0,
        "config": parameters,
        "custom": {
            "version": "1.0.0",
            "filePath": code,
            "createdAt": bson::DateTime::from_millis(1_700_000_000_000),
            "updatedAt": bson::DateTime::from_millis(1_700_000_000_000),
            "config": {
                "name": "test-bot",
                "description": "a bot of the tests",
                "runtime": "python3.11",
                "version": "1.0.0",
                "author": "the0",
                "type": "realtime",
                "entrypoints": { "bot": "main.py" },
                "schema": { "type": "object", "properties": { "symbol": { "type": "string" } } },
                "readme": "# A bot of the tests\n",
                "metadata": {},
            },
        },
    }
}

fn prepare(program: &Path, access: Access) -> Server {
    let root = new_root();
    std::fs::create_dir(root.join("data")).expect("a folder of the server");
    let port = free_port().to_string();
    let mut words = vec!["--bind_ip", "127.0.0.1", "--port", &port];
    words.extend(["--wiredTigerCacheSizeGB", "0.25"]);
    if access != Access::Alone {
        words.extend(["--replSet", SET, "--oplogSize", "64"]);
    }
    words.extend(["--nounixsocket", "--quiet"]);
    words.push("--wiredTigerEngineConfigString=log=(file_max=8MB,prealloc=false)");
    words.push("--setParameter=diagnosticDataCollectionEnabled=false");
    let mut command = vec![OsString::from(program)];
    command.extend(words.iter().map(OsString::from));
    command.extend(["--dbpath".into(), root.join("data").into_os_string()]);
    if access == Access::Password {
        command.extend(["--keyFile".into(), write_key(&root).into()]);
    }
    Server {
        root,
        address: format!("127.0.0.1:{port}"),
        command,
        guard: None,
    }
}

/// The key that members of a replica set know each other by; with one, users are asked for too.
fn write_key(root: &Path) -> std::path::PathBuf {
    let path = root.join("key");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o400);
    let mut file = options.open(&path).expect("a key file");
    file.write_all(b"the0testkey").expect("a key");
    path
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

fn connect(runtime: &Runtime, address: &str, access: Access) -> Client {
    let address = address.parse().expect("an address");
    let mut options = ClientOptions::builder().hosts(vec![address]).build();
    options.direct_connection = Some(true);
    options.server_selection_timeout = Some(LIMIT);
    if access == Access::Password {
        let credential = Credential::builder()
            .username(USER.to_owned())
            .password(PASSWORD.to_owned())
            .build();
        options.credential = Some(credential);
    }
    let _inside = runtime.enter();
    Client::with_options(options).expect("a client")
}
