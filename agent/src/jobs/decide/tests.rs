use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    time: Duration::from_secs(100),
    patience: Duration::from_secs(10),
    tries: 3,
};

fn facts(status: Status) -> Facts {
    Facts {
        status,
        is_unwanted: false,
        begun: None,
        starts: 0,
        halt: None,
        is_told: false,
    }
}

fn next(facts: &Facts, container: Container) -> Step {
    decide(facts, container, Memory::default(), &RULES, true)
}

#[test]
fn a_job_without_room_waits_and_one_that_nobody_wants_does_not() {
    let queued = facts(Status::Queued);
    let step = decide(&queued, Container::Absent, Memory::default(), &RULES, false);
    assert_eq!(step, Step::Wait);
    assert_eq!(next(&queued, Container::Absent), Step::Claim);
    let unwanted = Facts {
        is_unwanted: true,
        ..queued
    };
    assert_eq!(next(&unwanted, Container::Unknown), Step::Drop);
}

#[test]
fn one_that_has_begun_and_is_gone_is_lost_and_one_that_had_not_is_started() {
    let running = facts(Status::Running);
    assert_eq!(next(&running, Container::Absent), Step::Start);
    let begun = Facts {
        begun: Some(Duration::ZERO),
        ..running
    };
    assert_eq!(next(&begun, Container::Absent), Step::Lost);
    assert_eq!(next(&begun, Container::Made), Step::Start);
    assert_eq!(next(&begun, Container::Unknown), Step::Wait);
}

#[test]
fn a_job_that_must_end_is_asked_once_and_then_killed() {
    let mut job = Facts {
        begun: Some(RULES.time),
        ..facts(Status::Running)
    };
    assert_eq!(next(&job, Container::Running), Step::Halt(Halt::Limit));
    job.halt = Some((Halt::Limit, Duration::ZERO));
    assert_eq!(next(&job, Container::Running), Step::Ask);
    let asked = Memory {
        has_asked: true,
        tries: 0,
    };
    let later = |job: &Facts| decide(job, Container::Running, asked, &RULES, true);
    assert_eq!(later(&job), Step::Wait);
    job.halt = Some((Halt::Limit, RULES.patience));
    assert_eq!(later(&job), Step::Kill);
    assert_eq!(next(&job, Container::Over), Step::Judge);
}

#[test]
fn one_whose_program_has_ended_is_not_late_while_that_is_saved() {
    let begun = |begun| Facts {
        begun: Some(begun),
        ..facts(Status::Running)
    };
    assert_eq!(next(&begun(RULES.time), Container::Saving), Step::Wait);
    let last = RULES.time + RULES.patience;
    assert_eq!(next(&begun(last), Container::Saving), Step::Kill);
    let unwanted = Facts {
        is_unwanted: true,
        ..begun(Duration::ZERO)
    };
    let step = next(&unwanted, Container::Saving);
    assert_eq!(step, Step::Halt(Halt::Cancelled));
    let halted = Facts {
        halt: Some((Halt::Limit, RULES.patience)),
        ..begun(last)
    };
    assert_eq!(next(&halted, Container::Saving), Step::Kill);
}

#[test]
fn one_that_cannot_be_started_is_given_up() {
    let memory = Memory {
        tries: 3,
        has_asked: false,
    };
    let step = decide(
        &facts(Status::Running),
        Container::Absent,
        memory,
        &RULES,
        true,
    );
    assert_eq!(step, Step::GiveUp);
}

/// A world of one job: its document, its container, the stream and the bucket, and how often what must happen once did.
#[derive(Debug)]
struct World {
    facts: Facts,
    container: Container,
    /// The container's number, and the one that was noted.
    number: u32,
    noted: Option<u32>,
    memory: Memory,
    has_result: bool,
    starts: u32,
    ends: u32,
    told: u32,
    said: bool,
}

/// What happens to it.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The agent takes a step, and is killed after so many of its writes.
    Step(usize),
    /// The same by a second agent that still thinks what was so at first.
    Stale(usize),
    Forget,
    Cancel,
    End,
    Vanish,
    Time,
    Redelivered,
}

/// The writes of a step, in their order; each is on condition, as the driver makes them.
fn writes(step: Step) -> &'static [fn(&mut World, &Facts) -> bool] {
    match step {
        Step::Wait => &[],
        Step::Claim => &[|w, _| {
            let is_queued = w.facts.status == Status::Queued && !w.facts.is_unwanted;
            if is_queued {
                w.facts.status = Status::Running;
            }
            is_queued
        }],
        Step::Start => &[
            // The name is taken, or what has it was never started and goes.
            |w, _| {
                let is_free = matches!(w.container, Container::Absent | Container::Made);
                if is_free {
                    w.container = Container::Made;
                    w.number += 1;
                }
                is_free
            },
            |w, seen| {
                let may = w.facts.status == Status::Running && w.facts.starts == seen.starts;
                if may {
                    w.facts.starts += 1;
                    w.noted = Some(w.number);
                    w.facts.begun = w.facts.begun.or(Some(Duration::ZERO));
                } else {
                    w.container = Container::Absent;
                }
                may
            },
            |w, _| {
                let is_made = w.container == Container::Made;
                if is_made {
                    w.container = Container::Running;
                    w.starts += 1;
                }
                is_made
            },
        ],
        Step::Halt(Halt::Cancelled) => &[|w, _| halt(w, Halt::Cancelled)],
        Step::Halt(Halt::Limit) => &[|w, _| halt(w, Halt::Limit)],
        Step::Ask => &[|w, _| {
            w.memory.has_asked = true;
            true
        }],
        Step::Kill => &[|w, _| {
            if matches!(w.container, Container::Running | Container::Saving) {
                w.container = Container::Over;
            }
            true
        }],
        Step::Judge => &[
            |w, _| {
                let is_over = w.container == Container::Over;
                w.has_result |= is_over;
                is_over
            },
            |w, _| close(w, Status::Completed),
        ],
        Step::Drop => &[|w, _| close(w, Status::Cancelled)],
        Step::Lost | Step::GiveUp => &[|w, _| close(w, Status::Failed)],
        Step::Tell => &[
            |w, _| {
                // The stream, or whoever looks through it, knows the message's name.
                if !std::mem::replace(&mut w.said, true) {
                    w.told += 1;
                }
                true
            },
            |w, _| {
                w.facts.is_told = true;
                true
            },
        ],
        Step::Remove => &[|w, _| {
            let may = w.facts.status.is_final();
            if may {
                w.container = Container::Absent;
            }
            may
        }],
    }
}

fn halt(world: &mut World, why: Halt) -> bool {
    let may = world.facts.status == Status::Running && world.facts.halt.is_none();
    if may {
        world.facts.halt = Some((why, Duration::ZERO));
    }
    may
}

fn close(world: &mut World, status: Status) -> bool {
    let may = !world.facts.status.is_final();
    if may {
        world.facts.status = status;
        world.ends += 1;
    }
    may
}

impl World {
    fn new() -> Self {
        Self {
            facts: facts(Status::Queued),
            container: Container::Absent,
            number: 0,
            noted: None,
            memory: Memory::default(),
            has_result: false,
            starts: 0,
            ends: 0,
            told: 0,
            said: false,
        }
    }

    /// What an agent that looks now sees.
    fn view(&self) -> (Facts, Container) {
        let is_noted = self.noted.is_none_or(|noted| noted == self.number);
        let container = match self.container {
            Container::Made if !is_noted => Container::Other,
            other => other,
        };
        (self.facts, container)
    }

    fn step(&mut self, (facts, container): (Facts, Container), most: usize) {
        let step = decide(&facts, container, self.memory, &RULES, true);
        for write in writes(step).iter().take(most) {
            if !write(self, &facts) {
                return;
            }
        }
    }

    fn check(&self) {
        assert!(self.starts <= 1, "started twice: {self:?}");
        assert!(self.ends <= 1, "ended twice: {self:?}");
        assert!(self.told <= 1, "told twice: {self:?}");
        if self.facts.status == Status::Completed {
            assert!(self.has_result, "completed without a result: {self:?}");
        }
        if self.told > 0 {
            assert!(self.facts.status.is_final(), "told too early: {self:?}");
        }
    }

    fn take(&mut self, event: Event, old: (Facts, Container)) {
        match event {
            Event::Step(most) => self.step(self.view(), most),
            Event::Stale(most) => self.step(old, most),
            Event::Forget => self.memory = Memory::default(),
            Event::Cancel if !self.facts.status.is_final() => self.facts.is_unwanted = true,
            Event::End => {
                self.container = match self.container {
                    Container::Running => Container::Saving,
                    Container::Saving => Container::Over,
                    other => other,
                }
            }
            Event::Vanish => self.container = Container::Absent,
            Event::Time => {
                let later = |time: Duration| time + RULES.time;
                self.facts.begun = self.facts.begun.map(later);
                self.facts.halt = self.facts.halt.map(|(why, since)| (why, later(since)));
            }
            Event::Cancel | Event::Redelivered => {}
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0usize..=3).prop_map(Event::Step),
        3 => (0usize..=3).prop_map(Event::Stale),
        1 => Just(Event::Forget),
        1 => Just(Event::Cancel),
        3 => Just(Event::End),
        1 => Just(Event::Vanish),
        1 => Just(Event::Time),
        1 => Just(Event::Redelivered),
    ]
}

proptest! {
    #[test]
    fn whatever_ends_where_a_job_runs_once_ends_once_and_is_told_once(
        events in prop::collection::vec((event(), any::<prop::sample::Index>()), 0..60)
    ) {
        let mut world = World::new();
        let mut seen = vec![world.view()];
        for (event, old) in events {
            let old = *old.get(&seen);
            world.take(event, old);
            seen.push(world.view());
            world.check();
        }
        // Nothing stops the agent any more, and time goes on.
        for _ in 0..20 {
            world.step(world.view(), 3);
            world.take(Event::Time, world.view());
        }
        world.check();
        prop_assert!(world.facts.status.is_final() && world.facts.is_told, "{world:?}");
        prop_assert_eq!((world.told, world.container), (1, Container::Absent));
    }
}
