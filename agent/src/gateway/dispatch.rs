//! Who answers a question, and what came of it.
//!
//! The rule: a bot that runs all the time and has a query program is asked in its container; any other, and one that does
//! not run, by an instance of its own, on a copy of the state that was saved last. One that runs and cannot be reached is
//! tried until the question's time is over, and then that is told: an answer from an older state would be a wrong one.
//!
//! Where a bot was found is remembered for [`REMEMBERED`], if its `query` wants a token: another bot that has got its
//! address meanwhile refuses that, and the loop is asked anew.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contract::{BotId, Secret};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::apart::{Apart, NoAnswer};
use super::bounds::{Most, Places};
use super::live::{Asked, Lines};
use super::tokens::Bots;
use crate::ask::{Question, Refusal, Refused, Reply, understand};
use crate::document::Bot;
use crate::health::Board;
use crate::request::{Request, Target, Whom};

/// How long it is remembered where a bot answers.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How many bots are remembered at most.
const MOST_REMEMBERED: usize = 10_000;
/// Between two looks at who answers.
const AGAIN: Duration = Duration::from_millis(50);

/// Why a bot that runs answers an agent of its own stack nothing.
const STRANGER: &str = "the bot's container does not know this agent's token, which is made of the store's secret key: that has \
                        changed since the bot was started; `agent restart` it";

/// Asks bots; clones share bounds and connections.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    requests: UnboundedSender<Request>,
    apart: Option<Apart>,
    lines: Lines,
    places: Places,
    flights: Option<Flights>,
    found: Found,
    /// Where questions are counted.
    board: Board,
}

/// Where bots were found lately.
#[derive(Debug, Clone, Default)]
struct Found(Arc<Mutex<HashMap<BotId, Place>>>);

/// When it was found, where, and what it wants.
type Place = (Instant, SocketAddr, Secret);

impl Found {
    fn get(&self, whom: &Whom) -> Option<Target> {
        let Whom::Id(word) = whom else { return None };
        let id: BotId = word.parse().ok()?;
        let found = self.known();
        let (since, address, token) = found.get(&id)?;
        let is_fresh = since.elapsed() < REMEMBERED;
        is_fresh.then(|| Target::Live(id.clone(), *address, Some(token.clone())))
    }

    fn note(&self, target: &Target) {
        if let Target::Live(id, address, Some(token)) = target {
            let mut found = self.known();
            if found.len() >= MOST_REMEMBERED {
                found.clear();
            }
            found.insert(id.clone(), (Instant::now(), *address, token.clone()));
        }
    }

    fn forget(&self, id: &BotId) {
        self.known().remove(id);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<BotId, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Questions that are under way in containers; whoever asks the same meanwhile waits for the same answer. One that nobody
/// waits for any more is given up.
#[derive(Debug, Clone, Default)]
struct Flights(Arc<Mutex<HashMap<String, WeakShared<Flight>>>>);

type Flight = BoxFuture<'static, Result<Bytes, NoAnswer>>;

impl Flights {
    /// Joins what is under way, or begins it.
    fn join(&self, key: String, begin: impl FnOnce() -> Flight) -> Shared<Flight> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.upgrade().is_some());
        if let Some(flight) = flights.get(&key).and_then(WeakShared::upgrade) {
            return flight;
        }
        let flight = begin().shared();
        flights.extend(flight.downgrade().map(|weak| (key, weak)));
        flight
    }
}

/// How a bot is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Where it runs.
    Live,
    /// In a container for this question.
    Apart,
}

/// What came of a question.
#[derive(Debug)]
pub struct Told {
    /// The answer.
    pub reply: Reply,
    /// Who was asked, if it came so far.
    pub asked: Option<(BotId, Kind)>,
}

/// How far a question has come.
#[derive(Debug, Default)]
struct Trail {
    asked: Option<(BotId, Kind)>,
    /// Why a bot that runs was not reached.
    silent: Option<String>,
}

/// The question's time, for a person.
fn limit(question: &Question) -> String {
    humantime::format_duration(question.timeout).to_string()
}

/// What two questions have in common that are one.
fn same(bot: &Bot, question: &Question) -> String {
    let digest = crate::launch::digest(bot);
    json!([
        bot.id,
        digest.as_str(),
        question.path,
        question.params,
        question.timeout.as_millis().to_string()
    ])
    .to_string()
}

impl Dispatcher {
    /// Asks who answers by `requests`; with `apart`, also bots that do not run.
    pub fn new(requests: UnboundedSender<Request>, apart: Option<Apart>, most: Most) -> Self {
        Self {
            requests,
            apart,
            lines: Lines::default(),
            places: Places::new(most),
            flights: None,
            found: Found::default(),
            board: Board::default(),
        }
    }

    /// Whether questions that are the same to the last byte, and under way at one time, are asked once.
    #[must_use]
    pub fn sharing(mut self, is_wanted: bool) -> Self {
        self.flights = is_wanted.then(Flights::default);
        self
    }

    /// Counts questions on `board`.
    #[must_use]
    pub fn counting(mut self, board: Board) -> Self {
        self.board = board;
        self
    }

    /// The same for another runtime: connections live where they were made.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            lines: Lines::default(),
            ..self.clone()
        }
    }

    /// Who removes what is left over.
    pub fn apart(&self) -> Option<&Apart> {
        self.apart.as_ref()
    }

    /// Puts a question, within its time, if the bot is among `bots`.
    pub async fn ask(&self, whom: Whom, question: &Question, bots: &Bots) -> Told {
        let since = Instant::now();
        let mut trail = Trail::default();
        let asking = self.try_ask(whom, question, bots, &mut trail);
        let reply = timeout(question.timeout, asking).await;
        let Trail { asked, silent } = trail;
        let late = || {
            let limit = limit(question);
            Refusal::Late(match silent {
                Some(why) => {
                    format!("{limit}: the bot runs, and its query program is not reached ({why})")
                }
                None => limit,
            })
        };
        let reply = reply.unwrap_or_else(|_| Err(late().into()));
        let told = Told { reply, asked };
        self.board
            .count(|metrics| metrics.asked(&told, since.elapsed()));
        told
    }

    async fn try_ask(
        &self,
        whom: Whom,
        question: &Question,
        bots: &Bots,
        trail: &mut Trail,
    ) -> Reply {
        let end = Instant::now() + question.timeout;
        let forbidden = || Refused::from(Refusal::Forbidden(question.bot.clone()));
        let mut place = None;
        loop {
            let known = self.found.get(&whom);
            let is_known = known.is_some();
            let target = if let Some(target) = known {
                target
            } else {
                let target = self.target(whom.clone()).await;
                // Whether there is another bot is not for whoever may not ask it.
                let target = target.map_err(|refused| match bots {
                    Bots::All => refused,
                    Bots::These(_) if question.bot.parse().is_ok_and(|id| bots.has(&id)) => refused,
                    Bots::These(_) => forbidden(),
                })?;
                self.found.note(&target);
                target
            };
            let (id, kind) = match &target {
                Target::Later => {
                    sleep(AGAIN).await;
                    continue;
                }
                Target::Live(id, ..) => (id, Kind::Live),
                Target::Apart(bot) => (&bot.id, Kind::Apart),
            };
            if !bots.has(id) {
                return Err(forbidden());
            }
            if place.is_none() {
                place = Some(self.places.take(id).ok_or(Refusal::Busy)?);
            }
            trail.asked = Some((id.clone(), kind));
            match target {
                Target::Live(id, address, token) => {
                    match self.lines.put(question, address, token.as_ref()).await? {
                        Asked::Answer(StatusCode::UNAUTHORIZED, _) if is_known => {
                            self.found.forget(&id);
                        }
                        Asked::Answer(StatusCode::UNAUTHORIZED, _) if token.is_some() => {
                            self.found.forget(&id);
                            return Err(Refusal::Failed(STRANGER.to_owned()).into());
                        }
                        Asked::Answer(StatusCode::GATEWAY_TIMEOUT, _) => {
                            return Err(Refusal::Late(limit(question)).into());
                        }
                        Asked::Answer(status, body) => return understand(status, &body),
                        // It is being started, or another container takes its place.
                        Asked::Nobody(why) => {
                            self.found.forget(&id);
                            trail.silent = Some(why);
                            sleep(AGAIN).await;
                        }
                    }
                }
                Target::Apart(bot) => {
                    let left = end.saturating_duration_since(Instant::now());
                    return self.put_apart(&bot, question, left).await;
                }
                Target::Later => {}
            }
        }
    }

    async fn put_apart(&self, bot: &Bot, question: &Question, left: Duration) -> Reply {
        let Some(apart) = &self.apart else {
            return Err(Refusal::Down(bot.definition.name.clone()).into());
        };
        let answer = match &self.flights {
            None => apart.put(bot, question, left).await,
            Some(flights) => {
                let begin = || {
                    let (apart, bot, question) = (apart.clone(), bot.clone(), question.clone());
                    async move { apart.put(&bot, &question, left).await }.boxed()
                };
                flights.join(same(bot, question), begin).await
            }
        };
        let answer = answer.map_err(|none| match none {
            NoAnswer::Busy => Refusal::Busy,
            NoAnswer::Late(why) => {
                let limit = limit(question);
                Refusal::Late(why.map_or(limit.clone(), |why| format!("{limit}: {why}")))
            }
            NoAnswer::Failed(why) => Refusal::Failed(why),
        });
        understand(StatusCode::OK, &answer?)
    }

    async fn target(&self, whom: Whom) -> Result<Target, Refused> {
        let ending = || Refusal::Failed("the agent is ending".into());
        let (to, told) = oneshot::channel();
        let sent = self.requests.send(Request::Target(whom, to));
        sent.map_err(|_| ending())?;
        Ok(told.await.map_err(|_| ending())??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_question_is_asked_once_while_it_is_under_way() {
        let flights = Flights::default();
        let asked = Arc::new(Mutex::new(0));
        let (to, answer) = oneshot::channel::<()>();
        let answer = answer.shared();
        let join = |key: &str| {
            let (asked, answer) = (Arc::clone(&asked), answer.clone());
            flights.join(key.to_owned(), || {
                async move {
                    *asked.lock().unwrap() += 1;
                    let _ = answer.await;
                    Ok(Bytes::from_static(b"{}"))
                }
                .boxed()
            })
        };
        let (one, two, other) = (join("a"), join("a"), join("b"));
        to.send(()).unwrap();
        let (one, two, other) = tokio::join!(one, two, other);
        assert!(one.is_ok() && one == two && one == other);
        assert_eq!(*asked.lock().unwrap(), 2);
        join("a").await.unwrap();
        assert_eq!(*asked.lock().unwrap(), 3, "what is over is asked anew");
    }
}
