//! Bots in containers: what the agent and the programs beside a bot cost over Docker alone.
//!
//! Times are the daemon's: when it started a container, when it read a line of its output, when one ended. What stands for
//! Docker alone is of the same image with the same flags and volumes; `docker inspect` is asked whether it is.
//!
//! Each part has a host of its own and leaves nothing of it behind, or says what it left.

mod ask;
mod bare;
mod daemon;
mod event;
pub mod figures;
mod hundred;
mod line;
mod live;
mod ours;
mod rate;
mod ticks;
mod wire;

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::containers::Docker;
use tests::servers::mongo::{bson::Document, bson::doc, document};
use tests::stack::{BOTS, LONG, Stack};
use tests::{Process, wait_for};

/// From a container's start to the bot's first line.
pub fn line(_: &Path) {
    on_a_host("containers-line", line::compare);
}

/// How many containers are started in a second.
pub fn rate(_: &Path) {
    on_a_host("containers-rate", rate::compare);
}

/// What a hundred bots cost while they do nothing.
pub fn hundred(_: &Path) {
    on_a_host("containers-hundred", hundred::measure);
}

/// From an event to the call that makes its container.
pub fn event(_: &Path) {
    on_a_host("containers-event", event::compare);
}

/// How soon the agent acts again after an outage.
pub fn recovery(_: &Path) {
    on_a_host("containers-recovery", event::recovery);
}

/// What it costs to ask a bot.
pub fn ask(_: &Path) {
    on_a_host("containers-ask", ask::compare);
}

/// What live logs cost.
pub fn live(_: &Path) {
    on_a_host("containers-live", live::measure);
}

/// Schedules: claims, starts, and waiting.
pub fn ticks(_: &Path) {
    on_a_host("containers-ticks", ticks::claims);
    on_a_host("containers-ticks", ticks::starts);
    on_a_host("containers-ticks", ticks::waits);
}

/// A runtime that every part needs.
const PYTHON: &str = "python3.11";
/// Where the code of a runtime's bot is, in the store.
const VERSION: &str = "1.0.0";
/// Containers removed by one command of Docker's, which has a time limit.
const BATCH: usize = 10;

/// Docker, the servers, and an agent when one was started.
struct Host {
    agent: Option<Process>,
    stack: Stack,
}

fn on_a_host(part: &str, measure: fn(&mut Host)) {
    let Some(watcher) = Docker::here(part) else {
        return;
    };
    let Some(stack) = Stack::start(part, &[PYTHON]) else {
        return;
    };
    let token = stack.name().to_owned();
    let mut host = Host { agent: None, stack };
    let business = figures::Business::from_now();
    measure(&mut host);
    println!("\n[{part}: {business}]");
    drop(host);
    let left = daemon::left(&watcher, &token);
    if !left.is_empty() {
        eprintln!("{part} has left behind: {}", left.join(" "));
    }
}

impl Host {
    /// Starts the agent with `words` more and waits until it answers.
    fn begin(&mut self, words: &[&str]) {
        let log = self.stack.data().with_file_name("log");
        let log = File::options().create(true).append(true).open(log);
        let log = log.expect("the agent's log");
        let mut command = self.stack.command(&[&["bot-runner"], words].concat());
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("the log"));
        self.agent = Some(Process::start(command.stdout(log)));
        wait_for("an agent that answers", LONG, || self.stack.rows());
    }

    /// Ends the agent; bots run on.
    fn end(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.signal(Signal::SIGTERM);
            agent.code(Duration::from_secs(30));
        }
    }

    /// The agent's process.
    fn pid(&self) -> u32 {
        self.agent.as_ref().expect("an agent").0.id()
    }

    fn docker(&self) -> &Docker {
        &self.stack.docker
    }

    /// The name of a bot's container.
    fn container(&self, bot: &str) -> String {
        self.stack.container(bot).name
    }

    /// Puts the files of a bundle into the store and gives its key.
    fn bundle(&self, name: &str, files: &[(&str, Vec<u8>)]) -> String {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (file, content) in files {
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(*file, options).expect("a file of a zip");
            std::io::Write::write_all(&mut zip, content).expect("a file of a zip");
        }
        let key = format!("bench/{name}/{VERSION}");
        let zip = zip.finish().expect("a zip").into_inner();
        self.stack.objects().put("custom-bots", &key, &zip);
        key
    }

    /// Inserts the documents of bots, all at once.
    fn insert(&self, bots: impl IntoIterator<Item = Document>) {
        self.stack.mongo.insert(BOTS, bots);
    }

    /// Takes all documents away and waits until nothing of their bots is left.
    fn take_all_away(&self) {
        self.stack
            .mongo
            .update(BOTS, doc! {}, doc! {"$set": {"enabled": false}});
        let live = || daemon::running(self.docker(), self.stack.name());
        wait_for("the end of all bots", LONG, || (live() == 0).then_some(()));
        self.stack.mongo.delete(BOTS, doc! {});
        wait_for("the end of their containers", LONG, || {
            std::thread::sleep(Duration::from_millis(500));
            let _ = self.stack.run(&["confirm"]);
            self.stack.containers().is_empty().then_some(())
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
        let containers = self.stack.containers();
        daemon::remove(self.docker(), &containers);
        if std::thread::panicking() {
            eprintln!("{}", self.stack.said());
            return;
        }
        daemon::remove_network(self.docker(), &format!("the0-{}", self.stack.name()));
    }
}

/// The document of a bot whose code is at `key`.
fn bot(id: &str, key: &str, runtime: &str, entrypoints: Document) -> Document {
    let mut bot = document(id, key, doc! {"symbol": "BTC/USD"});
    let custom = bot.get_document_mut("custom").expect("custom");
    let definition = custom.get_document_mut("config").expect("its definition");
    definition.insert("runtime", runtime);
    definition.insert("entrypoints", entrypoints);
    bot
}
