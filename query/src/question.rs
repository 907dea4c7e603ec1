//! A question as the program gets it: the path as it came, and the parameters in both forms
//! ([`contract::params`]), whichever form they came in.

use contract::params::Params;
use hyper::Uri;
use serde_json::{Map, Value};
use thiserror::Error;

/// The longest path with parameters that is sent as one. A longer one exceeds what servers read as a first line
/// (http.server: 64 KiB) and what our own HTTP library takes; such parameters travel in the body alone.
const LONGEST_TARGET: usize = 60 * 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    path: String,
    params: Params,
}

/// The body is not what a question carries.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum BadBody {
    /// Not JSON; only the position is told.
    #[error(
        "the body is not JSON (line {line}, column {column}): send the parameters as a JSON object"
    )]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1; 0 at a line's very beginning.
        column: usize,
    },
    /// JSON of another kind.
    #[error("the body is JSON but not an object: send the parameters as a JSON object")]
    NotAnObject,
}

impl Question {
    /// From a request: the parameters of its URL, overlaid with those of its body.
    ///
    /// # Errors
    /// When there is a body and it is not a JSON object.
    pub fn read(uri: &Uri, body: &[u8]) -> Result<Self, BadBody> {
        let params = Params::from_query(uri.query().unwrap_or("")).overlaid(object(body)?);
        Ok(Self {
            path: uri.path().to_owned(),
            params,
        })
    }

    /// The path with the parameters in it, without them where they do not fit.
    pub fn target(&self) -> String {
        let query = self.params.to_query();
        if query.is_empty() || self.path.len() + query.len() > LONGEST_TARGET {
            return self.path.clone();
        }
        format!("{}?{query}", self.path)
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The parameters as a JSON object.
    pub fn body(&self) -> String {
        self.params.to_body()
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, BadBody> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(BadBody::NotAnObject),
        Err(err) => Err(BadBody::NotJson {
            line: err.line(),
            column: err.column(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(uri: &str, body: &str) -> Result<Question, BadBody> {
        Question::read(&uri.parse().unwrap(), body.as_bytes())
    }

    #[test]
    fn both_forms_are_made_from_either() {
        let from_url = read("/p?limit=5&symbol=BTC%2FUSD", "").unwrap();
        assert_eq!(from_url.target(), "/p?limit=5&symbol=BTC%2FUSD");
        assert_eq!(from_url.body(), r#"{"limit":"5","symbol":"BTC/USD"}"#);
        let from_body = read("/p", r#"{"symbol":"BTC/USD","limit":5,"cursor":null}"#).unwrap();
        assert_eq!(from_body.target(), "/p?limit=5&symbol=BTC%2FUSD");
        assert_eq!(
            from_body.body(),
            r#"{"cursor":null,"limit":5,"symbol":"BTC/USD"}"#
        );
    }

    #[test]
    fn the_body_counts_where_both_have_a_name_and_the_path_is_kept_as_it_came() {
        let question = read("/a%2Fb/%20?x=1&y=2", r#"{"x":3}"#).unwrap();
        assert_eq!(question.target(), "/a%2Fb/%20?x=3&y=2");
        assert_eq!(question.body(), r#"{"x":3,"y":"2"}"#);
        let null = read("/a?x=1", r#"{"x":null}"#).unwrap();
        assert_eq!(
            (null.target().as_str(), null.body().as_str()),
            ("/a", r#"{"x":null}"#)
        );
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_without_being_repeated() {
        for body in ["[1]", "5", "null", "\"hunter2\""] {
            assert_eq!(read("/", body), Err(BadBody::NotAnObject), "{body}");
        }
        for body in ["{hunter2", "a=hunter2", "{} hunter2", "\u{feff}{}"] {
            let error = read("/", body).unwrap_err();
            assert!(matches!(error, BadBody::NotJson { .. }), "{body}");
            assert!(!error.to_string().contains("hunter2"));
        }
        for nothing in ["", " \r\n"] {
            assert_eq!(read("/", nothing).unwrap().body(), "{}");
        }
    }

    #[test]
    fn parameters_too_long_for_a_url_travel_in_the_body() {
        let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(LONGEST_TARGET));
        let question = read("/p", &body).unwrap();
        assert_eq!(question.target(), "/p");
        assert_eq!(question.body(), body);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_question_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Question::read(&"/p?a=%ff&b".parse().unwrap(), &body);
        }

        #[test]
        fn a_target_is_always_one_that_can_be_requested(
            names in proptest::collection::btree_map(".{0,20}", ".{0,40}", 0..8)
        ) {
            let body = serde_json::to_string(&names).unwrap();
            let question = read("/p", &body).unwrap();
            let uri: Uri = question.target().parse().unwrap();
            prop_assert_eq!(uri.path(), "/p");
            let again = Params::from_query(uri.query().unwrap_or(""));
            prop_assert_eq!(again.to_body(), question.body());
        }
    }
}
