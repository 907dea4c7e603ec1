//! Archives that tools make and that must be accepted: a refusal of one of them is a defect as well.

use super::plan::{Carrier, Item, Thing, block, gzip};
use super::tar::{self, Block, Magic, long, pax};

mod zips;

/// One of them.
#[derive(Debug, Clone)]
pub struct Good {
    /// What is special about it.
    pub label: String,
    /// The archive.
    pub bytes: Vec<u8>,
    /// Files that are there then, by path, with their content.
    pub files: Vec<(&'static str, &'static str)>,
}

type Row = (&'static str, Vec<Block>, Vec<(&'static str, &'static str)>);

/// All of them.
pub fn good() -> Vec<Good> {
    let mut all = Vec::new();
    for (label, blocks, files) in headers().into_iter().chain(odd_names()).chain(structures()) {
        let bytes = tar::tar(&blocks);
        let zipped = gzip(&bytes);
        for (format, bytes) in [("tar", bytes), ("tar.gz", zipped)] {
            let label = format!("{format}: {label}");
            all.push(Good {
                label,
                bytes,
                files: files.clone(),
            });
        }
    }
    let others = ends().into_iter().chain(gzips()).chain(zips::zips());
    all.extend(others.map(|(label, bytes, files)| Good {
        label: label.to_owned(),
        bytes,
        files,
    }));
    all
}

fn f() -> Block {
    Block::file("f", "1")
}

fn headers() -> Vec<Row> {
    let mut prefixed = f();
    (prefixed.magic, prefixed.prefix) = (Magic::Ustar, b"a/b".to_vec());
    let mut old = f();
    old.magic = Magic::Old;
    let mut contiguous = f();
    contiguous.kind = b'7';
    let mut zero = f();
    zero.kind = 0;
    let long_name = format!("{}f", "d".repeat(200) + "/");
    let mut binary = [0; 12];
    (binary[0], binary[11]) = (0x80, 1);
    vec![
        ("a plain file", vec![f()], vec![("f", "1")]),
        ("a prefix", vec![prefixed], vec![("a/b/f", "1")]),
        ("an old header", vec![old], vec![("f", "1")]),
        ("a contiguous file", vec![contiguous], vec![("f", "1")]),
        ("kind NUL", vec![zero], vec![("f", "1")]),
        (
            "an old folder",
            vec![Block::file("d/", ""), Block::file("d/f", "1")],
            vec![("d/f", "1")],
        ),
        (
            "a pax path",
            vec![pax(b'x', &[("path", "ä/ö".as_bytes())]), f()],
            vec![("ä/ö", "1")],
        ),
        (
            "a pax size that agrees",
            vec![pax(b'x', &[("size", b"1")]), f()],
            vec![("f", "1")],
        ),
        (
            "times and owners",
            vec![
                pax(
                    b'x',
                    &[("mtime", b"1.5"), ("uname", b"x"), ("uid", b"70000")],
                ),
                f(),
            ],
            vec![("f", "1")],
        ),
        (
            "an extended attribute with any bytes",
            vec![
                pax(b'x', &[("SCHILY.xattr.user.x", b"\n\0 9 path=/x\n\xff")]),
                f(),
            ],
            vec![("f", "1")],
        ),
        (
            "a name with a newline",
            vec![pax(b'x', &[("path", b"a\nb")]), f()],
            vec![("a\nb", "1")],
        ),
        (
            "git's global header",
            vec![pax(b'g', &[("comment", b"0123456789abcdef")]), f()],
            vec![("f", "1")],
        ),
        (
            "two global headers",
            vec![
                pax(b'g', &[("comment", b"1")]),
                pax(b'g', &[("comment", b"2")]),
                f(),
            ],
            vec![("f", "1")],
        ),
        (
            "a long name",
            vec![long(b'L', long_name.as_bytes()), f()],
            vec![],
        ),
        (
            "a pax header and a long name",
            vec![pax(b'x', &[("mtime", b"1")]), long(b'L', b"g"), f()],
            vec![("g", "1")],
        ),
        ("a binary size", vec![f().sized(binary)], vec![("f", "1")]),
        (
            "a size after spaces",
            vec![f().sized(*b"          1 ")],
            vec![("f", "1")],
        ),
        (
            "a size of twelve digits",
            vec![f().sized(*b"000000000001")],
            vec![("f", "1")],
        ),
    ]
}

fn odd_names() -> Vec<Row> {
    vec![
        (
            "odd names",
            vec![
                Block::file("a..b", "1"),
                Block::file("..c", "2"),
                Block::file("...", "3"),
                Block::file("d\\e", "4"),
                Block::file(" ", "5"),
                Block::file("-rf", "6"),
            ],
            vec![
                ("a..b", "1"),
                ("..c", "2"),
                ("...", "3"),
                ("d\\e", "4"),
                (" ", "5"),
                ("-rf", "6"),
            ],
        ),
        (
            "a name that is not UTF-8",
            vec![Block::file(b"\xff\xfe", "1"), f()],
            vec![("f", "1")],
        ),
        (
            "names that differ in case",
            vec![Block::file("A", "1"), Block::file("a", "2")],
            vec![("A", "1"), ("a", "2")],
        ),
        (
            "names of devices elsewhere",
            vec![
                Block::file("CON", "1"),
                Block::file("nul.txt", "2"),
                Block::file("c:x", "3"),
            ],
            vec![("CON", "1"), ("c:x", "3")],
        ),
    ]
}

fn structures() -> Vec<Row> {
    let item = |item: Item| block(&item, Carrier::Field);
    let link = |name: &str, to: &str| item(Item::link(name, to));
    let folder = |name: &str| item(Item::new(name, Thing::Folder));
    let file = |name: &str| vec![Block::file(name, "1")];
    let hard = |name: &str, to: &str| item(Item::new(name, Thing::Hard(to.into())));
    vec![
        (
            "the root itself",
            [folder("./"), file("./f")].concat(),
            vec![("f", "1")],
        ),
        (
            "a folder after what is in it",
            [file("d/f"), folder("d")].concat(),
            vec![("d/f", "1")],
        ),
        (
            "a folder nobody may write to",
            {
                let mut closed = folder("d");
                closed[0].mode = 0o555;
                [closed, file("d/f"), file("d/e/f")].concat()
            },
            vec![("d/f", "1"), ("d/e/f", "1")],
        ),
        (
            "links inside",
            [
                file("d/f"),
                link("l", "d/f"),
                link("e/l", "../d/f"),
                link("d/m", "./f"),
                link("n", "d"),
                link("o", "n/../d//f"),
            ]
            .concat(),
            vec![
                ("l", "1"),
                ("e/l", "1"),
                ("d/m", "1"),
                ("n/f", "1"),
                ("o", "1"),
            ],
        ),
        (
            "links to what comes later, and to nothing",
            [link("l", "d/f"), link("m", "nothing"), file("d/f")].concat(),
            vec![("l", "1")],
        ),
        (
            "a link up and down again",
            [
                file("f"),
                link("a/b/l", "../../f"),
                link("a/up", ".."),
                link("a/m", "up/f"),
            ]
            .concat(),
            vec![("a/b/l", "1"), ("a/m", "1")],
        ),
        (
            "a chain of links",
            [file("f"), link("c", "b"), link("b", "a"), link("a", "f")].concat(),
            vec![("c", "1")],
        ),
        (
            "hard links",
            [
                file("d/f"),
                hard("h", "d/f"),
                hard("e/h", "./d/f"),
                hard("i", "h"),
            ]
            .concat(),
            vec![("h", "1"), ("e/h", "1"), ("i", "1")],
        ),
        (
            "many folders",
            [
                file("a/b/c/d/e/f"),
                file("a/b/x"),
                folder("a/b/c"),
                file("a/y"),
            ]
            .concat(),
            vec![("a/b/c/d/e/f", "1"), ("a/y", "1")],
        ),
    ]
}

type Bytes = (&'static str, Vec<u8>, Vec<(&'static str, &'static str)>);

fn ends() -> Vec<Bytes> {
    let one = f().bytes();
    let padded = |zeros: usize| [&one[..], &vec![0; zeros]].concat();
    vec![
        (
            "tar: one block of zeros at its end",
            padded(512),
            vec![("f", "1")],
        ),
        (
            "tar: a whole record of zeros",
            padded(10240 - 1024),
            vec![("f", "1")],
        ),
        ("tar: nothing in it", vec![0; 1024], vec![]),
        ("tar: nothing in a record", vec![0; 10240], vec![]),
    ]
}

fn gzips() -> Vec<Bytes> {
    let tar = tar::tar(&[Block::file("d/f", "1"), Block::file("g", "2")]);
    let plain = gzip(&tar);
    let files = || vec![("d/f", "1"), ("g", "2")];
    let with = |flags: u8, fields: &[u8]| {
        [&plain[..3], &[flags], &plain[4..10], fields, &plain[10..]].concat()
    };
    let cut = |step: usize| tar.chunks(step).flat_map(gzip).collect::<Vec<_>>();
    let extra_members = |step: usize| {
        let member = |part: &[u8]| {
            let bytes = gzip(part);
            [
                &bytes[..3],
                &[4],
                &bytes[4..10],
                b"\x07\0T0\x03\0abc",
                &bytes[10..],
            ]
            .concat()
        };
        tar.chunks(step).flat_map(member).collect::<Vec<_>>()
    };
    let mut header = [&plain[..3], &[2], &plain[4..10]].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    header.extend(&crc.sum().to_le_bytes()[..2]);
    vec![
        (
            "tar.gz: a name and a comment",
            with(8 | 16, b"bundle.tar\0made by hand\0"),
            files(),
        ),
        (
            "tar.gz: an extra field",
            with(4, b"\x05\0T0\x01\0x"),
            files(),
        ),
        (
            "tar.gz: a checksum of the header",
            [&header[..], &plain[10..]].concat(),
            files(),
        ),
        ("tar.gz: two members", cut(1000), files()),
        ("tar.gz: many members, cut anywhere", cut(37), files()),
        (
            "tar.gz: members with extra fields",
            extra_members(512),
            files(),
        ),
        (
            "tar.gz: members with extra fields, cut anywhere",
            extra_members(100),
            files(),
        ),
        (
            "tar.gz: an empty member at its end",
            [&plain[..], &gzip(b"")].concat(),
            files(),
        ),
    ]
}
