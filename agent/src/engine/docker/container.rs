//! A bot becomes the options of its container and its launch document. Pure.
//!
//! Nothing of the bot's parameters and no key is among the options, which anybody who may ask the daemon can read: they
//! travel in the [document](document) on standard input.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use contract::launch::{Keys, Line, Variables};
use contract::{BotId, Launch, LaunchError, Secret, vars};

use super::names::{self, Stack};
use super::template::Template;
use crate::document::Bot;
use crate::engine::bounds;
pub use crate::engine::bounds::Refused;
pub use crate::engine::settings::STOP;
use crate::history::Start;
use crate::history::cause::Cause;
use crate::launch;

/// Bytes of the folder of one-shot questions.
const QUERY_SIZE: u64 = 16 << 20;
/// Where containers find the file of authorities of the store.
pub const CA_INSIDE: &str = "/opt/the0/ca.pem";
/// The user in all images.
const USER: &str = "1000:1000";

/// The variables of the bot's launch, without keys.
pub fn variables(bot: &Bot, template: &Template) -> Variables {
    let mut set = template.environment.clone();
    set.extend(launch::of_document(bot));
    set.extend(template.store.clone());
    set
}

/// The launch document: one line, with its newline.
///
/// # Errors
/// What the supervisor would refuse.
pub fn document(variables: Variables, keys: &Keys) -> Result<Secret, LaunchError> {
    Launch::parse(variables.clone())?;
    let mut env: Keys = variables
        .into_iter()
        .map(|(name, value)| (name, Secret::new(value)))
        .collect();
    env.extend(keys.clone());
    Ok(line(&Line::Launch {
        v: Line::VERSION,
        env,
    }))
}

/// A line of renewed keys.
pub fn renewal(keys: &Keys) -> Secret {
    line(&Line::Keys {
        v: Line::VERSION,
        keys: keys.clone(),
    })
}

fn line(line: &Line) -> Secret {
    Secret::new(serde_json::to_string(line).unwrap_or_default() + "\n")
}

/// The container of `bot` from the image with the id `image_id`, in the network with the id `network`.
///
/// # Errors
/// It asks for more than it may have.
pub fn options(
    bot: &Bot,
    template: &Template,
    image_id: &str,
    network: &str,
    start: &Start,
) -> Result<ContainerCreateBody, Refused> {
    let image = template.image_for(bot.definition.runtime);
    let mut host = host(bot, template, image_id)?;
    host.network_mode = Some(network.to_owned());
    Ok(ContainerCreateBody {
        image: Some(image),
        user: Some(USER.into()),
        env: Some(vec![format!("{}=stdin", vars::THE0_LAUNCH)]),
        open_stdin: Some(true),
        stdin_once: Some(false),
        attach_stdin: Some(true),
        tty: Some(false),
        stop_timeout: i64::try_from(template.stop.as_secs()).ok(),
        // The supervisor tells how it is in status.json; a probe would cost every bot a process each time.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }),
        labels: Some(labels(bot, template, image_id, start)),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

/// One beside the bot's own: without the labels by which that is known, and with volumes that have no name and go with it.
///
/// # Errors
/// See [`options`].
pub fn apart(
    bot: &Bot,
    template: &Template,
    image_id: &str,
    network: &str,
) -> Result<ContainerCreateBody, Refused> {
    let start = Start::now(Cause::Created, None);
    let mut options = options(bot, template, image_id, network, &start)?;
    for not_its in [names::LAUNCH, names::TEMPLATE, names::CAUSE] {
        options
            .labels
            .as_mut()
            .and_then(|labels| labels.remove(not_its));
    }
    let host = options.host_config.as_mut();
    let mounts = host.and_then(|host| host.mounts.as_mut());
    for mount in mounts.into_iter().flatten() {
        if mount.typ == Some(MountType::VOLUME) {
            (mount.source, mount.volume_options) = (None, None);
        }
    }
    Ok(options)
}

fn labels(
    bot: &Bot,
    template: &Template,
    image_id: &str,
    start: &Start,
) -> HashMap<String, String> {
    let mut labels = template.stack.labels(&bot.id);
    let more = [
        (names::TYPE, bot.definition.kind.name().to_owned()),
        (names::ENTRYPOINT, "bot".to_owned()),
        (names::NAME, bot.definition.name.clone()),
        (names::LAUNCH, launch::digest(bot).as_str().to_owned()),
        (
            names::TEMPLATE,
            template.digest(image_id).as_str().to_owned(),
        ),
        (names::IMAGE, image_id.to_owned()),
        (names::CODE, bot.code.to_string()),
        (names::VERSION, bot.definition.version.clone()),
        (names::CAUSE, start.to_string()),
        (names::BEGAN, start.at.to_string()),
        (names::PATIENCE, template.stop.as_secs().to_string()),
        (names::AGENT, env!("CARGO_PKG_VERSION").to_owned()),
    ];
    labels.extend(more.map(|(k, v)| (k.to_owned(), v)));
    let tick = start.tick.map(|tick| tick.to_string());
    labels.extend(tick.map(|tick| (names::TICK.to_owned(), tick)));
    labels
}

fn host(bot: &Bot, template: &Template, image_id: &str) -> Result<HostConfig, Refused> {
    let memory = bounds::memory(bot, template.memory)?;
    let cpu = bounds::cpu(bot, template.cpu)?;
    let mut mounts = mounts(&bot.id, &template.stack, Some(image_id));
    mounts.extend(template.ca.clone().map(ca));
    Ok(HostConfig {
        readonly_rootfs: Some(true),
        tmpfs: Some(tmpfs(template)),
        mounts: Some(mounts),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges:true".into()]),
        privileged: Some(false),
        memory: Some(memory.cast_signed()),
        memory_swap: Some(memory.cast_signed()),
        nano_cpus: Some(cpu.cast_signed()),
        cpu_shares: template.cpu_shares,
        pids_limit: Some(template.pids),
        ulimits: Some(vec![ulimit("nofile", template.files), ulimit("core", 0)]),
        log_config: Some(log(template)),
        ipc_mode: Some("private".into()),
        init: Some(false),
        runtime: template.oci_runtime.clone(),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        ..HostConfig::default()
    })
}

fn tmpfs(template: &Template) -> HashMap<String, String> {
    let sized = |size: u64| format!("rw,exec,nosuid,nodev,size={size},mode=1777");
    // The runtime gives a tmpfs the mode of the image's folder, which is its owner's alone to write to.
    let own = format!("{},uid=1000,gid=1000", sized(QUERY_SIZE));
    HashMap::from([
        ("/tmp".to_owned(), sized(template.tmp)),
        ("/query".to_owned(), own),
    ])
}

fn mounts(bot: &BotId, stack: &Stack, image_id: Option<&str>) -> Vec<Mount> {
    let mut labels = stack.labels(bot);
    let image = image_id.map(|id| (names::IMAGE.to_owned(), id.to_owned()));
    labels.extend(image);
    let mount = |(name, target): (String, &str)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name),
        target: Some(target.to_owned()),
        volume_options: Some(MountVolumeOptions {
            labels: Some(labels.clone()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    stack.volumes(bot).map(mount).into()
}

fn ca(path: String) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(path),
        target: Some(CA_INSIDE.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    }
}

/// What a container needs that is only there for its bot's volumes to be looked into.
pub fn over_volumes(bot: &BotId, stack: &Stack) -> HostConfig {
    HostConfig {
        mounts: Some(mounts(bot, stack, None)),
        network_mode: Some("none".into()),
        ..HostConfig::default()
    }
}

fn ulimit(name: &str, limit: i64) -> ResourcesUlimits {
    ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(limit),
        hard: Some(limit),
    }
}

fn log(template: &Template) -> HostConfigLogConfig {
    let options = [
        ("max-size", template.log.to_string()),
        ("max-file", "3".to_owned()),
    ];
    HostConfigLogConfig {
        typ: Some("json-file".into()),
        config: Some(options.map(|(k, v)| (k.to_owned(), v)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bot(limits: &serde_json::Value) -> Bot {
        let mut config = json!({"symbol": "BTC/USD", "api_key": "hunter2"});
        let object = config.as_object_mut().unwrap();
        object.extend(limits.as_object().unwrap().clone());
        let document = json!({
            "id": "abc", "config": config,
            "custom": {"version": "1.0.0", "filePath": "u/b/1.0.0", "config": {
                "name": "b", "type": "realtime", "runtime": "python3.11", "version": "1.0.0",
                "entrypoints": {"bot": "main.py", "query": "query.py"}}}
        });
        Bot::from_document(&document).unwrap()
    }

    fn template(pairs: &[(&str, &str)]) -> Template {
        let given: Variables = pairs
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect();
        Template::parse(&given, super::super::template::passed(&given), store()).unwrap()
    }

    fn store() -> Variables {
        [("MINIO_ENDPOINT".to_owned(), "gateway:9000".to_owned())].into()
    }

    fn start() -> Start {
        Start {
            cause: crate::history::cause::Cause::Crashed,
            because: Some("exit 1".into()),
            at: std::time::UNIX_EPOCH.into(),
            tick: None,
        }
    }

    fn check(golden: &str, text: &str) {
        let path = format!("{}/golden/{golden}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap());
    }

    #[test]
    fn the_container_is_the_one_promised() {
        let options =
            options(&bot(&json!({})), &template(&[]), "sha256:1", "n1", &start()).unwrap();
        let mut value = serde_json::to_value(&options).unwrap();
        value["Labels"][names::AGENT] = "VERSION".into();
        check(
            "container.json",
            &(serde_json::to_string_pretty(&value).unwrap() + "\n"),
        );
    }

    #[test]
    fn the_launch_variables_in_a_container_are_those_promised() {
        let told = variables(&bot(&json!({})), &template(&[("THE0_GRACE", "5s")]));
        let text: String = told.iter().flat_map(|(n, v)| [n, "=", v, "\n"]).collect();
        check("container-launch.txt", &text);
        document(told, &Keys::new()).unwrap();
    }

    #[test]
    fn nothing_of_the_parameters_is_among_the_options() {
        let options =
            options(&bot(&json!({})), &template(&[]), "sha256:1", "n1", &start()).unwrap();
        let text = serde_json::to_string(&options).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("BTC/USD"));
    }

    #[test]
    fn a_bot_gets_what_it_asks_for_up_to_what_there_is() {
        let template = template(&[("THE0_MAX_MEMORY", "1Gi"), ("THE0_MAX_CPU", "2")]);
        let host = |limits| host(&bot(&limits), &template, "i");
        let own = host(json!({"memory_limit": "64Mi", "cpu_limit": "250m"})).unwrap();
        assert_eq!(
            (own.memory, own.memory_swap),
            (Some(64 << 20), Some(64 << 20))
        );
        assert_eq!(own.nano_cpus, Some(250_000_000));
        let none = host(json!({})).unwrap();
        assert_eq!(
            (none.memory, none.nano_cpus),
            (Some(512 << 20), Some(1_000_000_000))
        );
        let text = host(json!({"memory_limit": "2Gi"}))
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "config.memory_limit asks for 2Gi, and this host gives a bot at most 1Gi: lower it, or raise THE0_MAX_MEMORY"
        );
        let text = host(json!({"cpu_limit": 2.5})).unwrap_err().to_string();
        assert!(
            text.contains("2500m") && text.contains("THE0_MAX_CPU"),
            "{text}"
        );
    }
}
