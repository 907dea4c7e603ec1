//! A way to the API server on which it is noted what is asked: plain HTTP, through `kubectl proxy`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tests::cluster::{Cluster, LONG};
use tests::servers::free_port;
use tests::{Process, wait_for};

/// The way.
pub struct Wire {
    _proxy: Process,
    address: String,
    /// Where the proxy itself is.
    pub behind: String,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Wire {
    /// One to the API server of `cluster`.
    pub fn lay(cluster: &Cluster) -> Self {
        let port = free_port();
        let behind = format!("127.0.0.1:{port}");
        let mut command = cluster.command();
        command.args(["proxy", &format!("--port={port}"), "--request-timeout=0"]);
        command.stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let proxy = Process::start(&mut command);
        wait_for("kubectl proxy", LONG, || TcpStream::connect(&behind).ok());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let asked = Arc::default();
        let (shared, server) = (Arc::clone(&asked), behind.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                join(client, &server, &shared);
            }
        });
        Self {
            _proxy: proxy,
            address,
            behind,
            asked,
        }
    }

    /// For a kubeconfig.
    pub fn server(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked since it was last told: each kind of request, and how often.
    pub fn asked(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn join(client: TcpStream, server: &str, asked: &Arc<Mutex<BTreeMap<String, usize>>>) {
    // Not there any more when all is over.
    let Ok(server) = TcpStream::connect(server) else {
        return;
    };
    for side in [&client, &server] {
        side.set_nodelay(true).expect("a connection");
    }
    let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    let (answers, asker) = (clone(&server), clone(&client));
    thread::spawn(move || pass(answers, asker, |_| {}));
    let asked = Arc::clone(asked);
    thread::spawn(move || {
        pass(client, server, |bytes| {
            if let Some(request) = request(bytes) {
                let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                *asked.entry(request).or_default() += 1;
            }
        });
    });
}

fn pass(mut from: TcpStream, mut to: TcpStream, note: impl Fn(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        note(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// The kind of a request, where the client's bytes begin with one: its method, what it is of, and whether it watches.
fn request(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?.strip_suffix(" HTTP/1.1")?;
    let (method, target) = line.split_once(' ')?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // /api/v1/namespaces/NAMESPACE/KIND/NAME
    let mut parts = path.split('/').skip(5);
    let kind = parts.next().unwrap_or(path);
    let one = if parts.next().is_some() { "/NAME" } else { "" };
    let watches = if query.contains("watch=true") {
        ", watching"
    } else {
        ""
    };
    Some(format!("{method} {kind}{one}{watches}"))
}
