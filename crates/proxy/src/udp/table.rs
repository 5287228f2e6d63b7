//! Which session a datagram belongs to, and when sessions begin and end.

use std::{collections::VecDeque, time::Duration};

use l4way_model::EndpointAddress;
use l4way_proxy_core::{Allowance, EndpointFailure, FlowId, FlowKey, FlowTable};
use l4way_session::{CloseReason, Toward, Verdict};
use rustix::io::Errno;

use super::{
    account::{Account, session_start},
    send::{Run, is_from_receiver},
    session::Session,
    shares::Shares,
    socket::Sockets,
    sys::Inbox,
    upstream::{Upstream, Upstreams},
};
use crate::{
    context::Context,
    loops::{CameBack, Chain},
    routes::{Forward, Refusal, UpstreamLease},
    tcp::Tcp,
};

/// A session that has not been answered for so long, and in which nothing was sent meanwhile, is the first
/// that makes room: nearly all servers that answer at all do so sooner.
const ANSWER: Duration = Duration::from_secs(1);
/// The same where all others have been used lately: most servers answer sooner.
const SOON: Duration = Duration::from_millis(100);
/// How many sessions are looked at, of those that were never answered, for one that has been silent.
const LOOKS: usize = 8;
/// How many sessions end for one of TCP, which takes as many descriptors.
const FOR_TCP: usize = 2;

/// A worker's UDP sessions, the sockets that clients reach them by, and the routes of new ones.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) sockets: Sockets,
    pub(super) shares: Shares,
    pub(super) flows: FlowTable<Session>,
    /// The sessions that had not been answered, as they began, and some that were or have ended.
    unanswered: VecDeque<FlowId>,
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
            unanswered: VecDeque::new(),
            upstreams: Upstreams::default(),
            draining: false,
        }
    }

    /// Carries datagrams of one client upstream.
    pub(super) fn deliver(
        &mut self,
        ctx: &mut Context,
        tcp: &mut Tcp,
        key: FlowKey,
        inbox: &Inbox,
        run: Run,
    ) {
        let id = match self.session_of(ctx, &key) {
            Some(id) => id,
            None => match self.begin(ctx, tcp, key, inbox, run) {
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
        if let Some(id) = self.begin(ctx, tcp, key, inbox, left) {
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
        tcp: &mut Tcp,
        key: FlowKey,
        inbox: &Inbox,
        run: Run,
    ) -> Option<FlowId> {
        let socket = self.sockets.get(key.socket)?;
        if self.draining || socket.drain.is_some() {
            return None;
        }
        let bind = socket.bind;
        let (row, reason) = match self.shares.choose(ctx, &key, socket.listener)? {
            Ok((forward, upstream)) => {
                let now = ctx.now;
                match ctx.loops.follow(key.client, forward.row.labels(), now, |_| true) {
                    Ok(chain) => return self.open(ctx, tcp, key, forward, upstream, chain),
                    Err(CameBack) => (forward.row, CloseReason::Loop),
                }
            }
            Err(Refusal { row, reason }) => (row, reason.into()),
        };
        row.refuse(reason, inbox.datagrams(run));
        ctx.tap.decide(|| (session_start(&row, &key, bind), Verdict::Refused(reason)));
        None
    }

    /// Opens a session to an endpoint. If there are no resources for it, another session makes room.
    fn open(
        &mut self,
        ctx: &mut Context,
        tcp: &mut Tcp,
        key: FlowKey,
        forward: Forward,
        upstream: UpstreamLease,
        chain: Option<Chain>,
    ) -> Option<FlowId> {
        if self.flows.is_full() {
            self.evict(ctx);
        }
        let socket = self.sockets.get(key.socket)?;
        let bind = socket.bind;
        let account = Account::open(ctx, forward, upstream, &key, bind);
        let connected = match self.upstreams.connect_to(ctx, &socket.allowance, account.endpoint())
        {
            Err(error) if !is_from_receiver(error) => {
                let allowance = socket.allowance.clone();
                self.connect_with_room(ctx, tcp, &allowance, account.endpoint(), error)
            }
            connected => connected.map_err(|_| CloseReason::ConnectFailed),
        };
        let (account, reason) = match connected {
            Ok(upstream) => {
                account.forwarded(ctx, &key, bind);
                let trace = match (chain, account.endpoint()) {
                    (Some(chain), EndpointAddress::Ip(address)) => {
                        ctx.loops.keep(chain, &upstream, *address)
                    }
                    _ => None,
                };
                match self.flows.insert(key, Session::new(upstream, account, trace), ctx.now) {
                    Ok(id) => {
                        self.begun(id, key.socket);
                        return Some(id);
                    }
                    Err(Session { upstream, account, .. }) => {
                        self.upstreams.close(upstream);
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
        // So that each is looked at twice, on average, and the list has no more entries than twice the
        // sessions.
        if self.unanswered.len() > 2 * self.flows.len() + 64 {
            let flows = &self.flows;
            let is_unanswered =
                |id: &FlowId| flows.get(*id).is_some_and(|session| !session.account.is_answered());
            self.unanswered.retain(is_unanswered);
        }
        self.unanswered.push_back(id);
    }

    /// A socket to an endpoint, for which there were no resources: spare sockets make room, then TCP
    /// clients that may have to leave, then sessions.
    fn connect_with_room(
        &mut self,
        ctx: &mut Context,
        tcp: &mut Tcp,
        allowance: &Allowance,
        address: &EndpointAddress,
        mut error: Errno,
    ) -> Result<Upstream, CloseReason> {
        loop {
            let has_room =
                self.upstreams.make_room() || (error == Errno::MFILE && tcp.make_room(ctx));
            // Descriptors or local ports have run out, perhaps for lack of a limit that would say so
            // before: one session less, one try more.
            let is_last = !has_room;
            if is_last && !self.evict(ctx) && !tcp.evict(ctx) {
                return Err(CloseReason::OutOfResources);
            }
            match self.upstreams.connect_to(ctx, allowance, address) {
                Ok(upstream) => return Ok(upstream),
                Err(error) if is_from_receiver(error) => return Err(CloseReason::ConnectFailed),
                Err(_) if is_last => return Err(CloseReason::OutOfResources),
                Err(again) => error = again,
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

    /// Ends the session that is the first to make room. False if there is none.
    ///
    /// One that was never answered is of no use to anybody, or is about to be answered: so it has to have
    /// been silent for a while. If there is none, it is the one that has been idle longest, as a client of
    /// UDP doesn't say when it is done.
    fn evict(&mut self, ctx: &mut Context) -> bool {
        let Some((longest_idle, seen)) = self.flows.longest_idle() else { return false };
        let is_old = ctx.now.saturating_duration_since(seen) >= ctx.settings.silence;
        let unanswered = self.silent_unanswered(ctx, if is_old { ANSWER } else { SOON });
        match unanswered {
            Some(id) => self.end(ctx, id, CloseReason::EvictedUnanswered),
            None => self.end(ctx, longest_idle, CloseReason::Evicted),
        }
        true
    }

    /// Ends sessions that were never answered, as many as make room for one of TCP. False if there is none.
    pub(super) fn make_room(&mut self, ctx: &mut Context) -> bool {
        if self.upstreams.make_room() {
            return true;
        }
        let mut ended = false;
        for _ in 0..FOR_TCP {
            let Some(id) = self.silent_unanswered(ctx, ANSWER) else { break };
            self.end(ctx, id, CloseReason::EvictedUnanswered);
            ended = true;
        }
        ended
    }

    /// A session that was never answered, and in which nothing was sent for so long.
    fn silent_unanswered(&mut self, ctx: &Context, silence: Duration) -> Option<FlowId> {
        let mut looks = 0;
        while looks < LOOKS {
            let id = self.unanswered.pop_front()?;
            let Some(seen) = self.flows.seen(id) else { continue };
            if self.flows.get(id).is_none_or(|session| session.account.is_answered()) {
                continue;
            }
            if ctx.now.saturating_duration_since(seen) >= silence {
                return Some(id);
            }
            self.unanswered.push_back(id);
            looks += 1;
        }
        None
    }

    /// Ends a session.
    pub(super) fn end(&mut self, ctx: &mut Context, id: FlowId, reason: CloseReason) {
        let Some((key, session)) = self.flows.remove(id) else { return };
        if reason == CloseReason::IcmpUnreachable {
            ctx.health.failed(session.account.of(), EndpointFailure::Refused, ctx.now);
            ctx.health.refresh();
        }
        // The descriptor of an evicted one is wanted.
        let is_evicted = matches!(reason, CloseReason::Evicted | CloseReason::EvictedUnanswered);
        let is_reusable = session.has_plain_socket() && !is_evicted;
        let Session { upstream, account, .. } = session;
        match account.endpoint() {
            EndpointAddress::Ip(address) if is_reusable => {
                self.upstreams.take_back(ctx, upstream, address);
            }
            _ => self.upstreams.close(upstream),
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
