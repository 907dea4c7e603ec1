//! Ends that nobody asked for, and ends in bad moments.

use contract::record::{Outcome, Reason};
use serde_json::{Value, json};
use tests::cluster::{LONG, container};
use tests::door::Way;
use tests::servers::SECRET_KEY;
use tests::{is_alive, wait_for};

use crate::rig::{AWAY, Bot, Rig, ended, run_of, synced_of};

/// Whether a container of the Pod has been started again so often and runs.
fn runs_again(pod: &Value, name: &str, restarts: u64) -> Option<Value> {
    let status = container(pod, name);
    let again = status["restartCount"].as_u64() >= Some(restarts);
    (again && !status["state"]["running"].is_null()).then_some(status)
}

#[test]
fn a_bot_that_crashes_is_started_again_on_its_own_state_and_nothing_is_fetched() {
    let Some(rig) = Rig::start("kubernetes::crash") else {
        return;
    };
    let bot = Bot::new("crashing", json!({"word": "w", "crash": 2}));
    let pod = rig.run(&bot);
    pod.wait("the first crash", |pod| {
        (container(pod, "bot")["restartCount"].as_u64() >= Some(1)).then_some(())
    });
    // Whoever fetched now would fail.
    rig.door.is(Way::Refused);
    let status = pod.wait("the third run", |pod| runs_again(pod, "bot", 2));
    let record = run_of(&status);
    assert_eq!(
        (record.run, record.code, record.reason),
        (2, 1, Reason::Exited)
    );
    assert_eq!(pod.container("fetch")["restartCount"], 0);
    assert_eq!(pod.container("sync")["restartCount"], 0);
    rig.door.is(Way::Open);
    rig.wait_saved(&bot, "count", "3");
    pod.delete();
    let last = pod.wait("the end of the third run", |pod| {
        let status = container(pod, "bot");
        (!status["state"]["terminated"].is_null()).then_some(status)
    });
    assert_eq!(run_of(&last).run, 3);
}

#[test]
fn a_deletion_waits_for_the_last_push_and_no_longer() {
    let Some(rig) = Rig::start("kubernetes::away") else {
        return;
    };
    let bot = Bot::new("away", json!({"word": "w", "slow": 0}));
    let pod = rig.run(&bot);
    pod.ready();
    rig.wait_saved(&bot, "count", "1");
    rig.door.is(Way::Refused);
    let bot_runs = pod.process("bot", "supervisor");
    pod.delete();
    // The kubelet says nothing of a Pod that ends before all of it has.
    wait_for("the end of the bot", LONG, || {
        (!is_alive(bot_runs)).then_some(())
    });
    std::thread::sleep(AWAY);
    assert!(!pod.container("sync")["state"]["running"].is_null());
    assert_eq!(rig.saved(&bot, "last"), None);
    rig.door.is(Way::Open);
    let sync = pod.wait("the last push", |pod| {
        let status = container(pod, "sync");
        (!status["state"]["terminated"].is_null()).then_some(status)
    });
    let synced = synced_of(&sync);
    assert_eq!((synced.run, synced.outcome), (1, Outcome::Ok));
    assert_eq!(rig.saved(&bot, "last").as_deref(), Some("words"));
    assert!(rig.log(&bot).contains("LAST WORDS"));
    pod.release();
    pod.gone();
}

#[test]
fn a_bot_that_takes_all_memory_is_recorded_as_such() {
    let Some(rig) = Rig::start("kubernetes::oom") else {
        return;
    };
    let bot = Bot {
        memory: "64Mi",
        ..Bot::new("hungry", json!({"word": "w", "hungry": true}))
    };
    let pod = rig.run(&bot);
    let status = pod.wait("the second run", |pod| {
        let status = container(pod, "bot");
        (!ended(&status).is_null()).then_some(status)
    });
    let end = ended(&status);
    assert_eq!(end["exitCode"], 137);
    // Where the kernel kills the supervisor with its bot, the kubelet alone knows.
    if end["message"].is_string() {
        assert_eq!(run_of(&status).reason, Reason::Oom);
    } else {
        assert_eq!(end["reason"], "OOMKilled");
    }
}

#[test]
fn a_state_that_is_edited_outside_ends_the_bot_and_is_kept() {
    let Some(rig) = Rig::start("kubernetes::edited") else {
        return;
    };
    let bot = Bot::new("edited", json!({"word": "w", "slow": 0}));
    let pod = rig.run(&bot);
    pod.ready();
    rig.wait_saved(&bot, "count", "1");
    let key = format!("{}/state.tar.gz", bot.id);
    let pushed = rig.store.client().get("bot-state", &key).unwrap().bytes;
    let edited = [pushed.as_slice(), &empty_member()].concat();
    rig.store.client().put("bot-state", &key, &edited);
    let status = pod.wait("an end because of the edit", |pod| {
        let status = container(pod, "bot");
        (ended(&status)["exitCode"] == contract::exit::EDITED).then_some(status)
    });
    assert_eq!(run_of(&status).reason, Reason::Edited);
    // A Pod that is made anew has the edited one.
    pod.delete();
    pod.wait("the end of sync", |pod| {
        (!container(pod, "sync")["state"]["terminated"].is_null()).then_some(())
    });
    assert_eq!(
        rig.store.client().get("bot-state", &key).unwrap().bytes,
        edited
    );
}

/// A member of gzip with nothing in it: the same archive in other bytes.
fn empty_member() -> Vec<u8> {
    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())
        .finish()
        .unwrap()
}

#[test]
fn renewed_keys_reach_a_sync_that_runs() {
    let Some(rig) = Rig::start("kubernetes::keys") else {
        return;
    };
    let bot = Bot::new("renewed", json!({"word": "w", "slow": 0}));
    let pod = rig.run(&bot);
    pod.ready();
    rig.wait_saved(&bot, "count", "1");
    // The kubelet looks at a Secret when it looks at its Pod: a change of that makes it look now.
    let touch = |word: &str| {
        let note = format!("the0.app/keys={word}");
        rig.cluster
            .ask(["annotate", "pod", bot.id, &note, "--overwrite"]);
    };
    let says = |what: &str| {
        pod.wait(what, |_| pod.logs("sync").contains(what).then_some(()));
    };
    rig.put_keys(&bot, "expired");
    touch("expired");
    says("not saved");
    rig.put_keys(&bot, SECRET_KEY);
    touch("renewed");
    says("saved again");
    pod.delete();
    let sync = pod.wait("the last push", |pod| {
        let status = container(pod, "sync");
        (!status["state"]["terminated"].is_null()).then_some(status)
    });
    assert_eq!(synced_of(&sync).outcome, Outcome::Ok);
    assert_eq!(rig.saved(&bot, "last").as_deref(), Some("words"));
}
