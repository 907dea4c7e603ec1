//! Which answer a request gets: a pure function of its first line and of whether the bot answers for itself.

use hyper::Method;

/// Who answers questions about the bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The bot's own query program.
    Program,
    /// Nobody: the bot has none.
    Nobody,
}

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Tell what supervisor and sync have written down.
    Status,
    /// Ask the bot's program.
    Forward,
    /// Say that this program is well.
    Health,
    /// Say that there is nothing to ask.
    Info,
    /// No such path.
    Unknown,
    /// Neither GET nor POST.
    BadMethod,
}

/// The route of a request. `/_status` is ours, also where the bot has a handler of that name.
pub fn route(method: &Method, path: &str, source: Source) -> Route {
    if !matches!(*method, Method::GET | Method::POST) {
        return Route::BadMethod;
    }
    match (path, source) {
        ("/_status", _) => Route::Status,
        (_, Source::Program) => Route::Forward,
        ("/health", Source::Nobody) => Route::Health,
        ("/info", Source::Nobody) => Route::Info,
        (_, Source::Nobody) => Route::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_its_route() {
        use Source::{Nobody, Program};
        let rows = [
            ("GET", "/_status", Program, Route::Status),
            ("POST", "/_status", Nobody, Route::Status),
            ("GET", "/_status/", Program, Route::Forward),
            ("GET", "/health", Program, Route::Forward),
            ("GET", "/info", Program, Route::Forward),
            ("POST", "/a%2Fb", Program, Route::Forward),
            ("GET", "/health", Nobody, Route::Health),
            ("POST", "/info", Nobody, Route::Info),
            ("GET", "/prices", Nobody, Route::Unknown),
            ("PUT", "/_status", Nobody, Route::BadMethod),
            ("DELETE", "/prices", Program, Route::BadMethod),
            ("HEAD", "/health", Nobody, Route::BadMethod),
        ];
        for (method, path, source, expected) in rows {
            let method = method.parse().unwrap();
            assert_eq!(
                route(&method, path, source),
                expected,
                "{method} {path} {source:?}"
            );
        }
    }
}
