//! What a person asks of bots that run as Pods: that all are made anew, and what they print.

use std::time::Duration;

use mongodb::bson::doc;
use serde_json::Value;
use tests::cluster::{LONG, Pod, container};
use tests::{read, stays, wait_for};

use crate::lines::{TALKS, numbers};
use crate::rig::{Agent, Rig};

/// For so long, in which it is looked at several times, a bot's turn may not come: longer than one counts as new.
const AT_LEAST: Duration = Duration::from_secs(15);

fn uid(pod: &Pod<'_>) -> Value {
    pod.get()["metadata"]["uid"].clone()
}

fn uids(pods: &[Pod<'_>]) -> Vec<Value> {
    pods.iter().map(uid).collect()
}

/// Whether its bot runs and is to run on.
fn runs(pod: &Value) -> bool {
    let bot = container(pod, "bot");
    pod["metadata"]["deletionTimestamp"].is_null() && !bot["state"]["running"].is_null()
}

/// Waits until the agent knows that these bots run.
fn are_known(rig: &Rig, agent: &Agent, ids: &[&str]) {
    for id in ids {
        agent.wait_row(rig, id, |row| (row["state"] == "running").then_some(()));
    }
}

#[test]
fn a_roll_has_one_pod_away_at_a_time_and_leaves_none_as_it_was() {
    let Some(rig) = Rig::start("controller::rolls") else {
        return;
    };
    let ids = ["alder", "birch", "cedar"];
    let agent = rig.agent(&[]);
    let pods = ids.map(|id| rig.bot(id, doc! {}));
    for id in ids {
        rig.wait_saved(id, "count", "1");
    }
    are_known(&rig, &agent, &ids);
    let before = uids(&pods);
    drop(agent);
    let agent = rig.agent(&[("THE0_SYNC_MEMORY", "300Mi")]);
    are_known(&rig, &agent, &ids);
    assert_eq!(uids(&pods), before, "they run on as they are");

    let rolled = agent.prints(&rig, &["roll", "--max-unavailable", "1"]);
    assert!(rolled.contains("rolling 3 bots"), "{rolled}");
    let mut least = ids.len();
    wait_for("the end of the roll", LONG * 3, || {
        let there = rig.cluster.list("pod");
        let up = there.iter().filter(|pod| runs(pod)).count();
        assert!(up >= 2, "{up} of three run\n{}", agent.said());
        least = least.min(up);
        agent.said().contains("the roll is over").then_some(())
    });
    assert_eq!(least, 2, "one was away");
    for (pod, was) in pods.iter().zip(&before) {
        let now = pod.ready().get();
        assert_ne!(now["metadata"]["uid"], *was, "{now:#}");
        let inits = now["spec"]["initContainers"].as_array().unwrap();
        let sync = inits.iter().find(|init| init["name"] == "sync").unwrap();
        assert_eq!(sync["resources"]["limits"]["memory"], "300Mi", "{sync:#}");
    }
    for id in ids {
        rig.wait_saved(id, "count", "2");
    }
    let rolled = agent.prints(&rig, &["roll"]);
    assert!(rolled.contains("as it would be made now"), "{rolled}");
}

#[test]
fn a_roll_to_an_image_that_is_not_there_takes_no_more_than_one_bot_away() {
    let Some(rig) = Rig::start("controller::roll_stuck") else {
        return;
    };
    let ids = ["east", "west"];
    let agent = rig.agent(&[]);
    let pods = ids.map(|id| rig.bot(id, doc! {}));
    for id in ids {
        rig.wait_saved(id, "count", "1");
    }
    are_known(&rig, &agent, &ids);
    let before = uids(&pods);
    drop(agent);
    let agent = rig.agent(&[("RUNTIME_IMAGE", "the0.test/none:1")]);
    are_known(&rig, &agent, &ids);
    let rolled = agent.prints(&rig, &["roll"]);
    assert!(rolled.contains("rolling 2 bots"), "{rolled}");
    // They have their turns in the order of their ids.
    agent.wait_row(&rig, "east", |row| {
        let reason = row["reason"].as_str().unwrap_or_default();
        reason.contains("ErrImage").then_some(())
    });
    assert_ne!(uid(&pods[0]), before[0]);
    stays("the other one, which waits for its turn", AT_LEAST, || {
        let other = pods[1].get();
        runs(&other) && other["metadata"]["uid"] == before[1]
    });
    let said = agent.said();
    assert!(!said.contains("the roll is over"), "{said}");

    // The next roll mends that one, though as many are away as may be.
    let stuck = uid(&pods[0]);
    drop(agent);
    let agent = rig.agent(&[]);
    are_known(&rig, &agent, &["west"]);
    agent.wait_row(&rig, "east", |row| {
        let reason = row["reason"].as_str().unwrap_or_default();
        reason.contains("image").then_some(())
    });
    let rolled = agent.prints(&rig, &["roll"]);
    assert!(rolled.contains("rolling 1 bot"), "{rolled}");
    rig.wait_saved("east", "count", "2");
    assert_ne!(uid(&pods[0]), stuck);
    agent.says("the roll is over");
    assert_eq!(uid(&pods[1]), before[1]);
}

#[test]
fn a_log_is_followed_until_its_bot_is_stopped_and_its_day_is_in_the_store() {
    let Some(rig) = Rig::start("controller::logs") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.running("speaker", TALKS, doc! {"ends": 0});
    pod.ready();
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().join("shown");
    let words = ["logs", "--follow", "-n", "5", "speaker"];
    let mut follower = agent.goes_on(&rig, &words, &shown);
    let followed = || numbers(&read(&shown)).collect::<Vec<u64>>();
    let first = wait_for("lines", LONG, || followed().first().copied());
    wait_for("lines that come while it is followed", LONG, || {
        (*followed().last()? > first + 30).then_some(())
    });
    agent.does(&rig, &["stop", "speaker"]);
    assert_eq!(follower.code(LONG), 0);
    let followed = followed();
    let one_by_one: Vec<u64> = (first..).take(followed.len()).collect();
    assert_eq!(followed, one_by_one);

    pod.gone();
    let days = rig.store.client().list("bot-logs", "logs/speaker/");
    let of_day = |key: &String| {
        let (_, day) = key.rsplit_once('/').expect("a day");
        let day = day.trim_end_matches(".log");
        agent.prints(&rig, &["logs", "--day", day, "-n", "all", "speaker"])
    };
    let stored: String = days.iter().map(of_day).collect();
    let kept: Vec<u64> = numbers(&stored).collect();
    let all: Vec<u64> = (1..).take(kept.len()).collect();
    assert_eq!(kept, all);
    assert!(kept.last() >= followed.last(), "{kept:?} {followed:?}");
    assert!(stored.contains("LAST WORDS"), "{stored}");
}
