//! Live logs: what bots print goes out over NATS as it comes, in whole lines, on one subject a bot.
//!
//! ```text
//!   bot ─▶ supervisor ─▶ the container's output ─▶ daemon, or kubelet and API server
//!                                                     └─▶ follower ─▶ the0.bot.logs.<id>  (THE0_BOT_LOGS: memory, 1 h)
//!                                                         one a container, asleep while nothing is printed
//! ```
//!
//! It is the agent that sends them, because it is the only program that has a key of NATS: one inside a container would
//! be the bot's neighbour there. What a line belongs to is told by its container, so no bot writes under another's name.
//!
//! It ensures: lines are whole and in order; each chunk carries how far it goes, and whoever follows a container asks
//! the stream for that first, so an agent that is killed, or one that takes over, goes on where the last one ended and
//! repeats nothing; while NATS is away nothing is read, so nothing is held in memory: it stays where the daemon keeps
//! it; the loop that runs bots waits for nothing here. Only the agent that acts sends.

mod chunk;
mod containers;
mod follow;
mod pods;
pub mod printer;
pub mod reader;
mod stamps;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use async_nats::jetstream::stream::{Config, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use contract::BotId;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::events::Address;
use crate::health::Board;
use crate::show::Console;
use follow::{Follower, Shared};
use printer::{Life, Printer};
use reader::{Place, Reader};

/// Whether lines are sent: on, which counts where there is a NATS, or off.
pub const VARIABLE: &str = "THE0_LIVE_LOGS";
/// The stream of lines.
const STREAM: &str = "THE0_BOT_LOGS";
/// How long it keeps one.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// How much it keeps.
const MOST: i64 = 128 << 20;
/// How long the lines of a bot wait for those of its container before.
const TURN: Duration = Duration::from_secs(10);
/// Time between two tries to begin.
const AGAIN: Duration = Duration::from_secs(10);

/// What prints, by bot; `None`: another agent sends its lines.
pub type Running = Option<BTreeMap<BotId, Printer>>;

/// Sends what bots print.
#[derive(Debug)]
pub struct Live {
    running: watch::Sender<Running>,
}

impl Live {
    /// Starts a thread that sends what those print that it is told of.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        address: Address,
        place: Place,
        board: Board,
        console: Console,
    ) -> io::Result<Self> {
        let (running, told) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("live-logs".into())
            .spawn(move || runtime.block_on(run(&address, place, board, &console, told)))?;
        Ok(Self { running })
    }

    /// These run now.
    pub fn follow(&self, now: Running) {
        self.running.send_if_modified(|running| {
            let is_new = *running != now;
            *running = now;
            is_new
        });
    }
}

/// Follows until nobody tells any more what runs.
async fn run(
    address: &Address,
    place: Place,
    board: Board,
    console: &Console,
    mut running: watch::Receiver<Running>,
) {
    let (up_to, up) = watch::channel(false);
    let client = match address.attach(up_to).await {
        Ok(client) => client,
        Err(why) => return console.warn(&format!("live logs are not sent: {why}")),
    };
    let reader = match Reader::open(place, console).await {
        Ok(reader) => reader,
        Err(why) => return console.warn(&format!("live logs are not sent: {why:#}")),
    };
    let shared = {
        let mut up = up.clone();
        tokio::select! {
            _ = up.wait_for(|is_up| *is_up) => {}
            () = gone(running.clone()) => return,
        }
        let largest = client.max_payload();
        let nats = jetstream::new(client);
        Shared {
            reader,
            nats,
            up,
            largest,
            board,
        }
    };
    tokio::select! {
        () = make(address, &shared, console) => {}
        () = gone(running.clone()) => return,
    }
    let mut followed = Followed::default();
    loop {
        let now = running.borrow_and_update().clone();
        followed.follow(now, &shared);
        if running.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until nobody tells any more what runs.
async fn gone(mut running: watch::Receiver<Running>) {
    while running.changed().await.is_ok() {}
}

/// Sees to the stream, and says so when it cannot be had.
async fn make(address: &Address, shared: &Shared, console: &Console) {
    let mut is_told = false;
    loop {
        let why = match timeout(AGAIN, open(&shared.nats)).await {
            Ok(Ok(_)) => break,
            Ok(Err(err)) => address.hide(&err.to_string()),
            Err(_) => "no answer".to_owned(),
        };
        if !is_told {
            console.warn(&format!(
                "live logs are not sent, the stream {STREAM} cannot be had ({why}): it is tried again; JetStream must be \
                 on and its memory allow {} MiB, or set THE0_LIVE_LOGS=off",
                MOST >> 20
            ));
        }
        is_told = true;
        sleep(AGAIN).await;
    }
    if is_told {
        console.say("live logs are sent");
    }
}

/// The stream, made if there is none.
async fn open(nats: &Context) -> Result<Stream, async_nats::Error> {
    let config = Config {
        name: STREAM.to_owned(),
        subjects: vec!["the0.bot.logs.*".to_owned()],
        storage: StorageType::Memory,
        max_age: LIFE,
        max_bytes: MOST,
        ..Config::default()
    };
    Ok(nats.get_or_create_stream(config).await?)
}

/// Those that are followed.
#[derive(Debug, Default)]
struct Followed {
    /// By id: whose it is and how far.
    printers: HashMap<String, (BotId, watch::Sender<Life>)>,
    /// The last follower of each bot.
    last: HashMap<BotId, JoinHandle<()>>,
}

impl Followed {
    fn follow(&mut self, now: Running, shared: &Shared) {
        let Some(now) = now else {
            self.last.drain().for_each(|(_, task)| task.abort());
            self.printers.clear();
            return;
        };
        shared.reader.expect(now.len());
        self.printers.retain(|id, (bot, life)| {
            let printer = now.get(bot).filter(|printer| printer.id == *id);
            let new = printer.map_or(Life::Over, |printer| printer.life);
            life.send_if_modified(|life| std::mem::replace(life, new) != new);
            printer.is_some()
        });
        for (bot, printer) in now {
            if !self.printers.contains_key(&printer.id) {
                self.add(bot, printer, shared.clone());
            }
        }
        self.last.retain(|_, task| !task.is_finished());
    }

    fn add(&mut self, bot: BotId, printer: Printer, shared: Shared) {
        let (life_to, life) = watch::channel(printer.life);
        let Printer { id, name, .. } = printer;
        self.printers.insert(id.clone(), (bot.clone(), life_to));
        let before = self.last.remove(&bot);
        let follower = Follower {
            shared,
            bot: bot.clone(),
            id,
            name,
            life,
        };
        let task = tokio::spawn(async move {
            if let Some(mut before) = before
                && timeout(TURN, &mut before).await.is_err()
            {
                before.abort();
            }
            follower.run().await;
        });
        self.last.insert(bot, task);
    }
}
