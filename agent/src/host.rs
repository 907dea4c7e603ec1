//! `agent run` (the platform's word: `bot-runner`): runs bots as containers of this host until it is told to end, and
//! leaves them running then.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::launch::{Variables, renamed};
use contract::{Secret, file};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::bots::both::Both;
use crate::bots::directory::{self, Directory};
use crate::bots::mongo::{Deadlines, Mongo, Place};
use crate::bots::{Bots, Offer};
use crate::control::Api;
use crate::control::listen::{ADDRESS, Listen};
use crate::dev::{open_store, prepare_store};
use crate::engine::docker::container::CA_INSIDE;
use crate::engine::docker::question::{Questions, Warm};
use crate::engine::docker::template::{CA_FILE, Template, passed};
use crate::engine::docker::{self, Access, Engine as Docker, KeyMaker};
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
use crate::live::{self, Live};
use crate::manager::Manager;
use crate::orders::desk::Desk;
use crate::place::{self, Containers};
use crate::reconcile::{Events, World, ticks};
use crate::schedule::book::Book;
use crate::schedule::{self, Schedules};
use crate::show::{Colours, Console};
use crate::signals::Signals;
use crate::store::address::Endpoint;
use crate::store::{Address, Store};
use crate::{control, events, gateway, jobs, lister};

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

/// What is needed to run.
struct Setup {
    host: Host,
    endpoint: Endpoint,
    template: Template,
    history: (history::Settings, History),
    containers: Containers,
    bots: Bots,
    /// Where it is written down what becomes of ticks, in whose name, and how many are started at once.
    book: (Book, String, usize),
    rhythm: Duration,
    source: Option<events::Source>,
    /// Where it is told that runs begin and end.
    teller: Option<events::Address>,
    /// Where what bots print is sent.
    live: Option<events::Address>,
    /// People's words, where they count for every agent of a database.
    desk: Option<Desk>,
    jobs: jobs::Settings,
    /// Keeps the lease, where bots are a database's.
    keeper: Option<Keeper>,
    board: Board,
    listen: Option<SocketAddr>,
    api: Option<Listen>,
    gateway: Option<gateway::Listen>,
    /// How many questions at once, containers that wait for some, and whether the same ones are asked once.
    questions: (Most, Warm, bool),
    /// Whether a bot's `query` wants a token.
    guards: bool,
    /// Whether history is written.
    writes: bool,
}

/// Runs on the data folder `data` until a signal ends it.
///
/// # Errors
/// What keeps it from starting.
pub fn run(options: &Options, role: Role, data: &Path) -> Result<()> {
    // The store's keys are in our environment.
    nix::sys::prctl::set_dumpable(false).context("close our memory to others")?;
    let data = place::make(data)?;
    let _owned = place::own(&data)?;
    let out = std::io::stdout();
    let colours = Colours::of(&out);
    let console = Console::open(out, colours).context("the console")?;
    let mut setup = setup(options, &data, &console)?;
    if role == Role::Answers {
        setup.only_answers();
    }
    place::remember_containers(&data, Some(&setup.containers))?;
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

fn setup(options: &Options, data: &Path, console: &Console) -> Result<Setup> {
    let environment = renamed(environment());
    let host = place::host(data)?;
    let Address::S3(endpoint) = host.store.clone() else {
        bail!(
            "MINIO_ENDPOINT is not set: containers need an object store for code, states and logs; set it with \
             MINIO_ACCESS_KEY and MINIO_SECRET_KEY, or run bots of one machine without containers by `agent dev`"
        );
    };
    let store = store_variables(&host.store, &environment)?;
    let template = Template::parse(&environment, passed(&environment), store)?;
    let value = |name: &str| environment.get(name).filter(|v| !v.is_empty()).cloned();
    let nats = options.nats_url.clone().or_else(|| value("NATS_URL"));
    let nats = nats.map(|url| events::Address::parse(&Secret::new(url)));
    let nats = nats.transpose()?;
    let teller = nats.clone().filter(|_| options.bots.is_none());
    let live = is_on(live::VARIABLE, value(live::VARIABLE).as_deref(), true)?
        .then(|| nats.clone())
        .flatten();
    let mut depends = vec![Dependency::Listing, Dependency::Store, Dependency::Docker];
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
            stack: template.stack.to_string(),
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
        containers: Containers {
            docker_host: value("DOCKER_HOST"),
            stack: template.stack.to_string(),
        },
        host,
        endpoint,
        template,
        history: (settings, history),
        bots,
        rhythm,
        source,
        live,
        desk,
        jobs: jobs::Settings::parse(&environment)?,
        keeper: database.map(keep).transpose()?,
        listen: health::http::address(environment.get(VARIABLE).map(String::as_str))?,
        api: options.api.listen(ADDRESS)?,
        gateway: options.gateway.listen(true)?,
        questions: (
            Most::parse(&environment)?,
            Warm::parse(&environment)?,
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
        (self.source, self.teller, self.live) = (None, None, None);
        (self.desk, self.keeper, self.api) = (None, None, None);
        self.writes = false;
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
    mut setup: Setup,
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

    let docker = Docker::connect(setup.containers.docker_host.as_deref())?;
    let mut keys = KeyMaker::new(&setup.endpoint, setup.template.keys, console.clone())?;
    keys.gate = store.gate();
    keys.guards = setup.guards;
    let live = setup.live.take();
    let live = live.map(|nats| start_live(nats, &setup.containers, &setup.board, console));
    let live = live.transpose()?;
    let mut access = Access::new(docker, setup.template, keys, console.clone());
    access.lease = lease.clone();
    setup.board.attach(Dependency::Docker, access.gate.clone());
    let (book, me, most) = setup.book;
    let schedules = Schedules::new(book, me, most, news_to.clone(), console.clone());
    access.permits = Some(schedules.permits());
    let queue = setup.source.as_ref();
    let queue = queue.map(|source| start_jobs(source, setup.jobs, &access, &store));
    let (most, warm, is_shared) = setup.questions;
    let apart = Questions::new(
        &access,
        Docker::connect(setup.containers.docker_host.as_deref())?,
        Identity::of(&setup.host.data)?.holder,
        warm,
        most.apart,
    );
    let dispatcher = Dispatcher::new(requests_to.clone(), Some(apart), most)
        .sharing(is_shared)
        .counting(setup.board.clone());
    let (docker_to, from_docker) = unbounded_channel();
    tokio::spawn(pass_on(from_docker, news_to));
    let engine = Engine::Docker(Box::new(Docker::new(
        access,
        options.reconcile_interval,
        docker_to,
    )));

    let logs = Logs::Docker(setup.containers);
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
        access: access.clone(),
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
    let live = Live::start(nats, docker, board.clone(), console.clone());
    live.context("live logs")
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
