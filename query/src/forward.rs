//! One question to the bot's program, and its answer or why there is none.

use std::time::Duration;

use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode, Version};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::answer::{self, Answer};
use crate::line::Visit;
use crate::passed::{Broken, Passed};
use crate::program::Program;
use crate::question::Question;

/// The longest head of an answer, and the most that is read ahead of one.
const READ_AHEAD: usize = 64 * 1024;

/// Why a question has no answer of the program's.
#[derive(Debug, Error)]
pub enum Failure {
    /// It is not there to be asked.
    #[error("the query program is not running: {0}")]
    NotRunning(String),
    /// It ended, or ended the connection, or does not speak HTTP.
    #[error("the query program broke off: {0}")]
    BrokeOff(#[from] hyper::Error),
    /// Its answer cannot be passed on.
    #[error("{0}")]
    Broken(#[from] Broken),
    /// The question's time is over.
    #[error("the query program did not answer within {}", seconds(*.0))]
    TooLate(Duration),
    /// The question cannot be put as a request.
    #[error("the question cannot be sent: {0}")]
    Unsendable(#[from] hyper::http::Error),
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

impl Failure {
    /// The answer that tells it.
    pub fn answer(&self) -> Answer {
        let status = match self {
            Failure::TooLate(_) => StatusCode::GATEWAY_TIMEOUT,
            Failure::Unsendable(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        };
        answer::error(status, &self.to_string())
    }
}

/// Asks `program`, all of it within `limit`. What ends when that is over, as its connection does, is too late whatever
/// ended it.
///
/// # Errors
/// Why there is no answer.
pub async fn ask(
    program: &Program,
    question: &Question,
    limit: Duration,
) -> Result<Answer, Failure> {
    let deadline = Instant::now() + limit;
    match timeout_at(deadline, exchange(program, question, deadline)).await {
        Ok(Err(_)) if Instant::now() >= deadline => Err(Failure::TooLate(limit)),
        Ok(asked) => asked,
        Err(_) => Err(Failure::TooLate(limit)),
    }
}

async fn exchange(
    program: &Program,
    question: &Question,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let target = question.target();
    let answer = send(program, &target, question.body(), deadline).await?;
    let too_long = matches!(
        answer.status(),
        StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    // Refused by the server before a handler saw it, so it may be asked again.
    if too_long && target != question.path() {
        return send(program, question.path(), question.body(), deadline).await;
    }
    Ok(answer)
}

async fn send(
    program: &Program,
    target: &str,
    body: String,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let mut visit = program.visit(deadline).await;
    let request = || {
        Request::post(target)
            .header(HOST, "127.0.0.1")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.clone())))
    };
    let response = if let Some(response) = visit.ask_again(request()?).await? {
        response
    } else {
        let stream = program.connect().await.map_err(Failure::NotRunning)?;
        visit.ask(stream, request()?).await?
    };
    visit.heed(response.version(), response.headers());
    pass(response, visit).await
}

async fn pass(response: Response<hyper::body::Incoming>, visit: Visit) -> Result<Answer, Failure> {
    let (head, body) = response.into_parts();
    let body = Passed::begin(body, visit).await?;
    if head.version == Version::HTTP_10 && body.beginning().starts_with(b"HTTP/1.") {
        let whole = Limited::new(body, READ_AHEAD).collect().await;
        return Ok(second_thoughts(
            &whole
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default(),
        ));
    }
    let mut answer = Response::new(Either::Right(body));
    *answer.status_mut() = head.status;
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        answer.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    Ok(answer)
}

/// The answer in a body that begins with the head of another response. The Python SDKs send one when a handler
/// returns what JSON cannot say: they have sent the head of a good answer before they notice.
fn second_thoughts(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let status = bytes
        .get(9..12)
        .and_then(|digits| StatusCode::from_bytes(digits).ok());
    let value = end.and_then(|end| serde_json::from_slice(&bytes[end + 4..]).ok());
    match (status, value) {
        (Some(status), Some(value)) => answer::json(status, &value),
        _ => answer::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the query program broke off its answer and began another",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(bytes: &[u8]) -> (u16, String) {
        let answer = second_thoughts(bytes);
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_second_head_in_a_body_is_the_answer() {
        let bytes = b"HTTP/1.0 500 Internal Server Error\r\nServer: x\r\n\r\n{\"status\":\"error\",\"error\":\"e\"}";
        assert_eq!(
            told(bytes).await,
            (500, r#"{"error":"e","status":"error"}"#.to_owned())
        );
    }

    #[tokio::test]
    async fn a_second_head_that_is_cut_is_an_error() {
        for bytes in [
            &b""[..],
            b"HTTP/1.",
            b"HTTP/1.0 500",
            b"HTTP/1.0 200 OK\r\n\r\n{",
        ] {
            let (status, body) = told(bytes).await;
            assert_eq!(status, 500);
            assert!(body.contains("broke off"), "{body}");
        }
    }

    #[tokio::test]
    async fn each_failure_has_its_status() {
        let rows = [
            (Failure::NotRunning("x".into()), 502),
            (Failure::TooLate(Duration::from_millis(1500)), 504),
            (Failure::Broken(Broken::TooLarge), 502),
        ];
        for (failure, status) in rows {
            assert_eq!(failure.answer().status().as_u16(), status, "{failure}");
        }
        assert!(
            Failure::TooLate(Duration::from_millis(1500))
                .to_string()
                .contains("1.5 s")
        );
    }
}
