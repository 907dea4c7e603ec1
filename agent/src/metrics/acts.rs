//! What engines have done, as it is counted.

use crate::engine::not_started::NotStarted;
use crate::engine::{News, docker, kubernetes};
use crate::plan::Outcome;

/// What was done, whether it was, and of a start what came of it.
pub type Act = (&'static str, bool, Option<&'static str>);

/// What has come to its end, if it is counted.
pub fn act(news: &News) -> Option<Act> {
    match news {
        News::Docker(news) => of_docker(news),
        News::Kubernetes(news) => of_cluster(news),
        News::Process(_) | News::Schedule(_) => None,
    }
}

fn of_docker(news: &docker::News) -> Option<Act> {
    match news {
        docker::News::Started(_, result) => {
            let is_new = |running: &docker::Running| running.origin == docker::Origin::Started;
            let outcome = outcome(result.as_ref().map(is_new));
            Some(("start", result.is_ok(), Some(outcome)))
        }
        docker::News::Looked(_, result) => Some(("inspect", result.is_ok(), None)),
        docker::News::Signalled(_, result) => Some(("signal", result.is_ok(), None)),
        docker::News::Renewed(_, _, result) => Some(("renew_keys", result.is_ok(), None)),
        docker::News::Removed(_, result) => Some(("remove", result.is_ok(), None)),
        docker::News::Opened(_, result) => Some(("open", result.is_ok(), None)),
        docker::News::Down(_)
        | docker::News::Listed(_)
        | docker::News::Happened(_)
        | docker::News::Began => None,
    }
}

fn of_cluster(news: &kubernetes::News) -> Option<Act> {
    match news {
        kubernetes::News::Started(_, result) => {
            let result = (**result).as_ref();
            let outcome = outcome(result.map(|running| !running.is_found));
            Some(("start", result.is_ok(), Some(outcome)))
        }
        kubernetes::News::Deleted(_, result) => Some(("signal", result.is_ok(), None)),
        kubernetes::News::Renewed(_, _, result) => Some(("renew_keys", result.is_ok(), None)),
        kubernetes::News::Released(_, _, result) => Some(("remove", result.is_ok(), None)),
        kubernetes::News::Down(_)
        | kubernetes::News::Listed(_)
        | kubernetes::News::Others(_)
        | kubernetes::News::Seen(_)
        | kubernetes::News::Gone(..)
        | kubernetes::News::Noted(..)
        | kubernetes::News::Times(_) => None,
    }
}

/// What came of a start: whether the instance is a new one, or why there is none.
fn outcome(result: Result<bool, &NotStarted>) -> &'static str {
    match result {
        Ok(true) => "started",
        Ok(false) => "found",
        Err(not) => match not.outcome {
            Outcome::Stopped | Outcome::Completed => "stopped",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Busy => "busy",
        },
    }
}
