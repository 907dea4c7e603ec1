use proptest::prelude::*;

use super::*;

const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(10),
    patience: Duration::from_secs(12),
};
const MOMENT: Duration = Duration::from_millis(1);

/// What may happen to a breaker.
#[derive(Debug, Clone, Copy)]
enum Act {
    Try,
    Answer,
    Fail(u32),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => Just(Act::Try),
        1 => Just(Act::Answer),
        4 => any::<u32>().prop_map(Act::Fail),
        4 => (0..20_000u64).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 1..60)
}

/// Does it, and gives whether a try was let through.
fn act(breaker: &mut Breaker, now: &mut Instant, act: Act) -> bool {
    match act {
        Act::Try => return breaker.may_try(*now),
        Act::Answer => breaker.on_success(),
        Act::Fail(chance) => breaker.on_failure(*now, chance),
        Act::Wait(ms) => *now += Duration::from_millis(ms),
    }
    false
}

/// Fails as often in a row as that is possible, each time when it may be tried again, and gives the pauses.
fn pauses(chance: u32, count: usize) -> Vec<Duration> {
    let (mut breaker, mut now) = (Breaker::new(PACE), Instant::now());
    let mut fail = |_| {
        assert!(breaker.may_try(now));
        breaker.on_failure(now, chance);
        let pause = breaker.wait(now);
        now += pause;
        pause
    };
    (0..count).map(&mut fail).collect()
}

#[test]
fn pauses_double_up_to_a_bound_and_a_fifth_of_them_is_chance() {
    let seconds = |chance| -> Vec<u128> {
        let pauses = pauses(chance, 6).into_iter();
        pauses.map(|pause| pause.as_millis()).collect()
    };
    assert_eq!(seconds(200), [1000, 2000, 4000, 8000, 10_000, 10_000]);
    assert_eq!(seconds(0)[4], 8000);
    assert_eq!(seconds(400)[4], 12_000);
}

#[test]
fn many_that_failed_at_once_are_one_failure() {
    let (mut breaker, now) = (Breaker::new(PACE), Instant::now());
    for chance in 0..100 {
        breaker.on_failure(now, chance);
    }
    assert_eq!(breaker.failures(), 1);
    assert_eq!(breaker.wait(now), PACE.first * 800 / 1000);
}

#[test]
fn a_try_of_which_nothing_is_heard_keeps_others_out_for_a_while_only() {
    let (mut breaker, now) = (Breaker::new(PACE), Instant::now());
    breaker.on_failure(now, 0);
    let then = now + PACE.longest;
    assert!(breaker.may_try(then) && !breaker.may_try(then));
    assert_eq!(breaker.state().name(), "half_open");
    let last = then + PACE.patience.saturating_sub(MOMENT);
    assert!(!breaker.may_try(last));
    assert!(breaker.may_try(then + PACE.patience));
}

proptest! {
    #[test]
    fn while_it_is_away_one_at_a_time_tries_and_none_before_its_time(acts in acts()) {
        let (mut breaker, mut now) = (Breaker::new(PACE), Instant::now());
        let mut under_way = None;
        for step in acts {
            let (before, wait) = (breaker.state(), breaker.wait(now));
            let tried = act(&mut breaker, &mut now, step);
            match step {
                Act::Answer | Act::Fail(_) => under_way = None,
                Act::Try if before == State::Closed => prop_assert!(tried),
                Act::Try => {
                    prop_assert_eq!(tried, wait.is_zero());
                    if tried {
                        let since = under_way.replace(now);
                        prop_assert!(since.is_none_or(|since| now >= since + PACE.patience));
                    }
                }
                Act::Wait(_) => {}
            }
        }
    }

    #[test]
    fn whatever_happened_a_try_is_let_through_in_bounded_time_and_an_answer_opens_the_way(acts in acts()) {
        let (mut breaker, mut now) = (Breaker::new(PACE), Instant::now());
        for step in acts {
            act(&mut breaker, &mut now, step);
            let most = PACE.patience.max(PACE.longest * 1200 / 1000);
            prop_assert!(breaker.wait(now) <= most);
            let mut later = breaker;
            prop_assert!(later.may_try(now + most));
            later.on_success();
            prop_assert_eq!((later.state(), later.failures()), (State::Closed, 0));
            prop_assert!(later.may_try(now) && later.may_try(now), "everybody");
        }
    }
}
