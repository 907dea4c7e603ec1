use super::*;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::beneath;

const MIB: usize = 1 << 20;

/// Without a version to replace.
impl Sink for Vec<u8> {
    fn can_copy(&self, _length: u64, _then: Then) -> bool {
        false
    }

    fn copy(&mut self, _from: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A store whose parts have a least length, but for the last, and are made of what was written or of a range.
struct Object {
    previous: Vec<u8>,
    least: u64,
    bytes: Vec<u8>,
    part: u64,
    /// That a part was too short to have another one after it.
    short: Option<()>,
    written: u64,
    copies: usize,
}

impl Object {
    fn replacing(previous: Vec<u8>, least: u64) -> Self {
        Self {
            previous,
            least,
            bytes: Vec::new(),
            part: 0,
            short: None,
            written: 0,
            copies: 0,
        }
    }
}

impl Write for Object {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.short.is_none(), "written after a short part");
        if self.part >= self.least {
            self.part = 0;
        }
        self.bytes.extend_from_slice(bytes);
        self.part += bytes.len() as u64;
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Object {
    fn can_copy(&self, length: u64, then: Then) -> bool {
        (length >= self.least || then == Then::End) && (self.part == 0 || self.part >= self.least)
    }

    fn copy(&mut self, from: Range<u64>) -> io::Result<()> {
        assert!(self.part == 0 || self.part >= self.least, "{from:?}");
        assert!(self.short.is_none(), "{from:?} after a short part");
        self.short = (from.end - from.start < self.least).then_some(());
        let at = |n| usize::try_from(n).unwrap();
        let range = at(from.start)..at(from.end);
        self.bytes.extend_from_slice(&self.previous[range]);
        self.part = 0;
        self.copies += 1;
        Ok(())
    }
}

/// Bytes that do not compress and are the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let words = length.div_ceil(8);
    let mut bytes: Vec<u8> = (0..words).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

fn write_to(dir: &Path, previous: Option<&Index>, out: &mut impl Sink) -> Index {
    let tree = crate::tree::read(dir).unwrap();
    let root = beneath::root(dir).unwrap();
    write(&tree, root.as_fd(), Torn::Refuse, previous, out).unwrap()
}

fn archive(dir: &Path) -> (Vec<u8>, Index) {
    let mut out = Vec::new();
    let index = write_to(dir, None, &mut out);
    (out, index)
}

fn in_file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    file
}

fn unpack(bytes: &[u8], into: &Path) {
    let rules = crate::extract::Rules {
        links: crate::extract::Links::All,
        budget: crate::extract::Budget::default(),
    };
    crate::extract::unpack(&mut in_file(bytes), into, rules).unwrap();
}

fn digest(dir: &Path) -> contract::Digest {
    crate::tree::read(dir).unwrap().digest().unwrap()
}

fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("d/empty")).unwrap();
    fs::write(dir.join("d/f"), "1").unwrap();
    fs::write(dir.join("d").join("n".repeat(200)), "2").unwrap();
    fs::write(dir.join("big"), vec![7; MIB + 3]).unwrap();
    symlink("d/f", dir.join("l")).unwrap();
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(one.path());
    fill(two.path());
    assert_eq!(archive(one.path()), archive(two.path()));
}

#[test]
fn any_name_and_any_link_comes_back_as_it_was() {
    let (dir, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &[u8]| dir.path().join(OsStr::from_bytes(name));
    let targets: [&[u8]; 8] = [
        b"a//b",
        b"a/./b",
        b"/",
        b"//x//",
        b"x/",
        b".",
        b"\xff",
        &[0xff; 150],
    ];
    for (n, target) in targets.iter().enumerate() {
        symlink(OsStr::from_bytes(target), at(format!("l{n}").as_bytes())).unwrap();
    }
    for length in [1, 98, 99, 100, 101, 200] {
        fs::write(at(&vec![0xff; length]), "1").unwrap();
        fs::create_dir(at(&vec![0xfe; length])).unwrap();
    }
    unpack(&archive(dir.path()).0, back.path());
    assert_eq!(digest(back.path()), digest(dir.path()));
}

#[test]
fn files_of_every_length_around_a_piece_come_back_as_they_were() {
    let (dir, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lengths = [
        0,
        1,
        511,
        512,
        MIB - 1,
        MIB,
        MIB + 1,
        2 * MIB,
        3 * MIB + 513,
    ];
    for (n, length) in lengths.into_iter().enumerate() {
        fs::write(dir.path().join(format!("f{n}")), noise(n as u64, length)).unwrap();
    }
    let long = dir.path().join("n".repeat(150));
    fs::write(&long, noise(99, MIB + 5)).unwrap();
    let (bytes, index) = archive(dir.path());
    unpack(&bytes, back.path());
    assert_eq!(digest(back.path()), digest(dir.path()));
    assert_eq!(Index::of(&in_file(&bytes)).unwrap(), Some(index));
}

#[test]
fn a_small_state_is_one_member_and_none_is_one_too() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(archive(dir.path()).1.len(), 1);
    fs::write(dir.path().join("a"), noise(1, 100 << 10)).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    assert_eq!(archive(dir.path()).1.len(), 1);
}

#[test]
fn a_file_that_changed_since_it_was_hashed_tears_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    for name in ["d/f", "big", "l"] {
        let tree = crate::tree::read(dir.path()).unwrap();
        let root = beneath::root(dir.path()).unwrap();
        fs::remove_file(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name), "3").unwrap();
        let with = |torn| write(&tree, root.as_fd(), torn, None, &mut Vec::new());
        let refused = with(Torn::Refuse).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("{name} changed")), "{refused}");
        assert!(with(Torn::Accept).is_ok(), "{name}");
    }
}

#[test]
fn a_member_that_is_not_what_was_hashed_is_never_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("big"), noise(1, 4 * MIB)).unwrap();
    fs::write(dir.path().join("small"), "1").unwrap();
    let hashed = crate::tree::read(dir.path()).unwrap();
    let root = beneath::root(dir.path()).unwrap();
    let mut changed = noise(1, 4 * MIB);
    changed[2 * MIB + 7] ^= 1;
    fs::write(dir.path().join("big"), changed).unwrap();
    fs::write(dir.path().join("small"), "2").unwrap();
    let mut torn = Vec::new();
    let index = write(&hashed, root.as_fd(), Torn::Accept, None, &mut torn).unwrap();

    // The files are what was hashed again, and the next archive must say so.
    fs::write(dir.path().join("big"), noise(1, 4 * MIB)).unwrap();
    fs::write(dir.path().join("small"), "1").unwrap();
    let mut out = Object::replacing(torn, 0);
    write_to(dir.path(), Some(&index), &mut out);
    assert_eq!(out.bytes, archive(dir.path()).0);
    assert!(out.copies > 0);
}

#[test]
fn a_large_file_that_is_gone_leaves_the_others_in_an_archive_that_may_be_torn() {
    let (dir, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), noise(7, 2 * MIB + 9)).unwrap();
    }
    let tree = crate::tree::read(dir.path()).unwrap();
    let root = beneath::root(dir.path()).unwrap();
    fs::remove_file(dir.path().join("b")).unwrap();
    let mut out = Vec::new();
    let index = write(&tree, root.as_fd(), Torn::Accept, None, &mut out).unwrap();
    unpack(&out, back.path());
    assert_eq!(digest(back.path()), digest(dir.path()));
    assert_eq!(index.bytes(), out.len() as u64);
}

#[test]
fn a_file_that_is_cut_while_it_is_packed_keeps_its_length_in_a_torn_archive() {
    let (dir, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = noise(3, 3 * MIB);
    fs::write(dir.path().join("log"), &content).unwrap();
    let tree = crate::tree::read(dir.path()).unwrap();
    let root = beneath::root(dir.path()).unwrap();
    fs::write(dir.path().join("log"), &content[..MIB + 10]).unwrap();
    let mut out = Vec::new();
    write(&tree, root.as_fd(), Torn::Accept, None, &mut out).unwrap();
    unpack(&out, back.path());
    let mut padded = content;
    padded[MIB + 10..].fill(0);
    assert!(fs::read(back.path().join("log")).unwrap() == padded);
}

/// Many files and some large ones, in folders, from `seed`.
fn forest(dir: &Path, seed: u64, files: u64) {
    for n in 0..files {
        let folder = dir.join(format!("d{}", n % 7));
        fs::create_dir_all(&folder).unwrap();
        let length = 1000 + usize::from(noise(seed + n, 1)[0]) * 300;
        fs::write(folder.join(format!("f{n}")), noise(seed + n, length)).unwrap();
    }
    fs::write(dir.join("d3/big"), noise(seed, 6 * MIB + 17)).unwrap();
    fs::write(dir.join("zeros"), vec![0; 5 * MIB]).unwrap();
}

#[test]
fn whatever_changes_an_archive_with_parts_taken_over_is_the_one_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    forest(dir.path(), 1, 200);
    let (mut bytes, mut index) = archive(dir.path());
    let at = |name: &str| dir.path().join(name);
    let change: [&dyn Fn(); 9] = [
        &|| fs::write(at("d1/f15"), noise(500, 9000)).unwrap(),
        &|| fs::remove_file(at("d2/f16")).unwrap(),
        &|| fs::write(at("a first one"), "1").unwrap(),
        &|| fs::write(at("zz last"), noise(501, 3 * MIB)).unwrap(),
        &|| fs::rename(at("d3/big"), at("d5/moved")).unwrap(),
        &|| fs::write(at("d5/moved"), noise(502, 2 * MIB)).unwrap(),
        &|| {
            let mut zeros = vec![0; 5 * MIB];
            zeros[2 * MIB] = 1;
            fs::write(at("zeros"), zeros).unwrap();
        },
        &|| fs::remove_dir_all(at("d4")).unwrap(),
        &|| (),
    ];
    for (n, change) in change.into_iter().enumerate() {
        change();
        let (whole, members) = archive(dir.path());
        for least in [0, 1 << 20, 5 << 20] {
            let mut out = Object::replacing(bytes.clone(), least);
            let written = write_to(dir.path(), Some(&index), &mut out);
            assert!(out.bytes == whole && written == members, "change {n}");
        }
        (bytes, index) = (whole, members);
    }
}

#[test]
fn one_changed_file_costs_at_most_twice_its_size_and_ten_mebibytes() {
    let dir = tempfile::tempdir().unwrap();
    let name = |n: u64| dir.path().join(format!("f{n:03}"));
    let size = 300 << 10;
    for n in 0..160 {
        fs::write(name(n), noise(n, size)).unwrap();
    }
    let (bytes, index) = archive(dir.path());
    assert!(bytes.len() > 45 * MIB);
    let changed = (0..120)
        .step_by(30)
        .chain((120..160).step_by(3))
        .chain([159]);
    for n in changed {
        fs::write(name(n), noise(1000 + n, size)).unwrap();
        let mut out = Object::replacing(bytes.clone(), 5 << 20);
        write_to(dir.path(), Some(&index), &mut out);
        let most = 2 * size as u64 + (10 << 20);
        assert!(out.written <= most, "file {n}: {} bytes", out.written);
        fs::write(name(n), noise(n, size)).unwrap();
    }
}

#[test]
fn a_file_that_grows_costs_what_was_added_and_a_piece() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let content = noise(5, 40 * MIB + 1234);
    fs::write(&log, &content[..40 * MIB]).unwrap();
    let (bytes, index) = archive(dir.path());
    fs::write(&log, &content).unwrap();
    for (least, most) in [(0, 10 << 10), (5 << 20, 7 * MIB)] {
        let mut out = Object::replacing(bytes.clone(), least);
        write_to(dir.path(), Some(&index), &mut out);
        let written = usize::try_from(out.written).unwrap();
        assert!(written <= most, "{written} bytes, least {least}");
    }
}

#[test]
fn files_in_a_part_that_is_taken_over_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), noise(1, 3 * MIB)).unwrap();
    fs::write(dir.path().join("b"), "1").unwrap();
    let (bytes, index) = archive(dir.path());
    let tree = crate::tree::read(dir.path()).unwrap();
    fs::remove_file(dir.path().join("a")).unwrap();
    let root = beneath::root(dir.path()).unwrap();
    let mut out = Object::replacing(bytes.clone(), 0);
    write(&tree, root.as_fd(), Torn::Refuse, Some(&index), &mut out).unwrap();
    assert_eq!((out.written, out.copies), (0, 1));
    assert!(out.bytes == bytes);
}

#[test]
fn an_index_is_rebuilt_only_from_a_whole_archive_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    forest(dir.path(), 3, 20);
    let (bytes, index) = archive(dir.path());
    assert_eq!(Index::of(&in_file(&bytes)).unwrap(), Some(index));
    let damaged = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    for other in [
        bytes[..bytes.len() - 1].to_vec(),
        bytes[..20].to_vec(),
        [&bytes[..], b"more"].concat(),
        damaged(12),
        damaged(33),
    ] {
        assert_eq!(Index::of(&in_file(&other)).unwrap(), None);
    }
}

#[test]
fn cuts_come_back_to_where_they_were_after_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let name = |n: u64| dir.path().join(format!("f{n:04}"));
    for n in 0..1500 {
        fs::write(name(n), noise(n, 8000)).unwrap();
    }
    let cuts = |dir: &Path| plan(&crate::tree::read(dir).unwrap());
    let before: Vec<Id> = cuts(dir.path()).iter().map(|member| member.id).collect();
    assert!(before.len() > 8, "{}", before.len());
    fs::remove_file(name(100)).unwrap();
    fs::write(dir.path().join("f0100 and more"), noise(9, 30_000)).unwrap();
    let after = cuts(dir.path());
    let new = after.iter().filter(|member| !before.contains(&member.id));
    assert!(new.count() <= 3);
}
