//! A job's container: hardened and bounded as a bot's, run once, with volumes of its own that go with it.
//!
//! It ensures that a job has one container at most: the name is made of stack and job. It has no bot's labels, so that
//! nobody takes it for a bot's, and its name has two dots, which no bot's has.

use std::collections::HashMap;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerStateStatusEnum, ContainerSummaryStateEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use contract::launch::Keys;
use contract::{BotId, vars};
use futures_util::StreamExt;

use super::access::Access;
use super::container::{self, Refused};
use super::examine::{inspect, labels, status};
use super::names::{self, Stack};
use super::refusal::{NotStarted, has_status, said};
use super::{Engine, files, start};
use crate::document::Bot;
use crate::jobs::decide::Container;
use crate::jobs::site::{Made, Seen};
use crate::jobs::verdict::{Found, Left};
use crate::place::Containers;
use crate::plan::Outcome;

/// The label of the job's id.
const JOB: &str = "the0.job";
/// What the label of types and of entrypoints says.
const BACKTEST: &str = "backtest";
/// Bytes of an archive around one file.
const AROUND: u64 = 8 << 10;

/// The name of a job's container.
pub fn name(stack: &Stack, job: &BotId) -> String {
    format!("the0-{stack}.job.{job}")
}

/// The containers of the stack's jobs.
///
/// # Errors
/// The daemon does not answer; its words.
pub async fn list(access: &Access) -> Result<HashMap<BotId, Seen>, String> {
    let stack = format!("{}={}", names::STACK, access.template.stack);
    let filters = HashMap::from([("label", vec![stack, JOB.to_owned()])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let found = access.docker.list_containers(Some(options)).await;
    let found = found.map_err(|err| said(&err))?;
    let seen = found.into_iter().filter_map(|found| {
        let job = found.labels?.get(JOB)?.parse().ok()?;
        let container = match found.state {
            Some(ContainerSummaryStateEnum::CREATED) => Container::Made,
            Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD) => {
                Container::Over
            }
            _ => Container::Running,
        };
        let id = found.id?;
        Some((job, Seen { id, container }))
    });
    Ok(seen.collect())
}

/// Where a job gets its container.
enum Place {
    /// The one with this id.
    Kept(String),
    /// It is made.
    New(Box<ContainerCreateBody>),
}

/// Makes the job's container, in the place of one that was made and not started; the one that was `noted` as it was to be
/// started stays, if it never ran: without it nobody would know that.
///
/// # Errors
/// Why there is none.
pub async fn make(access: &Access, job: &Bot, noted: Option<&str>) -> Result<Made, NotStarted> {
    let template = &access.template;
    let place = match keep(access, noted).await? {
        Some(id) => Place::Kept(id),
        None => Place::New(Box::new(wanted(access, job).await?)),
    };
    let mut variables = container::variables(job, template);
    let more = [(vars::ENTRYPOINT_TYPE, BACKTEST), (vars::THE0_STATE, "off")];
    variables.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
    container::document(variables.clone(), &Keys::new()).map_err(Refused::from)?;
    let granted = access.keys.grant(job).await?;
    let document = container::document(variables, &granted.keys).map_err(Refused::from)?;
    access.may_act()?;
    let (id, is_kept) = match place {
        Place::Kept(id) => (id, true),
        Place::New(options) => (create(access, &job.id, *options).await?, false),
    };
    Ok(Made {
        id,
        is_kept,
        renew_in: granted.renew_in,
        document,
    })
}

/// The container with this id, if it was never started.
async fn keep(access: &Access, id: Option<&str>) -> Result<Option<String>, NotStarted> {
    let Some(id) = id else { return Ok(None) };
    let found = inspect(&access.docker, id).await;
    let found = found.map_err(|err| NotStarted::by_engine("look at its container", &err))?;
    let is_made = found.is_some_and(|found| status(&found) == ContainerStateStatusEnum::CREATED);
    Ok(is_made.then(|| id.to_owned()))
}

/// What its container is made of.
async fn wanted(access: &Access, job: &Bot) -> Result<ContainerCreateBody, NotStarted> {
    let template = &access.template;
    let image = template.image_for(job.definition.runtime);
    let image_id = access
        .images
        .ensure(&access.docker, &image, template.pull)
        .await?;
    let network = access.network().await?;
    Ok(options(access, job, &image_id, &network)?)
}

async fn create(
    access: &Access,
    job: &BotId,
    options: ContainerCreateBody,
) -> Result<String, NotStarted> {
    let name = name(&access.template.stack, job);
    for _ in 0..2 {
        let named = CreateContainerOptionsBuilder::default().name(&name).build();
        let made = access.docker.create_container(Some(named), options.clone());
        match made.await {
            Ok(made) => return Ok(made.id),
            Err(err) if has_status(&err, 409) => make_way(access, &name, job).await?,
            Err(err) => {
                access.forget_network().await;
                return Err(NotStarted::by_engine("make its container", &err));
            }
        }
    }
    let why = format!("the name {name} is taken again and again");
    Err(NotStarted::new(Outcome::Busy, why))
}

/// Removes what has the name, if it is this job's and was never started.
async fn make_way(access: &Access, name: &str, job: &BotId) -> Result<(), NotStarted> {
    let failed = |err: Error| NotStarted::by_engine("look at what has its name", &err);
    let Some(found) = inspect(&access.docker, name).await.map_err(failed)? else {
        return Ok(());
    };
    if labels(&found).get(JOB).map(String::as_str) != Some(job.as_str()) {
        let why =
            format!("a container {name} is there that is not this agent's: remove or rename it");
        return Err(NotStarted::new(Outcome::Failed, why));
    }
    if status(&found) != ContainerStateStatusEnum::CREATED {
        let why = "it was started meanwhile".to_owned();
        return Err(NotStarted::new(Outcome::Busy, why));
    }
    let id = found.id.unwrap_or_default();
    let removed = discard(access, &id, false).await;
    removed.map_err(|err| NotStarted::by_engine("remove what was made before", &err))
}

/// Starts what was made.
///
/// # Errors
/// It does not run.
pub async fn begin(access: &Access, made: &Made) -> Result<(), NotStarted> {
    access.may_act()?;
    let begun = start::begin(&access.docker, &made.id, &made.document).await;
    if begun.is_err() {
        access.forget_network().await;
    }
    begun
}

/// Hands new keys to a job that runs in this container; in what time it needs the next, if ever.
///
/// # Errors
/// The store gives none, or the daemon does not take them; for a person.
pub async fn renew(access: &Access, job: &Bot, id: &str) -> Result<Option<Duration>, String> {
    let granted = access.keys.grant(job).await.map_err(|not| not.why)?;
    start::tell(&access.docker, id, &container::renewal(&granted.keys)).await?;
    Ok(granted.renew_in)
}

/// Takes back what was made.
pub async fn take_back(access: &Access, made: &Made) {
    // What stays is found by the next listing.
    let _ = discard(access, &made.id, false).await;
}

/// Removes a job's container, whatever it does, with all that it has.
///
/// # Errors
/// The daemon's words.
pub async fn remove(access: &Access, id: &str) -> Result<(), String> {
    let removed = discard(access, id, true).await;
    removed.map_err(|err| said(&err))
}

pub(super) async fn discard(access: &Access, id: &str, force: bool) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::default()
        .v(true)
        .force(force)
        .build();
    match access.docker.remove_container(id, Some(options)).await {
        Err(err) if !has_status(&err, 404) => Err(err),
        _ => Ok(()),
    }
}

/// Sends it a signal.
///
/// # Errors
/// The daemon's words.
pub async fn signal(access: &Access, id: &str, signal: &str) -> Result<(), String> {
    let options = KillContainerOptionsBuilder::default()
        .signal(signal)
        .build();
    match access.docker.kill_container(id, Some(options)).await {
        // It has ended meanwhile.
        Err(err) if has_status(&err, 409) || has_status(&err, 404) => Ok(()),
        sent => sent.map_err(|err| said(&err)),
    }
}

/// What a container that has ended left; `None` when it is gone or runs. A result has at most `most` bytes.
///
/// # Errors
/// The daemon does not give it.
pub async fn left(access: &Access, id: &str, most: u64) -> Result<Option<Left>, String> {
    let docker = &access.docker;
    let found = inspect(docker, id).await.map_err(|err| said(&err))?;
    let Some(state) = found.and_then(|found| found.state) else {
        return Ok(None);
    };
    let is_over = matches!(
        state.status,
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD)
    );
    if !is_over {
        return Ok(None);
    }
    let records = files::records(docker, id).await;
    let records = records.map_err(|err| said(&err))?;
    let result = result(access, id, most).await;
    let last = last(access, id).await;
    // Files of a container that is gone are "not there", too.
    if inspect(docker, id)
        .await
        .map_err(|err| said(&err))?
        .is_none()
    {
        return Ok(None);
    }
    Ok(Some(Left {
        code: state.exit_code.unwrap_or(-1),
        is_oom: state.oom_killed.unwrap_or(false),
        lost: None,
        record: records.done,
        last,
        found: result.map_err(|err| said(&err))?,
    }))
}

async fn result(access: &Access, id: &str, most: u64) -> Result<Found, Error> {
    let options = DownloadFromContainerOptionsBuilder::default()
        .path("/bot/result.json")
        .build();
    let mut pieces = std::pin::pin!(access.docker.download_from_container(id, Some(options)));
    let mut archive = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => archive.extend_from_slice(&piece),
            Err(err) if has_status(&err, 404) => return Ok(Found::Nothing),
            Err(err) => return Err(err),
        }
        if archive.len() as u64 > most + AROUND {
            return Ok(Found::TooLarge);
        }
    }
    Ok(only_file(&archive, most))
}

fn only_file(archive: &[u8], most: u64) -> Found {
    let read = || -> Option<Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let mut entry = archive.entries().ok()?.next()?.ok()?;
        entry.header().entry_type().is_file().then_some(())?;
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).ok()?;
        Some(content)
    };
    match read() {
        None => Found::NoFile,
        Some(content) if content.len() as u64 > most => Found::TooLarge,
        Some(content) => Found::Content(content),
    }
}

/// The last thing that our own programs in it have said.
async fn last(access: &Access, id: &str) -> Option<String> {
    let options = LogsOptionsBuilder::default().stderr(true).tail("1").build();
    let mut pieces = std::pin::pin!(access.docker.logs(id, Some(options)));
    let mut text = String::new();
    while let Some(Ok(LogOutput::StdErr { message })) = pieces.next().await {
        text += &String::from_utf8_lossy(&message);
    }
    let text: String = text.trim().chars().take(512).collect();
    (!text.is_empty()).then_some(text)
}

/// A bot's, with a job's labels.
fn options(
    access: &Access,
    job: &Bot,
    image_id: &str,
    network: &str,
) -> Result<ContainerCreateBody, Refused> {
    let mut options = container::apart(job, &access.template, image_id, network)?;
    let mut labels = options.labels.take().unwrap_or_default();
    labels.remove(names::ID);
    let own = [
        (JOB, job.id.as_str()),
        (names::TYPE, BACKTEST),
        (names::ENTRYPOINT, BACKTEST),
    ];
    labels.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    options.labels = Some(labels);
    Ok(options)
}

/// What the job's container has printed so far; `None` when there is none here.
pub async fn printed(place: &Containers, job: &BotId) -> Option<Vec<u8>> {
    let stack: Stack = place.stack.parse().ok()?;
    let docker = Engine::connect(place.docker_host.as_deref()).ok()?;
    let docker = docker.negotiate_version().await.ok()?;
    let options = LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .build();
    let mut pieces = std::pin::pin!(docker.logs(&name(&stack, job), Some(options)));
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(piece.ok()?.as_ref());
    }
    Some(text)
}
