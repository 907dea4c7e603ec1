//! A container for one question: the bot's code and a copy of its last state, its query program run once, and what that answers
//! on the container's standard output.
//!
//! ```text
//!   make ─▶ attach ─▶ start ─▶ launch document in ─▶ one line of JSON out, and the end ─▶ removed
//! ```
//!
//! It ensures: the container goes, with its volumes, when there is an answer, when the time is over, and when whoever asked
//! is gone; what an agent that was killed has left is removed by the next one ([`Questions::sweep`]). Nothing is written into
//! the store, and the daemon keeps no log of it.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::models::{ContainerCreateBody, HostConfigLogConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    StartContainerOptions,
};
use contract::launch::Keys;
use contract::params::Params;
use contract::{Secret, exit, vars};
use futures_util::StreamExt;
use hyper::body::Bytes;

use super::access::Access;
use super::container::{self, Refused};
use super::examine::inspect;
use super::refusal::{NotStarted, said};
use super::{job, names, start};
use crate::ask::{LARGEST, Question};
use crate::document::Bot;

/// The label of the agent's life that it is for.
const LIFE: &str = "the0.life";
/// The label of when nobody waits for it any more, in seconds since 1970.
const UNTIL: &str = "the0.until";
/// How much later it is taken for left over.
const SLACK: Duration = Duration::from_secs(30);
/// What is kept of what its programs say, in bytes.
const SAID: usize = 2 << 10;

/// Asks; clones share what is known.
#[derive(Debug, Clone)]
pub struct Questions {
    access: Access,
    life: String,
    live: Arc<Mutex<HashSet<String>>>,
}

impl Questions {
    /// Over a connection of its own, as whoever asks may live in another runtime.
    pub fn new(access: &Access, docker: Docker) -> Self {
        let mut access = access.clone();
        access.docker = docker;
        Self {
            access,
            life: format!("{:016x}", chance()),
            live: Arc::default(),
        }
    }

    /// Puts a question to the bot's code and a copy of its state; `left` is how long that may take. Gives what the query
    /// program has left as its result.
    ///
    /// # Errors
    /// Why there is none, for a person.
    pub async fn put(
        &self,
        bot: &Bot,
        question: &Question,
        left: Duration,
    ) -> Result<Bytes, String> {
        let (id, document) = self
            .make(bot, question, left)
            .await
            .map_err(|not| not.why)?;
        let _made = Made {
            questions: self.clone(),
            id: id.clone(),
        };
        let docker = &self.access.docker;
        let options = AttachContainerOptionsBuilder::default()
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .stream(true)
            .build();
        let attached = docker.attach_container(&id, Some(options)).await;
        let mut attached =
            attached.map_err(|err| format!("attach to its container: {}", said(&err)))?;
        let started = docker.start_container(&id, None::<StartContainerOptions>);
        let (started, handed) =
            tokio::join!(started, start::hand_over(&mut attached.input, &document));
        started.map_err(|err| format!("start its container: {}", said(&err)))?;
        handed.map_err(|err| format!("hand its container the question: {err}"))?;
        let (mut out, mut journal) = (Vec::new(), String::new());
        let mut output = pin!(attached.output);
        while let Some(piece) = output.next().await {
            match piece.map_err(|err| format!("read its answer: {}", said(&err)))? {
                LogOutput::StdOut { message } => out.extend_from_slice(&message),
                LogOutput::StdErr { message } => {
                    journal += &String::from_utf8_lossy(&message);
                    let most = journal.len().saturating_sub(SAID);
                    let cut = (most..=journal.len()).find(|at| journal.is_char_boundary(*at));
                    journal.drain(..cut.unwrap_or(0));
                }
                _ => {}
            }
            if out.len() > LARGEST {
                return Err(format!("its answer is longer than {} MiB", LARGEST >> 20));
            }
        }
        // The last byte tells that it is whole.
        if out.pop() == Some(b'\n') {
            return Ok(out.into());
        }
        Err(self.silent(&id, &journal).await)
    }

    /// Why a container has answered nothing.
    async fn silent(&self, id: &str, journal: &str) -> String {
        let found = inspect(&self.access.docker, id).await.ok().flatten();
        let state = found.and_then(|found| found.state).unwrap_or_default();
        if state.oom_killed == Some(true) {
            return "the query was killed for want of memory: raise the bot's memory limit"
                .to_owned();
        }
        let code = state.exit_code.unwrap_or(-1);
        let meaning = u8::try_from(code).ok().and_then(exit::meaning);
        let last = journal.trim().lines().next_back().unwrap_or_default();
        match meaning {
            Some(meaning) => format!("its container ended with code {code} ({meaning}): {last}"),
            None => format!("its container ended with code {code} and no answer: {last}"),
        }
    }

    async fn make(
        &self,
        bot: &Bot,
        question: &Question,
        left: Duration,
    ) -> Result<(String, Secret), NotStarted> {
        let (access, template) = (&self.access, &self.access.template);
        let image = template.image_for(bot.definition.runtime);
        let image_id = access
            .images
            .ensure(&access.docker, &image, template.pull)
            .await?;
        let network = access.network().await?;
        let options = self.options(bot, &image_id, &network, left)?;
        let mut variables = container::variables(bot, template);
        let more = [
            (vars::QUERY_PATH, question.path.clone()),
            (
                vars::QUERY_PARAMS,
                Params::from(question.params.clone()).to_body(),
            ),
            (vars::THE0_STATE, "read".to_owned()),
            (
                vars::THE0_QUERY_TIMEOUT,
                format!("{}ms", left.as_millis().max(1)),
            ),
        ];
        variables.extend(more.map(|(name, value)| (name.to_owned(), value)));
        container::document(variables.clone(), &Keys::new()).map_err(Refused::from)?;
        let granted = access.keys.grant(bot).await?;
        let document = container::document(variables, &granted.keys).map_err(Refused::from)?;
        let name = format!("the0-{}.query.{}.{:016x}", template.stack, bot.id, chance());
        let named = CreateContainerOptionsBuilder::default().name(&name).build();
        let made = access.docker.create_container(Some(named), options).await;
        match made {
            Ok(made) => {
                self.live().insert(made.id.clone());
                Ok((made.id, document))
            }
            Err(err) => {
                access.forget_network().await;
                Err(NotStarted::by_engine("make its container", &err))
            }
        }
    }

    fn options(
        &self,
        bot: &Bot,
        image_id: &str,
        network: &str,
        left: Duration,
    ) -> Result<ContainerCreateBody, Refused> {
        let mut options = container::apart(bot, &self.access.template, image_id, network)?;
        let until = SystemTime::now() + left;
        let until = until
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let labels = options.labels.get_or_insert_default();
        let own = [
            (names::TYPE, names::QUERY.to_owned()),
            (names::ENTRYPOINT, names::QUERY.to_owned()),
            (LIFE, self.life.clone()),
            (UNTIL, until.to_string()),
        ];
        labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
        options.attach_stdout = Some(true);
        options.attach_stderr = Some(true);
        let host = options.host_config.get_or_insert_default();
        // What it answers is for whoever asked.
        host.log_config = Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        });
        Ok(options)
    }

    /// Removes containers that nobody waits for: an agent was killed that had made them. Those of another agent's life are
    /// left alone until their time is over.
    ///
    /// # Errors
    /// The daemon does not answer; its words.
    pub async fn sweep(&self) -> Result<(), String> {
        let own = format!("{}={}", names::STACK, self.access.template.stack);
        let query = format!("{}={}", names::TYPE, names::QUERY);
        let filters = HashMap::from([("label", vec![own, query])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let found = self.access.docker.list_containers(Some(options)).await;
        for found in found.map_err(|err| said(&err))? {
            let (id, labels) = (
                found.id.unwrap_or_default(),
                found.labels.unwrap_or_default(),
            );
            let until = names::label(&labels, UNTIL).parse().unwrap_or(0);
            let until = UNIX_EPOCH + Duration::from_secs(until) + SLACK;
            let is_ours = names::label(&labels, LIFE) == self.life;
            let is_left = if is_ours {
                !self.live().contains(&id)
            } else {
                until < SystemTime::now()
            };
            if is_left {
                let removed = job::discard(&self.access, &id, true).await;
                removed.map_err(|err| said(&err))?;
            }
        }
        Ok(())
    }

    fn live(&self) -> MutexGuard<'_, HashSet<String>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A container until it is dropped.
struct Made {
    questions: Questions,
    id: String,
}

impl Drop for Made {
    fn drop(&mut self) {
        let (questions, id) = (self.questions.clone(), std::mem::take(&mut self.id));
        // What is not removed now is found by the next sweep.
        tokio::spawn(async move {
            let _ = job::discard(&questions.access, &id, true).await;
            questions.live().remove(&id);
        });
    }
}

fn chance() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
