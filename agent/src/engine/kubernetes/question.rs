//! A Pod for one question: the bot's code and a copy of its last state, its query program run once, and what that answers
//! as an object of the store.
//!
//! ```text
//! keys ─▶ Secret ─▶ Pod: fetch ─▶ ask ─▶ send ─▶ the object is read ─▶ Pod, object and Secret are removed
//! ```
//!
//! It ensures: they go when there is an answer, when the time is over, and when whoever asked is gone. The Secret is made
//! first and removed last, and says what else there is to remove: what an agent that was killed has left is found by it,
//! and by the Pod, by the next agent ([`Questions::sweep`]). An object is removed when nobody writes it any more: its Pod is
//! gone by its kubelet's word, or has outlived by far the time that it had at most.

mod pod;
mod progress;
mod record;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, WatchEvent, WatchParams};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use self::pod::Asked;
use self::progress::Progress;
use self::record::Record;
use super::access::Access;
use super::names;
use super::refusal::or_gone;
use super::work::{answer, post, told};
use crate::ask::{LARGEST, Question};
use crate::document::Bot;
use crate::gateway::apart::NoAnswer;
use crate::store::{Store, StoreError};

/// So much sooner than whoever asks we tell why it took too long.
const SOONER: Duration = Duration::from_millis(20);
/// Seconds that a watch of a Pod lasts.
const WATCH: u32 = 60;
/// Between two tries of an API server that does not answer well.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a Pod may take to end that is told to.
const GOING: Duration = Duration::from_secs(20);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(250);
/// Seconds that programs get to end whose answer nobody waits for.
const GRACE: u32 = 1;
/// How long it is waited for Pods that are being removed when the agent ends.
const TO_END: Duration = Duration::from_secs(5);

/// What is said while nothing can be made.
const AWAY: &str =
    "the API server does not answer, and a bot that does not run is asked in a Pod of its own";
/// What is said of a Pod that somebody else has removed.
const GONE: &str = "its Pod was removed before there was an answer";

/// Asks; clones share what is known.
#[derive(Debug, Clone)]
pub struct Questions {
    access: Access,
    store: Store,
    /// The bucket of answers.
    bucket: String,
    /// The agent that it is for: its data folder's, which one agent has at a time.
    holder: String,
    /// Names of those that are needed.
    live: Arc<Mutex<HashSet<String>>>,
    /// One for each Pod that is there for a question, until it is removed.
    seats: Arc<Semaphore>,
    /// Whether the bucket was seen there.
    has_bucket: Arc<AtomicBool>,
    /// Whether something could not be removed since the last sweep.
    owes: Arc<AtomicBool>,
}

impl Questions {
    /// On the cluster of `access`, with answers by the `bucket` of `store`, for the agent that is `holder`; at most `most`
    /// at a time.
    pub fn new(access: &Access, store: Store, bucket: String, holder: String, most: usize) -> Self {
        Self {
            access: access.clone(),
            store,
            bucket,
            holder,
            live: Arc::default(),
            seats: Arc::new(Semaphore::new(most)),
            has_bucket: Arc::default(),
            owes: Arc::default(),
        }
    }

    /// Puts a question to the bot's code and a copy of its state; `left` is how long that may take. Gives what the query
    /// program has left as its result.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn put(
        &self,
        bot: &Bot,
        question: &Question,
        left: Duration,
    ) -> Result<Bytes, NoAnswer> {
        let seat = Arc::clone(&self.seats).try_acquire_owned();
        let seat = seat.map_err(|_| NoAnswer::Busy)?;
        let trouble = Mutex::new(None);
        let asking = Box::pin(self.ask(bot, question, left, seat, &trouble));
        if let Ok(answer) = timeout(left.saturating_sub(SOONER), asking).await {
            return Ok(answer?);
        }
        let trouble = trouble.into_inner();
        let trouble = trouble.unwrap_or_else(PoisonError::into_inner);
        Err(NoAnswer::Late(trouble))
    }

    /// `trouble` is what it waits for.
    async fn ask(
        &self,
        bot: &Bot,
        question: &Question,
        left: Duration,
        seat: OwnedSemaphorePermit,
        trouble: &Mutex<Option<String>>,
    ) -> Result<Bytes, String> {
        if !self.access.gate.is_passable() {
            return Err(AWAY.to_owned());
        }
        let template = &self.access.template;
        let asked = Asked::new(&template.stack, bot, &self.holder, SystemTime::now(), left)?;
        let made =
            pod::pod(bot, template, question, &asked, left).map_err(|err| err.to_string())?;
        let keys = &self.access.keys;
        let (read, send) = tokio::try_join!(
            keys.grant_to_read(bot, left),
            keys.grant_to_send(&bot.id, &asked.key, left)
        )
        .map_err(|not| not.why)?;
        self.need_bucket().await?;
        let secret = pod::secret(bot, template, question, &asked, [&read, &send]);
        // To its end, also if nobody waits for it meanwhile: what is half made is not found.
        let making = tokio::spawn(make(self.claim(asked.record(), seat), secret, made));
        let mut made = making.await.map_err(|err| err.to_string())??;
        let ended = self.follow(made.pod.clone(), trouble).await;
        // Somebody may have removed it.
        self.has_bucket.fetch_and(ended.is_ok(), Ordering::Relaxed);
        ended?;
        made.claim.record.is_over = true;
        self.bring(&made.claim.record).await
    }

    /// What is made under this name is needed; known before it is there.
    fn claim(&self, record: Record, seat: OwnedSemaphorePermit) -> Claim {
        self.live().insert(record.name.clone());
        Claim {
            questions: self.clone(),
            record,
            seat: Some(seat),
        }
    }

    async fn need_bucket(&self) -> Result<(), String> {
        if self.has_bucket.load(Ordering::Relaxed) {
            return Ok(());
        }
        let bucket = self.bucket.clone();
        self.at_store(move |store| store.make_bucket(&bucket))
            .await?;
        self.has_bucket.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until the Pod has sent its answer.
    async fn follow(&self, mut pod: Pod, trouble: &Mutex<Option<String>>) -> Result<(), String> {
        loop {
            if let Some(ended) = look(&pod, trouble) {
                return ended;
            }
            if let Some(ended) = self.hear(&pod, trouble).await {
                return ended;
            }
            sleep(AGAIN).await;
            match told(self.access.pods().get_opt(&pod.name_any())).await {
                Ok(found) => pod = found.ok_or(GONE)?,
                Err(why) => note(trouble, Some(why)),
            }
        }
    }

    /// How it has ended, if one watch tells it.
    async fn hear(&self, pod: &Pod, trouble: &Mutex<Option<String>>) -> Option<Result<(), String>> {
        let only = format!("metadata.name={}", pod.name_any());
        let params = WatchParams::default().fields(&only).timeout(WATCH);
        let version = pod.resource_version().unwrap_or_default();
        let changes = self.access.pods().watch(&params, &version).await.ok()?;
        let mut changes = std::pin::pin!(changes);
        while let Some(Ok(change)) = changes.next().await {
            match change {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    if let Some(ended) = look(&pod, trouble) {
                        return Some(ended);
                    }
                }
                WatchEvent::Deleted(_) => return Some(Err(GONE.to_owned())),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(_) => return None,
            }
        }
        None
    }

    async fn bring(&self, record: &Record) -> Result<Bytes, String> {
        let key = record.key.clone().ok_or("its answer has no name")?;
        let bucket = self.bucket.clone();
        let found = self.at_store(move |store| store.result(&bucket, &key, LARGEST));
        let found = found.await?;
        found
            .map(Bytes::from)
            .ok_or_else(|| format!("its answer is not in the bucket {}", self.bucket))
    }

    /// Does what blocks.
    async fn at_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, String> {
        let store = self.store.clone();
        let asked = spawn_blocking(move || ask(&store)).await;
        asked
            .map_err(|err| err.to_string())?
            .map_err(|err| err.to_string())
    }

    /// Waits until all are removed, as far as that goes.
    pub async fn end(&self) {
        let end = Instant::now() + TO_END;
        while !self.live().is_empty() && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Removes what nobody waits for: an agent was killed that had made it, or it could not be removed then. What is another
    /// agent's is left alone until its time is over. Gives how many there are of which that may come.
    ///
    /// # Errors
    /// What the API server says, or the store.
    pub async fn sweep(&self) -> Result<usize, String> {
        self.owes.store(false, Ordering::Relaxed);
        let selector = names::questions(&self.access.template.stack);
        let params = ListParams::default().labels(&selector);
        let secrets = self.access.secrets();
        let secrets = told(secrets.list_metadata(&params)).await?;
        let pods = told(self.access.pods().list(&params)).await?;
        let metas = secrets.items.iter().map(|secret| &secret.metadata);
        let all = record::all(metas, &pods.items);
        let (mut failed, mut left) = (None, 0);
        for record in all {
            let is_needed = self.live().contains(&record.name);
            left += usize::from(!is_needed);
            if record.is_left(&self.holder, is_needed, SystemTime::now()) {
                failed = self.remove(&record).await.err().or(failed);
            }
        }
        failed.map_or(Ok(left), Err)
    }

    /// Whether something could not be removed since the last sweep.
    pub fn owes(&self) -> bool {
        self.owes.load(Ordering::Relaxed)
    }

    /// Removes a Pod, its answer and its Secret, in this order.
    async fn remove(&self, record: &Record) -> Result<(), String> {
        let (pods, name) = (self.access.pods(), &record.name);
        let is_forced = record.is_over || record.is_overdue(SystemTime::now());
        let grace = if is_forced { 0 } else { GRACE };
        let params = DeleteParams::default().grace_period(grace);
        let mut is_gone = is_forced;
        let deleted = told(async { or_gone(pods.delete(name, &params).await) });
        is_gone |= deleted.await?.is_none();
        if !is_gone {
            let ends = async {
                while told(pods.get_metadata_opt(name)).await?.is_some() {
                    sleep(LOOK).await;
                }
                Ok::<_, String>(())
            };
            let ended = timeout(GOING, ends).await;
            ended.map_err(|_| format!("Pod {name} does not end"))??;
        }
        if let Some(key) = record.key.clone() {
            let bucket = self.bucket.clone();
            self.at_store(move |store| store.remove_result(&bucket, &key))
                .await?;
        }
        let (secrets, now) = (self.access.secrets(), DeleteParams::default());
        told(async { or_gone(secrets.delete(name, &now).await) })
            .await
            .map(drop)
    }

    fn live(&self) -> MutexGuard<'_, HashSet<String>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name for a question, and what is made under it, until this is dropped.
struct Claim {
    questions: Questions,
    record: Record,
    seat: Option<OwnedSemaphorePermit>,
}

/// A Pod that was made.
struct Made {
    claim: Claim,
    pod: Pod,
}

async fn make(claim: Claim, secret: Secret, pod: Pod) -> Result<Made, String> {
    let (access, params) = (&claim.questions.access, post());
    let (secrets, pods) = (access.secrets(), access.pods());
    let made = answer("make its Secret", secrets.create(&params, &secret)).await;
    made.map_err(|not| not.why)?;
    let made = answer("make its Pod", pods.create(&params, &pod)).await;
    let pod = made.map_err(|not| not.why)?;
    Ok(Made { claim, pod })
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (questions, record) = (self.questions.clone(), self.record.clone());
        let seat = self.seat.take();
        // What is not removed now is found by the next sweep.
        tokio::spawn(async move {
            if questions.remove(&record).await.is_err() {
                questions.owes.store(true, Ordering::Relaxed);
            }
            questions.live().remove(&record.name);
            drop(seat);
        });
    }
}

/// Whether it has ended, and how; what it waits for is noted.
fn look(pod: &Pod, trouble: &Mutex<Option<String>>) -> Option<Result<(), String>> {
    match progress::of(pod) {
        Progress::Going(waits) => {
            note(trouble, waits);
            None
        }
        Progress::Sent => Some(Ok(())),
        Progress::Failed(why) => Some(Err(why)),
    }
}

fn note(trouble: &Mutex<Option<String>>, now: Option<String>) {
    *trouble.lock().unwrap_or_else(PoisonError::into_inner) = now;
}
