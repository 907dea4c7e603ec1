//! The unpacker on what tools make and on what nobody should make.

use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules {
        links: Links::Inside,
        budget: Budget::default(),
    }
}

fn unpack_bytes(bytes: &[u8], rules: Rules) -> (tempfile::TempDir, Result<(), Error>) {
    let dir = tempfile::tempdir().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let result = unpack(&mut file, dir.path(), rules);
    (dir, result)
}

/// A tar of entries (kind, name, link, content).
fn tar(entries: &[(tar::EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, name, link, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o7755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn reason(bytes: &[u8]) -> Reason {
    let (_dir, result) = unpack_bytes(bytes, rules());
    result
        .expect_err("a refusal")
        .reason()
        .expect("the archive's fault")
        .clone()
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const LINK: tar::EntryType = tar::EntryType::Symlink;

#[test]
fn links_that_lead_out_are_refused_and_those_inside_work() {
    for (entries, expected) in [
        (vec![(LINK, "l", "../x", &b""[..])], Reason::LinkLeaves),
        (vec![(LINK, "l", "/etc/passwd", b"")], Reason::LinkLeaves),
        (vec![(LINK, "a/l", "../../x", b"")], Reason::LinkLeaves),
        (
            vec![(LINK, "d/one", "..", b""), (LINK, "two", "d/one/../x", b"")],
            Reason::LinkLeaves,
        ),
        (
            vec![(LINK, "a", "b", b""), (LINK, "b", "a", b"")],
            Reason::LinkCircle,
        ),
        (
            vec![(LINK, "l", "d", b""), (FILE, "l/x", "", b"1")],
            Reason::Through,
        ),
        (
            vec![(LINK, "l", "x", b""), (FILE, "l", "", b"1")],
            Reason::KindChanges,
        ),
    ] {
        assert_eq!(reason(&tar(&entries)), expected, "{entries:?}");
    }
    let inside = tar(&[(FILE, "d/f", "", b"1"), (LINK, "e/l", "../d/f", b"")]);
    let (dir, result) = unpack_bytes(&inside, rules());
    result.unwrap();
    assert_eq!(fs::read(dir.path().join("e/l")).unwrap(), b"1");
    let mode = fs::metadata(dir.path().join("d/f"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn a_state_keeps_links_that_lead_out_without_following_them() {
    let all = Rules {
        links: Links::All,
        ..rules()
    };
    let bytes = tar(&[(LINK, "l", "/etc", b""), (FILE, "l/x", "", b"1")]);
    let (_dir, result) = unpack_bytes(&bytes, all);
    assert_eq!(result.unwrap_err().reason(), Some(&Reason::Through));
    let (dir, result) = unpack_bytes(&tar(&[(LINK, "l", "/etc", b"")]), all);
    result.unwrap();
    assert_eq!(
        fs::read_link(dir.path().join("l")).unwrap().to_str(),
        Some("/etc")
    );
}

#[test]
fn budgets_hold() {
    let with = |budget| {
        let bytes = tar(&[(FILE, "a", "", &[0; 3000]), (FILE, "b", "", b"")]);
        unpack_bytes(&bytes, Rules { budget, ..rules() })
            .1
            .err()
            .and_then(|e| e.reason().cloned())
    };
    let budget = Budget::default();
    assert_eq!(with(budget), None);
    assert_eq!(
        with(Budget {
            entries: 1,
            ..budget
        }),
        Some(Reason::Entries(1))
    );
    assert_eq!(
        with(Budget {
            bytes: 2999,
            ..budget
        }),
        Some(Reason::Size(0))
    );
}

#[test]
fn a_bomb_is_refused_by_its_ratio() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&tar(&[(FILE, "zeros", "", &vec![0; 32 << 20])]))
        .unwrap();
    let bytes = gzip.finish().unwrap();
    let budget = Budget {
        ratio: 100,
        ..Budget::default()
    };
    let (_dir, result) = unpack_bytes(&bytes, Rules { budget, ..rules() });
    assert_eq!(result.unwrap_err().reason(), Some(&Reason::Ratio(100)));
}

#[derive(Debug, Clone)]
enum Plant {
    Folder,
    File(Vec<u8>, u32),
}

fn trees() -> impl Strategy<Value = std::collections::BTreeMap<String, Plant>> {
    let plant = prop_oneof![
        Just(Plant::Folder),
        (
            prop::collection::vec(any::<u8>(), 0..600),
            prop_oneof![Just(0o644), Just(0o700)]
        )
            .prop_map(|(content, mode)| Plant::File(content, mode)),
    ];
    // Folder names and file names never meet, so that every set of paths is a tree.
    let path = "(d[a-c]/){0,3}";
    prop::collection::btree_map(
        (path, "[a-z]{1,4}").prop_map(|(d, f)| format!("{d}x{f}")),
        plant,
        0..12,
    )
}

fn grow(root: &Path, tree: &std::collections::BTreeMap<String, Plant>) {
    for (path, plant) in tree {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match plant {
            Plant::Folder => fs::create_dir(&path).unwrap(),
            Plant::File(content, mode) => {
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_the_archive_writer_packs_unpacks_to_the_same_digest(tree in trees()) {
        let dir = tempfile::tempdir().unwrap();
        grow(dir.path(), &tree);
        let before = crate::tree::read(dir.path()).unwrap();
        let root = crate::beneath::root(dir.path()).unwrap();
        let mut bytes = Vec::new();
        let fd = std::os::fd::AsFd::as_fd(&root);
        crate::archive::write(&before, fd, crate::archive::Torn::Refuse, None, &mut bytes).unwrap();
        let (out, result) = unpack_bytes(&bytes, rules());
        result.unwrap();
        prop_assert_eq!(crate::tree::read(out.path()).unwrap().digest(), before.digest());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_of_an_archive_is_harmless(
        tree in trees(), at in any::<prop::sample::Index>(), bit in 0u8..8
    ) {
        let dir = tempfile::tempdir().unwrap();
        grow(dir.path(), &tree);
        let before = crate::tree::read(dir.path()).unwrap();
        let root = crate::beneath::root(dir.path()).unwrap();
        let mut bytes = Vec::new();
        let fd = std::os::fd::AsFd::as_fd(&root);
        crate::archive::write(&before, fd, crate::archive::Torn::Refuse, None, &mut bytes).unwrap();
        let at = at.index(bytes.len());
        let (_out, result) = unpack_bytes(&bytes[..at], rules());
        prop_assert!(result.is_err());
        // Some bits say nothing about the content: the header's, the padding before the checksum.
        bytes[at] ^= 1 << bit;
        let (out, result) = unpack_bytes(&bytes, rules());
        if result.is_ok() {
            prop_assert_eq!(crate::tree::read(out.path()).unwrap().digest(), before.digest());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        start in prop_oneof![Just(&b"PK\x03\x04"[..]), Just(&b"PK\x05\x06"[..]), Just(&b"\x1f\x8b\x08\x00"[..]), Just(&b""[..])],
        mut bytes in prop::collection::vec(any::<u8>(), 0..2048), checksum in any::<bool>()
    ) {
        if checksum && bytes.len() >= 512 {
            let block: [u8; 512] = bytes[..512].try_into().unwrap();
            let mut header = tar::Header::from_byte_slice(&block).clone();
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
        }
        let _ = unpack_bytes(&[start, &bytes].concat(), rules());
    }
}
