use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use l4way_model::Transport;
use l4way_proxy_core::FlowKey;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::{
    send::{Outcome, Path, Run},
    socket::Socket,
    sys::{Destination, Inbox},
};
use crate::{
    CloseReason, SessionRecord,
    context::Context,
    counters::{Row, Toward},
    routes::{BackendKey, Forward, UpstreamLease},
};

/// A client and the endpoint that it talks to.
#[derive(Debug)]
pub(super) struct Session {
    /// Connected to the endpoint.
    pub(super) fd: OwnedFd,
    pub(super) backend: BackendKey,
    pub(super) upstream: UpstreamLease,
    /// Which state of the routes the session was last found to agree with.
    pub(super) epoch: u32,
    row: Arc<Row>,
    begun: Instant,
    first_reply: Option<Duration>,
    up: Direction,
    down: Direction,
}

/// What a session has carried one way.
#[derive(Debug)]
struct Direction {
    datagrams: u64,
    bytes: u64,
    /// Whether datagrams may go out in trains, see [`Path`].
    trains: bool,
}

impl Direction {
    fn new() -> Self {
        Self { datagrams: 0, bytes: 0, trains: true }
    }

    fn count(&mut self, row: &Row, toward: Toward, outcome: &Outcome) {
        self.datagrams += outcome.datagrams;
        self.bytes += outcome.bytes;
        row.add_datagrams(toward, outcome.datagrams, outcome.bytes);
        if outcome.dropped > 0 {
            row.add_dropped(toward, outcome.dropped);
        }
    }
}

impl Session {
    /// A session over a socket that is connected to its endpoint.
    pub(super) fn new(
        fd: OwnedFd,
        forward: Forward,
        upstream: UpstreamLease,
        epoch: u32,
        now: Instant,
    ) -> Self {
        Self {
            fd,
            backend: forward.backend,
            upstream,
            epoch,
            row: forward.row,
            begun: now,
            first_reply: None,
            up: Direction::new(),
            down: Direction::new(),
        }
    }

    /// Sends the client's datagrams on.
    pub(super) fn send_upstream(&mut self, inbox: &Inbox, run: Run) -> Outcome {
        let path = Path { socket: self.fd.as_fd(), destination: None, trains: &mut self.up.trains };
        let outcome = path.send(inbox, run);
        self.up.count(&self.row, Toward::Upstream, &outcome);
        outcome
    }

    /// Sends the endpoint's datagrams on: all that the inbox has.
    pub(super) fn send_downstream(
        &mut self,
        key: &FlowKey,
        socket: &Socket,
        inbox: &Inbox,
        now: Instant,
    ) {
        if self.first_reply.is_none() {
            let took = now.saturating_duration_since(self.begun);
            self.first_reply = Some(took);
            self.row.first_reply.observe(took);
        }
        let destination = Destination { to: key.client, from: key.local };
        let path = Path {
            socket: socket.fd.as_fd(),
            destination: Some(destination),
            trains: &mut self.down.trains,
        };
        let mut outcome = path.send(inbox, Run::first(inbox.len()));
        // A client that can't be reached now may be later; its session ends by its timeout.
        let lost = outcome.undeliverable.indices().map(|index| inbox.message(index).datagrams());
        outcome.dropped += lost.sum::<u64>();
        self.down.count(&self.row, Toward::Downstream, &outcome);
    }

    /// Counts the end of the session and tells of it. `bind` is the address that its socket is
    /// bound on.
    pub(super) fn end(
        self,
        ctx: &mut Context,
        key: &FlowKey,
        bind: SocketAddr,
        reason: CloseReason,
    ) {
        self.row.end(reason);
        if self.first_reply.is_none() {
            self.row.unanswered.add(1);
        }
        ctx.descriptors.give_back(1);
        let duration = ctx.now.saturating_duration_since(self.begun);
        ctx.records.record(&ctx.counters, || SessionRecord {
            transport: Transport::Udp,
            labels: self.row.labels.clone(),
            endpoint: Some(self.upstream.address.clone()),
            downstream: key.client,
            local: key.local.map_or(bind, |ip| SocketAddr::new(ip, bind.port())),
            bytes_upstream: self.up.bytes,
            bytes_downstream: self.down.bytes,
            datagrams_upstream: self.up.datagrams,
            datagrams_downstream: self.down.datagrams,
            started: SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
            duration,
            connect_time: self.first_reply,
            reason,
        });
    }
}

/// A socket that is connected to an endpoint: it receives from nobody else, and is told of ICMP
/// errors.
pub(super) fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = net::socket_with(family, SocketType::DGRAM, flags, None)?;
    net::connect(&fd, &address)?;
    Ok(fd)
}
