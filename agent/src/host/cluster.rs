//! What of an agent is Kubernetes': bots are Pods of a namespace (`agent controller`).
//!
//! The cluster is the one the agent itself runs in, or the one that a kubeconfig names (`KUBECONFIG`).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::launch::Variables;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::engines::{Around, Parts};
use super::setup::sends;
use crate::engine::kubernetes::job::{Jobs, Terms};
use crate::engine::kubernetes::question::Questions;
use crate::engine::kubernetes::template::{Files, POD_TEMPLATE, Template};
use crate::engine::kubernetes::{self, Access};
use crate::engine::settings::passed;
use crate::engine::{Engine, News};
use crate::gateway::apart::Apart;
use crate::health::Dependency;
use crate::history::notices::Logs;
use crate::jobs::site::Site;
use crate::lease::Identity;
use crate::live::Live;
use crate::live::reader::Place;
use crate::place::{self, Pods};
use crate::store::{Address, Store};
use crate::{events, jobs};

/// The variable of a file of authorities.
const CA_FILE: &str = "THE0_CA_FILE";
/// The variable that says whether the cluster's own clock gets schedules.
const CLOCK: &str = "THE0_CRONJOBS";
/// The variable of Docker's containers that wait for a question.
const WARM: &str = "THE0_QUERY_WARM";

/// Where Pods are.
#[derive(Debug, clap::Args)]
pub struct Namespace {
    /// The namespace of bots that are Pods [default: the kubeconfig's or the Pod's own; for doctor and restore first that
    /// of the last controller on the data folder]
    #[arg(
        long,
        env = "THE0_NAMESPACE",
        hide_env_values = true,
        value_name = "NAME"
    )]
    namespace: Option<String>,
}

impl Namespace {
    /// The one that was named, if one was.
    pub fn named(&self) -> Option<String> {
        self.namespace.clone().filter(|name| !name.is_empty())
    }
}

/// What the controller is told besides the environment.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    namespace: Namespace,
    /// The object store as Pods and the agent reach it [env: MINIO_ENDPOINT]
    #[arg(long, value_name = "HOST:PORT")]
    minio_endpoint: Option<String>,
    /// The bucket of code [env: MINIO_CODE_BUCKET]
    #[arg(long, value_name = "NAME")]
    minio_bucket: Option<String>,
    /// The bots' image, with {runtime} in the place of the runtime's name [env: RUNTIME_IMAGE]
    #[arg(long, value_name = "IMAGE")]
    runtime_image: Option<String>,
    /// When it is pulled: Always, IfNotPresent or Never [env: THE0_PULL]
    #[arg(long, value_name = "WHEN")]
    runtime_image_pull_policy: Option<String>,
    /// What every agent is told.
    #[command(flatten)]
    pub run: super::Options,
}

impl Options {
    /// What is said counts before what the environment has.
    pub fn prevail(&self, environment: &mut Variables) {
        let said = [
            ("MINIO_ENDPOINT", &self.minio_endpoint),
            ("MINIO_CODE_BUCKET", &self.minio_bucket),
            ("RUNTIME_IMAGE", &self.runtime_image),
            ("THE0_PULL", &self.runtime_image_pull_policy),
        ];
        let said = said.into_iter();
        let said = said.filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        environment.extend(said);
    }
}

/// What the operator sets of it.
pub struct Setup {
    namespace: Option<String>,
    template: Template,
    /// The bucket of answers to questions.
    results: String,
    /// Whether CronJobs keep the times that they can.
    clock: bool,
    /// The bucket of states, where jobs' results wait.
    states: String,
    /// Where what bots print is sent.
    live: Option<events::Address>,
    jobs: jobs::Settings,
}

/// Reads the environment, and the files that it names.
///
/// # Errors
/// The first setting that cannot be used.
pub fn setup(
    options: &Options,
    environment: &Variables,
    store: &Address,
    nats: Option<&events::Address>,
) -> Result<Setup> {
    if environment
        .get(WARM)
        .is_some_and(|wanted| !wanted.trim().is_empty())
    {
        bail!("{WARM} is set, and on Kubernetes no Pods wait for questions: unset it");
    }
    let Address::S3(endpoint) = store else {
        bail!("MINIO_ENDPOINT is not set: Pods need an object store for code, states and logs");
    };
    let results = endpoint.results.to_string();
    let states = endpoint.buckets[1].clone();
    Ok(Setup {
        namespace: options.namespace.named(),
        template: template(
            environment,
            super::docker::store_variables(store, environment)?,
        )?,
        results,
        clock: clock(environment)?,
        states,
        live: sends(environment, nats)?,
        jobs: jobs::Settings::parse(environment)?,
    })
}

/// What holds for all Pods, `store` being what tells them where that is.
///
/// # Errors
/// The first setting, of the environment or of a file that it names, that cannot be used.
pub fn template(environment: &Variables, store: Variables) -> Result<Template> {
    let read = |name: &str| {
        let path = environment.get(name).filter(|path| !path.is_empty());
        let text = path.map(|path| {
            fs::read_to_string(path).with_context(|| format!("the file {path} of {name}"))
        });
        text.transpose()
    };
    let files = Files {
        place: read(POD_TEMPLATE)?,
        ca: read(CA_FILE)?,
    };
    Ok(Template::parse(
        environment,
        passed(environment),
        store,
        files,
    )?)
}

/// Whether CronJobs keep the times that they can.
///
/// # Errors
/// The setting is neither of its words.
pub fn clock(environment: &Variables) -> Result<bool> {
    match environment.get(CLOCK).map(|text| text.trim()) {
        None | Some("" | "true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => bail!("{CLOCK} is {other:?}: give true or false"),
    }
}

impl Setup {
    /// The stack.
    pub fn stack(&self) -> String {
        self.template.stack.to_string()
    }

    /// How long keys are good.
    pub fn keys(&self) -> Duration {
        self.template.keys
    }

    /// Connects.
    ///
    /// # Errors
    /// There is neither a cluster around the agent nor a kubeconfig.
    pub async fn open(self, around: Around<'_>) -> Result<Parts> {
        let (client, own) = kubernetes::connect().await?;
        let namespace = self.namespace.unwrap_or(own);
        around
            .console
            .say(&format!("bots are Pods of the namespace {namespace}"));
        let pods = Pods {
            namespace: namespace.clone(),
            stack: self.template.stack.to_string(),
        };
        place::remember_pods(around.data, Some(&pods))?;
        let console = around.console.clone();
        let mut access = Access::new(
            client,
            namespace.clone(),
            self.template,
            around.keys,
            console,
        );
        access.lease = around.lease.clone();
        access.permits = Some(around.permits);
        access.clock = self.clock;
        let board = around.board;
        board.attach(Dependency::Kubernetes, access.gate.clone());
        let live = self.live.map(|nats| {
            let place = Place::Kubernetes(namespace, access.gate.clone());
            Live::start(nats, place, board.clone(), around.console.clone())
        });
        let queue = around.source.map(|source| {
            let (store, states) = (around.store.clone(), self.states);
            start_jobs(source, self.jobs, &access, (store, states))
        });
        let holder = Identity::of(around.data)?.holder;
        let store = around.store.clone();
        let apart = Questions::new(&access, store, self.results, holder, around.apart);
        let (told, heard) = unbounded_channel();
        tokio::spawn(pass_on(heard, around.news));
        Ok(Parts {
            engine: Engine::Kubernetes(Box::new(kubernetes::Engine::new(access, told))),
            live: live.transpose().context("live logs")?,
            queue,
            apart: Some(Apart::Kubernetes(apart)),
            logs: Logs::Kubernetes(pods),
        })
    }
}

/// Runs jobs, in the runtime of the caller; their results wait in the bucket of `states`.
fn start_jobs(
    source: &events::Source,
    settings: jobs::Settings,
    access: &Access,
    (store, states): (Store, String),
) -> jobs::Queue {
    let jobs = Jobs {
        access: access.clone(),
        store: store.clone(),
        bucket: states,
        terms: Terms {
            time: settings.time,
            most: settings.most,
        },
    };
    jobs::start(jobs::Source {
        nats: source.nats.clone(),
        mongo: source.mongo.apart(),
        site: Site::Kubernetes(Box::new(jobs)),
        store,
        settings,
    })
}

/// What the cluster tells is news.
async fn pass_on(mut from: UnboundedReceiver<kubernetes::News>, to: UnboundedSender<News>) {
    while let Some(news) = from.recv().await {
        if to.send(News::Kubernetes(Box::new(news))).is_err() {
            return;
        }
    }
}
