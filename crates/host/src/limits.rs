use std::{fs, ops::RangeInclusive};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The kernel's range of local ports where none can be read (Linux's own default).
const DEFAULT_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// Raises the soft limit of open files (`RLIMIT_NOFILE`) to the hard one. Returns how many there
/// may be.
pub fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all can't be: the kernel caps it at fs.nr_open.
    current.and_then(|current| current.try_into().ok()).unwrap_or(1 << 20)
}

/// The ports that the kernel gives to outgoing connections (ip(7), `ip_local_port_range`).
pub fn local_ports() -> RangeInclusive<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    range.ok().and_then(|range| parse_range(&range)).unwrap_or(DEFAULT_PORTS)
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (Some(Ok(first)), Some(Ok(last)), None) = (numbers.next(), numbers.next(), numbers.next())
    else {
        return None;
    };
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_is_two_numbers() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse_range("5 4"), None);
        assert_eq!(parse_range("5"), None);
        assert_eq!(parse_range(""), None);
    }
}
