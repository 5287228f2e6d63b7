use std::{
    net::SocketAddr,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use l4way_model::Transport;
use l4way_proxy_core::TimerId;
use rustix::{io::Errno, net::sockopt};

use super::{
    accept::{Accepted, Place},
    pump::{Flow, Io, Nodelay, Side},
};
use crate::{
    CloseReason, SessionRecord,
    context::Context,
    counters::Row,
    poll::{Readiness, SlotId, Token},
    routes::{BackendKey, Forward, ListenerKey, UpstreamLease},
    socket::local_address,
};

/// What a session wants after a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// To wait for the next event.
    Wait,
    /// To go on in the loop's next turn.
    GoOn,
    /// To wait, with a new connect timeout.
    Retry,
    /// To end.
    End(CloseReason),
    /// To end, for the process or the system is short of what sockets need.
    Starve(Errno),
}

/// A TCP connection from a client and the one to an endpoint that goes with it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SlotId,
    listener: ListenerKey,
    pub(super) backend: BackendKey,
    pub(super) row: Arc<Row>,
    /// The endpoint: the one that is tried, until it accepts.
    pub(super) upstream: UpstreamLease,
    /// Endpoints that didn't accept.
    pub(super) failed: Vec<UpstreamLease>,
    pub(super) connected: bool,
    pub(super) down: Side,
    /// None before the first connection attempt and while there is none.
    pub(super) up: Option<Side>,
    pub(super) upward: Flow,
    pub(super) downward: Flow,
    pub(super) timer: TimerId,
    /// It is among those that go on in the next turn.
    pub(super) unfinished: bool,
    pub(super) begun: Instant,
    connect_time: Option<Duration>,
    downstream: SocketAddr,
    bind: SocketAddr,
    /// Only if there will be a record.
    started: Option<SystemTime>,
    /// What it takes of this worker's descriptors.
    _place: Place,
}

impl Session {
    pub(super) fn new(
        ctx: &Context,
        id: SlotId,
        timer: TimerId,
        accepted: Accepted,
        forward: Forward,
        upstream: UpstreamLease,
    ) -> Self {
        let Accepted { socket, listener, downstream, bind, place } = accepted;
        // The client's socket has TCP_NODELAY from the one that listened.
        let down = Side::new(socket, Token::TcpDownstream(id), Nodelay::Set);
        Self {
            id,
            listener,
            backend: forward.backend,
            row: forward.row,
            upstream,
            failed: Vec::new(),
            connected: false,
            down,
            up: None,
            upward: Flow::new(),
            downward: Flow::new(),
            timer,
            unfinished: false,
            begun: ctx.now,
            connect_time: None,
            downstream,
            bind,
            started: ctx.records.is_on().then(SystemTime::now),
            _place: place,
        }
    }

    /// Whether it came through this listener.
    pub(super) fn is_of(&self, listener: ListenerKey) -> bool {
        self.listener == listener
    }

    /// The client's side is ready.
    pub(super) fn on_downstream(
        &mut self,
        ctx: &mut Context,
        io: &mut Io,
        ready: Readiness,
    ) -> Step {
        self.down.on_ready(ready);
        if self.connected {
            return self.relay(ctx, io);
        }
        match self.down.take_error() {
            Ok(()) => Step::Wait,
            Err(error) => Step::End(downstream_reason(error)),
        }
    }

    /// The endpoint's side is ready.
    pub(super) fn on_upstream(&mut self, ctx: &mut Context, io: &mut Io, ready: Readiness) -> Step {
        let Some(up) = &mut self.up else { return Step::Wait };
        up.on_ready(ready);
        if self.connected { self.relay(ctx, io) } else { self.on_connect_event(ctx, io) }
    }

    /// The connection to the endpoint is there.
    pub(super) fn set_connected(&mut self) {
        let took = self.begun.elapsed();
        self.row.connect_time.observe(took);
        self.connect_time = Some(took);
        self.connected = true;
        self.failed = Vec::new();
    }

    /// Closes both sockets, as a reset unless both sides were done, and tells of it.
    pub(super) fn end(mut self, ctx: &mut Context, io: &mut Io, reason: CloseReason) {
        self.upward.release(io);
        self.downward.release(io);
        self.row.end(reason);
        let Self { row, .. } = &self;
        ctx.records.record(&ctx.counters, || SessionRecord {
            transport: Transport::Tcp,
            labels: row.labels.clone(),
            endpoint: Some(self.upstream.address.clone()),
            downstream: self.downstream,
            local: local_address(&self.down.socket, self.bind),
            bytes_upstream: self.upward.bytes,
            bytes_downstream: self.downward.bytes,
            datagrams_upstream: 0,
            datagrams_downstream: 0,
            started: self.started.unwrap_or_else(SystemTime::now),
            duration: self.begun.elapsed(),
            connect_time: self.connect_time,
            reason,
        });
        if reason != CloseReason::Closed {
            reset_on_close(&self.down.socket);
            if let Some(up) = &self.up {
                reset_on_close(&up.socket);
            }
        }
    }
}

/// Makes closing a TCP socket a reset (RST), where it would be an orderly end otherwise.
pub(super) fn reset_on_close(socket: impl AsFd) {
    // A Unix socket takes the option and does nothing about it; a closed one has no peer to tell.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

pub(super) fn downstream_reason(error: Errno) -> CloseReason {
    if is_lost(error) { CloseReason::DownstreamLost } else { CloseReason::DownstreamReset }
}

pub(super) fn upstream_reason(error: Errno) -> CloseReason {
    if is_lost(error) { CloseReason::UpstreamLost } else { CloseReason::UpstreamReset }
}

/// Whether a peer stopped answering, rather than having sent a reset.
fn is_lost(error: Errno) -> bool {
    matches!(
        error,
        Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN
    )
}
