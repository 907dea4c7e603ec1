//! A host that takes jobs, and what is asked of it.

use serde_json::{Value, json};
use tests::servers::nats::event;
use tests::stack::{LONG, Stack};
use tests::wait_for;

/// The stream of jobs.
const JOBS: &str = "THE0_JOBS";

/// A backtest that says so and has a result of its own.
pub const GOOD: &str = r#"
def main(id, config):
    print("TESTED", id, flush=True)
    return {"status": "success", "message": "tested", "data": {"n": config.get("n", 0)}}
"#;

/// One that takes a while.
pub const SLOW: &str = r#"
import time
def main(id, config):
    print("BEGAN", id, flush=True)
    time.sleep(config.get("seconds", 3))
    return {"status": "success", "data": {"slept": True}}
"#;

/// The host.
pub struct Rig {
    pub host: Stack,
}

impl Rig {
    /// One whose agent has these settings; `None` when a part is missing, which has been said.
    pub fn start(test: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let mut host = Stack::start(test, &["python3.11"])?;
        for (name, value) in settings {
            host.set(name, value);
        }
        Self::on(host)
    }

    /// The same on this host, which has no agent yet.
    pub fn on(mut host: Stack) -> Option<Self> {
        host.listen()?;
        host.begin();
        host.nats.as_ref().unwrap().wait_for(JOBS);
        Some(Self { host })
    }

    /// What is said to ask for a job that runs `main`; its code is put into the store.
    pub fn asked(&self, short: &str, main: &str, config: &Value) -> (String, Value) {
        let id = self.host.id(short);
        let key = format!("tests/{id}/1.0.0");
        let idle = "def main(id, config):\n    print('THE BOT')\n";
        let files = [("main.py", idle), ("backtest.py", main)];
        self.host.code(&key, &files);
        let mut event = event(&id, &key, config);
        event["custom"]["config"]["entrypoints"]["backtest"] = "backtest.py".into();
        (id, event)
    }

    /// Asks for a job; its id.
    pub fn job(&self, short: &str, main: &str, config: &Value) -> String {
        let (id, event) = self.asked(short, main, config);
        self.say(&event);
        id
    }

    /// Says that a job is asked for.
    pub fn say(&self, event: &Value) {
        let nats = self.host.nats.as_ref().unwrap();
        nats.say("the0.backtest.created", event);
    }

    /// A job as the database has it.
    pub fn show(&self, id: &str) -> Option<Value> {
        let output = self.host.run(&["job", "show", id, "-o", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until the job is so.
    pub fn becomes(&self, id: &str, status: &str) -> Value {
        let end = std::time::Instant::now() + LONG;
        loop {
            let job = self.show(id).unwrap_or_default();
            if job["status"] == status {
                return job;
            }
            let said = self.host.said();
            assert!(
                std::time::Instant::now() < end,
                "{id} is not {status}: {job:#}\n{said}"
            );
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// What was told of the end of a job.
    pub fn told(&self, id: &str) -> Vec<Value> {
        let messages = self.host.nats.as_ref().unwrap().messages(JOBS);
        let ends = messages
            .iter()
            .filter(|message| message.subject == "the0.backtest.completed");
        let ends = ends.map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap());
        ends.filter(|end| end["backtest_id"] == id).collect()
    }

    /// Waits until its end was told, and gives what was.
    pub fn is_told(&self, id: &str) -> Value {
        let what = format!("the end of {id}, told");
        let is_noted = || self.show(id).filter(|job| job["told"] == true);
        wait_for(&what, LONG, is_noted);
        let told = self.told(id);
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].clone()
    }

    /// Its result, as the store has it.
    pub fn result(&self, id: &str) -> Option<Value> {
        let key = format!("{id}/result.json");
        let object = self.host.objects().try_get("results", &key).ok()??;
        serde_json::from_slice(&object.bytes).ok()
    }

    /// The job's container's name.
    pub fn container(&self, id: &str) -> String {
        format!("the0-{}.job.{id}", self.host.name())
    }

    /// Waits until nothing of it is left on the daemon.
    pub fn is_gone(&self, id: &str) {
        let name = self.container(id);
        let gone = || self.host.docker.inspect(&name).is_null().then_some(());
        wait_for(&format!("the end of {name}"), LONG, gone);
    }

    /// How often its container was about to be started.
    pub fn starts(&self, id: &str) -> i64 {
        let all = self.host.mongo.all("backtest_runner.backtests");
        let all: Vec<_> = all
            .iter()
            .filter(|job| job.get_str("id").is_ok_and(|is| is == id))
            .collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].get_i32("starts").map_or(0, i64::from)
    }
}

/// What was told says that the job went well.
pub fn is_success(told: &Value, id: &str) {
    assert_eq!(told, &json!({"backtest_id": id, "success": true}));
}
