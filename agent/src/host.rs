//! An agent that runs bots until it is told to end, and leaves them running then: `agent run` (the platform's word:
//! `bot-runner`) as containers of this host, `agent controller` as Pods of a cluster.
//!
//! Where bots run is the only difference between the two: what of it each engine needs is its own file's, [`Where`] has the
//! settings, [`Parts`] what is made of them.

pub mod cluster;
mod docker;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::launch::{Variables, renamed};
use contract::{Secret, file};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::bots::both::Both;
use crate::bots::directory::{self, Directory};
use crate::bots::mongo::{Deadlines, Mongo, Place};
use crate::bots::{Bots, Offer};
use crate::control::Api;
use crate::control::listen::{ADDRESS, Listen};
use crate::dev::{open_store, prepare_store};
use crate::engine::docker::question::Questions;
use crate::engine::keys::KeyMaker;
use crate::engine::{Engine, News};
use crate::gateway::bounds::Most;
use crate::gateway::dispatch::Dispatcher;
use crate::health::http::VARIABLE;
use crate::health::{self, Board, Dependency};
use crate::history::notices::Logs;
use crate::history::{self, History, Outlet, Watch};
use crate::launch::Host;
use crate::lease::keeper::{Handle, Keeper};
use crate::lease::{Identity, Lease};
use crate::live::Live;
use crate::manager::Manager;
use crate::orders::desk::Desk;
use crate::place;
use crate::reconcile::{Events, World, ticks};
use crate::schedule::book::Book;
use crate::schedule::permit::Permits;
use crate::schedule::{self, Schedules};
use crate::show::{Colours, Console};
use crate::signals::Signals;
use crate::store::address::Endpoint;
use crate::store::{Address, Store};
use crate::{control, events, gateway, jobs, lister};

pub use docker::store_variables;

/// The variable of how many bots the metrics tell one by one, and what it is without it.
const MEASURED: &str = "THE0_METRICS_BOTS";
/// The variable of whether a bot's :9476 wants a token of whoever asks over the network.
const GUARD: &str = "THE0_QUERY_GUARD";
/// The variable of whether the same question is asked once at a time.
const SHARE: &str = "THE0_QUERY_SHARE";
const MEASURED_AT_MOST: usize = 100;

/// What the host's agent is told besides the environment.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The database of bots [env: MONGO_URI, where its password is not in the list of processes]
    #[arg(long, value_name = "URI", conflicts_with = "bots")]
    pub mongo_uri: Option<String>,
    /// Bots of a folder instead of the database's
    #[arg(long, value_name = "DIR")]
    pub bots: Option<PathBuf>,
    /// Where events come from [env: NATS_URL]; without them the database is read each interval
    #[arg(long, value_name = "URL")]
    pub nats_url: Option<String>,
    /// Time between two looks at what should run and what runs
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    reconcile_interval: Duration,
    /// The same word of the platform's scheduler; the shorter of the two counts
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    check_interval: Option<Duration>,
    /// How long a bot must be missing from the database before it is stopped
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    settle: Duration,
    #[command(flatten)]
    api: control::listen::Options,
    /// Where questions are answered.
    #[command(flatten)]
    pub gateway: gateway::Options,
}

/// What an agent is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It runs bots, and answers questions about them.
    Acts,
    /// It only answers questions about bots that another agent runs.
    Answers,
}

/// Where bots run, with what the operator sets of it.
enum Where {
    /// As containers.
    Docker(Box<docker::Setup>),
    /// As Pods.
    Kubernetes(Box<cluster::Setup>),
}

/// What an engine is opened with.
pub(crate) struct Around<'a> {
    store: &'a Store,
    lease: &'a Lease,
    board: &'a Board,
    console: &'a Console,
    /// The agent's data folder.
    data: &'a Path,
    keys: KeyMaker,
    permits: Permits,
    news: UnboundedSender<News>,
    /// Where jobs come from, if from anywhere.
    source: Option<&'a events::Source>,
    /// Questions at once that need an instance of their own.
    apart: usize,
    interval: Duration,
}

/// What an engine brings.
pub(crate) struct Parts {
    engine: Engine,
    live: Option<Live>,
    queue: Option<jobs::Queue>,
    apart: Option<Questions>,
    logs: Logs,
}

/// What is needed to run.
struct Setup {
    host: Host,
    endpoint: Endpoint,
    place: Where,
    history: (history::Settings, History),
    bots: Bots,
    /// Where it is written down what becomes of ticks, in whose name, and how many are started at once.
    book: (Book, String, usize),
    rhythm: Duration,
    source: Option<events::Source>,
    /// Where it is told that runs begin and end.
    teller: Option<events::Address>,
    /// People's words, where they count for every agent of a database.
    desk: Option<Desk>,
    /// Keeps the lease, where bots are a database's.
    keeper: Option<Keeper>,
    board: Board,
    listen: Option<SocketAddr>,
    api: Option<Listen>,
    gateway: Option<gateway::Listen>,
    /// How many questions at once, and whether the same ones are asked once.
    questions: (Most, bool),
    /// Whether a bot's `query` wants a token.
    guards: bool,
    /// Whether history is written.
    writes: bool,
}

/// Which engine is asked for.
#[derive(Debug, Clone, Copy)]
enum Choice<'a> {
    Docker,
    Kubernetes(&'a cluster::Options),
}

/// Runs bots as containers, on the data folder `data`, until a signal ends it.
///
/// # Errors
/// What keeps it from starting.
pub fn run(options: &Options, role: Role, data: &Path) -> Result<()> {
    run_on(Choice::Docker, options, role, data)
}

/// Runs bots as Pods, on the data folder `data`, until a signal ends it.
///
/// # Errors
/// What keeps it from starting.
pub fn control(options: &cluster::Options, data: &Path) -> Result<()> {
    run_on(Choice::Kubernetes(options), &options.run, Role::Acts, data)
}

fn run_on(choice: Choice<'_>, options: &Options, role: Role, data: &Path) -> Result<()> {
    // The store's keys are in our environment.
    nix::sys::prctl::set_dumpable(false).context("close our memory to others")?;
    let data = place::make(data)?;
    let _owned = place::own(&data)?;
    let out = std::io::stdout();
    let colours = Colours::of(&out);
    let console = Console::open(out, colours).context("the console")?;
    let mut setup = setup(choice, options, &data, &console)?;
    if role == Role::Answers {
        setup.only_answers();
    }
    place::remember_containers(&data, setup.place.containers())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Before anything that may wait.
    let signals = runtime.block_on(async { Signals::catch() });
    let signals = signals.context("signals")?;
    let store = open_store(&setup.host, &console)?;
    let lease = match (&setup.keeper, role) {
        (_, Role::Answers) => Lease::never(),
        (Some(keeper), Role::Acts) => keeper.lease(),
        (None, Role::Acts) => Lease::alone(),
    };
    show(&setup, &store, &lease, &console)?;
    let keeper = setup.keeper.take().map(Keeper::start);
    let keeper = keeper.transpose().context("the lease")?;
    let ended = runtime.block_on(session(options, setup, store, lease, signals, &console));
    // What is under way ends with the runtime: nobody acts when the lease is given back.
    drop(runtime);
    keeper.into_iter().for_each(Handle::end);
    console.flush();
    ended
}

/// Tells outside how things are.
fn show(setup: &Setup, store: &Store, lease: &Lease, console: &Console) -> Result<()> {
    setup.board.watch(lease.clone());
    let first = {
        let (store, console) = (store.clone(), console.clone());
        move || prepare_store(&store, &console)
    };
    health::probe::start(first, store.clone(), setup.board.clone()).context("the probe")?;
    if let Some(address) = setup.listen {
        health::http::start(address, setup.board.clone(), console);
    }
    Ok(())
}

fn setup(choice: Choice<'_>, options: &Options, data: &Path, console: &Console) -> Result<Setup> {
    let mut environment = renamed(environment());
    if let Choice::Kubernetes(cluster) = choice {
        cluster.prevail(&mut environment);
    }
    let host = Host::new(data.to_owned(), environment.clone())?;
    let Address::S3(endpoint) = host.store.clone() else {
        bail!(
            "MINIO_ENDPOINT is not set: containers need an object store for code, states and logs; set it with \
             MINIO_ACCESS_KEY and MINIO_SECRET_KEY, or run bots of one machine without containers by `agent dev`"
        );
    };
    let value = |name: &str| environment.get(name).filter(|v| !v.is_empty()).cloned();
    let nats = options.nats_url.clone().or_else(|| value("NATS_URL"));
    let nats = nats.map(|url| events::Address::parse(&Secret::new(url)));
    let nats = nats.transpose()?;
    let teller = nats.clone().filter(|_| options.bots.is_none());
    let place = Where::new(choice, &environment, &host.store, nats.as_ref())?;
    let mut depends = vec![Dependency::Listing, Dependency::Store, place.dependency()];
    let (mut database, mut desk) = (None, None);
    let (bots, book, rhythm, source) = if let Some(folder) = &options.bots {
        let root = folder.canonicalize();
        let root = root.with_context(|| format!("the folder of bots {}", folder.display()))?;
        let bots = Bots::Directory(Directory::new(root, data.to_owned()));
        if nats.is_some() {
            console.warn("bots of a folder have no events: those of NATS are left alone");
        }
        (bots, Book::Folder(data.to_owned()), directory::RHYTHM, None)
    } else {
        let uri = options.mongo_uri.clone().or_else(|| value("MONGO_URI"));
        let uri = uri.context(
            "MONGO_URI is not set: give the database of bots, or a folder of them with --bots",
        )?;
        let uri = Secret::new(uri);
        let mongo = Mongo::new(&uri, Place::default(), Deadlines::default())?;
        depends.push(Dependency::Mongodb);
        depends.extend(nats.is_some().then_some(Dependency::Nats));
        let (opened, orders) = Desk::open(data)?;
        desk = Some(opened);
        let source = events::Source {
            nats,
            orders,
            mongo: mongo.apart(),
            stack: place.stack(),
        };
        database = Some(uri);
        let bots = Both::new(mongo);
        let book = Book::mongo(bots.schedules());
        let interval = options.check_interval.unwrap_or(options.reconcile_interval);
        let interval = interval.min(options.reconcile_interval);
        (Bots::Mongo(Box::new(bots)), book, interval, Some(source))
    };
    let board = Board::new(&depends);
    board.measure(measured(value(MEASURED).as_deref())?);
    let keep = |uri| -> Result<Keeper> {
        let me = Identity::of(data)?;
        Ok(Keeper::new(&uri, me, board.clone(), console.clone())?)
    };
    let (mut settings, history) = history(options, &environment, data)?;
    settings.board = board.clone();
    let me = Identity::of(data)?;
    let me = format!("{}, {}", me.host, me.holder.get(..12).unwrap_or_default());
    Ok(Setup {
        teller,
        book: (book, me, schedule::starts(&environment)?),
        host,
        endpoint,
        place,
        history: (settings, history),
        bots,
        rhythm,
        source,
        desk,
        keeper: database.map(keep).transpose()?,
        listen: health::http::address(environment.get(VARIABLE).map(String::as_str))?,
        api: options.api.listen(ADDRESS)?,
        gateway: options.gateway.listen(true)?,
        questions: (
            Most::parse(&environment)?,
            is_on(SHARE, value(SHARE).as_deref(), false)?,
        ),
        guards: is_on(GUARD, value(GUARD).as_deref(), true)?,
        writes: true,
        board,
    })
}

impl Setup {
    /// Nothing is left of it that writes, starts or tells something.
    fn only_answers(&mut self) {
        (self.source, self.teller) = (None, None);
        if let Where::Docker(docker) = &mut self.place {
            docker.only_answers();
        }
        (self.desk, self.keeper, self.api) = (None, None, None);
        self.writes = false;
    }
}

impl Where {
    fn new(
        choice: Choice<'_>,
        environment: &Variables,
        store: &Address,
        nats: Option<&events::Address>,
    ) -> Result<Self> {
        Ok(match choice {
            Choice::Docker => Self::Docker(Box::new(docker::setup(environment, store, nats)?)),
            Choice::Kubernetes(options) => {
                Self::Kubernetes(Box::new(cluster::setup(options, environment, store)?))
            }
        })
    }

    fn dependency(&self) -> Dependency {
        match self {
            Self::Docker(_) => Dependency::Docker,
            Self::Kubernetes(_) => Dependency::Kubernetes,
        }
    }

    fn stack(&self) -> String {
        match self {
            Self::Docker(docker) => docker.stack(),
            Self::Kubernetes(cluster) => cluster.stack(),
        }
    }

    fn keys(&self) -> Duration {
        match self {
            Self::Docker(docker) => docker.keys(),
            Self::Kubernetes(cluster) => cluster.keys(),
        }
    }

    fn containers(&self) -> Option<&place::Containers> {
        match self {
            Self::Docker(docker) => Some(&docker.containers),
            Self::Kubernetes(_) => None,
        }
    }

    async fn open(self, around: Around<'_>) -> Result<Parts> {
        match self {
            Self::Docker(docker) => docker.open(around),
            Self::Kubernetes(cluster) => cluster.open(around).await,
        }
    }
}

/// A switch, or what it is without a word.
fn is_on(variable: &str, given: Option<&str>, usual: bool) -> Result<bool> {
    match given {
        None => Ok(usual),
        Some("on" | "true" | "1") => Ok(true),
        Some("off" | "false" | "0") => Ok(false),
        Some(_) => bail!("{variable} is neither on nor off"),
    }
}

/// How many bots the metrics tell one by one.
fn measured(given: Option<&str>) -> Result<usize> {
    let given = given.map(|text| text.trim().parse());
    let given = given.transpose();
    Ok(given
        .with_context(|| format!("{MEASURED} is no number: 0 is none"))?
        .unwrap_or(MEASURED_AT_MOST))
}

/// Where history is kept: where the bots are.
fn history(
    options: &Options,
    environment: &Variables,
    data: &Path,
) -> Result<(history::Settings, History)> {
    let settings = history::Settings::parse(environment)?;
    let uri = options.mongo_uri.as_ref();
    let uri = uri.or_else(|| environment.get("MONGO_URI"));
    let history = match (&options.bots, uri) {
        (None, Some(uri)) => History::in_mongo(Secret::new(uri.as_str())),
        _ => History::in_folder(data),
    };
    Ok((settings, history))
}

/// The agent's environment, as far as it is text.
pub fn environment() -> Variables {
    let pairs = std::env::vars_os();
    pairs
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

async fn session(
    options: &Options,
    setup: Setup,
    store: Store,
    lease: Lease,
    signals: Signals,
    console: &Console,
) -> Result<()> {
    let path = place::socket(&setup.host.data);
    let socket = control::open(&path)?;
    let (requests_to, requests) = unbounded_channel();
    let (news_to, news) = unbounded_channel();
    let lister = lister::gate();
    setup.board.attach(Dependency::Listing, lister.clone());
    let (listings, waker) =
        lister::start(setup.bots, store.clone(), setup.rhythm, lister).context("the lister")?;

    let mut keys = KeyMaker::new(&setup.endpoint, setup.place.keys(), console.clone())?;
    keys.gate = store.gate();
    keys.guards = setup.guards;
    let (book, me, most) = setup.book;
    let schedules = Schedules::new(book, me, most, news_to.clone(), console.clone());
    let (most, is_shared) = setup.questions;
    let around = Around {
        store: &store,
        lease: &lease,
        board: &setup.board,
        console,
        data: &setup.host.data,
        keys,
        permits: schedules.permits(),
        news: news_to,
        source: setup.source.as_ref(),
        apart: most.apart,
        interval: options.reconcile_interval,
    };
    let Parts {
        engine,
        live,
        queue,
        apart,
        logs,
    } = setup.place.open(around).await?;
    let dispatcher = Dispatcher::new(requests_to.clone(), apart, most)
        .sharing(is_shared)
        .counting(setup.board.clone());
    let (stopped, switch) = match &setup.desk {
        Some(desk) => (desk.stopped(), desk.switch()),
        None => (
            place::stopped(&setup.host.data)?,
            place::switch(&setup.host.data)?,
        ),
    };
    let to_loop = requests_to.clone();
    let mut world = World::new(
        setup.host,
        store,
        engine,
        console.clone(),
        options.settle,
        requests_to,
    );
    (world.stopped, world.switch, world.live) = (stopped, switch, live);
    world.desk = setup.desk;
    let (mut settings, history) = setup.history;
    settings.outlet = setup.teller.map(|address| Outlet {
        address,
        lease: lease.clone(),
    });
    if setup.writes {
        let watch = Watch::start(&settings, history, logs, &world.host.data, console);
        world.history = Some(watch.context("history")?);
    }
    if let Some(source) = setup.source {
        let outside = (waker.clone(), lease.clone(), setup.board.clone());
        world.progress = hear(source, outside, console)?;
    }
    (world.schedules, world.jobs) = (Some(schedules), queue);
    world.waker = Some(waker);
    (world.lease, world.board) = (lease.clone(), setup.board);
    let mut events = Events {
        listings,
        news,
        requests,
        signals,
        ticks: ticks(),
    };
    let gateway = gateway::open(setup.gateway, &dispatcher, console).await?;
    let api = Api::new(to_loop, lease, console, dispatcher);
    control::listen::start(setup.api, api.clone(), console).await;
    tokio::spawn(control::serve(socket, api));
    let manager = manager();
    world.run(&mut events, greet).await;
    if let Some(gateway) = gateway {
        world.answer_until(&mut events, gateway.end()).await;
    }
    manager.inspect(|manager| manager.ending());
    world.close_history();
    let _ = file::remove(&path);
    Ok(())
}

/// The manager of services, which is told that we are ready, and that we live.
fn manager() -> Option<Arc<Manager>> {
    let manager = Arc::new(Manager::of_environment()?);
    manager.ready();
    let fed = Arc::clone(&manager);
    tokio::spawn(async move { fed.feed().await });
    Some(manager)
}

/// Hears events, and tells how far they are.
fn hear(
    source: events::Source,
    (waker, lease, board): (lister::Waker, Lease, Board),
    console: &Console,
) -> Result<Option<watch::Receiver<events::Progress>>> {
    let outside = events::Outside {
        waker,
        lease,
        board,
        console: console.clone(),
    };
    events::start(source, outside).context("the events")
}

fn greet(world: &World) {
    let bots = world.listing.bots.values();
    let enabled = |offer: &Offer| matches!(offer, Offer::Bot(bot) if bot.enabled);
    let wanted = bots.filter(|listed| enabled(&listed.offer)).count();
    let found = world.instances().len();
    let rows = world.listing.bots.values();
    let all = rows.filter(|listed| listed.offer != Offer::Gone).count();
    world.console.say(&format!(
        "{all} bots, {wanted} of them to run; {found} containers were found"
    ));
    if world.switch == crate::plan::Switch::Off {
        world
            .console
            .warn("all bots are stopped until `agent start --all`");
    }
}
