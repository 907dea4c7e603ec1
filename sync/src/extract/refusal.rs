//! Why an archive is refused.

use std::io;

use thiserror::Error as ThisError;

use super::name::Name;

/// The archive was not unpacked.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The archive says something that is not allowed.
    #[error("entry {entry:?} is refused: {why}")]
    Entry {
        /// The entry's name, as the archive gives it.
        entry: String,
        /// What is wrong with it.
        why: Reason,
    },
    /// The archive as a whole cannot be used.
    #[error("the archive is refused: {0}")]
    Archive(Reason),
    /// The disk did not take it.
    #[error("unpack: {0}")]
    Disk(#[from] io::Error),
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Reason {
    /// The content begins like none of the formats.
    #[error("it is neither a zip nor a tar.gz nor a tar")]
    Format,
    /// The name is absolute.
    #[error("its path is absolute")]
    Absolute,
    /// The name has `..` in it.
    #[error("its path has .. in it")]
    DotDot,
    /// The name is no name.
    #[error("its name is not valid: {0}")]
    Name(&'static str),
    /// The name is ours.
    #[error("its name is reserved")]
    Reserved,
    /// A link that leads out.
    #[error("the link leads out of the folder")]
    LinkLeaves,
    /// Links that lead to each other.
    #[error("the link leads in a circle")]
    LinkCircle,
    /// Links that take longer to follow than anyone's would.
    #[error("the archive's links lead through each other too often")]
    LinkMaze,
    /// A link to nothing that can be a path.
    #[error("the link's target is not a path")]
    LinkTarget,
    /// The path goes through a link.
    #[error("its path goes through a link or a file")]
    Through,
    /// A hard link to something that is not a file of the archive before it.
    #[error("the hard link is not to a file that came before it")]
    HardLink,
    /// The path was there already.
    #[error("its path appears twice")]
    Twice,
    /// A path that is two kinds of thing.
    #[error("its path appears as two kinds of thing")]
    KindChanges,
    /// A device, FIFO or socket.
    #[error("it is a {0}")]
    Kind(&'static str),
    /// A kind of entry that is not known.
    #[error("its kind ({0}) is not supported")]
    UnknownKind(String),
    /// Encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// A compression method that is not supported.
    #[error("its compression method is not supported ({0})")]
    Method(String),
    /// Two places of the archive say different things.
    #[error("two headers disagree about it: {0}")]
    Disagreement(String),
    /// Folder or link with content.
    #[error("it is a folder or link and has content")]
    ContentOfNone,
    /// Checksum or structure is wrong.
    #[error("it is corrupt: {0}")]
    Corrupt(String),
    /// Ends early.
    #[error("it is cut short")]
    Truncated,
    /// Goes on.
    #[error("there is more data than its header says")]
    LongerThanSaid,
    /// Data after the end of the archive.
    #[error("there is data after the archive's end")]
    Trailing,
    /// Data before the start of the archive.
    #[error("there is data before the archive's start")]
    Leading,
    /// Entries that share bytes.
    #[error("entries overlap")]
    Overlap,
    /// Too many entries.
    #[error("there are more than {0} entries (THE0_MAX_UNPACKED_ENTRIES)")]
    Entries(u64),
    /// Names that are too much to remember.
    #[error(
        "the names in it are longer than {0} KiB together, which is what THE0_MAX_UNPACKED_ENTRIES allows"
    )]
    Names(u64),
    /// The archive itself is larger than what it may unpack to.
    #[error("it has {0} bytes, more than what unpacks to {1} MiB can have (THE0_MAX_UNPACKED_MB)")]
    Large(u64, u64),
    /// Too much data.
    #[error("it unpacks to more than {0} MiB (THE0_MAX_UNPACKED_MB)")]
    Size(u64),
    /// A bomb.
    #[error("it unpacks to more than {0} times its size (THE0_MAX_UNPACKED_RATIO)")]
    Ratio(u64),
}

impl Reason {
    /// Why reading it failed: what a reader of ours said, an early end, or damage.
    pub(super) fn of_read(error: &io::Error) -> Self {
        let ours = error.get_ref().and_then(|inner| inner.downcast_ref());
        match ours {
            Some(reason) => Self::clone(reason),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            None if error.to_string().contains("unexpected EOF") => Self::Truncated,
            None => Self::Corrupt(error.to_string()),
        }
    }

    /// As the reason to refuse the entry `name`.
    pub(super) fn of(self, name: &Name) -> Error {
        self.of_bytes(name.raw())
    }

    /// As the reason to refuse the entry whose name is `raw` in the archive.
    pub(super) fn of_bytes(self, raw: &[u8]) -> Error {
        Error::Entry {
            entry: String::from_utf8_lossy(raw).into_owned(),
            why: self,
        }
    }

    /// As the reason to refuse the archive.
    pub(super) fn of_archive(self) -> Error {
        Error::Archive(self)
    }
}

impl Error {
    /// The reason, where it is the archive's fault.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Entry { why, .. } | Self::Archive(why) => Some(why),
            Self::Disk(_) => None,
        }
    }

    /// What the disk says when an entry is put there. That something is in the way means the archive put it there.
    pub(super) fn planting(name: &Name, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Reason::Twice.of(name),
            io::ErrorKind::NotADirectory => Reason::Through.of(name),
            io::ErrorKind::InvalidFilename => Reason::Name("it is too long").of(name),
            _ if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP) => {
                Reason::Through.of(name)
            }
            _ => {
                let text = format!("{}: {error}", String::from_utf8_lossy(name.raw()));
                Self::Disk(io::Error::new(error.kind(), text))
            }
        }
    }
}
