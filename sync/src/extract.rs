//! The confined unpacker: puts a zip, `tar.gz` or tar into an empty folder, or refuses it with the entry and the
//! reason.
//!
//! Ensured, whatever the archive says:
//! * nothing is written, linked or changed outside the folder ([`ground`] asks the kernel for that);
//! * each path is written once, as one kind ([`model`]), so the archive means the same to every reader;
//! * time, space, memory and number of entries are bounded ([`Budget`]), folders that only paths name included;
//! * what was cut short, does not match its checksum, or goes on after its end is refused.
//!
//! The tar and zip crates only parse. The format is recognised by content; names of objects say nothing.
//!
//! ```text
//! bytes ─▶ tarball / zipball ─▶ name ─▶ model ─▶ ground ─▶ disk
//!          what it says          is it   may it   can it
//! ```

mod budget;
mod ground;
mod model;
mod name;
mod pax;
mod refusal;
mod tarball;
mod zipball;
mod zipdata;
mod zipend;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

pub use budget::Budget;
pub use refusal::{Error, Reason};

use ground::Ground;
use model::Model;
use name::Name;

use crate::swap;

/// Folders below each other in code. What removes and lists trees holds a descriptor for each.
const DEEPEST: usize = 200;

/// Which links an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Those that stay inside (code).
    Inside,
    /// All: they are made and never followed (a bot's own state, put back as it was).
    All,
}

/// What is unpacked by which rules.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Which links are let in.
    pub links: Links,
    /// The bounds.
    pub budget: Budget,
}

/// Unpacks the archive in `file` into the empty folder `into`.
pub fn unpack(file: &mut File, into: &Path, rules: Rules) -> Result<(), Error> {
    let mut start = [0; 512];
    let got = read_start(file, &mut start)?;
    let size = file.metadata()?.len();
    check_size(rules.budget, size)?;
    let mut target = Target::new(into, rules, size)?;
    match &start[..got] {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => zipball::unpack(file, &mut target)?,
        [0x1f, 0x8b, ..] => {
            let gzip = flate2::bufread::MultiGzDecoder::new(std::io::BufReader::new(file));
            tarball::unpack(gzip, &mut target)?;
        }
        bytes if tarball::is_header(bytes) => tarball::unpack(file, &mut target)?,
        _ => return Err(Reason::Format.of_archive()),
    }
    target.finish()
}

/// Whether an archive of so many bytes can be within the budget at all; asked before it is fetched.
pub fn check_size(budget: Budget, size: u64) -> Result<(), Error> {
    if size > budget.largest_archive() {
        return Err(Reason::Large(size, budget.bytes >> 20).of_archive());
    }
    Ok(())
}

fn read_start(file: &mut File, start: &mut [u8; 512]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < start.len() {
        match file.read(&mut start[got..])? {
            0 => break,
            more => got += more,
        }
    }
    file.rewind()?;
    Ok(got)
}

/// Where entries go: the rules, what has been accepted so far, and the folder.
struct Target {
    rules: Rules,
    spent: budget::Spent,
    model: Model,
    ground: Ground,
}

impl Target {
    fn new(into: &Path, rules: Rules, archive: u64) -> Result<Self, Error> {
        Ok(Self {
            rules,
            spent: rules.budget.begin(archive),
            model: Model::default(),
            ground: Ground::open(into)?,
        })
    }

    /// Counts an entry, with the folders that its path is the first to name, and refuses names that code cannot have.
    fn admit(&mut self, name: &Name) -> Result<(), Error> {
        if self.rules.links == Links::Inside {
            check_place(name).map_err(|why| why.of(name))?;
        }
        let counted = self.spent.entry(name.path().len());
        counted.map_err(|why| why.of(name))?;
        for folder in self.model.unnamed(name) {
            let counted = self.spent.entry(folder.len());
            counted.map_err(|why| why.of(name))?;
        }
        Ok(())
    }

    fn folder(&mut self, name: &Name, mode: u32) -> Result<(), Error> {
        self.admit(name)?;
        self.model.folder(name)?;
        self.ground
            .folder(name, mode)
            .map_err(|error| Error::planting(name, &error))
    }

    /// Writes a file of `size` bytes from `content`, which must have as many.
    fn file(
        &mut self,
        name: &Name,
        mode: u32,
        size: u64,
        content: &mut impl Read,
    ) -> Result<(), Error> {
        self.admit(name)?;
        self.spent.fits(size).map_err(|why| why.of(name))?;
        self.model.file(name)?;
        let mut file = self
            .ground
            .file(name)
            .map_err(|error| Error::planting(name, &error))?;
        self.fill(name, &mut file, size, content)?;
        self.ground
            .set_mode(&file, mode)
            .map_err(|error| Error::planting(name, &error))
    }

    fn fill(
        &mut self,
        name: &Name,
        file: &mut File,
        size: u64,
        content: &mut impl Read,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; 64 << 10];
        let mut rest = size;
        loop {
            let got = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Reason::of_read(&error).of(name)),
            };
            rest = rest
                .checked_sub(got as u64)
                .ok_or_else(|| Reason::LongerThanSaid.of(name))?;
            self.spent.bytes(got as u64).map_err(|why| why.of(name))?;
            std::io::Write::write_all(file, &buffer[..got])
                .map_err(|error| Error::planting(name, &error))?;
        }
        if rest > 0 {
            Err(Reason::Truncated.of(name))
        } else {
            Ok(())
        }
    }

    fn link(&mut self, name: &Name, target: &[u8]) -> Result<(), Error> {
        self.admit(name)?;
        let counted = self.spent.name(target.len());
        counted.map_err(|why| why.of(name))?;
        if target.is_empty() || target.contains(&0) || target.len() > 4095 {
            return Err(Reason::LinkTarget.of(name));
        }
        self.model.link(name, target)?;
        self.ground
            .link(name, target)
            .map_err(|error| Error::planting(name, &error))
    }

    fn hard_link(&mut self, name: &Name, to: &Name) -> Result<(), Error> {
        self.admit(name)?;
        self.model.hard_link(name, to)?;
        self.ground
            .hard_link(name, to)
            .map_err(|error| Error::planting(name, &error))
    }

    /// What can only be said when everything is there: where links lead, and folders' permissions.
    fn finish(self) -> Result<(), Error> {
        if self.rules.links == Links::Inside {
            self.model.check_links()?;
        }
        Ok(self.ground.finish()?)
    }
}

/// Whether code may have something at this place.
fn check_place(name: &Name) -> Result<(), Reason> {
    let mut parts = name.path().split(|b| *b == b'/');
    // A volume has a folder of that name, which a swap leaves alone.
    if parts.next() == Some(swap::LOST.as_bytes()) {
        return Err(Reason::Reserved);
    }
    if parts.count() > DEEPEST {
        return Err(Reason::Name("it is nested too deep"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
