//! A container for one question: the bot's code and a copy of its last state, its query program run once, and what that answers
//! on the container's standard output.
//!
//! ```text
//!   make ─▶ attach ─▶ start ─▶ launch document in ─▶ one line of JSON out, and the end ─▶ removed
//! ```
//!
//! With a warm pool ([`Warm`]) some of the containers wait for their document already, each for one question and for whatever
//! bot comes first: nothing of a bot is in them before.
//!
//! It ensures: the container goes, with its volumes, when there is an answer, when the time is over, and when whoever asked
//! is gone; what an agent that was killed has left is removed by the next one ([`Questions::sweep`]). Nothing is written into
//! the store, and the daemon keeps no log of it.

mod warm;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfigLogConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    StartContainerOptions,
};
use contract::launch::Keys;
use contract::{Secret, exit, vars};
use futures_util::{Stream, StreamExt};
use hyper::body::Bytes;
use serde::de::IgnoredAny;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::access::Access;
use super::container::{self, Refused};
use super::examine::inspect;
use super::refusal::{NotStarted, said};
use super::{job, names, start};
use crate::ask::{LARGEST, Question};
use crate::document::Bot;
use crate::engine::blank::blank;
use crate::engine::chance::chance;
use crate::gateway::apart::NoAnswer;
pub use warm::Warm;

/// The label of the agent that it is for: of its data folder, which one agent has at a time.
const HOLDER: &str = "the0.holder";
/// The label of when nobody waits for it any more, in seconds since 1970.
const UNTIL: &str = "the0.until";
/// How much later it is taken for left over.
const SLACK: Duration = Duration::from_secs(30);
/// The id of no bot.
const WARM: &str = "the0-warm";
/// How long a container waits for a question at most.
const WAITS: Duration = Duration::from_hours(1);
/// Time between two looks whether enough wait.
const LOOK: Duration = Duration::from_secs(30);
/// The same when none could be made.
const AGAIN: Duration = Duration::from_secs(10);
/// How long it is waited for containers that are being removed when the agent ends.
const TO_END: Duration = Duration::from_secs(5);
/// What is kept of what its programs say, in bytes.
const SAID: usize = 2 << 10;

/// Asks; clones share what is known.
#[derive(Debug, Clone)]
pub struct Questions {
    access: Access,
    holder: String,
    /// Names of those that are needed.
    live: Arc<Mutex<HashSet<String>>>,
    warm: Warm,
    /// One for each container that is there for a question, until it is removed.
    seats: Arc<Semaphore>,
}

impl Questions {
    /// Over a connection of its own, as whoever asks may live in another runtime; for the agent that is `holder`, with so
    /// many containers that wait, and at most `most` with a question.
    pub fn new(access: &Access, docker: Docker, holder: String, warm: Warm, most: usize) -> Self {
        let mut access = access.clone();
        access.docker = docker;
        Self {
            access,
            holder,
            live: Arc::default(),
            warm,
            seats: Arc::new(Semaphore::new(most)),
        }
    }

    /// Puts a question to the bot's code and a copy of its state; `left` is how long that may take. Gives what the query
    /// program has left as its result.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn put(
        &self,
        bot: &Bot,
        question: &Question,
        left: Duration,
    ) -> Result<Bytes, NoAnswer> {
        let seat = Arc::clone(&self.seats).try_acquire_owned();
        let seat = seat.map_err(|_| NoAnswer::Busy)?;
        // The store makes keys while the daemon makes the container.
        let begin = async {
            match self.warm.take(bot) {
                Some(ready) => Ok(ready),
                None => self.begin(bot, left).await,
            }
        };
        let document = self.document(bot, question, left);
        let document = async { document.await.map_err(|not| not.why) };
        let begin = async {
            let mut begun = begin.await?;
            begun.made.seat = Some(seat);
            Ok(begun)
        };
        let (document, mut begun) = tokio::try_join!(document, begin)?;
        let handed = start::hand_over(&mut begun.input, &document).await;
        handed.map_err(|err| format!("hand its container the question: {err}"))?;
        let (mut out, mut journal) = (Vec::new(), String::new());
        while let Some(piece) = begun.output.next().await {
            match piece.map_err(|err| format!("read its answer: {}", said(&err)))? {
                LogOutput::StdOut { message } => {
                    out.extend_from_slice(&message);
                    // The end of the container takes the daemon longer than its last byte.
                    if is_whole(&out) {
                        break;
                    }
                }
                LogOutput::StdErr { message } => {
                    journal += &String::from_utf8_lossy(&message);
                    let most = journal.len().saturating_sub(SAID);
                    let cut = (most..=journal.len()).find(|at| journal.is_char_boundary(*at));
                    journal.drain(..cut.unwrap_or(0));
                }
                _ => {}
            }
            if out.len() > LARGEST {
                let why = format!("its answer is longer than {} MiB", LARGEST >> 20);
                return Err(why.into());
            }
        }
        // The last byte tells that it is whole, whatever it is.
        if out.pop() == Some(b'\n') {
            return Ok(out.into());
        }
        Err(self.silent(&begun.made.id, &journal).await.into())
    }

    /// A container whose supervisor waits for its document, at most for `left`.
    async fn begin(&self, bot: &Bot, left: Duration) -> Result<Begun, String> {
        let made = self.make(bot, left).await.map_err(|not| not.why)?;
        let docker = &self.access.docker;
        let options = AttachContainerOptionsBuilder::default()
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .stream(true)
            .build();
        let attached = docker.attach_container(&made.id, Some(options)).await;
        let attached =
            attached.map_err(|err| format!("attach to its container: {}", said(&err)))?;
        let started = docker.start_container(&made.id, None::<StartContainerOptions>);
        let started = started.await;
        started.map_err(|err| format!("start its container: {}", said(&err)))?;
        Ok(Begun {
            input: attached.input,
            output: attached.output,
            since: Instant::now(),
            made,
        })
    }

    /// Keeps as many containers waiting as are wanted, for ever.
    pub async fn keep_warm(&self) {
        loop {
            self.warm.let_go();
            let mut pause = LOOK;
            for runtime in self.warm.missing() {
                let Some(bot) = blank(WARM, runtime) else {
                    continue;
                };
                match self.begin(&bot, WAITS).await {
                    Ok(begun) => self.warm.add(runtime, begun),
                    Err(why) => {
                        let text =
                            format!("no container waits for questions to {runtime} bots: {why}");
                        self.access.console.aside(&text);
                        pause = AGAIN;
                        break;
                    }
                }
            }
            tokio::select! {
                () = self.warm.taken() => {}
                () = sleep(pause) => {}
            }
        }
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

    /// What a container is told of the question.
    async fn document(
        &self,
        bot: &Bot,
        question: &Question,
        left: Duration,
    ) -> Result<Secret, NotStarted> {
        let mut variables = container::variables(bot, &self.access.template);
        let more = [
            (vars::QUERY_PATH, question.path.clone()),
            (vars::QUERY_PARAMS, question.params.to_body()),
            (vars::THE0_STATE, "read".to_owned()),
            (
                vars::THE0_QUERY_TIMEOUT,
                format!("{}ms", left.as_millis().max(1)),
            ),
        ];
        variables.extend(more.map(|(name, value)| (name.to_owned(), value)));
        container::document(variables.clone(), &Keys::new()).map_err(Refused::from)?;
        let keys = self.access.keys.grant_to_read(bot, left).await?;
        Ok(container::document(variables, &keys).map_err(Refused::from)?)
    }

    async fn make(&self, bot: &Bot, left: Duration) -> Result<Made, NotStarted> {
        let (access, template) = (&self.access, &self.access.template);
        let image = template.image_for(bot.definition.runtime);
        let image_id = access
            .images
            .ensure(&access.docker, &image, template.pull)
            .await?;
        let network = access.network().await?;
        let options = self.options(bot, &image_id, &network, left)?;
        let name = format!("the0-{}.query.{}.{:016x}", template.stack, bot.id, chance());
        let named = CreateContainerOptionsBuilder::default().name(&name).build();
        // Known before it is there: it may be made when nobody waits for it any more.
        self.live().insert(name.clone());
        let mut made = Made {
            questions: self.clone(),
            id: name.clone(),
            name,
            seat: None,
        };
        match access.docker.create_container(Some(named), options).await {
            Ok(created) => {
                made.id = created.id;
                Ok(made)
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
            (HOLDER, self.holder.clone()),
            (UNTIL, until.to_string()),
        ];
        labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
        if bot.id.as_str() == WARM {
            labels.remove(names::ID);
            let within = format!("{}={}s", vars::THE0_LAUNCH_WITHIN, left.as_secs());
            options.env.get_or_insert_default().push(within);
        }
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

    /// Lets go of those that wait, and waits until all are removed, as far as that goes.
    pub async fn end(&self) {
        self.warm.end();
        let end = Instant::now() + TO_END;
        while !self.live().is_empty() && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Removes containers that nobody waits for: an agent was killed that had made them. Those of another agent are left
    /// alone until their time is over.
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
            let is_ours = names::label(&labels, HOLDER) == self.holder;
            let called = found.names.unwrap_or_default();
            let mut called = called.iter().map(|name| name.trim_start_matches('/'));
            let is_left = if is_ours {
                !called.any(|name| self.live().contains(name))
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

/// A container that runs and waits for its document.
struct Begun {
    input: start::Input,
    output: Output,
    since: Instant,
    made: Made,
}

type Output = std::pin::Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// A container until it is dropped.
struct Made {
    questions: Questions,
    id: String,
    name: String,
    seat: Option<OwnedSemaphorePermit>,
}

impl Drop for Made {
    fn drop(&mut self) {
        let questions = self.questions.clone();
        let (id, name) = (std::mem::take(&mut self.id), std::mem::take(&mut self.name));
        let seat = self.seat.take();
        // What is not removed now is found by the next sweep.
        tokio::spawn(async move {
            let _ = job::discard(&questions.access, &id, true).await;
            questions.live().remove(&name);
            drop(seat);
        });
    }
}

/// Whether this is an object of JSON and the newline after it: of no beginning of one is that true.
fn is_whole(out: &[u8]) -> bool {
    out.ends_with(b"}\n") && serde_json::from_slice::<IgnoredAny>(out).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_object_is() {
        let text = "{\"status\": \"ok\",\n \"data\": {\"a\": \"}\\n\"\n}\n}\n";
        assert!(is_whole(text.as_bytes()));
        for end in 0..text.len() {
            assert!(!is_whole(&text.as_bytes()[..end]), "{end}");
        }
    }
}
