//! Sockets toward endpoints. A session has one to itself, with a port of its own: opening and closing
//! one is a third of what a session of one datagram and its answer costs, so that those of ended
//! sessions are kept for new ones, for a while.
//!
//! No datagram of an ended session may reach the client of the next. A spare socket is disconnected
//! (`connect(AF_UNSPEC)`, see connect(2)), which gives its port back and takes it out of the kernel's
//! tables; it gets another port for each session, as a new socket would. What the kernel was putting
//! into its queue just then is there long before [`REST`] is over, and is thrown away before the
//! socket is connected again.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    ops::RangeInclusive,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use l4way_host::is_connected_to_itself;
use l4way_model::EndpointAddress;
use l4way_proxy_core::{Allowance, Descriptors, FlowId};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, connect, connect_unspec, recv,
        socket_with,
    },
};

use crate::{
    context::Context,
    poll::{Interest, Token},
};

/// How long a socket isn't used.
const REST: Duration = Duration::from_millis(50);
/// How long it is kept.
const KEPT: Duration = Duration::from_secs(1);
/// How many are kept for each address family.
const MOST: usize = 2_048;
/// A socket is only kept while this share of the descriptors is free: limits are for sessions.
const FREE_SHARE: usize = 4;
/// How often another local port is tried, where the kernel chooses the endpoint's own.
const TRIES: usize = 4;
/// Datagrams that are thrown away before a socket is given up.
const LEFTOVERS: usize = 16;

/// A socket that is connected to an endpoint: it receives from nobody else, and is told of ICMP
/// errors.
#[derive(Debug)]
pub(super) struct Upstream {
    fd: OwnedFd,
    number: u32,
    /// Its descriptor.
    place: Descriptors,
}

impl AsFd for Upstream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A worker's sockets toward endpoints.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    /// Whose each is, by the number that events name it by.
    owners: Vec<Option<FlowId>>,
    free_numbers: Vec<u32>,
    spare_ipv4: VecDeque<Spare>,
    spare_ipv6: VecDeque<Spare>,
}

/// A socket that no session has.
#[derive(Debug)]
struct Spare {
    upstream: Upstream,
    since: Instant,
}

impl Upstreams {
    /// The session that the socket with this number belongs to.
    pub(super) fn owner(&self, number: u32) -> Option<FlowId> {
        *self.owners.get(number as usize)?
    }

    /// From now on events of this socket are the session's.
    pub(super) fn give(&mut self, upstream: &Upstream, id: FlowId) {
        self.owners[upstream.number as usize] = Some(id);
    }

    /// A watched socket that is connected to this endpoint, for a session of a listener with these allowance.
    ///
    /// # Errors
    /// [`Errno::MFILE`] too if the listener may take no more descriptors.
    pub(super) fn connect_to(
        &mut self,
        ctx: &Context,
        allowance: &Allowance,
        endpoint: &EndpointAddress,
    ) -> Result<Upstream, Errno> {
        match endpoint {
            EndpointAddress::Ip(address) => self.connect(ctx, allowance, address),
            // As a host that can't be reached: nobody sends datagrams there.
            EndpointAddress::Unix(_) => Err(Errno::HOSTUNREACH),
        }
    }

    fn connect(
        &mut self,
        ctx: &Context,
        allowance: &Allowance,
        address: &SocketAddr,
    ) -> Result<Upstream, Errno> {
        let upstream = match self.spare(ctx, address) {
            Some(mut upstream) => {
                upstream.place.pass_to(allowance);
                upstream
            }
            None => self.open(ctx, allowance, address)?,
        };
        match connect_elsewhere(&upstream, address, &ctx.local_ports) {
            Ok(()) => Ok(upstream),
            Err(error) => {
                self.close(upstream);
                Err(error)
            }
        }
    }

    fn open(
        &mut self,
        ctx: &Context,
        allowance: &Allowance,
        address: &SocketAddr,
    ) -> Result<Upstream, Errno> {
        let place = allowance.take_as(ctx.worker, 1).ok_or(Errno::MFILE)?;
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::DGRAM, flags, None)?;
        let number = self.free_numbers.pop().unwrap_or(self.owners.len() as u32);
        if number as usize == self.owners.len() {
            self.owners.push(None);
        }
        let upstream = Upstream { fd, number, place };
        match ctx.poll.add(&upstream, Token::UdpUpstream(number), Interest::Read) {
            Ok(()) => Ok(upstream),
            Err(error) => {
                self.close(upstream);
                Err(error)
            }
        }
    }

    /// A spare one that has rested and has nothing to read.
    fn spare(&mut self, ctx: &Context, address: &SocketAddr) -> Option<Upstream> {
        let has_rested = |spare: &mut Spare| spare.since + REST <= ctx.now;
        let Spare { upstream, .. } = self.spares(address).pop_front_if(has_rested)?;
        if is_drained(&upstream) {
            return Some(upstream);
        }
        self.close(upstream);
        None
    }

    /// Takes a socket that was connected to `address` back from its session.
    pub(super) fn take_back(&mut self, ctx: &Context, upstream: Upstream, address: &SocketAddr) {
        self.owners[upstream.number as usize] = None;
        let is_wanted =
            self.spares(address).len() < MOST && ctx.pool.has_free(ctx.pool.limit() / FREE_SHARE);
        if is_wanted && connect_unspec(&upstream).is_ok() {
            self.spares(address).push_back(Spare { upstream, since: ctx.now });
        } else {
            self.close(upstream);
        }
    }

    /// Closes a socket.
    pub(super) fn close(&mut self, upstream: Upstream) {
        self.owners[upstream.number as usize] = None;
        self.free_numbers.push(upstream.number);
    }

    /// When the first spare will have been kept long enough.
    pub(super) fn next_close(&self) -> Option<Instant> {
        let first = [self.spare_ipv4.front(), self.spare_ipv6.front()].into_iter().flatten();
        first.map(|spare| spare.since + KEPT).min()
    }

    /// Closes the spares that nobody has needed.
    pub(super) fn close_old(&mut self, ctx: &Context) {
        self.close_spares(|spare| spare.since + KEPT <= ctx.now);
    }

    /// Closes all spares, for their descriptors. False if there are none.
    pub(super) fn make_room(&mut self) -> bool {
        self.close_spares(|_| true)
    }

    /// Closes spares from the oldest on, as long as they are `unwanted`. False if none is.
    fn close_spares(&mut self, unwanted: impl Fn(&Spare) -> bool) -> bool {
        let mut closed = false;
        for family in [&mut self.spare_ipv4, &mut self.spare_ipv6] {
            while let Some(Spare { upstream, .. }) = family.pop_front_if(|spare| unwanted(spare)) {
                self.free_numbers.push(upstream.number);
                closed = true;
            }
        }
        closed
    }

    fn spares(&mut self, address: &SocketAddr) -> &mut VecDeque<Spare> {
        if address.is_ipv4() { &mut self.spare_ipv4 } else { &mut self.spare_ipv6 }
    }
}

/// Throws away what is to be read, an error too. False if that doesn't end.
fn is_drained(upstream: &Upstream) -> bool {
    (0..LEFTOVERS).any(|_| {
        let left = recv(upstream, &mut [0; 1][..], RecvFlags::DONTWAIT);
        matches!(left, Err(Errno::AGAIN))
    })
}

/// Connects a socket, and not to itself: where nobody has the endpoint's port, the kernel may choose just that one.
fn connect_elsewhere(
    upstream: &Upstream,
    address: &SocketAddr,
    local_ports: &RangeInclusive<u16>,
) -> Result<(), Errno> {
    for _ in 0..TRIES {
        connect(upstream, address)?;
        if !local_ports.contains(&address.port()) || !is_connected_to_itself(upstream, *address) {
            return Ok(());
        }
        // It gives the port back; the next one is another.
        connect_unspec(upstream)?;
    }
    Err(Errno::CONNREFUSED)
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, num::NonZeroUsize, os::fd::AsRawFd, sync::Arc};

    use l4way_model::SessionTerms;
    use l4way_proxy_core::{BudgetKind, DescriptorBudget, EndpointStore, FlowKey, FlowTable, Rng};
    use l4way_session::{Tap, WorkerCounters};
    use rustix::net::getsockname;

    use super::*;
    use crate::{context::Tenths, loops::Loops, poll::Poll, routes::Backends};

    fn context(descriptors: usize) -> (Context, Allowance) {
        let budget = DescriptorBudget::new(descriptors, NonZeroUsize::MIN);
        let allowance = budget.allow(BudgetKind::Udp);
        let ctx = Context {
            poll: Poll::new().unwrap(),
            now: Instant::now(),
            tenths: Tenths::default(),
            begun: Instant::now(),
            next_tenth: Instant::now(),
            rng: Rng::new(1),
            settings: Arc::default(),
            backends: Backends::default(),
            health: EndpointStore::new(Instant::now()).view(),
            pool: budget.pool(0).clone(),
            budget,
            worker: 0,
            loops: Loops::default(),
            counters: Arc::new(WorkerCounters::default()),
            tap: Tap::default(),
            terms: SessionTerms::default(),
            local_ports: l4way_host::local_ports(),
            udp_session_limit: descriptors,
        };
        (ctx, allowance)
    }

    fn endpoint() -> (UdpSocket, SocketAddr) {
        endpoint_at("127.0.0.1:0")
    }

    fn endpoint_at(bind: &str) -> (UdpSocket, SocketAddr) {
        let endpoint = UdpSocket::bind(bind).unwrap();
        let address = endpoint.local_addr().unwrap();
        (endpoint, address)
    }

    fn port(upstream: &Upstream) -> SocketAddr {
        getsockname(upstream).unwrap().try_into().unwrap()
    }

    fn is_silent(upstream: &Upstream) -> bool {
        recv(upstream, &mut [0; 1][..], RecvFlags::DONTWAIT) == Err(Errno::AGAIN)
    }

    #[test]
    fn what_comes_late_reaches_no_later_session() {
        ["127.0.0.1:0", "[::1]:0"].into_iter().for_each(nothing_comes_late);
    }

    fn nothing_comes_late(bind: &str) {
        let (mut ctx, allowance) = context(100);
        let mut upstreams = Upstreams::default();
        let (endpoint, address) = endpoint_at(bind);
        let first = upstreams.connect(&ctx, &allowance, &address).unwrap();
        let (descriptor, old) = (first.fd.as_raw_fd(), port(&first));
        endpoint.send_to(b"before the session's end", old).unwrap();
        upstreams.take_back(&ctx, first, &address);
        endpoint.send_to(b"after it", old).unwrap();
        ctx.now += REST;
        let second = upstreams.connect(&ctx, &allowance, &address).unwrap();
        assert_eq!(second.fd.as_raw_fd(), descriptor);
        assert_ne!(port(&second), old);
        endpoint.send_to(b"much later", old).unwrap();
        assert!(is_silent(&second));
        endpoint.send_to(b"in time", port(&second)).unwrap();
        assert!(!is_silent(&second));
    }

    #[test]
    fn an_error_of_an_ended_session_is_no_later_sessions() {
        let (mut ctx, allowance) = context(100);
        let mut upstreams = Upstreams::default();
        let (endpoint, address) = endpoint();
        drop(endpoint);
        let first = upstreams.connect(&ctx, &allowance, &address).unwrap();
        let descriptor = first.fd.as_raw_fd();
        rustix::net::send(&first, b"?", rustix::net::SendFlags::empty()).unwrap();
        upstreams.take_back(&ctx, first, &address);
        ctx.now += REST;
        let second = upstreams.connect(&ctx, &allowance, &address).unwrap();
        assert_eq!(second.fd.as_raw_fd(), descriptor);
        assert!(is_silent(&second));
    }

    #[test]
    fn a_socket_rests_and_is_kept_for_a_while() {
        let (mut ctx, allowance) = context(100);
        let mut upstreams = Upstreams::default();
        let (_endpoint, address) = endpoint();
        let first = upstreams.connect(&ctx, &allowance, &address).unwrap();
        upstreams.take_back(&ctx, first, &address);
        let second = upstreams.connect(&ctx, &allowance, &address).unwrap();
        assert_eq!(ctx.pool.used(), 2);
        assert_eq!(upstreams.next_close(), Some(ctx.now + KEPT));
        upstreams.close(second);
        ctx.now += KEPT;
        upstreams.close_old(&ctx);
        assert_eq!((ctx.pool.used(), upstreams.next_close()), (0, None));
    }

    #[test]
    fn limits_are_for_sessions() {
        let (ctx, allowance) = context(4);
        let mut upstreams = Upstreams::default();
        let (_endpoint, address) = endpoint();
        let mut all: Vec<_> =
            (0..4).map(|_| upstreams.connect(&ctx, &allowance, &address).unwrap()).collect();
        assert_eq!(upstreams.connect(&ctx, &allowance, &address).unwrap_err(), Errno::MFILE);
        upstreams.take_back(&ctx, all.pop().unwrap(), &address);
        assert_eq!(ctx.pool.used(), 3);
        upstreams.take_back(&ctx, all.pop().unwrap(), &address);
        assert_eq!(ctx.pool.used(), 3);
        assert!(upstreams.make_room() && !upstreams.make_room());
        assert_eq!(ctx.pool.used(), 2);
    }

    #[test]
    fn events_go_to_whom_a_socket_belongs_now() {
        let (ctx, allowance) = context(100);
        let mut upstreams = Upstreams::default();
        let (_endpoint, address) = endpoint();
        let upstream = upstreams.connect(&ctx, &allowance, &address).unwrap();
        let number = upstream.number;
        let mut flows = FlowTable::new(1);
        let key = FlowKey { socket: 0, client: address, local: None };
        let id = flows.insert(key, (), ctx.now).unwrap();
        upstreams.give(&upstream, id);
        assert_eq!(upstreams.owner(number), Some(id));
        upstreams.take_back(&ctx, upstream, &address);
        assert_eq!((upstreams.owner(number), upstreams.owner(number + 1)), (None, None));
    }
}
