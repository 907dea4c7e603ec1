//! Secrets: a key of the platform is nowhere that a bot can look, and its parameters are where the contract puts them.

use std::io::{Read, Seek, SeekFrom};

use mongodb::bson::{Bson, doc};
use serde_json::Value;
use tests::containers::Container;
use tests::servers::{ACCESS_KEY, SECRET_KEY};
use tests::stack::Stack;
use tests::{skip, text};

use super::{all_told, hostile, of, one};

/// How the token of every session of MinIO's begins: it is a JWT.
const SESSION: &str = "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9";
/// The programs of ours in a container.
const KEEPERS: [&str; 3] = ["supervisor", "sync", "query"];
/// What of a program is closed to others.
const WAYS: [&str; 9] = [
    "environ", "maps", "mem", "fds", "vm", "ptrace", "pidfd", "root", "cwd",
];
/// Among the bot's parameters.
const OWN: &str = "hunter2-own-api-key";
const NAMES: [(&str, &str); 4] = [
    ("access key", ACCESS_KEY),
    ("secret key", SECRET_KEY),
    ("session", SESSION),
    ("own", OWN),
];

/// As the bot wants to be told what to look for.
fn needles() -> Bson {
    let mask = |secret: &str| {
        let bytes = secret.bytes();
        bytes.fold(String::new(), |text, byte| {
            text + &format!("{:02x}", byte ^ 0x5a)
        })
    };
    let needle = |(name, secret): (&str, &str)| doc! {"name": name, "masked": mask(secret)};
    NAMES.map(needle).to_vec().into()
}

/// Whether the memory of a process has this in it; `None` where it may not be looked at.
fn holds(pid: i64, what: &str) -> Option<bool> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        memory.seek(SeekFrom::Start(start)).ok()?;
        let mut bytes = Vec::new();
        let _ = Read::by_ref(&mut memory)
            .take(end - start)
            .read_to_end(&mut bytes);
        if bytes
            .windows(what.len())
            .any(|window| window == what.as_bytes())
        {
            return Some(true);
        }
    }
    Some(false)
}

#[test]
fn a_bot_that_looks_everywhere_finds_no_key_and_its_parameters_where_they_belong() {
    let test = "a_bot_that_looks_everywhere_finds_no_key_and_its_parameters_where_they_belong";
    let Some(mut host) = Stack::start(test, &["python3.11"]) else {
        return;
    };
    let config = doc! {"mode": "look", "stay": true, "needles": needles(), "api_key": OWN};
    let id = hostile(&host, "look", config);
    host.begin();
    host.state(&id, "running");
    let container = host.container(&id);
    let told = all_told(&container);
    it_looked_and_our_programs_are_closed_to_it(&told);
    it_found_its_parameters_and_nothing_else(&container, &told);
    whoever_asks_the_daemon_or_reads_a_log_finds_nothing(&host, &container);
    only_sync_has_keys_and_those_of_a_session(test, &host, &container);
}

/// What it had hidden itself was found by the same means, and what it could not see it names.
fn it_looked_and_our_programs_are_closed_to_it(told: &[Value]) {
    let control = one(told, "control");
    assert_eq!(control["missed"], serde_json::json!([]), "{control}");
    assert!(control["found"].as_array().unwrap().len() >= 7, "{control}");
    assert!(one(told, "files")["read"].as_u64().unwrap() > 1_000);
    let processes = of(told, "process");
    for keeper in KEEPERS {
        let seen: Vec<_> = processes
            .iter()
            .filter(|seen| seen["name"] == keeper)
            .collect();
        assert!(!seen.is_empty(), "{keeper} was not seen: {processes:?}");
        for (seen, way) in seen.iter().flat_map(|seen| WAYS.map(|way| (seen, way))) {
            let got = &seen["got"][way];
            assert!(got == "EACCES" || got == "EPERM", "{way}: {seen}");
        }
    }
}

/// Its own parameters are in its own environment and in that of its query.
fn it_found_its_parameters_and_nothing_else(container: &Container<'_>, told: &[Value]) {
    let found = &one(told, "end")["found"];
    assert_eq!(found.as_object().unwrap().len(), 1, "{found}");
    for hit in of(told, "hit").iter().filter(|hit| hit["needle"] == "own") {
        let kind = hit["kind"].as_str().unwrap();
        let variable = hit["variable"].as_str().or(hit["where"].as_str());
        assert!(kind == "environ" || kind == "environment", "{hit}");
        assert_eq!(variable, Some("BOT_CONFIG"), "{hit}");
    }
    let asked = container.exec(&["/opt/the0/bin/query", "ask", "/look"]);
    let answer: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let found = answer["data"]["found"].as_object().unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["own"], "{answer}");
}

fn whoever_asks_the_daemon_or_reads_a_log_finds_nothing(host: &Stack, container: &Container<'_>) {
    let places = [
        ("docker inspect", container.inspect().to_string()),
        ("the container's log", container.logs()),
        ("the agent's log", host.said()),
        ("a command line", processes(host, container)),
    ];
    for (place, text) in places {
        for (name, secret) in NAMES {
            assert!(!text.contains(secret), "{place} has the {name}");
        }
    }
}

fn processes(host: &Stack, container: &Container<'_>) -> String {
    host.docker.ask(["top", &container.name, "-eo", "pid,args"])
}

/// What was looked for is there.
fn only_sync_has_keys_and_those_of_a_session(test: &str, host: &Stack, container: &Container<'_>) {
    let all = processes(host, container);
    let sync = all.lines().find(|line| line.contains("/sync watch"));
    let pid = sync.and_then(|line| line.split_whitespace().next());
    let pid: i64 = pid.unwrap_or_else(|| panic!("{all}")).parse().unwrap();
    match holds(pid, SESSION) {
        None => skip(
            test,
            "the memory of sync may not be looked at: the control of the session's keys",
        ),
        Some(holds) => assert!(holds, "sync has no session"),
    }
    let own = holds(pid, SECRET_KEY);
    assert_ne!(own, Some(true), "sync has the agent's own key");
}

#[test]
fn a_key_that_the_operator_passes_on_is_found() {
    let test = "a_key_that_the_operator_passes_on_is_found";
    let Some(mut host) = Stack::start(test, &["python3.11"]) else {
        return;
    };
    host.set("THE0_PASS_ENV", "LEAK");
    host.set("LEAK", &format!("key={SECRET_KEY}"));
    let config = doc! {"mode": "look", "stay": true, "needles": needles()};
    let id = hostile(&host, "leak", config);
    host.begin();
    host.state(&id, "running");
    let told = all_told(&host.container(&id));
    let hits = of(&told, "hit");
    let leaks = hits.iter().filter(|hit| hit["needle"] == "secret key");
    let variables: Vec<_> = leaks.map(|hit| text(hit.to_string().as_bytes())).collect();
    assert!(!variables.is_empty(), "{told:?}");
    assert!(
        variables.iter().all(|hit| hit.contains("LEAK")),
        "{variables:?}"
    );
}
