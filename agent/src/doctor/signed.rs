//! Requests to an object store with exactly the headers that are asked for, signed. For looking, not for work: bodies
//! are small, and what comes back is told as it came.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use contract::Secret;
use contract::launch::Keys;
use reqwest::header::{DATE, ETAG, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Method, Url};

use crate::store::address::Endpoint;

/// The longest part of an answer that is kept.
const LONGEST: usize = 4096;

/// Asks a store.
pub struct Signed {
    client: Client,
    url: Url,
    region: String,
    keys: Keys,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP's status.
    pub status: u16,
    /// The object's version.
    pub etag: Option<String>,
    /// The store's time.
    pub date: Option<SystemTime>,
    /// The word for what went wrong.
    pub code: Option<String>,
    /// The body, as far as it is kept.
    pub body: Vec<u8>,
}

impl Signed {
    /// Will ask the store at `endpoint`; an answer may take `limit`.
    ///
    /// # Errors
    /// The address or the file of authorities cannot be used.
    pub fn new(endpoint: &Endpoint, limit: Duration) -> Result<Self, String> {
        let said = |error: &dyn std::error::Error| contract::journal::chain(error).to_string();
        let url = Url::parse(&endpoint.url).map_err(|error| said(&error))?;
        let mut builder = Client::builder()
            .timeout(limit)
            .connect_timeout(limit)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &endpoint.ca {
            let unusable = |why: &dyn std::error::Error| {
                format!("THE0_CA_FILE {}: {}", path.display(), said(why))
            };
            let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
            let found = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
            builder = found
                .into_iter()
                .fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        Ok(Self {
            client: builder.build().map_err(|error| said(&error))?,
            url,
            region: endpoint.region.clone(),
            keys: endpoint.keys.clone(),
        })
    }

    /// Sends one request about `path`, a bucket or an object in one.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let mut url = self.url.clone();
        url.set_path(path);
        let mut signed = self.sign(&method, &url, body)?;
        // As `sync` sends conditions: beside what is signed.
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
            signed.insert(*name, value);
        }
        let request = self.client.request(method, url).headers(signed);
        let said = |error: reqwest::Error| {
            let error = error.without_url();
            contract::journal::chain(&error).to_string()
        };
        let mut response = request.body(body.to_vec()).send().await.map_err(said)?;
        let text = |name: HeaderName| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (etag, date) = (text(ETAG), text(DATE));
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(said)? {
            body.extend_from_slice(&piece);
            if body.len() > LONGEST {
                break;
            }
        }
        Ok(Answer {
            status,
            etag,
            date: date.and_then(|date| http_date(&date)),
            code: code_in(&body),
            body,
        })
    }

    fn sign(&self, method: &Method, url: &Url, body: &[u8]) -> Result<HeaderMap, String> {
        let broken =
            |error: &dyn std::error::Error| format!("sign: {}", contract::journal::chain(error));
        let key = |name: &str| self.keys.get(name).map_or("", Secret::reveal);
        let mut credentials = Credentials::builder()
            .access_key_id(key("MINIO_ACCESS_KEY"))
            .secret_access_key(key("MINIO_SECRET_KEY"))
            .provider_name("MINIO_ACCESS_KEY");
        if let Some(token) = self.keys.get("MINIO_SESSION_TOKEN") {
            credentials = credentials.session_token(token.reveal());
        }
        let identity = credentials.build().into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| broken(&error))?;
        let request = SignableRequest::new(
            method.as_str(),
            url.as_str(),
            std::iter::empty(),
            SignableBody::Bytes(body),
        );
        let signed = sign(request.map_err(|error| broken(&error))?, &params.into());
        let (signed, _) = signed.map_err(|error| broken(&error))?.into_parts();
        let mut all = HeaderMap::new();
        for (name, value) in signed.headers() {
            let name = HeaderName::try_from(name).map_err(|error| broken(&error))?;
            let mut value = HeaderValue::from_str(value).map_err(|error| broken(&error))?;
            value.set_sensitive(true);
            all.insert(name, value);
        }
        Ok(all)
    }
}

/// What the store calls the error.
fn code_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0.to_owned())
}

/// A time as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, _] = words[..] else {
        return None;
    };
    let month = 1 + MONTHS.iter().position(|name| *name == month)?;
    let text = format!("{year}-{month:02}-{day:0>2}T{time}Z");
    humantime::parse_rfc3339(&text).ok()
}

/// Letters and digits that nobody else has thought of.
pub fn random() -> String {
    use std::hash::{BuildHasher, RandomState};
    let mut text = String::new();
    for _ in 0..2 {
        let word = RandomState::new().hash_one(SystemTime::now());
        let _ = write!(text, "{word:016x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_as_http_writes_it() {
        let at = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_secs(), 784_111_777);
        for bad in ["", "yesterday", "Sun, 06 Now 1994 08:49:37 GMT"] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_stores_word_for_an_error_is_found() {
        let body = b"<?xml?><Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        assert_eq!(code_in(body).as_deref(), Some("AccessDenied"));
        assert_eq!(code_in(b"<html>"), None);
        assert_ne!(random(), random());
    }
}
