//! What the API server says to questions that change nothing: how old it is, what we may do, whether it would take a
//! bot's Pod, and which bots have one.

use std::fmt::{Debug, Write};

use contract::launch::Keys;
use contract::{BotId, Runtime};
use futures_util::future;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use super::names::{self, AGENT, MANAGED_BY};
use super::secret;
use super::template::Template;
use super::work::{MANAGER, told};
use super::{others, pages, pod};
use crate::engine::blank::blank;
use crate::history::Start;
use crate::history::cause::Cause;

/// The bot that is tried.
const PROBE: &str = "the0-doctor";

/// What a controller does with one kind of thing, as RBAC calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
}

/// What it always does.
const ALWAYS: [Right; 3] = [
    Right {
        group: "",
        resource: "pods",
        verbs: &["create", "delete", "get", "list", "patch", "watch"],
    },
    Right {
        group: "",
        resource: "pods/log",
        verbs: &["get"],
    },
    Right {
        group: "",
        resource: "secrets",
        verbs: &["create", "delete", "list", "patch"],
    },
];

/// What it does where the cluster's clock gets schedules.
const CLOCK: [Right; 2] = [
    Right {
        group: "batch",
        resource: "cronjobs",
        verbs: &["create", "delete", "list", "patch", "watch"],
    },
    Right {
        group: "batch",
        resource: "jobs",
        verbs: &["delete", "list"],
    },
];

/// The server's version, as in `(1, 34)`; what is not a number of it is 0.
///
/// # Errors
/// It does not answer; its words.
pub async fn version(client: &Client) -> Result<(u32, u32), String> {
    let info = told(client.apiserver_version()).await?;
    let number = |text: &str| {
        let digits = text.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    Ok((number(&info.major), number(&info.minor)))
}

/// What we may not do in the namespace and have to, as in `pods: delete, watch`; empty if nothing.
///
/// # Errors
/// The server does not say; its words.
pub async fn missing(client: &Client, namespace: &str, clock: bool) -> Result<String, String> {
    let all = ALWAYS.iter().chain(CLOCK.iter().filter(|_| clock));
    let asked = all.map(|right| async move {
        let verbs = right.verbs.iter().map(|verb| async move {
            let is_allowed = may(client, namespace, right, verb).await?;
            Ok::<_, String>((*verb, is_allowed))
        });
        Ok::<_, String>((right.resource, future::try_join_all(verbs).await?))
    });
    let found = future::try_join_all(asked).await?;
    let mut text = String::new();
    for (resource, verbs) in found {
        let refused = verbs.into_iter().filter(|(_, is_allowed)| !is_allowed);
        let refused: Vec<&str> = refused.map(|(verb, _)| verb).collect();
        if !refused.is_empty() {
            let comma = if text.is_empty() { "" } else { "; " };
            let _ = write!(text, "{comma}{resource}: {}", refused.join(", "));
        }
    }
    Ok(text)
}

async fn may(client: &Client, namespace: &str, right: &Right, verb: &str) -> Result<bool, String> {
    let (resource, part) = match right.resource.split_once('/') {
        Some((resource, part)) => (resource, Some(part.to_owned())),
        None => (right.resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(right.group.to_owned()),
                namespace: Some(namespace.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: part,
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answered = told(api.create(&PostParams::default(), &review)).await?;
    Ok(answered.status.is_some_and(|status| status.allowed))
}

/// Whether the Secrets and the Pod of a bot of `runtime` would be taken, by all that a real one has to pass (names,
/// quotas, Pod Security, webhooks). Nothing is made.
///
/// # Errors
/// Why not.
pub async fn admission(
    client: &Client,
    namespace: &str,
    template: &Template,
    runtime: Runtime,
) -> Result<(), String> {
    let bot = blank(PROBE, runtime).ok_or("no bot can be tried")?;
    let start = Start::now(Cause::Created, None);
    let wanted = pod::pod(&bot, template, &start).map_err(|refused| refused.to_string())?;
    let dry = PostParams {
        dry_run: true,
        field_manager: Some(MANAGER.to_owned()),
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for secret in &secret::secrets(&bot, template, &start, &Keys::new(), None) {
        let made = told(secrets.create(&dry, secret)).await;
        made.map_err(|why| format!("a Secret: {why}"))?;
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let made = told(pods.create(&dry, &wanted)).await;
    made.map(drop).map_err(|why| format!("a Pod: {why}"))
}

/// The bots that have Pods in the namespace, or CronJobs that make them, of any stack or another runner, with the names of
/// these.
///
/// # Errors
/// The server does not say; its words.
pub async fn present(client: &Client, namespace: &str) -> Result<Vec<(BotId, String)>, String> {
    let pods = all_of(Api::<Pod>::namespaced(client.clone(), namespace));
    let schedules = all_of(Api::<CronJob>::namespaced(client.clone(), namespace));
    let (mut pods, schedules) = future::try_join(pods, schedules).await?;
    pods.extend(schedules);
    let (of, on) = (
        Api::namespaced(client.clone(), namespace),
        Api::namespaced(client.clone(), namespace),
    );
    pods.extend(others::look(&of, &on).await?);
    Ok(pods)
}

async fn all_of<K>(api: Api<K>) -> Result<Vec<(BotId, String)>, String>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = ListParams::default().labels(&format!("{MANAGED_BY}={AGENT}"));
    let list = |params| {
        let api = api.clone();
        async move { api.list_metadata(&params).await }
    };
    let of = |object: &PartialObjectMeta<K>| {
        let meta = &object.metadata;
        let bot = meta.annotations.as_ref()?.get(names::ID)?.parse().ok()?;
        Some((bot, meta.name.clone()?))
    };
    let (found, _) = pages::all(params, list, of).await?;
    Ok(found)
}
