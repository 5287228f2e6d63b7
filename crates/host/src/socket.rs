//! Small helpers around sockets.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use l4way_session::Keepalive;
use rustix::{
    io::Errno,
    net::{getsockname, sockopt},
};

/// Has a silent TCP peer probed.
///
/// # Errors
/// If the kernel refuses the values.
pub fn set_keepalive(socket: &OwnedFd, keepalive: Keepalive) -> Result<(), Errno> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, keepalive.idle)?;
    sockopt::set_tcp_keepintvl(socket, keepalive.interval)?;
    sockopt::set_tcp_keepcnt(socket, keepalive.probes)
}

/// The address of an accepted connection that the client wrote to: the one that the listening
/// socket is bound on, unless that is bound on all addresses.
pub fn local_address(socket: impl AsFd, bind: SocketAddr) -> SocketAddr {
    if !bind.ip().is_unspecified() {
        return bind;
    }
    getsockname(socket).ok().and_then(|name| name.try_into().ok()).unwrap_or(bind)
}

/// True if a UDP socket on one address keeps another from being bound on the other: it is the same,
/// or one of them is all addresses of the family (those of IPv6 are apart, see `IPV6_V6ONLY`).
pub fn is_in_the_way(bound: SocketAddr, wanted: SocketAddr) -> bool {
    let is_any = bound.ip().is_unspecified() || wanted.ip().is_unspecified();
    bound.port() == wanted.port()
        && bound.is_ipv4() == wanted.is_ipv4()
        && (is_any || bound.ip() == wanted.ip())
}

/// True if a socket is connected to itself. The kernel may choose the very port that is connected
/// to as the local one where nobody listens on it, and TCP then has both ends meet (RFC 9293,
/// section 3.5). Such a socket gives clients their own bytes back, and keeps the endpoint from
/// starting.
pub fn is_connected_to_itself(socket: impl AsFd, peer: SocketAddr) -> bool {
    let local = getsockname(socket).ok().and_then(|name| SocketAddr::try_from(name).ok());
    local == Some(peer)
}

/// A number that nobody can foresee: a seed.
pub fn random_seed() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

    use super::*;

    fn bound(kind: SocketType) -> (OwnedFd, SocketAddr) {
        let socket = socket(AddressFamily::INET, kind, None).unwrap();
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = getsockname(&socket).unwrap().try_into().unwrap();
        (socket, address)
    }

    #[test]
    fn a_socket_that_is_connected_to_itself_is_recognised() {
        for kind in [SocketType::STREAM, SocketType::DGRAM] {
            let (socket, address) = bound(kind);
            connect(&socket, &address).unwrap();
            assert!(is_connected_to_itself(&socket, address), "{kind:?}");
        }
        let (endpoint, address) = bound(SocketType::DGRAM);
        let (client, _) = bound(SocketType::DGRAM);
        connect(&client, &address).unwrap();
        assert!(!is_connected_to_itself(&client, address));
        drop(endpoint);
    }
}
