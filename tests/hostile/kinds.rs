//! Things that are no files, and paths that are two things.

use super::plan::{Carrier, FORMATS, Item, NAMING, Seed, Shape, Thing, among, write};
use super::zip;
use super::{Case, Who};

pub(super) fn special(seed: &mut Seed, _outside: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds = [
        (b'3', 0o020_000, &["device"]),
        (b'4', 0o060_000, &["device"]),
        (b'6', 0o010_000, &["FIFO"]),
    ];
    for (letter, kind, reasons) in kinds {
        for name in ["null", "dev/sda", "a/b/c", "run.py"] {
            for shape in NAMING.iter().filter(|shape| shape.takes(name.as_bytes())) {
                let items = among(seed, &[Item::new(name, Thing::Special(letter, kind))]);
                let label = format!("{shape:?} {name} as {}", char::from(letter));
                let who = match shape {
                    Shape::Zip(Carrier::UnicodePath) => Who::Either,
                    _ => Who::Entry(name.into()),
                };
                let reasons: &[&str] = match shape {
                    Shape::Zip(Carrier::UnicodePath) => &["device", "FIFO", "disagree"],
                    _ => reasons,
                };
                cases.push(Case::new(label, write(&items, *shape), who, reasons));
            }
        }
    }
    for kind in [
        0o140_000, 0o150_000, 0o160_000, 0o030_000, 0o070_000, 0o110_000,
    ] {
        for (system, name) in [(3, "socket"), (19, "mac"), (3, "d/door")] {
            let mut entry = zip::stored(name, kind | 0o644, b"");
            entry.system = system;
            let label = format!("zip of system {system}, {name} as {kind:o}");
            let who = Who::Entry(name.into());
            let reasons = &["socket", "not supported"];
            cases.push(Case::new(label, zip::zip(&[entry]), who, reasons));
        }
    }
    for letter in *b"ADMNVXEI89" {
        for shape in &FORMATS[..2] {
            let items = among(seed, &[Item::new("odd", Thing::Special(letter, 0))]);
            let label = format!("{shape:?} kind {}", char::from(letter));
            let who = Who::Entry(b"odd".to_vec());
            cases.push(Case::new(
                label,
                write(&items, *shape),
                who,
                &["not supported"],
            ));
        }
    }
    cases
}

pub(super) fn changing(seed: &mut Seed, _outside: &str) -> Vec<Case> {
    let things: [fn(&str) -> Item; 4] = [
        |name| Item::file(name),
        |name| Item::new(name, Thing::Folder),
        |name| Item::link(name, "elsewhere"),
        // Named only by what is in it.
        |name| Item::file(format!("{name}/in")),
    ];
    let mut cases = Vec::new();
    for (n, first) in things.iter().enumerate() {
        for (m, second) in things.iter().enumerate() {
            if matches!((n, m), (1 | 3, 3) | (3, 1)) && (n, m) != (3, 3) {
                continue;
            }
            for (one, other) in [
                ("p", "p"),
                ("p", "./p"),
                ("d/p", "d//p"),
                ("./d/./p", "d/p"),
            ] {
                for shape in FORMATS {
                    let items = [first(one), second(other)];
                    let label = format!("{shape:?} {items:?}");
                    let name = &items[1].name;
                    let who = match items[1].thing {
                        Thing::Folder if !shape.is_tar() => [name, &b"/"[..]].concat(),
                        _ => name.clone(),
                    };
                    let reasons = &["two kinds", "twice", "through a link or a file"];
                    let bytes = write(&among(seed, &items), shape);
                    cases.push(Case::new(label, bytes, Who::Entry(who), reasons));
                }
            }
        }
    }
    let odd = [
        ("d/", 0o100_644, &b""[..], "two kinds"),
        ("d/", 0o120_777, b"x", "two kinds"),
        ("d", 0o040_755, b"", "two kinds"),
        ("d/", 0o040_755, b"x", "has content"),
    ];
    for (name, mode, content, _) in odd {
        let bytes = zip::zip(&[zip::stored(name, mode, content)]);
        let label = format!("zip {name} of mode {mode:o}");
        let reasons = &["two kinds", "has content"];
        cases.push(Case::new(label, bytes, Who::Entry(name.into()), reasons));
    }
    cases
}
