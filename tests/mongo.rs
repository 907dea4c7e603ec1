//! `agent run` and a real MongoDB: what it knows of the bots there, and what it says when it cannot know.
//!
//! Docker is not asked for anything here: the agent is given a socket that nobody listens on.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tests::servers::mongo::{Mongo, PASSWORD, bson::doc, document};
use tests::{Process, bin, run, text, wait_for};

const BOTS: &str = "bot_runner.bots";
/// Longer than anything takes here on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

/// An agent of a database, and what it has said.
struct Agent {
    dir: TempDir,
    process: Process,
}

impl Agent {
    fn start(uri: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        drop(UnixListener::bind(&socket).unwrap());
        let screen = File::create(dir.path().join("screen")).unwrap();
        let mut command = Command::new(bin("agent"));
        command.args(["run", "--reconcile-interval", "200ms", "--data"]);
        command.arg(dir.path().join("data")).env_clear();
        command.env("MONGO_URI", uri);
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        command.envs([
            ("MINIO_ENDPOINT", "127.0.0.1:1"),
            ("MINIO_CONTAINER_ENDPOINT", "192.0.2.1:1"),
            ("MINIO_ACCESS_KEY", "hunter1"),
            ("MINIO_SECRET_KEY", "hunter2"),
        ]);
        command.stdin(Stdio::null());
        command.stdout(screen.try_clone().unwrap()).stderr(screen);
        let process = Process::start(&mut command);
        Self { dir, process }
    }

    fn screen(&self) -> String {
        fs::read_to_string(self.dir.path().join("screen")).unwrap()
    }

    fn says(&self, what: &str) {
        let found = || self.screen().contains(what).then_some(());
        let deadline = LONG;
        wait_for(&format!("{what:?} in {}", self.screen()), deadline, found);
    }

    /// State and version of a bot, as `agent ps` tells them.
    fn bot(&self, id: &str) -> Option<(String, String)> {
        let mut command = Command::new(bin("agent"));
        command
            .args(["ps", "-o", "json", "--data"])
            .arg(self.data());
        let output = run(&mut command);
        let rows: Value = serde_json::from_str(&text(&output.stdout)).ok()?;
        let row = rows.as_array()?.iter().find(|row| row["id"] == id)?;
        let field = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Some((field("state"), field("version")))
    }

    fn shows(&self, id: &str, state: &str, version: &str) {
        let expected = (state.to_owned(), version.to_owned());
        let what = format!("{id} {state} {version} in ps");
        wait_for(&what, LONG, || self.bot(id).filter(|is| *is == expected));
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

#[test]
fn bots_of_the_database_are_known_and_bad_documents_are_told_by_their_id() {
    let Some(mongo) = Mongo::start() else { return };
    let bot = |id: &str| document(id, "u/b/1.0.0", doc! { "key": "hunter3" });
    let mut off = bot("off");
    off.insert("enabled", 0.0);
    let mut bad = bot("bad");
    bad.get_document_mut("custom").unwrap().remove("filePath");
    let mut nameless = bot("nameless");
    nameless.insert("id", 7);
    nameless.insert("_id", "key of nobody");
    mongo.insert(
        BOTS,
        [bot("good"), off, bad, nameless, bot("twin"), bot("twin")],
    );

    let agent = Agent::start(&mongo.uri());
    // There is no Docker here: what runs is not known.
    agent.shows("good", "unknown", "1.0.0");
    agent.shows("off", "unknown", "1.0.0");
    agent.shows("bad", "invalid", "");
    agent.shows("twin", "invalid", "");
    agent.says("id bad: custom.filePath: is missing");
    agent.says("_id \"key of nobody\": id: is not a text");
    agent.says("several documents have its id");

    let mended = doc! { "$set": { "custom.filePath": "u/b/1.0.0", "custom.version": "1.0.1" } };
    assert_eq!(mongo.update(BOTS, doc! { "id": "bad" }, mended), 1);
    agent.shows("bad", "unknown", "1.0.1");
    assert_eq!(mongo.delete(BOTS, doc! { "id": "off" }), 1);
    wait_for("the end of a bot", LONG, || {
        agent.bot("off").is_none().then_some(())
    });
    assert!(!agent.screen().contains("hunter"), "{}", agent.screen());
}

#[test]
fn a_database_that_is_away_is_told_once_and_read_again_when_it_is_back() {
    let Some(mut mongo) = Mongo::start_with_password() else {
        return;
    };
    mongo.insert(BOTS, [document("a", "u/b/1.0.0", doc! {})]);
    mongo.stop();
    let mut agent = Agent::start(&format!("{}&serverSelectionTimeoutMS=500", mongo.uri()));
    let away = format!(
        "mongodb {}, {BOTS} cannot be listed: no server",
        mongo.address()
    );
    agent.says(&away);
    assert_eq!(agent.bot("a"), None);
    mongo.start_again();
    agent.says("bots can be listed again");
    agent.shows("a", "unknown", "1.0.0");
    mongo.stop();
    wait_for("word that it is away again", LONG, || {
        (agent.screen().matches("cannot be listed").count() >= 2).then_some(())
    });
    agent.shows("a", "unknown", "1.0.0");
    agent.process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(agent.process.code(LONG), 0, "{}", agent.screen());
    let screen = agent.screen();
    assert!(screen.matches(&away).count() <= 2, "{screen}");
    for secret in [PASSWORD, "p%40ss", "hunter"] {
        assert!(!screen.contains(secret), "{screen}");
    }
}

#[test]
fn an_address_that_is_none_is_refused_at_the_start_without_its_password() {
    let mut agent = Agent::start("mongodb://user:hunter/2@host");
    assert_eq!(agent.process.code(LONG), 1);
    let screen = agent.screen();
    assert!(
        screen.contains("the address of MongoDB is not usable"),
        "{screen}"
    );
    assert!(
        screen.contains("%2F") && !screen.contains("hunter"),
        "{screen}"
    );
}

#[test]
fn a_mongod_keeps_what_it_is_given_and_comes_back_with_it() {
    let Some(mut mongo) = Mongo::start() else {
        return;
    };
    assert!(mongo.all(BOTS).is_empty());
    let ids = ["a", "b", "c"].map(|id| document(id, "u/b/1.0.0", doc! {}));
    mongo.insert(BOTS, ids);
    mongo.put(BOTS, &document("b", "u/b/2.0.0", doc! { "symbol": "BTC" }));
    mongo.put(BOTS, &document("d", "u/b/1.0.0", doc! {}));
    let off = doc! { "$set": { "enabled": false } };
    assert_eq!(mongo.update(BOTS, doc! { "id": "c" }, off), 1);
    assert_eq!(mongo.delete(BOTS, doc! { "id": "a" }), 1);
    let address = mongo.address().to_owned();
    mongo.stop();
    mongo.start_again();
    assert_eq!(mongo.address(), address);
    let all = mongo.all(BOTS);
    let ids: Vec<_> = all
        .iter()
        .filter_map(|found| found.get_str("id").ok())
        .collect();
    assert_eq!(ids, ["b", "c", "d"]);
    let custom = all[0].get_document("custom").unwrap();
    assert_eq!(custom.get_str("filePath").unwrap(), "u/b/2.0.0");
    assert!(!all[1].get_bool("enabled").unwrap());
}

#[test]
fn a_mongod_with_a_password_is_a_primary_that_knows_its_user() {
    let Some(mongo) = Mongo::start_with_password() else {
        return;
    };
    mongo.insert(BOTS, [document("a", "u/b/1.0.0", doc! {})]);
    assert_eq!(mongo.all(BOTS).len(), 1);
    assert!(!mongo.uri().contains(PASSWORD));
    let status = mongo.command(doc! { "replSetGetStatus": 1 });
    assert_eq!(status.get_i32("myState").unwrap(), 1);
}
