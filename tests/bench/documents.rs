//! What an agent costs that has 10,000 documents to look through and nothing to do: CPU of each look, and memory.
//!
//! The looks are counted by the database. A database of no documents is measured beside it: what the agent costs anyway.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::containers::Docker;
use tests::servers::mongo::{Mongo, bson::doc, document};
use tests::{Process, bin, wait_for};

use crate::process::{cpu_millis, memory};

const BOTS: &str = "bot_runner.bots";
/// How many documents there are.
const DOCUMENTS: u32 = 10_000;
/// How long is measured.
const COUNTED: Duration = Duration::from_secs(30);

/// Measures and prints.
pub fn measure(_: &Path) {
    let Some(docker) = Docker::here("documents") else {
        return;
    };
    let Some(mongo) = Mongo::start() else { return };
    println!("\nAn agent with nothing to do, looking every half second\n");
    row(&docker, &mongo, 0);
    mongo.insert(BOTS, (0..DOCUMENTS).map(bot));
    row(&docker, &mongo, DOCUMENTS);
}

/// One that is switched off, of the size that they have: 2 KiB with what is not asked for.
fn bot(n: u32) -> tests::servers::mongo::bson::Document {
    let parameters = doc! {
        "symbol": "BTC/USD", "interval": 5.0, "limits": { "max": 10, "min": 1 },
        "exchange": "https://exchange.example/api/v3",
    };
    let mut bot = document(
        &format!("{n:024}"),
        &format!("user{n:06}/bot/1.0.0"),
        parameters,
    );
    bot.insert("enabled", false);
    let custom = bot.get_document_mut("custom").expect("custom");
    let definition = custom.get_document_mut("config").expect("its definition");
    definition.insert("readme", "words ".repeat(200));
    bot
}

fn row(docker: &Docker, mongo: &Mongo, documents: u32) {
    let data = tempfile::tempdir().expect("a folder");
    let mut agent = Process::start(&mut command(docker, mongo, data.path()));
    let pid = agent.0.id();
    let before = looks(mongo);
    wait_for("some looks", Duration::from_secs(60), || {
        (looks(mongo) > before + 5).then_some(())
    });
    let (began, cpu, seen) = (Instant::now(), cpu_millis(pid), looks(mongo));
    sleep(COUNTED);
    let (cpu, seen) = (cpu_millis(pid) - cpu, looks(mongo) - seen);
    let (each, rest) = (cpu / seen.max(1), cpu * 10 / seen.max(1) % 10);
    println!(
        "{documents:>6} documents   {each}.{rest} ms CPU a look   {} KiB resident, {} KiB anonymous   ({seen} looks in {:.0} s)",
        memory(pid, "Rss"),
        memory(pid, "Anonymous"),
        began.elapsed().as_secs_f64()
    );
    agent.signal(Signal::SIGTERM);
    agent.code(Duration::from_secs(30));
}

/// Nothing is stored, so no store is there.
fn command(docker: &Docker, mongo: &Mongo, data: &Path) -> Command {
    let mut command = Command::new(bin("agent"));
    command.args(["run", "--reconcile-interval", "500ms", "--data"]);
    command.arg(data).env("MONGO_URI", mongo.uri());
    command.env("THE0_STACK", docker.token());
    command.envs([
        ("MINIO_ENDPOINT", "127.0.0.1:1"),
        ("MINIO_CONTAINER_ENDPOINT", "192.0.2.1:1"),
        ("MINIO_ACCESS_KEY", "access"),
        ("MINIO_SECRET_KEY", "secret"),
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    command
}

/// How often the database was asked for documents.
fn looks(mongo: &Mongo) -> u64 {
    let status = mongo.command(doc! { "serverStatus": 1 });
    let count = status.get_document("opcounters").and_then(|counters| {
        counters
            .get_i64("query")
            .or_else(|_| counters.get_i32("query").map(i64::from))
    });
    count.expect("a count").unsigned_abs()
}
