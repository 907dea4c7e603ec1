use serde_json::json;

use super::super::tests::{Request, access};
use super::*;
use crate::engine::docker::tests::{block_on, bot};
use crate::history::cause::Cause;

/// Starts a bot where each POST is answered so, the first and the rest; gives why it did not start, and what was removed.
fn refused(first: (u16, &str), rest: (u16, &str), of: &'static str) -> (String, Vec<String>) {
    let answer = |(code, message): (u16, &str)| {
        let status =
            json!({"kind": "Status", "status": "Failure", "code": code, "message": message});
        (code, status)
    };
    let (first, rest) = (answer(first), answer(rest));
    let script = move |request: &Request| {
        let is_made = request.method == "POST";
        Some(match (is_made, request.path.contains(of)) {
            (false, _) => (200, json!({"kind": "Status", "status": "Success"})),
            (true, false) => (201, request.body.clone()),
            (true, true)
                if request.body["metadata"]["name"]
                    .to_string()
                    .contains("-keys") =>
            {
                rest.clone()
            }
            (true, true) if first.0 == 201 => (201, request.body.clone()),
            (true, true) => first.clone(),
        })
    };
    block_on(async {
        let (access, cluster) = access(script);
        let (_keep, cancel) = oneshot::channel();
        let (start, bot) = (Start::now(Cause::Created, None), bot("b"));
        let not = Box::pin(self::start(&access, &bot, &start, None, cancel)).await;
        let why = not.unwrap_err().why;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let removed = cluster.requests().into_iter();
        let removed = removed.filter(|request| request.method == "DELETE");
        (why, removed.map(|request| request.path).collect())
    })
}

#[test]
fn secrets_stay_only_where_their_pod_may_be_there_after_all() {
    let pod = |code, message| refused((code, message), (code, message), "/pods");
    let (why, removed) = pod(500, "etcdserver: request timed out");
    assert!(why.contains("etcdserver"), "{why}");
    assert_eq!(removed, Vec::<String>::new(), "it may have been made");
    for (code, message) in [(403, "exceeded quota"), (500, "failed calling webhook")] {
        let (_, removed) = pod(code, message);
        assert_eq!(removed.len(), 2, "{message}: {removed:?}");
    }
}

#[test]
fn a_secret_does_not_stay_alone() {
    let (why, removed) = refused((201, ""), (403, "exceeded quota"), "/secrets");
    assert!(why.contains("exceeded quota"), "{why}");
    assert_eq!(removed.len(), 2, "{removed:?}");
}
