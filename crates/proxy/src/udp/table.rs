//! Which session a datagram belongs to, and when sessions begin and end.

use l4way_model::EndpointAddress;
use l4way_proxy_core::{EndpointFailure, FlowId, FlowKey, FlowTable};

use super::{
    account::Account,
    send::{Run, is_from_receiver},
    session::Session,
    shares::Shares,
    socket::Sockets,
    sys::Inbox,
    upstream::{Upstream, Upstreams},
};
use crate::{
    CloseReason,
    context::Context,
    counters::Toward,
    routes::{Forward, UpstreamLease},
};

/// A worker's UDP sessions, the sockets that clients reach them by, and the routes of new ones.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) sockets: Sockets,
    pub(super) shares: Shares,
    pub(super) flows: FlowTable<Session>,
    pub(super) upstreams: Upstreams,
    /// No new sessions on any socket.
    pub(super) draining: bool,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            sockets: Sockets::default(),
            shares: Shares::new(),
            flows: FlowTable::new(limit),
            upstreams: Upstreams::default(),
            draining: false,
        }
    }

    /// Carries datagrams of one client upstream.
    pub(super) fn deliver(&mut self, ctx: &mut Context, key: FlowKey, inbox: &Inbox, run: Run) {
        let id = match self.session_of(ctx, &key) {
            Some(id) => id,
            None => match self.begin(ctx, key, inbox, run) {
                Some(id) => id,
                None => return,
            },
        };
        let left = self.send(ctx, id, inbox, run);
        if left.is_empty() {
            return;
        }
        // What hasn't gone out is the client's next datagram, with which it gets a new session.
        self.end(ctx, id, CloseReason::IcmpUnreachable);
        if let Some(id) = self.begin(ctx, key, inbox, left) {
            let lost = self.send(ctx, id, inbox, left);
            if let Some(session) = self.flows.get_mut(id) {
                session.account.lose(Toward::Upstream, inbox.datagrams(lost));
            }
        }
    }

    /// Sends upstream; returns what can't be delivered there.
    fn send(&mut self, ctx: &Context, id: FlowId, inbox: &Inbox, run: Run) -> Run {
        self.flows.touch(id, ctx.now);
        let session = self.flows.get_mut(id);
        session.map_or(Run::NONE, |session| session.send_upstream(inbox, run).undeliverable)
    }

    /// The session that the client has. If its endpoint is gone, it ends, and there is none. What has
    /// become of its route is no concern of an established session.
    fn session_of(&mut self, ctx: &mut Context, key: &FlowKey) -> Option<FlowId> {
        let id = self.flows.find(key)?;
        let session = self.flows.get_mut(id)?;
        if !session.account.is_endpoint_gone() {
            return Some(id);
        }
        self.end(ctx, id, CloseReason::EndpointRemoved);
        None
    }

    /// Begins a session, or counts the datagrams as refused.
    fn begin(
        &mut self,
        ctx: &mut Context,
        key: FlowKey,
        inbox: &Inbox,
        run: Run,
    ) -> Option<FlowId> {
        let socket = self.sockets.get(key.socket)?;
        if self.draining || socket.drain.is_some() {
            return None;
        }
        match self.shares.choose(ctx, &key, socket.listener)? {
            Ok((forward, upstream)) => self.open(ctx, key, forward, upstream),
            Err(refusal) => {
                refusal.row.refuse(refusal.reason, inbox.datagrams(run));
                None
            }
        }
    }

    /// Opens a session to an endpoint. If there are no resources for it, the longest idle session
    /// makes room.
    fn open(
        &mut self,
        ctx: &mut Context,
        key: FlowKey,
        forward: Forward,
        upstream: UpstreamLease,
    ) -> Option<FlowId> {
        if self.flows.is_full() {
            self.evict(ctx);
        }
        let bind = self.sockets.get(key.socket)?.bind;
        let account = Account::open(ctx, forward, upstream);
        let (account, reason) = match self.connect(ctx, account.endpoint()) {
            Ok(upstream) => {
                match self.flows.insert(key, Session::new(upstream, account), ctx.now) {
                    Ok(id) => {
                        self.begun(id, key.socket);
                        return Some(id);
                    }
                    Err(Session { upstream, account, .. }) => {
                        self.upstreams.close(ctx, upstream);
                        (account, CloseReason::OutOfResources)
                    }
                }
            }
            Err(reason) => {
                if reason == CloseReason::ConnectFailed {
                    ctx.health.failed(account.of(), EndpointFailure::Unreachable, ctx.now);
                }
                (account, reason)
            }
        };
        account.end(ctx, &key, bind, reason);
        None
    }

    /// A session has begun that came by this socket.
    fn begun(&mut self, id: FlowId, socket: u32) {
        if let Some(socket) = self.sockets.get_mut(socket) {
            socket.sessions += 1;
        }
        if let Some(session) = self.flows.get(id) {
            self.upstreams.give(&session.upstream, id);
        }
    }

    /// A socket to an endpoint.
    fn connect(
        &mut self,
        ctx: &mut Context,
        address: &EndpointAddress,
    ) -> Result<Upstream, CloseReason> {
        let EndpointAddress::Ip(address) = address else { return Err(CloseReason::ConnectFailed) };
        loop {
            match self.upstreams.connect(ctx, address) {
                Ok(upstream) => return Ok(upstream),
                Err(error) if is_from_receiver(error) => return Err(CloseReason::ConnectFailed),
                Err(_) if self.upstreams.make_room(ctx) => {}
                // Descriptors or local ports have run out, perhaps for lack of a limit that would
                // say so before: one session less, one try more.
                Err(_) if self.evict(ctx) => {
                    return self
                        .upstreams
                        .connect(ctx, address)
                        .map_err(|_| CloseReason::OutOfResources);
                }
                Err(_) => return Err(CloseReason::OutOfResources),
            }
        }
    }

    /// Carries the endpoint's datagrams, all that the inbox has, to the session's client.
    pub(super) fn reply(&mut self, ctx: &Context, id: FlowId, inbox: &Inbox) {
        let Some(&key) = self.flows.key(id) else { return };
        self.flows.touch(id, ctx.now);
        let socket = self.sockets.get(key.socket);
        if let (Some(socket), Some(session)) = (socket, self.flows.get_mut(id)) {
            ctx.health.answered(session.account.of());
            session.send_downstream(&key, socket, inbox, ctx.now);
        }
    }

    /// Ends the session that has been idle longest. False if there is none.
    fn evict(&mut self, ctx: &mut Context) -> bool {
        let Some((id, _)) = self.flows.longest_idle() else { return false };
        self.end(ctx, id, CloseReason::Evicted);
        true
    }

    /// Ends a session.
    pub(super) fn end(&mut self, ctx: &mut Context, id: FlowId, reason: CloseReason) {
        let Some((key, session)) = self.flows.remove(id) else { return };
        if reason == CloseReason::IcmpUnreachable {
            ctx.health.failed(session.account.of(), EndpointFailure::Refused, ctx.now);
            ctx.health.refresh();
        }
        // The descriptor of an evicted one is wanted.
        let is_reusable = session.has_plain_socket() && reason != CloseReason::Evicted;
        let Session { upstream, account, .. } = session;
        match account.endpoint() {
            EndpointAddress::Ip(address) if is_reusable => {
                self.upstreams.take_back(ctx, upstream, address);
            }
            _ => self.upstreams.close(ctx, upstream),
        }
        if let Some(socket) = self.sockets.get_mut(key.socket) {
            socket.sessions -= 1;
            account.end(ctx, &key, socket.bind, reason);
        }
    }

    /// Ends the sessions that have been idle for the session timeout.
    pub(super) fn expire(&mut self, ctx: &mut Context) {
        while let Some(id) = self.flows.expired(ctx.now, ctx.terms.udp_session_timeout) {
            self.end(ctx, id, CloseReason::SessionTimeout);
        }
    }

    /// Ends every session of a socket, and closes it.
    pub(super) fn close(&mut self, ctx: &mut Context, socket: u32, reason: CloseReason) {
        let sessions = self.flows.iter().filter(|(_, key, _)| key.socket == socket);
        let sessions: Vec<_> = sessions.map(|(id, ..)| id).collect();
        for id in sessions {
            self.end(ctx, id, reason);
        }
        self.sockets.close(socket);
    }
}
