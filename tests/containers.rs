//! Real containers for the tests, over the docker command line, and nothing of them left behind.
//!
//! Each [`Docker`] has a token of its own. Whatever carries it in its name or in a label (containers, volumes, networks,
//! images, also those that a program under test has made with the token in a name) goes when the `Docker` is dropped, after a
//! panic too. The token names the process and its start, so the first test of a later run sweeps what a killed one left.
//!
//! Where no Docker answers, or an image is not built, the test is skipped aloud.

mod daemon;
mod events;

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use daemon::Daemon;
pub use events::Events;

use crate::{read, run, skip, text, wait_for};

/// The label by which the containers of tests are found.
pub const LABEL: &str = "the0-test";
/// How long one command of Docker's may take.
const LIMIT: &str = "120";
/// How long, and how often at least, it is tried to remove what stays.
const STAYS: (Duration, u32) = (Duration::from_secs(5), 5);
/// Begins every token.
const MARK: &str = "t0-";

/// A Docker daemon as one test uses it.
#[derive(Debug)]
pub struct Docker {
    host: Option<String>,
    token: String,
}

impl Docker {
    /// The machine's own, or the one `DOCKER_HOST` names; `None` when there is none, which has been said.
    pub fn here(test: &str) -> Option<Self> {
        static SWEPT: Once = Once::new();
        let docker = Self::at(None);
        if !docker.answers() {
            skip(test, "no Docker answers: run tests/setup/docker.sh start");
            return None;
        }
        SWEPT.call_once(|| {
            // Another run may be sweeping the same.
            if let Some(stays) = docker.sweep(is_of_the_dead) {
                eprintln!("a killed run has left behind: {stays}");
            }
        });
        Some(docker)
    }

    fn at(host: Option<String>) -> Self {
        let token = new_token();
        Self { host, token }
    }

    /// Whether the daemon answers.
    pub fn answers(&self) -> bool {
        self.output(["version"]).status.success()
    }

    /// What marks everything of this test: lower-case letters, digits and dashes, unique on the machine.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A name for something of this test.
    pub fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.token)
    }

    /// The address of the daemon, where it is not the one the environment tells.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The docker command line, talking to this daemon, with a time limit.
    pub fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", LIMIT]).arg(client());
        self.with_host(command)
    }

    /// The same without a limit, for what listens as long as a test lasts.
    fn listener(&self) -> Command {
        self.with_host(Command::new(client()))
    }

    fn with_host(&self, mut command: Command) -> Command {
        if let Some(host) = &self.host {
            command.args(["--host", host]);
        }
        command
    }

    /// Runs a command of Docker's to its end.
    pub fn output<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        run(self.command().args(args))
    }

    /// The same where it must succeed; what it printed, trimmed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ask<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let mut command = self.command();
        command.args(args);
        let output = run(&mut command);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        text(&output.stdout).trim().to_owned()
    }

    /// What `docker inspect` says of a container, image, volume or network; null when there is none.
    pub fn inspect(&self, name: &str) -> Value {
        let said = self.output(["inspect", name]).stdout;
        let mut said: Value = serde_json::from_slice(&said).unwrap_or_default();
        said.get_mut(0).map(Value::take).unwrap_or_default()
    }

    /// The image of `runtime` as `images/build.sh` names it; `None` when it is not built, which has been said.
    pub fn image(&self, test: &str, runtime: &str) -> Option<String> {
        let image = image(runtime);
        let there = self.output(["image", "inspect", &image]).status.success();
        if !there {
            skip(
                test,
                &format!("there is no image {image}: run `make images`"),
            );
        }
        there.then_some(image)
    }

    /// A new volume.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn volume(&self, short: &str) -> String {
        self.ask([
            "volume",
            "create",
            "--label",
            &self.label(),
            &self.name(short),
        ])
    }

    /// A new network.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn network(&self, short: &str) -> String {
        let name = self.name(short);
        self.ask(["network", "create", "--label", &self.label(), &name]);
        name
    }

    /// The address of the host in the default bridge's network: what binds it is reached from containers.
    ///
    /// # Panics
    /// When there is no such network.
    pub fn gateway(&self) -> IpAddr {
        let bridge = self.inspect("bridge");
        let config = &bridge["IPAM"]["Config"][0];
        let read = |name: &str| config[name].as_str();
        let gateway = read("Gateway").and_then(|text| text.parse().ok());
        // Not every daemon says it; it is the first address then.
        let first = || {
            let network = read("Subnet")?
                .split('/')
                .next()?
                .parse::<Ipv4Addr>()
                .ok()?;
            Some(IpAddr::from(Ipv4Addr::from(u32::from(network) + 1)))
        };
        gateway
            .or_else(first)
            .unwrap_or_else(|| panic!("the default bridge has no address: {config}"))
    }

    /// Runs a container in the background: `docker run -d OPTIONS.. IMAGE WORDS..`.
    ///
    /// # Panics
    /// When it is not started.
    pub fn run(
        &self,
        short: &str,
        options: &[String],
        image: &str,
        words: &[&str],
    ) -> Container<'_> {
        let (name, label) = (self.name(short), self.label());
        let own = ["run", "--detach", "--name", &name, "--label", &label];
        let own = own.into_iter().chain(options.iter().map(String::as_str));
        self.ask(own.chain([image]).chain(words.iter().copied()));
        self.container(name)
    }

    /// A container that is there already, by its name or id.
    pub fn container(&self, name: impl Into<String>) -> Container<'_> {
        let name = name.into();
        Container { docker: self, name }
    }

    fn label(&self) -> String {
        format!("{LABEL}={}", self.token)
    }

    /// Removes what carries a token that is `meant`; tells what stays, and why.
    fn sweep(&self, meant: impl Fn(&str) -> bool) -> Option<String> {
        let format = |id: &str| format!("{id}\t{{{{json .}}}}");
        let rows: [(&str, &[&str], &[&str]); 4] = [
            ("{{.ID}}", &["ps", "--all"], &["rm", "--force", "--volumes"]),
            ("{{.ID}}", &["network", "ls"], &["network", "rm"]),
            ("{{.Name}}", &["volume", "ls"], &["volume", "rm", "--force"]),
            (
                "{{.Repository}}:{{.Tag}}",
                &["image", "ls"],
                &["image", "rm", "--force"],
            ),
        ];
        let stays = rows.map(|(id, list, remove)| {
            let found = || self.found(list, &format(id), &meant);
            self.remove(remove, found)
        });
        crate::metadata::remove_rules(|rule| tokens(rule).any(&meant));
        let stays: Vec<String> = stays.into_iter().flatten().collect();
        (!stays.is_empty()).then(|| stays.join("; "))
    }

    /// The ids of what is listed and carries a token that is `meant`.
    fn found(&self, list: &[&str], format: &str, meant: impl Fn(&str) -> bool) -> Vec<String> {
        let found = self.output([list, &["--format", format]].concat()).stdout;
        let found = text(&found);
        let rows = found.lines().filter_map(|line| line.split_once('\t'));
        rows.filter(|(_, said)| tokens(said).any(&meant))
            .map(|(id, _)| id.to_owned())
            .collect()
    }

    /// Removes until nothing is found any more, for a while: what is still in use may not be a moment later. Gives
    /// Docker's words about what stays.
    fn remove(&self, remove: &[&str], found: impl Fn() -> Vec<String>) -> Option<String> {
        let (end, mut tries) = (Instant::now() + STAYS.0, 0);
        let mut ids = found();
        while !ids.is_empty() {
            let words = remove.iter().copied().chain(ids.iter().map(String::as_str));
            let said = self.output(words).stderr;
            tries += 1;
            ids = found();
            // One try alone may take longer than all that time.
            if !ids.is_empty() && tries >= STAYS.1 && Instant::now() >= end {
                return Some(format!("{remove:?} {ids:?}: {}", text(&said).trim()));
            }
        }
        None
    }
}

impl Drop for Docker {
    /// # Panics
    /// When something stays, unless the test has failed already: then that is told.
    fn drop(&mut self) {
        if let Some(stays) = self.sweep(|token| token == self.token) {
            assert!(std::thread::panicking(), "the test leaves behind: {stays}");
            eprintln!("the test leaves behind: {stays}");
        }
    }
}

/// A container of a test.
#[derive(Debug)]
pub struct Container<'a> {
    docker: &'a Docker,
    /// Its name or id.
    pub name: String,
}

impl Container<'_> {
    /// What `docker inspect` says of it; null when it is gone.
    pub fn inspect(&self) -> Value {
        self.docker.inspect(&self.name)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.inspect()["State"]["Running"] == true
    }

    /// Its address in its first network.
    ///
    /// # Panics
    /// When it has none.
    pub fn address(&self) -> String {
        let said = self.inspect();
        let networks = said["NetworkSettings"]["Networks"].as_object();
        let mut networks = networks.into_iter().flat_map(|networks| networks.values());
        let address = networks.find_map(|network| network["IPAddress"].as_str());
        let address = address.filter(|address| !address.is_empty());
        address
            .unwrap_or_else(|| panic!("{} has no address", self.name))
            .to_owned()
    }

    /// What it has printed on both of its outputs.
    pub fn logs(&self) -> String {
        let output = self.docker.output(["logs", &self.name]);
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Waits until it has printed `what`.
    ///
    /// # Panics
    /// When it has not by then, with what it has printed.
    pub fn says(&self, what: &str, deadline: Duration) {
        let mut last = String::new();
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            last = self.logs();
            if last.contains(what) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!(
            "{} has not said {what:?} within {deadline:?}:\n{last}",
            self.name
        );
    }

    /// Runs a program in it.
    pub fn exec(&self, words: &[&str]) -> Output {
        self.docker.output([&["exec", &self.name], words].concat())
    }

    /// A file of it, also of one that has ended; `None` when there is none.
    pub fn file(&self, path: &str) -> Option<String> {
        let packed = self
            .docker
            .output(["cp", &format!("{}:{path}", self.name), "-"]);
        let mut archive = tar::Archive::new(packed.stdout.as_slice());
        let mut file = archive.entries().ok()?.next()?.ok()?;
        let mut content = String::new();
        std::io::Read::read_to_string(&mut file, &mut content).ok()?;
        Some(content)
    }

    /// Sends a signal to its first process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self, signal: &str) {
        self.docker.ask(["kill", "--signal", signal, &self.name]);
    }

    /// Stops it as the agent would and gives the code it ended with.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&self) -> i64 {
        self.docker.ask(["stop", "--time", "60", &self.name]);
        self.code(Duration::from_secs(5))
    }

    /// Waits for its end and gives the code.
    ///
    /// # Panics
    /// When the deadline has passed.
    pub fn code(&self, deadline: Duration) -> i64 {
        wait_for(&format!("the end of {}", self.name), deadline, || {
            let state = self.inspect()["State"].take();
            (state["Status"] == "exited").then(|| state["ExitCode"].as_i64())?
        })
    }

    /// Removes it, and not its named volumes.
    pub fn remove(self) {
        self.docker
            .output(["rm", "--force", "--volumes", &self.name]);
    }
}

/// What `images/build.sh` calls the image of `runtime`, or the agent's for `agent`.
pub fn image(runtime: &str) -> String {
    let set =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    format!(
        "{}/{runtime}:{}",
        set("THE0_PREFIX", "the0"),
        set("THE0_TAG", "latest")
    )
}

/// Debian's client, where there are several.
fn client() -> PathBuf {
    let debian = Path::new("/usr/bin/docker");
    if debian.exists() {
        debian.into()
    } else {
        "docker".into()
    }
}

/// When a process was started, in ticks since the machine was; `None` when it is gone.
fn started(pid: u32) -> Option<u64> {
    let stat = read(Path::new(&format!("/proc/{pid}/stat")));
    let after_name = stat.rsplit_once(") ")?.1;
    // Field 22 of proc(5); the first after the name is field 3.
    after_name.split(' ').nth(19)?.parse().ok()
}

/// A token that no other test of this machine has.
pub(crate) fn new_token() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    format!("{MARK}{pid}-{}-{count}", started(pid).unwrap_or_default())
}

/// The tokens in a text.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(MARK).filter_map(|(at, _)| {
        let mut parts = text[at + MARK.len()..].splitn(3, '-');
        let digits = |part: &str| part.bytes().take_while(u8::is_ascii_digit).count();
        let (pid, start, count) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = |part: &str| !part.is_empty() && digits(part) == part.len();
        let length = MARK.len() + pid.len() + 1 + start.len() + 1 + digits(count);
        (whole(pid) && whole(start) && digits(count) > 0).then(|| &text[at..at + length])
    })
}

/// Whether the test that made the token is over.
pub(crate) fn is_of_the_dead(token: &str) -> bool {
    let mut parts = token[MARK.len()..].split('-');
    let pid = parts.next().and_then(|pid| pid.parse().ok());
    let start = parts.next().and_then(|start| start.parse().ok());
    pid.and_then(started) != start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_wherever_they_stand_and_ours_are_of_the_living() {
        let docker = Docker {
            host: Some("unix:///nowhere".into()),
            token: String::new(),
        };
        let own = Docker::at(docker.host.clone());
        let said = format!(
            "{{\"Names\":\"{}\",\"Labels\":\"a=t0-1-2-3,b=t0-x\"}}",
            own.name("bot")
        );
        assert_eq!(tokens(&said).collect::<Vec<_>>(), [own.token(), "t0-1-2-3"]);
        assert!(!is_of_the_dead(own.token()) && is_of_the_dead("t0-1-2-3"));
        assert!(own.token() != Docker::at(docker.host.clone()).token());
    }
}
