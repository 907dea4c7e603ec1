//! The hostile archives of the tests, given to the unpackers that people use, in one run.
//!
//! Each unpacks as a user without rights, in a folder far down a tree of its own in which everything outside that folder
//! is looked at afterwards; absolute names lead into the same tree.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::hostile::{Case, FAMILIES, LIMITS, good};

/// What became of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Refused,
    /// Something outside was made or changed.
    Escaped,
    /// Something was left inside that leads out, is no file, or runs as somebody else.
    WayOut,
    /// Taken, with no harm done here.
    Accepted,
}

enum Tool {
    Sync(PathBuf),
    Tar,
    Unzip,
    Python(Box<Python>),
}

/// Prints a table of families and tools.
pub fn compare(folder: &Path) {
    let tree = tempfile::tempdir().expect("a folder");
    let cell = tree.path().join("a/b/c/d/e/f");
    fs::create_dir_all(cell.join("outside")).expect("a folder");
    fs::write(cell.join("outside/canary"), "alive").expect("a file");
    fs::write(cell.join("canary"), "alive").expect("a file");
    open_all(tree.path());
    let sync = cell.join("sync");
    fs::copy(folder.join("sync"), &sync).expect("sync is built");
    let mut tools = vec![Tool::Sync(sync), Tool::Tar, Tool::Unzip];
    tools.extend(Python::start().map(|python| Tool::Python(Box::new(python))));
    println!("\nHostile archives: refused / escaped / left a way out / accepted without harm\n");
    print!("{:<30}", "");
    for tool in &tools {
        print!(" {:>18}", tool.name());
    }
    println!();
    let mut all = vec![BTreeMap::new(); tools.len()];
    for family in FAMILIES {
        let cases = family.cases(&cell.join("outside"));
        print!("{:<30}", family.name);
        for (tool, all) in tools.iter_mut().zip(&mut all) {
            let fates = tool.treat(&cases, tree.path(), &cell);
            for (fate, count) in &fates {
                *all.entry(*fate).or_insert(0) += count;
            }
            print!(" {:>18}", told(&fates));
        }
        println!();
    }
    print!("{:<30}", "together");
    for fates in &all {
        print!(" {:>18}", told(fates));
    }
    println!();
    harmless(&mut tools, tree.path(), &cell);
}

/// The archives that must be accepted: each refusal is one too many.
fn harmless(tools: &mut [Tool], tree: &Path, cell: &Path) {
    let cases: Vec<_> = good()
        .into_iter()
        .map(|good| Case::harmless(good.label, good.bytes))
        .collect();
    print!("{:<30}", "good archives");
    for tool in tools {
        print!(" {:>18}", told(&tool.treat(&cases, tree, cell)));
    }
    println!();
}

fn told(fates: &BTreeMap<Fate, usize>) -> String {
    let count = |fate| fates.get(&fate).copied().unwrap_or(0);
    if fates.is_empty() {
        return "-".to_owned();
    }
    let [refused, escaped, way_out, accepted] =
        [Fate::Refused, Fate::Escaped, Fate::WayOut, Fate::Accepted].map(count);
    format!("{refused}/{escaped}/{way_out}/{accepted}")
}

impl Tool {
    fn name(&self) -> &'static str {
        match self {
            Self::Sync(_) => "sync unpack",
            Self::Tar => "GNU tar",
            Self::Unzip => "unzip",
            Self::Python(_) => "Python",
        }
    }

    fn reads(&self, bytes: &[u8]) -> bool {
        let zip = bytes.starts_with(b"PK");
        match self {
            Self::Sync(_) | Self::Python(_) => true,
            Self::Tar => !zip,
            Self::Unzip => zip,
        }
    }

    fn treat(&mut self, cases: &[Case], tree: &Path, cell: &Path) -> BTreeMap<Fate, usize> {
        let mut fates = BTreeMap::new();
        for case in cases {
            if !self.reads(&case.bytes) {
                continue;
            }
            *fates.entry(self.fate(&case.bytes, tree, cell)).or_insert(0) += 1;
        }
        fates
    }

    fn fate(&mut self, bytes: &[u8], tree: &Path, cell: &Path) -> Fate {
        let (archive, out) = (cell.join("archive"), cell.join("out"));
        fs::write(&archive, bytes).expect("a file");
        fs::set_permissions(&archive, fs::Permissions::from_mode(0o644)).expect("ours");
        fs::create_dir(&out).expect("a folder");
        fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).expect("ours");
        let before = outside(tree, &out);
        let taken = self.run(&archive, &out);
        let after = outside(tree, &out);
        let fate = match taken {
            _ if before != after => Fate::Escaped,
            _ if has_way_out(&out, &out, cell) => Fate::WayOut,
            true => Fate::Accepted,
            false => Fate::Refused,
        };
        if fate == Fate::Escaped {
            mend(tree, cell, &before, &after);
        }
        let _ = fs::remove_dir_all(&out);
        fate
    }

    /// Whether the tool says that all is well.
    fn run(&mut self, archive: &Path, out: &Path) -> bool {
        let mut command = plain();
        match self {
            Self::Python(python) => return python.run(archive, out),
            Self::Sync(sync) => command
                .arg(sync)
                .arg("unpack")
                .arg(archive)
                .arg(out)
                .envs(LIMITS),
            Self::Tar => command
                .args(["tar", "-x", "-C"])
                .arg(out)
                .arg("-f")
                .arg(archive),
            Self::Unzip => command
                .args(["unzip", "-q", "-o"])
                .arg(archive)
                .arg("-d")
                .arg(out),
        };
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }
}

/// What runs a tool as a user without rights, for half a minute at most.
fn plain() -> Command {
    if !nix::unistd::geteuid().is_root() {
        let mut command = Command::new("timeout");
        command.arg("30");
        return command;
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=1000",
        "--regid=1000",
        "--clear-groups",
        "timeout",
        "30",
    ]);
    command
}

/// One interpreter for all archives, as its start takes longer than they do. It gives its rights up itself: a user
/// without them need not be able to read where it is installed.
struct Python {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

const SCRIPT: &str = r"
import bz2, gzip, lzma, os, sys, tarfile, zipfile, zlib
b'x'.decode('cp437')
if os.getuid() == 0:
    os.setgroups([]), os.setgid(1000), os.setuid(1000)
for line in sys.stdin:
    archive, out = line.rstrip('\n').split('\t')
    try:
        if open(archive, 'rb').read(2) == b'PK':
            with zipfile.ZipFile(archive) as zip: zip.extractall(out)
        else:
            with tarfile.open(archive) as tar: tar.extractall(out, filter='data')
        print('taken', flush=True)
    except Exception as e:
        print('refused', flush=True)
";

impl Python {
    fn start() -> Option<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT]);
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = piped.spawn().ok()?;
        let answers = BufReader::new(child.stdout.take()?);
        Some(Self { child, answers })
    }

    fn run(&mut self, archive: &Path, out: &Path) -> bool {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{}\t{}", archive.display(), out.display()).expect("Python runs");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("Python answers");
        answer.trim() == "taken"
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("ours");
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            open_all(&entry.path());
        } else {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o666)).expect("ours");
        }
    }
}

/// Everything outside `out`, with what tells that it changed.
fn outside(path: &Path, out: &Path) -> BTreeMap<PathBuf, (u32, u64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        if path == out || path.file_name().is_some_and(|name| name == "archive") {
            continue;
        }
        if meta.is_dir() {
            found.extend(outside(&path, out));
            found.insert(path, (meta.mode(), 0, 0));
        } else {
            found.insert(path, (meta.mode(), meta.len(), meta.mtime_nsec()));
        }
    }
    found
}

fn mend(
    tree: &Path,
    cell: &Path,
    before: &BTreeMap<PathBuf, (u32, u64, i64)>,
    after: &BTreeMap<PathBuf, (u32, u64, i64)>,
) {
    for path in after.keys().filter(|path| !before.contains_key(*path)) {
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir_all(path);
    }
    for canary in ["canary", "outside/canary"] {
        let _ = fs::remove_file(cell.join(canary));
        fs::write(cell.join(canary), "alive").expect("a file");
    }
    open_all(tree);
    let sync = fs::Permissions::from_mode(0o777);
    fs::set_permissions(cell.join("sync"), sync).expect("ours");
}

/// Whether something below `folder` leads out of `out`, is no file, or has rights of its own.
fn has_way_out(folder: &Path, out: &Path, cell: &Path) -> bool {
    let canaries = ["canary", "outside/canary"]
        .map(|name| fs::metadata(cell.join(name)).map_or(0, |m| m.ino()));
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let path = entry.path();
            let Ok(meta) = path.symlink_metadata() else {
                return true;
            };
            let kind = meta.file_type();
            if kind.is_symlink() {
                return leads_out(&path, out);
            }
            if kind.is_dir() {
                return has_way_out(&path, out, cell);
            }
            let special = kind.is_fifo()
                || kind.is_socket()
                || kind.is_char_device()
                || kind.is_block_device();
            special || meta.mode() & 0o6000 != 0 || canaries.contains(&meta.ino())
        })
}

fn leads_out(link: &Path, out: &Path) -> bool {
    if let Ok(real) = fs::canonicalize(link) {
        return !real.starts_with(out.canonicalize().unwrap_or_default());
    }
    let Ok(target) = fs::read_link(link) else {
        return true;
    };
    let mut at = link.parent().unwrap_or(out).to_owned();
    for part in target.components() {
        match part {
            Component::ParentDir => drop(at.pop()),
            Component::Normal(name) => at.push(name),
            Component::RootDir => at = "/".into(),
            _ => {}
        }
        if !at.starts_with(out) {
            return true;
        }
    }
    false
}
