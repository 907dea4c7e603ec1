//! What the loop waits for, and in which order it is taken in.

use std::future::pending;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until};

use super::TICK;
use crate::engine::News;
use crate::lister::Listed;
use crate::request::Request;
use crate::signals::{Signal, Signals};

/// What the loop waits for.
#[derive(Debug)]
pub struct Events {
    /// Listings.
    pub listings: UnboundedReceiver<Listed>,
    /// What the engine tells.
    pub news: UnboundedReceiver<News>,
    /// Requests of people and programs.
    pub requests: UnboundedReceiver<Request>,
    /// Signals to the agent.
    pub signals: Signals,
    /// Comes however much else does.
    pub ticks: Interval,
}

/// The ticks of a loop.
pub fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// One thing.
pub enum Event {
    /// A listing.
    Listed(Listed),
    /// News of the engine.
    Told(News),
    /// A request.
    Asked(Request),
    /// A signal to the agent.
    Signal(Signal),
    /// A tick.
    Tick,
    /// A look that had to wait may be taken.
    Rested,
}

impl Events {
    /// One that has come already.
    pub fn ready(&mut self) -> Option<Event> {
        let told = self.news.try_recv().map(Event::Told);
        let asked = told.or_else(|_| self.requests.try_recv().map(Event::Asked));
        asked
            .or_else(|_| self.listings.try_recv().map(Event::Listed))
            .ok()
    }

    /// The next; [`Event::Rested`] if there is none before `rest`.
    pub async fn next(&mut self, rest: Option<Instant>) -> Event {
        let rested = async {
            match rest {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            signal = self.signals.next() => Event::Signal(signal),
            _ = self.ticks.tick() => Event::Tick,
            () = rested => Event::Rested,
            Some(news) = self.news.recv() => Event::Told(news),
            Some(request) = self.requests.recv() => Event::Asked(request),
            Some(listed) = self.listings.recv() => Event::Listed(listed),
        }
    }
}
