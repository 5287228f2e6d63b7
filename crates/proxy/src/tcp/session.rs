use std::{
    net::IpAddr,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use l4way_proxy_core::{EndpointFailure, TimerId};
use l4way_session::{CloseReason, Row, SessionRecord, SessionStart, Verdict};
use l4way_tls::Originator;
use rustix::{io::Errno, net::sockopt};

use super::{
    accept::{Client, Picked},
    pump::Flow,
    side::{Failure, Io, Side},
};
use crate::{
    context::{Context, Tenths},
    loops::{Chain, Trace},
    poll::{Readiness, SlotId},
    routes::{BackendKey, Forward, ListenerKey, UpstreamLease},
};

/// What ends later than this after it began may have waited for the client.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What a session wants after a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// To wait for the next event.
    Wait,
    /// To go on in the loop's next turn.
    GoOn,
    /// To wait, with a new connect timeout.
    Retry,
    /// To connect again in a moment, within the same connect timeout.
    Later,
    /// To end.
    End(CloseReason),
    /// To end, for the process or the system is short of what sockets need.
    Starve(Errno),
}

/// A TCP connection from a client and the one to an endpoint that goes with it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SlotId,
    client: Client,
    pub(super) backend: BackendKey,
    /// What begins a TLS session with the endpoint, if there is to be one.
    pub(super) originator: Option<Arc<Originator>>,
    pub(super) row: Arc<Row>,
    /// The endpoint: the one that is tried, until it accepts.
    pub(super) upstream: UpstreamLease,
    /// Endpoints that didn't accept.
    pub(super) failed: Vec<UpstreamLease>,
    /// How many endpoints were tried, for the access log.
    pub(super) attempts: u8,
    /// What has led here, if it is to be kept in mind of its socket toward the endpoint.
    pub(super) chain: Option<Chain>,
    /// That is kept in mind.
    pub(super) trace: Option<Box<Trace>>,
    /// The endpoint takes bytes.
    pub(super) connected: bool,
    /// What its first bytes say of the endpoint has been noted.
    pub(super) judged: bool,
    /// What the connection to the endpoint waits for until then.
    pub(super) opening: Opening,
    pub(super) down: Side,
    /// None before the first connection attempt and while there is none.
    pub(super) up: Option<Side>,
    pub(super) upward: Flow,
    pub(super) downward: Flow,
    pub(super) timer: TimerId,
    /// It is among those that go on in the next turn.
    pub(super) unfinished: bool,
    /// Since when a side hasn't taken what is held for it.
    pub(super) stalled_since: Option<Instant>,
    pub(super) begun: Instant,
    /// When bytes were moved last, or it began.
    pub(super) moved: Tenths,
    connect_time: Option<Duration>,
    /// Only if somebody listened then.
    started: Option<SystemTime>,
}

impl Session {
    pub(super) fn new(
        ctx: &Context,
        id: SlotId,
        timer: TimerId,
        down: Side,
        client: Client,
        picked: Picked,
    ) -> Self {
        let Picked { forward, upstream, chain } = picked;
        let Forward { backend, originator, row } = forward;
        let started = ctx.tap.begin(|| client.session_start(&row, &down.socket));
        Self {
            id,
            client,
            backend,
            originator,
            row,
            upstream,
            failed: Vec::new(),
            attempts: 0,
            chain,
            trace: None,
            connected: false,
            judged: false,
            opening: Opening::Connection,
            down,
            up: None,
            upward: Flow::new(),
            downward: Flow::new(),
            timer,
            unfinished: false,
            stalled_since: None,
            begun: ctx.now,
            moved: ctx.tenths,
            connect_time: None,
            started,
        }
    }

    /// Whether it came through this listener.
    pub(super) fn is_of(&self, listener: ListenerKey) -> bool {
        self.client.listener == listener
    }

    /// Whether it began with PostgreSQL's SSLRequest.
    pub(super) fn is_postgres(&self) -> bool {
        self.client.tls.as_ref().is_some_and(|tls| tls.postgres)
    }

    /// Whether the client has never sent a byte since it began.
    pub(super) fn is_unheard(&self) -> bool {
        let is_empty = self.upward.bytes == 0 && !self.upward.has_unsent();
        // What is readable behind the end is the end.
        is_empty && (self.upward.at_end || !self.down.readable)
    }

    /// Its start, as observers and records have it.
    fn session_start(&self) -> SessionStart {
        self.client.session_start(&self.row, &self.down.socket)
    }

    pub(super) fn client_ip(&self) -> IpAddr {
        self.client.downstream.ip()
    }

    /// The client's side is ready.
    pub(super) fn on_downstream(
        &mut self,
        ctx: &mut Context,
        io: &mut Io,
        ready: Readiness,
    ) -> Step {
        self.down.on_ready(ready);
        if ready.writable() {
            self.stalled_since = None;
        }
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
        if ready.writable() && self.upward.has_unsent() {
            self.stalled_since = None;
        }
        if self.connected { self.relay(ctx, io) } else { self.on_connect_event(ctx, io) }
    }

    /// The connection to the endpoint is there.
    pub(super) fn set_connected(&mut self, ctx: &Context) {
        ctx.health.connected(self.upstream.of());
        if self.originator.is_some() {
            ctx.health.agreed(self.upstream.of());
        }
        let took = self.begun.elapsed();
        self.row.connected(took);
        self.connect_time = Some(took);
        ctx.tap
            .decide(|| (self.session_start(), Verdict::Forwarded(self.upstream.address.clone())));
        self.connected = true;
        self.failed = Vec::new();
    }

    /// Notes what its first bytes say of the endpoint, or its end before them. Where nothing of the client's
    /// had been passed on, and it ended at once, no client can have caused that.
    pub(super) fn judge(&mut self, ctx: &Context, reason: Option<CloseReason>) {
        let endpoint = self.upstream.of();
        if self.downward.bytes > 0 || self.downward.has_unsent() {
            self.judged = true;
            return ctx.health.answered(endpoint);
        }
        if !self.downward.at_end && reason != Some(CloseReason::UpstreamReset) {
            return;
        }
        self.judged = true;
        if self.upward.at_end {
            return;
        }
        let lasted = self.begun.elapsed().saturating_sub(self.connect_time.unwrap_or_default());
        if self.upward.bytes == 0 && lasted < AT_ONCE {
            ctx.health.failed(endpoint, EndpointFailure::Closed, ctx.now);
        } else {
            ctx.health.suspected(endpoint, self.client_ip(), ctx.now);
        }
    }

    /// Closes both sockets, as a reset unless both sides were done, and tells of it.
    pub(super) fn end(mut self, ctx: &mut Context, io: &mut Io, reason: CloseReason) {
        self.upward.release(io);
        self.downward.release(io);
        self.down.release(&mut io.sending);
        if let Some(up) = &mut self.up {
            up.release(&mut io.sending);
        }
        self.row.end(reason);
        ctx.end(|| SessionRecord {
            endpoint: (self.attempts > 0).then(|| self.upstream.address.clone()),
            attempts: self.attempts,
            bytes_upstream: self.upward.bytes,
            bytes_downstream: self.downward.bytes,
            connect_time: self.connect_time,
            tls: self.client.record(self.down.tls.as_deref()),
            ..SessionRecord::new(self.session_start(), self.started, self.begun.elapsed(), reason)
        });
        if reason != CloseReason::Closed {
            reset_on_close(&self.down.socket);
            if let Some(up) = &self.up {
                reset_on_close(&up.socket);
            }
        }
    }
}

/// What a connection to an endpoint waits for before it takes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// That the endpoint accepts it.
    Connection,
    /// The endpoint's answer to PostgreSQL's SSLRequest.
    Postgres,
    /// The end of the TLS handshake.
    Handshake,
}

/// Makes closing a TCP socket a reset (RST), where it would be an orderly end otherwise.
pub(super) fn reset_on_close(socket: impl AsFd) {
    // A Unix socket takes the option and does nothing about it; a closed one has no peer to tell.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

pub(super) fn downstream_reason(failure: impl Into<Failure>) -> CloseReason {
    match failure.into() {
        Failure::Tls => CloseReason::TlsBroken,
        Failure::Socket(error) if is_lost(error) => CloseReason::DownstreamLost,
        Failure::Socket(_) => CloseReason::DownstreamReset,
    }
}

pub(super) fn upstream_reason(failure: impl Into<Failure>) -> CloseReason {
    match failure.into() {
        Failure::Tls => CloseReason::TlsBroken,
        Failure::Socket(error) if is_lost(error) => CloseReason::UpstreamLost,
        Failure::Socket(_) => CloseReason::UpstreamReset,
    }
}

/// Whether a peer stopped answering, rather than having sent a reset.
fn is_lost(error: Errno) -> bool {
    matches!(
        error,
        Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN
    )
}
