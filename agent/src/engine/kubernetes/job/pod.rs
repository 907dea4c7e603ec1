//! A job becomes its Pod, and the Secret of what is in it. Pure.
//!
//! ```text
//! fetch ──▶ sync ──▶ bot          as a bot's, without a state, and once
//!  keys      keys     config      nobody has both
//! ```

use std::time::Duration;

use contract::launch::Keys;
use contract::vars;
use k8s_openapi::api::core::v1::{Container, Pod, PodSchedulingGate, PodSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::document::Bot;
use crate::engine::bounds::{self, Refused};
use crate::engine::chance::chance;
use crate::engine::kubernetes::containers::{Parts, set};
use crate::engine::kubernetes::names;
use crate::engine::kubernetes::pod::{check, placed, volumes};
use crate::engine::kubernetes::secret::{self, CA, CONFIG, KEYS};
use crate::engine::kubernetes::template::Template;
use crate::engine::stack::Stack;

/// How much later than its agent a kubelet ends a job that has had its time: that is for when there is no agent.
const SLACK: Duration = Duration::from_mins(10);

/// What holds for each job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long one may run.
    pub time: Duration,
    /// Bytes that a result may have.
    pub most: u64,
}

/// A name for the Secret of a Pod that is made now.
pub fn secret_name(stack: &Stack, job: &contract::BotId) -> String {
    format!("{}-{:016x}", names::job(stack, job), chance())
}

/// The Pod of `job`, behind its gate, with what the Secret of this name has.
///
/// # Errors
/// It asks for more than it may have, or its supervisor would refuse it.
pub fn pod(job: &Bot, template: &Template, terms: Terms, secret: &str) -> Result<Pod, Refused> {
    check(job, template)?;
    let parts = Parts {
        bot: job,
        template,
        config: secret,
        memory: bounds::memory(job, template.memory)?,
        cpu: bounds::cpu(job, template.cpu)?,
    };
    let longest = terms.time.saturating_add(SLACK).as_secs();
    let spec = PodSpec {
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: Some(longest.min(u64::from(u32::MAX) / 2).cast_signed()),
        termination_grace_period_seconds: Some(template.grace),
        init_containers: Some(vec![fetch(&parts), sync(&parts, terms.most)]),
        containers: vec![program(&parts)],
        volumes: Some(volumes(template, secret)),
        scheduling_gates: Some(vec![PodSchedulingGate {
            name: names::PERMIT.to_owned(),
        }]),
        ..placed(template)
    };
    Ok(Pod {
        metadata: metadata(job, template),
        spec: Some(spec),
        status: None,
    })
}

fn fetch(parts: &Parts<'_>) -> Container {
    let mut container = parts.fetch();
    set(
        container.env.get_or_insert_default(),
        vars::THE0_STATE,
        "off",
    );
    container
}

fn sync(parts: &Parts<'_>, most: u64) -> Container {
    let mut container = parts.sync();
    let environment = container.env.get_or_insert_default();
    set(environment, vars::THE0_STATE, "off");
    set(environment, vars::THE0_RESULT, &most.to_string());
    // It has a whole result in memory.
    let memory = parts.template.sync_memory.saturating_add(most);
    container.resources = Some(parts.light(memory));
    container
}

fn program(parts: &Parts<'_>) -> Container {
    let mut container = parts.bot();
    let environment = container.env.get_or_insert_default();
    set(environment, vars::THE0_STATE, "off");
    set(environment, vars::ENTRYPOINT_TYPE, names::BACKTEST);
    container
}

fn metadata(job: &Bot, template: &Template) -> ObjectMeta {
    let definition = &job.definition;
    let mut labels = names::job_labels(&template.stack, &job.id);
    let more = [
        (names::RUNTIME, definition.runtime.name()),
        (names::VERSION, &definition.version),
    ];
    labels.extend(more.map(|(name, value)| (name.to_owned(), names::label(value))));
    let annotations = [
        (names::JOB, job.id.to_string()),
        (names::NAME, definition.name.clone()),
        (names::VERSION, definition.version.clone()),
        (names::CODE, job.code.to_string()),
        (names::MADE_BY, env!("CARGO_PKG_VERSION").to_owned()),
    ];
    ObjectMeta {
        name: Some(names::job(&template.stack, &job.id)),
        labels: Some(labels),
        annotations: Some(annotations.map(|(n, v)| (n.to_owned(), v)).into()),
        finalizers: Some(vec![names::SAVED.to_owned()]),
        ..ObjectMeta::default()
    }
}

/// The Secret of this name, which goes with `pod`.
pub fn secret(job: &Bot, template: &Template, name: &str, keys: &Keys, pod: &Pod) -> Secret {
    let own = [
        (CONFIG, job.config.reveal().to_owned()),
        (KEYS, secret::text(keys)),
    ];
    let ca = template.ca.clone().map(|ca| (CA, ca));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(names::job_labels(&template.stack, &job.id)),
            owner_references: Some(vec![secret::owner(pod)]),
            ..ObjectMeta::default()
        },
        data: Some(secret::entries(own.into_iter().chain(ca))),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

#[cfg(test)]
#[path = "pod/tests.rs"]
mod tests;
