//! A job's Pod: built and hardened as a bot's, run once, with a Secret of its own that goes with it.
//!
//! ```text
//! Pod behind a gate ─▶ its Secret ─▶ written down: it begins ─▶ the gate is opened ─▶ over ─▶ judged ─▶ let go
//! ```
//!
//! It ensures that a job's program is started at most once. A Job of Kubernetes' own cannot promise that: it makes another
//! Pod for one that it does not see any more, and may make two (so its own documentation). So a job is one bare Pod whose
//! name is made of stack and job. The API server refuses a second one, a gate keeps it from being scheduled before it is
//! written down that it begins, and one that was not let go is only replaced if nobody has opened its gate meanwhile, which
//! the API server decides. Our finalizer keeps it until its end is known, also when somebody deletes it.
//!
//! Nobody can look into a Pod that has ended: its `sync` puts the result beside the bot's objects
//! ([`contract::result::LEFT`]) and says in its last words what became of it. It is removed with the Pod.

mod pod;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use contract::record::{Sent, Time};
use contract::{BotId, ObjectKey, Secret};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, Preconditions};
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub use self::pod::Terms;
use super::access::Access;
use super::containers::BOT;
use super::link::ANSWER;
use super::refusal::{has_status, not_started, or_gone};
use super::undo::{discard, others};
use super::work::{answer, is_gone, patching, post, term, told};
use super::{keys, names, secret};
use crate::document::Bot;
use crate::engine::keys::Granted;
use crate::engine::not_started::NotStarted;
use crate::engine::stack::Stack;
use crate::jobs::decide::Container;
use crate::jobs::site::{Made, Seen};
use crate::jobs::verdict::{Found, Left};
use crate::place::Pods;
use crate::plan::Outcome;
use crate::store::Store;

/// Bytes of a result that an agent carries, whatever it may have now.
const LARGEST: usize = 256 << 20;
/// Seconds that a Pod has that is not asked any more.
const NOW: u32 = 1;
/// What is said while nothing is known.
const AWAY: &str = "the API server does not answer";

/// Where the jobs of a stack are Pods.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// The cluster, the lease, the console.
    pub access: Access,
    /// Where results wait.
    pub store: Store,
    /// In which bucket: that of states.
    pub bucket: String,
    /// What holds for each.
    pub terms: Terms,
}

impl Jobs {
    /// The Pods of the stack's jobs.
    ///
    /// # Errors
    /// The API server does not answer; its words.
    pub async fn list(&self) -> Result<HashMap<BotId, Seen>, String> {
        if !self.access.gate.is_passable() {
            return Err(AWAY.to_owned());
        }
        let stack = &self.access.template.stack;
        let params = ListParams::default().labels(&names::jobs(stack));
        let pods = told(self.access.pods().list(&params)).await?;
        let now = SystemTime::now();
        let seen = pods.items.iter().filter_map(|pod| {
            let id = pod.uid()?;
            let container = seen::container(pod, now);
            Some((
                names::whose_job(stack, &pod.metadata)?,
                Seen { id, container },
            ))
        });
        Ok(seen.collect())
    }

    /// Makes the job's Pod behind its gate, in the place of one that was made and not let go. One that was `noted` when the
    /// job began stays: without it the job's Pod would count as gone, and the job as failed.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn make(&self, job: &Bot, noted: Option<&str>) -> Result<Made, NotStarted> {
        if let Some(made) = self.keep(job, noted).await? {
            return Ok(made);
        }
        let (access, template) = (&self.access, &self.access.template);
        let name = pod::secret_name(&template.stack, &job.id);
        let wanted = pod::pod(job, template, self.terms, &name)?;
        let granted = access.keys.grant(job).await?;
        access.may_act()?;
        let made = self.create(&job.id, &wanted).await?;
        let secret = pod::secret(job, template, &name, &granted.keys, &made);
        let secrets = access.secrets();
        // Without it the Pod stays behind its gate, and makes way for the next one.
        answer("make its Secret", secrets.create(&post(), &secret)).await?;
        Ok(Made {
            id: made.uid().unwrap_or_default(),
            is_kept: false,
            renew_in: self.due(&granted),
            document: Secret::new(""),
        })
    }

    /// The Pod with this id, if its gate is shut, with new keys.
    async fn keep(&self, job: &Bot, id: Option<&str>) -> Result<Option<Made>, NotStarted> {
        let Some(id) = id else { return Ok(None) };
        let not = |said: String| {
            let why = format!("the Pod that it has already: {said}");
            NotStarted::new(Outcome::Failed, why)
        };
        let found = self.find(&job.id, id).await.map_err(not)?;
        let is_made = |pod: &Pod| seen::container(pod, SystemTime::now()) == Container::Made;
        let Some(pod) = found.filter(is_made) else {
            return Ok(None);
        };
        let granted = self.access.keys.grant(job).await?;
        self.access.may_act()?;
        self.put_keys(&pod, &granted).await.map_err(not)?;
        Ok(Some(Made {
            id: id.to_owned(),
            is_kept: true,
            renew_in: self.due(&granted),
            document: Secret::new(""),
        }))
    }

    async fn create(&self, job: &BotId, wanted: &Pod) -> Result<Pod, NotStarted> {
        let what = "make its Pod";
        let pods = self.access.pods();
        for _ in 0..2 {
            match timeout(ANSWER, pods.create(&post(), wanted)).await {
                Ok(Ok(made)) => return Ok(made),
                Ok(Err(err)) if has_status(&err, 409) => self.make_way(job).await?,
                Ok(Err(err)) => return Err(not_started(what, &err)),
                Err(_) => {
                    let why = format!("{what}: the API server did not answer in time");
                    return Err(NotStarted::new(Outcome::Failed, why));
                }
            }
        }
        let why = "its Pod's name is taken again and again";
        Err(NotStarted::new(Outcome::Busy, why))
    }

    /// Removes what has the name, if it is this job's and was never let go.
    async fn make_way(&self, job: &BotId) -> Result<(), NotStarted> {
        let stack = &self.access.template.stack;
        let name = names::job(stack, job);
        let pods = self.access.pods();
        let there = answer("look at what has its name", pods.get_opt(&name)).await?;
        let Some(there) = there else { return Ok(()) };
        if names::whose_job(stack, &there.metadata).as_ref() != Some(job) {
            let why = format!("a Pod {name} is there that is not this agent's: remove it");
            return Err(NotStarted::new(Outcome::Failed, why));
        }
        if seen::container(&there, SystemTime::now()) != Container::Made {
            return Err(NotStarted::new(Outcome::Busy, "it was started meanwhile"));
        }
        let removed = told(discard(&self.access, &there)).await;
        removed.map_err(|said| {
            let why = format!("remove the Pod that was made before: {said}");
            NotStarted::new(Outcome::Busy, why)
        })
    }

    /// Opens the gate of what was made.
    ///
    /// # Errors
    /// It does not run, or nobody knows.
    pub async fn begin(&self, job: &BotId, made: &Made) -> Result<(), NotStarted> {
        self.access.may_act()?;
        let open = json!({"spec": {"schedulingGates": []}, "metadata": {"uid": made.id}});
        let (pods, name) = (self.access.pods(), self.name(job));
        let (params, open) = (patching(), Patch::Merge(&open));
        let opened = answer("start its Pod", pods.patch(&name, &params, &open)).await;
        opened.map(drop)
    }

    /// When keys that were just given are made anew: while they are good for a whole end of a Pod, if they can be.
    fn due(&self, granted: &Granted) -> Option<Duration> {
        term(granted).due(self.access.template.grace())
    }

    /// Puts new keys where the job's `sync` reads them; in what time it needs the next, if ever.
    ///
    /// # Errors
    /// The store gives none, or the API server does not take them; for a person.
    pub async fn renew(&self, job: &Bot, id: &str) -> Result<Option<Duration>, String> {
        let Some(pod) = self.find(&job.id, id).await? else {
            return Ok(None);
        };
        let granted = self.access.keys.grant(job).await.map_err(|not| not.why)?;
        self.put_keys(&pod, &granted).await?;
        Ok(self.due(&granted))
    }

    async fn put_keys(&self, pod: &Pod, granted: &Granted) -> Result<(), String> {
        let secret = secret_of(pod).ok_or("its Pod names no Secret of keys")?;
        let renewal = secret::renewal(&granted.keys);
        let secrets = self.access.secrets();
        told(secrets.patch(&secret, &patching(), &Patch::Merge(&renewal))).await?;
        // Without it the kubelet brings them when it next looks at the Pod, in a minute or two.
        let now = Time::now().to_string();
        let marked = json!({"metadata": {"uid": pod.uid(), "annotations": {names::RENEWED: now}}});
        let (pods, name) = (self.access.pods(), pod.name_any());
        let marked = Patch::Merge(&marked);
        let _ = told(pods.patch(&name, &patching(), &marked)).await;
        Ok(())
    }

    /// Gives a Pod that is to end keys that are good for all of that, and its kubelet the time to bring them.
    async fn give_last(&self, job: &BotId, pod: &Pod) -> Result<(), String> {
        let code = names::annotation(&pod.metadata, names::CODE).parse();
        let code: ObjectKey = code.map_err(|_| "its Pod names no code")?;
        keys::within(async {
            self.access.keys.ready().map_err(|not| not.why)?;
            let granted = self.access.keys.grant_for(job, &code).await;
            let granted = granted.map_err(|not| not.why)?;
            if granted.good_for.is_some() {
                self.put_keys(pod, &granted).await?;
            }
            Ok(term(&granted))
        })
        .await
        .map(drop)
    }

    /// Takes back what was made.
    pub async fn take_back(&self, job: &BotId, made: &Made) {
        // What stays is found by the next listing.
        if let Ok(Some(pod)) = self.find(job, &made.id).await
            && seen::container(&pod, SystemTime::now()) == Container::Made
        {
            let _ = told(discard(&self.access, &pod)).await;
        }
    }

    /// Removes a job's Pod with all that it has, or ends it first.
    ///
    /// # Errors
    /// The words of the API server, or of the store.
    pub async fn remove(&self, job: &BotId, id: &str) -> Result<(), String> {
        let Some(pod) = self.find(job, id).await? else {
            return Ok(());
        };
        if seen::container(&pod, SystemTime::now()) == Container::Made {
            return told(discard(&self.access, &pod)).await;
        }
        if !seen::is_over(&pod, SystemTime::now()) {
            return self.delete(&pod, Some(NOW)).await;
        }
        let key = left_of(job)?;
        let bucket = self.bucket.clone();
        self.at_store(move |store| store.remove_result(&bucket, &key))
            .await?;
        let free = json!({"metadata": {"uid": id, "finalizers": others(&pod)}});
        let (pods, name) = (self.access.pods(), pod.name_any());
        let freed = async {
            match pods.patch(&name, &patching(), &Patch::Merge(&free)).await {
                Err(err) if !is_gone(&err) => Err(err),
                _ => Ok(()),
            }
        };
        told(freed).await?;
        self.delete(&pod, Some(0)).await?;
        // Kubernetes removes it too, later.
        if let Some(secret) = secret_of(&pod) {
            let (secrets, params) = (self.access.secrets(), DeleteParams::default());
            let gone = async { or_gone(secrets.delete(&secret, &params).await) };
            told(gone).await?;
        }
        Ok(())
    }

    /// Tells it to end; its `sync` has a Pod's whole time to save, and keys for that.
    ///
    /// # Errors
    /// The API server's words.
    pub async fn ask(&self, job: &BotId, id: &str) -> Result<(), String> {
        let Some(pod) = self.find(job, id).await? else {
            return Ok(());
        };
        if pod.metadata.deletion_timestamp.is_none()
            && let Err(why) = self.give_last(job, &pod).await
        {
            let text =
                format!("job {job}: its keys are not renewed ({why}): it ends with those it has");
            self.access.console.warn(&text);
        }
        self.delete(&pod, None).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// The API server's words.
    pub async fn kill(&self, job: &BotId, id: &str) -> Result<(), String> {
        match self.find(job, id).await? {
            Some(pod) => self.delete(&pod, Some(NOW)).await,
            None => Ok(()),
        }
    }

    async fn delete(&self, pod: &Pod, grace: Option<u32>) -> Result<(), String> {
        let only = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: grace,
            preconditions: Some(only),
            ..DeleteParams::default()
        };
        let (pods, name) = (self.access.pods(), pod.name_any());
        let deleted = async {
            match pods.delete(&name, &params).await {
                Err(err) if !is_gone(&err) => Err(err),
                _ => Ok(()),
            }
        };
        told(deleted).await
    }

    /// What a Pod that has ended left; `None` when it is gone or runs. A result has at most `most` bytes.
    ///
    /// # Errors
    /// The API server does not answer, or the store.
    pub async fn left(&self, job: &BotId, id: &str, most: u64) -> Result<Option<Left>, String> {
        let Some(pod) = self.find(job, id).await? else {
            return Ok(None);
        };
        let now = SystemTime::now();
        if seen::container(&pod, now) != Container::Over {
            return Ok(None);
        }
        let (mut left, sent) = seen::left(&pod);
        if sent == Some(Sent::Whole) {
            left.found = self.bring(job, most).await?;
        }
        Ok(Some(left))
    }

    async fn bring(&self, job: &BotId, most: u64) -> Result<Found, String> {
        let (bucket, key) = (self.bucket.clone(), left_of(job)?);
        let found = self.at_store(move |store| store.result(&bucket, &key, LARGEST));
        Ok(match found.await? {
            None => Found::Unsaved,
            Some(content) if content.len() as u64 > most => Found::TooLarge,
            Some(content) => Found::Content(content),
        })
    }

    /// The job's Pod, if it is the one of this unique id.
    async fn find(&self, job: &BotId, id: &str) -> Result<Option<Pod>, String> {
        let (pods, name) = (self.access.pods(), self.name(job));
        let found = told(pods.get_opt(&name)).await?;
        Ok(found.filter(|pod| pod.uid().as_deref() == Some(id)))
    }

    fn name(&self, job: &BotId) -> String {
        names::job(&self.access.template.stack, job)
    }

    /// Does what blocks.
    async fn at_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, crate::store::StoreError> + Send + 'static,
    ) -> Result<T, String> {
        let store = self.store.clone();
        let asked = spawn_blocking(move || ask(&store)).await;
        asked
            .map_err(|err| err.to_string())?
            .map_err(|err| err.to_string())
    }
}

fn left_of(job: &BotId) -> Result<ObjectKey, String> {
    ObjectKey::ours(job, contract::result::LEFT).map_err(|err| err.to_string())
}

fn secret_of(pod: &Pod) -> Option<String> {
    let mut volumes = pod.spec.as_ref()?.volumes.as_ref()?.iter();
    volumes.find_map(|volume| volume.secret.as_ref()?.secret_name.clone())
}

/// What the job's program has printed so far; `None` when there is no Pod of it.
pub async fn printed(place: &Pods, job: &BotId) -> Option<Vec<u8>> {
    let stack: Stack = place.stack.parse().ok()?;
    let client = super::connect().await.ok()?.0;
    let pods: kube::Api<Pod> = kube::Api::namespaced(client, &place.namespace);
    let params = LogParams {
        container: Some(BOT.to_owned()),
        ..LogParams::default()
    };
    let text = pods.logs(&names::job(&stack, job), &params).await;
    text.ok().map(String::into_bytes)
}
