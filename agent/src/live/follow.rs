//! Follows what one bot prints somewhere: it goes to the bot's subject, from where the last agent left off.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use contract::BotId;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::chunk::{Chunk, LONGEST, Lines, subject};
use super::printer::Life;
use super::reader::{Look, Printed, Reader};
use super::{STREAM, open};
use crate::events::pause;
use crate::health::Board;

/// How long lines are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(25);
/// How long is waited for an answer of NATS.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of a message that are not lines: marker, subject, headers.
const AROUND: usize = 4096;

/// What they are marked with: the id of the container, or of the Pod.
const CONTAINER: &str = "The0-Container";
/// When the last of them was printed.
const UNTIL: &str = "The0-Until";

/// What all followers share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Who keeps what is printed.
    pub reader: Reader,
    /// Where lines go.
    pub nats: Context,
    /// Whether NATS is there.
    pub up: watch::Receiver<bool>,
    /// The largest message it takes.
    pub largest: usize,
    /// Where it is counted.
    pub board: Board,
}

/// Of one container or Pod.
#[derive(Debug)]
pub struct Follower {
    /// What it shares with others.
    pub shared: Shared,
    /// Whose it is.
    pub bot: BotId,
    /// What its lines are marked with.
    pub id: String,
    /// What it is asked for by.
    pub name: String,
    /// How far it is, as far as the agent knows.
    pub life: watch::Receiver<Life>,
}

/// How far its lines are told.
type Mark = Option<String>;

/// How a look has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that was there is read.
    All,
    /// It was others' turn.
    Turn,
    /// It failed.
    Failed,
}

impl Follower {
    /// Sends lines until whoever prints them has ended and all are sent. What goes wrong is tried again.
    pub async fn run(mut self) {
        let _ = self.life.wait_for(|life| *life != Life::Coming).await;
        let mut mark = self.known().await;
        let (mut tries, mut last) = (0, None);
        loop {
            // Only a look that begins when it has ended has seen all.
            let life = *self.life.borrow_and_update();
            let before = mark.clone();
            let read = self.read(&mut mark, life, looks_back(life, last)).await;
            let end = read.unwrap_or(End::Failed);
            last = Some((life, end));
            tries = if mark == before { tries + 1 } else { 0 };
            let now = *self.life.borrow();
            match (end, now) {
                (End::All, _) if life == Life::Over => return,
                // Whoever is gone has no lines.
                (End::Failed, Life::Over) if tries > 3 => return,
                (End::Turn, _) => {}
                (End::All, Life::Rests(_)) if now == life => {
                    let _ = self.life.changed().await;
                }
                _ => self.pause(tries).await,
            }
        }
    }

    /// Waits for a while, or until more is known.
    async fn pause(&mut self, tries: u32) {
        let pause = sleep(pause(tries));
        tokio::select! {
            () = pause => {}
            Ok(()) = self.life.changed() => {}
        }
    }

    /// How far the lines are in the stream, however long it takes to know that.
    async fn known(&mut self) -> Mark {
        for tries in 0.. {
            self.wait_for_nats().await;
            if let Ok(mark) = self.told().await {
                return mark;
            }
            sleep(pause(tries)).await;
        }
        None
    }

    async fn wait_for_nats(&mut self) {
        let _ = self.shared.up.wait_for(|is_up| *is_up).await;
    }

    /// How far they are in the stream.
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
                let is_ours = header(CONTAINER).as_deref() == Some(self.id.as_str());
                Ok(header(UNTIL).filter(|_| is_ours))
            }
            Err(err) if err.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(err) => Err(err).context(STREAM),
        }
    }

    /// Sends what is printed behind `mark` until there is no more, or it is others' turn.
    async fn read(&mut self, mark: &mut Mark, life: Life, looks_back: bool) -> Result<End> {
        let mut turn = self.shared.reader.turn().await;
        let skipped = mark.clone();
        let look = Look {
            name: &self.name,
            id: &self.id,
            life,
            since: skipped.as_deref(),
            looks_back,
        };
        let mut log = self.shared.reader.read(look).await?;
        let longest = LONGEST.min(self.shared.largest.saturating_sub(AROUND) / 2);
        let mut lines = Lines::new(longest);
        let mut over = pin!(turn.over());
        loop {
            if lines.is_full() {
                self.send(&mut lines, mark).await;
            }
            let next = tokio::select! {
                biased;
                () = &mut over => break,
                next = log.next() => next,
                () = sleep(GATHER), if !lines.is_empty() => {
                    self.send(&mut lines, mark).await;
                    continue;
                }
            };
            match next.transpose()? {
                Some(Printed::Piece {
                    source,
                    stamp,
                    bytes,
                }) => {
                    if skipped.as_deref().is_none_or(|told| stamp.as_str() > told) {
                        lines.push(source, &stamp, &bytes);
                    }
                }
                Some(Printed::End) => lines.finish(),
                None => {
                    self.send(&mut lines, mark).await;
                    return Ok(End::All);
                }
            }
        }
        self.send(&mut lines, mark).await;
        Ok(End::Turn)
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
        let id = format!("{}-{}", self.id, chunk.until);
        headers.insert("Nats-Msg-Id", id);
        headers.insert(CONTAINER, self.id.as_str());
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

/// Whether a life before `now` may have lines that no look has seen; `last` is the last one.
fn looks_back(now: Life, last: Option<(Life, End)>) -> bool {
    match last {
        None => now != Life::Runs(0),
        Some((then, End::Turn)) => now.restarts() != then.restarts(),
        // What is known of restarts may be late.
        Some((_, End::All | End::Failed)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_before_is_looked_at_unless_it_is_known_that_nothing_of_it_is_missing() {
        let runs = Life::Runs;
        let rows = [
            (runs(0), None, false),
            (runs(1), None, true),
            (Life::Over, None, true),
            (runs(1), Some((runs(1), End::Turn)), false),
            (runs(2), Some((runs(1), End::Turn)), true),
            (runs(1), Some((runs(1), End::All)), true),
            (runs(0), Some((runs(0), End::Failed)), true),
        ];
        for (now, last, expected) in rows {
            assert_eq!(looks_back(now, last), expected, "{now:?} after {last:?}");
        }
    }
}
