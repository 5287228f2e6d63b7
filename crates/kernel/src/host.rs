//! What the host, or the network namespace, is like.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::nftables::Family;

/// Addresses of this host, and whether it forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    addresses: BTreeSet<IpAddr>,
    forwards_v4: bool,
    forwards_v6: bool,
}

impl Host {
    /// What the kernel says now.
    ///
    /// # Errors
    /// If proc(5) doesn't have it.
    pub(crate) fn read() -> io::Result<Self> {
        let mut addresses = BTreeSet::new();
        addresses.extend(local_v4(&read("/proc/net/fib_trie")?).map(IpAddr::V4));
        // Without IPv6 there is no such file.
        addresses.extend(local_v6(&read("/proc/net/if_inet6").unwrap_or_default()).map(IpAddr::V6));
        Ok(Self {
            addresses,
            forwards_v4: is_on(Family::V4)?,
            forwards_v6: is_on(Family::V6).unwrap_or(false),
        })
    }

    /// The addresses that are this host's.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().copied()
    }

    /// Whether packets to an address leave this host.
    pub(crate) fn is_away(&self, ip: IpAddr) -> bool {
        !ip.is_loopback() && !self.addresses.contains(&ip)
    }

    /// That packets of others are sent on.
    pub(crate) fn forwards(&self, family: Family) -> Result<(), String> {
        let on = match family {
            Family::V4 => self.forwards_v4,
            Family::V6 => self.forwards_v6,
        };
        if on {
            return Ok(());
        }
        let name = forwarding(family).trim_start_matches("/proc/sys/").replace('/', ".");
        Err(format!("its endpoints are on other hosts, and {name} is 0: this host doesn't forward"))
    }
}

fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => "/proc/sys/net/ipv4/ip_forward",
        Family::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    }
}

fn is_on(family: Family) -> io::Result<bool> {
    Ok(read(forwarding(family))?.trim() != "0")
}

fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// The addresses that a routing trie has as `host LOCAL`, but for those of whole networks.
fn local_v4(fib_trie: &str) -> impl Iterator<Item = Ipv4Addr> + '_ {
    let mut last = None;
    fib_trie.lines().filter_map(move |line| {
        let line = line.trim_start();
        if let Some(leaf) = line.strip_prefix("|-- ") {
            last = leaf.trim().parse().ok();
        }
        last.filter(|_| line == "/32 host LOCAL")
    })
}

/// The addresses of `if_inet6` that are in use: not those of a link alone, nor those that another host
/// may have.
fn local_v6(if_inet6: &str) -> impl Iterator<Item = Ipv6Addr> + '_ {
    const TENTATIVE: u8 = 0x40;
    const DUPLICATE: u8 = 0x08;
    if_inet6.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u8::from_str_radix(fields.nth(3)?, 16).ok()?;
        let address = Ipv6Addr::from_bits(address);
        (flags & (TENTATIVE | DUPLICATE) == 0 && !address.is_unicast_link_local())
            .then_some(address)
    })
}

#[cfg(test)]
impl Host {
    /// A host with these addresses, which forwards or doesn't.
    pub(crate) fn of(addresses: &[&str], forwards: bool) -> Self {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Self { addresses, forwards_v4: forwards, forwards_v6: forwards }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_found() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                    Local:\n     +-- 127.0.0.0/8 2 0 2\n        +-- 127.0.0.0/31 1 0 0\n           |-- 127.0.0.0\n\
                              /8 host LOCAL\n           |-- 127.0.0.1\n              /32 host LOCAL\n\
                            |-- 127.255.255.255\n           /32 link BROADCAST\n        |-- 192.0.2.2\n           /32 host LOCAL\n";
        let found: Vec<_> = local_v4(trie).collect();
        assert_eq!(found, [Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 2)]);
    }

    #[test]
    fn addresses_of_a_link_or_of_nobody_yet_are_left_out() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe80000000000000020c29fffe5a1b2c 02 40 20 80     eth0\n\
                     20010db8000000000000000000000002 02 40 00 80     eth0\n\
                     20010db8000000000000000000000003 02 40 00 c0     eth0\n";
        let found: Vec<_> = local_v6(table).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["::1", "2001:db8::2"]);
    }

    #[test]
    fn this_host_has_loopback() {
        assert!(Host::read().unwrap().addresses().any(|ip| ip.is_loopback()));
    }

    #[test]
    fn what_keeps_a_host_from_forwarding_is_told() {
        let error = Host::of(&[], false).forwards(Family::V6).unwrap_err();
        assert!(error.contains("net.ipv6.conf.all.forwarding is 0"), "{error}");
        assert!(Host::of(&[], true).forwards(Family::V4).is_ok());
    }
}
