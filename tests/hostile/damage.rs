//! Archives that are damaged, cut, or cannot be read without a secret.

use super::plan::{Seed, gzip};
use super::tar::{self, Block};
use super::zip::{self, Parts};
use super::{Case, Who};

pub(super) fn gzips(seed: &mut Seed, _outside: &str) -> Vec<Case> {
    let reasons = &["corrupt", "cut short", "data after", "neither"];
    let mut cases = Vec::new();
    let mut add = |label: String, bytes: Vec<u8>| {
        cases.push(Case::new(label, bytes, Who::Either, reasons));
    };
    let tar = tar::tar(&[
        Block::file("f", seed.bytes(3000)),
        Block::file("d/g", "text ".repeat(200)),
    ]);
    let good = gzip(&tar);
    for part in 1..20 {
        let at = good.len() * part / 20;
        add(format!("cut at {at}"), good[..at].to_vec());
    }
    for back in 1..=9 {
        add(
            format!("without its last {back}"),
            good[..good.len() - back].to_vec(),
        );
    }
    for back in 1..=8 {
        let mut bytes = good.clone();
        let at = bytes.len() - back;
        bytes[at] ^= 1 << seed.below(8);
        add(format!("checksum or length flipped at -{back}"), bytes);
    }
    for _ in 0..20 {
        let at = 11 + seed.below(good.len() - 20);
        let mut bytes = good.clone();
        bytes[at] ^= 1 << seed.below(8);
        add(format!("data flipped at {at}"), bytes);
    }
    for method in [0, 1, 7, 9, 255] {
        add(
            format!("method {method}"),
            [&[0x1f, 0x8b, method], &good[3..]].concat(),
        );
    }
    for flag in [0x20, 0x40, 0x80, 0xe0] {
        add(
            format!("reserved flags {flag:x}"),
            [&good[..3], &[flag], &good[4..]].concat(),
        );
    }
    let with =
        |flag: u8, field: &[u8]| [&good[..3], &[flag], &good[4..10], field, &good[10..]].concat();
    add(
        "an extra field longer than the file".into(),
        with(4, &[0xff, 0xff, 1]),
    );
    add(
        "a name without an end".into(),
        with(8, &good.iter().map(|b| b | 1).collect::<Vec<_>>())[..500].to_vec(),
    );
    add("a wrong checksum of the header".into(), with(2, &[0, 0]));
    let second = [&good[..], &good[..good.len() - 5]].concat();
    add("a second member cut".into(), second);
    for more in [
        &b"more"[..],
        b"\x1f\x8b",
        b"\x1f\x8b\x08\x00",
        &[0; 1],
        &[0; 512],
    ] {
        add(
            format!("followed by {} bytes of {:?}", more.len(), more[0]),
            [&good[..], more].concat(),
        );
    }
    let members = |at: usize| [gzip(&tar[..at]), gzip(&tar[at..])];
    for at in [100, 512, 2000] {
        let [mut one, two] = members(at);
        let end = one.len() - 6;
        one[end] ^= 4;
        add(
            format!("two members at {at}, the first damaged"),
            [one, two].concat(),
        );
        let [one, _] = members(at);
        add(format!("the first of two members at {at}"), one);
    }
    cases
}

pub(super) fn zips(seed: &mut Seed, _outside: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |label: String, bytes: Vec<u8>, reasons| {
        cases.push(Case::new(label, bytes, Who::Either, reasons));
    };
    for (label, entry) in locked(seed) {
        let bytes = zip::zip(&[zip::stored("innocent", 0o100_644, b"1"), entry]);
        add(
            label,
            bytes,
            &["encrypted", "method", "disagree", "corrupt"],
        );
    }
    let broken = &[
        "corrupt",
        "cut short",
        "data after",
        "data before",
        "disagree",
        "neither",
        "method",
        "encrypted",
        "overlap",
        "more than",
    ];
    let entries = [
        zip::deflated("d/f", 0o100_644, &seed.bytes(500)),
        zip::deflated("text", 0o100_644, "text ".repeat(200).as_bytes()),
        zip::stored("raw", 0o100_644, &seed.bytes(300)),
    ];
    let parts = Parts::of(&entries);
    let good = parts.bytes();
    for part in 1..16 {
        let at = good.len() * part / 16;
        add(format!("cut at {at}"), good[..at].to_vec(), broken);
    }
    for back in [1, 2, 5, 21, 22, 23] {
        add(
            format!("without its last {back}"),
            good[..good.len() - back].to_vec(),
            broken,
        );
    }
    // In the data of the entries, where a checksum sees it.
    let data = [(34, 480), (parts.locals.len() - 290, 280)];
    for (from, length) in data {
        for _ in 0..12 {
            let at = from + seed.below(length);
            let mut bytes = good.clone();
            bytes[at] ^= 1 << seed.below(8);
            add(format!("flipped at {at}"), bytes, broken);
        }
    }
    let end = good.len() - 22;
    let ends = [
        (4, "disk"),
        (6, "disk of the list"),
        (8, "entries here"),
        (10, "entries"),
        (12, "size of the list"),
        (16, "start of the list"),
        (20, "length of the comment"),
    ];
    for (at, label) in ends {
        for change in [1, 0xff] {
            let mut bytes = good.clone();
            bytes[end + at] = bytes[end + at].wrapping_add(change);
            add(format!("{label} off by {change}"), bytes, broken);
        }
    }
    for (at, label) in [(0, "local"), (parts.locals.len(), "central"), (end, "end")] {
        let mut bytes = good.clone();
        bytes[at + 3] ^= 0x10;
        add(format!("{label} signature"), bytes, broken);
    }
    let mut wide = parts.clone();
    wide.before_end = parts.end64();
    let wide = wide.bytes();
    let record = parts.locals.len() + parts.list.len();
    for (at, label) in [
        (4, "size"),
        (16, "disk"),
        (24, "entries here"),
        (32, "entries"),
        (40, "size of the list"),
        (48, "start of the list"),
        (56 + 8, "place"),
    ] {
        let mut bytes = wide.clone();
        bytes[record + at] ^= 3;
        add(format!("64-bit end: {label}"), bytes, broken);
    }
    cases
}

/// Entries that need a password or a method nobody has.
fn locked(seed: &mut Seed) -> Vec<(String, zip::Zipped)> {
    let mut all = Vec::new();
    for method in [
        1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 93, 94, 95, 96, 97, 98,
        100, 65535,
    ] {
        let entry = zip::stored("f", 0o100_644, &seed.bytes(40));
        all.push((
            format!("method {method}"),
            entry.both(|said| said.method = method),
        ));
    }
    for flags in [1, 1 | 8, 1 | 64, 1 | 64 | 8192, 1 | 2048] {
        for method in [0, 8] {
            let entry = zip::stored("f", 0o100_644, &seed.bytes(40));
            let entry = entry.both(|said| (said.flags, said.method) = (flags, method));
            all.push((format!("flags {flags:x}, method {method}"), entry));
        }
    }
    let aes = zip::extra(0x9901, &[2, 0, b'A', b'E', 3, 8, 0]);
    let entry = zip::stored("f", 0o100_644, &seed.bytes(40));
    let entry = entry.both(|said| (said.flags, said.method, said.extra) = (1, 99, aes.clone()));
    all.push(("AES".to_owned(), entry));
    all
}
