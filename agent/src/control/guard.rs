//! Who asks, and whether he may: decided from a request's head alone.
//!
//! * On the socket its owner asks, for the file system lets nobody else open it.
//! * With tokens every request has to bring one, on loopback too.
//! * Without tokens only loopback is listened on, and whoever is on this machine may ask; but not a page in a browser on it:
//!   such a request has an `Origin`, or, after a name was made to point here (DNS rebinding), a `Host` that is not loopback.
//!   Neither can it send JSON without being asked for leave first, which nobody answers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::route::Access;
use super::tokens::{Grant, Tokens, Unusable};

/// Where a request has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// The socket, opened by this user.
    Socket(Option<u32>),
    /// The network, from this address.
    Net(SocketAddr),
}

/// What is asked of those who come over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// A token of this file.
    Tokens(PathBuf),
    /// To be on this machine.
    Loopback,
}

/// Who asks, as the log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    who: String,
    /// What he may.
    pub access: Access,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.who)
    }
}

/// Why somebody is not let in.
#[derive(Debug)]
pub enum Denied {
    /// He has brought no token, or a wrong one.
    Token,
    /// The tokens cannot be read now.
    Tokens(Unusable),
    /// The request is one that a page in a browser could have made.
    Browser(&'static str),
    /// The body of a request that changes something is not JSON.
    Kind,
}

impl Denied {
    /// The status and the reason he is told.
    pub fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                "a token is needed that this agent knows: Authorization: Bearer TOKEN",
            ),
            Self::Tokens(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the file of tokens cannot be used: the agent's log says why",
            ),
            Self::Browser(why) => (StatusCode::FORBIDDEN, why),
            Self::Kind => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "a POST is sent with Content-Type: application/json",
            ),
        }
    }
}

impl Door {
    /// Who this is without looking further.
    fn asker(&self) -> Asker {
        let who = match self {
            Self::Socket(Some(user)) => format!("user {user} on the socket"),
            Self::Socket(None) => "the socket".to_owned(),
            Self::Net(address) => format!("somebody at {}", address.ip()),
        };
        let access = Access::Write;
        Asker { who, access }
    }
}

/// Who asks.
///
/// # Errors
/// He is not let in.
pub fn admit(door: &Door, guard: &Guard, head: &Parts) -> Result<Asker, Denied> {
    let Door::Net(address) = door else {
        return Ok(door.asker());
    };
    let asker = match guard {
        Guard::Tokens(path) => {
            let tokens = Tokens::<Access>::read(path).map_err(Denied::Tokens)?;
            let grant = bearer(&head.headers).and_then(|token| tokens.grant(token));
            let Grant { name, access } = grant.ok_or(Denied::Token)?.clone();
            let who = format!("{name} at {}", address.ip());
            Asker { who, access }
        }
        Guard::Loopback => {
            is_no_browser(head)?;
            door.asker()
        }
    };
    if head.method == Method::POST && !is_json(&head.headers) {
        return Err(Denied::Kind);
    }
    Ok(asker)
}

/// A header that is there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The bearer token of a request, if it has one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(headers, AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = only(headers, CONTENT_TYPE).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn is_no_browser(head: &Parts) -> Result<(), Denied> {
    if head.headers.contains_key(ORIGIN) {
        return Err(Denied::Browser(
            "requests of web pages (with an Origin) are not answered",
        ));
    }
    let named = only(&head.headers, HOST).is_some_and(is_loopback);
    let address = head.uri.authority();
    if named && address.is_none_or(|authority| is_loopback(authority.as_str())) {
        return Ok(());
    }
    Err(Denied::Browser(
        "the Host of a request is 127.0.0.1, [::1] or localhost: without tokens only this machine is answered",
    ))
}

/// Whether `host[:port]` is this machine, without asking anybody for names.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || is_port(port) => name,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    let address: Option<IpAddr> = name.parse().ok();
    name.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
}

fn is_port(text: &str) -> bool {
    let port = text.strip_prefix(':');
    port.is_some_and(|port| port.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    /// A method, headers and the status of the answer.
    type Row = (&'static str, &'static [(&'static str, &'static str)], u16);

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn net() -> Door {
        Door::Net("127.0.0.1:5".parse().unwrap())
    }

    /// The status of the answer, or 200 for one who is let in.
    fn status(guard: &Guard, head: &Parts) -> u16 {
        match admit(&net(), guard, head) {
            Ok(_) => 200,
            Err(denied) => denied.answer().0.as_u16(),
        }
    }

    #[test]
    fn without_tokens_this_machine_is_answered_and_no_page_on_it() {
        const JSON: (&str, &str) = ("content-type", "application/json");
        let rows: &[Row] = &[
            ("GET", &[("host", "127.0.0.1:9478")], 200),
            ("GET", &[("host", "localhost")], 200),
            ("GET", &[("host", "LOCALHOST:1")], 200),
            ("GET", &[("host", "127.8.9.1")], 200),
            ("GET", &[("host", "[::1]:9478")], 200),
            ("GET", &[("host", "[::1]")], 200),
            ("GET", &[], 403),
            ("GET", &[("host", "")], 403),
            ("GET", &[("host", "evil.example")], 403),
            ("GET", &[("host", "127.0.0.1.evil.example")], 403),
            ("GET", &[("host", "localhost.evil.example:9478")], 403),
            ("GET", &[("host", "10.0.0.1:9478")], 403),
            ("GET", &[("host", "0.0.0.0:9478")], 403),
            ("GET", &[("host", "[::1].evil.example")], 403),
            ("GET", &[("host", "[::1")], 403),
            ("GET", &[("host", "127.0.0.1:9478@evil.example")], 403),
            (
                "GET",
                &[("host", "localhost"), ("host", "evil.example")],
                403,
            ),
            (
                "GET",
                &[("host", "localhost"), ("origin", "http://localhost")],
                403,
            ),
            ("GET", &[("host", "localhost"), ("origin", "null")], 403),
            ("POST", &[("host", "localhost"), JSON], 200),
            (
                "POST",
                &[
                    ("host", "localhost"),
                    ("content-type", "Application/JSON; charset=utf-8"),
                ],
                200,
            ),
            ("POST", &[("host", "localhost")], 415),
            (
                "POST",
                &[("host", "localhost"), ("content-type", "text/plain")],
                415,
            ),
            (
                "POST",
                &[
                    ("host", "localhost"),
                    ("content-type", "application/json-x"),
                ],
                415,
            ),
            (
                "POST",
                &[("host", "localhost"), JSON, ("content-type", "text/plain")],
                415,
            ),
            (
                "POST",
                &[("host", "localhost"), JSON, ("origin", "http://x")],
                403,
            ),
        ];
        for (method, headers, expected) in rows {
            let head = head(method, "/v1/bots", headers);
            assert_eq!(
                status(&Guard::Loopback, &head),
                *expected,
                "{method} {headers:?}"
            );
        }
        let absolute = head(
            "GET",
            "http://evil.example/v1/bots",
            &[("host", "localhost")],
        );
        assert_eq!(status(&Guard::Loopback, &absolute), 403);
    }

    #[test]
    fn with_tokens_the_right_one_is_needed_whoever_asks_from_wherever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, format!("ci {TOKEN} write\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let guard = Guard::Tokens(path.clone());
        let right = format!("Bearer {TOKEN}");
        let rows = [
            (right.clone(), 200),
            (format!("bearer  {TOKEN}"), 200),
            (String::new(), 401),
            ("Bearer".to_owned(), 401),
            ("Bearer ".to_owned(), 401),
            (format!("Basic {TOKEN}"), 401),
            (TOKEN.to_owned(), 401),
            (format!("Bearer {TOKEN}0"), 401),
            (format!("Bearer {}", &TOKEN[1..]), 401),
            (format!("Bearer {}", &TOKEN[..31]), 401),
            (format!("Bearer {}", TOKEN.to_uppercase()), 401),
            (format!("Bearer ci {TOKEN}"), 401),
            (format!("Bearer {}", "x".repeat(5000)), 401),
        ];
        for (given, expected) in rows {
            let head = head("GET", "/v1/bots", &[("authorization", &given)]);
            assert_eq!(status(&guard, &head), expected, "{given}");
        }
        let none = head("GET", "/v1/bots", &[("host", "localhost")]);
        assert_eq!(status(&guard, &none), 401);
        let twice = [
            ("authorization", right.as_str()),
            ("authorization", right.as_str()),
        ];
        assert_eq!(status(&guard, &head("GET", "/v1/bots", &twice)), 401);
        let asker = admit(&net(), &guard, &head("GET", "/", &twice[..1])).unwrap();
        assert_eq!(asker.to_string(), "ci at 127.0.0.1");

        fs::write(&path, format!("ci {TOKEN}0\n")).unwrap();
        assert_eq!(status(&guard, &head("GET", "/", &twice[..1])), 401);
        fs::write(&path, "garbage\n").unwrap();
        assert_eq!(status(&guard, &head("GET", "/", &twice[..1])), 503);
        fs::remove_file(&path).unwrap();
        assert_eq!(status(&guard, &head("GET", "/", &twice[..1])), 503);
    }

    #[test]
    fn who_opened_the_socket_may_everything() {
        let head = head("POST", "/v1/stop", &[("origin", "http://x")]);
        let asker = admit(&Door::Socket(Some(7)), &Guard::Loopback, &head).unwrap();
        assert_eq!(
            (asker.to_string().as_str(), asker.access),
            ("user 7 on the socket", Access::Write)
        );
    }
}
