//! What CronJobs there are, as [the Pods](super::link) are followed: listed, and watched from there.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::batch::v1::CronJob;
use kube::Error;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{sleep, timeout};

use super::News;
use super::access::Access;
use super::cronjob::There;
use super::link::{LOOK, SILENT, WATCH};
use super::names;
use super::refusal::{has_status, said};
use super::times::Word;

/// Time between two tries of what cannot be looked at.
const PAUSE: Duration = Duration::from_secs(5);

/// Keeps looking until nobody hears it any more.
pub async fn watch(access: Access, news: UnboundedSender<News>) {
    while !news.is_closed() {
        let followed = tokio::select! {
            followed = follow(&access, &news) => followed,
            () = news.closed() => return,
        };
        if let Err(err) = followed {
            let why = err.map_or_else(
                || "the API server did not answer in time".to_owned(),
                |err| said(&err),
            );
            let _ = news.send(News::Times(Word::Hidden(why)));
            sleep(PAUSE).await;
        }
    }
}

/// Lists, and follows what changes, until a version is too old.
async fn follow(access: &Access, news: &UnboundedSender<News>) -> Result<(), Option<Error>> {
    let selector = names::selector(&access.template.stack);
    let api = access.cronjobs();
    let params = ListParams::default().labels(&selector);
    let list = timeout(LOOK, api.list(&params)).await.map_err(|_| None)??;
    let mut version = list.metadata.resource_version.clone().unwrap_or_default();
    let all = list.items.iter();
    let all = all
        .filter_map(|cron| There::of(&access.template, cron))
        .collect();
    let _ = news.send(News::Times(Word::Listed(all)));
    loop {
        let watching = changes(access, &selector, &mut version, news);
        match timeout(SILENT, watching).await.map_err(|_| None)? {
            Ok(()) => {}
            Err(err) if has_status(&err, 410) => return Ok(()),
            Err(err) => return Err(Some(err)),
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
