//! One start: image, keys, container, launch document. Each step can fail or be cut off by the agent's own end, and
//! the next start finds what is there.
//!
//! ```text
//! image there ─▶ keys ─▶ create ──────────────▶ attach ─▶ start ─▶ hand over the document
//!                          │ the name is taken
//!                          └▶ running: adopt it    created, ended: remove it, create again    not ours: refuse
//! ```

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions,
};
use contract::launch::Keys;
use contract::{BotId, Secret, vars};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::access::Access;
use super::container::{self, Refused};
use super::examine::{Origin, Running, inspect, labels, status};
use super::names;
use super::refusal::{NotStarted, has_status, said};
use crate::document::Bot;
use crate::history::Start;
use crate::plan::Outcome;
use crate::schedule::ledger::Key;

/// Time for handing over a line on a container's standard input.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Starts `bot`, for the reason `why`, or finds it running. Its last container, `last`, makes way. `cancel` ends the waiting for an image and
/// for a turn.
///
/// # Errors
/// Why it does not run.
pub async fn start(
    access: &Access,
    bot: &Bot,
    why: &Start,
    last: Option<String>,
    mut cancel: oneshot::Receiver<()>,
) -> Result<Running, NotStarted> {
    let (docker, template) = (&access.docker, &access.template);
    let cancelled = || NotStarted::new(Outcome::Stopped, "told to stop before it was started");
    access.keys.ready()?;
    let image = template.image_for(bot.definition.runtime);
    let image_id = tokio::select! {
        biased;
        _ = &mut cancel => return Err(cancelled()),
        id = access.images.ensure(docker, &image, template.pull) => id?,
    };
    let _turn = tokio::select! {
        biased;
        _ = &mut cancel => return Err(cancelled()),
        turn = access.starts.acquire() => turn,
    };
    let network = access.network().await?;
    let options = container::options(bot, template, &image_id, &network, why)?;
    let mut variables = container::variables(bot, template);
    let stack = template.stack.as_str();
    let token = access.keys.query_token(stack, &bot.id, &why.at.to_string());
    variables
        .extend(token.map(|token| (vars::THE0_QUERY_TOKEN.to_owned(), token.reveal().to_owned())));
    container::document(variables.clone(), &Keys::new()).map_err(Refused::from)?;
    let granted = access.keys.grant(bot).await?;
    let document = container::document(variables, &granted.keys).map_err(Refused::from)?;
    access.may_act()?;
    if let Some(last) = last {
        remove(docker, &last)
            .await
            .map_err(|err| NotStarted::by_engine("remove its last container", &err))?;
    }
    let running = bring_up(access, &bot.id, options, &document, why.tick).await?;
    Ok(match running.origin {
        Origin::Started => Running {
            renew_in: granted.renew_in,
            ..running
        },
        Origin::Adopted => running,
    })
}

async fn bring_up(
    access: &Access,
    bot: &BotId,
    options: ContainerCreateBody,
    document: &Secret,
    tick: Option<Key>,
) -> Result<Running, NotStarted> {
    let docker = &access.docker;
    let id = match create(access, options, bot, tick).await {
        Ok(Created::New(id)) => id,
        Ok(Created::Runs(running)) => return Ok(*running),
        Err(not) => {
            // The network may be gone.
            access.forget_network().await;
            return Err(not);
        }
    };
    let begun = async {
        access.may_act()?;
        access.permit(bot, tick).await?;
        begin(docker, &id, document).await
    };
    if let Err(mut not) = begun.await {
        access.forget_network().await;
        // What does not run is not left behind; what does after all is found by the next listing.
        if remove(docker, &id).await.is_err() && tick.is_some() {
            not.outcome = Outcome::Busy;
        }
        return Err(not);
    }
    let found = inspect(docker, &id)
        .await
        .map_err(|err| NotStarted::by_engine("look at its container", &err))?;
    let gone = || {
        NotStarted::new(
            Outcome::Failed,
            "its container was removed as it was started",
        )
    };
    let running = Running::inspected(&found.ok_or_else(gone)?);
    Ok(Running {
        origin: Origin::Started,
        ..running
    })
}

enum Created {
    New(String),
    Runs(Box<Running>),
}

async fn create(
    access: &Access,
    options: ContainerCreateBody,
    bot: &BotId,
    tick: Option<Key>,
) -> Result<Created, NotStarted> {
    let name = access.template.stack.container_for(bot, tick);
    for _ in 0..3 {
        let named = CreateContainerOptionsBuilder::default().name(&name).build();
        let made = access.docker.create_container(Some(named), options.clone());
        match made.await {
            Ok(made) => return Ok(Created::New(made.id)),
            Err(err) if has_status(&err, 409) => {
                if let Some(running) = make_way(access, &name, bot, tick).await? {
                    return Ok(Created::Runs(Box::new(running)));
                }
            }
            Err(err) => return Err(NotStarted::by_engine("make its container", &err)),
        }
    }
    let why = format!(
        "the name {name} is given up and taken again: somebody else makes containers of this name"
    );
    Err(NotStarted::new(Outcome::Failed, why))
}

/// Somebody has the name: gives the container if it runs, or removes it if it is ours and over.
async fn make_way(
    access: &Access,
    name: &str,
    bot: &BotId,
    tick: Option<Key>,
) -> Result<Option<Running>, NotStarted> {
    let found = inspect(&access.docker, name)
        .await
        .map_err(|err| NotStarted::by_engine("look at the container that has its name", &err))?;
    let Some(found) = found else { return Ok(None) };
    if access.template.stack.bot_of(&labels(&found)).as_ref() != Some(bot) {
        let why =
            format!("a container {name} is there that is not this agent's: remove or rename it");
        return Err(NotStarted::new(Outcome::Failed, why));
    }
    match status(&found) {
        ContainerStateStatusEnum::RUNNING
        | ContainerStateStatusEnum::PAUSED
        | ContainerStateStatusEnum::RESTARTING => Ok(Some(Running::inspected(&found))),
        ContainerStateStatusEnum::REMOVING => Err(NotStarted::new(
            Outcome::Busy,
            "its last container is being removed",
        )),
        status
            if tick.is_some()
                && status != ContainerStateStatusEnum::CREATED
                && ran_as(&found, tick) =>
        {
            Err(NotStarted::new(Outcome::Busy, "its tick has run already"))
        }
        _ => {
            access.may_act()?;
            let id = found.id.unwrap_or_default();
            remove(&access.docker, &id)
                .await
                .map_err(|err| NotStarted::by_engine("remove its last container", &err))?;
            Ok(None)
        }
    }
}

/// Whether it was made for that try of that tick.
fn ran_as(found: &ContainerInspectResponse, tick: Option<Key>) -> bool {
    names::tick(&labels(found)) == tick
}

/// Whether a container was there to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It was, and is no more.
    Done,
    /// It was gone already.
    Gone,
}

/// Removes a container that does not run. Its volumes stay.
///
/// # Errors
/// What the daemon says, also when it runs after all.
pub async fn remove(docker: &Docker, id: &str) -> Result<Removal, Error> {
    let options = RemoveContainerOptionsBuilder::default()
        .v(false)
        .force(false)
        .build();
    match docker.remove_container(id, Some(options)).await {
        Ok(()) => Ok(Removal::Done),
        Err(err) if has_status(&err, 404) => Ok(Removal::Gone),
        Err(err) => Err(err),
    }
}

/// Starts a container that was made, and hands it its launch.
///
/// # Errors
/// It does not run.
pub(super) async fn begin(docker: &Docker, id: &str, document: &Secret) -> Result<(), NotStarted> {
    let mut input = attach(docker, id)
        .await
        .map_err(|err| NotStarted::by_engine("attach to its container", &err))?;
    // The daemon keeps what is written until the container reads it, so it is there when the supervisor looks.
    let started = docker.start_container(id, None::<StartContainerOptions>);
    let (started, handed) = tokio::join!(started, hand_over(&mut input, document));
    started.map_err(|err| NotStarted::by_engine("start its container", &err))?;
    handed.map_err(|err| {
        let why = format!("its launch could not be handed to its container: {err}");
        NotStarted::new(Outcome::Failed, why)
    })
}

pub(super) type Input = std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>;

async fn attach(docker: &Docker, id: &str) -> Result<Input, Error> {
    let options = AttachContainerOptionsBuilder::default()
        .stdin(true)
        .stream(true)
        .build();
    Ok(docker.attach_container(id, Some(options)).await?.input)
}

/// Writes a line into a container, within a bound of time.
pub(super) async fn hand_over(input: &mut Input, line: &Secret) -> std::io::Result<()> {
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
