//! Sessions that come back: a route's endpoint may turn out to be a listener of this very proxy, behind a name or
//! translated addresses. Such a session would begin another one, and so on until no descriptor is left.
//!
//! A session that comes back has one of our own sockets as its client. So some sessions leave a trace: the
//! address of their socket toward the endpoint, and the listeners and routes that led there. One of
//! [`EVERY`] sessions does, and every one that such a trace has led to. A session whose trace has been where
//! it is now is refused, and with it those behind it end. So a loop is found after some rounds at most, each
//! worker counting for itself; a chain of listeners that ends elsewhere is never in its own trace; and
//! other sessions pay no more than a look at one bit.

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use l4way_model::{Transport, connected_to};
use l4way_proxy_core::Seldom;
use l4way_session::Labels;
use rustix::net::{getsockname, sockopt};

/// Of how many sessions one leaves a trace.
const EVERY: u32 = 16;
/// Words of bits for all ports of a transport.
const WORDS: usize = 1 << 10;

/// The listeners and routes that a session has come through.
pub(crate) type Chain = Arc<[Arc<Labels>]>;

/// A session has come back to a listener and route that it has been through.
#[derive(Debug)]
pub(crate) struct CameBack;

/// Finds out, for one worker, whether sessions come back.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    traces: Arc<Traces>,
    /// Sessions since one left a trace.
    since: u32,
    told: Seldom,
}

impl Loops {
    /// With the traces of all workers.
    pub(crate) fn new(traces: Arc<Traces>) -> Self {
        Self { traces, since: 0, told: Seldom::default() }
    }

    /// Looks whether a session of this client has been at this listener and route before, or would be new
    /// there. `wrote_to` tells whether the client connected to an address. Returns what has to be
    /// [kept](Self::keep) in mind of the session's own socket, if anything.
    pub(crate) fn follow(
        &mut self,
        client: SocketAddr,
        labels: &Arc<Labels>,
        now: Instant,
        wrote_to: impl Fn(SocketAddr) -> bool,
    ) -> Result<Option<Chain>, CameBack> {
        let transport = labels.transport;
        if self.traces.may_have(transport, client.port())
            && let Some(chain) = self.traces.find(transport, client, wrote_to)
        {
            return self.go_on(&chain, client, labels, now).map(Some);
        }
        self.since += 1;
        if self.since < EVERY {
            return Ok(None);
        }
        self.since = 0;
        Ok(Some([labels.clone()].into()))
    }

    #[cold]
    fn go_on(
        &mut self,
        chain: &Chain,
        client: SocketAddr,
        labels: &Arc<Labels>,
        now: Instant,
    ) -> Result<Chain, CameBack> {
        let is_here = |before: &Arc<Labels>| {
            before.listener == labels.listener && before.route == labels.route
        };
        if !chain.iter().any(is_here) {
            return Ok(chain.iter().chain([labels]).cloned().collect());
        }
        if let Some(times) = self.told.note(now) {
            let route = labels.route.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                times,
                listener = %labels.listener,
                route,
                %client,
                "sessions of this route come back to its own listener and are refused: its backend leads \
                 here, perhaps by a name or translated addresses"
            );
        }
        Err(CameBack)
    }

    /// Keeps in mind where a socket toward `endpoint` comes from, for as long as the trace is held.
    pub(crate) fn keep(
        &self,
        chain: Chain,
        socket: impl AsFd,
        endpoint: SocketAddr,
    ) -> Option<Box<Trace>> {
        let local = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
        let transport = chain.first()?.transport;
        let way = Way { local: canonical(local), endpoint: canonical(endpoint), chain };
        Some(Box::new(self.traces.clone().add(transport, way)))
    }
}

/// The traces that sessions have left, of all workers.
#[derive(Debug)]
pub(crate) struct Traces {
    /// Which ports have traces, for each transport.
    bits: [Box<[AtomicU64]>; 2],
    ways: Mutex<HashMap<(Transport, u16), Vec<Way>>>,
}

/// One of our own sockets, and what led there.
#[derive(Clone, Debug)]
struct Way {
    local: SocketAddr,
    endpoint: SocketAddr,
    chain: Chain,
}

/// A session's trace, until it is dropped.
#[derive(Debug)]
pub(crate) struct Trace {
    traces: Arc<Traces>,
    transport: Transport,
    local: SocketAddr,
    endpoint: SocketAddr,
}

impl Default for Traces {
    fn default() -> Self {
        let bits = || (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { bits: [bits(), bits()], ways: Mutex::default() }
    }
}

impl Traces {
    fn word(&self, transport: Transport, port: u16) -> (&AtomicU64, u64) {
        let words = &self.bits[usize::from(transport == Transport::Udp)];
        (&words[usize::from(port) / 64], 1 << (port % 64))
    }

    /// Whether there is a trace of some socket with this port.
    fn may_have(&self, transport: Transport, port: u16) -> bool {
        let (word, bit) = self.word(transport, port);
        word.load(Relaxed) & bit != 0
    }

    /// What led to the socket with this address that the session comes from. Connections to several endpoints
    /// may share a local port: it has to be the one to whom the client wrote.
    #[cold]
    fn find(
        &self,
        transport: Transport,
        client: SocketAddr,
        wrote_to: impl Fn(SocketAddr) -> bool,
    ) -> Option<Chain> {
        let client = canonical(client);
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let all = ways.get(&(transport, client.port()))?;
        let way = all.iter().find(|way| way.local == client && wrote_to(way.endpoint))?;
        Some(way.chain.clone())
    }

    fn add(self: Arc<Self>, transport: Transport, way: Way) -> Trace {
        let Way { local, endpoint, .. } = way;
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.entry((transport, local.port())).or_default().push(way);
        let (word, bit) = self.word(transport, local.port());
        word.fetch_or(bit, Relaxed);
        drop(ways);
        Trace { traces: self, transport, local, endpoint }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let Self { traces, transport, local, endpoint } = self;
        let mut ways = traces.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = ways.get_mut(&(*transport, local.port())) else { return };
        let mine = |way: &Way| way.local == *local && way.endpoint == *endpoint;
        if let Some(place) = all.iter().position(mine) {
            all.swap_remove(place);
        }
        if all.is_empty() {
            ways.remove(&(*transport, local.port()));
            let (word, bit) = traces.word(*transport, local.port());
            word.fetch_and(!bit, Relaxed);
        }
    }
}

/// Whether the client of an accepted connection connected to `endpoint`, as it is or before its address was
/// translated (`SO_ORIGINAL_DST`).
pub(crate) fn wrote_to(accepted: impl AsFd, endpoint: SocketAddr) -> bool {
    let fd = accepted.as_fd();
    let local = getsockname(fd).ok().and_then(|name| SocketAddr::try_from(name).ok());
    if local.map(canonical) == Some(endpoint) {
        return true;
    }
    let before = match endpoint {
        SocketAddr::V4(_) => sockopt::ip_original_dst(fd).map(SocketAddr::V4),
        SocketAddr::V6(_) => sockopt::ipv6_original_dst(fd).map(SocketAddr::V6),
    };
    // Without connection tracking nothing was translated.
    before.is_ok_and(|before| canonical(before) == endpoint)
}

/// An address as sockets of both families know it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(connected_to(address.ip()), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use l4way_model::{GatewayId, ListenerId};

    use super::*;

    fn labels(listener: &str) -> Arc<Labels> {
        let gateway = GatewayId::new("default", "gw");
        Arc::new(Labels {
            transport: Transport::Udp,
            listener: ListenerId { gateway, listener_set: None, name: listener.into() },
            route: None,
            backend: None,
        })
    }

    /// A socket toward an endpoint.
    fn upstream(endpoint: &UdpSocket) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(endpoint.local_addr().unwrap()).unwrap();
        let local = socket.local_addr().unwrap();
        (socket, local)
    }

    #[test]
    fn a_session_is_followed_until_it_comes_back() {
        let endpoint = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = endpoint.local_addr().unwrap();
        let now = Instant::now();
        let mut loops = Loops::default();
        let (one, two) = (labels("one"), labels("two"));
        let stranger = SocketAddr::from(([127, 0, 0, 1], 9));
        let left = (0..EVERY).find_map(|_| loops.follow(stranger, &one, now, |_| true).unwrap());
        let (first, at) = upstream(&endpoint);
        let first = loops.keep(left.expect("one of them leaves a trace"), &first, to);
        let chain = loops.follow(at, &two, now, |address| address == to).unwrap();
        let (second, back) = upstream(&endpoint);
        let second = loops.keep(chain.expect("it is followed"), &second, to);
        assert!(loops.follow(back, &one, now, |_| true).is_err());
        // Another client has that port too, toward somebody else.
        assert!(loops.follow(back, &one, now, |_| false).is_ok());
        drop(second);
        assert!(loops.follow(back, &one, now, |_| true).is_ok());
        drop(first);
        assert!(loops.traces.ways.lock().unwrap().is_empty());
        assert!(!loops.traces.may_have(Transport::Udp, at.port()));
    }

    #[test]
    fn addresses_are_those_that_are_connected_to() {
        let same = |one: &str, other: &str| {
            assert_eq!(canonical(one.parse().unwrap()), other.parse().unwrap());
        };
        same("0.0.0.0:1", "127.0.0.1:1");
        same("[::]:1", "[::1]:1");
        same("[::ffff:10.0.0.1]:1", "10.0.0.1:1");
    }
}
