//! Two writers: the one that claimed last wins, however long the other was stopped and wherever. What the loser had
//! is in the history.

use std::time::{Duration, Instant};

use contract::record::Outcome;
use nix::sys::signal::Signal;
use tests::servers::{Fault, Minio, Proxy};
use tests::volume::{Content, LONG, Volume, World, chance, content, rounds_for};
use tests::{Process, text, wait_for};

use crate::noise;

fn state(text: &str) -> Content {
    content(&[("a", text)])
}

/// A second instance claims the bot and writes; then the first goes on. The second's stays.
fn take_over(world: &World, first: &Volume, stopped: &Process) {
    let second = world.volume("two");
    second.fetched();
    let _watch = second.watch();
    second.put("a", "second");
    second.wait_pushed(&state("second"));
    stopped.signal(Signal::SIGCONT);
    first.end_run(9);
    first.wait_outcome(Outcome::Fenced);
    second.put("a", "last");
    second.end_run(9);
    second.wait_pushed(&state("last"));
    assert_eq!(second.wait_outcome(Outcome::Ok).generation, 2);
}

/// All that the history has.
fn kept(volume: &Volume) -> Vec<Content> {
    let reasons = ["fenced", "late", "start", "push"];
    reasons.map(|reason| volume.kept(reason)).concat()
}

#[test]
fn a_writer_that_was_stopped_anywhere_never_wins_and_its_state_is_in_the_history() {
    let Some(store) = Minio::shared() else { return };
    let end = Instant::now() + rounds_for(10);
    let mut round = 0;
    while Instant::now() < end || round < 2 {
        round += 1;
        let world = World::on(store, &format!("stopped-{round}"));
        let first = world.volume("one");
        first.fetched();
        let watch = first.watch();
        first.put("a", "early");
        first.end_run(1);
        first.wait_pushed(&state("early"));
        first.put("a", "late");
        first.end_run(2);
        std::thread::sleep(Duration::from_micros(chance(15_000)));
        watch.signal(Signal::SIGSTOP);
        take_over(&world, &first, &watch);
        let kept = kept(&first);
        assert!(kept.contains(&state("late")), "round {round}: {kept:?}");
    }
    eprintln!("{round} writers stopped");
}

/// What becomes of a switch to a new state that comes to the store when another instance has claimed the bot.
#[derive(Clone, Copy)]
enum Late {
    /// The other has pushed by then: nothing.
    Refused,
    /// It takes place, and the other's push overrules it.
    Overruled,
    /// It cannot take place: its upload was ended by the one who claimed the bot.
    Ended,
}

fn a_switch_that_comes_late(bot: &str, size: usize, (method, part): (&str, &str), late: Late) {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    let first = World::through(store, proxy.address(), bot).volume("one");
    let world = World::on(store, bot);
    first.fetched();
    let _watch = first.watch();
    first.put("a", "early");
    first.end_run(1);
    first.wait_pushed(&state("early"));
    let own = Content::from([("a".into(), noise(size))]);
    proxy.forget();
    proxy.fail(method, part, 1, Fault::Delay(Duration::from_secs(2)));
    first.put("a", &own["a"]);
    first.end_run(2);
    wait_for("the switch", LONG, || {
        (proxy.count(method, part) > 0).then_some(())
    });

    let second = world.volume("two");
    second.fetched();
    assert_eq!(
        second.on_disk(),
        state("early"),
        "the first's has not come yet"
    );
    let ending = matches!(late, Late::Ended).then(|| second.watch());
    match late {
        Late::Refused => {}
        Late::Overruled => wait_for("the late write", LONG, || {
            (second.archive() == Some(own.clone())).then_some(())
        }),
        Late::Ended => {
            first.wait_outcome(Outcome::Fenced);
            assert_eq!(second.archive(), Some(state("early")));
        }
    }
    let _second = ending.unwrap_or_else(|| second.watch());
    second.put("a", "second");
    second.end_run(1);
    second.wait_pushed(&state("second"));
    first.wait_outcome(Outcome::Fenced);
    assert_eq!(second.archive(), Some(state("second")));
    let kept = kept(&first);
    assert!(kept.contains(&own), "the loser's state is kept");
}

const PUT: (&str, &str) = ("PUT", "state.tar.gz");
const COMPLETE: (&str, &str) = ("POST", "uploadId=");

#[test]
fn a_put_that_comes_after_another_claim_and_push_is_refused() {
    a_switch_that_comes_late("late-put", 900, PUT, Late::Refused);
}

#[test]
fn a_put_that_comes_after_another_claim_is_kept_and_overruled() {
    a_switch_that_comes_late("late-claimed", 900, PUT, Late::Overruled);
}

#[test]
fn parts_that_are_completed_after_another_claim_and_push_are_refused() {
    a_switch_that_comes_late("late-parts", 11 << 20, COMPLETE, Late::Refused);
}

#[test]
fn parts_that_are_completed_after_another_claim_are_of_no_upload_any_more() {
    a_switch_that_comes_late("late-parts-2", 11 << 20, COMPLETE, Late::Ended);
}

/// Some stores take conditional requests and ignore the condition.
#[test]
fn where_conditions_are_ignored_it_is_said_and_the_loser_still_does_not_win() {
    let Some(store) = Minio::shared() else { return };
    let proxy = Proxy::start(store.address());
    proxy.script(|_| Some(Fault::StripConditions));
    let world = World::through(store, proxy.address(), "ignored");
    let first = world.volume("one");
    let output = first.fetch();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains(" warn: ") && said.contains("If-Match"),
        "{said}"
    );
    let watch = first.watch();
    first.put("a", "early");
    first.end_run(1);
    first.wait_pushed(&state("early"));
    first.put("a", "late");
    first.end_run(2);
    std::thread::sleep(Duration::from_millis(chance(15)));
    watch.signal(Signal::SIGSTOP);
    take_over(&world, &first, &watch);
    let third = world.volume("three");
    third.fetched();
    assert_eq!(third.on_disk(), state("last"));
}

#[test]
fn where_conditions_are_ignored_a_late_write_is_not_restored() {
    let Some(store) = Minio::shared() else { return };
    let ignoring = Proxy::start(store.address());
    ignoring.script(|_| Some(Fault::StripConditions));
    let slow = Proxy::start(ignoring.address());
    let first = World::through(store, slow.address(), "ignored-late").volume("one");
    let world = World::through(store, ignoring.address(), "ignored-late");
    first.fetched();
    let _watch = first.watch();
    first.put("a", "early");
    first.end_run(1);
    first.wait_pushed(&state("early"));
    slow.forget();
    let switch = "ignored-late/state.tar.gz";
    slow.fail("PUT", switch, 1, Fault::Delay(Duration::from_secs(3)));
    first.put("a", "late");
    first.end_run(2);
    wait_for("the switch", LONG, || {
        (slow.count("PUT", switch) > 0).then_some(())
    });

    let second = world.volume("two");
    second.session(|volume| volume.put("a", "second"));
    assert_eq!(second.archive(), Some(state("second")));
    wait_for("the late write", LONG, || {
        (second.archive() == Some(state("late"))).then_some(())
    });
    let third = world.volume("three");
    third.session(|_| ());
    assert_eq!(third.on_disk(), state("second"));
    assert_eq!(third.archive(), Some(state("second")));
    first.wait_outcome(Outcome::Fenced);
    assert!(kept(&first).contains(&state("late")));
}
