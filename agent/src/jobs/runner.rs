//! Looks at jobs and their containers, and does what [`decide`] says, one thing a job at a time.
//!
//! It looks again when something has come or was done, and every few seconds; a look with nothing to do is three small
//! queries. Keys of those that run are renewed as bots' are. Nothing that is known here alone matters: an agent that ends
//! at any point leaves what the next one needs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use contract::BotId;
use mongodb::bson::DateTime;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Settings;
use super::act::{Act, Hands, How, Renewal, TRIES, worked};
use super::decide::{Container, Memory, Rules, Status, Step, decide};
use super::document::{self, Job};
use super::post::Office;
use super::site::{Seen, Site};
use super::table::Table;
use super::turns::Turns;
use crate::store::Store;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// How often an agent without the lease looks whether it is its turn.
const TURN: Duration = Duration::from_millis(500);
/// The first pause after something that did not work, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// How soon keys that could not be renewed are asked for again, at most; a quarter of their life, if that is less.
const RENEW_AGAIN: Duration = Duration::from_mins(1);

/// Runs jobs.
pub struct Runner {
    hands: Hands,
    table: Table,
    wake: Arc<Notify>,
    turns: Turns,
    known: HashMap<BotId, Known>,
    busy: HashSet<BotId>,
    steps: JoinSet<Done>,
    renewals: JoinSet<Renewed>,
    swept: Option<Instant>,
    told: String,
}

/// What this agent alone knows of a job.
#[derive(Debug, Clone, Default)]
struct Known {
    memory: Memory,
    /// What went well last.
    last: Option<Step>,
    /// Why it was not started last.
    why: String,
    failures: u32,
    not_before: Option<Instant>,
    /// When its keys are renewed.
    renewal: Renewal,
}

/// What has come of a renewal.
type Renewed = (BotId, Result<Renewal, String>);

/// A step that has come to its end.
struct Done {
    job: BotId,
    step: Step,
    how: How,
}

impl Runner {
    /// Will run what `table` has.
    pub fn new(
        site: Site,
        store: Store,
        settings: Settings,
        table: Table,
        office: Option<Office>,
        (wake, turns): (Arc<Notify>, Turns),
    ) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            hands: Hands {
                site,
                store,
                settings,
                office,
                host: host.trim().to_owned(),
            },
            table,
            wake,
            turns,
            known: HashMap::new(),
            busy: HashSet::new(),
            steps: JoinSet::new(),
            renewals: JoinSet::new(),
            swept: None,
            told: String::new(),
        }
    }

    /// Runs jobs for ever.
    pub async fn run(mut self) {
        loop {
            if self.hands.site.lease().may_act() {
                self.look().await;
                self.wait(LOOK).await;
            } else {
                if self.hands.site.lease().stands_by() {
                    // Whoever acts knows of them now.
                    self.turns.saw(BTreeSet::new());
                }
                self.wait(TURN).await;
            }
        }
    }

    async fn wait(&mut self, time: Duration) {
        tokio::select! {
            Some(done) = self.steps.join_next() => {
                if let Ok(done) = done {
                    self.take(done);
                }
            }
            Some(renewed) = self.renewals.join_next() => {
                if let Ok(renewed) = renewed {
                    self.take_renewed(renewed);
                }
            }
            () = self.wake.notified() => {}
            () = sleep(time) => {}
        }
    }

    fn take(&mut self, Done { job, step, how }: Done) {
        self.busy.remove(&job);
        let known = self.known.entry(job.clone()).or_default();
        let why = match how {
            How::Well => {
                known.failures = 0;
                known.memory.has_asked |= step == Step::Ask;
                // What was told to go, and is still there.
                let is_same = known.last.replace(step) == Some(step);
                let waits = is_same && matches!(step, Step::Kill | Step::Remove);
                known.not_before = waits.then(|| Instant::now() + PAUSES[0]);
                return;
            }
            How::Runs(renewal) => {
                (known.failures, known.not_before) = (0, None);
                known.renewal = renewal;
                return;
            }
            How::Badly(why) => why,
            How::NotStarted(why) => {
                known.memory.tries += 1;
                known.why.clone_from(&why);
                why
            }
        };
        known.failures += 1;
        let factor = 1 << known.failures.min(6).saturating_sub(1);
        let pause = (PAUSES[0] * factor).min(PAUSES[1]);
        known.not_before = Some(Instant::now() + pause);
        self.tell(format!("job {job}: {why}; it is tried again"));
    }

    fn take_renewed(&mut self, (job, renewed): Renewed) {
        match renewed {
            Ok(renewal) => {
                if let Some(known) = self.known.get_mut(&job) {
                    known.renewal = renewal;
                }
            }
            Err(why) => self.tell(format!(
                "job {job}: its keys are not renewed yet: {why}; it is tried again"
            )),
        }
    }

    fn tell(&mut self, text: String) {
        if self.told != text {
            self.hands.site.console().warn(&text);
            self.told = text;
        }
    }

    async fn look(&mut self) {
        let jobs = match self.table.open(self.hands.settings.at_once).await {
            Ok(jobs) => jobs,
            Err(failed) => {
                let why = self.table.why(&failed);
                return self.tell(format!("jobs wait for MongoDB ({why}): it is tried again"));
            }
        };
        let containers = if self.needs_containers(&jobs) {
            self.hands.site.list().await.ok()
        } else {
            Some(HashMap::new())
        };
        self.known
            .retain(|id, _| jobs.iter().any(|job| job.id == *id));
        let running = jobs.iter().filter(|job| job.status == Status::Running);
        let running: Vec<&Job> = running.collect();
        let mut room = self.hands.settings.at_once.saturating_sub(running.len());
        let mut have = running
            .iter()
            .map(|job| job.id.clone())
            .collect::<BTreeSet<_>>();
        have.extend(self.busy.iter().cloned());
        self.turns.saw(have);
        if let Some(containers) = &containers {
            for job in running {
                self.renew_in_time(job, containers);
            }
        }
        for job in &jobs {
            let claimed = self.consider(job, containers.as_ref(), room > 0);
            room = room.saturating_sub(usize::from(claimed));
        }
        if let Some(containers) = containers {
            self.sweep(&jobs, containers);
        }
    }

    fn needs_containers(&self, jobs: &[Job]) -> bool {
        let is_due = self
            .swept
            .is_none_or(|at| at.elapsed() >= self.hands.site.sweep());
        is_due || !jobs.is_empty()
    }

    /// Does what is next about a job, unless something is under way; whether it gets its turn.
    fn consider(
        &mut self,
        job: &Job,
        containers: Option<&HashMap<BotId, Seen>>,
        has_room: bool,
    ) -> bool {
        if self.busy.contains(&job.id) {
            return job.status == Status::Queued;
        }
        let known = self.known.get(&job.id).cloned().unwrap_or_default();
        if known.not_before.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let seen = containers.map(|all| all.get(&job.id));
        let container = match seen {
            None => Container::Unknown,
            Some(None) => Container::Absent,
            Some(Some(seen)) => of(job, seen),
        };
        let facts = job.facts(DateTime::now());
        let step = decide(&facts, container, known.memory, &self.rules(), has_room);
        let can_tell = self.hands.office.is_some();
        let is_held = step == Step::Claim && !self.turns.take(&job.id);
        if step == Step::Wait || is_held || (step == Step::Tell && !can_tell) {
            return false;
        }
        let id = seen.flatten().map(|seen| seen.id.clone());
        let act = Act {
            hands: self.hands.clone(),
            table: self.table.share(),
            job: job.clone(),
            why: known.why,
        };
        self.begin(step, act, id.unwrap_or_default());
        step == Step::Claim
    }

    /// Sends new keys into the container of a job that runs, when it is time and the store answers.
    fn renew_in_time(&mut self, job: &Job, containers: &HashMap<BotId, Seen>) {
        let seen = containers.get(&job.id);
        let saves = |seen: &&Seen| matches!(of(job, seen), Container::Running | Container::Saving);
        let Some(seen) = seen.filter(saves) else {
            return;
        };
        let known = self.known.entry(job.id.clone()).or_default();
        let is_due = match known.renewal {
            Renewal::Unknown => true,
            Renewal::At(at) => at <= Instant::now(),
            Renewal::Never => false,
        };
        let site = self.hands.site.clone();
        if !is_due || site.keys().ready().is_err() {
            return;
        }
        known.renewal = Renewal::within(Some(RENEW_AGAIN.min(site.life() / 4)));
        let (mut table, id, container) = (self.table.share(), job.id.clone(), seen.id.clone());
        self.renewals.spawn(async move {
            let renewed = async {
                let whole = table.whole(&id).await;
                let whole = whole.map_err(|failed| table.why(&failed))?;
                let bot = whole.and_then(|whole| document::bot(&whole).ok());
                let Some(bot) = bot else {
                    return Ok(Renewal::Never);
                };
                let renewed = site.renew(&bot, &container).await;
                renewed.map(Renewal::within)
            };
            (id.clone(), renewed.await)
        });
    }

    fn rules(&self) -> Rules {
        Rules {
            time: self.hands.settings.time,
            patience: self.hands.site.patience(),
            tries: TRIES,
        }
    }

    fn begin(&mut self, step: Step, mut act: Act, container: String) {
        let job = act.job.id.clone();
        self.busy.insert(job.clone());
        self.steps.spawn(async move {
            let how = act.take(step, &container).await;
            Done { job, step, how }
        });
    }

    /// Containers of jobs that have ended and were told of, or that nobody knows.
    fn sweep(&mut self, jobs: &[Job], containers: HashMap<BotId, Seen>) {
        if self
            .swept
            .is_some_and(|at| at.elapsed() < self.hands.site.sweep())
        {
            return;
        }
        self.swept = Some(Instant::now());
        for (id, seen) in containers {
            if self.busy.contains(&id) || jobs.iter().any(|job| job.id == id) {
                continue;
            }
            self.busy.insert(id.clone());
            let (hands, mut table) = (self.hands.clone(), self.table.share());
            self.steps.spawn(async move {
                let step = Step::Remove;
                let how = match table.job(&id).await {
                    Err(failed) => How::Badly(table.why(&failed)),
                    Ok(Some(job)) if !job.status.is_final() => How::Well,
                    Ok(_) => worked(hands.site.remove(&id, &seen.id).await),
                };
                Done { job: id, step, how }
            });
        }
    }
}

/// What a container is to a job that has begun with another one.
fn of(job: &Job, seen: &Seen) -> Container {
    let is_noted = job.container.as_ref().is_none_or(|id| *id == seen.id);
    match seen.container {
        Container::Made if !is_noted => Container::Other,
        other => other,
    }
}
