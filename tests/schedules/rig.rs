//! A host with schedules, and the daemon's word on what was started.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mongodb::bson::{Bson, DateTime, Document, doc};
use tests::containers::Events;
use tests::servers::mongo::document;
use tests::stack::{LONG, Stack};

/// Where bots are that run at times.
pub const SCHEDULES: &str = "bot_scheduler.bot_schedules";

/// Where the history of runs is.
const RUNS: &str = "bot_runner.runs";

/// Adds one to its number, says so, and ends as its parameters say.
pub const ADDS: &str = r#"
import json, os, pathlib, sys, time
def main(id, config):
    path = pathlib.Path(os.environ["STATE_DIR"]) / "count.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = (json.loads(path.read_text()) if path.exists() else 0) + 1
    path.write_text(json.dumps(count))
    print("COUNT", count, "step", config.get("step"), flush=True)
    time.sleep(config.get("lasts", 0))
    if count <= config.get("fails", 0):
        sys.exit(3)
"#;

/// A host, and what its daemon has started.
pub struct Rig {
    pub stack: Stack,
    heard: Events,
}

impl Rig {
    pub fn start(test: &str) -> Option<Self> {
        let stack = Stack::start(test, &["python3.11"])?;
        let of = format!("label=the0.stack={}", stack.name());
        let form =
            "{{index .Actor.Attributes \"runtime.id\"}} {{index .Actor.Attributes \"the0.tick\"}}";
        let heard = stack.docker.events(&[&of, "event=start"], form);
        Some(Self { stack, heard })
    }

    /// How often each try of each tick of the bot was started.
    pub fn starts(&self, id: &str) -> BTreeMap<String, usize> {
        let mut starts = BTreeMap::new();
        for line in self.heard.told().lines() {
            if let Some((of, tick)) = line.split_once(' ')
                && of == id
            {
                *starts.entry(tick.to_owned()).or_default() += 1;
            }
        }
        starts
    }

    /// The ticks that were started, each try of them once. One whose bot could not begin is tried again.
    pub fn ticks(&self, id: &str) -> Vec<i64> {
        let starts = self.starts(id);
        let said = self.stack.said();
        assert!(
            starts.values().all(|times| *times == 1),
            "{starts:?}\n{said}"
        );
        let at = |tick: &String| tick.split('/').next().unwrap().parse::<i64>().unwrap();
        let mut ticks: Vec<i64> = starts.keys().map(at).collect();
        ticks.dedup();
        ticks
    }

    /// Registers a Python bot with the program `main` and these parameters, due next at `next`.
    pub fn schedule(&self, short: &str, main: &str, next: Option<i64>, config: Document) -> String {
        let id = self.stack.id(short);
        let key = format!("tests/{id}/1.0.0");
        self.stack.code(&key, &[("main.py", main)]);
        let mut parameters = doc! {"name": short};
        parameters.extend(config);
        let mut document = document(&id, &key, parameters);
        if let Some(next) = next {
            document.insert("next_execution_time", next);
        }
        self.stack.mongo.put(SCHEDULES, &document);
        id
    }

    /// The document as it is now.
    pub fn document(&self, id: &str) -> Document {
        let all = self.stack.mongo.all(SCHEDULES);
        let found = all
            .into_iter()
            .find(|d| d.get_str("id").is_ok_and(|of| of == id));
        found.unwrap_or_default()
    }

    /// What is written of the last tick: when it was due, and a word.
    pub fn tick(&self, id: &str) -> Option<(i64, String)> {
        let document = self.document(id);
        let tick = document.get_document("tick").ok()?;
        let state = tick.get_str("state").unwrap_or_default();
        let word = tick.get_str("outcome").unwrap_or(state);
        Some((number(tick.get("at")), word.to_owned()))
    }

    /// Waits until what is written of the last tick is as wanted, and gives it.
    pub fn until(&self, id: &str, what: &str, is: impl Fn(i64, &str) -> bool) -> (i64, String) {
        let end = Instant::now() + LONG;
        loop {
            if let Some((at, word)) = self.tick(id)
                && is(at, &word)
            {
                return (at, word);
            }
            let (document, said) = (self.document(id), self.stack.said());
            assert!(Instant::now() < end, "no {what}: {document}\n{said}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the bot has run to a good end for a tick after `after`, which it gives, by what stays: of the last tick
    /// that may be written for a moment only.
    pub fn completed(&self, id: &str, after: i64) -> i64 {
        let end = Instant::now() + LONG;
        loop {
            let mut runs = self.stack.mongo.all(RUNS);
            runs.retain(|run| run.get_str("bot").is_ok_and(|of| of == id));
            let ticks = self.ticks(id);
            let mut later = ticks.iter().filter(|at| **at > after);
            if let Some(at) = later.find(|at| runs.iter().any(|run| is_well(run, **at))) {
                return *at;
            }
            let (ticks, said) = (self.starts(id), self.stack.said());
            assert!(Instant::now() < end, "{after}: {ticks:?}: {runs:?}\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until so many ticks were started.
    pub fn reach(&self, id: &str, count: usize) -> Vec<i64> {
        let end = Instant::now() + LONG;
        while self.starts(id).len() < count {
            assert!(
                Instant::now() < end,
                "{:?}\n{}",
                self.starts(id),
                self.stack.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.ticks(id)
    }
}

/// Whether it is a run of the tick that was due at `at`, which has ended well.
fn is_well(run: &Document, at: i64) -> bool {
    let due = DateTime::from_millis(at * 1000);
    let due = due.try_to_rfc3339_string().unwrap();
    let is_of = run.get_str("because").is_ok_and(|of| of.starts_with(&due));
    let is_exit = run.get_str("reason").is_ok_and(|how| how == "exited");
    is_of && is_exit && number(run.get("exit")) == 0
}

/// A whole number of a document, whichever it is.
pub fn number(value: Option<&Bson>) -> i64 {
    match value {
        Some(Bson::Int32(n)) => (*n).into(),
        Some(Bson::Int64(n)) => *n,
        other => panic!("{other:?} is no whole number"),
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

/// A tick that was due some minutes ago, and the expression of its hour's minute.
pub fn past() -> (i64, String) {
    let at = (now() - 180) / 60 * 60;
    (at, format!("{} * * * *", at / 60 % 60))
}
