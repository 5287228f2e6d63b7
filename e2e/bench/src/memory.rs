//! What the kernel tells about the machine and the proxies.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Result, stage::Stage};

/// How the command lines of l4way's processes begin.
const PROXY: &[u8] = b"/l4way\0proxy\0";
const CONTROLLER: &[u8] = b"/l4way\0controller\0";

/// The load of the last minute, as /proc/loadavg has it.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// What a process has, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// The most that it has had.
    pub(crate) peak: u64,
}

/// The memory of the controller that has had most, of those in the pods with these UIDs.
pub(crate) fn of_controllers(uids: &[String]) -> Result<Memory> {
    let controllers = uids.iter().filter_map(|uid| process_in(uid, CONTROLLER));
    let memory = controllers.filter_map(|process| memory_of(&process));
    memory.max_by_key(|memory| memory.peak).ok_or_else(|| "found no controller in /proc".to_owned())
}

/// The resident memory of the largest proxy, in bytes.
pub(crate) fn resident(stage: &Stage<'_>) -> Result<u64> {
    let pods = stage.pods("app.kubernetes.io/managed-by=l4way")?;
    let sizes = pods.iter().map(|(address, uid)| {
        process_in(uid, PROXY)
            .and_then(|process| Some(memory_of(&process)?.resident))
            .ok_or_else(|| format!("found no proxy of the pod with address {address} in /proc"))
    });
    let sizes = sizes.collect::<Result<Vec<_>>>()?;
    sizes.into_iter().max().ok_or_else(|| "there is no proxy".to_owned())
}

/// The directory of the process in the pod with this UID whose command line begins so.
fn process_in(uid: &str, begin: &[u8]) -> Option<PathBuf> {
    processes().find(|process| {
        let cgroup = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        // systemd's slices have underscores in their names.
        command(process).starts_with(begin) && cgroup.replace('_', "-").contains(uid)
    })
}

/// The directories of all processes.
fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn command(process: &Path) -> Vec<u8> {
    fs::read(process.join("cmdline")).unwrap_or_default()
}

fn memory_of(process: &Path) -> Option<Memory> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let bytes = |field: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes * 1024)
    };
    Some(Memory { resident: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_load_and_memory() {
        assert!(load().parse::<f64>().is_ok());
        let memory = memory_of(Path::new("/proc/self")).unwrap_or_default();
        assert!(memory.resident > 100_000 && memory.peak >= memory.resident);
    }
}
