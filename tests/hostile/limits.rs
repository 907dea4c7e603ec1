//! Archives that are small and become large: more bytes, more entries, more to remember than anyone means.

use super::plan::{FORMATS, Item, Seed, Shape, Thing, gzip, squeeze, write};
use super::tar::{self, Block, pax};
use super::zip::{self, Parts};
use super::{Case, Who};

/// A little more than [`super::LIMITS`] allow.
const MUCH: usize = 13 << 20;
/// Less than they allow, and more than the ratio does.
const DENSE: usize = 11 << 20;
const MANY: usize = 401;

type Row = (String, Vec<u8>);
type Make = fn(usize) -> Item;

pub(super) fn bombs(seed: &mut Seed, _outside: &str) -> Vec<Case> {
    let groups: [(Vec<Row>, &'static [&'static str]); 4] = [
        (large(), &["unpacks to more than 12 MiB"]),
        (dense(seed), &["unpacks to more than"]),
        (many(), &["more than 400 entries"]),
        (
            wide(),
            &[
                "names in it are longer",
                "too often",
                "more than 400 entries",
            ],
        ),
    ];
    let mut cases = Vec::new();
    for (rows, reasons) in groups {
        let rows = rows.into_iter();
        cases.extend(rows.map(|(label, bytes)| Case::new(label, bytes, Who::Either, reasons)));
    }
    cases
}

fn large() -> Vec<Row> {
    let mut rows = Vec::new();
    for count in [1, 3] {
        let content = vec![0; MUCH / count];
        let files = |n: usize| Block::file(format!("f{n}"), &content);
        let tar = tar::tar(&(0..count).map(files).collect::<Vec<_>>());
        let raw = squeeze(&tar, flate2::Compression::none());
        let stored = |n: usize| zip::stored(format!("f{n}"), 0o100_644, &content);
        let zip = zip::zip(&(0..count).map(stored).collect::<Vec<_>>());
        rows.push((format!("tar of {count} files"), tar));
        rows.push((format!("tar.gz of {count} files"), raw));
        rows.push((format!("zip of {count} files"), zip));
    }
    for size in [MUCH, 1 << 31, (1 << 33) - 1] {
        let said = tar::tar(&[Block::file("f", "short").sized(tar::octal(size))]);
        rows.push((format!("tar that says {size}"), said.clone()));
        rows.push((format!("tar.gz that says {size}"), gzip(&said)));
    }
    for size in [MUCH, 1 << 31, u32::MAX as usize - 1] {
        let size = u32::try_from(size).expect("fits");
        let entry = zip::deflated("f", 0o100_644, b"short").both(|said| said.size = size);
        rows.push((format!("zip that says {size}"), zip::zip(&[entry])));
        let halves = ["f", "g"].map(|name| {
            zip::deflated(name, 0o100_644, b"short").both(|said| said.size = size / 2 + 1)
        });
        rows.push((format!("zip that says {size} in two"), zip::zip(&halves)));
    }
    rows
}

fn best(bytes: &[u8]) -> Vec<u8> {
    squeeze(bytes, flate2::Compression::best())
}

fn dense(seed: &mut Seed) -> Vec<Row> {
    let mut rows = Vec::new();
    for (pattern, count) in [
        ("\0", 1),
        ("\0", 2),
        ("\0", 11),
        ("\0", 100),
        ("a", 1),
        ("ab", 1),
        ("0123456789\n", 5),
    ] {
        let content = pattern.repeat(DENSE / count / pattern.len() + 1);
        let files = |n: usize| Block::file(format!("f{n}"), &content);
        let tar = tar::tar(&(0..count).map(files).collect::<Vec<_>>());
        rows.push((
            format!("tar.gz of {count} files of {pattern:?}"),
            best(&tar),
        ));
        let once = zip::deflated("f", 0o100_644, content.as_bytes());
        let packed = |n: usize| {
            let name = format!("f{n}").into_bytes();
            once.clone().both(|said| said.name.clone_from(&name))
        };
        let zip = zip::zip(&(0..count).map(packed).collect::<Vec<_>>());
        rows.push((format!("zip of {count} files of {pattern:?}"), zip));
    }
    let file = Block::file("f", seed.bytes(20));
    let comment = vec![b'x'; (1 << 20) - 100];
    let headers: [(&str, Block); 3] = [
        ("pax headers", pax(b'x', &[("comment", &comment)])),
        ("global headers", pax(b'g', &[("comment", &comment)])),
        ("small global headers", pax(b'g', &[("comment", b"x")])),
    ];
    for (label, header) in headers {
        let count = DENSE / header.bytes().len() + 2;
        // Each entry may have one of its kind; those about all may be as many as anyone likes.
        let one = if header.kind == b'g' {
            vec![header]
        } else {
            vec![header, file.clone()]
        };
        let blocks: Vec<_> = (0..count).flat_map(|n| named(&one, n)).collect();
        rows.push((
            format!("tar.gz of {count} {label}"),
            best(&tar::tar(&blocks)),
        ));
    }
    let end = [&tar::tar(&[file])[..], &vec![0; DENSE]].concat();
    rows.push(("tar.gz with a long end".to_owned(), best(&end)));
    let half = best(&vec![0; DENSE / 2]);
    let members = [
        best(&tar::tar(&[Block::file("f", "1")])),
        half.clone(),
        half,
    ]
    .concat();
    rows.push(("tar.gz of members with a long end".to_owned(), members));
    rows
}

fn named(blocks: &[Block], n: usize) -> Vec<Block> {
    let mut blocks = blocks.to_vec();
    if let Some(last) = blocks.last_mut() {
        last.name = format!("f{n}").into_bytes();
    }
    blocks
}

fn many() -> Vec<Row> {
    let kinds: [(&str, Make); 5] = [
        ("files", |n| Item::file(format!("d/f{n}"))),
        ("empty files", |n| {
            Item::new(format!("f{n}"), Thing::File(Vec::new()))
        }),
        ("folders", |n| Item::new(format!("f{n}"), Thing::Folder)),
        ("links", |n| Item::link(format!("f{n}"), "x")),
        ("files in folders of their own", |n| {
            Item::file(format!("d{n}/f"))
        }),
    ];
    let mut rows = Vec::new();
    for (label, item) in kinds {
        for shape in FORMATS {
            let items: Vec<_> = (0..MANY).map(|n| (item(n), false)).collect();
            rows.push((format!("{shape:?} of {MANY} {label}"), write(&items, shape)));
        }
    }
    for shape in FORMATS {
        // Folders that nothing but a path names.
        let deep = |n: usize| {
            (
                Item::file(format!("{}f", format!("d{n}/").repeat(150))),
                false,
            )
        };
        let items: Vec<_> = (0..3).map(deep).collect();
        let shape = match shape {
            Shape::Tar(_) => Shape::Tar(super::plan::Carrier::Pax),
            Shape::Gzip(_) => Shape::Gzip(super::plan::Carrier::Long),
            other @ Shape::Zip(_) => other,
        };
        let items: Vec<_> = items.into_iter().map(|(item, _)| (item, true)).collect();
        rows.push((
            format!("{shape:?} of 450 folders in three paths"),
            write(&items, shape),
        ));
        let mut more: Vec<_> = (0..200)
            .map(|n| (Item::file(format!("d{n}/f")), false))
            .collect();
        more.push((Item::file("last"), false));
        rows.push((
            format!("{shape:?} of 201 files and 200 folders"),
            write(&more, shape),
        ));
    }
    let hard = |n: usize| {
        (
            Item::new(format!("h{n}"), Thing::Hard(b"f".to_vec())),
            false,
        )
    };
    let items: Vec<_> = std::iter::once((Item::file("f"), false))
        .chain((0..MANY).map(hard))
        .collect();
    for shape in &FORMATS[..2] {
        rows.push((
            format!("{shape:?} of {MANY} hard links"),
            write(&items, *shape),
        ));
    }
    let mut counted = Parts::of(&[zip::stored("f", 0o100_644, b"1")]);
    counted.count = 60_000;
    rows.push(("zip that says 60000 entries".to_owned(), counted.bytes()));
    rows
}

fn wide() -> Vec<Row> {
    use super::plan::Carrier::{Field, Long, Pax};
    let mut rows = Vec::new();
    let folder = format!("{}/", "n".repeat(250)).repeat(15);
    let target = format!("{}x", "a/../".repeat(780));
    let next = |n: usize| format!("{}c{n}", "./".repeat(1900));
    for shape in [
        Shape::Tar(Pax),
        Shape::Gzip(Pax),
        Shape::Tar(Long),
        Shape::Gzip(Long),
        Shape::Zip(Field),
    ] {
        let names: Vec<_> = (0..300)
            .map(|n| (Item::file(format!("{folder}f{n}")), true))
            .collect();
        rows.push((format!("{shape:?} of long names"), write(&names, shape)));
        let links: Vec<_> = (0..300)
            .map(|n| (Item::link(format!("l{n}"), &target), true))
            .collect();
        rows.push((format!("{shape:?} of long links"), write(&links, shape)));
        let chain = (0..38).map(|n| (Item::link(format!("c{n}"), next(n + 1)), true));
        let starts = (0..150).map(|n| (Item::link(format!("l{n}"), "c0"), true));
        rows.push((
            format!("{shape:?} of a maze"),
            write(&chain.chain(starts).collect::<Vec<_>>(), shape),
        ));
    }
    rows
}
