//! Passing bytes on to our own standard output or error without ever waiting for who reads it.
//!
//! A pipe or terminal is opened again, non-blocking, so that its other users are not affected (the flag belongs to
//! the opened file, not to the descriptor); a socket is sent to without waiting; a regular file does not block.
//! What the reader does not take is kept up to a limit and then dropped and counted: `bot.log` has it all.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

/// Kept for a slow reader at most, in bytes.
const KEPT: usize = 256 << 10;
/// Written at once where a write could block: no pipe or terminal that polls writable takes less.
const SURELY_TAKEN: usize = 256;

/// Where bytes go.
#[derive(Debug)]
pub struct Through {
    name: &'static str,
    fd: OwnedFd,
    way: Way,
    kept: VecDeque<u8>,
    lost: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A write does not block.
    Free,
    /// A socket.
    Send,
    /// A write may block: only small ones, when there is room.
    Careful,
    /// Nobody reads any more.
    Closed,
}

/// `fd` opened again so that writes do not block; `None` where that is not possible or not needed.
pub fn reopen(fd: BorrowedFd<'_>, number: i32) -> Option<File> {
    let kind = File::from(fd.try_clone_to_owned().ok()?)
        .metadata()
        .ok()?
        .file_type();
    if !(kind.is_fifo() || kind.is_char_device()) {
        return None;
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(flags.bits());
    options.open(format!("/proc/self/fd/{number}")).ok()
}

fn way_into(file: &File) -> io::Result<Way> {
    let kind = file.metadata()?.file_type();
    Ok(if kind.is_socket() {
        Way::Send
    } else if kind.is_fifo() || kind.is_char_device() {
        Way::Careful
    } else {
        Way::Free
    })
}

impl Through {
    /// To the file behind `fd`, which has the `number`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(name: &'static str, fd: BorrowedFd<'_>, number: i32) -> io::Result<Self> {
        let own = fd.try_clone_to_owned()?;
        let (fd, way) = if let Some(file) = reopen(fd, number) {
            (file.into(), Way::Free)
        } else {
            let way = way_into(&File::from(own.try_clone()?))?;
            (own, way)
        };
        Ok(Self {
            name,
            fd,
            way,
            kept: VecDeque::new(),
            lost: 0,
        })
    }

    /// Passes `bytes` on, now or later.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.kept.is_empty() {
            let taken = self.give(bytes);
            rest = &bytes[taken..];
        }
        if self.way == Way::Closed || rest.is_empty() {
            return;
        }
        if self.kept.len() + rest.len() <= KEPT {
            self.kept.extend(rest);
        } else {
            self.lost += rest.len() as u64;
        }
    }

    /// The descriptor to wait for, while something is kept.
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        (!self.kept.is_empty()).then(|| self.fd.as_fd())
    }

    /// Passes on what is kept, as far as it is taken.
    pub fn resume(&mut self) {
        while !self.kept.is_empty() {
            let front: Vec<u8> = self.kept.iter().take(16 << 10).copied().collect();
            let taken = self.give(&front);
            if taken == 0 {
                return;
            }
            self.kept.drain(..taken.min(self.kept.len()));
        }
        self.kept.shrink_to(0);
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            contract::warn!(
                "{lost} bytes of the bot's {} were not passed on, who reads ours was too slow; bot.log has them",
                self.name
            );
        }
    }

    /// Gives who reads a last chance of `millis`.
    pub fn finish(&mut self, millis: u16) {
        let end = std::time::Instant::now() + std::time::Duration::from_millis(millis.into());
        while !self.kept.is_empty() {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() || !self.has_room(u16::try_from(left.as_millis()).unwrap_or(millis)) {
                return;
            }
            self.resume();
        }
    }

    fn has_room(&self, millis: u16) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::from(millis)).is_ok_and(|ready| ready > 0)
    }

    /// Writes as much as is taken now.
    fn give(&mut self, bytes: &[u8]) -> usize {
        let mut given = 0;
        while given < bytes.len() {
            match self.give_once(&bytes[given..]) {
                Ok(0) => break,
                Ok(n) => given += n,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.way = Way::Closed;
                    self.kept.clear();
                    return bytes.len();
                }
            }
        }
        given
    }

    fn give_once(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.way {
            Way::Closed => Ok(bytes.len()),
            Way::Free => Ok(unistd::write(&self.fd, bytes)?),
            Way::Send => {
                let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
                Ok(rustix::net::send(&self.fd, bytes, flags)?)
            }
            Way::Careful if self.has_room(0) => Ok(unistd::write(
                &self.fd,
                &bytes[..bytes.len().min(SURELY_TAKEN)],
            )?),
            Way::Careful => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn into_pipe() -> (File, OwnedFd, Through) {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let through = Through::new("stdout", writer.as_fd(), writer.as_raw_fd()).unwrap();
        (reader.into(), writer, through)
    }

    #[test]
    fn a_reader_that_stalls_costs_bytes_and_no_time() {
        let (mut reader, writer, mut through) = into_pipe();
        let chunk = [b'x'; 8 << 10];
        for _ in 0..100 {
            through.write(&chunk);
        }
        assert_eq!(through.kept.len(), KEPT);
        assert!(through.lost > 0 && through.waits_for().is_some());
        let mut seen = 0;
        while through.waits_for().is_some() {
            let mut buffer = [0; 4096];
            seen += reader.read(&mut buffer).unwrap();
            through.resume();
        }
        assert!(seen >= KEPT);
        assert_eq!(through.lost, 0, "told");
        drop(writer);
    }

    #[test]
    fn a_reader_that_has_gone_is_forgotten() {
        let (reader, _writer, mut through) = into_pipe();
        drop(reader);
        through.write(b"hello");
        assert_eq!(through.way, Way::Closed);
        through.write(b"hello");
        assert!(through.waits_for().is_none());
    }

    #[test]
    fn the_flags_of_the_shared_file_stay_as_they_are() {
        let (_reader, writer, _through) = into_pipe();
        let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert!(!OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn a_socket_is_not_waited_for_either() {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let mut through = Through::new("stderr", theirs.as_fd(), theirs.as_raw_fd()).unwrap();
        assert_eq!(through.way, Way::Send);
        for _ in 0..200 {
            through.write(&[b'x'; 8 << 10]);
        }
        assert!(through.lost > 0);
    }

    #[test]
    fn a_regular_file_is_appended_to_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create_new(dir.path().join("out")).unwrap();
        io::Write::write_all(&mut file, b"before ").unwrap();
        let mut through = Through::new("stdout", file.as_fd(), file.as_raw_fd()).unwrap();
        through.write(b"after");
        assert_eq!(
            std::fs::read(dir.path().join("out")).unwrap(),
            b"before after"
        );
    }
}
