//! `agent doctor`: looks at everything that `agent run`, or `agent controller`, needs, with the same settings, and says what
//! to do.
//!
//! ```text
//!   settings ─▶ { docker or kubernetes, mongodb, nats, store, machine } at once ─▶ sheet, in one order ─▶ table or JSON,
//!                                                                                                         exit 0 or 1
//! ```
//!
//! Ensures:
//! * each question to a server has a deadline ([`ANSWER`]) and each part one of its own ([`PART`]), so it ends within
//!   half a minute whatever is broken;
//! * what it makes to try a right (an object, a document, a container that is never started) it takes away again; in a
//!   cluster it makes nothing;
//! * no credential and no value of a bot's parameters is in what it says;
//! * no running agent is needed, and one that runs is not disturbed.

mod cluster;
mod docker;
mod images;
mod machine;
mod mongo;
mod nats;
mod sheet;
mod signed;
mod store;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use contract::Secret;
use contract::launch::{Variables, renamed};
use tokio::time::timeout;

use crate::engine::docker::template::{self as containers, passed};
use crate::engine::kubernetes::template as pods;
use crate::engine::stack::Stack;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::show::Colours;
use crate::store::Address;
use crate::{gateway, host, place};

pub use sheet::{Part, Sheet};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long all of one part may take.
const PART: Duration = Duration::from_secs(24);

/// What it is told: the same as `agent run`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The form of the answer
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// Look at what `agent controller` needs: a cluster in the place of Docker [default: where it ran on the data folder last]
    #[arg(long)]
    controller: bool,
    #[command(flatten)]
    namespace: host::cluster::Namespace,
    #[command(flatten)]
    run: host::Options,
}

/// What the agent would have read.
struct Settings {
    data: PathBuf,
    environment: Variables,
    store: Option<Address>,
    place: Place,
}

/// Where bots run, and what holds for them there, unless that cannot be used.
enum Place {
    Docker(Option<Box<containers::Template>>),
    Kubernetes {
        template: Option<Box<pods::Template>>,
        /// Whether CronJobs are made.
        clock: bool,
    },
}

/// Looks, and prints what was found.
///
/// # Errors
/// [`Failure::Told`] when something has failed.
pub fn run(options: &Options, data: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let sheet = RefCell::new(Sheet::default());
    runtime.block_on(look(options, data, &sheet))?;
    runtime.shutdown_background();
    let sheet = sheet.into_inner().sorted();
    let text = match options.output {
        Format::Json => serde_json::to_string_pretty(&sheet.json())?,
        Format::Table => sheet.table(Colours::of(&io::stdout())),
    };
    output::print(&text)?;
    if sheet.is_well() {
        Ok(())
    } else {
        Err(Failure::Told(1).into())
    }
}

async fn look(options: &Options, data: &Path, sheet: &RefCell<Sheet>) -> Result<()> {
    let remembered = place::pods(data)?;
    let is_cluster = options.controller || remembered.is_some();
    let remembered = remembered.map(|pods| pods.namespace);
    let namespace = options.namespace.named().or(remembered);
    let settings = Settings::read(data, is_cluster, sheet)?;
    questions(&options.run.gateway, sheet);
    let uri = settings.mongo_uri(options);
    let from_folder = options.run.bots.is_some();
    let looked = RefCell::new(Needs::default());
    let mongodb = async {
        match (uri, from_folder) {
            (_, true) => {}
            (None, false) => mongo::unset(sheet),
            (Some(uri), false) => mongo::look(&uri, sheet, &looked).await,
        }
    };
    let nats = async {
        match (settings.nats_url(options), from_folder) {
            (_, true) => {}
            (None, false) => nats::unset(sheet),
            (Some(url), false) => nats::look(&url, settings.stack(), sheet).await,
        }
    };
    let found = RefCell::new(None);
    let engine = async {
        match &settings.place {
            Place::Docker(template) => {
                let host = settings.value("DOCKER_HOST");
                *found.borrow_mut() = docker::look(host, template.as_deref(), sheet).await;
            }
            Place::Kubernetes { template, clock } => {
                cluster::look(namespace.as_deref(), template.as_deref(), *clock, sheet).await;
            }
        }
    };
    let store = async {
        match &settings.store {
            Some(Address::S3(endpoint)) => {
                store::look(endpoint, settings.place.keys(), sheet).await;
            }
            Some(Address::Directory(_)) => store::unset(sheet),
            None => {}
        }
    };
    tokio::join!(
        within(settings.place.part(), sheet, engine),
        within(Part::Mongo, sheet, mongodb),
        within(Part::Nats, sheet, nats),
        within(Part::Store, sheet, store),
    );
    let needs = looked.into_inner();
    if let Some(found) = found.into_inner() {
        images::judge(&found, needs.runtimes.as_ref(), sheet);
    }
    // Pods are other machines'.
    let bots = needs.bots.filter(|_| !is_cluster);
    machine::look(&settings.data, bots, sheet);
    Ok(())
}

/// Who may ask bots.
fn questions(gateway: &gateway::Options, sheet: &RefCell<Sheet>) {
    let (part, check) = (Part::Settings, "questions");
    let mut sheet = sheet.borrow_mut();
    match gateway.listen(true) {
        Err(err) => sheet.failed(part, check, err.to_string(), "correct it"),
        Ok(None) => sheet.ok(part, check, "none are answered over HTTP"),
        Ok(Some(listen)) if listen.tokens.is_some() => {
            sheet.ok(part, check, format!("answered on {}, with tokens", listen.address));
        }
        Ok(Some(listen)) if listen.address.ip().is_loopback() => {
            let found = format!("answered on {}, of this machine", listen.address);
            sheet.ok(part, check, found);
        }
        Ok(Some(listen)) => sheet.warning(
            part,
            check,
            format!("whoever reaches {} may ask every bot", listen.address),
            "name a file of tokens by THE0_QUERY_TOKENS, listen on loopback (THE0_GATEWAY_ADDRESS=127.0.0.1:9477), or let only \
             the platform reach the port",
        ),
    }
}

/// What the documents say that bots need.
#[derive(Debug, Default)]
struct Needs {
    bots: Option<usize>,
    runtimes: Option<std::collections::BTreeSet<contract::Runtime>>,
}

async fn within(part: Part, sheet: &RefCell<Sheet>, work: impl Future<Output = ()>) {
    if timeout(PART, work).await.is_err() {
        let found = format!("it was not done within {} s", PART.as_secs());
        let remedy = "it answers too slowly: look for what loads it, or what is in the way to it";
        sheet.borrow_mut().failed(part, "time", found, remedy);
    }
}

impl Settings {
    fn read(data: &Path, is_cluster: bool, sheet: &RefCell<Sheet>) -> Result<Self> {
        let data = std::path::absolute(data)?;
        let environment = renamed(host::environment());
        let mut sheet = sheet.borrow_mut();
        let remedy = "set it as the message says; the agent does not start like this";
        let store = Address::parse(&environment, &data)
            .map_err(|error| sheet.failed(Part::Settings, "store", error.to_string(), remedy))
            .ok();
        let variables = match &store {
            Some(address @ Address::S3(_)) => host::store_variables(address, &environment)
                .map_err(|error| sheet.failed(Part::Settings, "store", error.to_string(), remedy))
                .unwrap_or_default(),
            _ => Variables::new(),
        };
        let place = Place::read(&environment, variables, is_cluster).unwrap_or_else(|error| {
            sheet.failed(Part::Settings, "bots", format!("{error:#}"), remedy);
            Place::unusable(is_cluster)
        });
        if let (Some(stack), true) = (place.stack(), sheet.is_well()) {
            sheet.ok(
                Part::Settings,
                "variables",
                format!("usable, stack {stack}"),
            );
        }
        Ok(Self {
            data,
            environment,
            store,
            place,
        })
    }

    fn value(&self, name: &str) -> Option<&str> {
        let value = self.environment.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    fn mongo_uri(&self, options: &Options) -> Option<Secret> {
        let given = options.run.mongo_uri.as_deref();
        given.or_else(|| self.value("MONGO_URI")).map(Secret::new)
    }

    fn nats_url(&self, options: &Options) -> Option<Secret> {
        let given = options.run.nats_url.as_deref();
        given.or_else(|| self.value("NATS_URL")).map(Secret::new)
    }

    fn stack(&self) -> &str {
        self.value("THE0_STACK").unwrap_or("default")
    }
}

impl Place {
    fn read(environment: &Variables, store: Variables, is_cluster: bool) -> Result<Self> {
        if is_cluster {
            return Ok(Self::Kubernetes {
                template: Some(Box::new(host::cluster::template(environment, store)?)),
                clock: host::cluster::clock(environment)?,
            });
        }
        let template = containers::Template::parse(environment, passed(environment), store)?;
        Ok(Self::Docker(Some(Box::new(template))))
    }

    fn unusable(is_cluster: bool) -> Self {
        if is_cluster {
            let (template, clock) = (None, true);
            return Self::Kubernetes { template, clock };
        }
        Self::Docker(None)
    }

    fn part(&self) -> Part {
        match self {
            Self::Docker(_) => Part::Docker,
            Self::Kubernetes { .. } => Part::Kubernetes,
        }
    }

    fn stack(&self) -> Option<&Stack> {
        match self {
            Self::Docker(template) => template.as_ref().map(|template| &template.stack),
            Self::Kubernetes { template, .. } => template.as_ref().map(|template| &template.stack),
        }
    }

    /// How long keys are good.
    fn keys(&self) -> Option<Duration> {
        match self {
            Self::Docker(template) => template.as_ref().map(|template| template.keys),
            Self::Kubernetes { template, .. } => template.as_ref().map(|template| template.keys),
        }
    }
}
