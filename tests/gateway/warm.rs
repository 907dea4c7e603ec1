//! Containers that wait for questions, and the same question asked by several at once.

use std::collections::BTreeSet;
use std::time::Duration;

use mongodb::bson::doc;
use serde_json::json;
use tests::stack::LONG;
use tests::wait_for;

use crate::rig::Rig;

/// Waits for one that runs and is nobody's; its id.
fn waiting(rig: &Rig) -> String {
    wait_for("a container that waits", LONG, || {
        let all = rig.containers();
        let [id] = &all[..] else { return None };
        let found = rig.stack.docker.inspect(id);
        (found["State"]["Running"] == true).then(|| id.clone())
    })
}

#[test]
fn a_container_that_waited_is_used_once_and_by_one_bot() {
    let Some(mut rig) = Rig::start("gateway::warm", &[("THE0_QUERY_WARM", "python3.11=1")]) else {
        return;
    };
    let [one, two] = ["one", "two"].map(|short| rig.bot(short, doc! {"enabled": false}));
    let bounded = rig.bot(
        "bounded",
        doc! {"enabled": false, "config.memory_limit": "100Mi"},
    );
    rig.answers(&bounded, "/count");
    for id in [&one, &two] {
        let ready = waiting(&rig);
        let found = rig.stack.docker.inspect(&ready);
        let said = found.to_string();
        assert!(
            !said.contains(&one) && !said.contains(&two),
            "it is nobody's"
        );
        rig.answers(id, "/count");
        wait_for("its end", LONG, || {
            (!rig.containers().contains(&ready)).then_some(())
        });
    }
    waiting(&rig);
    rig.stack.end();
    assert!(rig.containers().is_empty(), "none waits for nobody");
}

#[test]
fn the_same_question_under_way_is_asked_once_where_that_is_wanted() {
    let Some(rig) = Rig::start("gateway::share", &[("THE0_QUERY_SHARE", "on")]) else {
        return;
    };
    let id = rig.bot("rests", doc! {"enabled": false});
    rig.answers(&id, "/count");
    wait_for("the end of its container", LONG, || {
        rig.containers().is_empty().then_some(())
    });
    // Long enough for each to come while the first is under way, which nobody tells.
    let sleeps = json!({"params": {"seconds": 15}, "timeout_sec": 60});
    let ask = || rig.ask(&id, "/sleep", &sleeps).status;
    let seen = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        let mut seen = BTreeSet::new();
        while !asked.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            seen.extend(rig.containers());
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(asked.into_iter().all(|asked| asked.join().unwrap() == 200));
        seen
    });
    assert_eq!(seen.len(), 1, "{seen:?}");
}
