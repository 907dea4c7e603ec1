//! What another runner of the platform has of bots in the namespace: Pods with the contract's labels and without a stack,
//! CronJobs `schedule-<id>`. They are never touched, and a bot that has one is not started beside it: that runner makes no
//! claim on the bot's state, so nothing else would tell the two apart.

use std::collections::BTreeMap;

use contract::BotId;
use futures_util::future;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;

use super::{names, pages};

/// What there is of which bots, as in `Pod b1-abc`.
pub type Others = BTreeMap<BotId, String>;

/// Looks for what may run bots. Who may not list CronJobs sees none.
///
/// # Errors
/// The API server does not tell; its words.
pub async fn look(pods: &Api<Pod>, cronjobs: &Api<CronJob>) -> Result<Others, String> {
    let (mut found, schedules) = future::try_join(running(pods), starting(cronjobs)).await?;
    found.extend(schedules);
    Ok(found)
}

async fn running(pods: &Api<Pod>) -> Result<Others, String> {
    let selector = format!("{},!{}", names::ID, names::STACK);
    let lives = "status.phase!=Succeeded,status.phase!=Failed";
    let params = ListParams::default().labels(&selector).fields(lives);
    let list = |params| async move { pods.list_metadata(&params).await };
    let of = |pod: &PartialObjectMeta<Pod>| {
        let name = pod.metadata.name.as_ref()?;
        Some((labelled(&pod.metadata)?, format!("Pod {name}")))
    };
    let (found, _) = pages::all(params, list, of).await?;
    Ok(found.into_iter().collect())
}

async fn starting(cronjobs: &Api<CronJob>) -> Result<Others, String> {
    let params = ListParams::default().labels(&format!("!{}", names::STACK));
    let list = |params| async move { cronjobs.list(&params).await };
    match pages::all(params, list, schedule).await {
        Ok((found, _)) => Ok(found.into_iter().collect()),
        Err(missed) if missed.has_status(403) => Ok(Others::new()),
        Err(missed) => Err(missed.into()),
    }
}

/// A CronJob that starts ticks of a bot.
fn schedule(cron: &CronJob) -> Option<(BotId, String)> {
    let name = cron.metadata.name.as_ref()?;
    let is_on = cron.spec.as_ref()?.suspend != Some(true);
    let named = || name.strip_prefix("schedule-")?.parse().ok();
    let bot = labelled(&cron.metadata).or_else(named);
    bot.filter(|_| is_on)
        .map(|bot| (bot, format!("CronJob {name}")))
}

fn labelled(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<BotId> {
    meta.labels.as_ref()?.get(names::ID)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(name: &str, labels: &Value, suspend: bool) -> Option<(BotId, String)> {
        let cron = json!({"metadata": {"name": name, "labels": labels}, "spec": {
            "schedule": "* * * * *", "suspend": suspend, "jobTemplate": {}}});
        schedule(&serde_json::from_value(cron).unwrap())
    }

    #[test]
    fn a_cronjob_is_a_bots_by_its_label_or_by_the_contracts_name_unless_it_starts_nothing() {
        let bot: BotId = "b1".parse().unwrap();
        let found = |name: &str| Some((bot.clone(), format!("CronJob {name}")));
        let label = json!({"the0.app/bot-id": "b1"});
        assert_eq!(of("x", &label, false), found("x"));
        assert_eq!(of("schedule-b1", &json!({}), false), found("schedule-b1"));
        assert_eq!(of("schedule-b1", &json!({}), true), None);
        assert_eq!(of("nightly", &json!({}), false), None);
    }
}
