//! Who may come, and those who come to do harm.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use nix::sys::signal::Signal;
use serde_json::json;
use tests::fuzz::{seed, survives};
use tests::stack::LONG;
use tests::{Process, Reply, exchange, http, wait_for};

use crate::rig::{Rig, let_go};

fn with_token(address: &str, token: Option<&str>, id: &str) -> Reply {
    let body = json!({"bot_id": id, "query_path": "/count"}).to_string();
    let token = token.map_or(String::new(), |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let head = format!(
        "POST /query HTTP/1.1\r\nHost: {address}\r\n{token}Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    exchange(address, (head + &body).as_bytes())
}

#[test]
fn with_tokens_each_asks_the_bots_that_it_may() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let token = |n: u8| format!("{n}").repeat(32);
    let write = |lines: &str| {
        fs::write(&path, lines).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    };
    write(&format!("all {} *\n", token(1)));
    let Some(rig) = Rig::start("gateway::tokens", &[("THE0_QUERY_TOKENS", &path)]) else {
        return;
    };
    let [one, two] = ["one", "two"].map(|short| rig.bot(short, doc! {"enabled": false}));
    write(&format!("all {} *\nsome {} {two}\n", token(1), token(2)));
    let address = rig.address();
    wait_for("a bot that is known", LONG, || {
        (with_token(&address, Some(&token(1)), &one).status == 200).then_some(())
    });
    for (given, id, status) in [
        (None, &one, 401),
        (Some(token(3)), &one, 401),
        (Some(token(2)), &one, 403),
        (Some(token(2)), &two, 200),
        (Some(token(1)), &two, 200),
    ] {
        let reply = with_token(&address, given.as_deref(), id);
        assert_eq!(reply.status, status, "{reply:?}");
    }
    let [there, nowhere] = [one.as_str(), "nobody"].map(|id| {
        let reply = with_token(&address, Some(&token(2)), id);
        (
            reply.status,
            reply.json()["error"].to_string().replace(id, "ID"),
        )
    });
    assert_eq!(
        there, nowhere,
        "whether a bot is there is told to who may ask it"
    );
    assert_eq!(http(&address, "GET", "/health", "").status, 200);
    let queries = http(&address, "GET", &format!("/bots/{two}/queries"), "");
    assert_eq!(queries.status, 401);
    let said = rig.stack.said();
    assert!(
        said.contains("question of some at 127.0.0.1") && !said.contains(&token(1)),
        "{said}"
    );
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(with_token(&address, Some(&token(1)), &one).status, 503);
}

#[test]
fn who_is_slow_or_sends_nonsense_keeps_nobody_from_an_answer() {
    let Some(rig) = Rig::start("gateway::doors", &[]) else {
        return;
    };
    let id = rig.bot("live", doc! {});
    rig.live(&id, "/count");
    let address = rig.address();
    let mut slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream
                .write_all(b"POST /query HTTP/1.1\r\nHost: x\r\nX: ")
                .unwrap();
            stream
        })
        .collect();
    assert_eq!(
        rig.ask(&id, "/count", &json!({})).status,
        200,
        "beside slow heads"
    );
    let large = "x".repeat(20 << 10);
    let raw = |request: &str| exchange(&address, request.as_bytes()).status;
    let host = format!("Host: {address}\r\nConnection: close\r\n");
    assert_eq!(
        raw(&format!("GET /health HTTP/1.1\r\n{host}X: {large}\r\n\r\n")),
        431
    );
    let body = "y".repeat((1 << 20) + 1);
    assert_eq!(http(&address, "POST", "/query", &body).status, 413);
    for nonsense in [
        "GET /health HTTP/9.9\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
        format!("POST /query HTTP/1.1\r\n{host}Content-Length: x\r\n\r\n"),
        format!("POST /query HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        format!("POST /query HTTP/1.1\r\n{host}Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n"),
    ] {
        assert_eq!(raw(&nonsense), 400, "{nonsense:?}");
    }
    for path in [
        "/../query",
        "/query/",
        "//query",
        "/bots/../query",
        "/bots/%2e%2e/queries",
    ] {
        let reply = http(&address, "POST", path, "{}");
        assert!([404, 405].contains(&reply.status), "{path}: {reply:?}");
    }
    for path in ["/count\r\nX: y", "/a b", "/\u{1}", "/?a=b#c", "/%00"] {
        let reply = rig.ask(&id, path, &json!({}));
        assert!([400, 500].contains(&reply.status), "{path:?}: {reply:?}");
    }
    assert_eq!(rig.ask(&id, "/count", &json!({})).status, 200);
    // They are cut when the time of their head is over.
    let end = Instant::now() + Duration::from_secs(30);
    let last = slow.last_mut().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let _ = last.read(&mut [0; 512]);
    assert!(Instant::now() < end, "a slow head is not waited for");
}

#[test]
fn an_agent_that_ends_answers_what_it_was_asked_before() {
    let Some(mut rig) = Rig::start("gateway::drain", &[]) else {
        return;
    };
    let live = rig.bot("live", doc! {});
    let rests = rig.bot("rests", doc! {"enabled": false});
    rig.live(&live, "/count");
    rig.answers(&rests, "/count");
    wait_for("the end of its container", LONG, || {
        rig.containers().is_empty().then_some(())
    });
    let pid = rig.stack.agent().pid();
    let waits = &json!({"timeout_sec": 60});
    std::thread::scope(|scope| {
        let asked = [&live, &rests].map(|id| {
            let rig = &rig;
            scope.spawn(move || rig.ask(id, "/wait", waits))
        });
        let apart = wait_for("a container", LONG, || rig.containers().pop());
        let apart = rig.stack.docker.container(apart);
        let both = [rig.stack.container(&live), apart];
        for container in &both {
            rig.under_way(container, 1);
        }
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let address = rig.address();
        wait_for("a closed door", LONG, || TcpStream::connect(&address).err());
        for container in &both {
            let_go(container);
        }
        for reply in asked.map(|asked| asked.join().unwrap()) {
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    });
    rig.stack.ended();
    assert!(rig.containers().is_empty(), "its container went before it");
}

#[test]
fn the_platforms_query_server_answers_beside_the_agent_that_acts_and_acts_never() {
    let Some(rig) = Rig::start("gateway::alone", &[("THE0_GATEWAY_ADDRESS", "")]) else {
        return;
    };
    let live = rig.bot("live", doc! {});
    let rests = rig.bot("rests", doc! {"enabled": false});
    // What only answers would ask it apart before.
    rig.stack.container(&live).says("BEGAN", LONG);
    let data = tempfile::tempdir().unwrap();
    let log = fs::File::create(data.path().join("log")).unwrap();
    let mut command = rig.stack.command(&["query-server", "--port", "0"]);
    command.env("THE0_DATA", data.path().join("data"));
    command.env_remove("THE0_GATEWAY_ADDRESS");
    command.stdin(std::process::Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let mut server = Process::start(&mut command);
    let port = wait_for("the gateway", LONG, || {
        let said = tests::read(&data.path().join("log"));
        let (_, rest) = said.split_once("http://0.0.0.0:")?;
        Some(rest.split_once(',')?.0.to_owned())
    });
    let address = format!("127.0.0.1:{port}");
    for id in [&live, &rests] {
        wait_for("an answer", LONG, || {
            let body = json!({"bot_id": id, "query_path": "/count"}).to_string();
            (http(&address, "POST", "/query", &body).status == 200).then_some(())
        });
    }
    // One that begins later is asked where it runs, long before the next listing, which is 30 s after the last one.
    let later = rig.bot("later", doc! {});
    rig.stack.container(&later).says("BEGAN", LONG);
    wait_for(
        "an answer from where it runs",
        Duration::from_secs(15),
        || {
            let body = json!({"bot_id": later, "query_path": "/count"}).to_string();
            http(&address, "POST", "/query", &body);
            let said = tests::read(&data.path().join("log"));
            let word = format!("bot {later} \"/count\": 200, live");
            said.contains(&word).then_some(())
        },
    );
    server.signal(Signal::SIGTERM);
    assert_eq!(server.code(LONG), 0);
    let said = tests::read(&data.path().join("log"));
    assert!(!said.contains("started, container"), "{said}");
    let word = format!("bot {live} \"/count\": 200, live");
    assert!(said.contains(&word), "{said}");
    assert_eq!(
        rig.stack.container(&live).logs().matches("BEGAN").count(),
        1
    );
}

#[test]
fn a_bots_own_port_answers_the_gateway_and_those_inside_and_nobody_else() {
    let Some(mut rig) = Rig::start("gateway::inner", &[]) else {
        return;
    };
    let id = rig.bot("live", doc! {});
    rig.live(&id, "/count");
    let container = rig.stack.container(&id);
    let found = container.inspect();
    let networks = found["NetworkSettings"]["Networks"].as_object().unwrap();
    let address = networks
        .values()
        .find_map(|network| network["IPAddress"].as_str());
    let address = format!("{}:9476", address.unwrap());
    for path in ["/count", "/_status", "/info"] {
        let reply = http(&address, "POST", path, "{}");
        assert_eq!(reply.status, 401, "{path}: {reply:?}");
    }
    assert_eq!(
        http(&address, "GET", "/health", "").status,
        404,
        "the bot's own word"
    );
    let inside = container.exec(&["/opt/the0/bin/query", "ask", "/count"]);
    assert!(inside.status.success(), "{inside:?}");
    // Another agent of the stack knows it, too.
    rig.stack.kill();
    rig.stack.begin();
    rig.live(&id, "/count");
    let logs = rig.stack.container(&id).logs();
    let told = [found.to_string(), logs, rig.stack.said()];
    assert!(told.iter().all(|text| !text.contains("Bearer")));
}

#[test]
fn requests_changed_by_chance_do_no_harm() {
    let Some(rig) = Rig::start("gateway::fuzz", &[("THE0_QUERY_GUARD", "off")]) else {
        return;
    };
    let id = rig.bot("live", doc! {});
    rig.live(&id, "/echo");
    let address = rig.address();
    let body = json!({"bot_id": id, "query_path": "/echo", "params": {"a": [1, "x", null]}, "timeout_sec": 2}).to_string();
    let good = [
        format!(
            "POST /query HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        format!("GET /bots/{id}/queries HTTP/1.1\r\nHost: {address}\r\n\r\n"),
        format!(
            "POST /query HTTP/1.1\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ),
    ];
    let good = good.map(String::into_bytes);
    let well = || rig.ask(&id, "/echo", &json!({})).status == 200;
    survives(&address, seed(), 1500, &good, well);
    let found = rig.stack.container(&id).inspect();
    let networks = found["NetworkSettings"]["Networks"].as_object().unwrap();
    let inner = networks
        .values()
        .find_map(|network| network["IPAddress"].as_str());
    let inner = format!("{}:9476", inner.unwrap());
    let good = [
        b"POST /echo?a=b%20c HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"a\":1}".to_vec(),
        b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /_status HTTP/1.0\r\n\r\n".to_vec(),
    ];
    survives(&inner, seed(), 1500, &good, well);
    assert_eq!(
        rig.stack.container(&id).logs().matches("BEGAN").count(),
        1,
        "the bot ran on"
    );
}
