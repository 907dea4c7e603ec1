//! What is left to remove of a question, as its Secret and its Pod say themselves. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::ObjectKey;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::engine::kubernetes::names::{self, annotation};

/// How much later than its asker waits for it a question's Pod is ended by its kubelet.
pub const SLACK: Duration = Duration::from_secs(30);

/// What was made for a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name of its Secret and its Pod.
    pub name: String,
    /// The agent that it is for.
    pub holder: String,
    /// When nobody waits for it any more, in seconds since 1970.
    pub until: u64,
    /// Its answer.
    pub key: Option<ObjectKey>,
    /// Whether nothing of its Pod runs any more, as far as is known.
    pub is_over: bool,
}

impl Record {
    fn of(meta: &ObjectMeta, is_over: bool) -> Self {
        Self {
            name: meta.name.clone().unwrap_or_default(),
            holder: annotation(meta, names::HOLDER),
            until: annotation(meta, names::UNTIL).parse().unwrap_or(0),
            key: annotation(meta, names::RESULT).parse().ok(),
            is_over,
        }
    }

    /// Whether nobody waits for it, in the eyes of the agent that is `holder` and needs it or not.
    pub fn is_left(&self, holder: &str, is_needed: bool, now: SystemTime) -> bool {
        if self.holder == holder {
            !is_needed
        } else {
            self.is_overdue(now)
        }
    }

    /// Whether its kubelet has ended it, heard or not.
    pub fn is_overdue(&self, now: SystemTime) -> bool {
        UNIX_EPOCH + Duration::from_secs(self.until) + 2 * SLACK < now
    }
}

/// All that `secrets` and `pods` tell of.
pub fn all<'a>(secrets: impl Iterator<Item = &'a ObjectMeta>, pods: &[Pod]) -> Vec<Record> {
    // A Secret without a Pod has nothing that runs.
    let of_secrets = secrets.map(|meta| Record::of(meta, true));
    let of_pods = pods.iter().map(|pod| {
        let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
        Record::of(&pod.metadata, matches!(phase, Some("Succeeded" | "Failed")))
    });
    let all = of_secrets.chain(of_pods);
    let by_name: BTreeMap<_, _> = all.map(|record| (record.name.clone(), record)).collect();
    by_name.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodStatus;

    fn meta(name: &str, holder: &str, until: u64) -> ObjectMeta {
        let pairs = [
            (names::HOLDER, holder.to_owned()),
            (names::UNTIL, until.to_string()),
            (names::RESULT, format!("b/{name}/result.json")),
        ];
        ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(pairs.map(|(n, v)| (n.to_owned(), v)).into()),
            ..ObjectMeta::default()
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_ours_goes_when_nobody_needs_it_and_others_when_its_time_is_long_over() {
        let record = Record::of(&meta("a", "me", 1000), false);
        assert!(!record.is_left("me", true, at(9999)));
        assert!(record.is_left("me", false, at(1)));
        assert!(!record.is_left("you", false, at(1060)));
        assert!(record.is_left("you", false, at(1061)));
        let unknown = Record::of(&ObjectMeta::default(), false);
        assert!(unknown.is_left("me", false, at(100)), "of no time");
    }

    #[test]
    fn a_question_is_found_by_its_secret_and_by_its_pod_and_once() {
        let pod = |name: &str, phase: &str| Pod {
            metadata: meta(name, "me", 7),
            status: Some(PodStatus {
                phase: Some(phase.to_owned()),
                ..PodStatus::default()
            }),
            ..Pod::default()
        };
        let secrets = [meta("cut-off", "me", 7), meta("runs", "me", 7)];
        let pods = [pod("runs", "Running"), pod("alone", "Succeeded")];
        let found = all(secrets.iter(), &pods);
        let told: Vec<_> = found
            .iter()
            .map(|it| (it.name.as_str(), it.is_over))
            .collect();
        assert_eq!(told, [("alone", true), ("cut-off", true), ("runs", false)]);
        let keys = found.iter().map(|it| it.key.as_ref().unwrap().as_str());
        assert!(keys.eq([
            "b/alone/result.json",
            "b/cut-off/result.json",
            "b/runs/result.json"
        ]));
    }
}
