//! Keys for one bot alone, with an end, asked of the store by `AssumeRole`.
//!
//! Ensures:
//! * a session's keys do what [`policy`] says and nothing else, and end by themselves;
//! * whether a store cannot give any is told from its not answering ([`StsError`]), so that the first may be lived
//!   with and the second is tried again;
//! * each question ends within a bounded time;
//! * no key is in an error or in what `Debug` prints.

mod answer;
mod policy;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use contract::launch::Keys;
use contract::{BotId, ObjectKey, Secret};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Response, Url};
use thiserror::Error;

use super::address::Endpoint;
pub use policy::Reach;

use policy::NoPolicy;

/// How long an answer may take in all.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// What is asked for where a store grants no more.
const SHORT: Duration = Duration::from_secs(3_600);
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 << 10;
const FORM: &str = "application/x-www-form-urlencoded";

/// Where a store gives keys.
#[derive(Debug, Clone)]
pub struct Sts {
    client: Client,
    url: Url,
    region: String,
    keys: Keys,
    /// Of code, states, logs and results.
    buckets: [String; 4],
}

/// Keys for a while.
#[derive(Debug, Clone)]
pub struct Session {
    /// The credentials by the names in [`contract::vars::KEYS`].
    pub keys: Keys,
    /// When they end, by the store's clock.
    pub expires: SystemTime,
}

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum StsError {
    /// The store gives none, and will not: what is left is to do with its own.
    #[error("the store gives no keys for one bot alone: {0}")]
    Unsupported(String),
    /// It does not answer, or only that it cannot now.
    #[error("ask the store for keys of the bot's own: {0}")]
    Silent(String),
    /// It does not answer well, which may pass.
    #[error("ask the store for keys of the bot's own: {0}")]
    Failed(String),
    /// None can be asked for: the bot's names do not fit. Its own keys must not stand in for them.
    #[error("keys for this bot alone cannot be asked for: {0}")]
    Names(#[from] NoPolicy),
}

impl Sts {
    /// Gives keys of the store at `endpoint`; nothing is asked of it yet.
    ///
    /// # Errors
    /// The address or the file of authorities cannot be used.
    pub fn new(endpoint: &Endpoint) -> Result<Self, StsError> {
        let url = Url::parse(&endpoint.url).map_err(|error| {
            StsError::Failed(format!("MINIO_ENDPOINT {}: {error}", endpoint.url))
        })?;
        let mut builder = Client::builder()
            .timeout(LIMIT)
            .connect_timeout(CONNECT)
            // What is signed is for this store.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &endpoint.ca {
            let unusable = |why: &dyn std::fmt::Display| {
                StsError::Failed(format!("THE0_CA_FILE {}: {why}", path.display()))
            };
            let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let [code, states, logs] = endpoint.buckets.clone();
        let buckets = [code, states, logs, endpoint.results.to_string()];
        Ok(Self {
            client: builder.build().map_err(|error| silent(&error))?,
            url,
            region: endpoint.region.clone(),
            keys: endpoint.keys.clone(),
            buckets,
        })
    }

    /// Keys for `bot` and the object that they `reach`, for `duration`, or an hour where the store grants no more.
    ///
    /// # Errors
    /// See [`StsError`].
    pub async fn session(
        &self,
        bot: &BotId,
        object: &ObjectKey,
        duration: Duration,
        reach: Reach,
    ) -> Result<Session, StsError> {
        let policy = policy::policy(bot, object, &self.buckets, reach)?;
        let (status, body) = self.ask(&policy, duration).await?;
        // What of the question is refused, a store need not say.
        if status == 400 && duration > SHORT {
            let (status, body) = self.ask(&policy, SHORT).await?;
            return answer::read(status, &body);
        }
        answer::read(status, &body)
    }

    async fn ask(&self, policy: &str, duration: Duration) -> Result<(u16, String), StsError> {
        let body = form(&[
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("DurationSeconds", &duration.as_secs().to_string()),
            ("Policy", policy),
        ]);
        let headers = self.sign(body.as_bytes())?;
        let request = self
            .client
            .post(self.url.clone())
            .headers(headers)
            .body(body);
        let response = request.send().await.map_err(|error| silent(&error))?;
        Ok((response.status().as_u16(), text(response).await?))
    }

    /// The headers of a request for this body.
    fn sign(&self, body: &[u8]) -> Result<HeaderMap, StsError> {
        let broken = |error: &dyn std::error::Error| {
            StsError::Failed(format!("sign it: {}", contract::journal::chain(error)))
        };
        let key = |name: &str| self.keys.get(name).map_or("", Secret::reveal);
        let mut credentials = Credentials::builder()
            .access_key_id(key("MINIO_ACCESS_KEY"))
            .secret_access_key(key("MINIO_SECRET_KEY"))
            .provider_name("MINIO_ACCESS_KEY");
        if let Some(token) = self.keys.get("MINIO_SESSION_TOKEN") {
            credentials = credentials.session_token(token.reveal());
        }
        let identity = credentials.build().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("sts")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| broken(&error))?;
        let named = [(CONTENT_TYPE.as_str(), FORM)];
        let request = SignableRequest::new(
            "POST",
            self.url.as_str(),
            named.into_iter(),
            SignableBody::Bytes(body),
        );
        let signed = sign(request.map_err(|error| broken(&error))?, &params.into());
        let (signed, _) = signed.map_err(|error| broken(&error))?.into_parts();
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(FORM))]);
        for (name, value) in signed.headers() {
            let name = HeaderName::try_from(name).map_err(|error| broken(&error))?;
            let mut value = HeaderValue::from_str(value).map_err(|error| broken(&error))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

/// The answer's text, as far as it is one of a store.
async fn text(mut response: Response) -> Result<String, StsError> {
    let mut whole = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| silent(&error))? {
        whole.extend_from_slice(&piece);
        if whole.len() > LONGEST_ANSWER {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&whole).into_owned())
}

fn silent(error: &reqwest::Error) -> StsError {
    StsError::Silent(contract::journal::chain(error).to_string())
}

fn form(fields: &[(&str, &str)]) -> String {
    let encode =
        |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    fields.collect::<Vec<_>>().join("&")
}
