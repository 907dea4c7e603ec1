//! Events over NATS become documents in MongoDB, and the next listing comes at once.
//!
//! ```text
//!   THE0_EVENTS ──▶ durable consumer ──▶ Change (pure) ──▶ bot_runner.bots ──▶ ack ──▶ the lister is woken
//!   (7 days)        one at a time           │ cannot be kept
//!                                           └──▶ THE0_DLQ, with the reason ──▶ term
//! ```
//!
//! It ensures: an event is acknowledged only when a majority of the database has what it says, so none is lost however
//! this agent, NATS or MongoDB end; events are applied in the order of the stream, and one that comes again changes
//! nothing ([`write`]); what cannot be kept is told, kept aside and blocks nobody; the agent does not act before what
//! was said in its absence is in the database ([`gate`]). Everything here lives in a thread and a runtime of its own
//! and delays nothing else. Events only shorten the wait: the database is read each interval all the same.
//!
//! Without an address of NATS the indexes of the collection are seen to, and its changes are watched all the same.

pub mod change;
mod consume;
mod gate;
pub mod letter;
pub mod link;
pub mod write;

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;

use crate::bots::mongo::{Mongo, Place, changes};
use crate::health::Board;
use crate::lease::Lease;
use crate::lister::Waker;
use crate::orders::exchange as orders;
use crate::show::Console;
use consume::{Consumer, Writers};
pub use consume::{STREAM, SUBJECTS, durable as consumer};
pub use gate::{Link, Progress, Sight};
pub use letter::STREAM as LETTERS;
pub use link::{Address, pause};
use write::Writer;

/// Time between two tries to make indexes while the database is away.
const SOON: Duration = Duration::from_secs(2);
/// The same when it has said no: a person must act first.
const LATER: Duration = Duration::from_secs(60);

/// Where events come from and go to.
#[derive(Debug)]
pub struct Source {
    /// Where NATS is, if events are to be heard.
    pub nats: Option<Address>,
    /// Where documents are written: a connection of our own.
    pub mongo: Mongo,
    /// The stack, by which the consumer is called.
    pub stack: String,
    /// Where people's words are handed over.
    pub orders: orders::Link,
}

/// Who is told what.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Makes the next listing come at once.
    pub waker: Waker,
    /// Whether it is this agent that acts; a second one leaves events to the first.
    pub lease: Lease,
    /// Where it is told outside how things are.
    pub board: Board,
    /// Where people look.
    pub console: Console,
}

/// Starts to apply events; tells how far they are, where they are to be heard.
///
/// # Errors
/// The thread cannot be started.
pub fn start(source: Source, outside: Outside) -> io::Result<Option<watch::Receiver<Progress>>> {
    let (progress_to, progress) = watch::channel(Progress::new(Instant::now()));
    let is_heard = source.nats.is_some();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("events".into())
        .spawn(move || runtime.block_on(run(source, outside, progress_to)))?;
    Ok(is_heard.then_some(progress))
}

async fn run(source: Source, outside: Outside, progress: watch::Sender<Progress>) {
    let console = outside.console.clone();
    let schedules = || source.mongo.beside(Place::schedules());
    let bots = index(Writer::new(source.mongo.apart()), &console);
    let times = index(Writer::new(schedules()), &console);
    let index = async { tokio::join!(bots, times) };
    let waker = outside.waker.clone();
    let changes = async {
        let bots = changes::follow(source.mongo.apart(), &waker, &console);
        let times = changes::follow(schedules(), &waker, &console);
        tokio::join!(bots, times)
    };
    let orders = orders::keep(source.mongo.apart(), source.orders, &waker);
    let Some(address) = source.nats else {
        tokio::join!(index, changes, orders);
        return;
    };
    let writers = Writers {
        schedules: Writer::new(schedules()),
        bots: Writer::new(source.mongo.apart()),
    };
    let mut consumer = Consumer::new(address, &source.stack, writers, outside, progress);
    tokio::join!(index, changes, orders, consumer.run());
}

/// Sees to the indexes until they are there. A server that is away is told by whoever lists.
async fn index(mut writer: Writer, console: &Console) {
    let mut told = String::new();
    while let Err((what, failed)) = writer.index().await {
        if !failed.is_answer() {
            sleep(SOON).await;
            continue;
        }
        let text = format!("{what} is not made: {}", writer.why(&failed));
        if text != told {
            console.warn(&text);
        }
        told = text;
        sleep(LATER).await;
    }
}
