//! UDP sessions of one worker.
//!
//! A session is a client that writes to one of a listener's sockets, by address and port and, where
//! the socket is bound on all addresses, by the address that it writes to. Each has a socket of its
//! own that is connected to its endpoint, with a port of its own. Datagrams are received in batches,
//! and those of one session go on together.

mod account;
mod send;
mod session;
mod shares;
mod socket;
#[expect(unsafe_code, reason = "no safe crate has recvmmsg, sendmmsg and these control messages")]
mod sys;
mod table;
mod train;
mod upstream;

use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Instant,
};

use l4way_host::is_in_the_way;
use l4way_model::Bind;
use l4way_proxy_core::{Allowance, FlowKey};
use l4way_session::CloseReason;
use rustix::{io::Errno, net::sockopt};

use self::{
    send::{Run, is_from_receiver},
    socket::{Drain, Socket},
    sys::Inbox,
    table::Table,
};
use crate::{
    context::{Context, earlier},
    poll::{Readiness, Token},
    routes::{ListenerKey, Route},
    tcp::Tcp,
    worker::UdpFlow,
};

/// What the kernel should keep for a socket that serves all clients of a listener, in bytes; it takes
/// less if `net.core.rmem_max` says so.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How many batches are taken from one socket before the others have their turn.
const BATCHES_PER_TURN: usize = 4;

/// The UDP listeners and sessions of one worker.
#[derive(Debug)]
pub(crate) struct Udp {
    table: Table,
    inbox: Inbox,
    /// Sockets that may have more to read than they had in their turn: an edge-triggered poll
    /// doesn't report them again.
    unfinished: Vec<Token>,
    /// When the first of the sockets that drain is to be closed.
    next_deadline: Option<Instant>,
    /// Some time that has passed.
    past: Instant,
}

impl Udp {
    pub(crate) fn new(ctx: &Context) -> Self {
        Self {
            table: Table::new(ctx.udp_session_limit),
            inbox: Inbox::new(),
            unfinished: Vec::new(),
            next_deadline: None,
            past: ctx.now,
        }
    }

    /// Adds a listener without sockets, or changes its route; its sessions go on.
    pub(crate) fn set_route(&mut self, key: ListenerKey, route: Route) {
        self.table.shares.set(key, route);
    }

    /// A non-blocking socket, [prepared](prepare) and bound, that `key`'s listener receives on from
    /// now on.
    pub(crate) fn open(
        &mut self,
        ctx: &mut Context,
        key: ListenerKey,
        bind: Bind,
        socket: OwnedFd,
        allowance: Arc<Allowance>,
    ) {
        if let Err(error) = self.table.sockets.open(ctx, key, bind.address, socket, allowance) {
            tracing::error!(%bind, %error, "can't watch a bound socket, it stays closed");
        }
    }

    /// Takes no new sessions on this socket. It stays, for the replies of those there are, while any
    /// worker holds `in_use`.
    pub(crate) fn close(&mut self, ctx: &mut Context, bind: Bind, in_use: Arc<()>) {
        if let Some(socket) = self.table.sockets.find_mut(bind.address) {
            socket.drain = Some(Drain::new(ctx.now + ctx.settings.drain_deadline, in_use));
        }
        self.close_drained(ctx);
    }

    /// Gives a listener the socket on this address, with its sessions, if it only drains and no
    /// worker has closed its own. Returns what keeps the other workers from closing theirs.
    pub(crate) fn take_back(&mut self, key: ListenerKey, bind: Bind) -> Option<Arc<()>> {
        let socket = self.table.sockets.find_mut(bind.address)?;
        let in_use = socket.drain.as_ref()?.in_use()?;
        socket.drain = None;
        socket.listener = key;
        self.table.shares.forget_shares();
        Some(in_use)
    }

    /// The clients of these listeners' sessions, and whom they write to.
    pub(crate) fn flows(&self, listeners: &[ListenerKey]) -> impl Iterator<Item = UdpFlow> {
        self.table.flows.iter().filter_map(|(_, key, _)| {
            let socket = self.table.sockets.get(key.socket)?;
            let local = SocketAddr::new(key.local.unwrap_or(socket.bind.ip()), socket.bind.port());
            listeners.contains(&socket.listener).then_some((key.client, local))
        })
    }

    /// The socket now belongs to another listener, with its sessions.
    pub(crate) fn hand_over(&mut self, bind: Bind, to: ListenerKey) {
        if let Some(socket) = self.table.sockets.find_mut(bind.address) {
            socket.listener = to;
            self.table.shares.forget_shares();
        }
    }

    /// Closes every socket that only drains and is in the way of `address`, which somebody else
    /// wants; ends its sessions as [`CloseReason::ListenerRemoved`].
    pub(crate) fn release(&mut self, ctx: &mut Context, address: SocketAddr) {
        let is_meant =
            |socket: &Socket| socket.drain.is_some() && is_in_the_way(socket.bind, address);
        self.close_sockets(ctx, is_meant);
    }

    /// The listener is gone, its sockets have been closed or handed over: its sessions may go on
    /// until `deadline`, and end as [`CloseReason::ListenerRemoved`] then.
    pub(crate) fn remove_listener(
        &mut self,
        ctx: &mut Context,
        key: ListenerKey,
        deadline: Instant,
    ) {
        self.table.shares.remove(key);
        for socket in self.table.sockets.iter_mut().filter(|socket| socket.listener == key) {
            if let Some(drain) = &mut socket.drain {
                drain.until = deadline;
            }
        }
        self.close_drained(ctx);
    }

    /// A listening socket is ready: the number is from its [`Token::UdpListener`]. TCP clients may have to
    /// leave so that there is room.
    pub(crate) fn on_listener(&mut self, ctx: &mut Context, tcp: &mut Tcp, number: u32) {
        self.read_listener(ctx, tcp, number);
    }

    fn read_listener(&mut self, ctx: &mut Context, tcp: &mut Tcp, number: u32) {
        for _ in 0..BATCHES_PER_TURN {
            let Some(socket) = self.table.sockets.get(number) else { return };
            match self.inbox.receive(socket.fd.as_fd()) {
                Ok(()) => {
                    self.deliver(ctx, tcp, number);
                    if !self.inbox.is_full() {
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                // It concerns one datagram or this moment, not the socket.
                Err(error) => tracing::debug!(bind = %socket.bind, %error, "can't receive"),
            }
        }
        self.leave_unfinished(Token::UdpListener(number));
    }

    /// Sorts the inbox by session.
    fn deliver(&mut self, ctx: &mut Context, tcp: &mut Tcp, number: u32) {
        let Self { table, inbox, .. } = self;
        let Some(socket) = table.sockets.get(number) else { return };
        let is_wildcard = socket.is_wildcard();
        let sender = |index| {
            let message = inbox.message(index);
            (message.peer, message.local.filter(|_| is_wildcard))
        };
        let mut left = Run::first(inbox.len());
        while let Some(first) = left.indices().next() {
            let (peer, local) = sender(first);
            let run = left.filter(|index| sender(index) == (peer, local));
            left = left.without(run);
            if let Some(client) = peer {
                table.deliver(ctx, tcp, FlowKey { socket: number, client, local }, inbox, run);
            }
        }
    }

    /// A socket toward an endpoint is ready: the number is from its [`Token::UdpUpstream`].
    pub(crate) fn on_upstream(&mut self, ctx: &mut Context, number: u32, ready: Readiness) {
        self.read_upstream(ctx, number, ready.error());
    }

    /// Carries replies, and notices ICMP errors. After a batch that isn't full nothing waits but,
    /// perhaps, an error.
    fn read_upstream(&mut self, ctx: &mut Context, number: u32, until_error: bool) {
        let Some(id) = self.table.upstreams.owner(number) else { return };
        for _ in 0..BATCHES_PER_TURN {
            let Some(session) = self.table.flows.get(id) else { return };
            match self.inbox.receive(session.upstream.as_fd()) {
                Ok(()) => {
                    self.table.reply(ctx, id, &self.inbox);
                    if !self.inbox.is_full() && !until_error {
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(error) if is_from_receiver(error) => {
                    return self.table.end(ctx, id, CloseReason::IcmpUnreachable);
                }
                // Interrupted, or an ICMP message has told a smaller MTU, to which the kernel
                // fragments from now on.
                Err(_) => {}
            }
        }
        self.leave_unfinished(Token::UdpUpstream(number));
    }

    fn leave_unfinished(&mut self, token: Token) {
        if !self.unfinished.contains(&token) {
            self.unfinished.push(token);
        }
    }

    /// When [`on_tick`](Self::on_tick) wants to be called; `ctx.now` or earlier if there is work
    /// left over from this turn.
    pub(crate) fn next_tick(&self, ctx: &Context) -> Option<Instant> {
        if !self.unfinished.is_empty() {
            return Some(self.past);
        }
        let idle = self.table.flows.longest_idle();
        let expiry = idle.and_then(|(_, seen)| seen.checked_add(ctx.terms.udp_session_timeout));
        earlier(earlier(expiry, self.next_deadline), self.table.upstreams.next_close())
    }

    /// Does what is due at `ctx.now`.
    pub(crate) fn on_tick(&mut self, ctx: &mut Context, tcp: &mut Tcp) {
        for token in std::mem::take(&mut self.unfinished) {
            match token {
                Token::UdpListener(number) => self.read_listener(ctx, tcp, number),
                Token::UdpUpstream(number) => self.read_upstream(ctx, number, false),
                _ => {}
            }
        }
        self.table.expire(ctx);
        self.table.upstreams.close_old(ctx);
        if self.next_deadline.is_some() {
            self.close_drained(ctx);
        }
    }

    /// Takes no new sessions on any socket.
    pub(crate) fn drain(&mut self) {
        self.table.draining = true;
    }

    /// Has sessions end that were never answered, as many as make room for a TCP session. False if there is
    /// none.
    pub(crate) fn make_room(&mut self, ctx: &mut Context) -> bool {
        self.table.make_room(ctx)
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.table.flows.len()
    }

    /// Ends every session.
    pub(crate) fn end_all(&mut self, ctx: &mut Context, reason: CloseReason) {
        while let Some((id, _)) = self.table.flows.longest_idle() {
            self.table.end(ctx, id, reason);
        }
    }

    /// Closes sockets that drain and have no sessions left, or no time.
    fn close_drained(&mut self, ctx: &mut Context) {
        self.table.sockets.iter_mut().for_each(Socket::let_go);
        let now = ctx.now;
        self.close_sockets(ctx, |socket| {
            socket.drain.as_ref().is_some_and(|drain| drain.until <= now || drain.is_over())
        });
    }

    fn close_sockets(&mut self, ctx: &mut Context, wanted: impl Fn(&Socket) -> bool) {
        let sockets = self.table.sockets.iter().filter(|(_, socket)| wanted(socket));
        let numbers: Vec<_> = sockets.map(|(number, _)| number).collect();
        for number in numbers {
            self.table.close(ctx, number, CloseReason::ListenerRemoved);
        }
        let drains = self.table.sockets.iter().filter_map(|(_, socket)| socket.drain.as_ref());
        self.next_deadline = drains.map(|drain| drain.next_look(ctx.now)).min();
    }
}

/// Sets what a socket for clients needs before it is bound, as datagrams may come at once then.
pub(crate) fn prepare(socket: &OwnedFd, bind: SocketAddr) -> Result<(), Errno> {
    sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER)?;
    if bind.ip().is_unspecified() {
        sys::receive_local_addresses(socket.as_fd(), bind.is_ipv6())?;
    }
    match sys::receive_joined(socket.as_fd()) {
        // Linux before 5.0; datagrams just come one by one then.
        Err(Errno::NOPROTOOPT) => Ok(()),
        result => result,
    }
}
