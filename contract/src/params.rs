//! The parameters of a question in both of their forms.
//!
//! SDK 0.3.1 reads only the query string, 0.4.0 prefers a JSON body, so a question carries both: keys sorted,
//! values that are not strings as compact JSON text, and null left out of the query string.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value};

/// The header by which `query` is told how long a question may take, in milliseconds.
pub const TIMEOUT: &str = "the0-timeout-ms";

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Named values, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Params(Map<String, Value>);

impl Params {
    /// From a query string (without its `?`), every value a string; of a name given twice the first counts, as in
    /// the SDKs.
    pub fn from_query(query: &str) -> Self {
        let decode = |text: &str| {
            percent_decode_str(&text.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let mut map = Map::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            map.entry(decode(name))
                .or_insert_with(|| Value::String(decode(value)));
        }
        Self(map)
    }

    /// These, with `body` over them where both have a name.
    #[must_use]
    pub fn overlaid(mut self, body: Map<String, Value>) -> Self {
        self.0.extend(body);
        self
    }

    /// The query string, without a `?`.
    pub fn to_query(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
        self.texts()
            .map(|(name, value)| format!("{}={}", encode(name), encode(&value)))
            .collect::<Vec<_>>()
            .join("&")
    }

    /// Each name with its value as text; those that are null are left out.
    pub fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let pairs = self.0.iter();
        pairs.filter_map(move |(name, value)| Some((name.as_str(), text(value)?)))
    }

    /// The JSON body.
    pub fn to_body(&self) -> String {
        let written = serde_json::to_string(&self.0);
        written.unwrap_or_default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Map<String, Value>> for Params {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_are_those_of_the_contract() {
        let value =
            json!({"symbol": "BTC/USD", "limit": 5, "filter": {"side": "buy"}, "cursor": null});
        let Value::Object(map) = value else {
            unreachable!()
        };
        let params = Params::from(map);
        assert_eq!(
            params.to_query(),
            "filter=%7B%22side%22%3A%22buy%22%7D&limit=5&symbol=BTC%2FUSD"
        );
        let body: Value = serde_json::from_str(&params.to_body()).unwrap();
        assert_eq!(
            body,
            json!({"symbol": "BTC/USD", "limit": 5, "filter": {"side": "buy"}, "cursor": null})
        );
    }

    #[test]
    fn a_query_string_is_read_as_the_sdks_read_it() {
        let params = Params::from_query("b=1&a=x%20y+z&b=2&c");
        assert_eq!(params.to_query(), "a=x%20y%20z&b=1&c=");
        assert!(Params::from_query("").is_empty());
    }
}
