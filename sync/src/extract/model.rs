//! What has been unpacked so far, as the archive means it: decides without looking at the disk.

use std::collections::HashMap;

use super::name::Name;
use super::refusal::{Error, Reason};
use crate::beneath::split;

/// Links followed in one path at most, as the kernel does (path_resolution(7)).
const HOPS: u32 = 40;

/// Steps that all links of an archive may take together to be followed: a second's work.
const STEPS: u32 = 4_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// A folder; `Implied` as long as only something in it was named.
    Folder(Named),
    File,
    Link {
        target: Vec<u8>,
        raw: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Itself,
    Implied,
}

/// Path -> what is there.
#[derive(Debug, Default)]
pub(super) struct Model(HashMap<Vec<u8>, Node>);

impl Model {
    pub(super) fn folder(&mut self, name: &Name) -> Result<(), Error> {
        if name.is_root() {
            return Ok(());
        }
        self.parents(name)?;
        match self
            .0
            .insert(name.path().to_vec(), Node::Folder(Named::Itself))
        {
            None | Some(Node::Folder(Named::Implied)) => Ok(()),
            Some(Node::Folder(Named::Itself)) => Err(Reason::Twice.of(name)),
            Some(_) => Err(Reason::KindChanges.of(name)),
        }
    }

    pub(super) fn file(&mut self, name: &Name) -> Result<(), Error> {
        self.place(name, Node::File)
    }

    pub(super) fn link(&mut self, name: &Name, target: &[u8]) -> Result<(), Error> {
        let node = Node::Link {
            target: target.to_vec(),
            raw: name.raw().to_vec(),
        };
        self.place(name, node)
    }

    pub(super) fn hard_link(&mut self, name: &Name, to: &Name) -> Result<(), Error> {
        if self.0.get(to.path()) != Some(&Node::File) {
            return Err(Reason::HardLink.of(name));
        }
        self.place(name, Node::File)
    }

    fn place(&mut self, name: &Name, node: Node) -> Result<(), Error> {
        if name.is_root() {
            return Err(Reason::KindChanges.of(name));
        }
        self.parents(name)?;
        match self.0.get(name.path()) {
            None => {
                self.0.insert(name.path().to_vec(), node);
                Ok(())
            }
            Some(there) if std::mem::discriminant(there) == std::mem::discriminant(&node) => {
                Err(Reason::Twice.of(name))
            }
            Some(_) => Err(Reason::KindChanges.of(name)),
        }
    }

    /// The folders above `name` that nothing has named so far.
    pub(super) fn unnamed<'a>(&self, name: &'a Name) -> impl Iterator<Item = &'a [u8]> {
        let above = |path: &&'a [u8]| Some(split(path).0);
        std::iter::successors(Some(split(name.path()).0), above)
            .take_while(|folder| !folder.is_empty() && !self.0.contains_key(*folder))
    }

    fn parents(&mut self, name: &Name) -> Result<(), Error> {
        let (mut folder, _) = split(name.path());
        while !folder.is_empty() {
            match self.0.get(folder) {
                Some(Node::Folder(_)) => break,
                Some(_) => return Err(Reason::Through.of(name)),
                None => self.0.insert(folder.to_vec(), Node::Folder(Named::Implied)),
            };
            (folder, _) = split(folder);
        }
        Ok(())
    }

    /// Whether every link, followed through all others, stays inside.
    pub(super) fn check_links(&self) -> Result<(), Error> {
        let mut walk = Walk {
            model: self,
            hops: 0,
            steps: 0,
        };
        for (path, node) in &self.0 {
            if let Node::Link { target, raw } = node {
                walk.hops = 0;
                let (folder, _) = split(path);
                walk.follow(folder.to_vec(), target)
                    .map_err(|why| why.of_bytes(raw))?;
            }
        }
        Ok(())
    }
}

/// Following links by what the archive says.
struct Walk<'a> {
    model: &'a Model,
    /// Links followed on this way.
    hops: u32,
    /// Components looked at on all ways.
    steps: u32,
}

impl Walk<'_> {
    fn follow(&mut self, mut at: Vec<u8>, target: &[u8]) -> Result<Vec<u8>, Reason> {
        self.hops += 1;
        if self.hops > HOPS {
            return Err(Reason::LinkCircle);
        }
        if target.first() == Some(&b'/') {
            return Err(Reason::LinkLeaves);
        }
        for part in target.split(|b| *b == b'/') {
            self.steps += 1;
            match part {
                _ if self.steps > STEPS => return Err(Reason::LinkMaze),
                b"" | b"." => {}
                b".." if at.is_empty() => return Err(Reason::LinkLeaves),
                b".." => at.truncate(split(&at).0.len()),
                _ => at = self.step(at, part)?,
            }
        }
        Ok(at)
    }

    fn step(&mut self, mut at: Vec<u8>, part: &[u8]) -> Result<Vec<u8>, Reason> {
        let folder = at.len();
        if folder > 0 {
            at.push(b'/');
        }
        at.extend_from_slice(part);
        match self.model.0.get(&at) {
            Some(Node::Link { target, .. }) => {
                at.truncate(folder);
                self.follow(at, target)
            }
            _ => Ok(at),
        }
    }
}
