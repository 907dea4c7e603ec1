//! `sync`: moves code, state and logs between the container's disk and the object store.
//!
//! ```text
//! sync fetch    code ◀─ store;  claim, state ◀─ store          before the bot starts, to its end
//! sync watch    state, logs ─▶ store;  synced.json              beside the bot
//! sync state    states in the store, looked at and replaced      for a person
//! sync unpack   an archive ─▶ an empty folder, confined         for a person
//! ```
//!
//! Modules from the outside in: `settings` and `keys` are what it is told; `code`, `restore` (fetch) and `watch` with
//! `pace`, `hints`, `push`, `ship` (watch) are what it does; `claim`, `base` and `history` say whose a state is;
//! `tree`, `archive`, `extract`, `swap` and `beneath` are about the disk; `store` is the other side.

mod archive;
mod base;
mod beneath;
mod claim;
mod code;
mod command;
mod extract;
mod hints;
mod history;
mod keys;
mod ndjson;
mod pace;
mod push;
mod ready;
mod restore;
mod result;
mod retry;
mod room;
mod settings;
mod ship;
mod state;
mod store;
mod swap;
mod traffic;
mod tree;
mod unpack;
mod watch;

use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use contract::launch::{Variables, renamed};
use contract::{exit, vars};
use rustix::fs::{FlockOperation, flock};

use claim::Ahead;
use command::{Command, Keys, Watching};
use hints::Hints;
use keys::KeyRing;
use settings::{Entry, Keeping, Places, Settings};
use state::Desk;
use state::order::Order;
use store::{Address, Condition, Metadata, Store};

/// How soon the one who starts us with `--keys-from-stdin` sends the first.
const KEYS_WITHIN: Duration = Duration::from_secs(10);

/// A failure and the code that tells it.
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    fn of(code: u8) -> impl Fn(anyhow::Error) -> Self {
        move |error| Self { code, error }
    }
}

fn main() -> ExitCode {
    // First of all: what we hold in memory is nobody else's to read.
    let hidden = nix::sys::prctl::set_dumpable(false);
    contract::journal::open("sync", std::env::var(vars::LOG_LEVEL).ok().as_deref());
    if let Err(error) = hidden {
        contract::warn!("other processes of this user may look into this one: {error}");
    }
    match Command::parse(std::env::args_os().skip(1)) {
        Ok(command) => {
            let heard = heard_by_kubelet(&command);
            run(command).map_or_else(|failure| tell(&failure, heard), |()| ExitCode::SUCCESS)
        }
        Err(error) => {
            contract::error!("{error}; `sync --help` tells what there is");
            ExitCode::from(exit::USAGE)
        }
    }
}

/// Who hears why we failed, beside the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nowhere,
    InPodStatus,
}

/// What a Pod has containers for tells why it failed in the Pod's status, too.
fn heard_by_kubelet(command: &Command) -> Heard {
    match command {
        Command::Fetch(..) | Command::Watch(_) | Command::Result { .. } => Heard::InPodStatus,
        _ => Heard::Nowhere,
    }
}

fn tell(failure: &Failure, heard: Heard) -> ExitCode {
    contract::error!("{:#}", failure.error);
    if heard == Heard::InPodStatus {
        say_last(&format!("{:#}", failure.error));
    }
    ExitCode::from(failure.code)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Say(text) => {
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            Ok(())
        }
        Command::Fetch(keys, entry) => fetch(keys, entry),
        Command::Watch(watching) => watch(watching),
        Command::State(order, keys) => state(&order, keys),
        Command::Result { keys, file, key } => send(keys, &file, &key),
        Command::Unpack { archive, folder } => {
            unpack::unpack(&archive, &folder).map_err(|error| Failure {
                code: unpack::exit_code(&error),
                error,
            })
        }
    }
}

/// Leaves our last words, where there is a place for them.
fn say_last(words: &str) {
    if let Err(error) = contract::last_words::leave(words) {
        contract::warn!("write {}: {error}", contract::last_words::FILE);
    }
}

fn variables() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect::<Variables>()
}

fn settings(entry: Entry) -> Result<Settings, Failure> {
    Settings::parse(&renamed(variables()), entry).map_err(|error| Failure {
        code: error.exit_code(),
        error: error.into(),
    })
}

/// The keys of a store that needs some.
fn read_keys(keys: Keys, store: &Address) -> anyhow::Result<KeyRing> {
    if keys == Keys::None {
        let variables = variables();
        let file = variables.get(vars::THE0_KEYS_FILE);
        return match file.filter(|file| !file.is_empty()) {
            Some(file) => KeyRing::from_file(Path::new(file))
                .with_context(|| format!("read keys: {} {file}", vars::THE0_KEYS_FILE)),
            None => Ok(KeyRing::from_environment(&variables)),
        };
    }
    let ring = KeyRing::from_stdin().context("read keys")?;
    let needed = matches!(store, Address::S3(_));
    anyhow::ensure!(
        !needed || ring.wait(KEYS_WITHIN),
        "no keys for the store came on standard input within {KEYS_WITHIN:?}"
    );
    Ok(ring)
}

fn fetch(keys: Keys, entry: Entry) -> Result<(), Failure> {
    let settings = settings(entry)?;
    let keys = read_keys(keys, &settings.places.store).map_err(Failure::of(exit::INTERNAL))?;
    let _alone = alone(&settings).map_err(Failure::of(exit::STATE))?;
    code::finish(&settings).map_err(Failure::of(exit::CODE))?;
    restore::finish(&settings).map_err(Failure::of(exit::STATE))?;
    let store = open(&settings.places, &keys).map_err(Failure::of(exit::CODE))?;
    if settings.state != Keeping::Kept {
        let fetched = code::fetch(&settings, &store).context("the code could not be fetched");
        fetched.map_err(Failure::of(exit::CODE))?;
        return match settings.state {
            Keeping::Read => restore::copy(&settings, &store)
                .context("the state could not be read")
                .map_err(Failure::of(exit::STATE)),
            _ => Ok(()),
        };
    }
    let ahead = Ahead::begin(&settings.places, &keys);
    if let Err(error) = code::fetch(&settings, &store) {
        ahead.leave();
        let error = error.context("the code could not be fetched");
        return Err(Failure::of(exit::CODE)(error));
    }
    restore::fetch(&settings, &store, ahead.seen())
        .context("the state could not be restored")
        .map_err(Failure::of(exit::STATE))
}

fn watch(told: Watching) -> Result<(), Failure> {
    let settings = settings(told.entry)?;
    let internal = Failure::of(exit::INTERNAL);
    let hints = Hints::new()
        .context("take over signals")
        .map_err(&internal)?;
    let keys = read_keys(told.keys, &settings.places.store).map_err(&internal)?;
    let _alone = alone(&settings).map_err(&internal)?;
    let store = open(&settings.places, &keys).map_err(&internal)?;
    let watch = watch::begin(&settings, &store, hints).map_err(&internal)?;
    if let Some(port) = told.readiness {
        ready::say(port).map_err(&internal)?;
    }
    watch.run(told.until, told.patience);
    Ok(())
}

fn state(order: &Order, keys: Keys) -> Result<(), Failure> {
    let variables = renamed(variables());
    let places = Places::parse(&variables).map_err(|error| Failure {
        code: error.exit_code(),
        error: error.into(),
    })?;
    let keys = read_keys(keys, &places.store).map_err(Failure::of(exit::INTERNAL))?;
    let store = open(&places, &keys).with_context(|| format!("bot {}", places.bot));
    let store = store.map_err(Failure::of(exit::STATE))?;
    let local = variables
        .get(vars::STATE_PATH)
        .map_or("/state", String::as_str);
    let desk = Desk {
        places: &places,
        store: &store,
        local: local.into(),
    };
    desk.obey(order).map_err(|error| Failure {
        code: state::exit_code(&error),
        error,
    })
}

/// Puts the result of a one-shot question where whoever asked looks for it.
fn send(keys: Keys, file: &Path, key: &str) -> Result<(), Failure> {
    let variables = renamed(variables());
    let places = Places::parse(&variables).map_err(|error| Failure {
        code: error.exit_code(),
        error: error.into(),
    })?;
    let put = || -> anyhow::Result<()> {
        let bytes = result::read(file)?;
        let at = places.result(key)?;
        let keys = read_keys(keys, &places.store)?;
        let store = open(&places, &keys)?;
        let put = || store.put_bytes(&at, &Condition::Any, &Metadata::new(), &bytes);
        retry::until(places.deadline, put).with_context(|| at.to_string())?;
        Ok(())
    };
    put().map_err(Failure::of(exit::INTERNAL))
}

fn open(places: &Places, keys: &KeyRing) -> anyhow::Result<Store> {
    let store = retry::until(places.deadline, || Store::open(&places.store, keys.clone()));
    Ok(store?)
}

/// The right to touch this bot's folders, until dropped: one `sync` at a time.
fn alone(settings: &Settings) -> anyhow::Result<File> {
    let folder = settings.launch.paths.sync_private();
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    let end = Instant::now() + Duration::from_secs(10);
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > end {
            anyhow::bail!(
                "another sync works on this bot ({} is held)",
                path.display()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(file)
}
