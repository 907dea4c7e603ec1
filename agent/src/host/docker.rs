//! What of an agent is Docker's: bots are containers of this host, or of the one whose daemon is named.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use contract::launch::Variables;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::engines::{Around, Parts};
use super::setup::sends;
use crate::engine::docker::container::CA_INSIDE;
use crate::engine::docker::question::{Questions, Warm};
use crate::engine::docker::template::{CA_FILE, Template, passed};
use crate::engine::docker::{self, Access, Engine as Docker};
use crate::engine::{Engine, News};
use crate::gateway::apart::Apart;
use crate::health::{Board, Dependency};
use crate::history::notices::Logs;
use crate::lease::Identity;
use crate::live::Live;
use crate::live::reader::Place;
use crate::place::Containers;
use crate::show::Console;
use crate::store::{Address, Store};
use crate::{events, jobs};

/// What the operator sets of it.
pub struct Setup {
    /// Where containers are, and whose.
    pub containers: Containers,
    template: Template,
    /// Where what bots print is sent.
    live: Option<events::Address>,
    /// Containers that wait for a question.
    warm: Warm,
    jobs: jobs::Settings,
}

/// Reads the environment.
///
/// # Errors
/// The first setting that cannot be used.
pub fn setup(
    environment: &Variables,
    store: &Address,
    nats: Option<&events::Address>,
) -> Result<Setup> {
    let store = store_variables(store, environment)?;
    let template = Template::parse(environment, passed(environment), store)?;
    let value = |name: &str| environment.get(name).filter(|v| !v.is_empty()).cloned();
    Ok(Setup {
        containers: Containers {
            docker_host: value("DOCKER_HOST"),
            stack: template.stack.to_string(),
        },
        template,
        live: sends(environment, nats)?,
        warm: Warm::parse(environment)?,
        jobs: jobs::Settings::parse(environment)?,
    })
}

impl Setup {
    /// Nothing is left of it that tells something.
    pub fn only_answers(&mut self) {
        self.live = None;
    }

    /// The stack.
    pub fn stack(&self) -> String {
        self.template.stack.to_string()
    }

    /// How long keys are good.
    pub fn keys(&self) -> std::time::Duration {
        self.template.keys
    }

    /// Connects.
    ///
    /// # Errors
    /// What keeps it from that.
    pub fn open(self, around: Around<'_>) -> Result<Parts> {
        let host = self.containers.docker_host.as_deref();
        let (board, console) = (around.board, around.console);
        let live = self.live.clone();
        let live = live.map(|nats| start_live(nats, &self.containers, board, console));
        let docker = Docker::connect(host)?;
        let mut access = Access::new(docker, self.template, around.keys, console.clone());
        access.is_near = host.is_none_or(|host| host.starts_with("unix:"));
        access.lease = around.lease.clone();
        board.attach(Dependency::Docker, access.gate.clone());
        access.permits = Some(around.permits);
        let queue = around.source;
        let queue = queue.map(|source| start_jobs(source, self.jobs, &access, around.store));
        let apart = Questions::new(
            &access,
            Docker::connect(host)?,
            Identity::of(around.data)?.holder,
            self.warm,
            around.apart,
        );
        let (docker_to, from_docker) = unbounded_channel();
        tokio::spawn(pass_on(from_docker, around.news));
        let engine = Docker::new(access, around.interval, docker_to);
        Ok(Parts {
            engine: Engine::Docker(Box::new(engine)),
            live: live.transpose()?,
            queue,
            apart: Some(Apart::Docker(apart)),
            logs: Logs::Docker(self.containers),
        })
    }
}

/// Runs jobs, in the runtime of the caller.
fn start_jobs(
    source: &events::Source,
    settings: jobs::Settings,
    access: &Access,
    store: &Store,
) -> jobs::Queue {
    jobs::start(jobs::Source {
        nats: source.nats.clone(),
        mongo: source.mongo.apart(),
        site: jobs::site::Site::Docker(Box::new(access.clone())),
        store: store.clone(),
        settings,
    })
}

/// What the daemon tells is news.
async fn pass_on(mut from: UnboundedReceiver<docker::News>, to: UnboundedSender<News>) {
    while let Some(news) = from.recv().await {
        if to.send(News::Docker(news)).is_err() {
            return;
        }
    }
}

/// Sends what bots print, over connections of its own.
fn start_live(
    nats: events::Address,
    containers: &Containers,
    board: &Board,
    console: &Console,
) -> Result<Live> {
    let docker = Docker::connect(containers.docker_host.as_deref())?;
    let live = Live::start(nats, Place::Docker(docker), board.clone(), console.clone());
    live.context("live logs")
}

/// The variables that tell `sync` in a container where the store is.
///
/// # Errors
/// Its address is one that containers do not reach.
pub fn store_variables(store: &Address, environment: &Variables) -> Result<Variables> {
    let mut variables = store.variables();
    if let Some(ca) = variables.get_mut(CA_FILE) {
        CA_INSIDE.clone_into(ca);
    }
    let inside = environment
        .get("MINIO_CONTAINER_ENDPOINT")
        .filter(|endpoint| !endpoint.is_empty());
    if let Some(inside) = inside {
        variables.insert("MINIO_ENDPOINT".into(), inside.clone());
        return Ok(variables);
    }
    let endpoint = variables.get("MINIO_ENDPOINT").map_or("", String::as_str);
    if is_loopback(endpoint) {
        bail!(
            "MINIO_ENDPOINT is {endpoint}, which in a container is the container itself: set MINIO_CONTAINER_ENDPOINT to \
             the address at which containers reach the store, as in 172.17.0.1:9000"
        );
    }
    Ok(variables)
}

fn is_loopback(endpoint: &str) -> bool {
    let place = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, place)| place);
    let host = place
        .rsplit_once(':')
        .map_or(place, |(host, _)| host)
        .trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_address_that_a_container_cannot_reach_is_refused_with_the_remedy() {
        for (endpoint, expected) in [
            ("127.0.0.1:9000", true),
            ("http://localhost:9000", true),
            ("[::1]:9000", true),
            ("minio:9000", false),
            ("https://172.17.0.1", false),
        ] {
            assert_eq!(is_loopback(endpoint), expected, "{endpoint}");
        }
        let given: Variables = [
            ("MINIO_ENDPOINT", "127.0.0.1:9000"),
            ("MINIO_ACCESS_KEY", "hunter1"),
            ("MINIO_SECRET_KEY", "hunter2"),
        ]
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .into();
        let store = Address::parse(&given, Path::new("/d")).unwrap();
        let text = store_variables(&store, &given).unwrap_err().to_string();
        assert!(
            text.contains("MINIO_CONTAINER_ENDPOINT") && !text.contains("hunter"),
            "{text}"
        );
        let mut inside = given.clone();
        inside.insert("MINIO_CONTAINER_ENDPOINT".into(), "gateway:9000".into());
        assert_eq!(
            store_variables(&store, &inside).unwrap()["MINIO_ENDPOINT"],
            "gateway:9000"
        );
    }
}
