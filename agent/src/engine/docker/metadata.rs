//! Keeps bots from link-local addresses, where clouds tell whoever asks on a machine its keys.
//!
//! Two rules a network, by the `iptables` program, both marked as ours: one for what is passed on, one for what the
//! machine answers itself. They look at where a packet was sent first, before any rule sent it elsewhere.
//!
//! Ensures:
//! * doing it again changes nothing, and rules of networks that are gone go;
//! * where it cannot be done, the reason comes with the commands that a person can run.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::process::Command;

use super::names::Stack;

/// The link-local addresses, of which every cloud has taken one.
const ADDRESSES: &str = "169.254.0.0/16";
/// Whose rules they are, before the stack's name.
const MARK: &str = "the0:";
/// How long one run of the program may take; it waits for others of its kind half as long.
const LIMIT: Duration = Duration::from_secs(10);
const WAIT: &str = "5";
/// Where the program lies, which the path of a user need not have.
const FOLDERS: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// Bots can reach these addresses.
#[derive(Debug, Error)]
#[error("{why}: as root on the machine of the Docker daemon, run `{remedy}`")]
pub struct NotBlocked {
    why: String,
    remedy: String,
}

/// Keeps what is on `bridge`, a network's interface on this machine, from link-local addresses.
///
/// # Errors
/// Why not, and what an operator can do.
pub async fn block(bridge: &str, stack: &Stack) -> Result<(), NotBlocked> {
    let comment = format!("{MARK}{stack}");
    let chains = ["DOCKER-USER", "INPUT"];
    let not_blocked = |why| NotBlocked {
        why,
        remedy: chains
            .map(|chain| Rule::new(chain, bridge, &comment).line("-I"))
            .join(" && "),
    };
    if !is_there(bridge) {
        let why = format!("the network has no interface {bridge} on the agent's machine");
        return Err(not_blocked(why));
    }
    for chain in chains {
        let mut set = set(chain, bridge, &comment).await;
        if chain == "DOCKER-USER" && matches!(set, Err(Failure::Refused(_))) {
            // A daemon that sets no rules by iptables has no chain for those of others.
            set = self::set("FORWARD", bridge, &comment).await;
        }
        set.map_err(|failure| not_blocked(failure.to_string()))?;
    }
    Ok(())
}

/// Whether rules can be set here at all; nothing is changed.
///
/// # Errors
/// Why not.
pub async fn try_out() -> Result<(), String> {
    let listed = match iptables(["-S", "DOCKER-USER"]).await {
        Err(Failure::Refused(_)) => iptables(["-S", "FORWARD"]).await,
        other => other,
    };
    listed.map(|_| ()).map_err(|failure| failure.to_string())
}

async fn set(chain: &str, bridge: &str, comment: &str) -> Result<(), Failure> {
    let rule = Rule::new(chain, bridge, comment);
    match rule.run("-C").await {
        Err(Failure::Refused(_)) => rule.run("-I").await?,
        other => other?,
    };
    // What is left of networks of before does no harm.
    let listed = iptables(["-S", chain]).await.unwrap_or_default();
    for gone in ours(&listed).filter(|rule| !is_there(&rule.bridge)) {
        let _ = gone.run("-D").await;
    }
    Ok(())
}

/// Why the program did not do it.
#[derive(Debug, Error)]
enum Failure {
    #[error("iptables cannot be run: {0}")]
    Missing(std::io::Error),
    #[error("iptables did not come to an end within {} s", LIMIT.as_secs())]
    Late,
    #[error("{0}")]
    Forbidden(String),
    /// There is no such rule or chain.
    #[error("{0}")]
    Refused(String),
}

/// One rule of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    chain: String,
    bridge: String,
    comment: String,
}

impl Rule {
    fn new(chain: &str, bridge: &str, comment: &str) -> Self {
        Self {
            chain: chain.to_owned(),
            bridge: bridge.to_owned(),
            comment: comment.to_owned(),
        }
    }

    fn words<'a>(&'a self, verb: &'a str) -> [&'a str; 14] {
        let (chain, bridge, comment) = (&self.chain, &self.bridge, &self.comment);
        [
            verb,
            chain,
            "-i",
            bridge,
            "-m",
            "conntrack",
            "--ctorigdst",
            ADDRESSES,
            "-m",
            "comment",
            "--comment",
            comment,
            // Not dropped, so that who asks need not wait for an answer that never comes.
            "-j",
            "REJECT",
        ]
    }

    fn line(&self, verb: &str) -> String {
        format!("iptables {}", self.words(verb).join(" "))
    }

    async fn run(&self, verb: &str) -> Result<String, Failure> {
        iptables(self.words(verb)).await
    }
}

/// The rules of ours in what `iptables -S` lists.
fn ours(listed: &str) -> impl Iterator<Item = Rule> {
    listed.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).map(|word| word.trim_matches('"'))
        };
        let comment = after("--comment").filter(|comment| comment.starts_with(MARK))?;
        Some(Rule::new(after("-A")?, after("-i")?, comment))
    })
}

fn is_there(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).exists()
}

async fn iptables<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<String, Failure> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("iptables");
    command.args(["-w", WAIT]).args(words);
    command
        .env("PATH", format!("{path}:{FOLDERS}"))
        .env("LC_ALL", "C");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.output()).await;
    let output = ended
        .map_err(|_| Failure::Late)?
        .map_err(Failure::Missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let first = first.unwrap_or("iptables: it failed").trim().to_owned();
    Err(match output.status.code() {
        Some(1) => Failure::Refused(first),
        _ => Failure::Forbidden(first),
    })
}
