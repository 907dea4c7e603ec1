//! What a request came to when it did not do what it was for, and what that means.

use std::io;
use std::time::{Duration, SystemTime};

use hyper::HeaderMap;

use super::wire::{Heard, Repeat, Silence};
use super::xml;

/// Clocks this far apart are told as the reason of a refusal.
const SKEW: u64 = 120;
/// Bad requests that may be good ones when they are sent again, or with other keys.
const MENDABLE: [&str; 6] = [
    "RequestTimeout",
    "BadDigest",
    "IncompleteBody",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
];
/// The longest pause a store can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a request did not do what it was for.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no whole answer.
    Silent(Silence),
    /// The store says no.
    Refused(Box<Refusal>),
}

/// An answer other than success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    /// The store's word for it; empty if the answer has none.
    pub code: String,
    message: String,
    /// What the store asks to wait.
    pub pause: Option<Duration>,
    /// Seconds the store's clock is ahead of ours.
    ahead: Option<i64>,
    /// Where the answer says to go instead.
    elsewhere: Option<String>,
    /// What kind of body came instead of a store's.
    foreign: Option<String>,
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// There is no such object.
    NoKey,
    /// There is no such bucket.
    NoBucket,
    /// The object is not the version that was named.
    Changed,
    /// Later, perhaps.
    Later,
    /// Never.
    Never,
}

impl Refusal {
    /// Reads an answer's status, headers and body.
    pub(super) fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let body = String::from_utf8_lossy(body);
        let code = xml::text(&body, "Code").unwrap_or_default();
        let pause = text("retry-after").and_then(|text| text.trim().parse().ok());
        let foreign = !body.trim().is_empty() && code.is_empty();
        let place = text("location").and_then(|text| origin(&text));
        let region = text("x-amz-bucket-region").or_else(|| xml::text(&body, "Region"));
        let region = region.map(|region| format!("region {}", plain(&region)));
        let endpoint = xml::text(&body, "Endpoint").map(|text| plain(&text));
        Self {
            status,
            code: plain(&code),
            message: plain(&xml::text(&body, "Message").unwrap_or_default()),
            pause: pause.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE)),
            ahead: text("date").and_then(|text| ahead(&text)),
            elsewhere: place
                .or(endpoint)
                .into_iter()
                .chain(region)
                .reduce(|a, b| format!("{a}, {b}")),
            foreign: foreign
                .then(|| text("content-type").map_or("no type".into(), |text| plain(&text))),
        }
    }

    /// That an answer of success is not one of a store.
    pub(super) fn strange(status: u16, why: &str) -> Self {
        Self {
            status,
            code: String::new(),
            message: why.to_owned(),
            pause: None,
            ahead: None,
            elsewhere: None,
            foreign: None,
        }
    }

    pub(super) fn meaning(&self) -> Meaning {
        match (self.status, self.code.as_str()) {
            (_, "NoSuchKey" | "NoSuchVersion") => Meaning::NoKey,
            (_, "NoSuchBucket") => Meaning::NoBucket,
            (412, _) | (_, "PreconditionFailed" | "ConditionalRequestConflict") => Meaning::Changed,
            (501 | 505, _) => Meaning::Never,
            // 2xx: an error in an answer that had begun as a success, or an answer that is no store's.
            (200..=299 | 401 | 403 | 404 | 408 | 409 | 416 | 429 | 500.., _) => Meaning::Later,
            (_, code) if is_busy(code) || MENDABLE.contains(&code) => Meaning::Later,
            _ => Meaning::Never,
        }
    }

    /// What the store said, and what to do about it. Nothing of the request is in it.
    pub(super) fn text(&self) -> String {
        let mut said = format!("the store answered {}", self.status);
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                let mark = if part == &self.code { " " } else { ": " };
                said = format!("{said}{mark}{part}");
            }
        }
        match self.advice() {
            None => said,
            Some(advice) => format!("{said}; {advice}"),
        }
    }

    fn advice(&self) -> Option<String> {
        let skew = self.ahead.filter(|s| s.unsigned_abs() > SKEW);
        match (self.status, self.code.as_str()) {
            (300..=399, _) | (_, "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError") => {
                let to = self.elsewhere.as_deref().unwrap_or("nowhere in particular");
                Some(format!("it points to {to}: check MINIO_ENDPOINT and MINIO_REGION"))
            }
            (403, _) | (_, "RequestTimeTooSkewed") if skew.is_some() => {
                let seconds = skew.unwrap_or_default();
                let word = if seconds > 0 { "ahead of" } else { "behind" };
                let seconds = seconds.unsigned_abs();
                Some(format!("its clock is {seconds} s {word} this machine's: set the clocks"))
            }
            (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
                Some("the keys have ended and wait to be renewed".to_owned())
            }
            (401 | 403, _) => Some(
                "check MINIO_ACCESS_KEY and MINIO_SECRET_KEY, and what the store's policy lets them do".to_owned(),
            ),
            _ => self.foreign.as_ref().map(|kind| {
                format!("with {kind}, not as an object store does: check MINIO_ENDPOINT, MINIO_USE_SSL and what is in between")
            }),
        }
    }
}

/// What a store says that has not acted on a request.
fn is_busy(code: &str) -> bool {
    const CODES: [&str; 6] = [
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "ServiceUnavailable",
        "TooManyRequests",
        "XMinioServerNotInitialized",
    ];
    CODES.contains(&code)
}

impl Trouble {
    /// Whether it is the store's: that an object is not there, or another version, is an answer.
    pub(super) fn is_fault(&self) -> bool {
        let meaning = match self {
            Self::Silent(_) => return true,
            Self::Refused(refusal) => refusal.meaning(),
        };
        !matches!(meaning, Meaning::NoKey | Meaning::Changed)
    }

    /// That an upload in parts is not there any more: someone else has ended it.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == "NoSuchUpload")
    }

    /// Whether the same request may succeed when sent again right away, without harm.
    pub(super) fn is_passing(&self, repeat: Repeat) -> bool {
        match self {
            Self::Silent(silence) => silence.heard == Heard::No || repeat == Repeat::Freely,
            Self::Refused(refusal) => match (refusal.status, refusal.code.as_str()) {
                (400, "RequestTimeout" | "BadDigest" | "IncompleteBody") | (429, _) => true,
                (_, code) if is_busy(code) => true,
                (200 | 500 | 502 | 503 | 504, _) | (409, "OperationAborted") => {
                    repeat == Repeat::Freely
                }
                _ => false,
            },
        }
    }

    /// How long the store asked to wait.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Silent(_) => None,
            Self::Refused(refusal) => refusal.pause,
        }
    }

    /// As the cause of an error.
    pub(super) fn cause(self) -> io::Error {
        match self {
            Self::Silent(silence) => silence.cause,
            Self::Refused(refusal) => io::Error::other(refusal.text()),
        }
    }
}

impl From<Silence> for Trouble {
    fn from(silence: Silence) -> Self {
        Self::Silent(silence)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// Scheme and host of an address; what follows may hold a signature.
fn origin(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    Some(plain(&format!("{scheme}://{host}")))
}

/// Seconds the clock that wrote `date` is ahead of ours.
fn ahead(date: &str) -> Option<i64> {
    let theirs = httpdate::parse_http_date(date).ok()?;
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let now = SystemTime::now();
    Some(match theirs.duration_since(now) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    })
}

/// Text of the store's for a line of a log.
fn plain(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(300).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn read(status: u16, headers: &[(&'static str, &str)], code: &str) -> Refusal {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let body = format!("<Error><Code>{code}</Code><Message>why</Message></Error>");
        Refusal::read(status, &map, body.as_bytes())
    }

    #[test]
    fn only_the_stores_own_words_mean_that_an_object_is_not_there() {
        let meaning = |status, code| read(status, &[], code).meaning();
        assert_eq!(meaning(404, "NoSuchKey"), Meaning::NoKey);
        assert_eq!(meaning(404, "NoSuchBucket"), Meaning::NoBucket);
        let html = Refusal::read(404, &HeaderMap::new(), b"<html>not found</html>");
        assert_eq!(html.meaning(), Meaning::Later);
        for (status, code) in [(404, ""), (404, "NoSuchUpload"), (403, "AccessDenied")] {
            assert_eq!(meaning(status, code), Meaning::Later, "{status} {code}");
        }
        for (status, code) in [(412, ""), (409, "ConditionalRequestConflict")] {
            assert_eq!(meaning(status, code), Meaning::Changed, "{status} {code}");
        }
        for (status, code) in [
            (301, "PermanentRedirect"),
            (400, "InvalidArgument"),
            (501, ""),
        ] {
            assert_eq!(meaning(status, code), Meaning::Never, "{status} {code}");
        }
    }

    #[test]
    fn what_may_have_been_done_is_not_asked_for_twice() {
        let passing =
            |status, code, repeat| Trouble::from(read(status, &[], code)).is_passing(repeat);
        for (status, code) in [(503, "SlowDown"), (429, ""), (400, "BadDigest")] {
            assert!(passing(status, code, Repeat::Unheard), "{status} {code}");
        }
        for (status, code) in [(500, "InternalError"), (502, ""), (503, ""), (504, "")] {
            assert!(!passing(status, code, Repeat::Unheard), "{status} {code}");
            assert!(passing(status, code, Repeat::Freely), "{status} {code}");
        }
        for (status, code) in [
            (403, "AccessDenied"),
            (412, ""),
            (404, "NoSuchKey"),
            (301, ""),
        ] {
            assert!(!passing(status, code, Repeat::Freely), "{status} {code}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_check() {
        let long_ago = [("date", "Sun, 06 Nov 1994 08:49:37 GMT")];
        let skewed = read(403, &long_ago, "AccessDenied").text();
        assert!(skewed.contains("s behind this machine's"), "{skewed}");
        let denied = read(403, &[], "InvalidAccessKeyId").text();
        assert!(
            denied.contains("InvalidAccessKeyId") && denied.contains("MINIO_ACCESS_KEY"),
            "{denied}"
        );
        let moved = [(
            "location",
            "https://u:p@other.example/b/k?X-Amz-Signature=beef",
        )];
        let moved = read(307, &moved, "TemporaryRedirect").text();
        assert!(
            moved.contains("https://other.example:") && moved.contains("MINIO_REGION"),
            "{moved}"
        );
        assert!(!moved.contains("beef") && !moved.contains("u:p"), "{moved}");
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("text/html"));
        let proxy = Refusal::read(502, &headers, b"<html>Bad Gateway</html>").text();
        assert!(
            proxy.contains("502") && proxy.contains("text/html"),
            "{proxy}"
        );
    }

    #[test]
    fn a_pause_is_as_long_as_the_store_asks_up_to_a_limit() {
        let pause = |text: &str| read(503, &[("retry-after", text)], "SlowDown").pause;
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("86400"), Some(LONGEST_PAUSE));
        assert_eq!(pause("soon"), None);
    }
}
