//! What a bot that means harm finds, reaches and uses up, from inside the container that the real agent gives it:
//! `tests/bots/hostile` tries, and says what came of it. What it was refused is one half of each proof; the other is that
//! it tried, and that the same is there for whoever may.

#[path = "hardening/fills.rs"]
mod fills;
#[path = "hardening/secrets.rs"]
mod secrets;
#[path = "hardening/ways.rs"]
mod ways;

use std::fs;

use mongodb::bson::{Document, doc};
use serde_json::Value;
use tests::containers::Container;
use tests::servers::mongo::document;
use tests::stack::{BOTS, LONG, Stack};
use tests::{repository, wait_for};

/// Registers the hostile bot with this config, and gives its id.
fn hostile(host: &Stack, short: &str, config: Document) -> String {
    let folder = fs::read_dir(repository().join("tests/bots/hostile")).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    let files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "py"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    let id = host.id(short);
    let key = format!("tests/{id}/1.0.0");
    host.code(&key, &files);
    let mut bot = document(&id, &key, config);
    let definition = bot.get_document_mut("custom").unwrap();
    let definition = definition.get_document_mut("config").unwrap();
    definition.insert("entrypoints", doc! {"bot": "main.py", "query": "query.py"});
    host.mongo.put(BOTS, &bot);
    id
}

/// The lines in which the bot told what it found: of its log, and of what Docker has of its output, for the one is cut
/// into segments and from the other lines are left out when its reader is slow.
fn told(container: &Container<'_>) -> Vec<Value> {
    let segment = contract::logs::segment_name(1);
    let log = container.file(&format!("/var/the0/logs/{segment}"));
    let all = log.unwrap_or_default() + &container.logs();
    let mut lines: Vec<&str> = Vec::new();
    for line in all.lines() {
        let told = line.find("{\"hostile\"").map(|at| &line[at..]);
        let whole = told.filter(|told| told.ends_with('}') && !lines.contains(told));
        lines.extend(whole);
    }
    lines
        .into_iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The same when it has come to its end.
fn all_told(container: &Container<'_>) -> Vec<Value> {
    wait_for("the end of what the hostile bot does", LONG, || {
        let told = told(container);
        told.iter()
            .any(|line| line["hostile"] == "end")
            .then_some(told)
    })
}

/// Those of a kind.
fn of<'a>(told: &'a [Value], kind: &str) -> Vec<&'a Value> {
    told.iter().filter(|line| line["hostile"] == kind).collect()
}

/// The only one of a kind.
fn one<'a>(told: &'a [Value], kind: &str) -> &'a Value {
    match of(told, kind)[..] {
        [line] => line,
        ref lines => panic!("{kind}: {lines:?}"),
    }
}
