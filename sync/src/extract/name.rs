//! An entry's name as a path that can only be inside.

use super::refusal::{Error, Reason};
use crate::swap::NEW;

/// A relative path without empty, `.` or `..` components. No components: the folder itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    raw: Vec<u8>,
    path: Vec<u8>,
}

/// How the format writes names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A backslash is a character like others.
    Tar,
    /// A backslash is a folder's separator to some readers, and what is not UTF-8 is read by various tables, so a name
    /// with either has more than one meaning.
    Zip,
}

impl Name {
    /// Checks the name `raw`.
    pub(super) fn parse(raw: &[u8], style: Style) -> Result<Self, Error> {
        let path = check(raw, style).map_err(|why| why.of_bytes(raw))?;
        Ok(Self {
            raw: raw.to_vec(),
            path,
        })
    }

    /// As the archive has it.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// As a path below the folder.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether the folder itself is named.
    pub(super) fn is_root(&self) -> bool {
        self.path.is_empty()
    }
}

fn check(raw: &[u8], style: Style) -> Result<Vec<u8>, Reason> {
    match raw {
        [] => return Err(Reason::Name("it is empty")),
        _ if raw.contains(&0) => return Err(Reason::Name("it has a NUL in it")),
        [b'/', ..] => return Err(Reason::Absolute),
        _ if raw.len() > 4095 => return Err(Reason::Name("it is too long")),
        _ => {}
    }
    if style == Style::Zip {
        check_zip(raw)?;
    }
    let mut path = Vec::with_capacity(raw.len());
    for part in raw.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(Reason::DotDot),
            _ if part.len() > 255 => return Err(Reason::Name("a part of it is too long")),
            _ if path.is_empty() && part == NEW.as_bytes() => return Err(Reason::Reserved),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    Ok(path)
}

fn check_zip(raw: &[u8]) -> Result<(), Reason> {
    if std::str::from_utf8(raw).is_err() {
        return Err(Reason::Name("it is not UTF-8"));
    }
    if raw.contains(&b'\\') {
        return Err(Reason::Name("it has a backslash in it"));
    }
    if raw.get(1) == Some(&b':') && raw[0].is_ascii_alphabetic() {
        return Err(Reason::Absolute);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_inside_or_are_refused() {
        let path = |raw: &str| {
            Name::parse(raw.as_bytes(), Style::Zip).map(|n| String::from_utf8(n.path).unwrap())
        };
        for (raw, expected) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("./", ""),
            ("a.b/..c", "a.b/..c"),
        ] {
            assert_eq!(path(raw).unwrap(), expected);
        }
        let long = "x".repeat(256);
        for raw in [
            "",
            "/a",
            "..",
            "a/../b",
            "a\0b",
            "a\\..\\b",
            "C:/x",
            ".the0-new/x",
            &long,
        ] {
            assert!(path(raw).is_err(), "{raw}");
        }
    }
}
