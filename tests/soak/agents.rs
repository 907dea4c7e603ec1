//! The two agents of the soak: one acts, the other stands by, and both are killed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use nix::sys::signal::Signal;
use tests::servers::free_port;
use tests::stack::{LONG, Stack};
use tests::{Process, Reply, http, read, run, wait_for};

/// One of them, on a data folder of its own.
pub struct Agent {
    folder: PathBuf,
    address: String,
    process: Option<Process>,
    /// How much its earlier lives have said.
    before: usize,
}

impl Agent {
    /// One that keeps everything in `folder`, not started.
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder of an agent");
        Self {
            folder: folder.to_owned(),
            address: format!("127.0.0.1:{}", free_port()),
            process: None,
            before: 0,
        }
    }

    /// Starts it, unless it runs.
    pub fn start(&mut self, stack: &Stack) {
        if self.process.is_some() {
            return;
        }
        self.before = self.said().len();
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.expect("an agent's log");
        let args = ["bot-runner", "--reconcile-interval", "2s", "--settle", "5s"];
        let mut command = stack.command(&args);
        command.env("THE0_DATA", self.data());
        command.env("THE0_HEALTH_LISTEN", &self.address);
        command.stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("the log"))
            .stderr(log);
        self.process = Some(Process::start(&mut command));
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What it has said in all its lives.
    pub fn said(&self) -> String {
        read(&self.log())
    }

    /// Whether it was started and not killed.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Kills it where it stands.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.0.kill().expect("kill an agent");
            process.0.wait().expect("the end of an agent");
        }
    }

    /// Ends it as a person would, and gives the code. One that has not said a word yet is not there to be asked.
    pub fn end(&mut self) -> i32 {
        wait_for("the first word of an agent", LONG, || {
            (self.process.is_none() || self.said().len() > self.before).then_some(())
        });
        let Some(mut process) = self.process.take() else {
            return 0;
        };
        process.signal(Signal::SIGTERM);
        process.code(LONG)
    }

    /// What it says of itself, if it listens.
    pub fn ready(&self) -> Option<Reply> {
        std::net::TcpStream::connect(&self.address).ok()?;
        Some(http(&self.address, "GET", "/readyz", ""))
    }

    /// Runs a command that asks it.
    pub fn ask(&self, stack: &Stack, args: &[&str]) -> Output {
        run(stack.command(args).env("THE0_DATA", self.data()))
    }
}
