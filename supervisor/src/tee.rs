//! The bot's standard output and error: passed on unchanged to ours, and by whole lines to `bot.log`.
//!
//! Reading never waits for either, so a bot is never blocked by who reads it or by the disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use contract::logs::{self, Lines};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use crate::log::Log;
use crate::through::Through;

/// Read at once, in bytes.
const CHUNK: usize = 16 << 10;
/// Reads of one stream before the other gets its turn.
const TURN: usize = 8;
/// Reads at the end of a run at most: four times the largest pipe.
const LAST: usize = (4 << 20) / CHUNK;

/// Both streams of a bot.
#[derive(Debug)]
pub struct Tee {
    streams: [Stream; 2],
    log: Log,
}

#[derive(Debug)]
struct Stream {
    pipe: Option<File>,
    lines: Lines,
    through: Through,
}

impl Tee {
    /// To our own descriptors 1 and 2, the latter as `error`, and `log`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(error: BorrowedFd<'_>, log: Log) -> io::Result<Self> {
        let stream = |through| Stream {
            pipe: None,
            lines: Lines::default(),
            through,
        };
        let output = Through::new("stdout", io::stdout().as_fd(), 1)?;
        let error = Through::new("stderr", error, 2)?;
        Ok(Self {
            streams: [stream(output), stream(error)],
            log,
        })
    }

    /// New pipes for a run; gives the ends for the bot.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn open(&mut self) -> io::Result<[OwnedFd; 2]> {
        let mut ends = Vec::new();
        for stream in &mut self.streams {
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            stream.pipe = Some(reader.into());
            ends.push(writer);
        }
        ends.try_into().map_err(|_| io::ErrorKind::Other.into())
    }

    /// The pipe of stream `index` while a run has it open.
    pub fn pipe(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.streams[index].pipe.as_ref().map(AsFd::as_fd)
    }

    /// What stream `index` waits to be able to write to.
    pub fn waits_for(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.streams[index].through.waits_for()
    }

    /// Reads what has come on stream `index`.
    pub fn read(&mut self, index: usize) {
        self.read_some(index, TURN);
        self.log.flush(SystemTime::now());
    }

    /// Passes on what stream `index` kept.
    pub fn resume(&mut self, index: usize) {
        self.streams[index].through.resume();
    }

    /// The run is over: takes what is in the pipes without waiting, and closes them.
    pub fn close(&mut self) {
        let now = SystemTime::now();
        let stamp = logs::stamp(now);
        for index in 0..self.streams.len() {
            self.read_some(index, LAST);
            let stream = &mut self.streams[index];
            stream.pipe = None;
            stream.lines.finish(|line| self.log.line(line, &stamp));
        }
        self.log.flush(now);
    }

    /// Gives who reads us a last chance before we exit.
    pub fn finish(&mut self) {
        for stream in &mut self.streams {
            stream.through.finish(1000);
        }
    }

    /// Lines of the log that were dropped unshipped so far.
    pub fn dropped(&self) -> u64 {
        self.log.dropped()
    }

    fn read_some(&mut self, index: usize, turns: usize) {
        let stream = &mut self.streams[index];
        let mut buffer = [0; CHUNK];
        for _ in 0..turns {
            let Some(pipe) = &mut stream.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => stream.pipe = None,
                Ok(n) => {
                    let stamp = logs::stamp(SystemTime::now());
                    stream.through.write(&buffer[..n]);
                    stream
                        .lines
                        .push(&buffer[..n], |line| self.log.line(line, &stamp));
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => stream.pipe = None,
            }
        }
    }
}
