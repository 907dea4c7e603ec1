use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::super::tests::{Cluster, Request, access};
use super::*;
use crate::engine::docker::tests::{block_on, bot};
use crate::engine::keys::KeyMaker;
use crate::store::Address;

const TERMS: Terms = Terms {
    time: Duration::from_mins(1),
    most: 1024,
};

/// Jobs of a cluster whose API server answers what `script` says.
fn jobs(
    script: impl Fn(&Request) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> (Jobs, Cluster) {
    let (access, cluster) = access(script);
    let folder = std::env::temp_dir();
    let store = Store::open(&Address::Directory(folder.clone()), folder).unwrap();
    let jobs = Jobs {
        access,
        store,
        bucket: "states".to_owned(),
        terms: TERMS,
    };
    (jobs, cluster)
}

/// The job's Pod, as an API server has it.
fn there(jobs: &Jobs, gates: &Value) -> Value {
    let job = bot("j1");
    let made = pod::pod(&job, &jobs.access.template, TERMS, "s").unwrap();
    let mut made = serde_json::to_value(made).unwrap();
    made["metadata"]["uid"] = "u1".into();
    made["metadata"]["resourceVersion"] = "7".into();
    made["spec"]["schedulingGates"] = gates.clone();
    made
}

fn refused(code: u16) -> (u16, Value) {
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "message": "no"});
    (code, status)
}

/// Makes the job where this is there, which is patched with that answer; what was asked of the API server.
fn make_over(there: &Value, patched: (u16, Value)) -> (Result<Made, NotStarted>, Cluster) {
    make_anew(there, patched, None)
}

/// The same of one of which that was noted.
fn make_anew(
    there: &Value,
    patched: (u16, Value),
    noted: Option<&str>,
) -> (Result<Made, NotStarted>, Cluster) {
    let (there, tries) = (there.clone(), AtomicU32::new(0));
    let script = move |request: &Request| {
        Some(match (request.method.as_str(), &request.path) {
            ("POST", path) if path.contains("/pods") => {
                if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                    return Some(refused(409));
                }
                let mut made = request.body.clone();
                made["metadata"]["uid"] = "u2".into();
                (201, made)
            }
            ("POST", _) => (201, request.body.clone()),
            ("PATCH", path) if path.contains("/secrets/") => (200, json!({})),
            ("PATCH", _) => patched.clone(),
            ("GET" | "DELETE", _) => (200, there.clone()),
            _ => refused(500),
        })
    };
    block_on(async {
        let (jobs, cluster) = jobs(script);
        (Box::pin(jobs.make(&bot("j1"), noted)).await, cluster)
    })
}

fn plain() -> Value {
    let (jobs, _) = jobs(|_| None);
    there(&jobs, &json!([{"name": names::PERMIT}]))
}

#[test]
fn a_pod_behind_its_gate_makes_way_as_it_was_seen() {
    let there = runtime(plain);
    let mut freed = there.clone();
    freed["metadata"]["resourceVersion"] = "8".into();
    let (made, cluster) = make_over(&there, (200, freed));
    assert_eq!(made.unwrap().id, "u2");
    let requests = cluster.requests();
    let of = |method: &str| {
        let mut all = requests.iter().filter(|request| request.method == method);
        all.next().unwrap().body.clone()
    };
    assert_eq!(of("PATCH")["metadata"]["resourceVersion"], "7");
    let only = &of("DELETE")["preconditions"];
    assert_eq!(only, &json!({"uid": "u1", "resourceVersion": "8"}));
    let secret = requests.last().unwrap();
    let owner = &secret.body["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], "u2", "its Secret goes with it");
}

#[test]
fn the_pod_that_was_noted_when_its_job_began_stays_the_jobs() {
    let there = runtime(plain);
    let (made, cluster) = make_anew(&there, (200, there.clone()), Some("u1"));
    assert_eq!(made.unwrap().id, "u1");
    let requests = cluster.requests();
    let changes = requests.iter().filter(|request| request.method != "GET");
    let is_of_keys = |request: &&Request| {
        request.method == "PATCH"
            && (request.path.contains("/secrets/") || request.path.contains("/pods/"))
    };
    assert_eq!(changes.clone().filter(is_of_keys).count(), 2);
    assert_eq!(changes.count(), 2, "{requests:#?}");
    let (made, _) = make_anew(&there, (200, there.clone()), Some("another"));
    assert_eq!(made.unwrap().id, "u2", "what was noted has gone");
}

#[test]
fn a_pod_whose_gate_was_opened_meanwhile_stays() {
    let there = runtime(plain);
    let (made, cluster) = make_over(&there, refused(409));
    assert_eq!(made.unwrap_err().outcome, Outcome::Busy);
    let mut opened = there;
    opened["spec"]["schedulingGates"] = Value::Null;
    let (made, again) = make_over(&opened, (200, Value::Null));
    assert_eq!(made.unwrap_err().outcome, Outcome::Busy);
    for cluster in [cluster, again] {
        let requests = cluster.requests();
        assert!(requests.iter().all(|request| request.method != "DELETE"));
    }
}

#[test]
fn what_has_its_name_and_is_somebody_elses_is_left_alone() {
    let mut foreign = runtime(plain);
    foreign["metadata"]["labels"] = json!({"app": "other"});
    let (made, cluster) = make_over(&foreign, (200, Value::Null));
    let not = made.unwrap_err();
    assert!(
        not.why.contains("is there that is not this agent's"),
        "{}",
        not.why
    );
    let requests = cluster.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.method != "DELETE" && request.method != "PATCH")
    );
}

/// A store that makes keys which are good for an hour.
fn store_that_makes_keys() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let until = std::time::SystemTime::now() + Duration::from_hours(1);
    let until = Time::from(until).to_string();
    let keys = format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>a</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>{until}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{keys}",
        keys.len()
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 16 << 10];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn a_job_that_is_to_end_gets_keys_for_that_first_and_one_that_ends_already_none() {
    for is_ending in [false, true] {
        let mut there = runtime(plain);
        there["spec"]["schedulingGates"] = Value::Null;
        if is_ending {
            there["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        let script = move |request: &Request| {
            let is_secret = request.path.contains("/secrets/");
            let secret = json!({"metadata": {}});
            Some((200, if is_secret { secret } else { there.clone() }))
        };
        let cluster = block_on(async {
            let (mut jobs, cluster) = jobs(script);
            let given = [
                ("MINIO_ENDPOINT", store_that_makes_keys()),
                ("MINIO_ACCESS_KEY", "a".to_owned()),
                ("MINIO_SECRET_KEY", "s".to_owned()),
            ];
            let given = given.map(|(name, value)| (name.to_owned(), value)).into();
            let Ok(Address::S3(endpoint)) = Address::parse(&given, Path::new("/")) else {
                panic!("no object store");
            };
            let console = jobs.access.console.clone();
            let keys = KeyMaker::new(&endpoint, Duration::from_hours(1), console);
            jobs.access.keys = keys.unwrap();
            jobs.ask(&bot("j1").id, "u1").await.unwrap();
            cluster
        });
        let asked = cluster.requests().into_iter();
        let asked = asked.map(|request| (request.method, request.path));
        let acts: Vec<_> = asked.filter(|(method, _)| method != "GET").collect();
        let methods: Vec<&str> = acts.iter().map(|(method, _)| method.as_str()).collect();
        if is_ending {
            assert_eq!(methods, ["DELETE"]);
        } else {
            assert_eq!(methods, ["PATCH", "PATCH", "DELETE"]);
            assert!(acts[0].1.contains("/secrets/s"), "{acts:?}");
        }
    }
}

/// In a runtime, which a client needs.
fn runtime<T>(make: impl FnOnce() -> T) -> T {
    block_on(async { make() })
}
