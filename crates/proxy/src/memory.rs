use std::{
    fs,
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The share of the memory that there is which sessions may hold.
const SHARE: usize = 4;
/// The memory of a machine that doesn't tell.
const ASSUMED: usize = 1 << 30;

/// What the process may hold of bytes that one side of a session has sent and the other has not taken:
/// one budget for TCP, TLS and HTTP. Only who holds something counts, so idle sessions cost nothing of it.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: NonZeroUsize,
    held: AtomicUsize,
}

/// How much of a [`MemoryBudget`] is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryLoad {
    /// Less than 80 %.
    Light,
    /// 80 % or more: buffers are as small as they can be.
    Heavy,
    /// All of it: who has been stalled longest is reset.
    Full,
}

impl MemoryBudget {
    /// A budget of so many bytes, none of it in use.
    pub fn new(limit: NonZeroUsize) -> Self {
        Self { limit, held: AtomicUsize::new(0) }
    }

    /// How many bytes may be held.
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// How much of it is in use.
    pub fn load(&self) -> MemoryLoad {
        let (held, limit) = (self.held(), self.limit());
        if held >= limit {
            MemoryLoad::Full
        } else if held >= limit - limit / 5 {
            MemoryLoad::Heavy
        } else {
            MemoryLoad::Light
        }
    }

    /// How many bytes have to be given back until there is room again: a tenth of it.
    pub fn surplus(&self) -> usize {
        self.held().saturating_sub(self.limit() - self.limit() / 10)
    }

    /// So many bytes more are held.
    pub fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Relaxed);
    }

    /// So many bytes that were held aren't any more.
    pub fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Relaxed);
    }
}

impl Default for MemoryBudget {
    /// A quarter of what the process's cgroup may use, or of the machine's memory if that is less.
    fn default() -> Self {
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| parse_total(&text));
        let least = machine.into_iter().chain(cgroup_limit()).min().unwrap_or(ASSUMED);
        Self::new(NonZeroUsize::new(least / SHARE).unwrap_or(NonZeroUsize::MIN))
    }
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

/// Where the limits are that hold for a process with this `/proc/self/cgroup`: its cgroup's, and those of
/// all above it. In a container, whose own cgroup is mounted as the root, that is the root's.
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
    fn the_load_is_what_is_held_of_the_limit() {
        let budget = MemoryBudget::new(NonZeroUsize::new(1_000).unwrap());
        assert_eq!(budget.load(), MemoryLoad::Light);
        budget.hold(799);
        assert_eq!(budget.load(), MemoryLoad::Light);
        budget.hold(1);
        assert_eq!(budget.load(), MemoryLoad::Heavy);
        budget.hold(200);
        assert_eq!((budget.load(), budget.held()), (MemoryLoad::Full, 1_000));
        assert_eq!(budget.surplus(), 100);
        budget.give_back(1_000);
        assert_eq!((budget.load(), budget.held()), (MemoryLoad::Light, 0));
    }

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
    fn this_machine_has_a_budget() {
        let budget = MemoryBudget::default();
        assert!(budget.limit() > 1 << 20 && budget.limit() < usize::MAX / SHARE, "{budget:?}");
    }
}
