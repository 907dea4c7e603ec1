//! Schedules of the soak: one that the cluster's clock keeps, and one that only the agent's own can.

use std::collections::BTreeSet;

use mongodb::bson::doc;
use serde_json::Value;

use crate::journal::Journal;
use crate::rig::{Agent, Rig, SCHEDULES};

/// Their bots, and when they run.
const TICKS: [(&str, &str); 2] = [("minutes", "* * * * *"), ("seconds", "*/6 * * * * *")];

/// Puts them.
pub fn begin(rig: &Rig) {
    for (id, schedule) in TICKS {
        rig.scheduled(id, doc! {"once": true, "schedule": schedule});
    }
}

/// Takes them away.
pub fn remove(rig: &Rig) {
    for (id, _) in TICKS {
        rig.mongo.delete(SCHEDULES, doc! {"id": id});
    }
}

/// Secrets of their CronJobs. (Those of a start whose agent was killed in it are removed after some minutes.)
pub fn secrets(rig: &Rig) -> Vec<String> {
    let mut all = rig.names("secrets");
    let of_cronjob = |name: &String| {
        let ours = |id| name.contains(&format!("default-{id}-"));
        TICKS
            .iter()
            .any(|(id, _)| ours(id) && !name.contains(&format!("-{id}-t1")))
    };
    all.retain(of_cronjob);
    all
}

/// Each tick that ran did so once, on the state of the one before, and is told of; gives how many there were. For when
/// nothing of them is left.
pub fn hold(rig: &Rig, agent: &Agent, journal: &Journal) -> usize {
    let mut all = 0;
    for (id, _) in TICKS {
        let logged = rig.logged(id);
        let counts = logged.lines().filter_map(|line| {
            let (_, count) = line.split_once(r#""message":"COUNT "#)?;
            count.split('"').next()?.parse::<usize>().ok()
        });
        let counts: Vec<usize> = counts.collect();
        let one_by_one = counts.iter().copied().eq(1..=counts.len());
        journal.check(id, one_by_one, || format!("its runs counted {counts:?}"));
        let saved = rig.saved(id, "count").and_then(|text| text.parse().ok());
        journal.check(id, saved.unwrap_or(0) == counts.len(), || {
            format!("{counts:?} were counted, and {saved:?} is saved")
        });
        journal.wait(id, crate::end::RECOVERY, || {
            let runs = agent.ask(rig, &["history", "-n", "10000", id]);
            let runs = runs.as_array().expect("runs");
            let good = runs
                .iter()
                .filter(|run| run["exit"] == 0 && run["saved"]["all"] == true);
            let good: Vec<&Value> = good.collect();
            let ticks: BTreeSet<String> =
                good.iter().map(|run| run["because"].to_string()).collect();
            let holds = good.len() == counts.len() && ticks.len() == good.len();
            holds
                .then_some(())
                .ok_or_else(|| format!("{} runs counted, and history has {runs:#?}", counts.len()))
        });
        all += counts.len();
    }
    all
}
