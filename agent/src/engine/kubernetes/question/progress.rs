//! How far the Pod of a question is. Pure.

use contract::exit;
use contract::record::RunRecord;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::pod::{ASK, SEND};
use crate::engine::kubernetes::seen;

/// Why a container does not come to run however long it is waited for.
const HOPELESS: [&str; 7] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is on its way, and what it waits for, if it should not.
    Going(Option<String>),
    /// Its answer is in the store.
    Sent,
    /// There will be none, and why.
    Failed(String),
}

/// How far the Pod is.
pub fn of(pod: &Pod) -> Progress {
    let Some(status) = pod.status.as_ref() else {
        return Progress::Going(None);
    };
    if status.phase.as_deref() == Some("Succeeded") {
        return Progress::Sent;
    }
    if let Some(why) = containers(status).find_map(failure) {
        return Progress::Failed(why);
    }
    let trouble = seen::trouble(status);
    if status.phase.as_deref() == Some("Failed") {
        let why = trouble.unwrap_or_else(|| "its Pod failed".to_owned());
        return Progress::Failed(why);
    }
    match trouble {
        Some(why) if containers(status).any(is_hopeless) => Progress::Failed(why),
        trouble => Progress::Going(trouble),
    }
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let inits = status.init_container_statuses.iter().flatten();
    inits.chain(status.container_statuses.iter().flatten())
}

fn is_hopeless(status: &ContainerStatus) -> bool {
    let waiting = status.state.as_ref().and_then(|it| it.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    reason.is_some_and(|reason| HOPELESS.contains(&reason))
}

fn failure(status: &ContainerStatus) -> Option<String> {
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    if ended.exit_code == 0 {
        return None;
    }
    let is_oom = ended.reason.as_deref() == Some("OOMKilled");
    Some(match status.name.as_str() {
        ASK if is_oom => {
            "the query was killed for want of memory: raise the bot's memory limit".to_owned()
        }
        name if is_oom => format!("its container {name} was killed for want of memory"),
        ASK => format!("its query program was not run: {}", words(ended)),
        SEND => format!(
            "its answer could not be put into the store: {}",
            words(ended)
        ),
        _ => words(ended),
    })
}

/// What a program said last, or what its code means.
fn words(ended: &ContainerStateTerminated) -> String {
    let said = ended.message.as_deref().unwrap_or_default().trim();
    let record: Option<RunRecord> = serde_json::from_str(said).ok();
    let said = record.map_or(Some(said.to_owned()), |record| record.message);
    let code = ended.exit_code;
    let meaning = || u8::try_from(code).ok().and_then(exit::meaning);
    said.filter(|said| !said.is_empty())
        .or_else(|| Some(meaning()?.to_owned()))
        .unwrap_or_else(|| format!("it ended with code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: &Value) -> Pod {
        let pod = json!({"metadata": {"name": "q"}, "status": status});
        serde_json::from_value(pod).unwrap()
    }

    fn container(name: &str, state: &Value) -> Value {
        json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    fn ended(name: &str, code: i32, message: &str, reason: &str) -> Progress {
        let state = json!({"terminated": {"exitCode": code, "message": message, "reason": reason}});
        let status = json!({"phase": "Failed", "initContainerStatuses": [container(name, &state)]});
        of(&pod(&status))
    }

    fn failed(why: &str) -> Progress {
        Progress::Failed(why.to_owned())
    }

    #[test]
    fn it_is_over_when_its_answer_is_sent() {
        assert_eq!(of(&Pod::default()), Progress::Going(None));
        assert_eq!(
            of(&pod(&json!({"phase": "Pending"}))),
            Progress::Going(None)
        );
        assert_eq!(of(&pod(&json!({"phase": "Succeeded"}))), Progress::Sent);
    }

    #[test]
    fn whoever_failed_says_why() {
        let gone = "the code could not be fetched: there is none";
        assert_eq!(ended("fetch", 112, gone, "Error"), failed(gone));
        let meaning = "the state could not be restored";
        assert_eq!(ended("fetch", 113, " ", "Error"), failed(meaning));
        let ask = "its query program was not run: the program itself failed";
        assert_eq!(ended("ask", 119, "", "Error"), failed(ask));
        let oom = "the query was killed for want of memory: raise the bot's memory limit";
        assert_eq!(ended("ask", 137, "", "OOMKilled"), failed(oom));
        let sent = "its answer could not be put into the store: no such bucket";
        assert_eq!(ended("send", 119, "no such bucket", "Error"), failed(sent));
        assert_eq!(
            ended("fetch", 3, "", "Error"),
            failed("it ended with code 3")
        );
        let evicted =
            json!({"phase": "Failed", "reason": "Evicted", "message": "the node is full"});
        assert_eq!(of(&pod(&evicted)), failed("Evicted: the node is full"));
    }

    #[test]
    fn what_passes_is_waited_for_and_what_does_not_is_told_at_once() {
        let conditions =
            json!([{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]);
        let waits = of(&pod(&json!({"phase": "Pending", "conditions": conditions})));
        let why = "its Pod cannot be scheduled: 0/1 nodes".to_owned();
        assert_eq!(waits, Progress::Going(Some(why)));
        let held = |reason: &str| {
            let state = json!({"waiting": {"reason": reason, "message": "m"}});
            of(&pod(
                &json!({"phase": "Pending", "initContainerStatuses": [container("fetch", &state)]}),
            ))
        };
        assert_eq!(held("PodInitializing"), Progress::Going(None));
        assert_eq!(
            held("ErrImagePull"),
            failed("container fetch: ErrImagePull: m")
        );
    }
}
