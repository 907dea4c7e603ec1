//! Keeps people's words in the database, beside the lease: `{_id: "orders", beat, switch: {off, at}, bots: {<id>: {off, at}}}`.
//!
//! Each round reads it, adds what is later here, and writes that on condition that nobody has written meanwhile. What a
//! minority of a replica set has said counts for nothing. A document, or a part of it, that somebody has spoilt is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::BotId;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{CollectionOptions, ReadConcern, WriteConcern};
use mongodb::{Client, Collection};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::{Orders, Word};
use crate::bots::mongo::{Failed, Mongo};
use crate::health::jitter;
use crate::lister::Waker;

/// The document's place beside the lease.
const PLACE: (&str, &str) = ("the0", "orders");
/// Time between two looks when nothing is said here.
const PAUSE: Duration = Duration::from_secs(3);
/// The pause after no answer.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is tried in a row when others write at the same time.
const TRIES: usize = 5;
const DUPLICATE: i32 = 11_000;

/// The end at which the database is asked.
#[derive(Debug)]
pub struct Link {
    /// What is known here.
    pub ours: watch::Receiver<Orders>,
    /// What the database had last.
    pub theirs: watch::Sender<Option<Seen>>,
    /// It should be asked at once.
    pub look: Arc<Notify>,
}

/// What the database has, with all that is known here.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The words.
    pub orders: Orders,
    /// When it was asked.
    pub asked: Instant,
}

/// Keeps the database and the loop in step, until the loop is gone.
pub async fn keep(mut mongo: Mongo, mut link: Link, waker: &Waker) {
    loop {
        let asked = Instant::now();
        let ours = link.ours.borrow_and_update().clone();
        let pause = match round(&mut mongo, &ours).await {
            Ok(orders) => {
                let before = link.theirs.send_replace(Some(Seen {
                    orders: orders.clone(),
                    asked,
                }));
                let is_new = before.is_none_or(|before| before.orders != orders);
                if is_new {
                    waker.wake();
                }
                PAUSE
            }
            // That it is away is told with the lease.
            Err(_) => AGAIN,
        };
        tokio::select! {
            said = link.ours.changed() => if said.is_err() { return },
            () = link.look.notified() => {}
            () = sleep(jitter(pause)) => {}
        }
    }
}

async fn round(mongo: &mut Mongo, ours: &Orders) -> Result<Orders, Failed> {
    let patience = mongo.deadlines().answer;
    let client = mongo.connect().await?;
    let database = &mongo.place().database;
    Ok(timeout(patience, add(&client, database, ours)).await??)
}

/// What a database of agents has.
///
/// # Errors
/// What it answers.
pub async fn known(client: &Client, database: &str) -> Result<Orders, Error> {
    let table = table(client, database);
    let found = table.find_one(doc! { "_id": PLACE.1 }).await?;
    Ok(found.as_ref().map(read).unwrap_or_default())
}

/// Adds these words to what it has; gives all.
///
/// # Errors
/// What it answers, or that others write all the time.
pub async fn add(client: &Client, database: &str, ours: &Orders) -> Result<Orders, Error> {
    step(&table(client, database), ours).await
}

fn table(client: &Client, database: &str) -> Collection<Document> {
    let options = CollectionOptions::builder()
        .read_concern(ReadConcern::majority())
        .write_concern(WriteConcern::majority())
        .build();
    let database = client.database(database);
    database.collection_with_options(PLACE.0, options)
}

async fn step(table: &Collection<Document>, ours: &Orders) -> Result<Orders, Error> {
    for _ in 0..TRIES {
        let found = table.find_one(doc! { "_id": PLACE.1 }).await?;
        let theirs = found.as_ref().map(read).unwrap_or_default();
        let both = ours.clone().merged(&theirs);
        if both == theirs || write(table, &both, found.as_ref()).await? {
            return Ok(both);
        }
    }
    Err(Error::custom("others write at the same time"))
}

/// Whether it was written: it was not, when it was not any more as it was `found`.
async fn write(
    table: &Collection<Document>,
    orders: &Orders,
    found: Option<&Document>,
) -> Result<bool, Error> {
    let beat = found.map(|found| found.get("beat").cloned().unwrap_or(Bson::Null));
    let next = beat.as_ref().and_then(Bson::as_i64).unwrap_or(0) + 1;
    let mut document = written(orders);
    document.insert("beat", next);
    let Some(beat) = beat else {
        document.insert("_id", PLACE.1);
        return match table.insert_one(document).await {
            Ok(_) => Ok(true),
            Err(err) if is_duplicate(&err) => Ok(false),
            Err(err) => Err(err),
        };
    };
    let same = doc! { "_id": PLACE.1, "beat": beat };
    let done = table.replace_one(same, document).await?;
    Ok(done.matched_count > 0)
}

fn is_duplicate(err: &Error) -> bool {
    matches!(
        err.kind.as_ref(),
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE
    )
}

fn written(orders: &Orders) -> Document {
    let word = |word: &Word| {
        let at = i64::try_from(word.at).unwrap_or(i64::MAX);
        doc! { "off": word.off, "at": DateTime::from_millis(at) }
    };
    let bots = orders.bots.iter();
    let bots: Document = bots
        .map(|(bot, said)| (bot.to_string(), Bson::from(word(said))))
        .collect();
    let mut document = doc! { "bots": bots };
    if let Some(said) = &orders.switch {
        document.insert("switch", word(said));
    }
    document
}

fn read(document: &Document) -> Orders {
    let word = |found: &Bson| {
        let found = found.as_document()?;
        let at = found.get_datetime("at").ok()?.timestamp_millis();
        Some(Word {
            at: u64::try_from(at).ok()?,
            off: found.get_bool("off").ok()?,
        })
    };
    let bots = document.get_document("bots").into_iter().flatten();
    let bots = bots.filter_map(|(id, said)| Some((id.parse::<BotId>().ok()?, word(said)?)));
    Orders {
        switch: document.get("switch").and_then(word),
        bots: bots.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ::tests::servers::mongo;
    use ::tests::wait_for;
    use contract::Secret;

    use super::*;
    use crate::bots::mongo::{Deadlines, Place};
    use crate::orders::desk::Desk;
    use crate::plan::Switch;

    #[test]
    fn what_is_written_is_read_and_what_was_spoilt_is_left_out() {
        let mut orders = Orders::default();
        let bots = ["a", "b-c_D"].map(|id| id.parse().unwrap());
        orders.say(&bots.into(), Switch::Off, 1_700_000_000_000);
        let mut document = written(&orders);
        assert_eq!(read(&document), orders);
        document.insert("switch", "off");
        document.insert("bots", doc! { "a": 1, "!": written(&orders) });
        assert_eq!(read(&document), Orders::default());
    }

    /// An agent's desk, whose words a thread takes to the server and back.
    struct Agent {
        desk: Desk,
        data: tempfile::TempDir,
    }

    impl Agent {
        fn of(server: &mongo::Mongo) -> Self {
            let data = tempfile::tempdir().unwrap();
            let (desk, link) = Desk::open(data.path()).unwrap();
            let uri = Secret::new(server.uri());
            let mongo = Mongo::new(&uri, Place::default(), Deadlines::default()).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            std::thread::spawn(move || runtime.block_on(keep(mongo, link, &Waker::default())));
            Self { desk, data }
        }

        fn comes_to(&mut self, stopped: &[&str], switch: Switch) {
            let wanted = (bots(stopped), switch);
            wait_for("a word that was said elsewhere", LONG, || {
                self.desk.take().unwrap();
                ((self.desk.stopped(), self.desk.switch()) == wanted).then_some(())
            });
        }

        fn say(&mut self, stopped: &[&str], switch: Switch) {
            self.desk.say(&bots(stopped), switch).unwrap();
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    fn bots(names: &[&str]) -> BTreeSet<BotId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_said_to_one_agent_is_known_to_all_of_the_database() {
        let Some(mut server) = mongo::Mongo::start() else {
            return;
        };
        let (mut one, mut two) = (Agent::of(&server), Agent::of(&server));
        let begun = Instant::now();
        wait_for("the first look", LONG, || {
            one.desk.take().unwrap();
            one.desk.is_known_since(begun).then_some(())
        });
        assert!(server.all("bot_runner.the0").is_empty(), "nothing was said");
        one.say(&["a"], Switch::Off);
        two.comes_to(&["a"], Switch::Off);
        two.say(&["a", "b"], Switch::On);
        one.comes_to(&["a", "b"], Switch::On);

        server.stop();
        one.say(&["b"], Switch::On);
        two.say(&["a", "b"], Switch::Off);
        server.start_again();
        one.comes_to(&["b"], Switch::Off);
        two.comes_to(&["b"], Switch::Off);
        Agent::of(&server).comes_to(&["b"], Switch::Off);
        let (kept, _) = Desk::open(one.data.path()).unwrap();
        assert_eq!((kept.stopped(), kept.switch()), (bots(&["b"]), Switch::Off));
    }

    #[test]
    fn words_that_are_said_at_one_time_are_all_kept() {
        let Some(server) = mongo::Mongo::start() else {
            return;
        };
        let mut agents: Vec<Agent> = (0..5).map(|_| Agent::of(&server)).collect();
        for (n, agent) in agents.iter_mut().enumerate() {
            agent.say(&[&format!("b{n}")], Switch::On);
        }
        for agent in &mut agents {
            agent.comes_to(&["b0", "b1", "b2", "b3", "b4"], Switch::On);
        }
    }
}
