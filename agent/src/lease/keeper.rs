//! Asks MongoDB about the lease, again and again, in a thread of its own, so that nothing else delays a renewal.

use std::io;
use std::pin::pin;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use contract::Secret;
use futures_util::StreamExt;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{ConnectionString, ReadConcern, WriteConcern};
use mongodb::{Client, Collection};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::claim::{Claim, Found, Mark, Step};
use super::{Identity, LASTS, Lease, PLACE, Standing, now};
use crate::bots::mongo::error::{BadUri, Failed, hidden};
use crate::bots::mongo::{Place, connect};
use crate::breaker::{Gate, Pace};
use crate::health::{Board, Dependency, jitter};
use crate::show::Console;

/// Time between two renewals, and between two looks of an agent that stands by.
const PAUSES: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(2)];
/// How it is asked again when there was no answer: soon, so that a short trouble costs nobody the lease.
const PACE: Pace = Pace {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(2),
    patience: PATIENCE[0],
};
/// How long is waited for an answer, and in it for a server that might give one.
const PATIENCE: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(3)];
/// How long the agent's end waits for the lease to be given back.
const FAREWELL: Duration = Duration::from_secs(3);
const DUPLICATE: i32 = 11_000;
const FORBIDDEN: i32 = 13;

/// Keeps the lease until it is told to end.
pub struct Keeper {
    address: ConnectionString,
    hidden: Vec<String>,
    database: String,
    me: Identity,
    lease: Lease,
    board: Board,
    console: Console,
    client: Option<Client>,
    claim: Claim,
    gate: Gate,
    told: Standing,
}

/// Ends the keeping.
#[derive(Debug)]
pub struct Handle {
    end: Option<oneshot::Sender<()>>,
    ended: Receiver<()>,
}

impl Handle {
    /// Gives the lease back, if the database answers soon. The agent must act no more.
    pub fn end(mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        let _ = self.ended.recv_timeout(FAREWELL + PACE.longest);
    }
}

impl Keeper {
    /// Will keep the lease of the database at `uri` for the agent `me`. Nothing is connected yet.
    ///
    /// # Errors
    /// The address is not one.
    pub fn new(uri: &Secret, me: Identity, board: Board, console: Console) -> Result<Self, BadUri> {
        let address = ConnectionString::parse(uri.reveal()).map_err(|err| BadUri::of(uri, &err))?;
        let gate = Gate::new(PACE);
        board.attach(Dependency::Mongodb, gate.clone());
        Ok(Self {
            gate,
            address,
            hidden: hidden(uri),
            database: Place::default().database,
            claim: Claim::new(me.holder.clone()),
            me,
            lease: Lease::shared(),
            board,
            console,
            client: None,
            told: Standing::Unknown,
        })
    }

    /// The right that it keeps.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Begins.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(mut self) -> io::Result<Handle> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (end, told) = oneshot::channel();
        let (done, ended) = mpsc::channel();
        let keep = move || {
            runtime.block_on(self.keep(told));
            let _ = done.send(());
        };
        thread::Builder::new().name("lease".into()).spawn(keep)?;
        let end = Some(end);
        Ok(Handle { end, ended })
    }

    async fn keep(&mut self, told: oneshot::Receiver<()>) {
        let mut told = pin!(told);
        loop {
            let round = async {
                let pause = self.round().await;
                tokio::time::sleep(pause).await;
            };
            tokio::select! {
                _ = &mut told => break,
                () = round => {}
            }
        }
        self.lease.drop_it(Standing::Unknown);
        // Who cannot be asked finds out by itself, after the lease's time.
        let _ = timeout(FAREWELL, self.give_back()).await;
    }

    /// Asks what there is to ask and gives the pause after it.
    async fn round(&mut self) -> Duration {
        // One try at a time: nobody else is there to be kept out.
        let _ = self.gate.enter();
        let mut next = Some(self.claim.first());
        while let Some(step) = next.take() {
            let asked = now();
            let done = match timeout(PATIENCE[0], self.ask(&step)).await {
                Ok(Ok(done)) => done,
                Ok(Err(err)) => return self.failed(&Failed::Driver(err)),
                Err(late) => return self.failed(&Failed::Late(late)),
            };
            next = self.take_in(&step, done, asked);
        }
        self.gate.succeeded();
        self.board.set(Dependency::Mongodb, Ok(()));
        jitter(PAUSES[usize::from(self.claim.first() == Step::Look)])
    }

    fn take_in(&mut self, step: &Step, done: Answer, asked: Duration) -> Option<Step> {
        match done {
            Answer::Found(found) => {
                let next = self.claim.looked(found.as_ref(), asked, now());
                if let (Some(found), None) = (found, &next) {
                    self.stand_by(found.host);
                }
                next
            }
            Answer::Written(is_ours) => {
                self.claim.written(is_ours, asked);
                if is_ours {
                    self.lease.hold(self.claim.until());
                    self.tell(Standing::Active);
                } else {
                    self.lease.drop_it(Standing::Unknown);
                }
                // Whose it is now is seen at once, unless somebody was quicker than we.
                (!is_ours && *step == Step::Renew).then_some(Step::Look)
            }
        }
    }

    fn stand_by(&mut self, host: String) {
        self.lease.drop_it(Standing::Standby(host.clone()));
        self.tell(Standing::Standby(host));
    }

    fn failed(&mut self, failed: &Failed) -> Duration {
        self.claim.failed();
        let why = match failed {
            Failed::Driver(err) if is_forbidden(err) => format!(
                "its user may not write to {}.{}: grant it the role `readWrite` on the database",
                self.database, PLACE.0
            ),
            failed => failed.why(&self.hidden),
        };
        self.lease.doubt(&why);
        if !self.lease.may_act() {
            self.tell(Standing::Lapsed(why.clone()));
        }
        let pause = self.gate.failed(&why);
        self.board.set(Dependency::Mongodb, Err(why));
        pause
    }

    /// Says what is new.
    fn tell(&mut self, now: Standing) {
        // Why the database is away is told with the listings.
        let same = |a: &Standing, b: &Standing| {
            a == b || matches!((a, b), (Standing::Lapsed(_), Standing::Lapsed(_)))
        };
        if same(&self.told, &now) {
            return;
        }
        match &now {
            Standing::Unknown => {}
            Standing::Active => self.console.say("this agent has the lease and acts"),
            Standing::Standby(host) => self.console.say(&format!(
                "the agent on {host} has the lease: this one stands by, and acts when that one ends"
            )),
            Standing::Lapsed(why) => self.console.warn(&format!(
                "no lease, so bots run on and none is started or stopped: {why}"
            )),
        }
        self.told = now;
    }

    async fn ask(&mut self, step: &Step) -> Result<Answer, Error> {
        let collection = self.collection().await?;
        match step {
            Step::Look => look(&collection).await.map(Answer::Found),
            Step::Renew => {
                let mine = doc! { "_id": PLACE.1, "holder": &self.me.holder };
                self.write(&collection, mine, false).await
            }
            Step::Take(Some(Mark { holder, beat })) => {
                let mut same = doc! { "_id": PLACE.1, "holder": holder, "beat": beat };
                if holder.is_empty() {
                    // It may be spoilt, and have no such fields.
                    same = doc! { "_id": PLACE.1, "holder": { "$in": ["", Bson::Null] } };
                    same.insert("beat", doc! { "$in": [beat, Bson::Null] });
                }
                self.write(&collection, same, false).await
            }
            Step::Take(None) => {
                let none = doc! { "_id": PLACE.1, "holder": { "$exists": false } };
                self.write(&collection, none, true).await
            }
        }
    }

    /// Makes it ours where it is as `is` says.
    async fn write(
        &self,
        collection: &Collection<Document>,
        is: Document,
        upsert: bool,
    ) -> Result<Answer, Error> {
        let (holder, host) = (&self.me.holder, &self.me.host);
        let lasts = i64::try_from(LASTS.as_millis()).unwrap_or(i64::MAX);
        let is_same = doc! { "$eq": ["$holder", holder] };
        let ours = doc! { "$set": {
            "holder": { "$literal": holder },
            "host": { "$literal": host },
            "beat": { "$add": [{ "$ifNull": ["$beat", 0_i64] }, 1_i64] },
            "since": { "$cond": [is_same, "$since", "$$NOW"] },
            "until": { "$add": ["$$NOW", lasts] },
        } };
        match collection.update_one(is, vec![ours]).upsert(upsert).await {
            Ok(done) => {
                let is_ours = done.matched_count > 0 || done.upserted_id.is_some();
                Ok(Answer::Written(is_ours))
            }
            // Somebody else has made it first.
            Err(err) if is_duplicate(&err) => Ok(Answer::Written(false)),
            Err(err) => Err(err),
        }
    }

    async fn give_back(&mut self) -> Result<(), Error> {
        let collection = self.collection().await?;
        let mine = doc! { "_id": PLACE.1, "holder": &self.me.holder };
        let back = doc! { "$set": {
            "holder": "", "beat": { "$add": ["$beat", 1_i64] }, "since": "$$NOW", "until": "$$NOW",
        } };
        collection.update_one(mine, vec![back]).await?;
        Ok(())
    }

    /// What a minority of a replica set has said could be taken back: it counts for nothing here.
    async fn collection(&mut self) -> Result<Collection<Document>, Error> {
        let client = if let Some(client) = &self.client {
            client.clone()
        } else {
            let client = connect(&self.address, PATIENCE[1]).await?;
            self.client.insert(client).clone()
        };
        let options = mongodb::options::CollectionOptions::builder()
            .read_concern(ReadConcern::majority())
            .write_concern(WriteConcern::majority())
            .build();
        let database = client.database(&self.database);
        Ok(database.collection_with_options(PLACE.0, options))
    }
}

enum Answer {
    Found(Option<Found>),
    Written(bool),
}

async fn look(collection: &Collection<Document>) -> Result<Option<Found>, Error> {
    let overdue = doc! { "$subtract": ["$$NOW", "$until"] };
    let fields = doc! { "holder": 1, "host": 1, "beat": 1, "overdue": overdue };
    let stages = [
        doc! { "$match": { "_id": PLACE.1 } },
        doc! { "$project": fields },
    ];
    let mut found = collection.aggregate(stages).await?;
    let found = found.next().await.transpose()?;
    Ok(found.as_ref().map(read))
}

/// A document that somebody has spoilt is one that was given back.
fn read(document: &Document) -> Found {
    let text = |name: &str| document.get_str(name).unwrap_or_default().to_owned();
    let overdue = document.get_i64("overdue").unwrap_or(0);
    Found {
        mark: Mark {
            holder: text("holder"),
            beat: document.get_i64("beat").unwrap_or(0),
        },
        host: text("host"),
        overdue: Duration::from_millis(overdue.try_into().unwrap_or(0)),
    }
}

fn is_duplicate(err: &Error) -> bool {
    matches!(
        err.kind.as_ref(),
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE
    )
}

fn is_forbidden(err: &Error) -> bool {
    matches!(err.kind.as_ref(), ErrorKind::Command(error) if error.code == FORBIDDEN)
}
