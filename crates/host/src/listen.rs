//! Sockets to listen on.

use std::{net::SocketAddr, num::NonZeroUsize, os::fd::OwnedFd};

use l4way_model::{Bind, BindFailure, BindFailureKind, Transport};
use l4way_session::Keepalive;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
};

use crate::{port_holder, socket::set_keepalive};

/// A socket of its own that listens on a TCP address, or why there is none; for those who carry
/// TCP connections themselves. It doesn't block.
///
/// # Errors
/// If the address can't be bound.
pub fn listen_tcp(
    address: SocketAddr,
    keepalive: Keepalive,
    backlog: u32,
) -> Result<OwnedFd, BindFailure> {
    let wanted = Bind { transport: Transport::Tcp, address };
    let open = || {
        let socket = new_socket(wanted)?;
        start_listening(&socket, address, keepalive, backlog)?;
        Ok(socket)
    };
    open().map_err(|error| failure(wanted, error))
}

/// As many sockets of one process that listen on a TCP address and share it (`SO_REUSEPORT`). They
/// don't block.
///
/// # Errors
/// If the address can't be bound, or is taken by a process that would share it.
pub fn listen_tcp_shared(
    address: SocketAddr,
    count: NonZeroUsize,
    keepalive: Keepalive,
    backlog: u32,
) -> Result<Vec<OwnedFd>, BindFailure> {
    let wanted = Bind { transport: Transport::Tcp, address };
    open_shared(wanted, count, |socket| start_listening(socket, address, keepalive, backlog))
}

/// As many sockets of one process that are bound on a UDP address and share it. They don't block.
/// `prepare` gets each before it is bound, as datagrams may come at once then.
///
/// # Errors
/// If the address can't be bound, or is taken by a process that would share it.
pub fn bind_udp_shared(
    address: SocketAddr,
    count: NonZeroUsize,
    prepare: impl Fn(&OwnedFd, SocketAddr) -> Result<(), Errno>,
) -> Result<Vec<OwnedFd>, BindFailure> {
    let wanted = Bind { transport: Transport::Udp, address };
    open_shared(wanted, count, |socket| {
        prepare(socket, address)?;
        bind(socket, &address)
    })
}

fn open_shared(
    wanted: Bind,
    count: NonZeroUsize,
    start: impl Fn(&OwnedFd) -> Result<(), Errno>,
) -> Result<Vec<OwnedFd>, BindFailure> {
    let open = |_| {
        let socket = new_socket(wanted)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        start(&socket)?;
        Ok(socket)
    };
    let sockets = probe(wanted).and_then(|()| (0..count.get()).map(open).collect());
    sockets.map_err(|error| failure(wanted, error))
}

/// Finds out whether the port is free. The sockets proper share it (`SO_REUSEPORT`), and so they
/// would with another process of the same user without a word.
fn probe(wanted: Bind) -> Result<(), Errno> {
    let socket = new_socket(wanted)?;
    // Ports of connections that are over or go on are free to listen on; for UDP the option means
    // sharing.
    sockopt::set_socket_reuseaddr(&socket, wanted.transport == Transport::Tcp)?;
    bind(&socket, &wanted.address)
}

fn start_listening(
    socket: &OwnedFd,
    address: SocketAddr,
    keepalive: Keepalive,
    backlog: u32,
) -> Result<(), Errno> {
    sockopt::set_socket_reuseaddr(socket, true)?;
    // Accepted connections inherit these.
    sockopt::set_tcp_nodelay(socket, true)?;
    // An urgent byte stays where it is in the stream (tcp(7), SO_OOBINLINE).
    sockopt::set_socket_oobinline(socket, true)?;
    set_keepalive(socket, keepalive)?;
    bind(socket, &address)?;
    listen(socket, backlog.try_into().unwrap_or(i32::MAX))
}

fn new_socket(wanted: Bind) -> Result<OwnedFd, Errno> {
    let kind = match wanted.transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    match wanted.address {
        SocketAddr::V4(_) => socket_with(AddressFamily::INET, kind, flags, None),
        SocketAddr::V6(_) => {
            let socket = socket_with(AddressFamily::INET6, kind, flags, None)?;
            // So that [::] and 0.0.0.0 are two sockets, as the configuration has them.
            sockopt::set_ipv6_v6only(&socket, true)?;
            Ok(socket)
        }
    }
}

fn failure(wanted: Bind, error: Errno) -> BindFailure {
    let address = wanted.address;
    let (kind, message) = match error {
        Errno::ADDRINUSE => {
            let holder = port_holder::find(wanted).map(|holder| format!(" by {holder}"));
            let by = holder.unwrap_or_default();
            (BindFailureKind::PortTaken, format!("{wanted} is taken{by}"))
        }
        Errno::ADDRNOTAVAIL => (
            BindFailureKind::AddressNotAvailable,
            format!("{} is not an address of this host", address.ip()),
        ),
        Errno::ACCESS => (
            BindFailureKind::NotPermitted,
            format!(
                "the process may not bind {wanted}: ports below \
                 net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE"
            ),
        ),
        error => (BindFailureKind::Other, format!("can't bind {wanted}: {error}")),
    };
    BindFailure { bind: address, kind, message }
}
