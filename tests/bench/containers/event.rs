//! From an event to the agent's calls of Docker for the bot's container, one bot at a time on an agent with nothing else to
//! do; beside it, in turn, what the servers alone need for the same: the event said and taken, a document written and
//! read, a container of that image made. And how soon the agent acts again after an outage of each of them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::servers::free_port;
use tests::servers::mongo::{bson::doc, document};
use tests::stack::{BOTS, IDLE, LONG};
use tests::{http, wait_for};

use super::Host;
use super::daemon;
use super::figures::{Sample, millis};
use super::wire::{DAEMON, Wire};

/// Events that are measured.
const EVENTS: usize = 100;
/// What is aimed at, of 99 in a hundred.
const AIM: i64 = 20_000;
/// How long an outage lasts, and how many there are of each kind.
const OUTAGE: (Duration, usize) = (Duration::from_secs(10), 3);

/// Makes an outage and gives how long it took to get over it.
type Outage = fn(&mut Host, &Wire, &str) -> i64;

/// A host whose agent asks Docker over a wire, and hears events.
fn begin(host: &mut Host) -> Option<Wire> {
    host.stack.listen()?;
    let folder = host.stack.data();
    let folder = folder.parent().expect("a folder").to_owned();
    let wire = Wire::lay(&folder);
    host.stack.set("DOCKER_HOST", &wire.address());
    let health = format!("127.0.0.1:{}", free_port());
    host.stack.set("THE0_HEALTH_LISTEN", &health);
    host.begin(&[]);
    Some(wire)
}

/// Measures calls.
pub fn compare(host: &mut Host) {
    let Some(wire) = begin(host) else { return };
    let config = warm_up(host, &wire);
    let mut rows = [const { Vec::new() }; 5];
    for n in 0..EVENTS {
        let id = host.stack.id(&format!("e{n}"));
        code(host, &id);
        let begun = Instant::now();
        host.stack.say("created", &id, &json!({}));
        let said = Instant::now();
        let make = wire.at(begun, |asked| {
            asked.contains("/containers/create") && asked.contains(&id)
        });
        let start = wire.at(make, |asked| asked.contains("/start"));
        rows[0].push(micros(begun, make));
        rows[1].push(micros(begun, start));
        rows[2].push(micros(begun, said));
        gone(host, &id);
        let (servers, made) = alone(host, &host.stack.id(&format!("f{n}")), &config);
        rows[3].push(servers);
        rows[4].push(servers + made);
    }
    print(&rows.map(Sample::from_iter));
}

fn print(rows: &[Sample; 5]) {
    println!(
        "\n| from an event, ms (of {EVENTS}) | median | p90 | p99 | most |\n|---|---|---|---|---|"
    );
    let names = [
        "the agent asks Docker to make the container",
        "the agent asks Docker to start it",
        "(the stream has the event)",
        "servers alone: event kept, document written and read",
        "the same and a container made",
    ];
    for (name, row) in names.iter().zip(rows) {
        let [median, high, p99, most] = [50, 90, 99, 100].map(|part| millis(row.at(part)));
        println!("| {name} | {median:.1} | {high:.1} | {p99:.1} | {most:.1} |");
    }
    let word = if rows[0].at(99) <= AIM {
        "reached"
    } else {
        "missed"
    };
    println!(
        "\nThe aim of {} ms for 99 in a hundred is {word}.",
        AIM / 1000
    );
}

/// Makes network and image known, and gives what Docker is to be told to make a container like the agent's.
fn warm_up(host: &Host, wire: &Wire) -> Value {
    let id = host.stack.id("warm");
    code(host, &id);
    let begun = Instant::now();
    host.stack.say("created", &id, &json!({}));
    wire.at(begun, |asked| asked.contains("/start"));
    let name = host.container(&id);
    let found = wait_for("a container that runs", LONG, || {
        let found = host.docker().inspect(&name);
        (found["State"]["Running"] == true).then_some(found)
    });
    let mut bounds = found["HostConfig"].clone();
    for volumes in ["Binds", "Mounts"] {
        bounds[volumes] = Value::Null;
    }
    gone(host, &id);
    json!({"Image": found["Config"]["Image"], "HostConfig": bounds})
}

fn code(host: &Host, id: &str) {
    let key = format!("tests/{id}/1.0.0");
    host.stack.code(&key, &[("main.py", IDLE)]);
}

/// Takes a bot away, and waits until its container has ended and the agent rests.
fn gone(host: &Host, id: &str) {
    host.stack.say("deleted", id, &json!({}));
    wait_for("the end of the container", LONG, || {
        std::thread::sleep(Duration::from_millis(50));
        (daemon::running(host.docker(), host.stack.name()) == 0).then_some(())
    });
}

/// What the servers need by themselves, and Docker for a container.
fn alone(host: &Host, id: &str, config: &Value) -> (i64, i64) {
    let begun = Instant::now();
    let nats = host.stack.nats.as_ref().expect("a NATS");
    nats.say("the0.bot-schedule.created", &json!({"id": id}));
    let mut off = document(id, "u/b/1", doc! {});
    off.insert("enabled", false);
    host.stack.mongo.insert(BOTS, [off]);
    host.stack.mongo.all(BOTS);
    let servers = micros(begun, Instant::now());
    let begun = Instant::now();
    let container = make(config);
    let made = micros(begun, Instant::now());
    daemon::remove(host.docker(), &[container]);
    host.stack.mongo.delete(BOTS, doc! {"id": id});
    (servers, made)
}

/// Makes a container over the daemon's own API, which costs less than its client program.
fn make(config: &Value) -> String {
    let body = config.to_string();
    let mut socket = UnixStream::connect(DAEMON).expect("the daemon");
    let head = format!(
        "POST /v1.41/containers/create HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket
        .write_all((head + &body).as_bytes())
        .expect("a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let id = answer
        .split("\"Id\":\"")
        .nth(1)
        .and_then(|rest| rest.get(..64));
    id.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

fn micros(from: Instant, to: Instant) -> i64 {
    i64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(i64::MAX)
}

/// Measures how soon a new bot is made after an outage.
pub fn recovery(host: &mut Host) {
    let Some(wire) = begin(host) else { return };
    warm_up(host, &wire);
    println!(
        "\n| after an outage of {} s, ms (of {}) | median | most |\n|---|---|---|",
        OUTAGE.0.as_secs(),
        OUTAGE.1
    );
    let outages: [(&str, Outage); 4] = [
        (
            "NATS: from its first answer to the container of a new event",
            nats,
        ),
        (
            "MongoDB: from its primary to the container of a new document",
            mongo,
        ),
        ("object store: from its first answer to /readyz", store),
        (
            "Docker: from its first answer to the container that was wanted meanwhile",
            docker,
        ),
    ];
    for (name, outage) in outages {
        let one = |n| outage(host, &wire, &format!("{}{n}", &name[..2].to_lowercase()));
        let took: Sample = (0..OUTAGE.1).map(one).collect();
        let [median, most] = [50, 100].map(|part| millis(took.at(part)));
        println!("| {name} | {median:.0} | {most:.0} |");
    }
}

fn made(wire: &Wire, since: Instant, id: &str) -> i64 {
    let at = wire.at(since, |asked| {
        asked.contains("/containers/create") && asked.contains(id)
    });
    micros(since, at)
}

fn nats(host: &mut Host, wire: &Wire, short: &str) -> i64 {
    let id = host.stack.id(short);
    code(host, &id);
    let server = host.stack.nats.as_mut().expect("a NATS");
    server.stop();
    std::thread::sleep(OUTAGE.0);
    server.start_again();
    let back = Instant::now();
    host.stack.say("created", &id, &json!({}));
    let took = made(wire, back, &id);
    gone(host, &id);
    took
}

fn mongo(host: &mut Host, wire: &Wire, short: &str) -> i64 {
    host.stack.mongo.stop();
    std::thread::sleep(OUTAGE.0);
    host.stack.mongo.start_again();
    let back = Instant::now();
    let id = host.stack.bot(short, IDLE, doc! {});
    let took = made(wire, back, &id);
    gone(host, &id);
    took
}

fn store(host: &mut Host, _: &Wire, _: &str) -> i64 {
    let address = host.stack.settings.iter();
    let address = address.filter(|(name, _)| name == "THE0_HEALTH_LISTEN");
    let address = address
        .map(|(_, value)| value.clone())
        .next()
        .expect("an address");
    let is_up = |wanted: bool| {
        let body = http(&address, "GET", "/readyz", "").json();
        (body["dependencies"]["store"]["ok"] == wanted).then_some(())
    };
    host.stack.store.stop();
    wait_for("word that the store is away", LONG, || is_up(false));
    std::thread::sleep(OUTAGE.0);
    host.stack.store.start_again();
    let back = Instant::now();
    wait_for("word that the store is back", LONG, || is_up(true));
    micros(back, Instant::now())
}

fn docker(host: &mut Host, wire: &Wire, short: &str) -> i64 {
    wire.cut();
    let id = host.stack.bot(short, IDLE, doc! {});
    std::thread::sleep(OUTAGE.0);
    wire.mend();
    let took = made(wire, Instant::now(), &id);
    gone(host, &id);
    took
}
