//! The database of bots, schedules and jobs: whether it answers, keeps what it acknowledges, and lets the agent read and
//! write.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use contract::{Runtime, Secret};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::WriteConcern;
use tokio::time::timeout;

use super::sheet::{Part, Sheet};
use super::{ANSWER, Needs};
use crate::bots::both::Both;
use crate::bots::mongo::{Deadlines, Mongo, Place};
use crate::bots::{Listing, Offer};

const MONGO: Part = Part::Mongo;
/// The agent's own collection beside the bots'.
const OWN: &str = "the0";
/// Where jobs are.
const JOBS: (&str, &str) = ("backtest_runner", "backtests");
/// What is found of rights that are there.
const RIGHTS: &str = "reads and writes, kept by most members";
/// Ids that are told of several documents with the same.
const TOLD: i64 = 5;

/// There is no address.
pub fn unset(sheet: &RefCell<Sheet>) {
    sheet.borrow_mut().failed(
        MONGO,
        "address",
        "MONGO_URI is not set",
        "give the database of bots, or a folder of them with --bots",
    );
}

/// Looks at the database at `uri`; notes in `needs` what its bots want.
pub async fn look(uri: &Secret, sheet: &RefCell<Sheet>, needs: &RefCell<Needs>) {
    let deadlines = Deadlines {
        server: ANSWER,
        answer: ANSWER,
    };
    let place = Place::default();
    let mut mongo = match Mongo::new(uri, place.clone(), deadlines) {
        Ok(mongo) => mongo,
        Err(err) => {
            let remedy = "correct MONGO_URI";
            return sheet
                .borrow_mut()
                .failed(MONGO, "address", err.to_string(), remedy);
        }
    };
    let Some(client) = server(&mut mongo, sheet).await else {
        return;
    };
    let asked = Asked {
        mongo: &mongo,
        client: &client,
        place: &place,
        sheet,
    };
    let bots = asked.write(&place.database).await;
    let times = asked.write(&Place::schedules().database).await;
    let jobs = asked.write(JOBS.0).await;
    asked.rights(bots, times);
    asked.jobs(jobs).await;
    asked.index().await;
    match Both::new(mongo.apart()).list().await {
        Ok(listing) => documents(&listing, &mut sheet.borrow_mut(), &mut needs.borrow_mut()),
        Err(err) => {
            let remedy = "grant its user the role readWrite on bot_runner";
            sheet
                .borrow_mut()
                .failed(MONGO, "documents", err.to_string(), remedy);
        }
    }
}

/// Whether it answers and knows its user, and what it is.
async fn server(mongo: &mut Mongo, sheet: &RefCell<Sheet>) -> Option<Client> {
    let asked = async {
        let client = mongo.client().await?;
        let admin = client.database("admin");
        let hello = admin.run_command(doc! {"hello": 1}).await;
        let hello = hello.map_err(|err| mongo.explain(err))?;
        let build = admin.run_command(doc! {"buildInfo": 1}).await;
        Ok::<_, String>((client, hello, build.ok()))
    };
    let told = match timeout(ANSWER + Duration::from_secs(1), asked).await {
        Err(late) => Err(mongo.explain(late)),
        Ok(told) => told,
    };
    match told {
        Err(why) => {
            let found = format!("{}: {why}", mongo.name());
            let remedy = "as it says; bots that run go on without it, changes wait";
            sheet.borrow_mut().failed(MONGO, "server", found, remedy);
            None
        }
        Ok((client, hello, build)) => {
            let version = build
                .as_ref()
                .and_then(|build| build.get_str("version").ok());
            let found = format!("{}, version {}", mongo.name(), version.unwrap_or("unknown"));
            sheet.borrow_mut().ok(MONGO, "server", found);
            topology(&hello, &mut sheet.borrow_mut());
            Some(client)
        }
    }
}

/// Pure.
fn topology(hello: &Document, sheet: &mut Sheet) {
    if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        return sheet.ok(MONGO, "topology", "sharded cluster, with change streams");
    }
    match (hello.get_str("setName"), hello.get_array("hosts")) {
        (Ok(set), hosts) => {
            let members = hosts.map_or(0, Vec::len);
            let found = format!("replica set {set}, {members} members, with change streams");
            sheet.ok(MONGO, "topology", found);
        }
        _ => sheet.warning(
            MONGO,
            "topology",
            "a server of its own, without change streams",
            "changes are seen at the next look only, and a lost disk is lost bots: make it a replica set, of one even",
        ),
    }
}

struct Asked<'a> {
    mongo: &'a Mongo,
    client: &'a Client,
    place: &'a Place,
    sheet: &'a RefCell<Sheet>,
}

impl Asked<'_> {
    /// Writes a document of its own so that most members have it, and takes it away; else why it cannot.
    async fn write(&self, database: &str) -> Result<(), String> {
        let collection = self.client.database(database).collection(OWN);
        let id = format!("doctor-{}-{}", std::process::id(), super::signed::random());
        let mut most = WriteConcern::majority();
        most.w_timeout = Some(ANSWER.saturating_sub(Duration::from_secs(1)));
        let tried = async {
            let insert = collection.insert_one(doc! {"_id": &id}).write_concern(most);
            let written = insert.await;
            let gone = collection.delete_one(doc! {"_id": &id}).await;
            written.map_err(|err| self.mongo.explain(err))?;
            gone.map(drop).map_err(|err| self.mongo.explain(err))
        };
        let tried = match timeout(ANSWER, tried).await {
            Err(late) => Err(self.mongo.explain(late)),
            Ok(tried) => tried,
        };
        tried.map_err(|why| {
            format!("{database}.{OWN} cannot be written so that most members have it: {why}")
        })
    }

    /// Without schedules there may still be bots.
    fn rights(&self, bots: Result<(), String>, schedules: Result<(), String>) {
        let mut sheet = self.sheet.borrow_mut();
        match bots {
            Ok(()) => sheet.ok(MONGO, "rights", RIGHTS),
            Err(why) => sheet.failed(
                MONGO,
                "rights",
                why,
                "grant its user the role readWrite on bot_runner, and have most members of the set up",
            ),
        }
        match schedules {
            Ok(()) => sheet.ok(MONGO, "schedules", RIGHTS),
            Err(why) => sheet.warning(
                MONGO,
                "schedules",
                why,
                "grant its user the role readWrite on bot_scheduler; until then no bot runs at times",
            ),
        }
    }

    /// The same of jobs, and how many there are.
    async fn jobs(&self, rights: Result<(), String>) {
        let jobs = self.client.database(JOBS.0).collection::<Document>(JOBS.1);
        let count = |status: &str| {
            jobs.count_documents(doc! {"status": status})
                .max_time(ANSWER)
        };
        let counted = async { Ok((count("queued").await?, count("running").await?)) };
        let counted = match (rights, timeout(ANSWER, counted).await) {
            (Err(why), _) => Err(why),
            (_, Err(late)) => Err(self.mongo.explain(late)),
            (_, Ok(counted)) => {
                counted.map_err(|err: mongodb::error::Error| self.mongo.explain(err))
            }
        };
        let mut sheet = self.sheet.borrow_mut();
        match counted {
            Ok((queued, running)) => {
                sheet.ok(MONGO, "jobs", format!("{RIGHTS}; {queued} wait, {running} run"));
            }
            Err(why) => sheet.warning(
                MONGO,
                "jobs",
                why,
                "grant its user the role readWrite on backtest_runner; until then no run-to-end job runs",
            ),
        }
    }

    /// Whether one id is one document.
    async fn index(&self) {
        let asked = async { Ok((self.is_unique().await?, self.doubles().await?)) };
        let asked = match timeout(ANSWER, asked).await {
            Err(late) => Err(self.mongo.explain(late)),
            Ok(asked) => asked.map_err(|err: mongodb::error::Error| self.mongo.explain(err)),
        };
        let mut sheet = self.sheet.borrow_mut();
        match asked {
            Err(why) => sheet.warning(
                MONGO,
                "ids",
                why,
                "grant its user the role readWrite on bot_runner",
            ),
            Ok((_, doubles)) if !doubles.is_empty() => sheet.failed(
                MONGO,
                "ids",
                format!("several documents have the id {}", doubles.join(", ")),
                "remove all but one of each, as in db.bots.deleteOne({_id: ..}): nobody can say which is meant, none of them \
                 runs, and the agent cannot make its unique index",
            ),
            Ok((true, _)) => sheet.ok(MONGO, "ids", "one document each, by a unique index"),
            Ok((false, _)) => sheet.warning(
                MONGO,
                "ids",
                "no unique index on id yet",
                "nothing, if its user has the role readWrite: the agent makes it at its start",
            ),
        }
    }

    async fn is_unique(&self) -> Result<bool, mongodb::error::Error> {
        let database = self.client.database(&self.place.database);
        let listed = database
            .run_command(doc! {"listIndexes": &self.place.collection})
            .await;
        let listed = match listed {
            // There is no collection yet.
            Err(err) if matches!(*err.kind, mongodb::error::ErrorKind::Command(ref said) if said.code == 26) =>
            {
                return Ok(false);
            }
            other => other?,
        };
        let cursor = listed.get_document("cursor").ok();
        let batch = cursor.and_then(|cursor| cursor.get_array("firstBatch").ok());
        let indexes = batch
            .into_iter()
            .flatten()
            .filter_map(|index| index.as_document());
        let is_of_id = |index: &&Document| {
            index
                .get_document("key")
                .is_ok_and(|key| key.keys().eq(["id"]))
        };
        Ok(indexes
            .filter(is_of_id)
            .any(|index| index.get_bool("unique").unwrap_or(false)))
    }

    async fn doubles(&self) -> Result<Vec<String>, mongodb::error::Error> {
        let database = self.client.database(&self.place.database);
        let bots = database.collection::<Document>(&self.place.collection);
        let grouped = [
            doc! {"$match": {"id": {"$type": "string"}}},
            doc! {"$group": {"_id": "$id", "count": {"$sum": 1}}},
            doc! {"$match": {"count": {"$gt": 1}}},
            doc! {"$limit": TOLD},
        ];
        let mut found = bots.aggregate(grouped).max_time(ANSWER).await?;
        let mut ids = Vec::new();
        while found.advance().await? {
            let group = found.deserialize_current()?;
            ids.extend(group.get_str("_id").map(|id| format!("{id:?}")));
        }
        Ok(ids)
    }
}

/// What the listing tells. Pure.
fn documents(listing: &Listing, sheet: &mut Sheet, needs: &mut Needs) {
    let mut runtimes = BTreeSet::<Runtime>::new();
    let (mut enabled, mut unusable) = (0, Vec::new());
    for (id, listed) in &listing.bots {
        match &listed.offer {
            Offer::Bot(bot) if bot.enabled => {
                enabled += 1;
                runtimes.insert(bot.definition.runtime);
            }
            Offer::Unusable(why) => unusable.push((id, why)),
            _ => {}
        }
    }
    needs.bots = Some(enabled);
    needs.runtimes = Some(runtimes);
    let found = format!("{}, {enabled} of them to run", listing.bots.len());
    sheet.ok(MONGO, "documents", found);
    let said = unusable.iter().map(|(_, why)| (*why).clone());
    for why in said.chain(listing.remarks.iter().cloned()).take(5) {
        let remedy = "correct the document; the others are not harmed";
        sheet.warning(MONGO, "documents", why, remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Colours;

    #[test]
    fn a_replica_set_has_change_streams_and_a_server_of_its_own_has_not() {
        let said = |hello: Document| {
            let mut sheet = Sheet::default();
            topology(&hello, &mut sheet);
            sheet.table(Colours::Off)
        };
        assert!(said(doc! {"setName": "rs0", "hosts": ["a", "b"]}).contains("rs0, 2 members"));
        let alone = said(doc! {"ok": 1});
        assert!(
            alone.contains("warning") && alone.contains("replica set, of one"),
            "{alone}"
        );
        assert!(said(doc! {"msg": "isdbgrid"}).contains("sharded"));
    }
}
