//! Answers of our own, in the form every SDK gives its: `{"status":"ok",..}` or `{"status":"error","error":".."}`.

use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::passed::Passed;

/// An answer: all there at once, or passed on as it comes.
pub type Answer = Response<Either<Full<Bytes>, Passed>>;

/// `value` under `status`.
pub fn json(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(value.to_string())));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// The error `why` under `status`.
pub fn error(status: StatusCode, why: &str) -> Answer {
    json(status, &json!({"status": "error", "error": why}))
}

/// To a method that is not one of a question.
pub fn bad_method() -> Answer {
    let mut answer = error(
        StatusCode::METHOD_NOT_ALLOWED,
        "method not allowed: use GET or POST",
    );
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, POST"));
    answer
}

/// `/health` of a bot without a query program.
pub fn health() -> Answer {
    json(StatusCode::OK, &json!({"status": "ok"}))
}

/// `/info` of a bot without a query program.
pub fn info() -> Answer {
    json(StatusCode::OK, &json!({"available_queries": []}))
}

/// A path that a bot without a query program does not have.
pub fn unknown(path: &str) -> Answer {
    let value = json!({
        "status": "error",
        "error": format!("No handler for path: {path}"),
        "available": ["/health", "/info"],
    });
    json(StatusCode::NOT_FOUND, &value)
}
