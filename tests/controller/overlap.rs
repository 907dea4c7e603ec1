//! A run that the cluster's clock has started and that is not over when the next tick is due.

use mongodb::bson::doc;
use serde_json::Value;
use tests::cluster::LONG;
use tests::wait_for;

use crate::late::{is_handed_over, ran};
use crate::rig::Rig;

/// The first run that a CronJob's Job has made lasts beyond the next minute's beginning, by some seconds.
const OUTLASTS: &str = r"
import os, socket, time

def main(id, config):
    path = '/state/count'
    count = int(open(path).read()) + 1 if os.path.exists(path) else 1
    open(path, 'w').write(str(count))
    if socket.gethostname().startswith('schedule-') and not os.path.exists('/state/long'):
        open('/state/long', 'w').write(str(count))
        time.sleep(60 - time.time() % 60 + 15)
";

/// Whether it may run its bot, now or later.
fn is_under_way(pod: &Value) -> bool {
    !["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default())
}

#[test]
fn a_tick_that_is_due_while_one_runs_waits_for_its_end_or_is_passed_over() {
    let Some(rig) = Rig::start("controller::overlap") else {
        return;
    };
    let agent = rig.agent(&[]);
    rig.scheduled_as("clock", OUTLASTS, doc! {"schedule": "* * * * *"});
    is_handed_over(&rig, &agent);
    let runs = wait_for("a run after the long one and its tick", LONG * 4, || {
        let pods = rig.cluster.list("pod");
        let under_way = pods.iter().filter(|pod| is_under_way(pod));
        assert!(under_way.count() <= 1, "{pods:#?}");
        let runs = agent.ask(&rig, &["history", "clock"]);
        let all = ran(runs.as_array().unwrap());
        let long: usize = rig.saved("clock", "long")?.parse().ok()?;
        let is_done = |run: &&Value| run["exit"] == 0 && run["saved"]["all"] == true;
        let is_over = all.len() > long + 1 && all.iter().all(is_done);
        is_over.then(|| all.into_iter().cloned().collect::<Vec<Value>>())
    });
    let count = rig.saved("clock", "count").unwrap();
    assert!(
        runs.len().to_string() == count || (runs.len() + 1).to_string() == count,
        "{count} of {runs:#?}"
    );
    assert!(!agent.said().contains("TWO Pods"), "{}", agent.said());
}
