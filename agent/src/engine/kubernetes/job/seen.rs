//! What a job's Pod tells of it. Pure.

use std::time::{Duration, SystemTime};

use contract::record::{Reason, RunRecord, Sent, Synced};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use crate::engine::kubernetes::containers::{BOT, FETCH, SYNC};
use crate::engine::kubernetes::seen::{container as find, disruption, parsed, trouble};
use crate::jobs::decide::Container;
use crate::jobs::verdict::{Found, Left};

/// Why a container never comes to run.
const NEVER: [&str; 2] = ["ErrImageNeverPull", "InvalidImageName"];
/// Why it may not come to run for long.
const HELD: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];
/// How long that is waited for.
const PATIENCE: Duration = Duration::from_mins(5);
/// A kubelet that says so much longer than the Pod's time nothing of its end says nothing any more.
const SILENCE: Duration = Duration::from_mins(1);

/// How far a job is by its Pod.
pub fn container(pod: &Pod, now: SystemTime) -> Container {
    if is_over(pod, now) || is_hopeless(pod, now) {
        return Container::Over;
    }
    let gates = pod
        .spec
        .as_ref()
        .and_then(|it| it.scheduling_gates.as_ref());
    match gates {
        Some(gates) if !gates.is_empty() => Container::Made,
        _ if has_ended(pod) => Container::Saving,
        _ => Container::Running,
    }
}

/// Whether its program has, whatever else of it runs.
fn has_ended(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|it| it.container_statuses.as_ref());
    ended(find(statuses, BOT)).is_some()
}

/// Whether nothing of it runs any more: its kubelet says so, it was told to end before any had it, or nobody is there to say
/// so.
pub fn is_over(pod: &Pod, now: SystemTime) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    let is_unseen = pod.spec.as_ref().is_none_or(|it| it.node_name.is_none());
    let ends = pod.metadata.deletion_timestamp.as_ref();
    let ends = ends.map(|time| SystemTime::from(time.0));
    let is_silent = ends.is_some_and(|ends| ends + SILENCE < now);
    matches!(phase, Some("Succeeded" | "Failed")) || (ends.is_some() && is_unseen) || is_silent
}

/// Whether it is there and waits for what does not come.
fn is_hopeless(pod: &Pod, now: SystemTime) -> bool {
    let made = pod.metadata.creation_timestamp.as_ref();
    let is_old = made.is_some_and(|made| SystemTime::from(made.0) + PATIENCE < now);
    let waits = |status: &ContainerStatus| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        (NEVER.contains(&reason) || (is_old && HELD.contains(&reason))).then_some(())
    };
    let status = pod.status.iter();
    let inits = status
        .clone()
        .flat_map(|it| it.init_container_statuses.iter().flatten());
    let mut all = inits.chain(status.flat_map(|it| it.container_statuses.iter().flatten()));
    all.find_map(waits).is_some()
}

/// What it left, and what became of its result: [`Sent::Whole`] is to be brought.
pub fn left(pod: &Pod) -> (Left, Option<Sent>) {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let inits = status.init_container_statuses.as_ref();
    let bot = ended(find(status.container_statuses.as_ref(), BOT));
    let fetch = ended(find(inits, FETCH)).filter(|fetch| fetch.exit_code != 0);
    let sync = ended(find(inits, SYNC));
    let synced: Option<Synced> = sync.and_then(parsed);
    let sent = synced.and_then(|synced| synced.result);
    let last = bot.or(fetch);
    let record: Option<RunRecord> = bot.and_then(parsed);
    let is_oom = |ended: &ContainerStateTerminated| ended.reason.as_deref() == Some("OOMKilled");
    let words = last.and_then(|last| last.message.as_deref());
    let words = words.map(str::trim).filter(|words| !words.is_empty());
    let found = match sent {
        Some(Sent::Nothing) => Found::Nothing,
        Some(Sent::NoFile) => Found::NoFile,
        Some(Sent::TooLarge) => Found::TooLarge,
        None if bot.is_none() => Found::Nothing,
        // The one until it is brought.
        Some(Sent::Whole) | None => Found::Unsaved,
    };
    let left = Left {
        code: last.map_or(-1, |last| last.exit_code.into()),
        is_oom: bot.is_some_and(is_oom),
        lost: lost(pod, status, record.as_ref(), last.is_some()),
        last: words.filter(|_| record.is_none()).map(str::to_owned),
        record,
        found,
    };
    (left, sent)
}

/// Why it did not come to an end of its own, if others ended it.
fn lost(
    pod: &Pod,
    status: &PodStatus,
    record: Option<&RunRecord>,
    is_known: bool,
) -> Option<String> {
    if record.is_some_and(|record| record.reason != Reason::Stopped) {
        return None;
    }
    if status.reason.is_some() || !is_known {
        let told = trouble(status);
        let told = told.map(|told| format!("its Pod did not run to its end: {told}"));
        if told.is_some() {
            return told;
        }
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let who = disruption(status).map_or(String::new(), |who| format!(": {who}"));
        return Some(format!("its Pod was told to end by somebody else{who}"));
    }
    let why = "its Pod is over, and nothing is known of its end";
    (!is_known).then(|| why.to_owned())
}

fn ended(status: Option<&ContainerStatus>) -> Option<&ContainerStateTerminated> {
    status?.state.as_ref()?.terminated.as_ref()
}

#[cfg(test)]
#[path = "seen/tests.rs"]
mod tests;
