//! Why something was not done, for the plan and for a person.

use bollard::errors::Error;

use super::image::NoImage;
use crate::plan::Outcome;

pub use crate::engine::not_started::NotStarted;

impl NotStarted {
    /// What the daemon would not do: `what`, and its own words.
    pub fn by_engine(what: &str, err: &Error) -> Self {
        // What it calls a bad request it will call so again, unless it is the host that is to be mended.
        let said = said(err);
        let outcome = if has_status(err, 400) && !is_no_runtime(&said) {
            Outcome::Refused
        } else {
            Outcome::Failed
        };
        let remedy = remedy(&said).unwrap_or_default();
        Self::new(outcome, format!("{what}: {said}{remedy}"))
    }
}

impl From<NoImage> for NotStarted {
    fn from(why: NoImage) -> Self {
        Self::new(Outcome::Failed, why.to_string())
    }
}

/// The daemon's own words.
pub fn said(err: &Error) -> String {
    match err {
        Error::DockerResponseServerError {
            status_code,
            message,
        } if message.trim().is_empty() => {
            format!(
                "the Docker daemon, or what is before it, answers {status_code} and says no more"
            )
        }
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::RequestTimeoutError => "the Docker daemon did not answer in time".to_owned(),
        other => format!("the Docker daemon: {other}"),
    }
}

/// What to do about it, where that is known and the daemon's words do not say it.
fn remedy(said: &str) -> Option<&'static str> {
    if is_no_runtime(said) {
        return Some(
            ": THE0_OCI_RUNTIME names none of the daemon's: add it to its \"runtimes\", or set another",
        );
    }
    // gVisor, <https://github.com/google/gvisor/issues/160>.
    let unreadable =
        said.contains("failed to load /opt/the0/") && said.contains("permission denied");
    unreadable.then_some(
        "; this runtime runs no program that it may not read: build the images with THE0_PROGRAM_MODE=755",
    )
}

/// Whether the daemon does not know the OCI runtime. API 1.41 says "Unknown runtime specified runsc", later ones "unknown
/// or invalid runtime name: runsc".
fn is_no_runtime(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    said.starts_with("unknown ") && said.contains(" runtime ")
}

/// Whether the daemon answered with this status.
pub fn has_status(err: &Error, code: u16) -> bool {
    matches!(err, Error::DockerResponseServerError { status_code, .. } if *status_code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_wants_to_read_programs_is_told_of() {
        let message = "OCI runtime start failed: creating process: failed to load /opt/the0/bin/supervisor: permission denied: unknown";
        let err = Error::DockerResponseServerError {
            status_code: 500,
            message: message.to_owned(),
        };
        let not = NotStarted::by_engine("start its container", &err);
        assert_eq!(not.outcome, Outcome::Failed);
        assert!(not.why.contains(message), "{}", not.why);
        assert!(not.why.ends_with("THE0_PROGRAM_MODE=755"), "{}", not.why);
        assert_eq!(remedy("permission denied"), None);
    }

    #[test]
    fn an_answer_without_words_is_told_by_its_number() {
        let err = Error::DockerResponseServerError {
            status_code: 503,
            message: "\n".to_owned(),
        };
        assert!(said(&err).contains("answers 503"), "{}", said(&err));
    }

    #[test]
    fn what_a_person_mends_on_the_host_is_tried_again_and_what_is_wrong_with_the_bot_is_not() {
        let of = |status_code: u16, message: &str| {
            let message = message.to_owned();
            let err = Error::DockerResponseServerError {
                status_code,
                message,
            };
            NotStarted::by_engine("make its container", &err)
        };
        for message in [
            "Unknown runtime specified runsc",
            "unknown or invalid runtime name: runsc",
        ] {
            let not = of(400, message);
            assert_eq!(not.outcome, Outcome::Failed, "{message}");
            assert!(not.why.contains(message) && not.why.contains("THE0_OCI_RUNTIME"));
        }
        assert_eq!(of(500, "no space left").outcome, Outcome::Failed);
        let bad = of(400, "invalid mount config");
        assert_eq!(bad.outcome, Outcome::Refused);
        assert_eq!(bad.why, "make its container: invalid mount config");
    }
}
