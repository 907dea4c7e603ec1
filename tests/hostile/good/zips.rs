//! Zips as tools make them.

use super::super::plan::{Carrier, Item, Shape, Thing, write};
use super::super::zip::{self, Parts, Zipped, descriptor, extra, unicode_path};
use super::Bytes;

fn stored(name: &str) -> Zipped {
    zip::stored(name, 0o100_644, b"1")
}

fn packed(name: &str) -> Zipped {
    zip::deflated(name, 0o100_755, b"1")
}

fn one(entry: Zipped) -> Vec<u8> {
    zip::zip(&[entry])
}

fn files() -> Vec<(&'static str, &'static str)> {
    vec![("f", "1")]
}

/// All of them.
pub(super) fn zips() -> Vec<Bytes> {
    let mut all = sizes();
    all.extend(more());
    all
}

fn sizes() -> Vec<Bytes> {
    let mut unsigned = packed("f").described();
    unsigned.after = descriptor(unsigned.central.crc, unsigned.central.packed, 1)[4..].to_vec();
    let mut dos = stored("f");
    (dos.system, dos.mode) = (0, 0);
    let mut wide = stored("f");
    wide.local.extra = extra(1, &[1u64.to_le_bytes(), 1u64.to_le_bytes()].concat());
    (wide.local.size, wide.local.packed) = (u32::MAX, u32::MAX);
    let mut streamed = wide.clone();
    wide.central.extra.clone_from(&wide.local.extra);
    (wide.central.size, wide.central.packed) = (u32::MAX, u32::MAX);
    streamed.central.extra = Vec::new();
    let mut big = Parts::of(&[stored("f")]);
    big.before_end = big.end64();
    vec![
        ("zip: nothing in it", zip::zip(&[]), vec![]),
        ("zip: stored", one(stored("f")), files()),
        ("zip: deflated", one(packed("f")), files()),
        (
            "zip: sizes after the data",
            one(packed("f").described()),
            files(),
        ),
        (
            "zip: sizes after the data, stored",
            one(stored("f").described()),
            files(),
        ),
        (
            "zip: sizes after the data, unsigned",
            one(unsigned),
            files(),
        ),
        ("zip: from DOS", one(dos), files()),
        ("zip: 64-bit sizes", one(wide), files()),
        (
            "zip: 64-bit sizes in the local header",
            one(streamed),
            files(),
        ),
        ("zip: a 64-bit end", big.bytes(), files()),
    ]
}

fn more() -> Vec<Bytes> {
    let times = extra(0x5455, &[1, 0, 0, 0, 80]);
    let mut commented = Parts::of(&[stored("f")]);
    commented.comment = b"made by hand".to_vec();
    let link = zip::stored("l", 0o120_777, b"d/f");
    let mut swapped = Parts::of(&[stored("f"), stored("g")]);
    let half = swapped.list.len() / 2;
    swapped.list.rotate_left(half);
    let shape = Shape::Zip(Carrier::Field);
    let tree = [
        Item::new("d", Thing::Folder),
        Item::new("d/f", Thing::File(b"1".to_vec())),
    ];
    vec![
        (
            "zip: times",
            one(stored("f").both(|said| said.extra.clone_from(&times))),
            files(),
        ),
        (
            "zip: Java's mark",
            one(stored("f").both(|said| said.extra = extra(0xcafe, b""))),
            files(),
        ),
        (
            "zip: a name in UTF-8",
            one(stored("ä/ö").both(|said| said.flags |= 1 << 11)),
            vec![("ä/ö", "1")],
        ),
        (
            "zip: a name in UTF-8 that does not say so",
            one(stored("ä/ö")),
            vec![("ä/ö", "1")],
        ),
        (
            "zip: a Unicode path that agrees",
            one(stored("ä").both(|said| said.extra = unicode_path("ä".as_bytes(), "ä".as_bytes()))),
            vec![("ä", "1")],
        ),
        ("zip: a comment", commented.bytes(), files()),
        (
            "zip: folders",
            write(&tree.map(|item| (item, false)), shape),
            vec![("d/f", "1")],
        ),
        (
            "zip: a link",
            zip::zip(&[stored("d/f"), link]),
            vec![("l", "1")],
        ),
        (
            "zip: listed in another order",
            swapped.bytes(),
            vec![("f", "1"), ("g", "1")],
        ),
        (
            "zip: names that differ in case",
            zip::zip(&[stored("A"), stored("a")]),
            vec![("A", "1"), ("a", "1")],
        ),
        (
            "zip: no permissions",
            one(zip::stored("f", 0o100_000, b"1")),
            files(),
        ),
    ]
}
