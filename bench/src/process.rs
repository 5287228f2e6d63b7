//! What processes use, from proc(5).

use std::{fs, time::Duration};

use crate::Result;

/// The processes that descend from one, with it, as numbers of processes.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = numbers("/proc")
        .filter_map(|pid| Some((pid, Stat::read(&format!("/proc/{pid}/stat"))?.parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }
    found
}

/// The CPU time that processes have used.
///
/// # Errors
/// If one of them is gone.
pub(crate) fn cpu_of(pids: &[u32]) -> Result<Duration> {
    let used = pids.iter().map(|pid| {
        let path = format!("/proc/{pid}/task");
        let mut threads = numbers(&path).filter_map(|thread| cpu_in(&format!("{path}/{thread}")));
        let first = threads.next().ok_or_else(|| format!("{path} is gone"))?;
        Ok(first + threads.sum::<Duration>())
    });
    used.sum()
}

/// The CPU time that a thread has used: exactly if the kernel tells, or else in ticks.
fn cpu_in(directory: &str) -> Option<Duration> {
    let exact = fs::read_to_string(format!("{directory}/schedstat")).ok();
    exact
        .and_then(|text| time_run(&text))
        .or_else(|| Some(Stat::read(&format!("{directory}/stat"))?.cpu))
}

/// Nanoseconds on a CPU, waiting for one, and how often.
fn time_run(schedstat: &str) -> Option<Duration> {
    Some(Duration::from_nanos(schedstat.split_ascii_whitespace().next()?.parse().ok()?))
}

/// The CPU time that this process's live threads of a name have used.
pub(crate) fn cpu_of_threads(name: &str) -> Duration {
    let threads = numbers("/proc/self/task").map(|thread| format!("/proc/self/task/{thread}"));
    let is = |of: &String| Stat::read(&format!("{of}/stat")).is_some_and(|stat| stat.name == name);
    threads.filter(is).filter_map(|thread| cpu_in(&thread)).sum()
}

/// The memory of processes in bytes: each page as the share of it that is theirs (PSS).
///
/// # Errors
/// If one of them is gone.
pub(crate) fn memory_of(pids: &[u32]) -> Result<u64> {
    let sizes = pids.iter().map(|pid| {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        pss(&text).ok_or_else(|| format!("{path} has no Pss"))
    });
    sizes.sum()
}

/// The CPU time that the machine has not used, of all its CPUs.
pub(crate) fn idle() -> Duration {
    fs::read_to_string("/proc/stat").ok().and_then(|text| idle_in(&text)).unwrap_or_default()
}

/// The machine's load average of the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// The entries of a directory that are numbers.
fn numbers(directory: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What `/proc/PID/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    /// In user and kernel mode.
    cpu: Duration,
}

impl Stat {
    fn read(path: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name may have spaces and parentheses of its own.
        let (before, after) = text.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            name: name.to_owned(),
            parent: u32::try_from(number(1)?).ok()?,
            cpu: ticks(number(11)? + number(12)?),
        })
    }
}

/// Linux's user space knows no other tick than a hundredth of a second.
fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 10)
}

fn pss(smaps_rollup: &str) -> Option<u64> {
    let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Idle, and waiting for a disk.
fn idle_in(stat: &str) -> Option<Duration> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let idle: u64 = fields.nth(3)?.parse().ok()?;
    let waiting: u64 = fields.next()?.parse().ok()?;
    Some(ticks(idle + waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_have_any_name() {
        let text = "4711 (a (b) c) S 17 4711 1 0 -1 4194304 9 8 7 6 150 25 3 4 20 0 2 0 99\n";
        let cpu = Duration::from_millis(1750);
        let stat = Stat { name: "a (b) c".to_owned(), parent: 17, cpu };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse("4711 (a"), None);
    }

    #[test]
    fn exact_times_are_in_nanoseconds() {
        assert_eq!(time_run("253385 2061175 2\n"), Some(Duration::from_nanos(253_385)));
        assert_eq!(time_run(""), None);
    }

    #[test]
    fn memory_and_idle_time_are_found() {
        let rollup =
            "55e0-7fff ---p 0 00:00 0 [rollup]\nRss:  5000 kB\nPss:  1234 kB\nPss_Dirty: 9 kB\n";
        assert_eq!(pss(rollup), Some(1234 * 1024));
        let stat = "cpu  10 20 30 400 50 6 7 0 0 0\ncpu0 1 2 3 4 5 6 7 0 0 0\n";
        assert_eq!(idle_in(stat), Some(Duration::from_millis(4500)));
    }

    #[test]
    fn this_process_is_in_its_own_tree() {
        let own = std::process::id();
        assert_eq!(tree(own).first(), Some(&own));
        assert!(memory_of(&[own]).unwrap() > 0);
        assert!(cpu_of(&[own]).is_ok());
    }
}
