//! Links that lead out, and things put through links.

use super::plan::{FORMATS, Item, LINKING, Seed, Shape, Thing, among, write};
use super::{Case, Who};

fn case(
    seed: &mut Seed,
    items: &[Item],
    shape: Shape,
    who: &str,
    reasons: &'static [&'static str],
) -> Case {
    let told: Vec<_> = items
        .iter()
        .map(|item| {
            let to = match &item.thing {
                Thing::Link(to) => format!(" -> {}", String::from_utf8_lossy(to)),
                Thing::Hard(to) => format!(" = {}", String::from_utf8_lossy(to)),
                Thing::Folder => "/".to_owned(),
                _ => String::new(),
            };
            format!("{}{to}", String::from_utf8_lossy(&item.name))
        })
        .collect();
    let label = format!("{shape:?} {}", told.join(", "));
    let who = Who::Entry(who.as_bytes().to_vec());
    Case::new(label, write(&among(seed, items), shape), who, reasons)
}

/// A folder, and a way up out of it to the root.
const DEPTHS: [(&str, &str); 3] = [("", ""), ("d/", "../"), ("d/e/", "../../")];

pub(super) fn symbolic(seed: &mut Seed, outside: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let up = [
        "../canary",
        "..",
        "../",
        "./../canary",
        "a/../../canary",
        "../out/../canary",
        "x/y/../../../canary",
        ".//..//canary",
    ];
    let absolute = [
        format!("{outside}/canary"),
        outside.to_owned(),
        "/".to_owned(),
        "//".to_owned(),
        "/proc/self/root".to_owned(),
        format!("/.{outside}/canary"),
    ];
    for (n, (folder, way)) in DEPTHS.iter().enumerate() {
        let up = up.iter().map(|target| format!("{way}{target}"));
        for (m, target) in up.chain(absolute.iter().cloned()).enumerate() {
            for shape in LINKING.iter().skip((n + m) % 2).step_by(2) {
                let name = format!("{folder}l");
                let items = [Item::link(&name, &target)];
                cases.push(case(seed, &items, *shape, &name, &["leads out"]));
            }
        }
    }
    for shape in FORMATS {
        let chains: [(&[(&str, &str)], &str); 5] = [
            (&[("one/in", ".."), ("two", "one/in/../canary")], "two"),
            (&[("two", "one/in/../canary"), ("one/in", "..")], "two"),
            (
                &[
                    ("a", "b/.."),
                    ("b", "c/d"),
                    ("c", "e"),
                    ("e/d/x", "f"),
                    ("g", "a/../../x"),
                ],
                "g",
            ),
            (&[("here", "."), ("out", "here/here/../x")], "out"),
            (&[("d/top", ".."), ("d/out", "top/top/../../x")], "d/out"),
        ];
        for (links, who) in chains {
            let items: Vec<_> = links
                .iter()
                .map(|(name, to)| Item::link(name, to))
                .collect();
            cases.push(case(seed, &items, shape, who, &["leads out"]));
        }
        let circles: [&[(&str, &str)]; 2] = [&[("a", "a")], &[("d/a", "../d/a/b")]];
        for links in circles {
            let items: Vec<_> = links
                .iter()
                .map(|(name, to)| Item::link(name, to))
                .collect();
            cases.push(case(seed, &items, shape, links[0].0, &["circle"]));
        }
        let nowhere = [Item::link("void", "")];
        cases.push(case(seed, &nowhere, shape, "void", &["not a path"]));
    }
    cases
}

pub(super) fn hard(seed: &mut Seed, outside: &str) -> Vec<Case> {
    let reasons = &["hard link"];
    let mut cases = Vec::new();
    let hard = |to: &str| Item::new("h", Thing::Hard(to.as_bytes().to_vec()));
    let mut sets = vec![
        vec![hard("later"), Item::file("later")],
        vec![Item::new("dir", Thing::Folder), hard("dir")],
        vec![Item::file("dir/f"), hard("dir")],
        vec![Item::link("l", "dir"), hard("l")],
        vec![Item::file("dir/f"), Item::link("l", "dir"), hard("l/f")],
        vec![hard("missing")],
        vec![hard("h")],
        vec![hard("..")],
        vec![hard(".")],
        vec![hard("./../canary")],
        vec![hard("a/../../canary")],
        vec![hard("../canary")],
        vec![hard("../../canary")],
        vec![hard("/")],
        vec![hard("/etc/passwd")],
    ];
    sets.push(vec![hard(&format!("{outside}/canary"))]);
    sets.push(vec![Item::link("l", outside), hard("l/canary")]);
    sets.push(vec![hard(&format!("{outside}/canary")), Item::file("h")]);
    for set in &sets {
        for shape in LINKING.iter().filter(|shape| shape.is_tar()) {
            cases.push(case(seed, set, *shape, "h", reasons));
        }
    }
    cases
}

pub(super) fn through(seed: &mut Seed, outside: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let ways = [".", "d", "..", outside, "nowhere", "d/e", "/"];
    let put = |name: &str| {
        [
            Item::file(name),
            Item::new(name, Thing::Folder),
            Item::link(name, "x"),
            Item::new(name, Thing::Hard(b"d/f".to_vec())),
        ]
    };
    for (n, way) in ways.iter().enumerate() {
        for (m, name) in ["l/owned", "l/a/owned"].iter().enumerate() {
            for item in put(name) {
                for (k, shape) in FORMATS.iter().enumerate() {
                    let is_hard = matches!(item.thing, Thing::Hard(_));
                    if (is_hard && !shape.is_tar()) || (n + m + k) % 2 == 1 {
                        continue;
                    }
                    let named = match item.thing {
                        Thing::Folder if !shape.is_tar() => format!("{name}/"),
                        _ => (*name).to_owned(),
                    };
                    let items = [Item::file("d/f"), Item::link("l", way), item.clone()];
                    cases.push(case(seed, &items, *shape, &named, &["through a link"]));
                }
            }
        }
    }
    for shape in FORMATS {
        let deeper = [
            Item::link("d/l", "../e"),
            Item::file("e/f"),
            Item::file("d/l/owned"),
        ];
        cases.push(case(seed, &deeper, shape, "d/l/owned", &["through a link"]));
        let file = [Item::file("f"), Item::file("f/owned")];
        cases.push(case(
            seed,
            &file,
            shape,
            "f/owned",
            &["through a link or a file"],
        ));
        let twice = [
            Item::link("a", "b"),
            Item::link("b", ".."),
            Item::file("a/owned"),
        ];
        cases.push(case(seed, &twice, shape, "a/owned", &["through a link"]));
    }
    cases
}
