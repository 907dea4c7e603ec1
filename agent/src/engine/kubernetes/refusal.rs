//! What the API server would not do, for the plan and for a person.

use kube::Error;

use crate::engine::not_started::NotStarted;
use crate::plan::Outcome;

/// What helps where we may not do it.
const REMEDY: &str =
    "; what the agent may do in the namespace is told by its Role (see the chart's)";

/// What it would not do: `what`, and its own words.
pub fn not_started(what: &str, err: &Error) -> NotStarted {
    let said = said(err);
    // What it calls an invalid object it will call so again; a policy of the cluster's is mended without a word to us.
    let is_policy = said.contains("denied the request") || said.contains("AdmissionPolicy");
    let outcome = if (has_status(err, 422) || has_status(err, 400)) && !is_policy {
        Outcome::Refused
    } else {
        Outcome::Failed
    };
    let remedy = match status(err) {
        Some(401) => REMEDY,
        // A quota, limits or Pod Security say themselves what they want.
        Some(403) if said.contains(" cannot ") => REMEDY,
        Some(404) => "; is there such a namespace?",
        _ => "",
    };
    NotStarted::new(outcome, format!("{what}: {said}{remedy}"))
}

/// The API server's own words.
pub fn said(err: &Error) -> String {
    match err {
        Error::Api(status) if status.message.trim().is_empty() => {
            format!("the API server answers {} and says no more", status.code)
        }
        Error::Api(status) => status.message.trim().to_owned(),
        other => format!("the API server: {}", chain(other)),
    }
}

/// An error and what it comes from, each said once.
fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn status(err: &Error) -> Option<u16> {
    match err {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the API server answered with this status.
pub fn has_status(err: &Error, code: u16) -> bool {
    status(err) == Some(code)
}

/// Nothing was there: what was to go is gone.
pub fn or_gone<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(err) if has_status(&err, 404) => Ok(None),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn error(code: u16, message: &str) -> Error {
        Error::Api(Box::new(Status::failure(message, "").with_code(code)))
    }

    #[test]
    fn an_object_that_is_refused_is_not_tried_again_and_what_a_person_mends_is() {
        let of = |code| not_started("make its Pod", &error(code, "no"));
        assert_eq!(of(422).outcome, Outcome::Refused);
        let told = |code, words| not_started("make its Pod", &error(code, words));
        let forbidden = told(403, "pods is forbidden: User \"a\" cannot create resource");
        assert_eq!(forbidden.outcome, Outcome::Failed);
        assert!(forbidden.why.contains("User") && forbidden.why.contains("Role"));
        let quota = told(403, "pods \"a\" is forbidden: exceeded quota: q");
        assert_eq!(quota.outcome, Outcome::Failed);
        assert!(!quota.why.contains("Role"), "{}", quota.why);
        for policy in [
            "admission webhook \"a\" denied the request: no",
            "ValidatingAdmissionPolicy 'a' with binding 'b' denied request: no",
        ] {
            for code in [400, 422] {
                assert_eq!(told(code, policy).outcome, Outcome::Failed, "{policy}");
            }
        }
        assert_eq!(of(500).outcome, Outcome::Failed);
        assert!(said(&error(503, " ")).contains("answers 503"));
    }

    #[test]
    fn what_is_gone_is_no_error() {
        assert!(
            or_gone::<()>(Err(error(404, "not found")))
                .unwrap()
                .is_none()
        );
        assert!(or_gone::<()>(Err(error(409, "conflict"))).is_err());
    }
}
