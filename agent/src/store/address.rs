//! Which store it is: the folder in the agent's data, or the object store that the environment names.

use std::fmt;
use std::path::{Path, PathBuf};

use contract::Secret;
use contract::launch::{Keys, Variables};
use contract::vars;
use thiserror::Error;

/// The bucket of logs by its default name.
pub(super) const LOGS: &str = "bot-logs";

/// The variable of the bucket of results of questions.
const RESULTS: &str = "MINIO_QUERY_RESULTS_BUCKET";

/// What names an object store, its region, its buckets and whom to trust; keys are apart.
const NAMES: [&str; 8] = [
    "MINIO_ENDPOINT",
    "MINIO_USE_SSL",
    "MINIO_REGION",
    "MINIO_CODE_BUCKET",
    "MINIO_STATE_BUCKET",
    "MINIO_LOGS_BUCKET",
    RESULTS,
    "THE0_CA_FILE",
];
const BUCKETS: [(&str, &str); 3] = [
    ("MINIO_CODE_BUCKET", "custom-bots"),
    ("MINIO_STATE_BUCKET", "bot-state"),
    ("MINIO_LOGS_BUCKET", LOGS),
];

/// Where objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In a folder.
    Directory(PathBuf),
    /// In an object store that speaks S3.
    S3(Endpoint),
}

/// An object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// With scheme, host and port, as in `http://127.0.0.1:9000`.
    pub url: String,
    /// The region requests are signed for.
    pub region: String,
    /// Certificates to trust beside the public ones, PEM.
    pub ca: Option<PathBuf>,
    /// Buckets of code, states and logs.
    pub buckets: [String; 3],
    /// Bucket of results of questions.
    pub results: Box<str>,
    /// The credentials.
    pub keys: Keys,
    variables: Variables,
    /// The variable by which the agent's client goes to it through a proxy.
    proxy: Option<&'static str>,
}

/// The environment names a store that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{variable} {why}")]
pub struct BadAddress {
    variable: &'static str,
    why: String,
}

impl Address {
    /// The store that `environment` names, or the folder in `data`.
    ///
    /// # Errors
    /// The variable that cannot be used, and the remedy.
    pub fn parse(environment: &Variables, data: &Path) -> Result<Self, BadAddress> {
        let given = Given(environment);
        match given.get("MINIO_ENDPOINT") {
            None => Ok(Self::Directory(data.join("store"))),
            Some(endpoint) => Endpoint::parse(endpoint, given).map(Self::S3),
        }
    }

    /// The variables that tell `sync` where the store is, without keys.
    pub fn variables(&self) -> Variables {
        match self {
            Self::Directory(root) => {
                let root = root.to_string_lossy().into_owned();
                [(vars::THE0_STORE.to_owned(), root)].into()
            }
            Self::S3(endpoint) => endpoint.variables.clone(),
        }
    }

    /// The credentials; none where none are needed.
    pub fn keys(&self) -> Keys {
        match self {
            Self::Directory(_) => Keys::new(),
            Self::S3(endpoint) => endpoint.keys.clone(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(root) => write!(f, "the folder {}", root.display()),
            Self::S3(endpoint) => {
                write!(
                    f,
                    "the object store at {}, buckets {}",
                    endpoint.url,
                    endpoint.buckets.join(", ")
                )?;
                endpoint.proxy.map_or(Ok(()), |proxy| {
                    write!(
                        f,
                        "; {proxy} is set, so the agent goes to it through that proxy (bots' sync does not): name its \
                         host in NO_PROXY to go directly"
                    )
                })
            }
        }
    }
}

impl Endpoint {
    fn parse(endpoint: &str, given: Given<'_>) -> Result<Self, BadAddress> {
        let tls = given.flag("MINIO_USE_SSL")?;
        let url = url(endpoint, tls)?;
        let ca = given.get("THE0_CA_FILE").map(absolute).transpose()?;
        let mut variables = Variables::new();
        for name in NAMES {
            let value = given
                .get(name)
                .map(|value| (name.to_owned(), value.to_owned()));
            variables.extend(value);
        }
        if let Some(ca) = &ca {
            // Whoever is told has another working folder.
            variables.insert("THE0_CA_FILE".into(), ca.to_string_lossy().into_owned());
        }
        let bucket = |(name, default)| given.get(name).unwrap_or(default).to_owned();
        Ok(Self {
            region: given.get("MINIO_REGION").unwrap_or("us-east-1").to_owned(),
            ca,
            buckets: BUCKETS.map(bucket),
            results: bucket((RESULTS, "query-results")).into(),
            keys: given.keys()?,
            variables,
            proxy: proxy(&url, given),
            url,
        })
    }
}

/// The variable that sends requests to `url` through a proxy, as the HTTP client of the agent reads them.
fn proxy(url: &str, given: Given<'_>) -> Option<&'static str> {
    let names = match url.split_once("://") {
        Some(("https", _)) => ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        _ => ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let (_, place) = url.split_once("://")?;
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let exempt = given
        .get("no_proxy")
        .or(given.get("NO_PROXY"))
        .unwrap_or("");
    let named = exempt.split(',').map(str::trim).any(|entry| {
        let domain = entry.trim_start_matches('.');
        entry == "*" || host == domain || host.ends_with(&format!(".{domain}"))
    });
    let set = names.into_iter().find(|name| given.get(name).is_some());
    set.filter(|_| !named)
}

fn url(endpoint: &str, tls: Option<bool>) -> Result<String, BadAddress> {
    let refuse = |why: &str| {
        Err(BadAddress {
            variable: "MINIO_ENDPOINT",
            why: format!("{why}: give host and port, as in 127.0.0.1:9000"),
        })
    };
    let (scheme, host) = match endpoint.split_once("://") {
        None if tls == Some(true) => ("https", endpoint),
        None => ("http", endpoint),
        Some((scheme @ ("http" | "https"), host)) => (scheme, host),
        Some(_) => return refuse("has a scheme that is neither http nor https"),
    };
    let host = host.trim_end_matches('/');
    if tls.is_some_and(|tls| tls != (scheme == "https")) {
        return refuse("and MINIO_USE_SSL contradict each other");
    }
    if host.is_empty() || host.contains(['/', '@', '?', ' ']) {
        return refuse("is not an address");
    }
    Ok(format!("{scheme}://{host}"))
}

fn absolute(path: &str) -> Result<PathBuf, BadAddress> {
    Path::new(path).canonicalize().map_err(|err| BadAddress {
        variable: "THE0_CA_FILE",
        why: format!("names {path}: {err}: give a file of certificates in PEM"),
    })
}

/// Variables, of which an empty one counts as not set.
#[derive(Clone, Copy)]
struct Given<'a>(&'a Variables);

impl<'a> Given<'a> {
    fn get(self, name: &str) -> Option<&'a str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    fn flag(self, variable: &'static str) -> Result<Option<bool>, BadAddress> {
        match self.get(variable).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "yes") => Ok(Some(true)),
            Some("false" | "0" | "no") => Ok(Some(false)),
            Some(_) => Err(BadAddress {
                variable,
                why: "is neither true nor false".into(),
            }),
        }
    }

    fn keys(self) -> Result<Keys, BadAddress> {
        for variable in ["MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"] {
            if self.get(variable).is_none() {
                let why =
                    "is not set, and MINIO_ENDPOINT is: set the store's keys beside its address"
                        .into();
                return Err(BadAddress { variable, why });
            }
        }
        let held = vars::KEYS
            .into_iter()
            .filter_map(|name| Some((name, self.get(name)?)));
        Ok(held
            .map(|(name, key)| (name.to_owned(), Secret::new(key)))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<Address, BadAddress> {
        let keys = [
            ("MINIO_ACCESS_KEY", "hunter1"),
            ("MINIO_SECRET_KEY", "hunter2"),
        ];
        let all = keys.iter().chain(given);
        let owned = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Address::parse(&owned.collect(), Path::new("/d"))
    }

    fn endpoint(given: &[(&str, &str)]) -> Endpoint {
        match parse(given).unwrap() {
            Address::S3(endpoint) => endpoint,
            Address::Directory(root) => panic!("{}", root.display()),
        }
    }

    #[test]
    fn without_an_endpoint_it_is_the_folder_in_the_data() {
        let address = parse(&[("MINIO_ENDPOINT", "")]).unwrap();
        assert_eq!(address, Address::Directory("/d/store".into()));
        assert_eq!(address.variables()["THE0_STORE"], "/d/store");
        assert!(address.keys().is_empty());
    }

    #[test]
    fn an_endpoint_is_understood_with_and_without_a_scheme() {
        let at = |given: &[(&str, &str)]| endpoint(given).url;
        assert_eq!(at(&[("MINIO_ENDPOINT", "h:1")]), "http://h:1");
        assert_eq!(at(&[("MINIO_ENDPOINT", "https://h:1/")]), "https://h:1");
        let tls = [("MINIO_ENDPOINT", "h:1"), ("MINIO_USE_SSL", "true")];
        assert_eq!(at(&tls), "https://h:1");
    }

    #[test]
    fn a_proxy_that_would_carry_the_requests_is_told() {
        let proxied = |more: &[(&str, &str)]| {
            let given = [
                ("MINIO_ENDPOINT", "s3.lan:9000"),
                ("HTTP_PROXY", "http://p:1"),
            ];
            parse(&[&given, more].concat()).unwrap().to_string()
        };
        assert!(proxied(&[]).contains("HTTP_PROXY"));
        assert!(proxied(&[("NO_PROXY", "localhost,other.lan")]).contains("HTTP_PROXY"));
        for exempt in ["s3.lan", "a, .lan", "lan", "*"] {
            assert!(
                !proxied(&[("NO_PROXY", exempt)]).contains("PROXY"),
                "{exempt}"
            );
        }
        let tls = endpoint(&[
            ("MINIO_ENDPOINT", "https://h:1"),
            ("HTTP_PROXY", "http://p:1"),
        ]);
        assert_eq!(tls.proxy, None);
    }

    #[test]
    fn what_cannot_be_used_names_its_variable_and_no_key() {
        let rows = [
            ("MINIO_ENDPOINT", "ftp://h:1"),
            ("MINIO_ENDPOINT", "h:1/path"),
            ("MINIO_USE_SSL", "maybe"),
            ("MINIO_ACCESS_KEY", ""),
            ("THE0_CA_FILE", "/there/is/none"),
        ];
        for (name, value) in rows {
            let text = parse(&[("MINIO_ENDPOINT", "h:1"), (name, value)])
                .unwrap_err()
                .to_string();
            assert!(text.starts_with(name) && !text.contains("hunter"), "{text}");
        }
    }

    #[test]
    fn what_is_told_of_a_store_holds_no_keys() {
        let given = [
            ("MINIO_ENDPOINT", "h:1"),
            ("MINIO_CODE_BUCKET", "bots"),
            ("OTHER", "x"),
        ];
        let address = parse(&given).unwrap();
        let told = address.variables();
        let names: Vec<_> = told.keys().map(String::as_str).collect();
        assert_eq!(names, ["MINIO_CODE_BUCKET", "MINIO_ENDPOINT"]);
        assert_eq!(address.keys().len(), 2);
        assert!(!format!("{address:?} {address}").contains("hunter"));
        assert!(
            address
                .to_string()
                .contains("http://h:1, buckets bots, bot-state, bot-logs")
        );
    }
}
