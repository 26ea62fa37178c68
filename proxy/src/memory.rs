//! How much memory the process has in use, and how much it may have: by its cgroups, of either version, or by the machine.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Reads the memory of the process. It belongs to whoever reads; its file stays open, so that it can be read when there is
/// no descriptor left.
#[derive(Debug)]
pub(crate) struct MemoryReader {
    status: Option<File>,
    /// The cgroup that nobody else is in.
    own: Option<Cgroup>,
}

/// A directory of a cgroup's memory controller.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cgroup {
    directory: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl MemoryReader {
    /// Opens what there is to read.
    pub(crate) fn open() -> Self {
        Self { status: File::open("/proc/self/status").ok(), own: None }
    }

    /// Returns the bytes that the process may have: the least that any of its cgroups may, or what the machine has. Looks
    /// at the cgroups anew, between which a process may be moved.
    pub(crate) fn limit(&mut self) -> Option<u64> {
        let text = |path: &Path| std::fs::read_to_string(path).ok();
        let groups = cgroups(&text(Path::new("/proc/self/cgroup")).unwrap_or_default(), Path::new("/sys/fs/cgroup"));
        self.own = groups.iter().find(|group| group.directory.is_dir()).filter(|group| group.is_ours()).cloned();
        let machine = text(Path::new("/proc/meminfo")).and_then(|text| kibibytes(&text, "MemTotal:"));
        groups.iter().filter_map(Cgroup::limit).chain(machine).min()
    }

    /// Returns the bytes that it has in use: its own, without what is mapped from files, which goes when there is need; or
    /// what its cgroup has without the cache of files, if it is alone there: that has the buffers of its sockets. `None`
    /// when that cannot be read.
    pub(crate) fn used(&self) -> Option<u64> {
        let mut status = [0; 4096];
        let length = self.status.as_ref()?.read_at(&mut status, 0).ok()?;
        let own = resident(&String::from_utf8_lossy(status.get(..length)?))?;
        Some(self.own.as_ref().and_then(Cgroup::used).map_or(own, |used| used.max(own)))
    }
}

/// Returns what `/proc/self/status` says is in memory and cannot be read from a file again.
fn resident(status: &str) -> Option<u64> {
    Some(kibibytes(status, "RssAnon:")? + kibibytes(status, "RssShmem:")?)
}

/// Returns the bytes of a line such as `MemTotal: 16 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the cgroups that bound the memory of a process, from its own to the root, by its `/proc/self/cgroup` and where
/// they are mounted. In a container only the root may be there, which is the container's own.
fn cgroups(lines: &str, mount: &Path) -> Vec<Cgroup> {
    let mut found = Vec::new();
    for line in lines.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, version) = match controllers {
            "" => (mount.to_owned(), Version::Two),
            controllers if controllers.split(',').any(|name| name == "memory") => (mount.join("memory"), Version::One),
            _ => continue,
        };
        // One of another namespace begins with "..", and is not to be seen from here.
        let path = Path::new(path.trim_start_matches('/'));
        let is_seen = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let path = if is_seen { path } else { Path::new("") };
        found.extend(path.ancestors().map(|path| Cgroup { directory: root.join(path), version }));
    }
    found
}

impl Cgroup {
    fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.directory.join(file)).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    /// Returns the most that it may have; past `memory.high` its processes are made to wait.
    fn limit(&self) -> Option<u64> {
        match self.version {
            // Without a limit it is a number that no machine has, or the word "max".
            Version::One => self.number("memory.limit_in_bytes"),
            Version::Two => self.number("memory.max").into_iter().chain(self.number("memory.high")).min(),
        }
    }

    /// Returns whether this process is alone in it.
    fn is_ours(&self) -> bool {
        let own = std::process::id().to_string();
        self.text("cgroup.procs").is_some_and(|text| text.lines().eq([own.as_str()]))
    }

    /// Returns what it has in use beside the cache of files.
    fn used(&self) -> Option<u64> {
        let (all, active, inactive) = match self.version {
            Version::One => ("memory.usage_in_bytes", "total_active_file", "total_inactive_file"),
            Version::Two => ("memory.current", "active_file", "inactive_file"),
        };
        let (all, counts) = (self.number(all)?, self.text("memory.stat")?);
        let count = |name: &str| {
            let mut lines = counts.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(found, _)| *found == name).and_then(|(_, count)| count.parse::<u64>().ok())
        };
        Some(all.saturating_sub(count(active)?).saturating_sub(count(inactive)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(directory).unwrap();
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }

    fn least(lines: &str, mount: &Path) -> Option<u64> {
        cgroups(lines, mount).iter().filter_map(Cgroup::limit).min()
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_holds() {
        let mount = tempfile::tempdir().unwrap();
        let two = mount.path();
        write(&two.join("pod/container"), &[("memory.max", "max\n"), ("memory.high", "max\n")]);
        write(&two.join("pod"), &[("memory.max", "268435456\n"), ("memory.high", "max\n")]);
        assert_eq!(least("0::/pod/container\n", two), Some(268_435_456));
        write(&two.join("pod/container"), &[("memory.high", "1048576\n")]);
        assert_eq!(least("0::/pod/container\n", two), Some(1_048_576));
        assert_eq!(least("0::/\n", two), None);
        // Of a container that does not see where it is.
        write(two, &[("memory.max", "77\n")]);
        for lines in ["0::/../../elsewhere\n", "0::/kubepods/elsewhere\n", "0::/\n"] {
            assert_eq!(least(lines, two), Some(77), "{lines}");
        }
        let one = &two.join("memory");
        write(&one.join("docker/a"), &[("memory.limit_in_bytes", "5\n")]);
        write(one, &[("memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(least("4:memory:/docker/a\n3:cpu,cpuacct:/docker\n", two), Some(5));
        assert_eq!(least("garbage\n::\n1:name=systemd:/x\n", two), Some(77));
    }

    #[test]
    fn the_cache_of_files_is_not_in_use() {
        let mount = tempfile::tempdir().unwrap();
        let stat = "anon 60\nfile 40\ninactive_file 30\nactive_file 8\n";
        write(mount.path(), &[("memory.current", "100\n"), ("memory.stat", stat), ("cgroup.procs", "1\n2\n")]);
        let [group] = &cgroups("0::/\n", mount.path())[..] else { panic!("one") };
        assert_eq!(group.used(), Some(62));
        assert!(!group.is_ours());
        let own = std::process::id();
        write(mount.path(), &[("cgroup.procs", &format!("{own}\n"))]);
        assert!(group.is_ours());
        write(mount.path(), &[("cgroup.procs", &format!("{own}\n7\n"))]);
        assert!(!group.is_ours());
    }

    #[test]
    fn this_process_has_less_than_its_machine() {
        let mut reader = MemoryReader::open();
        let (limit, used) = (reader.limit().unwrap(), reader.used().unwrap());
        assert!((1 << 16..limit).contains(&used), "{used} of {limit}");
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(reader.used().unwrap() >= used + (32 << 20), "what was allocated is seen");
        drop(held);
    }
}
