//! Which listeners the kernel can carry, and where each of their sessions goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use l4way_model::{
    BackendId, Config, Endpoint, EndpointAddress, EndpointTable, Listener, ListenerId,
    RefusedReason, RouteId, Target, Transport,
};

use crate::{host::Host, nftables::Family};

/// A listener that the kernel carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) listener: ListenerId,
    pub(crate) transport: Transport,
    /// The addresses that clients write to: those of the listener, a wildcard being each of the
    /// host's addresses.
    pub(crate) locals: Vec<SocketAddr>,
    pub(crate) route: RouteId,
    /// What becomes of its sessions; not all of them are refused.
    pub(crate) shares: Vec<Share>,
}

/// A share of a listener's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Relative to the other shares; more than 0.
    pub(crate) weight: u32,
    pub(crate) goes: Goes,
}

/// What becomes of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    /// To one of these endpoints, which are all of the same family.
    To(BackendId, Vec<SocketAddr>),
    /// Nowhere.
    Refused(RefusedReason),
}

impl Carried {
    /// The family of all its addresses.
    pub(crate) fn family(&self) -> Family {
        self.locals.first().map_or(Family::V4, |local| Family::of(local.ip()))
    }

    /// The backends and their endpoints.
    pub(crate) fn backends(&self) -> impl Iterator<Item = (&BackendId, &[SocketAddr])> {
        self.shares.iter().filter_map(|share| match &share.goes {
            Goes::To(backend, endpoints) => Some((backend, &endpoints[..])),
            Goes::Refused(_) => None,
        })
    }

    /// All of it but the endpoints of its backends.
    pub(crate) fn without_endpoints(&self) -> Self {
        let mut carried = self.clone();
        for share in &mut carried.shares {
            if let Goes::To(_, endpoints) = &mut share.goes {
                endpoints.clear();
            }
        }
        carried
    }
}

/// Each listener's part of the plan: what the kernel carries, or why it can't.
pub(crate) type Plan = BTreeMap<ListenerId, Result<Carried, String>>;

/// Plans for the TCP and UDP listeners of a configuration.
pub(crate) fn plan(config: &Config, endpoints: &EndpointTable, host: &Host, taken: &Taken) -> Plan {
    let plan = |listener: &Listener| (listener.id.clone(), carry(listener, endpoints, host, taken));
    config.listeners().map(plan).collect()
}

/// Sockets that listeners are bound on: clients on one address are its own socket's, and no wildcard's.
pub(crate) type Taken = BTreeSet<(Transport, SocketAddr)>;

/// All such sockets of a configuration.
pub(crate) fn own_sockets(config: &Config) -> Taken {
    let sessions = config
        .listeners()
        .flat_map(|listener| listener.binds().map(move |bind| (listener.transport, bind)));
    let tls = config.tls_ports().iter().flat_map(|port| port.binds());
    let http = config.http_ports().iter().flat_map(|port| port.binds());
    sessions.chain(tls.chain(http).map(|bind| (Transport::Tcp, bind))).collect()
}

/// A listener's part of the plan.
///
/// # Errors
/// Why the kernel can't carry it.
pub(crate) fn carry(
    listener: &Listener,
    table: &EndpointTable,
    host: &Host,
    taken: &Taken,
) -> Result<Carried, String> {
    let Some(route) = &listener.route else {
        return Err("it has no route, and every session is refused".to_owned());
    };
    let mut shares = Vec::new();
    for target in route.targets.iter().filter(|target| target.weight > 0) {
        let goes = match &target.target {
            Target::Refused(reason) => Goes::Refused(*reason),
            Target::TlsBackend(backend, _) => {
                return Err(format!("TLS is begun with backend {backend}"));
            }
            Target::Backend(backend) => {
                match table.0.get(backend).map_or(&[][..], |endpoints| endpoints) {
                    [] => Goes::Refused(RefusedReason::NoEndpoint),
                    endpoints => Goes::To(backend.clone(), addresses(endpoints)?),
                }
            }
        };
        shares.push(Share { weight: target.weight, goes });
    }
    let mut carried = Carried {
        listener: listener.id.clone(),
        transport: listener.transport,
        locals: Vec::new(),
        route: route.id.clone(),
        shares,
    };
    not_to_itself(&carried, host, taken)?;
    let kind = kind_of_endpoints(&carried)?;
    if !kind.is_loopback
        && carried.backends().any(|(_, all)| all.iter().any(|e| host.is_away(e.ip())))
    {
        host.forwards(kind.family)?;
    }
    carried.locals = locals(listener, kind, host, taken)?;
    Ok(carried)
}

/// That no endpoint is a listener of the proxy. Such sessions may come back, which only the proxy notices.
fn not_to_itself(carried: &Carried, host: &Host, taken: &Taken) -> Result<(), String> {
    let is_own = |endpoint: &&SocketAddr| {
        let everywhere: IpAddr = match endpoint.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let has = |ip| taken.contains(&(carried.transport, SocketAddr::new(ip, endpoint.port())));
        has(endpoint.ip()) || !host.is_away(endpoint.ip()) && has(everywhere)
    };
    let mut endpoints = carried.backends().flat_map(|(_, endpoints)| endpoints);
    match endpoints.find(is_own) {
        Some(endpoint) => Err(format!("endpoint {endpoint} is a listener of the proxy")),
        None => Ok(()),
    }
}

/// The addresses of endpoints, if the kernel can send to all of them.
fn addresses(endpoints: &[Endpoint]) -> Result<Vec<SocketAddr>, String> {
    let address = |endpoint: &Endpoint| match &endpoint.address {
        EndpointAddress::Ip(address) if !address.ip().is_unspecified() => {
            Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
        }
        other => Err(format!("endpoint {other} has no address that packets can be sent to")),
    };
    endpoints.iter().map(address).collect()
}

/// What NAT can't change on the way to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    family: Family,
    /// Packets between a loopback address and another one are dropped as martians.
    is_loopback: bool,
}

impl Kind {
    fn of(ip: IpAddr) -> Self {
        Self { family: Family::of(ip), is_loopback: ip.is_loopback() }
    }
}

/// The kind of all endpoints, which have to be the same in this, and each in one backend only: a flow
/// tells of its endpoint and not of the backend.
fn kind_of_endpoints(carried: &Carried) -> Result<Kind, String> {
    let mut kinds = BTreeSet::new();
    let mut seen = BTreeMap::new();
    for (backend, endpoints) in carried.backends() {
        for endpoint in endpoints {
            kinds.insert(Kind::of(endpoint.ip()));
            if let Some(other) = seen.insert(*endpoint, backend).filter(|other| *other != backend) {
                return Err(format!("endpoint {endpoint} is in {other} and in {backend}"));
            }
        }
    }
    let mut kinds = kinds.into_iter();
    match (kinds.next(), kinds.next()) {
        (Some(kind), None) => Ok(kind),
        (None, _) => Err("every session is refused".to_owned()),
        (Some(one), Some(other)) if one.family != other.family => {
            Err("it has endpoints of IPv4 and of IPv6".to_owned())
        }
        _ => Err("some endpoints are on loopback, others are not".to_owned()),
    }
}

/// The addresses of this host on which clients can be sent on to endpoints of a kind.
fn locals(
    listener: &Listener,
    kind: Kind,
    host: &Host,
    taken: &Taken,
) -> Result<Vec<SocketAddr>, String> {
    let mut locals = BTreeSet::new();
    let fits = |ip: &IpAddr| Kind::of(*ip) == kind;
    for ip in &listener.addresses {
        if ip.is_unspecified() {
            let is_free = |ip: &IpAddr| {
                !taken.contains(&(listener.transport, SocketAddr::new(*ip, listener.port)))
            };
            let of_family = host.addresses().filter(|of| of.is_ipv4() == ip.is_ipv4());
            locals.extend(of_family.filter(fits).filter(is_free));
        } else if fits(ip) {
            locals.insert(*ip);
        } else if Family::of(*ip) == kind.family {
            let (here, there) = if kind.is_loopback { ("isn't", "are") } else { ("is", "aren't") };
            return Err(format!("{ip} {here} on loopback, and its endpoints {there}"));
        }
    }
    if locals.is_empty() {
        let name = match kind.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        return Err(format!("its endpoints are {name}, and it has no address of that kind"));
    }
    Ok(locals.into_iter().map(|ip| SocketAddr::new(ip, listener.port)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use l4way_model::{GatewayId, Route, WeightedTarget};

    use super::*;

    fn id(name: &str) -> BackendId {
        BackendId {
            kind: "Backend".into(),
            namespace: "ns".into(),
            name: name.into(),
            port: None,
            transport: Transport::Tcp,
        }
    }

    /// What becomes of a listener on these addresses with these backends and their endpoints.
    fn planned(
        addresses: &[&str],
        backends: &[(&str, &[&str])],
        host: &Host,
    ) -> Result<Carried, String> {
        let target = |(name, _): &(&str, &[&str])| WeightedTarget {
            weight: 1,
            target: Target::Backend(id(name)),
        };
        let route = RouteId { kind: "TCPRoute".into(), namespace: "ns".into(), name: "r".into() };
        let listener = Listener {
            id: ListenerId {
                gateway: GatewayId::new("ns", "gw"),
                listener_set: None,
                name: "l".into(),
            },
            transport: Transport::Tcp,
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            port: 7000,
            route: Some(Route { id: route, targets: backends.iter().map(target).collect() }),
        };
        let mut table = EndpointTable::default();
        for (name, endpoints) in backends {
            let endpoint = |text: &&str| match text.strip_prefix("unix:") {
                Some(path) => Endpoint { address: EndpointAddress::Unix(Arc::new(path.into())) },
                None => Endpoint::from(text.parse::<SocketAddr>().unwrap()),
            };
            table.0.insert(id(name), endpoints.iter().map(endpoint).collect());
        }
        let other = Listener {
            id: ListenerId { name: "other".into(), ..listener.id.clone() },
            addresses: vec!["198.51.100.1".parse().unwrap()],
            route: None,
            ..listener.clone()
        };
        let config = Config::new([listener.clone(), other]).unwrap();
        plan(&config, &table, host, &own_sockets(&config)).remove(&listener.id).unwrap()
    }

    fn host() -> Host {
        Host::of(&["127.0.0.1", "::1", "192.0.2.2", "198.51.100.1", "2001:db8::1"], true)
    }

    fn locals(carried: &Carried) -> Vec<String> {
        carried.locals.iter().map(|local| local.ip().to_string()).collect()
    }

    #[test]
    fn a_wildcard_is_each_address_that_can_reach_the_endpoints() {
        let away: &[&str] = &["203.0.113.7:1"];
        let v4 = planned(&["0.0.0.0", "::"], &[("a", away)], &host()).unwrap();
        // The other address has a listener of its own.
        assert_eq!(locals(&v4), ["192.0.2.2"]);
        let here = planned(&["0.0.0.0", "::"], &[("a", &["127.0.0.1:1"])], &host()).unwrap();
        assert_eq!(locals(&here), ["127.0.0.1"]);
        let v6 = planned(&["0.0.0.0", "::"], &[("a", &["[2001:db8::7]:1"])], &host()).unwrap();
        assert_eq!(locals(&v6), ["2001:db8::1"]);
    }

    #[test]
    fn what_nat_cannot_do_is_the_proxys_and_says_why() {
        let away: &[&str] = &["203.0.113.7:1"];
        let still = Host::of(&["192.0.2.2"], false);
        for (addresses, backends, host, why) in [
            (&["192.0.2.2"], vec![("a", &["unix:/run/a"][..])], host(), "no address"),
            (&["192.0.2.2"], vec![("a", &["[2001:db8::7]:1"][..])], host(), "are IPv6"),
            (&["192.0.2.2"], vec![("a", away), ("b", away)], host(), "is in Backend/ns/a and in"),
            (
                &["192.0.2.2"],
                vec![("a", &["203.0.113.7:1", "[2001:db8::7]:1"][..])],
                host(),
                "of IPv4 and of IPv6",
            ),
            (
                &["192.0.2.2"],
                vec![("a", &["203.0.113.7:1", "127.0.0.1:1"][..])],
                host(),
                "on loopback, others",
            ),
            (
                &["192.0.2.2"],
                vec![("a", &["127.0.0.1:1"][..])],
                host(),
                "192.0.2.2 isn't on loopback",
            ),
            (&["127.0.0.1"], vec![("a", away)], host(), "127.0.0.1 is on loopback"),
            (&["192.0.2.2"], vec![("a", &[][..])], host(), "every session is refused"),
            (&["192.0.2.2"], vec![("a", away)], still.clone(), "net.ipv4.ip_forward is 0"),
            (&["192.0.2.2"], vec![("a", &["192.0.2.2:7000"][..])], host(), "is a listener of the"),
            (&["192.0.2.2"], vec![("a", &["198.51.100.1:7000"][..])], host(), "is a listener of"),
            (&["0.0.0.0"], vec![("a", &["127.9.9.9:7000"][..])], host(), "is a listener of the"),
        ] {
            let error = planned(addresses, &backends, &host).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        // Endpoints on this host need no forwarding.
        planned(&["192.0.2.2"], &[("a", &["192.0.2.2:1"])], &still).unwrap();
    }

    #[test]
    fn a_backend_without_endpoints_keeps_its_share() {
        let backends: &[(&str, &[&str])] = &[("a", &["203.0.113.7:1"]), ("b", &[])];
        let carried = planned(&["192.0.2.2"], backends, &host()).unwrap();
        assert_eq!(carried.shares[1].goes, Goes::Refused(RefusedReason::NoEndpoint));
    }
}
