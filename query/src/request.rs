//! The body of a request, read within bounds of size and time.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use thiserror::Error;
use tokio::time::timeout;

use crate::question::BadBody;

const TO_SEND: Duration = Duration::from_secs(10);
const LARGEST: usize = 1024 * 1024;
/// What is read of a body that is refused, so that a client that sends all before it listens hears why.
const LARGEST_REFUSED: usize = 16 * LARGEST;

/// Why a request is not taken.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Over 1 MiB.
    #[error("the body is larger than {LARGEST} bytes")]
    TooLarge,
    /// Over 10 s.
    #[error("the body did not arrive within {} s", TO_SEND.as_secs())]
    TooSlow,
    /// The client ended it early.
    #[error("the body broke off: {0}")]
    BrokeOff(#[from] hyper::Error),
    /// It is not what a question carries.
    #[error(transparent)]
    Bad(#[from] BadBody),
}

impl Refusal {
    /// The status that tells it.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Refusal::BrokeOff(_) | Refusal::Bad(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// The whole body.
///
/// # Errors
/// When it is over a bound or breaks off.
pub async fn read(body: Incoming) -> Result<Vec<u8>, Refusal> {
    if body.size_hint().lower() > LARGEST_REFUSED as u64 {
        return Err(Refusal::TooLarge);
    }
    timeout(TO_SEND, collect(body))
        .await
        .unwrap_or(Err(Refusal::TooSlow))
}

async fn collect(mut body: Incoming) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        length += data.len();
        if length > LARGEST_REFUSED {
            break;
        }
        if length <= LARGEST {
            bytes.extend_from_slice(data);
        }
    }
    if length > LARGEST {
        return Err(Refusal::TooLarge);
    }
    Ok(bytes)
}
