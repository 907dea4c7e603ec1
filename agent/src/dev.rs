//! `agent dev`: the session in the foreground, like `docker compose up`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::record::{Outcome, Synced};
use contract::{BotId, BotType, Paths, file};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

use crate::bots::directory::{Directory, RHYTHM};
use crate::bots::{Bots, Offer};
use crate::control::Api;
use crate::control::listen::Listen;
use crate::document::Bot;
use crate::engine::Engine;
use crate::engine::process::Process;
use crate::failure::Failure;
use crate::gateway::bounds::Most;
use crate::gateway::dispatch::Dispatcher;
use crate::history::notices::Logs;
use crate::history::{self, History};
use crate::launch::Host;
use crate::lease::Lease;
use crate::reconcile::{End, Events, World, ticks};
use crate::schedule::book::Book;
use crate::schedule::{self, Schedules};
use crate::show::{Colours, Console};
use crate::signals::Signals;
use crate::store::Store;
use crate::{control, gateway, lister, place};

/// The starters of bots in languages that need one.
const WRAPPERS: [(&str, &str); 2] = [
    ("python.py", include_str!("../../images/wrappers/python.py")),
    ("node.mjs", include_str!("../../images/wrappers/node.mjs")),
];

/// What a session is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The folder of bots: each of its folders with a bot-config.yaml, and itself
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Where supervisor, sync and query are [default: beside the agent]
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// How long a bot's folder must be missing before the bot is stopped
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    settle: Duration,
    #[command(flatten)]
    api: control::listen::Options,
    #[command(flatten)]
    gateway: gateway::Options,
}

/// Runs a session on the data folder `data` until a signal ends it.
///
/// # Errors
/// What keeps it from starting, or [`Failure::Aborted`].
pub fn run(options: &Options, data: &Path) -> Result<()> {
    let dir = &options.dir;
    let shown = dir.display();
    let root = dir
        .canonicalize()
        .with_context(|| format!("the folder of bots {shown}"))?;
    fs::read_dir(&root).with_context(|| format!("the folder of bots {shown}"))?;
    // The store's keys may be in our environment, and bots run as the same user.
    nix::sys::prctl::set_dumpable(false).context("close our memory to others")?;
    let supervisor = find_programs(options.bin.as_deref())?;
    let api = options.api.listen("")?;
    let gateway = options.gateway.listen(false)?;
    let most = Most::parse(&crate::host::environment())?;
    let data = place::make(data)?;
    let _owned = place::own(&data)?;
    install_wrappers(&data)?;
    nix::sys::prctl::set_child_subreaper(true).context("cannot adopt orphans")?;
    let out = io::stdout();
    let colours = Colours::of(&out);
    let console = Console::open(out, colours).context("the console")?;
    let host = place::host(&data)?;
    place::remember_containers(&data, None)?;
    place::remember_pods(&data, None)?;
    let store = open_store(&host, &console)?;
    // One thread: what starts supervisors must live as long as the agent.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(async {
        let mut signals = Signals::catch().context("signals")?;
        if !is_prepared(&store, &console, &mut signals).await {
            return Ok(End::Clean);
        }
        let parts = Parts {
            settle: options.settle,
            api,
            gateway: (gateway, most),
            root,
            host,
            store,
            supervisor,
            signals,
        };
        session(parts, &console).await
    });
    console.flush();
    match end? {
        End::Clean => match unsaved(&data)? {
            bots if bots.is_empty() => Ok(()),
            bots => bail!(
                "all bots have ended, but not all that these had is in the store: {}; it is in their folders under {}: \
                 keep them, the next start saves it",
                bots.join(", "),
                data.join("bots").display()
            ),
        },
        End::Aborted => Err(Failure::Aborted.into()),
    }
}

/// What a session is made of.
struct Parts {
    settle: Duration,
    api: Option<Listen>,
    gateway: (Option<gateway::Listen>, Most),
    root: PathBuf,
    host: Host,
    store: Store,
    supervisor: PathBuf,
    signals: Signals,
}

async fn session(parts: Parts, console: &Console) -> Result<End> {
    let Parts {
        settle,
        api,
        gateway: (gateway, most_questions),
        root,
        host,
        store,
        supervisor,
        signals,
    } = parts;
    let data = host.data.clone();
    let settings = history::Settings::parse(&crate::host::environment())?;
    let path = place::socket(&host.data);
    let socket = control::open(&path)?;
    let (to_loop, requests) = unbounded_channel();
    let (news_to, news) = unbounded_channel();
    let bots = Bots::Directory(Directory::new(root.clone(), host.data.clone()));
    let (listings, waker) =
        lister::start(bots, store.clone(), RHYTHM, lister::gate()).context("the lister")?;
    let most = schedule::starts(&crate::host::environment())?;
    let book = Book::Folder(data.clone());
    let me = "agent dev".to_owned();
    let schedules = Schedules::new(book, me, most, news_to.clone(), console.clone());
    let engine = Process::new(supervisor, host.clone(), console.clone(), news_to);
    let engine = Engine::Process(Box::new(engine));
    let (stopped, switch) = (place::stopped(&host.data)?, place::switch(&host.data)?);
    let mut world = World::new(
        host,
        store,
        engine,
        console.clone(),
        settle,
        to_loop.clone(),
    );
    (world.stopped, world.switch) = (stopped, switch);
    world.schedules = Some(schedules);
    world.waker = Some(waker);
    let (history, logs) = (History::in_folder(&data), Logs::Folder(data.clone()));
    let watch = history::Watch::start(&settings, history, logs, &data, console);
    world.history = Some(watch.context("history")?);
    let mut events = Events {
        listings,
        news,
        requests,
        signals,
        ticks: ticks(),
    };
    let dispatcher = Dispatcher::new(to_loop.clone(), None, most_questions);
    let gateway = gateway::open(gateway, &dispatcher, console).await?;
    let answers = Api::new(to_loop, Lease::alone(), console, dispatcher);
    control::listen::start(api, answers.clone(), console).await;
    tokio::spawn(control::serve(socket, answers));
    let end = world.run(&mut events, |world| greet(world, &root)).await;
    drop(gateway);
    world.close_history();
    let _ = file::remove(&path);
    match end {
        End::Clean => {
            console.say("all bots have ended; they go on from their state at the next start");
        }
        End::Aborted => console.warn("aborted; the next start goes on from the last saved state"),
    }
    Ok(end)
}

/// Opens the store and says which it is.
///
/// # Errors
/// Its address cannot be used.
pub fn open_store(host: &Host, console: &Console) -> Result<Store> {
    let store = place::open_store(host)?;
    console.say(&format!("code, states and logs are in {}", host.store));
    if let Some(other) = place::remember_store(host)? {
        console.warn(&format!(
            "bots of this data folder had theirs in {other} before: what is there stays there"
        ));
    }
    Ok(store)
}

/// Makes the buckets that are missing, and says so. What does not answer now is asked again when it is needed.
pub fn prepare_store(store: &Store, console: &Console) {
    match store.prepare() {
        Ok(made) => made
            .iter()
            .for_each(|bucket| console.say(&format!("made bucket {bucket}"))),
        Err(err) => console.warn(&format!("{err}; bots start when the store answers")),
    }
}

/// The same, unless a signal to end comes first; whether none did.
async fn is_prepared(store: &Store, console: &Console, signals: &mut Signals) -> bool {
    let (to, prepared) = oneshot::channel();
    let (store, ours) = (store.clone(), console.clone());
    // Nobody waits for this thread where the session ends meanwhile.
    std::thread::spawn(move || {
        prepare_store(&store, &ours);
        let _ = to.send(());
    });
    tokio::select! {
        _ = prepared => true,
        signal = signals.next() => {
            console.say(&format!("{}: nothing was started yet", signal.name()));
            false
        }
    }
}

/// The bots whose last run's end is not in the store.
fn unsaved(data: &Path) -> Result<Vec<String>> {
    let is_unsaved = |id: &BotId| {
        let paths = Paths::under(&data.join("bots").join(id.as_str()));
        let synced: Option<Synced> = file::read_json(&paths.synced()).ok().flatten();
        let run = crate::ending::last_run(&paths);
        run > 0 && synced.is_none_or(|s| s.outcome != Outcome::Ok || s.run < run)
    };
    let mut bots = place::known(data)?;
    bots.retain(|bot| is_unsaved(&bot.id));
    Ok(bots.into_iter().map(|bot| bot.name).collect())
}

/// Says what runs and what can be tried.
fn greet(world: &World, root: &Path) {
    let console = &world.console;
    if world.listing.bots.is_empty() {
        console.warn(&format!(
            "no bots in {}: a bot is a folder with a bot-config.yaml; it is run as soon as it appears",
            root.display()
        ));
    }
    let mut bots: Vec<_> = world.listing.bots.iter().collect();
    bots.sort_by_key(|(_, listed)| &listed.name);
    for (id, listed) in bots {
        let what = match &listed.offer {
            Offer::Bot(bot) => {
                let definition = &bot.definition;
                let (runtime, kind) = (definition.runtime, definition.kind.name());
                let not = match (bot.enabled, world.stopped.contains(id)) {
                    (false, _) => ", disabled",
                    (true, true) => ", stopped until `agent start`",
                    _ => "",
                };
                format!("{} {runtime} {kind}{not}", definition.version)
            }
            Offer::Unusable(_) => "cannot be run, see above".to_owned(),
            Offer::Gone => continue,
        };
        console.say(&format!("{}  {what}  {}", listed.name, listed.source));
    }
    console.say(&hints(world));
}

fn hints(world: &World) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "agent".into());
    let program = quoted(&program);
    let data = quoted(&world.host.data.display().to_string());
    let bots = &world.listing.bots;
    let name_of = |fits: fn(&Bot) -> bool| {
        let mut fitting = bots
            .iter()
            .filter(|(_, l)| matches!(&l.offer, Offer::Bot(bot) if fits(bot)));
        fitting.next().map_or("BOT".into(), |(id, listed)| {
            let namesakes = bots.values().filter(|other| other.name == listed.name);
            let is_clear = namesakes.count() == 1;
            quoted(if is_clear { &listed.name } else { id.as_str() })
        })
    };
    let bot = name_of(|bot| bot.definition.kind == BotType::Realtime);
    let asks = name_of(|bot| bot.definition.query.is_some());
    format!(
        "\
nothing is isolated here: bots run as you; a bot's SDK query port listens on all addresses of this machine
in another terminal, with `export THE0_DATA={data}`:
  {program} ps
  {program} logs -f {bot}
  {program} query {asks} /info
  {program} restart {bot}
  {program} stop {bot}
Ctrl-C ends all bots; started again, they go on from their state"
    )
}

fn quoted(word: &str) -> String {
    let plain = word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if plain {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The supervisor's path; the others must be beside it, where it looks for them.
///
/// # Errors
/// Those that are not there.
pub fn find_programs(bin: Option<&Path>) -> Result<PathBuf> {
    let me = std::env::current_exe().context("the agent's own path")?;
    let folder = bin.map_or_else(
        || me.parent().map(Path::to_owned),
        |bin| Some(bin.to_owned()),
    );
    let folder = folder.unwrap_or_default();
    let missing: Vec<&str> = ["supervisor", "sync", "query"]
        .into_iter()
        .filter(|name| !folder.join(name).is_file())
        .collect();
    if !missing.is_empty() {
        let (missing, folder) = (missing.join(", "), folder.display());
        bail!("{missing} not found in {folder}: run `make build`, or name their folder with --bin");
    }
    let path = folder.join("supervisor");
    path.canonicalize()
        .with_context(|| path.display().to_string())
}

/// Puts the starters of languages that need one into the data folder.
///
/// # Errors
/// What the file system answers.
pub fn install_wrappers(data: &Path) -> Result<()> {
    for (name, text) in WRAPPERS {
        let path = data.join("wrappers").join(name);
        contract::file::replace(&path, text.as_bytes())
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("sync"), "").unwrap();
        let text = find_programs(Some(dir.path())).unwrap_err().to_string();
        assert!(text.starts_with("supervisor, query not found"), "{text}");
        assert!(text.contains("make build"), "{text}");
    }

    #[test]
    fn a_name_with_spaces_is_quoted_for_the_shell() {
        assert_eq!(quoted("price watcher's"), "'price watcher'\\''s'");
        assert_eq!(quoted("grid"), "grid");
    }
}
