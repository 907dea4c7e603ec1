//! What HTTP says of an object: its headers, written and read.

use hyper::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::client::Call;
use super::refusal::Refusal;
use crate::store::{Condition, Error, Etag, Head, Metadata, Place};

/// The most that a store keeps beside an object, names included.
const LARGEST_METADATA: usize = 2 << 10;
/// What stands for itself in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');
/// What is known of an object, from an answer's headers; `None` if a store would not answer so.
pub(super) fn head_of(headers: &HeaderMap) -> Option<Head> {
    let size = header(headers, "content-length")?.parse().ok()?;
    let metadata = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-amz-meta-")?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    Some(Head {
        etag: etag_of(headers)?,
        size,
        metadata: metadata.collect(),
    })
}

/// The version in an answer's headers.
pub(super) fn etag_of(headers: &HeaderMap) -> Option<Etag> {
    let etag = header(headers, "etag")?;
    let etag = etag.trim_matches('"');
    (!etag.is_empty()).then(|| Etag(etag.to_owned()))
}

/// The object as a header names it.
pub(super) fn encode(at: &Place) -> String {
    let path = format!("/{}/{}", at.bucket, at.key);
    utf8_percent_encode(&path, PATH).to_string()
}

/// A store keeps little beside an object, and headers carry not every text.
pub(super) fn check(at: &Place, metadata: &Metadata) -> Result<(), Error> {
    let refuse = |why: String| Error::Other {
        what: at.to_string(),
        why,
    };
    let size: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > LARGEST_METADATA {
        let why =
            format!("{size} bytes are to be noted beside it, and a store keeps {LARGEST_METADATA}");
        return Err(refuse(why));
    }
    let plain = |name: &str| {
        name.bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    let kept = |value: &str| {
        value
            .split(' ')
            .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic()))
    };
    match metadata
        .iter()
        .find(|(name, value)| !plain(name) || !(value.is_empty() || kept(value)))
    {
        None => Ok(()),
        Some((name, _)) => Err(refuse(format!(
            "what is to be noted beside it as {name:?} is no header of HTTP"
        ))),
    }
}

/// Metadata and type of a new object.
pub(super) fn described<'a>(call: Call<'a>, at: &Place, metadata: &Metadata) -> Call<'a> {
    let (_, ending) = at.key.as_str().rsplit_once('.').unwrap_or_default();
    let kind = match ending {
        "log" => "text/plain",
        "gz" => "application/gzip",
        _ => "application/octet-stream",
    };
    let call = call.header("content-type", kind);
    let with = |call: Call<'a>, (name, value): (&String, &String)| {
        call.header(&format!("x-amz-meta-{name}"), value)
    };
    metadata.iter().fold(call, with)
}

/// Lets a call act only under `condition`.
pub(super) fn conditional<'a>(call: Call<'a>, condition: &Condition) -> Call<'a> {
    match condition {
        Condition::Any => call,
        Condition::IfAbsent => call.header("if-none-match", "*"),
        Condition::IfMatch(etag) => call.header("if-match", format!("\"{}\"", etag.0)),
    }
}

/// A header's text.
pub(super) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// That an answer is missing something no store leaves out.
pub(super) fn not_a_store(what: &str) -> Refusal {
    let why = format!(
        "without {what}, not as an object store does: check MINIO_ENDPOINT, MINIO_USE_SSL and what is in between"
    );
    Refusal::strange(200, &why)
}
