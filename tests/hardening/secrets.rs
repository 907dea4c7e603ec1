//! Secrets: a key of the platform is nowhere that a bot can look, and its parameters are where the contract puts them.

use std::io::{Read, Seek, SeekFrom};

use mongodb::bson::{Bson, doc};
use tests::servers::{ACCESS_KEY, SECRET_KEY};
use tests::stack::Stack;
use tests::{skip, text};

use super::{all_told, hostile, of, one};

/// How the token of every session of MinIO's begins: it is a JWT.
const SESSION: &str = "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9";
/// The programs of ours in a container.
const KEEPERS: [&str; 3] = ["supervisor", "sync", "query"];
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
    host.begin();
    let sees = |told: &[serde_json::Value], keeper: &str| {
        let processes = of(told, "process");
        processes.iter().any(|seen| seen["name"] == keeper)
    };
    // On a busy machine one may miss a program of those around it: then another looks. The last one must see all.
    let look = |n: u32| {
        let id = hostile(&host, &format!("look{n}"), config.clone());
        host.state(&id, "running");
        let told = all_told(&host.container(&id));
        let all = KEEPERS.iter().all(|keeper| sees(&told, keeper));
        (all || n == 3).then_some((id, told))
    };
    let (id, told) = (1..=3).find_map(look).expect("the last one counts");
    let container = host.container(&id);

    // It looked: what it had hidden itself was found by the same means, and what it could not see it names.
    let control = one(&told, "control");
    assert_eq!(control["missed"], serde_json::json!([]), "{control}");
    assert!(control["found"].as_array().unwrap().len() >= 7, "{control}");
    assert!(one(&told, "files")["read"].as_u64().unwrap() > 1_000);
    let processes = of(&told, "process");
    for keeper in KEEPERS {
        let seen: Vec<_> = processes
            .iter()
            .filter(|seen| seen["name"] == keeper)
            .collect();
        assert!(!seen.is_empty(), "{keeper} was not seen");
        for seen in seen {
            for closed in [
                "environ", "maps", "mem", "fds", "vm", "ptrace", "pidfd", "root", "cwd",
            ] {
                let got = &seen["got"][closed];
                assert!(got == "EACCES" || got == "EPERM", "{closed}: {seen}");
            }
        }
    }

    // It found its own parameters in its own environment, and nothing else anywhere.
    let found = &one(&told, "end")["found"];
    assert_eq!(found.as_object().unwrap().len(), 1, "{found}");
    for hit in of(&told, "hit").iter().filter(|hit| hit["needle"] == "own") {
        let kind = hit["kind"].as_str().unwrap();
        let variable = hit["variable"].as_str().or(hit["where"].as_str());
        assert!(kind == "environ" || kind == "environment", "{hit}");
        assert_eq!(variable, Some("BOT_CONFIG"), "{hit}");
    }
    let asked = container.exec(&["/opt/the0/bin/query", "ask", "/look"]);
    let answer: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let found = answer["data"]["found"].as_object().unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["own"], "{answer}");

    // Nor does anybody who asks the daemon or reads a log.
    let inspected = container.inspect().to_string();
    let (logged, said) = (container.logs(), host.said());
    for (name, secret) in NAMES {
        assert!(!inspected.contains(secret), "docker inspect has the {name}");
        assert!(
            !logged.contains(secret),
            "the container's log has the {name}"
        );
        assert!(!said.contains(secret), "the agent's log has the {name}");
    }
    let top = host.docker.ask(["top", &container.name, "-eo", "pid,args"]);
    for (name, secret) in NAMES {
        assert!(!top.contains(secret), "a command line has the {name}");
    }

    // What was looked for is there: sync has a session's keys, and not those of the agent.
    let sync = top.lines().find(|line| line.contains("/sync watch"));
    let sync = sync
        .unwrap_or_else(|| panic!("{top}"))
        .split_whitespace()
        .next();
    let pid: i64 = sync.unwrap().parse().unwrap();
    match holds(pid, SESSION) {
        None => skip(
            test,
            "the memory of sync may not be looked at: the control of the session's keys",
        ),
        Some(holds) => assert!(holds, "sync has no session"),
    }
    assert_ne!(
        holds(pid, SECRET_KEY),
        Some(true),
        "sync has the agent's own key"
    );
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
