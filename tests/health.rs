//! The agent as probes and Prometheus see it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mongodb::bson::doc;
use serde_json::Value;
use tests::servers::{free_port, program};
use tests::stack::{IDLE, LONG, Stack};
use tests::{Reply, http, read, repository, run, skip, text, wait_for};

fn get(address: &str, path: &str) -> Reply {
    http(address, "GET", path, "")
}

/// Waits until an agent at `address` is ready or is not, and gives what it says.
fn becomes(address: &str, status: u16) -> Value {
    wait_for(&format!("{status} of /readyz"), LONG, || {
        TcpStream::connect(address).ok()?;
        let reply = get(address, "/readyz");
        (reply.status == status).then(|| reply.json())
    })
}

fn begin(test: &str) -> Option<(Stack, String)> {
    let mut stack = Stack::start(test, &["python3.11"])?;
    let address = format!("127.0.0.1:{}", free_port());
    stack.set("THE0_HEALTH_LISTEN", &address);
    stack.begin();
    Some((stack, address))
}

/// What it says when it is not ready and names this dependency: the listing may be missed before its database is.
fn away(address: &str, dependency: &str) -> Value {
    wait_for("the word of what is away", LONG, || {
        let body = becomes(address, 503);
        (body["dependencies"][dependency]["ok"] == false).then_some(body)
    })
}

#[test]
fn it_is_ready_while_the_database_and_the_store_answer_and_tells_which_does_not() {
    let Some((mut stack, address)) = begin("health::ready") else {
        return;
    };
    let bot = stack.bot("idle", IDLE, doc! {});
    let body = becomes(&address, 200);
    let names: Vec<&String> = body["dependencies"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["docker", "lease", "listing", "mongodb", "store"]);
    stack.state(&bot, "running");
    wait_for("the bot and its start in the metrics", LONG, || {
        let metrics = get(&address, "/metrics").body;
        let has = |line: &str| metrics.lines().any(|is| is == line);
        let all = has("the0_bots{state=\"running\"} 1")
            && has("the0_starts_total{outcome=\"started\"} 1")
            && has("the0_dependency_up{dependency=\"store\"} 1")
            && has("the0_lease_held 1");
        all.then_some(())
    });

    stack.mongo.stop();
    let body = away(&address, "mongodb");
    let mongodb = &body["dependencies"]["mongodb"];
    assert!(mongodb["why"].is_string(), "{body:#}");
    assert!(mongodb["since"].as_str().unwrap().ends_with('Z'));
    assert_eq!(body["dependencies"]["docker"]["ok"], true);
    assert_eq!(get(&address, "/healthz").body, "ok\n", "its loop turns");
    stack.mongo.start_again();
    becomes(&address, 200);

    stack.store.stop();
    let body = away(&address, "store");
    assert_eq!(body["dependencies"]["mongodb"]["ok"], true, "{body:#}");
    stack.store.start_again();
    becomes(&address, 200);
    for (name, key) in stack.store.environment() {
        if name.contains("KEY") {
            let told = get(&address, "/readyz").body + &get(&address, "/metrics").body;
            assert!(!told.contains(&key), "{name} is told");
        }
    }
}

#[test]
fn clients_that_are_slow_or_many_do_not_keep_others_from_their_answer() {
    let Some((stack, address)) = begin("health::slow") else {
        return;
    };
    becomes(&address, 200);
    let mut slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut client = TcpStream::connect(&address).unwrap();
            client
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
                .unwrap();
            client
        })
        .collect();
    assert!(stack.rows().is_some(), "the loop is not concerned");
    assert_eq!(get(&address, "/healthz").status, 200);
    let first = &mut slow[0];
    first.set_read_timeout(Some(LONG)).unwrap();
    let mut said = Vec::new();
    first
        .read_to_end(&mut said)
        .expect("an end of the connection");
    assert!(!text(&said).contains("200 OK"), "{}", text(&said));
    let long = "x".repeat(64 << 10);
    let refused = get(&address, &format!("/{long}"));
    assert!(
        (400..500).contains(&refused.status) || refused.status == 0,
        "{}",
        refused.head
    );
    assert_eq!(http(&address, "POST", "/metrics", "").status, 405);
}

#[test]
fn a_port_that_is_taken_is_told_and_bots_run_all_the_same() {
    let Some(mut stack) = Stack::start("health::taken", &["python3.11"]) else {
        return;
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    stack.set("THE0_HEALTH_LISTEN", &address);
    let bot = stack.bot("idle", IDLE, doc! {});
    stack.begin();
    stack.says(&format!("no /healthz, /readyz and /metrics: {address}"));
    stack.state(&bot, "running");
}

fn promtool(test: &str) -> Option<PathBuf> {
    let found = program("promtool");
    if found.is_none() {
        skip(
            test,
            "promtool is not installed: run tests/setup/promtool.sh",
        );
    }
    found
}

#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    let Some(promtool) = promtool("promtool_finds_no_fault_in_the_metrics") else {
        return;
    };
    let Some((_stack, address)) = begin("health::promtool") else {
        return;
    };
    becomes(&address, 200);
    let reply = get(&address, "/metrics");
    assert!(
        reply
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        reply.head
    );
    let mut check = Command::new(promtool);
    check.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut check = check
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check
        .stdin
        .take()
        .unwrap()
        .write_all(reply.body.as_bytes())
        .unwrap();
    let output = check.wait_with_output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn promtool_finds_no_fault_in_the_alerts() {
    let Some(promtool) = promtool("promtool_finds_no_fault_in_the_alerts") else {
        return;
    };
    let rules = repository().join("images/prometheus");
    for args in [
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts.test.yaml"],
    ] {
        let output = run(Command::new(&promtool).args(args).current_dir(&rules));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
    }
}

#[test]
fn alerts_and_board_ask_for_metrics_that_there_are() {
    let golden = read(&repository().join("agent/golden/metrics.txt"));
    let known: BTreeSet<&str> = golden
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(known.contains("the0_bots"));
    for file in ["alerts.yaml", "board.json"] {
        let content = read(&repository().join("images/prometheus").join(file));
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let asked: BTreeSet<&str> = content
            .split(|c| !is_word(c))
            .filter(|word| word.starts_with("the0_"))
            .map(|word| word.trim_end_matches("_bucket"))
            .collect();
        assert!(asked.len() > 5, "{file} asks for nothing");
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
    let board = read(&repository().join("images/prometheus/board.json"));
    let board: Value = serde_json::from_str(&board).expect("JSON");
    let panels = board["panels"].as_array().unwrap();
    assert!(
        panels
            .iter()
            .all(|panel| panel["targets"][0]["expr"].is_string())
    );
}
