//! Follows one container: what its bot prints goes to the bot's subject, from where the last agent left off.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::{LogsOptions, LogsOptionsBuilder};
use contract::BotId;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::chunk::{Chunk, LONGEST, Lines, Source, stamped, subject};
use super::{LIFE, STREAM, open};
use crate::events::pause;
use crate::health::Board;

/// How long lines are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(25);
/// How long is waited for an answer of NATS.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of a message that are not lines: marker, subject, headers.
const AROUND: usize = 4096;

/// The container lines are of.
const CONTAINER: &str = "The0-Container";
/// When the last of them was printed.
const UNTIL: &str = "The0-Until";

/// What all followers share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The daemon.
    pub docker: Docker,
    /// Where lines go.
    pub nats: Context,
    /// Whether NATS is there.
    pub up: watch::Receiver<bool>,
    /// The largest message it takes.
    pub largest: usize,
    /// Where it is counted.
    pub board: Board,
}

/// One container.
#[derive(Debug)]
pub struct Follower {
    /// What it shares with others.
    pub shared: Shared,
    /// Whose container.
    pub bot: BotId,
    /// Its id.
    pub container: String,
    /// Whether it runs, as far as the agent knows.
    pub runs: watch::Receiver<bool>,
}

/// How far a container's lines are told.
type Mark = Option<String>;

impl Follower {
    /// Sends lines until the container has ended and all of its are sent. What goes wrong is tried again.
    pub async fn run(mut self) {
        let mut tries = 0;
        let mut mark = loop {
            self.wait_for_nats().await;
            match self.told().await {
                Ok(mark) => break mark,
                Err(_) => sleep(pause(tries)).await,
            }
            tries += 1;
        };
        tries = 0;
        loop {
            let before = mark.clone();
            // Only a look that begins when it has ended has seen all.
            let ran = *self.runs.borrow();
            let read = self.read(&mut mark).await;
            if read.is_ok() && !ran {
                return;
            }
            tries = if mark == before { tries + 1 } else { 0 };
            // A container that is gone has no lines.
            if !*self.runs.borrow() && tries > 3 {
                return;
            }
            sleep(pause(tries)).await;
        }
    }

    async fn wait_for_nats(&mut self) {
        let _ = self.shared.up.wait_for(|is_up| *is_up).await;
    }

    /// How far this container's lines are in the stream.
    async fn told(&self) -> Result<Mark> {
        let stream = timeout(ANSWER, open(&self.shared.nats)).await?;
        let stream = stream.map_err(|err| anyhow!("{err}"))?;
        let subject = subject(self.bot.as_str());
        let last = timeout(ANSWER, stream.get_last_raw_message_by_subject(&subject)).await?;
        match last {
            Ok(last) => {
                let header = |name| {
                    last.headers
                        .get(name)
                        .map(|value| value.as_str().to_owned())
                };
                let is_ours = header(CONTAINER).as_deref() == Some(self.container.as_str());
                Ok(header(UNTIL).filter(|_| is_ours))
            }
            Err(err) if err.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(err) => Err(err).context(STREAM),
        }
    }

    /// Sends what is printed behind `mark` until the daemon says that there is no more.
    async fn read(&mut self, mark: &mut Mark) -> Result<()> {
        let docker = self.shared.docker.clone().negotiate_version().await?;
        let skipped = mark.clone();
        let mut log = std::pin::pin!(docker.logs(&self.container, Some(options())));
        let longest = LONGEST.min(self.shared.largest.saturating_sub(AROUND) / 2);
        let mut lines = Lines::new(longest);
        loop {
            if lines.is_full() {
                self.send(&mut lines, mark).await;
            }
            let next = if lines.is_empty() {
                log.next().await
            } else if let Ok(next) = timeout(GATHER, log.next()).await {
                next
            } else {
                self.send(&mut lines, mark).await;
                continue;
            };
            let Some(piece) = next else { break };
            let (source, message) = match piece? {
                LogOutput::StdOut { message } => (Source::Output, message),
                LogOutput::StdErr { message } => (Source::Error, message),
                LogOutput::StdIn { .. } | LogOutput::Console { .. } => continue,
            };
            let Some((stamp, printed)) = stamped(&message) else {
                continue;
            };
            if skipped.as_deref().is_none_or(|told| stamp > told) {
                lines.push(source, stamp, printed);
            }
        }
        lines.finish();
        self.send(&mut lines, mark).await;
        Ok(())
    }

    /// Sends the whole lines there are, once, however long that takes.
    async fn send(&mut self, lines: &mut Lines, mark: &mut Mark) {
        let Some(chunk) = lines.take() else { return };
        for tries in 0.. {
            self.wait_for_nats().await;
            if let Ok(Ok(())) = timeout(ANSWER, self.publish(&chunk)).await {
                break;
            }
            sleep(pause(tries)).await;
        }
        let (bytes, cut) = (chunk.text.len(), chunk.cut);
        self.shared.board.count(|metrics| metrics.live(bytes, cut));
        *mark = Some(chunk.until);
    }

    async fn publish(&self, chunk: &Chunk) -> Result<()> {
        let mut headers = HeaderMap::new();
        let id = format!("{}-{}", self.container, chunk.until);
        headers.insert("Nats-Msg-Id", id);
        headers.insert(CONTAINER, self.container.as_str());
        headers.insert(UNTIL, chunk.until.as_str());
        let subject = subject(self.bot.as_str());
        let sent =
            self.shared
                .nats
                .publish_with_headers(subject, headers, chunk.text.clone().into());
        if let Err(err) = sent.await?.await {
            // The stream may have been taken away.
            open(&self.shared.nats)
                .await
                .map_err(|err| anyhow!("{err}"))?;
            return Err(err.into());
        }
        Ok(())
    }
}

/// All that a bot has printed and prints, as far back as the stream keeps it.
fn options() -> LogsOptions {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = now.unwrap_or_default().saturating_sub(LIFE).as_secs();
    LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .follow(true)
        .timestamps(true)
        .since(i32::try_from(since).unwrap_or(0))
        .build()
}
