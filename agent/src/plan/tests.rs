use proptest::prelude::*;

use super::*;

const SETTLE: Duration = Duration::from_secs(5);

fn bot(n: usize) -> BotId {
    format!("bot{n:03}").parse().unwrap()
}

fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A world in which actions have their effect, and stops take a step.
#[derive(Debug, Clone, Default)]
struct Model {
    wanted: BTreeMap<BotId, Wanted>,
    actual: BTreeMap<BotId, Actual>,
    stopped: BTreeSet<BotId>,
    switch: Switch,
    patience: Patience,
    now: Duration,
}

impl Model {
    fn plan(&self) -> Plan {
        plan(
            Situation {
                wanted: &self.wanted,
                listed: self.now,
                actual: &self.actual,
                stopped: &self.stopped,
                switch: self.switch,
                now: self.now,
                settle: SETTLE,
            },
            self.patience.clone(),
        )
    }

    fn apply(&mut self, plan: &Plan) {
        self.patience = plan.patience.clone();
        for action in &plan.actions {
            match action {
                Action::Start(id) => {
                    let ended = |a: &Actual| matches!(a.phase, Phase::Ended(_));
                    assert!(self.actual.get(id).is_none_or(ended), "two of {id}");
                    let Wanted::Run(digest) = &self.wanted[id] else {
                        panic!("{id} is not wanted")
                    };
                    let phase = Phase::Running;
                    let digest = digest.clone();
                    self.actual.insert(id.clone(), Actual { digest, phase });
                }
                Action::Stop(id, _) => {
                    let actual = self.actual.get_mut(id).unwrap();
                    assert_eq!(actual.phase, Phase::Running);
                    actual.phase = Phase::Stopping;
                }
                Action::Forget(id) => {
                    let actual = self.actual.remove(id).unwrap();
                    assert!(matches!(actual.phase, Phase::Ended(_)));
                }
            }
        }
    }

    fn step(&mut self) {
        self.now += secs(1);
        for actual in self.actual.values_mut() {
            if actual.phase == Phase::Stopping {
                actual.phase = ended(Outcome::Stopped, 0, self.now);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let plan = self.plan();
            self.apply(&plan);
            self.step();
        }
    }

    fn running(&self) -> BTreeSet<BotId> {
        let runs = |(id, a): (&BotId, &Actual)| (a.phase == Phase::Running).then(|| id.clone());
        self.actual.iter().filter_map(runs).collect()
    }
}

fn ended(outcome: Outcome, failures: u32, at: Duration) -> Phase {
    Phase::Ended(Ended {
        at,
        failures,
        outcome,
    })
}

fn running(digest: Digest) -> Actual {
    let phase = Phase::Running;
    Actual { digest, phase }
}

fn fleet(n: usize) -> Model {
    let mut model = Model::default();
    for id in (0..n).map(bot) {
        model.wanted.insert(id, Wanted::Run(digest(1)));
    }
    model.settle();
    assert_eq!(model.running().len(), n);
    model
}

fn any_wanted() -> impl Strategy<Value = Option<Wanted>> {
    prop_oneof![
        3 => (0u8..3).prop_map(|n| Some(Wanted::Run(digest(n)))),
        1 => Just(Some(Wanted::Off)),
        1 => Just(Some(Wanted::Unusable)),
        1 => Just(Some(Wanted::Idle)),
        1 => Just(Some(Wanted::Gone)),
        2 => Just(None),
    ]
}

fn any_actual() -> impl Strategy<Value = Option<Actual>> {
    let outcome = prop_oneof![
        Just(Outcome::Stopped),
        Just(Outcome::Completed),
        Just(Outcome::Failed),
        Just(Outcome::Refused),
        Just(Outcome::Busy)
    ];
    let phase = prop_oneof![
        3 => Just(Phase::Running),
        1 => Just(Phase::Stopping),
        2 => (outcome, 0u32..9, 0u64..100).prop_map(|(o, f, at)| ended(o, f, secs(at))),
    ];
    prop::option::of((0u8..3, phase).prop_map(|(n, phase)| Actual {
        digest: digest(n),
        phase,
    }))
}

prop_compose! {
    fn any_model()(
        bots in prop::collection::vec((any_wanted(), any_actual(), any::<bool>()), 0..40),
        now in 0u64..200,
    ) -> Model {
        let mut model = Model { now: secs(now), ..Model::default() };
        for (n, (wanted, actual, stopped)) in bots.into_iter().enumerate() {
            if let Some(wanted) = wanted { model.wanted.insert(bot(n), wanted); }
            if let Some(actual) = actual { model.actual.insert(bot(n), actual); }
            if stopped { model.stopped.insert(bot(n)); }
        }
        model
    }
}

proptest! {
    #[test]
    fn it_comes_to_rest_with_what_is_wanted(mut model in any_model()) {
        let lasting: BTreeSet<_> = model.actual.iter().filter_map(|(id, a)| match &a.phase {
            Phase::Ended(e) if matches!(e.outcome, Outcome::Completed | Outcome::Refused) =>
                Some((id.clone(), a.digest.clone())),
            _ => None,
        }).collect();
        model.settle();
        let end = model.plan();
        prop_assert_eq!(&end.actions, &vec![]);
        let running = model.running();
        for (id, wanted) in &model.wanted {
            match wanted {
                Wanted::Run(_) if model.stopped.contains(id) => prop_assert!(!running.contains(id)),
                Wanted::Run(digest) if lasting.contains(&(id.clone(), digest.clone())) => {}
                Wanted::Run(digest) => prop_assert_eq!(&model.actual[id], &running_as(digest)),
                Wanted::Off | Wanted::Gone => prop_assert!(!model.actual.contains_key(id)),
                Wanted::Unusable | Wanted::Idle | Wanted::Once => {}
            }
        }
        for id in running {
            prop_assert!(model.wanted.contains_key(&id) || end.held.contains(&id));
        }
    }

    #[test]
    fn it_is_the_same_plan_when_asked_again(model in any_model()) {
        let first = model.plan();
        prop_assert_eq!(&model.plan(), &first);
        let mut again = model.clone();
        again.patience = first.patience.clone();
        prop_assert_eq!(again.plan().actions, first.actions);
    }

    #[test]
    fn each_bot_has_at_most_one_action_and_stops_come_first(model in any_model()) {
        let plan = model.plan();
        let ids: Vec<_> = plan.actions.iter().map(|a| match a {
            Action::Start(id) | Action::Stop(id, _) | Action::Forget(id) => id.clone(),
        }).collect();
        prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        let starts: Vec<_> = plan.actions.iter().map(|a| matches!(a, Action::Start(_))).collect();
        prop_assert!(starts.is_sorted());
    }

    #[test]
    fn a_bot_is_decided_on_its_own_unless_it_is_missing(model in any_model()) {
        let whole = model.plan();
        for id in model.wanted.keys() {
            let mut alone = model.clone();
            alone.wanted.retain(|other, _| other == id);
            alone.actual.retain(|other, _| other == id);
            let of = |plan: &Plan| plan.actions.iter().find(|a| matches!(a,
                Action::Start(i) | Action::Stop(i, _) | Action::Forget(i) if i == id)).cloned();
            prop_assert_eq!(of(&alone.plan()), of(&whole));
        }
    }

    #[test]
    fn a_disabled_or_deleted_bot_is_stopped_at_once(mut model in any_model()) {
        model.actual.insert(bot(0), running(digest(1)));
        for (wanted, why) in [(Wanted::Off, Why::Disabled), (Wanted::Gone, Why::Deleted)] {
            model.wanted.insert(bot(0), wanted);
            prop_assert!(model.plan().actions.contains(&Action::Stop(bot(0), why)));
        }
    }

    #[test]
    fn many_that_vanish_keep_running_until_it_is_confirmed(n in 6usize..60, gone in 1usize..60) {
        let gone = gone.min(n);
        let mut model = fleet(n);
        for id in (0..gone).map(bot) { model.wanted.remove(&id); }
        model.settle();
        let left = model.running().len();
        if gone > unconfirmed(n) {
            prop_assert_eq!(left, n);
            let held = model.plan().held;
            prop_assert_eq!(held.len(), gone);
            model.patience.confirm(held);
            model.settle();
        }
        prop_assert_eq!(model.running().len(), n - gone);
    }
}

fn running_as(digest: &Digest) -> Actual {
    running(digest.clone())
}

#[test]
fn a_missing_bot_is_stopped_only_after_listings_that_are_settle_apart() {
    let mut model = fleet(1);
    let wanted = std::mem::take(&mut model.wanted);
    let first = model.plan();
    assert_eq!(first.actions, []);
    model.patience = first.patience;
    // However late it gets, a listing that is not newer proves nothing.
    let listed = model.now;
    let late = plan(
        Situation {
            wanted: &model.wanted,
            listed,
            actual: &model.actual,
            stopped: &model.stopped,
            switch: model.switch,
            now: listed + secs(1000),
            settle: SETTLE,
        },
        model.patience.clone(),
    );
    assert_eq!(late.actions, []);
    model.now += SETTLE;
    assert_eq!(model.plan().actions, [Action::Stop(bot(0), Why::Absent)]);
    // One that came back meanwhile is not.
    model.wanted = wanted;
    let back = model.plan();
    assert_eq!(back.actions, []);
    assert!(!back.patience.is_absent(&bot(0)));
}

#[test]
fn many_that_vanish_one_by_one_faster_than_it_settles_are_held_too() {
    let mut model = fleet(30);
    for n in 0..30 {
        model.wanted.remove(&bot(n));
        let plan = model.plan();
        model.apply(&plan);
        model.now += SETTLE / 10;
    }
    model.settle();
    assert_eq!(model.running().len(), 30);
}

#[test]
fn a_confirmation_is_for_what_was_missing_then() {
    let mut model = fleet(30);
    for n in 0..10 {
        model.wanted.remove(&bot(n));
    }
    let held = model.plan().held;
    model.patience.confirm(held);
    model.settle();
    assert_eq!(model.running().len(), 20);
    for n in 10..20 {
        model.wanted.remove(&bot(n));
    }
    model.settle();
    assert_eq!(model.running().len(), 20);
}

#[test]
fn a_failure_is_tried_again_later_and_later_and_a_refusal_only_when_changed() {
    let pauses: Vec<_> = (0..9).map(|n| pause(n).as_secs()).collect();
    assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 32, 60, 60]);

    let mut model = fleet(1);
    let mut end = |outcome| {
        model.actual.get_mut(&bot(0)).unwrap().phase = ended(outcome, 3, secs(1000));
        let starts = |model: &Model| !model.plan().actions.is_empty();
        model.now = secs(1003);
        let early = starts(&model);
        model.now = secs(1004);
        let late = starts(&model);
        let was = model.wanted.insert(bot(0), Wanted::Run(digest(2))).unwrap();
        let changed = starts(&model);
        model.wanted.insert(bot(0), was);
        [early, late, changed]
    };
    assert_eq!(end(Outcome::Stopped), [true, true, true]);
    assert_eq!(end(Outcome::Busy), [true, true, true]);
    assert_eq!(end(Outcome::Failed), [false, true, true]);
    assert_eq!(end(Outcome::Refused), [false, false, true]);
    assert_eq!(end(Outcome::Completed), [false, false, true]);
}

#[test]
fn a_document_that_cannot_be_used_leaves_what_runs() {
    let mut model = fleet(1);
    model.wanted.insert(bot(0), Wanted::Unusable);
    model.settle();
    assert_eq!(model.running().len(), 1);
}

#[test]
fn a_change_stops_gracefully_and_then_starts() {
    let mut model = fleet(1);
    model.wanted.insert(bot(0), Wanted::Run(digest(2)));
    assert_eq!(model.plan().actions, [Action::Stop(bot(0), Why::Changed)]);
    model.settle();
    assert_eq!(model.actual[&bot(0)], running(digest(2)));
}

#[test]
fn the_switch_stops_all_and_starts_none_until_it_is_on_again() {
    let mut model = fleet(4);
    model.settle();
    let all = model.running();
    assert_eq!(all.len(), 4);
    model.switch = Switch::Off;
    model.wanted.insert(bot(9), Wanted::Run(digest(1)));
    model.settle();
    assert!(model.running().is_empty());
    model.switch = Switch::On;
    model.settle();
    assert_eq!(model.running().len(), 5);
}

#[test]
fn a_start_that_waits_is_woken_for() {
    let mut model = fleet(2);
    model.settle();
    let actual = |model: &Model| wake(&model.actual, model.now);
    assert_eq!(actual(&model), None);
    let digest = digest(1);
    let phase = ended(Outcome::Failed, 3, model.now);
    model.actual.insert(bot(1), Actual { digest, phase });
    assert_eq!(actual(&model), Some(model.now + secs(4)));
}

#[test]
fn what_a_person_stops_waits_for_no_confirmation() {
    let mut model = fleet(20);
    model.settle();
    model.wanted.clear();
    model.settle();
    assert_eq!(model.running().len(), 20, "held: all are missing at once");
    model.stopped.insert(bot(3));
    model.settle();
    assert!(!model.running().contains(&bot(3)) && model.running().len() == 19);
    for n in 4..18 {
        model.stopped.insert(bot(n));
        model.settle();
    }
    assert_eq!(
        model.running().len(),
        5,
        "few by now, and held all the same"
    );
    model.stopped.clear();
    model.switch = Switch::Off;
    let plan = model.plan();
    let stops = plan
        .actions
        .iter()
        .filter(|action| matches!(action, Action::Stop(_, Why::Asked)));
    assert_eq!(stops.count(), 5, "at once");
    assert!(plan.held.is_empty());
    model.settle();
    assert!(model.running().is_empty());
}

#[test]
fn before_anything_is_listed_only_what_a_person_stopped_stops() {
    let mut model = fleet(3);
    model.settle();
    let of = |stopped: &dyn Fn(&BotId) -> bool| ordered(&model.actual, stopped);
    assert!(of(&|_| false).is_empty());
    assert_eq!(of(&|id| *id == bot(1)), [Action::Stop(bot(1), Why::Asked)]);
    assert_eq!(of(&|_| true).len(), 3);
}

#[test]
fn a_bot_that_runs_at_times_is_started_once_a_tick_and_no_change_stops_it() {
    let of = |wanted: &Wanted, actual: Option<Actual>| {
        let mut model = Model::default();
        model.wanted.insert(bot(0), wanted.clone());
        model.actual.extend(actual.map(|actual| (bot(0), actual)));
        model.plan().actions
    };
    let over = |outcome| Actual {
        digest: digest(1),
        phase: ended(outcome, 1, secs(0)),
    };
    let start = vec![Action::Start(bot(0))];
    assert_eq!(of(&Wanted::Once, None), start);
    assert_eq!(of(&Wanted::Idle, None), vec![]);
    for outcome in [Outcome::Completed, Outcome::Failed, Outcome::Stopped] {
        assert_eq!(of(&Wanted::Once, Some(over(outcome))), start);
        assert_eq!(of(&Wanted::Idle, Some(over(outcome))), vec![]);
    }
    for wanted in [Wanted::Once, Wanted::Idle] {
        assert_eq!(of(&wanted, Some(running(digest(2)))), vec![]);
    }
}
