//! Where this process stands in the host's cgroup hierarchies, read from two files of `/proc`. Pure.

use std::path::{Component, Path, PathBuf};

use crate::base::path::of_mount;

/// Which controllers one directory can limit or count with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controllers {
    pub memory: bool,
    pub pids: bool,
    pub cpu: bool,
    /// Counts processor time. Every cgroup v2 directory does, with or without a controller.
    pub cpuacct: bool,
}

impl Controllers {
    /// From a list of names: `cgroup.controllers` (spaces) or the super options of a v1 mount (commas).
    pub(super) fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for name in names {
            match name {
                "memory" => found.memory = true,
                "pids" => found.pids = true,
                "cpu" => found.cpu = true,
                "cpuacct" => found.cpuacct = true,
                _ => {}
            }
        }
        found
    }

    pub(super) fn any(self) -> bool {
        self.memory || self.pids || self.cpu || self.cpuacct
    }
}

/// Our own directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the hierarchy is mounted.
    pub(super) mount: PathBuf,
    /// Our own group below it; equal to `mount` in the root group.
    pub(super) own: PathBuf,
    /// v1 only: the controllers of this hierarchy.
    pub(super) controllers: Controllers,
}

/// Our own directories in every hierarchy that we can see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) v2: Option<Place>,
    pub(super) v1: Vec<Place>,
}

/// Joins `/proc/self/cgroup` (where we are) with `/proc/self/mountinfo` (where that can be reached).
pub(super) fn places(cgroup: &str, mountinfo: &str) -> Places {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
    let mut found = Places::default();
    for line in cgroup.lines() {
        // `4:memory:/path`, and `0::/path` for v2. The path is the rest of the line: it may hold colons.
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = Path::new(path);
        if id == "0" && names.is_empty() {
            found.v2 = mounts.iter().filter(|m| m.v2).find_map(|m| m.place(path, Controllers::default()));
            continue;
        }
        let controllers = Controllers::from_names(names.split(','));
        if !controllers.any() {
            continue;
        }
        let same = |m: &&Mount| !m.v2 && names.split(',').all(|name| m.options.iter().any(|option| option == name));
        found.v1.extend(mounts.iter().filter(same).find_map(|m| m.place(path, controllers)));
    }
    found
}

/// One cgroup mount.
struct Mount {
    v2: bool,
    /// Which group of the hierarchy is mounted.
    root: PathBuf,
    point: PathBuf,
    options: Vec<String>,
}

impl Mount {
    /// `36 35 0:28 ROOT POINT rw,… [optional fields] - TYPE SOURCE OPTIONS`
    fn parse(line: &str) -> Option<Self> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let v2 = match kind.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (of_mount(mount.next()?), of_mount(mount.next()?));
        let options = kind.nth(1).unwrap_or_default().split(',').map(str::to_owned).collect();
        Some(Self { v2, root, point, options })
    }

    /// Where `path` is below this mount, if it can be reached through it.
    fn place(&self, path: &Path, controllers: Controllers) -> Option<Place> {
        // `/../x` is a group outside our cgroup namespace: there is no way to it.
        if path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let below = path.strip_prefix(&self.root).ok()?;
        let own = if below.as_os_str().is_empty() { self.point.clone() } else { self.point.join(below) };
        Some(Place { mount: self.point.clone(), own, controllers })
    }
}

/// The start time of a process, in clock ticks after boot: field 22 of `/proc/PID/stat`. With the pid it names one process for ever.
pub(super) fn start_time(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything, spaces and parentheses included: count from its end.
    stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The value of one `key value` line, as in `memory.events`, `cpu.stat` and `memory.oom_control`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Does a transient unit file of systemd hand its group over? `Delegate=yes`, `Delegate=cpu memory`; the last line counts.
pub(super) fn unit_delegates(unit: &str) -> bool {
    let mut lines = unit.lines().filter_map(|line| line.trim().strip_prefix("Delegate="));
    lines
        .next_back()
        .is_some_and(|value| !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "no" | "false" | "off" | "0" | "n" | "f"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn v1_hierarchies_are_joined_with_their_mounts() {
        let found = places("9:name=systemd:/\n4:memory:/a:b/c\n1:cpu,cpuacct:/\n0::/\n", V1);
        let memory = found.v1.iter().find(|p| p.controllers.memory).unwrap();
        assert_eq!(memory.own, Path::new("/sys/fs/cgroup/memory/a:b/c"));
        let cpu = found.v1.iter().find(|p| p.controllers.cpu).unwrap();
        assert_eq!((cpu.own.as_path(), cpu.controllers.cpuacct), (Path::new("/sys/fs/cgroup/cpu,cpuacct"), true));
        assert_eq!(found.v1.len(), 2);
        assert_eq!(found.v2.unwrap().own, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn v2_below_a_bound_root_a_namespace_and_an_odd_mount_point() {
        let one = |root: &str, point: &str, path: &str| {
            places(&format!("0::{path}\n"), &format!("36 35 0:28 {root} {point} rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"))
                .v2
                .map(|p| p.own)
        };
        assert_eq!(one("/", "/sys/fs/cgroup", "/user.slice/x.scope"), Some("/sys/fs/cgroup/user.slice/x.scope".into()));
        assert_eq!(one("/", "/sys/fs/cgroup", "/"), Some("/sys/fs/cgroup".into()));
        assert_eq!(one("/docker/1", "/sys/fs/cgroup", "/docker/1/a"), Some("/sys/fs/cgroup/a".into()));
        assert_eq!(one("/docker/1", "/sys/fs/cgroup", "/docker/12"), None);
        assert_eq!(one("/", "/sys/fs/cgroup", "/../other"), None);
        assert_eq!(one("/", "/mnt/a\\040b\\134", "/x"), Some("/mnt/a b\\/x".into()));
    }

    #[test]
    fn start_time_survives_any_name() {
        assert_eq!(start_time("7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 2"), Some(4242));
        assert_eq!(start_time("7 (a"), None);
    }

    #[test]
    fn keys_are_whole_words() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!((keyed(text, "oom"), keyed(text, "oom_kill"), keyed(text, "kill")), (Some(3), Some(2), None));
    }

    #[test]
    fn delegation_in_a_unit_file() {
        assert!(unit_delegates("[Scope]\nDelegate=yes\n"));
        assert!(unit_delegates("[Scope]\nDelegate=cpu memory pids\n"));
        assert!(!unit_delegates("[Scope]\nDelegate=yes\nDelegate=no\n"));
        assert!(!unit_delegates("[Scope]\nDescription=Delegate=yes\n"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(cgroup in ".{0,200}", mountinfo in ".{0,200}", stat in ".{0,80}") {
            places(&cgroup, &mountinfo);
            start_time(&stat);
            keyed(&stat, "x");
        }

        #[test]
        fn a_place_is_always_below_its_mount(path in "(/[a-z.:]{1,8}){0,4}") {
            let line = format!("0::{}\n", if path.is_empty() { "/" } else { &path });
            if let Some(place) = places(&line, "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n").v2 {
                prop_assert!(place.own.starts_with(&place.mount));
            }
        }
    }
}
