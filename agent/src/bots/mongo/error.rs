//! What goes wrong with MongoDB, for a person: what happened, and what to do. No password is in it.

use contract::Secret;
use mongodb::bson;
use mongodb::error::{CommandError, Error, ErrorKind};
use percent_encoding::percent_decode_str;
use thiserror::Error as ThisError;
use tokio::time::error::Elapsed;

/// The address of a MongoDB cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error(
    "the address of MongoDB is not usable{detail}: give mongodb://[user:password@]host[:port][/?options]; \
     in user and password write : / ? # [ ] @ % as %3A %2F %3F %23 %5B %5D %40 %25"
)]
pub struct BadUri {
    detail: String,
}

impl BadUri {
    /// The driver's own words may quote the address: they are told where it has no password.
    pub fn of(uri: &Secret, error: &Error) -> Self {
        let detail = match error.kind.as_ref() {
            ErrorKind::InvalidArgument { message, .. } if !uri.reveal().contains('@') => {
                format!(" ({message})")
            }
            _ => String::new(),
        };
        Self { detail }
    }
}

/// Why a collection could not be read.
#[derive(Debug, ThisError)]
pub enum Failed {
    /// Nothing came for too long.
    #[error("no answer in time: it is overloaded, or the way to it is cut; look into its log")]
    Late(#[from] Elapsed),
    /// An answer that is not one.
    #[error(
        "it answers with something that is not documents: check that its address is one of MongoDB"
    )]
    Garbled,
    /// The driver or the server says no.
    #[error("{}", explain(.0))]
    Driver(#[from] Error),
}

impl From<bson::error::Error> for Failed {
    fn from(_: bson::error::Error) -> Self {
        Failed::Garbled
    }
}

impl Failed {
    /// Whether the server has answered that its user may not do this.
    pub fn is_forbidden(&self) -> bool {
        let Failed::Driver(err) = self else {
            return false;
        };
        matches!(err.kind.as_ref(), ErrorKind::Command(error) if error.code == 13)
    }

    /// Whether the server has answered, and the answer is no.
    pub fn is_answer(&self) -> bool {
        match self {
            Failed::Driver(err) => {
                matches!(*err.kind, ErrorKind::Command(_) | ErrorKind::Write(_))
            }
            _ => false,
        }
    }

    /// For a person, without the words that must not be seen.
    pub fn why(&self, hidden: &[String]) -> String {
        hidden
            .iter()
            .fold(self.to_string(), |text, word| text.replace(word, "***"))
    }
}

/// What of the address must not be seen: the password, as it is written there and as it is meant.
pub fn hidden(uri: &Secret) -> Vec<String> {
    let uri = uri.reveal();
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let origin = rest.split(['/', '?']).next().unwrap_or(rest);
    let user = origin.rsplit_once('@').map_or("", |(user, _)| user);
    let password = user.split_once(':').map_or("", |(_, password)| password);
    let meant = percent_decode_str(password).decode_utf8_lossy();
    let mut words = vec![password.to_owned(), meant.into_owned()];
    words.retain(|word| !word.is_empty());
    words
}

fn explain(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::ServerSelection { message, .. } => selection(message),
        ErrorKind::Authentication { .. } => {
            "it does not accept the user and password of its address: correct them, or authSource there".into()
        }
        ErrorKind::Command(error) => command(error),
        ErrorKind::Io(error) => format!("{error}: start it, or correct its address"),
        ErrorKind::ConnectionPoolCleared { .. } => {
            "the connection was lost: it is asked again".into()
        }
        ErrorKind::DnsResolve { message, .. } => {
            format!("its name cannot be resolved ({message}): correct the address, or the name server")
        }
        ErrorKind::InvalidTlsConfig { message, .. } => {
            format!("TLS cannot be set up ({message}): correct the options tls.. of its address")
        }
        other => other.to_string(),
    }
}

fn command(error: &CommandError) -> String {
    match error.code {
        13 => "its user may not read there: grant it the role `read` on the database".into(),
        18 => "it does not accept the user and password of its address: correct them".into(),
        50 => "it took too long over the query: look for what loads it".into(),
        _ => format!("{}: {}", error.code_name, error.message),
    }
}

/// The driver tells all it knows of each server. What counts is why none of them answers.
fn selection(message: &str) -> String {
    let causes = message.split("Error: Kind: ").skip(1);
    let mut causes: Vec<&str> = causes
        .map(|rest| rest.split(", labels: ").next().unwrap_or(rest))
        .collect();
    causes.sort_unstable();
    causes.dedup();
    if !causes.is_empty() {
        let causes = causes.join("; ");
        return format!("no server answers ({causes}): start it, or correct its address");
    }
    let has = |kind: &str| message.contains(&format!("Type: {kind}"));
    if has("RsSecondary") || has("RsOther") || has("RsGhost") {
        return "its replica set has no primary: wait for the election, start more members, or initiate it".into();
    }
    "no server answers: start it, or correct its address or the name of its replica set".into()
}
