//! What has become of a container.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::InspectContainerOptions;
use contract::BotId;
use contract::record::Time;

use super::names::{self, Stack, label};
use super::refusal::has_status;
use super::{container, files};
use crate::history::cause::{Cause, Told};
use crate::history::{Birth, Start};
use crate::report::Records;

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The container's id.
    pub id: String,
    /// Its address in the bots' network.
    pub address: Option<IpAddr>,
    /// Its labels' launch digest.
    pub launch: String,
    /// Its labels' template digest.
    pub template: String,
    /// Its image's id.
    pub image: String,
    /// What its supervisor may take to end.
    pub patience: Duration,
    /// When its keys should be renewed, from now; `None` where they have no end, or it is not known.
    pub renew_in: Option<Duration>,
    /// How we came to it.
    pub origin: Origin,
    /// What it was made of, and why.
    pub birth: Box<Birth>,
    /// When it was decided to start it, as its label has it.
    pub began: String,
}

/// How we came to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// We started it.
    Started,
    /// It was there.
    Adopted,
}

impl Running {
    /// One that was there, by its labels.
    pub fn found(
        id: String,
        image: String,
        address: Option<IpAddr>,
        labels: &HashMap<String, String>,
        made: Option<Time>,
    ) -> Self {
        let patience = label(labels, names::PATIENCE).parse().ok();
        Self {
            birth: Box::new(birth(&id, &image, labels, made)),
            id,
            address,
            launch: label(labels, names::LAUNCH),
            template: label(labels, names::TEMPLATE),
            image,
            patience: patience.map_or(container::STOP, Duration::from_secs),
            renew_in: None,
            origin: Origin::Adopted,
            began: label(labels, names::BEGAN),
        }
    }

    /// The same by an inspection.
    pub fn inspected(found: &ContainerInspectResponse) -> Self {
        let settings = found.network_settings.as_ref();
        let networks = settings.and_then(|settings| settings.networks.as_ref());
        let mut addresses = networks.into_iter().flat_map(HashMap::values);
        let address = addresses.find_map(|network| network.ip_address.as_ref()?.parse().ok());
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (id, image) = (text(&found.id), text(&found.image));
        Self::found(id, image, address, &labels(found), made(found))
    }
}

/// A container that has ended, and what it left in writing.
#[derive(Debug, Clone)]
pub struct Over {
    /// The container's id.
    pub id: String,
    /// Its exit code.
    pub code: Option<i32>,
    /// Whether the kernel killed in it for want of memory.
    pub is_oom: bool,
    /// What the daemon says about its end.
    pub error: Option<String>,
    /// When it was made. (When it was started the daemon may note after it has ended.)
    pub made: Option<Time>,
    /// Its launch digest.
    pub launch: String,
    /// The code bundle's key.
    pub code_key: String,
    /// Its files.
    pub records: Records,
    /// What it was made of, and why.
    pub birth: Birth,
    /// When it ended.
    pub finished: Option<Time>,
}

/// What became of a container that was thought to have ended.
#[derive(Debug, Clone)]
pub enum Examined {
    /// It has.
    Over(Box<Over>),
    /// It runs.
    Runs(Box<Running>),
    /// It was made and not started.
    NotStarted,
    /// It is gone, or not this bot's.
    Gone,
}

/// What a container was made of. One of an agent that left no word was found.
fn birth(id: &str, image: &str, labels: &HashMap<String, String>, made: Option<Time>) -> Birth {
    let told = label(labels, names::CAUSE).parse();
    let told = told.unwrap_or(Told(Cause::Found, None));
    let some = |name: &str| labels.get(name).cloned();
    Birth {
        start: Start {
            cause: told.0,
            because: told.1,
            at: began(&label(labels, names::BEGAN), made),
            tick: names::tick(labels),
        },
        name: label(labels, names::NAME),
        version: some(names::VERSION),
        code: some(names::CODE),
        config: None,
        launch: some(names::LAUNCH),
        image: Some(image.to_owned()),
        container: Some(id.chars().take(12).collect()),
    }
}

fn made(found: &ContainerInspectResponse) -> Option<Time> {
    found.created.clone()?.try_into().ok()
}

/// When nothing of an earlier container was young any more. The daemon's clock is the one of what runs in containers; the
/// label is the agent's, and counts only within a second that the daemon does not tell apart.
fn began(label: &str, made: Option<Time>) -> Time {
    let told = Time::try_from(label.to_owned()).ok();
    let made = made.or(told).unwrap_or(std::time::UNIX_EPOCH.into());
    let second = Time::from(made.system() + Duration::from_secs(1));
    told.filter(|told| *told > made && *told < second)
        .unwrap_or(made)
}

/// The labels of an inspected container.
pub fn labels(found: &ContainerInspectResponse) -> HashMap<String, String> {
    let labels = found
        .config
        .as_ref()
        .and_then(|config| config.labels.clone());
    labels.unwrap_or_default()
}

/// Inspects a container, by id or name; `None` when it is not there.
///
/// # Errors
/// The daemon does not say.
pub async fn inspect(
    docker: &Docker,
    which: &str,
) -> Result<Option<ContainerInspectResponse>, Error> {
    match docker
        .inspect_container(which, None::<InspectContainerOptions>)
        .await
    {
        Ok(found) => Ok(Some(found)),
        Err(err) if has_status(&err, 404) => Ok(None),
        Err(err) => Err(err),
    }
}

/// How far an inspected container is.
pub fn status(found: &ContainerInspectResponse) -> ContainerStateStatusEnum {
    let state = found.state.as_ref().and_then(|state| state.status);
    state.unwrap_or(ContainerStateStatusEnum::EMPTY)
}

/// Looks at the bot's container `which`, an id or a name, whatever has become of it; `is_near` as in [`super::Access`].
///
/// # Errors
/// The daemon does not say, or not all that there is to read could be read.
pub async fn examine(
    docker: &Docker,
    is_near: bool,
    stack: &Stack,
    bot: &BotId,
    which: &str,
) -> Result<Examined, Error> {
    let found = inspect(docker, which).await?;
    let Some(found) = found.filter(|found| stack.bot_of(&labels(found)).as_ref() == Some(bot))
    else {
        return Ok(Examined::Gone);
    };
    match status(&found) {
        ContainerStateStatusEnum::CREATED => Ok(Examined::NotStarted),
        ContainerStateStatusEnum::REMOVING => Ok(Examined::Gone),
        ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD => {
            over(docker, is_near, &found).await
        }
        _ => Ok(Examined::Runs(Box::new(Running::inspected(&found)))),
    }
}

async fn over(
    docker: &Docker,
    is_near: bool,
    found: &ContainerInspectResponse,
) -> Result<Examined, Error> {
    let state = found.state.clone().unwrap_or_default();
    let id = found.id.clone().unwrap_or_default();
    // Of one that was removed meanwhile nothing could be read, which is not to be taken for nothing written.
    let Some(records) = files::records_of_ended(docker, is_near, &id).await? else {
        return Ok(Examined::Gone);
    };
    let labels = labels(found);
    let finished = state.finished_at.and_then(|at| at.try_into().ok());
    let image = found.image.clone().unwrap_or_default();
    Ok(Examined::Over(Box::new(Over {
        records,
        birth: birth(&id, &image, &labels, made(found)),
        finished,
        id,
        code: state.exit_code.and_then(|code| i32::try_from(code).ok()),
        is_oom: state.oom_killed == Some(true),
        error: state.error.filter(|error| !error.is_empty()),
        made: made(found),
        launch: label(&labels, names::LAUNCH),
        code_key: label(&labels, names::CODE),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_began_when_its_daemon_says_and_to_the_millisecond_where_that_can_be() {
        let time = |millis| Time::from(std::time::UNIX_EPOCH + Duration::from_millis(millis));
        let label = |millis| time(millis).to_string();
        assert_eq!(began(&label(5400), Some(time(5000))), time(5400));
        assert_eq!(
            began(&label(5400), Some(time(5700))),
            time(5700),
            "inspected"
        );
        assert_eq!(
            began(&label(9000), Some(time(5000))),
            time(5000),
            "another clock"
        );
        assert_eq!(
            began(&label(100), Some(time(5000))),
            time(5000),
            "a long pull"
        );
        assert_eq!(began(&label(100), None), time(100));
        assert_eq!(began("", None), time(0));
    }
}
