//! Names that are no path inside.

use super::plan::{Carrier, FORMATS, Item, NAMING, Seed, Shape, Thing, among, write};
use super::{Case, Who};

/// Each name as a file or, with a slash at its end, as a folder, in each of `shapes` that can carry it.
fn spell(
    seed: &mut Seed,
    names: &[Vec<u8>],
    shapes: &[Shape],
    reasons: &'static [&'static str],
) -> Vec<Case> {
    let mut cases = Vec::new();
    for name in names {
        for shape in shapes.iter().filter(|shape| shape.takes(name)) {
            let thing = match name.last() {
                Some(b'/') => Thing::Folder,
                _ => Thing::File(b"owned".to_vec()),
            };
            let items = among(seed, &[Item::new(name, thing)]);
            let label = format!("{shape:?} {:?}", String::from_utf8_lossy(name));
            let who = match shape {
                Shape::Zip(Carrier::UnicodePath) => Who::Either,
                _ => Who::Entry(name.clone()),
            };
            cases.push(Case::new(label, write(&items, *shape), who, reasons));
        }
    }
    cases
}

fn owned(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

pub(super) fn upward(seed: &mut Seed, _outside: &str) -> Vec<Case> {
    let names = owned(&[
        "../owned",
        "../../owned",
        "../../../owned",
        "a/../../owned",
        "a/b/../../../owned",
        "./../owned",
        ".//../owned",
        "a/./../../owned",
        "..//owned",
        "../out2/owned",
        "a/../owned",
        "a/b/..",
        "../owned/",
        "..",
        "../",
        "a/../../owned/",
        ".../../../owned",
        "a/..//../owned",
    ]);
    spell(seed, &names, &NAMING, &["has .. in it", "disagree"])
}

pub(super) fn absolute(seed: &mut Seed, outside: &str) -> Vec<Case> {
    let below = |prefix: &str, rest: &str| format!("{prefix}{outside}{rest}").into_bytes();
    let names = [
        below("", "/owned"),
        below("/", "/owned"),
        below("//", "/owned"),
        below("/.", "/owned"),
        below("/./", "/a/owned"),
        below("", "//owned"),
        below("", "/./owned"),
        below("", "/owned/"),
        below("", "/new/owned"),
        below("/proc/self/root", "/owned"),
    ];
    let reasons = &["path is absolute", "disagree"];
    let mut cases = spell(seed, &names, &NAMING, reasons);
    let drives = owned(&["C:/owned", "c:owned", "Z:/a/b", "C:", "x:/../owned"]);
    cases.extend(spell(seed, &drives, &FORMATS[2..], reasons));
    // Also as something else than a file.
    for name in &names[..5] {
        for thing in [Thing::Folder, Thing::Link(b"a".to_vec())] {
            for shape in FORMATS {
                let items = among(seed, &[Item::new(name, thing.clone())]);
                let label = format!("{shape:?} {thing:?} {:?}", String::from_utf8_lossy(name));
                let named = match (shape.is_tar(), &thing) {
                    (false, Thing::Folder) => [&name[..], b"/"].concat(),
                    _ => name.clone(),
                };
                let case = Case::new(label, write(&items, shape), Who::Entry(named), reasons);
                cases.push(case);
            }
        }
    }
    cases
}

pub(super) fn invalid(seed: &mut Seed, _outside: &str) -> Vec<Case> {
    let part = "n".repeat(256);
    let names = [
        b"b\0.py".to_vec(),
        b"a\0/../../owned".to_vec(),
        b"d/\0".to_vec(),
        format!("{part}/x").into_bytes(),
        format!("d/{part}").into_bytes(),
        format!("d/{part}/").into_bytes(),
        "d/".repeat(2050).into_bytes(),
        format!("{}f", "d/".repeat(201)).into_bytes(),
        "e/".repeat(300).into_bytes(),
        b".the0-new".to_vec(),
        b".the0-new/journal".to_vec(),
        b"./.the0-new/tree/x".to_vec(),
        b".the0-new/".to_vec(),
        b".//.the0-new//old/x".to_vec(),
        b"lost+found/x".to_vec(),
        b"./lost+found/".to_vec(),
        b"lost+found".to_vec(),
    ];
    let reasons = &["name is not valid", "reserved", "disagree", "corrupt"];
    let mut cases = spell(seed, &names, &NAMING, reasons);
    let zips: Vec<Vec<u8>> = [
        &b"..\\owned"[..],
        b"a\\..\\..\\owned",
        b"\\owned",
        b"\\\\server\\share\\owned",
        b"a\\b",
        b"C:\\owned",
        b"caf\xe9.py",
        b"\xff\xfe",
        b"d/\x80/f",
        b"a/\xc0\xae\xc0\xae/owned",
        b"\xed\xa0\x80",
    ]
    .map(<[u8]>::to_vec)
    .into();
    cases.extend(spell(seed, &zips, &[Shape::Zip(Carrier::Field)], reasons));
    let nameless = [Item::file(b""), Item::new(b"", Thing::Link(b"a".to_vec()))];
    for item in nameless {
        for shape in [
            Shape::Tar(Carrier::Pax),
            Shape::Tar(Carrier::Long),
            Shape::Zip(Carrier::Field),
        ] {
            let items = among(seed, std::slice::from_ref(&item));
            let label = format!("{shape:?} no name, {:?}", item.thing);
            cases.push(Case::new(
                label,
                write(&items, shape),
                Who::Entry(Vec::new()),
                reasons,
            ));
        }
    }
    cases
}
