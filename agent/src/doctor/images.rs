//! The images of the runtimes: here, of the agent's version, or to be had.

use std::cell::RefCell;
use std::collections::BTreeSet;

use bollard::Docker;
use bollard::errors::Error;
use contract::Runtime;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::ANSWER;
use super::docker::answer;
use super::sheet::{Part, Sheet};
use crate::engine::docker::refusal::said;
use crate::engine::docker::template::{Pull, Template};

const VERSION: &str = "org.opencontainers.image.version";

/// An image that bots of a runtime are started in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    name: String,
    runtimes: Vec<Runtime>,
    place: Where,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Where {
    /// On the daemon's host, with its id and the version that it says it is.
    Here(String, Option<String>),
    /// Its registry has it.
    Registry,
    /// It cannot be had, and why.
    Nowhere(String),
}

impl Image {
    /// Its id, if it is on the daemon's host.
    pub fn id(&self) -> Option<&str> {
        match &self.place {
            Where::Here(id, _) => Some(id),
            _ => None,
        }
    }
}

/// Looks for all of them at once.
pub async fn look(docker: &Docker, template: &Template) -> Vec<Image> {
    let mut wanted: Vec<(String, Vec<Runtime>)> = Vec::new();
    for runtime in Runtime::ALL {
        let name = template.image_for(runtime);
        match wanted.iter_mut().find(|(known, _)| *known == name) {
            Some((_, runtimes)) => runtimes.push(runtime),
            None => wanted.push((name, vec![runtime])),
        }
    }
    let found = wanted.into_iter().map(async |(name, runtimes)| Image {
        place: find(docker, &name, template.pull).await,
        name,
        runtimes,
    });
    join_all(found).await
}

async fn find(docker: &Docker, name: &str, pull: Pull) -> Where {
    let absent = match timeout(ANSWER, docker.inspect_image(name)).await {
        Ok(Ok(image)) => {
            let labels = image.config.and_then(|config| config.labels);
            let version = labels.and_then(|mut labels| labels.remove(VERSION));
            return Where::Here(image.id.unwrap_or_default(), version);
        }
        Ok(Err(Error::DockerResponseServerError {
            status_code: 404, ..
        })) => "not on this host",
        Ok(Err(err)) => return Where::Nowhere(said(&err)),
        Err(_) => return Where::Nowhere("the Docker daemon does not answer".into()),
    };
    if pull == Pull::Never {
        return Where::Nowhere(format!("{absent}, and THE0_PULL=never"));
    }
    match answer(docker.inspect_registry_image(name, None)).await {
        Ok(_) => Where::Registry,
        Err(why) => Where::Nowhere(format!("{absent}, and its registry: {why}")),
    }
}

/// Tells what that means for the bots, of which those of the runtimes `needed` are known to exist. Pure.
pub fn judge(images: &[Image], needed: Option<&BTreeSet<Runtime>>, sheet: &RefCell<Sheet>) {
    let mut sheet = sheet.borrow_mut();
    let ours = env!("CARGO_PKG_VERSION");
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for image in images {
        let name = &image.name;
        match &image.place {
            Where::Here(_, Some(version)) if version == ours => here.push(short(image)),
            Where::Here(_, version) => {
                let version = version.as_deref().unwrap_or("unknown");
                let found = format!("{name} is of version {version}, the agent of {ours}");
                let remedy =
                    "build or pull those of the agent's version (`make images`), then `agent roll`";
                sheet.warning(Part::Docker, "images", found, remedy);
            }
            Where::Registry => there.push(short(image)),
            Where::Nowhere(why) => {
                let found = format!("{name}: {why}");
                let remedy = "build it (`make images`), or set RUNTIME_IMAGE to one that is there";
                let is_needed =
                    needed.is_none_or(|needed| image.runtimes.iter().any(|r| needed.contains(r)));
                if is_needed {
                    sheet.failed(Part::Docker, "images", found, remedy);
                } else {
                    let found = format!("{found}; no bot wants it now");
                    sheet.warning(Part::Docker, "images", found, remedy);
                }
            }
        }
    }
    if !here.is_empty() {
        let found = format!("here, version {ours}: {}", here.join(" "));
        sheet.ok(Part::Docker, "images", found);
    }
    if !there.is_empty() {
        let found = format!(
            "in their registry, pulled at the first start: {}",
            there.join(" ")
        );
        sheet.ok(Part::Docker, "images", found);
    }
}

fn short(image: &Image) -> &str {
    image.runtimes.first().map_or("", |runtime| runtime.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Colours;

    fn said(needed: Option<&[Runtime]>) -> String {
        let image = |name: &str, runtime, place| Image {
            name: name.to_owned(),
            runtimes: vec![runtime],
            place,
        };
        let ours = Some(env!("CARGO_PKG_VERSION").to_owned());
        let images = [
            image("a", Runtime::Python, Where::Here("1".into(), ours)),
            image(
                "b",
                Runtime::Node,
                Where::Here("2".into(), Some("0.0.1".into())),
            ),
            image("c", Runtime::Scala, Where::Nowhere("no".into())),
            image("d", Runtime::Rust, Where::Registry),
        ];
        let needed = needed.map(|needed| needed.iter().copied().collect());
        let sheet = RefCell::new(Sheet::default());
        judge(&images, needed.as_ref(), &sheet);
        sheet.into_inner().table(Colours::Off)
    }

    #[test]
    fn an_image_that_is_nowhere_fails_where_bots_want_it_or_nobody_knows() {
        assert!(said(None).contains("1 failed, 1 to look at"));
        assert!(said(Some(&[Runtime::Scala])).contains("1 failed"));
        let text = said(Some(&[Runtime::Python]));
        assert!(text.contains("0 failed, 2 to look at"), "{text}");
        assert!(text.contains("b is of version 0.0.1"), "{text}");
        assert!(
            text.contains("pulled at the first start: rust-stable"),
            "{text}"
        );
    }
}
