//! A bot in a Pod whose state somebody else claims.

use std::time::Duration;

use mongodb::bson::doc;
use serde_json::Value;
use tests::cluster::container;
use tests::stays;
use tests::volume::World;

use crate::rig::Rig;
use crate::saving::WRITES;

const ID: &str = "claimed";
/// For so long, in which it is looked at several times, no other Pod may come.
const AT_LEAST: Duration = Duration::from_secs(15);

#[test]
fn a_bot_whose_state_another_writer_claims_is_ended_and_waits_for_a_change() {
    let Some(rig) = Rig::start("controller::fenced") else {
        return;
    };
    let agent = rig.agent(&[]);
    let pod = rig.running(ID, WRITES, doc! {"word": "before"});
    rig.wait_saved(ID, "word", "before");
    let held = pod.hold();
    let second = World::on(&rig.store, ID).volume("second");
    second.session(|volume| volume.put("owner", "second"));
    let key = second.key();
    let etag = || {
        let object = rig.store.client().get("bot-state", &key);
        object.expect("a state").etag
    };
    let theirs = etag();
    assert_eq!(rig.saved(ID, "owner").as_deref(), Some("second"));

    // Its kubelet may have started it once more, in vain.
    pod.wait("an end with the code of one that is fenced", |pod| {
        let bot = container(pod, "bot");
        let ends = ["state", "lastState"].map(|life| &bot[life]["terminated"]["exitCode"]);
        let is_fenced = |code: &&Value| **code == contract::exit::FENCED;
        ends.iter().any(is_fenced).then_some(())
    });
    drop(held);
    pod.gone();
    agent.wait_history(&rig, ID, |runs| {
        let is_over = |run: &Value| run["ended_at"].is_string();
        let first = runs.first();
        first.is_some_and(|run| run["reason"] == "fenced") && runs.iter().all(is_over)
    });
    agent.wait_row(&rig, ID, |row| (row["state"] == "failed").then_some(()));
    stays("no other Pod, and a state that is theirs", AT_LEAST, || {
        rig.names("pods").is_empty() && etag() == theirs
    });

    // A change is a new beginning, on what is in the store.
    rig.running(ID, WRITES, doc! {"word": "after"});
    rig.wait_saved(ID, "word", "after");
    assert_eq!(rig.saved(ID, "owner").as_deref(), Some("second"));
}
