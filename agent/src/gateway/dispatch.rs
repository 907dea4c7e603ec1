//! Who answers a question, and what came of it.
//!
//! The rule: a bot that runs all the time and has a query program is asked in its container; any other, and one that does
//! not run, by a container of its own, on a copy of the state that was saved last. One that runs and cannot be reached is
//! tried until the question's time is over, and then that is told: an answer from an older state would be a wrong one.

use std::time::{Duration, Instant};

use contract::BotId;
use hyper::StatusCode;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::bounds::{Kind, Most, Places};
use super::live::{Asked, Lines};
use super::tokens::Bots;
use crate::ask::{Question, Refusal, Refused, Reply, understand};
use crate::document::Bot;
use crate::engine::docker::question::Questions;
use crate::request::{Request, Target, Whom};

/// Between two looks at who answers.
const AGAIN: Duration = Duration::from_millis(50);

/// Asks bots; clones share bounds and connections.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    requests: UnboundedSender<Request>,
    apart: Option<Questions>,
    lines: Lines,
    places: Places,
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

impl Dispatcher {
    /// Asks who answers by `requests`; with `apart`, also bots that do not run.
    pub fn new(requests: UnboundedSender<Request>, apart: Option<Questions>, most: Most) -> Self {
        Self {
            requests,
            apart,
            lines: Lines::new(),
            places: Places::new(most),
        }
    }

    /// The same for another runtime: connections live where they were made.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            lines: Lines::new(),
            ..self.clone()
        }
    }

    /// Who removes what is left over.
    pub fn apart(&self) -> Option<&Questions> {
        self.apart.as_ref()
    }

    /// Puts a question, within its time, if the bot is among `bots`.
    pub async fn ask(&self, whom: Whom, question: &Question, bots: &Bots) -> Told {
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
        Told { reply, asked }
    }

    async fn try_ask(
        &self,
        whom: Whom,
        question: &Question,
        bots: &Bots,
        trail: &mut Trail,
    ) -> Reply {
        let end = Instant::now() + question.timeout;
        let mut place = None;
        loop {
            let target = self.target(whom.clone()).await?;
            let (id, kind) = match &target {
                Target::Later => {
                    sleep(AGAIN).await;
                    continue;
                }
                Target::Live(id, _) => (id, Kind::Live),
                Target::Apart(bot) => (&bot.id, Kind::Apart),
            };
            if !bots.has(id) {
                return Err(Refusal::Forbidden(id.to_string()).into());
            }
            let before = trail.asked.as_ref().map(|(_, kind)| *kind);
            if before != Some(kind) {
                drop(place.take());
                place = Some(self.places.take(id, kind).ok_or(Refusal::Busy)?);
                trail.asked = Some((id.clone(), kind));
            }
            match target {
                Target::Live(_, address) => {
                    match self.lines.put(question, address).await? {
                        Asked::Answer(StatusCode::GATEWAY_TIMEOUT, _) => {
                            return Err(Refusal::Late(limit(question)).into());
                        }
                        Asked::Answer(status, body) => return understand(status, &body),
                        // It is being started, or another container takes its place.
                        Asked::Nobody(why) => {
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
        let answer = apart.put(bot, question, left).await;
        understand(StatusCode::OK, &answer.map_err(Refusal::Failed)?)
    }

    async fn target(&self, whom: Whom) -> Result<Target, Refused> {
        let ending = || Refusal::Failed("the agent is ending".into());
        let (to, told) = oneshot::channel();
        let sent = self.requests.send(Request::Target(whom, to));
        sent.map_err(|_| ending())?;
        Ok(told.await.map_err(|_| ending())??)
    }
}
