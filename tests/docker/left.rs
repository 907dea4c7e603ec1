//! What is left over, and what is not ours.

use mongodb::bson::doc;
use tests::servers::mongo::document;
use tests::stack::{BOTS, COUNTER, IDLE, LONG, Stack};
use tests::wait_for;

#[test]
fn a_container_that_was_made_and_not_started_makes_way() {
    let Some(mut host) = Stack::start("docker::made", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("b", IDLE, doc! {});
    let name = host.container(&bot).name;
    let labels = [
        "runtime.managed=true".to_owned(),
        format!("runtime.id={bot}"),
        format!("the0.stack={}", host.name()),
    ];
    let mut words = vec!["create", "--name", &name];
    words.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
    let image = tests::containers::image("python3.11");
    words.push(&image);
    let made = host.docker.ask(words);
    host.begin();
    host.state(&bot, "running");
    let now = host.container(&bot).inspect()["Id"].clone();
    assert_ne!(now, made.as_str());
    assert_eq!(host.containers().len(), 1);
}

#[test]
fn what_belongs_to_others_is_never_touched_and_a_bot_of_another_agent_is_not_started_again() {
    let Some(mut host) = Stack::start("docker::others", &["python3.11"]) else {
        return;
    };
    let taken = host.bot("taken", IDLE, doc! {});
    let elsewhere = host.bot("elsewhere", IDLE, doc! {});
    let image = tests::containers::image("python3.11");
    let sleeps = [
        "run",
        "--",
        "python3",
        "-c",
        "import time; time.sleep(1000)",
    ];
    let theirs = |name: String, labels: &[String]| {
        let mut words = vec![
            "run",
            "--detach",
            "--name",
            &name,
            "--entrypoint",
            "/opt/the0/bin/supervisor",
        ];
        words.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
        words.push(&image);
        words.extend(sleeps);
        host.docker.ask(words)
    };
    // One that has the name and not the labels; one that another agent runs; one of another stack.
    let named = theirs(host.container(&taken).name, &[]);
    let managed = "runtime.managed=true".to_owned();
    let original = theirs(
        host.docker.name("original"),
        &[managed.clone(), format!("runtime.id={elsewhere}")],
    );
    let other = [
        managed,
        format!("runtime.id={taken}"),
        format!("the0.stack={}-x", host.name()),
    ];
    let stack = theirs(host.docker.name("stack"), &other);

    host.begin();
    let row = host.state(&taken, "failed");
    assert!(
        row["reason"].as_str().unwrap().contains("not this agent's"),
        "{row}"
    );
    let row = host.state(&elsewhere, "waiting");
    assert!(
        row["reason"].as_str().unwrap().contains("docker stop"),
        "{row}"
    );
    assert!(host.containers().is_empty());

    host.docker.ask(["stop", "--time", "1", &original]);
    host.state(&elsewhere, "running");
    host.mongo.delete(BOTS, doc! {});
    host.is_collected(&elsewhere);
    for id in [named, stack] {
        assert!(host.docker.container(id).is_running());
    }
}

#[test]
fn volumes_without_a_container_go_when_what_they_hold_is_in_the_store_and_stay_when_it_is_not() {
    let Some(mut host) = Stack::start("docker::volumes", &["python3.11"]) else {
        return;
    };
    let saved = host.bot("saved", COUNTER, doc! {});
    let unsaved = host.bot("unsaved", COUNTER, doc! {});
    host.begin();
    for bot in [&saved, &unsaved] {
        host.state(bot, "running");
        wait_for("a count", LONG, || (host.count(bot) > 0).then_some(()));
    }
    host.end();
    host.container(&saved).stop();
    for bot in [&saved, &unsaved] {
        host.docker
            .ask(["rm", "--force", &host.container(bot).name]);
        assert_eq!(host.volumes(bot).len(), 3);
    }
    host.mongo.delete(BOTS, doc! {});
    host.begin();
    host.is_collected(&saved);
    host.says(&format!("`agent gc --discard-state {unsaved}`"));
    assert_eq!(host.volumes(&unsaved).len(), 3);
    assert!(host.count(&unsaved) > 0, "and can be looked into");
    host.ok(&["gc", &unsaved, "--discard-state"]);
    host.is_collected(&unsaved);
}

#[test]
fn what_has_ended_and_is_saved_goes_after_a_while_and_the_bot_goes_on_from_the_store() {
    let Some(mut host) = Stack::start("docker::husk", &["python3.11"]) else {
        return;
    };
    host.set("THE0_KEEP_ENDED", "2s");
    let bot = host.bot("b", COUNTER, doc! {});
    host.begin();
    host.state(&bot, "running");
    wait_for("a count", LONG, || (host.count(&bot) > 0).then_some(()));
    host.ok(&["stop", &bot]);
    host.state(&bot, "stopped");
    host.ok(&["gc"]);
    host.is_collected(&bot);
    let saved = host.saved(&bot);
    assert!(saved > 0);
    host.ok(&["start", &bot]);
    host.state(&bot, "running");
    host.container(&bot).says(&format!("at {saved} "), LONG);
}

#[test]
fn a_container_that_is_removed_as_it_ends_takes_no_unsaved_state_along() {
    let Some(mut host) = Stack::start("docker::removed", &["python3.11"]) else {
        return;
    };
    host.set("THE0_KEEP_ENDED", "1s");
    let bots = host.counters(4);
    host.begin();
    host.states(&bots, "running");
    for bot in &bots {
        wait_for("a count", LONG, || (host.count(bot) > 0).then_some(()));
    }
    host.store.stop();
    host.mongo.delete(BOTS, doc! {});
    for bot in &bots {
        let name = host.container(bot).name;
        host.docker.ask(["kill", "--signal=KILL", &name]);
        host.docker.ask(["rm", "--force", &name]);
    }
    for bot in &bots {
        host.says(&format!("`agent gc --discard-state {bot}`"));
        assert_eq!(host.volumes(bot).len(), 3);
        wait_for("what it had, which can be read", LONG, || {
            (host.count(bot) > 0).then_some(())
        });
    }
}

#[test]
fn a_container_that_somebody_renames_is_still_its_bots_and_is_not_doubled() {
    let Some(mut host) = Stack::start("docker::renamed", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("b", COUNTER, doc! {});
    host.begin();
    host.state(&bot, "running");
    let name = host.docker.name("mine-now");
    host.docker
        .ask(["rename", &host.container(&bot).name, &name]);
    host.end();
    host.begin();
    host.says("was renamed from");
    host.state(&bot, "running");
    assert_eq!(host.containers(), std::slice::from_ref(&name));
    host.ok(&["restart", &bot]);
    wait_for("a container of its own name", LONG, || {
        (host.containers() == [host.container(&bot).name]).then_some(())
    });
    host.state(&bot, "running");
    assert!(host.saved(&bot) > 0);
}

#[test]
fn a_container_that_cannot_be_started_is_not_tried_at_every_look() {
    let Some(mut host) = Stack::start("docker::broken", &["python3.11"]) else {
        return;
    };
    let image = host.docker.name("broken");
    let made = host.docker.ask([
        "create",
        "--name",
        &host.docker.name("source"),
        &tests::containers::image("python3.11"),
    ]);
    let change = "ENTRYPOINT [\"/no/such/program\"]";
    host.docker
        .ask(["commit", "--change", change, &made, &image]);
    host.set("RUNTIME_IMAGE", &image);
    let bot = host.bot("b", IDLE, doc! {});
    host.begin();
    let row = host.state(&bot, "failed");
    assert!(
        row["reason"].as_str().unwrap().contains("/no/such/program"),
        "{row}"
    );
    // Many looks of one second each.
    host.bot("other", IDLE, doc! {"enabled": false});
    std::thread::sleep(std::time::Duration::from_secs(5));
    let said = host.said();
    assert_eq!(said.matches("start its container").count(), 1, "{said}");
    assert_eq!(host.state(&bot, "failed")["reason"], row["reason"]);
    assert!(host.containers().is_empty());
}

/// The container by which an agent looks into the bot's volumes.
fn looked_into(host: &Stack, bot: &str) -> bool {
    let labels = &host.container(bot).inspect()["Config"]["Labels"];
    labels["the0.purpose"] == "records"
}

#[test]
fn volumes_of_a_bot_that_is_put_back_while_they_are_looked_into_are_not_removed() {
    let Some(mut host) = Stack::start("docker::back", &["python3.11"]) else {
        return;
    };
    let bot = host.bot("b", COUNTER, doc! {});
    let key = format!("tests/{bot}/1.0.0");
    host.begin();
    for wait in [0, 100, 400] {
        host.state(&bot, "running");
        let (before, saved) = (host.count(&bot), host.saved(&bot));
        host.store.stop();
        wait_for("a count that is not in the store", LONG, || {
            (host.count(&bot) > before.max(saved) + 20).then_some(())
        });
        host.end();
        host.container(&bot).kill("KILL");
        host.container(&bot).code(LONG);
        let last = host.count(&bot);
        host.docker.ask(["rm", &host.container(&bot).name]);
        host.mongo.delete(BOTS, doc! {});
        host.store.start_again();
        host.launch();
        wait_for("a look into its volumes", LONG, || {
            looked_into(&host, &bot).then_some(())
        });
        // Another moment of the look each time; what is waited for comes below.
        std::thread::sleep(std::time::Duration::from_millis(wait));
        host.mongo
            .put(BOTS, &document(&bot, &key, doc! {"name": "b"}));
        host.container(&bot).says(&format!("at {last} "), LONG);
    }
}
