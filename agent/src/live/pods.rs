//! What the bots of Pods print, as the kubelets keep it: each life of a container by itself, and of these the present one
//! and the one before.
//!
//! ```text
//!   the life before ──▶ its end ──▶ the present one, as it goes on ──▶ its end: the Pod's watch tells what comes next
//! ```
//!
//! It ensures: of two lives nothing of the first is passed over for the second, which begins while nobody reads: the second
//! is asked for first, so what is then the life before is it or a later one. A stream that ends says nothing about the
//! container, because it ends alike when a kubelet or an API server does. Where there are more Pods than streams they take
//! turns: all are read, each later.

use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::io::Cursor;
use futures_util::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::LIFE;
use super::printer::Life;
use super::reader::{Look, Printed};
use super::stamps::{self, Stamps};
use crate::breaker::{Gate, State};
use crate::engine::kubernetes::{self, BOT, has_status, said};
use crate::show::Console;

/// What is read at a time.
const BOUNDS: Bounds = Bounds {
    streams: 500,
    turn: Duration::from_secs(30),
};
/// Streams that are asked for at once.
const ASKED: usize = 16;
/// Of a bot that prints nothing the API server gives no answer for now.
const QUIET: Duration = Duration::from_millis(250);
/// Time for an answer about what there is already.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes of a log that are told from each other at once: short lines take five times what they are.
const AT_ONCE: usize = 16 << 10;
/// Time between two looks whether the API server answers.
const AWAY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Streams at a time.
    streams: usize,
    /// How long one has a stream that others wait for.
    turn: Duration,
}

/// Reads the logs of a namespace.
pub struct Pods {
    api: Api<Pod>,
    /// Whether the API server answers.
    gate: Gate,
    bounds: Bounds,
    streams: Arc<Semaphore>,
    asked: Semaphore,
    /// Whether more are to be read than there are streams.
    crowd: watch::Sender<bool>,
    is_crowd_told: AtomicBool,
    is_refusal_told: AtomicBool,
    console: Console,
}

/// A turn at reading, which has an end or none.
#[derive(Debug)]
pub struct Turn(Option<Stream>);

/// A stream that one has, and for how long if others wait.
#[derive(Debug)]
struct Stream {
    _one: OwnedSemaphorePermit,
    crowd: watch::Receiver<bool>,
    time: Duration,
}

/// The log of one container.
pub struct Log {
    lives: VecDeque<One>,
    stamps: Stamps,
    printed: VecDeque<Printed>,
}

/// What one life has printed.
struct One {
    bytes: Bytes,
    /// Whether it is over, so that nothing can be missing at its end.
    is_over: bool,
}

type Text = Pin<Box<dyn AsyncBufRead + Send>>;
type Asked = Pin<Box<dyn Future<Output = Result<Text>> + Send>>;

enum Bytes {
    /// They are asked for.
    Asked(Asked),
    /// They come.
    Come(Text),
}

impl Pods {
    /// Those of a namespace.
    ///
    /// # Errors
    /// It is not known where the cluster is.
    pub async fn connect(namespace: &str, gate: Gate, console: Console) -> Result<Self> {
        let (client, _) = kubernetes::connect().await?;
        let api = Api::namespaced(client, namespace);
        Ok(Self::new(api, gate, console, BOUNDS))
    }

    fn new(api: Api<Pod>, gate: Gate, console: Console, bounds: Bounds) -> Self {
        Self {
            api,
            gate,
            bounds,
            streams: Arc::new(Semaphore::new(bounds.streams)),
            asked: Semaphore::new(ASKED),
            crowd: watch::channel(false).0,
            is_crowd_told: AtomicBool::new(false),
            is_refusal_told: AtomicBool::new(false),
            console,
        }
    }

    /// So many are to be read at once.
    pub fn expect(&self, count: usize) {
        let Bounds { streams, turn } = self.bounds;
        let is_crowd = count > streams;
        self.crowd.send_if_modified(|crowd| {
            let is_new = *crowd != is_crowd;
            *crowd = is_crowd;
            is_new
        });
        if is_crowd && !self.is_crowd_told.swap(true, Ordering::Relaxed) {
            self.console.say(&format!(
                "live logs: {count} Pods run and {streams} are read at a time, {} s each in turn: lines come later",
                turn.as_secs()
            ));
        }
    }

    /// Waits for a stream.
    pub async fn turn(&self) -> Turn {
        let stream = Arc::clone(&self.streams).acquire_owned().await;
        Turn(stream.ok().map(|one| Stream {
            _one: one,
            crowd: self.crowd.subscribe(),
            time: self.bounds.turn,
        }))
    }

    /// Begins to read.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub async fn read(self: &Arc<Self>, look: Look<'_>) -> Result<Log> {
        while self.gate.sight().state != State::Closed {
            sleep(AWAY).await;
        }
        let _few = self.asked.acquire().await?;
        self.meet(look).await?;
        let runs = matches!(look.life, Life::Runs(_));
        let params = LogParams {
            container: Some(BOT.to_owned()),
            follow: runs,
            timestamps: true,
            since_time: Some(stamps::second(look.since, SystemTime::now(), LIFE)),
            ..LogParams::default()
        };
        let before = LogParams {
            follow: false,
            previous: true,
            ..params.clone()
        };
        let mut present = self.ask(look.name, params);
        if let Ok(answer) = timeout(QUIET, &mut present).await {
            present = Box::pin(ready(answer));
        }
        let before = look.looks_back.then(|| One {
            bytes: Bytes::Asked(self.ask(look.name, before)),
            is_over: true,
        });
        let present = One {
            bytes: Bytes::Asked(present),
            is_over: !runs,
        };
        Ok(Log {
            lives: before.into_iter().chain([present]).collect(),
            stamps: Stamps::default(),
            printed: VecDeque::new(),
        })
    }

    /// Makes sure that the name is that Pod's still: a log is asked for by the name, which a bot's next Pod has, too. That one
    /// prints nothing in the moment in which it could be taken for this one: its containers are not there yet.
    async fn meet(&self, look: Look<'_>) -> Result<()> {
        let found = timeout(ANSWER, self.api.get_metadata_opt(look.name)).await;
        let found = found.context("the Pod")?.map_err(|err| self.error(&err))?;
        match found.and_then(|pod| pod.metadata.uid) {
            Some(uid) if uid.starts_with(look.id) => Ok(()),
            _ => bail!("the Pod {} is gone", look.name),
        }
    }

    fn ask(self: &Arc<Self>, pod: &str, params: LogParams) -> Asked {
        let (pods, pod) = (Arc::clone(self), pod.to_owned());
        Box::pin(async move {
            let asked = pods.api.log_stream(&pod, &params);
            if params.follow {
                return asked.await.map(text).map_err(|err| pods.error(&err));
            }
            match timeout(ANSWER, asked).await.context("the log")? {
                // There is no life before, or the kubelet has nothing of it any more.
                Err(err) if params.previous && is_nothing(&err) => Ok(text(Cursor::new([]))),
                answer => answer.map(text).map_err(|err| pods.error(&err)),
            }
        })
    }

    fn error(&self, err: &kube::Error) -> anyhow::Error {
        self.tell(err);
        anyhow!("{}", said(err))
    }

    /// Says once that they may not be read.
    fn tell(&self, err: &kube::Error) {
        let is_refusal = has_status(err, 401) || has_status(err, 403);
        if is_refusal && !self.is_refusal_told.swap(true, Ordering::Relaxed) {
            self.console.warn(&format!(
                "live logs are not sent, the log of a Pod may not be read ({}): the agent's Role needs `get` of `pods/log` \
                 (see the chart's), or set THE0_LIVE_LOGS=off",
                said(err)
            ));
        }
    }
}

fn text(text: impl AsyncBufRead + Send + 'static) -> Text {
    Box::pin(text)
}

fn is_nothing(err: &kube::Error) -> bool {
    has_status(err, 400) || has_status(err, 404)
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pods").finish_non_exhaustive()
    }
}

impl Turn {
    /// One that has no end.
    pub fn unbounded() -> Self {
        Self(None)
    }

    /// Waits until it is others' turn.
    pub async fn over(&mut self) {
        let Some(Stream { crowd, time, .. }) = &mut self.0 else {
            return pending().await;
        };
        let end = Instant::now() + *time;
        loop {
            if crowd.wait_for(|is_crowd| *is_crowd).await.is_err() {
                return pending().await;
            }
            sleep_until(end).await;
            if *crowd.borrow() {
                return;
            }
        }
    }
}

impl Log {
    /// What comes next; `None` where nothing more is there. Nothing is lost when it is not waited for to the end.
    pub async fn next(&mut self) -> Option<Result<Printed>> {
        loop {
            if let Some(printed) = self.printed.pop_front() {
                return Some(Ok(printed));
            }
            self.lives.front()?;
            if let Err(err) = self.more().await {
                self.lives.clear();
                return Some(Err(err));
            }
        }
    }

    /// Reads on in the first life that is not read.
    async fn more(&mut self) -> Result<()> {
        let Some(first) = self.lives.front_mut() else {
            return Ok(());
        };
        let text = match &mut first.bytes {
            Bytes::Asked(asked) => {
                let text = asked.await?;
                first.bytes = Bytes::Come(text);
                return Ok(());
            }
            Bytes::Come(text) => text,
        };
        let bytes = text.fill_buf().await.context("the log")?;
        let length = bytes.len().min(AT_ONCE);
        self.stamps.feed(&bytes[..length], &mut self.printed);
        text.consume_unpin(length);
        if length == 0 {
            if first.is_over {
                self.printed.push_back(Printed::End);
            }
            self.stamps = Stamps::default();
            self.lives.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
