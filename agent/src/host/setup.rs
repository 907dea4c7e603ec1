//! What an agent is told, understood before anything begins.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::Secret;
use contract::launch::{Variables, renamed};

use super::engines::{Choice, Where};
use super::origin::Origin;
use super::{Options, environment};
use crate::bots::Bots;
use crate::control::listen::{ADDRESS, Listen};
use crate::gateway::bounds::Most;
use crate::health::http::VARIABLE;
use crate::health::{self, Board, Dependency};
use crate::history::{self, History};
use crate::launch::Host;
use crate::lease::Identity;
use crate::lease::keeper::Keeper;
use crate::orders::desk::Desk;
use crate::schedule::book::Book;
use crate::show::Console;
use crate::store::Address;
use crate::store::address::Endpoint;
use crate::{events, gateway, live, schedule};

/// The variable of how many bots the metrics tell one by one, and what it is without it.
const MEASURED: &str = "THE0_METRICS_BOTS";
/// The variable of whether a bot's :9476 wants a token of whoever asks over the network.
const GUARD: &str = "THE0_QUERY_GUARD";
/// The variable of whether the same question is asked once at a time.
const SHARE: &str = "THE0_QUERY_SHARE";
const MEASURED_AT_MOST: usize = 100;

/// What is needed to run.
pub struct Setup {
    /// The data folder, the environment, the store.
    pub host: Host,
    /// The store.
    pub endpoint: Endpoint,
    /// Where bots run.
    pub place: Where,
    /// What of history is set, and where it is kept.
    pub history: (history::Settings, History),
    /// The bots.
    pub bots: Bots,
    /// Where it is written down what becomes of ticks, in whose name, and how many are started at once.
    pub book: (Book, String, usize),
    /// Time between two looks at them.
    pub rhythm: Duration,
    /// Where what happens to them is told.
    pub source: Option<events::Source>,
    /// Where it is told that runs begin and end.
    pub teller: Option<events::Address>,
    /// People's words, where they count for every agent of a database.
    pub desk: Option<Desk>,
    /// Keeps the lease, where bots are a database's.
    pub keeper: Option<Keeper>,
    /// Where it is told how things are.
    pub board: Board,
    /// Where that is asked for.
    pub listen: Option<SocketAddr>,
    /// Where people's words come over the network.
    pub api: Option<Listen>,
    /// Where questions come.
    pub gateway: Option<gateway::Listen>,
    /// How many questions at once, and whether the same ones are asked once.
    pub questions: (Most, bool),
    /// Whether a bot's `query` wants a token.
    pub guards: bool,
    /// Whether history is written.
    pub writes: bool,
}

/// Reads what was told.
///
/// # Errors
/// The first setting that cannot be used.
pub fn setup(
    choice: Choice<'_>,
    options: &Options,
    data: &Path,
    console: &Console,
) -> Result<Setup> {
    let mut environment = renamed(environment());
    if let Choice::Kubernetes(cluster) = choice {
        cluster.prevail(&mut environment);
    }
    let host = Host::new(data.to_owned(), environment.clone())?;
    let endpoint = endpoint(&host)?;
    let value = |name: &str| environment.get(name).filter(|v| !v.is_empty()).cloned();
    let nats = options.nats_url.clone().or_else(|| value("NATS_URL"));
    let nats = nats.map(|url| events::Address::parse(&Secret::new(url)));
    let nats = nats.transpose()?;
    let teller = nats.clone().filter(|_| options.bots.is_none());
    let place = Where::new(choice, &environment, &host.store, nats.as_ref())?;
    let origin = if let Some(folder) = &options.bots {
        if nats.is_some() {
            console.warn("bots of a folder have no events: those of NATS are left alone");
        }
        Origin::folder(folder, data)?
    } else {
        let uri = options.mongo_uri.clone().or_else(|| value("MONGO_URI"));
        let uri = uri.context(
            "MONGO_URI is not set: give the database of bots, or a folder of them with --bots",
        )?;
        Origin::database(Secret::new(uri), nats, place.stack(), options, data)?
    };
    let mut depends = vec![Dependency::Listing, Dependency::Store, place.dependency()];
    depends.extend(&origin.depends);
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
        book: (origin.book, me, schedule::starts(&environment)?),
        host,
        endpoint,
        place,
        history: (settings, history),
        bots: origin.bots,
        rhythm: origin.rhythm,
        source: origin.source,
        desk: origin.desk,
        keeper: origin.database.map(keep).transpose()?,
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

/// The object store, which there must be.
fn endpoint(host: &Host) -> Result<Endpoint> {
    let Address::S3(endpoint) = host.store.clone() else {
        bail!(
            "MINIO_ENDPOINT is not set: containers need an object store for code, states and logs; set it with \
             MINIO_ACCESS_KEY and MINIO_SECRET_KEY, or run bots of one machine without containers by `agent dev`"
        );
    };
    Ok(endpoint)
}

impl Setup {
    /// Nothing is left of it that writes, starts or tells something.
    pub fn only_answers(&mut self) {
        (self.source, self.teller) = (None, None);
        if let Where::Docker(docker) = &mut self.place {
            docker.only_answers();
        }
        (self.desk, self.keeper, self.api) = (None, None, None);
        self.writes = false;
    }
}

/// A switch, or what it is without a word.
///
/// # Errors
/// It is neither on nor off.
pub fn is_on(variable: &str, given: Option<&str>, usual: bool) -> Result<bool> {
    match given {
        None => Ok(usual),
        Some("on" | "true" | "1") => Ok(true),
        Some("off" | "false" | "0") => Ok(false),
        Some(_) => bail!("{variable} is neither on nor off"),
    }
}

/// Where what bots print is sent, if it is.
///
/// # Errors
/// The switch is neither on nor off.
pub fn sends(
    environment: &Variables,
    nats: Option<&events::Address>,
) -> Result<Option<events::Address>> {
    let given = environment.get(live::VARIABLE).filter(|v| !v.is_empty());
    let sends = is_on(live::VARIABLE, given.map(String::as_str), true)?;
    Ok(nats.filter(|_| sends).cloned())
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
