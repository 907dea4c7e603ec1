//! What follows the data of a zip's entry: its checksum and sizes once more, where flag 3 says so (APPNOTE 4.3.9).
//!
//! Who reads the archive as a stream believes this, who has the whole file the list at its end: they must agree.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::refusal::Reason;

/// An entry as the list describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described {
    /// Where its own header begins.
    pub(super) header: u64,
    /// Where its data ends.
    pub(super) end: u64,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
}

impl Described {
    /// Whether what follows the data agrees, if anything does.
    pub(super) fn check(self, file: &File) -> Result<(), Reason> {
        let mut flags = [0; 2];
        file.read_exact_at(&mut flags, self.header + 6)
            .map_err(|error| Reason::of_read(&error))?;
        if flags[0] & 8 == 0 {
            return Ok(());
        }
        let mut found = [0; 24];
        let got = read_some(file, &mut found, self.end).map_err(|error| Reason::of_read(&error))?;
        let found = found[..got]
            .strip_prefix(b"PK\x07\x08")
            .unwrap_or(&found[..got]);
        if found.starts_with(&self.said()) || found.starts_with(&self.said_short()) {
            Ok(())
        } else {
            let why = "what follows its data is not what the list says".to_owned();
            Err(Reason::Disagreement(why))
        }
    }

    fn said(&self) -> Vec<u8> {
        let sizes = [self.packed.to_le_bytes(), self.size.to_le_bytes()];
        [&self.crc.to_le_bytes()[..], &sizes.concat()].concat()
    }

    fn said_short(&self) -> Vec<u8> {
        let short = |size: u64| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
        let sizes = [short(self.packed), short(self.size)];
        [&self.crc.to_le_bytes()[..], &sizes.concat()].concat()
    }
}

fn read_some(file: &File, into: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match file.read_at(&mut into[got..], at + got as u64)? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}
