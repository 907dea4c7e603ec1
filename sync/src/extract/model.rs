//! What has been unpacked so far, as the archive means it: decides without looking at the disk.

use std::collections::HashMap;

use super::name::Name;
use super::refusal::{Error, Reason};
use crate::beneath::split;

/// Links followed in one path at most, as the kernel does (path_resolution(7)).
const HOPS: u32 = 40;

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
        for (path, node) in &self.0 {
            if let Node::Link { target, raw } = node {
                let (folder, _) = split(path);
                self.resolve(folder.to_vec(), target, &mut 0)
                    .map_err(|why| why.of_bytes(raw))?;
            }
        }
        Ok(())
    }

    fn resolve(&self, mut at: Vec<u8>, target: &[u8], hops: &mut u32) -> Result<Vec<u8>, Reason> {
        *hops += 1;
        if *hops > HOPS {
            return Err(Reason::LinkCircle);
        }
        if target.first() == Some(&b'/') {
            return Err(Reason::LinkLeaves);
        }
        for part in target.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." if at.is_empty() => return Err(Reason::LinkLeaves),
                b".." => at = split(&at).0.to_vec(),
                _ => at = self.step(at, part, hops)?,
            }
        }
        Ok(at)
    }

    fn step(&self, mut at: Vec<u8>, part: &[u8], hops: &mut u32) -> Result<Vec<u8>, Reason> {
        let folder = at.clone();
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(part);
        match self.0.get(&at) {
            Some(Node::Link { target, .. }) => self.resolve(folder, target, hops),
            _ => Ok(at),
        }
    }
}
