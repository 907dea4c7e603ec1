//! Data that one reader sees and another does not: after the end, before the start, between entries, twice.

use super::plan::{Seed, gzip};
use super::tar::{self, Block};
use super::zip::{self, Parts, Zipped};
use super::{Case, Who};

const REASONS: &[&str] = &[
    "data after",
    "data before",
    "overlap",
    "disagree",
    "corrupt",
    "cut short",
    "neither",
    "twice",
];

pub(super) fn hidden(seed: &mut Seed, _outside: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |label: String, bytes: Vec<u8>| {
        cases.push(Case::new(label, bytes, Who::Either, REASONS));
    };
    for count in [1, 2, 5] {
        for (label, bytes) in tars(seed, count) {
            add(format!("tar of {count}: {label}"), bytes.clone());
            add(format!("tar.gz of {count}: {label}"), gzip(&bytes));
        }
        for (label, bytes) in gzips(seed, count).into_iter().chain(zips(seed, count)) {
            add(format!("{label}, of {count}"), bytes);
        }
    }
    cases
}

fn files(seed: &mut Seed, count: usize) -> Vec<Block> {
    (0..count)
        .map(|n| Block::file(format!("f{n}"), seed.bytes(20 * n)))
        .collect()
}

fn tars(seed: &mut Seed, count: usize) -> Vec<(&'static str, Vec<u8>)> {
    let good = tar::tar(&files(seed, count));
    let open = good[..good.len() - 1024].to_vec();
    let more = Block::file("../owned", "owned").bytes();
    let zip = zip::zip(&[zip::stored("../owned", 0o100_644, b"owned")]);
    vec![
        (
            "a tar after its end",
            [&good[..], &tar::tar(&files(seed, 1))].concat(),
        ),
        ("an entry after its end", [&good[..], &more].concat()),
        (
            "an entry after one empty block",
            [&open[..], &[0; 512], &more, &[0; 1024]].concat(),
        ),
        ("text after its end", [&good[..], b"more"].concat()),
        (
            "a byte far after its end",
            [&good[..], &[0; 9000], &[1]].concat(),
        ),
        ("a zip after its end", [&good[..], &zip].concat()),
        ("a gzip after its end", [&good[..], &gzip(&good)].concat()),
        ("no end", open),
    ]
}

fn gzips(seed: &mut Seed, count: usize) -> Vec<(String, Vec<u8>)> {
    let tar = tar::tar(&files(seed, count));
    let good = gzip(&tar);
    let zip = zip::zip(&[zip::stored("f", 0o100_644, &seed.bytes(9))]);
    let row = |label: &str, bytes: Vec<u8>| (label.to_owned(), bytes);
    vec![
        row("a gzip of a second tar", [&good[..], &gzip(&tar)].concat()),
        row(
            "a gzip of text after a gzip",
            [&good[..], &gzip(b"more")].concat(),
        ),
        row("text after a gzip", [&good[..], b"more"].concat()),
        row("a zip after a gzip", [&good[..], &zip].concat()),
        row("a gzip of a gzip", gzip(&good)),
        row("a gzip of a zip", gzip(&zip)),
    ]
}

fn zips(seed: &mut Seed, count: usize) -> Vec<(String, Vec<u8>)> {
    let entries: Vec<Zipped> = (0..=count)
        .map(|n| zip::deflated(format!("f{n}"), 0o100_644, &seed.bytes(30 + n)))
        .collect();
    let good = Parts::of(&entries);
    let plain = good.bytes();
    let row = |label: &str, bytes: Vec<u8>| (label.to_owned(), bytes);
    let mut rows = vec![
        row("text after a zip", [&plain[..], b"more"].concat()),
        row("a zip after a zip", [&plain[..], &plain].concat()),
        row(
            "a tar after a zip",
            [&plain[..], &tar::tar(&files(seed, 1))].concat(),
        ),
        row(
            "an entry before a zip",
            [b"PK\x03\x04 and more".as_slice(), &plain].concat(),
        ),
        row("a zip before a zip whose offsets know nothing of it", {
            let first = zip::zip(&[zip::stored("../owned", 0o100_644, b"owned")]);
            [&first[..], &plain].concat()
        }),
    ];
    let mut unlisted = good.clone();
    let evil = Parts::of(&[zip::stored("../owned", 0o100_644, b"owned")]);
    unlisted.locals.extend(evil.locals);
    rows.push(row("an entry that is not in the list", unlisted.bytes()));
    let mut between = good.clone();
    between.before_end = b"between list and end".to_vec();
    rows.push(row("data between list and end", between.bytes()));
    let mut ended = good.clone();
    ended.comment = good.end();
    rows.push(row("an end in the comment", ended.bytes()));
    let mut two = good.clone();
    two.before_end = good.end();
    rows.push(row("two ends", two.bytes()));
    rows.extend(overlaps(&entries));
    rows
}

/// Entries that share data, which makes a few kilobytes petabytes.
fn overlaps(entries: &[Zipped]) -> Vec<(String, Vec<u8>)> {
    let mut same = entries.to_vec();
    let mut copy = same[0].clone();
    copy.central.name = b"other".to_vec();
    copy.start = Some(0);
    same.push(copy);
    let parts = Parts::of(&same);
    let mut without = parts.clone();
    without.locals.truncate(Parts::of(entries).locals.len());
    // An entry whose data is the next entry, header and all.
    let inner = entries[entries.len() - 1].clone();
    let hidden = Parts::of(std::slice::from_ref(&inner)).locals;
    let outer = zip::stored("outer", 0o100_644, &hidden);
    let mut quoting = Parts::of(std::slice::from_ref(&outer));
    let start = u32::try_from(quoting.locals.len() - hidden.len()).expect("fits");
    let mut pointing = inner;
    pointing.start = Some(start);
    let listed = Parts::of(&[outer, pointing]);
    (quoting.list, quoting.count) = (listed.list, 2);
    vec![
        ("two names of one entry".to_owned(), without.bytes()),
        (
            "two names of one entry, and a third entry not listed".to_owned(),
            parts.bytes(),
        ),
        ("an entry within another".to_owned(), quoting.bytes()),
    ]
}
