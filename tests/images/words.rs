//! The words of the platform's first runtime, each in a container, as its compose files and charts have them.

use std::process::Command;

use serde_json::Value;
use tests::containers::{Container, Docker};
use tests::{http, run, text, wait_for};

use super::bot::{Bot, CPP, ENDED, LATE, ask, number};

/// The containers of a Pod: they share the volumes, and only those that move code and state have keys.
struct Pod<'a> {
    bot: &'a Bot<'a>,
    docker: &'a Docker,
    volumes: Vec<String>,
}

impl<'a> Pod<'a> {
    fn new(docker: &'a Docker, bot: &'a Bot<'a>) -> Self {
        let mut volumes = bot.hardened("pod");
        volumes.retain(|option| !option.starts_with("--env="));
        Self {
            bot,
            docker,
            volumes,
        }
    }

    fn run(&self, name: &str, variables: &[(String, String)], words: &str) -> Container<'a> {
        let variables = variables
            .iter()
            .map(|(name, value)| format!("--env={name}={value}"));
        let options: Vec<String> = self.volumes.iter().cloned().chain(variables).collect();
        let words: Vec<&str> = words.split(' ').collect();
        self.docker.run(name, &options, &self.bot.image, &words)
    }

    /// One that is told by its words alone which bot it is.
    fn with_keys(&self, name: &str, words: &str) -> Container<'a> {
        self.run(name, &self.bot.store.environment(), words)
    }

    fn without_keys(&self, name: &str, words: &str) -> Container<'a> {
        let mut variables = self.bot.variables();
        variables.retain(|(name, _)| !name.starts_with("MINIO_") && name != "CODE_FILE");
        self.run(name, &variables, words)
    }
}

#[test]
fn a_pod_of_the_first_runtimes_words_runs_a_bot() {
    let test = "a_pod_of_the_first_runtimes_words_runs_a_bot";
    let Some(docker) = Docker::here(test) else {
        return;
    };
    let Some(bot) = Bot::new(test, &docker, &CPP) else {
        return;
    };
    let pod = Pod::new(&docker, &bot);
    let (id, key) = (&bot.id, bot.key());

    let paths = "--code-path /bot --state-path /state";
    let words = format!("daemon init --bot-id {id} {paths} --code-file {key}");
    let init = pod.with_keys("init", &words);
    assert_eq!(init.code(LATE), 0, "{}", init.logs());

    let paths = "--state-path /state --logs-path /var/the0/logs --watch-done /var/the0/done";
    let words = format!("daemon sync --bot-id {id} {paths} --interval 60s --readiness-port 8079");
    let sync = pod.with_keys("sync", &words);
    sync.says("watching as generation", LATE);
    let ready = wait_for("the readiness port", LATE, || reach(&sync, 8079));
    assert_eq!(http(&ready, "GET", "/readyz", "").status, 200);

    let query = pod.without_keys("query", "execute --query-server-only");
    let main = pod.without_keys("main", "execute --skip-sync --skip-query-server");
    main.says("counts BTC/USD from 0", LATE);
    wait_for("an answer from the query server's container", LATE, || {
        ask(&query, &["/count"])["data"]["count"]
            .as_u64()
            .filter(|count| *count > 0)
    });
    let all = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
    let beside = text(&main.exec(&["/bin/sh", "-c", all]).stdout);
    assert!(
        beside.contains("/bot/bot") && !beside.contains("/opt/the0/bin/sync"),
        "{beside}"
    );

    assert_eq!(main.stop(), ENDED, "{}", main.logs());
    assert_eq!(sync.code(LATE), 0, "sync ends with it: {}", sync.logs());
    let last = number(&main.logs(), &format!("bot {id} ends at "));
    assert_eq!(bot.stored().0, last);
    assert!(query.is_running());
    query.stop();

    let both = pod.without_keys("both", "execute --skip-sync");
    both.says(&format!("counts BTC/USD from {last}"), LATE);
    wait_for("an answer from the bot's own container", LATE, || {
        ask(&both, &["/count"])["data"]["count"].as_u64()
    });
    assert_eq!(both.stop(), ENDED, "{}", both.logs());
}

/// Its address, once something listens on `port`.
fn reach(container: &Container, port: u16) -> Option<String> {
    let address = format!("{}:{port}", container.address());
    std::net::TcpStream::connect(&address).ok().map(|_| address)
}

/// How a command ended and all that it said.
fn code_of(command: &mut Command) -> (Option<i32>, String) {
    let output = run(command);
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

/// One question to a bot that is not run: on standard output, or in the store where a key says so; nobody claims it.
fn is_asked_once(docker: &Docker, bot: &Bot<'_>) {
    let claim = format!("{}/.the0/claim.json", bot.id);
    let claimed = || {
        bot.store
            .client()
            .get("bot-state", &claim)
            .map(|claim| claim.etag)
    };
    let before = claimed();
    let ask = |more: &[&str], path: &str| {
        let mut command = docker.command();
        command
            .args(["run", "--rm"])
            .args(bot.hardened("asked"))
            .args(more);
        run(command.arg(&bot.image).args(["execute", "--query", path]))
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let answer = ask(&[], "/count");
    assert_eq!(answer.status.code(), Some(0), "{answer:?}");
    let said = json(&answer.stdout);
    assert!(said["data"]["count"].as_u64() > Some(0), "{answer:?}");
    let key = format!("{}/1-ab/result.json", bot.id);
    bot.store.client().make_bucket("query-results");
    let with_key = format!("--env=QUERY_RESULT_KEY={key}");
    for (path, code, status) in [("/count", 0, "ok"), ("/none", 1, "error")] {
        let answer = ask(&[&with_key], path);
        assert_eq!(
            (answer.status.code(), text(&answer.stdout).as_str()),
            (Some(code), ""),
            "{answer:?}"
        );
        let kept = bot
            .store
            .client()
            .get("query-results", &key)
            .expect("a result in the store");
        assert_eq!(json(&kept.bytes)["status"], status);
    }
    assert_eq!(claimed(), before, "nobody has claimed it");
}

#[test]
fn execute_alone_is_the_whole_run_and_other_words_are_refused() {
    let test = "execute_alone_is_the_whole_run_and_other_words_are_refused";
    let Some(docker) = Docker::here(test) else {
        return;
    };
    let Some(bot) = Bot::new(test, &docker, &CPP) else {
        return;
    };
    let whole = docker.run("whole", &bot.hardened("whole"), &bot.image, &["execute"]);
    whole.says("counts BTC/USD from 0", LATE);
    wait_for("an answer", LATE, || {
        ask(&whole, &["/count"])["data"]["count"].as_u64()
    });
    assert_eq!(whole.stop(), ENDED, "{}", whole.logs());

    let said = |words: &[&str]| {
        code_of(
            docker
                .command()
                .args(["run", "--rm", &bot.image])
                .args(words),
        )
    };
    assert_eq!(
        said(&["version"]),
        (
            Some(0),
            format!("supervisor {}\n", env!("CARGO_PKG_VERSION"))
        )
    );
    is_asked_once(&docker, &bot);
    for (words, code, told) in [
        (&["execute", "--query", "/count"][..], 1, "BOT_ID"),
        (&["execute", "--frob"], 2, "--frob"),
        (&["daemon", "sync", "--everything"], 2, "--everything"),
        (&["daemon", "init"], 1, "BOT_ID"),
    ] {
        let (ended, text) = said(words);
        assert!(
            ended == Some(code) && text.contains(told),
            "{words:?}: {ended:?} {text}"
        );
    }
}
