use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(1000 + seconds)
}

fn found(holder: &str, beat: i64, overdue: u64) -> Found {
    Found {
        mark: Mark {
            holder: holder.to_owned(),
            beat,
        },
        host: String::new(),
        overdue: Duration::from_secs(overdue),
    }
}

fn look(claim: &mut Claim, found: &Found, seconds: u64) -> Option<Step> {
    claim.looked(Some(found), at(seconds), at(seconds))
}

#[test]
fn one_that_is_nobodys_is_taken_and_acted_on_from_when_it_was_asked_for() {
    let mut claim = Claim::new("me".into());
    assert_eq!(claim.first(), Step::Look);
    assert_eq!(claim.looked(None, at(0), at(1)), Some(Step::Take(None)));
    assert_eq!(claim.until(), Duration::ZERO);
    claim.written(true, at(1));
    assert_eq!((claim.until(), claim.first()), (at(1) + ACTS, Step::Renew));
    claim.failed();
    assert_eq!((claim.until(), claim.first()), (at(1) + ACTS, Step::Renew));
    claim.written(false, at(5));
    assert_eq!((claim.until(), claim.first()), (Duration::ZERO, Step::Look));
}

#[test]
fn one_that_is_given_back_is_taken_at_once_and_ours_is_renewed() {
    let mut claim = Claim::new("me".into());
    let given = found("", 7, 0);
    let take = Some(Step::Take(Some(given.mark.clone())));
    assert_eq!(look(&mut claim, &given, 0), take);
    assert_eq!(look(&mut claim, &found("me", 8, 0), 1), Some(Step::Renew));
}

#[test]
fn one_of_somebody_else_is_taken_only_after_it_was_seen_unchanged_for_its_time() {
    let mut claim = Claim::new("me".into());
    for (seconds, beat) in [(0, 1), (10, 1), (14, 2), (20, 2), (28, 2)] {
        assert_eq!(look(&mut claim, &found("other", beat, 0), seconds), None);
    }
    let last = found("other", 2, 0);
    assert_eq!(
        look(&mut claim, &last, 29),
        Some(Step::Take(Some(last.mark.clone())))
    );
}

#[test]
fn what_was_not_seen_without_a_gap_was_not_seen_unchanged() {
    let mut claim = Claim::new("me".into());
    let same = found("other", 1, 60);
    assert_eq!(look(&mut claim, &found("other", 1, 0), 0), None);
    claim.failed();
    assert_eq!(
        look(&mut claim, &same, 60),
        None,
        "the holder comes back too"
    );
    assert_eq!(look(&mut claim, &same, 74), None);
    assert!(look(&mut claim, &same, 75).is_some());
}

#[test]
fn the_servers_clock_counts_only_for_an_agent_that_has_just_come() {
    let long = found("other", 1, 15);
    assert!(look(&mut Claim::new("me".into()), &long, 0).is_some());
    assert_eq!(
        look(&mut Claim::new("me".into()), &found("other", 1, 14), 0),
        None
    );
    let mut claim = Claim::new("me".into());
    assert_eq!(look(&mut claim, &found("other", 1, 0), 0), None);
    assert_eq!(
        look(&mut claim, &found("other", 1, 3600), 1),
        None,
        "it was set"
    );
}

/// A database and agents around it, on one true time that none of them sees but as its own clock.
struct Model {
    document: Option<(Mark, Duration)>,
    agents: Vec<Claim>,
}

#[derive(Debug, Clone)]
struct Event {
    agent: usize,
    pause: u64,
    /// How long the question and the answer take, in tenths of a second.
    way: (u64, u64),
    /// What is lost: nothing, the answer, or the question too.
    lost: u8,
    gives_back: bool,
}

impl Model {
    fn read(&self, now: Duration) -> Option<Found> {
        let (mark, until) = self.document.clone()?;
        Some(Found {
            mark,
            host: String::new(),
            overdue: now.saturating_sub(until),
        })
    }

    fn write(&mut self, me: &str, step: &Step, now: Duration) -> bool {
        let mark = self.document.as_ref().map(|(mark, _)| mark.clone());
        let fits = match step {
            Step::Look => false,
            Step::Renew => mark.as_ref().is_some_and(|mark| mark.holder == me),
            Step::Take(expected) => *expected == mark,
        };
        if fits {
            let beat = mark.map_or(0, |mark| mark.beat) + 1;
            let holder = me.to_owned();
            self.document = Some((Mark { holder, beat }, now + LASTS));
        }
        fits
    }

    /// One round of an agent; gives the time at its end.
    fn round(&mut self, event: &Event, mut now: Duration) -> Duration {
        let tenths = |n: u64| Duration::from_millis(n * 100);
        let me = self.agents[event.agent].me.clone();
        let mut next = Some(self.agents[event.agent].first());
        while let Some(step) = next.take() {
            let asked = now;
            let there = asked + tenths(event.way.0);
            now = there + tenths(event.way.1);
            if event.lost == 2 {
                self.agents[event.agent].failed();
                return now;
            }
            let found = self.read(there);
            let done = self.write(&me, &step, there);
            let claim = &mut self.agents[event.agent];
            if event.lost == 1 {
                claim.failed();
            } else if step == Step::Look {
                next = claim.looked(found.as_ref(), asked, now);
            } else {
                claim.written(done, asked);
            }
        }
        now
    }

    fn give_back(&mut self, agent: usize) {
        let claim = &mut self.agents[agent];
        if let Some((mark, _)) = &mut self.document
            && mark.holder == claim.me
        {
            mark.holder.clear();
            mark.beat += 1;
            // An agent that gives it back acts no more, and comes again as a new one.
            *claim = Claim::new(claim.me.clone());
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let lost = prop_oneof![8 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    let way = (0u64..30, 0u64..30);
    (0usize..3, 0u64..40, way, lost, prop::bool::weighted(0.05)).prop_map(
        |(agent, pause, way, lost, gives_back)| Event {
            agent,
            pause,
            way,
            lost,
            gives_back,
        },
    )
}

proptest! {
    #[test]
    fn never_may_two_act_at_one_time(events in prop::collection::vec(event(), 1..200)) {
        let names = ["a", "b", "c"];
        let agents = names.map(|name| Claim::new(name.to_owned())).to_vec();
        let mut model = Model { document: None, agents };
        let mut now = at(0);
        for event in events {
            now += Duration::from_millis(event.pause * 100);
            if event.gives_back { model.give_back(event.agent); }
            now = model.round(&event, now);
            let acting = model.agents.iter().filter(|claim| claim.until() > now).count();
            prop_assert!(acting <= 1, "{acting} at {now:?}: {:?}", model.agents);
        }
        // And somebody does act, once the others are gone.
        let round = Event { agent: 0, pause: 0, way: (0, 0), lost: 0, gives_back: false };
        for second in 0..40 { model.round(&round, now + (LASTS + SECOND) * 2 + SECOND * second); }
        prop_assert!(model.agents[0].until() > now + LASTS);
    }
}
