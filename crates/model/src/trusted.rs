//! The proxies in front of l4way that are believed.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;

/// The networks of the proxies in front of l4way that are believed what they say of clients. Nobody is by
/// default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// The networks, those of IPv4-mapped addresses as networks of IPv4.
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }

    /// Whether a peer with this address is one of them.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }
}

impl FromIterator<IpNet> for TrustedProxies {
    fn from_iter<T: IntoIterator<Item = IpNet>>(networks: T) -> Self {
        Self(networks.into_iter().map(canonical_network).collect())
    }
}

/// A network of IPv4-mapped addresses as that of IPv4 which it is, any other as it is.
pub fn canonical_network(network: IpNet) -> IpNet {
    /// How many bits of a mapped address come before the address (RFC 4291, section 2.5.5.2).
    const MAPPED: u8 = 96;
    let v4 = |address: Ipv6Addr, prefix_len: u8| {
        let address = address.to_ipv4_mapped()?;
        IpNet::new(address.into(), prefix_len.checked_sub(MAPPED)?).ok()
    };
    match network {
        IpNet::V6(mapped) => v4(mapped.addr(), mapped.prefix_len()).unwrap_or(network),
        IpNet::V4(_) => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(networks: &[&str]) -> TrustedProxies {
        networks.iter().map(|network| network.parse::<IpNet>().unwrap()).collect()
    }

    #[test]
    fn a_peer_is_trusted_whose_network_is_named() {
        let proxies = trusted(&["10.1.0.0/16", "2001:db8::/32", "::ffff:192.0.2.0/120"]);
        let all = ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "192.0.2.9", "::ffff:192.0.2.9"];
        for peer in all {
            assert!(proxies.contains(peer.parse().unwrap()), "{peer}");
        }
        for peer in ["10.2.0.1", "::ffff:10.2.0.1", "2001:db9::1", "::1", "192.0.3.9"] {
            assert!(!proxies.contains(peer.parse().unwrap()), "{peer}");
        }
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_network_of_mapped_addresses_is_one_of_ipv4() {
        for (mapped, plain) in [
            ("::ffff:192.0.2.0/126", "192.0.2.0/30"),
            ("2001:db8::/126", "2001:db8::/126"),
            // More than the mapped addresses.
            ("::ffff:0.0.0.0/90", "::ffff:0.0.0.0/90"),
        ] {
            assert_eq!(canonical_network(mapped.parse().unwrap()), plain.parse().unwrap());
        }
    }
}
