//! A bot becomes its Pod. Pure.
//!
//! ```text
//! fetch ──▶ sync ──▶ query ──▶ bot          init containers in order; sync and query go on beside the bot
//!  keys      keys     config    config      nobody has both
//! ```
//!
//! Nothing of the bot's parameters and no key is in a Pod, which anybody who may look at Pods can read: they are in its
//! two [Secrets](super::secret), of which each container is given what it needs. What a Pod is passes the strictest of
//! Kubernetes' own standards ("restricted").

use std::collections::BTreeMap;

use contract::{BotType, Launch, LaunchError, vars};
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, KeyToPath, Pod, PodSchedulingGate, PodSecurityContext, PodSpec,
    SeccompProfile, SecretVolumeSource, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::containers;
use super::names;
use super::secret::{self, CA, KEYS, KEYS_VOLUME};
use super::template::Template;
use crate::document::Bot;
use crate::engine::bounds::{self, Refused};
use crate::history::Start;
use crate::launch;

/// The user and the group in all images.
const USER: i64 = 1000;
/// Bytes of the folder of one-shot questions.
const ANSWERS: u64 = 16 << 20;

/// The Pod of `bot`, started for `start`.
///
/// # Errors
/// It asks for more than it may have, or its supervisor would refuse it.
pub fn pod(bot: &Bot, template: &Template, start: &Start) -> Result<Pod, Refused> {
    check(bot, template)?;
    Ok(Pod {
        metadata: metadata(bot, template, start),
        spec: Some(spec(bot, template, start)?),
        status: None,
    })
}

/// Whether the bot's programs would take their variables.
pub(super) fn check(bot: &Bot, template: &Template) -> Result<(), LaunchError> {
    let mut all = template.environment.clone();
    all.extend(launch::of_document(bot));
    all.extend(template.store.clone());
    Launch::parse(all).map(drop)
}

fn metadata(bot: &Bot, template: &Template, start: &Start) -> ObjectMeta {
    let definition = &bot.definition;
    let mut labels = names::labels(&template.stack, &bot.id);
    let more = [
        (names::TYPE, definition.kind.name()),
        (names::RUNTIME, definition.runtime.name()),
        (names::VERSION, &definition.version),
    ];
    labels.extend(more.map(|(name, value)| (name.to_owned(), names::label(value))));
    let custom = bot.custom_id();
    labels.extend(custom.map(|id| (names::CUSTOM_ID.to_owned(), names::label(&id))));
    ObjectMeta {
        name: Some(names::pod(&template.stack, &bot.id, start.tick)),
        labels: Some(labels),
        annotations: Some(annotations(bot, template, start)),
        finalizers: Some(vec![names::SAVED.to_owned()]),
        ..ObjectMeta::default()
    }
}

fn annotations(bot: &Bot, template: &Template, start: &Start) -> BTreeMap<String, String> {
    let definition = &bot.definition;
    let some = [
        (names::ID, bot.id.to_string()),
        (names::NAME, definition.name.clone()),
        (names::VERSION, definition.version.clone()),
        (names::LAUNCH, launch::digest(bot).as_str().to_owned()),
        (
            names::TEMPLATE,
            template.digest(definition.runtime).as_str().to_owned(),
        ),
        (names::CODE, bot.code.to_string()),
        (names::CAUSE, start.to_string()),
        (names::BEGAN, start.at.to_string()),
        (names::MADE_BY, env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let tick = start.tick.map(|tick| (names::TICK, tick.to_string()));
    let all = some.into_iter().chain(tick);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn spec(bot: &Bot, template: &Template, start: &Start) -> Result<PodSpec, Refused> {
    let is_realtime = bot.definition.kind == BotType::Realtime;
    let secrets = secret::names(bot, template, start);
    let parts = containers::Parts {
        bot,
        template,
        config: &secrets.config,
        memory: bounds::memory(bot, template.memory)?,
        cpu: bounds::cpu(bot, template.cpu)?,
    };
    let query = (is_realtime && bot.definition.query.is_some()).then(|| parts.query());
    let inits = [parts.fetch(), parts.sync()].into_iter().chain(query);
    Ok(PodSpec {
        restart_policy: Some(if is_realtime { "Always" } else { "Never" }.to_owned()),
        init_containers: Some(inits.collect()),
        containers: vec![parts.bot()],
        volumes: Some(volumes(template, &secrets.keys)),
        termination_grace_period_seconds: Some(template.grace),
        scheduling_gates: start.tick.map(|_| {
            vec![PodSchedulingGate {
                name: names::PERMIT.to_owned(),
            }]
        }),
        ..placed(template)
    })
}

/// What holds for every Pod: where it may run, and what it may not.
pub(super) fn placed(template: &Template) -> PodSpec {
    let place = template.place.clone();
    PodSpec {
        security_context: Some(security()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        affinity: place.affinity,
        host_aliases: place.host_aliases,
        dns_policy: place.dns_policy,
        dns_config: place.dns_config,
        image_pull_secrets: place.image_pull_secrets,
        node_selector: place.node_selector,
        priority_class_name: place.priority_class_name,
        runtime_class_name: place.runtime_class_name,
        scheduler_name: place.scheduler_name,
        service_account_name: place.service_account_name,
        tolerations: place.tolerations,
        topology_spread_constraints: place.topology_spread_constraints,
        ..PodSpec::default()
    }
}

fn security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// The folders of a bot's programs, and the Secret of this name that has their keys.
pub(super) fn volumes(template: &Template, keys: &str) -> Vec<Volume> {
    let sizes = template.sizes;
    vec![
        folder("code", sizes.code, None),
        folder("state", sizes.state, None),
        folder("var", sizes.var, None),
        // Memory has an end that is an error; a disk's folder that is over its size ends the Pod.
        folder("tmp", sizes.tmp, Some("Memory")),
        folder("answers", ANSWERS, Some("Memory")),
        keys_volume(template, KEYS_VOLUME, keys, KEYS),
    ]
}

/// The volume with the keys that the `entry` of a Secret has, and with authorities.
pub(super) fn keys_volume(template: &Template, name: &str, secret: &str, entry: &str) -> Volume {
    let ca = template.ca.is_some().then_some((CA, CA));
    let items = [(entry, KEYS)].into_iter().chain(ca);
    let items = items.map(|(entry, file)| KeyToPath {
        key: entry.to_owned(),
        path: file.to_owned(),
        mode: None,
    });
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o440),
            items: Some(items.collect()),
            optional: Some(false),
        }),
        ..Volume::default()
    }
}

pub(super) fn folder(name: &str, size: u64, medium: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: Some(Quantity(bounds::bytes(size))),
        }),
        ..Volume::default()
    }
}

/// The variables that a bot's programs have in common, by which nobody gets at anything.
pub(super) fn variables(bot: &Bot, template: &Template) -> BTreeMap<String, String> {
    let mut set = template.environment.clone();
    set.extend(launch::of_document(bot));
    set.remove(vars::BOT_CONFIG);
    set
}

#[cfg(test)]
#[path = "pod/tests.rs"]
pub(super) mod tests;
