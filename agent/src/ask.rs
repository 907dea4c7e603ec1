//! The gateway's question: a bot, a path and parameters in, one answer out, by the contract's rules. All of it is values;
//! [`crate::gateway`] does the asking.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use contract::Secret;
use contract::params::Params;
use contract::record::Time;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// How long an answer may take unless the question says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// What a question may ask for at most.
const LONGEST: Duration = Duration::from_secs(3600);
/// The largest answer, in bytes.
pub const LARGEST: usize = 16 << 20;

/// A question to a bot.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The bot, as the asker calls it.
    pub bot: String,
    /// The path, with its slash.
    pub path: String,
    /// The parameters.
    pub params: Params,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// Why there is no answer of the bot. The texts are the contract's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The question was not put by POST.
    #[error("method not allowed")]
    Method,
    /// The question's body cannot be read.
    #[error("invalid request body: {0}")]
    Body(String),
    /// It names no bot.
    #[error("bot_id is required")]
    NoBot,
    /// It has no path.
    #[error("query_path is required")]
    NoPath,
    /// There is no such bot.
    #[error("bot not found: {0}")]
    Unknown(String),
    /// Several bots are called so.
    #[error("{0}")]
    Unclear(String),
    /// The bot answers no questions.
    #[error("bot {0} does not have a query entrypoint")]
    Mute(String),
    /// The bot does not run.
    #[error("bot {0} is not running: start it, this engine answers only live questions")]
    Down(String),
    /// More is asked at once than is attended.
    #[error("too many questions at once: try again in a moment")]
    Busy,
    /// Whoever asks may not ask this bot.
    #[error("this token is not for bot {0}")]
    Forbidden(String),
    /// The answer took too long.
    #[error("no answer within {0}")]
    Late(String),
    /// The bot's answer cannot be had or understood.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    /// The status of HTTP that tells it.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Body(_) | Refusal::NoBot | Refusal::NoPath => StatusCode::BAD_REQUEST,
            Refusal::Unknown(_) | Refusal::Unclear(_) | Refusal::Mute(_) => StatusCode::NOT_FOUND,
            Refusal::Late(_) => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Busy => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
            Refusal::Down(_) | Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What the gateway answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
}

/// What a bot answered, or why not.
pub type Reply = Result<Data, Refused>;

/// What a bot answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// As it came: JSON, a part of the bot's own answer that was not copied.
    Raw(Bytes),
    /// Made of it.
    Value(Value),
}

impl Data {
    /// As a value.
    pub fn into_value(self) -> Value {
        match self {
            Self::Raw(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Self::Value(value) => value,
        }
    }
}

/// An error of the bot or of ours.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// Ours.
    Ours(Refusal),
    /// The bot's: its text, and what else it said.
    Bots(String, Map<String, Value>),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Ours(refusal)
    }
}

impl Question {
    /// Reads a request's body.
    ///
    /// # Errors
    /// As the contract says.
    pub fn read(method: &Method, body: &[u8]) -> Result<Self, Refusal> {
        if method != Method::POST {
            return Err(Refusal::Method);
        }
        let bad = |why: &str| Refusal::Body(why.to_owned());
        let value: Value =
            serde_json::from_slice(body).map_err(|err| Refusal::Body(err.to_string()))?;
        let Value::Object(mut fields) = value else {
            return Err(bad("not an object"));
        };
        let mut text = |name: &str, missing: Refusal| match fields.remove(name) {
            None | Some(Value::Null) => Err(missing),
            Some(Value::String(text)) if text.is_empty() => Err(missing),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(Refusal::Body(format!("{name} is not a string"))),
        };
        let bot = text("bot_id", Refusal::NoBot)?;
        let path = text("query_path", Refusal::NoPath)?;
        let params = match fields.remove("params") {
            None | Some(Value::Null) => Params::default(),
            Some(Value::Object(params)) => params.into(),
            Some(_) => return Err(bad("params is not an object")),
        };
        let timeout = match fields.remove("timeout_sec") {
            None | Some(Value::Null) => PATIENCE,
            Some(given) => seconds(&given).ok_or_else(|| bad("timeout_sec is not a number"))?,
        };
        let path = if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        };
        Ok(Self {
            bot,
            path,
            params,
            timeout,
        })
    }

    /// As it is put to the `query` at `address`.
    ///
    /// # Errors
    /// The path is none that HTTP takes.
    pub fn request(
        &self,
        address: SocketAddr,
        token: Option<&Secret>,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let query = self.params.to_query();
        let path = encoded(&self.path);
        let target = if query.is_empty() {
            path
        } else {
            format!("{path}?{query}")
        };
        let request = match token {
            Some(token) => {
                let bearer = format!("Bearer {}", token.reveal());
                Request::post(target).header(header::AUTHORIZATION, bearer)
            }
            None => Request::post(target),
        };
        request
            .header(header::HOST, address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                contract::params::TIMEOUT,
                self.timeout.as_millis().to_string(),
            )
            .body(Full::from(self.params.to_body()))
    }
}

fn seconds(given: &Value) -> Option<Duration> {
    let seconds = given.as_f64().filter(|s| s.is_finite())?;
    if seconds <= 0.0 {
        return Some(PATIENCE);
    }
    Some(Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
}

/// What HTTP does not take in a path; what is percent-encoded already stays as it is.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

fn encoded(path: &str) -> String {
    utf8_percent_encode(path, NOT_IN_A_PATH).to_string()
}

/// The usual answer, of which only the data is wanted.
#[derive(Deserialize)]
struct Usual<'a> {
    status: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What a bot's answer says: its data, or its error.
///
/// # Errors
/// The bot's error, or that the answer is not understood.
pub fn understand(status: StatusCode, body: &Bytes) -> Reply {
    if status.is_success()
        && let Ok(Usual { status: "ok", data }) = serde_json::from_slice(body)
    {
        return Ok(Data::Raw(body.slice_ref(data.get().as_bytes())));
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let why = format!("the bot's answer (status {}) is not JSON", status.as_u16());
        return Err(Refusal::Failed(why).into());
    };
    let Value::Object(mut fields) = value else {
        return Ok(Data::Value(value));
    };
    let said = fields
        .get("status")
        .and_then(Value::as_str)
        .map(str::to_owned);
    if said.as_deref() == Some("error") || !status.is_success() {
        fields.remove("status");
        let text = match fields.remove("error") {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => format!("the bot answered with status {}", status.as_u16()),
        };
        return Err(Refused::Bots(text, fields));
    }
    if said.as_deref() == Some("ok") {
        return Ok(Data::Value(fields.remove("data").unwrap_or(Value::Null)));
    }
    Ok(Data::Value(Value::Object(fields)))
}

/// What stands before and behind the data in the gateway's form of an answer that took `since`; as [`Answer::new`] writes it.
pub fn around(since: Instant) -> (&'static str, String) {
    let (duration, timestamp) = times(since);
    let behind = format!(r#","duration":{duration},"status":"ok","timestamp":"{timestamp}"}}"#);
    (r#"{"data":"#, behind)
}

/// Nanoseconds since `since`, and the time.
fn times(since: Instant) -> (u64, String) {
    let duration = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
    (duration, Time::from(SystemTime::now()).into())
}

impl Answer {
    /// The gateway's form of a reply that took `since`.
    pub fn new(reply: Reply, since: Instant) -> Self {
        let (duration, timestamp) = times(since);
        let mut body = json!({"duration": duration, "timestamp": timestamp});
        let status = match reply {
            Ok(data) => {
                body["status"] = "ok".into();
                let data = data.into_value();
                if !data.is_null() {
                    body["data"] = data;
                }
                StatusCode::OK
            }
            Err(Refused::Bots(error, rest)) => {
                body["status"] = "error".into();
                body["error"] = error.into();
                if !rest.is_empty() {
                    body["data"] = Value::Object(rest);
                }
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Err(Refused::Ours(refusal)) => {
                body["status"] = "error".into();
                body["error"] = refusal.to_string().into();
                refusal.status()
            }
        };
        Self { status, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Question, Refusal> {
        Question::read(&Method::POST, body.as_bytes())
    }

    #[test]
    fn a_question_is_read_by_the_contract() {
        let question =
            read(r#"{"bot_id":"b","query_path":"echo","params":{"a":1},"timeout_sec":2}"#);
        let question = question.unwrap();
        assert_eq!(
            (question.bot.as_str(), question.path.as_str()),
            ("b", "/echo")
        );
        assert_eq!(question.timeout, Duration::from_secs(2));
        let bare = read(r#"{"bot_id":"b","query_path":"/x","params":null}"#).unwrap();
        assert_eq!((bare.timeout, bare.params.is_empty()), (PATIENCE, true));
    }

    #[test]
    fn a_refusal_has_the_contracts_text_and_status() {
        let rows = [
            ("{", "invalid request body: ", 400),
            ("[]", "invalid request body: ", 400),
            (
                r#"{"bot_id":1,"query_path":"/"}"#,
                "invalid request body: ",
                400,
            ),
            (r#"{"query_path":"/"}"#, "bot_id is required", 400),
            (r#"{"bot_id":"b"}"#, "query_path is required", 400),
            (
                r#"{"bot_id":"b","query_path":"/","params":3}"#,
                "invalid request body: ",
                400,
            ),
        ];
        for (body, text, status) in rows {
            let answer = Answer::new(Err(read(body).unwrap_err().into()), Instant::now());
            assert_eq!(answer.status.as_u16(), status, "{body}");
            assert!(
                answer.body["error"].as_str().unwrap().starts_with(text),
                "{body}"
            );
            assert_eq!(answer.body["status"], "error");
        }
        let method = Question::read(&Method::GET, b"{}").unwrap_err();
        assert_eq!(
            (method.status().as_u16(), method.to_string().as_str()),
            (405, "method not allowed")
        );
    }

    #[test]
    fn a_bots_answer_becomes_the_gateways() {
        let answer = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let body = Bytes::from(body.to_owned());
            let answer = Answer::new(understand(status, &body), Instant::now());
            let mut body = answer.body;
            let fields = body.as_object_mut().unwrap();
            assert!(fields.remove("duration").is_some() && fields.remove("timestamp").is_some());
            (answer.status.as_u16(), body)
        };
        assert_eq!(
            answer(200, r#"{"status":"ok","data":[1]}"#),
            (200, json!({"status": "ok", "data": [1]}))
        );
        assert_eq!(
            answer(200, r#"{"available_queries":["/a"]}"#),
            (
                200,
                json!({"status": "ok", "data": {"available_queries": ["/a"]}})
            )
        );
        assert_eq!(
            answer(
                404,
                r#"{"status":"error","error":"No handler for path: X","available":["/a"]}"#
            ),
            (
                500,
                json!({"status": "error", "error": "No handler for path: X", "data": {"available": ["/a"]}})
            )
        );
        assert_eq!(answer(200, "<html>").0, 500);
        assert_eq!(
            answer(502, r#"{"status":"error","error":"down"}"#).1["error"],
            "down"
        );
    }

    #[test]
    fn a_path_stays_as_it_is_unless_http_would_not_take_it() {
        assert_eq!(encoded("/a%20b/ü x?y"), "/a%20b/%C3%BC%20x%3Fy");
    }
}
