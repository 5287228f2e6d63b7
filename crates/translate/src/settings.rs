use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;
use l4way_model::{BackendId, GatewayId, HttpTerms, SessionTerms, canonical_network};
use l4way_resources::api::ObjectKey;

/// The TCP port on which a proxy in a pod serves its metrics and health, and no listener may be.
pub const POD_ADMIN_PORT: u16 = 19_902;

/// What the translation depends on besides the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The controllerName that makes a GatewayClass ours.
    pub controller_name: Arc<str>,
    /// The addresses of Gateways that don't name any.
    pub addresses: Addresses,
    /// The zone that the proxy runs in, if it is known: endpoints that are hinted for it are
    /// preferred.
    pub zone: Option<Arc<str>>,
    /// Whether sessions may go to the proxy's own host: to loopback and link-local addresses and
    /// unix sockets. Where others than its operator write manifests, they could reach what isn't
    /// meant for them.
    pub local_endpoints: bool,
    /// Whether the proxies run in a cluster, each Gateway's in pods of their own: they follow
    /// EndpointSlices themselves, and GatewayParameters say what routes may name.
    pub in_cluster: bool,
    /// The time in seconds of Unix time, to tell of certificates that expire; 0 if it isn't known.
    pub now: i64,
    /// Whether the snapshot has the EndpointSlices, so that a Service without any is worth telling.
    pub knows_slices: bool,
    /// What holds for all sessions. In a cluster, GatewayParameters may say otherwise.
    pub terms: SessionTerms,
    /// What holds for all HTTP requests. In a cluster, GatewayParameters may say otherwise.
    pub http_terms: HttpTerms,
    /// Backends that sessions may be with though no route refers to them any more: they are looked
    /// up, too, see [`Graph::source`].
    ///
    /// [`Graph::source`]: crate::Graph::source
    pub former: BTreeSet<BackendId>,
    /// In a cluster, the Gateways that something was made for: they stay ours when their GatewayClass is
    /// deleted, not accepted.
    pub provided: BTreeSet<ObjectKey>,
    /// Where the proxy serves its metrics and health, which no route may lead to. In pods that is always
    /// [`POD_ADMIN_PORT`].
    pub admin: Option<SocketAddr>,
    /// Where the proxies of a cluster are, as far as it is seen: no route may lead back to them.
    pub proxies: ProxyAddresses,
    /// The namespaces of which the snapshot has the objects; all if `None`. Nothing is known of what is in
    /// others, so nothing there can be used.
    pub watched: Option<BTreeSet<Arc<str>>>,
}

/// Where the proxies of a cluster are, which objects that are translated don't tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// The addresses of each Gateway's pods; in the host network all those of their nodes.
    pub pods: BTreeMap<ObjectKey, BTreeSet<IpAddr>>,
    /// The addresses of all nodes, where node ports are.
    pub nodes: BTreeSet<IpAddr>,
}

impl Settings {
    /// Of a controller in a cluster, which leaves EndpointSlices to the proxies.
    pub fn in_cluster() -> Self {
        Self {
            knows_slices: false,
            addresses: Addresses::Unspecified,
            local_endpoints: false,
            in_cluster: true,
            ..Self::default()
        }
    }

    /// Whether the snapshot has the objects of a namespace.
    pub fn is_watched(&self, namespace: &str) -> bool {
        self.watched.as_ref().is_none_or(|watched| watched.contains(namespace))
    }
}

impl Default for Settings {
    /// Of a single host that tries things out: every Gateway on 127.0.0.1.
    fn default() -> Self {
        Self {
            controller_name: l4way_resources::CONTROLLER_NAME.into(),
            addresses: Addresses::Shared(vec![Ipv4Addr::LOCALHOST.into()]),
            zone: None,
            local_endpoints: true,
            in_cluster: false,
            now: 0,
            knows_slices: true,
            terms: SessionTerms::default(),
            http_terms: HttpTerms::default(),
            former: BTreeSet::new(),
            provided: BTreeSet::new(),
            admin: None,
            proxies: ProxyAddresses::default(),
            watched: None,
        }
    }
}

/// How a Gateway that names no address comes by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Every Gateway has a host to itself, a pod, and is on all its addresses. Those that clients
    /// know are somebody else's to give.
    Unspecified,
    /// Every Gateway is on all of these.
    Shared(Vec<IpAddr>),
    /// Every Gateway has one of its own.
    Pool {
        /// The addresses to give out.
        pool: AddressPool,
        /// Who has which address now and keeps it, as [`Graph::assignments`] told last.
        ///
        /// [`Graph::assignments`]: crate::Graph::assignments
        held: BTreeMap<GatewayId, IpAddr>,
    },
}

/// Addresses to give out, written as addresses and networks between commas:
/// `127.0.1.0/24,192.0.2.7`. The first and last address of an IPv4 network are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPool {
    ranges: Vec<(IpAddr, u64)>,
}

impl AddressPool {
    /// How many addresses there are; of a huge network, only the first 2⁶³ count.
    pub fn len(&self) -> u64 {
        self.ranges.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Whether there is no address at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the address is one of the pool's.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|(first, count)| match (first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                u64::from(address.to_bits().wrapping_sub(first.to_bits())) < *count
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                address.to_bits().wrapping_sub(first.to_bits()) < u128::from(*count)
            }
            _ => false,
        })
    }

    /// The addresses, from one that the owner's name picks, round to the one before it. So that a
    /// Gateway gets the same address in each run, whatever other Gateways there are, as long as
    /// no two names pick the same.
    pub(crate) fn candidates(&self, owner: &str) -> impl Iterator<Item = IpAddr> {
        let len = self.len();
        let start = fnv1a(owner.as_bytes()) % len.max(1);
        (start..len).chain(0..start).filter_map(|index| self.get(index))
    }

    fn get(&self, mut index: u64) -> Option<IpAddr> {
        for (first, count) in &self.ranges {
            if index < *count {
                return Some(match first {
                    // A range's count never exceeds the addresses of its network.
                    #[allow(clippy::cast_possible_truncation)]
                    IpAddr::V4(first) => {
                        Ipv4Addr::from_bits(first.to_bits().wrapping_add(index as u32)).into()
                    }
                    IpAddr::V6(first) => {
                        Ipv6Addr::from_bits(first.to_bits().wrapping_add(index.into())).into()
                    }
                });
            }
            index -= count;
        }
        None
    }
}

impl FromStr for AddressPool {
    type Err = InvalidAddressPool;

    fn from_str(text: &str) -> Result<Self, InvalidAddressPool> {
        let ranges = text.split(',').map(|part| range(part.trim())).collect::<Result<_, _>>()?;
        Ok(Self { ranges })
    }
}

/// FNV-1a, 64 bits: the same in every build and on every machine.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn range(text: &str) -> Result<(IpAddr, u64), InvalidAddressPool> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address.to_canonical(), 1));
    }
    let network: IpNet = text.parse().map_err(|_| InvalidAddressPool(text.into()))?;
    let network = canonical_network(network);
    let host_bits = u32::from(network.max_prefix_len() - network.prefix_len()).min(63);
    let all = 1_u64 << host_bits;
    Ok(match network.network() {
        IpAddr::V4(first) if all > 2 => (Ipv4Addr::from_bits(first.to_bits() + 1).into(), all - 2),
        first => (first, all),
    })
}

/// A part of an address pool that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAddressPool(String);

impl fmt::Display for InvalidAddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is neither an IP address nor a network: write, say, 127.0.1.0/24 or 192.0.2.7",
            self.0
        )
    }
}

impl std::error::Error for InvalidAddressPool {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_leaves_out_network_and_broadcast_addresses() {
        let pool: AddressPool = "192.0.2.0/30, 2001:db8::1".parse().unwrap();
        assert_eq!(pool.len(), 3);
        let all: Vec<_> =
            (0..3).filter_map(|index| pool.get(index)).map(|a| a.to_string()).collect();
        assert_eq!(all, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        assert!(pool.contains("192.0.2.2".parse().unwrap()));
        assert!(!pool.contains("192.0.2.3".parse().unwrap()));
        assert!(!pool.contains("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn mapped_addresses_are_those_of_ipv4() {
        for (mapped, plain) in [
            ("::ffff:192.0.2.0/126", "192.0.2.0/30"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8::/126", "2001:db8::/126"),
        ] {
            assert_eq!(mapped.parse::<AddressPool>(), plain.parse());
        }
    }

    #[test]
    fn candidates_are_every_address_once() {
        let pool: AddressPool = "192.0.2.0/28".parse().unwrap();
        let mut all: Vec<_> = pool.candidates("a").collect();
        assert_eq!(all.len(), 14);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 14);
    }

    #[test]
    fn what_is_no_address_is_named() {
        let error = "192.0.2.1,nonsense".parse::<AddressPool>().unwrap_err();
        assert!(error.to_string().contains("nonsense"));
        assert!("".parse::<AddressPool>().is_err());
    }
}
