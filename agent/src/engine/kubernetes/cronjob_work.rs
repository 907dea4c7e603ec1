//! What is done about CronJobs. Each step can fail or be cut off, and its agent can stand still before it: the next one finds
//! what is there, and what comes late changes nothing ([`super::times`]).

use std::collections::BTreeSet;
use std::time::Duration;

use contract::BotId;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Error, ResourceExt};

use super::access::Access;
use super::cronjob::{self, There};
use super::keys::Term;
use super::refusal::{has_status, or_gone};
use super::work::{MANAGER, age, answer, patching, term, told};
use super::{names, pages, secret};
use crate::document::Bot;
use crate::engine::not_started::NotStarted;
use crate::plan::Outcome;

/// A Job of a CronJob that is not there, of which nothing runs, is left behind when it is so old: that is longer than a Job
/// and a CronJob take to be seen.
pub const LEFT: Duration = Duration::from_secs(30);

/// Makes the CronJob, or makes the one of `before` what it should be; gives it as it is then, and the life of its keys.
///
/// # Errors
/// It is not as it should be.
pub async fn apply(
    access: &Access,
    bot: &Bot,
    schedule: &str,
    before: Option<&There>,
) -> Result<(Box<There>, Term), NotStarted> {
    access.keys.ready()?;
    let wanted = cronjob::written(bot, &access.template, schedule, before)?;
    let granted = access.keys.grant(bot).await?;
    let secrets = cronjob::secrets(bot, &access.template, &granted);
    access.may_act()?;
    let params = PatchParams::apply(MANAGER).force();
    for secret in &secrets {
        let (api, name): (_, String) = (access.secrets(), secret.name_any());
        let whole: Patch<&Secret> = Patch::Apply(secret);
        answer("make its Secret", api.patch(&name, &params, &whole)).await?;
    }
    access.may_act()?;
    let (api, name, whole) = (access.cronjobs(), wanted.name_any(), Patch::Apply(&wanted));
    let made = answer("make its CronJob", api.patch(&name, &params, &whole)).await?;
    let mut there = seen(access, &made)?;
    if !there.is_on {
        // Whoever acts otherwise removes it.
        access.may_act()?;
        let on = cronjob::on(&there);
        let (params, on) = (patching(), Patch::Merge(&on));
        let made = answer("switch its CronJob on", api.patch(&name, &params, &on)).await?;
        there = seen(access, &made)?;
    }
    if !there.is_on || there.schedule != schedule {
        let why = "something in the cluster (a webhook?) has changed its CronJob as it was made";
        return Err(NotStarted::new(Outcome::Failed, why));
    }
    Ok((Box::new(there), term(&granted)))
}

fn seen(access: &Access, made: &CronJob) -> Result<There, NotStarted> {
    let why = "its CronJob is not as it was made";
    let there = There::of(&access.template, made).map(|(_, there)| there);
    there.ok_or_else(|| NotStarted::new(Outcome::Failed, why))
}

/// Removes the CronJob, if it is as it was seen; what it has started goes on.
///
/// # Errors
/// What the API server says: it has started something, say.
pub async fn remove(access: &Access, there: &There) -> Result<(), String> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(there.uid.clone()),
            resource_version: Some(there.version.clone()),
        }),
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    let api = access.cronjobs();
    let deleted = async {
        match api.delete(&there.name, &params).await {
            Err(err) if !has_status(&err, 404) => Err(err),
            _ => Ok(()),
        }
    };
    told(deleted).await
}

/// Removes the Jobs of the bot of which nothing is under way, when its CronJob is gone: one whose Pod was refused would make
/// it at any later time. What is under way is known by its Pod.
///
/// # Errors
/// What the API server says: one has just started something, say.
pub async fn remove_jobs(access: &Access, bot: &BotId) -> Result<(), String> {
    let selector = names::of_bot(&access.template.stack, bot);
    for job in told(access.jobs().list(&ListParams::default().labels(&selector)))
        .await?
        .items
    {
        if is_idle(&job) {
            access.may_act().map_err(|not| not.why)?;
            told(remove_job(access, &job.name_any(), as_seen(&job))).await?;
        }
    }
    Ok(())
}

/// Removes old Jobs of the stack of which nothing is under way and that are of none of these CronJobs: an agent was killed
/// before it did.
pub async fn sweep(access: Access, kept: BTreeSet<String>) {
    let selector = names::selector(&access.template.stack);
    let params = ListParams::default().labels(&selector);
    let list = |params| {
        let jobs = access.jobs();
        async move { jobs.list(&params).await }
    };
    let left = |job: &Job| {
        let name = job.name_any();
        let of = name.rsplit_once('-').map_or("", |(of, _)| of);
        let is_old = age(&job.metadata).is_some_and(|age| age > LEFT);
        (is_idle(job) && is_old && !kept.contains(of)).then(|| (name, as_seen(job)))
    };
    // What cannot be listed now is at the next sweep.
    let Ok((jobs, _)) = pages::all(params, list, left).await else {
        return;
    };
    for (name, seen) in jobs {
        if access.may_act().is_ok() {
            let _ = told(remove_job(&access, &name, seen)).await;
        }
    }
}

/// Whether no Pod of it runs or waits, as its controller knows.
fn is_idle(job: &Job) -> bool {
    let status = job.status.as_ref();
    status.and_then(|status| status.active).unwrap_or(0) == 0
}

/// That it is as it was seen.
fn as_seen(job: &Job) -> Preconditions {
    Preconditions {
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
    }
}

/// Removes it as it was seen, with what Pod it has.
async fn remove_job(access: &Access, name: &str, seen: Preconditions) -> Result<(), Error> {
    let params = DeleteParams {
        preconditions: Some(seen),
        ..DeleteParams::background()
    };
    or_gone(access.jobs().delete(name, &params).await).map(drop)
}

/// Puts new keys where its Pods read them; gives their life.
///
/// # Errors
/// The store makes none, or the API server does not take them.
pub async fn renew(access: &Access, bot: &BotId, there: &There) -> Result<Term, String> {
    access.keys.ready().map_err(|not| not.why)?;
    let names = there.secrets.as_ref();
    let names = names.ok_or("its CronJob names no Secret of keys")?;
    let code = there.code.as_ref().ok_or("its CronJob names no code")?;
    let granted = access.keys.grant_for(bot, code).await;
    let granted = granted.map_err(|not| not.why)?;
    let renewal = secret::renewal(&granted.keys);
    let (api, patch) = (access.secrets(), Patch::Merge(&renewal));
    told(api.patch(&names.keys, &patching(), &patch)).await?;
    Ok(term(&granted))
}
