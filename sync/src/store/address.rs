//! Where a store is, as the environment tells it.

use std::fmt;
use std::path::{Path, PathBuf};

use contract::launch::Variables;
use contract::{LaunchError, vars};

const ENDPOINT: &str = "MINIO_ENDPOINT";
const USE_SSL: &str = "MINIO_USE_SSL";
const CA_FILE: &str = "THE0_CA_FILE";

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In a folder.
    Directory(PathBuf),
    /// Behind an S3 interface.
    S3(Endpoint),
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without encryption.
    Http,
    /// Over TLS.
    Https,
}

/// An S3 endpoint, addressed in path style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The region that requests are signed for.
    pub region: String,
    /// A PEM file of certificate authorities trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
}

impl Address {
    /// Reads `THE0_STORE`, or `MINIO_ENDPOINT` with what belongs to it; exactly one of the two is set.
    pub fn parse(variables: &Variables) -> Result<Self, LaunchError> {
        let get = |name: &str| {
            let value = variables.get(name).map(String::as_str);
            value.filter(|value| !value.is_empty())
        };
        match (get(vars::THE0_STORE), get(ENDPOINT)) {
            (None, None) => Err(refuse(
                vars::THE0_STORE,
                "is not set, nor is MINIO_ENDPOINT: set the first to the absolute path of a folder, or the second \
                 to host:port of an object store",
            )),
            (Some(_), Some(_)) => Err(refuse(
                vars::THE0_STORE,
                "and MINIO_ENDPOINT are both set, and a bot has one store: unset one of them",
            )),
            (Some(path), None) if Path::new(path).is_absolute() => {
                Ok(Self::Directory(PathBuf::from(path)))
            }
            (Some(_), None) => Err(refuse(
                vars::THE0_STORE,
                "is not an absolute path: give one",
            )),
            (None, Some(endpoint)) => Ok(Self::S3(Endpoint {
                region: get("MINIO_REGION").unwrap_or("us-east-1").to_owned(),
                ca_file: get(CA_FILE).map(PathBuf::from),
                ..Endpoint::parse(endpoint, get(USE_SSL))?
            })),
        }
    }
}

impl Endpoint {
    /// Reads `host:port`, `http://host:port` or `https://host:port`.
    fn parse(text: &str, use_ssl: Option<&str>) -> Result<Self, LaunchError> {
        let wanted = use_ssl.map(scheme).transpose()?;
        let trimmed = text.trim_end_matches('/');
        let (named, place) = match trimmed.split_once("://") {
            None => (None, trimmed),
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return Err(not_understood()),
        };
        if named.is_some() && wanted.is_some() && named != wanted {
            return Err(refuse(
                USE_SSL,
                "contradicts the scheme in MINIO_ENDPOINT: make them agree, or unset it",
            ));
        }
        let scheme = named.or(wanted).unwrap_or(Scheme::Http);
        let (host, port) = place_of(place).ok_or_else(not_understood)?;
        Ok(Self {
            scheme,
            host,
            port: port.unwrap_or(scheme.port()),
            region: String::new(),
            ca_file: None,
        })
    }

    /// Host and port as they stand in an address: IPv6 in brackets, the scheme's own port left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == self.scheme.port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl Scheme {
    /// Its name in an address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

fn scheme(text: &str) -> Result<Scheme, LaunchError> {
    match text {
        "true" | "1" => Ok(Scheme::Https),
        "false" | "0" => Ok(Scheme::Http),
        _ => Err(refuse(USE_SSL, "is neither true nor false: give one")),
    }
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
fn place_of(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (text, None),
    };
    let host = match host.strip_prefix('[') {
        Some(inner) => {
            let inner = inner.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None => host,
    };
    let in_brackets = text.starts_with('[');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let usable = !host.is_empty() && (in_brackets || host.chars().all(plain));
    usable.then(|| (host.to_owned(), port))
}

fn not_understood() -> LaunchError {
    refuse(
        ENDPOINT,
        "is not understood: give host:port, or http:// or https:// in front of it, without a path",
    )
}

fn refuse(variable: &'static str, why: &str) -> LaunchError {
    LaunchError::Value {
        variable,
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Address, LaunchError> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Address::parse(&variables.iter().map(own).collect())
    }

    fn endpoint(variables: &[(&str, &str)]) -> Endpoint {
        match parse(variables) {
            Ok(Address::S3(endpoint)) => endpoint,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exactly_one_store_is_named_or_the_refusal_names_both_variables() {
        for variables in [
            &[][..],
            &[("THE0_STORE", "/s"), ("MINIO_ENDPOINT", "h:9000")],
        ] {
            let text = parse(variables).unwrap_err().to_string();
            assert!(
                text.contains("THE0_STORE") && text.contains("MINIO_ENDPOINT"),
                "{text}"
            );
        }
        assert!(parse(&[("THE0_STORE", "data")]).is_err());
        assert_eq!(
            parse(&[("THE0_STORE", "/s"), ("MINIO_ENDPOINT", "")]).unwrap(),
            Address::Directory("/s".into())
        );
    }

    #[test]
    fn an_endpoint_is_read_with_its_scheme_port_and_region() {
        for (text, ssl, said) in [
            ("minio:9000", "", "http://minio:9000"),
            ("minio:9000", "true", "https://minio:9000"),
            ("minio", "true", "https://minio"),
            ("https://s3.example.com/", "", "https://s3.example.com"),
            ("http://[::1]:9000", "false", "http://[::1]:9000"),
            ("10.0.0.1:80", "", "http://10.0.0.1"),
        ] {
            let read = endpoint(&[("MINIO_ENDPOINT", text), ("MINIO_USE_SSL", ssl)]);
            assert_eq!(read.to_string(), said);
            assert_eq!((read.region.as_str(), read.ca_file), ("us-east-1", None));
        }
    }

    #[test]
    fn an_endpoint_that_is_not_one_is_refused() {
        for (text, ssl) in [
            ("http://h:9000/path", ""),
            ("ftp://h", ""),
            ("user:secret@h:9000", ""),
            ("h:port", ""),
            ("::1", ""),
            (":9000", ""),
            ("https://h", "false"),
            ("h", "yes"),
        ] {
            let refused = parse(&[("MINIO_ENDPOINT", text), ("MINIO_USE_SSL", ssl)]);
            let said = refused.unwrap_err().to_string();
            assert!(
                said.contains("MINIO_") && !said.contains("secret"),
                "{said}"
            );
        }
    }
}
