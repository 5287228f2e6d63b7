use std::{net::SocketAddr, os::fd::OwnedFd};

use l4way_model::EndpointAddress;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt},
};

use super::{
    pump::{Io, Nodelay, Side},
    session::{Session, Step, downstream_reason, upstream_reason},
};
use crate::{
    CloseReason,
    context::Context,
    counters::Toward,
    poll::{Interest, Token},
    routes::Upstream,
    socket::set_keepalive,
};

impl Session {
    /// Reads what the client has sent already and connects to the endpoint.
    pub(super) fn start(&mut self, ctx: &mut Context, io: &mut Io) -> Step {
        if let Err(error) = self.upward.read_early(io, &mut self.down) {
            return Step::End(downstream_reason(error));
        }
        if self.down.watch(ctx, Interest::Read).is_err() {
            return Step::End(CloseReason::OutOfResources);
        }
        match self.attempt(ctx, io) {
            Ok(step) => step,
            Err(error) if is_shortage(error) => Step::Starve(error),
            Err(error) => self.try_another(ctx, io, connect_reason(error)),
        }
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
            Ok(()) if !up.writable => Step::Wait,
            Ok(()) => {
                self.set_connected();
                self.relay(ctx, io)
            }
            Err(error) => self.try_another(ctx, io, connect_reason(error)),
        }
    }

    /// Gives up the endpoint for `reason` and tries another one, if there is one and not too many
    /// have been tried.
    fn try_another(&mut self, ctx: &mut Context, io: &mut Io, mut reason: CloseReason) -> Step {
        self.up = None;
        while self.failed.len() + 1 < ctx.settings.connect_attempts.get() {
            let tried = |upstream: &Upstream| {
                let mut failed = self.failed.iter().chain([&self.upstream]);
                failed.any(|failed| failed.address == upstream.address)
            };
            let Some(next) = ctx.backends.choose_another(self.backend, &mut ctx.rng, tried) else {
                break;
            };
            self.failed.push(std::mem::replace(&mut self.upstream, next));
            match self.attempt(ctx, io) {
                Ok(Step::Wait) if !self.connected => return Step::Retry,
                Ok(step) => return step,
                Err(error) if is_shortage(error) => return Step::Starve(error),
                Err(error) => reason = connect_reason(error),
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

    /// Connects to the endpoint and, if the client has spoken already, passes that on at once.
    fn attempt(&mut self, ctx: &mut Context, io: &mut Io) -> Result<Step, Errno> {
        let has_spoken = self.upward.has_unsent();
        let (socket, mut connected) = open(&self.upstream.address, has_spoken)?;
        let nodelay = match self.upstream.address {
            EndpointAddress::Ip(_) => Nodelay::Unwritten,
            EndpointAddress::Unix(_) => Nodelay::Set,
        };
        let mut up = Side::new(socket, Token::TcpUpstream(self.id), nodelay);
        if has_spoken {
            let flushed = self.upward.flush(io, &mut up);
            self.row.add_bytes(Toward::Upstream, self.upward.bytes);
            match flushed {
                // Another endpoint would miss what this one has.
                Err(error) if self.upward.bytes > 0 => {
                    return Ok(Step::End(upstream_reason(error)));
                }
                flushed => flushed?,
            };
            connected |= self.upward.bytes > 0;
        }
        let interest = if connected { Interest::Read } else { Interest::ReadWrite };
        if up.watch(ctx, interest).is_err() {
            return Ok(Step::End(CloseReason::OutOfResources));
        }
        self.up = Some(up);
        if !connected {
            return Ok(Step::Wait);
        }
        self.set_connected();
        Ok(self.relay(ctx, io))
    }
}

/// A socket that is connected to `address`, or is about to be; true if it is already.
///
/// If the client has spoken, quick acknowledgements are off: the first data carries the handshake's
/// last one, and a segment is spared.
fn open(address: &EndpointAddress, has_spoken: bool) -> Result<(OwnedFd, bool), Errno> {
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
            let result = connect(&socket, address);
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
