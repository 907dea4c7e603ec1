//! A simulated clock, agents that die, and every tick accounted for.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 / 3600 * 3600 + seconds).unwrap()
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn minutely() -> Schedule {
    Schedule::parse("* * * * *", None).unwrap()
}

fn policy(catch_up: CatchUp) -> Policy {
    Policy {
        concurrency: Concurrency::Forbid,
        deadline: seconds(30),
        catch_up,
        retries: 2,
        pause: seconds(10),
    }
}

fn situation(schedule: &Schedule, catch_up: CatchUp, now: i64) -> Situation<'_> {
    Situation {
        schedule,
        policy: policy(catch_up),
        due: at(60),
        running: None,
        failed: None,
        now: at(now),
    }
}

fn taken(first: i64, last: i64) -> Claim {
    Claim {
        first: at(first),
        last: at(last),
        next: at(last + 60),
    }
}

#[test]
fn a_tick_is_waited_for_and_started_when_it_is_due() {
    let schedule = minutely();
    let step = |now| decide(&situation(&schedule, CatchUp::None, now));
    assert_eq!(step(59), Step::Wait(at(60)));
    assert_eq!(step(-5000), Step::Wait(at(60)));
    assert_eq!(step(60), Step::Start(taken(60, 60)));
    assert_eq!(step(90), Step::Start(taken(60, 60)));
    assert_eq!(step(91), Step::Skip(taken(60, 60)));
}

#[test]
fn late_ticks_are_caught_up_as_asked() {
    let schedule = minutely();
    let step = |catch_up, now| decide(&situation(&schedule, catch_up, now));
    assert_eq!(step(CatchUp::None, 635), Step::Skip(taken(60, 600)));
    assert_eq!(step(CatchUp::None, 625), Step::Start(taken(60, 600)));
    assert_eq!(step(CatchUp::Last, 655), Step::Start(taken(60, 600)));
    assert_eq!(step(CatchUp::All(3), 655), Step::Skip(taken(60, 420)));
    assert_eq!(step(CatchUp::All(10), 655), Step::Start(taken(60, 60)));
    assert_eq!(step(CatchUp::All(0), 655), Step::Skip(taken(60, 600)));
}

#[test]
fn a_run_in_flight_is_waited_for_or_replaced() {
    let schedule = minutely();
    let mut busy = situation(&schedule, CatchUp::Last, 125);
    busy.running = Some(at(0));
    assert_eq!(decide(&busy), Step::Busy);
    busy.policy.concurrency = Concurrency::Replace;
    assert_eq!(decide(&busy), Step::Replace(taken(60, 120)));
}

#[test]
fn a_failed_run_is_tried_again_later_and_later_and_not_for_ever() {
    let schedule = minutely();
    let step = |attempts, now| {
        let mut situation = situation(&schedule, CatchUp::Last, now);
        situation.failed = Some(Failed {
            tick: at(0),
            attempts,
            at: at(5),
        });
        decide(&situation)
    };
    assert_eq!(step(1, 14), Step::Wait(at(15)));
    assert_eq!(step(1, 15), Step::Retry(at(0), 2));
    assert_eq!(step(2, 15), Step::Wait(at(25)));
    assert_eq!(step(2, 25), Step::Retry(at(0), 3));
    assert_eq!(step(3, 50), Step::Wait(at(60)));
    assert_eq!(step(1, 60), Step::Start(taken(60, 60)));
}

#[test]
fn an_outage_of_years_is_looked_at_in_no_time() {
    let schedule = Schedule::parse("* * * * * *", None).unwrap();
    let begin = std::time::Instant::now();
    for catch_up in [CatchUp::None, CatchUp::Last, CatchUp::All(100)] {
        let years = 20 * 365 * 86_400;
        assert!(!matches!(
            decide(&situation(&schedule, catch_up, years)),
            Step::Wait(_)
        ));
    }
    assert!(begin.elapsed() < std::time::Duration::from_secs(2));
}

/// What an agent does between two looks at the clock.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The clock goes on, or is set.
    Clock(i64),
    /// The run in flight ends.
    End,
    /// The clock goes on, and the agent dies after its claim and before its start.
    Die(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0_i64..90).prop_map(Event::Clock),
        1 => (0_i64..4000).prop_map(Event::Clock),
        2 => (-4000_i64..0).prop_map(Event::Clock),
        4 => Just(Event::End),
        1 => (0_i64..300).prop_map(Event::Die),
    ];
    prop::collection::vec(event, 1..80)
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let expr = prop::sample::select(&["* * * * *", "*/7 * * * *", "@every 50s", "5,6 * * * *"][..]);
    expr.prop_map(|expr| Schedule::parse(expr, None).unwrap())
}

fn policies() -> impl Strategy<Value = Policy> {
    let catch_up = prop_oneof![
        Just(CatchUp::None),
        Just(CatchUp::Last),
        (0_u32..5).prop_map(CatchUp::All),
    ];
    (catch_up, any::<bool>(), 0_i64..200).prop_map(|(catch_up, replace, deadline)| Policy {
        concurrency: if replace {
            Concurrency::Replace
        } else {
            Concurrency::Forbid
        },
        deadline: seconds(deadline),
        ..policy(catch_up)
    })
}

proptest! {
    #[test]
    fn no_tick_is_started_twice_and_none_is_lost(
        schedule in schedules(),
        policy in policies(),
        events in events(),
    ) {
        let begin = schedule.next(at(0)).unwrap();
        let (mut due, mut now, mut running) = (begin, at(0), None);
        let mut seen: BTreeMap<Timestamp, bool> = BTreeMap::new();
        for event in events {
            let dies = matches!(event, Event::Die(_));
            match event {
                Event::Clock(ahead) | Event::Die(ahead) => now += seconds(ahead),
                Event::End => running = None,
            }
            loop {
                let step = decide(&Situation { schedule: &schedule, policy, due, running, failed: None, now });
                let (claim, starts) = match step {
                    Step::Start(claim) | Step::Replace(claim) => (claim, true),
                    Step::Skip(claim) => (claim, false),
                    Step::Wait(until) => { prop_assert!(until > now); break; }
                    Step::Busy => { prop_assert!(running.is_some()); break; }
                    Step::Retry(..) | Step::Over => unreachable!("{step:?}"),
                };
                prop_assert!(!starts || running.is_none() || policy.concurrency == Concurrency::Replace);
                prop_assert_eq!(claim.first, due);
                prop_assert!(claim.last <= now && claim.next > now.min(claim.last));
                let mut tick = claim.first;
                while tick < claim.next {
                    let started = starts && tick == claim.last;
                    prop_assert!(seen.insert(tick, started).is_none(), "{tick} is taken twice");
                    tick = schedule.next(tick).unwrap();
                }
                prop_assert_eq!(tick, claim.next);
                due = claim.next;
                running = if starts && !dies { Some(claim.last) } else { running };
            }
        }
        let mut tick = begin;
        for found in seen.keys() {
            prop_assert_eq!(*found, tick);
            tick = schedule.next(tick).unwrap();
        }
        prop_assert_eq!(tick, due);
    }

    #[test]
    fn the_newest_tick_is_the_one_a_walk_finds(schedule in schedules(), ahead in 0_i64..20_000) {
        let due = schedule.next(at(0)).unwrap();
        let now = due + seconds(ahead);
        let mut walked = due;
        while let Some(next) = schedule.next(walked).filter(|next| *next <= now) {
            walked = next;
        }
        prop_assert_eq!(latest(&schedule, due, now), walked);
    }
}
