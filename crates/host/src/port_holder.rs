//! Which process has a port, as far as /proc tells (proc(5)).

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use l4way_model::{Bind, Transport};

/// The state of a TCP socket that listens, in /proc/net/tcp.
const LISTEN: &str = "0A";

/// A process.
#[derive(Debug)]
pub(crate) struct Holder {
    pid: u32,
    name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == std::process::id() {
            return write!(f, "another listener of this process (pid {})", self.pid);
        }
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The process with a socket that is in the way of binding `wanted`.
pub(crate) fn find(wanted: Bind) -> Option<Holder> {
    let tables = match wanted.transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inode = tables.iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().find_map(|line| inode_in_the_way(line, wanted))
    })?;
    process_with(&format!("socket:[{inode}]"))
}

/// The inode of a line's socket, if it is in the way.
fn inode_in_the_way(line: &str, wanted: Bind) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let address = parse_address(fields.next()?)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let same_port = address.port() == wanted.address.port();
    let (theirs, ours) = (address.ip(), wanted.address.ip());
    let same_address = theirs == ours || theirs.is_unspecified() || ours.is_unspecified();
    let listens = wanted.transport == Transport::Udp || state == LISTEN;
    (same_port && same_address && listens).then_some(inode)
}

/// An address such as `0100007F:1F90`: words in the host's byte order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut octets = [0; 16];
            octets.copy_from_slice(words.as_flattened());
            IpAddr::from(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The first process with a descriptor that links to `target`. Other users' are hidden from
/// anybody but root.
fn process_with(target: &str) -> Option<Holder> {
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    processes.find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        descriptors
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == target))
            .then(|| {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                Holder { pid, name: name.trim_end().to_owned() }
            })
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn finds_the_process_that_listens() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let tcp = Bind { transport: Transport::Tcp, address: tcp.local_addr().unwrap() };
        let udp = Bind { transport: Transport::Udp, address: udp.local_addr().unwrap() };
        for bind in [tcp, udp] {
            assert_eq!(find(bind).expect("the holder").pid, std::process::id());
        }
    }

    #[test]
    fn reads_the_address_of_a_line() {
        if cfg!(target_endian = "little") {
            let parsed = parse_address("0100007F:1F90");
            assert_eq!(parsed, Some(SocketAddr::from(([127, 0, 0, 1], 8_080))));
            let parsed = parse_address("00000000000000000000000001000000:0035");
            assert_eq!(parsed, Some(SocketAddr::from((Ipv6Addr::LOCALHOST, 53))));
        }
        assert_eq!(parse_address("local_address"), None);
        assert_eq!(parse_address("01:02"), None);
    }
}
