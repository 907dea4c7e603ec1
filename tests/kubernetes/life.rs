//! The life of a Pod from its first container to its last.

use contract::exit;
use contract::record::{Outcome, Reason};
use serde_json::json;
use tests::cluster::{Cluster, container};
use tests::{exchange, http, wait_for};

use crate::rig::{Bot, Rig, TOKEN, ended, run_of, synced_of, time};

#[test]
fn what_breaks_restricted_is_refused() {
    let Some(cluster) = Cluster::here("kubernetes::restricted") else {
        return;
    };
    let pod = |context: serde_json::Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"},
            "spec": {"containers": [{"name": "a", "image": "a", "securityContext": context}]},
        })
    };
    let refused = cluster.try_apply(&pod(json!({}))).unwrap_err();
    assert!(refused.contains("violates PodSecurity"), "{refused}");
    cluster.apply(&pod(json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })));
}

#[test]
fn containers_start_and_end_in_order_and_the_last_state_and_log_are_in_the_store() {
    let Some(rig) = Rig::start("kubernetes::order") else {
        return;
    };
    let bot = Bot::new("ordered", json!({"word": "a-secret-word"}));
    let pod = rig.run(&bot);
    pod.ready();
    rig.wait_saved(&bot, "count", "1");
    pod.delete();
    let ended_pod = pod.wait("a Pod of which nothing runs", |pod| {
        let sync = container(pod, "sync");
        (!sync["state"]["terminated"].is_null()).then(|| pod.clone())
    });
    let of = |name: &str| ended(&container(&ended_pod, name)).clone();
    let (fetch, sync, query, main) = (of("fetch"), of("sync"), of("query"), of("bot"));
    assert!(time(&fetch, "finishedAt") <= time(&sync, "startedAt"));
    assert!(time(&sync, "startedAt") <= time(&query, "startedAt"));
    assert!(time(&query, "startedAt") <= time(&main, "startedAt"));
    assert!(time(&main, "finishedAt") <= time(&query, "finishedAt"));
    assert!(time(&query, "finishedAt") <= time(&sync, "finishedAt"));
    let codes = [&main, &query, &sync].map(|end| end["exitCode"].as_i64());
    assert_eq!(codes, [Some(0); 3]);
    let record = run_of(&container(&ended_pod, "bot"));
    assert_eq!((record.run, record.reason), (1, Reason::Stopped));
    let synced = synced_of(&container(&ended_pod, "sync"));
    assert_eq!((synced.run, synced.outcome), (1, Outcome::Ok));
    assert_eq!(rig.saved(&bot, "last").as_deref(), Some("words"));
    let log = rig.log(&bot);
    assert!(
        log.contains("COUNT 1 of a-secret-word") && log.contains("LAST WORDS"),
        "{log}"
    );
    assert!(!ended_pod.to_string().contains("a-secret-word"));
    pod.release();
    pod.gone();
}

#[test]
fn questions_are_answered_to_those_who_bring_the_token() {
    let Some(rig) = Rig::start("kubernetes::query") else {
        return;
    };
    let bot = Bot::new("asked", json!({"word": "w"}));
    let pod = rig.run(&bot);
    let address = format!("{}:9476", pod.ready().address());
    // Its own program answers, out of the state.
    rig.wait_saved(&bot, "count", "1");
    assert_eq!(http(&address, "GET", "/health", "").json()["status"], "ok");
    assert_eq!(http(&address, "POST", "/count", "{}").status, 401);
    let ask = |path: &str| {
        let head = format!("Host: bot\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n");
        exchange(
            &address,
            format!("GET {path} HTTP/1.1\r\n{head}\r\n").as_bytes(),
        )
    };
    assert_eq!(ask("/count").json()["data"], 1);
    let report = ask("/_status").json();
    assert_eq!(report["status"]["state"], "running", "{report}");
    assert_eq!(report["status"]["run"], 1);
    let inside = pod.logs("query");
    assert!(
        !inside.contains(" warn: ") && !inside.contains(TOKEN),
        "{inside}"
    );
    // The program has left a child behind with each answer.
    let first = pod.process("query", "supervisor");
    wait_for("an end of all orphans", tests::SOON, || {
        (zombies_of(first) == 0).then_some(())
    });
}

/// How many dead children of a process wait to be noticed.
fn zombies_of(parent: i32) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.map(|entry| tests::read(&entry.path().join("stat")));
    let is_one = |stat: &String| {
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        after_name.starts_with(&format!("Z {parent} "))
    };
    stats.filter(is_one).count()
}

#[test]
fn a_run_that_ends_by_itself_ends_the_pod_with_all_saved() {
    let Some(rig) = Rig::start("kubernetes::once") else {
        return;
    };
    let bot = Bot {
        restart: "Never",
        ..Bot::new("once", json!({"word": "w", "once": true}))
    };
    let pod = rig.run(&bot);
    let ended_pod = pod.wait("the end of the Pod", |pod| {
        (pod["status"]["phase"] == "Succeeded").then(|| pod.clone())
    });
    let record = run_of(&container(&ended_pod, "bot"));
    assert_eq!(
        (record.run, record.reason, record.code),
        (1, Reason::Exited, 0)
    );
    let synced = synced_of(&container(&ended_pod, "sync"));
    assert_eq!((synced.run, synced.outcome), (1, Outcome::Ok));
    assert_eq!(rig.saved(&bot, "count").as_deref(), Some("1"));
    assert!(rig.log(&bot).contains("COUNT 1"));
}

#[test]
fn why_nothing_could_be_fetched_is_in_the_pods_status() {
    let Some(rig) = Rig::start("kubernetes::fetch") else {
        return;
    };
    let bot = Bot {
        restart: "Never",
        ..Bot::new("nocode", json!({"word": "w"}))
    };
    rig.put_keys(&bot, "another-secret");
    let mut manifest = rig.manifest(&bot);
    manifest["spec"]["initContainers"]
        .as_array_mut()
        .unwrap()
        .truncate(1);
    rig.cluster.apply(&manifest);
    let pod = rig.cluster.pod(bot.id);
    let failed = pod.wait("the end of the Pod", |pod| {
        (pod["status"]["phase"] == "Failed").then(|| pod.clone())
    });
    let fetch = ended(&container(&failed, "fetch")).clone();
    assert_eq!(fetch["exitCode"], exit::CODE);
    let why = fetch["message"].as_str().unwrap();
    assert!(
        why.contains("the code could not be fetched") && !why.contains("another-secret"),
        "{why}"
    );
}
