//! Parts of the cluster's control plane are away: its API server for a minute, from everybody; its own controllers for as
//! long as a schedule is left to them. All tests of the machine have one cluster, so these run alone
//! (`tests/setup/side_by_side.sh`) and one after the other.

#[path = "controller/rig.rs"]
#[expect(dead_code, reason = "the tests of the controller use all of it")]
mod rig;

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use contract::record::Time;
use mongodb::bson::doc;
use serde_json::Value;
use tests::cluster::{LONG, Pod};
use tests::{repository, run, skip, stays, text, wait_for};

use rig::{Agent, Rig};

const API_SERVER: &str = "kube-apiserver";
const CONTROLLERS: &str = "kube-controller-manager";
/// The API server is away for so long.
const AWAY: Duration = Duration::from_secs(60);
/// In this time a state that changes is saved once more.
const SAVES: Duration = Duration::from_secs(20);
/// What ticks take each minute, and one more that is given up and run by the agent.
const TICKS: Duration = Duration::from_secs(400);
/// For so long, in which it is looked at several times, no other Pod may come.
const AT_LEAST: Duration = Duration::from_secs(10);

/// Runs on.
const STEADY: &str = "steadily";
/// Ends with 1 now and then.
const CRASHER: &str = "crashing";
/// Runs each minute.
const MINUTES: &str = "minutes";
const CRONJOB: &str = "schedule-default-minutes";

/// Counts in its state, five times a second, and its runs; a run is over after so many as it `ends`.
const COUNTS_ON: &str = r"
import os, sys, time

def main(id, config):
    def count(name):
        path = f'/state/{name}'
        before = int(open(path).read()) if os.path.exists(path) else 0
        open(path + '.new', 'w').write(str(before + 1))
        os.replace(path + '.new', path)
    count('runs')
    counted = 0
    while counted != config.get('ends'):
        counted += 1
        count('count')
        time.sleep(0.2)
    sys.exit(1)
";

fn script(words: &[&str]) -> Output {
    let script = repository().join("tests/setup/kubernetes.sh");
    run(Command::new(script).args(words))
}

/// Whether the API server answers.
fn answers() -> bool {
    let words = ["kubectl", "get", "--raw=/readyz", "--request-timeout=5s"];
    script(&words).status.success()
}

/// A part of the control plane that is away, and comes again whatever becomes of the test.
struct Halted(&'static str);

impl Halted {
    fn new(part: &'static str) -> Self {
        let halted = Self(part);
        let output = script(&["halt", part]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        halted
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        let end = Instant::now() + LONG;
        while !(script(&["resume", self.0]).status.success() && answers()) {
            if Instant::now() >= end {
                eprintln!("{} does not come again", self.0);
                return;
            }
        }
    }
}

/// A number in a bot's state in the store.
fn number(rig: &Rig, id: &str, file: &str) -> u64 {
    let text = rig.saved(id, file);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn uids(pods: &[Pod<'_>]) -> Vec<Value> {
    let uid = |pod: &Pod<'_>| pod.get()["metadata"]["uid"].clone();
    pods.iter().map(uid).collect()
}

/// How many Pods of a bot there are.
fn count_pods(rig: &Rig, id: &str) -> usize {
    let pods = rig.cluster.list("pod");
    let is_its = |pod: &&Value| pod["metadata"]["labels"]["the0.app/bot-id"] == id;
    pods.iter().filter(is_its).count()
}

/// Waits until the cluster's clock has the schedule; gives its CronJob.
fn kept(rig: &Rig) -> Value {
    wait_for("a CronJob that is switched on", TICKS, || {
        let cron = rig.cluster.get("cronjob", CRONJOB);
        (cron["spec"]["suspend"] == false).then_some(cron)
    })
}

/// Waits until the cluster's clock has the schedule, and the bots run, of which one has ended once.
fn begin(rig: &Rig) -> [Pod<'_>; 2] {
    rig.scheduled(MINUTES, doc! {"once": true, "schedule": "* * * * *"});
    kept(rig);
    let pods = [
        rig.running(STEADY, COUNTS_ON, doc! {}),
        rig.running(CRASHER, COUNTS_ON, doc! {"ends": 40}),
    ];
    pods[0].ready();
    // Its kubelet waits 10 and 20 s before the next ones.
    wait_for("a second run", LONG, || {
        (number(rig, CRASHER, "runs") >= 2).then_some(())
    });
    pods
}

/// Has the API server away for its time, in which all that bots write is saved.
fn away(rig: &Rig, agent: &Agent) {
    let mut last = number(rig, STEADY, "count");
    let halted = Halted::new(API_SERVER);
    let end = Instant::now() + AWAY;
    while Instant::now() < end {
        last = wait_for(&format!("counts after {last}"), SAVES, || {
            let now = number(rig, STEADY, "count");
            (now > last).then_some(now)
        });
    }
    assert!(!answers(), "it was not away");
    agent.says("bots run on, changes wait");
    drop(halted);
    assert!(answers(), "it does not come again");
}

/// Stops the bot that ends now and then, and waits until each of its runs is told, in its order and once.
fn runs_are_told(rig: &Rig, agent: &Agent, pod: &Pod<'_>) {
    let so_far = number(rig, CRASHER, "runs");
    agent.wait_history(rig, CRASHER, |runs| runs.len() as u64 >= so_far);
    agent.does(rig, &["stop", CRASHER]);
    pod.gone();
    let ran = number(rig, CRASHER, "runs");
    agent.wait_history(rig, CRASHER, |runs| {
        let numbers = runs.iter().map(|run| run["run"].as_u64());
        let is_over = |run: &Value| run["ended_at"].is_string();
        numbers.eq((1..=ran).map(Some)) && runs.iter().all(is_over)
    });
    agent.wait_history(rig, STEADY, |runs| {
        let [run] = runs else { return false };
        run["run"] == 1 && run["ended_at"].is_null()
    });
}

/// When the tick of a run was due, in seconds since 1970.
fn due(run: &Value) -> u64 {
    let because = run["because"].as_str().unwrap_or_default();
    let time = because.split(',').next().unwrap_or_default();
    let time = Time::try_from(time.to_owned()).expect("the time of a tick");
    let since = time.system().duration_since(UNIX_EPOCH);
    since.expect("a time after 1970").as_secs()
}

/// The ticks that ran, well and with all of it saved.
fn ticks(runs: &[Value]) -> Vec<u64> {
    let is_good = |run: &&Value| run["exit"] == 0 && run["saved"]["all"] == true;
    runs.iter().filter(is_good).map(due).collect()
}

/// How many ticks were passed over after that minute, as history tells.
fn missed(runs: &[Value], first: u64) -> u64 {
    let later = runs.iter().filter(|run| due(run) / 60 > first);
    let told = later.filter_map(|run| {
        let text = run["message"].as_str()?.strip_prefix("missed: ")?;
        let (count, _) = text.split_once(" ticks")?;
        count.parse::<u64>().ok()
    });
    told.sum()
}

/// The ticks whose runs another one has fenced: a CronJob's controller forgets a Job that it makes as the API server goes
/// away, and starts the next tick beside it.
fn fenced(runs: &[Value]) -> Vec<u64> {
    let fenced = runs.iter().filter(|run| run["reason"] == "fenced");
    fenced.map(due).collect()
}

/// Whether history tells of so many runs that there were, each of another tick, and each minute from the first tick to the
/// last is one of these, or was fenced, or was passed over.
fn is_each_told_once(runs: &[Value], ran: u64) -> bool {
    // One that did not come to run is no run, but where it was fenced.
    let is_told = |run: &&Value| run["run"] != 0 || run["reason"] == "fenced";
    let all = runs.iter().filter(is_told).count();
    let ticks = ticks(runs);
    let fenced = fenced(runs);
    let told: Vec<u64> = ticks.iter().chain(&fenced).copied().collect();
    let minutes: BTreeSet<u64> = told.iter().map(|tick| tick / 60).collect();
    let (Some(first), Some(last)) = (minutes.first(), minutes.last()) else {
        return false;
    };
    let distinct: BTreeSet<&u64> = told.iter().collect();
    let is_once = distinct.len() == told.len() && told.len() == all && ticks.len() as u64 == ran;
    // The first one is due when it is put, not at a minute's beginning.
    is_once && fenced.len() <= 1 && last - first == all as u64 - 1 + missed(runs, *first)
}

/// Waits until a tick has run that was due after `back`, stops the schedule, and looks at all of its ticks.
fn ticks_are_told(rig: &Rig, agent: &Agent, back: u64) {
    wait_for("a tick after that", TICKS, || {
        let runs = agent.ask(rig, &["history", "-n", "1000", MINUTES]);
        let last = ticks(runs.as_array()?).into_iter().max()?;
        (last > back).then_some(())
    });
    agent.does(rig, &["stop", MINUTES]);
    wait_for("the end of all there was of the schedule", LONG, || {
        let is_over = rig.names("cronjobs").is_empty() && count_pods(rig, MINUTES) == 0;
        is_over.then_some(())
    });
    let ran = number(rig, MINUTES, "count");
    agent.wait_history(rig, MINUTES, |runs| is_each_told_once(runs, ran));
}

/// A rig, when no other test has a part of the cluster away; `None` where that is not done, which has been said.
fn start(test: &str) -> Option<(MutexGuard<'static, ()>, Rig)> {
    static ALONE: Mutex<()> = Mutex::new(());
    if std::env::var_os("THE0_TEST_SECONDS").is_none() {
        let why = "it takes minutes of the whole machine's cluster: set THE0_TEST_SECONDS";
        skip(test, why);
        return None;
    }
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Some((alone, Rig::start(test)?))
}

/// Seconds since 1970.
fn now() -> u64 {
    UNIX_EPOCH.elapsed().expect("a time after 1970").as_secs()
}

#[test]
fn an_api_server_that_is_away_for_a_minute_costs_no_state_no_run_and_no_tick() {
    let Some((_alone, rig)) = start("control_plane::api_server") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pods = begin(&rig);
    let before = uids(&pods);
    away(&rig, &agent);
    let back = now();
    agent.says("the API server answers");
    stays("the same Pods and no others", AT_LEAST, || {
        let is_alone = |id: &&str| count_pods(&rig, id) == 1;
        uids(&pods) == before && [STEADY, CRASHER].iter().all(is_alone)
    });
    runs_are_told(&rig, &agent, &pods[1]);
    ticks_are_told(&rig, &agent, back);
    assert_eq!(uids(&pods[..1]), before[..1], "it runs on");
    let said = agent.said();
    assert!(!said.contains("TWO Pods"), "{said}");
}

#[test]
fn a_cluster_whose_controllers_are_away_has_its_ticks_run_by_the_agent_and_gets_them_back() {
    let Some((_alone, rig)) = start("control_plane::controllers") else {
        return;
    };
    let agent = rig.agent(&[]);
    rig.scheduled(MINUTES, doc! {"once": true, "schedule": "* * * * *"});
    let before = kept(&rig);
    let halted = Halted::new(CONTROLLERS);
    wait_for("a schedule that is taken back", TICKS, || {
        let said = agent.said().contains("has not started the tick of");
        said.then_some(())
    });
    let had = number(&rig, MINUTES, "count");
    wait_for("ticks of the agent's own clock", TICKS, || {
        (number(&rig, MINUTES, "count") >= had + 2).then_some(())
    });
    drop(halted);
    let back = now();
    wait_for("a CronJob of its own again", TICKS, || {
        (kept(&rig)["metadata"]["uid"] != before["metadata"]["uid"]).then_some(())
    });
    ticks_are_told(&rig, &agent, back);
    let said = agent.said();
    assert!(!said.contains("TWO Pods"), "{said}");
}
