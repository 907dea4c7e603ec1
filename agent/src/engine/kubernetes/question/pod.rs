//! A question becomes its Pod, and the Secret of what is in it. Pure.
//!
//! ```text
//! fetch ──▶ ask ──▶ send              in order; nothing goes on beside
//!  reads    config,  writes           nobody has keys and runs what is the bot's
//!  (keys)   question one object (keys)
//! ```
//!
//! Nothing of the bot's parameters, of the question and no key is in the Pod. Code and state are there to be read: what the
//! query program writes to them is refused by the kernel.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::launch::Keys;
use contract::{Launch, LaunchError, ObjectKey, vars};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::record::{Record, SLACK};
use crate::ask::Question;
use crate::document::Bot;
use crate::engine::bounds::{self, Refused};
use crate::engine::chance::chance;
use crate::engine::kubernetes::containers::{KEYS_FOLDER, Parts, mount, read_only, set};
use crate::engine::kubernetes::names;
use crate::engine::kubernetes::pod::{folder, keys_volume, placed};
use crate::engine::kubernetes::secret::{self, CA, CONFIG};
use crate::engine::kubernetes::template::Template;
use crate::engine::stack::Stack;
use crate::launch;

/// The container that runs the query program.
pub const ASK: &str = "ask";
/// The one that puts the answer into the store.
pub const SEND: &str = "send";
/// The entries of the Secret that have keys.
const READS: &str = "read.json";
const SENDS: &str = "send.json";
/// The entries that have the question.
const PATH: &str = "path";
const PARAMS: &str = "params";
/// Where the answer lies meanwhile.
const ANSWER: &str = "/query/answer.json";
/// Bytes of its folder: what the program leaves, and what the supervisor makes of it.
const ANSWERS: u64 = 40 << 20;
/// Bytes of memory of whoever sends it.
const TO_SEND: u64 = 128 << 20;
/// Seconds between TERM and KILL, where nobody has said otherwise.
const GRACE: i64 = 5;

/// What is made for one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The name of the Pod and of its Secret.
    pub name: String,
    /// Its answer.
    pub key: ObjectKey,
    holder: String,
    until: u64,
}

impl Asked {
    /// Of the agent that is `holder`, now, for an asker who waits so long.
    ///
    /// # Errors
    /// The bot's id is none that its answer could be named by.
    pub fn new(
        stack: &Stack,
        bot: &Bot,
        holder: &str,
        now: SystemTime,
        left: Duration,
    ) -> Result<Self, String> {
        let (chance, since) = (chance(), now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let key = format!("{}/{}-{chance:016x}/result.json", bot.id, since.as_nanos());
        Ok(Self {
            name: names::question(stack, &bot.id, chance),
            key: key.parse().map_err(|err| format!("object {key}: {err}"))?,
            holder: holder.to_owned(),
            until: (since + left).as_secs() + 1,
        })
    }

    /// What there will be to remove.
    pub fn record(&self) -> Record {
        Record {
            name: self.name.clone(),
            holder: self.holder.clone(),
            until: self.until,
            key: Some(self.key.clone()),
            is_over: false,
        }
    }

    /// What the Pod and its Secret say of themselves. The annotation by which the engine knows a bot's own Pod is not there.
    fn metadata(&self, bot: &Bot, template: &Template) -> ObjectMeta {
        let mut labels = names::labels(&template.stack, &bot.id);
        let runtime = bot.definition.runtime.name();
        let more = [(names::TYPE, names::QUERY), (names::RUNTIME, runtime)];
        labels.extend(more.map(|(name, value)| (name.to_owned(), names::label(value))));
        let annotations = [
            (names::HOLDER, self.holder.clone()),
            (names::UNTIL, self.until.to_string()),
            (names::RESULT, self.key.to_string()),
            (names::NAME, bot.definition.name.clone()),
            (names::MADE_BY, env!("CARGO_PKG_VERSION").to_owned()),
        ];
        ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(labels),
            annotations: Some(annotations.map(|(n, v)| (n.to_owned(), v)).into()),
            ..ObjectMeta::default()
        }
    }
}

/// The Pod that puts `question` to `bot` within `left`.
///
/// # Errors
/// The bot asks for more than it may have, or its supervisor would refuse it.
pub fn pod(
    bot: &Bot,
    template: &Template,
    question: &Question,
    asked: &Asked,
    left: Duration,
) -> Result<Pod, Refused> {
    check(bot, template, question)?;
    let parts = Parts {
        bot,
        template,
        config: &asked.name,
        memory: bounds::memory(bot, template.memory)?,
        cpu: bounds::cpu(bot, template.cpu)?,
    };
    let within = format!("{}ms", left.as_millis().max(1));
    let deadline = left.as_secs() + 1 + SLACK.as_secs();
    let sizes = template.sizes;
    let volumes = vec![
        folder("code", sizes.code, None),
        folder("state", sizes.state, None),
        folder("var", sizes.var, None),
        folder("tmp", sizes.tmp, Some("Memory")),
        folder("answers", ANSWERS, Some("Memory")),
        keys_volume(template, "keys", &asked.name, READS),
        keys_volume(template, SEND, &asked.name, SENDS),
    ];
    let spec = PodSpec {
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: Some(deadline.cast_signed()),
        termination_grace_period_seconds: Some(GRACE),
        init_containers: Some(vec![fetch(&parts, &within), ask(&parts, &within)]),
        containers: vec![send(&parts, &within, &asked.key)],
        volumes: Some(volumes),
        ..placed(template)
    };
    Ok(Pod {
        metadata: asked.metadata(bot, template),
        spec: Some(spec),
        status: None,
    })
}

/// Whether the supervisor would take its variables.
fn check(bot: &Bot, template: &Template, question: &Question) -> Result<(), LaunchError> {
    let mut all = template.environment.clone();
    all.extend(launch::of_document(bot));
    let [path, params] = texts(question);
    all.insert(vars::QUERY_PATH.to_owned(), path);
    all.insert(vars::QUERY_PARAMS.to_owned(), params);
    Launch::parse(all).map(drop)
}

fn texts(question: &Question) -> [String; 2] {
    [question.path.clone(), question.params.to_body()]
}

fn fetch(parts: &Parts<'_>, within: &str) -> Container {
    let mut container = parts.fetch();
    let environment = container.env.get_or_insert_default();
    set(environment, vars::THE0_STATE, "read");
    set(environment, DEADLINE, within);
    container
}

/// The variable of how long `sync` tries.
const DEADLINE: &str = "THE0_FETCH_DEADLINE";

fn ask(parts: &Parts<'_>, within: &str) -> Container {
    let mounts = [
        read_only(mount("code", "/bot")),
        read_only(mount("state", "/state")),
        mount("tmp", "/tmp"),
        mount("answers", "/query"),
    ];
    let mut environment = parts.environment();
    set(&mut environment, vars::THE0_QUERY_TIMEOUT, within);
    set(&mut environment, vars::THE0_QUERY_RESULT_FILE, ANSWER);
    let hidden = [
        (vars::BOT_CONFIG, CONFIG),
        (vars::QUERY_PATH, PATH),
        (vars::QUERY_PARAMS, PARAMS),
    ];
    environment.extend(hidden.map(|(name, entry)| parts.secret(name, entry)));
    let command = ["supervisor", "--no-side-processes"];
    Container {
        env: Some(environment),
        resources: Some(parts.resources()),
        ..parts.container(ASK, &command, mounts)
    }
}

fn send(parts: &Parts<'_>, within: &str, key: &ObjectKey) -> Container {
    let keys = read_only(mount(SEND, KEYS_FOLDER));
    let mounts = [read_only(mount("answers", "/query")), keys];
    let mut environment = parts.environment_of_sync();
    set(&mut environment, DEADLINE, within);
    let command = ["sync", "result", ANSWER, key.as_str()];
    Container {
        env: Some(environment),
        resources: Some(parts.light(TO_SEND)),
        ..parts.container(SEND, &command, mounts)
    }
}

/// All that is not for the Pod; of both `keys` the first ones read, the others send.
pub fn secret(
    bot: &Bot,
    template: &Template,
    question: &Question,
    asked: &Asked,
    keys: [&Keys; 2],
) -> Secret {
    let [reads, sends] = keys.map(secret::text);
    let [path, params] = texts(question);
    let own = [
        (CONFIG, bot.config.reveal().to_owned()),
        (PATH, path),
        (PARAMS, params),
        (READS, reads),
        (SENDS, sends),
    ];
    let ca = template.ca.clone().map(|ca| (CA, ca));
    Secret {
        metadata: asked.metadata(bot, template),
        data: Some(secret::entries(own.into_iter().chain(ca))),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

#[cfg(test)]
#[path = "pod/tests.rs"]
mod tests;
