//! The object store: whether it answers, whose clock is right, what may be done in each bucket, which keys bots get.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use reqwest::Method;
use tokio::time::timeout;

use super::ANSWER;
use super::sheet::{Part, Sheet};
use super::signed::{Answer, Signed, random};
use crate::store::address::Endpoint;
use crate::store::sts::{Reach, Sts, StsError};

const STORE: Part = Part::Store;
/// Differences of clocks that are told, and that fail.
const SKEW: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(5)];
/// Where everything that is tried lies.
const FOLDER: &str = ".the0-doctor";

/// There is no address.
pub fn unset(sheet: &RefCell<Sheet>) {
    sheet.borrow_mut().failed(
        STORE,
        "address",
        "MINIO_ENDPOINT is not set",
        "containers need an object store: set it with MINIO_ACCESS_KEY and MINIO_SECRET_KEY",
    );
}

/// Looks at the store, of which bots' keys shall be good for `life`.
pub async fn look(endpoint: &Endpoint, life: Option<Duration>, sheet: &RefCell<Sheet>) {
    let asked = match Signed::new(endpoint, ANSWER) {
        Ok(client) => server(&client, endpoint, sheet).await.map(|()| client),
        Err(why) => Err(why),
    };
    let client = match asked {
        Ok(client) => client,
        Err(why) => {
            let found = format!("{}: {why}", endpoint.url);
            let remedy = "start it, or correct MINIO_ENDPOINT, MINIO_USE_SSL and THE0_CA_FILE; bots that run go on without it";
            return sheet.borrow_mut().failed(STORE, "server", found, remedy);
        }
    };
    let mut usable = None;
    for bucket in &endpoint.buckets {
        let tried = timeout(ANSWER, rights(&client, bucket)).await;
        let tried = tried.unwrap_or_else(|_| Err(Trouble::late()));
        let is_usable = told(bucket, tried, &mut sheet.borrow_mut());
        usable = usable.or(is_usable.then_some(bucket));
    }
    if let Some(bucket) = usable {
        let tried = timeout(ANSWER, conditions(&client, bucket)).await;
        let tried = tried.unwrap_or_else(|_| Err("it did not answer in time".into()));
        honoured(tried, &mut sheet.borrow_mut());
    }
    keys(endpoint, life, sheet).await;
}

/// Whether it answers, over what, and what time it has.
async fn server(
    client: &Signed,
    endpoint: &Endpoint,
    sheet: &RefCell<Sheet>,
) -> Result<(), String> {
    let before = SystemTime::now();
    let path = format!("/{}", endpoint.buckets[0]);
    let answer = client.ask(Method::HEAD, &path, &[], b"").await?;
    let after = SystemTime::now();
    let mut sheet = sheet.borrow_mut();
    let over = if endpoint.url.starts_with("https") {
        "TLS"
    } else {
        "no TLS: fine on one machine or in a closed network"
    };
    sheet.ok(STORE, "server", format!("{}, {over}", endpoint.url));
    match answer.date {
        Some(date) => skew(difference(date, before, after), &mut sheet),
        None => sheet.ok(STORE, "clock", "it does not tell its time"),
    }
    Ok(())
}

/// How far `date`, of which only whole seconds are told, is from the time in which it was asked for.
fn difference(date: SystemTime, before: SystemTime, after: SystemTime) -> Duration {
    let last = date + Duration::from_secs(1);
    let early = before.duration_since(last).unwrap_or_default();
    let late = date.duration_since(after).unwrap_or_default();
    early.max(late)
}

/// Pure.
fn skew(difference: Duration, sheet: &mut Sheet) {
    let found = format!("{} s from this machine's", difference.as_secs());
    let remedy = "set both clocks by NTP: a store refuses requests that are 15 minutes off, and keys end by its clock";
    match difference {
        off if off > SKEW[1] => sheet.failed(STORE, "clock", found, remedy),
        off if off > SKEW[0] => sheet.warning(STORE, "clock", found, remedy),
        _ => sheet.ok(STORE, "clock", "the same as this machine's"),
    }
}

/// Why something is not as it should be.
struct Trouble {
    found: String,
    remedy: &'static str,
    absent: bool,
}

impl Trouble {
    fn late() -> Self {
        Self {
            found: "it did not answer in time".into(),
            remedy: "look for what loads it, or what is in the way to it",
            absent: false,
        }
    }

    fn of(what: &str, answer: Result<Answer, String>) -> Self {
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                return Self {
                    found: format!("{what}: {why}"),
                    ..Self::late()
                };
            }
        };
        let code = answer
            .code
            .unwrap_or_else(|| format!("status {}", answer.status));
        let remedy = match code.as_str() {
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
                "correct MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
            }
            "RequestTimeTooSkewed" => "set both clocks by NTP",
            "NoSuchBucket" => "make it, or start the agent with keys that may",
            _ => "grant these keys GetObject, PutObject, DeleteObject and ListBucket on it",
        };
        Self {
            found: format!("{what}: {code}"),
            remedy,
            absent: code == "NoSuchBucket",
        }
    }
}

/// Puts, gets and deletes an object of its own.
async fn rights(client: &Signed, bucket: &str) -> Result<(), Trouble> {
    let path = format!("/{bucket}/{FOLDER}/{}", random());
    let put = client.ask(Method::PUT, &path, &[], b"the0").await;
    if !is(&put, 200) {
        return Err(Trouble::of("write", put));
    }
    let got = client.ask(Method::GET, &path, &[], b"").await;
    let gone = client.ask(Method::DELETE, &path, &[], b"").await;
    if !got
        .as_ref()
        .is_ok_and(|got| got.status == 200 && got.body == b"the0")
    {
        return Err(Trouble::of("read", got));
    }
    if !is(&gone, 204) && !is(&gone, 200) {
        return Err(Trouble::of("delete", gone));
    }
    Ok(())
}

fn is(answer: &Result<Answer, String>, status: u16) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status == status)
}

fn told(bucket: &str, tried: Result<(), Trouble>, sheet: &mut Sheet) -> bool {
    match tried {
        Ok(()) => sheet.ok(STORE, "bucket", format!("{bucket}: read, write, delete")),
        Err(trouble) if trouble.absent => {
            let found =
                format!("{bucket} is not there; the agent makes it at its start where it may");
            sheet.warning(STORE, "bucket", found, trouble.remedy);
            return false;
        }
        Err(trouble) => {
            let found = format!("{bucket}: {}", trouble.found);
            sheet.failed(STORE, "bucket", found, trouble.remedy);
            return false;
        }
    }
    true
}

/// Whether writes that must not happen do not: one of an object that must not be there and is, one of a version that
/// is no more.
async fn conditions(client: &Signed, bucket: &str) -> Result<Vec<&'static str>, String> {
    let path = format!("/{bucket}/{FOLDER}/{}", random());
    let put = client.ask(Method::PUT, &path, &[], b"first").await?;
    let first = put.etag.unwrap_or_default();
    let created = client
        .ask(Method::PUT, &path, &[("if-none-match", "*")], b"no")
        .await;
    let moved = client
        .ask(Method::PUT, &path, &[("if-match", &first)], b"second")
        .await;
    let stale = client
        .ask(Method::PUT, &path, &[("if-match", &first)], b"no")
        .await;
    client.ask(Method::DELETE, &path, &[], b"").await?;
    let mut ignored = Vec::new();
    if created?.status != 412 {
        ignored.push("If-None-Match");
    }
    if stale?.status != 412 || moved?.status != 200 {
        ignored.push("If-Match");
    }
    Ok(ignored)
}

fn honoured(tried: Result<Vec<&'static str>, String>, sheet: &mut Sheet) {
    let remedy = "one agent and one instance of each bot at a time are safe with it; use a store that has conditional writes for more";
    match tried {
        Ok(ignored) if ignored.is_empty() => {
            sheet.ok(
                STORE,
                "conditions",
                "If-None-Match and If-Match are honoured",
            );
        }
        Ok(ignored) => {
            let found = format!("{} of writes is ignored", ignored.join(" and "));
            sheet.warning(STORE, "conditions", found, remedy);
        }
        Err(why) => sheet.warning(STORE, "conditions", format!("not known: {why}"), remedy),
    }
}

/// Which keys the supervisors of bots get.
async fn keys(endpoint: &Endpoint, life: Option<Duration>, sheet: &RefCell<Sheet>) {
    let life = life.unwrap_or(Duration::from_hours(12));
    let asked = async {
        let sts = Sts::new(endpoint)?;
        let names = ("the0-doctor".parse(), "the0/doctor/none".parse());
        let (Ok(bot), Ok(code)) = names else {
            return Err(StsError::Failed("it is not asked for".into()));
        };
        sts.session(&bot, &code, life, Reach::Keeps).await
    };
    let asked = timeout(ANSWER, asked).await;
    let mut sheet = sheet.borrow_mut();
    let remedy = "give the agent a user's keys (not a service account's) of a store with AssumeRole: each bot then gets keys for itself alone";
    match asked {
        Ok(Ok(session)) => {
            let left = session.expires.duration_since(SystemTime::now());
            let hours = left.unwrap_or_default().as_secs().div_ceil(3600);
            sheet.ok(
                STORE,
                "keys",
                format!("one bot's own for {hours} h, by AssumeRole"),
            );
        }
        Ok(Err(StsError::Unsupported(why))) => {
            let found =
                format!("all supervisors get the agent's own, which open everything: {why}");
            sheet.warning(STORE, "keys", found, remedy);
        }
        Ok(Err(err)) => sheet.failed(
            STORE,
            "keys",
            err.to_string(),
            "bots are not started without; as it says",
        ),
        Err(_) => sheet.failed(
            STORE,
            "keys",
            "AssumeRole did not answer in time",
            "bots are not started without; look for what loads the store",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Colours;

    #[test]
    fn clocks_that_differ_are_told_and_fail_when_it_is_minutes() {
        let said = |off: u64| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let mut sheet = Sheet::default();
            let date = now - Duration::from_secs(off);
            skew(
                difference(date, now, now + Duration::from_millis(20)),
                &mut sheet,
            );
            let ahead = now + Duration::from_secs(off);
            skew(difference(ahead, now, now), &mut sheet);
            let text = sheet.table(Colours::Off);
            let (word, _) = text.split_once(' ').unwrap();
            let findings = text.lines().filter(|line| line.starts_with(word));
            assert_eq!(findings.count(), 2, "both ways: {text}");
            word.to_owned()
        };
        assert_eq!([0, 1, 5].map(said), ["ok"; 3]);
        assert_eq!([7, 299].map(said), ["warning"; 2]);
        assert_eq!([302, 4000].map(said), ["failed"; 2]);
    }

    #[test]
    fn what_a_store_refuses_comes_with_what_mends_it() {
        let of = |code: &str| {
            let answer = Answer {
                status: 403,
                etag: None,
                date: None,
                code: Some(code.to_owned()),
                body: Vec::new(),
            };
            Trouble::of("write", Ok(answer)).remedy
        };
        assert!(of("SignatureDoesNotMatch").contains("MINIO_SECRET_KEY"));
        assert!(of("AccessDenied").contains("PutObject"));
        assert!(of("NoSuchBucket").contains("make it"));
    }
}
