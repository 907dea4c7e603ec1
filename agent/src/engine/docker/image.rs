//! Images: there before a start, pulled once however many bots wait for one, and not asked for again and again when
//! they cannot be had.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use thiserror::Error;
use tokio::time::Instant;

use super::template::Pull;

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoImage {
    /// Nobody has it.
    #[error(
        "image {0} is nowhere: {1}: build it (`make images`), or set RUNTIME_IMAGE to one that is there"
    )]
    Missing(String, String),
    /// The registry wants to know who asks.
    #[error(
        "image {0} is denied: {1}: log the daemon's host in to the registry and pull it there, or set RUNTIME_IMAGE"
    )]
    Denied(String, String),
    /// The registry does not answer.
    #[error(
        "image {0} could not be pulled: {1}; what is here already is used when THE0_PULL is missing or never"
    )]
    Unreachable(String, String),
    /// The daemon does not answer.
    #[error("image {0}: {1}")]
    Engine(String, String),
}

impl NoImage {
    /// The first pause before it is asked for again, and the longest. What a person must mend is asked for seldom.
    fn pauses(&self) -> [Duration; 2] {
        match self {
            Self::Missing(..) => [Duration::from_secs(10), Duration::from_mins(5)],
            Self::Denied(..) => [Duration::from_mins(1), Duration::from_mins(15)],
            Self::Unreachable(..) => [Duration::from_secs(5), Duration::from_mins(2)],
            Self::Engine(..) => [Duration::ZERO; 2],
        }
    }
}

/// What is known of the images of a daemon; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Images {
    known: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>>,
}

#[derive(Debug, Default)]
struct Known {
    pulled: Option<Instant>,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    why: NoImage,
    pause: Duration,
    until: Instant,
}

impl Images {
    /// The id of the image `name`, pulled before if `pull` says so.
    ///
    /// # Errors
    /// Why it is not there; the same as before while it is not time to ask again.
    pub async fn ensure(&self, docker: &Docker, name: &str, pull: Pull) -> Result<String, NoImage> {
        let asked = Instant::now();
        let known = self.of(name);
        let mut known = known.lock().await;
        if let Some(failed) = &known.failed
            && asked < failed.until
        {
            return Err(failed.why.clone());
        }
        let had = known.pulled.is_some_and(|pulled| pulled >= asked);
        match look(docker, name, if had { Pull::Missing } else { pull }).await {
            Ok((id, pulled)) => {
                known.failed = None;
                known.pulled = pulled.or(known.pulled);
                Ok(id)
            }
            Err(why) => {
                known.failed = Some(Failed::after(known.failed.take(), why.clone()));
                Err(why)
            }
        }
    }

    /// Forgets failures: a person has done something about them.
    pub fn hope(&self) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for image in known.values() {
            // One that is being pulled is asked for at this moment.
            if let Ok(mut image) = image.try_lock() {
                image.failed = None;
            }
        }
    }

    fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(name.to_owned()).or_default().clone()
    }
}

impl Failed {
    fn after(before: Option<Failed>, why: NoImage) -> Self {
        let [first, longest] = why.pauses();
        let kind = |why: &NoImage| std::mem::discriminant(why);
        let pause = match before {
            Some(before) if kind(&before.why) == kind(&why) => (before.pause * 2).min(longest),
            _ => first,
        };
        Self {
            why,
            pause,
            until: Instant::now() + pause,
        }
    }
}

async fn look(
    docker: &Docker,
    name: &str,
    pull: Pull,
) -> Result<(String, Option<Instant>), NoImage> {
    if pull != Pull::Always
        && let Some(id) = inspect(docker, name).await?
    {
        return Ok((id, None));
    }
    if pull == Pull::Never {
        let why = "it is not on this host, and THE0_PULL=never".to_owned();
        return Err(NoImage::Missing(name.to_owned(), why));
    }
    fetch(docker, name).await?;
    let id = inspect(docker, name).await?;
    let gone = || NoImage::Missing(name.to_owned(), "it was removed while it was pulled".into());
    Ok((id.ok_or_else(gone)?, Some(Instant::now())))
}

async fn inspect(docker: &Docker, name: &str) -> Result<Option<String>, NoImage> {
    match docker.inspect_image(name).await {
        Ok(image) => Ok(image.id),
        Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => Ok(None),
        Err(err) => Err(NoImage::Engine(name.to_owned(), err.to_string())),
    }
}

async fn fetch(docker: &Docker, name: &str) -> Result<(), NoImage> {
    // Without a tag the daemon would pull all of them.
    let has_tag = name
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains([':', '@']));
    let whole = if has_tag {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    let options = CreateImageOptionsBuilder::default()
        .from_image(&whole)
        .build();
    let mut progress = std::pin::pin!(docker.create_image(Some(options), None, None));
    while let Some(step) = progress.next().await {
        step.map_err(|err| classify(name, &err))?;
    }
    Ok(())
}

/// Registries tell by words more than by codes what is the matter.
fn classify(name: &str, err: &Error) -> NoImage {
    let text = match err {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        other => return NoImage::Engine(name.to_owned(), other.to_string()),
    };
    let lower = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let (name, text) = (name.to_owned(), text.trim().to_owned());
    if says(&[
        "denied",
        "unauthorized",
        "authentication required",
        "forbidden",
        "no basic auth",
    ]) {
        NoImage::Denied(name, text)
    } else if says(&[
        "not found",
        "manifest unknown",
        "no such image",
        "name unknown",
    ]) {
        NoImage::Missing(name, text)
    } else {
        NoImage::Unreachable(name, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_an_image_cannot_be_pulled_is_told_by_the_registrys_words() {
        let of = |message: &str| {
            classify(
                "i",
                &Error::DockerResponseServerError {
                    status_code: 500,
                    message: message.into(),
                },
            )
        };
        for (text, expected) in [
            (
                "pull access denied for i, repository does not exist or may require 'docker login'",
                "denied",
            ),
            ("unauthorized: authentication required", "denied"),
            ("manifest for i:9 not found: manifest unknown", "nowhere"),
            (
                "Get \"https://r/v2/\": dial tcp: lookup r: no such host",
                "could not be pulled",
            ),
            ("net/http: TLS handshake timeout", "could not be pulled"),
        ] {
            assert!(
                of(text).to_string().contains(expected),
                "{text}: {}",
                of(text)
            );
        }
    }

    #[test]
    fn failures_of_one_kind_are_asked_about_ever_more_seldom() {
        let missing = || NoImage::Missing("i".into(), String::new());
        let mut failed = Failed::after(None, missing());
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push(failed.pause.as_secs());
            failed = Failed::after(Some(failed), missing());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        let other = Failed::after(Some(failed), NoImage::Denied("i".into(), String::new()));
        assert_eq!(other.pause.as_secs(), 60);
    }
}
