//! The client against a server that plays a script, and over TLS.

mod faults;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::tests::servers::{self, Minio};
use ::tests::wait_for;
use contract::launch::Variables;

use super::*;
use crate::store::{Address, PutError};

/// What the server does with a request.
#[derive(Clone)]
enum Play {
    /// Answers, and goes on.
    Say(String),
    /// Answers with what may be less than was promised, and closes.
    Close(String),
    /// Nothing, until the client has had enough.
    Hang,
}

/// A server that answers each request with what comes next in its script.
struct Stage {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
    /// How many connections it has closed.
    closed: Arc<AtomicUsize>,
    script: Arc<Mutex<VecDeque<Play>>>,
}

impl Stage {
    fn new(script: impl IntoIterator<Item = Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stage = Self {
            address: listener.local_addr().unwrap().to_string(),
            seen: Arc::default(),
            closed: Arc::default(),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
        };
        let (seen, script) = (Arc::clone(&stage.seen), Arc::clone(&stage.script));
        let closed = Arc::clone(&stage.closed);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                let closed = Arc::clone(&closed);
                std::thread::spawn(move || {
                    serve(&stream, &seen, &script);
                    drop(stream);
                    closed.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        stage
    }

    fn store(&self) -> S3 {
        self.store_with(&ring("first-key"))
    }

    fn store_with(&self, keys: &KeyRing) -> S3 {
        S3::with_times(&endpoint(&self.address), keys.clone(), quick()).unwrap()
    }

    /// The requests' first lines without their query, and how they began.
    fn requests(&self) -> Vec<String> {
        let line = |request: &String| request.split(['?', '\r']).next().unwrap().to_owned();
        self.seen.lock().unwrap().iter().map(line).collect()
    }

    fn request(&self, n: usize) -> String {
        self.seen.lock().unwrap()[n].clone()
    }
}

fn serve(stream: &TcpStream, seen: &Mutex<Vec<String>>, script: &Mutex<VecDeque<Play>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut request, mut length) = (String::new(), 0);
        while !request.ends_with("\r\n\r\n") {
            let before = request.len();
            if reader.read_line(&mut request).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = request[before..].strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        request.push_str(&String::from_utf8_lossy(&body[..length.min(2000)]));
        seen.lock().unwrap().push(request);
        let play = script.lock().unwrap().pop_front();
        let mut out = stream;
        match play.unwrap_or(Play::Close(String::new())) {
            Play::Say(answer) if out.write_all(answer.as_bytes()).is_ok() => {}
            Play::Close(answer) => {
                let _ = out.write_all(answer.as_bytes());
                return;
            }
            Play::Hang => {
                let _ = reader.read(&mut [0]);
                return;
            }
            Play::Say(_) => return,
        }
    }
}

fn endpoint(address: &str) -> Endpoint {
    let variables = Variables::from([("MINIO_ENDPOINT".to_owned(), address.to_owned())]);
    match Address::parse(&variables).unwrap() {
        Address::S3(endpoint) => endpoint,
        Address::Directory(_) => unreachable!(),
    }
}

fn quick() -> Times {
    Times {
        first_byte: Duration::from_millis(300),
        work: Duration::from_millis(300),
        stall: Duration::from_millis(300),
        pause: Duration::from_millis(1),
        ..Times::default()
    }
}

fn ring(access: &str) -> KeyRing {
    let keys = [
        ("MINIO_ACCESS_KEY", access),
        ("MINIO_SECRET_KEY", "the-secret"),
    ];
    KeyRing::from_environment(&keys.map(|(n, v)| (n.to_owned(), v.to_owned())).into())
}

fn at() -> Place {
    Place::new("bot-state", "b1/state.tar.gz".parse().unwrap())
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

fn refusal(status: u16, headers: &str, code: &str) -> Play {
    let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
    Play::Say(answer(status, headers, &body))
}

fn written() -> Play {
    Play::Say(answer(200, "etag: \"e1\"\r\n", ""))
}

fn put(store: &S3, condition: &Condition) -> Result<Etag, Error> {
    let fill = |out: &mut Upload<'_>| out.write_all(b"x");
    match store.put(&at(), condition, &Metadata::new(), fill) {
        Ok(etag) => Ok(etag),
        Err(PutError::Store(error)) => Err(error),
        Err(PutError::Fill(error)) => panic!("{error}"),
    }
}

/// That it is an outage, and what is said of it.
fn outage<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Unavailable { .. }), "{text}");
    assert!(
        text.contains("object b1/state.tar.gz in bucket bot-state"),
        "{text}"
    );
    for secret in ["the-secret", "first-key", "Signature"] {
        assert!(!text.contains(secret), "{text}");
    }
    text
}

fn read(store: &S3) -> io::Result<String> {
    let mut text = String::new();
    store.get(&at()).unwrap().body.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_store_that_does_not_answer_is_given_up_and_a_conditional_write_sent_once() {
    let stage = Stage::new([Play::Hang]);
    let said = outage(put(&stage.store(), &Condition::IfAbsent));
    assert!(said.contains("does not answer within"), "{said}");
    assert_eq!(stage.requests(), ["PUT /bot-state/b1/state.tar.gz"]);
    let stage = Stage::new(vec![Play::Hang; 9]);
    outage(stage.store().get(&at()));
    assert_eq!(stage.requests().len(), 4);
}

#[test]
fn a_store_that_takes_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let store = S3::with_times(&endpoint(&address), ring("first-key"), quick()).unwrap();
    let fill = |out: &mut Upload<'_>| out.write_all(&vec![0; 4 << 20]);
    match store.put(&at(), &Condition::IfAbsent, &Metadata::new(), fill) {
        Err(PutError::Store(error)) => outage(Err::<(), _>(error)),
        other => panic!("{other:?}"),
    };
    drop(listener);
}

#[test]
fn a_store_that_stops_in_the_middle_is_given_up() {
    let cut = "HTTP/1.1 200 x\r\ncontent-length: 9\r\netag: \"e\"\r\n\r\nfour";
    let nothing_more = || {
        Play::Say(
            "HTTP/1.1 206 x\r\ncontent-length: 5\r\ncontent-range: bytes 4-8/9\r\n\r\n".into(),
        )
    };
    let stage = Stage::new(
        [Play::Say(cut.into())]
            .into_iter()
            .chain((0..9).map(|_| nothing_more())),
    );
    let error = read(&stage.store()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert_eq!(stage.requests().len(), 6);
}

#[test]
fn reading_goes_on_where_it_was_cut_on_the_same_version() {
    let stage = Stage::new([
        Play::Close("HTTP/1.1 200 x\r\ncontent-length: 9\r\netag: \"e1\"\r\n\r\nfour".into()),
        refusal(503, "", "SlowDown"),
        Play::Close(
            "HTTP/1.1 206 x\r\ncontent-length: 5\r\ncontent-range: bytes 4-8/9\r\n\r\n56".into(),
        ),
        Play::Say(answer(206, "content-range: bytes 6-8/9\r\n", "789")),
    ]);
    assert_eq!(read(&stage.store()).unwrap(), "four56789");
    let resumed = stage.request(1);
    assert!(
        resumed.contains("range: bytes=4-\r\n") && resumed.contains("if-match: \"e1\"\r\n"),
        "{resumed}"
    );
}

#[test]
fn an_object_that_changes_while_it_is_cut_is_an_error() {
    let stage = Stage::new([
        Play::Close("HTTP/1.1 200 x\r\ncontent-length: 9\r\netag: \"e1\"\r\n\r\nfour".into()),
        refusal(412, "", "PreconditionFailed"),
    ]);
    let said = read(&stage.store()).unwrap_err().to_string();
    assert!(said.contains("changed by someone else"), "{said}");
    let whole_again = answer(200, "etag: \"e1\"\r\n", "123456789");
    let stage = Stage::new([
        Play::Close("HTTP/1.1 200 x\r\ncontent-length: 9\r\netag: \"e1\"\r\n\r\nfour".into()),
        Play::Say(whole_again),
    ]);
    let said = read(&stage.store()).unwrap_err().to_string();
    assert!(said.contains("does not go on at byte 4"), "{said}");
}

#[test]
fn a_body_without_a_length_or_an_etag_is_not_taken_for_an_object() {
    for answer in [
        "HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 200 x\r\netag: \"e\"\r\n\r\nhi",
    ] {
        let stage = Stage::new([Play::Close(answer.into())]);
        let said = outage(stage.store().get(&at()));
        assert!(said.contains("MINIO_ENDPOINT"), "{said}");
    }
    let stage = Stage::new([Play::Say(answer(200, "", "<html>welcome</html>"))]);
    outage(put(&stage.store(), &Condition::Any));
    let stage = Stage::new(vec![Play::Close("SSH-2.0-OpenSSH\r\n".into()); 9]);
    let said = outage(stage.store().get(&at()));
    assert!(said.contains("does not speak HTTP"), "{said}");
}

#[test]
fn what_was_certainly_not_done_is_sent_again_and_what_may_have_been_is_not() {
    for (status, code) in [
        (503, "SlowDown"),
        (429, "TooManyRequests"),
        (400, "BadDigest"),
    ] {
        let stage = Stage::new([refusal(status, "", code), written()]);
        put(&stage.store(), &Condition::IfAbsent).unwrap();
        assert_eq!(stage.requests().len(), 2, "{code}");
    }
    for first in [
        refusal(500, "", "InternalError"),
        refusal(503, "", ""),
        Play::Close(String::new()),
    ] {
        let stage = Stage::new([first, written()]);
        outage(put(&stage.store(), &Condition::IfAbsent));
        assert_eq!(stage.requests().len(), 1);
    }
    for first in [
        refusal(500, "", "InternalError"),
        Play::Close(String::new()),
    ] {
        let stage = Stage::new([first, Play::Say(answer(200, "etag: e\r\n", "yes"))]);
        assert_eq!(read(&stage.store()).unwrap(), "yes");
    }
}

#[test]
fn a_pause_that_the_store_asks_for_is_made() {
    let stage = Stage::new([refusal(503, "retry-after: 1\r\n", "SlowDown"), written()]);
    let began = std::time::Instant::now();
    put(&stage.store(), &Condition::Any).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_redirect_is_refused_and_says_where_to() {
    let elsewhere =
        "location: https://other.example/b/k?X-Amz-Signature=beef\r\nx-amz-bucket-region: eu-1\r\n";
    let stage = Stage::new([refusal(301, elsewhere, "PermanentRedirect")]);
    let error = stage.store().get(&at()).unwrap_err();
    assert!(matches!(error, Error::Other { .. }));
    let said = error.to_string();
    assert!(
        said.contains("https://other.example") && said.contains("eu-1"),
        "{said}"
    );
    assert!(
        said.contains("MINIO_REGION") && !said.contains("beef"),
        "{said}"
    );
    assert_eq!(stage.requests().len(), 1);
}

#[test]
fn clocks_that_differ_are_told_by_how_much() {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(4_000));
    let stage = Stage::new([refusal(
        403,
        &format!("date: {date}\r\n"),
        "RequestTimeTooSkewed",
    )]);
    let said = outage(stage.store().get(&at()));
    assert!(said.contains("s ahead of this machine's"), "{said}");
    let seconds = said
        .split_once("its clock is ")
        .unwrap()
        .1
        .split(' ')
        .next()
        .unwrap();
    assert!(
        (3_900..4_100).contains(&seconds.parse::<u64>().unwrap()),
        "{said}"
    );
}

#[test]
fn refused_keys_are_an_outage_and_renewed_ones_count_at_once() {
    let keys = ring("first-key");
    let stage = Stage::new([refusal(403, "", "InvalidAccessKeyId"), written()]);
    let store = stage.store_with(&keys);
    let said = outage(put(&store, &Condition::IfAbsent));
    assert!(
        said.contains("InvalidAccessKeyId") && said.contains("MINIO_ACCESS_KEY"),
        "{said}"
    );
    let renewed = r#"{"type":"keys","v":1,"keys":{"MINIO_ACCESS_KEY":"second-key","MINIO_SECRET_KEY":"s","MINIO_SESSION_TOKEN":"a+token"}}"#;
    keys.read(renewed.as_bytes());
    put(&store, &Condition::IfAbsent).unwrap();
    assert!(stage.request(0).contains("X-Amz-Credential=first-key%2F"));
    let second = stage.request(1);
    assert!(
        second.contains("X-Amz-Credential=second-key%2F")
            && second.contains("X-Amz-Security-Token=a%2Btoken")
    );
}

#[test]
fn only_a_get_that_says_no_such_key_means_that_there_is_no_object() {
    let head = || Play::Say("HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n".into());
    let stage = Stage::new([head(), refusal(404, "", "NoSuchKey")]);
    assert!(matches!(stage.store().head(&at()), Err(Error::NotFound(_))));
    for second in [
        Play::Say(answer(
            404,
            "content-type: text/html\r\n",
            "<html>no</html>",
        )),
        refusal(404, "", "NoSuchBucket"),
        refusal(403, "", "AccessDenied"),
    ] {
        let stage = Stage::new([head(), second]);
        outage(stage.store().head(&at()));
    }
    let stage = Stage::new([
        head(),
        refusal(416, "", "InvalidRange"),
        Play::Say("HTTP/1.1 200 x\r\ncontent-length: 0\r\netag: \"e\"\r\n\r\n".into()),
    ]);
    assert_eq!(stage.store().head(&at()).unwrap().size, 0);
}

#[test]
fn a_completion_that_fails_after_it_promised_success_is_no_success() {
    let begun = "<R><UploadId>u&amp;1</UploadId></R>";
    let failed = "   <Error><Code>InternalError</Code><Message>m</Message></Error>";
    let said = |status, body| Play::Say(answer(status, "", body));
    let stage = Stage::new([
        said(200, begun),
        written(),
        written(),
        said(200, failed),
        said(204, ""),
    ]);
    let fill = |out: &mut Upload<'_>| {
        out.write_all(&vec![0; 6 << 20])?;
        out.write_all(b"more")
    };
    let store = stage.store();
    let put = store.put(&at(), &Condition::IfAbsent, &Metadata::new(), fill);
    match put {
        Err(PutError::Store(error)) => {
            assert!(outage(Err::<(), _>(error)).contains("InternalError"));
        }
        other => panic!("{other:?}"),
    }
    let requests = stage.requests();
    let methods = requests.iter().map(|line| line.split(' ').next().unwrap());
    assert!(
        methods.eq(["POST", "PUT", "PUT", "POST", "DELETE"]),
        "{requests:?}"
    );
    assert!(stage.request(3).contains("if-none-match: *"));
    assert!(stage.request(4).contains("uploadId=u%261"));
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_replaced_without_a_word() {
    let stage = Stage::new([
        Play::Close(answer(200, "etag: \"e1\"\r\n", "")),
        written(),
        written(),
    ]);
    let store = stage.store();
    put(&store, &Condition::IfAbsent).unwrap();
    wait_for("the end of the connection", Duration::from_secs(10), || {
        (stage.closed.load(Ordering::Relaxed) > 0).then_some(())
    });
    put(&store, &Condition::IfAbsent).unwrap();
    put(&store, &Condition::IfAbsent).unwrap();
    assert_eq!(stage.requests().len(), 3);
}

#[test]
fn what_is_noted_must_fit_beside_an_object() {
    let stage = Stage::new([]);
    let refused = |name: &str, value: &str| {
        let metadata = Metadata::from([(name.to_owned(), value.to_owned())]);
        let put = stage
            .store()
            .put(&at(), &Condition::Any, &metadata, |_| Ok::<_, ()>(()));
        match put {
            Err(PutError::Store(Error::Other { why, .. })) => why,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused("a", &"x".repeat(2_048)).contains("2049 bytes"));
    for (name, value) in [
        ("Upper", "x"),
        ("a", "line\nbreak"),
        ("a", "ü"),
        ("a", "two  spaces"),
        ("a b", "x"),
    ] {
        assert!(refused(name, value).contains("no header"));
    }
    assert_eq!(stage.requests(), [""; 0]);
}

#[test]
fn without_keys_the_refusal_says_how_to_give_them() {
    let refused = S3::open(&endpoint("127.0.0.1:1"), KeyRing::default());
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("MINIO_SECRET_KEY") && said.contains("--keys-from-stdin"),
        "{said}"
    );
}

#[test]
fn a_name_nobody_knows_and_a_port_nobody_listens_on_are_told() {
    let quick = Times {
        pause: Duration::from_millis(1),
        ..Times::default()
    };
    let closed = format!("127.0.0.1:{}", servers::free_port());
    let store = S3::with_times(&endpoint(&closed), ring("first-key"), quick).unwrap();
    let said = outage(put(&store, &Condition::IfAbsent));
    assert!(said.contains(&closed) && said.contains("refused"), "{said}");
}

#[test]
fn a_private_authority_is_trusted_when_its_file_is_named_and_not_otherwise() {
    let Some(server) = Minio::start_with_tls() else {
        return;
    };
    let (_, port) = server.address().rsplit_once(':').unwrap();
    let open = |address: &str, drop: &str| {
        let mut variables: Variables = server.environment_at(address).into_iter().collect();
        variables.remove(drop);
        let Address::S3(endpoint) = Address::parse(&variables).unwrap() else {
            unreachable!()
        };
        S3::open(&endpoint, KeyRing::from_environment(&variables)).unwrap()
    };
    for host in ["127.0.0.1", "localhost"] {
        let store = open(&format!("{host}:{port}"), "");
        put(&store, &Condition::Any).unwrap();
        assert_eq!(read(&store).unwrap(), "x");
    }
    let untrusted = |result: Result<Head, Error>| result.unwrap_err().to_string();
    let said = untrusted(open(server.address(), "THE0_CA_FILE").head(&at()));
    assert!(said.contains("THE0_CA_FILE"), "{said}");
    let plain = untrusted(open(server.address(), "MINIO_USE_SSL").head(&at()));
    assert!(plain.contains("400") || plain.contains("HTTP"), "{plain}");
}
