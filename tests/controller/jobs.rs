//! Run-to-end jobs as Pods: from an event to a result, and whatever comes between.

use std::time::{Duration, Instant, SystemTime};

use mongodb::bson::{DateTime, doc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::cluster::{LONG, Pod};
use tests::servers::nats::{Nats, event};
use tests::stack::zipped;
use tests::wait_for;

use crate::ends::evict;
use crate::rig::{Agent, Rig};

/// The stream of jobs.
pub const JOBS: &str = "THE0_JOBS";
/// Where their documents are.
const BACKTESTS: &str = "backtest_runner.backtests";
/// The time that a job may take, where a test is about that: more than any takes.
pub const TIME: &str = "10m";
/// More than that.
pub const TOO_LONG: Duration = Duration::from_secs(660);
/// A backtest that says so and has a result of its own.
pub const GOOD: &str = r#"
import os
def main(id, config):
    print("TESTED", id, flush=True)
    open("/state/left", "w").write("words")
    return {"status": "success", "data": {"n": config["n"], "keys": os.path.exists("/run/the0/keys")}}
"#;
/// One that says that it has begun, and goes on until it is let end ([`let_end`]), or for so many seconds.
pub const SLOW: &str = r#"
import signal
def main(id, config):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    print("BEGAN", id, flush=True)
    signal.sigtimedwait([signal.SIGUSR1], config.get("seconds", 10000))
    return {"status": "success", "data": {"slept": True}}
"#;
/// Writes a result of its own and ends at once.
const WRITES: &str = "import os\ndef main(id, config):\n    if 'text' in config:\n        open('/bot/result.json', 'w').write(config['text'] * config.get('times', 1))\n    os._exit(config.get('code', 0))\n";
/// Leaves a link as its result.
const LINKS: &str = "import os\ndef main(id, config):\n    os.symlink('/run/the0/keys/keys.json', '/bot/result.json')\n    os._exit(0)\n";
/// Takes more memory than it may have.
const GREEDY: &str = "def main(id, config):\n    all = [bytearray(b'x') * (1 << 20) for _ in range(4096)]\n    print(len(all))\n";

fn key(id: &str) -> String {
    format!("tests/{id}/1.0.0")
}

/// Puts the code of a job.
pub fn put(rig: &Rig, id: &str, main: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("backtest.py"), main).unwrap();
    let bundle = zipped(folder.path());
    rig.store.client().put("custom-bots", &key(id), &bundle);
}

/// Asks for a job whose code is there.
pub fn ask(nats: &Nats, id: &str, config: &Value) {
    say(nats, id, &key(id), config);
}

fn say(nats: &Nats, id: &str, key: &str, config: &Value) {
    let mut event = event(id, key, config);
    event["custom"]["config"]["entrypoints"]["backtest"] = "backtest.py".into();
    nats.say("the0.backtest.created", &event);
}

/// What was told of the end of a job.
pub fn told(nats: &Nats, id: &str) -> Vec<Value> {
    let messages = nats.messages(JOBS);
    let ends = messages
        .iter()
        .filter(|message| message.subject == "the0.backtest.completed");
    let ends = ends.map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap());
    ends.filter(|end| end["backtest_id"] == id).collect()
}

/// What the cluster has of jobs, by its name.
pub fn left(rig: &Rig) -> String {
    let of_jobs = ["--selector", "the0.app/type=backtest", "--output", "name"];
    let words = ["get", "pods,secrets,jobs"].into_iter().chain(of_jobs);
    rig.cluster.ask(words)
}

/// Lets a job end well that runs [`SLOW`] and has said so ([`Site::runs`]).
pub fn let_end(pod: &Pod<'_>) {
    let program = pod.process("bot", "python3");
    kill(Pid::from_raw(program), Signal::SIGUSR1).expect("its program");
}

/// A controller that takes jobs.
pub struct Site {
    pub rig: Rig,
    pub nats: Nats,
    pub agent: Agent,
}

impl Site {
    /// `None` when a part is missing, which has been said.
    pub fn start(test: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let (rig, nats) = (Rig::start(test)?, Nats::start()?);
        nats.make_stream();
        let uri = nats.uri();
        let mut all = vec![("NATS_URL", uri.as_str())];
        all.extend(settings);
        let agent = rig.agent(&all);
        nats.wait_for(JOBS);
        Some(Self { rig, nats, agent })
    }

    /// Asks for a job that runs `main`.
    pub fn job(&self, id: &str, main: &str, config: &Value) {
        put(&self.rig, id, main);
        ask(&self.nats, id, config);
    }

    /// Has it that a job which runs has begun so long ago.
    pub fn ages(&self, id: &str, time: Duration) {
        let begun = DateTime::from_system_time(SystemTime::now() - time);
        let filter = doc! {"id": id, "begun_at": {"$type": "date"}};
        let change = doc! {"$set": {"begun_at": begun}};
        let changed = self.rig.mongo.update(BACKTESTS, filter, change);
        assert_eq!(changed, 1, "{id} has not begun");
    }

    /// The document of a job.
    pub fn row(&self, id: &str) -> Value {
        let rows = self.agent.ask(&self.rig, &["job", "ls"]);
        let rows = rows.as_array().unwrap();
        let row = rows.iter().find(|row| row["id"] == id);
        row.cloned().unwrap_or_default()
    }

    /// Waits until its document is as `look` wants it.
    pub fn wait_row(&self, id: &str, look: impl Fn(&Value) -> bool) {
        let end = Instant::now() + LONG;
        loop {
            let row = self.row(id);
            if look(&row) {
                return;
            }
            assert!(Instant::now() < end, "{row:#}\n{}", self.agent.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until its end is told, which is this; gives its document.
    pub fn ends(&self, id: &str, status: &str) -> Value {
        let end = Instant::now() + LONG * 2;
        loop {
            let row = self.row(id);
            if row["told"] == true {
                assert_eq!(row["status"], status, "{row:#}\n{}", self.agent.said());
                return row;
            }
            assert!(Instant::now() < end, "{row:#}\n{}", self.agent.said());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The same of one that failed, for a reason with this word.
    pub fn fails(&self, id: &str, word: &str) {
        let row = self.ends(id, "failed");
        let error = row["error"].as_str().unwrap();
        assert!(error.contains(word), "{id}: {error}");
        let told = self.told(id);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            (&told[0]["success"], &told[0]["error"]),
            (&json!(false), &row["error"])
        );
    }

    /// What was told of the end of a job.
    pub fn told(&self, id: &str) -> Vec<Value> {
        told(&self.nats, id)
    }

    /// Its result, as the store has it.
    pub fn result(&self, id: &str) -> Option<Value> {
        let key = format!("{id}/result.json");
        let object = self.rig.store.client().try_get("results", &key).ok()??;
        serde_json::from_slice(&object.bytes).ok()
    }

    /// The Pod of a job, once there is one.
    pub fn pod(&self, id: &str) -> Pod<'_> {
        let selector = format!("the0.app/job={id}");
        let words = ["get", "pods", "--selector", &selector, "--output", "name"];
        let name = wait_for(&format!("a Pod of {id}"), LONG, || {
            let listed = self.rig.cluster.ask(words);
            listed.lines().next().map(str::to_owned)
        });
        self.rig.cluster.pod(name.trim_start_matches("pod/"))
    }

    /// The same, once its program runs.
    pub fn runs(&self, id: &str) -> Pod<'_> {
        let pod = self.pod(id);
        pod.wait("a job that runs", |pod| {
            let bot = tests::cluster::container(pod, "bot");
            (!bot["state"]["running"].is_null()).then_some(())
        });
        wait_for("its first line", LONG, || {
            pod.logs("bot").contains("BEGAN").then_some(())
        });
        pod
    }

    /// What it has printed, which goes to the store.
    pub fn printed(&self, id: &str) -> String {
        self.agent.prints(&self.rig, &["job", "logs", id])
    }

    /// Nothing is left in the cluster, nor in the bucket of states.
    pub fn leaves_nothing(&self, ids: &[&str]) {
        wait_for("the end of all there was of jobs", LONG, || {
            left(&self.rig).is_empty().then_some(())
        });
        for id in ids {
            let states = self.rig.store.client().list("bot-state", &format!("{id}/"));
            assert!(states.is_empty(), "a job has no state: {states:?}");
        }
    }
}

#[test]
fn jobs_have_their_own_results_or_one_made_of_their_end_and_leave_nothing() {
    let settings = [("THE0_JOB_RESULT", "64Ki"), ("THE0_JOBS", "4")];
    let Some(site) = Site::start("controller::jobs", &settings) else {
        return;
    };
    site.job("good", GOOD, &json!({"n": 7}));
    site.job("bare", WRITES, &json!({}));
    site.job(
        "three",
        WRITES,
        &json!({"text": "{\"status\": \"success\"}", "code": 3}),
    );
    site.job("garbled", WRITES, &json!({"text": "{\"a\": hunter2"}));
    site.job(
        "large",
        WRITES,
        &json!({"text": "[1, 2, 3]\n", "times": 20_000}),
    );
    site.job("linked", LINKS, &json!({}));
    site.job("greedy", GREEDY, &json!({"memory_limit": "64Mi"}));
    say(&site.nats, "nowhere", "tests/nowhere/1", &json!({}));

    let row = site.ends("good", "completed");
    assert_eq!(row["result"], "good/result.json");
    assert_eq!(
        site.told("good"),
        [json!({"backtest_id": "good", "success": true})]
    );
    let data = json!({"n": 7, "keys": false});
    assert_eq!(site.result("good").unwrap()["data"], data);
    site.ends("bare", "completed");
    assert_eq!(site.result("bare").unwrap()["status"], "success");
    site.fails("three", "exit 3");
    assert_eq!(site.result("three").unwrap(), json!({"status": "success"}));
    site.fails("garbled", "not JSON");
    site.fails("large", "more than the 65536 bytes");
    site.fails("linked", "is not a file");
    site.fails("greedy", "more memory than it may have");
    site.fails("nowhere", "the code could not be fetched");
    site.leaves_nothing(&[
        "good", "bare", "three", "garbled", "large", "linked", "greedy", "nowhere",
    ]);
    assert!(site.printed("good").contains("TESTED good"));
    assert!(!site.agent.said().contains("hunter2"));
}

#[test]
fn a_job_that_is_not_wanted_or_takes_too_long_is_ended_and_leaves_nothing() {
    let Some(site) = Site::start("controller::jobs_end", &[("THE0_JOB_TIME", TIME)]) else {
        return;
    };
    site.job("unwanted", SLOW, &json!({}));
    site.job("late", SLOW, &json!({}));
    site.job("waits", SLOW, &json!({}));
    site.runs("unwanted");
    for id in ["waits", "unwanted"] {
        site.agent.prints(&site.rig, &["job", "cancel", id]);
        site.ends(id, "cancelled");
        let told = json!({"backtest_id": id, "success": false, "error": "cancelled"});
        assert_eq!(site.told(id), [told]);
    }
    site.runs("late");
    site.ages("late", TOO_LONG);
    site.fails("late", "the time a job may take");
    site.leaves_nothing(&["unwanted", "late", "waits"]);
    assert_eq!(site.printed("unwanted").matches("BEGAN").count(), 1);
}

/// Waits until a job that was asked for has come to this moment of its life.
fn comes_to(site: &Site, moment: &str) {
    match moment {
        "claimed" => site.wait_row(moment, |row| row["claimed_at"].is_string()),
        "made" => drop(site.pod(moment)),
        "running" => drop(site.runs(moment)),
        // It stands still, lest the Pod be gone before anybody has seen its end.
        "over" => {
            let pod = site.runs(moment);
            site.agent.signal(Signal::SIGSTOP);
            let_end(&pod);
            pod.wait("its end", |pod| {
                (pod["status"]["phase"] == "Succeeded").then_some(())
            });
        }
        "saved" => {
            let_end(&site.runs(moment));
            wait_for("its result", LONG, || site.result(moment).map(drop));
        }
        _ => {
            let_end(&site.runs(moment));
            site.wait_row(moment, |row| row["ended_at"].is_string());
        }
    }
}

#[test]
fn an_agent_killed_at_each_step_leaves_a_job_that_runs_once_and_is_told_of_once() {
    let Some(mut site) = Site::start("controller::jobs_kills", &[]) else {
        return;
    };
    let moments = ["claimed", "made", "running", "over", "saved", "closed"];
    for moment in moments {
        site.job(moment, SLOW, &json!({}));
        comes_to(&site, moment);
        site.agent.kill();
        site.agent.start(&site.rig);
        if ["claimed", "made", "running"].contains(&moment) {
            let_end(&site.runs(moment));
        }
        site.ends(moment, "completed");
        let told = json!({"backtest_id": moment, "success": true});
        assert_eq!(site.told(moment), [told]);
        assert_eq!(site.result(moment).unwrap()["data"]["slept"], true);
        site.leaves_nothing(&[moment]);
        let printed = site.printed(moment);
        assert_eq!(printed.matches("BEGAN").count(), 1, "{moment}: {printed}");
    }
}

#[test]
fn a_job_whose_pod_others_end_has_failed_and_is_not_run_again() {
    let Some(site) = Site::start("controller::jobs_lost", &[("THE0_JOBS", "4")]) else {
        return;
    };
    let ids = ["deleted", "evicted", "forced", "taken"];
    for id in ids {
        site.job(id, SLOW, &json!({}));
    }
    let words = |words: &[&str], pod: &Pod<'_>| {
        let words = words.iter().copied();
        let all = words.map(|word| {
            if word == "POD" {
                pod.name.as_str()
            } else {
                word
            }
        });
        site.rig.cluster.ask(all);
    };
    let deleted = site.runs("deleted");
    words(&["delete", "pod", "POD", "--wait=false"], &deleted);
    let evicted = site.runs("evicted");
    evict(&site.rig, &evicted);
    let forced = site.runs("forced");
    words(
        &["delete", "pod", "POD", "--force", "--wait=false"],
        &forced,
    );
    let taken = site.runs("taken");
    // It sees that the Pod has gone, and not how it goes.
    site.agent.signal(Signal::SIGSTOP);
    words(&["delete", "pod", "POD", "--force", "--wait=false"], &taken);
    let none = r#"{"metadata": {"finalizers": null}}"#;
    words(
        &["patch", "pod", "POD", "--type=merge", "--patch", none],
        &taken,
    );
    taken.gone();
    site.agent.signal(Signal::SIGCONT);
    for id in ["deleted", "evicted", "forced"] {
        site.fails(id, "told to end by somebody else");
    }
    site.fails("taken", "has gone while it ran");
    site.leaves_nothing(&ids);
    for id in ["deleted", "evicted"] {
        assert_eq!(site.printed(id).matches("BEGAN").count(), 1, "{id}");
    }
}

#[test]
fn a_job_whose_image_is_not_there_has_failed_and_says_so() {
    let settings = [("RUNTIME_IMAGE", "the0.test/none:1")];
    let Some(site) = Site::start("controller::jobs_image", &settings) else {
        return;
    };
    site.job("none", GOOD, &json!({"n": 1}));
    site.fails("none", "ErrImageNeverPull");
    site.leaves_nothing(&["none"]);
}
