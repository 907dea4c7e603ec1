//! The answers: what is asked of the loop that owns the world, and what its word looks like as JSON.

mod jobs;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use contract::BotId;
use contract::record::Time;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot::{self, Sender};

use super::Api;
use super::route::Route;
use crate::ask::{self, Question};
use crate::engine::docker::left::Unsaved;
use crate::gateway::dispatch::Dispatcher;
use crate::gateway::tokens::Bots;
use crate::history::{Entry, KEPT};
use crate::id::{self, Known, Unclear};
use crate::plan::Switch;
use crate::report::Row;
use crate::request::{Done, Request, TRIES, Verb, Whom};

/// The loop's door.
type Loop = UnboundedSender<Request>;

/// Records that are given unless more are asked for.
const COUNT: usize = 20;

/// The document of the API.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// An answer, and what the log tells of it.
#[derive(Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
    /// The bot it is about.
    pub bot: Option<(BotId, String)>,
    /// What was ordered, beyond the path.
    pub order: Option<Value>,
}

impl From<(StatusCode, Value)> for Answer {
    fn from((status, body): (StatusCode, Value)) -> Self {
        let (bot, order) = (None, None);
        Self {
            status,
            body,
            bot,
            order,
        }
    }
}

impl Answer {
    /// A refusal.
    pub fn error(status: StatusCode, why: &str) -> Self {
        (status, json!({"error": why})).into()
    }

    fn ok(body: Value) -> Self {
        (StatusCode::OK, body).into()
    }

    fn bad(why: &str) -> Self {
        Self::error(StatusCode::BAD_REQUEST, why)
    }

    fn unknown(why: &str) -> Self {
        Self::error(StatusCode::NOT_FOUND, why)
    }

    /// Nobody answers any more.
    pub fn ending() -> Self {
        Self::error(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending")
    }
}

/// Does what is asked for. `asked` is the part of the address behind the question mark.
pub async fn answer(route: Route, asked: &str, body: &[u8], api: &Api) -> Answer {
    match do_it(route, asked, body, api).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn do_it(route: Route, asked: &str, body: &[u8], api: &Api) -> Result<Answer, Answer> {
    let to = &api.requests;
    match route {
        Route::Document => document(),
        Route::Bots => bots(asked, to).await,
        Route::Bot(word) => bot(&word, asked, to).await,
        Route::History(word) => history(word, asked, to).await,
        Route::Do(word, verb) => order(word, verb, to).await,
        Route::Schedules => {
            Asked::read(asked, &[])?;
            let rows = ask(to, Request::Schedules).await?;
            Ok(Answer::ok(json!({"schedules": rows})))
        }
        Route::RunNow(word) => {
            let done = ask(to, |to| Request::RunNow(word, TRIES, to)).await?;
            ordered(done)
        }
        Route::Jobs => jobs::list(asked, to).await,
        Route::Job(id) => jobs::show(id, to).await,
        Route::CancelJob(id) => jobs::cancel(id, to).await,
        Route::Query => Ok(query(body, &api.dispatcher).await),
        Route::Confirm => {
            let bots = ask(to, Request::Confirm).await?;
            Ok(Answer::ok(json!({"confirmed": bots})))
        }
        Route::Switch(switch) => turn(switch, to).await,
        Route::Roll => roll(read(body)?, to).await,
        Route::Collect => collect(read(body)?, to).await,
    }
}

async fn ask<T>(to: &Loop, make: impl FnOnce(Sender<T>) -> Request) -> Result<T, Answer> {
    let (reply, from) = oneshot::channel();
    let sent = to.send(make(reply));
    sent.map_err(|_| Answer::ending())?;
    from.await.map_err(|_| Answer::ending())
}

/// A JSON body that says what is meant: an object, for serde takes a list for one, and an empty list for all defaults.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    let fields = serde_json::from_slice(body).map(Value::Object);
    let order = fields.and_then(serde_json::from_value);
    order.map_err(|err| Answer::bad(&format!("invalid request body: {err}")))
}

fn document() -> Result<Answer, Answer> {
    let document = serde_json::from_str(DOCUMENT);
    let document = document.map_err(|err| {
        let why = format!("the document of this API: {err}");
        Answer::error(StatusCode::INTERNAL_SERVER_ERROR, &why)
    })?;
    Ok(Answer::ok(document))
}

/// What may be asked behind a question mark.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    usage: bool,
    count: Option<usize>,
    before: Option<Cursor>,
}

/// A place in a history: when a run was started, and its number.
type Cursor = (u128, u64);

impl Asked {
    /// Reads those of `known`; others are refused.
    fn read(text: &str, known: &[&str]) -> Result<Self, Answer> {
        let mut asked = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            if !known.contains(&name) {
                let why = match known {
                    [] => "nothing is asked behind a question mark here".to_owned(),
                    known => format!("behind the question mark there may be {}", known.join(", ")),
                };
                return Err(Answer::bad(&why));
            }
            match name {
                "usage" => {
                    let usage = flag(&value);
                    asked.usage = usage.ok_or_else(|| bad("usage", "true or false"))?;
                }
                "count" => {
                    let count = value.parse().ok().filter(|n| (1..=KEPT).contains(n));
                    asked.count =
                        Some(count.ok_or_else(|| bad("count", "a number from 1 to 1000"))?);
                }
                _ => {
                    let place = cursor(&value);
                    let what = "a time as in 2026-11-21T07:52:48Z, or the `next` of an answer";
                    asked.before = Some(place.ok_or_else(|| bad("before", what))?);
                }
            }
        }
        Ok(asked)
    }
}

fn bad(name: &str, what: &str) -> Answer {
    Answer::bad(&format!("{name} is {what}"))
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "" | "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn cursor(text: &str) -> Option<Cursor> {
    if let Some((at, run)) = text.split_once('-')
        && let (Ok(at), Ok(run)) = (at.parse(), run.parse())
    {
        return Some((at, run));
    }
    let at = Time::try_from(text.to_owned()).ok()?;
    Some((millis(at), 0))
}

fn place(entry: &Entry) -> Cursor {
    (millis(entry.started_at), entry.run)
}

fn millis(at: Time) -> u128 {
    let since = at.system().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis()
}

/// All rows, and why what bots use is not known if it was asked for and is not.
async fn rows(usage: bool, to: &Loop) -> Result<(Vec<Row>, Option<String>), Answer> {
    let mut rows = ask(to, Request::Rows).await?;
    if !usage {
        return Ok((rows, None));
    }
    let used = ask(to, Request::Usage).await?;
    for row in &mut rows {
        row.usage = used.by.get(&row.id).copied();
    }
    Ok((rows, used.but))
}

/// A row, with how old what is saved is.
fn shown(row: &Row) -> Value {
    let mut value = json!(row);
    if let Some(at) = row.synced.as_ref().and_then(|synced| synced.ok_at) {
        value["sync_age_seconds"] = json!(at.age().as_secs());
    }
    value
}

async fn bots(asked: &str, to: &Loop) -> Result<Answer, Answer> {
    let asked = Asked::read(asked, &["usage"])?;
    let (rows, but) = rows(asked.usage, to).await?;
    let rows: Vec<Value> = rows.iter().map(shown).collect();
    Ok(Answer::ok(json!({"bots": rows, "but": but})))
}

async fn bot(word: &str, asked: &str, to: &Loop) -> Result<Answer, Answer> {
    let asked = Asked::read(asked, &["usage"])?;
    let (rows, _) = rows(asked.usage, to).await?;
    let known = rows.iter().map(|row| Known {
        id: row.id.clone(),
        name: row.name.clone(),
        alias: row.alias.clone(),
    });
    let known: Vec<Known> = known.collect();
    let found = id::find(word, &known).map_err(|unclear| Answer::unknown(&unclear.to_string()))?;
    let row = rows.iter().find(|row| row.id == found.id);
    let row = row.ok_or_else(|| Answer::unknown("it is gone"))?;
    Ok(Answer::ok(shown(row)))
}

async fn history(word: String, asked: &str, to: &Loop) -> Result<Answer, Answer> {
    let asked = Asked::read(asked, &["count", "before"])?;
    let count = asked.count.unwrap_or(COUNT);
    // One more tells whether there is a next page.
    let wanted = asked.before.map_or(count + 1, |_| KEPT);
    let told = ask(to, |to| Request::History(word, wanted, to)).await?;
    let (id, told) = told.map_err(|unclear| Answer::unknown(&unclear.to_string()))?;
    let (entries, next) = page(told.entries, count, asked.before);
    let body = json!({"id": id, "entries": entries, "next": next, "but": told.but});
    Ok(Answer::ok(body))
}

/// The `count` latest of `entries` (oldest first) before a place, and the place before which there are more.
fn page(
    mut entries: Vec<Entry>,
    count: usize,
    before: Option<Cursor>,
) -> (Vec<Entry>, Option<String>) {
    entries.retain(|entry| before.is_none_or(|before| place(entry) < before));
    let older = entries.len().saturating_sub(count);
    entries.drain(..older);
    let next = entries.first().filter(|_| older > 0).map(place);
    (entries, next.map(|(at, run)| format!("{at}-{run}")))
}

async fn order(word: String, verb: Verb, to: &Loop) -> Result<Answer, Answer> {
    ordered(ask(to, |to| Request::Do(word, verb, to)).await?)
}

fn ordered(done: Result<Done, Unclear>) -> Result<Answer, Answer> {
    let done = done.map_err(|unclear| Answer::unknown(&unclear.to_string()))?;
    let body = json!({"id": done.id, "name": done.name, "but": done.but});
    let mut answer = Answer::ok(body);
    answer.bot = Some((done.id, done.name));
    Ok(answer)
}

async fn turn(switch: Switch, to: &Loop) -> Result<Answer, Answer> {
    let turned = ask(to, |to| Request::Switch(switch, to)).await?;
    Ok(Answer::ok(json!(turned)))
}

/// What a roll is asked with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollOrder {
    max_unavailable: NonZeroUsize,
}

/// What a collection is asked with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectOrder {
    #[serde(default)]
    bots: Vec<String>,
    #[serde(default)]
    discard_state: bool,
}

async fn roll(order: RollOrder, to: &Loop) -> Result<Answer, Answer> {
    let most = order.max_unavailable.get();
    let rolling = ask(to, |to| Request::Roll(most, to)).await?;
    let mut answer = match rolling {
        Ok(bots) => Answer::ok(json!({"rolling": bots})),
        Err(why) => Answer::error(StatusCode::CONFLICT, &why),
    };
    answer.order = Some(json!(order));
    Ok(answer)
}

async fn collect(order: CollectOrder, to: &Loop) -> Result<Answer, Answer> {
    let unsaved = if order.discard_state {
        Unsaved::Discard
    } else {
        Unsaved::Keep
    };
    if order.discard_state && order.bots.is_empty() {
        let why = "discard_state wants the bots by name: nobody's state is given up unnamed";
        return Err(Answer::bad(why));
    }
    let bots = order.bots.clone();
    let left = ask(to, |to| Request::Collect(bots, unsaved, to)).await?;
    let mut answer = match left {
        Ok(left) => Answer::ok(json!({"left": left})),
        Err(why) => Answer::unknown(&why),
    };
    answer.order = Some(json!(order));
    Ok(answer)
}

/// Answers a gateway's question.
async fn query(body: &[u8], dispatcher: &Dispatcher) -> Answer {
    let since = Instant::now();
    let reply = match Question::read(&Method::POST, body) {
        Ok(question) => {
            let whom = Whom::Word(question.bot.clone());
            dispatcher.ask(whom, &question, &Bots::All).await.reply
        }
        Err(refusal) => Err(refusal.into()),
    };
    let ask::Answer { status, body } = ask::Answer::new(reply, since);
    (status, body).into()
}

/// How long an answer may be under way to somebody who takes it slowly.
pub const TAKING: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }

    fn entries() -> Vec<Entry> {
        let entry = |(start, run): (u64, u64)| {
            let value = json!({"bot": "b", "name": "b", "run": run, "started_at": at(start), "cause": "asked"});
            serde_json::from_value(value).unwrap()
        };
        [(5, 1), (5, 2), (7, 3), (9, 4), (9, 5)].map(entry).to_vec()
    }

    fn runs(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.run).collect()
    }

    #[test]
    fn pages_of_any_size_give_every_run_once_and_in_order() {
        for count in 1..=6 {
            let mut before = None;
            let mut seen = Vec::new();
            loop {
                let (entries, next) = page(entries(), count, before);
                assert!(entries.len() <= count);
                seen.splice(0..0, runs(&entries));
                match next {
                    Some(next) => before = Some(cursor(&next).unwrap()),
                    None => break,
                }
            }
            assert_eq!(seen, [1, 2, 3, 4, 5], "{count}");
        }
    }

    #[test]
    fn before_a_time_is_what_was_started_before_it() {
        let time = cursor(&at(9).to_string());
        assert_eq!(runs(&page(entries(), 10, time).0), [1, 2, 3]);
        assert_eq!(page(entries(), 10, Some((0, 0))), (Vec::new(), None));
    }

    #[test]
    fn what_is_behind_the_question_mark_is_understood_or_refused() {
        let read = |text: &str| Asked::read(text, &["usage", "count", "before"]);
        assert_eq!(read("").unwrap(), Asked::default());
        assert!(read("usage").unwrap().usage && read("usage=true").unwrap().usage);
        assert!(!read("usage=false").unwrap().usage);
        let asked = read("count=7&before=12-3").unwrap();
        assert_eq!((asked.count, asked.before), (Some(7), Some((12, 3))));
        let asked = read("before=1970-01-01T00%3A00%3A01Z").unwrap();
        assert_eq!(asked.before, Some((1000, 0)));
        for bad in [
            "count=0",
            "count=1001",
            "count=-1",
            "count=x",
            "count",
            "before=",
            "before=x",
            "before=-1",
            "usage=1",
            "n=20",
            "count=1&x=2",
        ] {
            assert_eq!(read(bad).unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(Asked::read("usage", &[]).unwrap_err().status, 400);
    }
}
