use std::io::Cursor;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn scan<'a>(dir: &'a TempDir, always: &'a [&'a str]) -> Result<Tree, PackError> {
    Tree::scan(Scope {
        root: dir.path(),
        always,
        except: &dir.path().join("data"),
    })
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.entries.keys().map(String::as_str).collect()
}

fn zip(tree: &Tree) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    tree.write(&mut bytes).unwrap();
    bytes.into_inner()
}

#[test]
fn the_same_content_gives_the_same_bytes_wherever_and_whenever() {
    let files = [("main.py", "x"), ("lib/a.py", "y"), ("lib/b/c.txt", "")];
    let (one, two) = (folder(&files), folder(&files));
    let late = SystemTime::now() - Duration::from_secs(86_400);
    let main = File::options()
        .write(true)
        .open(two.path().join("main.py"))
        .unwrap();
    main.set_modified(late).unwrap();
    let (a, b) = (scan(&one, &[]).unwrap(), scan(&two, &[]).unwrap());
    assert_eq!(zip(&a), zip(&b));
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    assert_ne!(a.fingerprint(), b.fingerprint());
    assert_eq!(
        a.write(Cursor::new(Vec::new())).unwrap(),
        a.digest().unwrap()
    );
}

#[test]
fn any_change_changes_the_digest() {
    let dir = folder(&[("main.py", "x"), ("tool", "#!/bin/sh")]);
    let digest = || scan(&dir, &[]).unwrap().digest().unwrap();
    let mut seen = vec![digest()];
    fs::write(dir.path().join("main.py"), "y").unwrap();
    seen.push(digest());
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.path().join("tool"), executable).unwrap();
    seen.push(digest());
    fs::create_dir(dir.path().join("empty")).unwrap();
    seen.push(digest());
    symlink("main.py", dir.path().join("link")).unwrap();
    seen.push(digest());
    fs::rename(dir.path().join("tool"), dir.path().join("tool2")).unwrap();
    seen.push(digest());
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn what_never_belongs_into_a_bundle_stays_out() {
    let dir = folder(&[
        ("main.py", ""),
        ("result.json", ""),
        ("__pycache__/x.pyc", ""),
        (".main.py.swp", ""),
        ("lib/.#x.py", ""),
        ("#main.py#", ""),
        ("main.py~", ""),
        ("lib/__pycache__/x.pyc", ""),
        (".git/HEAD", ""),
        (".the0-state/k.json", ""),
        ("data/store/x", ""),
        (".hidden", ""),
    ]);
    assert_eq!(
        names(&scan(&dir, &[]).unwrap()),
        [".hidden", "lib", "main.py"]
    );
}

#[test]
fn an_ignore_file_of_ours_alone_decides() {
    let dir = folder(&[
        (".the0ignore", "*.csv\n/node_modules\n!keep.csv\n"),
        (".gitignore", "main.py\n"),
        ("main.py", ""),
        ("big.csv", ""),
        ("keep.csv", ""),
        ("node_modules/x.js", ""),
    ]);
    let found = scan(&dir, &["main.py"]).unwrap();
    assert_eq!(names(&found), [".gitignore", "keep.csv", "main.py"]);
}

#[test]
fn gits_ignore_file_does_not_take_away_what_the_bot_needs_to_run() {
    let dir = folder(&[
        (".gitignore", "target/\nvendor/\n*.log\n"),
        ("target/bot", ""),
        ("target/other", ""),
        ("vendor/lib.py", ""),
        ("a.log", ""),
    ]);
    let found = scan(&dir, &["target/bot"]).unwrap();
    let expected = [
        ".gitignore",
        "target",
        "target/bot",
        "vendor",
        "vendor/lib.py",
    ];
    assert_eq!(names(&found), expected);
}

#[test]
fn links_inside_are_kept_and_links_outside_refused() {
    let dir = folder(&[("lib/a.py", "")]);
    symlink("../lib/a.py", dir.path().join("lib/b.py")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    let tree = scan(&dir, &[]).unwrap();
    assert_eq!(
        tree.entries["lib/b.py"].kind,
        Kind::Link("../lib/a.py".into())
    );
    for target in ["/etc/passwd", "../x", "lib/../../x"] {
        symlink(target, dir.path().join("bad")).unwrap();
        let text = scan(&dir, &[]).unwrap_err().to_string();
        assert!(text.contains("bad") && text.contains(target), "{text}");
        fs::remove_file(dir.path().join("bad")).unwrap();
    }
}

#[test]
fn the_archive_holds_permissions_and_links() {
    let dir = folder(&[("tool", "#!/bin/sh\n")]);
    fs::set_permissions(dir.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("tool", dir.path().join("link")).unwrap();
    let bytes = zip(&scan(&dir, &[]).unwrap());
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mode = |archive: &mut zip::ZipArchive<_>, name| {
        let entry: zip::read::ZipFile<'_, Cursor<Vec<u8>>> = archive.by_name(name).unwrap();
        entry.unix_mode().unwrap()
    };
    assert_eq!(mode(&mut archive, "tool"), 0o100_755);
    assert_eq!(mode(&mut archive, "link") & 0o170_000, 0o120_000);
}

#[test]
fn a_tree_that_was_just_written_is_not_trusted_by_its_times() {
    let dir = folder(&[("main.py", "")]);
    let tree = scan(&dir, &[]).unwrap();
    assert!(tree.is_racy(SystemTime::now()));
    assert!(!tree.is_racy(SystemTime::now() + Duration::from_secs(10)));
}

#[test]
fn an_archive_that_cannot_be_written_is_let_be() {
    /// Takes some bytes, and counts what is tried beyond.
    struct Full(u64, u32);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 + bytes.len() as u64 > 64 {
                self.1 += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Seek for Full {
        fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
            Ok(self.0)
        }
    }
    let dir = folder(&[("main.py", "print(1)"), ("other.py", "print(2)")]);
    let mut full = Full(0, 0);
    let failed = scan(&dir, &[]).unwrap().write(&mut full).unwrap_err();
    assert!(matches!(failed, PackError::Write(_)), "{failed}");
    assert_eq!(full.1, 1, "tried again");
}
