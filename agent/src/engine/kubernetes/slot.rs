//! What is known about one bot's Pod.

use std::time::{Duration, SystemTime};

use contract::record::{RunRecord, Time};
use contract::{BotId, BotType, Digest, ObjectKey};
use tokio::sync::oneshot;

use super::AGAIN;
use super::containers::SYNC;
use super::keys::Good;
use super::seen::{Seen, Stage};
use crate::ending::{self, Facts, Verdict};
use crate::engine::Instance;
use crate::engine::remote::Word;
use crate::engine::saved::has_run;
use crate::history::Start;
use crate::plan::{Actual, Ended, Outcome, Phase};
use crate::report::{Records, Saving};

/// A `sync` that is not ready for so long does not save.
const UNREADY: Duration = Duration::from_secs(20);
/// An instance that lived as long did not fail at once.
const STABLE: Duration = Duration::from_secs(60);
/// How long a kubelet has for saying that a Pod is over of which somebody has said so.
const FORCED: Duration = Duration::from_secs(60);
/// Ended runs of a Pod that are remembered.
const RUNS: usize = 50;
/// So long after its time a Pod is told of that has not ended.
const OVERDUE: Duration = Duration::from_secs(60);

/// One bot's.
#[derive(Debug)]
pub struct Slot {
    /// The bot for a person: many instances have one name, so with its id.
    pub name: String,
    /// How its life goes.
    pub kind: BotType,
    /// Its code.
    pub code: Option<ObjectKey>,
    /// The plan's view.
    pub instance: Instance,
    /// What is under way with it.
    pub work: Work,
    /// Its Pod while there is one that is not let go.
    pub pod: Option<Seen>,
    /// The runs of its Pod that have ended, oldest first.
    pub runs: Vec<RunRecord>,
    /// When it was started or found.
    pub since: Duration,
    /// Failures in a row.
    pub failures: u32,
    /// Its stop, once it was told to.
    pub stop: Option<Stop>,
    /// What its end means, once that is known and its Pod is being let go.
    pub verdict: Option<Verdict>,
    /// Whether saving works in its Pod, as is known by the probe of `sync`.
    pub saving: Saving,
    /// Since when that probe has said nothing good, by both clocks.
    pub unready: Option<(Duration, Time)>,
    /// When letting go of its Pod is tried again.
    pub release_at: Option<Duration>,
    /// When it is taken for over, because nobody waits for its end.
    pub give_up_at: Option<Duration>,
    /// When it needs new keys.
    pub renew_at: Option<Duration>,
    /// How long those it has are good.
    pub keys: Good,
    /// Its start, while it is made.
    pub start: Option<Start>,
    /// The clock at its last change: an older listing says nothing about it.
    pub touched: u64,
}

/// What is under way: one thing at a time, so no two starts are.
#[derive(Debug)]
pub enum Work {
    /// Nothing.
    None,
    /// A start; sending ends its waiting for a turn.
    Starting(Option<oneshot::Sender<()>>),
    /// Its Pod, of which nothing runs, is let go.
    Releasing,
}

/// A stop under way.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// What is to be said of the end, if not what it was stopped for.
    pub outcome: Outcome,
    /// Whether the API server has taken it.
    pub told: Word,
    /// When one that was not taken is told again.
    pub again_at: Duration,
}

impl Slot {
    /// One of the bot `id` whose digest is `launch`.
    pub fn new(
        id: &BotId,
        name: &str,
        kind: BotType,
        launch: Digest,
        now: Duration,
        touched: u64,
    ) -> Self {
        let mut instance = Instance::new(Actual {
            digest: launch,
            phase: Phase::Running,
        });
        instance.name = Some(name.to_owned());
        Self {
            name: format!("{name} ({id})"),
            kind,
            code: None,
            instance,
            work: Work::None,
            pod: None,
            runs: Vec::new(),
            since: now,
            failures: 0,
            stop: None,
            verdict: None,
            saving: Saving::Untold,
            unready: None,
            release_at: None,
            give_up_at: None,
            renew_at: None,
            keys: Good::Unknown,
            start: None,
            touched,
        }
    }

    /// One that was found and not started by us.
    pub fn found(seen: &Seen, now: Duration, touched: u64) -> Self {
        // An annotation that is no digest is no bot's: it is started anew.
        let launch = seen.launch.parse();
        let launch = launch.unwrap_or_else(|_| Digest::from_bytes([0; 32]));
        Self::new(&seen.bot, &seen.called, seen.kind, launch, now, touched)
    }

    /// Whether there is, or will be, a Pod.
    pub fn is_live(&self) -> bool {
        self.pod.is_some() || !matches!(self.work, Work::None)
    }

    /// Takes in what its Pod tells now; gives the runs that are new.
    pub fn sees(&mut self, seen: Seen, now: Duration) -> Vec<RunRecord> {
        if let Ok(launch) = seen.launch.parse() {
            self.instance.actual.digest = launch;
        }
        if self
            .pod
            .as_ref()
            .is_none_or(|before| before.uid != seen.uid)
        {
            self.since = now;
            self.instance.since = None;
            self.runs.clear();
            (self.saving, self.unready) = (Saving::Untold, None);
        }
        if seen.code.is_some() {
            self.code.clone_from(&seen.code);
        }
        // What its kubelet says begins the wait anew.
        let waits = seen.is_forced && seen.is_live();
        self.give_up_at = waits.then_some(now + FORCED);
        let is_stopping = self.stop.is_some() || seen.is_ending || seen.stage == Stage::Over;
        self.instance.actual.phase = if is_stopping {
            Phase::Stopping
        } else {
            Phase::Running
        };
        self.instance.reason = None;
        match seen.saves {
            Some(true) => (self.saving, self.unready) = (Saving::Works, None),
            Some(false) => drop(self.unready.get_or_insert_with(|| (now, Time::now()))),
            None => {}
        }
        self.instance.trouble = seen.trouble.clone().or_else(|| self.unsaved(&seen));
        // The supervisor's number in its container.
        let runs = matches!(seen.stage, Stage::Running | Stage::Waiting);
        self.instance.pid = runs.then_some(1);
        if runs {
            self.instance.since.get_or_insert(now);
        }
        self.instance.container = Some(seen.name.clone());
        self.instance.image.clone_from(&seen.birth.image);
        self.instance.birth = Some(seen.birth.clone());
        self.start = None;
        let new = self.learn(&seen);
        self.pod = Some(seen);
        new
    }

    fn learn(&mut self, seen: &Seen) -> Vec<RunRecord> {
        let same = |known: &RunRecord, run: &RunRecord| {
            known.run == run.run && known.ended_at == run.ended_at
        };
        // What is told in brief is less, and of one that was killed with its supervisor not the same.
        let covers = |known: &RunRecord, run: &RunRecord| {
            known.run == run.run && (known.ended_at > known.started_at || same(known, run))
        };
        let told = |run: &&RunRecord| !self.runs.iter().any(|known| same(known, run));
        let mut new: Vec<RunRecord> = seen.runs.iter().filter(told).cloned().collect();
        let earlier = seen.earlier.iter().filter(|run| {
            let mut known = self.runs.iter().chain(&seen.runs);
            !known.any(|known| covers(known, run))
        });
        new.extend(earlier.cloned());
        self.runs.extend(new.iter().cloned());
        self.runs.sort_by_key(|run| (run.ended_at, run.run));
        self.runs.drain(..self.runs.len().saturating_sub(RUNS));
        new
    }

    /// What its programs have told of themselves.
    pub fn records(&self) -> Records {
        let Some(pod) = &self.pod else {
            return Records {
                runs: self.runs.clone(),
                ..Records::default()
            };
        };
        let last = self.runs.last();
        let is_running = pod.stage == Stage::Running;
        Records {
            status: Some(pod.status(last.map_or(0, |last| last.run), self.restarts(pod))),
            done: last.filter(|_| !is_running).cloned(),
            runs: self.runs.clone(),
            synced: pod.synced.clone(),
            saving: Some(self.saving),
            ..Records::default()
        }
    }

    /// Whether its probe has said for long enough that saving fails; told once. It says so too for a moment when `sync` begins.
    pub fn fails_to_save(&mut self, now: Duration) -> bool {
        let Some((since, at)) = self.unready else {
            return false;
        };
        let is_news = now >= since + UNREADY && !matches!(self.saving, Saving::Fails(_));
        if is_news {
            self.saving = Saving::Fails(at);
            let pod = self.pod.as_ref();
            let text = pod.and_then(|pod| self.unsaved(pod));
            self.instance.trouble = self.instance.trouble.take().or(text);
        }
        is_news
    }

    /// What a person is told of what its Pod has and does not save.
    fn unsaved(&self, pod: &Seen) -> Option<String> {
        if pod.is_outgrown() && !pod.is_ending {
            return Some(format!(
                "over its limit of disk, and not all of it is saved: what is not is in its Pod only, which stays; make room there (kubectl exec, container {SYNC}), and it goes on within some minutes"
            ));
        }
        let fails = matches!(self.saving, Saving::Fails(_)) && pod.is_live();
        fails.then(|| {
            format!("what it has is not being saved: the log of its container {SYNC} says why")
        })
    }

    /// Runs in a row that have ended without a stable minute, as a supervisor counts them; none while one is stable.
    fn restarts(&self, pod: &Seen) -> u32 {
        let lived = |from: Time, to: Time| to.system().duration_since(from.system());
        let is_stable = |from, to| lived(from, to).is_ok_and(|lived| lived >= STABLE);
        if pod.stage == Stage::Running
            && pod
                .started
                .is_some_and(|since| is_stable(since, Time::now()))
        {
            return 0;
        }
        let ended = self.runs.iter().rev();
        let quick = ended.take_while(|run| !is_stable(run.started_at, run.ended_at));
        u32::try_from(quick.count()).unwrap_or(u32::MAX)
    }

    /// It does not run any more, or never did.
    pub fn ended(&mut self, outcome: Outcome, reason: String, now: Duration) {
        let lived = now.saturating_sub(self.since);
        self.failures = match outcome {
            Outcome::Failed if self.pod.is_some() && lived >= STABLE => 1,
            Outcome::Failed => self.failures + 1,
            _ => 0,
        };
        self.pod = None;
        self.stop = None;
        self.verdict = None;
        self.release_at = None;
        self.give_up_at = None;
        self.renew_at = None;
        self.keys = Good::Unknown;
        self.work = Work::None;
        self.instance.pid = None;
        self.instance.trouble = None;
        self.instance.failures = self.failures;
        self.instance.reason = Some(reason);
        self.instance.actual.phase = Phase::Ended(Ended {
            at: now,
            failures: self.failures,
            outcome,
        });
    }

    /// What the end of its Pod means.
    pub fn judge(&self, seen: &Seen, records: &Records) -> Verdict {
        let stop = self.stop.map(|stop| stop.outcome);
        let facts = Facts {
            code: seen.end.and_then(|end| end.code),
            signal: None,
            record: records.done.clone(),
            has_run: has_run(records, Some(seen.birth.start.at)),
            kind: self.kind,
            // One that somebody else has deleted, or a node that makes room, was told to as well.
            // What a CronJob's Job has left is removed when it is old, however it ended.
            asked: stop.map_or(seen.is_ending && !seen.is_clocked(), |outcome| {
                outcome == Outcome::Stopped
            }),
        };
        let mut verdict = ending::judge(&facts);
        if let Some(outcome) = stop.filter(|outcome| *outcome != Outcome::Stopped) {
            verdict.outcome = outcome;
        }
        // An ended Job is removed by its CronJob, with its Pods.
        if let (None, true) = (stop, seen.is_ending && !seen.is_clocked()) {
            verdict.reason +=
                ": its Pod was deleted by somebody else, or by an agent that has ended since";
        }
        if let Some(trouble) = &seen.trouble {
            verdict.reason = format!("{}: {trouble}", verdict.reason);
        }
        verdict
    }

    /// Why its Pod has not ended, which should have long ago; once for each thing that was heard of it.
    pub fn overdue(&mut self, wall: SystemTime) -> Option<String> {
        let pod = self.pod.as_ref().filter(|pod| pod.is_live())?;
        let late = wall.duration_since(pod.ends_by?).ok()?;
        let name = &pod.name;
        let why = format!(
            "no kubelet says that it has ended: if its node is off for good, kubectl delete pod {name} --force"
        );
        let is_told = self.instance.trouble.as_ref() == Some(&why);
        if late < OVERDUE || is_told {
            return None;
        }
        Some(self.instance.trouble.insert(why).clone())
    }

    /// Whether it is to be told to end now, once more.
    pub fn is_stop_due(&mut self, now: Duration) -> bool {
        let has_pod = self.pod.as_ref().is_some_and(|pod| !pod.is_ending);
        let Some(stop) = self.stop.as_mut().filter(|_| has_pod) else {
            return false;
        };
        let is_due = stop.told == Word::Unsaid && now >= stop.again_at;
        if is_due {
            stop.again_at = now + AGAIN;
        }
        is_due
    }
}
