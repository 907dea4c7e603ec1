//! Run-to-end jobs: looked at and cancelled in the database, whichever agent acts.

use contract::BotId;
use tokio::sync::oneshot::Sender;

use crate::bots::mongo::Failed;
use crate::jobs::document::Job;
use crate::jobs::table::Table;
use crate::reconcile::World;

/// Why there is no answer about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoJob {
    /// There is none of that id, or no database for jobs.
    Nowhere(String),
    /// It has ended already.
    Over(String),
    /// The database does not answer.
    Away(String),
}

/// The latest `count`.
pub fn list(world: &World, count: usize, to: Sender<Result<Vec<Job>, NoJob>>) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    ask(world, to, |mut table| async move {
        let found = table.latest(count).await;
        found.map_err(|failed| away(&table, &failed))
    });
}

/// One.
pub fn show(world: &World, id: String, to: Sender<Result<Job, NoJob>>) {
    ask(
        world,
        to,
        |mut table| async move { find(&mut table, &id).await },
    );
}

/// Cancels one; it is answered how it is then.
pub fn cancel(world: &World, id: String, to: Sender<Result<Job, NoJob>>) {
    ask(world, to, |mut table| async move {
        let job = find(&mut table, &id).await?;
        let was = table.cancel(&job.id).await;
        let was = was.map_err(|failed| away(&table, &failed))?;
        match was {
            Some(was) if was.is_final() => {
                Err(NoJob::Over(format!("it has ended already: {}", was.name())))
            }
            _ => find(&mut table, &id).await,
        }
    });
}

fn ask<T, F>(world: &World, to: Sender<Result<T, NoJob>>, work: impl FnOnce(Table) -> F)
where
    T: Send + 'static,
    F: Future<Output = Result<T, NoJob>> + Send + 'static,
{
    let Some(queue) = &world.jobs else {
        let why = "this agent has no jobs: they are in the database of MONGO_URI";
        return drop(to.send(Err(NoJob::Nowhere(why.to_owned()))));
    };
    let work = work(queue.table.share());
    tokio::spawn(async move { drop(to.send(work.await)) });
}

async fn find(table: &mut Table, id: &str) -> Result<Job, NoJob> {
    let nobody = || {
        NoJob::Nowhere(format!(
            "there is no job {id:?}: GET /v1/jobs tells the latest"
        ))
    };
    let id: BotId = id.parse().map_err(|_| nobody())?;
    let found = table.job(&id).await;
    found
        .map_err(|failed| away(table, &failed))?
        .ok_or_else(nobody)
}

fn away(table: &Table, failed: &Failed) -> NoJob {
    NoJob::Away(format!("mongodb: {}", table.why(failed)))
}
