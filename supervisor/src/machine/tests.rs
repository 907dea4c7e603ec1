use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn plan(restart: Restart, sides: Sides) -> Plan {
    Plan {
        restart,
        sides,
        grace: secs(20),
        drain: secs(25),
        last_run: 6,
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn exited(code: u8) -> Event {
    Event::Ended(Ending::Exit(Exit::Code(code)))
}

fn saved(outcome: Outcome, run: u64) -> Event {
    Event::Synced { outcome, run }
}

/// A machine whose first run is under way since zero.
fn running(restart: Restart, sides: Sides) -> Machine {
    let mut machine = Machine::new(plan(restart, sides));
    machine.on(Event::Begin, secs(0));
    machine.on(Event::Fetched(Exit::Code(0)), secs(0));
    assert!(matches!(machine.phase, Phase::Running { .. }));
    machine
}

fn record(effects: &[Effect]) -> &Ended {
    let mut records = effects.iter().filter_map(|effect| match effect {
        Effect::Record(ended) => Some(ended),
        _ => None,
    });
    records.next().expect("a record")
}

fn starts(effects: &[Effect]) -> bool {
    effects.iter().any(|e| matches!(e, Effect::Start { .. }))
}

#[test]
fn a_run_begins_with_fetch_and_runs_are_numbered_on() {
    let mut machine = Machine::new(plan(Restart::Always, Sides::Ours));
    assert!(machine.on(Event::Begin, secs(0)).contains(&Effect::Fetch));
    let effects = machine.on(Event::Fetched(Exit::Code(0)), secs(1));
    assert_eq!(effects[..2], [Effect::StartSides, Effect::Start { run: 7 }]);
    assert_eq!(machine.deadline(), None, "idle means no wake-up");
}

#[test]
fn pauses_grow_to_a_minute() {
    let seconds: Vec<_> = (0..10).map(|n| pause(n).as_secs()).collect();
    assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(pause(u32::MAX), secs(60));
}

#[test]
fn a_crash_is_restarted_at_once_then_after_pauses_and_a_stable_minute_resets_them() {
    let mut machine = running(Restart::Always, Sides::Ours);
    let mut now = secs(0);
    let mut pauses = Vec::new();
    for lasted in [1, 1, 1, 1, 61, 1] {
        now += secs(lasted);
        machine.on(exited(1), now);
        let effects = machine.on(Event::Cleared, now);
        if starts(&effects) {
            pauses.push(0);
        } else {
            let due = machine.deadline().unwrap();
            pauses.push(due.saturating_sub(now).as_secs());
            now = due;
            assert!(starts(&machine.on(Event::Tick, now)));
        }
    }
    assert_eq!(pauses, [0, 1, 2, 4, 0, 1]);
    assert_eq!(machine.run(), 13);
    assert_eq!(machine.restarts(), 1);
}

#[test]
fn a_stop_is_term_then_half_then_kill() {
    let mut machine = running(Restart::Always, Sides::Ours);
    let effects = machine.on(Event::Stop(15), secs(100));
    assert_eq!(effects[0], Effect::Signal(15));
    assert_eq!(machine.deadline(), Some(secs(110)));
    assert_eq!(machine.on(Event::Tick, secs(110)), [Effect::EndLeftovers]);
    assert_eq!(machine.on(Event::Stop(15), secs(112)), [Effect::Signal(15)]);
    assert_eq!(
        machine.deadline(),
        Some(secs(120)),
        "a second one shortens nothing"
    );
    assert_eq!(machine.on(Event::Tick, secs(120)), [Effect::KillLeftovers]);
    machine.on(Event::Ended(Ending::Exit(Exit::Signal(9))), secs(121));
    let effects = machine.on(Event::Cleared, secs(122));
    let ended = record(&effects);
    assert_eq!((ended.reason, ended.exit.code()), (Reason::Stopped, 137));
    assert_eq!(ended.ago, secs(1));
    assert!(
        machine.on(saved(Outcome::Ok, 6), secs(123)).is_empty(),
        "an older run's push"
    );
    let effects = machine.on(saved(Outcome::Ok, 7), secs(123));
    assert!(effects.contains(&Effect::StopSides));
    assert!(
        machine
            .on(Event::SidesGone, secs(123))
            .contains(&Effect::Exit(137))
    );
}

#[test]
fn leftovers_of_a_run_that_ended_by_itself_are_ended_before_the_next() {
    let mut machine = running(Restart::Always, Sides::Ours);
    assert_eq!(machine.on(exited(1), secs(1)), [Effect::EndLeftovers]);
    assert_eq!(machine.deadline(), Some(secs(6)));
    assert_eq!(machine.on(Event::Tick, secs(6)), [Effect::KillLeftovers]);
    assert!(starts(&machine.on(Event::Cleared, secs(6))));
}

#[test]
fn a_stop_before_the_bot_is_not_lost() {
    let mut machine = Machine::new(plan(Restart::Always, Sides::Ours));
    machine.on(Event::Begin, secs(0));
    assert_eq!(
        machine.on(Event::Stop(15), secs(0)),
        [Effect::SignalFetch(15)]
    );
    let effects = machine.on(Event::Fetched(Exit::Code(0)), secs(1));
    let refused = Effect::Refuse {
        code: 143,
        reason: Reason::Stopped,
        run: 6,
    };
    assert_eq!(effects[0], refused);
    assert!(effects.contains(&Effect::Exit(143)));

    let mut machine = Machine::new(plan(Restart::Always, Sides::Elsewhere));
    machine.on(Event::Stop(2), secs(0));
    assert!(
        machine
            .on(Event::Begin, secs(0))
            .contains(&Effect::Exit(130))
    );
}

#[test]
fn a_fetch_that_fails_gives_its_code_and_starts_nothing() {
    let mut machine = Machine::new(plan(Restart::Always, Sides::Ours));
    machine.on(Event::Begin, secs(0));
    let effects = machine.on(Event::Fetched(Exit::Code(113)), secs(1));
    assert!(effects.contains(&Effect::Exit(113)) && !starts(&effects));
}

#[test]
fn one_who_is_fenced_is_stopped_and_says_so() {
    let mut machine = running(Restart::Always, Sides::Ours);
    assert_eq!(
        machine.on(saved(Outcome::Fenced, 0), secs(1))[0],
        Effect::Signal(15)
    );
    machine.on(exited(0), secs(2));
    let effects = machine.on(Event::Cleared, secs(2));
    assert_eq!(record(&effects).reason, Reason::Fenced);
    assert!(effects.contains(&Effect::StopSides));
    assert!(
        machine
            .on(Event::SidesGone, secs(3))
            .contains(&Effect::Exit(exit::FENCED))
    );
}

#[test]
fn one_who_is_known_to_be_fenced_edited_or_too_large_is_not_started_where_others_fetch() {
    for (outcome, code) in [
        (Outcome::Fenced, exit::FENCED),
        (Outcome::Edited, exit::EDITED),
        (Outcome::TooLarge, exit::DISK),
    ] {
        let mut machine = Machine::new(plan(Restart::Never, Sides::Elsewhere));
        assert!(machine.on(saved(outcome, 0), secs(0)).is_empty());
        let effects = machine.on(Event::Begin, secs(0));
        assert!(!starts(&effects));
        assert_eq!(effects.last(), Some(&Effect::Exit(code)));
    }
}

#[test]
fn where_others_fetch_an_edited_state_ends_the_container_with_a_code_of_its_own() {
    let mut machine = running(Restart::Never, Sides::Elsewhere);
    let effects = machine.on(saved(Outcome::Edited, 0), secs(1));
    assert_eq!(effects[0], Effect::Signal(15));
    machine.on(exited(0), secs(2));
    let effects = machine.on(Event::Cleared, secs(2));
    assert_eq!(record(&effects).reason, Reason::Edited);
    assert_eq!(effects.last(), Some(&Effect::Exit(exit::EDITED)));
}

#[test]
fn a_stop_that_comes_after_a_crash_is_not_its_reason() {
    let mut machine = running(Restart::Always, Sides::Ours);
    machine.on(exited(3), secs(5));
    machine.on(Event::Stop(15), secs(6));
    let effects = machine.on(Event::Cleared, secs(7));
    assert_eq!(record(&effects).reason, Reason::Exited);
    assert!(!starts(&effects));
}

#[test]
fn a_state_over_its_limit_stops_the_bot() {
    let mut machine = running(Restart::Always, Sides::Ours);
    machine.on(saved(Outcome::TooLarge, 0), secs(1));
    machine.on(exited(0), secs(2));
    assert_eq!(
        record(&machine.on(Event::Cleared, secs(2))).reason,
        Reason::Disk
    );
    assert!(
        machine
            .on(Event::SidesGone, secs(3))
            .contains(&Effect::Exit(exit::DISK))
    );
}

#[test]
fn an_edited_state_is_fetched_and_the_bot_started_on_it() {
    let mut machine = running(Restart::Always, Sides::Ours);
    machine.on(saved(Outcome::Edited, 0), secs(1));
    machine.on(exited(0), secs(2));
    let effects = machine.on(Event::Cleared, secs(2));
    assert_eq!(record(&effects).reason, Reason::Edited);
    assert!(effects.contains(&Effect::StopSides) && !starts(&effects));
    assert!(
        machine
            .on(Event::SidesGone, secs(3))
            .contains(&Effect::Fetch)
    );
    let effects = machine.on(Event::Fetched(Exit::Code(0)), secs(4));
    assert!(starts(&effects));
    machine.on(exited(1), secs(5));
    assert!(
        starts(&machine.on(Event::Cleared, secs(5))),
        "an edit is no crash"
    );
}

#[test]
fn a_stop_while_the_state_is_swapped_ends_it_all() {
    let mut machine = running(Restart::Always, Sides::Ours);
    machine.on(saved(Outcome::Edited, 0), secs(1));
    machine.on(exited(3), secs(2));
    machine.on(Event::Cleared, secs(2));
    machine.on(Event::Stop(15), secs(2));
    assert!(
        machine
            .on(Event::SidesGone, secs(3))
            .contains(&Effect::Exit(3))
    );
}

#[test]
fn a_last_push_that_fails_is_told_and_changes_no_code() {
    let mut machine = running(Restart::Never, Sides::Ours);
    machine.on(exited(4), secs(1));
    machine.on(Event::Cleared, secs(1));
    assert!(machine.on(saved(Outcome::Failed, 7), secs(2)).is_empty());
    let effects = machine.on(Event::Tick, secs(26));
    assert_eq!(effects[0], Effect::Unsaved);
    assert!(
        machine
            .on(Event::SidesGone, secs(27))
            .contains(&Effect::Exit(4))
    );
}

#[test]
fn one_that_ends_by_itself_waits_for_a_sync_beside_it_that_was_heard() {
    let ends = |plan: Plan, heard: Option<Event>, stop: bool| {
        let mut machine = Machine::new(plan);
        heard.map(|event| machine.on(event, Duration::ZERO));
        machine.on(Event::Begin, Duration::ZERO);
        if stop {
            machine.on(Event::Stop(15), secs(1));
        }
        machine.on(exited(4), secs(1));
        let effects = machine.on(Event::Cleared, secs(1));
        (machine, effects.contains(&Effect::Exit(4)))
    };
    let beside = plan(Restart::Never, Sides::Elsewhere);
    let heard = || Some(saved(Outcome::Ok, 0));
    let (mut machine, is_over) = ends(beside.clone(), heard(), false);
    assert!(!is_over && machine.is_draining());
    assert!(machine.on(saved(Outcome::Failed, 7), secs(2)).is_empty());
    let effects = machine.on(saved(Outcome::Ok, 7), secs(3));
    assert!(effects.contains(&Effect::Exit(4)));
    let (mut machine, _) = ends(beside.clone(), heard(), false);
    let effects = machine.on(Event::Tick, secs(26));
    assert!(effects[0] == Effect::Unsaved && effects.contains(&Effect::Exit(4)));

    let at_once = Plan {
        drain: Duration::ZERO,
        ..beside.clone()
    };
    assert!(ends(at_once, heard(), false).1, "it is not to wait");
    assert!(ends(beside.clone(), None, false).1, "there is none");
    assert!(ends(beside, heard(), true).1, "its sync ends with it");
}

#[test]
fn what_was_saved_before_the_stop_is_not_waited_for() {
    let mut machine = running(Restart::Always, Sides::Ours);
    for at in [1, 2] {
        machine.on(exited(1), secs(at));
        machine.on(Event::Cleared, secs(at));
    }
    assert!(matches!(machine.phase, Phase::Waiting { .. }));
    machine.on(saved(Outcome::Ok, 8), secs(2));
    assert!(
        machine
            .on(Event::Stop(15), secs(2))
            .contains(&Effect::StopSides)
    );
}

#[test]
fn reasons_tell_apart_how_a_run_ended() {
    let failed = Ending::NotStarted {
        code: 127,
        message: "no such file".into(),
    };
    for (ending, reason, code) in [
        (Ending::Exit(Exit::Code(3)), Reason::Exited, 3),
        (Ending::Exit(Exit::Signal(11)), Reason::Killed, 139),
        (Ending::OutOfMemory, Reason::Oom, 137),
        (failed, Reason::StartFailed, 127),
    ] {
        let mut machine = running(Restart::Never, Sides::Elsewhere);
        machine.on(Event::Ended(ending), secs(1));
        let effects = machine.on(Event::Cleared, secs(1));
        assert_eq!(record(&effects).reason, reason);
        assert!(effects.contains(&Effect::Exit(code)));
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let exit = || {
        prop_oneof![
            any::<u8>().prop_map(Exit::Code),
            (1..65).prop_map(Exit::Signal)
        ]
    };
    let outcome = prop::sample::select(vec![
        Outcome::Ok,
        Outcome::Failed,
        Outcome::Fenced,
        Outcome::Edited,
        Outcome::TooLarge,
    ]);
    prop_oneof![
        Just(Event::Begin),
        exit().prop_map(Event::Fetched),
        Just(Event::Fetched(Exit::Code(0))),
        exit().prop_map(|exit| Event::Ended(Ending::Exit(exit))),
        Just(Event::Ended(Ending::OutOfMemory)),
        Just(Event::Cleared),
        prop::sample::select(vec![2, 15]).prop_map(Event::Stop),
        (outcome, 0u64..12).prop_map(|(outcome, run)| Event::Synced { outcome, run }),
        Just(Event::SidesGone),
        Just(Event::Tick),
    ]
}

/// What the world sees of the effects.
#[derive(Default)]
struct Seen {
    started: BTreeSet<u64>,
    recorded: BTreeSet<u64>,
    exited: bool,
}

impl Seen {
    fn take(&mut self, effects: &[Effect]) {
        for effect in effects {
            assert!(!self.exited, "{effect:?} after the exit");
            match effect {
                Effect::Start { run } => {
                    assert_eq!(self.started, self.recorded, "two runs at once");
                    assert!(self.started.insert(*run), "run {run} twice");
                }
                Effect::Record(ended) => {
                    assert!(self.started.contains(&ended.run));
                    assert!(self.recorded.insert(ended.run), "two records of a run");
                }
                Effect::Exit(_) => self.exited = true,
                _ => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold(
        always in any::<bool>(),
        ours in any::<bool>(),
        events in prop::collection::vec((any_event(), 0u64..30), 0..60),
    ) {
        let restart = if always { Restart::Always } else { Restart::Never };
        let sides = if ours { Sides::Ours } else { Sides::Elsewhere };
        let mut machine = Machine::new(plan(restart, sides));
        let (mut seen, mut now) = (Seen::default(), secs(0));
        seen.take(&machine.on(Event::Begin, now));
        for (event, later) in events {
            now += secs(later);
            seen.take(&machine.on(event, now));
        }
        let before = seen.started.len();
        seen.take(&machine.on(Event::Stop(15), now));
        for _ in 0..20 {
            let Some(due) = machine.deadline() else { break };
            now = now.max(due);
            seen.take(&machine.on(Event::Tick, now));
        }
        prop_assert_eq!(seen.started.len(), before, "started after a stop");
        prop_assert!(seen.exited, "time alone ends a stop");
        prop_assert_eq!(seen.started, seen.recorded);
    }
}
