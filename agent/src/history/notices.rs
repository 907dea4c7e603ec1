//! Sends notices to the operator's address, one after the other, each until it is taken or it is too late.
//!
//! The address may hold a credential: it is in no log and no error.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use contract::launch::Variables;
use contract::record::Time;
use contract::{BotId, Secret};
use reqwest::{Client, Url};
use serde::Serialize;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::episodes::{Notice, Thresholds, Trouble};
use crate::place::{Containers, Pods};
use crate::show::Console;

/// Notices that wait to be sent.
const QUEUE: usize = 64;
/// How often one is tried.
const TRIES: u32 = 8;
/// Time for one try.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(60);
/// Lines of the log that go with a notice.
const LINES: usize = 20;
/// Characters of such a line.
const WIDTH: usize = 2000;

/// What of notices the operator sets.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where they go, if anywhere.
    pub url: Option<Secret>,
    /// When trouble counts.
    pub thresholds: Thresholds,
}

/// A setting cannot be used. Its value is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} {1}")]
pub struct BadSetting(&'static str, &'static str);

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn parse(given: &Variables) -> Result<Self, BadSetting> {
        let get = |name: &str| given.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
        let mut thresholds = Thresholds::default();
        if let Some(text) = get("THE0_NOTICE_CRASHES") {
            let count = text.parse().ok().filter(|count| *count > 0);
            let bad = BadSetting("THE0_NOTICE_CRASHES", "is no whole number over 0");
            thresholds.crashes = count.ok_or(bad)?;
        }
        if let Some(text) = get("THE0_NOTICE_UNSAVED") {
            let bad = BadSetting("THE0_NOTICE_UNSAVED", "is no duration as in 5m");
            thresholds.unsaved = humantime::parse_duration(text).map_err(|_| bad)?;
        }
        let url = get("THE0_NOTICE_URL");
        let is_fit =
            |text: &str| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_some_and(|text| !is_fit(text)) {
            return Err(BadSetting(
                "THE0_NOTICE_URL",
                "is no address as in https://host/path",
            ));
        }
        Ok(Self {
            url: url.map(Secret::new),
            thresholds,
        })
    }
}

/// Where the last lines of a bot's log are.
#[derive(Debug, Clone)]
pub enum Logs {
    /// In folders under this one.
    Folder(PathBuf),
    /// With a daemon.
    Docker(Containers),
    /// With the kubelets of a cluster.
    Kubernetes(Pods),
}

impl Logs {
    async fn tail(&self, bot: &BotId) -> Vec<String> {
        let text = match self {
            Self::Folder(data) => {
                let folder = data.join("bots").join(bot.as_str()).join("var/logs");
                let mut log = crate::logs::Log::new(&folder, crate::logs::Stamps::Shown);
                let mut out = Vec::new();
                // A log that cannot be read is an empty one: the notice counts.
                let _ = log.tail(crate::logs::Tail::Lines(LINES), &mut out);
                String::from_utf8_lossy(&out).into_owned()
            }
            Self::Kubernetes(place) => {
                crate::engine::kubernetes::logs::last(place, bot, LINES).await
            }
            Self::Docker(place) => crate::engine::docker::logs::last(place, bot, LINES).await,
        };
        let lines = text
            .lines()
            .map(|line| line.chars().take(WIDTH).collect::<String>());
        let lines: Vec<String> = lines.collect();
        lines[lines.len().saturating_sub(LINES)..].to_vec()
    }
}

/// What is sent.
#[derive(Debug, Clone, Serialize)]
struct Body<'a> {
    bot: &'a BotId,
    name: &'a str,
    kind: &'static str,
    /// Of what it has recovered.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<&'static str>,
    since: Time,
    restarts: u32,
    message: &'a str,
    log: Vec<String>,
}

/// One to be sent.
#[derive(Debug)]
struct Letter {
    bot: BotId,
    name: String,
    notice: Notice,
}

/// Where notices are put.
#[derive(Debug, Clone)]
pub struct Post {
    letters: Option<Sender<Letter>>,
    console: Console,
}

/// Takes letters to the address.
struct Carrier {
    url: Secret,
    logs: Logs,
    console: Console,
    client: Client,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

impl Post {
    /// Starts to carry, on the runtime that calls, if there is an address.
    pub fn open(settings: &Settings, logs: Logs, console: &Console) -> Self {
        let carrier = settings.url.clone().and_then(|url| {
            let builder = Client::builder().timeout(LIMIT);
            let client = builder.redirect(reqwest::redirect::Policy::none()).build();
            Some(Carrier {
                url,
                logs,
                console: console.clone(),
                client: client.ok()?,
            })
        });
        let letters = carrier.map(|carrier| {
            let (to, from) = mpsc::channel(QUEUE);
            tokio::spawn(carrier.carry(from));
            to
        });
        Self {
            letters,
            console: console.clone(),
        }
    }

    /// Sends a notice; never waits.
    pub fn send(&self, bot: &BotId, name: &str, notice: Notice) {
        let Some(letters) = &self.letters else { return };
        let letter = Letter {
            bot: bot.clone(),
            name: name.to_owned(),
            notice,
        };
        if letters.try_send(letter).is_err() {
            self.console.warn(&format!(
                "{name}: a notice is not sent: too many wait for THE0_NOTICE_URL"
            ));
        }
    }
}

impl Carrier {
    async fn carry(self, mut letters: Receiver<Letter>) {
        while let Some(letter) = letters.recv().await {
            let log = self.logs.tail(&letter.bot).await;
            if let Err(why) = self.deliver(&letter, log).await {
                self.console.warn(&format!(
                    "{}: a notice was not taken by THE0_NOTICE_URL after {TRIES} tries: {why}",
                    letter.name
                ));
            }
        }
    }

    async fn deliver(&self, letter: &Letter, log: Vec<String>) -> Result<(), String> {
        let notice = &letter.notice;
        let name = |trouble| match trouble {
            Trouble::Crashing => "crashing",
            Trouble::Unsaved => "unsaved",
        };
        let body = Body {
            bot: &letter.bot,
            name: &letter.name,
            kind: if notice.is_over {
                "recovered"
            } else {
                name(notice.trouble)
            },
            of: notice.is_over.then(|| name(notice.trouble)),
            since: notice.since,
            restarts: notice.restarts,
            message: &notice.message,
            log,
        };
        let text = serde_json::to_string(&body).map_err(|err| err.to_string())?;
        let mut pause = Duration::from_secs(1);
        let mut why = String::new();
        for tries in 0..TRIES {
            if tries > 0 {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE);
            }
            match self.post(text.clone()).await {
                Ok(()) => return Ok(()),
                Err(failed) => why = failed,
            }
        }
        Err(why)
    }

    async fn post(&self, text: String) -> Result<(), String> {
        let request = self
            .client
            .post(self.url.reveal())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(text);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answers {}", answer.status())),
            Err(err) => Err(contract::journal::chain(&err.without_url()).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, BadSetting> {
        let pairs = pairs.iter();
        Settings::parse(&pairs.map(|(n, v)| ((*n).into(), (*v).into())).collect())
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named_and_an_address_is_not_told() {
        let own = parse(&[]).unwrap();
        assert!(own.url.is_none() && own.thresholds == Thresholds::default());
        for (name, value) in [
            ("THE0_NOTICE_URL", "ftp://hunter2@x/"),
            ("THE0_NOTICE_URL", "hunter2"),
            ("THE0_NOTICE_CRASHES", "0"),
            ("THE0_NOTICE_UNSAVED", "soon"),
        ] {
            let text = parse(&[(name, value)]).unwrap_err().to_string();
            assert!(
                text.starts_with(name) && !text.contains("hunter2"),
                "{text}"
            );
        }
        let given = parse(&[("THE0_NOTICE_URL", "https://u:hunter2@h/x")]).unwrap();
        assert!(!format!("{given:?}").contains("hunter2"));
    }
}
