//! Archives that nobody should make, in families known from public advisories, and archives that everybody makes.
//!
//! A family varies what its trick can vary: the format, the field that carries it, its spelling, its depth, its place
//! among innocent entries. Everything is made from a seed, so the same archives come out each time; of each it is known
//! what the refusal says. `hostile/proof.rs` runs the real `sync` on them, `bench` other unpackers.

mod damage;
mod disagree;
mod good;
mod headers;
mod hidden;
mod kinds;
mod limits;
mod links;
mod names;
mod plan;
mod tar;
mod zip;

use std::path::Path;

pub use good::{Good, good};
pub use plan::Seed;

/// The limits that the families of bombs are made for, as the variables that set them.
pub const LIMITS: [(&str, &str); 3] = [
    ("THE0_MAX_UNPACKED_MB", "12"),
    ("THE0_MAX_UNPACKED_ENTRIES", "400"),
    ("THE0_MAX_UNPACKED_RATIO", "100"),
];

/// Whom a refusal names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// This entry.
    Entry(Vec<u8>),
    /// The archive as a whole.
    Archive,
    /// One or the other, as what is damaged is where names are.
    Either,
}

/// One archive.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is done in it.
    pub label: String,
    /// The archive.
    pub bytes: Vec<u8>,
    /// Whom the refusal names.
    pub who: Who,
    /// What it says: one of these.
    pub reasons: &'static [&'static str],
}

impl Case {
    fn new(
        label: impl Into<String>,
        bytes: Vec<u8>,
        who: Who,
        reasons: &'static [&'static str],
    ) -> Self {
        Self {
            label: label.into(),
            bytes,
            who,
            reasons,
        }
    }

    /// An archive that nobody refuses, as a case.
    pub fn harmless(label: String, bytes: Vec<u8>) -> Self {
        Self::new(label, bytes, Who::Either, &[])
    }

    /// Whether `said` names the entry and one of the reasons.
    pub fn is_told_by(&self, said: &str) -> bool {
        let named = match &self.who {
            Who::Entry(name) => {
                said.contains(&format!("entry {:?} is", String::from_utf8_lossy(name)))
            }
            Who::Archive => said.contains("the archive is refused"),
            Who::Either => said.contains("refused"),
        };
        named && self.reasons.iter().any(|reason| said.contains(reason))
    }
}

/// A trick, with the archives that play it.
#[derive(Debug)]
pub struct Family {
    /// What it is called.
    pub name: &'static str,
    make: fn(&mut Seed, &str) -> Vec<Case>,
}

impl Family {
    /// Its archives; those that write by an absolute path do so below `outside`.
    ///
    /// # Panics
    /// Where `outside` is not UTF-8.
    pub fn cases(&self, outside: &Path) -> Vec<Case> {
        let outside = outside.to_str().expect("a folder of the test's own");
        (self.make)(&mut Seed::new(self.name), outside)
    }
}

/// All of them. Made one at a time: some are large.
pub const FAMILIES: [Family; 14] = [
    Family {
        name: "names that lead up",
        make: names::upward,
    },
    Family {
        name: "absolute names",
        make: names::absolute,
    },
    Family {
        name: "invalid names",
        make: names::invalid,
    },
    Family {
        name: "symbolic links out",
        make: links::symbolic,
    },
    Family {
        name: "hard links out",
        make: links::hard,
    },
    Family {
        name: "paths through links",
        make: links::through,
    },
    Family {
        name: "special files",
        make: kinds::special,
    },
    Family {
        name: "one path, two things",
        make: kinds::changing,
    },
    Family {
        name: "tar headers that lie",
        make: headers::tars,
    },
    Family {
        name: "zip headers that disagree",
        make: disagree::zips,
    },
    Family {
        name: "hidden and overlapping data",
        make: hidden::hidden,
    },
    Family {
        name: "damaged gzips",
        make: damage::gzips,
    },
    Family {
        name: "damaged and encrypted zips",
        make: damage::zips,
    },
    Family {
        name: "bombs",
        make: limits::bombs,
    },
];
