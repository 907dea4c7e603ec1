//! One step about one job, which [`super::decide`] says, taken on its container, its document and the store.

use std::time::Duration;

use contract::ObjectKey;
use tokio::time::Instant;

use super::decide::{Status, Step};
use super::document::{self, Job};
use super::post::Office;
use super::site::Site;
use super::table::Table;
use super::verdict::{Terms, judge};
use super::{Settings, verdict};
use crate::bots::mongo::Failed;
use crate::engine::not_started::NotStarted;
use crate::plan::Outcome;
use crate::store::Store;

/// Starts of a job that come to nothing before it counts as failed.
pub const TRIES: u32 = 5;

/// What every step needs; clones share it.
#[derive(Clone)]
pub struct Hands {
    pub site: Site,
    pub store: Store,
    pub settings: Settings,
    /// Where ends are told, if anywhere.
    pub office: Option<Office>,
    /// This agent, for whoever reads a job's document.
    pub host: String,
}

/// When a job's keys are renewed.
#[derive(Debug, Clone, Copy, Default)]
pub enum Renewal {
    /// It is not known how long they are good: as soon as it is seen to run.
    #[default]
    Unknown,
    At(Instant),
    /// They have no end.
    Never,
}

impl Renewal {
    /// After `time`, if there is one.
    pub fn within(time: Option<Duration>) -> Self {
        time.map_or(Self::Never, |time| Self::At(Instant::now() + time))
    }
}

/// How it went.
pub enum How {
    Well,
    /// It runs, with keys until then.
    Runs(Renewal),
    /// It did not, which may pass.
    Badly(String),
    /// The job cannot be started, which may pass, and counts.
    NotStarted(String),
}

/// One step about one job.
pub struct Act {
    pub hands: Hands,
    pub table: Table,
    /// As it was when the step was decided.
    pub job: Job,
    /// Why it was not started last.
    pub why: String,
}

/// Of what worked, or may be tried again.
pub fn worked(done: Result<(), String>) -> How {
    done.map_or_else(How::Badly, |()| How::Well)
}

impl Act {
    /// Does `step` about the job and its container.
    pub async fn take(&mut self, step: Step, container: &str) -> How {
        if !self.hands.site.lease().may_act() {
            return How::Well;
        }
        let id = self.job.id.clone();
        let site = self.hands.site.clone();
        let noted = match step {
            Step::Wait => return How::Well,
            Step::Start => return self.start().await,
            Step::Judge => return self.judge(container).await,
            Step::Tell => return self.tell().await,
            Step::Ask => return worked(site.ask(&id, container).await),
            Step::Kill => return worked(site.kill(&id, container).await),
            Step::Remove => return worked(site.remove(&id, container).await),
            Step::Claim => self.table.claim(&id, &self.hands.host).await,
            Step::Halt(why) => self.table.halt(&id, why).await,
            Step::Drop => return self.close(Status::Cancelled, Some("cancelled"), None).await,
            Step::Lost => {
                let why = "its container has gone while it ran, and what it had done with it";
                return self.close(Status::Failed, Some(why), None).await;
            }
            Step::GiveUp => {
                let why = format!("it could not be started, {TRIES} times: {}", self.why);
                return self.close(Status::Failed, Some(&why), None).await;
            }
        };
        self.noted(noted)
    }

    fn noted(&self, noted: Result<bool, Failed>) -> How {
        noted.map_or_else(|failed| self.failed(&failed), |_| How::Well)
    }

    fn failed(&self, failed: &Failed) -> How {
        How::Badly(self.table.why(failed))
    }

    async fn start(&mut self) -> How {
        let whole = match self.table.whole(&self.job.id).await {
            Ok(Some(whole)) => whole,
            Ok(None) => return How::Well,
            Err(failed) => return self.failed(&failed),
        };
        let bot = match document::bot(&whole) {
            Ok(bot) => bot,
            Err(why) => return self.close(Status::Failed, Some(&why), None).await,
        };
        let site = self.hands.site.clone();
        let made = match site.make(&bot, self.job.container.as_deref()).await {
            Ok(made) => made,
            Err(not) => return self.not_started(not).await,
        };
        match self
            .table
            .begin(&self.job.id, self.job.starts, &made.id)
            .await
        {
            Ok(true) => {}
            Ok(false) => {
                if !made.is_kept {
                    site.take_back(&self.job.id, &made).await;
                }
                return How::Well;
            }
            // It stays made; whether it has begun is seen at the next look.
            Err(failed) => return self.failed(&failed),
        }
        match site.begin(&self.job.id, &made).await {
            Ok(()) => {
                let text = format!("job {} runs", self.job.id);
                site.console().say(&text);
                How::Runs(Renewal::within(made.renew_in))
            }
            Err(not) => self.not_started(not).await,
        }
    }

    async fn not_started(&mut self, not: NotStarted) -> How {
        match not.outcome {
            Outcome::Refused => self.close(Status::Failed, Some(&not.why), None).await,
            Outcome::Busy | Outcome::Stopped => How::Badly(not.why),
            // A store that is away says nothing about the job.
            _ if self.hands.site.keys().ready().is_err() => How::Badly(not.why),
            _ => How::NotStarted(not.why),
        }
    }

    async fn judge(&mut self, container: &str) -> How {
        let settings = self.hands.settings.clone();
        let left = match self
            .hands
            .site
            .left(&self.job.id, container, settings.most)
            .await
        {
            Ok(Some(left)) => left,
            Ok(None) => return How::Well,
            Err(why) => return How::Badly(why),
        };
        let verdict = judge(
            &left,
            Terms {
                halt: self.job.halt,
                seconds: settings.time.as_secs(),
                most: settings.most,
            },
        );
        let key = format!("{}/result.json", self.job.id);
        if let Err(why) = self.upload(&key, &verdict).await {
            return How::Badly(format!("its result is not in the store ({why})"));
        }
        self.close(verdict.status, verdict.error.as_deref(), Some(&key))
            .await
    }

    async fn upload(&self, key: &str, verdict: &verdict::Verdict) -> Result<(), String> {
        let key: ObjectKey = key.parse().map_err(|_| "its id is no key".to_owned())?;
        let (store, bucket) = (self.hands.store.clone(), self.hands.settings.bucket.clone());
        let content = verdict.result.clone();
        let put = move || store.put_result(&bucket, &key, &content);
        let done = tokio::task::spawn_blocking(put).await;
        let done = done.map_err(|err| err.to_string())?;
        done.map_err(|err| err.to_string())
    }

    async fn close(&mut self, status: Status, error: Option<&str>, key: Option<&str>) -> How {
        match self.table.close(&self.job.id, status, error, key).await {
            Err(failed) => self.failed(&failed),
            Ok(is_first) => {
                if is_first {
                    let why = error.map_or(String::new(), |why| format!(": {why}"));
                    let text = format!("job {} {}{why}", self.job.id, status.name());
                    self.hands.site.console().say(&text);
                }
                How::Well
            }
        }
    }

    async fn tell(&mut self) -> How {
        let Some(office) = &self.hands.office else {
            return How::Well;
        };
        if let Err(why) = office.tell(&self.job).await {
            return How::Badly(format!("its end is not told over nats ({why})"));
        }
        let told = self.table.told(&self.job.id).await;
        self.noted(told)
    }
}
