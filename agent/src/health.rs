//! The agent as it is seen from outside: whether its loop turns, whether what it depends on answers, what it counts.
//!
//! ```text
//! loop, lister, lease, probe ──▶ Board (values behind a lock, held for moments) ──▶ http: /healthz /readyz /metrics
//! ```
//!
//! Nobody who asks reaches the loop: answers are made of what was last written on the [`Board`], by a thread of its own.

pub mod http;
pub mod probe;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use contract::record::Time;
use serde_json::{Map, Value, json};

use crate::breaker::{Gate, State};
use crate::events::Progress;
use crate::lease::{Lease, Standing};
use crate::metrics::Metrics;

/// How long the loop may stand still and still count as alive.
const STILL: Duration = Duration::from_secs(60);

/// Who has not read the metrics for so long does not read them any more.
const READERS: Duration = Duration::from_secs(180);
/// Time between two looks at what bots use.
const LOOKS: Duration = Duration::from_secs(25);

/// What the agent depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// The database.
    Mongodb,
    /// The listing of bots, wherever it comes from.
    Listing,
    /// The object store.
    Store,
    /// The Docker daemon.
    Docker,
    /// The API server of the cluster.
    Kubernetes,
    /// Events, where they are set up.
    Nats,
}

impl Dependency {
    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mongodb => "mongodb",
            Self::Listing => "listing",
            Self::Store => "store",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
            Self::Nats => "nats",
        }
    }

    /// Whether the agent does its work only with it: events only shorten the wait.
    fn is_needed(self) -> bool {
        self != Self::Nats
    }
}

/// How a dependency is.
#[derive(Debug, Clone)]
struct Known {
    why: Option<String>,
    since: Time,
    /// Who asks it, and when.
    gate: Option<Gate>,
}

/// What the loop sees.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Bots by state.
    pub bots: BTreeMap<&'static str, usize>,
    /// Bots of which something is on this host only.
    pub unsaved: usize,
    /// When the listing that counts was begun.
    pub listed: Option<Instant>,
    /// How far the events are, where they are heard.
    pub events: Option<Progress>,
}

/// Everything that is told outside; clones are the same one.
#[derive(Debug, Clone)]
pub struct Board(Arc<Mutex<Inside>>);

#[derive(Debug)]
struct Inside {
    beat: Instant,
    known: BTreeMap<Dependency, Known>,
    lease: Lease,
    view: View,
    metrics: Metrics,
    /// Bots whose use of the host is told, at most; when the metrics were last read, and when it was last looked at.
    measured: usize,
    read: Option<Instant>,
    looked: Option<Instant>,
}

impl Default for Board {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Board {
    /// Of an agent that depends on these.
    pub fn new(dependencies: &[Dependency]) -> Self {
        let unknown = Known {
            why: Some("it has not answered yet".to_owned()),
            since: Time::now(),
            gate: None,
        };
        let known = dependencies.iter().map(|it| (*it, unknown.clone()));
        Self(Arc::new(Mutex::new(Inside {
            beat: Instant::now(),
            known: known.collect(),
            lease: Lease::alone(),
            view: View::default(),
            metrics: Metrics::default(),
            measured: 0,
            read: None,
            looked: None,
        })))
    }

    /// The lease whose standing is told.
    pub fn watch(&self, lease: Lease) {
        self.inside().lease = lease;
    }

    /// A dependency answers, or does not and why. One that this agent does not have is not noted.
    pub fn set(&self, dependency: Dependency, answer: Result<(), String>) {
        let mut inside = self.inside();
        let Some(known) = inside.known.get_mut(&dependency) else {
            return;
        };
        let why = answer.err();
        if known.why.is_some() != why.is_some() {
            known.since = Time::now();
        }
        known.why = why;
    }

    /// What is asked of a dependency goes through `gate`, whose state is told.
    pub fn attach(&self, dependency: Dependency, gate: Gate) {
        if let Some(known) = self.inside().known.get_mut(&dependency) {
            known.gate = Some(gate);
        }
    }

    /// The loop turns.
    pub fn beat(&self) {
        self.inside().beat = Instant::now();
    }

    /// What the loop sees now.
    pub fn show(&self, view: View) {
        self.inside().view = view;
    }

    /// Counts something.
    pub fn count(&self, count: impl FnOnce(&mut Metrics)) {
        count(&mut self.inside().metrics);
    }

    /// What so many bots use of the host, at most, is to be told.
    pub fn measure(&self, most: usize) {
        self.inside().measured = most;
    }

    /// How many bots to look at now for what they use: none while nobody reads it, or shortly after the last look.
    pub fn measures(&self) -> Option<usize> {
        let mut inside = self.inside();
        let within = |at: Option<Instant>, limit| at.is_some_and(|at| at.elapsed() < limit);
        let is_due = within(inside.read, READERS) && !within(inside.looked, LOOKS);
        if inside.measured == 0 || !is_due {
            return None;
        }
        inside.looked = Some(Instant::now());
        Some(inside.measured)
    }

    /// Whether the loop turns.
    ///
    /// # Errors
    /// For how long it has not.
    pub fn is_alive(&self) -> Result<(), String> {
        let still = self.inside().beat.elapsed();
        if still < STILL {
            return Ok(());
        }
        let seconds = still.as_secs();
        Err(format!("the agent's loop has stood still for {seconds} s"))
    }

    /// Whether all that the agent depends on answers, and what of it since when.
    pub fn readiness(&self) -> (bool, Value) {
        let inside = self.inside();
        let mut all = true;
        let mut told = Map::new();
        for (dependency, known) in &inside.known {
            all &= known.why.is_none() || !dependency.is_needed();
            told.insert(dependency.name().into(), known.told());
        }
        if let Some(standing) = inside.lease.standing() {
            let (is_ok, lease) = lease(&standing);
            all &= is_ok;
            told.insert("lease".into(), lease);
        }
        (all, json!({ "ready": all, "dependencies": told }))
    }

    /// All metrics, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        let mut inside = self.inside();
        let inside = &mut *inside;
        for (dependency, known) in &inside.known {
            let up = u8::from(known.why.is_none());
            inside.metrics.dependency(dependency.name(), up);
            if let Some(gate) = &known.gate {
                inside.metrics.gate(dependency.name(), gate.sight());
            }
        }
        inside.read = Some(Instant::now());
        let acts = inside.lease.may_act();
        inside.metrics.lease(u8::from(acts));
        if !acts {
            inside.metrics.saves.forget();
        }
        inside.metrics.view(&inside.view);
        inside.metrics.render()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn told(&self) -> Value {
        let mut told = match &self.why {
            None => json!({ "ok": true, "since": self.since }),
            Some(why) => json!({ "ok": false, "since": self.since, "why": why }),
        };
        if let Some(sight) = self.gate.as_ref().map(Gate::sight) {
            told["state"] = sight.state.name().into();
            told["failures"] = sight.failures.into();
            if sight.state != State::Closed {
                told["next_try"] = json!(Time::from(SystemTime::now() + sight.wait));
            }
        }
        told
    }
}

/// An agent that stands by is as it should be.
fn lease(standing: &Standing) -> (bool, Value) {
    match standing {
        Standing::Active => (true, json!({ "ok": true, "state": "active" })),
        Standing::Standby(host) => (
            true,
            json!({ "ok": true, "state": "standby", "holder": host }),
        ),
        Standing::Unknown => (
            false,
            json!({ "ok": false, "state": "unknown", "why": "it is not known yet who has it" }),
        ),
        Standing::Lapsed(why) => (
            false,
            json!({ "ok": false, "state": "unknown", "why": why }),
        ),
    }
}

/// A pause that is up to a fifth shorter or longer, so that many do not ask in step.
pub fn jitter(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let part = u32::try_from(random % 401).unwrap_or(200);
    pause * (800 + part) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::Pace;

    #[test]
    fn it_is_ready_when_all_that_it_depends_on_answers() {
        let board = Board::new(&[Dependency::Mongodb, Dependency::Store]);
        let why = |board: &Board, of: &str| {
            let (_, body) = board.readiness();
            body["dependencies"][of]["why"].as_str().map(str::to_owned)
        };
        assert!(!board.readiness().0);
        board.set(Dependency::Mongodb, Ok(()));
        assert!(!board.readiness().0, "one is not all");
        board.set(Dependency::Store, Err("no".into()));
        assert_eq!(why(&board, "store"), Some("no".into()));
        board.set(Dependency::Store, Ok(()));
        board.set(Dependency::Docker, Err("it has none".into()));
        let (ready, body) = board.readiness();
        assert!(ready && body["ready"] == true, "{body:#}");
        assert_eq!(body["dependencies"]["docker"], Value::Null);
        board.watch(Lease::shared());
        assert!(!board.readiness().0, "nobody knows who has the lease");
        assert!(why(&board, "lease").is_some());
    }

    #[test]
    fn events_that_do_not_come_are_told_and_are_no_reason_not_to_be_ready() {
        let board = Board::new(&[Dependency::Nats]);
        let (ready, body) = board.readiness();
        assert!(
            ready && body["dependencies"]["nats"]["ok"] == false,
            "{body:#}"
        );
    }

    #[test]
    fn since_when_it_does_not_answer_stays_while_the_reason_changes() {
        let board = Board::new(&[Dependency::Store]);
        let since = |board: &Board| board.inside().known[&Dependency::Store].since;
        board
            .inside()
            .known
            .get_mut(&Dependency::Store)
            .unwrap()
            .since = Time::from(std::time::SystemTime::UNIX_EPOCH);
        let first = since(&board);
        board.set(Dependency::Store, Err("another reason".into()));
        assert_eq!(since(&board), first);
        board.set(Dependency::Store, Ok(()));
        assert_ne!(since(&board), first);
    }

    #[test]
    fn how_often_a_dependency_was_asked_in_vain_and_when_it_is_asked_again_is_told() {
        let board = Board::new(&[Dependency::Store]);
        let told = |board: &Board| board.readiness().1["dependencies"]["store"].take();
        assert_eq!(told(&board)["state"], Value::Null);
        let gate = Gate::new(Pace {
            first: Duration::from_secs(60),
            longest: Duration::from_secs(60),
            patience: Duration::ZERO,
        });
        board.attach(Dependency::Store, gate.clone());
        board.set(Dependency::Store, Ok(()));
        assert_eq!(told(&board)["state"], "closed");
        assert_eq!(told(&board)["next_try"], Value::Null);
        gate.failed("gone");
        let store = told(&board);
        assert_eq!(
            (&store["state"], &store["failures"]),
            (&json!("open"), &json!(1))
        );
        assert!(store["next_try"].as_str().unwrap() > Time::now().to_string().as_str());
        let metrics = board.metrics();
        for line in [
            "the0_dependency_state{dependency=\"store\",state=\"open\"} 1",
            "the0_dependency_state{dependency=\"store\",state=\"closed\"} 0",
            "the0_dependency_failures{dependency=\"store\"} 1",
        ] {
            assert!(metrics.contains(line), "{line} in\n{metrics}");
        }
    }

    #[test]
    fn what_bots_use_is_looked_at_only_while_somebody_reads_it_and_seldom() {
        let board = Board::default();
        board.metrics();
        assert_eq!(board.measures(), None, "it is off");
        let board = Board::default();
        board.measure(5);
        assert_eq!(board.measures(), None, "nobody reads");
        board.metrics();
        assert_eq!(board.measures(), Some(5));
        assert_eq!(board.measures(), None, "it was just looked at");
        board.inside().looked = Instant::now().checked_sub(LOOKS);
        assert_eq!(board.measures(), Some(5));
    }

    #[test]
    fn a_loop_that_stands_still_is_told() {
        let board = Board::default();
        assert_eq!(board.is_alive(), Ok(()));
        board.inside().beat = Instant::now().checked_sub(STILL).unwrap();
        assert!(
            board
                .is_alive()
                .unwrap_err()
                .contains("stood still for 60 s")
        );
        board.beat();
        assert_eq!(board.is_alive(), Ok(()));
    }

    #[test]
    fn pauses_differ_and_stay_near_what_was_asked_for() {
        let pauses: Vec<Duration> = (0..100).map(|_| jitter(Duration::from_secs(1))).collect();
        let near = Duration::from_millis(800)..=Duration::from_millis(1200);
        assert!(pauses.iter().all(|pause| near.contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
