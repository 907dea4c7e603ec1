//! What was made behind a gate and not let go is removed, unless it is let go meanwhile: the API server decides.
//!
//! ```text
//! as it was seen last? ── yes ─▶ our finalizer ─▶ still so? ── yes ─▶ the Pod
//!                      └─ no: whoever has opened its gate has it run
//! ```

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, Preconditions};
use kube::{Error, ResourceExt};
use serde_json::json;

use super::access::Access;
use super::names;
use super::refusal::or_gone;
use super::seen::Seen;
use super::work::{patching, remove_own, told};

/// Tries where something else of the Pod has changed meanwhile.
const TRIES: u32 = 3;
/// What is said of one that runs after all.
const LET_GO: &str = "it was let go meanwhile";

/// Removes a bot's Pod that was not let go, and its Secrets.
///
/// # Errors
/// It is there yet, and may run.
pub async fn undo(access: &Access, seen: &Seen) -> Result<(), String> {
    let mut last = LET_GO.to_owned();
    for _ in 0..TRIES {
        let there = told(access.pods().get_opt(&seen.name)).await?;
        let Some(pod) = there.filter(|pod| pod.uid().as_deref() == Some(&seen.uid)) else {
            remove_own(access, seen).await;
            return Ok(());
        };
        if !is_gated(&pod) {
            return Err(LET_GO.to_owned());
        }
        match told(discard(access, &pod)).await {
            Ok(()) => {
                remove_own(access, seen).await;
                return Ok(());
            }
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// Whether it is behind a gate.
pub fn is_gated(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let gates = spec.and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

/// Removes a Pod that is as it was seen.
///
/// # Errors
/// It is not any more, or the API server does not.
pub async fn discard(access: &Access, seen: &Pod) -> Result<(), Error> {
    let (pods, name) = (access.pods(), seen.name_any());
    let free = json!({"metadata": {
        "uid": seen.uid(), "resourceVersion": seen.resource_version(), "finalizers": others(seen),
    }});
    let freed = pods.patch(&name, &patching(), &Patch::Merge(&free)).await;
    let Some(freed) = or_gone(freed)? else {
        return Ok(());
    };
    let only = Preconditions {
        uid: freed.uid(),
        resource_version: freed.resource_version(),
    };
    let now = DeleteParams {
        preconditions: Some(only),
        ..DeleteParams::default().grace_period(0)
    };
    or_gone(pods.delete(&name, &now).await).map(drop)
}

/// The finalizers of others.
pub fn others(pod: &Pod) -> Vec<&String> {
    let all = pod.metadata.finalizers.iter().flatten();
    all.filter(|it| *it != names::SAVED).collect()
}

#[cfg(test)]
mod tests;
