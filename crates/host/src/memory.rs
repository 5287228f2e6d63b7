use std::fs;

/// The memory of a machine that doesn't tell.
const ASSUMED: usize = 1 << 30;

/// Bytes of memory that the process may use: what its cgroup may, or the machine's if that is less.
pub fn memory() -> usize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| parse_total(&text));
    machine.into_iter().chain(cgroup_limit()).min().unwrap_or(ASSUMED)
}

/// The machine's memory (proc(5), `/proc/meminfo`).
fn parse_total(text: &str) -> Option<usize> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// The least memory that the process's cgroup, or one above it, may use (cgroups(7)).
fn cgroup_limit() -> Option<usize> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_files(&cgroups)
        .into_iter()
        .filter_map(|file| parse_limit(&fs::read_to_string(file).ok()?))
        .min()
}

/// Files with the limits that hold for a process with this `/proc/self/cgroup`: its cgroup's, and
/// those of all above it. In a container, whose own cgroup is mounted as the root, that is the
/// root's.
fn limit_files(cgroups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (mount, name) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{mount}{path}/{name}"));
            match path.rsplit_once('/') {
                Some((above, _)) => path = above,
                None => break,
            }
        }
    }
    files
}

/// A limit as the kernel writes it; none if there is no limit.
fn parse_limit(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cgroup_above_counts() {
        assert_eq!(
            limit_files("0::/a.slice/b.scope\n"),
            [
                "/sys/fs/cgroup/a.slice/b.scope/memory.max",
                "/sys/fs/cgroup/a.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(limit_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            limit_files("5:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/y\n"),
            [
                "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/y/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(limit_files("nonsense"), [""; 0]);
    }

    #[test]
    fn no_limit_is_max_or_more_than_there_can_be() {
        assert_eq!(parse_limit("268435456\n"), Some(268_435_456));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("0"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), Some(9_223_372_036_854_771_712));
    }

    #[test]
    fn a_machine_tells_its_memory_in_kibibytes() {
        let text = "MemTotal:       24683592 kB\nMemFree:         1 kB\n";
        assert_eq!(parse_total(text), Some(24_683_592 << 10));
        assert_eq!(parse_total("MemFree: 1 kB"), None);
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = memory();
        assert!(memory > 4 << 20 && memory < usize::MAX, "{memory}");
    }
}
