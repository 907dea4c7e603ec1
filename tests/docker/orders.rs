//! What an operator orders.

use std::time::Duration;

use mongodb::bson::doc;
use tests::servers::Proxy;
use tests::stack::{COUNTER, IDLE, LONG, Stack};
use tests::{text, wait_for};

#[test]
fn the_switch_stops_all_bots_and_is_remembered_by_the_next_agent() {
    let Some(mut host) = Stack::start("docker::switch", &["python3.11"]) else {
        return;
    };
    let bots = [
        host.bot("a", COUNTER, doc! {}),
        host.bot("b", COUNTER, doc! {}),
    ];
    host.begin();
    host.states(&bots, "running");
    host.ok(&["stop", "--all"]);
    host.states(&bots, "stopped");
    host.kill();
    let late = host.bot("late", IDLE, doc! {});
    host.begin();
    host.state(&late, "stopped");
    let (code, why) = fails(&host, &["start", &bots[0]]);
    assert!(code == 1 && why.contains("start --all"), "{why}");
    // Time for a second look, which would start what may run.
    host.says("all bots are stopped until");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(
        bots.iter()
            .chain([&late])
            .all(|bot| !host.container(bot).is_running())
    );
    host.ok(&["start", "--all"]);
    host.states(&bots, "running");
    host.state(&late, "running");
}

fn fails(host: &Stack, args: &[&str]) -> (i32, String) {
    let output = host.run(args);
    (output.status.code().unwrap(), text(&output.stderr))
}

#[test]
fn a_drain_waits_for_the_last_bot_and_tells_what_is_not_in_the_store() {
    let Some(mut host) = Stack::start("docker::drain", &["python3.11"]) else {
        return;
    };
    let bots = [
        host.bot("a", COUNTER, doc! {}),
        host.bot("b", COUNTER, doc! {}),
    ];
    host.set("THE0_DRAIN", "2s");
    host.begin();
    host.states(&bots, "running");
    let said = host.ok(&["drain"]);
    assert!(said.contains("all of them is in the store"), "{said}");
    assert!(bots.iter().all(|bot| !host.container(bot).is_running()));
    for bot in &bots {
        assert_eq!(host.count(bot), host.saved(bot));
    }
    host.ok(&["start", "--all"]);
    host.states(&bots, "running");
    for bot in &bots {
        host.container(bot).says("BEGAN", LONG);
    }
    let counts: Vec<u64> = bots.iter().map(|bot| host.count(bot)).collect();
    host.store.stop();
    for (bot, count) in bots.iter().zip(counts) {
        wait_for("states that are not saved", LONG, || {
            (host.count(bot) > count + 2).then_some(())
        });
    }
    let (code, why) = fails(&host, &["drain"]);
    assert!(
        code == 1 && why.contains("not proven that all these had") && why.contains("a, b"),
        "{why}"
    );

    // What is unsaved stays whatever is asked, but for the one word.
    let left = host.ok(&["gc"]);
    assert!(left.contains("kept: not all"), "{left}");
    assert_eq!(host.volumes(&bots[0]).len(), 3);
    host.ok(&["gc", &bots[0], "--discard-state"]);
    host.is_collected(&bots[0]);
    assert_eq!(host.volumes(&bots[1]).len(), 3);
    assert!(host.count(&bots[1]) > 0);

    // The next start saves it.
    let last = host.count(&bots[1]);
    host.store.start_again();
    host.ok(&["start", "--all"]);
    wait_for("the state that was unsaved", LONG, || {
        (host.saved(&bots[1]) >= last).then_some(())
    });
}

#[test]
fn a_roll_starts_bots_anew_a_few_at_a_time_and_an_agents_upgrade_starts_none() {
    let Some(mut host) = Stack::start("docker::roll", &["python3.11"]) else {
        return;
    };
    let bots = host.counters(3);
    host.begin();
    host.states(&bots, "running");
    let said = host.ok(&["roll"]);
    assert!(said.contains("every container is as it would be"), "{said}");
    let id = |host: &Stack, bot: &String| host.container(bot).inspect()["Id"].clone();
    let before: Vec<_> = bots.iter().map(|bot| id(&host, bot)).collect();
    host.end();
    host.set("THE0_PIDS", "99");
    host.begin();
    host.states(&bots, "running");
    let now: Vec<_> = bots.iter().map(|bot| id(&host, bot)).collect();
    assert_eq!(
        now, before,
        "an agent with other settings starts nothing anew by itself"
    );

    let said = host.ok(&["roll", "--max-unavailable", "2"]);
    assert!(said.contains("rolling 3 bots"), "{said}");
    let mut least = bots.len();
    wait_for("the end of the roll", LONG, || {
        let up = bots
            .iter()
            .filter(|bot| host.container(bot).is_running())
            .count();
        least = least.min(up);
        host.said().contains("the roll is over").then_some(())
    });
    assert!(least >= 1, "never all of them away");
    for (bot, before) in bots.iter().zip(before) {
        let container = host.container(bot).inspect();
        assert_ne!(container["Id"], before);
        assert_eq!(container["HostConfig"]["PidsLimit"], 99);
        assert!(!host.container(bot).logs().contains(" at 0 "));
    }
    assert!(
        host.ok(&["roll"])
            .contains("every container is as it would be")
    );
}

#[test]
fn the_switch_and_a_drain_reach_bots_that_are_in_no_listing() {
    let Some(mut host) = Stack::start("docker::unlisted", &["python3.11"]) else {
        return;
    };
    let bots = host.counters(6);
    host.begin();
    host.states(&bots, "running");
    // All are missing at once: they are held, and a person's word counts all the same.
    host.mongo.delete(tests::stack::BOTS, doc! {});
    host.states(&bots, "held");
    host.ok(&["stop", &bots[0]]);
    wait_for("the end of one", LONG, || {
        (!host.container(&bots[0]).is_running()).then_some(())
    });
    assert!(bots[1..].iter().all(|bot| host.container(bot).is_running()));
    // The next agent never gets a listing.
    host.end();
    host.mongo.stop();
    host.begin();
    host.says("found running");
    let said = host.ok(&["drain"]);
    assert!(said.contains("all of them is in the store"), "{said}");
    assert!(bots.iter().all(|bot| !host.container(bot).is_running()));
    for bot in &bots {
        assert!(host.saved(bot) > 0, "{bot}");
    }
}

#[test]
fn a_drain_is_not_over_before_it_is_known_what_runs() {
    let Some(mut host) = Stack::start("docker::blind", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("b", IDLE, doc! {});
    host.begin();
    host.state(&bot, "running");
    host.end();
    host.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    host.begin();
    host.state(&bot, "unknown");
    let (code, why) = fails(&host, &["drain", "--timeout", "2s"]);
    assert!(code == 1 && why.contains("not known what runs"), "{why}");
    assert!(host.container(&bot).is_running());
}

#[test]
fn a_second_roll_is_refused_while_one_is_under_way() {
    let Some(mut host) = Stack::start("docker::rolls", &["python3.11"]) else {
        return;
    };
    let bots: Vec<String> = (0..3)
        .map(|n| host.bot(&format!("b{n}"), IDLE, doc! {}))
        .collect();
    host.begin();
    host.states(&bots, "running");
    host.end();
    host.set("THE0_PIDS", "99");
    host.begin();
    host.states(&bots, "running");
    host.ok(&["roll"]);
    let (code, why) = fails(&host, &["roll"]);
    assert!(code == 1 && why.contains("under way"), "{why}");
}

#[test]
fn a_roll_brings_bots_to_the_stores_new_address_and_what_the_old_one_never_got_is_saved_there() {
    let Some(mut host) = Stack::start("docker::moved", &["python3.11"]) else {
        return;
    };
    let old = Proxy::start_at(host.docker.gateway(), host.store.address());
    host.set("MINIO_ENDPOINT", old.address());
    host.set("THE0_DRAIN", "2s");
    let bot = host.bot("b", COUNTER, doc! {});
    host.begin();
    host.state(&bot, "running");
    wait_for("a push", LONG, || (host.saved(&bot) > 0).then_some(()));
    host.end();
    drop(old);
    let saved = host.saved(&bot);
    wait_for("a count that is not in the store", LONG, || {
        (host.count(&bot) > saved + 40).then_some(())
    });
    let address = host.store.address().to_owned();
    host.set("MINIO_ENDPOINT", &address);
    host.begin();
    host.state(&bot, "running");
    let before = host.container(&bot).inspect()["Id"].clone();
    let unsaved = host.count(&bot);
    let said = host.ok(&["roll"]);
    assert!(said.contains("rolling 1 bots"), "{said}");
    host.says("the roll is over");
    let container = host.container(&bot);
    assert_ne!(container.inspect()["Id"], before);
    container.says("BEGAN", LONG);
    let logs = container.logs();
    let began = logs.split(" at ").nth(1).and_then(|s| s.split(' ').next());
    let began: u64 = began.and_then(|n| n.parse().ok()).unwrap();
    assert!(began >= unsaved, "{began} after {unsaved}: {logs}");
    wait_for("what was unsaved, in the store", LONG, || {
        (host.saved(&bot) >= unsaved).then_some(())
    });
}
