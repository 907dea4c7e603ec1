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
use super::link::{Clock, LOOK, PACE, PAGE, SILENT, WATCH};
use super::names;
use super::refusal::{has_status, said};
use super::times::Word;

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
        let err = match followed {
            Ok(()) => continue,
            Err(Broken::Cut(err)) => {
                let is_first = last_cut.is_none_or(|at: Instant| at.elapsed() > PAUSE * 2);
                last_cut = Some(Instant::now());
                if is_first {
                    sleep(PACE.first).await;
                    continue;
                }
                err
            }
            Err(Broken::Unseen(err)) => err,
        };
        let why = err.map_or_else(
            || "the API server did not answer in time".to_owned(),
            |err| said(&err),
        );
        let _ = news.send(News::Times(Word::Hidden(why)));
        sleep(PAUSE).await;
    }
}

/// Why it is not followed; without an error the API server did not answer in time.
enum Broken {
    /// They cannot be listed.
    Unseen(Option<Error>),
    /// They were listed, and the watch was cut: that happens, and it is listed anew.
    Cut(Option<Error>),
}

/// Lists, and follows what changes, until a version is too old or it is to be looked anew.
async fn follow(
    access: &Access,
    news: &UnboundedSender<News>,
    again: &Again,
) -> Result<(), Broken> {
    let begun = again.clock.now();
    let selector = names::selector(&access.template.stack);
    let api = access.cronjobs();
    let mut params = ListParams::default().labels(&selector).limit(PAGE);
    let mut all = Vec::new();
    let mut version = loop {
        let page = timeout(LOOK, api.list(&params)).await;
        let page = match page.map_err(|_| Broken::Unseen(None))? {
            // It took so long that the version is not known any more.
            Err(err) if has_status(&err, 410) => return Ok(()),
            page => page.map_err(|err| Broken::Unseen(Some(err)))?,
        };
        let seen = |cron| There::of(&access.template, cron);
        all.extend(page.items.iter().filter_map(seen));
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => params = params.continue_token(&more),
            None => break page.metadata.resource_version.unwrap_or_default(),
        }
    };
    let _ = news.send(News::Times(Word::Listed(begun, all)));
    loop {
        let watching = timeout(SILENT, changes(access, &selector, &mut version, news));
        let watched = tokio::select! {
            watched = watching => watched,
            () = again.now.notified() => return Ok(()),
        };
        match watched.map_err(|_| Broken::Cut(None))? {
            Ok(()) => {}
            Err(err) if has_status(&err, 410) => return Ok(()),
            Err(err) => return Err(Broken::Cut(Some(err))),
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
