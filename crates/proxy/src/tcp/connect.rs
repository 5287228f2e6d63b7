use std::{net::SocketAddr, ops::RangeInclusive, os::fd::OwnedFd};

use l4way_host::{is_connected_to_itself, set_keepalive};
use l4way_model::EndpointAddress;
use l4way_proxy_core::{EndpointFailure, SSL_REQUEST};
use l4way_session::{CloseReason, Toward};
use l4way_tls::POSTGRESQL;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt},
};

use super::{
    pump::Flow,
    session::{Opening, Session, Step, downstream_reason, reset_on_close, upstream_reason},
    side::{Failure, Io, Nodelay, Read, Side},
    tls::Tls,
};
use crate::{
    context::Context,
    poll::{Interest, Token},
    routes::Upstream,
};

/// What is read at once during a handshake.
const HANDSHAKE_READ: usize = 16 << 10;

impl Session {
    /// Reads what the client has sent already, and connects to the endpoint.
    pub(super) fn start(&mut self, ctx: &mut Context, io: &mut Io) -> Step {
        if let Err(error) = self.upward.read_early(io, &mut self.down) {
            return Step::End(downstream_reason(error));
        }
        if self.down.watch(ctx, Interest::Read).is_err() {
            return Step::End(CloseReason::OutOfResources);
        }
        self.connect(ctx, io)
    }

    /// Connects to the endpoint.
    pub(super) fn connect(&mut self, ctx: &mut Context, io: &mut Io) -> Step {
        match self.attempt(ctx, io) {
            Ok(step) => step,
            Err(error) if self.is_full(error) => Step::Later,
            Err(error) if is_shortage(error) => Step::Starve(error),
            Err(error) => self.try_another(ctx, io, connect_reason(error)),
        }
    }

    /// Whether the endpoint is there and has no place in its queue now, as only Unix sockets say (connect(2),
    /// EAGAIN).
    fn is_full(&self, error: Errno) -> bool {
        error == Errno::AGAIN && matches!(self.upstream.address, EndpointAddress::Unix(_))
    }

    /// There may be a place in the endpoint's queue now.
    pub(super) fn connect_again(&mut self, ctx: &mut Context, io: &mut Io) -> Step {
        if self.connected || self.up.is_some() { Step::Wait } else { self.connect(ctx, io) }
    }

    /// The time for connecting is over; or, if the session got past that, it has become old enough
    /// for keepalive.
    pub(super) fn on_timeout(&mut self, ctx: &mut Context, io: &mut Io) -> Step {
        if !self.connected {
            return self.try_another(ctx, io, CloseReason::ConnectTimeout);
        }
        if let Some(up) = &self.up {
            // Without it a dead endpoint is noticed later: no reason to end the session.
            let _ = set_keepalive(&up.socket, ctx.settings.keepalive);
        }
        Step::Wait
    }

    /// The socket that connects is ready.
    pub(super) fn on_connect_event(&mut self, ctx: &mut Context, io: &mut Io) -> Step {
        let Some(up) = &mut self.up else { return Step::Wait };
        match up.take_error() {
            Ok(()) if self.opening == Opening::Connection && !up.writable => Step::Wait,
            Ok(()) => match self.open(ctx, io) {
                Ok(step) => step,
                Err(reason) => self.try_another(ctx, io, reason),
            },
            Err(error) => {
                let reason = match self.opening {
                    Opening::Connection => connect_reason(error),
                    Opening::Postgres | Opening::Handshake => upstream_reason(error),
                };
                self.try_another(ctx, io, reason)
            }
        }
    }

    /// Whether the endpoint is asked for TLS as PostgreSQL's clients do: the client did, and TLS goes
    /// through to the endpoint, or is the proxy's.
    fn asks_postgres(&self) -> bool {
        self.is_postgres() && (self.originator.is_some() || self.down.tls.is_none())
    }

    /// Does what has to be done before the endpoint takes the session's bytes: PostgreSQL's request
    /// for TLS, where the client began so, and the handshake of a TLS session of the proxy's own.
    fn open(&mut self, ctx: &mut Context, io: &mut Io) -> Result<Step, CloseReason> {
        let asks = self.asks_postgres();
        let Some(up) = &mut self.up else { return Ok(Step::Wait) };
        if self.opening == Opening::Connection && asks {
            up.send(&SSL_REQUEST).map_err(upstream_reason)?;
            self.opening = Opening::Postgres;
        }
        if self.opening == Opening::Postgres {
            let mut answer = [0];
            match up.receive(&mut answer).map_err(upstream_reason)? {
                None => return Ok(Step::Wait),
                Some(1) if answer == *b"S" => self.opening = Opening::Connection,
                Some(_) => return Err(CloseReason::UpstreamTlsFailed),
            }
        }
        if let Some(originator) = &self.originator
            && self.opening == Opening::Connection
        {
            let config = match direct_postgres(&self.down) {
                true => &originator.postgresql,
                false => &originator.plain,
            };
            let tls = Tls::client(config.clone(), originator.server_name.clone());
            let mut tls = tls.map_err(|_| CloseReason::UpstreamTlsFailed)?;
            let Io { received, sending } = io;
            tls.begin(up, received, sending, Vec::new()).map_err(opening_reason)?;
            up.tls = Some(Box::new(tls));
            self.opening = Opening::Handshake;
        }
        if self.opening == Opening::Handshake && !shake_hands(up, io, &mut self.downward)? {
            if up.has_sealed() {
                up.watch_writes(ctx).map_err(upstream_reason)?;
            }
            return Ok(Step::Wait);
        }
        self.set_connected(ctx);
        Ok(self.relay(ctx, io))
    }

    /// Gives up the endpoint for `reason` and tries another one, if there is one and not too many
    /// have been tried.
    fn try_another(&mut self, ctx: &mut Context, io: &mut Io, mut reason: CloseReason) -> Step {
        if let Some(mut up) = self.up.take() {
            up.release(&mut io.sending);
        }
        self.downward.release(io);
        self.note_failure(ctx, reason);
        // What others have met meanwhile needn't be met by this session, too.
        ctx.health.refresh();
        while self.failed.len() + 1 < ctx.settings.connect_attempts.get() {
            let tried = |upstream: &Upstream| {
                let mut failed = self.failed.iter().chain([&self.upstream]);
                failed.any(|failed| failed.address == upstream.address)
            };
            let (backends, by) = ctx.choosing();
            let Some(next) = backends.choose_another(self.backend, by, tried) else { break };
            self.failed.push(std::mem::replace(&mut self.upstream, next));
            match self.attempt(ctx, io) {
                Ok(Step::Wait) if !self.connected => return Step::Retry,
                Ok(step) => return step,
                Err(error) if self.is_full(error) => return Step::Later,
                Err(error) if is_shortage(error) => return Step::Starve(error),
                Err(error) => {
                    reason = connect_reason(error);
                    self.note_failure(ctx, reason);
                    ctx.health.refresh();
                }
            }
        }
        match (reason, &self.upstream.address) {
            // No local port is left. IPv6 says the same where there is none of it at all.
            (CloseReason::OutOfResources, EndpointAddress::Ip(SocketAddr::V4(_))) => {
                Step::Starve(Errno::ADDRNOTAVAIL)
            }
            _ => Step::End(reason),
        }
    }

    /// Tells why the endpoint has not become the session's, where that speaks against it. No client can
    /// cause it: nothing of his has been passed on. But a client chooses whether TLS begins as
    /// PostgreSQL's does, which an endpoint may not speak: that is no more than a suspicion.
    fn note_failure(&self, ctx: &Context, reason: CloseReason) {
        let is_of_tls =
            matches!(reason, CloseReason::UpstreamTlsFailed | CloseReason::UpstreamReset);
        if is_of_tls && (self.is_postgres() || direct_postgres(&self.down)) {
            return ctx.health.suspected(self.upstream.of(), self.client_ip(), ctx.now);
        }
        let failure = match reason {
            CloseReason::ConnectRefused => EndpointFailure::Refused,
            CloseReason::ConnectTimeout => EndpointFailure::Timeout,
            CloseReason::ConnectFailed | CloseReason::UpstreamLost => EndpointFailure::Unreachable,
            CloseReason::UpstreamTlsFailed | CloseReason::UpstreamReset
                if self.originator.is_some() =>
            {
                EndpointFailure::Tls
            }
            CloseReason::UpstreamReset => EndpointFailure::Closed,
            _ => return,
        };
        ctx.health.failed(self.upstream.of(), failure, ctx.now);
    }

    /// Connects to the endpoint and, if the client has spoken already, passes that on at once.
    fn attempt(&mut self, ctx: &mut Context, io: &mut Io) -> Result<Step, Errno> {
        self.attempts = u8::try_from(self.failed.len() + 1).unwrap_or(u8::MAX);
        let is_direct = self.originator.is_none() && !self.asks_postgres();
        let has_spoken = is_direct && self.upward.has_unsent();
        let (socket, mut connected) = open(&self.upstream.address, has_spoken, &ctx.local_ports)?;
        let nodelay = match self.upstream.address {
            EndpointAddress::Ip(_) => Nodelay::Unwritten,
            EndpointAddress::Unix(_) => Nodelay::Set,
        };
        if let (Some(chain), EndpointAddress::Ip(endpoint)) = (&self.chain, &self.upstream.address)
        {
            self.trace = ctx.loops.keep(chain.clone(), &socket, *endpoint);
        }
        let mut up = Side::new(socket, Token::TcpUpstream(self.id), nodelay);
        if has_spoken {
            let flushed = self.upward.flush(io, &mut up);
            self.row.add_bytes(Toward::Upstream, self.upward.bytes);
            match flushed {
                Ok(_) => {}
                Err(Failure::Socket(error)) if self.upward.bytes == 0 => return Err(error),
                // Another endpoint would miss what this one has.
                Err(failure) => return Ok(Step::End(upstream_reason(failure))),
            }
            connected |= self.upward.bytes > 0;
        }
        let interest = if connected { Interest::Read } else { Interest::ReadWrite };
        if up.watch(ctx, interest).is_err() {
            return Ok(Step::End(CloseReason::OutOfResources));
        }
        self.up = Some(up);
        self.opening = Opening::Connection;
        if !connected {
            return Ok(Step::Wait);
        }
        Ok(self.open(ctx, io).unwrap_or_else(|reason| self.try_another(ctx, io, reason)))
    }
}

/// Whether the client speaks PostgreSQL and began with TLS at once: its endpoint expects the same.
fn direct_postgres(down: &Side) -> bool {
    let tls = down.tls.as_ref();
    tls.is_some_and(|tls| tls.state().alpn_protocol() == Some(POSTGRESQL))
}

/// Goes on with a handshake as far as the endpoint's bytes let it. Whether it is over; what came
/// behind it is the client's.
fn shake_hands(up: &mut Side, io: &mut Io, downward: &mut Flow) -> Result<bool, CloseReason> {
    let is_over = |up: &Side| up.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
    while !is_over(up) {
        if !up.readable {
            return Ok(false);
        }
        let read = up.read(&mut io.received, &mut io.sending, HANDSHAKE_READ);
        match read.map_err(opening_reason)? {
            Read::Nothing => return Ok(false),
            Read::End => return Err(CloseReason::UpstreamTlsFailed),
            Read::Bytes([]) => {}
            Read::Bytes(bytes) => {
                let bytes = bytes.to_vec();
                downward.hold(io, bytes);
            }
        }
    }
    Ok(true)
}

fn opening_reason(failure: Failure) -> CloseReason {
    match failure {
        Failure::Tls => CloseReason::UpstreamTlsFailed,
        failure @ Failure::Socket(_) => upstream_reason(failure),
    }
}

/// A socket that is connected to `address`, or is about to be; true if it is already.
///
/// If the client has spoken, quick acknowledgements are off: the first data carries the handshake's
/// last one, and a segment is spared.
fn open(
    address: &EndpointAddress,
    has_spoken: bool,
    local_ports: &RangeInclusive<u16>,
) -> Result<(OwnedFd, bool), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, result) = match address {
        EndpointAddress::Ip(address) => {
            let family = match address {
                SocketAddr::V4(_) => AddressFamily::INET,
                SocketAddr::V6(_) => AddressFamily::INET6,
            };
            let socket = socket_with(family, SocketType::STREAM, flags, None)?;
            if has_spoken {
                sockopt::set_tcp_quickack(&socket, false)?;
            }
            // An urgent byte stays where it is in the stream.
            sockopt::set_socket_oobinline(&socket, true)?;
            let mut result = connect(&socket, address);
            // Its own address is known at once, though it may take until the next call to be connected.
            if matches!(result, Ok(()) | Err(Errno::INPROGRESS))
                && local_ports.contains(&address.port())
                && is_connected_to_itself(&socket, *address)
            {
                reset_on_close(&socket);
                result = Err(Errno::CONNREFUSED);
            }
            (socket, result)
        }
        EndpointAddress::Unix(path) => {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            let result = connect(&socket, &SocketAddrUnix::new(path.as_path())?);
            (socket, result)
        }
    };
    match result {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

fn connect_reason(error: Errno) -> CloseReason {
    match error {
        Errno::CONNREFUSED => CloseReason::ConnectRefused,
        Errno::TIMEDOUT => CloseReason::ConnectTimeout,
        // No local port is left for this endpoint; others may have some.
        Errno::ADDRNOTAVAIL => CloseReason::OutOfResources,
        error if is_shortage(error) => CloseReason::OutOfResources,
        _ => CloseReason::ConnectFailed,
    }
}

/// Whether the process or the system is short of descriptors or memory.
fn is_shortage(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}
