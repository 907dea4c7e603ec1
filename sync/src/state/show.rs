//! States and their differences, as a person or a program reads them.

use std::cmp::Ordering;
use std::fmt::Write;
use std::io;

use contract::Digest;
use contract::record::Time;
use serde::Serialize;

use crate::tree::{Entry, Kind, Tree};

/// One state in the store.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// Its key.
    pub key: String,
    /// When it was kept; of the current one, when it was written, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Bytes of the archive.
    pub size: u64,
    /// The claim under which it was pushed; `None`: somebody put it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The run of the bot that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// The digest of what is in it, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Why it was kept; `current` for the one that counts.
    pub reason: String,
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let heads = [
        "NAME",
        "TIME",
        "SIZE",
        "GENERATION",
        "RUN",
        "DIGEST",
        "REASON",
    ];
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
    let cells = |row: &Row| {
        let digest = row.digest.as_ref().map_or("-", Digest::short);
        [
            row.name.clone(),
            row.time.map_or("-".to_owned(), |time| time.to_string()),
            row.size.to_string(),
            number(row.generation),
            number(row.run),
            digest.to_owned(),
            row.reason.clone(),
        ]
    };
    let all: Vec<[String; 7]> = std::iter::once(heads.map(str::to_owned))
        .chain(rows.iter().map(cells))
        .collect();
    let width = |column: usize| all.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for row in all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// An entry that is in one of two states only.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Lone {
    path: String,
    kind: &'static str,
    size: u64,
}

/// An entry that is in both and is not the same.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    path: String,
    from: Lone,
    to: Lone,
}

/// What leads from one state to another.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// What the states are called.
    pub from: String,
    /// See `from`.
    pub to: String,
    added: Vec<Lone>,
    removed: Vec<Lone>,
    changed: Vec<Changed>,
}

impl Lone {
    fn of(entry: &Entry) -> Self {
        Self {
            path: String::from_utf8_lossy(&entry.path).into_owned(),
            kind: match entry.kind {
                Kind::Folder => "folder",
                Kind::File => "file",
                Kind::Link => "link",
            },
            size: entry.size,
        }
    }

    fn name(&self) -> String {
        let end = if self.kind == "folder" { "/" } else { "" };
        format!("{}{end}", self.path.escape_debug())
    }
}

impl Diff {
    /// Compares two trees, both sorted by path and hashed.
    pub fn of(from: &Tree, to: &Tree) -> Self {
        let mut diff = Self::default();
        let (mut old, mut new) = (from.entries.iter().peekable(), to.entries.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return diff,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.path.cmp(&b.path),
            };
            let gone = old.next_if(|_| order != Ordering::Greater);
            let come = new.next_if(|_| order != Ordering::Less);
            match (gone, come) {
                (Some(a), Some(b)) => diff.compare(a, b),
                (Some(a), None) => diff.removed.push(Lone::of(a)),
                (None, Some(b)) => diff.added.push(Lone::of(b)),
                (None, None) => {}
            }
        }
    }

    fn compare(&mut self, old: &Entry, new: &Entry) {
        let of = |entry: &Entry| (entry.kind, entry.mode, entry.size, entry.hash);
        if of(old) != of(new) {
            self.changed.push(Changed {
                path: String::from_utf8_lossy(&new.path).into_owned(),
                from: Lone::of(old),
                to: Lone::of(new),
            });
        }
    }

    /// As lines: `+` added, `-` removed, `~` changed, each with its size in bytes.
    pub fn lines(&self) -> String {
        let mut text = format!("{} -> {}\n", self.from, self.to);
        for lone in &self.added {
            let _ = writeln!(text, "+ {}  {}", lone.name(), lone.size);
        }
        for lone in &self.removed {
            let _ = writeln!(text, "- {}  {}", lone.name(), lone.size);
        }
        for Changed { from, to, .. } in &self.changed {
            let _ = writeln!(text, "~ {}  {} -> {}", to.name(), from.size, to.size);
        }
        if self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() {
            text += "the same\n";
        }
        text
    }
}

/// Writes to standard output; a reader that has seen enough is no failure.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = io::Write::write_all(&mut out, text.as_bytes());
    match written.and_then(|()| io::Write::flush(&mut out)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// [`print`] as JSON.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_difference_names_what_came_went_and_changed() {
        let dir = tempfile::tempdir().unwrap();
        let state = |name: &str, files: &[(&str, &str)]| {
            let root = dir.path().join(name);
            fs::create_dir_all(root.join("d")).unwrap();
            for (path, content) in files {
                fs::write(root.join(path), content).unwrap();
            }
            crate::tree::read(&root).unwrap()
        };
        let old = state(
            "old",
            &[("a", "1"), ("d/b", "12"), ("same", "s"), ("z", "")],
        );
        let new = state(
            "new",
            &[("c", "123"), ("d/b", "13"), ("same", "s"), ("zz", "")],
        );
        let mut diff = Diff::of(&old, &new);
        (diff.from, diff.to) = ("old".into(), "new".into());
        let expected = "old -> new\n+ c  3\n+ zz  0\n- a  1\n- z  0\n~ d/b  2 -> 2\n";
        assert_eq!(diff.lines(), expected);
        assert!(Diff::of(&new, &new).lines().ends_with("the same\n"));
    }

    #[test]
    fn a_table_lines_up_and_says_what_is_not_known() {
        let row = |name: &str, generation| Row {
            name: name.into(),
            key: "k".into(),
            time: None,
            size: 10,
            generation,
            run: None,
            digest: None,
            reason: "push".into(),
        };
        let text = table(&[
            row("current", None),
            row("20261121T082101.123Z-g3-push", Some(3)),
        ]);
        let lines: Vec<_> = text.lines().collect();
        let column = lines[0].find("SIZE").unwrap();
        assert!(
            lines[1..]
                .iter()
                .all(|line| line[column..].starts_with("10")),
            "{text}"
        );
        assert!(lines[1].contains('-') && lines[2].contains(" 3 "), "{text}");
    }
}
