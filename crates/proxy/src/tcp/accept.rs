use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use l4way_host::local_address;
use l4way_model::Bind;
use l4way_proxy_core::{Allowance, Descriptors};
use l4way_session::{CloseReason, Row, SessionRecord, SessionStart, TlsRecord, Verdict};
use l4way_tls::{Terminator, describe_session};
use rustix::{
    io::Errno,
    net::{SocketFlags, acceptfrom_with},
};

use super::{
    Connection, Due, Listener, Tcp,
    session::{Session, reset_on_close},
    side::{Nodelay, Side},
    tls::Tls,
};
use crate::{
    context::Context,
    loops::{Chain, wrote_to},
    poll::{Interest, Token},
    routes::{Forward, ListenerKey, Refusal, Route, UpstreamLease},
    worker::Command,
};

/// Connections accepted from one socket before others get their turn.
const BURST: usize = 64;
/// How long accepting pauses when something is short.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What keeps a worker from accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// The session limit.
    Limit,
    /// Descriptors or memory of the process or the system.
    System,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) struct ListenSocket {
    pub(super) socket: OwnedFd,
    bind: Bind,
    listener: ListenerKey,
    /// Where its connections take descriptors.
    allowance: Arc<Allowance>,
    /// Connections may wait in the accept queue.
    pub(super) waiting: bool,
}

/// A connection from a client.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(super) socket: OwnedFd,
    pub(super) client: Client,
}

/// Who a client is, and which way it came.
#[derive(Debug)]
pub(crate) struct Client {
    pub(super) listener: ListenerKey,
    /// The client's address.
    pub(super) downstream: SocketAddr,
    /// The address of the socket that it was accepted from.
    pub(super) bind: SocketAddr,
    /// What it takes of this worker's descriptors.
    pub(super) place: Descriptors,
    /// What it said at the beginning of its TLS session.
    pub(super) tls: Option<Box<ClientTls>>,
}

/// What a client said at the beginning of its TLS session.
#[derive(Debug)]
pub(super) struct ClientTls {
    pub(super) server_name: Option<Box<str>>,
    /// It began with PostgreSQL's SSLRequest, and its endpoint expects the same.
    pub(super) postgres: bool,
    /// What ends its session, if not the endpoint.
    pub(super) terminator: Option<Terminator>,
}

impl Tcp {
    /// Listens on a bound socket for `listener`.
    pub(crate) fn open(
        &mut self,
        ctx: &mut Context,
        listener: ListenerKey,
        bind: Bind,
        socket: OwnedFd,
        allowance: Arc<Allowance>,
    ) {
        let free = self.sockets.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        let token = Token::TcpListener(index as u32);
        if let Err(error) = ctx.poll.add(&socket, token, Interest::Read) {
            tracing::error!(%bind, %error, "can't watch a listening socket: epoll_ctl failed");
            return;
        }
        self.sockets[index] =
            Some(ListenSocket { socket, bind, listener, allowance, waiting: true });
    }

    /// Accepts what waits, and stops listening.
    pub(crate) fn close(&mut self, ctx: &mut Context, bind: Bind) {
        for index in 0..self.sockets.len() {
            if self.sockets[index].as_ref().is_some_and(|socket| socket.bind == bind) {
                self.close_socket(ctx, index);
            }
        }
    }

    /// Accepts what waits on every socket, and stops listening.
    pub(crate) fn drain(&mut self, ctx: &mut Context) {
        for index in 0..self.sockets.len() {
            self.close_socket(ctx, index);
        }
    }

    fn close_socket(&mut self, ctx: &mut Context, index: usize) {
        // The queue holds `backlog` connections at most, however many more come meanwhile.
        for _ in 0..=ctx.settings.backlog as usize / BURST {
            self.on_listener(ctx, index as u32);
            let waiting = self.sockets[index].as_ref().is_some_and(|socket| socket.waiting);
            if !waiting || !self.can_accept_now() {
                break;
            }
        }
        self.sockets[index] = None;
    }

    /// Sessions of this socket belong to another listener from now on.
    pub(crate) fn hand_over(&mut self, bind: Bind, to: ListenerKey) {
        for socket in self.sockets.iter_mut().flatten().filter(|socket| socket.bind == bind) {
            socket.listener = to;
        }
    }

    /// Whether connections may wait that nothing keeps from being accepted.
    pub(super) fn can_accept_now(&self) -> bool {
        self.paused_until.is_none() && self.sockets.iter().flatten().any(|socket| socket.waiting)
    }

    /// Goes on with the sockets whose accept queue wasn't emptied.
    pub(super) fn accept_waiting(&mut self, ctx: &mut Context) {
        for index in 0..self.sockets.len() {
            if self.sockets[index].as_ref().is_some_and(|socket| socket.waiting) {
                self.on_listener(ctx, index as u32);
            }
        }
    }

    /// Connections wait at a socket.
    pub(crate) fn on_listener(&mut self, ctx: &mut Context, index: u32) {
        for _ in 0..BURST {
            let Some(Some(socket)) = self.sockets.get_mut(index as usize) else { return };
            socket.waiting = true;
            if self.paused_until.is_some() {
                return;
            }
            let Some(place) = self.peers.place(&socket.allowance) else {
                if !self.has_newcomer(index) {
                    return;
                }
                if self.make_room(ctx) {
                    continue;
                }
                return self.pause_at_limit(ctx);
            };
            match acceptfrom_with(&socket.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((connection, from)) => {
                    self.shortage = None;
                    self.asked = None;
                    let bind = socket.bind.address;
                    let downstream = from.and_then(|from| from.try_into().ok()).unwrap_or(bind);
                    let listener = socket.listener;
                    let client = Client { listener, downstream, bind, place, tls: None };
                    self.admit(ctx, Accepted { socket: connection, client });
                }
                Err(Errno::AGAIN) => {
                    socket.waiting = false;
                    return;
                }
                Err(error) if concerns_one_connection(error) => {}
                Err(error) => return self.pause_for(ctx, error),
            }
        }
    }

    /// Stops accepting until sessions have ended, here or elsewhere.
    fn pause_at_limit(&mut self, ctx: &Context) {
        if self.shortage.replace(Shortage::Limit) != Some(Shortage::Limit) {
            if let Some(times) = self.limit_told.note(ctx.now) {
                let busiest = self.busiest();
                let of = busiest.as_ref().map(|(labels, _)| labels);
                tracing::warn!(
                    times,
                    sessions = busiest.as_ref().map(|(_, sessions)| sessions),
                    listener = of.map(|labels| tracing::field::display(&labels.listener)),
                    route =
                        of.and_then(|labels| labels.route.as_ref()).map(tracing::field::display),
                    "the session limit is reached: connections wait for sessions to end; most of this \
                     worker's are of this listener and route"
                );
            }
            ctx.counters.pause_at_limit();
        }
        self.wants_room = true;
        self.paused_until = Some(ctx.now + PAUSE);
    }

    /// Slows accepting down, for want of descriptors or memory.
    pub(super) fn pause_for(&mut self, ctx: &Context, error: Errno) {
        if self.shortage.replace(Shortage::System) != Some(Shortage::System)
            && let Some(times) = self.shortage_told.note(ctx.now)
        {
            tracing::warn!(times, %error, "can't accept connections: they wait");
        }
        ctx.counters.pause_accepting();
        self.paused_until = Some(ctx.now + PAUSE);
    }

    /// A session has ended: there may be room again.
    pub(super) fn resume_at_limit(&mut self) {
        if self.shortage == Some(Shortage::Limit) {
            self.paused_until = None;
        }
    }

    /// Begins a session here or at a less loaded worker.
    fn admit(&mut self, ctx: &mut Context, accepted: Accepted) {
        let worker = accepted.client.place.worker();
        if worker == ctx.worker {
            return self.begin(ctx, accepted);
        }
        match self.peers.send(worker, Command::Adopt(accepted)) {
            Ok(()) => ctx.counters.hand_off(),
            // It has ended, as this one is about to.
            Err(Command::Adopt(accepted)) => self.begin(ctx, accepted),
            Err(_) => {}
        }
    }

    /// Begins a session, or refuses it as the route says.
    pub(crate) fn begin(&mut self, ctx: &mut Context, accepted: Accepted) {
        let Accepted { socket, client } = accepted;
        let route = match self.listeners.get_mut(&client.listener) {
            None => return reset_on_close(&socket),
            Some(Listener::Tls(table)) => {
                let patience = table.patience;
                return self.welcome(ctx, socket, client, patience);
            }
            Some(Listener::Route(route)) => route,
        };
        let picked = match pick(ctx, route, client.downstream, &socket) {
            Ok(picked) => picked,
            Err((reason, row)) => {
                refuse(ctx, &socket, &client, None, &row, reason);
                return reset_on_close(&socket);
            }
        };
        let deadline = ctx.now + ctx.terms.connect_timeout;
        let id = self.connections.insert_with(|id| {
            let timer = self.timers.schedule(deadline, Due::Connect(id));
            // The client's socket has TCP_NODELAY from the one that listened.
            let down = Side::new(socket, Token::TcpDownstream(id), Nodelay::Set);
            Connection::Session(Session::new(ctx, id, timer, down, client, picked))
        });
        self.step(ctx, id, Session::start);
        self.note_unheard(id);
    }
}

/// Where a session goes.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) forward: Forward,
    pub(super) upstream: UpstreamLease,
    /// What has led here, if it is to be kept in mind.
    pub(super) chain: Option<Chain>,
}

/// Where the next session of a route goes, which a client has begun with this socket.
///
/// # Errors
/// Why it goes nowhere, and what counts that.
pub(super) fn pick(
    ctx: &mut Context,
    route: &mut Route,
    client: SocketAddr,
    socket: &OwnedFd,
) -> Result<Picked, (CloseReason, Arc<Row>)> {
    let refused = |Refusal { reason, row }: &Refusal| ((*reason).into(), row.clone());
    let forward = route.pick().map_err(refused)?.clone();
    let now = ctx.now;
    let wrote_to = |endpoint| wrote_to(socket, endpoint);
    let Ok(chain) = ctx.loops.follow(client, forward.row.labels(), now, wrote_to) else {
        return Err((CloseReason::Loop, forward.row));
    };
    let (backends, by) = ctx.choosing();
    match backends.choose(forward.backend, by) {
        Some(upstream) => {
            forward.row.open();
            Ok(Picked { forward, upstream, chain })
        }
        None => Err((CloseReason::NoEndpoint, forward.row)),
    }
}

/// Tells of a connection that no session is begun for.
pub(super) fn refuse(
    ctx: &mut Context,
    socket: &OwnedFd,
    client: &Client,
    tls: Option<&Tls>,
    row: &Row,
    reason: CloseReason,
) {
    row.end(reason);
    ctx.tap.decide(|| (client.session_start(row, socket), Verdict::Refused(reason)));
    ctx.end(|| SessionRecord {
        tls: client.record(tls),
        ..SessionRecord::new(client.session_start(row, socket), None, Duration::ZERO, reason)
    });
}

impl Client {
    /// Start of the session that it has by this socket.
    pub(super) fn session_start(&self, row: &Row, socket: &OwnedFd) -> SessionStart {
        SessionStart {
            labels: row.labels().clone(),
            downstream: self.downstream,
            local: local_address(socket, self.bind),
        }
    }

    /// What there is to tell of its TLS session in the access log.
    pub(super) fn record(&self, tls: Option<&Tls>) -> Option<Box<TlsRecord>> {
        let client = self.tls.as_ref()?;
        let server_name = client.server_name.clone();
        let record = match tls.filter(|tls| !tls.is_handshaking()) {
            Some(tls) => describe_session(server_name, tls.state(), client.terminator.as_ref()),
            None => TlsRecord { server_name, ..TlsRecord::default() },
        };
        Some(Box::new(record))
    }
}

/// Whether accept(2) failed for the connection that it would have returned, and not for want of
/// something that the next one needs too.
fn concerns_one_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNABORTED
            | Errno::INTR
            | Errno::PERM
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::OPNOTSUPP
    )
}
