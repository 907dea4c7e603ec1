//! What CronJobs there are, as [the Pods](super::link) are followed: listed, and watched from there.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::batch::v1::CronJob;
use kube::Error;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout};

use super::News;
use super::access::Access;
use super::cronjob::There;
use super::link::{PACE, SILENT, WATCH};
use super::names;
use super::pages::{self, Missed};
use super::refusal::{has_status, said};
use super::times::Word;
use crate::engine::remote::Clock;

/// Time between two tries of what cannot be looked at.
const PAUSE: Duration = Duration::from_secs(5);

/// When it is looked anew.
#[derive(Debug, Clone, Default)]
pub struct Again {
    /// Numbers listings.
    pub clock: Clock,
    /// Makes the next listing come at once.
    pub now: Arc<Notify>,
}

/// Keeps looking until nobody hears it any more.
pub async fn watch(access: Access, news: UnboundedSender<News>, again: Again) {
    let mut last_cut = None;
    while !news.is_closed() {
        let followed = tokio::select! {
            followed = follow(&access, &news, &again) => followed,
            () = news.closed() => return,
        };
        let why = match followed {
            Ok(()) => continue,
            Err(Broken::Cut(why)) => {
                let is_first = last_cut.is_none_or(|at: Instant| at.elapsed() > PAUSE * 2);
                last_cut = Some(Instant::now());
                if is_first {
                    sleep(PACE.first).await;
                    continue;
                }
                why
            }
            Err(Broken::Unseen(why)) => why,
        };
        let _ = news.send(News::Times(Word::Hidden(why)));
        sleep(PAUSE).await;
    }
}

/// Why it is not followed.
enum Broken {
    /// They cannot be listed.
    Unseen(String),
    /// They were listed, and the watch was cut: that happens, and it is listed anew.
    Cut(String),
}

/// Lists, and follows what changes, until a version is too old or it is to be looked anew.
async fn follow(
    access: &Access,
    news: &UnboundedSender<News>,
    again: &Again,
) -> Result<(), Broken> {
    let begun = again.clock.now();
    let selector = names::selector(&access.template.stack);
    let params = ListParams::default().labels(&selector);
    let list = |params| async move { access.cronjobs().list(&params).await };
    let seen = |cron: &CronJob| There::of(&access.template, cron);
    let (all, mut version) = match pages::all(params, list, seen).await {
        Ok(listed) => listed,
        Err(missed) if missed.is_expired() => return Ok(()),
        Err(missed) => return Err(Broken::Unseen(missed.into())),
    };
    let _ = news.send(News::Times(Word::Listed(begun, all)));
    loop {
        let watching = timeout(SILENT, changes(access, &selector, &mut version, news));
        let watched = tokio::select! {
            watched = watching => watched,
            () = again.now.notified() => return Ok(()),
        };
        match watched {
            Ok(Ok(())) => {}
            Ok(Err(err)) if has_status(&err, 410) => return Ok(()),
            Ok(Err(err)) => return Err(Broken::Cut(said(&err))),
            Err(_) => return Err(Broken::Cut(Missed::Late.into())),
        }
    }
}

/// Hands on what changes, for as long as one watch lasts.
async fn changes(
    access: &Access,
    selector: &str,
    version: &mut String,
    news: &UnboundedSender<News>,
) -> Result<(), Error> {
    let params = WatchParams::default().labels(selector).timeout(WATCH);
    let api = access.cronjobs();
    let mut changes = std::pin::pin!(api.watch(&params, version).await?);
    while let Some(change) = changes.next().await {
        let (cron, is_gone) = match change? {
            WatchEvent::Added(cron) | WatchEvent::Modified(cron) => (cron, false),
            WatchEvent::Deleted(cron) => (cron, true),
            WatchEvent::Bookmark(mark) => {
                *version = mark.metadata.resource_version;
                continue;
            }
            WatchEvent::Error(status) => return Err(Error::Api(status)),
        };
        tell(access, &cron, is_gone, news);
        if let Some(newer) = cron.metadata.resource_version {
            *version = newer;
        }
    }
    Ok(())
}

fn tell(access: &Access, cron: &CronJob, is_gone: bool, news: &UnboundedSender<News>) {
    let Some((bot, there)) = There::of(&access.template, cron) else {
        return;
    };
    let word = if is_gone {
        Word::Gone(bot, there.uid)
    } else {
        Word::Seen(bot, Box::new(there))
    };
    let _ = news.send(News::Times(word));
}
