//! What the kernel tells about the machine and the proxies.

use std::{fs, path::Path};

use crate::{Result, stage::Stage};

/// The load of the last minute, as /proc/loadavg has it.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// The resident memory of the largest proxy, in bytes.
pub(crate) fn resident(stage: &Stage<'_>) -> Result<u64> {
    let pods = stage.pods("app.kubernetes.io/managed-by=l4way")?;
    let sizes = pods.iter().map(|(address, uid)| {
        proxy_of(uid)
            .and_then(|process| resident_of(&process))
            .ok_or_else(|| format!("found no proxy of the pod with address {address} in /proc"))
    });
    let sizes = sizes.collect::<Result<Vec<_>>>()?;
    sizes.into_iter().max().ok_or_else(|| "there is no proxy".to_owned())
}

/// The directory of the proxy's process in the pod with this UID.
fn proxy_of(uid: &str) -> Option<std::path::PathBuf> {
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    processes.into_iter().find(|process| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let cgroup = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        // systemd's slices have underscores in their names.
        command.starts_with(b"/l4way\0proxy\0") && cgroup.replace('_', "-").contains(uid)
    })
}

fn resident_of(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_load_and_memory() {
        assert!(load().parse::<f64>().is_ok());
        assert!(resident_of(Path::new("/proc/self")).is_some_and(|bytes| bytes > 100_000));
    }
}
