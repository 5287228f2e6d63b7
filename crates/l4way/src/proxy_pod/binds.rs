//! What a configuration's wildcard address means in a pod: every address that the pod has.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use l4way_model::{Config, Parts};

/// The same configuration, with the wildcard addresses of the pod's own families in place of a
/// wildcard address. A listener on `0.0.0.0` listens on `::` too in a pod with both.
pub(super) fn in_pod(config: &Config, pod_ips: &[IpAddr]) -> Config {
    let wildcards = wildcards(pod_ips);
    let mut parts = Parts::from(config.clone());
    let listeners = parts.listeners.iter_mut().map(|listener| &mut listener.addresses);
    let tls = parts.tls.iter_mut().map(|port| &mut port.addresses);
    let http = parts.http.iter_mut().map(|port| &mut port.addresses);
    for addresses in listeners.chain(tls).chain(http) {
        *addresses = rewritten(addresses, &wildcards);
    }
    // Only a configuration that tells the families apart could now want one socket twice.
    parts.try_into().unwrap_or_else(|_| config.clone())
}

/// The address at which a pod is asked: of both families, where `address` is a wildcard and the pod
/// has IPv6. Without `IPV6_V6ONLY` a socket on `::` takes IPv4 too (ipv6(7)).
pub(super) fn reachable(address: SocketAddr, pod_ips: &[IpAddr]) -> SocketAddr {
    if address.ip().is_unspecified() && pod_ips.iter().any(IpAddr::is_ipv6) {
        SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())
    } else {
        address
    }
}

fn rewritten(addresses: &[IpAddr], wildcards: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    if wildcards.is_empty() {
        return addresses.to_vec();
    }
    let (any, own): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_unspecified());
    let any = wildcards.iter().copied().filter(|_| !any.is_empty());
    own.into_iter().chain(any).collect()
}

fn wildcards(pod_ips: &[IpAddr]) -> BTreeSet<IpAddr> {
    pod_ips.iter().copied().map(wildcard).collect()
}

fn wildcard(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use l4way_model::{
        GatewayId, HttpListener, HttpPort, Listener, ListenerId, SessionTerms, TlsListener,
        TlsMode, TlsPort, Transport,
    };

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn id(name: &str) -> ListenerId {
        ListenerId {
            gateway: GatewayId::new("default", "gw"),
            listener_set: None,
            name: name.into(),
        }
    }

    fn config(addresses: &[&str]) -> Config {
        let listener = Listener {
            id: id("tcp"),
            transport: Transport::Tcp,
            addresses: ips(addresses),
            port: 5432,
            route: None,
        };
        let http = HttpPort {
            addresses: ips(addresses),
            port: 80,
            listeners: vec![HttpListener { id: id("http"), hostname: None, rules: Vec::new() }],
        };
        let tls = TlsPort {
            addresses: ips(addresses),
            port: 8443,
            listeners: vec![TlsListener {
                id: id("tls"),
                hostname: None,
                handshake_timeout: Duration::from_secs(10),
                mode: TlsMode::Refused,
            }],
        };
        let terms = SessionTerms {
            connect_timeout: Duration::from_secs(1),
            udp_session_timeout: Duration::from_secs(2),
            ..SessionTerms::default()
        };
        let (listeners, tls, http) = (vec![listener], vec![tls], vec![http]);
        Parts { listeners, tls, http, terms, ..Parts::default() }.try_into().unwrap()
    }

    #[test]
    fn a_wildcard_is_the_families_that_the_pod_has() {
        for (pod_ips, expected) in [
            (&["10.0.0.1"][..], &["0.0.0.0"][..]),
            (&["10.0.0.1", "2001:db8::1"], &["0.0.0.0", "::"]),
            (&["2001:db8::1"], &["::"]),
            (&[], &["0.0.0.0"]),
        ] {
            assert_eq!(in_pod(&config(&["0.0.0.0"]), &ips(pod_ips)), config(expected));
        }
        let own = config(&["192.0.2.1"]);
        assert_eq!(in_pod(&own, &ips(&["10.0.0.1", "2001:db8::1"])), own);
    }

    #[test]
    fn the_admin_endpoint_is_where_the_pod_is_asked() {
        let any = "0.0.0.0:19902".parse().unwrap();
        let reachable = |pod_ips| reachable(any, &ips(pod_ips)).to_string();
        assert_eq!(reachable(&["10.0.0.1", "2001:db8::1"]), "[::]:19902");
        assert_eq!(reachable(&["10.0.0.1"]), "0.0.0.0:19902");
        assert_eq!(reachable(&[]), "0.0.0.0:19902");
    }
}
