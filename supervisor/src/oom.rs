//! Whether the kernel killed something of ours for want of memory: the counter of the memory cgroup, v1 or v2.
//!
//! A kill counts if the counter has grown over the run. Where there is no such counter, a SIGKILL stays a SIGKILL.

use std::fs;
use std::path::{Path, PathBuf};

/// The file that counts, and how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counter {
    /// `memory.oom_control` of the first hierarchy.
    V1(PathBuf),
    /// `memory.events` of the unified one.
    V2(PathBuf),
}

impl Counter {
    /// The counter of the cgroup we are in.
    pub fn find() -> Option<Self> {
        let cgroup = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::locate(&cgroup, &mounts)
    }

    /// The counter by `/proc/self/cgroup` and `/proc/self/mountinfo`: the memory controller's own hierarchy where
    /// there is one (v1, also beside an empty unified one), else the unified one.
    pub fn locate(cgroup: &str, mounts: &str) -> Option<Self> {
        let lines = || cgroup.lines().filter_map(split_cgroup);
        let is_memory = |controllers: &str| controllers.split(',').any(|c| c == "memory");
        if let Some((_, path)) = lines().find(|(controllers, _)| is_memory(controllers)) {
            let mount = mounts.lines().filter_map(Mount::parse);
            let mount = mount
                .into_iter()
                .find(|m| m.kind == "cgroup" && is_memory(&m.options))?;
            return Some(Counter::V1(mount.folder(path).join("memory.oom_control")));
        }
        let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
        let mount = mounts
            .lines()
            .filter_map(Mount::parse)
            .find(|m| m.kind == "cgroup2")?;
        Some(Counter::V2(mount.folder(path).join("memory.events")))
    }

    /// Kills so far; 0 where it cannot be read.
    pub fn read(&self) -> u64 {
        let (Counter::V1(path) | Counter::V2(path)) = self;
        fs::read_to_string(path).map_or(0, |text| self.count(&text))
    }

    /// Kills so far by the text of the file.
    pub fn count(&self, text: &str) -> u64 {
        let value = |name: &str| {
            let mut rows = text.lines().filter_map(|line| line.split_once(' '));
            rows.find(|(key, _)| *key == name)
                .and_then(|(_, number)| number.trim().parse().ok())
                .unwrap_or(0u64)
        };
        match self {
            // Kernels before 4.13 have no count; that the group is short at this moment is all they tell.
            Counter::V1(_) => value("oom_kill").max(value("under_oom")),
            Counter::V2(_) => value("oom_kill").max(value("oom_group_kill")),
        }
    }
}

/// `4:memory:/docker/x` -> `("memory", "/docker/x")`
fn split_cgroup(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(':')
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount {
    root: String,
    point: String,
    kind: String,
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(3);
        let mut tail = tail.split(' ');
        Some(Self {
            root: head.next()?.to_owned(),
            point: head.next()?.replace("\\040", " "),
            kind: tail.next()?.to_owned(),
            options: tail.nth(1)?.to_owned(),
        })
    }

    /// Where the cgroup `path` is seen. A container that sees the host's paths but mounts only its own part has that
    /// part at the mount point itself.
    fn folder(&self, path: &str) -> PathBuf {
        let point = Path::new(&self.point);
        match Path::new(path).strip_prefix(&self.root) {
            Ok(below) => point.join(below),
            Err(_) => point.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../fixtures/", $name))
        };
    }

    #[test]
    fn the_first_hierarchy_is_found_also_beside_an_empty_unified_one() {
        let counter = Counter::locate(fixture!("v1.cgroup"), fixture!("v1.mountinfo")).unwrap();
        assert_eq!(
            counter,
            Counter::V1("/sys/fs/cgroup/memory/memory.oom_control".into())
        );
        assert_eq!(counter.count(fixture!("v1.oom_control")), 3);
        assert_eq!(counter.count(fixture!("v1.oom_control.old")), 1);
        let counter =
            Counter::locate(fixture!("v1-host.cgroup"), fixture!("v1-host.mountinfo")).unwrap();
        assert_eq!(
            counter,
            Counter::V1("/sys/fs/cgroup/memory/user.slice/memory.oom_control".into())
        );
    }

    #[test]
    fn the_unified_hierarchy_is_found_with_and_without_a_namespace() {
        let counter = Counter::locate(fixture!("v2.cgroup"), fixture!("v2.mountinfo")).unwrap();
        assert_eq!(counter, Counter::V2("/sys/fs/cgroup/memory.events".into()));
        assert_eq!(counter.count(fixture!("v2.memory.events")), 2);
        assert_eq!(counter.count(fixture!("v2.memory.events.group")), 4);
        let counter =
            Counter::locate(fixture!("v2-host.cgroup"), fixture!("v2.mountinfo")).unwrap();
        let scope = "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/memory.events";
        assert_eq!(counter, Counter::V2(scope.into()));
    }

    #[test]
    fn without_a_counter_there_is_none() {
        assert_eq!(Counter::locate("", ""), None);
        assert_eq!(
            Counter::locate("0::/\n", "22 1 0:20 / /proc rw - proc proc rw\n"),
            None
        );
        assert_eq!(Counter::V2("/none".into()).read(), 0);
    }
}
