//! The machine that the agent runs on: kernel, limits, disk, clock.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use landlock::{ABI, Access, AccessFs, LandlockStatus, Ruleset, RulesetAttr};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statvfs::statvfs;

use super::sheet::{Part, Sheet};

const GIB: u64 = 1 << 30;
/// Free space under which it is told, and under which it is a failure.
const SPACE: [u64; 2] = [2 * GIB, GIB / 4];
/// Open files that an agent wants.
const FILES: u64 = 1024;
/// inotify instances that each bot takes.
const PER_BOT: usize = 2;

/// Looks at it; `bots` is how many bots there are, where that is known.
pub fn look(data: &Path, bots: Option<usize>, sheet: &RefCell<Sheet>) {
    let mut sheet = sheet.borrow_mut();
    kernel(&mut sheet);
    inotify(bots, &mut sheet);
    clock(&mut sheet);
    files(&mut sheet);
    folder(data, &mut sheet);
}

fn kernel(sheet: &mut Sheet) {
    let release = text_of("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    let openat2 = match probe_openat2() {
        Err(Errno::ENOSYS) => {
            let remedy = "bundles cannot be unpacked where this is so: a kernel from 5.6 on has it, and a seccomp profile that knows it";
            return sheet.failed(
                Part::Machine,
                "kernel",
                format!("{release}, without openat2"),
                remedy,
            );
        }
        _ => "openat2",
    };
    let abi = std::thread::spawn(landlock).join().ok().flatten();
    match abi {
        Some(abi) => sheet.ok(
            Part::Machine,
            "kernel",
            format!("{release}, {openat2}, Landlock ABI {abi}"),
        ),
        None => sheet.warning(
            Part::Machine,
            "kernel",
            format!("{release}, {openat2}, no Landlock"),
            "less is refused to bots: a kernel from 5.13 on with lsm=..,landlock confines them further",
        ),
    }
}

fn probe_openat2() -> nix::Result<()> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, "/", how).map(|_| ())
}

/// The kernel's interface to Landlock. What finds it out confines its thread, which is one of its own.
fn landlock() -> Option<i32> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V1))
        .ok()?;
    let status = ruleset.create().ok()?.restrict_self().ok()?;
    match status.landlock {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => Some(kernel_abi.unwrap_or(effective_abi as i32)),
        _ => None,
    }
}

fn inotify(bots: Option<usize>, sheet: &mut Sheet) {
    let Some(most) = number_of("/proc/sys/fs/inotify/max_user_instances") else {
        return sheet.warning(
            Part::Machine,
            "inotify",
            "not here",
            "nothing is lost without it, but stops take up to 5 s: a kernel with inotify",
        );
    };
    let wanted = bots.map_or(0, |bots| bots * PER_BOT + 8);
    let found = match bots {
        Some(bots) => format!("{most} instances a user, {wanted} wanted by {bots} bots"),
        None => format!("{most} instances a user"),
    };
    if u64::try_from(wanted).unwrap_or(u64::MAX) <= most {
        sheet.ok(Part::Machine, "inotify", found);
    } else {
        let remedy = format!(
            "sysctl fs.inotify.max_user_instances={}, also in /etc/sysctl.d",
            4096.max(wanted.next_power_of_two())
        );
        sheet.warning(Part::Machine, "inotify", found, remedy);
    }
}

fn clock(sheet: &mut Sheet) {
    match synchronised() {
        Some(true) => sheet.ok(Part::Machine, "clock", "synchronised"),
        Some(false) => sheet.warning(
            Part::Machine,
            "clock",
            "not synchronised",
            "timedatectl set-ntp true, or run chrony: stores refuse requests of a clock that is 15 minutes off",
        ),
        None => sheet.ok(
            Part::Machine,
            "clock",
            "whether it is synchronised is not told here; the store's clock is compared above",
        ),
    }
}

/// What systemd says of the clock; `None` where there is none.
fn synchronised() -> Option<bool> {
    // It asks a service over a bus, which may hang.
    let mut command = Command::new("timeout");
    command.args(["2", "timedatectl", "show", "-p", "NTPSynchronized"]);
    let output = command.stdin(Stdio::null()).output().ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "NTPSynchronized=yes" => Some(true),
        "NTPSynchronized=no" => Some(false),
        _ => None,
    }
}

fn files(sheet: &mut Sheet) {
    let Some(limit) = text_of("/proc/self/limits").and_then(|text| soft_limit(&text)) else {
        return;
    };
    let found = format!("{limit} open files");
    if limit >= FILES {
        return sheet.ok(Part::Machine, "limits", found);
    }
    let remedy = "LimitNOFILE=65536 in the unit, or ulimit -n: the agent has a few of them open for each bot";
    sheet.warning(Part::Machine, "limits", found, remedy);
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn folder(data: &Path, sheet: &mut Sheet) {
    let shown = data.display();
    // One that is not there yet is made in the nearest one that is.
    let Some(there) = data.ancestors().find(|path| path.exists()) else {
        return;
    };
    let probe = there.join(format!(".the0-doctor-{}", std::process::id()));
    let written = File::create_new(&probe).and_then(|mut file| {
        file.write_all(b"the0")?;
        file.sync_all()
    });
    let _ = fs::remove_file(&probe);
    if let Err(err) = written {
        let remedy = format!("make it writable for this user, or give another --data: {shown}");
        let found = format!("{}: {err}", there.display());
        return sheet.failed(Part::Machine, "data", found, remedy);
    }
    space(Part::Machine, "data", there, &shown.to_string(), sheet);
}

/// Tells how much room there is where `path` is.
pub fn space(part: Part, check: &'static str, path: &Path, shown: &str, sheet: &mut Sheet) {
    let Ok(found) = statvfs(path) else {
        return sheet.ok(
            part,
            check,
            format!("{shown}; its free space is not told here"),
        );
    };
    let free = found.blocks_available() * found.fragment_size();
    let text = format!(
        "{shown}, {} MiB free of {} GiB",
        free >> 20,
        found.blocks() * found.fragment_size() / GIB
    );
    let remedy =
        "make room, or move it to a larger disk: with none left, states and logs cannot be kept";
    match free {
        free if free < SPACE[1] => sheet.failed(part, check, text, remedy),
        free if free < SPACE[0] => sheet.warning(part, check, text, remedy),
        _ => sheet.ok(part, check, text),
    }
}

fn text_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

fn number_of(path: &str) -> Option<u64> {
    text_of(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_read_as_the_kernel_writes_it() {
        let text = "Limit  Soft  Hard  Units\nMax processes  7  8  processes\nMax open files            1024                 524288               files\n";
        assert_eq!(soft_limit(text), Some(1024));
        assert_eq!(
            soft_limit("Max open files unlimited unlimited files"),
            Some(u64::MAX)
        );
        assert_eq!(soft_limit(""), None);
    }

    #[test]
    fn more_bots_than_the_kernel_has_watches_for_are_told_with_the_setting() {
        let mut sheet = Sheet::default();
        inotify(Some(1_000_000), &mut sheet);
        let text = sheet.table(crate::show::Colours::Off);
        assert!(
            text.contains("warning") && text.contains("fs.inotify.max_user_instances="),
            "{text}"
        );
    }

    #[test]
    fn a_data_folder_that_cannot_be_written_is_a_failure() {
        let mut sheet = Sheet::default();
        folder(Path::new("/proc/self/there/is/none"), &mut sheet);
        assert!(
            !sheet.is_well(),
            "{}",
            sheet.table(crate::show::Colours::Off)
        );
        let dir = tempfile::tempdir().unwrap();
        let mut sheet = Sheet::default();
        folder(&dir.path().join("not/yet/there"), &mut sheet);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "nothing is left"
        );
    }
}
