//! Dead letters: events that could not be kept, with the reason, where a person finds them.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{Context, Message};

use super::write::Stamp;

/// The stream of dead letters.
pub const STREAM: &str = "THE0_DLQ";
/// Before the subject of the event.
const SUBJECT: &str = "the0.dlq";
/// How long one is kept.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How many are kept.
const MOST: i64 = 100_000;

/// Keeps the event aside with the reason, once however often it is tried.
///
/// # Errors
/// It is not kept; why.
pub async fn send(
    context: &Context,
    event: &Message,
    stamp: Stamp,
    why: &str,
) -> Result<(), async_nats::Error> {
    context
        .get_or_create_stream(Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{SUBJECT}.>")],
            storage: StorageType::File,
            max_age: LIFE,
            max_messages: MOST,
            ..Config::default()
        })
        .await?;
    let subject = format!("{SUBJECT}.{}", event.subject);
    let headers = headers(event, stamp, why);
    let sent = context.publish_with_headers(subject, headers, event.payload.clone());
    sent.await?.await?;
    Ok(())
}

fn headers(event: &Message, stamp: Stamp, why: &str) -> HeaderMap {
    let Stamp { stream, seq } = stamp;
    let mut headers = HeaderMap::new();
    headers.insert("The0-Reason", why);
    let of = event.info().map_or("", |info| info.stream);
    headers.insert("The0-Stream", of);
    headers.insert("The0-Sequence", seq.to_string());
    headers.insert("Nats-Msg-Id", format!("the0-{stream}-{seq}"));
    headers
}
