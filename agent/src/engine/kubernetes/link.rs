//! The connection to the API server: whether it answers, what it has, what changes there.
//!
//! ```text
//! list ──▶ watch from there ──▶ its minute is over: watch on from the last version
//!   ▲         └─ too old, cut off, asked to look anew
//!   └─────────────┘
//! ```
//!
//! A watch tells every change in order after the list that it goes on from, so nothing is missed between two; whatever
//! breaks that order lists anew. With nothing to do, this makes one request a minute.
//!
//! What another runner of the platform has of bots is looked for at each listing and each 10 minutes, and each minute while
//! there is any.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, future};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Error};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use super::News;
use super::names;
use super::others::{self, Others};
use super::pages::{self, LOOK};
use super::refusal::{has_status, said};
use super::seen::Seen;
use crate::breaker::{Gate, Pace};
use crate::engine::remote::Clock;
use crate::engine::stack::Stack;

/// How an API server that does not answer is asked again.
pub const PACE: Pace = Pace {
    first: Duration::from_millis(250),
    longest: Duration::from_secs(8),
    patience: LOOK,
};
/// How often what another runner has is looked for.
const OTHERS: Duration = Duration::from_mins(10);
/// Seconds that a watch lasts.
pub const WATCH: u32 = 60;
/// A watch that lasts so long has lost its server.
pub const SILENT: Duration = Duration::from_secs(75);
/// Time for a request that changes something.
pub const ANSWER: Duration = Duration::from_secs(30);

/// What the namespace has.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The clock when it was asked for.
    pub begun: u64,
    /// The version of what there is: what is not among it, and not newer, is gone.
    pub version: u64,
    /// The stack's Pods.
    pub pods: Vec<Seen>,
    /// What another runner has.
    pub others: Others,
}

/// What is looked at.
#[derive(Debug)]
pub struct Source {
    /// The Pods.
    pub pods: Api<Pod>,
    /// The CronJobs.
    pub cronjobs: Api<CronJob>,
    /// Whose.
    pub stack: Stack,
    /// Numbers listings.
    pub clock: Clock,
    /// Makes the next listing come at once.
    pub again: Arc<Notify>,
    /// Whether the API server answers: nobody but this watch asks while it does not.
    pub gate: Gate,
}

/// Why a watch ended.
enum Over {
    /// Its time was over; the version to go on from.
    Time(String),
    /// It cannot be gone on with: list anew.
    Anew,
    /// The API server does not answer.
    Down(String),
}

/// Keeps looking until nobody hears it any more.
pub async fn watch(source: Source, news: UnboundedSender<News>) {
    while !news.is_closed() {
        // One try at a time: nobody else is there to be kept out.
        let _ = source.gate.enter();
        let why = follow(&source, &news).await;
        let Some(why) = why else { continue };
        let pause = source.gate.failed(&why);
        let _ = news.send(News::Down(why));
        tokio::time::sleep(pause).await;
    }
}

/// Lists, and follows what changes; gives why the API server does not answer, or `None` to list anew.
async fn follow(source: &Source, news: &UnboundedSender<News>) -> Option<String> {
    let begun = source.clock.now();
    let selector = names::selector(&source.stack);
    let look = || others::look(&source.pods, &source.cronjobs);
    let (listed, others) = future::join(list(source, &selector), look()).await;
    let (pods, mut version) = match listed {
        Ok(listed) => listed,
        Err(why) => return why,
    };
    let mut others = match others {
        Ok(others) => others,
        Err(why) => return Some(why),
    };
    source.gate.succeeded();
    let mut looked = Instant::now();
    let snapshot = Snapshot {
        begun,
        version: version.parse().unwrap_or(0),
        pods,
        others: others.clone(),
    };
    let _ = news.send(News::Listed(Box::new(snapshot)));
    loop {
        let watching = changes(source, &selector, version, news);
        tokio::select! {
            over = watching => match over {
                Over::Time(last) => {
                    version = last;
                    if !others.is_empty() || looked.elapsed() > OTHERS {
                        looked = Instant::now();
                        // What does not answer is told by the watch.
                        if let Ok(there) = look().await {
                            others = there;
                            let _ = news.send(News::Others(others.clone()));
                        }
                    }
                }
                Over::Anew => return None,
                Over::Down(why) => return Some(why),
            },
            () = source.again.notified() => return None,
            () = news.closed() => return None,
        }
    }
}

/// All Pods, as they were at one version, which is given, too; else as [`follow`].
async fn list(source: &Source, selector: &str) -> Result<(Vec<Seen>, String), Option<String>> {
    let params = ListParams::default().labels(selector);
    let list = |params| async move { source.pods.list(&params).await };
    let seen = |pod: &Pod| Seen::of(&source.stack, pod);
    let listed = pages::all(params, list, seen).await;
    listed.map_err(|missed| (!missed.is_expired()).then(|| missed.into()))
}

/// Hands on what changes, for as long as one watch lasts.
async fn changes(
    source: &Source,
    selector: &str,
    mut version: String,
    news: &UnboundedSender<News>,
) -> Over {
    let params = WatchParams::default().labels(selector).timeout(WATCH);
    let watching = async {
        let changes = source.pods.watch(&params, &version).await;
        let mut changes = match changes {
            Ok(changes) => std::pin::pin!(changes),
            Err(err) => return over(&err),
        };
        while let Some(change) = changes.next().await {
            match change {
                Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => {
                    keep(&mut version, pod.metadata.resource_version.clone());
                    let seen = Seen::of(&source.stack, &pod);
                    seen.map(|seen| news.send(News::Seen(Box::new(seen))));
                }
                Ok(WatchEvent::Deleted(pod)) => {
                    keep(&mut version, pod.metadata.resource_version.clone());
                    gone(source, &pod, news);
                }
                Ok(WatchEvent::Bookmark(mark)) => version = mark.metadata.resource_version,
                Ok(WatchEvent::Error(status)) => return over(&Error::Api(status)),
                Err(err) => return over(&err),
            }
        }
        Over::Time(version)
    };
    let silent = "the API server has not ended a watch in its time".to_owned();
    timeout(SILENT, watching)
        .await
        .unwrap_or(Over::Down(silent))
}

fn keep(version: &mut String, newer: Option<String>) {
    if let Some(newer) = newer {
        *version = newer;
    }
}

fn gone(source: &Source, pod: &Pod, news: &UnboundedSender<News>) {
    let meta = &pod.metadata;
    let (Some(bot), Some(uid)) = (names::bot_of(&source.stack, meta), meta.uid.clone()) else {
        return;
    };
    let _ = news.send(News::Gone(bot, uid));
}

/// Of a version that is too old there is no more to be told.
fn over(err: &Error) -> Over {
    if has_status(err, 410) {
        Over::Anew
    } else {
        Over::Down(said(err))
    }
}
