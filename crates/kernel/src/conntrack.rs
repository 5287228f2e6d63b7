//! Connection tracking, in the words of `linux/netfilter/nfnetlink_conntrack.h`: the flows that the
//! kernel knows, what becomes of them, and their end.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use l4way_model::Transport;
use rustix::io::Errno;

use crate::{
    netlink::{Attributes, DUMP, Header, Messages, Parsed, Received, Socket, number},
    nftables::{Family, TCP, UDP},
};

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

/// The destination was translated (`IPS_DST_NAT`).
const TRANSLATED: u32 = 1 << 5;

/// The events that end a flow: for a socket's groups, and for the mask of a flow's events.
pub(crate) const ENDS: Events = Events { groups: 1 << 2, mask: 1 << 2 };
/// Those, and what tells of beginnings and of TCP's states.
pub(crate) const ALL: Events = Events { groups: 0b111, mask: 1 << 0 | 1 << 2 | 1 << 5 };

/// Which events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Events {
    /// As a netlink socket has them.
    pub(crate) groups: u32,
    /// As a flow has them.
    pub(crate) mask: u32,
}

/// What tells a flow from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    pub(crate) transport: Transport,
    /// The client's address.
    pub(crate) client: SocketAddr,
    /// The address that the client wrote to.
    pub(crate) local: SocketAddr,
}

/// A flow whose destination was translated, as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) key: FlowKey,
    /// Where the flow goes.
    pub(crate) endpoint: SocketAddr,
    /// What it has carried; what an event that doesn't end it leaves out.
    pub(crate) carried: Option<[Carried; 2]>,
    /// The state of TCP; missing where it hasn't changed.
    pub(crate) state: Option<State>,
    /// When it began, if the kernel keeps that.
    pub(crate) began: Option<SystemTime>,
    /// When it ended, if the kernel keeps that, and it has.
    pub(crate) ended: Option<SystemTime>,
}

/// Packets one way, and their bytes, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// A state of TCP, as far as it matters (`enum tcp_conntrack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not answered yet, or answered and not confirmed.
    Opening,
    /// Both sides may send, or one of them.
    Open,
    /// Both sides have said that they are done.
    Closed,
    /// One side has reset the connection.
    Reset,
}

/// What an event, or an answer, tells of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is there.
    Is,
    /// It is gone.
    Gone,
}

/// What a message tells, if it is about a flow whose destination was translated.
pub(crate) fn read(received: Received<'_>) -> Option<(Told, Flow)> {
    let told = match received.kind {
        NEW => Told::Is,
        DELETE => Told::Gone,
        _ => return None,
    };
    let attributes = received.attributes();
    let status = attributes.get(3).and_then(number)?;
    if status & u64::from(TRANSLATED) == 0 {
        return None;
    }
    let (transport, client, local) = tuple(attributes.nest(1)?)?;
    let (_, endpoint, _) = tuple(attributes.nest(2)?)?;
    let times = attributes.nest(20);
    let time = |kind| {
        let nanoseconds = number(times?.get(kind)?)?;
        Some(UNIX_EPOCH + Duration::from_nanos(nanoseconds))
    };
    let flow = Flow {
        key: FlowKey { transport, client, local },
        endpoint,
        carried: carried(attributes, 9).zip(carried(attributes, 10)).map(|(up, down)| [up, down]),
        state: attributes.nest(4).and_then(|info| info.nest(1)).and_then(state),
        began: time(1),
        ended: time(2),
    };
    Some((told, flow))
}

/// Protocol, source and destination.
fn tuple(tuple: Parsed<'_>) -> Option<(Transport, SocketAddr, SocketAddr)> {
    let (addresses, protocol) = (tuple.nest(1)?, tuple.nest(2)?);
    let transport = match protocol.get(1)? {
        [TCP] => Transport::Tcp,
        [UDP] => Transport::Udp,
        _ => return None,
    };
    let port = |kind| u16::try_from(number(protocol.get(kind)?)?).ok();
    let address = |v4, v6| match addresses.get(v4) {
        Some(octets) => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        None => <[u8; 16]>::try_from(addresses.get(v6)?).ok().map(IpAddr::from),
    };
    let source = SocketAddr::new(address(1, 3)?, port(2)?);
    let destination = SocketAddr::new(address(2, 4)?, port(3)?);
    Some((transport, source, destination))
}

fn carried(attributes: Parsed<'_>, kind: u16) -> Option<Carried> {
    let counters = attributes.nest(kind)?;
    let of = |kind| counters.get(kind).and_then(number);
    Some(Carried { packets: of(1)?, bytes: of(2)? })
}

fn state(tcp: Parsed<'_>) -> Option<State> {
    Some(match tcp.get(1)? {
        [1 | 2 | 9] => State::Opening,
        [3..=6] => State::Open,
        [7] => State::Closed,
        [8] => State::Reset,
        _ => return None,
    })
}

/// Asks for all flows whose destination was translated.
///
/// # Errors
/// If the kernel can't be asked.
pub(crate) fn dump(socket: &mut Socket, mut each: impl FnMut(Flow)) -> io::Result<()> {
    let mut messages = Messages::default();
    let header = Header { kind: GET, flags: DUMP, family: 0, resource: 0 };
    messages.add(header, |a| {
        // Kernels that don't know the filter give all flows.
        a.number(3, TRANSLATED);
        a.number(26, TRANSLATED);
    });
    socket.ask(&messages, |received| {
        if let Some((Told::Is, flow)) = read(received) {
            each(flow);
        }
    })
}

/// Asks for what these flows have carried; those that are gone are left out.
///
/// # Errors
/// If the kernel can't be asked.
pub(crate) fn get(
    socket: &mut Socket,
    keys: impl Iterator<Item = FlowKey>,
    mut each: impl FnMut(Flow),
) -> io::Result<()> {
    about(socket, GET, keys, |received| {
        if let Some((Told::Is, flow)) = read(received) {
            each(flow);
        }
    })
}

/// Has the kernel forget flows. Those that are gone already don't matter.
///
/// # Errors
/// If the kernel can't be asked.
pub(crate) fn delete(socket: &mut Socket, keys: impl Iterator<Item = FlowKey>) -> io::Result<()> {
    about(socket, DELETE, keys, |_| {})
}

fn about(
    socket: &mut Socket,
    kind: u16,
    keys: impl Iterator<Item = FlowKey>,
    mut each: impl FnMut(Received<'_>),
) -> io::Result<()> {
    /// The kernel keeps the answers to one system call for a socket until it reads them.
    const AT_A_TIME: usize = 64;
    let mut keys = keys.peekable();
    while keys.peek().is_some() {
        let mut messages = Messages::default();
        for key in keys.by_ref().take(AT_A_TIME) {
            let family = Family::of(key.local.ip());
            let header = Header { kind, flags: 0, family: family.number(), resource: 0 };
            messages.add(header, |a| a.nest(1, |a| write_tuple(a, key)));
        }
        match socket.ask(&messages, &mut each) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {}
            answered => answered?,
        }
    }
    Ok(())
}

fn write_tuple(a: &mut Attributes<'_>, key: FlowKey) {
    let address = |ip: IpAddr, v4, v6, a: &mut Attributes<'_>| match ip {
        IpAddr::V4(ip) => a.bytes(v4, &ip.octets()),
        IpAddr::V6(ip) => a.bytes(v6, &ip.octets()),
    };
    a.nest(1, |a| {
        address(key.client.ip(), 1, 3, a);
        address(key.local.ip(), 2, 4, a);
    });
    a.nest(2, |a| {
        a.bytes(
            1,
            &[match key.transport {
                Transport::Tcp => TCP,
                Transport::Udp => UDP,
            }],
        );
        a.bytes(2, &key.client.port().to_be_bytes());
        a.bytes(3, &key.local.port().to_be_bytes());
    });
}

#[cfg(test)]
mod fuzz;
