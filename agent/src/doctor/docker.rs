//! The Docker daemon: whether it answers, bounds bots as it should, and makes them containers and a network.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, Network, NetworkCreateRequest, SystemInfo};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use tokio::time::timeout;

use super::images::{self, Image};
use super::sheet::{Part, Sheet};
use super::{ANSWER, machine};
use crate::engine::docker::refusal::said;
use crate::engine::docker::template::Template;
use crate::engine::docker::{Engine, metadata, names};

const DOCKER: Part = Part::Docker;
/// The label of what is made here to try a right, so that what a killed doctor left is found.
const PROBE: &str = "doctor";
const ICC: &str = "com.docker.network.bridge.enable_icc";

/// Looks at the daemon at `host`; gives what is known of the images, where it answers.
pub async fn look(
    host: Option<&str>,
    template: Option<&Template>,
    sheet: &RefCell<Sheet>,
) -> Option<Vec<Image>> {
    let (docker, info) = match connect(host).await {
        Ok(connected) => connected,
        Err(why) => {
            let remedy = "start it, set DOCKER_HOST, or let this user use its socket (group docker, or root)";
            sheet.borrow_mut().failed(DOCKER, "daemon", why, remedy);
            return None;
        }
    };
    judge(&info, template, &mut sheet.borrow_mut());
    rules(sheet).await;
    let template = template?;
    let images = images::look(&docker, template).await;
    network(&docker, template, sheet).await;
    let present = images.iter().find_map(Image::id);
    container(&docker, template, present, sheet).await;
    Some(images)
}

async fn connect(host: Option<&str>) -> Result<(Docker, SystemInfo), String> {
    let docker = Engine::connect(host).map_err(|err| err.to_string())?;
    let docker = answer(docker.negotiate_version()).await?;
    let info = answer(docker.info()).await?;
    Ok((docker, info))
}

/// What the daemon answers within the time for it.
pub async fn answer<T>(question: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match timeout(ANSWER, question).await {
        Err(_) => Err(format!(
            "the Docker daemon did not answer within {} s",
            ANSWER.as_secs()
        )),
        Ok(answer) => answer.map_err(|err| said(&err)),
    }
}

/// What the daemon tells of itself. Pure.
fn judge(info: &SystemInfo, template: Option<&Template>, sheet: &mut Sheet) {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    let cgroup = info.cgroup_version.map(|version| version.to_string());
    sheet.ok(
        DOCKER,
        "daemon",
        format!(
            "{}, {}, storage {}, cgroup v{}",
            text(&info.server_version),
            text(&info.operating_system),
            text(&info.driver),
            cgroup.as_deref().unwrap_or("?"),
        ),
    );
    bounds(info, sheet);
    let secured = info.security_options.iter().flatten();
    if secured.clone().any(|option| option.contains("seccomp")) {
        sheet.ok(DOCKER, "seccomp", "on");
    } else {
        let remedy =
            "bots may make every system call: a daemon and kernel with seccomp refuse them many";
        sheet.warning(DOCKER, "seccomp", "off", remedy);
    }
    runtime(info, template, sheet);
    match info.docker_root_dir.as_deref().map(Path::new) {
        Some(root) => machine::space(DOCKER, "disk", root, &root.display().to_string(), sheet),
        None => sheet.ok(DOCKER, "disk", "it does not tell its folder"),
    }
}

fn bounds(info: &SystemInfo, sheet: &mut Sheet) {
    let known = [
        ("memory", info.memory_limit),
        ("swap", info.swap_limit),
        ("processor", info.cpu_cfs_quota),
        ("processes", info.pids_limit),
    ];
    let not: Vec<&str> = known
        .iter()
        .filter(|(_, is)| *is == Some(false))
        .map(|(name, _)| *name)
        .collect();
    if not.is_empty() {
        return sheet.ok(DOCKER, "bounds", "memory, swap, processor and processes");
    }
    let found = format!("not bounded: {}", not.join(", "));
    let remedy = "a bot can take all of it: enable the cgroup controllers (for swap on cgroup v1 boot with swapaccount=1)";
    if not.contains(&"memory") {
        sheet.failed(DOCKER, "bounds", found, remedy);
    } else {
        sheet.warning(DOCKER, "bounds", found, remedy);
    }
}

fn runtime(info: &SystemInfo, template: Option<&Template>, sheet: &mut Sheet) {
    let Some(asked) = template.and_then(|template| template.oci_runtime.as_deref()) else {
        return;
    };
    let known = info
        .runtimes
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str());
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    if known.contains(&asked) {
        sheet.ok(DOCKER, "runtime", asked);
    } else {
        let found = format!(
            "THE0_OCI_RUNTIME is {asked}, the daemon knows {}",
            known.join(", ")
        );
        let remedy = "add it to daemon.json, or unset THE0_OCI_RUNTIME";
        sheet.failed(DOCKER, "runtime", found, remedy);
    }
}

async fn rules(sheet: &RefCell<Sheet>) {
    let tried = timeout(ANSWER, metadata::try_out()).await;
    let tried = tried.unwrap_or_else(|_| Err("iptables does not come to an end".into()));
    let mut sheet = sheet.borrow_mut();
    match tried {
        Ok(()) => sheet.ok(DOCKER, "metadata", "link-local addresses can be kept from bots"),
        Err(why) => sheet.warning(
            DOCKER,
            "metadata",
            format!("169.254.0.0/16 cannot be kept from bots here: {why}"),
            "run the agent as root or with NET_ADMIN on the daemon's own machine, or set the rules that it prints at its start",
        ),
    }
}

async fn network(docker: &Docker, template: &Template, sheet: &RefCell<Sheet>) {
    let own = template.stack.network();
    let name = template.network.as_deref().unwrap_or(&own);
    let found = match find(docker, name).await {
        Ok(found) => found,
        Err(why) => {
            let remedy = "look into the daemon's log";
            return sheet.borrow_mut().failed(DOCKER, "network", why, remedy);
        }
    };
    match (found, &template.network) {
        (Some(found), _) => isolation(&found, name, &mut sheet.borrow_mut()),
        (None, Some(name)) => sheet.borrow_mut().failed(
            DOCKER,
            "network",
            format!("{name} is not there"),
            "make it, or leave DOCKER_NETWORK unset for the stack's own",
        ),
        (None, None) => make(docker, name, sheet).await,
    }
}

async fn find(docker: &Docker, name: &str) -> Result<Option<Network>, String> {
    let filters = HashMap::from([("name", vec![name.to_owned()])]);
    let options = ListNetworksOptionsBuilder::default()
        .filters(&filters)
        .build();
    let found = answer(docker.list_networks(Some(options))).await?;
    let mut found = found.into_iter();
    Ok(found.find(|network| network.name.as_deref() == Some(name)))
}

fn isolation(network: &Network, name: &str, sheet: &mut Sheet) {
    let icc = network
        .options
        .as_ref()
        .and_then(|options| options.get(ICC));
    if icc.is_some_and(|icc| icc == "false") {
        sheet.ok(
            DOCKER,
            "network",
            format!("{name}, bots do not reach each other"),
        );
    } else {
        let found = format!("{name} lets its containers reach each other");
        let remedy =
            "leave DOCKER_NETWORK unset: the stack's own network, made by the agent, does not";
        sheet.warning(DOCKER, "network", found, remedy);
    }
}

/// Tries whether a network can be made, and takes it away.
async fn make(docker: &Docker, name: &str, sheet: &RefCell<Sheet>) {
    let labels = [(names::PURPOSE.to_owned(), PROBE.to_owned())];
    let request = NetworkCreateRequest {
        name: format!("{name}-{PROBE}"),
        driver: Some("bridge".into()),
        options: Some([(ICC.to_owned(), "false".to_owned())].into()),
        labels: Some(labels.into()),
        ..NetworkCreateRequest::default()
    };
    let made = answer(docker.create_network(request)).await;
    let removed = match &made {
        Ok(made) => answer(docker.remove_network(&made.id)).await,
        Err(_) => Ok(()),
    };
    let mut sheet = sheet.borrow_mut();
    match made.and(removed) {
        Ok(()) => sheet.ok(DOCKER, "network", format!("{name} can be made, bots kept apart")),
        Err(why) => sheet.failed(
            DOCKER,
            "network",
            format!("{name} is not there and cannot be made: {why}"),
            "remove networks that nobody uses (docker network prune), or name one by DOCKER_NETWORK",
        ),
    }
}

/// Tries whether a container can be made, and takes it away; it is never started.
async fn container(
    docker: &Docker,
    template: &Template,
    image: Option<&str>,
    sheet: &RefCell<Sheet>,
) {
    let Some(image) = image else { return };
    sweep(docker).await;
    let labels = [(names::PURPOSE.to_owned(), PROBE.to_owned())];
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some(labels.into()),
        host_config: Some(HostConfig {
            memory: Some(64 << 20),
            pids_limit: Some(16),
            readonly_rootfs: Some(true),
            runtime: template.oci_runtime.clone(),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let name = format!("the0-{}.{PROBE}-{}", template.stack, std::process::id());
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let made = answer(docker.create_container(Some(options), body)).await;
    let removed = match &made {
        Ok(made) => remove(docker, &made.id).await,
        Err(_) => Ok(()),
    };
    let mut sheet = sheet.borrow_mut();
    match made.and(removed) {
        Ok(()) => sheet.ok(DOCKER, "container", "can be made and removed"),
        Err(why) => sheet.failed(
            DOCKER,
            "container",
            format!("none can be made: {why}"),
            "as the daemon says; its log has more",
        ),
    }
}

/// Removes what a killed doctor left.
async fn sweep(docker: &Docker) {
    let filters = HashMap::from([("label", vec![format!("{}={PROBE}", names::PURPOSE)])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let left = answer(docker.list_containers(Some(options))).await;
    for container in left.unwrap_or_default() {
        // Made less than a minute ago it may be another doctor's.
        let age = container.created.map_or(0, |at| now().saturating_sub(at));
        if let (Some(id), 60..) = (container.id, age) {
            let _ = remove(docker, &id).await;
        }
    }
}

async fn remove(docker: &Docker, id: &str) -> Result<(), String> {
    let options = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    answer(docker.remove_container(id, Some(options))).await
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Colours;
    use contract::launch::Variables;

    fn said(info: &SystemInfo, oci: Option<&str>) -> String {
        let given: Variables = oci
            .map(|name| ("THE0_OCI_RUNTIME".to_owned(), name.to_owned()))
            .into_iter()
            .collect();
        let template = Template::parse(&given, Variables::new(), Variables::new()).unwrap();
        let mut sheet = Sheet::default();
        judge(info, Some(&template), &mut sheet);
        sheet.table(Colours::Off)
    }

    #[test]
    fn a_daemon_that_does_not_bound_memory_or_know_the_runtime_fails() {
        let well = SystemInfo {
            memory_limit: Some(true),
            security_options: Some(vec!["name=seccomp,profile=default".into()]),
            runtimes: Some(HashMap::from([(
                "runc".into(),
                bollard::models::Runtime::default(),
            )])),
            ..SystemInfo::default()
        };
        assert!(said(&well, Some("runc")).contains("0 failed, 0 to look at"));
        let text = said(&well, Some("runsc"));
        assert!(
            text.contains("knows runc") && text.contains("1 failed"),
            "{text}"
        );
        let unbounded = SystemInfo {
            memory_limit: Some(false),
            ..well.clone()
        };
        assert!(said(&unbounded, None).contains("not bounded: memory"));
        let swap = SystemInfo {
            swap_limit: Some(false),
            security_options: None,
            ..well
        };
        assert!(said(&swap, None).contains("0 failed, 2 to look at"));
    }
}
