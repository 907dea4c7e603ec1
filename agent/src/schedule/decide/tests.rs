use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Ticks come each `period` seconds.
fn after(period: Seconds) -> impl Fn(Seconds) -> Option<Seconds> {
    move |at: Seconds| Some(at - at.rem_euclid(period) + period)
}

fn tick(at: Seconds, state: State) -> Tick {
    Tick {
        at,
        attempt: 1,
        state,
        outcome: None,
        why: None,
        by: "me".into(),
        since: at,
        missed: 0,
        not_before: None,
        rev: 1,
    }
}

fn ledger(next: Seconds, tick: Option<Tick>) -> Ledger {
    Ledger {
        next: Some(next),
        seq: None,
        tick,
    }
}

fn decided(now: Seconds, policy: &Policy, ledger: &Ledger, live: Live) -> Step {
    let next = after(10);
    decide(&See {
        now,
        me: "me",
        next: &next,
        policy,
        ledger,
        live,
        is_mine: false,
        unstarted: None,
        is_sure: false,
        whose: Whose::Ours,
    })
}

fn claimed_at(step: &Step) -> Option<(Seconds, u32, Option<Seconds>)> {
    match step {
        Step::Claim(to) => {
            let tick = to.tick.as_ref()?;
            Some((tick.at, tick.missed, to.next))
        }
        _ => None,
    }
}

#[test]
fn what_was_missed_runs_as_the_policy_says() {
    let of = |catch_up, deadline, now| {
        let policy = Policy {
            catch_up,
            starting_deadline: deadline,
            catch_up_max: 2,
            ..Policy::default()
        };
        claimed_at(&decided(now, &policy, &ledger(100, None), Live::None))
    };
    assert_eq!(of(CatchUp::Last, None, 99), None);
    assert_eq!(of(CatchUp::Last, None, 104), Some((100, 0, Some(110))));
    assert_eq!(of(CatchUp::Last, None, 144), Some((140, 4, Some(150))));
    assert_eq!(of(CatchUp::All, None, 144), Some((130, 3, Some(140))));
    assert_eq!(of(CatchUp::None, None, 144), Some((140, 4, Some(150))));
    assert_eq!(
        of(CatchUp::Last, Some(3), 144),
        None,
        "all of them are late"
    );
    assert_eq!(of(CatchUp::All, Some(20), 144), Some((130, 3, Some(140))));
    assert_eq!(of(CatchUp::All, Some(5), 144), Some((140, 4, Some(150))));
}

#[test]
fn ticks_that_are_all_late_are_passed_over_in_one_word() {
    let policy = Policy {
        starting_deadline: Some(3),
        ..Policy::default()
    };
    let Step::Write(to) = decided(144, &policy, &ledger(100, None), Live::None) else {
        panic!("no word");
    };
    let tick = to.tick.unwrap();
    assert_eq!((tick.at, tick.missed, to.next), (140, 4, Some(150)));
    assert_eq!(tick.outcome, Some(Outcome::Missed));
}

#[test]
fn years_of_ticks_are_not_looked_at_one_by_one() {
    let calls = std::cell::Cell::new(0);
    let next = |at: Seconds| {
        calls.set(calls.get() + 1);
        after(1)(at)
    };
    let due = Due::of(&next, 0, 100_000_000, 10);
    assert_eq!(due.latest.back(), Some(&100_000_000));
    assert_eq!((due.latest.len(), due.after), (10, Some(100_000_001)));
    assert!(calls.get() < 3000, "{}", calls.get());
}

#[test]
fn no_tick_is_claimed_that_is_not_later_than_the_last() {
    let mut last = tick(140, State::Over);
    last.outcome = Some(Outcome::Completed);
    for next in [120, 140] {
        let step = decided(
            125,
            &Policy::default(),
            &ledger(next, Some(last.clone())),
            Live::None,
        );
        let Step::Write(to) = step else {
            panic!("{step:?}")
        };
        assert_eq!((to.next, to.tick.as_ref()), (Some(150), Some(&last)));
    }
}

#[test]
fn a_tick_due_while_the_last_one_runs_waits_or_takes_its_place() {
    let started = ledger(110, Some(tick(100, State::Started)));
    let runs = || {
        Live::Runs(Some(Key {
            at: 100,
            attempt: 1,
        }))
    };
    let policy = |concurrency| Policy {
        concurrency,
        time_limit: 50,
        ..Policy::default()
    };
    let forbid = policy(Concurrency::Forbid);
    assert_eq!(
        decided(115, &forbid, &started, runs()),
        Step::Wait(Some(150))
    );
    assert_eq!(
        decided(150, &forbid, &started, runs()),
        Step::Stop(Why::Limit)
    );
    let replace = policy(Concurrency::Replace);
    assert_eq!(
        decided(105, &replace, &started, runs()),
        Step::Wait(Some(110))
    );
    assert_eq!(
        decided(110, &replace, &started, runs()),
        Step::Stop(Why::Replaced)
    );
}

fn exit(outcome: plan::Outcome, code: i32) -> Exit {
    Exit {
        outcome,
        code: Some(code),
        reason: None,
        stopped: None,
        why: "why".into(),
    }
}

#[test]
fn how_a_run_ended_is_what_the_tick_came_to() {
    let started = ledger(110, Some(tick(100, State::Started)));
    let of = |exit: Exit, policy: &Policy, now| {
        let live = Live::Ended(
            Key {
                at: 100,
                attempt: 1,
            },
            exit,
        );
        match decided(now, policy, &started, live) {
            Step::Write(to) => {
                let tick = to.tick.unwrap();
                (tick.state, tick.outcome, tick.attempt, tick.not_before)
            }
            other => panic!("{other:?}"),
        }
    };
    let over = |outcome| (State::Over, Some(outcome), 1, None);
    let none = Policy::default();
    let twice = Policy {
        retries: 1,
        retry_pause: 3,
        ..none
    };
    assert_eq!(
        of(exit(plan::Outcome::Completed, 0), &none, 105),
        over(Outcome::Completed)
    );
    assert_eq!(
        of(exit(plan::Outcome::Completed, 3), &none, 105),
        over(Outcome::Failed)
    );
    let again = (State::Claimed, None, 2, Some(108));
    assert_eq!(of(exit(plan::Outcome::Completed, 3), &twice, 105), again);
    assert_eq!(
        of(exit(plan::Outcome::Completed, 3), &twice, 110),
        over(Outcome::Failed),
        "the next is due"
    );
    assert_eq!(
        of(exit(plan::Outcome::Refused, 114), &twice, 105),
        over(Outcome::Failed)
    );
    let by = |why| Exit {
        stopped: Some(why),
        ..exit(plan::Outcome::Stopped, 143)
    };
    assert_eq!(of(by(Why::Limit), &twice, 105), over(Outcome::Limit));
    assert_eq!(of(by(Why::Replaced), &twice, 105), over(Outcome::Replaced));
    assert_eq!(of(by(Why::Asked), &twice, 105), over(Outcome::Stopped));
    let outside = Exit {
        reason: Some(Reason::Stopped),
        ..exit(plan::Outcome::Failed, 143)
    };
    assert_eq!(of(outside, &twice, 105), over(Outcome::Stopped));
    let short = (State::Claimed, None, 2, Some(106));
    assert_eq!(
        of(exit(plan::Outcome::Failed, 113), &none, 105),
        short,
        "the bot was never begun"
    );
}

/// What the daemon has of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Made(u32, u64),
    Running(u32),
    Exited(u32),
}

/// How far a process is with a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Create,
    Permit(u64),
    Begin(u64),
}

/// A process that acts, and what it believes.
#[derive(Debug, Clone, Default)]
struct Agent {
    view: Option<(Ledger, Seconds)>,
    seen: BTreeMap<Seconds, Held>,
    is_mine: bool,
    launch: Option<(Ledger, Stage)>,
    unstarted: Option<Unstarted>,
    is_sure: bool,
    must_look: bool,
}

#[derive(Debug, Default)]
struct World {
    now: Seconds,
    ledger: Ledger,
    period: Seconds,
    policy: Policy,
    boxes: BTreeMap<Seconds, Held>,
    ids: u64,
    ran: BTreeMap<Key, u32>,
    claimed: BTreeSet<Seconds>,
    has_jumped: bool,
    agents: [Agent; 2],
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Read(usize),
    Snap(usize),
    Act(usize, bool),
    Launch(usize),
    Crash(usize),
    Exit,
    Pass(Seconds),
    Jump(Seconds),
    Edit(Seconds),
    Clean(usize),
}

impl World {
    fn do_it(&mut self, op: Op) {
        match op {
            Op::Read(who) => self.read(who),
            Op::Snap(who) => {
                let agent = &mut self.agents[who];
                agent.seen.clone_from(&self.boxes);
                agent.must_look = false;
            }
            Op::Act(who, is_heard) => self.act(who, is_heard),
            Op::Launch(who) => self.launch(who),
            Op::Crash(who) => {
                self.agents[who] = Agent {
                    must_look: true,
                    ..Agent::default()
                }
            }
            Op::Exit => {
                for found in self.boxes.values_mut() {
                    if let Held::Running(attempt) = *found {
                        *found = Held::Exited(attempt);
                    }
                }
            }
            Op::Pass(time) => self.now += time,
            Op::Jump(time) => {
                self.has_jumped = true;
                self.now = (self.now + time).max(0);
            }
            Op::Edit(period) => {
                if self.period != period {
                    self.period = period;
                    self.ledger.next = after(period)(self.now);
                    self.ledger.seq = Some(self.ledger.seq.unwrap_or(0) + 1);
                }
            }
            Op::Clean(who) => {
                if !self.ledger.is_open() && self.agents[who].view_is(&self.ledger) {
                    self.boxes
                        .retain(|_, found| matches!(found, Held::Running(_)));
                }
            }
        }
    }

    fn read(&mut self, who: usize) {
        let agent = &mut self.agents[who];
        if agent.launch.is_some() {
            return;
        }
        let is_other = !agent.view_is(&self.ledger);
        agent.is_mine &= !is_other;
        agent.is_sure &= !is_other;
        agent.view = Some((self.ledger.clone(), self.period));
    }

    /// A write on condition; checks that it loses nothing.
    fn write(&mut self, from: &Ledger, to: &Ledger) -> bool {
        let is_claim = to.claims(from);
        let is_same = self.ledger.rev() == from.rev()
            && (!is_claim || (self.ledger.seq == from.seq && self.ledger.next == from.next));
        if !is_same {
            return false;
        }
        let tick = to.tick.clone();
        if is_claim
            && let (Some(first), Some(next), Some(tick)) = (from.next, to.next, &tick)
            && from.tick.as_ref().is_none_or(|before| before.at != tick.at)
        {
            let mut count = 0;
            let mut at = first;
            while at < next {
                count += 1;
                at = after(self.period)(at).unwrap();
            }
            assert_eq!(count, tick.missed + 1, "{from:?} {to:?}");
            let is_new = self.claimed.insert(tick.at);
            assert!(is_new, "{} was claimed before", tick.at);
        }
        if let Some(tick) = &tick {
            let times = self.times(tick.at);
            match tick.outcome {
                Some(Outcome::Missed) => assert_eq!(times, 0, "{tick:?} ran"),
                Some(Outcome::Completed) => assert!(times > 0, "{tick:?} did not run"),
                _ => {}
            }
        }
        self.ledger.tick = tick;
        if is_claim {
            self.ledger.next = to.next;
        }
        true
    }

    fn times(&self, at: Seconds) -> u32 {
        let of = self.ran.iter().filter(|(key, _)| key.at == at);
        of.map(|(_, times)| times).sum()
    }

    fn act(&mut self, who: usize, is_heard: bool) {
        let agent = self.agents[who].clone();
        let Some((ledger, period)) = agent.view.clone() else {
            return;
        };
        if agent.launch.is_some() || agent.must_look {
            return;
        }
        let next = after(period);
        let step = decide(&See {
            now: self.now,
            me: ["one", "two"][who],
            next: &next,
            policy: &self.policy,
            ledger: &ledger,
            live: agent.live(&ledger),
            is_mine: agent.is_mine,
            unstarted: agent.unstarted.as_ref(),
            is_sure: agent.is_sure,
            whose: Whose::Ours,
        });
        match step {
            Step::Wait(_) => {}
            Step::Stop(_) => self.do_it(Op::Exit),
            Step::Unmake => {
                let at = ledger.tick.as_ref().unwrap().at;
                if matches!(self.boxes.get(&at), Some(Held::Made(..))) {
                    self.boxes.remove(&at);
                }
                self.agents[who].must_look = true;
            }
            Step::Doubt => {
                self.agents[who].is_sure = true;
                self.agents[who].must_look = true;
            }
            Step::Start => {
                self.agents[who].is_mine = false;
                self.agents[who].launch = Some((ledger, Stage::Create));
            }
            Step::Write(to) => self.say(who, (&ledger, period), to, false, is_heard),
            Step::Claim(to) => self.say(who, (&ledger, period), to, true, is_heard),
        }
    }

    fn say(
        &mut self,
        who: usize,
        (from, period): (&Ledger, Seconds),
        to: Ledger,
        is_claim: bool,
        is_heard: bool,
    ) {
        let is_taken = self.write(from, &to);
        let agent = &mut self.agents[who];
        agent.is_sure = false;
        if is_taken && is_heard {
            agent.view = Some((to, period));
            agent.is_mine = is_claim;
        } else {
            agent.view = None;
            agent.is_mine = false;
        }
    }

    fn launch(&mut self, who: usize) {
        let Some((ledger, stage)) = self.agents[who].launch.take() else {
            return;
        };
        let key = ledger.tick.as_ref().unwrap().key();
        match stage {
            Stage::Create => match self.boxes.get(&key.at) {
                Some(Held::Running(_)) => {}
                Some(Held::Exited(attempt)) if *attempt == key.attempt => {}
                _ => {
                    self.ids += 1;
                    self.boxes.insert(key.at, Held::Made(key.attempt, self.ids));
                    self.agents[who].launch = Some((ledger, Stage::Permit(self.ids)));
                }
            },
            Stage::Permit(id) => {
                let mut to = ledger.clone();
                let tick = to.tick.as_mut().unwrap();
                (tick.state, tick.rev) = (State::Started, tick.rev + 1);
                tick.by = ["one", "two"][who].to_owned();
                let rev = tick.rev - 1;
                if self.write(&ledger, &to) {
                    self.agents[who].view = Some((to.clone(), self.period));
                    self.agents[who].launch = Some((to, Stage::Begin(id)));
                } else {
                    self.unmake(key, id);
                    self.agents[who].fail(key, rev, self.now);
                }
            }
            Stage::Begin(id) => {
                if self.boxes.get(&key.at) == Some(&Held::Made(key.attempt, id)) {
                    self.boxes.insert(key.at, Held::Running(key.attempt));
                    let seen = &mut self.agents[who].seen;
                    seen.insert(key.at, Held::Running(key.attempt));
                    let times = self.ran.entry(key).or_default();
                    *times += 1;
                    assert_eq!(*times, 1, "{key:?} ran twice");
                    let others = self
                        .boxes
                        .iter()
                        .filter(|(at, found)| **at != key.at && matches!(found, Held::Running(_)));
                    assert_eq!(others.count(), 0, "two ticks run at one time");
                } else {
                    let rev = ledger.rev() - 1;
                    self.agents[who].fail(key, rev, self.now);
                }
            }
        }
    }

    fn unmake(&mut self, key: Key, id: u64) {
        if self.boxes.get(&key.at) == Some(&Held::Made(key.attempt, id)) {
            self.boxes.remove(&key.at);
        }
    }
}

impl Agent {
    fn view_is(&self, ledger: &Ledger) -> bool {
        let view = self.view.as_ref();
        view.is_some_and(|(view, _)| view == ledger)
    }

    fn fail(&mut self, key: Key, rev: i64, now: Seconds) {
        self.view = None;
        self.unstarted = Some(Unstarted {
            key,
            rev,
            why: "why".into(),
            is_final: false,
            not_before: now + 1,
        });
    }

    fn live(&self, ledger: &Ledger) -> Live {
        let of = |at: &Seconds, attempt: &u32| Key {
            at: *at,
            attempt: *attempt,
        };
        let runs = self.seen.iter().find_map(|(at, found)| match found {
            Held::Running(attempt) => Some(Live::Runs(Some(of(at, attempt)))),
            _ => None,
        });
        let at = ledger.tick.as_ref().map_or(0, |tick| tick.at);
        let own = self.seen.get(&at).map(|found| match found {
            Held::Made(attempt, _) => Live::Made(of(&at, attempt)),
            Held::Running(attempt) => Live::Runs(Some(of(&at, attempt))),
            Held::Exited(attempt) => {
                Live::Ended(of(&at, attempt), exit(plan::Outcome::Completed, 0))
            }
        });
        runs.or(own).unwrap_or(Live::None)
    }
}

fn ops() -> impl Strategy<Value = Op> {
    let who = 0usize..2;
    prop_oneof![
        4 => who.clone().prop_map(Op::Read),
        4 => who.clone().prop_map(Op::Snap),
        8 => (who.clone(), prop::bool::weighted(0.9)).prop_map(|(who, heard)| Op::Act(who, heard)),
        8 => who.clone().prop_map(Op::Launch),
        1 => who.clone().prop_map(Op::Crash),
        3 => Just(Op::Exit),
        3 => (1i64..9).prop_map(Op::Pass),
        1 => (-30i64..60).prop_map(Op::Jump),
        1 => (2i64..7).prop_map(Op::Edit),
        1 => who.prop_map(Op::Clean),
    ]
}

fn policies() -> impl Strategy<Value = Policy> {
    let catch_up = prop_oneof![Just(CatchUp::None), Just(CatchUp::Last), Just(CatchUp::All)];
    let replace = any::<bool>();
    (catch_up, replace, prop::option::of(1i64..20)).prop_map(|(catch_up, replace, deadline)| {
        Policy {
            concurrency: if replace {
                Concurrency::Replace
            } else {
                Concurrency::Forbid
            },
            starting_deadline: deadline,
            catch_up,
            catch_up_max: 3,
            time_limit: 40,
            ..Policy::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Both act whenever they like, on what they saw some time ago, and are killed between any two steps.
    #[test]
    fn whatever_is_cut_off_no_tick_runs_twice_and_none_is_passed_over_in_silence(
        policy in policies(), ops in prop::collection::vec(ops(), 1..200)
    ) {
        let mut world = World { period: 5, policy, now: 3, ..World::default() };
        for op in ops {
            world.do_it(op);
        }
        // One that is left alone brings what is under way to its end.
        world.do_it(Op::Crash(0));
        world.do_it(Op::Crash(1));
        let open = world.ledger.tick.clone();
        for _ in 0..30 {
            for op in [Op::Read(0), Op::Snap(0), Op::Act(0, true), Op::Launch(0), Op::Launch(0), Op::Launch(0),
                Op::Exit, Op::Pass(1)] {
                world.do_it(op);
            }
        }
        if let (Some(open), Some(now)) = (open, &world.ledger.tick) {
            let is_over = now.at > open.at || now.state == State::Over;
            prop_assert!(is_over, "{open:?} is still under way: {:?}", world.ledger);
        }
    }
}

/// The same where the cluster's clock starts ticks after `since`.
fn clocked(now: Seconds, ledger: &Ledger, live: Live, whose: Whose) -> Step {
    let next = after(10);
    decide(&See {
        now,
        me: "me",
        next: &next,
        policy: &Policy::default(),
        ledger,
        live,
        is_mine: false,
        unstarted: None,
        is_sure: false,
        whose,
    })
}

#[test]
fn what_the_clusters_clock_starts_is_not_claimed_and_is_written_down_as_it_is_seen() {
    let over = |at| Some(tick(at, State::Over));
    let of = |at| Key {
        at,
        attempt: Key::CLUSTERS,
    };
    let clusters = Whose::Clusters(20);
    let due = ledger(30, over(20));
    let waited = Step::Wait(Some(30 + GIVEN_UP));
    assert_eq!(clocked(35, &due, Live::None, clusters), waited);
    let late = 30 + GIVEN_UP;
    let soon = |now| Step::Wait(Some(now + SOON));
    assert_eq!(clocked(late, &due, Live::None, clusters), soon(late));
    assert_eq!(
        clocked(35, &due, Live::None, Whose::Nobodys),
        Step::Wait(None)
    );
    let before = ledger(20, over(10));
    let taken_back = clocked(35, &before, Live::None, clusters);
    assert_eq!(taken_back, soon(35), "it was due before");
    let claimed = clocked(35, &before, Live::None, Whose::Ours);
    assert_eq!(claimed_at(&claimed), Some((30, 1, Some(40))));
    let again = ledger(40, Some(tick(30, State::Claimed)));
    for whose in [clusters, Whose::Nobodys] {
        let waits = clocked(35, &again, Live::None, whose);
        assert_eq!(waits, Step::Wait(None), "it might start one beside it");
    }
    assert!(claimed_at(&clocked(35, &again, Live::None, Whose::Ours)).is_some());
    for whose in [clusters, Whose::Nobodys, Whose::Ours] {
        let Step::Write(to) = clocked(55, &due, Live::Runs(Some(of(50))), whose) else {
            panic!("it is written down");
        };
        let adopted = to.tick.unwrap();
        assert_eq!(
            (adopted.key(), adopted.missed),
            (of(50), 2),
            "30 and 40 were passed over"
        );
        assert_eq!((adopted.state, to.next), (State::Started, Some(60)));
    }
    let old = clocked(35, &due, Live::Runs(Some(of(20))), clusters);
    assert_eq!(old, waited, "that is known");
}

#[test]
fn a_tick_that_a_person_wants_is_wanted_still_after_one_of_the_clusters() {
    let key = Key {
        at: 40,
        attempt: Key::CLUSTERS,
    };
    let asked = ledger(33, Some(tick(30, State::Over)));
    let step = clocked(41, &asked, Live::Runs(Some(key)), Whose::Clusters(20));
    let Step::Write(to) = step else {
        panic!("it is written down");
    };
    assert_eq!((to.next, to.tick.unwrap().missed), (Some(41), 0));
}
