//! The two Secrets of a Pod: what the bot is told, and the keys of the store. Pure.
//!
//! They are made for one Pod and have a name of their own each time, so a Pod never gets what is meant for another start
//! of its bot. Once their Pod is there they belong to it, and Kubernetes removes them with it.

use std::collections::BTreeMap;

use contract::Secret as Hidden;
use contract::launch::Keys;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::names;
use super::template::Template;
use crate::document::Bot;
use crate::history::Start;
use crate::launch;

/// The entry of the store's keys, a JSON object by the names of their variables.
pub const KEYS: &str = "keys.json";
/// The volume of a Pod with them.
pub const KEYS_VOLUME: &str = "keys";
/// The entry of authorities that the store's certificate is signed by.
pub const CA: &str = "ca.pem";
/// The entry of the bot's parameters.
pub const CONFIG: &str = "config";
/// The entry of the token that `query` wants.
pub const TOKEN: &str = "token";

/// The names of a Pod's Secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What the bot is told.
    pub config: String,
    /// The keys of the store.
    pub keys: String,
}

/// The names of the Secrets of the bot's Pod that is made for `start`.
pub fn names(bot: &Bot, template: &Template, start: &Start) -> Names {
    let pod = names::pod(&template.stack, &bot.id, start.tick);
    let digest = launch::digest(bot);
    let attempt = start.tick.map_or(0, |tick| tick.attempt).to_string();
    let sum = names::sum(&[&pod, digest.as_str(), &start.at.to_string(), &attempt]);
    Names {
        config: format!("{pod}-{sum}-config"),
        keys: format!("{pod}-{sum}-keys"),
    }
}

/// The names of the Secrets that a Pod uses, as it says itself.
pub fn names_of(pod: &Pod) -> Option<Names> {
    names_in(pod.spec.as_ref()?)
}

/// The same of what a Pod is made of.
pub fn names_in(spec: &PodSpec) -> Option<Names> {
    let volumes = spec.volumes.as_ref()?;
    // Others may have put one of theirs before it.
    let ours = volumes.iter().find(|volume| volume.name == KEYS_VOLUME)?;
    let secret = ours.secret.as_ref()?;
    let keys = secret.secret_name.clone()?;
    let config = format!("{}-config", keys.strip_suffix("-keys")?);
    Some(Names { config, keys })
}

/// Both Secrets.
pub fn secrets(
    bot: &Bot,
    template: &Template,
    start: &Start,
    keys: &Keys,
    token: Option<&Hidden>,
) -> [Secret; 2] {
    let named = names(bot, template, start);
    let pod = names::pod(&template.stack, &bot.id, start.tick);
    let config = (CONFIG, bot.config.reveal().to_owned());
    let token = token.map(|token| (TOKEN, token.reveal().to_owned()));
    let ca = template.ca.clone().map(|ca| (CA, ca));
    let of = |name, entries: BTreeMap<String, ByteString>| Secret {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(names::labels(&template.stack, &bot.id)),
            annotations: Some(
                [(names::ID, bot.id.as_str()), (names::POD, &pod)]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            ),
            ..ObjectMeta::default()
        },
        data: Some(entries),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    [
        of(named.config, entries([config].into_iter().chain(token))),
        of(
            named.keys,
            entries([(KEYS, text(keys))].into_iter().chain(ca)),
        ),
    ]
}

pub(super) fn entries<'a>(
    pairs: impl Iterator<Item = (&'a str, String)>,
) -> BTreeMap<String, ByteString> {
    let pairs = pairs.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    pairs.collect()
}

pub(super) fn text(keys: &Keys) -> String {
    serde_json::to_string(keys).unwrap_or_default()
}

/// What makes new keys of old ones.
pub fn renewal(keys: &Keys) -> Secret {
    Secret {
        data: Some(entries([(KEYS, text(keys))].into_iter())),
        ..Secret::default()
    }
}

/// What makes a Secret the Pod's.
pub fn belongs(pod: &Pod) -> Value {
    json!({"metadata": {"ownerReferences": [owner(pod)]}})
}

/// The Pod as whose a Secret goes with it.
pub fn owner(pod: &Pod) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}
