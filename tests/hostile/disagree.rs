//! Zips whose headers say different things of one entry.

use super::plan::Seed;
use super::zip::{self, Zipped, unicode_path};
use super::{Case, Who};

type Lie = fn(&mut Zipped);

pub(super) fn zips(seed: &mut Seed, _outside: &str) -> Vec<Case> {
    let lies: [(&str, Lie); 24] = [
        ("another local name", |e| e.local.name = b"g".to_vec()),
        ("a local name that leads up", |e| {
            e.local.name = b"../owned".to_vec();
        }),
        ("an absolute local name", |e| {
            e.local.name = b"/etc/owned".to_vec();
        }),
        ("a local name in capitals", |e| {
            e.local.name.make_ascii_uppercase();
        }),
        ("a local name with NUL", |e| e.local.name.extend(b"\0.txt")),
        ("a local folder", |e| e.local.name.push(b'/')),
        ("no local name", |e| e.local.name.clear()),
        ("another local checksum", |e| e.local.crc ^= 0x100),
        ("another central checksum", |e| e.central.crc ^= 1),
        ("less packed locally", |e| {
            e.local.packed = e.central.packed - 1;
        }),
        ("more packed locally", |e| {
            e.local.packed = e.central.packed + 1;
        }),
        ("smaller locally", |e| e.local.size = e.central.size - 1),
        ("larger locally", |e| e.local.size = e.central.size + 1),
        ("smaller centrally", |e| e.central.size -= 1),
        ("larger centrally", |e| e.central.size += 1),
        ("less packed centrally", |e| e.central.packed -= 1),
        ("another local method", |e| e.local.method ^= 8),
        ("another central method", |e| e.central.method ^= 8),
        ("encrypted only locally", |e| e.local.flags ^= 1),
        ("encrypted only centrally", |e| e.central.flags ^= 1),
        ("sizes after the data only locally", |e| e.local.flags ^= 8),
        ("another local time", |e| e.local.time += 1),
        ("another path only locally", |e| {
            e.local.extra = unicode_path(&e.local.name, b"../owned");
        }),
        ("another path only centrally", |e| {
            e.central.extra = unicode_path(&e.central.name, b"../owned");
        }),
    ];
    let mut cases = Vec::new();
    for (label, lie) in lies {
        for name in ["f", "d/f.py"] {
            for packed in ["stored", "deflated", "described"] {
                let content = seed.bytes(60);
                let innocent = zip::deflated("innocent.py", 0o100_644, b"1");
                let mut entry = match packed {
                    "stored" => zip::stored(name, 0o100_644, &content),
                    "deflated" => zip::deflated(name, 0o100_755, &content),
                    _ => zip::deflated(name, 0o100_644, &content).described(),
                };
                lie(&mut entry);
                let entries = if seed.below(2) == 0 {
                    [innocent, entry]
                } else {
                    [entry, innocent]
                };
                let label = format!("{packed} {name}: {label}");
                let reasons = &[
                    "disagree",
                    "corrupt",
                    "cut short",
                    "has .. in it",
                    "encrypted",
                    "more data",
                    "overlap",
                ];
                cases.push(Case::new(label, zip::zip(&entries), Who::Either, reasons));
            }
        }
    }
    for (n, after) in descriptors().into_iter().enumerate() {
        let mut entry = zip::deflated("f", 0o100_644, b"owned and owned").described();
        entry.after = after(&entry);
        let bytes = zip::zip(&[entry, zip::stored("g", 0o100_644, b"1")]);
        let reasons = &["disagree", "corrupt", "overlap"];
        cases.push(Case::new(
            format!("after the data, lie {n}"),
            bytes,
            Who::Either,
            reasons,
        ));
    }
    cases
}

fn descriptors() -> [fn(&Zipped) -> Vec<u8>; 4] {
    [
        |e| zip::descriptor(e.central.crc ^ 1, e.central.packed, e.central.size),
        |e| zip::descriptor(e.central.crc, e.central.packed + 1, e.central.size),
        |e| zip::descriptor(e.central.crc, e.central.packed, e.central.size + 1),
        |_| Vec::new(),
    ]
}
