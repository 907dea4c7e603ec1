//! Ways out: what a bot is, and what it cannot write, become, mount, trace, kill or reach.

use std::collections::BTreeSet;

use mongodb::bson::doc;
use serde_json::Value;
use tests::metadata::{Metadata, SECRET};
use tests::stack::{LONG, Stack};
use tests::wait_for;

use super::{all_told, hostile, of, one};

/// All that may succeed: what a bot needs, and what harms nobody else.
const ALLOWED: [&str; 14] = [
    "interfaces",
    "write in /bot",
    "write in /state",
    "write in /tmp",
    "write in /query",
    "write in /dev/shm",
    "set /proc/self/oom_score_adj", // to what it is
    "run a program in /bot",
    "run a program in /state",
    "run a program in /tmp", // where runtimes put libraries of their own
    "run a program in /query",
    "netlink",
    "listen on port 80",
    "io_uring", // as the daemon's seccomp profile has it
];

fn is_closed(line: &Value) {
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line[capabilities], "0000000000000000", "{capabilities}");
    }
    assert_eq!(line["NoNewPrivs"], "1");
    assert_eq!(line["Seccomp"], "2");
    assert_eq!(line["Uid"], "1000 1000 1000 1000");
    assert_eq!(line["Gid"], "1000 1000 1000 1000");
}

/// The options of what is mounted at a place.
fn mounted<'a>(told: &'a [Value], at: &str) -> BTreeSet<&'a str> {
    let mounts = of(told, "mount");
    let found = mounts.iter().rfind(|line| line["at"] == at);
    let found = found.unwrap_or_else(|| panic!("nothing is mounted at {at}"));
    let words = |name: &str| found[name].as_str().unwrap().split(',');
    words("options").chain(words("more")).collect()
}

#[test]
fn a_bot_gets_out_by_none_of_the_ways_it_tries() {
    let test = "a_bot_gets_out_by_none_of_the_ways_it_tries";
    let Some(mut host) = Stack::start(test, &["python3.11"]) else {
        return;
    };
    let neighbour = hostile(&host, "neighbour", doc! {"mode": "stay"});
    host.begin();
    host.state(&neighbour, "running");
    let beside = host.container(&neighbour);
    wait_for("the neighbour's port", LONG, || {
        let asked = beside.exec(&["/opt/the0/bin/query", "ask", "/_status"]);
        asked.status.success().then_some(())
    });
    let metadata = Metadata::start(test);
    let store = host.store.address().to_owned();
    let peer = format!("{}:9476", beside.address());
    let mut places = vec![store.clone(), peer.clone()];
    if let Some(metadata) = &metadata {
        let all = [metadata.elsewhere, metadata.here, metadata.ordinary];
        places.extend(all.map(|at| at.to_string()));
    }
    let config = doc! {"mode": "probe", "stay": true, "kill": true, "connect": &places};
    let id = hostile(&host, "probe", config);
    host.state(&id, "running");
    let told = all_told(&host.container(&id));

    assert_eq!(of(&told, "broken"), Vec::<&Value>::new());
    is_closed(one(&told, "who"));
    let limits = one(&told, "limits");
    assert_eq!(limits["CORE"], serde_json::json!([0, 0]));
    assert!(limits["NOFILE"][1].as_u64().unwrap() <= 4096, "{limits}");
    assert!(mounted(&told, "/").contains("ro"));
    let tmp = mounted(&told, "/tmp");
    assert!(tmp.is_superset(&["nosuid", "nodev"].into()), "{tmp:?}");
    assert!(tmp.iter().any(|word| word.starts_with("size=")), "{tmp:?}");
    assert_eq!(one(&told, "setuid")["files"], serde_json::json!([]));

    let attempts = of(&told, "attempt");
    assert!(attempts.len() > 80, "{} attempts", attempts.len());
    let done = attempts.iter().filter(|attempt| attempt["got"] == "done");
    let done: BTreeSet<_> = done
        .filter_map(|attempt| attempt["what"].as_str())
        .collect();
    // It has nobody to kill but itself, which is left out: what matters is who is gone.
    let beyond: Vec<_> = done
        .iter()
        .filter(|what| !ALLOWED.contains(what) && **what != "SIGKILL to all")
        .collect();
    assert!(beyond.is_empty(), "{beyond:?}");
    assert!(
        done.is_superset(&["write in /state", "run a program in /bot"].into()),
        "{done:?}"
    );
    let killed = one(&told, "killed");
    assert_eq!(killed["gone"], serde_json::json!({}));
    assert!(killed["there"].as_u64().unwrap() >= 3, "{killed}");

    let reached = |place: &str| {
        let lines = of(&told, "connect");
        let line = lines.into_iter().find(|line| line["place"] == place);
        line.unwrap_or_else(|| panic!("{place} was not tried"))
            .clone()
    };
    assert_eq!(reached(&store)["got"], "connected");
    assert_ne!(reached(&peer)["got"], "connected");
    if let Some(metadata) = &metadata {
        for at in [metadata.elsewhere, metadata.here] {
            assert_eq!(reached(&at.to_string())["got"], "ECONNREFUSED");
        }
        let ordinary = reached(&metadata.ordinary.to_string());
        assert!(
            ordinary["said"].as_str().unwrap().ends_with(SECRET),
            "{ordinary}"
        );
    }
}
