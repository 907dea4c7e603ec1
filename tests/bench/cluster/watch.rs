//! When Pods were made, went on and were gone, as a watch is told.
//!
//! It is `kubectl get --raw`: the API server's own lines, handed on as they come.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tests::Process;
use tests::cluster::{Cluster, LONG};

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For what is measured here.
    pub at: Instant,
    /// For what others note.
    pub on: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            on: SystemTime::now(),
        }
    }
}

struct Event {
    when: Moment,
    kind: String,
    pod: Value,
}

/// A watch over a namespace's Pods.
pub struct Watch {
    _process: Process,
    seen: Arc<Mutex<Vec<Event>>>,
}

impl Watch {
    /// One that has begun.
    pub fn over(cluster: &Cluster) -> Self {
        let path = format!(
            "/api/v1/namespaces/{}/pods?watch=1&timeoutSeconds=3600",
            cluster.namespace()
        );
        let mut command = cluster.command();
        command.args(["get", "--raw", &path, "--request-timeout=0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let lines = BufReader::new(process.0.stdout.take().expect("its output")).lines();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let when = Moment::now();
                let Ok(mut told) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                let event = Event {
                    when,
                    kind: told["type"].as_str().unwrap_or_default().to_owned(),
                    pod: told["object"].take(),
                };
                shared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(event);
            }
        });
        Self {
            _process: process,
            seen,
        }
    }

    /// When the Pod was made.
    pub fn made(&self, name: &str) -> Moment {
        self.first(name, |kind, _| kind == "ADDED")
    }

    /// When it was told that a container of the Pod runs.
    pub fn runs(&self, name: &str, container: &str) -> Moment {
        self.first(name, |_, pod| {
            let status = tests::cluster::container(pod, container);
            !status["state"]["running"].is_null()
        })
    }

    /// When the Pod was gone.
    pub fn gone(&self, name: &str) -> Moment {
        self.first(name, |kind, _| kind == "DELETED")
    }

    /// The first that was told of the Pod and `is` so; what was told of it is forgotten when it is gone.
    ///
    /// # Panics
    /// When nothing is.
    fn first(&self, name: &str, is: impl Fn(&str, &Value) -> bool) -> Moment {
        let end = Instant::now() + LONG;
        loop {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let found = seen
                .iter()
                .find(|event| event.pod["metadata"]["name"] == name && is(&event.kind, &event.pod));
            if let Some(found) = found {
                return found.when;
            }
            drop(seen);
            assert!(Instant::now() < end, "the watch has not told of {name}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
