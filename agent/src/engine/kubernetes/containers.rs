//! The containers of a Pod. Pure.

use std::collections::BTreeMap;

use contract::vars;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Probe,
    ResourceRequirements, SecretKeySelector, SecurityContext, TCPSocketAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::variables;
use super::secret::{CA, CONFIG, KEYS, KEYS_VOLUME, TOKEN};
use super::template::Template;
use crate::document::Bot;
use crate::engine::bounds::{bytes, cpus};

/// Where the Secret of keys is.
pub(super) const KEYS_FOLDER: &str = "/run/the0/keys";
/// The variable of the file of authorities.
const CA_FILE: &str = "THE0_CA_FILE";
/// The port at which `query` answers.
pub const QUERY_PORT: u16 = 9476;
/// The port at which `sync` says that it is ready.
const READY_PORT: u16 = 9475;
const MIB: u64 = 1 << 20;
/// Billionths of a processor.
const CPU: u64 = 1_000_000_000;

/// The container of the bot, which the others are around.
pub const BOT: &str = "bot";
/// The one that saves.
pub const SYNC: &str = "sync";
/// The one that brings code and state.
pub const FETCH: &str = "fetch";
/// The one that answers questions.
pub const QUERY: &str = "query";

/// What containers are made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Whose they are.
    pub bot: &'a Bot,
    /// What the operator sets.
    pub template: &'a Template,
    /// The name of the Secret of the bot's parameters.
    pub config: &'a str,
    /// Bytes that the bot may use.
    pub memory: u64,
    /// Billionths of a processor that it may use.
    pub cpu: u64,
}

impl Parts<'_> {
    /// Brings code and state, and ends.
    pub fn fetch(&self) -> Container {
        let mounts = [
            mount("code", "/bot"),
            mount("state", "/state"),
            mount("var", "/var/the0"),
            keys(),
        ];
        Container {
            env: Some(self.environment_of_sync()),
            resources: Some(self.light(512 * MIB)),
            ..self.container(FETCH, &["sync", "fetch"], mounts)
        }
    }

    /// Saves state and log until the bot has ended. It looks at the code only for its size: a folder that is over its own is
    /// the Pod's end, with what is unsaved.
    pub fn sync(&self) -> Container {
        let mounts = [
            read_only(mount("code", "/bot")),
            mount("state", "/state"),
            mount("var", "/var/the0"),
            keys(),
        ];
        let port = READY_PORT.to_string();
        let command = ["sync", "watch", "--until-saved", "--readiness-port", &port];
        let ready = Probe {
            http_get: Some(get("/", READY_PORT)),
            period_seconds: Some(1),
            timeout_seconds: Some(5),
            failure_threshold: Some(600),
            ..Probe::default()
        };
        // Whether saving works: the Pod's status tells.
        let saves = Probe {
            http_get: Some(get("/saved", READY_PORT)),
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(1),
            ..Probe::default()
        };
        Container {
            env: Some(self.environment_of_sync()),
            restart_policy: Some("Always".to_owned()),
            resources: Some(self.light(self.template.sync_memory)),
            startup_probe: Some(ready),
            readiness_probe: Some(saves),
            ..self.container(SYNC, &command, mounts)
        }
    }

    /// Answers questions about the bot.
    pub fn query(&self) -> Container {
        // Below an init, which ends what a query program leaves.
        let command = ["supervisor", "execute", "--query-server-only"];
        let mounts = [
            read_only(mount("code", "/bot")),
            read_only(mount("state", "/state")),
            read_only(mount("var", "/var/the0")),
            mount("tmp", "/tmp"),
            mount("answers", "/query"),
        ];
        let mut environment = self.environment();
        environment.push(self.secret(vars::BOT_CONFIG, CONFIG));
        environment.push(EnvVar {
            value_from: self
                .secret(vars::THE0_QUERY_TOKEN, TOKEN)
                .value_from
                .map(optional),
            ..variable(vars::THE0_QUERY_TOKEN, "")
        });
        // Not whether the bot's own query program is well: that may need the bot, which is started after this.
        let ready = Probe {
            tcp_socket: Some(TCPSocketAction {
                port: IntOrString::Int(QUERY_PORT.into()),
                host: None,
            }),
            period_seconds: Some(15),
            timeout_seconds: Some(5),
            failure_threshold: Some(3),
            ..Probe::default()
        };
        Container {
            env: Some(environment),
            restart_policy: Some("Always".to_owned()),
            resources: Some(self.light(self.memory)),
            readiness_probe: Some(ready),
            ports: Some(vec![ContainerPort {
                container_port: QUERY_PORT.into(),
                name: Some("query".to_owned()),
                ..ContainerPort::default()
            }]),
            ..self.container(QUERY, &command, mounts)
        }
    }

    /// Runs the bot.
    pub fn bot(&self) -> Container {
        let command = ["supervisor", "--restart", "never", "--no-side-processes"];
        let mounts = [
            mount("code", "/bot"),
            mount("state", "/state"),
            mount("var", "/var/the0"),
            mount("tmp", "/tmp"),
            mount("answers", "/query"),
        ];
        let mut environment = self.environment();
        environment.push(self.secret(vars::BOT_CONFIG, CONFIG));
        Container {
            env: Some(environment),
            resources: Some(self.resources()),
            ..self.container(BOT, &command, mounts)
        }
    }

    /// What a program of the bot's may use, and what is kept for it.
    pub(super) fn resources(&self) -> ResourceRequirements {
        let asked = self.bot.requests();
        let memory = asked.memory.unwrap_or(self.memory).min(self.memory);
        let cpu = asked.cpu.unwrap_or(self.template.cpu_request).min(self.cpu);
        resources((memory, cpu), (self.memory, self.cpu))
    }

    pub(super) fn container<const N: usize>(
        &self,
        name: &str,
        command: &[&str],
        mounts: [VolumeMount; N],
    ) -> Container {
        let (program, words) = command.split_first().unwrap_or((&"", &[]));
        let runtime = self.bot.definition.runtime;
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Container {
            name: name.to_owned(),
            image: Some(self.template.image_for(runtime)),
            image_pull_policy: Some(self.template.pull.clone()),
            command: Some(vec![format!("/opt/the0/bin/{program}")]),
            args: (!words.is_empty()).then_some(words),
            volume_mounts: Some(mounts.into()),
            security_context: Some(hardened()),
            ..Container::default()
        }
    }

    /// What a program that waits and moves bytes may use.
    pub(super) fn light(&self, memory: u64) -> ResourceRequirements {
        let cpu = self.cpu.max(CPU);
        let (kept, cpu_kept) = self.template.side_request;
        resources((kept.min(memory), cpu_kept.min(cpu)), (memory, cpu))
    }

    pub(super) fn environment(&self) -> Vec<EnvVar> {
        as_list(&variables(self.bot, self.template))
    }

    pub(super) fn environment_of_sync(&self) -> Vec<EnvVar> {
        let mut set = variables(self.bot, self.template);
        set.extend(self.template.store.clone());
        set.insert(
            vars::THE0_KEYS_FILE.to_owned(),
            format!("{KEYS_FOLDER}/{KEYS}"),
        );
        if self.template.ca.is_some() {
            set.insert(CA_FILE.to_owned(), format!("{KEYS_FOLDER}/{CA}"));
        }
        as_list(&set)
    }

    pub(super) fn secret(&self, name: &str, entry: &str) -> EnvVar {
        EnvVar {
            name: name.to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: self.config.to_owned(),
                    key: entry.to_owned(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            }),
        }
    }
}

fn optional(mut source: EnvVarSource) -> EnvVarSource {
    if let Some(secret) = &mut source.secret_key_ref {
        secret.optional = Some(true);
    }
    source
}

fn as_list(set: &BTreeMap<String, String>) -> Vec<EnvVar> {
    set.iter()
        .map(|(name, value)| variable(name, value))
        .collect()
}

/// A variable as it is: Kubernetes would take `$(NAME)` for another one.
pub(super) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: (!value.is_empty()).then(|| value.replace('$', "$$")),
        value_from: None,
    }
}

/// Sets a variable, whatever it was.
pub(super) fn set(environment: &mut Vec<EnvVar>, name: &str, value: &str) {
    environment.retain(|variable| variable.name != name);
    environment.push(variable(name, value));
}

fn resources(requests: (u64, u64), limits: (u64, u64)) -> ResourceRequirements {
    let amounts = |(memory, cpu)| {
        let pairs = [("cpu", cpus(cpu)), ("memory", bytes(memory))];
        Some(
            pairs
                .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
                .into(),
        )
    };
    ResourceRequirements {
        requests: amounts(requests),
        limits: amounts(limits),
        claims: None,
    }
}

fn hardened() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

fn get(path: &str, port: u16) -> HTTPGetAction {
    HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::Int(port.into()),
        ..HTTPGetAction::default()
    }
}

fn keys() -> VolumeMount {
    read_only(mount(KEYS_VOLUME, KEYS_FOLDER))
}

pub(super) fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

pub(super) fn read_only(mount: VolumeMount) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount
    }
}
