//! What is done on the cluster. Each step can fail or be cut off by the agent's own end, and the next one finds what is
//! there.
//!
//! ```text
//! keys ─▶ Secrets ─▶ Pod ──────────▶ the Secrets are made the Pod's
//!                     │ the name is taken
//!                     └▶ lives: adopt it      is over: wait until it is gone      not ours: refuse
//!                        was not let go: it makes way
//! ```
//!
//! A Pod behind its gate is removed only as it was seen last ([`super::undo`]): whoever opens the gate meanwhile has it run.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use contract::record::Time;
use contract::{BotId, ObjectKey};
use futures_util::future;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Error, ResourceExt};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::access::Access;
use super::keys::Term;
use super::link::ANSWER;
use super::refusal::{has_status, not_started, or_gone, said};
use super::seen::{Seen, Stage};
use super::{names, pages, pod, secret, undo};
use crate::document::Bot;
use crate::engine::keys::Granted;
use crate::engine::not_started::NotStarted;
use crate::history::Start;
use crate::plan::Outcome;
use crate::schedule::ledger::Key;

/// A Secret without a Pod is of a start that was cut off, if it is older than any start takes.
const ORPHAN: Duration = Duration::from_mins(10);

/// Who we are to the API server.
pub(super) const MANAGER: &str = "the0-agent";

/// A Pod that runs or will, and how we came to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// The Pod.
    pub seen: Seen,
    /// The life of its keys, where we have given them.
    pub keys: Term,
    /// Whether it was there already.
    pub is_found: bool,
}

/// Starts `bot`, for the reason `why`, or finds it running. What is left of its last Pod, `last`, makes way. `cancel` ends
/// the waiting for a turn.
///
/// # Errors
/// Why it does not run.
pub async fn start(
    access: &Access,
    bot: &Bot,
    why: &Start,
    last: Option<Seen>,
    cancel: oneshot::Receiver<()>,
) -> Result<Running, NotStarted> {
    let template = &access.template;
    access.keys.ready()?;
    let cancelled = || NotStarted::new(Outcome::Stopped, "told to stop before it was started");
    let _turn = tokio::select! {
        biased;
        _ = cancel => return Err(cancelled()),
        turn = access.starts.acquire() => turn,
    };
    let made = pod::pod(bot, template, why)?;
    let granted = access.keys.grant(bot).await?;
    let (stack, began) = (template.stack.as_str(), why.at.to_string());
    let token = access.keys.query_token(stack, &bot.id, &began);
    let secrets = secret::secrets(bot, template, why, &granted.keys, token.as_ref());
    access.may_act()?;
    if let Some(last) = last {
        let done = release(access, &last).await;
        done.map_err(|said| {
            NotStarted::new(Outcome::Failed, format!("remove its last Pod: {said}"))
        })?;
    }
    let made = match make_secrets(access, &secrets).await {
        Ok(()) => Box::pin(create(access, &bot.id, &made)).await,
        // One of both may be there.
        Err(not) => Created::Not(not),
    };
    if !matches!(made, Created::New(_) | Created::Unsure(_)) {
        let unused = names_in(&secrets);
        drop(tokio::spawn(remove_secrets(access.clone(), unused)));
    }
    let made = match made {
        Created::New(made) => *made,
        Created::Lives(seen) => return Ok(found(*seen)),
        Created::Not(why) | Created::Unsure(why) => return Err(why),
    };
    drop(tokio::spawn(own(
        access.clone(),
        names_in(&secrets),
        made.clone(),
    )));
    let made = match why.tick {
        None => made,
        Some(tick) => Box::pin(let_go(access, &bot.id, tick, made)).await?,
    };
    let gone = || NotStarted::new(Outcome::Failed, "its Pod is not as it was made");
    Ok(Running {
        seen: Seen::of(&template.stack, &made).ok_or_else(gone)?,
        keys: term(&granted),
        is_found: false,
    })
}

fn found(seen: Seen) -> Running {
    Running {
        seen,
        keys: Term {
            renew_in: None,
            good_for: None,
        },
        is_found: true,
    }
}

pub(super) fn term(granted: &Granted) -> Term {
    Term {
        renew_in: granted.renew_in,
        good_for: granted.good_for,
    }
}

pub(super) fn post() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        dry_run: false,
    }
}

pub(super) fn patching() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// A request's answer, within its time.
pub(super) async fn answer<T>(
    what: &str,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, NotStarted> {
    let late = || {
        let why = format!("{what}: the API server did not answer in time");
        NotStarted::new(Outcome::Failed, why)
    };
    let answered = timeout(ANSWER, asked).await.map_err(|_| late())?;
    answered.map_err(|err| not_started(what, &err))
}

/// The same of what is tried again, with the API server's own words.
pub(super) async fn told<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    let late = || "the API server did not answer in time".to_owned();
    let answered = timeout(ANSWER, asked).await.map_err(|_| late())?;
    answered.map_err(|err| said(&err))
}

async fn make_secrets(access: &Access, secrets: &[Secret; 2]) -> Result<(), NotStarted> {
    let (api, params) = (access.secrets(), post());
    let make = |secret| answer("make its Secret", api.create(&params, secret));
    let (one, other) = future::join(make(&secrets[0]), make(&secrets[1])).await;
    one.and(other).map(drop)
}

enum Created {
    New(Box<Pod>),
    Lives(Box<Seen>),
    /// It is not.
    Not(NotStarted),
    /// It may be all the same: the next listing tells, and then it needs its Secrets.
    Unsure(NotStarted),
}

async fn create(access: &Access, bot: &BotId, pod: &Pod) -> Created {
    let what = "make its Pod";
    for _ in 0..2 {
        match timeout(ANSWER, access.pods().create(&post(), pod)).await {
            Ok(Ok(made)) => return Created::New(Box::new(made)),
            Ok(Err(err)) if has_status(&err, 409) => {
                match there(access, bot, &pod.name_any()).await {
                    Ok(There::Lives(seen)) => return Created::Lives(seen),
                    Ok(There::MadeWay) => {}
                    Err(not) => return Created::Not(not),
                }
            }
            Ok(Err(err)) if is_no(&err) => return Created::Not(not_started(what, &err)),
            Ok(Err(err)) => return Created::Unsure(not_started(what, &err)),
            Err(_) => {
                let why = format!("{what}: the API server did not answer in time");
                return Created::Unsure(NotStarted::new(Outcome::Failed, why));
            }
        }
    }
    let why = "its Pod's name is given up and taken again";
    Created::Not(NotStarted::new(Outcome::Busy, why))
}

/// Whether what was to be made is not made, for certain: where the API server could not tell, its storage may have it.
fn is_no(err: &Error) -> bool {
    match err {
        Error::Api(status) => status.code < 500 || status.message.contains("webhook"),
        _ => false,
    }
}

/// What had the bot's name.
enum There {
    Lives(Box<Seen>),
    /// It was never let go, and is gone.
    MadeWay,
}

/// The Pod that has the bot's name, if it is the bot's and lives.
async fn there(access: &Access, bot: &BotId, name: &str) -> Result<There, NotStarted> {
    let api = access.pods();
    let there = answer("look at the Pod that has its name", api.get_opt(name)).await?;
    let not = |outcome, why: &str| Err(NotStarted::new(outcome, why));
    let Some(there) = there else {
        return not(Outcome::Busy, "its last Pod has just gone");
    };
    let seen = Seen::of(&access.template.stack, &there);
    let Some(seen) = seen.filter(|seen| seen.bot == *bot) else {
        let why = format!(
            "a Pod {name} is there that is not this agent's: remove it, or give this stack another name"
        );
        return not(Outcome::Failed, &why);
    };
    if seen.stage == Stage::Gated {
        access.may_act()?;
        let undone = undo::undo(access, &seen).await;
        let undone = undone.map_err(|said| {
            let why = format!("remove the Pod that was made for it before: {said}");
            NotStarted::new(Outcome::Busy, why)
        });
        return undone.map(|()| There::MadeWay);
    }
    if seen.is_live() && !seen.is_ending {
        return Ok(There::Lives(Box::new(seen)));
    }
    not(Outcome::Busy, "its last Pod is not gone yet")
}

/// The Pod of a tick may be started, once it is written that it is.
async fn let_go(access: &Access, bot: &BotId, tick: Key, made: Pod) -> Result<Pod, NotStarted> {
    let begun = async {
        access.may_act()?;
        access.permit(bot, tick).await?;
        let open = json!({"spec": {"schedulingGates": []}, "metadata": {"uid": made.uid()}});
        let (api, name, open) = (access.pods(), made.name_any(), Patch::Merge(&open));
        answer("start its Pod", api.patch(&name, &patching(), &open)).await
    };
    let begun = begun.await;
    match begun {
        Ok(pod) => Ok(pod),
        Err(mut not) => {
            // What does not run is not left behind; what does after all is found by the next listing.
            if let Some(seen) = Seen::of(&access.template.stack, &made)
                && release(access, &seen).await.is_err()
            {
                not.outcome = Outcome::Busy;
            }
            Err(not)
        }
    }
}

fn names_in(secrets: &[Secret; 2]) -> [String; 2] {
    [secrets[0].name_any(), secrets[1].name_any()]
}

/// The Secrets go with their Pod. One that cannot be told so goes when the Pod is seen to be gone.
async fn own(access: Access, secrets: [String; 2], pod: Pod) {
    let (api, params) = (access.secrets(), patching());
    let belongs = secret::belongs(&pod);
    let patch = Patch::Merge(&belongs);
    for name in &secrets {
        let _ = told(api.patch(name, &params, &patch)).await;
    }
}

pub(super) async fn remove_secrets(access: Access, secrets: [String; 2]) {
    let (api, params) = (access.secrets(), DeleteParams::default());
    for name in &secrets {
        let _ = told(api.delete(name, &params)).await;
    }
}

/// Only the Pod that is meant, and not another that has got its name.
fn just(seen: &Seen, grace: Option<u32>) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: grace,
        preconditions: Some(Preconditions {
            uid: Some(seen.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// Whether what was to be done needs no doing any more: it is gone, or another has its name.
pub(super) fn is_gone(err: &Error) -> bool {
    has_status(err, 404) || has_status(err, 409)
}

/// Tells a Pod to end.
///
/// # Errors
/// What the API server says.
pub async fn delete(access: &Access, seen: &Seen) -> Result<(), String> {
    let (api, params) = (access.pods(), just(seen, None));
    let deleted = async {
        match api.delete(&seen.name, &params).await {
            Err(err) if !is_gone(&err) => Err(err),
            _ => Ok(()),
        }
    };
    told(deleted).await
}

/// Lets go of a Pod of which nothing runs any more: our finalizer, then the Pod and its Secrets. One that was not let go to
/// run is undone.
///
/// # Errors
/// What the API server says.
pub async fn release(access: &Access, seen: &Seen) -> Result<(), String> {
    if seen.stage == Stage::Gated {
        return undo::undo(access, seen).await;
    }
    let api = access.pods();
    let others = seen.finalizers.iter().filter(|it| *it != names::SAVED);
    let others: Vec<&String> = others.collect();
    let free = json!({"metadata": {"uid": seen.uid, "finalizers": others}});
    let (params, free) = (patching(), Patch::Merge(&free));
    let gone = just(seen, Some(0));
    let released = async {
        end_job(access, seen).await?;
        match api.patch(&seen.name, &params, &free).await {
            Err(err) if is_gone(&err) => return Ok(()),
            Err(err) => return Err(err),
            Ok(_) => {}
        }
        match api.delete(&seen.name, &gone).await {
            Err(err) if !is_gone(&err) => Err(err),
            _ => Ok(()),
        }
    };
    told(released).await?;
    remove_own(access, seen).await;
    Ok(())
}

/// Removes the Secrets of a Pod that is gone, if nobody else has them.
pub(super) async fn remove_own(access: &Access, seen: &Seen) {
    let own = seen.secrets.clone().filter(|_| !seen.is_clocked());
    if let Some(secret::Names { config, keys }) = own {
        remove_secrets(access.clone(), [config, keys]).await;
    }
}

/// A Job makes another Pod in the place of one that has gone without its kubelet's word: the tick would run twice. Such a Job
/// goes first.
async fn end_job(access: &Access, seen: &Seen) -> Result<(), Error> {
    let Some(job) = seen.job.as_ref().filter(|_| !seen.is_final) else {
        return Ok(());
    };
    match access.jobs().delete(job, &DeleteParams::background()).await {
        Err(err) if !is_gone(&err) => Err(err),
        _ => Ok(()),
    }
}

/// Puts new keys where a Pod's `sync` reads them; gives their life.
///
/// # Errors
/// The store makes none, or the API server does not take them.
pub async fn renew(access: &Access, seen: &Seen, code: &ObjectKey) -> Result<Term, String> {
    let secrets = seen.secrets.as_ref();
    let secrets = secrets.ok_or("its Pod names no Secret of keys")?;
    let granted = access.keys.grant_for(&seen.bot, code).await;
    let granted = granted.map_err(|not| not.why)?;
    let renewal = secret::renewal(&granted.keys);
    let api = access.secrets();
    let (params, patch) = (patching(), Patch::Merge(&renewal));
    told(api.patch(&secrets.keys, &params, &patch)).await?;
    // Without it the kubelet brings them when it next looks at the Pod, in a minute or two.
    let marked = json!({"metadata": {
        "uid": seen.uid, "annotations": {names::RENEWED: Time::now().to_string()},
    }});
    let marked = Patch::Merge(&marked);
    let _ = told(access.pods().patch(&seen.name, &params, &marked)).await;
    Ok(term(&granted))
}

/// Removes Secrets of the stack that nothing uses: of starts that were cut off, and of Pods that are gone. `used` has the names
/// of those that are in use; those of `busy` bots are being written.
pub async fn sweep(access: Access, used: BTreeSet<String>, busy: BTreeSet<BotId>) {
    let stack = &access.template.stack;
    let api = &access.secrets();
    let params = ListParams::default().labels(&names::selector(stack));
    let list = |params| async move { api.list_metadata(&params).await };
    let left = |secret: &PartialObjectMeta<Secret>| {
        let meta = &secret.metadata;
        let is_busy = names::bot_of(stack, meta).is_some_and(|bot| busy.contains(&bot));
        let is_used = is_busy || is_owned(meta) || used.contains(meta.name.as_ref()?);
        let seen = Preconditions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
        };
        (is_old(meta) && !is_used).then(|| (secret.name_any(), seen))
    };
    let Ok((all, _)) = pages::all(params, list, left).await else {
        return;
    };
    for (name, seen) in all {
        // One that was written since it was listed has a use again.
        let params = DeleteParams {
            preconditions: Some(seen),
            ..DeleteParams::default()
        };
        let gone = told(async { or_gone(api.delete(&name, &params).await) });
        let _ = gone.await;
    }
}

/// Whether it is older than any start takes.
fn is_old(meta: &ObjectMeta) -> bool {
    age(meta).is_some_and(|age| age > ORPHAN)
}

/// How old it is.
pub(super) fn age(meta: &ObjectMeta) -> Option<Duration> {
    let made = meta.creation_timestamp.as_ref()?;
    SystemTime::from(made.0).elapsed().ok()
}

/// Whether Kubernetes removes it itself.
fn is_owned(meta: &ObjectMeta) -> bool {
    let owners = meta.owner_references.as_ref();
    owners.is_some_and(|owners| !owners.is_empty())
}

#[cfg(test)]
#[path = "work/tests.rs"]
mod tests;
