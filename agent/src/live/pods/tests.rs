//! Logs of an API server that a test plays.

use std::sync::Mutex;

use kube::Client;
use kube::client::Body;

use super::*;
use crate::engine::docker::tests::block_on;
use crate::live::chunk::Source;
use crate::show::Colours;

const A: &str = "2026-11-26T01:02:03.000000001Z";
const B: &str = "2026-11-26T01:02:03.000000002Z";

/// What the API server says of the present life and of the one before, or nothing, and what it was asked.
struct Stage {
    pods: Arc<Pods>,
    asked: Arc<Mutex<Vec<String>>>,
    said: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone)]
enum Answer {
    /// With this status.
    Says(u16, String),
    /// Not now.
    Nothing,
}

#[derive(Clone)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn stage(present: Answer, before: Answer) -> Stage {
    of(named("u1"), present, before)
}

/// The Pod of the name, as far as it is asked for.
fn named(uid: &str) -> Answer {
    let object = serde_json::json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": "default-b1", "uid": uid},
    });
    good(object.to_string())
}

/// The same where that answers who asks for the Pod.
fn of(there: Answer, present: Answer, before: Answer) -> Stage {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let answer = move |request: hyper::Request<Body>| {
        let path = request.uri().to_string();
        let is_log = path.contains("/log?");
        let is_before = path.contains("previous=true");
        let answer = match () {
            () if !is_log => &there,
            () if is_before => &before,
            () => &present,
        };
        let answer = answer.clone();
        if is_log {
            seen.lock().unwrap().push(path);
        }
        async move {
            let Answer::Says(status, body) = answer else {
                return pending().await;
            };
            let response = hyper::Response::builder().status(status);
            Ok::<_, kube::Error>(response.body(Body::from(body.into_bytes())).unwrap())
        }
    };
    let client = Client::new(tower::service_fn(answer), "bots");
    let said = Arc::default();
    let console = Console::open(Said(Arc::clone(&said)), Colours::Off).unwrap();
    let gate = Gate::new(kubernetes::PACE);
    let bounds = Bounds {
        streams: 1,
        turn: 2 * QUIET,
    };
    let pods = Pods::new(Api::namespaced(client, "bots"), gate, console, bounds);
    Stage {
        pods: Arc::new(pods),
        asked,
        said,
    }
}

fn look(life: Life, looks_back: bool) -> Look<'static> {
    Look {
        name: "default-b1",
        id: "u1",
        life,
        since: Some(A),
        looks_back,
    }
}

fn piece(stamp: &str, text: &'static str) -> Printed {
    Printed::Piece {
        source: Source::Either,
        stamp: stamp.to_owned(),
        bytes: text.into(),
    }
}

fn good(text: String) -> Answer {
    Answer::Says(200, text)
}

fn refused(code: u16) -> Answer {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": code,
        "reason": if code == 404 { "NotFound" } else { "" },
    });
    Answer::Says(code, status.to_string())
}

/// All that comes, and how it ends if not well.
async fn all(log: &mut Log) -> (Vec<Printed>, Option<String>) {
    let mut all = Vec::new();
    while let Some(next) = log.next().await {
        match next {
            Ok(printed) => all.push(printed),
            Err(err) => return (all, Some(err.to_string())),
        }
    }
    (all, None)
}

#[test]
fn a_pod_that_has_got_its_name_is_not_taken_for_it() {
    block_on(async {
        for there in [named("u2"), refused(404)] {
            let stage = of(there, good(format!("{B} another's\n")), refused(404));
            let read = stage.pods.read(look(Life::Over, true)).await;
            let err = read.err().unwrap();
            assert_eq!(err.to_string(), "the Pod default-b1 is gone");
            assert_eq!(stage.asked.lock().unwrap().len(), 0);
        }
    });
}

#[test]
fn the_life_before_is_told_first_and_asked_for_after_the_present_one() {
    block_on(async {
        let stage = stage(good(format!("{B} two\n")), good(format!("{A} one")));
        let mut log = stage.pods.read(look(Life::Runs(1), true)).await.unwrap();
        let expected = vec![piece(A, "one"), Printed::End, piece(B, "two\n")];
        assert_eq!(all(&mut log).await, (expected, None));
        let asked = stage.asked.lock().unwrap();
        assert_eq!(asked.len(), 2);
        assert!(asked[0].contains("follow=true") && !asked[0].contains("previous"));
        assert!(asked[1].contains("previous=true") && !asked[1].contains("follow"));
        for path in asked.iter() {
            assert!(
                path.starts_with("/api/v1/namespaces/bots/pods/default-b1/log"),
                "{path}"
            );
            assert!(path.contains("container=bot") && path.contains("timestamps=true"));
            assert!(
                path.contains("sinceTime=2026-11-26T01%3A02%3A03Z"),
                "{path}"
            );
        }
    });
}

#[test]
fn one_that_prints_nothing_keeps_nothing_of_the_life_before_back() {
    block_on(async {
        let stage = stage(Answer::Nothing, good(format!("{A} one\n")));
        let mut log = stage.pods.read(look(Life::Runs(1), true)).await.unwrap();
        assert_eq!(log.next().await.unwrap().unwrap(), piece(A, "one\n"));
        assert_eq!(log.next().await.unwrap().unwrap(), Printed::End);
        assert!(timeout(QUIET, log.next()).await.is_err());
        assert!(timeout(QUIET, log.next()).await.is_err(), "and again");
    });
}

#[test]
fn a_line_without_an_end_is_one_only_when_its_life_is_over() {
    block_on(async {
        let present = || good(format!("{B} half"));
        for (life, ends) in [
            (Life::Runs(0), vec![]),
            (Life::Rests(0), vec![Printed::End]),
            (Life::Over, vec![Printed::End]),
        ] {
            let stage = stage(present(), refused(400));
            let mut log = stage.pods.read(look(life, false)).await.unwrap();
            let mut expected = vec![piece(B, "half")];
            expected.extend(ends);
            assert_eq!(all(&mut log).await, (expected, None), "{life:?}");
            let asked = stage.asked.lock().unwrap();
            let follows = asked[0].contains("follow=true");
            assert_eq!(follows, matches!(life, Life::Runs(_)));
        }
    });
}

#[test]
fn where_there_is_no_life_before_the_present_one_is_all() {
    block_on(async {
        for code in [400, 404] {
            let stage = stage(good(format!("{B} two\n")), refused(code));
            let mut log = stage.pods.read(look(Life::Runs(0), true)).await.unwrap();
            let expected = vec![Printed::End, piece(B, "two\n")];
            assert_eq!(all(&mut log).await, (expected, None));
        }
        let stage = stage(good(format!("{B} two\n")), refused(500));
        let mut log = stage.pods.read(look(Life::Runs(0), true)).await.unwrap();
        assert_eq!(all(&mut log).await, (vec![], Some("no".to_owned())));
    });
}

#[test]
fn that_logs_may_not_be_read_is_said_once() {
    block_on(async {
        let stage = stage(refused(403), refused(403));
        for _ in 0..3 {
            let mut log = stage.pods.read(look(Life::Runs(0), true)).await.unwrap();
            assert_eq!(all(&mut log).await.1.as_deref(), Some("no"));
        }
        stage.pods.console.flush();
        let said = String::from_utf8(stage.said.lock().unwrap().clone()).unwrap();
        assert_eq!(said.matches("pods/log").count(), 1, "{said}");
    });
}

#[test]
fn while_the_api_server_is_away_nobody_asks_it() {
    block_on(async {
        let stage = stage(good(String::new()), Answer::Nothing);
        stage.pods.gate.failed("gone");
        let read = stage.pods.read(look(Life::Runs(0), false));
        assert!(timeout(QUIET, read).await.is_err());
        assert!(stage.asked.lock().unwrap().is_empty());
        stage.pods.gate.succeeded();
        stage.pods.read(look(Life::Runs(0), false)).await.unwrap();
        assert_eq!(stage.asked.lock().unwrap().len(), 1);
    });
}

#[test]
fn who_has_a_stream_gives_it_up_where_others_wait_and_only_there() {
    block_on(async {
        let stage = stage(Answer::Nothing, Answer::Nothing);
        let pods = &stage.pods;
        pods.expect(1);
        let mut turn = pods.turn().await;
        assert!(timeout(3 * QUIET, turn.over()).await.is_err());
        assert!(timeout(QUIET, pods.turn()).await.is_err(), "there is one");
        for _ in 0..3 {
            pods.expect(2);
        }
        turn.over().await;
        drop(turn);
        let mut next = pods.turn().await;
        pods.expect(1);
        assert!(timeout(3 * QUIET, next.over()).await.is_err());
        pods.console.flush();
        let said = String::from_utf8(stage.said.lock().unwrap().clone()).unwrap();
        assert_eq!(said.matches("read at a time").count(), 1, "{said}");
    });
}
