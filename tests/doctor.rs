//! `agent doctor` on a whole host, and with each part of it broken in turn: what it says, that it comes to an end, and
//! that it says no secret.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use serde_json::Value;
use tests::servers::mongo::{Mongo, PASSWORD, document};
use tests::servers::nats::{CLOSED, EVENTS, Nats};
use tests::servers::{Fault, Minio, Proxy, SECRET_KEY, Versity};
use tests::stack::{BOTS, IDLE, Stack};
use tests::text;

/// What a doctor has promised to need at most.
const AT_MOST: Duration = Duration::from_secs(30);

/// What it has found.
struct Found {
    code: i32,
    checks: Vec<Value>,
}

impl Found {
    /// Looks at the host as it is.
    fn on(host: &Stack) -> Self {
        let begun = Instant::now();
        let output = host.run(&["doctor", "-o", "json"]);
        assert!(begun.elapsed() < AT_MOST, "it took {:?}", begun.elapsed());
        let said = text(&output.stdout) + &text(&output.stderr);
        for secret in [SECRET_KEY, PASSWORD, "p%40ss", "hunter"] {
            assert!(!said.contains(secret), "{said}");
        }
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let checks = json["checks"].as_array().expect("checks").clone();
        let code = output.status.code().expect("a code");
        assert_eq!(json["ok"], code == 0, "{said}");
        Self { code, checks }
    }

    /// The findings of a check, as `verdict: found -> remedy`.
    fn of(&self, part: &str, check: &str) -> String {
        let ours = |c: &&Value| c["part"] == part && c["check"] == check;
        let line = |c: &Value| {
            let text = |name: &str| c[name].as_str().unwrap_or_default().to_owned();
            format!(
                "{}: {} -> {}",
                text("verdict"),
                text("found"),
                text("remedy")
            )
        };
        let lines: Vec<String> = self.checks.iter().filter(ours).map(line).collect();
        lines.join("\n")
    }

    /// That this check failed so, and only checks of `parts` did.
    fn fails(&self, part: &str, check: &str, what: &str, parts: &[&str]) {
        let line = self.of(part, check);
        assert_eq!(self.code, 1, "{line}");
        let all = format!("{:#?}", self.checks);
        assert!(
            line.starts_with("failed: ") || line.contains("\nfailed: "),
            "{all}"
        );
        assert!(line.contains(what), "{what:?} is not in {line}");
        let failed = self.checks.iter().filter(|c| c["verdict"] == "failed");
        for check in failed {
            assert!(parts.iter().any(|part| check["part"] == *part), "{check}");
            assert_ne!(check["remedy"], Value::Null, "{check}");
        }
    }

    fn warns(&self, part: &str, check: &str, what: &str) {
        let line = self.of(part, check);
        assert!(line.contains("warning: ") && line.contains(what), "{line}");
        assert_eq!(self.code, 0, "{:#?}", self.checks);
    }
}

fn host(test: &str) -> Option<Stack> {
    let mut host = Stack::start(test, &["python3.11"])?;
    host.bot("b", IDLE, doc! {"api_key": "hunter2"});
    // Bots of other languages there are none here.
    host.set("THE0_PULL", "never");
    Some(host)
}

#[test]
fn a_host_on_which_all_is_well_passes_and_nothing_that_was_tried_is_left() {
    let Some(host) = host("doctor::well") else {
        return;
    };
    let found = Found::on(&host);
    assert_eq!(found.code, 0, "{:#?}", found.checks);
    for (part, check, what) in [
        ("settings", "variables", host.name()),
        ("settings", "questions", "none are answered"),
        ("docker", "daemon", "cgroup v"),
        ("docker", "network", "can be made"),
        ("docker", "container", "made and removed"),
        ("docker", "images", "python3.11"),
        ("mongodb", "server", "version 6"),
        ("mongodb", "topology", "rs0"),
        ("mongodb", "rights", "most members"),
        ("mongodb", "schedules", "most members"),
        ("mongodb", "jobs", "0 wait, 0 run"),
        ("mongodb", "documents", "1, 1 of them to run"),
        ("store", "clock", "the same"),
        ("store", "bucket", "bot-logs: read, write, delete"),
        ("store", "conditions", "honoured"),
        ("store", "keys", "AssumeRole"),
        ("machine", "kernel", "Landlock"),
        ("machine", "data", "free"),
    ] {
        let line = found.of(part, check);
        assert!(
            line.contains("ok: ") && line.contains(what),
            "{part} {check}: {line}"
        );
    }
    // A database without the agent's index is told.
    found.warns("mongodb", "ids", "the agent makes it at its start");
    for bucket in tests::servers::BUCKETS {
        assert!(host.objects().list(bucket, ".the0-doctor").is_empty());
    }
    assert!(host.mongo.all("bot_runner.the0").is_empty());
    let label = ["--all", "--filter", "label=the0.purpose=doctor", "--quiet"];
    assert_eq!(host.docker.ask([&["ps"], &label[..]].concat()), "");
    assert!(!host.data().exists(), "it makes no data folder");

    let table = host.ok(&["doctor"]);
    assert!(table.contains("ok       docker daemon"), "{table}");
    assert!(table.contains("0 failed"), "{table}");
}

#[test]
fn a_daemon_that_is_not_there_or_lacks_something_is_told() {
    let Some(mut host) = host("doctor::docker") else {
        return;
    };
    host.set("THE0_OCI_RUNTIME", "runsc-of-nobody");
    Found::on(&host).fails("docker", "runtime", "daemon.json", &["docker"]);
    host.set("THE0_OCI_RUNTIME", "");
    host.set("DOCKER_NETWORK", &host.docker.name("none"));
    Found::on(&host).fails("docker", "network", "is not there", &["docker"]);
    let open = host.docker.network("open");
    host.set("DOCKER_NETWORK", &host.docker.name("open"));
    Found::on(&host).warns("docker", "network", "reach each other");
    assert!(!open.is_empty());
    host.set("DOCKER_NETWORK", "");

    let image = host.docker.name("image");
    host.set("RUNTIME_IMAGE", &format!("{image}/{{runtime}}"));
    let found = Found::on(&host);
    found.fails(
        "docker",
        "images",
        "python3.11: not on this host, and THE0_PULL=never",
        &["docker"],
    );
    // Only what a bot wants is a failure.
    assert_eq!(found.of("docker", "images").matches("failed: ").count(), 1);
    let source = tests::containers::image("python3.11");
    let (name, made) = (host.docker.name("c"), "create");
    let ours = host.docker.ask([made, "--name", &name, &source]);
    let change = "LABEL org.opencontainers.image.version=0.0.7";
    let other = format!("{image}/python3.11");
    host.docker
        .ask(["commit", "--change", change, &ours, &other]);
    Found::on(&host).warns("docker", "images", "of version 0.0.7");
    host.docker.ask(["rmi", &other]);

    host.set("DOCKER_HOST", "unix:///no/such/docker.sock");
    Found::on(&host).fails("docker", "daemon", "/no/such/docker.sock", &["docker"]);
    let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set(
        "DOCKER_HOST",
        &format!("tcp://{}", frozen.local_addr().unwrap()),
    );
    Found::on(&host).fails("docker", "daemon", "did not answer within 5 s", &["docker"]);
}

#[test]
fn a_database_that_is_away_frozen_closed_or_spoilt_is_told() {
    let Some(mut host) = host("doctor::mongo") else {
        return;
    };
    let twin = document(&host.id("b"), "u/b/1", doc! {});
    host.mongo.insert(BOTS, [twin]);
    Found::on(&host).fails("mongodb", "ids", &host.id("b"), &["mongodb"]);
    host.mongo.freeze();
    Found::on(&host).fails("mongodb", "server", "", &["mongodb", "docker"]);
    host.mongo.thaw();
    host.mongo.stop();
    Found::on(&host).fails(
        "mongodb",
        "server",
        "no server answers",
        &["mongodb", "docker"],
    );

    let Some(closed) = Mongo::start_with_password() else {
        return;
    };
    let hosts = closed.address();
    host.set(
        "MONGO_URI",
        &format!("mongodb://the0-test-user:hunter2@{hosts}/?replicaSet=rs0"),
    );
    Found::on(&host).fails(
        "mongodb",
        "server",
        "does not accept the user",
        &["mongodb", "docker"],
    );
    let reader = doc! {"createUser": "reader", "pwd": "hunter3", "roles": [{"role": "read", "db": "bot_runner"}]};
    closed.command(reader);
    closed.insert(BOTS, [document(&host.id("b"), "u/b/1", doc! {})]);
    host.set(
        "MONGO_URI",
        &format!("mongodb://reader:hunter3@{hosts}/?replicaSet=rs0"),
    );
    let found = Found::on(&host);
    found.fails("mongodb", "rights", "readWrite", &["mongodb"]);
    for (check, database) in [("schedules", "bot_scheduler"), ("jobs", "backtest_runner")] {
        let line = found.of("mongodb", check);
        let remedy = format!("readWrite on {database}");
        assert!(
            line.contains("warning: ") && line.contains(&remedy),
            "{line}"
        );
    }
    host.set("MONGO_URI", "mongodb://user:hunter/2@host");
    Found::on(&host).fails("mongodb", "address", "not usable", &["mongodb", "docker"]);
    host.set("MONGO_URI", "");
    Found::on(&host).fails(
        "mongodb",
        "address",
        "MONGO_URI is not set",
        &["mongodb", "docker"],
    );
}

#[test]
fn a_place_of_events_is_looked_at_from_its_server_to_what_waits_there() {
    let Some(mut host) = host("doctor::nats") else {
        return;
    };
    let found = Found::on(&host);
    assert!(found.of("nats", "address").contains("NATS_URL is not set"));
    let Some(mut nats) = Nats::start() else {
        return;
    };
    host.set("NATS_URL", &nats.uri());
    let found = Found::on(&host);
    for (check, what) in [
        ("server", nats.address()),
        ("jetstream", "on, 0"),
        ("stream", "the agent makes it at its start"),
        ("rights", "reads and acknowledges"),
    ] {
        let line = found.of("nats", check);
        assert!(line.starts_with("ok: ") && line.contains(what), "{line}");
    }
    assert_eq!(nats.streams(), 0, "what was tried is gone");

    nats.make_stream_over("OTHER", &["the0.bot.*"]);
    Found::on(&host).fails("nats", "stream", "OTHER has its subjects", &["nats"]);
    nats.remove_stream_of("OTHER");
    nats.make_stream_over(EVENTS, &["the0.bot.created", "the0.bot-schedule.>"]);
    let missing = "does not have the0.bot.updated, the0.bot.deleted";
    Found::on(&host).fails("nats", "stream", missing, &["nats"]);
    nats.remove_stream();

    host.begin();
    host.state(&host.id("b"), "running");
    let found = Found::on(&host);
    let line = found.of("nats", "consumer");
    assert!(line.contains("nothing waits"), "{line}");
    host.kill();
    let id = host.id("c");
    nats.say(
        "the0.bot.deleted",
        &serde_json::json!({"id": id, "config": {}}),
    );
    Found::on(&host).warns("nats", "consumer", "1 events wait");

    nats.stop();
    let found = Found::on(&host);
    found.fails("nats", "server", nats.address(), &["nats"]);
}

#[test]
fn a_place_of_events_that_is_closed_or_keeps_none_is_told() {
    let Some(mut host) = host("doctor::closed") else {
        return;
    };
    let (Some(closed), Some(streamless)) = (Nats::start_closed(), Nats::start_streamless()) else {
        return;
    };
    let address = closed.address();
    host.set("NATS_URL", &format!("nats://{CLOSED}@{address}"));
    Found::on(&host).fails("nats", "rights", "Permissions Violation", &["nats"]);
    closed.make_stream();
    Found::on(&host).warns("nats", "rights", "it may not make a stream");
    host.set("NATS_URL", &format!("nats://somebody:hunter9@{address}"));
    Found::on(&host).fails("nats", "server", address, &["nats"]);
    host.set("NATS_URL", &streamless.uri());
    Found::on(&host).fails("nats", "jetstream", "no streams are kept", &["nats"]);
    host.set("NATS_URL", "http://hunter");
    Found::on(&host).fails("nats", "address", "not usable", &["nats"]);
}

#[test]
fn a_store_that_is_away_frozen_closed_or_forgetful_is_told() {
    let Some(mut host) = host("doctor::store") else {
        return;
    };
    let proxy = Proxy::start(host.store.address());
    let direct = host.store.address().to_owned();
    host.set("MINIO_CONTAINER_ENDPOINT", &direct);
    host.set("MINIO_ENDPOINT", proxy.address());
    proxy.script(|request| {
        let writes = request.is("PUT", "/bot-state/");
        writes.then(|| Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>".into()))
    });
    let found = Found::on(&host);
    found.fails(
        "store",
        "bucket",
        "bot-state: write: AccessDenied",
        &["store"],
    );
    assert!(found.of("store", "bucket").contains("ok: custom-bots"));
    proxy.script(|request| request.is("PUT", "").then_some(Fault::StripConditions));
    Found::on(&host).warns(
        "store",
        "conditions",
        "If-None-Match and If-Match of writes is ignored",
    );
    assert!(
        host.objects()
            .list("custom-bots", ".the0-doctor")
            .is_empty()
    );
    proxy.script(|_| Some(Fault::Hang));
    Found::on(&host).fails("store", "server", proxy.address(), &["store"]);

    host.set("MINIO_ENDPOINT", &direct);
    host.set("MINIO_LOGS_BUCKET", "nobody-made-it");
    Found::on(&host).warns("store", "bucket", "nobody-made-it is not there");
    host.set("MINIO_LOGS_BUCKET", "");
    host.set("MINIO_SECRET_KEY", "hunter2hunter2");
    Found::on(&host).fails("store", "bucket", "correct MINIO_ACCESS_KEY", &["store"]);
    host.settings.retain(|(name, _)| name != "MINIO_SECRET_KEY");
    host.store.stop();
    Found::on(&host).fails("store", "server", &direct, &["store"]);
}

#[test]
fn a_store_whose_clock_is_wrong_fails_and_one_without_keys_for_bots_is_warned_of() {
    let Some(mut host) = host("doctor::clock") else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 8192];
            while let Ok(1..) = stream.read(&mut buffer) {
                let answer = "HTTP/1.1 403 Forbidden\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n";
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    host.set("MINIO_CONTAINER_ENDPOINT", "192.0.2.1:9000");
    host.set("MINIO_ENDPOINT", &address);
    Found::on(&host).fails("store", "clock", "NTP", &["store"]);

    let Some(versity) = Versity::start() else {
        return;
    };
    for (name, value) in versity.environment() {
        host.set(&name, &value);
    }
    Found::on(&host).warns("store", "keys", "which open everything");
    let Some(tls) = Minio::start_with_tls() else {
        return;
    };
    for (name, value) in tls.environment() {
        host.set(&name, &value);
    }
    let found = Found::on(&host);
    assert_eq!(found.code, 0, "{:#?}", found.checks);
    assert!(found.of("store", "server").contains("TLS"));
    host.set("THE0_CA_FILE", "");
    Found::on(&host).fails("store", "server", "certificate", &["store"]);
}

#[test]
fn who_may_ask_bots_is_told() {
    let Some(mut host) = host("doctor::questions") else {
        return;
    };
    host.set("THE0_GATEWAY_ADDRESS", "0.0.0.0:9477");
    Found::on(&host).warns("settings", "questions", "whoever reaches 0.0.0.0:9477");
    host.set("THE0_GATEWAY_ADDRESS", "127.0.0.1:9477");
    let line = Found::on(&host).of("settings", "questions");
    assert!(line.starts_with("ok: "), "{line}");
    host.set("THE0_GATEWAY_ADDRESS", "everywhere");
    Found::on(&host).fails(
        "settings",
        "questions",
        "THE0_GATEWAY_ADDRESS",
        &["settings"],
    );
}

#[test]
fn settings_that_cannot_be_used_and_a_folder_that_cannot_be_written_are_told() {
    let Some(mut host) = host("doctor::settings") else {
        return;
    };
    host.set("THE0_PULL", "sometimes");
    Found::on(&host).fails(
        "settings",
        "bots",
        "always, missing or never",
        &["settings"],
    );
    host.set("THE0_PULL", "never");
    host.set("MINIO_ENDPOINT", "127.0.0.1:1");
    Found::on(&host).fails(
        "settings",
        "store",
        "MINIO_CONTAINER_ENDPOINT",
        &["settings", "store"],
    );
    host.set("MINIO_ENDPOINT", "");
    Found::on(&host).fails("store", "address", "MINIO_ENDPOINT is not set", &["store"]);
    host.settings.retain(|(name, _)| name != "MINIO_ENDPOINT");
    host.set("THE0_DATA", "/proc/self/there/is/none");
    Found::on(&host).fails("machine", "data", "/proc/self", &["machine"]);
}
