//! The real `sync` on archives that nobody should make, on those that everybody makes, and on those with a few bits
//! changed.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use contract::exit;
use tests::hostile::{Case, FAMILIES, Family, LIMITS, Seed, good};
use tests::{bin, read, run, skip, text};

/// A folder to unpack into, with something beside it that has to stay as it is.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("parent")).unwrap();
        fs::write(dir.path().join("parent/canary"), "alive").unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/canary"), "alive").unwrap();
        Self { dir }
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("parent/out")
    }

    fn unpack(&self, bytes: &[u8]) -> Output {
        let archive = self.dir.path().join("archive");
        fs::write(&archive, bytes).unwrap();
        let mut command = Command::new(bin("sync"));
        command.arg("unpack").arg(archive).arg(self.out());
        run(command.env_clear().envs(LIMITS))
    }

    /// What is there apart from what was there before.
    fn stray(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["", "parent", "outside"] {
            for entry in fs::read_dir(self.dir.path().join(folder)).unwrap() {
                found.push(entry.unwrap().file_name().into_string().unwrap());
            }
        }
        let alive = |folder: &str| read(&self.dir.path().join(folder).join("canary")) == "alive";
        assert!(alive("parent") && alive("outside"), "a canary was touched");
        found.retain(|name| !["archive", "canary", "outside", "parent"].contains(&name.as_str()));
        found
    }
}

/// Runs `prove` on all families, two at a time.
fn each_family(prove: impl Fn(&Family) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            while let Some(family) =
                FAMILIES.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
            {
                prove(family);
            }
        };
        scope.spawn(work);
        scope.spawn(work);
    });
}

#[test]
fn every_family_has_at_least_sixty_different_archives() {
    each_family(|family| {
        let cases = family.cases(Path::new("/outside"));
        let different: HashSet<_> = cases.iter().map(|case| &case.bytes).collect();
        assert_eq!(
            different.len(),
            cases.len(),
            "{}: some are the same",
            family.name
        );
        assert!(cases.len() >= 60, "{}: {}", family.name, cases.len());
        let again = family.cases(Path::new("/outside"));
        let same = cases
            .iter()
            .zip(&again)
            .all(|(one, two)| one.bytes == two.bytes);
        assert!(same, "{}: made otherwise the second time", family.name);
    });
}

#[test]
fn hostile_archives_are_refused_by_name_with_nothing_left_anywhere() {
    let total = std::sync::atomic::AtomicUsize::new(0);
    each_family(|family| {
        let ground = Ground::new();
        let cases = family.cases(&ground.outside());
        let wrong: Vec<_> = cases
            .iter()
            .filter_map(|case| wrong(&ground, case))
            .collect();
        assert!(wrong.is_empty(), "{}:\n{}", family.name, wrong.join("\n"));
        total.fetch_add(cases.len(), std::sync::atomic::Ordering::SeqCst);
    });
    eprintln!("{} hostile archives refused", total.into_inner());
}

/// What is wrong about how `case` was treated.
fn wrong(ground: &Ground, case: &Case) -> Option<String> {
    let output = ground.unpack(&case.bytes);
    let (code, said) = (output.status.code(), text(&output.stderr));
    let stray = ground.stray();
    let refused = code == Some(i32::from(exit::REFUSED)) && case.is_told_by(&said);
    if refused && stray.is_empty() {
        return None;
    }
    let _ = fs::remove_dir_all(ground.out());
    Some(format!("{}: {code:?}, {stray:?} there, {said}", case.label))
}

#[test]
fn a_hostile_bundle_never_replaces_the_code() {
    each_family(|family| {
        let ground = Ground::new();
        let root = ground.dir.path().join("parent");
        let object = ground.dir.path().join("store/custom-bots/u/b/1");
        fs::create_dir_all(object.parent().unwrap()).unwrap();
        fs::create_dir(root.join("code")).unwrap();
        fs::write(root.join("code/main.py"), "old").unwrap();
        for case in family.cases(&ground.outside()).iter().step_by(12) {
            fs::write(&object, &case.bytes).unwrap();
            let output = run(fetch(&root, &ground.dir.path().join("store")).envs(LIMITS));
            let said = text(&output.stderr);
            let (code, label) = (output.status.code(), &case.label);
            assert_eq!(code, Some(i32::from(exit::CODE)), "{label}: {said}");
            assert!(
                said.contains("custom-bots") && said.contains("u/b/1"),
                "{label}: {said}"
            );
            assert_eq!(
                fs::read_dir(root.join("code")).unwrap().count(),
                1,
                "{label}"
            );
            assert_eq!(read(&root.join("code/main.py")), "old", "{label}");
            assert_eq!(
                fs::read_dir(ground.outside()).unwrap().count(),
                1,
                "{label}"
            );
        }
    });
}

fn fetch(root: &Path, store: &Path) -> Command {
    let mut command = Command::new(bin("sync"));
    command.arg("fetch").env_clear().stdin(Stdio::null());
    command.envs([
        ("BOT_ID", "b1"),
        ("RUNTIME", "python3.11"),
        ("ENTRYPOINT", "main.py"),
    ]);
    command.envs([("CODE_FILE", "u/b/1"), ("THE0_FETCH_DEADLINE", "5s")]);
    command
        .env("CODE_PATH", root.join("code"))
        .env("STATE_PATH", root.join("state"));
    command
        .env("THE0_VAR_PATH", root.join("var"))
        .env("THE0_STORE", store);
    command
}

#[test]
fn archives_as_tools_make_them_are_accepted() {
    let ground = Ground::new();
    let mut wrong = Vec::new();
    for case in good() {
        let output = ground.unpack(&case.bytes);
        if !output.status.success() {
            wrong.push(format!("{}: {}", case.label, text(&output.stderr)));
            continue;
        }
        for (path, content) in &case.files {
            let found = read(&ground.out().join(path));
            if found != *content {
                wrong.push(format!("{}: {path} is {found:?}", case.label));
            }
        }
        open_up(&ground.out());
        fs::remove_dir_all(ground.out()).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lets folders without write permission be removed by who is not root.
fn open_up(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            open_up(&entry.path());
        }
    }
}

/// Archives of the same tree by each format that Python and GNU tar write.
const TOOLS: &str = r"
import io, os, subprocess, sys, tarfile, zipfile
os.chdir(sys.argv[1])
os.makedirs('tree/d/' + 'e' * 120)
open('tree/main.py', 'w').write('print()')
open('tree/d/data', 'wb').write(bytes(range(256)) * 1000)
open('tree/d/ä', 'w').write('ä')
open('tree/d/%s/f' % ('e' * 120), 'w').write('deep')
os.symlink('d/data', 'tree/link')
os.link('tree/main.py', 'tree/same.py')
os.chmod('tree/main.py', 0o755)
for name in ['USTAR', 'GNU', 'PAX']:
    for mode in ['w', 'w:gz']:
        with tarfile.open(f'python-{name}-{mode[2:]}', mode, format=getattr(tarfile, name + '_FORMAT')) as tar:
            tar.add('tree', '.')
for name, method in [('stored', 0), ('deflated', 8)]:
    for force in [False, True]:
        with zipfile.ZipFile(f'zipfile-{name}-{force}', 'w', method) as zip:
            for folder, _, files in os.walk('tree'):
                for file in files:
                    path = os.path.join(folder, file)
                    if not os.path.islink(path):
                        with zip.open(os.path.relpath(path, 'tree'), 'w', force_zip64=force) as out:
                            out.write(open(path, 'rb').read())
            zip.write('tree/d', 'd')
class Pipe(io.RawIOBase):
    def __init__(self): self.data = b''
    def writable(self): return True
    def write(self, data): self.data += bytes(data); return len(data)
pipe = Pipe()
with zipfile.ZipFile(pipe, 'w', 8) as zip:
    zip.write('tree/main.py', 'main.py')
    zip.write('tree/d/data', 'd/data')
open('zipfile-piped', 'wb').write(pipe.data)
for form in ['gnu', 'oldgnu', 'pax', 'posix', 'ustar']:
    for flags, name in [('-c', 'tar'), ('-cz', 'gz')]:
        subprocess.run(['tar', flags, '-f', f'gnu-{form}-{name}', f'--format={form}', '-C', 'tree', '.'], check=False)
";

#[test]
fn archives_of_python_and_gnu_tar_are_accepted_in_every_format() {
    let ground = Ground::new();
    let made = ground.dir.path().join("made");
    fs::create_dir(&made).unwrap();
    let python = Command::new("python3")
        .args(["-c", TOOLS])
        .arg(&made)
        .output();
    let Ok(output) = python else {
        return skip(
            "archives_of_python_and_gnu_tar_are_accepted_in_every_format",
            "no python3",
        );
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut seen = 0;
    for entry in fs::read_dir(&made).unwrap().map(Result::unwrap) {
        let bytes = fs::read(entry.path()).unwrap_or_default();
        let name = entry.file_name().into_string().unwrap();
        if name == "tree" || bytes.is_empty() {
            continue;
        }
        let output = ground.unpack(&bytes);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert_eq!(read(&ground.out().join("main.py")), "print()", "{name}");
        assert_eq!(
            fs::metadata(ground.out().join("d/data")).unwrap().len(),
            256_000,
            "{name}"
        );
        fs::remove_dir_all(ground.out()).unwrap();
        seen += 1;
    }
    assert!(seen >= 11, "only {seen} archives");
}

/// Changes a few bytes of a good archive, or cuts or doubles a part of it.
fn mutate(seed: &mut Seed, bytes: &mut Vec<u8>) {
    for _ in 0..=seed.below(4) {
        let at = seed.below(bytes.len());
        let most = bytes.len() - at;
        match seed.below(6) {
            0 => bytes[at] = 0xff,
            1 => bytes[at] = b"/.\0\\LKxg5123"[seed.below(11)],
            2 => drop(bytes.drain(at..at + seed.below(most.min(600)))),
            3 => {
                let part = bytes[at..at + seed.below(most.min(600))].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes[at] ^= 1 << seed.below(8),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    if seed.below(2) == 0 {
        mend(bytes);
    }
}

/// Makes checksums of tar headers right again, so that what was changed is believed.
fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
}

#[test]
fn an_archive_with_a_few_bits_changed_is_refused_whole_or_unpacked_inside() {
    let all: Vec<_> = good()
        .into_iter()
        .filter(|good| good.bytes.len() > 22)
        .collect();
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let all = &all;
            scope.spawn(move || {
                let ground = Ground::new();
                let mut seed = Seed::new(&format!("mutation {worker}"));
                for round in 0..600 {
                    let case = &all[seed.below(all.len())];
                    let mut bytes = case.bytes.clone();
                    mutate(&mut seed, &mut bytes);
                    survive(&ground, &bytes, &format!("{}, round {round}", case.label));
                }
            });
        }
    });
}

fn survive(ground: &Ground, bytes: &[u8], label: &str) {
    let output = ground.unpack(bytes);
    let said = text(&output.stderr);
    assert!(!said.contains("panicked"), "{label}: {said}");
    let stray = ground.stray();
    match output.status.code() {
        Some(0) => {
            assert_eq!(stray, ["out"], "{label}");
            open_up(&ground.out());
            fs::remove_dir_all(ground.out()).unwrap();
        }
        Some(code) if code == i32::from(exit::REFUSED) => {
            assert!(stray.is_empty(), "{label}: {stray:?}");
        }
        code => panic!("{label}: {code:?} {said}"),
    }
}
