//! Archives that nobody should make, a family at a time: of each the reason to refuse it is known.

use std::io::Write;

/// One of them.
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    /// The entry that the refusal names; empty where it is the archive as a whole.
    pub entry: String,
    /// Part of the reason.
    pub reason: &'static str,
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (entry, reason, bytes) in [names(), links(), kinds(), sizes()].concat() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&bytes).unwrap();
        let both = [("tar", bytes), ("tar.gz", gzip.finish().unwrap())];
        for (format, bytes) in both {
            let name = format!("{format} {entry:?}: {reason}");
            cases.push(Case {
                name,
                bytes,
                entry: entry.to_owned(),
                reason,
            });
        }
    }
    for (entry, reason, bytes) in gzips().into_iter().chain(zips()) {
        let name = format!("{entry:?}: {reason}");
        cases.push(Case {
            name,
            bytes,
            entry: entry.to_owned(),
            reason,
        });
    }
    cases
}

type Row = (&'static str, &'static str, Vec<u8>);

/// A header block with `content`, padded, whatever it says.
fn block(kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn tar(blocks: &[Vec<u8>]) -> Vec<u8> {
    [blocks.concat(), vec![0; 1024]].concat()
}

fn file(name: &str) -> Vec<u8> {
    block(b'0', name.as_bytes(), b"", b"owned")
}

fn link(name: &str, target: &str) -> Vec<u8> {
    block(b'2', name.as_bytes(), target.as_bytes(), b"")
}

fn pax(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in pairs {
        let rest = format!(" {key}={value}\n");
        let mut size = rest.len();
        while (size.to_string().len() + rest.len()) != size {
            size = size.to_string().len() + rest.len();
        }
        text = format!("{text}{size}{rest}");
    }
    block(b'x', b"pax", b"", text.as_bytes())
}

/// Names that are no path inside.
fn names() -> Vec<Row> {
    let long = format!("{}/x", "n".repeat(300));
    vec![
        ("/etc/owned", "absolute", tar(&[file("/etc/owned")])),
        ("//owned", "absolute", tar(&[file("//owned")])),
        ("../canary", "..", tar(&[file("../canary")])),
        ("a/../../canary", "..", tar(&[file("a/../../canary")])),
        ("a/..", "..", tar(&[block(b'5', b"a/..", b"", b"")])),
        (
            "../canary",
            "..",
            tar(&[pax(&[("path", "../canary")]), file("innocent")]),
        ),
        (
            "../canary",
            "..",
            tar(&[
                block(b'L', b"././@LongLink", b"", b"../canary\0"),
                file("innocent"),
            ]),
        ),
        (
            ".the0-new/journal",
            "reserved",
            tar(&[file(".the0-new/journal")]),
        ),
        (
            "nnn",
            "too long",
            tar(&[
                block(b'L', b"././@LongLink", b"", long.as_bytes()),
                file("innocent"),
            ]),
        ),
    ]
}

/// Links out, and things put through links.
fn links() -> Vec<Row> {
    vec![
        ("up", "leads out", tar(&[link("up", "../canary")])),
        ("etc", "leads out", tar(&[link("etc", "/etc")])),
        ("b/up", "leads out", tar(&[link("b/up", "../../canary")])),
        (
            "two",
            "leads out",
            tar(&[link("one/in", ".."), link("two", "one/in/../canary")]),
        ),
        (
            "up",
            "leads out",
            tar(&[pax(&[("linkpath", "../../x")]), link("up", "fine")]),
        ),
        (
            "up",
            "leads out",
            tar(&[
                block(b'K', b"././@LongLink", b"", b"../../x\0"),
                link("up", "fine"),
            ]),
        ),
        (
            "l/owned",
            "through a link",
            tar(&[link("l", "d"), file("l/owned")]),
        ),
        (
            "l/owned",
            "through a link",
            tar(&[link("l", "/tmp"), file("l/owned")]),
        ),
        (
            "l/d",
            "through a link",
            tar(&[link("l", "."), block(b'5', b"l/d", b"", b"")]),
        ),
        (
            "f/x",
            "through a link or a file",
            tar(&[file("f"), file("f/x")]),
        ),
        (
            "h",
            "hard link",
            tar(&[block(b'1', b"h", b"/etc/passwd", b"")]),
        ),
        (
            "h",
            "hard link",
            tar(&[block(b'1', b"h", b"../canary", b"")]),
        ),
        (
            "h",
            "hard link",
            tar(&[block(b'1', b"h", b"later", b""), file("later")]),
        ),
        (
            "h",
            "hard link",
            tar(&[link("l", "x"), block(b'1', b"h", b"l", b"")]),
        ),
        ("a", "circle", tar(&[link("a", "a")])),
    ]
}

/// One path as two things, and things that are no files.
fn kinds() -> Vec<Row> {
    vec![
        ("l", "two kinds", tar(&[link("l", "x"), file("l")])),
        (
            "d",
            "two kinds",
            tar(&[block(b'5', b"d/", b"", b""), link("d", "x")]),
        ),
        ("d", "two kinds", tar(&[file("d/f"), file("d")])),
        (
            "f/",
            "two kinds",
            tar(&[file("f"), block(b'5', b"f/", b"", b"")]),
        ),
        ("f", "twice", tar(&[file("f"), file("f")])),
        ("./f", "twice", tar(&[file("f"), file("./f")])),
        (
            "h",
            "has content",
            tar(&[file("f"), block(b'1', b"h", b"f", b"x")]),
        ),
        ("null", "device", tar(&[block(b'3', b"null", b"", b"")])),
        ("disk", "device", tar(&[block(b'4', b"disk", b"", b"")])),
        ("pipe", "FIFO", tar(&[block(b'6', b"pipe", b"", b"")])),
        (
            "odd",
            "not supported",
            tar(&[block(b'Z', b"odd", b"", b"")]),
        ),
        (
            "hole",
            "not supported",
            tar(&[pax(&[("GNU.sparse.major", "1")]), file("hole")]),
        ),
    ]
}

/// More, less or other than is said.
fn sizes() -> Vec<Row> {
    vec![
        ("f", "disagree", tar(&[pax(&[("size", "1")]), file("f")])),
        ("", "data after", [tar(&[file("f")]), vec![7; 512]].concat()),
        ("f", "cut short", tar(&[file("f")])[..515].to_vec()),
        ("", "cut short", file("f")),
        (
            "",
            "more than 500 entries",
            tar(&(0..501).map(|n| file(&format!("f{n}"))).collect::<Vec<_>>()),
        ),
        (
            "big",
            "more than 16 MiB",
            tar(&[block(b'0', b"big", b"", &vec![1; (16 << 20) + 1])]),
        ),
    ]
}

fn gzips() -> Vec<Row> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&tar(&[file("f")])).unwrap();
    let good = gzip.finish().unwrap();
    let mut crc = good.clone();
    let at = crc.len() - 6;
    crc[at] ^= 1;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&tar(&[file("f")])).unwrap();
    bomb.write_all(&vec![0; 20 << 20]).unwrap();
    vec![
        ("", "refused", crc),
        ("", "refused", good[..good.len() - 4].to_vec()),
        ("", "refused", [&good[..], b"more"].concat()),
        ("", "data after", [&good[..], &good[..]].concat()),
        ("", "unpacks to more than", bomb.finish().unwrap()),
        ("", "neither", b"hello".to_vec()),
        ("", "neither", Vec::new()),
    ]
}

/// One entry of a zip, each part of it free to lie.
#[derive(Clone)]
struct Zipped {
    name: Vec<u8>,
    local: Vec<u8>,
    content: Vec<u8>,
    method: u16,
    flags: u16,
    mode: u32,
    crc: u32,
    size: u32,
}

fn zipped(name: &str, mode: u32, content: &[u8]) -> Zipped {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let (name, crc) = (name.as_bytes().to_vec(), crc.sum());
    let size = u32::try_from(content.len()).unwrap();
    Zipped {
        local: name.clone(),
        name,
        content: content.to_vec(),
        method: 0,
        flags: 0,
        mode,
        crc,
        size,
    }
}

impl Zipped {
    /// What local and central header share, from the flags on.
    fn common(&self, name: &[u8]) -> Vec<u8> {
        let compressed = u32::try_from(self.content.len()).unwrap();
        let length = u16::try_from(name.len()).unwrap();
        let mut out = Vec::new();
        out.extend(
            [self.flags, self.method, 0, 0x21]
                .iter()
                .flat_map(|n| n.to_le_bytes()),
        );
        out.extend(
            [self.crc, compressed, self.size]
                .iter()
                .flat_map(|n| n.to_le_bytes()),
        );
        out.extend(length.to_le_bytes());
        out.extend([0, 0]);
        out
    }
}

fn zip(entries: &[Zipped]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut central = Vec::new();
    for entry in entries {
        let at = u32::try_from(out.len()).unwrap();
        out.extend(b"PK\x03\x04\x14\x00");
        out.extend(entry.common(&entry.local));
        out.extend(&entry.local);
        out.extend(&entry.content);
        central.extend(b"PK\x01\x02\x14\x03\x14\x00");
        central.extend(entry.common(&entry.name));
        central.extend([0; 6]);
        central.extend((entry.mode << 16).to_le_bytes());
        central.extend(at.to_le_bytes());
        central.extend(&entry.name);
    }
    let count = u16::try_from(entries.len()).unwrap();
    let (at, size) = (
        u32::try_from(out.len()).unwrap(),
        u32::try_from(central.len()).unwrap(),
    );
    out.extend(central);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].iter().flat_map(|n| n.to_le_bytes()));
    out.extend([size, at].iter().flat_map(|n| n.to_le_bytes()));
    out.extend([0, 0]);
    out
}

const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

fn zips() -> Vec<Row> {
    let f = |name: &str| zipped(name, FILE, b"owned");
    let l = |name: &str, to: &str| zipped(name, LINK, to.as_bytes());
    let with = |act: &dyn Fn(&mut Zipped)| {
        let mut entry = f("f");
        act(&mut entry);
        zip(&[entry])
    };
    let good = zip(&[f("f")]);
    vec![
        ("/etc/owned", "absolute", zip(&[f("/etc/owned")])),
        ("C:/owned", "absolute", zip(&[f("C:/owned")])),
        ("../canary", "..", zip(&[f("../canary")])),
        ("a/../../canary", "..", zip(&[f("a/../../canary")])),
        ("canary", "backslash", zip(&[f("..\\canary")])),
        ("b", "NUL", zip(&[f("b\0.py")])),
        ("", "empty", zip(&[f("")])),
        ("up", "leads out", zip(&[l("up", "../canary")])),
        ("etc", "leads out", zip(&[l("etc", "/etc")])),
        (
            "two",
            "leads out",
            zip(&[l("one/in", ".."), l("two", "one/in/../x")]),
        ),
        (
            "l/owned",
            "through a link",
            zip(&[l("l", "d"), f("l/owned")]),
        ),
        ("void", "not a path", zip(&[l("void", "")])),
        ("f", "twice", zip(&[f("f"), f("f")])),
        ("./f", "twice", zip(&[f("f"), f("./f")])),
        ("d", "two kinds", zip(&[f("d/f"), f("d")])),
        ("d/", "two kinds", zip(&[zipped("d/", FILE, b"")])),
        ("d/", "has content", zip(&[zipped("d/", 0o040_755, b"x")])),
        ("null", "device", zip(&[zipped("null", 0o020_666, b"")])),
        ("disk", "device", zip(&[zipped("disk", 0o060_666, b"")])),
        ("pipe", "FIFO", zip(&[zipped("pipe", 0o010_666, b"")])),
        ("sock", "socket", zip(&[zipped("sock", 0o140_666, b"")])),
        ("f", "encrypted", with(&|e| e.flags = 1)),
        ("f", "method", with(&|e| e.method = 97)),
        ("f", "corrupt", with(&|e| e.crc ^= 1)),
        ("f", "disagree", with(&|e| e.local = b"g".to_vec())),
        ("f", "disagree", with(&|e| e.local = b"../x".to_vec())),
        ("f", "refused", with(&|e| e.size = 3)),
        ("f", "refused", with(&|e| e.size = 9)),
        ("f", "more than 16 MiB", with(&|e| e.size = 17 << 20)),
        (".the0-new/x", "reserved", zip(&[f(".the0-new/x")])),
        ("", "data after", [&good[..], b"more"].concat()),
        (
            "",
            "data before",
            [b"PK\x03\x04 more".as_slice(), &good[..]].concat(),
        ),
        ("", "refused", good[..good.len() - 5].to_vec()),
        ("", "refused", good[..20].to_vec()),
        (
            "",
            "more than 500 entries",
            zip(&(0..501).map(|n| f(&format!("f{n}"))).collect::<Vec<_>>()),
        ),
    ]
}
