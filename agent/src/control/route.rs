//! Which request means what: one table, which the served document must match.
//!
//! A new resource is a row of [`TABLE`], a [`Route`], what it needs ([`Route::access`], [`Route::needs_lease`]), an
//! answer in [`super::answers`], and its paragraph in `openapi.json`.

use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::plan::Switch;
use crate::request::Verb;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// The document of this API.
    Document,
    /// How all bots are.
    Bots,
    /// How one is.
    Bot(String),
    /// Its runs.
    History(String),
    /// Do something with it.
    Do(String, Verb),
    /// Bots that run at times.
    Schedules,
    /// Run the next tick of one now.
    RunNow(String),
    /// The latest run-to-end jobs.
    Jobs,
    /// One of them.
    Job(String),
    /// Cancel it.
    CancelJob(String),
    /// Ask a bot a question.
    Query,
    /// What is missing was removed on purpose.
    Confirm,
    /// All bots, or none.
    Switch(Switch),
    /// Start anew what is not as it would be made now.
    Roll,
    /// Remove what is left over.
    Collect,
}

/// What an asker must be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// To look.
    Read,
    /// To change something.
    Write,
}

/// Why a request means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// There is nothing of that path.
    Nowhere,
    /// There is, by these methods.
    Method(Vec<Method>),
}

/// A method, a path in which `{word}` stands for any one part, and what they mean, given that part.
type Row = (Method, &'static str, fn(String) -> Route);

/// All there is.
pub static TABLE: [Row; 18] = [
    (Method::GET, "/v1/openapi.json", |_| Route::Document),
    (Method::GET, "/v1/bots", |_| Route::Bots),
    (Method::GET, "/v1/bots/{bot}", Route::Bot),
    (Method::GET, "/v1/bots/{bot}/history", Route::History),
    (Method::POST, "/v1/bots/{bot}/start", |bot| {
        Route::Do(bot, Verb::Start)
    }),
    (Method::POST, "/v1/bots/{bot}/stop", |bot| {
        Route::Do(bot, Verb::Stop)
    }),
    (Method::POST, "/v1/bots/{bot}/restart", |bot| {
        Route::Do(bot, Verb::Restart)
    }),
    (Method::GET, "/v1/schedules", |_| Route::Schedules),
    (Method::POST, "/v1/schedules/{bot}/run", Route::RunNow),
    (Method::GET, "/v1/jobs", |_| Route::Jobs),
    (Method::GET, "/v1/jobs/{job}", Route::Job),
    (Method::POST, "/v1/jobs/{job}/cancel", Route::CancelJob),
    (Method::POST, "/v1/query", |_| Route::Query),
    (Method::POST, "/v1/confirm", |_| Route::Confirm),
    (Method::POST, "/v1/start", |_| Route::Switch(Switch::On)),
    (Method::POST, "/v1/stop", |_| Route::Switch(Switch::Off)),
    (Method::POST, "/v1/roll", |_| Route::Roll),
    (Method::POST, "/v1/collect", |_| Route::Collect),
];

impl Route {
    /// Whether only who has the lease may do it: what stops a bot, whoever runs it, is done where it is said.
    pub fn needs_lease(&self) -> bool {
        match self {
            Self::Do(_, verb) => *verb != Verb::Stop,
            Self::Switch(switch) => *switch == Switch::On,
            Self::RunNow(_) | Self::Confirm | Self::Roll | Self::Collect => true,
            Self::CancelJob(_) => false,
            _ => self.access() == Access::Write,
        }
    }

    /// What it takes. A question changes nothing of ours.
    pub fn access(&self) -> Access {
        match self {
            Self::Document
            | Self::Bots
            | Self::Bot(_)
            | Self::History(_)
            | Self::Schedules
            | Self::Jobs
            | Self::Job(_)
            | Self::Query => Access::Read,
            Self::Do(..)
            | Self::RunNow(_)
            | Self::CancelJob(_)
            | Self::Confirm
            | Self::Switch(_)
            | Self::Roll
            | Self::Collect => Access::Write,
        }
    }

    /// What it does, for the log.
    pub fn deed(&self) -> String {
        match self {
            Self::Do(word, Verb::Start) => format!("start of {word:?}"),
            Self::Do(word, Verb::Stop) => format!("stop of {word:?}"),
            Self::Do(word, Verb::Restart) => format!("restart of {word:?}"),
            Self::Confirm => "confirmation".to_owned(),
            Self::Switch(Switch::On) => "start of all".to_owned(),
            Self::Switch(Switch::Off) => "stop of all".to_owned(),
            Self::Roll => "roll".to_owned(),
            Self::Collect => "gc".to_owned(),
            Self::RunNow(word) => format!("run of {word:?} now"),
            Self::CancelJob(id) => format!("end of job {id:?}"),
            Self::Query => "question".to_owned(),
            _ => "look".to_owned(),
        }
    }
}

/// What a request means.
///
/// # Errors
/// It means nothing.
pub fn route(method: &Method, path: &str) -> Result<Route, Missed> {
    let mut others = Vec::new();
    for (expected, template, make) in &TABLE {
        match captured(template, path) {
            Some(word) if method == expected => return Ok(make(word)),
            Some(_) => others.push(expected.clone()),
            None => {}
        }
    }
    Err(if others.is_empty() {
        Missed::Nowhere
    } else {
        Missed::Method(others)
    })
}

/// The part of `path` that stands where `template` has its word, decoded; empty for a template without one. `None`:
/// the path is another one.
fn captured(template: &str, path: &str) -> Option<String> {
    let mut word = String::new();
    let mut parts = path.split('/');
    for expected in template.split('/') {
        let part = parts.next()?;
        if expected.starts_with('{') && !part.is_empty() {
            word = percent_decode_str(part).decode_utf8_lossy().into_owned();
        } else if part != expected {
            return None;
        }
    }
    parts.next().is_none().then_some(word)
}

/// `text` as a part of a path.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_where_it_should() {
        let rows = [
            (Method::GET, "/v1/bots".to_owned(), Ok(Route::Bots)),
            (
                Method::GET,
                "/v1/bots/b".to_owned(),
                Ok(Route::Bot("b".into())),
            ),
            (
                Method::GET,
                "/v1/bots/b/history".to_owned(),
                Ok(Route::History("b".into())),
            ),
            (Method::POST, "/v1/confirm".to_owned(), Ok(Route::Confirm)),
            (
                Method::POST,
                format!("/v1/bots/{}/stop", encode("a b+c/ü%")),
                Ok(Route::Do("a b+c/ü%".into(), Verb::Stop)),
            ),
            (
                Method::POST,
                "/v1/bots".to_owned(),
                Err(Missed::Method(vec![Method::GET])),
            ),
            (
                Method::GET,
                "/v1/bots/x/stop".to_owned(),
                Err(Missed::Method(vec![Method::POST])),
            ),
            (
                Method::HEAD,
                "/v1/query".to_owned(),
                Err(Missed::Method(vec![Method::POST])),
            ),
        ];
        for (method, path, expected) in rows {
            assert_eq!(route(&method, &path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_path_of_the_table_is_nowhere() {
        for path in [
            "/",
            "",
            "/bots",
            "/v2/bots",
            "/v1",
            "/v1/bots/",
            "/v1/bots//stop",
            "/v1/bots/x/fly",
            "/v1/bots/x/stop/",
            "/v1//bots",
            "//v1/bots",
            "/v1/bots/{bot}/x",
        ] {
            for method in [Method::GET, Method::POST] {
                assert_eq!(route(&method, path), Err(Missed::Nowhere), "{path}");
            }
        }
    }

    #[test]
    fn every_row_can_be_reached_and_only_what_reads_is_by_get() {
        for (method, template, make) in &TABLE {
            let path = template.replace("{bot}", "x").replace("{job}", "x");
            let found = route(method, &path).unwrap();
            assert_eq!(found, make("x".into()), "{template}");
            if *method == Method::GET {
                assert_eq!(found.access(), Access::Read, "{template}");
            }
            // Who may only look must not do what needs the lease.
            assert!(
                !found.needs_lease() || found.access() == Access::Write,
                "{template}"
            );
        }
    }
}
