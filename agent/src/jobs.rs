//! Run-to-end jobs: the platform's backtests.
//!
//! ```text
//!   the0.backtest.created ──▶ backtest_runner.backtests ──▶ N at once, in the order they came ──▶ container or Pod
//!   (THE0_JOBS)                 (the queue)                                                          │ ends
//!   the0.backtest.completed ◀── told ◀── completed, failed, cancelled ◀── results/<id>/result.json ◀─┘
//! ```
//!
//! It ensures: a job is run at most once, whatever ends where, and its end is told once; the queue is the database, so it
//! outlives agents, MongoDB and Docker; a job has no state, nothing of it is in the bucket of states. [`decide`] says from
//! document and container what is next, [`verdict`] how a job came out, both from values alone; [`runner`] does it, at a
//! [`site`].

mod act;
pub mod commands;
pub mod decide;
pub mod document;
pub mod hand;
mod post;
mod runner;
pub mod site;
pub mod table;
pub mod turns;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::launch::Variables;
use tokio::sync::Notify;

use crate::bots::mongo::Mongo;
use crate::events::Address;
use crate::quantity;
use crate::store::Store;

/// The subject of a job that is asked for.
pub const CREATED: &str = "the0.backtest.created";
/// The subject of one that is not wanted any more.
pub const CANCELLED: &str = "the0.backtest.cancelled";
/// The subject of one that has ended.
pub const COMPLETED: &str = "the0.backtest.completed";

/// What the operator sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Jobs that run at once.
    pub at_once: usize,
    /// How long one may run.
    pub time: Duration,
    /// Bytes that a result may have.
    pub most: u64,
    /// The bucket of results.
    pub bucket: String,
}

/// What is needed to run jobs.
#[derive(Debug)]
pub struct Source {
    /// Where NATS is, if jobs come from there.
    pub nats: Option<Address>,
    /// The database, over a connection of our own.
    pub mongo: Mongo,
    /// Where they run.
    pub site: site::Site,
    /// Where results go.
    pub store: Store,
    /// What the operator sets.
    pub settings: Settings,
}

impl Settings {
    /// Reads the agent's environment.
    ///
    /// # Errors
    /// The variable that cannot be used.
    pub fn parse(given: &Variables) -> Result<Self> {
        let get = |name: &str| given.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
        let at_once = match get("THE0_JOBS").map(str::parse) {
            None => 2,
            Some(Ok(count)) if (1..=1000).contains(&count) => count,
            Some(_) => {
                bail!("THE0_JOBS is no number from 1 to 1000: give how many jobs run at once")
            }
        };
        let time = get("THE0_JOB_TIME").unwrap_or("1h");
        let time = humantime::parse_duration(time)
            .context("THE0_JOB_TIME: give a duration as in 30m or 2h")?;
        let most = get("THE0_JOB_RESULT").unwrap_or("16Mi");
        let most = quantity::memory(&most.into()).context("THE0_JOB_RESULT")?;
        if most > 256 << 20 {
            bail!("THE0_JOB_RESULT is more than 256Mi, which an agent does not carry: give less");
        }
        Ok(Self {
            at_once,
            time,
            most,
            bucket: get("MINIO_RESULTS_BUCKET").unwrap_or("results").to_owned(),
        })
    }
}

/// The queue, and who has a turn.
#[derive(Debug)]
pub struct Queue {
    /// The jobs.
    pub table: table::Table,
    /// Who has a turn.
    pub turns: turns::Turns,
}

/// Starts to run jobs, in the runtime of the caller and for as long as that lives; gives the queue to look at.
pub fn start(source: Source) -> Queue {
    let wake = Arc::new(Notify::new());
    let table = table::Table::new(source.mongo);
    let post = source.nats.map(|address| {
        let post = post::Post::new(address, &source.site, table.share(), Arc::clone(&wake));
        let office = post.office();
        tokio::spawn(post.run());
        office
    });
    let queue = Queue {
        table: table.share(),
        turns: turns::Turns::default(),
    };
    let runner = runner::Runner::new(
        source.site,
        source.store,
        source.settings,
        table,
        post,
        (wake, queue.turns.clone()),
    );
    tokio::spawn(runner.run());
    queue
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<Settings> {
        Settings::parse(&[(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn settings_have_defaults_and_refusals_name_the_variable() {
        let default = Settings::parse(&Variables::new()).unwrap();
        assert_eq!((default.at_once, default.time.as_secs()), (2, 3600));
        assert_eq!(
            (default.most, default.bucket.as_str()),
            (16 << 20, "results")
        );
        assert_eq!(parse("THE0_JOBS", "5").unwrap().at_once, 5);
        for (name, value) in [
            ("THE0_JOBS", "0"),
            ("THE0_JOBS", "many"),
            ("THE0_JOB_TIME", "soon"),
            ("THE0_JOB_RESULT", "lots"),
            ("THE0_JOB_RESULT", "1Gi"),
        ] {
            let text = format!("{:#}", parse(name, value).unwrap_err());
            assert!(text.starts_with(name), "{text}");
        }
    }
}
