//! Headers that two readers would read differently.

use super::plan::{Seed, gzip};
use super::tar::{self, Block, Magic, long, pax, record};
use super::{Case, Who};

/// One trick: what it is called, the headers, and whom the refusal names.
type Trick = (String, Vec<Block>, Who);

pub(super) fn tars(seed: &mut Seed, outside: &str) -> Vec<Case> {
    let groups: [(Vec<Trick>, &'static [&'static str]); 8] = [
        (
            sizes(),
            &[
                "corrupt",
                "unpacks to more",
                "cut short",
                "neither",
                "has content",
            ],
        ),
        (records(), &["corrupt", "disagree"]),
        (pax_sizes(), &["disagree", "corrupt"]),
        (twice(), &["disagree"]),
        (of_all(), &["disagree"]),
        (disguises(), &["not supported"]),
        (prefixes(outside), &["disagree"]),
        (
            loose(),
            &["cut short", "too long", "has content", "corrupt", "neither"],
        ),
    ];
    let mut cases = Vec::new();
    for (tricks, reasons) in groups {
        for (label, blocks, who) in tricks {
            let length = seed.below(200);
            let innocent = Block::file("innocent.py", seed.bytes(length));
            let bytes = tar::tar(&[&[innocent][..], &blocks].concat());
            let zipped = gzip(&bytes);
            cases.push(Case::new(
                format!("tar {label}"),
                bytes,
                who.clone(),
                reasons,
            ));
            cases.push(Case::new(format!("tar.gz {label}"), zipped, who, reasons));
        }
    }
    cases
}

fn owned() -> Block {
    Block::file("f", "owned")
}

fn entry() -> Who {
    Who::Entry(b"f".to_vec())
}

fn sizes() -> Vec<Trick> {
    let binary = |high: [u8; 4], low: u64| {
        let mut field = [0; 12];
        field[..4].copy_from_slice(&high);
        field[4..].copy_from_slice(&low.to_be_bytes());
        field
    };
    let fields = [
        [0xff; 12],
        binary([0xff; 4], (-512i64).cast_unsigned()),
        binary([0xff; 4], (-1i64).cast_unsigned()),
        binary([0x80, 0, 0, 1], 5),
        binary([0x80, 1, 0, 0], 5),
        binary([0xc0, 0, 0, 0], 5),
        binary([0x81, 0, 0, 0], 5),
        binary([0x80, 0, 0, 0], u64::MAX >> 1),
        binary([0x80, 0, 0, 0], 1 << 40),
        *b"0000000000x\0",
        *b"+0000000005\0",
        *b"-0000000005\0",
        *b"0x000000005\0",
        *b"00000 00005\0",
        *b"00000000008\0",
        *b"5\0 garbage!!",
        *b"            ",
        [0; 12],
        *b"77777777777\0",
    ];
    let mut tricks = Vec::new();
    for field in fields {
        let label = format!("size {field:?}");
        let lying = owned().sized(field);
        tricks.push((format!("file of {label}"), vec![lying], entry()));
        let header = pax(b'x', &[("path", b"f")]).sized(field);
        tricks.push((
            format!("pax header of {label}"),
            vec![header, owned()],
            Who::Either,
        ));
        let header = long(b'L', b"f").sized(field);
        tricks.push((
            format!("long name of {label}"),
            vec![header, owned()],
            Who::Either,
        ));
    }
    tricks
}

fn records() -> Vec<Trick> {
    let bad: [&[u8]; 12] = [
        b"path=x\n",
        b"13 path=a/b\n",
        b"11 path=a/b\n",
        b"0 path=a/b\n",
        b"+12 path=a/b\n",
        b" 12 path=a/b\n",
        b"12 path=a/b\0",
        b"5 =x\n",
        b"10 novalue\n",
        b"99999999999999999999 path=x\n",
        b"\0\0\0\0",
        b"12 path=a/b\n\n",
    ];
    let mut tricks = Vec::new();
    for content in bad {
        for kind in *b"xg" {
            let label = format!(
                "{} {:?}",
                char::from(kind),
                String::from_utf8_lossy(content)
            );
            let header = Block::new(kind, "pax").with(content);
            tricks.push((label, vec![header, owned()], Who::Either));
        }
    }
    tricks
}

fn pax_sizes() -> Vec<Trick> {
    let said = [
        "1",
        "0",
        "6",
        "-5",
        "5x",
        "+5",
        " 5",
        "",
        "0x5",
        "5.0",
        "99999999999999999999999",
    ];
    let trick = |size: &str| {
        let header = pax(b'x', &[("size", size.as_bytes())]);
        (
            format!("pax size {size:?}"),
            vec![header, owned()],
            Who::Either,
        )
    };
    said.map(trick).into()
}

fn twice() -> Vec<Trick> {
    let two: [(&str, Vec<Block>); 8] = [
        (
            "two paths",
            vec![pax(b'x', &[("path", b"a"), ("path", b"b")])],
        ),
        (
            "two pax headers",
            vec![pax(b'x', &[("path", b"a")]), pax(b'x', &[("mtime", b"1")])],
        ),
        ("two long names", vec![long(b'L', b"a"), long(b'L', b"b")]),
        (
            "pax and long name",
            vec![pax(b'x', &[("path", b"a")]), long(b'L', b"b")],
        ),
        (
            "long name and pax",
            vec![long(b'L', b"a"), pax(b'x', &[("path", b"../b")])],
        ),
        ("two long links", vec![long(b'K', b"a"), long(b'K', b"b")]),
        (
            "two linkpaths",
            vec![pax(b'x', &[("linkpath", b"a"), ("linkpath", b"b")])],
        ),
        (
            "two sizes",
            vec![pax(b'x', &[("size", b"5"), ("size", b"5")])],
        ),
    ];
    two.map(|(label, headers)| {
        (
            label.to_owned(),
            [headers, vec![owned()]].concat(),
            Who::Either,
        )
    })
    .into()
}

fn of_all() -> Vec<Trick> {
    let records: [(&str, &[u8]); 7] = [
        ("path", b"../owned"),
        ("path", b"f"),
        ("linkpath", b"/etc/passwd"),
        ("size", b"0"),
        ("size", b"5"),
        ("GNU.sparse.major", b"1"),
        ("SCHILY.filetype", b"sparse"),
    ];
    let trick = |record| {
        (
            format!("global {record:?}"),
            vec![pax(b'g', &[record]), owned()],
            Who::Either,
        )
    };
    records.map(trick).into()
}

fn disguises() -> Vec<Trick> {
    let keys = [
        "GNU.sparse.major",
        "GNU.sparse.minor",
        "GNU.sparse.name",
        "GNU.sparse.realsize",
        "GNU.sparse.map",
        "GNU.sparse.size",
        "GNU.sparse.numblocks",
        "GNU.sparse.offset",
        "GNU.sparse.numbytes",
        "SCHILY.realsize",
        "SCHILY.filetype",
        "SUN.holesdata",
    ];
    let trick = |key| {
        (
            format!("pax {key}"),
            vec![pax(b'x', &[(key, b"1")]), owned()],
            entry(),
        )
    };
    let mut tricks: Vec<_> = keys.map(trick).into();
    for name in ["f", "d/f"] {
        let old = Block::new(b'S', name).with("owned");
        tricks.push((
            format!("old sparse {name}"),
            vec![old],
            Who::Entry(name.into()),
        ));
    }
    tricks
}

fn prefixes(outside: &str) -> Vec<Trick> {
    let mut tricks = Vec::new();
    for magic in [Magic::Gnu, Magic::Old] {
        for prefix in ["..", "a", "../..", outside] {
            let mut block = owned();
            (block.magic, block.prefix) = (magic, prefix.into());
            tricks.push((
                format!("prefix {prefix} in {magic:?}"),
                vec![block],
                entry(),
            ));
        }
    }
    tricks
}

fn loose() -> Vec<Trick> {
    let mut wrong = Vec::new();
    for error in [1, 7, 64] {
        let mut block = owned();
        block.error = error;
        wrong.push((format!("checksum off by {error}"), vec![block], Who::Either));
    }
    let too_long = record("comment", &vec![b'x'; 1 << 20]);
    let content = vec![7; 512];
    let more: [(&str, Vec<Block>, Who); 10] = [
        (
            "pax header of none",
            vec![pax(b'x', &[("path", b"f")])],
            Who::Archive,
        ),
        (
            "empty pax header of none",
            vec![pax(b'x', &[("mtime", b"1")])],
            Who::Archive,
        ),
        (
            "long name of none",
            vec![owned(), long(b'L', b"g")],
            Who::Archive,
        ),
        ("long link of none", vec![long(b'K', b"g")], Who::Archive),
        (
            "very long name",
            vec![long(b'L', &vec![b'x'; 1 << 20]), owned()],
            Who::Either,
        ),
        (
            "very long pax header",
            vec![Block::new(b'x', "p").with(too_long), owned()],
            Who::Either,
        ),
        (
            "folder with content",
            vec![Block::new(b'5', "f").with(&content)],
            entry(),
        ),
        (
            "link with content",
            vec![Block::new(b'2', "f").to("x").with(&content)],
            entry(),
        ),
        (
            "hard link with content",
            vec![
                Block::file("g", "1"),
                Block::new(b'1', "f").to("g").with(&content),
            ],
            entry(),
        ),
        (
            "old folder with content",
            vec![Block::new(b'0', "f/").with(&content)],
            Who::Entry(b"f/".to_vec()),
        ),
    ];
    wrong.extend(more.map(|(label, blocks, who)| (label.to_owned(), blocks, who)));
    wrong
}
