//! A process's resident memory, from proc(5).

use std::fs;

use crate::Result;

/// Bytes of a process's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    /// What there is now.
    pub(crate) now: u64,
    /// The most that there has been.
    pub(crate) peak: u64,
}

impl Resident {
    /// Of a process by its number, or of this one, which is `self`.
    ///
    /// # Errors
    /// If the kernel doesn't tell.
    pub(crate) fn of(process: &str) -> Result<Self> {
        let path = format!("/proc/{process}/status");
        Ok(Self { now: bytes(&path, "VmRSS:")?, peak: bytes(&path, "VmHWM:")? })
    }
}

/// Bytes that the machine has left, as the kernel estimates it.
///
/// # Errors
/// If the kernel doesn't tell.
pub(crate) fn available() -> Result<u64> {
    bytes("/proc/meminfo", "MemAvailable:")
}

/// What a file of proc(5) says of `name`, which it has in kilobytes.
fn bytes(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes = kilobytes.and_then(|number| number.parse::<u64>().ok());
    kilobytes.map(|number| number * 1024).ok_or_else(|| format!("{path} has no {name}"))
}

/// Bytes in MiB, for a person.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_a_process_has() {
        let Resident { now, peak } = Resident::of("self").unwrap();
        assert!(now > 100_000 && peak >= now);
        assert_eq!(mebibytes(3 << 19), "1.5");
    }
}
