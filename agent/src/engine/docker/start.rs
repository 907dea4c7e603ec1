//! One start: image, keys, container, launch document. Each step can fail or be cut off by the agent's own end, and
//! the next start finds what is there.
//!
//! ```text
//! image there ─▶ keys ─▶ create ──────────────▶ attach ─▶ start ─▶ hand over the document
//!                          │ the name is taken
//!                          └▶ running: adopt it    created, ended: remove it, create again    not ours: refuse
//! ```

use std::net::IpAddr;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    RemoveContainerOptionsBuilder, StartContainerOptions,
};
use contract::{BotId, Secret};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::access::Access;
use super::container::{self, Refused};
use super::image::NoImage;
use super::{files, names};
use crate::document::Bot;
use crate::plan::Outcome;
use crate::report::Records;

/// Time for handing over a line on a container's standard input.
const HAND_OVER: Duration = Duration::from_secs(10);

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
    /// When its keys should be renewed, from now; `None` where they have no end.
    pub renew_in: Option<Duration>,
    /// Whether it was there already.
    pub origin: Origin,
}

/// How we came to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// We started it.
    Started,
    /// It was there.
    Adopted,
}

/// Why a bot does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStarted {
    /// For the plan.
    pub outcome: Outcome,
    /// For a person.
    pub why: String,
}

impl NotStarted {
    /// This one.
    pub fn new(outcome: Outcome, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { outcome, why }
    }
}

impl From<NoImage> for NotStarted {
    fn from(why: NoImage) -> Self {
        Self::new(Outcome::Failed, why.to_string())
    }
}

impl From<Refused> for NotStarted {
    fn from(why: Refused) -> Self {
        Self::new(Outcome::Refused, why.to_string())
    }
}

/// What the daemon would not do.
pub fn refused_by_engine(what: &str, err: &Error) -> NotStarted {
    let outcome = match err {
        // What it calls a bad request it will call so again.
        Error::DockerResponseServerError {
            status_code: 400, ..
        } => Outcome::Refused,
        _ => Outcome::Failed,
    };
    NotStarted::new(outcome, format!("{what}: {}", said(err)))
}

/// The daemon's own words.
pub fn said(err: &Error) -> String {
    match err {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::RequestTimeoutError => "the Docker daemon did not answer in time".to_owned(),
        other => format!("the Docker daemon: {other}"),
    }
}

fn has_status(err: &Error, code: u16) -> bool {
    matches!(err, Error::DockerResponseServerError { status_code, .. } if *status_code == code)
}

/// Starts `bot`, or finds it running. `cancel` ends the waiting for an image.
///
/// # Errors
/// Why it does not run.
pub async fn start(
    access: &Access,
    bot: &Bot,
    cancel: oneshot::Receiver<()>,
) -> Result<Running, NotStarted> {
    let (docker, template) = (&access.docker, &access.template);
    let image = template.image_for(bot.definition.runtime);
    let image_id = tokio::select! {
        biased;
        _ = cancel => return Err(NotStarted::new(Outcome::Stopped, "told to stop before it was started")),
        id = access.images.ensure(docker, &image, template.pull) => id?,
    };
    let network = access.network().await?;
    let options = container::options(bot, template, &image_id, &network)?;
    let variables = container::variables(bot, template, &access.store_variables);
    container::document(variables.clone(), &contract::launch::Keys::new())
        .map_err(Refused::from)?;
    let granted = access.keys.grant(bot).await?;
    let document = container::document(variables, &granted.keys).map_err(Refused::from)?;

    let name = template.stack.container(&bot.id);
    let begun = async {
        access.may_act()?;
        let made = create(access, &name, options, &bot.id).await?;
        if let Created::New(id) = &made {
            access.may_act()?;
            begin(docker, id, &document).await?;
        }
        Ok(made)
    };
    let id = match begun.await {
        Ok(Created::New(id)) => id,
        Ok(Created::Runs(running)) => return Ok(*running),
        Err(not) => {
            // The network may be gone.
            access.forget_network().await;
            return Err(not);
        }
    };
    let inspected = docker
        .inspect_container(&id, None::<InspectContainerOptions>)
        .await;
    let inspected = inspected.map_err(|err| refused_by_engine("look at its container", &err))?;
    Ok(Running {
        renew_in: granted.renew_in,
        ..running(&inspected, Origin::Started)
    })
}

enum Created {
    New(String),
    Runs(Box<Running>),
}

async fn create(
    access: &Access,
    name: &str,
    options: bollard::models::ContainerCreateBody,
    bot: &BotId,
) -> Result<Created, NotStarted> {
    for _ in 0..3 {
        let named = CreateContainerOptionsBuilder::default().name(name).build();
        let made = access
            .docker
            .create_container(Some(named), options.clone())
            .await;
        match made {
            Ok(made) => return Ok(Created::New(made.id)),
            Err(err) if has_status(&err, 409) => {
                if let Some(running) = make_way(access, name, bot).await? {
                    return Ok(Created::Runs(Box::new(running)));
                }
            }
            Err(err) => return Err(refused_by_engine("make its container", &err)),
        }
    }
    let why = format!(
        "the name {name} is given up and taken again: somebody else makes containers of this name"
    );
    Err(NotStarted::new(Outcome::Busy, why))
}

/// Somebody has the name: gives the container if it runs, or removes it if it is ours and over.
async fn make_way(access: &Access, name: &str, bot: &BotId) -> Result<Option<Running>, NotStarted> {
    let found = access
        .docker
        .inspect_container(name, None::<InspectContainerOptions>)
        .await;
    let found = match found {
        Ok(found) => found,
        Err(err) if has_status(&err, 404) => return Ok(None),
        Err(err) => {
            return Err(refused_by_engine(
                "look at the container that has its name",
                &err,
            ));
        }
    };
    let labels = labels(&found);
    if access.template.stack.bot_of(name, &labels).as_ref() != Some(bot) {
        let why =
            format!("a container {name} is there that is not this agent's: remove or rename it");
        return Err(NotStarted::new(Outcome::Refused, why));
    }
    match found.state.as_ref().and_then(|state| state.status) {
        Some(
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::RESTARTING,
        ) => Ok(Some(running(&found, Origin::Adopted))),
        Some(ContainerStateStatusEnum::REMOVING) => Err(NotStarted::new(
            Outcome::Busy,
            "its last container is being removed",
        )),
        _ => {
            let id = found.id.unwrap_or_default();
            remove(&access.docker, &id)
                .await
                .map_err(|err| refused_by_engine("remove its last container", &err))?;
            Ok(None)
        }
    }
}

/// Removes a container that does not run; that it is gone is fine. Its volumes stay.
///
/// # Errors
/// What the daemon says, also when it runs after all.
pub async fn remove(docker: &Docker, id: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::default()
        .v(false)
        .force(false)
        .build();
    match docker.remove_container(id, Some(options)).await {
        Err(err) if !has_status(&err, 404) => Err(err),
        _ => Ok(()),
    }
}

async fn begin(docker: &Docker, id: &str, document: &Secret) -> Result<(), NotStarted> {
    let mut input = attach(docker, id)
        .await
        .map_err(|err| refused_by_engine("attach to its container", &err))?;
    let started = docker
        .start_container(id, None::<StartContainerOptions>)
        .await;
    started.map_err(|err| refused_by_engine("start its container", &err))?;
    hand_over(&mut input, document).await.map_err(|err| {
        let why = format!("its launch could not be handed to its container: {err}");
        NotStarted::new(Outcome::Failed, why)
    })
}

type Input = std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>;

async fn attach(docker: &Docker, id: &str) -> Result<Input, Error> {
    let options = AttachContainerOptionsBuilder::default()
        .stdin(true)
        .stream(true)
        .build();
    Ok(docker.attach_container(id, Some(options)).await?.input)
}

async fn hand_over(input: &mut Input, line: &Secret) -> std::io::Result<()> {
    let write = async {
        input.write_all(line.reveal().as_bytes()).await?;
        input.flush().await
    };
    tokio::time::timeout(HAND_OVER, write)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// Hands a running container one more line.
///
/// # Errors
/// Why not, for a person.
pub async fn tell(docker: &Docker, id: &str, line: &Secret) -> Result<(), String> {
    let mut input = attach(docker, id).await.map_err(|err| said(&err))?;
    hand_over(&mut input, line)
        .await
        .map_err(|err| err.to_string())
}

fn labels(found: &ContainerInspectResponse) -> std::collections::HashMap<String, String> {
    let config = found.config.as_ref();
    config
        .and_then(|config| config.labels.clone())
        .unwrap_or_default()
}

/// What an inspection says of a container that runs.
pub fn running(found: &ContainerInspectResponse, origin: Origin) -> Running {
    let labels = labels(found);
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let networks = found
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref());
    let mut addresses = networks.into_iter().flat_map(|n| n.values());
    let address = addresses.find_map(|n| n.ip_address.as_ref()?.parse().ok());
    Running {
        id: found.id.clone().unwrap_or_default(),
        address,
        launch: label(names::LAUNCH),
        template: label(names::TEMPLATE),
        image: found.image.clone().unwrap_or_default(),
        renew_in: None,
        origin,
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
    /// When it was started, RFC 3339.
    pub started: Option<String>,
    /// Its launch digest.
    pub launch: String,
    /// The code bundle's key.
    pub code_key: String,
    /// Its files.
    pub records: Records,
}

/// What became of a container that was thought to have ended.
#[derive(Debug, Clone)]
pub enum Examined {
    /// It has.
    Over(Box<Over>),
    /// It runs.
    Runs(Box<Running>),
    /// It was made and never started.
    NeverStarted(String),
    /// It is gone.
    Gone,
}

/// Looks at the bot's container, whatever has become of it.
///
/// # Errors
/// The daemon does not say.
pub async fn examine(docker: &Docker, name: &str) -> Result<Examined, Error> {
    let found = match docker
        .inspect_container(name, None::<InspectContainerOptions>)
        .await
    {
        Ok(found) => found,
        Err(err) if has_status(&err, 404) => return Ok(Examined::Gone),
        Err(err) => return Err(err),
    };
    let state = found.state.clone().unwrap_or_default();
    let id = found.id.clone().unwrap_or_default();
    match state.status {
        Some(ContainerStateStatusEnum::CREATED) => Ok(Examined::NeverStarted(id)),
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => {
            let labels = labels(&found);
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            Ok(Examined::Over(Box::new(Over {
                records: files::records(docker, &id).await?,
                id,
                code: state.exit_code.and_then(|code| i32::try_from(code).ok()),
                is_oom: state.oom_killed == Some(true),
                error: state.error.filter(|error| !error.is_empty()),
                started: state.started_at,
                launch: label(names::LAUNCH),
                code_key: label(names::CODE),
            })))
        }
        Some(ContainerStateStatusEnum::REMOVING) => Ok(Examined::Gone),
        _ => Ok(Examined::Runs(Box::new(running(&found, Origin::Adopted)))),
    }
}
