//! A schedule becomes a CronJob: the cluster's own clock starts its ticks, also while no controller runs. Pure.
//!
//! ```text
//! CronJob ── a tick ──▶ Job NAME-MINUTES ──▶ a Pod like any of a tick, with our finalizer: its end waits for a controller
//! ```
//!
//! The Job's name has the tick, so the API server refuses a second one. Its Pod is never replaced: a tick runs once. The
//! Secrets are the CronJob's and not a Pod's: their names change with what the bot is told, so what was started before an
//! edit keeps what it was started with.
//!
//! A new one is made suspended, and switched on when its agent still has the lease after that. So one that comes late, of an
//! agent that stood still, starts nothing: whoever acts then removes it first.

use std::time::SystemTime;

use contract::record::Time;
use contract::{BotId, Digest, ObjectKey};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::names::{self, annotation};
use super::pod;
use super::secret;
use super::template::Template;
use crate::document::Bot;
use crate::engine::bounds::Refused;
use crate::engine::keys::Granted;
use crate::history::Start;
use crate::history::cause::Cause;
use crate::schedule::ledger::Key;
use crate::schedule::timetable::{Seconds, Timetable};

/// Seconds that a Job which has ended stays, where its CronJob does not remove it before.
const KEPT: i32 = 3600;
/// Seconds beyond its limit that a run has where no controller ends it.
const SPARE: i64 = 300;
/// Ended Jobs of each kind that a CronJob keeps.
const LISTED: i32 = 1;

/// A CronJob, as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// Its name.
    pub name: String,
    /// What tells it from every other of that name.
    pub uid: String,
    /// Its last version: deleting it on condition of this one tells whether it has started something meanwhile.
    pub version: String,
    /// When it was made: it starts the ticks after that.
    pub since: Seconds,
    /// The digest of what it was made of.
    pub digest: String,
    /// Its times.
    pub schedule: String,
    /// The names of its Secrets.
    pub secrets: Option<secret::Names>,
    /// The code bundle's key.
    pub code: Option<ObjectKey>,
    /// Whether it starts ticks: one that was not switched on does not.
    pub is_on: bool,
    /// Whether it is being removed.
    pub is_ending: bool,
}

impl There {
    /// What a CronJob tells, if it is the stack's.
    pub fn of(template: &Template, cron: &CronJob) -> Option<(BotId, Self)> {
        let meta = &cron.metadata;
        let bot = names::bot_of(&template.stack, meta)?;
        let spec = cron.spec.as_ref()?;
        let made = meta.creation_timestamp.as_ref()?;
        let since = SystemTime::from(made.0).duration_since(SystemTime::UNIX_EPOCH);
        let inner = spec.job_template.spec.as_ref()?.template.spec.as_ref();
        let there = Self {
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            version: meta.resource_version.clone()?,
            since: since.ok()?.as_secs().cast_signed(),
            digest: annotation(meta, names::SUM),
            schedule: spec.schedule.clone(),
            secrets: inner.and_then(secret::names_in),
            code: annotation(meta, names::CODE).parse().ok(),
            is_on: spec.suspend != Some(true),
            is_ending: meta.deletion_timestamp.is_some(),
        };
        Some((bot, there))
    }

    /// Whether it is an earlier word on the same one.
    pub fn is_older(&self, than: &Self) -> bool {
        let number = |there: &Self| there.version.parse::<u64>().ok();
        self.uid == than.uid && number(self) < number(than)
    }
}

/// The digest of the CronJob that a bot has whose times are `schedule`.
///
/// # Errors
/// Its Pod cannot be.
pub fn digest(bot: &Bot, template: &Template, schedule: &str) -> Result<String, Refused> {
    cronjob(bot, template, schedule).map(|cron| annotation(&cron.metadata, names::SUM))
}

/// Why its Pods are made. There is nothing in it that differs from tick to tick.
fn start() -> Start {
    Start {
        cause: Cause::Tick,
        because: None,
        at: Time::from(SystemTime::UNIX_EPOCH),
        tick: None,
    }
}

/// The CronJob of the bot whose times are `schedule`, five fields in UTC.
///
/// # Errors
/// The bot asks for more than it may have, or its supervisor would refuse it.
pub fn cronjob(bot: &Bot, template: &Template, schedule: &str) -> Result<CronJob, Refused> {
    let Pod { metadata, spec, .. } = pod::pod(bot, template, &start())?;
    let policy = bot
        .timetable
        .as_ref()
        .map(|timetable: &Timetable| timetable.policy);
    let policy = policy.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    // When a Pod was made tells when its run began.
    annotations.remove(names::BEGAN);
    let job = JobSpec {
        backoff_limit: Some(0),
        active_deadline_seconds: Some(policy.time_limit.saturating_add(SPARE)),
        ttl_seconds_after_finished: Some(KEPT),
        pod_replacement_policy: Some("Failed".to_owned()),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: metadata.labels.clone(),
                annotations: Some(annotations.clone()),
                finalizers: metadata.finalizers,
                ..ObjectMeta::default()
            }),
            spec,
        },
        ..JobSpec::default()
    };
    let spec = CronJobSpec {
        schedule: schedule.to_owned(),
        time_zone: Some("Etc/UTC".to_owned()),
        concurrency_policy: Some("Forbid".to_owned()),
        starting_deadline_seconds: policy.deadline(),
        successful_jobs_history_limit: Some(LISTED),
        failed_jobs_history_limit: Some(LISTED),
        job_template: JobTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: metadata.labels.clone(),
                ..ObjectMeta::default()
            }),
            spec: Some(job),
        },
        ..CronJobSpec::default()
    };
    let text = serde_json::to_string(&spec).unwrap_or_default();
    let sum = Digest::from_bytes(Sha256::digest(text).into());
    annotations.insert(names::SUM.to_owned(), sum.as_str().to_owned());
    Ok(CronJob {
        metadata: ObjectMeta {
            name: Some(names::schedule(&template.stack, &bot.id)),
            labels: metadata.labels,
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    })
}

/// The same as it is written: a new one, without `before`, does nothing yet; another is changed only while it is as it was
/// seen, so what comes late of an agent that stood still changes nothing.
///
/// # Errors
/// As [`cronjob`].
pub fn written(
    bot: &Bot,
    template: &Template,
    schedule: &str,
    before: Option<&There>,
) -> Result<CronJob, Refused> {
    let mut cron = cronjob(bot, template, schedule)?;
    cron.metadata.uid = before.map(|there| there.uid.clone());
    cron.metadata.resource_version = before.map(|there| there.version.clone());
    if let Some(spec) = &mut cron.spec {
        spec.suspend = Some(before.is_none());
    }
    Ok(cron)
}

/// What switches on the one that is as it was seen.
pub fn on(there: &There) -> Value {
    json!({
        "metadata": {"uid": there.uid, "resourceVersion": there.version},
        "spec": {"suspend": false},
    })
}

/// The Secrets of its Pods.
pub fn secrets(bot: &Bot, template: &Template, granted: &Granted) -> [Secret; 2] {
    secret::secrets(bot, template, &start(), &granted.keys, None)
}

/// The tick that a Pod was made for whose Job a CronJob has made: the Job's name ends with its minute.
pub fn tick(meta: &ObjectMeta) -> Option<Key> {
    let (_, minutes) = names::job_of(meta)?.rsplit_once('-')?;
    let minutes: Seconds = minutes.parse().ok()?;
    Some(Key {
        at: minutes.checked_mul(60)?,
        attempt: Key::CLUSTERS,
    })
}

#[cfg(test)]
#[path = "cronjob/tests.rs"]
mod tests;
