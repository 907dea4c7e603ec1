//! Questions that need a container of their own.

use std::io::Write;
use std::net::TcpStream;

use mongodb::bson::doc;
use serde_json::json;
use tests::stack::LONG;
use tests::{text, wait_for};

use crate::rig::{Rig, let_go};

#[test]
fn a_bot_that_does_not_run_answers_from_its_last_state_and_nothing_is_left() {
    let Some(rig) = Rig::start("gateway::apart", &[]) else {
        return;
    };
    let (id, saved) = rig.rests("rests");
    let volumes = rig.volumes();
    let state = rig
        .stack
        .objects()
        .get("bot-state", &format!("{id}/state.tar.gz"))
        .unwrap();
    let claim = |rig: &Rig| {
        rig.stack
            .objects()
            .get("bot-state", &format!("{id}/.the0/claim.json"))
            .map(|claim| claim.etag)
    };
    let claimed = claim(&rig);
    let said = rig.ask(&id, "/count", &json!({})).json();
    assert_eq!(said["data"]["count"], saved, "{said}");
    let params = json!({"symbol": "BTC/USD", "limit": 5, "deep": {"a": [null, 1.5]}});
    let echo = rig.ask(&id, "/echo", &json!({"params": params})).json();
    assert_eq!(echo["data"], params);

    let writes = rig.ask(&id, "/writes", &json!({})).json();
    let writes = writes["data"]
        .as_object()
        .unwrap_or_else(|| panic!("{writes}"));
    assert_eq!(writes.len(), 6);
    assert!(writes.values().all(|how| how != "written"), "{writes:?}");
    let environment = rig.ask(&id, "/environment", &json!({})).json()["data"].to_string();
    assert!(
        !environment.contains("MINIO") && !environment.contains("NATS"),
        "{environment}"
    );

    for (path, word) in [
        ("/fail", "what was asked cannot be had"),
        ("/none", "No handler for path: /none"),
        ("/leave", "ended with code 9 and without a result"),
    ] {
        let reply = rig.ask(&id, path, &json!({}));
        let said = reply.json();
        assert_eq!(reply.status, 500, "{said}");
        assert!(
            said["error"].as_str().unwrap_or_default().contains(word),
            "{said}"
        );
    }
    let known = tests::http(&rig.address(), "GET", &format!("/bots/{id}/queries"), "").json();
    assert!(known["queries"].to_string().contains("/count"), "{known}");
    let after = rig
        .stack
        .objects()
        .get("bot-state", &format!("{id}/state.tar.gz"))
        .unwrap();
    assert_eq!(after.etag, state.etag, "the state is as it was");
    assert_eq!(claim(&rig), claimed, "nobody has claimed it");
    rig.leaves_nothing(&volumes);
}

#[test]
fn a_bot_that_never_ran_has_no_state_and_answers_all_the_same() {
    let Some(rig) = Rig::start("gateway::new", &[]) else {
        return;
    };
    let id = rig.bot("new", doc! {"enabled": false});
    assert_eq!(rig.answers(&id, "/count"), json!({"count": 0}));
    let asked = rig.stack.ok(&["query", &id, "/count"]);
    assert!(asked.contains('0'), "{asked}");
}

#[test]
fn what_takes_too_long_or_is_given_up_leaves_nothing() {
    let Some(mut rig) = Rig::start("gateway::leaks", &[]) else {
        return;
    };
    let id = rig.bot("rests", doc! {"enabled": false});
    rig.answers(&id, "/count");
    let volumes = rig.volumes();
    let long = json!({"params": {"seconds": 600}, "timeout_sec": 3});
    let late = rig.ask(&id, "/sleep", &long);
    assert_eq!(late.status, 504, "{late:?}");
    rig.leaves_nothing(&volumes);

    let begin = |rig: &Rig| {
        let body = json!({"bot_id": id, "query_path": "/sleep", "params": {"seconds": 600}, "timeout_sec": 600});
        let (address, body) = (rig.address(), body.to_string());
        let mut asker = TcpStream::connect(&address).unwrap();
        let head = format!(
            "POST /query HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        asker.write_all((head + &body).as_bytes()).unwrap();
        wait_for("a container that runs", LONG, || {
            let all = rig.containers();
            let id = all.first()?;
            (rig.stack.docker.inspect(id)["State"]["Running"] == true).then_some(())
        });
        asker
    };
    drop(begin(&rig));
    rig.leaves_nothing(&volumes);

    let asker = begin(&rig);
    rig.stack.kill();
    assert_eq!(rig.containers().len(), 1);
    drop(asker);
    rig.stack.begin();
    rig.leaves_nothing(&volumes);
}

#[test]
fn no_more_are_attended_at_once_than_may() {
    let settings = [
        ("THE0_QUERY_CONTAINERS", "1"),
        ("THE0_QUERY_AT_ONCE_PER_BOT", "2"),
    ];
    let Some(rig) = Rig::start("gateway::bounds", &settings) else {
        return;
    };
    let live = rig.bot("live", doc! {});
    let rests = rig.bot("rests", doc! {"enabled": false});
    rig.live(&live, "/count");
    rig.answers(&rests, "/count");
    wait_for("the end of its container", LONG, || {
        rig.containers().is_empty().then_some(())
    });
    let waits = json!({"timeout_sec": 60});
    let running = rig.stack.container(&live);
    std::thread::scope(|scope| {
        // The place of the one before is free when all of it is gone.
        let first = scope.spawn(|| {
            wait_for("its place", LONG, || {
                let status = rig.ask(&rests, "/wait", &waits).status;
                (status != 429).then_some(status)
            })
        });
        let apart = wait_for("a container", LONG, || rig.containers().pop());
        let apart = rig.stack.docker.container(apart);
        rig.under_way(&apart, 1);
        let busy = rig.ask(&rests, "/count", &json!({}));
        assert_eq!(busy.status, 429, "{busy:?}");
        assert!(busy.head.contains("retry-after: 1"), "{busy:?}");
        let others = [0, 1].map(|_| scope.spawn(|| rig.ask(&live, "/wait", &waits).status));
        rig.under_way(&running, 2);
        assert_eq!(rig.ask(&live, "/count", &json!({})).status, 429);
        let_go(&running);
        let_go(&apart);
        assert_eq!(others.map(|other| other.join().unwrap()), [200, 200]);
        assert_eq!(first.join().unwrap(), 200);
    });
    assert_eq!(rig.ask(&live, "/count", &json!({})).status, 200);
}

#[test]
fn a_scheduled_bot_is_asked_apart_while_it_runs_too() {
    let Some(rig) = Rig::start("gateway::scheduled", &[]) else {
        return;
    };
    let id = rig.bot("at-times", doc! {"enabled": false});
    rig.answers(&id, "/count");
    let set = doc! {"custom.config.type": "scheduled", "config.schedule": "0 0 1 1 *"};
    rig.stack.change(&id, set);
    let reply = rig.ask(&id, "/count", &json!({}));
    assert_eq!(reply.status, 200, "{}", text(reply.body.as_bytes()));
}
