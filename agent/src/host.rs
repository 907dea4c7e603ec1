//! An agent that runs bots until it is told to end, and leaves them running then: `agent run` (the platform's word:
//! `bot-runner`) as containers of this host, `agent controller` as Pods of a cluster.
//!
//! Where bots run is the only difference between the two ([`engines`]).

pub mod cluster;
mod docker;
mod engines;
mod origin;
mod setup;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use contract::file;
use contract::launch::Variables;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;

use self::engines::{Around, Choice};
use self::setup::{Setup, setup};
use crate::bots::Offer;
use crate::control::Api;
use crate::dev::{open_store, prepare_store};
use crate::engine::keys::KeyMaker;
use crate::gateway::dispatch::Dispatcher;
use crate::health::{self, Board, Dependency};
use crate::history::{Outlet, Watch};
use crate::lease::Lease;
use crate::lease::keeper::{Handle, Keeper};
use crate::manager::Manager;
use crate::place;
use crate::reconcile::{Events, World, ticks};
use crate::schedule::Schedules;
use crate::show::{Colours, Console};
use crate::signals::Signals;
use crate::store::Store;
use crate::{control, events, gateway, lister};

pub use docker::store_variables;

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
    place::remember_pods(&data, None)?;
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
    let parts = setup.place.open(around).await?;
    let dispatcher = Dispatcher::new(requests_to.clone(), parts.apart, most)
        .sharing(is_shared)
        .counting(setup.board.clone());
    let (stopped, switch) = match &setup.desk {
        Some(desk) => (desk.stopped(), desk.switch()),
        None => (
            place::stopped(&setup.host.data)?,
            place::switch(&setup.host.data)?,
        ),
    };
    let (to_loop, host, settle) = (requests_to.clone(), setup.host, options.settle);
    let engine = parts.engine;
    let mut world = World::new(host, store, engine, console.clone(), settle, requests_to);
    (world.stopped, world.switch, world.live) = (stopped, switch, parts.live);
    world.desk = setup.desk;
    let (mut settings, history) = setup.history;
    settings.outlet = setup.teller.map(|address| Outlet {
        address,
        lease: lease.clone(),
    });
    if setup.writes {
        let watch = Watch::start(&settings, history, parts.logs, &world.host.data, console);
        world.history = Some(watch.context("history")?);
    }
    if let Some(source) = setup.source {
        let outside = (waker.clone(), lease.clone(), setup.board.clone());
        world.progress = hear(source, outside, console)?;
    }
    (world.schedules, world.jobs) = (Some(schedules), parts.queue);
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
