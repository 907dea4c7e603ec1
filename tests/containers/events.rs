//! What a daemon tells as it happens. It keeps few of its events, so it is listened to.

use std::process::Stdio;
use std::time::UNIX_EPOCH;

use tempfile::NamedTempFile;

use super::Docker;
use crate::{Process, read};

/// Seconds after which the listener of a test that was killed ends by itself.
const LISTENS: u64 = 3600;

/// Events of a daemon from a moment on, also those before the listener listened.
#[derive(Debug)]
pub struct Events {
    heard: NamedTempFile,
    _listener: Process,
}

impl Docker {
    /// All from now on that these filters of `docker events` let through, each as a line of the template `form`.
    ///
    /// # Panics
    /// Nobody can listen.
    pub fn events(&self, filters: &[&str], form: &str) -> Events {
        let now = UNIX_EPOCH.elapsed().expect("a clock").as_secs();
        let [since, until] = [now, now + LISTENS].map(|at| at.to_string());
        let heard = NamedTempFile::new().expect("a file");
        let mut command = self.listener();
        command.args(["events", "--since", &since, "--until", &until]);
        command.args(filters.iter().flat_map(|filter| ["--filter", filter]));
        command.args(["--format", form]);
        let to = heard.reopen().expect("the file");
        command.stdin(Stdio::null()).stdout(to);
        Events {
            heard,
            _listener: Process::start(&mut command),
        }
    }
}

impl Events {
    /// What was heard so far.
    pub fn told(&self) -> String {
        read(self.heard.path())
    }
}
