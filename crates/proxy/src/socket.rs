//! Small helpers around sockets.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{getsockname, sockopt},
};

use crate::settings::Keepalive;

/// Has a silent TCP peer probed.
pub(crate) fn set_keepalive(socket: &OwnedFd, keepalive: Keepalive) -> Result<(), Errno> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, keepalive.idle)?;
    sockopt::set_tcp_keepintvl(socket, keepalive.interval)?;
    sockopt::set_tcp_keepcnt(socket, keepalive.probes)
}

/// The address of an accepted connection that the client wrote to: the one that the listening
/// socket is bound on, unless that is bound on all addresses.
pub(crate) fn local_address(socket: impl AsFd, bind: SocketAddr) -> SocketAddr {
    if !bind.ip().is_unspecified() {
        return bind;
    }
    getsockname(socket).ok().and_then(|name| name.try_into().ok()).unwrap_or(bind)
}

/// A number that nobody can foresee: a seed.
pub fn random_seed() -> u64 {
    RandomState::new().hash_one(0)
}
