use std::fs;
use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let limited = async { tokio::time::timeout(Duration::from_secs(30), work).await };
    let done = builder.enable_all().build().unwrap().block_on(limited);
    done.expect("its end within half a minute")
}

/// Posts `body` and gives the answer's status and body; what it asks of the loop comes on `requests`.
async fn post(path: &str, body: &[u8], requests: UnboundedSender<Request>) -> (u16, Value) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let attended = tokio::spawn(attend(theirs, requests, Lease::alone()));
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    // One that refuses need not hear all.
    let _ = ours.write_all(&[head.as_bytes(), body].concat()).await;
    let mut answer = String::new();
    ours.read_to_string(&mut answer).await.unwrap();
    attended.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn a_request_goes_where_it_should() {
    let rows = [
        (Method::GET, "/bots".to_owned(), Route::Bots),
        (Method::POST, "/bots".to_owned(), Route::WrongMethod),
        (
            Method::GET,
            "/bots/b/history".to_owned(),
            Route::History("b".into()),
        ),
        (Method::POST, "/confirm".to_owned(), Route::Confirm),
        (Method::GET, "/query".to_owned(), Route::Query),
        (Method::POST, "/bots/x/fly".to_owned(), Route::Nowhere),
        (Method::GET, "/bots/x/stop".to_owned(), Route::WrongMethod),
        (
            Method::POST,
            format!("/bots/{}/stop", encode("a b+c/ü%")),
            Route::Do("a b+c/ü%".into(), Verb::Stop),
        ),
        (Method::GET, "/".to_owned(), Route::Nowhere),
    ];
    for (method, path, expected) in rows {
        assert_eq!(route(&method, &path), expected, "{path}");
    }
}

#[test]
fn the_socket_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    block_on(async {
        drop(open(&path).unwrap());
        let _again = open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    });
}

#[test]
fn a_body_that_is_not_understood_is_refused_with_the_reason_and_nothing_is_asked_of_the_loop() {
    let rows: [(&str, &str, &str); 19] = [
        ("/roll", "", "EOF"),
        ("/roll", "max_unavailable=1", "expected value"),
        ("/roll", "{\"max_unavailable\": 1", "EOF"),
        ("/roll", "{\"max_unavailable\": 1} x", "trailing"),
        ("/roll", "{}", "max_unavailable"),
        ("/roll", "null", "RollOrder"),
        ("/roll", "{\"max_unavailable\": 0}", "nonzero"),
        ("/roll", "{\"max_unavailable\": -1}", "nonzero"),
        ("/roll", "{\"max_unavailable\": 1.5}", "nonzero"),
        ("/roll", "{\"max_unavailable\": \"2\"}", "nonzero"),
        (
            "/roll",
            "{\"max_unavailable\": 1, \"force\": true}",
            "force",
        ),
        ("/collect", "", "EOF"),
        ("/collect", "{\"bots\": [\"a\"", "EOF"),
        ("/collect", "{\"bots\": \"a\"}", "sequence"),
        ("/collect", "{\"bots\": [1]}", "string"),
        (
            "/collect",
            "{\"bots\": [\"a\"], \"discard_state\": \"yes\"}",
            "boolean",
        ),
        (
            "/collect",
            "{\"bots\": [\"a\"], \"discard-state\": true}",
            "discard-state",
        ),
        ("/collect", "{\"bot\": [\"a\"]}", "bot"),
        ("/collect", "{\"discard_state\": true}", "by name"),
    ];
    block_on(async {
        let (to, mut from) = unbounded_channel();
        for (path, body, hint) in rows {
            let (status, answer) = post(path, body.as_bytes(), to.clone()).await;
            assert_eq!(status, 400, "{path} {body}: {answer}");
            let why = answer["error"].as_str().unwrap();
            assert!(why.contains(hint), "{path} {body}: {why}");
            assert!(from.try_recv().is_err(), "{path} {body}");
        }
        for path in ["/roll", "/collect"] {
            let (status, answer) = post(path, &[0xff, 0xfe], to.clone()).await;
            assert_eq!(status, 400, "{answer}");
            let (status, _) = post(path, &vec![b' '; LARGEST + 1], to.clone()).await;
            assert_eq!(status, 400);
            assert!(from.try_recv().is_err(), "{path}");
        }
    });
}

/// What the loop is asked, as text; it answers nothing.
async fn heard(requests: &mut UnboundedReceiver<Request>) -> String {
    match requests.recv().await {
        Some(Request::Roll(most, _)) => format!("roll {most}"),
        Some(Request::Collect(bots, unsaved, _)) => format!("collect {bots:?} {unsaved:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_body_that_is_understood_is_asked_of_the_loop_as_it_says() {
    let discard = "{\"bots\": [\"a\"], \"discard_state\": true}";
    let rows = [
        ("/roll", "{\"max_unavailable\": 2}", "roll 2"),
        ("/collect", discard, "collect [\"a\"] Discard"),
        ("/collect", "{}", "collect [] Keep"),
    ];
    block_on(async {
        let (to, mut from) = unbounded_channel();
        for (path, body, expected) in rows {
            let asks = post(path, body.as_bytes(), to.clone());
            let ((status, _), request) = tokio::join!(asks, heard(&mut from));
            assert_eq!((status, request.as_str()), (503, expected), "{body}");
        }
    });
}
